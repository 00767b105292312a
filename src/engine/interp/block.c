/* The block cache: finding, decoding and dropping blocks. The theory is in internal.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/interp/internal.h"

static unsigned bucket_of(uint64_t gpa, unsigned mode)
{
	return (unsigned)((gpa * 0x9e3779b97f4a7c15ULL >> 40) + mode) & (BLOCK_BUCKETS - 1);
}

static struct code_page **page_slot(struct interp *it, uint64_t page)
{
	struct code_page **p = &it->pages[bucket_of(page, 0)];

	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

static struct block *find(struct interp *it, uint64_t gpa, unsigned mode)
{
	struct block *b = it->bucket[bucket_of(gpa, mode)];

	while (b && (b->gpa != gpa || b->mode != mode))
		b = b->next;
	return b;
}

static void bury(struct interp *it, struct block *b)
{
	struct block **p = &it->bucket[bucket_of(b->gpa, b->mode)];

	while (*p && *p != b)
		p = &(*p)->next;
	if (*p)
		*p = b->next;
	b->next = it->graveyard;
	it->graveyard = b;
	it->stale = true;
	it->generation++;
	it->blocks_dropped++;
}

void block_free_dropped(struct interp *it)
{
	while (it->graveyard) {
		struct block *b = it->graveyard;

		it->graveyard = b->next;
		free(b);
	}
	it->stale = false;
}

void block_drop_all(struct interp *it)
{
	for (unsigned i = 0; i < BLOCK_BUCKETS; i++) {
		while (it->bucket[i])
			bury(it, it->bucket[i]);
		while (it->pages[i]) {
			struct code_page *p = it->pages[i];

			it->pages[i] = p->next;
			guest_code_clear(it->v->mem, GPA(p->page));
			free(p);
		}
	}
	it->generation++;
}

/* Drops the page's blocks that overlap the write, and marks anew what the others were decoded from. */
static void wrote_page(struct interp *it, uint64_t page, uint64_t from, uint64_t to)
{
	struct code_page **slot = page_slot(it, page), *p = *slot;
	struct block **b;

	if (!p)
		return;
	guest_code_clear(it->v->mem, GPA(page));
	for (b = &p->blocks; *b;) {
		struct block *blk = *b;

		if (blk->gpa < to && from < blk->gpa + blk->len) {
			*b = blk->page_next;
			bury(it, blk);
		} else {
			guest_code_mark(it->v->mem, GPA(blk->gpa), blk->len);
			b = &blk->page_next;
		}
	}
	if (!p->blocks) {
		*slot = p->next;
		free(p);
	}
}

void block_wrote(struct interp *it, uint64_t gpa, uint64_t len)
{
	if (len > MIB(1)) {
		block_drop_all(it);
		return;
	}
	for (uint64_t page = align_down(gpa, GUEST_PAGE_SIZE); page < gpa + len; page += GUEST_PAGE_SIZE)
		wrote_page(it, page, gpa, gpa + len);
}

/* Translates for a fetch of the byte at lin; raises #PF, or #GP(0) for a non-canonical address. */
static uint64_t fetch_gpa(struct vcpu *v, uint64_t lin)
{
	unsigned mode = v->cpl == 3 ? MMU_USER : MMU_KERNEL;
	const struct tlb_entry *e = &v->mmu.fetch[mode][tlb_fetch_index(lin)];
	struct mmu_result r;

	if (likely(e->tag == (lin & ~0xfffULL)))
		return lin + e->addend;
	if (!canonical(lin))
		cpu_gp(v);
	if (!mmu_translate(&v->mmu, lin, MMU_FETCH, mode, &r))
		cpu_raise_page_fault(v, lin, r.error);
	return r.gpa.v;
}

/* Up to len bytes of code at gpa, within its page. Code in device memory is read through the bus, bytewise. */
static void fetch_bytes(struct vcpu *v, uint64_t gpa, uint8_t *buf, unsigned len)
{
	const uint8_t *p = guest_ptr(v->mem, GPA(gpa), len);

	if (p) {
		memcpy(buf, p, len);
		return;
	}
	cpu_lock(v);
	for (unsigned i = 0; i < len; i++)
		buf[i] = (uint8_t)bus_read(v->bus, BUS_MMIO, gpa + i, 1);
	cpu_unlock(v);
}

/* Decodes one instruction at the page's end, whose bytes may continue in the next page. Fills bytes. */
static enum decode_result decode_crossing(struct interp *it, uint64_t lin, uint64_t gpa, unsigned room, struct insn *insn,
					  uint8_t *bytes)
{
	struct vcpu *v = it->v;
	uint64_t next = lin + room;

	if (v->mode != X86_MODE_64)
		next &= 0xffffffff;
	fetch_bytes(v, gpa, bytes, room);
	fetch_bytes(v, fetch_gpa(v, next), bytes + room, X86_INSN_MAX - room);
	return insn_decode(&it->decoder, v->mode, bytes, X86_INSN_MAX, insn);
}

static bool ends_block(const struct cpu_op *op)
{
	return op->flags & OP_END;
}

/* Decodes one instruction into op. Returns what the decoder said; thunk memory running out sets it->failed. */
static void finish_op(struct interp *it, struct cpu_op *op, enum decode_result result, const struct insn *insn)
{
	struct vcpu *v = it->v;

	if (result != DECODE_OK || !cpu_model_allows(v->model, &insn->z)) {
		op_select_fault(op, result == DECODE_OK ? DECODE_INVALID : result);
		return;
	}
	cpu_op_init(op, insn, v->mode);
	if (!op_select(it, op, insn, v->mode))
		return;
	/* Thunks are full: start over with an empty arena. What runs now is stale and ends after this. */
	block_drop_all(it);
	thunks_reset(it->thunks);
	if (op_select(it, op, insn, v->mode)) {
		snprintf(v->stop_reason, sizeof(v->stop_reason), "cannot make a thunk for %s",
			 ZydisMnemonicGetString(insn->z.mnemonic));
		it->failed = true;
		op_select_fault(op, DECODE_INVALID);
	}
}

static void hook(struct interp *it, struct block *b)
{
	struct code_page **slot = page_slot(it, align_down(b->gpa, GUEST_PAGE_SIZE));
	unsigned bucket = bucket_of(b->gpa, b->mode);

	b->next = it->bucket[bucket];
	it->bucket[bucket] = b;
	if (b->crosses)
		return; /* verified by its bytes at each lookup */
	if (!*slot) {
		*slot = calloc(1, sizeof(**slot));
		if (!*slot) {
			it->failed = true;
			return;
		}
		(*slot)->page = align_down(b->gpa, GUEST_PAGE_SIZE);
	}
	b->page_next = (*slot)->blocks;
	(*slot)->blocks = b;
}

static struct block *block_alloc(struct interp *it, unsigned ops)
{
	struct block *b = calloc(1, sizeof(*b) + ops * sizeof(struct cpu_op));

	if (!b) {
		snprintf(it->v->stop_reason, sizeof(it->v->stop_reason), "out of host memory");
		it->failed = true;
	}
	return b;
}

static struct block *decode_block(struct interp *it, uint64_t lin, uint64_t gpa)
{
	struct vcpu *v = it->v;
	unsigned room = (unsigned)(GUEST_PAGE_SIZE - (gpa & 0xfff)), at = 0, n = 0;
	struct cpu_op ops[BLOCK_MAX_OPS];
	uint8_t crossing[X86_INSN_MAX];
	bool crosses = false, ram = guest_ptr(v->mem, GPA(gpa), room);
	struct insn insn;
	struct block *b;
	enum decode_result r;
	uint64_t dropped = it->blocks_dropped;

	if (ram) { /* marked before the bytes are read: see mem.c */
		bool first = !guest_code_lines(v->mem, GPA(gpa));

		guest_code_mark(v->mem, GPA(gpa), min_u64(room, BLOCK_MAX_OPS * X86_INSN_MAX));
		if (first) /* a marked page has no write entries */
			mmu_protect_code(&v->mmu, GPA(align_down(gpa, GUEST_PAGE_SIZE)));
	}
	while (n < BLOCK_MAX_OPS && at < room) {
		uint8_t bytes[X86_INSN_MAX];
		unsigned have = (unsigned)min_u64(X86_INSN_MAX, room - at);

		fetch_bytes(v, gpa + at, bytes, have);
		r = insn_decode(&it->decoder, v->mode, bytes, have, &insn);
		if (r == DECODE_SHORT) {
			if (n)
				break;
			r = decode_crossing(it, lin, gpa, room, &insn, crossing);
			crosses = true;
		}
		finish_op(it, &ops[n], r, &insn);
		/* What is no instruction depends on all the bytes that were looked at. */
		at += r == DECODE_OK ? insn.z.length : have;
		if (ends_block(&ops[n++]) || crosses)
			break;
	}
	if (it->blocks_dropped != dropped)
		n = 1; /* the arena was emptied under way: thunks of earlier ops are gone, decode the rest again later */
	b = block_alloc(it, n);
	if (!b)
		return NULL;
	if (it->blocks_dropped != dropped) {
		/* Decode the first instruction once more: its thunk, too, may be of the old arena. */
		uint8_t bytes[X86_INSN_MAX];
		unsigned have = (unsigned)min_u64(X86_INSN_MAX, room);

		if (!crosses) {
			fetch_bytes(v, gpa, bytes, have);
			r = insn_decode(&it->decoder, v->mode, bytes, have, &insn);
			finish_op(it, &ops[0], r, &insn);
			at = r == DECODE_OK ? insn.z.length : have;
		}
	}
	b->gpa = gpa;
	b->mode = v->mode;
	b->n_ops = (uint16_t)n;
	b->len = (uint16_t)at;
	b->crosses = crosses || !ram;
	memcpy(b->bytes, crossing, crosses ? sizeof(crossing) : 0);
	memcpy(b->op, ops, n * sizeof(ops[0]));
	it->blocks_decoded++;
	if (crosses && !ram)
		b->gpa = ~0ULL; /* from a device: never found again */
	hook(it, b);
	return b;
}

/* Whether a block that runs into the next page still has the bytes it was decoded from. */
static bool same_bytes(struct interp *it, const struct block *b, uint64_t lin, uint64_t gpa)
{
	unsigned room = (unsigned)(GUEST_PAGE_SIZE - (gpa & 0xfff));
	uint8_t bytes[X86_INSN_MAX];

	if (room >= X86_INSN_MAX || !guest_ptr(it->v->mem, GPA(gpa), 1))
		return false;
	fetch_bytes(it->v, gpa, bytes, room);
	fetch_bytes(it->v, fetch_gpa(it->v, it->v->mode == X86_MODE_64 ? lin + room : (uint32_t)(lin + room)),
		    bytes + room, X86_INSN_MAX - room);
	return !memcmp(bytes, b->bytes, X86_INSN_MAX);
}

struct block *block_find(struct interp *it, uint64_t lin)
{
	struct vcpu *v = it->v;
	uint64_t gpa = fetch_gpa(v, lin);
	struct block *b = find(it, gpa, v->mode);

	if (b && b->crosses && !same_bytes(it, b, lin, gpa)) {
		bury(it, b);
		b = NULL;
	}
	if (!b)
		b = decode_block(it, lin, gpa);
	if (b && !b->crosses)
		*jump_slot(it, lin) = (struct jump_entry){.lin = lin, .key = jump_key(it), .block = b};
	return b;
}
