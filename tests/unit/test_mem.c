/* Guest memory and the soft MMU: regions, checked access, walks with A and D bits, the TLB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem/mmu.h"
#include "x86/x86.h"

struct fixture {
	struct guest_mem *mem;
	struct mmu *mmu;
};

#define PML4 0x1000
#define PDPT 0x2000
#define PD 0x3000
#define PT 0x4000
#define VA 0x8000000000ULL /* PML4 slot 1 */

static void put(struct fixture *f, uint64_t gpa, uint64_t val)
{
	assert_int_equal(guest_write(f->mem, GPA(gpa), &val, 8), 0);
}

static uint64_t get(struct fixture *f, uint64_t gpa)
{
	uint64_t val;

	assert_int_equal(guest_read(f->mem, GPA(gpa), &val, 8), 0);
	return val;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(guest_mem_new(&f->mem, NULL), 0);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(0), MIB(2), NULL), 0);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(GIB(4)), MIB(1), NULL), 0);
	f->mmu = calloc(1, sizeof(*f->mmu));
	assert_non_null(f->mmu);
	assert_int_equal(mmu_init(f->mmu, f->mem, NULL), 0);
	f->mmu->regs = (struct mmu_regs){.cr0 = CR0_PE | CR0_PG | CR0_WP, .cr3 = PML4, .cr4 = CR4_PAE,
					 .efer = EFER_LME | EFER_LMA | EFER_NXE, .phys_bits = 40};
	mmu_flush(f->mmu);
	put(f, PML4 + 8, PDPT | PTE_P | PTE_W | PTE_U);
	put(f, PDPT, PD | PTE_P | PTE_W | PTE_U);
	put(f, PD, PT | PTE_P | PTE_W | PTE_U);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mmu_fini(f->mmu);
	guest_mem_free(f->mem);
	free(f->mmu);
	free(f);
	return 0;
}

static void test_regions(void **state)
{
	struct fixture *f = *state;
	struct err err;
	gpa_t base;
	uint64_t size;

	assert_int_equal(guest_mem_size(f->mem), MIB(3));
	assert_true(guest_mem_region(f->mem, 1, &base, &size));
	assert_int_equal(base.v, GIB(4));
	assert_int_equal(size, MIB(1));
	assert_false(guest_mem_region(f->mem, 2, &base, &size));
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(MIB(1)), MIB(2), &err), -EEXIST);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(MIB(8) + 1), MIB(2), &err), -EINVAL);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(MIB(8)), 0, &err), -EINVAL);
	assert_int_equal(guest_mem_add_ram(f->mem, GPA(~0xfffULL), MIB(2), &err), -EINVAL);
}

static void test_checked_access(void **state)
{
	struct fixture *f = *state;
	char buf[16] = "0123456789abcde";

	assert_int_equal(guest_write(f->mem, GPA(MIB(2) - 16), buf, 16), 0);
	assert_int_equal(guest_write(f->mem, GPA(MIB(2) - 15), buf, 16), -EFAULT);
	assert_int_equal(guest_read(f->mem, GPA(MIB(2)), buf, 1), -EFAULT);
	assert_int_equal(guest_read(f->mem, GPA(~0ULL), buf, 16), -EFAULT);
	assert_null(guest_ptr(f->mem, GPA(0), ~0ULL));
	assert_null(guest_ptr(f->mem, GPA(GIB(4) - 8), 16));
	assert_non_null(guest_ptr(f->mem, GPA(GIB(4)), MIB(1)));
}

static void test_walk_sets_bits(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	put(f, PT, 0x10000 | PTE_P | PTE_W | PTE_U);
	assert_true(mmu_probe(f->mmu, VA + 0x123, MMU_READ, MMU_USER, &r));
	assert_int_equal(get(f, PT) & (PTE_A | PTE_D), 0);
	assert_true(mmu_translate(f->mmu, VA + 0x123, MMU_READ, MMU_USER, &r));
	assert_int_equal(r.gpa.v, 0x10123);
	assert_false(r.writable_now);
	assert_int_equal(get(f, PT) & (PTE_A | PTE_D), PTE_A);
	assert_int_equal(get(f, PML4 + 8) & PTE_A, PTE_A);
	assert_int_equal(f->mmu->read[MMU_USER][tlb_index(VA)].tag, VA);
	assert_int_equal(f->mmu->write[MMU_USER][tlb_index(VA)].tag, TLB_EMPTY);
	assert_true(mmu_translate(f->mmu, VA, MMU_WRITE, MMU_USER, &r));
	assert_int_equal(get(f, PT) & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_int_equal(f->mmu->write[MMU_USER][tlb_index(VA)].tag, VA);
	/* A fault leaves the bits alone. */
	put(f, PT + 8, 0x11000 | PTE_P);
	assert_false(mmu_translate(f->mmu, VA + 0x1000, MMU_READ, MMU_USER, &r));
	assert_int_equal(r.error, PF_P | PF_U);
	assert_int_equal(get(f, PT + 8) & PTE_A, 0);
}

static void test_flush_and_code(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	put(f, PT, 0x10000 | PTE_P | PTE_W | PTE_U);
	assert_true(mmu_translate(f->mmu, VA, MMU_WRITE, MMU_KERNEL, &r));
	code_user_mark(&f->mmu->code, GPA(0x10000), 1);
	assert_int_equal(f->mmu->write[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA)].tag, VA);
	assert_true(mmu_translate(f->mmu, VA, MMU_WRITE, MMU_KERNEL, &r));
	assert_int_equal(f->mmu->write[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
	mmu_flush_page(f->mmu, VA + 5);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
	f->mmu->watched[2] = VA; /* a data breakpoint: never cached */
	assert_true(mmu_translate(f->mmu, VA, MMU_READ, MMU_KERNEL, &r));
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
}

/* A 2 MiB page is cached in 4 KiB fragments; INVLPG of any address in it drops them all, for every kind of access. */
static void test_flush_large_page(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	put(f, PD, PTE_P | PTE_W | PTE_U | PTE_PS);
	assert_true(mmu_translate(f->mmu, VA + 0x5000, MMU_READ, MMU_KERNEL, &r));
	assert_true(mmu_translate(f->mmu, VA + 0x46000, MMU_WRITE, MMU_USER, &r));
	assert_true(mmu_translate(f->mmu, VA + 0x1ff000, MMU_FETCH, MMU_KERNEL, &r));
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA + 0x5000)].tag, VA + 0x5000);
	assert_int_equal(f->mmu->write[MMU_USER][tlb_index(VA + 0x46000)].tag, VA + 0x46000);
	assert_int_equal(f->mmu->fetch[MMU_KERNEL][tlb_index(VA + 0x1ff000)].tag, VA + 0x1ff000);
	mmu_flush_page(f->mmu, VA + 0x10000);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA + 0x5000)].tag, TLB_EMPTY);
	assert_int_equal(f->mmu->write[MMU_USER][tlb_index(VA + 0x46000)].tag, TLB_EMPTY);
	assert_int_equal(f->mmu->fetch[MMU_KERNEL][tlb_index(VA + 0x1ff000)].tag, TLB_EMPTY);
	/* With small pages only, the others stay. */
	put(f, PD, PT | PTE_P | PTE_W | PTE_U);
	put(f, PT, 0x10000 | PTE_P | PTE_W | PTE_U);
	put(f, PT + 8, 0x11000 | PTE_P | PTE_W | PTE_U);
	assert_true(mmu_translate(f->mmu, VA, MMU_READ, MMU_KERNEL, &r));
	assert_true(mmu_translate(f->mmu, VA + 0x1000, MMU_READ, MMU_KERNEL, &r));
	mmu_flush_page(f->mmu, VA);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA + 0x1000)].tag, VA + 0x1000);
}

static void test_tables_nowhere(void **state)
{
	struct fixture *f = *state;
	struct mmu_result r;

	put(f, PD, 0x7000000000 | PTE_P | PTE_W | PTE_U); /* no RAM there: reads as all ones */
	assert_false(mmu_translate(f->mmu, VA, MMU_READ, MMU_KERNEL, &r));
	assert_int_equal(r.error, PF_P | PF_RSVD);
	put(f, PD, PT | PTE_P | PTE_W | PTE_U);
	put(f, PT, 0xfee00000 | PTE_P | PTE_W);
	assert_true(mmu_translate(f->mmu, VA, MMU_READ, MMU_KERNEL, &r));
	assert_true(r.device);
	assert_int_equal(f->mmu->read[MMU_KERNEL][tlb_index(VA)].tag, TLB_EMPTY);
	f->mmu->regs.cr3 = 0x7000000000; /* not even a first table */
	assert_false(mmu_translate(f->mmu, VA, MMU_FETCH, MMU_USER, &r));
	assert_int_equal(r.error, PF_P | PF_RSVD | PF_U | PF_I);
}

static void test_clear(void **state)
{
	struct fixture *f = *state;

	put(f, 0x5000, ~0ULL);
	put(f, GIB(4), ~0ULL);
	guest_mem_clear(f->mem);
	assert_int_equal(get(f, 0x5000), 0);
	assert_int_equal(get(f, GIB(4)), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_regions), T(test_checked_access), T(test_walk_sets_bits),
		T(test_flush_and_code), T(test_flush_large_page), T(test_tables_nowhere), T(test_clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
