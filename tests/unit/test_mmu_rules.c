/*
 * The soft MMU on a hit in level 2: the same access rights as a walk's, dirty bits, device memory, pages that hold
 * cached code or data breakpoints; and that a large working set does hit.
 */
#include "mmu_fixture.h"

#define ROOT MIB(2)
#define PAGE_A MIB(4)
#define VA 0x8000003000ULL

static int setup(void **state)
{
	*state = fixture_new(CR4_PGE, ROOT);
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

static const uint64_t ptes[] = {
	PTE_P, PTE_P | PTE_W, PTE_P | PTE_U, RWU, PTE_P | PTE_NX, PTE_P | PTE_W | PTE_NX, PTE_P | PTE_U | PTE_NX,
	RWU | PTE_NX, RWU | PTE_G, PTE_P | PTE_W | PTE_G, RWU | PTE_D, PTE_P | PTE_W | PTE_D,
};

/*
 * Whatever was cached before, by whatever access in whatever mode and under whatever controls, each access is
 * allowed exactly when a walk from scratch allows it.
 */
static void check_all_accesses(struct fixture *f, const char *what)
{
	struct mmu_result r;

	for (unsigned i = 0; i < MMU_MODES * MMU_ACCESSES; i++) {
		unsigned access = i % MMU_ACCESSES, mode = i / MMU_ACCESSES;
		bool allowed = mmu_probe(f->mmu, VA, access, mode, &r);
		uint64_t page = reach(f, VA, access, mode);

		if (allowed != (page == PAGE_A))
			print_message("%s: access %u in mode %u\n", what, access, mode);
		assert_int_equal(page, allowed ? PAGE_A : FAULT);
		if (access == MMU_WRITE && allowed)
			assert_true(*pte_of(f, ROOT, VA, 1) & PTE_D);
	}
}

static void test_rights(void **state)
{
	static const uint64_t cr4[] = {0, CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP};
	struct fixture *f = *state;
	uint64_t efer = f->mmu->regs.efer;

	for (unsigned i = 0; i < ARRAY_SIZE(ptes); i++)
		for (unsigned first = 0; first < MMU_MODES * MMU_ACCESSES; first++) {
			map(f, ROOT, VA, PAGE_A | ptes[i]);
			mmu_flush(f->mmu);
			reach(f, VA, first % MMU_ACCESSES, first / MMU_ACCESSES);
			check_all_accesses(f, "first controls");
			for (unsigned c = 0; c < 2 * ARRAY_SIZE(cr4); c++) {
				mmu_set_controls(f->mmu, CR0_PE | CR0_PG | (c & 1 ? CR0_WP : 0),
						 CR4_PAE | CR4_PGE | cr4[c / 2], efer);
				check_all_accesses(f, "changed controls");
			}
		}
}

/* A read caches a clean page; the write after it must set D, though level 2 has the page. */
static void test_dirty(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	map(f, ROOT, VA, PAGE_A | RWU);
	assert_true(mmu_translate(f->mmu, VA, MMU_READ, MMU_USER, &r));
	assert_false(r.writable_now);
	assert_false(mmu_refill(f->mmu, VA, MMU_WRITE, MMU_USER));
	assert_int_equal(l1_lookup(f, VA, MMU_WRITE, MMU_USER), FAULT);
	assert_true(mmu_refill(f->mmu, VA, MMU_READ, MMU_KERNEL));
	assert_true(mmu_translate(f->mmu, VA, MMU_WRITE, MMU_USER, &r));
	assert_true(r.writable_now);
	assert_true(*pte_of(f, ROOT, VA, 1) & PTE_D);
	assert_true(mmu_refill(f->mmu, VA, MMU_WRITE, MMU_KERNEL));
	assert_int_equal(l1_lookup(f, VA, MMU_WRITE, MMU_KERNEL), PAGE_A);
}

static void test_device(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	map(f, ROOT, VA, 0xfee00000 | RWU);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned access = 0; access < MMU_ACCESSES; access++) {
			assert_true(mmu_translate(f->mmu, VA + 8, access, MMU_KERNEL, &r));
			assert_true(r.device);
			assert_int_equal(r.gpa.v, 0xfee00008);
			assert_false(mmu_refill(f->mmu, VA, access, MMU_KERNEL));
			assert_int_equal(l1_lookup(f, VA, access, MMU_KERNEL), FAULT);
		}
	assert_int_equal(f->mmu->stats.walks, 2); /* the first read, the first write */
}

static void test_code_marks(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	map(f, ROOT, VA, PAGE_A | RWU);
	map(f, ROOT, VA + 0x1000, (PAGE_A + 0x1000) | RWU | PTE_G);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned mode = 0; mode < MMU_MODES; mode++)
			assert_int_equal(reach(f, VA + i * 0x1000, MMU_WRITE, mode), PAGE_A + i * 0x1000);
	assert_true(mmu_fill_stack(f->mmu, VA, MMU_USER));
	assert_true(mmu_fill_stack(f->mmu, VA + 0x1000, MMU_KERNEL));
	code_user_mark(&f->mmu->code, GPA(PAGE_A + 64), 1);
	assert_int_equal(f->mmu->stack[MMU_USER].tag, TLB_EMPTY);
	assert_int_equal(f->mmu->stack[MMU_KERNEL].tag, VA + 0x1000);
	for (unsigned mode = 0; mode < MMU_MODES; mode++) {
		assert_int_equal(l1_lookup(f, VA, MMU_WRITE, mode), FAULT);
		assert_int_equal(l1_lookup(f, VA + 0x1000, MMU_WRITE, mode), PAGE_A + 0x1000);
		assert_false(mmu_refill(f->mmu, VA, MMU_WRITE, mode));
		assert_true(mmu_translate(f->mmu, VA, MMU_WRITE, mode, &r));
		assert_int_equal(l1_lookup(f, VA, MMU_WRITE, mode), FAULT);
		assert_false(mmu_fill_stack(f->mmu, VA, mode));
		assert_int_equal(reach(f, VA, MMU_READ, mode), PAGE_A);
	}
	code_user_mark(&f->mmu->code, GPA(PAGE_A + 0x1000), 1); /* a global page's entries, too */
	assert_int_equal(f->mmu->stack[MMU_KERNEL].tag, TLB_EMPTY);
	assert_int_equal(l1_lookup(f, VA + 0x1000, MMU_WRITE, MMU_USER), FAULT);
}

static void test_watched(void **state)
{
	struct fixture *f = *state;
	uint64_t watched[MMU_WATCHED] = {~0ULL, VA, ~0ULL, ~0ULL};
	struct mmu_result r;

	map(f, ROOT, VA, PAGE_A | RWU);
	assert_int_equal(reach(f, VA, MMU_WRITE, MMU_USER), PAGE_A);
	assert_true(mmu_fill_stack(f->mmu, VA, MMU_USER));
	mmu_set_watched(f->mmu, watched);
	assert_int_equal(f->mmu->stack[MMU_USER].tag, TLB_EMPTY);
	for (unsigned access = MMU_READ; access <= MMU_WRITE; access++) {
		assert_int_equal(l1_lookup(f, VA, access, MMU_USER), FAULT);
		assert_false(mmu_refill(f->mmu, VA, access, MMU_USER));
		assert_true(mmu_translate(f->mmu, VA, access, MMU_USER, &r));
		assert_int_equal(l1_lookup(f, VA, access, MMU_USER), FAULT);
	}
	assert_true(mmu_refill(f->mmu, VA, MMU_FETCH, MMU_USER) || reach(f, VA, MMU_FETCH, MMU_USER) == PAGE_A);
	watched[1] = ~0ULL;
	mmu_set_watched(f->mmu, watched);
	assert_true(mmu_refill(f->mmu, VA, MMU_WRITE, MMU_USER));
}

/* Pointer chasing over 64 MiB: after one walk a page, level 2 answers. */
static void test_capacity(void **state)
{
	struct fixture *f = *state;
	unsigned pages = MIB(64) / GUEST_PAGE_SIZE;
	uint64_t random = 1;

	for (unsigned i = 0; i < pages; i++) {
		map(f, ROOT, VA + i * GUEST_PAGE_SIZE, (MIB(64) + i * GUEST_PAGE_SIZE) | RWU);
		reach(f, VA + i * GUEST_PAGE_SIZE, MMU_WRITE, MMU_USER);
	}
	assert_int_equal(f->mmu->stats.walks, pages);
	for (unsigned i = 0; i < 4 * pages; i++) {
		uint64_t page;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		page = random >> 40 & (pages - 1);
		assert_int_equal(reach(f, VA + page * GUEST_PAGE_SIZE, MMU_READ, MMU_USER),
				 MIB(64) + page * GUEST_PAGE_SIZE);
	}
	assert_int_equal(f->mmu->stats.walks, pages);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rights), T(test_dirty), T(test_device), T(test_code_marks), T(test_watched), T(test_capacity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
