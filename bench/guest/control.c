/* control.c - what a binary translator finds hard: calls and returns, indirect
 * jumps, indirect calls, and code that is rewritten while it is in use. */
#include <string.h>
#include <sys/mman.h>
#include "bench.h"

/* Deep call/return */

static __attribute__((noinline)) uint32_t fib(uint32_t n)
{
	uint32_t a, b;

	if (n < 2)
		return n;
	a = fib(n - 1);
	asm volatile("" : "+r"(a)); /* the barriers keep both calls real: */
	b = fib(n - 2);
	asm volatile("" : "+r"(b)); /* no tail call, no inlining of one in the other */
	return a + b;
}

uint64_t k_call_fib(uint64_t units)
{
	uint64_t h = 0;

	while (units--)
		h = fib(20); /* 21891 calls */
	return h;
}

/* A threaded bytecode interpreter: one indirect jump per operation */

enum { OP_LDI, OP_ADD, OP_SUB, OP_MUL, OP_XOR, OP_SHR, OP_LD, OP_ST, OP_JNZ, OP_END };

struct insn {
	uint8_t op, a, b, c;
	int32_t imm;
};

static uint64_t interp(const struct insn *code)
{
	static void *const label[] = {
		&&ldi, &&add, &&sub, &&mul, &&xor, &&shr, &&ld, &&st, &&jnz, &&end,
	};
	uint64_t r[8] = {0}, m[64] = {0};
	const struct insn *pc = code;

#define NEXT() goto *label[pc->op]
	NEXT();
ldi:
	r[pc->a] = (uint64_t)pc->imm;
	pc++;
	NEXT();
add:
	r[pc->a] = r[pc->b] + r[pc->c];
	pc++;
	NEXT();
sub:
	r[pc->a] = r[pc->b] - r[pc->c];
	pc++;
	NEXT();
mul:
	r[pc->a] = r[pc->b] * r[pc->c];
	pc++;
	NEXT();
	xor : r[pc->a] = r[pc->b] ^ r[pc->c];
	pc++;
	NEXT();
shr:
	r[pc->a] = r[pc->b] >> pc->imm;
	pc++;
	NEXT();
ld:
	r[pc->a] = m[r[pc->b] & 63];
	pc++;
	NEXT();
st:
	m[r[pc->b] & 63] = r[pc->a];
	pc++;
	NEXT();
jnz:
	pc = r[pc->a] ? pc + pc->imm : pc + 1;
	NEXT();
end:
	return r[1];
#undef NEXT
}

uint64_t k_ind_vm(uint64_t units)
{
	static const struct insn prog[] = {
		{OP_LDI, 0, 0, 0, 1000}, /* r0: loop counter */
		{OP_LDI, 1, 0, 0, 1},    /* r1: accumulator  */
		{OP_LDI, 2, 0, 0, 1},    {OP_LDI, 3, 0, 0, 6364136},
		{OP_MUL, 1, 1, 3, 0}, /* loop: */
		{OP_ADD, 1, 1, 0, 0},    {OP_SHR, 4, 1, 0, 7},
		{OP_XOR, 1, 1, 4, 0},    {OP_ST, 1, 4, 0, 0},
		{OP_LD, 5, 0, 0, 0},     {OP_ADD, 1, 1, 5, 0},
		{OP_SUB, 0, 0, 2, 0},    {OP_JNZ, 0, 0, 0, -8},
		{OP_END, 0, 0, 0, 0},
	};
	uint64_t h = 0;

	while (units--)
		h = interp(prog); /* 9005 operations */
	return h;
}

/* Calls through a function table, target chosen by data */

static uint32_t f0(uint32_t x)
{
	return x + 0x9e3779b9u;
}
static uint32_t f1(uint32_t x)
{
	return x ^ (x >> 5);
}
static uint32_t f2(uint32_t x)
{
	return x * 3u;
}
static uint32_t f3(uint32_t x)
{
	return (x << 7) | (x >> 25);
}
static uint32_t f4(uint32_t x)
{
	return ~x;
}
static uint32_t f5(uint32_t x)
{
	return x - (x << 3);
}
static uint32_t f6(uint32_t x)
{
	return x ^ 0x55aa55aau;
}
static uint32_t f7(uint32_t x)
{
	return x + (x >> 9);
}

uint64_t k_ind_call(uint64_t units)
{
	static uint32_t (*volatile const table[8])(uint32_t) = {f0, f1, f2, f3, f4, f5, f6, f7};
	uint32_t x = 0;

	while (units--) {
		x = 1;
		for (uint32_t i = 0; i < 10000; i++)
			x = table[(x ^ i) & 7](x);
	}
	return x;
}

/* Rewrite a function's immediate, call it: one unit is 100 rewrites */

uint64_t k_jit_smc(uint64_t units)
{
	static uint8_t *page;
	uint64_t h = 0;

	if (!page) {
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			die("mmap rwx");
	}
	while (units--) {
		h = 0;
		for (uint32_t i = 0; i < 100; i++) {
			static const uint8_t head = 0xb8, tail = 0xc3; /* mov eax, imm32; ret */
			uint8_t *p = page + (i % 8) * 64;

			p[0] = head;
			memcpy(p + 1, &i, 4);
			p[5] = tail;
			__builtin___clear_cache((char *)p, (char *)p + 6);
			h = h * 3 + ((uint32_t(*)(void))(uintptr_t)p)();
		}
	}
	return h;
}
