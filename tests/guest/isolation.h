/*
 * isolation.h - shared by the isolation guests: page mapping, filled pages, and a model that says what an access to any
 * linear address must do.
 *
 * `space` lists what is mapped; expect_access() reads it, not the page tables, so that it is a second opinion. Include
 * it once, from the guest's only file.
 */
#ifndef GUEST_ISOLATION_H
#define GUEST_ISOLATION_H

#include "rt/rt.h"

#define PAGE_4K 4096ul
#define LOW_END (1ul << 47)   /* the first address that is not canonical */
#define HIGH_START (~0ul << 47)
#define WIN (1ul << 39)

static uint64_t table_pool[48][512] __attribute__((aligned(4096)));
static unsigned tables_used;

/* The entry of va at level 1 (4 KiB) under root; tables on the way are made, open to all. */
static inline volatile uint64_t *pte_in(uint64_t *root, word va)
{
	volatile uint64_t *t = root;
	unsigned shift;

	for (shift = 39; shift > 12; shift -= 9) {
		volatile uint64_t *e = &t[va >> shift & 511];

		if (!(*e & P)) {
			zero(table_pool[tables_used], 4096);
			*e = (word)table_pool[tables_used++] | P | W | U;
		}
		t = (uint64_t *)(*e & 0xffffffffff000ul);
	}
	return &t[va >> 12 & 511];
}

static inline volatile uint64_t *pte_of(word va)
{
	return pte_in(pml4, va);
}

static inline void map(word va, const void *page, uint64_t bits)
{
	*pte_of(va) = (word)page | bits;
	invlpg(va);
}

/* Pages with a pattern that tells page and place. */
enum { FILLED = 4 };
static uint64_t filled[FILLED][512] __attribute__((aligned(4096)));

static inline uint64_t pattern(unsigned page, unsigned i)
{
	return (0x0101010101010101ul * (page * 16 + 1) + i * 0x9e3779b97f4a7c15ul) & 0x7f7f7f7f7f7f7f7ful;
}

static inline void fill(void)
{
	unsigned p, i;

	for (p = 0; p < FILLED; p++)
		for (i = 0; i < 512; i++)
			((volatile uint64_t *)filled[p])[i] = pattern(p, i);
}

/* How many words of the filled pages are not as fill() left them. */
static inline unsigned disturbed(void)
{
	unsigned p, i, n = 0;

	for (p = 0; p < FILLED; p++)
		for (i = 0; i < 512; i++)
			n += ((volatile uint64_t *)filled[p])[i] != pattern(p, i);
	return n;
}

/* What is mapped where; bits as in a page-table entry. */
struct mapping {
	word va;
	const void *page;
	uint64_t bits;
};
extern const struct mapping space[];
extern const unsigned space_size;

static inline void map_space(void)
{
	unsigned i;

	for (i = 0; i < space_size; i++)
		map(space[i].va, space[i].page, space[i].bits);
	flush();
}

#define RAM_END 0x4000000ul /* 64 MiB */

/* The bits and the memory of the page at va; false: nothing there. */
static inline bool find_page(word va, uint64_t *bits, const uint8_t **mem)
{
	unsigned i;

	for (i = 0; i < space_size; i++)
		if (va - space[i].va < PAGE_4K) {
			*bits = space[i].bits;
			*mem = (const uint8_t *)space[i].page + (va - space[i].va);
			return true;
		}
	if (va < 1ul << 32) {
		bool ubase = va - UBASE < 0x400000;

		*bits = ubase ? P | W | U : P | W;
		*mem = (const uint8_t *)(ubase ? va - UBASE : va);
		return true;
	}
	return false;
}

static inline bool is_canonical(word va)
{
	return va < LOW_END || va >= HIGH_START;
}

/* What an access must lead to. */
struct outcome {
	int vec; /* DONE: it is allowed */
	word err, cr2;
};

enum access { READ = 0, WRITE = 1, STACK = 2, FETCH = 4 };

static inline struct outcome fault_of(word va, unsigned access, bool user, uint64_t bits, bool present)
{
	word err = (access & WRITE ? E_W : 0) | (user ? E_U : 0) | (access & FETCH ? E_I : 0);
	bool denied = (access & WRITE && !(bits & W)) || (user && !(bits & U)) ||
		      (access & FETCH && bits & NX);

	if (present && !denied)
		return (struct outcome){ DONE, 0, 0 };
	return (struct outcome){ PF, err | (present ? E_P : 0), va };
}

static inline struct outcome expect_access(word va, unsigned size, unsigned access, bool user)
{
	const uint8_t *mem;
	uint64_t bits = 0;
	struct outcome o;
	word second = (va + size - 1) & ~(PAGE_4K - 1);
	bool there;

	if (!is_canonical(va) || !is_canonical(va + size - 1))
		return (struct outcome){ access & STACK ? SS : GP, 0, 0 };
	there = find_page(va, &bits, &mem);
	o = fault_of(va, access, user, bits, there);
	if (o.vec != DONE || second == (va & ~(PAGE_4K - 1)))
		return o;
	bits = 0;
	there = find_page(second, &bits, &mem);
	return fault_of(second, access, user, bits, there);
}

static inline word expect_value(word va, unsigned size)
{
	word v = 0;
	unsigned i;

	for (i = 0; i < size; i++) {
		const uint8_t *mem;
		uint64_t bits;

		if (find_page(va + i, &bits, &mem))
			v |= (word) * (const volatile uint8_t *)mem << 8 * i;
	}
	return v;
}

/* The trap of the run of c was o; for faults at c's IP. */
static inline bool check_outcome(const struct ctx *c, const struct outcome *o)
{
	if (!check_trap(c, o->vec, o->err))
		return false;
	return o->vec != PF || check_eq("CR2", trap.cr2, o->cr2);
}

/* Faults at level 0 get a stack of their own: the interrupted one may be anywhere. */
static inline void safe_stacks(void)
{
	static const uint8_t vecs[] = { GP, SS, PF, UD, AC, DONE };
	unsigned i;

	for (i = 0; i < sizeof(vecs); i++)
		idt_set(vecs[i], (word)stubs + vecs[i] * 16, SEL_CODE, D_INT | (vecs[i] == DONE ? D_DPL3 : 0), 2);
}

/* SSE and what is above it, as far as the CPU has it; returns XCR0. */
static inline word enable_vectors(void)
{
	uint32_t r[4], lo;

	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	if (!HAS_XSAVE)
		return 3;
	write_cr4(read_cr4() | CR4_OSXSAVE);
	cpuid(13, 0, r);
	lo = r[0] & 0xe7;
	__asm__ volatile("xsetbv" : : "c"(0), "a"(lo), "d"(0));
	return lo;
}
#define HAS_AVX2 has_cpuid(7, 0, 1, 5)
#define HAS_AVX512F has_cpuid(7, 0, 1, 16)

#endif
