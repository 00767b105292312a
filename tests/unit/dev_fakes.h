/*
 * dev_fakes.h - what device tests run on: an event loop whose time the test moves, and lines that
 * remember. Include once, in the test program; do not link libhost.
 */
#ifndef RINGER_TESTS_DEV_FAKES_H
#define RINGER_TESTS_DEV_FAKES_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bus/bus.h"
#include "bus/irq.h"
#include "host/loop.h"

#define MS 1000000ULL
#define SEC 1000000000ULL

/* The test program has one clock and one set of timers; fake_reset() between tests. */
static struct {
	uint64_t now;
	struct loop_timer *armed[64];
	unsigned n;
} fake;

static inline void fake_reset(void)
{
	fake.now = 1000 * SEC;
	fake.n = 0;
}

uint64_t host_now_ns(void)
{
	return fake.now;
}

void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	*t = (struct loop_timer){.loop = loop, .fn = fn, .ctx = ctx};
}

void loop_timer_cancel(struct loop_timer *t)
{
	for (unsigned i = 0; i < fake.n; i++)
		if (fake.armed[i] == t)
			fake.armed[i--] = fake.armed[--fake.n];
	t->armed = false;
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	loop_timer_cancel(t);
	assert_true(fake.n < ARRAY_SIZE(fake.armed));
	t->deadline_ns = deadline_ns;
	t->armed = true;
	fake.armed[fake.n++] = t;
}

/* Moves time on, firing timers in order. Returns how many fired. */
static inline unsigned fake_run(uint64_t ns)
{
	uint64_t end = fake.now + ns;
	unsigned fired = 0;

	for (;;) {
		struct loop_timer *next = NULL;

		for (unsigned i = 0; i < fake.n; i++)
			if (!next || fake.armed[i]->deadline_ns < next->deadline_ns)
				next = fake.armed[i];
		if (!next || next->deadline_ns > end)
			break;
		fake.now = max_u64(fake.now, next->deadline_ns);
		loop_timer_cancel(next);
		next->fn(next->ctx);
		fired++;
		/* A device that re-arms for the present for ever would hang the loop thread. */
		assert_true(fired < 10000000);
	}
	fake.now = end;
	return fired;
}

struct fake_line {
	bool level;
	unsigned rises, sets;
};

static inline void fake_line_set(void *ctx, unsigned n, bool level)
{
	struct fake_line *l = ctx;

	l->rises += level && !l->level;
	l->sets++;
	l->level = level;
}

static inline struct irq_line fake_line(struct fake_line *l)
{
	*l = (struct fake_line){0};
	return (struct irq_line){.set = fake_line_set, .ctx = l};
}

static inline void count_signal(void *ctx)
{
	++*(unsigned *)ctx;
}

static inline uint8_t inb(struct bus *b, uint16_t port)
{
	return bus_read(b, BUS_PIO, port, 1);
}

static inline void outb(struct bus *b, uint16_t port, uint8_t value)
{
	bus_write(b, BUS_PIO, port, 1, value);
}

/* xorshift64*: the fuzz loops' fixed sequence. */
static inline uint64_t fuzz_next(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

/*
 * Random accesses to [base, base+len), time moving in between, sometimes by much. A biased value
 * mix, since all-random bytes seldom form a sequence of commands.
 */
static inline void fuzz_range(struct bus *b, enum bus_space space, uint64_t base, uint64_t len,
			      uint64_t seed, unsigned rounds)
{
	static const uint64_t interesting[] = {0,    1,    0xff, 0x80,      0x10,
					       0x11, 0x34, 0xb6, 0xffffffff};

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t r = fuzz_next(&seed), value = fuzz_next(&seed);
		unsigned size = 1u << (r >> 8 & 3);
		uint64_t addr = base + (r >> 16) % len;

		if (r & 1)
			value = interesting[value % ARRAY_SIZE(interesting)];
		if (r & 2)
			bus_read(b, space, addr, size);
		else
			bus_write(b, space, addr, size, value);
		if ((r & 0x1c) == 0)
			fake_run((r >> 40) % (r & 0x20 ? 3 * MS : 3000));
		if ((r & 0xff80000000000000) == 0)
			fake.now += 3600 * SEC; /* the loop thread was not scheduled for long */
	}
}

static inline struct bus *new_bus(void)
{
	struct bus *b;

	fake_reset();
	assert_int_equal(bus_new(&b, NULL, NULL), 0);
	return b;
}

#endif
