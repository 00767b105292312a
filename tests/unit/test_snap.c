/* Declared state: reset, round trip, and hostile streams. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snap/snap.h"

struct thing {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool on;
	uint32_t regs[5];
	uint8_t blob[7];
	uint8_t cmos[4];
	uint64_t host_side; /* not state */
};

static const struct snap_field fields[] = {
	SNAP_U(struct thing, a, 0x12),
	SNAP_U(struct thing, b, 0x1234),
	SNAP_U(struct thing, c, 0x12345678),
	SNAP_U(struct thing, d, 0x123456789abcdef0),
	SNAP_B(struct thing, on, 1),
	SNAP_ARRAY(struct thing, regs, 0xffff0000),
	{ "blob", offsetof(struct thing, blob), 7, 1, SNAP_BYTES, 0xee, false },
	{ "cmos", offsetof(struct thing, cmos), 1, 4, SNAP_UINT, 0x55, true },
};
static const struct snap_desc desc = { "thing", 3, fields, ARRAY_SIZE(fields) };

static void fill(struct thing *t)
{
	memset(t, 0, sizeof(*t));
	t->a = 1;
	t->b = 0x0203;
	t->c = 0x04050607;
	t->d = 0x08090a0b0c0d0e0f;
	t->on = true;
	for (unsigned i = 0; i < 5; i++)
		t->regs[i] = 0x10101010 * i;
	memcpy(t->blob, "1234567", 7);
	memcpy(t->cmos, "abcd", 4);
	t->host_side = 99;
}

static void test_reset(void **state)
{
	struct thing t;

	fill(&t);
	t.on = false;
	snap_reset(&desc, &t, false);
	assert_int_equal(t.a, 0x12);
	assert_int_equal(t.b, 0x1234);
	assert_int_equal(t.c, 0x12345678);
	assert_int_equal(t.d, 0x123456789abcdef0);
	assert_true(t.on);
	assert_int_equal(t.regs[0], 0xffff0000);
	assert_int_equal(t.regs[4], 0xffff0000);
	assert_int_equal(t.blob[6], 0xee);
	assert_memory_equal(t.cmos, "abcd", 4);
	assert_int_equal(t.host_side, 99);
	snap_reset(&desc, &t, true);
	assert_int_equal(t.cmos[3], 0x55);
}

static void test_round_trip(void **state)
{
	struct thing t, u, zero = { 0 };
	struct snap_stream s = { 0 };

	fill(&t);
	assert_int_equal(snap_write(&desc, &t, &s), 0);
	assert_int_equal(snap_write(&desc, &zero, &s), 0);
	memset(&u, 0, sizeof(u));
	u.host_side = 99;
	assert_int_equal(snap_read(&desc, &u, &s, NULL), 0);
	assert_memory_equal(&t, &u, sizeof(t));
	assert_int_equal(snap_read(&desc, &u, &s, NULL), 0);
	assert_int_equal(u.d, 0);
	assert_int_equal(s.pos, s.len);
	assert_int_not_equal(snap_read(&desc, &u, &s, NULL), 0);
	/* Little-endian, self-describing: the first bytes are part of the format. */
	assert_memory_equal(s.data, "\5thing\3\0\10\0\1a\1\1\0\1\0\1\1b\1\2\0\1\0\3\2", 27);
	snap_stream_free(&s);
}

/* The stream in an allocation of exactly its length, so that ASan sees a read past it. */
static int read_exact(const uint8_t *data, size_t len, struct thing *u)
{
	struct snap_stream s = { .data = malloc(len ? len : 1), .len = len, .cap = len };
	struct err e = { "" };
	int r;

	memcpy(s.data, data, len);
	r = snap_read(&desc, u, &s, &e);
	if (r < 0) {
		assert_int_equal(r, -EINVAL);
		assert_int_equal(s.pos, 0);
		assert_int_not_equal(e.text[0], 0);
	}
	snap_stream_free(&s);
	return r;
}

static void test_truncated(void **state)
{
	struct thing t, u, before;
	struct snap_stream s = { 0 };

	fill(&t);
	assert_int_equal(snap_write(&desc, &t, &s), 0);
	memset(&u, 0x5a, sizeof(u));
	before = u;
	for (size_t len = 0; len < s.len; len++) {
		assert_int_not_equal(read_exact(s.data, len, &u), 0);
		assert_memory_equal(&u, &before, sizeof(u));
	}
	assert_int_equal(read_exact(s.data, s.len, &u), 0);
	snap_stream_free(&s);
}

static void test_corrupted(void **state)
{
	struct thing t, u, before;
	struct snap_stream s = { 0 };
	unsigned refused = 0;

	fill(&t);
	assert_int_equal(snap_write(&desc, &t, &s), 0);
	for (size_t i = 0; i < s.len * 8; i++) {
		memset(&u, 0x5a, sizeof(u));
		before = u;
		s.data[i / 8] ^= 1 << i % 8;
		if (read_exact(s.data, s.len, &u) < 0) {
			assert_memory_equal(&u, &before, sizeof(u));
			refused++;
		}
		s.data[i / 8] ^= 1 << i % 8;
	}
	/* All but the values: 46 bytes of them, and the bool's lowest bit. */
	assert_int_equal(refused, (s.len - 47) * 8 + 7);
	snap_stream_free(&s);
}

static void test_other_version(void **state)
{
	struct snap_desc newer = desc;
	struct snap_stream s = { 0 };
	struct thing t;
	struct err e;

	fill(&t);
	newer.version = 4;
	assert_int_equal(snap_write(&desc, &t, &s), 0);
	assert_int_equal(snap_read(&newer, &t, &s, &e), -EINVAL);
	assert_string_equal(e.text, "state of thing is not of version 4");
	snap_stream_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset),         cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_truncated),     cmocka_unit_test(test_corrupted),
		cmocka_unit_test(test_other_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
