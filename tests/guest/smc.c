/*
 * smc.c - code that changes: stores ahead, behind and into themselves; through another address, by every kind of store,
 * from both privileges; code and data in one line; functions rewritten while they run; a JIT's pattern.
 * SDM vol. 3, 11.6: a store to code that runs next needs a jump on old CPUs; P6 and later see it at once.
 */
#include "isolation.h"

const struct mapping space[] = { { WIN, filled[0], P | W | U } };
const unsigned space_size = 1;

static uint8_t code[3][4096] __attribute__((aligned(4096)));
#define VA (WIN + 0x10000)    /* code, for users too */
#define ALIAS (WIN + 0x20000) /* the same pages */

static unsigned at; /* where BYTES() goes on, from the start of code */

static void put(const void *bytes, unsigned n)
{
	copy((uint8_t *)code + at, bytes, n);
	at += n;
}
#define BYTES(...) put((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define IMM32(x) (uint8_t)(x), (uint8_t)((x) >> 8), (uint8_t)((x) >> 16), (uint8_t)((x) >> 24)

static void setup_ctx(struct ctx *c, enum env env, unsigned offset)
{
	ctx_init(c, env, code);
	c->ip = VA + offset;
	c->di = ALIAS;
	c->si = VA;
}

static void runs_to(enum env env, unsigned offset, word ax)
{
	struct ctx c;

	setup_ctx(&c, env, offset);
	run(&c);
	if (check_trap(&c, DONE, 0))
		check_eq("AX", trap.r.ax, ax);
}

/* Ways to store EDX's low byte, or more of it, at [rdi + disp32]: opcode and ModRM before the displacement. */
static const struct store {
	const char *name;
	uint8_t bytes[6], len;
} stores[] = {
	{ "mov [rdi + x], dl", { 0x88, 0x97 }, 2 },
	{ "mov [rdi + x], edx", { 0x89, 0x97 }, 2 },
	{ "mov [rdi + x], rdx", { 0x48, 0x89, 0x97 }, 3 },
	{ "xchg [rdi + x], dl", { 0x86, 0x97 }, 2 },
	{ "movnti [rdi + x], edx", { 0x0f, 0xc3, 0x97 }, 3 },
	{ "cmpxchg [rdi + x], dl", { 0x0f, 0xb0, 0x97 }, 3 },
	{ "movq [rdi + x], xmm0", { 0x66, 0x0f, 0xd6, 0x87 }, 4 },
	{ "movups [rdi + x], xmm0", { 0x0f, 0x11, 0x87 }, 3 },
	{ "pop [rdi + x]", { 0x8f, 0x87 }, 2 },
};

/*
 * The store, to the immediate of what comes next: mov eax, imm32; nops; int 0xfe. The nops take what wide stores spill:
 * RDX, XMM0 and the stack hold the value and 0x90s.
 */
static void next_instruction(const struct store *s, enum env env, word base, unsigned rounds)
{
	unsigned i, imm;

	at = 0x40;
	put(s->bytes, s->len);
	imm = at + 4 + 1;
	BYTES(IMM32(imm));
	BYTES(0xb8, 0, 0, 0, 0);
	for (i = 0; i < 24; i++)
		BYTES(0x90);
	BYTES(0xcd, 0xfe);
	for (i = 0; i < rounds; i++) {
		word value = 0x9090909000000000 | (i * 0x01010101u);
		uint64_t quad[2] = { value, ~0ul / 255 * 0x90 };
		struct ctx c;

		((volatile uint8_t *)code)[imm] = 0;
		copy((uint8_t *)code + imm, &(uint32_t){ 0 }, 4);
		casef("%s into the next instruction, %s, round %d", s->name, env == U64 ? "user" : "kernel", i);
		setup_ctx(&c, env, 0x40);
		c.di = base;
		c.dx = value;
		c.ax = 0;
		__asm__ volatile("movups %0, %%xmm0" : : "m"(quad));
		copy((void *)(c.sp - (env == U64 ? UBASE : 0)), &value, 8);
		run(&c);
		if (check_trap(&c, DONE, 0))
			check_eq("AX", trap.r.ax & 0xff, value & 0xff);
	}
}

static void next_instructions(void)
{
	unsigned i;

	for (i = 0; i < sizeof(stores) / sizeof(*stores); i++) {
		next_instruction(&stores[i], K64, VA, 20);
		next_instruction(&stores[i], K64, ALIAS, 20);
		next_instruction(&stores[i], U64, VA, 20);
		next_instruction(&stores[i], U64, ALIAS, 20);
		next_instruction(&stores[i], K64, (word)code, 20);
	}
}

/* Loops that change an instruction behind the store, and the store itself. */
static void in_a_loop(enum env env)
{
	word expect = 0;
	unsigned i;

	/* xor eax, eax; mov ecx, 200; 1: add eax, imm32 (1); inc dword [rip - x: the imm32]; dec ecx; jnz 1b */
	at = 0x100;
	BYTES(0x31, 0xc0, 0xb9, IMM32(200), 0x05, IMM32(1), 0xff, 0x05, IMM32(-10), 0xff, 0xc9, 0x75, 0xf1, 0xcd, 0xfe);
	for (i = 1; i <= 200; i++)
		expect += i;
	casef("an earlier instruction in a loop");
	runs_to(env, 0x100, expect);
	/* The store's own immediate: mov byte [rdi + x], imm8; x is the immediate; 5 rounds count it up by add. */
	at = 0x180;
	BYTES(0x31, 0xc0, 0xb9, IMM32(100));
	/* 1: add byte [rip + 0], 1: its own immediate, 01, becomes 02: the next round adds 2, then 4... */
	BYTES(0x80, 0x05, IMM32(-1), 0x01, 0xff, 0xc9, 0x75, 0xf5);
	BYTES(0x0f, 0xb6, 0x05, IMM32(-12), 0xcd, 0xfe);
	casef("an instruction that changes its own immediate");
	for (i = 0; i < 3; i++) {
		((volatile uint8_t *)code)[0x18d] = 1;
		/* 1 doubled 100 times, modulo 256 */
		runs_to(env, 0x180, 0);
		((volatile uint8_t *)code)[0x18d] = 1;
		((volatile uint8_t *)code)[0x183] = 5;
		runs_to(env, 0x180, 32);
		((volatile uint8_t *)code)[0x183] = 100;
	}
	/* The operation of an instruction in turn: add eax, 3 / sub eax, 1 (83 c0 03, 83 e8 01), by a word store. */
	at = 0x1c0;
	BYTES(0x31, 0xc0, 0xb9, IMM32(100));
	BYTES(0x83, 0xc0, 0x03);                   /* 1: */
	BYTES(0x66, 0x81, 0x35, IMM32(-11), 0x28, 0x02); /* xor word [rip - 11], 0x228: c0 03 <-> e8 01 */
	BYTES(0xff, 0xc9, 0x75, 0xf0, 0xcd, 0xfe);
	casef("an operation that changes in turn");
	for (i = 0; i < 3; i++)
		runs_to(env, 0x1c0, 50 * 3 - 50);
}

/* A counter in the code's own line, written each round. */
static void data_beside_code(enum env env)
{
	unsigned i;

	at = 0x240;
	BYTES(0xb9, IMM32(5000), 0xff, 0x05, IMM32(10), 0xff, 0xc9, 0x75, 0xf6, 0x8b, 0x05, IMM32(2), 0xcd, 0xfe);
	for (i = 0; i < 2; i++) {
		/* [0x240 + 5 + 6 + 10] = 0x255: the two bytes of int 0xfe end there */
		volatile uint32_t *counter = (volatile uint32_t *)((uint8_t *)code + 0x255 + 4);

		casef("a counter beside the code, %d", i);
		((volatile uint8_t *)code)[0x247] = 14;
		((volatile uint8_t *)code)[0x251] = 4;
		*counter = 0;
		runs_to(env, 0x240, 5000);
	}
}

/* Calls that come back to other code than they left; functions that rewrite themselves. */
static void functions(enum env env)
{
	unsigned i;

	/* main: call f; mov eax, 1 (f makes it 2); int 0xfe. f: mov byte [rip to the imm], 2; ret */
	at = 0x300;
	BYTES(0xe8, IMM32(0x3b), 0xb8, IMM32(1), 0xcd, 0xfe);
	at = 0x340;
	BYTES(0xc6, 0x05, IMM32(0x306 - 0x347), 2, 0xc3);
	for (i = 0; i < 40; i++) {
		((volatile uint8_t *)code)[0x306] = 1;
		casef("what is returned to is rewritten, round %d", i);
		runs_to(env, 0x300, 2);
	}
	/* main: mov ecx, 50; 1: call f; dec ecx; jnz 1b; int 0xfe. f: add eax, 1; inc byte [rip to its imm8]; ret */
	at = 0x380;
	BYTES(0x31, 0xc0, 0xb9, IMM32(50), 0xe8, IMM32(0x34), 0xff, 0xc9, 0x75, 0xf7, 0xcd, 0xfe);
	at = 0x3c0;
	BYTES(0x83, 0xc0, 0x01, 0xfe, 0x05, IMM32(0x3c2 - 0x3c9), 0xc3);
	for (i = 0; i < 5; i++) {
		((volatile uint8_t *)code)[0x3c2] = 1;
		casef("a function that changes itself, round %d", i);
		runs_to(env, 0x380, 50 * 51 / 2);
	}
	/* The call's displacement: to f, g, f... main: call; xor byte [rip to the call's rel8], 0x10; dec; jnz */
	at = 0x400;
	BYTES(0x31, 0xc0, 0xb9, IMM32(60), 0xe8, IMM32(0x34), 0x80, 0x35, IMM32(0x408 - 0x413), 0x10, 0xff, 0xc9, 0x75,
	      0xf0, 0xcd, 0xfe);
	at = 0x440;
	BYTES(0x83, 0xc0, 0x01, 0xc3);
	at = 0x430; /* 0x34 ^ 0x10 instead of 0x34 */
	BYTES(0x83, 0xc0, 0x64, 0xc3);
	casef("a call whose target changes");
	((volatile uint8_t *)code)[0x408] = 0x34;
	runs_to(env, 0x400, 30 * 1 + 30 * 100);
}

/* Writes a function of i, calls it, writes the next over it: at one place, and all over two pages. */
static void jit(enum env env, bool spread)
{
	unsigned i;

	for (i = 0; i < 1500; i++) {
		at = spread ? 0x500 + i * 37 % 0x1800 : 0x500;
		unsigned start = at;

		if (i & 1)
			BYTES(0xb8, IMM32(i * 3), 0x35, IMM32(0x55aa), 0xcd, 0xfe);
		else
			BYTES(0x31, 0xc0, 0x05, IMM32((i * 3) ^ 0x55aa), 0xcd, 0xfe);
		casef("function %d of a JIT%s", i, spread ? ", spread" : "");
		runs_to(env, start, (i * 3) ^ 0x55aa);
	}
}

/* The code that writes the function runs under the same engine: 3000 times in one run. */
static void jit_inside(enum env env)
{
	/* mov ecx, 3000; 1: mov [rdi + 0x901], ecx; call rsi + 0x900; add ebx, eax; dec ecx; jnz 1b; mov eax, ebx */
	at = 0x880;
	BYTES(0xb9, IMM32(3000), 0x89, 0x8f, IMM32(0x901), 0xe8, IMM32(0x900 - 0x890), 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xef,
	      0x89, 0xd8, 0xcd, 0xfe);
	at = 0x900;
	BYTES(0xb8, IMM32(0), 0xc3);
	casef("3000 functions in one run");
	runs_to(env, 0x880, 3000 * 3001 / 2);
}

/* REP MOVSB and STOSB over code, the loop's own too; PUSH into code; a store across two pages of code. */
static void block_stores(enum env env)
{
	struct ctx c;
	unsigned i;

	for (i = 0; i < 30; i++) {
		/* rep movsb; then what it copied: mov eax, i; int 0xfe */
		at = 0xa00;
		BYTES(0xf3, 0xa4, 0x90, 0x90);
		for (unsigned k = 0; k < 12; k++)
			BYTES(0xcc);
		at = 0xa40;
		BYTES(0xb8, IMM32(i), 0xcd, 0xfe);
		setup_ctx(&c, env, 0xa00);
		c.si = VA + 0xa40;
		c.di = ALIAS + 0xa04;
		c.cx = 7;
		casef("rep movsb ahead of itself, %d", i);
		run(&c);
		if (check_trap(&c, DONE, 0))
			check_eq("AX", trap.r.ax, i);
		/* rep stosb: nops over int3s */
		at = 0xa80;
		BYTES(0xf3, 0xaa, 0xcc, 0xcc, 0xcc, 0xcc, 0xcd, 0xfe);
		setup_ctx(&c, env, 0xa80);
		c.di = (i & 1 ? VA : ALIAS) + 0xa82;
		c.ax = 0x90;
		c.cx = 4;
		casef("rep stosb ahead of itself, %d", i);
		run(&c);
		check_trap(&c, DONE, 0);
		/* push rax into what follows */
		at = 0xac0;
		BYTES(0x50, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcd, 0xfe);
		setup_ctx(&c, env, 0xac0);
		c.sp = (i & 1 ? VA : ALIAS) + 0xac9;
		c.ax = 0x90909090909000b0 | (word)i << 8; /* mov al, i; nops */
		casef("push ahead of itself, %d", i);
		run(&c);
		if (check_trap(&c, DONE, 0))
			check_eq("AL", trap.r.ax & 0xff, i);
	}
	/* Eight bytes across the first two pages, which are all code: mov [rdi], rdx; jmp there */
	for (i = 0; i < 60; i++) {
		at = 0xb00;
		BYTES(0x48, 0x89, 0x17, 0xff, 0xe6);
		setup_ctx(&c, env, 0xb00);
		c.di = (i & 1 ? VA : ALIAS) + 0xffc;
		c.si = VA + 0xffc;
		c.dx = 0x90fecd00000000b8 | (word)(i * 0x010203 & 0xffffff) << 8; /* mov eax, imm32; int 0xfe */
		casef("a store of code across pages, %d", i);
		run(&c);
		if (check_trap(&c, DONE, 0))
			check_eq("AX", trap.r.ax, i * 0x010203 & 0xffffff);
	}
}

/* A store that faults on the second page leaves the code of the first as it is. */
static void torn(void)
{
	struct ctx c;
	unsigned i;

	map(VA + 0x1000, code[1], P | U);
	for (i = 0; i < 30; i++) {
		at = 0xff8;
		BYTES(0xb8, IMM32(77), 0xcd, 0xfe, 0x90);
		at = 0xb00;
		BYTES(0x48, 0x89, 0x17, 0xcd, 0xfe);
		casef("code before a store that faults, %d", i);
		runs_to(U64, 0xff8, 77);
		setup_ctx(&c, U64, 0xb00);
		c.di = VA + 0xff9;
		c.dx = ~0ul;
		run(&c);
		if (check_trap(&c, PF, E_P | E_W | E_U))
			check_eq("CR2", trap.cr2, VA + 0x1000);
		runs_to(U64, 0xff8, 77);
	}
	map(VA + 0x1000, code[1], P | W | U);
}

/* Written as a user, run by the kernel, and the other way round; written where it was read-only until just now. */
static void across_privilege(void)
{
	struct ctx c;
	unsigned i;

	for (i = 0; i < 100; i++) {
		at = 0xc00;
		BYTES(0x88, 0x97, IMM32(0xc41), 0xcd, 0xfe); /* mov [rdi + 0xc41], dl */
		at = 0xc40;
		BYTES(0xb8, IMM32(0), 0xcd, 0xfe);
		casef("written by one, run by another, %d", i);
		setup_ctx(&c, i & 1 ? K64 : U64, 0xc00);
		c.dx = i;
		run(&c);
		check_trap(&c, DONE, 0);
		runs_to(i & 1 ? U64 : K64, 0xc40, i);
		map(VA, code[0], P | U);
		casef("code that is read-only here is written through the alias, %d", i);
		setup_ctx(&c, U64, 0xc00);
		c.dx = i ^ 0x80;
		run(&c);
		check_trap(&c, DONE, 0);
		runs_to(U64, 0xc40, i ^ 0x80);
		casef("and not through itself, %d", i);
		setup_ctx(&c, U64, 0xc00);
		c.di = VA;
		run(&c);
		if (check_trap(&c, PF, E_P | E_W | E_U))
			check_eq("CR2", trap.cr2, VA + 0xc41);
		map(VA, code[0], P | W | U);
	}
}

void guest_main(void)
{
	static const enum env envs[] = { K64, U64 };
	unsigned i;

	safe_stacks();
	enable_vectors();
	fill();
	map_space();
	for (i = 0; i < 3; i++) {
		map(VA + i * 0x1000, code[i], P | W | U);
		map(ALIAS + i * 0x1000, code[i], P | W | U);
	}
	next_instructions();
	for (i = 0; i < 2; i++) {
		in_a_loop(envs[i]);
		data_beside_code(envs[i]);
		functions(envs[i]);
		jit(envs[i], false);
		jit(envs[i], true);
		jit_inside(envs[i]);
		block_stores(envs[i]);
	}
	torn();
	across_privilege();
}
