/*
 * What follows a probe that failed: the TLB is refilled and the probe tried again; a site or a group that keeps failing is
 * translated otherwise; an operand across a page end is put together (crossing.c); the rest is the interpreter's, which also
 * raises what the guest must see.
 */
#include "engine/bt/internal.h"

#define PAGE_MASK 0xfffULL

/*
 * A probe at a site that has missed its slot 65536 times in all, though the TLB has the page: it gets a computed slot in
 * its next translation.
 */
static bool site_is_wild(struct bt *bt, const struct block *b, unsigned i, bool write, uint64_t va, bool crosses)
{
	unsigned mode = bt->v->mmu_mode, site = site_of(b->gpa + b->insn[i].guest_off);
	const struct tlb_entry *e = write ? &bt->v->mmu.write[mode][tlb_index(va)] : &bt->v->mmu.read[mode][tlb_index(va)];

	if (crosses || block_slots(b)[i] == NO_SLOT || bt->slot_misses[block_slots(b)[i]] || e->tag != (va & ~PAGE_MASK) || !assist(bt, ASSIST_TLB) ||
	    bt->config->stress.slow_memory)
		return false;
	bt->site_wild[site / 8] |= (uint8_t)(1u << site % 8);
	bt->stat[STAT_WILD]++;
	return true;
}

/* A stub's argument of a failed probe: see probe.c, slow_site(). */
struct probe {
	struct block *b;
	unsigned insn, size, mode;
	enum mmu_access access;
	bool group;
	uint64_t retry; /* host address */
};

static struct probe probe_of(struct vcpu *v, uint64_t arg)
{
	struct bt *bt = bt_of(v);
	struct probe p = {.b = bt_block_of(bt, arg), .insn = arg >> 10 & 0x3f, .size = (arg >> 2 & 0xff) + 1,
			  .access = arg & 1 ? MMU_WRITE : MMU_READ, .group = arg & 2};

	p.mode = v->mmu_mode; /* STAC and CLAC are in blocks */
	p.retry = cache_exec(bt, p.b->code + (uint32_t)(arg >> 16 & 0xffff));
	return p;
}

static bool probe_usable(const struct bt *bt, const struct probe *p, uint64_t va)
{
	return (va & PAGE_MASK) + p->size <= GUEST_PAGE_SIZE && !bt->config->stress.slow_memory &&
	       assist(bt, ASSIST_TLB);
}

/* Whatever keeps a probe failing that has been given its page, there is an end to it: the interpreter executes it. */
static bool may_retry(struct bt *bt, uint64_t arg, uint64_t va)
{
	if (bt->retried_arg != arg || bt->retried_va != va)
		bt->retries = 0;
	bt->retried_arg = arg;
	bt->retried_va = va;
	return ++bt->retries < 100;
}

/*
 * What a failed probe mostly wants, with some guest registers still in the host's: the page from the TLB's second level.
 * Returns where to retry; 0: it takes more.
 */
uint64_t bt_refill(struct vcpu *v, uint64_t arg, uint64_t va)
{
	struct bt *bt = bt_of(v);
	struct probe p = probe_of(v, arg);
	const struct tlb_entry *e = &(p.access == MMU_WRITE ? v->mmu.write : v->mmu.read)[p.mode][tlb_index(va)];

	/* In the first level already: site_is_wild()'s case. */
	if (!probe_usable(bt, &p, va) || e->tag == (va & ~PAGE_MASK))
		return 0;
	bt->stat[STAT_SLOW]++;
	return mmu_refill(&v->mmu, va, p.access, p.mode) && may_retry(bt, arg, va) ? p.retry : 0;
}

/* Integer instructions: their operands have no alignment and no mask, so a failed walk is the guest's page fault. */
static bool is_plain(struct bt *bt, const struct probe *p)
{
	unsigned off = p->b->insn[p->insn].guest_off, len = p->b->insn[p->insn + 1].guest_off - off;
	const uint8_t *c = guest_ptr(bt->v->mem, GPA(p->b->gpa + off), len), *end = c + len;

	if (!c || p->b->gpa2 != NO_PAGE)
		return false;
	while (c < end && ((*c & 0xfc) == 0x64 || *c == 0xf0 || *c == 0xf2 || *c == 0xf3 || (*c & 0xe7) == 0x26 ||
			   (*c & 0xf0) == 0x40)) /* legacy prefixes and REX */
		c++;
	if (c + 1 >= end)
		return c < end;
	if (*c == 0x0f) {
		c++;
		return (*c & 0xf0) == 0x40 || (*c & 0xf6) == 0xb6 || *c == 0xaf || (*c & 0xfe) == 0xb0 ||
		       (*c & 0xfe) == 0xc0;
	}
	return *c != 0x62 && *c != 0xc4 && *c != 0xc5 && (*c & 0xf8) != 0xd8;
}

static bool in_level_1(const struct vcpu *v, uint64_t va, enum mmu_access access, unsigned mode)
{
	const struct tlb_entry *table = (access == MMU_WRITE ? v->mmu.write : v->mmu.read)[mode];

	return table[tlb_index(va)].tag == (va & ~PAGE_MASK);
}

/*
 * Walks the page tables for a failed probe; true: level 1 has the page now. Raises the page fault of a plain
 * instruction. A D bit is set only for an instruction that surely writes, which a group's first need not do.
 */
static bool walk_for_probe(struct bt *bt, const struct probe *p, uint64_t va)
{
	struct vcpu *v = bt->v;
	struct mmu_result r;

	if (!canonical(va))
		return false;
	if (p->group || !is_plain(bt, p)) {
		if (!mmu_translate(&v->mmu, va, MMU_READ, p->mode, &r))
			return false;
		return p->access == MMU_READ ? in_level_1(v, va, MMU_READ, p->mode) :
					       mmu_refill(&v->mmu, va, MMU_WRITE, p->mode);
	}
	if (!mmu_translate(&v->mmu, va, p->access, p->mode, &r)) {
		bt_set_rip(v, p->b, p->b->insn[p->insn].guest_off);
		cpu_raise_page_fault(v, va, r.error);
	}
	return in_level_1(v, va, p->access, p->mode);
}

/* A group that crosses a page end each time: its first access gets a probe for itself in the next translation. */
static bool group_fails_often(struct bt *bt, const struct probe *p)
{
	unsigned site = site_of(p->b->gpa + p->b->insn[p->insn].guest_off);

	if (++bt->site_group_misses[site] < 16)
		return false;
	bt->site_group_misses[site] = 0;
	bt->site_alone[site / 8] |= (uint8_t)(1u << site % 8);
	return true;
}

/* A failed probe that bt_refill() had no answer to. */
uint64_t bt_slow(struct vcpu *v, uint64_t arg, uint64_t va)
{
	struct bt *bt = bt_of(v);
	struct probe p = probe_of(v, arg);
	struct block *to;

	if (probe_usable(bt, &p, va)) {
		if (unlikely(site_is_wild(bt, p.b, p.insn, p.access == MMU_WRITE, va, false))) {
			bt_set_rip(v, p.b, p.b->insn[p.insn].guest_off);
			if (unlikely(bt->verify))
				verify_stop(bt, p.b, p.insn);
			cache_kill(bt, p.b);
			return bt_dispatch(bt);
		}
		if (walk_for_probe(bt, &p, va) && may_retry(bt, arg, va))
			return bt_resume(bt, p.retry);
	}
	if (!p.group && !bt->verify && !bt->config->stress.slow_memory && assist(bt, ASSIST_TLB)) {
		uint64_t host = crossing_access(bt, p.b, p.insn, va, p.size, p.access == MMU_WRITE, p.mode);

		if (host)
			return host;
	}
	bt_set_rip(v, p.b, p.b->insn[p.insn].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, p.b, p.insn);
	if (p.group && group_fails_often(bt, &p)) {
		cache_kill(bt, p.b);
		return bt_dispatch(bt);
	}
	if (p.group) { /* each access of the group for itself, from here on in this block */
		bt->stat[STAT_CROSSING]++;
		return bt_dispatch_to(bt, &to, MODE_NO_GROUP, false);
	}
	bt->stat[STAT_SLOW_INTERP]++;
	bt_interpret(bt);
	return bt_dispatch(bt);
}
