/*
 * Page walks and the TLB.
 *
 * One loop serves all three paging modes (SDM vol. 3, chapter 4): a `struct level` says how each step indexes
 * its table and which bits are reserved. A walk reads entries and collects permissions; only when the access
 * is allowed are A and D bits set, each by compare-and-exchange against the value the permissions came from,
 * and the walk starts over when another agent changed an entry meanwhile. Entries that do not lie in RAM read
 * as all ones, as an empty bus does: a reserved-bit fault.
 *
 * TLB entries exist only for RAM; write entries only for pages that are dirty already and hold no cached code.
 * A flush drops more than asked (all PCIDs, global pages too), which the architecture always allows.
 */
#include "mem/mmu.h"

#include <stdatomic.h>
#include <string.h>

#include "x86/x86.h"

struct walk {
	uint64_t entry[4];    /* as read, top level first */
	_Atomic uint64_t *at64[4]; /* where; NULL when not in RAM */
	_Atomic uint32_t *at32[4];
	unsigned n;           /* entries read */
	uint64_t gpa;
	uint64_t page_size;
	bool writable, user, no_exec; /* combined over all levels */
	bool accessed, dirty;         /* A in all entries; D in the last */
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
	w->accessed &= !!(e & PTE_A);
	w->dirty = e & PTE_D;
}

static uint64_t read_entry64(const struct mmu *m, struct walk *w, uint64_t gpa)
{
	w->at64[w->n] = guest_ptr(m->mem, GPA(gpa), 8);
	w->at32[w->n] = NULL;
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
	memset(w, 0, sizeof(*w));
	w->writable = w->user = w->accessed = true;
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

static bool write_allowed(const struct mmu_regs *r, const struct walk *w, enum mmu_mode mode)
{
	return w->writable || (mode != MMU_USER && !(r->cr0 & CR0_WP));
}

/* The access rights of SDM vol. 3, 4.6.1. */
static bool allowed(const struct mmu_regs *r, const struct walk *w, enum mmu_access access,
		    enum mmu_mode mode)
{
	if (!(r->cr0 & CR0_PG))
		return true;
	if (mode == MMU_USER && !w->user)
		return false;
	if (access == MMU_FETCH)
		return !w->no_exec && !(mode != MMU_USER && w->user && (r->cr4 & CR4_SMEP));
	if (mode == MMU_KERNEL && w->user && (r->cr4 & CR4_SMAP))
		return false;
	return access == MMU_READ || write_allowed(r, w, mode);
}

static uint32_t error_code(const struct mmu_regs *r, int result, enum mmu_access access, enum mmu_mode mode)
{
	uint32_t e = 0;

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

static bool set_bits(struct walk *w, unsigned i, uint64_t bits)
{
	uint64_t old = w->entry[i];
	uint32_t old32 = (uint32_t)old;

	if ((old & bits) == bits)
		return true;
	if (w->at64[i])
		return atomic_compare_exchange_strong(w->at64[i], &old, old | bits);
	if (w->at32[i])
		return atomic_compare_exchange_strong(w->at32[i], &old32, old32 | (uint32_t)bits);
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
		if (!set_bits(w, i, PTE_A | (last && dirty ? PTE_D : 0)))
			return false;
	}
	return true;
}

static void fill(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		 const struct mmu_result *r)
{
	uint64_t page = align_down(va, GUEST_PAGE_SIZE);
	gpa_t gpa_page = GPA(align_down(r->gpa.v, GUEST_PAGE_SIZE));
	uint8_t *host = guest_ptr(m->mem, gpa_page, GUEST_PAGE_SIZE);
	struct tlb_entry e = {.tag = page};

	if (!host)
		return;
	if (access != MMU_FETCH)
		for (unsigned i = 0; i < ARRAY_SIZE(m->watched); i++)
			if (m->watched[i] == page)
				return;
	if (access == MMU_FETCH) {
		e.host = gpa_page.v;
		m->fetch[mode == MMU_USER ? MMU_USER : MMU_KERNEL][tlb_index(va)] = e;
		return;
	}
	e.host = (uint64_t)host;
	m->read[mode][tlb_index(va)] = e;
	if (r->writable_now && !guest_code_lines(m->mem, gpa_page))
		m->write[mode][tlb_index(va)] = e;
}

static bool translate(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		      struct mmu_result *r, bool update)
{
	struct walk w;

	for (;;) {
		int result = walk(m, va, &w);

		memset(r, 0, sizeof(*r));
		if (result != WALK_OK || !allowed(&m->regs, &w, access, mode)) {
			r->error = error_code(&m->regs, result, access, mode);
			return false;
		}
		if (!update || set_accessed_dirty(m, &w, access == MMU_WRITE))
			break;
	}
	r->gpa = GPA(w.gpa);
	r->writable_now = allowed(&m->regs, &w, MMU_WRITE, mode) && (w.dirty || access == MMU_WRITE);
	r->device = !guest_ptr(m->mem, r->gpa, 1);
	r->large = w.page_size > GUEST_PAGE_SIZE;
	return true;
}

bool mmu_translate(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		   struct mmu_result *r)
{
	m->stats.translations++;
	m->stats.walks++;
	if (!translate(m, va, access, mode, r, true))
		return false;
	m->large.larger[0][0] |= !r->device && r->large;
	if (!r->device)
		fill(m, va, access, mode, r);
	return true;
}

bool mmu_refill(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode)
{
	m->stats.refills++;
	return false;
}

bool mmu_fill_stack(struct mmu *m, uint64_t va, enum mmu_mode mode)
{
	const struct tlb_entry *e = &m->write[mode][tlb_index(va)];

	if (e->tag != align_down(va, GUEST_PAGE_SIZE))
		return false;
	m->stack[mode] = *e;
	return true;
}

bool mmu_probe(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
	       struct mmu_result *r)
{
	return translate(m, va, access, mode, r, false);
}

int mmu_init(struct mmu *m, struct guest_mem *mem, struct err *err)
{
	memset(m, 0, sizeof(*m));
	m->mem = mem;
	m->regs.phys_bits = 40;
	for (unsigned i = 0; i < ARRAY_SIZE(m->watched); i++)
		m->watched[i] = ~0ULL;
	mmu_flush(m);
	return 0;
}

void mmu_fini(struct mmu *m)
{
}

void mmu_flush_all(struct mmu *m)
{
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		m->slot[i].tag = ~0ULL;
	for (unsigned i = 0; i < MMU_MODES; i++)
		m->stack[i].tag = ~0ULL;
	m->large.larger[0][0] = 0;
	m->flushes++;
	m->code_space[0] = ++m->next_code;
	m->code_space[1] = ++m->next_code;
}

void mmu_flush(struct mmu *m)
{
	mmu_flush_all(m);
}

void mmu_flush_nonglobal(struct mmu *m)
{
	mmu_flush_all(m);
}

void mmu_flush_pcid(struct mmu *m, uint16_t pcid)
{
	mmu_flush_all(m);
}

void mmu_flush_page(struct mmu *m, uint64_t va)
{
	if (m->large.larger[0][0]) { /* fragments do not say that they belong together */
		mmu_flush_all(m);
		return;
	}
	for (unsigned i = tlb_index(va); i < TLB_SLOTS; i += TLB_ENTRIES)
		m->slot[i].tag = ~0ULL;
	for (unsigned i = 0; i < MMU_MODES; i++)
		m->stack[i].tag = ~0ULL;
	m->flushes++;
	m->code_space[0] = ++m->next_code;
	m->code_space[1] = ++m->next_code;
}

void mmu_flush_page_pcid(struct mmu *m, uint16_t pcid, uint64_t va)
{
	mmu_flush_all(m);
}

void mmu_set_cr3(struct mmu *m, uint64_t cr3, bool noflush)
{
	m->regs.cr3 = cr3;
	mmu_flush_all(m);
}

void mmu_set_controls(struct mmu *m, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	m->regs.cr0 = cr0;
	m->regs.cr4 = cr4;
	m->regs.efer = efer;
	mmu_flush_all(m);
}

void mmu_protect_code(struct mmu *m, gpa_t page)
{
	uint64_t host = (uint64_t)guest_ptr(m->mem, page, GUEST_PAGE_SIZE);

	for (int mode = 0; mode < MMU_MODES; mode++) {
		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (m->write[mode][i].host == host)
				m->write[mode][i].tag = ~0ULL;
		if (m->stack[mode].host == host)
			m->stack[mode].tag = ~0ULL;
	}
}
