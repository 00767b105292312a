/* The block cache: finding, decoding and dropping blocks. The theory is in internal.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "interp/internal.h"

static unsigned bucket_of(uint64_t gpa, unsigned mode)
{
	return (unsigned)((gpa * 0x9e3779b97f4a7c15ULL >> 40) + mode) & (BLOCK_BUCKETS - 1);
}

static struct block_page **page_slot(struct interp *it, uint64_t page)
{
	struct block_page **p = &it->pages[bucket_of(page, 0)];

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
	it->block_bytes -= sizeof(*b) + b->n_ops * sizeof(struct cpu_op);
}

void block_free_dropped(struct interp *it)
{
	if (it->graveyard)
		cpu_fpu_spill(it->v); /* free() is libc's */
	while (it->graveyard) {
		struct block *b = it->graveyard;

		it->graveyard = b->next;
		free(b);
	}
	it->stale = false;
}

/* Marks stay: they may be another watcher's too, and those that are nobody's go with the first write. */
void block_drop_all(struct interp *it)
{
	cpu_fpu_spill(it->v);
	for (unsigned i = 0; i < BLOCK_BUCKETS; i++) {
		while (it->bucket[i])
			bury(it, it->bucket[i]);
		while (it->pages[i]) {
			struct block_page *p = it->pages[i];

			it->pages[i] = p->next;
			free(p);
		}
	}
	it->generation++;
}

/* Drops the page's blocks that overlap the write. */
uint64_t block_wrote(struct interp *it, uint64_t gpa, uint64_t len)
{
	struct block_page **slot = page_slot(it, align_down(gpa, GUEST_PAGE_SIZE)), *p = *slot;
	struct block **b;
	uint64_t left = 0;

	if (!p)
		return 0; /* only blocks that cross into the next page began here */
	for (b = &p->blocks; *b;) {
		struct block *blk = *b;

		if (blk->gpa < gpa + len && gpa < blk->gpa + blk->len) {
			*b = blk->page_next;
			bury(it, blk);
		} else {
			left |= code_lines_of(blk->gpa, blk->len);
			b = &blk->page_next;
		}
	}
	if (p->blocks)
		return left;
	*slot = p->next;
	cpu_fpu_spill(it->v);
	free(p);
	return 0;
}

/* Translates for a fetch of the byte at lin; raises #PF, or #GP(0) for a non-canonical address. */
static uint64_t fetch_gpa(struct vcpu *v, uint64_t lin)
{
	unsigned mode = v->cpl == 3 ? MMU_USER : MMU_KERNEL;
	const struct tlb_entry *e = &v->mmu.fetch[mode][tlb_index(lin)];
	struct mmu_result r;

	if (likely(e->tag == (lin & ~0xfffULL)))
		return lin + e->delta;
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
		code_copy(buf, p, len);
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

/* Makes op of a decoded instruction (or of what is none). false: there was no room for its thunk. */
static bool finish_op(struct interp *it, struct cpu_op *op, enum decode_result result, const struct insn *insn)
{
	struct vcpu *v = it->v;

	if (result != DECODE_OK || !cpu_model_allows(v->model, &insn->z)) {
		op_select_fault(op, result == DECODE_OK ? DECODE_INVALID : result);
		return true;
	}
	cpu_op_init(op, insn, v->mode);
	return !op_select(it, op, insn, v->mode);
}

static void hook(struct interp *it, struct block *b)
{
	struct block_page **slot = page_slot(it, align_down(b->gpa, GUEST_PAGE_SIZE));
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

/* A block in the making. */
struct decoding {
	struct cpu_op op[BLOCK_MAX_OPS];
	unsigned n, len; /* ops and bytes */
	bool crosses;
	uint8_t bytes[X86_INSN_MAX]; /* of a crossing instruction */
};

/* Decodes from gpa to the end of a block. false: thunk memory is full, and what has been decoded is void. */
static bool decode_ops(struct interp *it, uint64_t lin, uint64_t gpa, struct decoding *d)
{
	struct vcpu *v = it->v;
	unsigned room = (unsigned)(GUEST_PAGE_SIZE - (gpa & 0xfff));

	d->n = d->len = 0;
	d->crosses = false;
	while (d->n < BLOCK_MAX_OPS && d->len < room && !d->crosses) {
		uint8_t bytes[X86_INSN_MAX];
		unsigned have = (unsigned)min_u64(X86_INSN_MAX, room - d->len);
		struct cpu_op *op = &d->op[d->n];
		struct insn insn;
		enum decode_result r;

		fetch_bytes(v, gpa + d->len, bytes, have);
		r = insn_decode(&it->decoder, v->mode, bytes, have, &insn);
		if (r == DECODE_SHORT) {
			if (d->n)
				break;
			r = decode_crossing(it, lin, gpa, room, &insn, d->bytes);
			d->crosses = true;
		}
		if (!finish_op(it, op, r, &insn))
			return false;
		d->n++;
		/* What is no instruction depends on all the bytes that were looked at. */
		d->len += r == DECODE_OK ? insn.z.length : have;
		if (ends_block(op))
			break;
	}
	return true;
}

/* Marks what may be decoded at gpa; before its bytes are read. */
static void mark(struct interp *it, uint64_t gpa)
{
	uint64_t room = GUEST_PAGE_SIZE - (gpa & 0xfff);

	code_user_mark(&it->v->mmu.code, GPA(gpa), min_u64(room, BLOCK_MAX_OPS * X86_INSN_MAX));
}

void block_reset_all(struct interp *it)
{
	block_drop_all(it);
	thunks_reset(it->thunks);
}

/* For the rest of this instruction only: freed at the loop's next top. */
static void use_once(struct interp *it, struct block *b)
{
	b->next = it->graveyard;
	it->graveyard = b;
	it->stale = true;
}

static struct block *decode_block(struct interp *it, uint64_t lin, uint64_t gpa)
{
	bool ram = guest_ptr(it->v->mem, GPA(gpa), 1);
	struct decoding d;
	struct block *b;

	cpu_fpu_spill(it->v); /* Zydis, calloc() */
	if (it->block_bytes > BLOCK_BYTES_MAX)
		block_reset_all(it);
	if (ram)
		mark(it, gpa);
	if (!decode_ops(it, lin, gpa, &d)) {
		/* Start over with nothing: an empty arena holds any block. */
		block_reset_all(it);
		if (ram)
			mark(it, gpa);
		if (!decode_ops(it, lin, gpa, &d))
			goto fail;
	}
	b = calloc(1, sizeof(*b) + d.n * sizeof(struct cpu_op));
	if (!b)
		goto fail;
	b->gpa = gpa;
	b->mode = it->v->mode;
	b->n_ops = (uint16_t)d.n;
	b->len = (uint16_t)d.len;
	b->crosses = d.crosses;
	memcpy(b->bytes, d.bytes, d.crosses ? sizeof(d.bytes) : 0);
	memcpy(b->op, d.op, d.n * sizeof(d.op[0]));
	it->blocks_decoded++;
	if (!ram) { /* device memory is not watched: never found again */
		use_once(it, b);
		return b;
	}
	it->block_bytes += sizeof(*b) + d.n * sizeof(struct cpu_op);
	hook(it, b);
	return b;
fail:
	snprintf(it->v->stop_reason, sizeof(it->v->stop_reason), "no host memory to decode guest code");
	it->failed = true;
	return NULL;
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
	if (b && !b->crosses && b->gpa == gpa && !it->stale)
		*jump_slot(it, lin) = (struct jump_entry){.lin = lin, .key = jump_key(it), .block = b};
	return b;
}
