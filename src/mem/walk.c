/*
 * Page walks.
 *
 * One loop serves PAE and 4-level paging (SDM vol. 3, chapter 4), another 32-bit paging. A walk reads entries and
 * collects permissions; only when the access is allowed are A and D bits set, each by compare-and-exchange against
 * the value the permissions came from, and the walk starts over when another agent changed an entry meanwhile.
 * Entries that do not lie in RAM read as all ones, as an empty bus does: a reserved-bit fault.
 */
#include <stdatomic.h>

#include "mem/tlb.h"

struct walk {
	uint64_t entry[4];    /* as read, top level first */
	_Atomic uint64_t *at64[4]; /* where; NULL when not in RAM */
	_Atomic uint32_t *at32[4];
	uint64_t at[4];       /* guest-physical */
	unsigned n;           /* entries read */
	uint64_t gpa;
	uint64_t page_size;
	bool writable, user, no_exec; /* combined over all levels */
	bool dirty, global;           /* D and G of the last entry */
};

enum { WALK_OK, WALK_NOT_PRESENT, WALK_RESERVED };

static bool nx_enabled(const struct mmu_regs *r)
{
	return r->efer & EFER_NXE;
}

/* Takes in one entry's permissions. PAE page-directory-pointer entries have none and do not come here. */
static void combine(struct walk *w, uint64_t e)
{
	w->writable &= !!(e & PTE_W);
	w->user &= !!(e & PTE_U);
	w->no_exec |= !!(e & PTE_NX);
	w->dirty = e & PTE_D;
	w->global = e & PTE_G;
}

static uint64_t read_entry64(const struct mmu *m, struct walk *w, uint64_t gpa)
{
	w->at64[w->n] = guest_ptr(m->mem, GPA(gpa), 8);
	w->at32[w->n] = NULL;
	w->at[w->n] = gpa;
	w->entry[w->n] = w->at64[w->n] ? *w->at64[w->n] : ~0ULL;
	return w->entry[w->n++];
}

/* PAE (levels = 3) and 4-level paging. */
static int walk64(const struct mmu *m, uint64_t va, struct walk *w, int levels)
{
	const struct mmu_regs *r = &m->regs;
	uint64_t reserved = BITS(51, 12) & ~BITS(r->phys_bits - 1, 0);
	uint64_t table = levels == 3 ? r->cr3 & 0xffffffe0 : r->cr3 & PTE_ADDR;

	if (!nx_enabled(r))
		reserved |= PTE_NX;
	if (levels == 3)
		reserved |= BITS(62, 52);
	for (int level = levels; level >= 1; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		unsigned index = va >> shift & (levels == 3 && level == 3 ? 3 : 0x1ff);
		uint64_t e = read_entry64(m, w, table + index * 8);
		bool large = level <= 3 && level >= 2 && (e & PTE_PS);

		if (!(e & PTE_P))
			return WALK_NOT_PRESENT;
		if (levels == 3 && level == 3) { /* a PDPTE of PAE paging: address, P, PWT, PCD only */
			if (e & (reserved | PTE_NX | BITS(8, 5) | BITS(2, 1)))
				return WALK_RESERVED;
			table = e & PTE_ADDR;
			continue;
		}
		if ((e & reserved) || (level == 4 && (e & (PTE_PS | PTE_G))) /* AMD: bits 8:7 must be zero */)
			return WALK_RESERVED;
		if (large && (e & BITS(shift - 1, 13)))
			return WALK_RESERVED;
		combine(w, e);
		if (large || level == 1) {
			w->page_size = BIT(shift);
			w->gpa = (e & PTE_ADDR & ~(w->page_size - 1)) | (va & (w->page_size - 1));
			return WALK_OK;
		}
		table = e & PTE_ADDR;
	}
	return WALK_RESERVED; /* not reached: level 1 always returns */
}

static int walk32(const struct mmu *m, uint64_t va, struct walk *w)
{
	uint64_t table = m->regs.cr3 & 0xfffff000;

	for (int level = 2; level >= 1; level--) {
		unsigned shift = level == 2 ? 22 : 12;
		uint64_t gpa = table + (va >> shift & 0x3ff) * 4;
		uint32_t e;

		w->at32[w->n] = guest_ptr(m->mem, GPA(gpa), 4);
		w->at64[w->n] = NULL;
		w->at[w->n] = gpa;
		e = w->at32[w->n] ? *w->at32[w->n] : ~0u;
		w->entry[w->n++] = e;
		if (!(e & PTE_P))
			return WALK_NOT_PRESENT;
		if (level == 2 && (e & PTE_PS) && (m->regs.cr4 & CR4_PSE)) {
			uint64_t high = e >> 13 & 0xff; /* PSE-36: bits 39:32 of the address; bit 21 is reserved */

			if ((e & BIT(21)) || high >> (m->regs.phys_bits - 32))
				return WALK_RESERVED;
			combine(w, e);
			w->page_size = MIB(4);
			w->gpa = high << 32 | (e & 0xffc00000) | (va & 0x3fffff);
			return WALK_OK;
		}
		combine(w, e);
		table = e & 0xfffff000;
	}
	w->page_size = GUEST_PAGE_SIZE;
	w->gpa = table | (va & 0xfff);
	return WALK_OK;
}

static int walk(const struct mmu *m, uint64_t va, struct walk *w)
{
	w->n = 0; /* nothing to clear behind it: that would be a call of memset */
	w->writable = w->user = true;
	w->no_exec = w->dirty = w->global = false;
	if (!(m->regs.cr0 & CR0_PG)) {
		w->gpa = va & 0xffffffff;
		w->page_size = GUEST_PAGE_SIZE;
		w->dirty = true;
		return WALK_OK;
	}
	if (m->regs.efer & EFER_LMA)
		return walk64(m, va, w, 4);
	return m->regs.cr4 & CR4_PAE ? walk64(m, va, w, 3) : walk32(m, va, w);
}

/* false: the entry has changed. It may lie in a page of code. */
static bool set_bits(const struct mmu *m, struct walk *w, unsigned i, uint64_t bits)
{
	uint64_t old = w->entry[i];
	uint32_t old32 = (uint32_t)old;

	if ((old & bits) == bits)
		return true;
	if (w->at64[i] ? !atomic_compare_exchange_strong(w->at64[i], &old, old | bits) :
			 !atomic_compare_exchange_strong(w->at32[i], &old32, old32 | (uint32_t)bits))
		return false;
	guest_mem_wrote(m->mem, GPA(w->at[i]), w->at64[i] ? 8 : 4);
	return true;
}

/* Sets A everywhere and D in the last entry; false when an entry changed under us. */
static bool set_accessed_dirty(const struct mmu *m, struct walk *w, bool dirty)
{
	bool pae = !(m->regs.efer & EFER_LMA) && (m->regs.cr4 & CR4_PAE);

	for (unsigned i = 0; i < w->n; i++) {
		bool last = i == w->n - 1;

		if (pae && i == 0)
			continue; /* PDPTEs have no A bit */
		if (!set_bits(m, w, i, PTE_A | (last && dirty ? PTE_D : 0)))
			return false;
	}
	return true;
}

/* Page-fault error code (SDM vol. 3, 4.7). */
static int error_code(const struct mmu_regs *r, int result, enum mmu_access access, enum mmu_mode mode)
{
	int e = 0;

	if (result != WALK_NOT_PRESENT)
		e |= PF_P;
	if (access == MMU_WRITE)
		e |= PF_W;
	if (mode == MMU_USER)
		e |= PF_U;
	if (result == WALK_RESERVED)
		e |= PF_RSVD;
	if (access == MMU_FETCH && ((r->cr4 & CR4_SMEP) || (nx_enabled(r) && (r->cr4 & CR4_PAE))))
		e |= PF_I;
	return e;
}

static uint64_t translation(const struct mmu *m, const struct walk *w)
{
	uint64_t tr = w->gpa & PTE_ADDR;

	if (w->user)
		tr |= TR_USER;
	if (w->writable)
		tr |= TR_WRITE;
	if (w->no_exec)
		tr |= TR_NX;
	if (w->dirty)
		tr |= TR_DIRTY;
	if (w->page_size == MIB(2))
		tr |= TR_LARGE_2M;
	else if (w->page_size > MIB(2))
		tr |= TR_LARGER;
	if (w->global && (m->regs.cr4 & CR4_PGE))
		tr |= TR_GLOBAL;
	if (!guest_ptr(m->mem, GPA(w->gpa), 1))
		tr |= TR_DEVICE;
	return tr;
}

int mmu_walk(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode, bool update,
	     uint64_t *tr)
{
	for (;;) {
		struct walk w;
		int result = walk(m, va, &w);

		if (result != WALK_OK)
			return error_code(&m->regs, result, access, mode);
		*tr = translation(m, &w);
		if (!tr_allows(m, *tr, access, mode))
			return error_code(&m->regs, result, access, mode);
		if (!update)
			return -1;
		if (set_accessed_dirty(m, &w, access == MMU_WRITE)) {
			*tr |= access == MMU_WRITE ? TR_DIRTY : 0;
			return -1;
		}
	}
}

static struct mmu_rule make_rule(const struct mmu_regs *r, enum mmu_access access, enum mmu_mode mode)
{
	struct mmu_rule rule = {0, 0};

	if (!(r->cr0 & CR0_PG))
		return rule;
	if (mode == MMU_USER)
		rule.need |= TR_USER;
	if (access == MMU_FETCH) {
		rule.deny |= TR_NX;
		if (mode != MMU_USER && (r->cr4 & CR4_SMEP))
			rule.deny |= TR_USER;
		return rule;
	}
	if (mode == MMU_KERNEL && (r->cr4 & CR4_SMAP))
		rule.deny |= TR_USER;
	if (access == MMU_WRITE && (mode == MMU_USER || (r->cr0 & CR0_WP)))
		rule.need |= TR_WRITE;
	return rule;
}

void mmu_update_rules(struct mmu *m)
{
	for (unsigned mode = 0; mode < MMU_MODES; mode++)
		for (unsigned access = 0; access < MMU_ACCESSES; access++)
			m->rule[mode][access] = make_rule(&m->regs, access, mode);
}
