/* code_space: the numbers under which an engine may go on using fetch translations it was given. */
#include "mmu_fixture.h"

#define ROOT0 MIB(2)
#define ROOT1 (ROOT0 + 0x1000)
#define PAGE_A MIB(4)
#define CODE 0x400000ULL
#define DATA 0x600000ULL
#define KCODE 0xffffffff81000000ULL
#define KDATA 0xffff888000000000ULL

enum { USER, SUPERVISOR };

static int setup(void **state)
{
	struct fixture *f = fixture_new(CR4_PGE | CR4_PCIDE | CR4_SMEP, ROOT0);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t root = ROOT0 + i * 0x1000;

		for (unsigned n = 0; n < 8; n++) {
			map(f, root, CODE + n * 0x1000, (PAGE_A + n * 0x1000) | RWU);
			map(f, root, DATA + n * 0x1000, (PAGE_A + 0x10000 + n * 0x1000) | RWU);
			map(f, root, KCODE + n * 0x1000, (PAGE_A + 0x20000 + n * 0x1000) | PTE_P | PTE_W | PTE_G);
			map(f, root, KDATA + n * 0x1000, (PAGE_A + 0x30000 + n * 0x1000) | PTE_P | PTE_W | PTE_G);
		}
	}
	mmu_set_cr3(f->mmu, ROOT0 | 1, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

static void fetch_all(struct fixture *f)
{
	for (unsigned n = 0; n < 4; n++) {
		assert_int_not_equal(reach(f, CODE + n * 0x1000, MMU_FETCH, MMU_USER), FAULT);
		assert_int_not_equal(reach(f, KCODE + n * 0x1000, MMU_FETCH, MMU_KERNEL), FAULT);
		assert_int_not_equal(reach(f, DATA + n * 0x1000, MMU_WRITE, MMU_USER), FAULT);
		assert_int_not_equal(reach(f, KDATA + n * 0x1000, MMU_WRITE, MMU_KERNEL), FAULT);
	}
}

struct numbers {
	uint64_t n[2];
};

static struct numbers now(struct fixture *f)
{
	return (struct numbers){{f->mmu->code_space[0], f->mmu->code_space[1]}};
}

/* Whether the numbers changed since. */
static void changed(struct fixture *f, struct numbers since, bool user, bool supervisor)
{
	assert_int_equal(f->mmu->code_space[USER] != since.n[USER], user);
	assert_int_equal(f->mmu->code_space[SUPERVISOR] != since.n[SUPERVISOR], supervisor);
}

static void test_pages(void **state)
{
	struct fixture *f = *state;
	struct numbers before;

	fetch_all(f);
	before = now(f);
	mmu_flush_page(f->mmu, DATA);
	mmu_flush_page(f->mmu, KDATA);
	mmu_flush_page(f->mmu, CODE + 0x5000); /* code perhaps, but it never ran */
	mmu_flush_page_pcid(f->mmu, 1, DATA);
	mmu_flush_page_pcid(f->mmu, 2, CODE);
	changed(f, before, false, false);
	mmu_flush_page(f->mmu, CODE + 0x1234);
	changed(f, before, true, false);
	before = now(f);
	mmu_flush_page(f->mmu, KCODE);
	changed(f, before, false, true);
	before = now(f);
	mmu_flush_page_pcid(f->mmu, 1, CODE);
	changed(f, before, true, false);
	fetch_all(f);
	before = now(f);
	mmu_flush_pcid(f->mmu, 2);
	changed(f, before, false, false);
	mmu_flush_pcid(f->mmu, 1);
	changed(f, before, true, false);
	fetch_all(f);
	before = now(f);
	mmu_flush_nonglobal(f->mmu);
	changed(f, before, true, false);
	fetch_all(f);
	before = now(f);
	mmu_flush_all(f->mmu);
	changed(f, before, true, true);
	fetch_all(f);
	before = now(f);
	mmu_set_controls(f->mmu, f->mmu->regs.cr0, f->mmu->regs.cr4 & ~(uint64_t)CR4_SMEP, f->mmu->regs.efer);
	assert_int_not_equal(f->mmu->code_space[SUPERVISOR], before.n[SUPERVISOR]);
}

/* Entries of the fetch table outlive a number's change; INVLPG must still know them. */
static void test_fetched_before_the_number(void **state)
{
	struct fixture *f = *state;
	struct numbers before;

	fetch_all(f);
	mmu_flush_page(f->mmu, CODE);
	mmu_flush_page(f->mmu, KCODE);
	before = now(f);
	assert_int_equal(l1_lookup(f, CODE + 0x1000, MMU_FETCH, MMU_USER), PAGE_A + 0x1000);
	mmu_flush_page(f->mmu, CODE + 0x1000);
	changed(f, before, true, false);
	mmu_flush_page(f->mmu, KCODE + 0x1000);
	changed(f, before, true, true);
}

static void test_switches(void **state)
{
	struct fixture *f = *state;
	struct numbers first, second;

	fetch_all(f);
	first = now(f);
	mmu_set_cr3(f->mmu, ROOT1 | 2, true);
	changed(f, first, true, false);
	fetch_all(f);
	second = now(f);
	mmu_set_cr3(f->mmu, ROOT0 | 1, true);
	changed(f, first, false, false); /* restored */
	mmu_flush_page_pcid(f->mmu, 2, CODE + 0x2000);
	changed(f, first, false, false);
	mmu_set_cr3(f->mmu, ROOT1 | 2, true);
	changed(f, second, true, false); /* void meanwhile */
	assert_int_not_equal(f->mmu->code_space[USER], first.n[USER]);
	mmu_set_cr3(f->mmu, ROOT0 | 1, false);
	changed(f, first, true, false);
	assert_int_not_equal(f->mmu->code_space[USER], second.n[USER]);
}

static void test_supervisor_nonglobal(void **state)
{
	struct fixture *f = *state;
	struct numbers before;

	map(f, ROOT0, KCODE + 0x7000, (PAGE_A + 0x20000) | PTE_P);
	fetch_all(f);
	assert_int_not_equal(reach(f, KCODE + 0x7000, MMU_FETCH, MMU_KERNEL), FAULT);
	before = now(f);
	mmu_set_cr3(f->mmu, ROOT1 | 2, true);
	changed(f, before, true, true);
	before = now(f);
	mmu_set_cr3(f->mmu, ROOT0 | 1, true);
	changed(f, before, true, false); /* nothing of that kind ran since */
	assert_int_not_equal(reach(f, KCODE + 0x7000, MMU_FETCH, MMU_KERNEL), FAULT); /* from level 2 */
	before = now(f);
	mmu_set_cr3(f->mmu, ROOT0 | 1, false);
	changed(f, before, true, true);
}

/* A global page that user code runs in: its INVLPG under one PCID voids the numbers of all. */
static void test_user_global(void **state)
{
	struct fixture *f = *state;
	struct numbers first;

	map(f, ROOT0, CODE, PAGE_A | RWU | PTE_G);
	assert_int_not_equal(reach(f, CODE, MMU_FETCH, MMU_USER), FAULT);
	first = now(f);
	mmu_set_cr3(f->mmu, ROOT1 | 2, true);
	mmu_flush_page(f->mmu, CODE);
	mmu_set_cr3(f->mmu, ROOT0 | 1, true);
	assert_int_not_equal(f->mmu->code_space[USER], first.n[USER]);
}

static void test_large(void **state)
{
	struct fixture *f = *state;
	struct numbers before;

	*pte_of(f, ROOT0, KCODE, 2) = MIB(4) | PTE_P | PTE_W | PTE_G | PTE_PS;
	fetch_all(f);
	before = now(f);
	mmu_flush_page(f->mmu, KCODE + 0x1ff000); /* of the same page, though never fetched itself */
	changed(f, before, false, true);
}

/* When level 2 has no room left for a page of code, the number that rests on it goes. */
static void test_evicted(void **state)
{
	struct fixture *f = *state;
	struct numbers before = now(f);

	assert_int_not_equal(reach(f, CODE, MMU_FETCH, MMU_USER), FAULT);
	for (uint64_t n = 0; n < L2_SETS; n++) /* data never pushes code out */
		for (unsigned way = 0; way < L2_WAYS; way++)
			l2_insert(f->mmu, DATA + BIT(40) + (way << L2_SET_BITS | n) * GUEST_PAGE_SIZE,
				  PAGE_A | TR_USER | TR_WRITE | TR_DIRTY, NULL);
	changed(f, before, false, false);
	for (uint64_t n = 0; n < L2_SETS; n++)
		for (unsigned way = 0; way < L2_WAYS; way++)
			l2_fetched(f->mmu, l2_insert(f->mmu, CODE + BIT(41) + (way << L2_SET_BITS | n) * GUEST_PAGE_SIZE,
						     PAGE_A | TR_USER, NULL), MMU_USER);
	changed(f, before, true, false);
	if (!l2_find(f->mmu, CODE))
		assert_int_equal(l1_lookup(f, CODE, MMU_FETCH, MMU_USER), FAULT);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pages), T(test_fetched_before_the_number), T(test_switches), T(test_supervisor_nonglobal),
		T(test_user_global), T(test_large), T(test_evicted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
