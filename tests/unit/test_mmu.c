/*
 * The soft MMU's TLB: nothing stale after any flush, what may be kept is kept, permissions on refill, code marks,
 * and the numbers that caches of code depend on. SDM vol. 3, 4.10.
 */
#include "mmu_fixture.h"

#define ROOT0 MIB(2) /* PML4 tables of address spaces */
#define ROOT1 (ROOT0 + 0x1000)
#define ROOT2 (ROOT0 + 0x2000)
#define PAGE_A MIB(4)
#define PAGE_B (PAGE_A + 0x1000)
#define PAGE_C (PAGE_A + 0x2000)
#define VA 0x8000003000ULL
#define KVA 0xffff888000007000ULL
#define EVERY_FEATURE (CR4_PGE | CR4_PCIDE)

static int setup(void **state)
{
	*state = fixture_new(EVERY_FEATURE, ROOT0);
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/* Every access in every mode, the stack entry too, is cached from what the tables say now. */
static void prime(struct fixture *f, uint64_t va)
{
	for (unsigned mode = 0; mode < MMU_MODES; mode++) {
		for (unsigned access = 0; access < MMU_ACCESSES; access++)
			assert_int_not_equal(reach(f, va, access, mode), FAULT);
		assert_true(mmu_fill_stack(f->mmu, va, mode));
	}
}

static void expect(struct fixture *f, uint64_t va, uint64_t page)
{
	for (unsigned mode = 0; mode < MMU_MODES; mode++) {
		if (f->mmu->stack[mode].tag == linear_page(va))
			assert_int_equal(gpa_of_host(f, tlb_host(&f->mmu->stack[mode])), page);
		for (unsigned access = 0; access < MMU_ACCESSES; access++)
			assert_int_equal(reach(f, va, access, mode), page);
	}
}

static void by_cr3(struct mmu *m)
{
	mmu_set_cr3(m, m->regs.cr3, false);
}

static void by_cr3_after_another(struct mmu *m)
{
	uint64_t cr3 = m->regs.cr3;

	mmu_set_cr3(m, ROOT1 | 9, true);
	mmu_set_cr3(m, cr3, false);
}

static void by_invlpg(struct mmu *m)
{
	mmu_flush_page(m, VA + 0xfff);
}

static void by_invpcid_address(struct mmu *m)
{
	mmu_flush_page_pcid(m, m->pcid, VA);
}

static void by_invpcid_context(struct mmu *m)
{
	mmu_flush_pcid(m, m->pcid);
}

static void by_invpcid_from_another(struct mmu *m)
{
	uint64_t cr3 = m->regs.cr3;
	uint16_t pcid = m->pcid;

	mmu_set_cr3(m, ROOT1 | 9, true);
	mmu_flush_pcid(m, pcid);
	mmu_set_cr3(m, cr3, true);
}

static void by_invpcid_address_from_another(struct mmu *m)
{
	uint64_t cr3 = m->regs.cr3;
	uint16_t pcid = m->pcid;

	mmu_set_cr3(m, ROOT1 | 9, true);
	mmu_flush_page_pcid(m, pcid, VA);
	mmu_set_cr3(m, cr3, true);
}

static void by_nonglobal_from_another(struct mmu *m)
{
	uint64_t cr3 = m->regs.cr3;

	mmu_set_cr3(m, ROOT1 | 9, true);
	mmu_flush_nonglobal(m);
	mmu_set_cr3(m, cr3, true);
}

static void by_pge(struct mmu *m)
{
	mmu_set_controls(m, m->regs.cr0, m->regs.cr4 ^ CR4_PGE, m->regs.efer);
	mmu_set_controls(m, m->regs.cr0, m->regs.cr4 ^ CR4_PGE, m->regs.efer);
}

static void by_smep(struct mmu *m)
{
	mmu_set_controls(m, m->regs.cr0, m->regs.cr4 | CR4_SMEP, m->regs.efer);
	mmu_set_controls(m, m->regs.cr0, m->regs.cr4 & ~(uint64_t)CR4_SMEP, m->regs.efer);
}

static void by_paging_off(struct mmu *m)
{
	uint64_t cr0 = m->regs.cr0, cr4 = m->regs.cr4;

	mmu_set_controls(m, cr0 & ~CR0_PG, cr4 & ~(uint64_t)CR4_PCIDE, m->regs.efer);
	mmu_set_controls(m, cr0, cr4, m->regs.efer);
}

static void by_wrapped_space_numbers(struct mmu *m)
{
	m->next_space = L2_SPACE_MAX - 1;
	for (unsigned i = 0; i < 4; i++)
		mmu_flush_pcid(m, m->pcid);
}

static void by_page_fault(struct mmu *m)
{
	struct mmu_result r;

	assert_false(mmu_translate(m, VA, MMU_FETCH, MMU_USER, &r)); /* the caller made it no-execute meanwhile */
}

static const struct {
	const char *name;
	void (*flush)(struct mmu *m);
	bool globals; /* global pages go, too */
} kinds[] = {
	{"mmu_flush", mmu_flush, true},
	{"INVPCID, all and globals", mmu_flush_all, true},
	{"INVPCID, all", mmu_flush_nonglobal, false},
	{"INVPCID, all, from another", by_nonglobal_from_another, false},
	{"INVPCID, one context", by_invpcid_context, false},
	{"INVPCID, one context, from another", by_invpcid_from_another, false},
	{"INVPCID, address", by_invpcid_address, false},
	{"INVPCID, address, from another", by_invpcid_address_from_another, false},
	{"INVLPG", by_invlpg, true},
	{"MOV CR3", by_cr3, false},
	{"MOV CR3, from another", by_cr3_after_another, false},
	{"CR4.PGE", by_pge, true},
	{"CR4.SMEP", by_smep, true},
	{"CR0.PG", by_paging_off, true},
	{"space numbers start over", by_wrapped_space_numbers, true},
};

static void test_nothing_stale(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned pcid = 0; pcid < 3; pcid++) {
			print_message("%s, PCID %u\n", kinds[i].name, pcid);
			mmu_flush(f->mmu);
			mmu_set_cr3(f->mmu, ROOT0 | pcid, true);
			map(f, ROOT0, VA, PAGE_A | RWU);
			prime(f, VA);
			map(f, ROOT0, VA, PAGE_B | RWU);
			expect(f, VA, PAGE_A); /* or the test tests nothing */
			kinds[i].flush(f->mmu);
			expect(f, VA, PAGE_B);
		}
}

static void test_globals(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned high = 0; high < 2; high++) {
			uint64_t va = high ? KVA : VA;

			if (high && kinds[i].flush == by_invlpg)
				continue;
			print_message("%s, %s\n", kinds[i].name, high ? "upper half" : "lower half");
			mmu_flush(f->mmu);
			map(f, ROOT0, va, PAGE_A | RWU | PTE_G);
			prime(f, va);
			map(f, ROOT0, va, PAGE_B | RWU | PTE_G);
			kinds[i].flush(f->mmu);
			expect(f, va, kinds[i].globals ? PAGE_B : PAGE_A);
		}
	/* Without CR4.PGE the bit means nothing. */
	mmu_set_controls(f->mmu, f->mmu->regs.cr0, CR4_PAE, f->mmu->regs.efer);
	map(f, ROOT0, VA, PAGE_A | RWU | PTE_G);
	prime(f, VA);
	map(f, ROOT0, VA, PAGE_B | RWU);
	mmu_set_cr3(f->mmu, ROOT0, false);
	expect(f, VA, PAGE_B);
}

/* A page fault drops the page's translation, also for accesses that would have been allowed. */
static void test_fault_drops(void **state)
{
	struct fixture *f = *state;

	map(f, ROOT0, VA, PAGE_A | RWU | PTE_NX);
	assert_int_equal(reach(f, VA, MMU_WRITE, MMU_USER), PAGE_A);
	map(f, ROOT0, VA, PAGE_B | RWU | PTE_NX);
	assert_int_equal(reach(f, VA, MMU_READ, MMU_USER), PAGE_A);
	by_page_fault(f->mmu);
	assert_int_equal(reach(f, VA, MMU_READ, MMU_USER), PAGE_B);
	assert_int_equal(reach(f, VA, MMU_WRITE, MMU_USER), PAGE_B);
}

/* The same linear address in three address spaces, switched without flushes: no walk after the first round. */
static void test_pcids(void **state)
{
	struct fixture *f = *state;
	uint64_t walks;

	map(f, ROOT0, VA, PAGE_A | RWU);
	map(f, ROOT1, VA, PAGE_B | RWU);
	map(f, ROOT2, VA, PAGE_C | RWU);
	for (unsigned round = 0; round < 3; round++) {
		walks = f->mmu->stats.walks;
		for (unsigned i = 0; i < 3; i++) {
			mmu_set_cr3(f->mmu, (ROOT0 + i * 0x1000) | (i * 5), true);
			expect(f, VA, PAGE_A + i * 0x1000);
		}
	}
	assert_int_equal(f->mmu->stats.walks, walks);
	/* PCID 5 is given to another address space. */
	mmu_set_cr3(f->mmu, ROOT2 | 5, false);
	expect(f, VA, PAGE_C);
	mmu_set_cr3(f->mmu, ROOT0, true);
	expect(f, VA, PAGE_A);
	assert_int_equal(f->mmu->stats.walks, walks + 1); /* D was set before */
	/* INVLPG is for the current PCID only; INVPCID for the one it names. */
	map(f, ROOT0, VA, PAGE_B | RWU);
	mmu_set_cr3(f->mmu, ROOT2 | 5, true);
	mmu_flush_page(f->mmu, VA);
	mmu_flush_page_pcid(f->mmu, 10, VA);
	mmu_set_cr3(f->mmu, ROOT0, true);
	expect(f, VA, PAGE_A);
	/* Bit 63 has no such meaning for entries of the PCID that is loaded without it. */
	mmu_set_cr3(f->mmu, ROOT0, false);
	expect(f, VA, PAGE_B);
}

/* Two linear pages on one physical page; only one of them is remapped. */
static void test_aliases(void **state)
{
	struct fixture *f = *state;
	uint64_t far = VA + TLB_ENTRIES * GUEST_PAGE_SIZE; /* the same slots of level 1 */

	map(f, ROOT0, VA, PAGE_A | RWU);
	map(f, ROOT0, VA + 0x1000, PAGE_A | RWU);
	map(f, ROOT0, far, PAGE_B | RWU);
	prime(f, VA);
	prime(f, VA + 0x1000);
	prime(f, far);
	expect(f, VA, PAGE_A);
	map(f, ROOT0, VA, PAGE_C | RWU);
	mmu_flush_page(f->mmu, VA);
	expect(f, VA, PAGE_C);
	expect(f, VA + 0x1000, PAGE_A);
	expect(f, far, PAGE_B);
	/* An alias in the bits that tags leave out is no address at all. */
	assert_false(mmu_refill(f->mmu, VA | BIT(60), MMU_READ, MMU_USER));
}

#define BIG 0x10000000000ULL

static void large_page(struct fixture *f, int level, uint64_t at, uint64_t size)
{
	uint64_t inside[] = {BIG, BIG + 0x5000, BIG + size - 0x1000};
	uint64_t walks;

	*pte_of(f, ROOT0, BIG, level) = at | RWU | PTE_PS;
	map(f, ROOT0, BIG + size, PAGE_A | RWU);
	for (unsigned i = 0; i < ARRAY_SIZE(inside) && inside[i] - BIG < RAM_SIZE - at; i++)
		prime(f, inside[i]);
	prime(f, BIG + size);
	*pte_of(f, ROOT0, BIG, level) = (at + size) | RWU | PTE_PS;
	walks = f->mmu->stats.walks;
	if (size == MIB(2)) { /* neighbours stay */
		mmu_flush_page(f->mmu, BIG + size + 0x1000);
		expect(f, BIG + size, PAGE_A);
		expect(f, BIG + 0x5000, at + 0x5000);
		assert_int_equal(f->mmu->stats.walks, walks);
	}
	mmu_flush_page(f->mmu, BIG + 0x123456);
	for (unsigned i = 0; i < ARRAY_SIZE(inside); i++)
		for (unsigned mode = 0; mode < MMU_MODES; mode++)
			assert_int_equal(reach(f, inside[i], MMU_READ, mode), at + size + (inside[i] - BIG));
}

static void test_large_pages(void **state)
{
	struct fixture *f = *state;

	large_page(f, 2, MIB(8), MIB(2));
	*pte_of(f, ROOT0, BIG, 3) = 0;
	mmu_flush(f->mmu);
	large_page(f, 3, 0, GIB(1));
}

/* INVPCID of an address inside a 2 MiB page of another PCID. */
static void test_large_page_of_other_pcid(void **state)
{
	struct fixture *f = *state;

	mmu_set_cr3(f->mmu, ROOT1 | 7, true);
	*pte_of(f, ROOT1, BIG, 2) = MIB(8) | RWU | PTE_PS;
	prime(f, BIG + 0x5000);
	*pte_of(f, ROOT1, BIG, 2) = MIB(10) | RWU | PTE_PS;
	mmu_set_cr3(f->mmu, ROOT0 | 1, true);
	mmu_flush_page_pcid(f->mmu, 7, BIG + 0x100000);
	mmu_set_cr3(f->mmu, ROOT1 | 7, true);
	expect(f, BIG + 0x5000, MIB(10) + 0x5000);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nothing_stale), T(test_globals), T(test_fault_drops), T(test_pcids), T(test_aliases),
		T(test_large_pages), T(test_large_page_of_other_pcid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
