/* mmu_fixture.h - a soft MMU over small guest memory, and page tables built in that. */
#ifndef RINGER_TESTS_MMU_FIXTURE_H
#define RINGER_TESTS_MMU_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mem/tlb.h"

#define RAM_SIZE MIB(128)
#define TABLES MIB(1) /* page tables are taken from here on */
#define RWU (PTE_P | PTE_W | PTE_U)

struct fixture {
	struct guest_mem *mem;
	struct mmu *mmu;
	uint64_t next_table;
};

static inline uint64_t new_table(struct fixture *f)
{
	f->next_table += GUEST_PAGE_SIZE;
	return f->next_table;
}

static inline uint64_t *entry_at(struct fixture *f, uint64_t table, unsigned index)
{
	return guest_ptr(f->mem, GPA((table & PTE_ADDR) + index * 8), 8);
}

/* The entry for va at a level (1: page table), under the PML4 at root; tables on the way are made. */
static inline uint64_t *pte_of(struct fixture *f, uint64_t root, uint64_t va, int level)
{
	uint64_t table = root;

	for (int l = 4; l > level; l--) {
		uint64_t *e = entry_at(f, table, va >> (12 + 9 * (l - 1)) & 511);

		if (!(*e & PTE_P) || (*e & PTE_PS))
			*e = new_table(f) | RWU;
		table = *e;
	}
	return entry_at(f, table, va >> (12 + 9 * (level - 1)) & 511);
}

static inline void map(struct fixture *f, uint64_t root, uint64_t va, uint64_t pte)
{
	*pte_of(f, root, va, 1) = pte;
}

static inline struct fixture *fixture_new(uint64_t cr4, uint64_t root)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->next_table = TABLES;
	assert_int_equal(guest_mem_new(&f->mem, NULL), 0);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(0), RAM_SIZE, NULL), 0);
	f->mmu = calloc(1, sizeof(*f->mmu));
	assert_non_null(f->mmu);
	assert_int_equal(mmu_init(f->mmu, f->mem, NULL), 0);
	f->mmu->regs = (struct mmu_regs){.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = root, .cr4 = CR4_PAE | cr4,
					 .efer = EFER_LME | EFER_LMA | EFER_NXE, .phys_bits = 40};
	mmu_flush(f->mmu);
	return f;
}

static inline void fixture_free(struct fixture *f)
{
	mmu_fini(f->mmu);
	guest_mem_free(f->mem);
	free(f->mmu);
	free(f);
}

#define FAULT (~0ULL)

static inline uint64_t gpa_of_host(struct fixture *f, uint64_t host)
{
	return host - (uint64_t)guest_ptr(f->mem, GPA(0), 1);
}

static inline const struct tlb_entry *l1_entry(const struct mmu *m, uint64_t va, enum mmu_access access,
					       enum mmu_mode mode)
{
	if (access == MMU_FETCH)
		return &m->fetch[mode == MMU_USER ? MMU_USER : MMU_KERNEL][tlb_index(va)];
	return access == MMU_READ ? &m->read[mode][tlb_index(va)] : &m->write[mode][tlb_index(va)];
}

/* The guest-physical page that level 1 gives, or FAULT when it has no entry. */
static inline uint64_t l1_lookup(struct fixture *f, uint64_t va, enum mmu_access access, enum mmu_mode mode)
{
	const struct tlb_entry *e = l1_entry(f->mmu, va, access, mode);

	if (e->tag != linear_page(va))
		return FAULT;
	return access == MMU_FETCH ? tlb_host(e) : gpa_of_host(f, tlb_host(e));
}

/* The page that an access reaches, as engines find it: level 1, level 2, walk. */
static inline uint64_t reach(struct fixture *f, uint64_t va, enum mmu_access access, enum mmu_mode mode)
{
	uint64_t page = l1_lookup(f, va, access, mode);
	struct mmu_result r;

	if (page == FAULT && mmu_refill(f->mmu, va, access, mode)) {
		page = l1_lookup(f, va, access, mode);
		assert_int_not_equal(page, FAULT); /* refill promised it */
	}
	if (page == FAULT && mmu_translate(f->mmu, va, access, mode, &r))
		page = linear_page(r.gpa.v);
	return page;
}

#endif
