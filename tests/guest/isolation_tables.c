/*
 * isolation_tables.c - page tables that point nowhere, at devices or at themselves, and pages of memory that is not there:
 * what is read there is all ones, what is written there is gone, and nothing else happens.
 */
#include "isolation.h"

const struct mapping space[] = { { WIN, filled[0], P | W | U } };
const unsigned space_size = 1;

#define NOWHERE 0x40000000ul /* 1 GiB: past this machine's memory, before its devices */
#define FAR 0x7f00000000ul   /* within every CPU's physical addresses, past everything */
#define LAPIC 0xfee00000ul
#define VA (WIN + 0x10000)
#define VA2 (WIN + 0x11000)

static void *phys(word p)
{
	return (void *)p;
}

/* All ones, from absent memory, whatever was written, at both privileges and across into memory. */
static void absent_memory(word at)
{
	unsigned i;

	map(VA, phys(at), P | W | U);
	map(VA2, filled[1], P | W | U);
	for (i = 0; i < 20; i++) {
		enum env env = i & 1 ? U64 : K64;

		row("read", CODE("mov rax, [rdi]"), .env = env, .di = VA + 8 * i, .vec = DONE, .check_ax = true,
		    .want_ax = ~0ul);
		row("write", CODE("mov [rdi], rax; mov rax, [rdi]"), .env = env, .ax = i, .di = VA + 8 * i, .vec = DONE,
		    .check_ax = true, .want_ax = ~0ul);
		row("lock add", CODE("lock add [rdi], rax; mov rax, [rdi]"), .env = env, .ax = 5, .di = VA, .vec = DONE,
		    .check_ax = true, .want_ax = ~0ul);
		row("push and pop", CODE("mov rsp, rdi; push 7; pop rax; mov rsp, rsi"), .env = env, .di = VA + 0x800,
		    .si = top(ustack), .vec = DONE, .check_ax = true, .want_ax = ~0ul);
		row("read across into memory", CODE("mov rax, [rdi]"), .env = env, .di = VA2 - 4, .vec = DONE,
		    .check_ax = true, .want_ax = (pattern(1, 0) << 32) | 0xffffffff);
		row("write across into memory", CODE("mov [rdi], rax"), .env = env, .di = VA2 - 4, .ax = 0x1122334455667788,
		    .vec = DONE);
		casef("what was written across, round %d", i);
		check_eq("memory", filled[1][0], (pattern(1, 0) & ~0xfffffffful) | 0x11223344);
		fill();
		row("rep movsb across", CODE("rep movsb; mov rax, [rdi - 8]"), .env = env, .si = WIN, .di = VA2 - 8, .cx = 16,
		    .vec = DONE, .check_ax = true, .want_ax = filled[0][1]);
		fill();
		/* ff ff is no instruction */
		row("fetch", CODE("jmp rdi"), .env = env, .di = VA + 0x100, .vec = UD, .any_ip = true);
		casef("fetch");
		check_eq("IP", trap.r.ip, VA + 0x100);
	}
}

/* Tables in absent memory: every entry is all ones, which is present, and has reserved bits set. */
static void absent_tables(word at)
{
	volatile uint64_t *pd = (uint64_t *)(*(volatile uint64_t *)(*(volatile uint64_t *)&pml4[VA >> 39 & 511] &
								    0xffffffffff000ul) &
					     0xffffffffff000ul);
	uint64_t was = pd[VA >> 21 & 511], was4 = pml4[300];
	unsigned i;

	for (i = 0; i < 10; i++) {
		pd[VA >> 21 & 511] = at | P | W | U;
		flush();
		row("a table in absent memory", CODE("mov al, [rdi]"), .env = i & 1 ? U64 : K64, .di = VA, .vec = PF,
		    .err = E_P | E_R | (i & 1 ? E_U : 0), .cr2 = VA);
		row("fetch by it", CODE("jmp rdi"), .env = i & 1 ? U64 : K64, .di = VA, .vec = PF,
		    .err = E_P | E_R | E_I | (i & 1 ? E_U : 0), .cr2 = VA, .any_ip = true);
		pd[VA >> 21 & 511] = was;
		pml4[300] = at | P | W | U;
		flush();
		row("a PDPT in absent memory", CODE("mov [rdi], al"), .env = i & 1 ? U64 : K64,
		    .di = 300ul << 39 | HIGH_START, .vec = PF, .err = E_P | E_W | E_R | (i & 1 ? E_U : 0),
		    .cr2 = 300ul << 39 | HIGH_START);
		pml4[300] = was4;
		flush();
	}
}

/* Its bytes are registers' or all ones: in either case the first instruction faults, at once and there. */
static void fetch_device(unsigned i)
{
	struct ctx c;

	casef("fetch of a device, round %d", i);
	ctx_init(&c, U64, (void *)VA);
	c.ip = VA;
	run(&c);
	check(trap.count == 1 && (trap.vec == UD || trap.vec == PF) && trap.r.ip == VA, "vector %d at 0x%lx", (int)trap.vec,
	      trap.r.ip);
	map(VA, phys(LAPIC), P | W | U | NX);
	row("fetch of a device that is not executable", CODE("jmp rdi"), .env = U64, .di = VA, .vec = PF,
	    .err = E_P | E_U | E_I, .any_ip = true, .cr2 = VA);
	map(VA, phys(LAPIC), P | W | U);
}

/* The local APIC's page, seen by kernel and user, read, written, executed, crossed into. */
static void device(void)
{
	volatile uint32_t *tpr = (volatile uint32_t *)(VA + 0x80);
	unsigned i;

	map(VA, phys(LAPIC), P | W | U);
	map(VA - 0x1000, filled[1], P | W | U);
	for (i = 0; i < 20; i++) {
		enum env env = i & 1 ? U64 : K64;

		row("APIC version", CODE("mov eax, [rdi + 0x30]; and eax, 0xf0"), .env = env, .di = VA, .vec = DONE,
		    .check_ax = true, .want_ax = 0x10);
		row("TPR", CODE("mov [rdi + 0x80], eax; mov eax, [rdi + 0x80]"), .env = env, .di = VA, .ax = i, .vec = DONE,
		    .check_ax = true, .want_ax = i);
		casef("TPR by the kernel, round %d", i);
		check_eq("TPR", *tpr, i);
		row("into the device's page, read", CODE("mov rax, [rdi]"), .env = env, .di = VA - 4, .vec = DONE);
		casef("the half that is memory");
		check_eq("AX", trap.r.ax & 0xffffffff, pattern(1, 511) >> 32);
		fetch_device(i);
		map(VA, phys(LAPIC), P | W);
		row("a supervisor's device", CODE("mov eax, [rdi + 0x30]"), .env = U64, .di = VA, .vec = PF, .err = E_P | E_U,
		    .cr2 = VA + 0x30);
		map(VA, phys(LAPIC), P | U);
		row("a read-only device", CODE("mov [rdi + 0x80], eax"), .env = env, .di = VA, .vec = PF,
		    .err = E_P | E_W | (i & 1 ? E_U : 0), .cr2 = VA + 0x80);
		map(VA, phys(LAPIC), P | W | U);
	}
	*tpr = 0;
}

#define SELF 400ul

/* The address of VA's entry through the root's entry that points at the root. */
static volatile uint64_t *self_pte(word va)
{
	return (volatile uint64_t *)(HIGH_START | SELF << 39 | (va >> 9 & 0x7ffffffff8ul));
}

/* Tables that map themselves: entries changed through themselves, by kernel and by user. */
static void recursive(void)
{
	volatile uint64_t *pte = pte_of(VA);
	struct ctx c;
	unsigned i;

	pml4[SELF] = (word)pml4 | P | W | U;
	flush();
	for (i = 0; i < 60; i++) {
		const void *page = filled[i & 1];

		*pte = 0;
		invlpg(VA);
		casef("through itself, round %d", i);
		check_eq("entry", *self_pte(VA), 0);
		row("absent", CODE("mov rax, [rdi]"), .env = U64, .di = VA, .vec = PF, .err = E_U, .cr2 = VA);
		/* The user gives itself the page, with no flush: absent entries are not cached. */
		row("the user's own mapping", CODE("mov [rsi], rax; mov rax, [rdi]"), .env = U64, .di = VA,
		    .si = (word)self_pte(VA), .ax = (word)page | P | W | U, .vec = DONE, .check_ax = true,
		    .want_ax = pattern(i & 1, 0));
		check_eq("A bit", *pte & A, A);
		/* The kernel moves it, by the recursive address, and flushes. */
		*self_pte(VA) = (word)filled[2] | P | U;
		invlpg(VA);
		row("moved by the kernel", CODE("mov rax, [rdi]"), .env = U64, .di = VA, .vec = DONE, .check_ax = true,
		    .want_ax = pattern(2, 0));
		row("read-only now", CODE("mov [rdi], rax"), .env = U64, .di = VA, .vec = PF, .err = E_P | E_W | E_U,
		    .cr2 = VA);
	}
	/* All four levels the same page: the root read at the address that is SELF four times. */
	casef("the root by itself");
	check_eq("entry", ((volatile uint64_t *)(HIGH_START | SELF << 39 | SELF << 30 | SELF << 21 | SELF << 12))[SELF] &
				  ~(A | D),
		 (word)pml4 | P | W | U);
	/* A table whose entry maps the table: code on the page that is the table, too. */
	*pte = (*(volatile uint64_t *)self_pte((word)self_pte(VA)) & 0xffffffffff000ul) | P | W | U;
	invlpg(VA);
	casef("a table that maps itself");
	check_eq("seen through itself", ((volatile uint64_t *)VA)[VA >> 12 & 511] & P, P);
	for (i = 0; i < 30; i++) {
		/* Entry 300 as code: mov al, i; int 0xfe; then as an entry, not present (bit 0 of b0 is clear). */
		*(volatile uint64_t *)(VA + 300 * 8) = 0xfecd00b0ul | (uint64_t)i << 8;
		ctx_init(&c, i & 1 ? U64 : K64, (void *)VA);
		c.ip = VA + 300 * 8;
		c.ax = 0;
		run(&c);
		casef("code in a page table, round %d", i);
		if (check_trap(&c, DONE, 0))
			check_eq("AX", trap.r.ax, i);
		row("the same bytes as an entry", CODE("mov al, [rdi]"), .di = (VA & ~0x1ffffful) + (300ul << 12), .vec = PF,
		    .cr2 = (VA & ~0x1ffffful) + (300ul << 12));
	}
	*pte = 0;
	pml4[SELF] = 0;
	flush();
}

/* Large pages over memory, its end and nothing; reserved bits. */
static void large(void)
{
	volatile uint64_t *pd = pds;
	uint64_t was = pd[500];
	word va = 500ul << 21;

	pd[500] = (RAM_END - 0x200000) | P | W | PS;
	flush();
	row("the last 2 MiB", CODE("mov [rdi], rax; mov rax, [rdi]"), .di = va + 0x1ffff8, .ax = 77, .vec = DONE,
	    .check_ax = true, .want_ax = 77);
	row("over its end, into the next entry's", CODE("mov al, [rdi]"), .di = va + 0x1fffff, .vec = DONE);
	pd[500] = RAM_END | P | W | PS;
	flush();
	row("the first 2 MiB past memory", CODE("mov rax, [rdi]"), .di = va, .vec = DONE, .check_ax = true, .want_ax = ~0ul);
	pd[500] = RAM_END | P | W | PS | 1 << 13;
	flush();
	row("a reserved bit of a large page", CODE("mov rax, [rdi]"), .di = va, .vec = PF, .err = E_P | E_R, .cr2 = va);
	pd[500] = P | W | PS | 1ul << (phys_bits() < 51 ? phys_bits() : 51);
	flush();
	row("past the physical addresses", CODE("mov rax, [rdi]"), .di = va, .vec = PF, .err = E_P | E_R, .cr2 = va);
	pd[500] = was;
	flush();
}

void guest_main(void)
{
	safe_stacks();
	fill();
	map_space();
	absent_memory(NOWHERE);
	absent_memory(FAR);
	absent_memory(RAM_END);
	absent_tables(NOWHERE);
	absent_tables(FAR);
	device();
	recursive();
	large();
}
