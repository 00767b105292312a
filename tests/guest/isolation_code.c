/*
 * isolation_code.c - where code may run and as what: jumps into the middle of code and of instructions, the same code at
 * both privileges, instructions across pages, RIP at the edges of the address space.
 */
#include "isolation.h"

const struct mapping space[] = {
	{ WIN, filled[0], P | W | U },
	{ WIN + 0x1000, filled[1], P | W | U },
	{ WIN + 0x2000, filled[2], P | W }, /* a supervisor's */
};
const unsigned space_size = sizeof(space) / sizeof(*space);

static uint8_t code_page[3][4096] __attribute__((aligned(4096)));
#define CODE_VA (WIN + 0x10000) /* code_page[0], [1]; then nothing */
#define TOP_VA (-PAGE_4K)
#define LAST_VA (LOW_END - PAGE_4K)
#define SECRET (WIN + 0x2000)

static void put(unsigned page, unsigned at, const void *bytes, unsigned n)
{
	copy(&code_page[page][at], bytes, n);
}
#define BYTES(page, at, ...) put(page, at, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void map_code(uint64_t bits)
{
	map(CODE_VA, code_page[0], bits);
	map(CODE_VA + 0x1000, code_page[1], bits);
}

static bool go(struct ctx *c, enum env env, word ip)
{
	ctx_init(c, env, (const void *)ip);
	c->ip = ip;
	c->di = SECRET;
	run(c);
	return true;
}

static void runs_to(enum env env, word ip, word ax)
{
	struct ctx c;

	go(&c, env, ip);
	if (check_trap(&c, DONE, 0))
		check_eq("AX", trap.r.ax, ax);
}

static void faults(enum env env, word ip, int vec, word err, word at, word cr2)
{
	struct ctx c;

	go(&c, env, ip);
	c.ip = at;
	if (check_trap(&c, vec, err) && vec == PF)
		check_eq("CR2", trap.cr2, cr2);
}

/* A block of 600 INC EAX, entered everywhere, from the end on and back again. */
static void middles(void)
{
	unsigned i, k;

	for (i = 0; i < 600; i++)
		BYTES(0, 2 * i, 0xff, 0xc0);
	BYTES(0, 1200, 0xcd, 0xfe);
	for (k = 0; k < 3; k++)
		for (i = 0; i <= 600; i += k == 1 ? 1 : 7) {
			unsigned from = k == 2 ? i : 600 - i;

			casef("entered at instruction %d", from);
			runs_to(i & 1 ? U64 : K64, CODE_VA + 2 * from, 600 - from);
		}
}

/* Eight bytes that mean something else at each offset. */
static void overlaps(void)
{
	unsigned k;

	BYTES(0, 0, 0x05, 0xb0, 0x07, 0xeb, 0x00, 0xcd, 0xfe);
	BYTES(0, 0x10, 0x3c, 0xb0, 0x90, 0xcd, 0xfe); /* cmp al, 0xb0, or mov al, 0x90 */
	for (k = 0; k < 60; k++) {
		enum env env = k & 1 ? U64 : K64;

		casef("add eax, imm32, round %d", k);
		runs_to(env, CODE_VA, 0x00eb07b0);
		casef("mov al, 7 inside it");
		runs_to(env, CODE_VA + 1, 7);
		casef("pop es inside that");
		faults(env, CODE_VA + 2, UD, 0, CODE_VA + 2, 0);
		casef("jmp inside it");
		runs_to(env, CODE_VA + 3, 0);
		casef("cmp al, imm8");
		runs_to(env, CODE_VA + 0x10, 0);
		casef("mov al, 0x90 inside it");
		runs_to(env, CODE_VA + 0x11, 0x90);
	}
}

/* What is allowed at CPL 0 is not at CPL 3, though page, address and bytes are the same and chained before. */
static const struct sensitive {
	const char *name;
	uint8_t bytes[4];
	uint8_t len;
} sensitive[] = {
	{ "cli", { 0xfa }, 1 },
	{ "sti", { 0xfb }, 1 },
	{ "mov rax, cr0", { 0x0f, 0x20, 0xc0 }, 3 },
	{ "mov rax, cr3", { 0x0f, 0x20, 0xd8 }, 3 },
	{ "mov rax, dr7", { 0x0f, 0x21, 0xf8 }, 3 },
	{ "in al, 0x80", { 0xe4, 0x80 }, 2 },
	{ "clts", { 0x0f, 0x06 }, 2 },
	{ "wbinvd", { 0x0f, 0x09 }, 2 },
	{ "swapgs twice", { 0x0f, 0x01, 0xf8 }, 3 },
};

static void privileges(void)
{
	unsigned i, k, n;

	for (i = 0; i < sizeof(sensitive) / sizeof(*sensitive); i++) {
		const struct sensitive *s = &sensitive[i];

		/* mov ecx, 5; 1: dec ecx; jnz 1b; jmp +0; the instruction; mov eax, 42; int 0xfe */
		BYTES(0, 0x100, 0xb9, 5, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xeb, 0x00);
		n = 0x10b;
		put(0, n, s->bytes, s->len);
		n += s->len;
		if (s->bytes[2] == 0xf8 && s->bytes[1] == 1) {
			put(0, n, s->bytes, 3);
			n += 3;
		}
		BYTES(0, n, 0xb8, 42, 0, 0, 0, 0xcd, 0xfe);
		for (k = 0; k < 60; k++) {
			casef("%s, round %d", s->name, k);
			if (k % 3 != 2)
				runs_to(K64, CODE_VA + 0x100, 42);
			else
				faults(U64, CODE_VA + 0x100, GP, 0, CODE_VA + 0x10b, 0);
		}
	}
}

/* A supervisor's page, by the same instruction at both levels; and back and forth within one run. */
static void data_by_privilege(void)
{
	word pattern0 = pattern(2, 0) & 0xff;
	unsigned k;

	/* mov al, [rdi]; movzx eax, al; int 0xfe */
	BYTES(0, 0x200, 0x8a, 0x07, 0x0f, 0xb6, 0xc0, 0xcd, 0xfe);
	for (k = 0; k < 90; k++) {
		casef("a supervisor's byte, round %d", k);
		if (k % 3 != 1)
			runs_to(K64, CODE_VA + 0x200, pattern0);
		else
			faults(U64, CODE_VA + 0x200, PF, E_P | E_U, CODE_VA + 0x200, SECRET);
	}
}

/*
 * The kernel calls F 1000 times, which is allowed, then returns by IRETQ or SYSRETQ to F as a user, which is not: F's
 * block has been chained to from here.
 */
static void chained(void)
{
	static const char *const how[] = { "iretq", "sysretq", "a far return" };
	const uint8_t *entry[3];
	word f = CODE_VA + 0x300;
	unsigned i, k;

	BYTES(0, 0x300, 0x8a, 0x07, 0xc3); /* mov al, [rdi]; ret */
	entry[0] = CODE("mov ecx, 1000; 1: call r8; dec ecx; jnz 1b; push 0x2b; push r9; push 2; push 0x33; push r8; iretq");
	entry[1] = CODE("mov r10d, 1000; 1: call r8; dec r10d; jnz 1b; mov rcx, r8; mov r11d, 2; mov rsp, r9; .byte 0x48, 0x0f, 0x07");
	entry[2] = CODE("mov ecx, 1000; 1: call r8; dec ecx; jnz 1b; push 0x2b; push r9; push 0x33; push r8; .byte 0x48, 0xcb");
	wrmsr(MSR_STAR, (uint64_t)(SEL_UCODE32 & ~3u) << 48 | (uint64_t)SEL_CODE << 32);
	for (i = 0; i < 3; i++)
		for (k = 0; k < 4; k++) {
			struct ctx c;

			casef("to the same function as a user by %s, round %d", how[i], k);
			ctx_init(&c, K64, entry[i]);
			c.di = SECRET;
			c.r[8] = f;
			c.r[9] = USER(top(ustack)) - 64;
			run(&c);
			c.ip = f;
			if (check_trap(&c, PF, E_P | E_U)) {
				check_eq("CR2", trap.cr2, SECRET);
				check_eq("CPL", trap.r.cs & 3, 3);
			}
		}
}

/* A user calls the kernel, which reads the secret with the same function, and goes on as a user. */
static void chained_by_syscall(void)
{
	const void *user = CODE("mov r12d, 300; 1: syscall; dec r12d; jnz 1b; call r8");
	const void *kernel = CODE("mov r13, rsp; mov rsp, r15; call r8; mov rsp, r13; .byte 0x48, 0x0f, 0x07");
	struct ctx c;

	wrmsr(MSR_LSTAR, (word)kernel);
	wrmsr(MSR_SFMASK, 0x700);
	casef("300 system calls that read, then the user itself");
	ctx_init(&c, U64, user);
	c.di = SECRET;
	c.r[8] = CODE_VA + 0x300;
	c.r[15] = top(kstack) - 64;
	run(&c);
	c.ip = CODE_VA + 0x300;
	if (check_trap(&c, PF, E_P | E_U))
		check_eq("system calls left", trap.r.r[12], 0);
}

/* mov eax, imm32 whose last two bytes are on the second page. */
static void across_pages(void)
{
	static const struct {
		const char *name;
		uint64_t bits;
		unsigned page;
		word err; /* as a user; 0: runs */
	} t[] = {
		{ "the same", P | W | U, 1, 0 },
		{ "another page", P | W | U, 2, 0 },
		{ "absent", 0, 1, E_U | E_I },
		{ "back", P | W | U, 1, 0 },
		{ "not executable", P | W | U | NX, 1, E_P | E_U | E_I },
		{ "another page, read-only", P | U, 2, 0 },
		{ "a supervisor's", P | W, 1, E_P | E_U | E_I },
		{ "back again", P | W | U, 1, 0 },
	};
	unsigned i, k, page;

	BYTES(0, 0xffd, 0xb8, 0x11, 0x22);
	BYTES(1, 0, 0x33, 0x44, 0xcd, 0xfe);
	BYTES(2, 0, 0x55, 0x66, 0xcd, 0xfe);
	for (k = 0; k < 3; k++)
		for (i = 0; i < sizeof(t) / sizeof(*t); i++)
			for (page = 0; page < 20; page++) {
				map(CODE_VA + 0x1000, code_page[t[i].page], t[i].bits);
				casef("across pages, the second is %s", t[i].name);
				if (t[i].err)
					faults(U64, CODE_VA + 0xffd, PF, t[i].err, CODE_VA + 0xffd, CODE_VA + 0x1000);
				else
					runs_to(U64, CODE_VA + 0xffd, t[i].page == 1 ? 0x44332211 : 0x66552211);
			}
	/* The second half rewritten, through the other mapping. */
	map(CODE_VA + 0x1000, code_page[1], P | W | U);
	for (k = 1; k < 100; k++) {
		((volatile uint8_t *)code_page[1])[0] = (uint8_t)k;
		casef("across pages, the second half is written, %d", k);
		runs_to(k & 1 ? U64 : K64, CODE_VA + 0xffd, 0x44002211 + (k << 16));
	}
	/* And the first half. */
	for (k = 1; k < 100; k++) {
		((volatile uint8_t *)code_page[0])[0xffe] = (uint8_t)k;
		casef("across pages, the first half is written, %d", k);
		runs_to(k & 1 ? U64 : K64, CODE_VA + 0xffd, 0x44632200 + k);
	}
}

/* The block goes on to the next page, by a jump or by falling into it, and that changes. */
static void onto_the_next_page(void)
{
	unsigned k;

	BYTES(0, 0xffb, 0xb8, 7, 0, 0, 0); /* mov eax, 7, up to the end */
	BYTES(1, 0, 0x83, 0xc0, 0x01, 0xcd, 0xfe);
	BYTES(2, 0, 0x83, 0xc0, 0x02, 0xcd, 0xfe);
	for (k = 0; k < 40; k++) {
		map(CODE_VA + 0x1000, code_page[1 + (k & 1)], P | W | U);
		casef("falls into a page that changes, %d", k);
		runs_to(k & 2 ? U64 : K64, CODE_VA + 0xffb, k & 1 ? 9 : 8);
		map(CODE_VA + 0x1000, code_page[1], 0);
		faults(U64, CODE_VA + 0xffb, PF, E_U | E_I, CODE_VA + 0x1000, CODE_VA + 0x1000);
	}
	map_code(P | W | U);
}

/* RIP at the edges. */
static void edges(void)
{
	unsigned k;

	map(LAST_VA, code_page[0], P | W | U);
	map(TOP_VA, code_page[0], P | W | U);
	for (k = 0; k < 30; k++) {
		enum env env = k & 1 ? U64 : K64;
		word u = k & 1 ? E_U : 0;

		BYTES(0, 0xffb, 0xb8, 7, 0, 0, 0);
		casef("RIP runs over the end of canonical addresses");
		faults(env, LAST_VA + 0xffb, GP, 0, LOW_END, 0);
		casef("an instruction over the end of canonical addresses");
		BYTES(0, 0xffd, 0xb8, 1, 2);
		faults(env, LAST_VA + 0xffd, GP, 0, LAST_VA + 0xffd, 0);
		BYTES(0, 0xffb, 0xe9, 0x10, 0, 0, 0);
		casef("jmp rel32 over 2^64");
		if (k & 1)
			faults(env, TOP_VA + 0xffb, PF, E_P | E_U | E_I, 0x10, 0x10);
		casef("jmp to an absent page");
		BYTES(0, 0x400, 0xff, 0xe6); /* jmp rsi */
		{
			struct ctx c;

			ctx_init(&c, env, (void *)(CODE_VA + 0x400));
			c.ip = CODE_VA + 0x400;
			c.si = 0x7ffff7dd1000;
			run(&c);
			c.ip = c.si;
			if (check_trap(&c, PF, u | E_I))
				check_eq("CR2", trap.cr2, c.si);
		}
	}
}

void guest_main(void)
{
	unsigned i;

	safe_stacks();
	fill();
	map_space();
	for (i = 0; i < 3; i++)
		zero(code_page[i], 4096);
	map_code(P | W | U);
	middles();
	overlaps();
	privileges();
	data_by_privilege();
	chained();
	chained_by_syscall();
	across_pages();
	onto_the_next_page();
	edges();
}
