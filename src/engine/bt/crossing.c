/*
 * Operands that cross a page end, and instructions run out of their block for them.
 *
 * A probe never admits an access to two pages. When both are plain RAM, a load gets its bytes together in the vCPU's
 * bounce buffer and goes on behind its probe with an R10 that leads there (block_operands()). A store must not go on:
 * the buffer has to be written back. So its host code, from there to the next instruction, is copied to a slot of its own,
 * followed by a jump to a stub that does that. A slot remembers what it holds, and since when no block has come or gone.
 */
#include "engine/bt/internal.h"

#define PAGE_MASK 0xfffULL

/* Host address of the byte at va when it is RAM that may be so accessed, without a fault; NULL else. */
static uint8_t *page_byte(struct bt *bt, uint64_t va, enum mmu_access access, unsigned mode, uint64_t *gpa)
{
	struct vcpu *v = bt->v;
	struct mmu_result r;

	if (!canonical(va) || !mmu_probe(&v->mmu, va, access, mode, &r) || r.device)
		return NULL;
	if (!mmu_translate(&v->mmu, va, access, mode, &r)) /* cannot fail; for the A and D bits */
		return NULL;
	*gpa = r.gpa.v;
	return guest_ptr(v->mem, r.gpa, 1);
}

static uint64_t changes(const struct bt *bt)
{
	return bt->stat[STAT_BLOCKS] + bt->stat[STAT_EVICTED] + bt->stat[STAT_INVALIDATED] + 1;
}

/* The code of instruction i behind its probe, in a place of its own. 0: it is too long. */
static uint64_t instruction_copy(struct bt *bt, const struct block *b, unsigned i)
{
	unsigned from = block_operands(b)[i] & 0x7fff, len = b->insn[i + 1].host_off - from;
	uint64_t host = cache_exec(bt, b->code + from), exec, to;
	unsigned slot = (unsigned)(host * 0x9e3779b97f4a7c15ULL >> 40) % COPY_SLOTS;
	struct copy_slot *s = &bt->copy[slot];
	uint8_t *write = cache_copy_slot(bt, slot, &exec);
	uint32_t rel;

	if (len + 5 > COPY_SLOT_BYTES)
		return 0;
	if (s->host == host && s->changes == changes(bt))
		return exec;
	to = block_operands(b)[i] & BIT(15) ? bt->stub_store_done_flags : bt->stub_store_done;
	memcpy(write, cache_write_ptr(bt, b->code + from), len);
	write[len] = 0xe9;
	rel = (uint32_t)(to - (exec + len + 5));
	memcpy(write + len + 1, &rel, 4);
	*s = (struct copy_slot){.host = host, .changes = changes(bt)};
	return exec;
}

/* What R10 must be for the operand at linear address va to be found at host. */
static uint64_t operand_r10(const struct vcpu *v, unsigned how, uint64_t va, uint64_t host)
{
	switch (how) {
	case R10_HOST:
		return host;
	case R10_DELTA:
		return host - va;
	default:
		return host - va + v->gpr[how];
	}
}

uint64_t crossing_access(struct bt *bt, struct block *b, unsigned i, uint64_t va, unsigned size, bool write, unsigned mode)
{
	struct vcpu *v = bt->v;
	unsigned first = (unsigned)(GUEST_PAGE_SIZE - (va & PAGE_MASK));
	enum mmu_access access = write ? MMU_WRITE : MMU_READ;
	uint8_t *buf = v->bounce + (va & 63), *p[2];
	uint64_t gpa[2], host;

	if (!block_operands(b)[i] || size <= first)
		return 0;
	p[0] = page_byte(bt, va, access, mode, &gpa[0]);
	p[1] = p[0] ? page_byte(bt, va + first, access, mode, &gpa[1]) : NULL;
	if (!p[1])
		return 0;
	host = write ? instruction_copy(bt, b, i) : cache_exec(bt, b->code + (block_operands(b)[i] & 0x7fffu));
	if (!host)
		return 0;
	memcpy(buf, p[0], first);
	memcpy(buf + first, p[1], size - first);
	bt->enter_r10 = operand_r10(v, block_operand_r10(b)[i], va, (uint64_t)buf);
	bt->crossing = (struct crossing){.va = va, .block = b->id, .insn = i, .gpa = {gpa[0], gpa[1]}, .first = first, .size = size,
					 .buf = buf};
	bt->stat[STAT_CROSSED]++;
	return bt_resume(bt, host);
}

/* The store is in the bounce buffer: to memory, and on with the next instruction. */
uint64_t bt_store_done(struct vcpu *v, uint64_t unused, uint64_t unused2)
{
	struct bt *bt = bt_of(v);
	struct crossing c = bt->crossing;
	struct block *b = cache_block(bt, c.block);

	(void)unused;
	(void)unused2;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t at = i ? c.first : 0, len = i ? c.size - c.first : c.first;
		void *p = guest_ptr(v->mem, GPA(c.gpa[i]), len);

		memcpy(p, c.buf + at, len);
		guest_mem_wrote(v->mem, GPA(c.gpa[i]), len);
	}
	if (b->dead)
		return bt_dispatch_at(bt, b, c.insn + 1);
	return bt_resume(bt, cache_exec(bt, b->code + b->insn[c.insn + 1].host_off));
}
