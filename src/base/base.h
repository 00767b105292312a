/* base.h - what every file may use: attributes, small integer helpers, container_of. No state. */
#ifndef RINGER_BASE_BASE_H
#define RINGER_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* Bit n (0..63) as a 64-bit mask; bits lo..hi inclusive as a mask. */
#define BIT(n) (1ULL << (n))
#define BITS(hi, lo) ((~0ULL >> (63 - (hi))) & (~0ULL << (lo)))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* align is a power of two. Rounding up past 2^64 wraps: check with add_overflows() first. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

/* The low `size` bytes (1, 2, 4 or 8) of v, zero-extended. */
static inline uint64_t trunc_size(uint64_t v, unsigned size)
{
	return size >= 8 ? v : v & (BIT(size * 8) - 1);
}

/* The low `size` bytes (1, 2, 4 or 8) of v, sign-extended to 64 bits. */
static inline uint64_t sext_size(uint64_t v, unsigned size)
{
	unsigned sh = size >= 8 ? 0 : 64 - size * 8;

	return (uint64_t)((int64_t)(v << sh) >> sh);
}

static inline bool add_overflows(uint64_t a, uint64_t b)
{
	return a + b < a;
}

/* Whether [start, start+len) lies within [0, limit). No wrap for any argument. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t limit)
{
	return start <= limit && len <= limit - start;
}

/*
 * One access of 1, 2, 4 or 8 bytes to memory that others may be using, at any alignment, as the host CPU makes it:
 * not torn where the CPU does not tear it.
 */
static inline uint64_t load_once(const void *p, unsigned size)
{
	typedef uint16_t __attribute__((aligned(1), may_alias)) any16;
	typedef uint32_t __attribute__((aligned(1), may_alias)) any32;
	typedef uint64_t __attribute__((aligned(1), may_alias)) any64;

	switch (size) {
	case 1:
		return *(const volatile uint8_t *)p;
	case 2:
		return *(const volatile any16 *)p;
	case 4:
		return *(const volatile any32 *)p;
	default:
		return *(const volatile any64 *)p;
	}
}

static inline void store_once(void *p, unsigned size, uint64_t v)
{
	typedef uint16_t __attribute__((aligned(1), may_alias)) any16;
	typedef uint32_t __attribute__((aligned(1), may_alias)) any32;
	typedef uint64_t __attribute__((aligned(1), may_alias)) any64;

	switch (size) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(volatile any16 *)p = (uint16_t)v;
		break;
	case 4:
		*(volatile any32 *)p = (uint32_t)v;
		break;
	default:
		*(volatile any64 *)p = v;
	}
}

#endif
