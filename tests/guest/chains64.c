/*
 * Direct jumps of user code to another page, at addresses where a translator may chain them: what lies at the target changes
 * in every way, and the next jump must find it. SDM vol. 3, 4.10.
 */
#include "rt/rt.h"

#define VA 0x40000000ul
#define FILLER 0x40000u

static uint64_t pml4b[512] __attribute__((aligned(4096)));
static uint64_t pdptb[512] __attribute__((aligned(4096)));
static uint64_t pdb[512] __attribute__((aligned(4096)));
static uint64_t *const pta = (uint64_t *)table_a, *const ptb = (uint64_t *)table_b;
static uint8_t from[4096] __attribute__((aligned(4096)));
static uint8_t filler[FILLER + 16] __attribute__((aligned(4096)));
static uint64_t cr3a, cr3b;

static void load_cr3(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}

static void put_jump(uint8_t *page, unsigned at, const char *op, word to)
{
	unsigned n = op[0] == 0x0f ? 2 : 1;
	int32_t rel = (int32_t)(to - (VA + at + n + 4));

	copy(page + at, op, n);
	copy(page + at + n, &rel, 4);
}

/* At 0x20 a function, at 0x40 and 0 what ends the run: each adds its own number. */
static void put_target(uint8_t *page, unsigned n)
{
	static const uint8_t add[] = {0x05, 0, 0, 0, 0};

	zero(page, 4096);
	for (unsigned i = 0; i < 3; i++) {
		unsigned at = i * 0x20;

		copy(page + at, add, 5);
		page[at + 1 + (i == 0 ? 1 : 0)] = (uint8_t)(i == 2 ? n << 4 : n);
		if (i == 1)
			page[at + 5] = 0xc3;
		else
			put_jump(page, at + 5, "\xe9", VA + 0x80 - 0x1000);
	}
}

static void put_source(void)
{
	static const uint8_t xor_eax[] = {0x31, 0xc0}, test_ecx[] = {0x85, 0xc9}, end[] = {0xcd, 0xfe};

	for (unsigned i = 0; i < sizeof(from); i++)
		from[i] = 0x90;
	copy(from, xor_eax, 2);
	put_jump(from, 2, "\xe8", VA + 0x1020);
	copy(from + 7, test_ecx, 2);
	put_jump(from, 9, "\x0f\x85", VA + 0x1040);
	put_jump(from, 15, "\xe9", VA + 0xff0);
	copy(from + 0x80, end, 2);
}

static void make_spaces(void)
{
	pdpt0[1] |= U;
	pml4[0] |= U;
	copy(pml4b, pml4, 4096);
	copy(pdptb, pdpt0, 4096);
	copy(pdb, &pds[512], 4096);
	zero(pta, 4096);
	zero(ptb, 4096);
	pta[0] = ptb[0] = (word)from | P | U;
	pta[1] = (word)page_a | P | U;
	ptb[1] = (word)page_b | P | U;
	pds[512] = (word)pta | P | W | U;
	pdb[0] = (word)ptb | P | W | U;
	pdptb[1] = (word)pdb | P | W | U;
	pml4b[0] = (word)pdptb | P | W | U;
	cr3a = (word)pml4;
	cr3b = (word)pml4b;
	load_cr3(cr3a);
}

static void start(bool side)
{
	struct ctx c;

	ctx_init(&c, U64, from);
	c.ip = VA;
	c.cx = side;
	run(&c);
}

static void expect(const char *what, unsigned n)
{
	for (unsigned side = 0; side < 2; side++) {
		start(side);
		casef("%s, %s", what, side ? "side exit" : "into the next page");
		check_eq("vector", trap.vec, DONE);
		check_eq("eax", trap.r.ax, side ? n + (n << 4) : n + (n << 8));
	}
}

static void expect_fault(const char *what, unsigned vec, word ip, uint64_t err)
{
	start(false);
	casef("%s", what);
	check_eq("vector", trap.vec, vec);
	check_eq("rip", trap.r.ip, ip);
	check_eq("error code", trap.err, err);
}

static void set_a(uint64_t pte)
{
	pta[1] = pte;
	__asm__ volatile("invlpg (%0)" : : "r"(VA + 0x1000) : "memory");
}

static void mappings(void)
{
	for (unsigned i = 0; i < 4; i++)
		expect("first", 1);
	set_a((word)page_b | P | U);
	expect("another page", 2);
	set_a((word)page_a | P | U);
	expect("back again", 1);
	set_a((word)page_a | P);
	expect_fault("a supervisor's page", PF, VA + 0x1020, E_P | E_U | E_I);
	set_a(0);
	expect_fault("no page", PF, VA + 0x1020, E_U | E_I);
	set_a((word)page_a | P | U);
	expect("there again", 1);
	put_target(page_a, 3);
	expect("written", 3);
	*(volatile uint8_t *)&page_a[0x21] = 5;
	*(volatile uint8_t *)&page_a[0x41] = 0x50;
	*(volatile uint8_t *)&page_a[0x02] = 5;
	expect("a byte written", 5);
	put_target(page_a, 1);
}

/* Many more changes than a translator has numbers for. */
static void spaces(const char *what, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		load_cr3(i & 1 ? cr3b : cr3a);
		start(i & 2);
		if (trap.vec == DONE && trap.r.ax == (i & 2 ? 0x11 : 0x101) * (1u + (i & 1)))
			continue;
		casef("%s, round %u", what, i);
		check_eq("vector", trap.vec, DONE);
		check_eq("eax", trap.r.ax, (i & 2 ? 0x11 : 0x101) * (1u + (i & 1)));
	}
	load_cr3(cr3a);
	expect(what, 1);
}

static void set_cr0(word set, word clear)
{
	word v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v));
	__asm__ volatile("mov %0, %%cr0" : : "r"((v | set) & ~clear) : "memory");
}

static void set_cr4(word set, word clear)
{
	word v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	__asm__ volatile("mov %0, %%cr4" : : "r"((v | set) & ~clear) : "memory");
}

/* What the target may do changes with control registers. */
static void modes(void)
{
	static const uint8_t fninit[] = {0xdb, 0xe3, 0xc3}, rdtsc[] = {0x0f, 0x31, 0x31, 0xc0, 0xc3};

	copy(page_a + 0x20, fninit, sizeof(fninit));
	for (unsigned i = 0; i < 3; i++) {
		set_cr0(0, CR0_TS | CR0_EM);
		start(false);
		casef("x87, TS clear");
		check_eq("vector", trap.vec, DONE);
		set_cr0(CR0_TS, 0);
		expect_fault("x87, TS set", NM, VA + 0x1020, 0);
	}
	set_cr0(0, CR0_TS);
	copy(page_a + 0x20, rdtsc, sizeof(rdtsc));
	for (unsigned i = 0; i < 3; i++) {
		set_cr4(0, CR4_TSD);
		start(false);
		casef("rdtsc, TSD clear");
		check_eq("vector", trap.vec, DONE);
		set_cr4(CR4_TSD, 0);
		expect_fault("rdtsc, TSD set", GP, VA + 0x1020, 0);
	}
	set_cr4(0, CR4_TSD);
	put_target(page_a, 1);
	expect("modes as before", 1);
}

/* So many blocks that a small cache has none of the others afterwards. */
static void evict(void)
{
	static const uint8_t block[] = {0xff, 0xc3, 0xeb, 0x00}, end[] = {0xcd, 0xfe};
	struct ctx c;

	for (unsigned i = 0; i < FILLER; i += 4)
		copy(filler + i, block, 4);
	copy(filler + FILLER, end, 2);
	ctx_init(&c, K64, filler);
	for (unsigned i = 0; i < 3; i++) {
		run(&c);
		casef("filler");
		check_eq("vector", trap.vec, DONE);
		expect("after that", 1);
		load_cr3(cr3b);
		expect("there too", 2);
		load_cr3(cr3a);
	}
}

void guest_main(void)
{
	put_source();
	put_target(page_a, 1);
	put_target(page_b, 2);
	make_spaces();
	mappings();
	modes();
	evict();
	spaces("address spaces", 40000);
	if (HAS_PCID) {
		set_cr4(CR4_PCIDE, 0);
		cr3a |= 1 | 1ul << 63;
		cr3b |= 2 | 1ul << 63;
		spaces("PCIDs", 2000);
		mappings();
		spaces("PCIDs again", 2000);
		cr3a &= ~(1ul << 63);
		spaces("PCIDs, flushed", 40000);
		load_cr3((word)pml4);
		set_cr4(0, CR4_PCIDE);
	}
	modes();
	mappings();
}
