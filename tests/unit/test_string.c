/* memcpy() and its kin by general registers (src/base/string_gpr.c), against bytewise ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/light.h"

#define SIZE 2048
#define LONGEST 600

/* Through pointers: the compiler must not expand them. */
static void *(*volatile copy)(void *restrict, const void *restrict, size_t) = memcpy;
static void *(*volatile move)(void *, const void *, size_t) = memmove;
static void *(*volatile set)(void *, int, size_t) = memset;
static int (*volatile compare)(const void *, const void *, size_t) = memcmp;

static void pattern(uint8_t *p)
{
	for (unsigned i = 0; i < SIZE; i++)
		p[i] = (uint8_t)(i * 37 + (i >> 8));
}

static void check_move(void *(*fn)(void *, const void *, size_t), unsigned to, unsigned from, unsigned n)
{
	uint8_t a[SIZE], expect[SIZE];

	pattern(a);
	pattern(expect);
	for (unsigned i = 0; i < n; i++)
		expect[to + i] = (uint8_t)((from + i) * 37 + ((from + i) >> 8));
	assert_ptr_equal(fn(a + to, a + from, n), a + to);
	for (unsigned i = 0; i < SIZE; i++)
		if (a[i] != expect[i])
			fail_msg("%u bytes from %u to %u: byte %u is wrong", n, from, to, i);
}

static void test_copy(void **state)
{
	for (unsigned n = 0; n < LONGEST; n++) {
		check_move((void *(*)(void *, const void *, size_t))copy, 3, 1000, n);
		check_move((void *(*)(void *, const void *, size_t))copy, 1001, 8, n);
	}
}

static void test_move(void **state)
{
	static const unsigned distances[] = {0, 1, 2, 7, 8, 9, 15, 16, 63, 64, 65, 200, 255, 256, 257, 700};

	for (unsigned n = 0; n < LONGEST; n++)
		for (unsigned i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
			check_move(move, 5, 5 + distances[i], n);
			check_move(move, 5 + distances[i], 5, n);
		}
}

static void test_set(void **state)
{
	for (unsigned n = 0; n < LONGEST; n++)
		for (unsigned at = 1; at < 10; at += 4) {
			uint8_t a[SIZE];

			pattern(a);
			assert_ptr_equal(set(a + at, 0x1a5, n), a + at);
			for (unsigned i = 0; i < SIZE; i++)
				assert_int_equal(a[i], i >= at && i < at + n ? 0xa5 : (uint8_t)(i * 37 + (i >> 8)));
		}
}

static int sign(int x)
{
	return (x > 0) - (x < 0);
}

static void test_compare(void **state)
{
	uint8_t a[SIZE], b[SIZE];

	pattern(a);
	pattern(b);
	for (unsigned n = 0; n < 40; n++) {
		assert_int_equal(compare(a + 1, b + 1, n), 0);
		for (unsigned i = 0; i < n; i++) {
			uint8_t old = b[1 + i];

			b[1 + i] = (uint8_t)(old ^ 0x80);
			assert_int_equal(sign(compare(a + 1, b + 1, n)), old < b[1 + i] ? -1 : 1);
			/* The first difference counts, not the last. */
			if (i + 1 < n) {
				uint8_t later = b[2 + i];

				b[2 + i] = a[2 + i] > 127 ? 0 : 255;
				assert_int_equal(sign(compare(a + 1, b + 1, n)), old < b[1 + i] ? -1 : 1);
				b[2 + i] = later;
			}
			b[1 + i] = old;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy), cmocka_unit_test(test_move), cmocka_unit_test(test_set),
		cmocka_unit_test(test_compare),
	};

	print_message("light code: %s\n", light_code ? "yes" : "no");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
