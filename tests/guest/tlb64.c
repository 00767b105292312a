/*
 * tlb64.c - what the architecture promises about cached translations: flushes by CR3, INVLPG, INVPCID and CR4,
 * global pages, process-context identifiers. Nothing here expects a stale translation to survive.
 * SDM vol. 3, 4.10; APM vol. 2, 5.5.
 */
#include "rt/rt.h"

#define VA (1ul << 39)

static volatile uint64_t *const pt = (uint64_t *)table_c;
static volatile uint8_t *const at_va = (uint8_t *)VA;
static uint64_t roots[2][512] __attribute__((aligned(4096))), tabs[2][3][512] __attribute__((aligned(4096)));

static void map(uint64_t pte)
{
	pml4[1] = (word)table_a | P | W | U;
	*(volatile uint64_t *)table_a = (word)table_b | P | W | U;
	*(volatile uint64_t *)table_b = (word)table_c | P | W | U;
	pt[0] = pte;
}

/* Fills the TLB for reads and writes with page_a, then points the entry at page_b. */
static void prime(uint64_t extra)
{
	pt[0] = (word)page_a | P | W | extra;
	flush();
	invlpg(VA);
	at_va[0] = at_va[0];
	pt[0] = (word)page_b | P | W | extra;
}

static void sees_b(const char *how)
{
	casef("%s drops the translation", how);
	check_eq("read", at_va[0], 'b');
	at_va[1] = 'w';
	check_eq("write", page_b[1], 'w');
	check_eq("not through the old one", page_a[1], 0);
	page_b[1] = 0;
}

static void flushes(void)
{
	word cr4 = read_cr4();

	prime(0);
	flush();
	sees_b("mov cr3");
	prime(0);
	invlpg(VA);
	sees_b("invlpg");
	prime(0);
	invlpg(VA + 4095);
	sees_b("invlpg of another byte of the page");
	prime(0);
	write_cr4(cr4 ^ CR4_PGE);
	sees_b("changing CR4.PGE");
	write_cr4(cr4 | CR4_PGE);
	prime(G);
	invlpg(VA);
	sees_b("invlpg of a global page");
	prime(G);
	write_cr4(cr4 & ~(word)CR4_PGE);
	sees_b("clearing CR4.PGE, global page");
	write_cr4(cr4);
	prime(0);
	write_cr0(read_cr0() & ~(word)CR0_WP);
	flush();
	sees_b("mov cr3 after CR0.WP");
	write_cr0(read_cr0() | CR0_WP);
	if (HAS_SMEP) {
		prime(0);
		write_cr4(cr4 | CR4_SMEP); /* 0 to 1 flushes */
		sees_b("setting CR4.SMEP");
		write_cr4(cr4);
	}
	prime(0);
	row("INVLPG by the CPU itself", CODE("invlpg [rdi]; mov al, [rdi]; movzx eax, al"), .di = VA, .vec = DONE,
	    .check_ax = true, .want_ax = 'b');
}

/* Entries that were not present, or that gain rights, need no flush. */
static void no_flush_needed(void)
{
	pt[0] = 0;
	flush();
	row("not present", CODE("mov al, [rdi]"), .di = VA, .vec = PF, .cr2 = VA);
	pt[0] = (word)page_a | P | W;
	row("made present, no flush", CODE("mov al, [rdi]; movzx eax, al"), .di = VA, .vec = DONE, .check_ax = true,
	    .want_ax = 'a');
	pt[0] = (word)page_a | P;
	flush();
	row("read fills the TLB", CODE("mov al, [rdi]"), .di = VA, .vec = DONE);
	row("read-only", CODE("mov byte ptr [rdi + 8], 1"), .di = VA, .vec = PF, .err = E_P | E_W, .cr2 = VA + 8);
	pt[0] = (word)page_a | P | W;
	/* The fault dropped what was cached (SDM 4.10.4.1). */
	row("made writable after the fault", CODE("mov byte ptr [rdi + 8], 1"), .di = VA, .vec = DONE);
	pt[0] = (word)page_a | P | W;
	flush();
	row("user page 1", CODE("mov al, [rdi]"), .env = U64, .di = VA, .vec = PF, .err = E_P | E_U, .cr2 = VA);
	pt[0] = (word)page_a | P | W | U;
	row("made a user's after the fault", CODE("mov al, [rdi]"), .env = U64, .di = VA, .vec = DONE);
	/* Upper levels. */
	((volatile uint64_t *)table_b)[0] = 0;
	flush();
	row("PDE not present", CODE("mov al, [rdi]"), .di = VA, .vec = PF, .cr2 = VA);
	((volatile uint64_t *)table_b)[0] = (word)table_c | P | W | U;
	row("PDE made present", CODE("mov al, [rdi]"), .di = VA, .vec = DONE);
}

/* A and D are set again after software clears them and flushes. */
static void accessed_dirty(void)
{
	pt[0] = (word)page_a | P | W;
	flush();
	(void)at_va[0];
	casef("A by a read");
	check_eq("A, D", pt[0] & (A | D), A);
	at_va[8] = 1;
	casef("D by a write after a read filled the TLB");
	check_eq("A, D", pt[0] & (A | D), A | D);
	pt[0] = (word)page_a | P | W;
	invlpg(VA);
	at_va[8] = 1;
	casef("A and D by a write after INVLPG");
	check_eq("A, D", pt[0] & (A | D), A | D);
	pt[0] &= ~D;
	flush();
	(void)at_va[0];
	casef("a read sets no D");
	check_eq("A, D", pt[0] & (A | D), A);
	row("a compare-exchange that fails sets D", CODE("lock cmpxchg [rdi + 64], ecx"), .ax = 5, .di = VA, .vec = DONE);
	check_eq("A, D", pt[0] & (A | D), A | D);
	pt[0] = (word)page_a | P | W;
	flush();
	row("lea, prefetch, invlpg set no D", CODE("lea rax, [rdi]; prefetchw [rdi]; invlpg [rdi]"), .di = VA, .vec = DONE);
	check_eq("D", pt[0] & D, 0);
	page_a[8] = 0;
}

/* Two address spaces that differ in what is at VA: roots[n] maps page_a or page_b. */
static void make_space(unsigned n, const void *page, uint64_t extra)
{
	copy(roots[n], pml4, 4096);
	((volatile uint64_t *)roots[n])[1] = (word)tabs[n][0] | P | W | U;
	((volatile uint64_t *)tabs[n][0])[0] = (word)tabs[n][1] | P | W | U;
	((volatile uint64_t *)tabs[n][1])[0] = (word)tabs[n][2] | P | W | U;
	((volatile uint64_t *)tabs[n][2])[0] = (word)page | P | W | extra;
}

static void spaces(word low0, word low1, const char *what)
{
	unsigned i;

	for (i = 0; i < 8; i++) {
		casef("%s, switch %d", what, i);
		write_cr3((word)roots[i & 1] | (i & 1 ? low1 : low0));
		check_eq("seen", at_va[0], i & 1 ? 'b' : 'a');
		check_eq("CR3", read_cr3(), ((word)roots[i & 1] | (i & 1 ? low1 : low0)) & ~(1ul << 63));
	}
}

struct desc128 {
	uint64_t pcid, address;
};

static void invpcid(unsigned type, uint64_t pcid, uint64_t address)
{
	struct desc128 d = { pcid, address };

	__asm__ volatile("invpcid %1, %0" : : "r"((word)type), "m"(d) : "memory");
}

/* After changing space 1's mapping under PCID 2 while in PCID 1, a flush of that PCID must be seen. */
static void invpcid_case(const char *name, unsigned type, uint64_t pcid, uint64_t address, uint64_t extra)
{
	volatile uint64_t *pte = &tabs[1][2][0];

	*pte = (word)page_b | P | W | extra;
	write_cr3((word)roots[1] | 2); /* flushes PCID 2 */
	invlpg(VA);
	(void)at_va[0];
	write_cr3((word)roots[0] | 1 | 1ul << 63);
	*pte = (word)page_a | P | W | extra;
	invpcid(type, pcid, address);
	write_cr3((word)roots[1] | 2 | 1ul << 63);
	casef("invpcid %s", name);
	check_eq("seen", at_va[0], 'a');
	*pte = (word)page_b | P | W;
	write_cr3((word)roots[1] | 2);
	invlpg(VA);
}

static void invpcid_errors(void)
{
	static const struct {
		const char *name;
		word type;
		struct desc128 d;
		int vec;
	} t[] = {
		{ "type 4", 4, { 0, 0 }, GP }, { "type 5", 5, { 0, 0 }, GP }, { "type 1 << 32", 1ul << 32, { 0, 0 }, GP },
		{ "PCID 4096", 1, { 4096, 0 }, GP }, { "reserved bit 63", 0, { 1ul << 63, 0 }, GP },
		{ "PCID 4095", 1, { 4095, 0 }, DONE },
		{ "reserved bits, type 2", 2, { 1ul << 20, 0 }, GP },
		{ "address not canonical, type 0", 0, { 1, 1ul << 47 }, GP },
		{ "address not canonical, type 1", 1, { 1, 1ul << 47 }, DONE },
		{ "address not canonical, type 2", 2, { 0, 1ul << 47 }, DONE },
		{ "address not canonical, type 3", 3, { 0, 1ul << 47 }, DONE },
		{ "type 0", 0, { 1, VA }, DONE }, { "type 3", 3, { 0, 0 }, DONE },
	};
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		copy(page_a + 64, &t[i].d, 16);
		run_row(t[i].name, CODE("invpcid rax, [rdi]"),
			&(struct row){ .ax = t[i].type, .di = (word)page_a + 64, .vec = t[i].vec });
	}
	row("descriptor on a missing page", CODE("invpcid rax, [rdi]"), .ax = 2, .di = 1ul << 40, .vec = PF, .cr2 = 1ul << 40);
	row("descriptor not canonical", CODE("invpcid rax, [rdi]"), .ax = 2, .di = 1ul << 47, .vec = GP);
	row("register form", CODE(".byte 0x66, 0x0f, 0x38, 0x82, 0xc0"), .vec = UD);
}

static void pcids(void)
{
	word cr3 = read_cr3(), cr4 = read_cr4();

	make_space(0, page_a, 0);
	make_space(1, page_b, 0);
	spaces(0, 0, "two roots");
	write_cr4(cr4 | CR4_PGE);
	spaces(0, 0, "two roots, PGE");
	if (!HAS_PCID) {
		skip("PCID");
		write_cr3(cr3);
		return;
	}
	write_cr3(cr3);
	write_cr4(cr4 | CR4_PCIDE);
	spaces(1, 2, "two PCIDs");
	spaces(1 | 1ul << 63, 2 | 1ul << 63, "two PCIDs, no flush");
	spaces(0xfff, 0, "PCIDs fff and 0");
	spaces(3, 3, "one PCID, flushed by each switch");
	write_cr4(cr4 | CR4_PCIDE | CR4_PGE);
	spaces(1 | 1ul << 63, 2 | 1ul << 63, "two PCIDs, no flush, PGE");
	if (HAS_INVPCID) {
		invpcid_case("address of another PCID", 0, 2, VA + 5, 0);
		invpcid_case("another PCID", 1, 2, 0, 0);
		invpcid_case("all with global", 2, 0, 0, 0);
		invpcid_case("all with global: a global page", 2, 0, 0, G);
		invpcid_case("all but global", 3, 0, 0, 0);
		invpcid_errors();
	} else {
		skip("INVPCID");
	}
	/* Clearing PCIDE flushes; INVLPG is for the current PCID and global pages. */
	write_cr3((word)roots[1] | 2);
	(void)at_va[0];
	tabs[1][2][0] = (word)page_a | P | W;
	write_cr4((cr4 | CR4_PGE));
	casef("clearing CR4.PCIDE");
	check_eq("seen", at_va[0], 'a');
	check_eq("PCID bits stay in CR3", read_cr3() & 0xfff, 2);
	write_cr3(cr3);
	write_cr4(cr4);
	if (HAS_INVPCID) {
		copy(page_a + 64, &(struct desc128){ 1, 0 }, 16);
		row("invpcid of PCID 1 with PCIDE = 0", CODE("invpcid rax, [rdi]"), .ax = 1, .di = (word)page_a + 64, .vec = GP);
		row("type 2 with PCIDE = 0", CODE("invpcid rax, [rdi]"), .ax = 2, .di = (word)page_a + 64, .vec = DONE);
	}
}

/* Page tables that change shape: 2 MiB page to table, and code that is remapped under the CPU. */
static void shapes(void)
{
	uint64_t *pd = (uint64_t *)table_b;
	const void *one = CODE("mov eax, 1; int 0xfe"), *two = CODE("mov eax, 2; int 0xfe");
	word off = (word)page_a & 0x1fffff;

	pd[0] = ((word)page_a & ~0x1ffffful) | P | W | PS;
	flush();
	casef("2 MiB page");
	check_eq("read", at_va[off], 'a');
	pd[0] = (word)table_c | P | W | U;
	pt[0] = (word)page_b | P | W;
	invlpg(VA);
	casef("the same as a table");
	check_eq("read", at_va[0], 'b');
	pd[0] = ((word)page_a & ~0x1ffffful) | P | W | PS;
	invlpg(VA);
	casef("2 MiB page again");
	check_eq("read", at_va[off], 'a');
	check_eq("read elsewhere in it", at_va[(word)page_b & 0x1fffff], 'b');
	pt[off >> 12] = (word)page_b | P | W;
	pd[0] = (word)table_c | P | W | U;
	invlpg(VA);
	casef("invlpg of one address drops all of a 2 MiB page");
	check_eq("read", at_va[off], 'b');
	pt[off >> 12] = 0;
	invlpg(VA + off);
	copy(page_a + 256, one, 16);
	copy(page_b + 256, two, 16);
	pt[0] = (word)page_a | P | W;
	invlpg(VA);
	row("code in page_a", CODE("jmp rdi"), .di = VA + 256, .vec = DONE, .check_ax = true, .want_ax = 1);
	pt[0] = (word)page_b | P | W;
	invlpg(VA);
	row("code in page_b, same address", CODE("jmp rdi"), .di = VA + 256, .vec = DONE, .check_ax = true, .want_ax = 2);
	at_va[257] = 3;
	row("code rewritten through another address", CODE("jmp rdi"), .di = (word)page_b + 256, .vec = DONE,
	    .check_ax = true, .want_ax = 3);
	page_b[257] = 4;
	row("and the other way", CODE("jmp rdi"), .di = VA + 256, .vec = DONE, .check_ax = true, .want_ax = 4);
	row("code that rewrites itself ahead", CODE("mov byte ptr [rip + 1f + 1], 7; jmp 1f; 1: mov eax, 6"), .vec = DONE,
	    .check_ax = true, .want_ax = 7);
}

void guest_main(void)
{
	page_a[0] = 'a';
	page_b[0] = 'b';
	map((word)page_a | P | W);
	flush();
	flushes();
	no_flush_needed();
	accessed_dirty();
	pcids();
	shapes();
}
