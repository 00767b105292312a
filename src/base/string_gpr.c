/*
 * memcpy(), memmove(), memset(), memcmp() and bcmp() by general registers, for light code (light.h).
 *
 * They carry the standard names because compilers call those by themselves, for structures say, and are hidden: every
 * object of the program is bound to them, and shared libraries keep libc's. Short lengths, which is nearly all, go
 * by words; longer ones by REP MOVSB and STOSB, which on any CPU of the last decade (ERMS) are about as fast as vector
 * code from a few hundred bytes on. Compiled with -fno-builtin, or these loops would become calls of themselves.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/light.h"

#define REP_MIN 256 /* bytes: below, REP's start costs more than it saves */
#define hidden __attribute__((visibility("hidden")))

const bool light_code = true;

/* Any alignment, any type. */
struct word16 {
	uint16_t v;
} __attribute__((packed, may_alias));
struct word32 {
	uint32_t v;
} __attribute__((packed, may_alias));
struct word64 {
	uint64_t v;
} __attribute__((packed, may_alias));

static inline uint16_t get16(const uint8_t *p)
{
	return ((const struct word16 *)p)->v;
}
static inline uint32_t get32(const uint8_t *p)
{
	return ((const struct word32 *)p)->v;
}
static inline uint64_t get64(const uint8_t *p)
{
	return ((const struct word64 *)p)->v;
}
static inline void put16(uint8_t *p, uint16_t v)
{
	((struct word16 *)p)->v = v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
	((struct word32 *)p)->v = v;
}
static inline void put64(uint8_t *p, uint64_t v)
{
	((struct word64 *)p)->v = v;
}

/* Up to 16 bytes, which may overlap: all are read before any is written. */
static inline void move_short(uint8_t *d, const uint8_t *s, size_t n)
{
	if (n >= 8) {
		uint64_t a = get64(s), b = get64(s + n - 8);

		put64(d, a);
		put64(d + n - 8, b);
	} else if (n >= 4) {
		uint32_t a = get32(s), b = get32(s + n - 4);

		put32(d, a);
		put32(d + n - 4, b);
	} else if (n >= 2) {
		uint16_t a = get16(s), b = get16(s + n - 2);

		put16(d, a);
		put16(d + n - 2, b);
	} else if (n) {
		*d = *s;
	}
}

/* More than 16 bytes; d is below s, or they do not overlap. */
static inline void move_up(uint8_t *d, const uint8_t *s, size_t n)
{
	uint64_t last = get64(s + n - 8);
	uint8_t *end = d + n - 8;

	for (; d < end; d += 8, s += 8)
		put64(d, get64(s));
	put64(end, last);
}

/* More than 16 bytes; d is above s. */
static inline void move_down(uint8_t *d, const uint8_t *s, size_t n)
{
	uint64_t first = get64(s);

	for (; n > 8; n -= 8)
		put64(d + n - 8, get64(s + n - 8));
	put64(d, first);
}

static inline void rep_movs(void *d, const void *s, size_t n)
{
	asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

hidden void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	if (n <= 16)
		move_short(dst, src, n);
	else if (n < REP_MIN)
		move_up(dst, src, n);
	else
		rep_movs(dst, src, n);
	return dst;
}

hidden void *memmove(void *dst, const void *src, size_t n)
{
	size_t up = (uintptr_t)dst - (uintptr_t)src, down = (uintptr_t)src - (uintptr_t)dst;

	if (n <= 16)
		move_short(dst, src, n);
	else if (up < n)
		move_down(dst, src, n);
	else if (n < REP_MIN || down < 64) /* so close, REP MOVSB goes byte by byte */
		move_up(dst, src, n);
	else
		rep_movs(dst, src, n);
	return dst;
}

hidden void *memset(void *dst, int c, size_t n)
{
	uint64_t word = (uint8_t)c * 0x0101010101010101;
	uint8_t *d = dst;

	if (n >= REP_MIN) {
		asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	} else if (n >= 8) {
		uint8_t *end = d + n - 8;

		for (; d < end; d += 8)
			put64(d, word);
		put64(end, word);
	} else {
		while (n--)
			*d++ = (uint8_t)c;
	}
	return dst;
}

hidden int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *p = a, *q = b;

	for (; n >= 8; n -= 8, p += 8, q += 8) {
		uint64_t x = get64(p), y = get64(q);

		if (x != y) {
			x = __builtin_bswap64(x);
			y = __builtin_bswap64(y);
			return x < y ? -1 : 1;
		}
	}
	for (; n; n--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

hidden int bcmp(const void *a, const void *b, size_t n)
{
	return memcmp(a, b, n);
}
