/* The bus: ranges, cutting of accesses, unclaimed ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "bus/bus.h"

/* A device that remembers its accesses and reads as its offsets. */
struct probe {
	struct {
		uint64_t off, value;
		unsigned size;
	} log[16];
	unsigned n;
	struct bus *bus;
	uint64_t release; /* what a write releases */
};

static uint64_t probe_read(void *dev, uint64_t off, unsigned size)
{
	struct probe *p = dev;
	uint64_t v = 0;

	if (p->n < 16) {
		p->log[p->n].off = off;
		p->log[p->n++].size = size;
	}
	for (unsigned i = 0; i < 8; i++) /* too many bytes: the bus must cut them off */
		v |= ((off + i + 0x10) & 0xff) << (8 * i);
	return v;
}

static void probe_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct probe *p = dev;

	if (p->n < 16) {
		p->log[p->n].off = off;
		p->log[p->n].value = value;
		p->log[p->n++].size = size;
	}
	if (p->bus)
		bus_release(p->bus, BUS_MMIO, p->release);
}

static const struct bus_ops any = { probe_read, probe_write, 0, 0 };
static const struct bus_ops bytes = { probe_read, probe_write, 1, 1 };
static const struct bus_ops words = { probe_read, probe_write, 4, 4 };

struct sink {
	unsigned lines;
};

static void count_line(void *ctx, enum log_level level, const char *line)
{
	((struct sink *)ctx)->lines++;
}

static struct bus *make(const struct log *log)
{
	struct bus *b;

	assert_int_equal(bus_new(&b, log, NULL), 0);
	return b;
}

static void test_claims(void **state)
{
	struct bus *b = make(NULL);
	struct probe p = { 0 };
	struct err e;

	assert_int_equal(bus_claim(b, BUS_PIO, 0x60, 1, &any, &p, "data", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x64, 1, &any, &p, "command", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x61, 3, &any, &p, "between", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x50, 0x11, &any, &p, "new", &e), -EBUSY);
	assert_string_equal(e.text, "new: 0x50..0x60 is taken by data");
	assert_int_equal(bus_claim(b, BUS_PIO, 0x62, 1, &any, &p, "in", NULL), -EBUSY);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x0, 0x10000, &any, &p, "all", NULL), -EBUSY);
	assert_int_equal(bus_claim(b, BUS_PIO, 0xffff, 2, &any, &p, "past", NULL), -EINVAL);
	assert_int_equal(bus_claim(b, BUS_PIO, 0xffff, 1, &any, &p, "last", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x80, 0, &any, &p, "empty", NULL), -EINVAL);
	assert_int_equal(bus_claim(b, BUS_MMIO, UINT64_MAX, 2, &any, &p, "wrap", NULL), -EINVAL);
	assert_int_equal(bus_claim(b, BUS_MMIO, UINT64_MAX - 3, 4, &words, &p, "top", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_MMIO, 0, 6, &words, &p, "odd", NULL), -EINVAL);
	bus_release(b, BUS_PIO, 0x62); /* not a start: no-op */
	bus_release(b, BUS_PIO, 0x61);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x62, 1, &any, &p, "in", NULL), 0);
	bus_free(b);
}

struct listing {
	uint64_t base[64];
	unsigned n;
};

static void list(void *ctx, uint64_t base, uint64_t len, const char *name)
{
	struct listing *l = ctx;

	l->base[l->n++] = base;
}

static void test_order_and_lookup(void **state)
{
	struct bus *b = make(NULL);
	struct probe p[50] = { 0 };
	struct listing l = { 0 };

	/* 37 is coprime to 50: every slot once, out of order */
	for (unsigned i = 0; i < 50; i++) {
		unsigned k = i * 37 % 50;

		assert_int_equal(
			bus_claim(b, BUS_MMIO, 0x1000 + k * 0x20, 0x10, &any, &p[k], "p", NULL), 0);
	}
	bus_for_each(b, BUS_MMIO, list, &l);
	assert_int_equal(l.n, 50);
	for (unsigned k = 0; k < 50; k++) {
		assert_int_equal(l.base[k], 0x1000 + k * 0x20);
		bus_write(b, BUS_MMIO, 0x1000 + k * 0x20 + 0xf, 1, k);
		assert_int_equal(p[k].n, 1);
		assert_int_equal(p[k].log[0].off, 0xf);
		assert_int_equal(p[k].log[0].value, k);
		assert_int_equal(bus_read(b, BUS_MMIO, 0x1000 + k * 0x20 + 0x10, 1), 0xff);
	}
	assert_int_equal(bus_unclaimed(b, BUS_MMIO), 50);
	assert_int_equal(bus_unclaimed(b, BUS_PIO), 0);
	bus_free(b);
}

static void test_split(void **state)
{
	struct bus *b = make(NULL);
	struct probe p = { 0 }, w = { 0 };

	assert_int_equal(bus_claim(b, BUS_PIO, 0x70, 4, &bytes, &p, "bytes", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_MMIO, 0x1000, 0x100, &words, &w, "words", NULL), 0);
	bus_write(b, BUS_PIO, 0x70, 4, 0x44332211);
	assert_int_equal(p.n, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(p.log[i].off, i);
		assert_int_equal(p.log[i].size, 1);
		assert_int_equal(p.log[i].value, 0x11 * (i + 1));
	}
	assert_int_equal(bus_read(b, BUS_PIO, 0x71, 2), 0x1211);
	bus_write(b, BUS_MMIO, 0x1008, 8, 0x8877665544332211);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.log[0].off, 8);
	assert_int_equal(w.log[0].value, 0x44332211);
	assert_int_equal(w.log[1].off, 12);
	assert_int_equal(w.log[1].value, 0x88776655);
	bus_free(b);
}

static void test_widen(void **state)
{
	struct bus *b = make(NULL);
	struct probe w = { 0 };

	assert_int_equal(bus_claim(b, BUS_MMIO, 0x1000, 0x10, &words, &w, "words", NULL), 0);
	assert_int_equal(bus_read(b, BUS_MMIO, 0x1005, 1), 0x15);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.log[0].off, 4);
	assert_int_equal(w.log[0].size, 4);
	assert_int_equal(bus_read(b, BUS_MMIO, 0x1006, 2), 0x1716);
	/* Across two registers: two widened reads. */
	w.n = 0;
	assert_int_equal(bus_read(b, BUS_MMIO, 0x1003, 2), 0x1413);
	assert_int_equal(w.n, 2);
	w.n = 0;
	bus_write(b, BUS_MMIO, 0x1004, 2, 7);
	assert_int_equal(w.n, 0);
	assert_int_equal(bus_narrow_writes(b, BUS_MMIO), 1);
	/* The end of the range cuts a word in two bytes of it and two of nobody's. */
	assert_int_equal(bus_read(b, BUS_MMIO, 0x100e, 4), 0xffff1f1e);
	assert_int_equal(bus_unclaimed(b, BUS_MMIO), 1);
	bus_free(b);
}

static void test_straddle(void **state)
{
	struct bus *b = make(NULL);
	struct probe a = { 0 }, c = { 0 };

	assert_int_equal(bus_claim(b, BUS_PIO, 0x10, 2, &any, &a, "a", NULL), 0);
	assert_int_equal(bus_claim(b, BUS_PIO, 0x13, 1, &any, &c, "c", NULL), 0);
	assert_int_equal(bus_read(b, BUS_PIO, 0x10, 4), 0x10ff1110);
	assert_int_equal(a.log[0].size, 2);
	assert_int_equal(bus_read(b, BUS_PIO, 0x0f, 4), 0xff1110ff);
	/* Ports wrap at 64 KiB; nothing is read or written outside. */
	assert_int_equal(bus_read(b, BUS_PIO, 0xfffe, 4), 0xffffffff);
	assert_int_equal(bus_read(b, BUS_MMIO, UINT64_MAX - 1, 8), UINT64_MAX);
	bus_free(b);
}

static void test_release_within_access(void **state)
{
	struct bus *b = make(NULL);
	struct probe p = { 0 };

	p.bus = b;
	p.release = 0x1000;
	assert_int_equal(bus_claim(b, BUS_MMIO, 0x1000, 0x10, &words, &p, "self", NULL), 0);
	bus_write(b, BUS_MMIO, 0x1000, 8, 0);
	assert_int_equal(p.n, 1); /* the second half met nobody */
	assert_int_equal(bus_unclaimed(b, BUS_MMIO), 1);
	bus_free(b);
}

static void test_log_is_bounded(void **state)
{
	struct sink sink = { 0 };
	struct log log = { .sink = count_line, .ctx = &sink, .level = LOG_DEBUG };
	struct bus *b = make(&log);

	for (unsigned i = 0; i < 3; i++)
		bus_read(b, BUS_PIO, 0x80, 1);
	assert_int_equal(sink.lines, 1);
	bus_write(b, BUS_MMIO, 0x5000, 4, 0);
	bus_write(b, BUS_MMIO, 0x5ff0, 4, 0);
	assert_int_equal(sink.lines, 2);
	for (unsigned i = 0; i < 0x10000; i++)
		bus_write(b, BUS_PIO, i, 1, 0);
	assert_in_range(sink.lines, 10, 300);
	assert_int_equal(bus_unclaimed(b, BUS_PIO), 0x10003);
	bus_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),         cmocka_unit_test(test_order_and_lookup),
		cmocka_unit_test(test_split),          cmocka_unit_test(test_widen),
		cmocka_unit_test(test_straddle),       cmocka_unit_test(test_release_within_access),
		cmocka_unit_test(test_log_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
