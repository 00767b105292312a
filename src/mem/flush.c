/*
 * What drops translations: loads of control registers, INVLPG, INVPCID (SDM vol. 3, 4.10.4.1), each with what the
 * manual asks for, seldom more.
 *
 * Pages larger than 4 KiB are cached in fragments, all of which must go when any address in the page is
 * invalidated. Which fragments there are is not recorded; two hashed sets say where there can be some.
 */
#include "mem/tlb.h"

void mmu_flush_all(struct mmu *m)
{
	m->stats.flush_all++;
	l1_drop_all(m);
	for (unsigned half = 0; half < 2; half++)
		for (unsigned i = 0; i < MMU_LARGE_BITS / 64; i++)
			*(volatile uint64_t *)&m->large.size_2m[half][i] = /* volatile: no call of memset */
				*(volatile uint64_t *)&m->large.larger[half][i] = 0;
	space_renew_all(m);
}

void mmu_flush(struct mmu *m)
{
	mmu_update_rules(m);
	m->pcid = regs_pcid(&m->regs);
	mmu_flush_all(m);
}

static void renew_supervisor_if_nonglobal(struct mmu *m)
{
	if (m->supervisor_fetched_nonglobal)
		code_renew_supervisor(m);
}

void mmu_flush_nonglobal(struct mmu *m)
{
	m->stats.flush_nonglobal++;
	renew_supervisor_if_nonglobal(m);
	l1_drop_nonglobal(m);
	space_renew_all_nonglobal(m);
}

static void flush_current_pcid(struct mmu *m)
{
	renew_supervisor_if_nonglobal(m);
	l1_drop_nonglobal(m);
	space_renew(m, m->pcid);
}

void mmu_flush_pcid(struct mmu *m, uint16_t pcid)
{
	m->stats.flush_pcid++;
	if (pcid == m->pcid)
		flush_current_pcid(m);
	else
		space_renew(m, pcid);
}

void mmu_set_cr3(struct mmu *m, uint64_t cr3, bool noflush)
{
	uint16_t pcid;

	m->stats.cr3_loads++;
	m->stats.cr3_noflush += noflush;
	m->regs.cr3 = cr3;
	pcid = regs_pcid(&m->regs);
	if (pcid == m->pcid) {
		if (!noflush)
			flush_current_pcid(m);
		return;
	}
	renew_supervisor_if_nonglobal(m);
	l1_drop_nonglobal(m);
	if (!noflush)
		space_renew(m, pcid);
	space_enter(m, pcid);
}

/* The changes that invalidate everything; of CR4.SMEP and EFER.NXE and LMA more than the manual asks. */
static bool controls_drop_all(const struct mmu_regs *r, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	uint64_t set = cr4 & ~r->cr4, cleared = r->cr4 & ~cr4;

	return (cr0 ^ r->cr0) & CR0_PG || (cr4 ^ r->cr4) & (CR4_PGE | CR4_PAE | CR4_PSE) || set & CR4_SMEP ||
	       cleared & CR4_PCIDE || (efer ^ r->efer) & (EFER_NXE | EFER_LMA);
}

/* The changes after which level 1 may allow too much, or code_space promise it. Level 2 holds what tables say. */
static bool controls_change_rules(const struct mmu_regs *r, uint64_t cr0, uint64_t cr4)
{
	return (cr0 ^ r->cr0) & CR0_WP || (cr4 ^ r->cr4) & (CR4_SMEP | CR4_SMAP);
}

void mmu_set_controls(struct mmu *m, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	bool drop_all = controls_drop_all(&m->regs, cr0, cr4, efer);
	bool rules = controls_change_rules(&m->regs, cr0, cr4);

	m->regs.cr0 = cr0;
	m->regs.cr4 = cr4;
	m->regs.efer = efer;
	if (drop_all) {
		mmu_flush(m);
	} else if (rules) {
		mmu_update_rules(m);
		l1_drop_all(m);
		code_renew_supervisor(m);
	}
}

void mmu_set_watched(struct mmu *m, const uint64_t page[MMU_WATCHED])
{
	bool changed = false;

	for (unsigned i = 0; i < MMU_WATCHED; i++) {
		changed |= m->watched[i] != page[i];
		m->watched[i] = page[i];
	}
	if (changed)
		l1_drop_data(m);
}

static bool large_may_hold(const uint64_t set[2][MMU_LARGE_BITS / 64], uint64_t va, unsigned shift)
{
	return set[va >> 63][mmu_large_word(va >> shift)] & mmu_large_bit(va >> shift);
}

static void drop_2m(struct mmu *m, uint64_t va, uint16_t pcid, uint32_t space)
{
	va = align_down(va, MIB(2));
	for (uint64_t end = va + MIB(2); va != end; va += GUEST_PAGE_SIZE) {
		struct l2_entry *e = l2_find_in(m, va, pcid, space);

		if (!e || !(e->tr & TR_LARGE_2M))
			continue;
		if (space == m->space || space == m->global_space)
			l1_drop_page(m, va);
		l2_forget(m, e);
	}
}

void mmu_flush_page(struct mmu *m, uint64_t va)
{
	m->stats.flush_page++;
	tlb_drop_page(m, va);
	if (unlikely(large_may_hold(m->large.larger, va, 30))) {
		m->stats.flush_page_large++;
		mmu_flush_all(m);
	} else if (unlikely(large_may_hold(m->large.size_2m, va, 21))) {
		m->stats.flush_page_large++;
		drop_2m(m, va, m->pcid, m->space);
		drop_2m(m, va, 0, m->global_space);
	}
}

void mmu_flush_page_pcid(struct mmu *m, uint16_t pcid, uint64_t va)
{
	uint32_t space = space_of(m, pcid)->space;
	struct l2_entry *e = space ? l2_find_in(m, va, pcid, space) : NULL;

	m->stats.flush_page++;
	if (pcid == m->pcid)
		l1_drop_page(m, va);
	if (e)
		l2_forget(m, e);
	if (unlikely(large_may_hold(m->large.larger, va, 30))) {
		m->stats.flush_page_large++;
		mmu_flush_pcid(m, pcid);
	} else if (unlikely(space && large_may_hold(m->large.size_2m, va, 21))) {
		m->stats.flush_page_large++;
		drop_2m(m, va, pcid, space);
	}
}
