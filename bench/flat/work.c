/*
 * work.c - one kernel of computation, chosen by WORK when compiling, between two marks on the serial port:
 * "S" when it starts, "E <checksum>" when it is done. Whoever reads the port times it by the host's clock. Then
 * the debug-exit port, and a halt for machines that have none.
 */
#include <stdint.h>

void guest_main(void);
uint64_t work(uint64_t rounds);

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void put(char c)
{
	while (!(in8(0x3fd) & 0x20))
		;
	out8(0x3f8, (uint8_t)c);
}

static void put_hex(uint64_t v)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		put("0123456789abcdef"[v >> shift & 15]);
}

#define WORK_INT 1
#define WORK_CALL 2
#define WORK_MEMORY 3
#define WORK_STRING 4
#define WORK_SSE 5
#define WORK_X87 6
#define WORK_BRANCH 7

#if WORK == WORK_INT
/* Register arithmetic with a multiplication now and then. */
uint64_t work(uint64_t rounds)
{
	uint64_t a = 88172645463325252u, b = 1, c = 0;

	for (uint64_t i = 0; i < rounds; i++) {
		a ^= a << 13;
		a ^= a >> 7;
		a ^= a << 17;
		b = b * 6364136223846793005u + 1442695040888963407u;
		c += (a & b) + (a >> 3 ^ i);
	}
	return c;
}
#elif WORK == WORK_CALL
static uint64_t __attribute__((noinline)) fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t work(uint64_t rounds)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < rounds; i++)
		sum += fib(20 + (i & 1));
	return sum;
}
#elif WORK == WORK_MEMORY
/* A sort of 32-bit keys by halves: loads, compares, stores, over 1 MiB. */
#define N 131072
static uint32_t keys[N], room[N];

static void sort_runs(uint32_t *from, uint32_t *to, unsigned width)
{
	for (unsigned start = 0; start < N; start += 2 * width) {
		unsigned i = start, j = start + width, i_end = j, j_end = j + width;

		for (unsigned k = start; k < j_end; k++)
			to[k] = j >= j_end || (i < i_end && from[i] <= from[j]) ? from[i++] : from[j++];
	}
}

uint64_t work(uint64_t rounds)
{
	uint64_t sum = 0;

	while (rounds--) {
		uint32_t *from = keys, *to = room, x = 12345;

		for (unsigned i = 0; i < N; i++)
			keys[i] = x = x * 1664525 + 1013904223;
		for (unsigned width = 1; width < N; width *= 2) {
			uint32_t *swap = from;

			sort_runs(from, to, width);
			from = to;
			to = swap;
		}
		sum += from[N / 3];
	}
	return sum;
}
#elif WORK == WORK_STRING
/* REP MOVSQ and STOSB, as kernels copy and clear pages. */
static uint64_t from[512 * 16], to[512 * 16];

uint64_t work(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
		void *d = to, *s = from;
		uint64_t n = 512;

		from[i & 511] += i;
		__asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		d = from + 512;
		n = 4096;
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(0) : "memory");
	}
	return to[1] + to[511];
}
#elif WORK == WORK_SSE
/* Doubles: a damped wave on a ring, step by step. */
static double u[1024], v[1024];

uint64_t work(uint64_t rounds)
{
	double sum = 0;

	u[0] = 1;
	while (rounds--) {
		for (int i = 0; i < 1024; i++)
			v[i] = 0.999 * v[i] + 0.1 * (u[(i + 1) & 1023] + u[(i + 1023) & 1023] - 2 * u[i]);
		for (int i = 0; i < 1024; i++)
			u[i] += v[i];
	}
	for (int i = 0; i < 1024; i++)
		sum += u[i] * u[i];
	return (uint64_t)(sum * 1e12);
}
#elif WORK == WORK_X87
uint64_t work(uint64_t rounds)
{
	volatile long double one = 1;
	long double sum = 0;

	for (uint64_t i = 1; i <= rounds; i++)
		sum += one / ((long double)i * (long double)i);
	return (uint64_t)(sum * 1e15L);
}
#elif WORK == WORK_BRANCH
/* A byte-code machine: an indirect jump for each operation. */
uint64_t work(uint64_t rounds)
{
	static const uint8_t code[] = {0, 1, 2, 0, 3, 1, 4, 2, 5, 0, 6, 1, 7};
	uint64_t a = 1, b = 2;

	for (uint64_t n = 0; n < rounds; n++) {
		for (unsigned pc = 0; pc < sizeof(code); pc++) {
			switch (code[pc]) {
			case 0: a += b; break;
			case 1: b ^= a >> 1; break;
			case 2: a = a << 5 | a >> 59; break;
			case 3: b -= 3; break;
			case 4: a &= ~(b & 7); break;
			case 5: b |= a & 0xff; break;
			case 6: a ^= 0x5a5a; break;
			default: b += a; break;
			}
		}
	}
	return a ^ b;
}
#endif

void guest_main(void)
{
	uint64_t sum;

	out8(0x3fb, 3); /* 8n1 */
	put('S');
	put('\n');
	sum = work(ROUNDS);
	put('E');
	put(' ');
	put_hex(sum);
	put('\n');
	out8(0xf4, 0);
}
