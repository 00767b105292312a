/* memory.c - pointer chasing and bandwidth over 64 MiB buffers. */
#include <stdlib.h>
#include <string.h>
#include "bench.h"

enum { MIB = 1 << 20, BUF = 64 * MIB, LINE = 64 };

static void *buffer(int which)
{
	static void *b[2];

	if (!b[which]) {
		b[which] = aligned_alloc(4096, BUF);
		if (!b[which])
			die("aligned_alloc");
		memset(b[which], which + 1, BUF);
	}
	return b[which];
}

/* One random cycle through every cache line of the buffer (Sattolo's shuffle).
 * A unit is 65536 hops; each unit starts at the same line. */
uint64_t k_mem_chase(uint64_t units)
{
	enum { LINES = BUF / LINE, HOPS = 65536 };
	static void **start;
	void **p;

	if (!start) {
		char *base = buffer(0);
		uint32_t *order = malloc(LINES * sizeof *order), s = 2463534242u;

		if (!order)
			die("malloc");
		for (uint32_t i = 0; i < LINES; i++)
			order[i] = i;
		for (uint32_t i = LINES - 1; i; i--) {
			uint32_t j = xorshift32(&s) % i, t = order[i];

			order[i] = order[j];
			order[j] = t;
		}
		for (uint32_t i = 0; i < LINES; i++)
			*(void **)(base + (size_t)order[i] * LINE) =
				base + (size_t)order[(i + 1) % LINES] * LINE;
		start = (void **)(base + (size_t)order[0] * LINE);
		free(order);
	}
	p = start; /* runs on from unit to unit: no reuse */
	for (uint64_t n = units * HOPS; n; n--)
		p = *p;
	asm volatile("" : : "r"(p));
	/* The result must not depend on the count: where a short walk ends, as an offset in the buffer. */
	p = start;
	for (int n = 0; n < 1024; n++)
		p = *p;
	return (uint64_t)((char *)p - (char *)buffer(0));
}

/* Whether some words of two buffers agree: few enough not to count. Odd steps, so that all offsets in a page occur. */
static uint64_t same(const char *d, const char *s)
{
	for (size_t i = 0; i < BUF / 8; i += 8191)
		if (memcmp(d + i * 8, s + i * 8, 8))
			return 0xbad;
	return 1;
}

uint64_t k_mem_copy(uint64_t units)
{
	char *d = buffer(1), *s = buffer(0);

	while (units--) {
		memcpy(d, s, BUF);
		asm volatile("" : : "r"(d), "r"(s) : "memory");
	}
	return same(d, s);
}

uint64_t k_mem_rep(uint64_t units)
{
	char *d = buffer(1), *s = buffer(0);

	while (units--) {
		void *dd = d, *ss = s;
		size_t n = BUF / 8;

		asm volatile("rep movsq" : "+D"(dd), "+S"(ss), "+c"(n) : : "memory");
	}
	return same(d, s);
}

/* 64-bit loads, one at a time */
uint64_t k_mem_sum(uint64_t units)
{
	static const volatile uint64_t *p;
	uint64_t h = 0;

	if (!p) {
		p = buffer(1);
		/* What the rows before left there is full of addresses, which differ from run to run. */
		memset(buffer(1), 2, BUF);
	}
	while (units--) {
		h = 0;
		for (size_t i = 0; i < BUF / 8; i += 4)
			h += p[i] + p[i + 1] + p[i + 2] + p[i + 3];
	}
	return h;
}
