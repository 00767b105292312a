/* test_dev_rtc.c - the MC146818 and its calendar. */
#include "dev_fakes.h"

#include <time.h>

#include "dev/chipset/rtc.h"
#include "dev/chipset/rtc_time.h"

static struct bus *bus;
static struct rtc *rtc;
static struct fake_line irq8;
static int64_t utc_base; /* wall clock at fake.now == 1000 s */

static int64_t fake_utc(void *ctx)
{
	return utc_base + (int64_t)(fake.now - 1000 * SEC);
}

static int setup(void **state)
{
	struct rtc_config cfg = {.utc_ns = fake_utc};

	bus = new_bus();
	utc_base = 1709210096 * (int64_t)SEC; /* Thu 2024-02-29 12:34:56 UTC */
	cfg.bus = bus;
	cfg.irq8 = fake_line(&irq8);
	assert_int_equal(rtc_new(&rtc, &cfg, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	rtc_free(rtc);
	assert_int_equal(fake.n, 0);
	bus_free(bus);
	return 0;
}

static uint8_t get(uint8_t i)
{
	outb(bus, 0x70, i);
	return inb(bus, 0x71);
}

static void put(uint8_t i, uint8_t v)
{
	outb(bus, 0x70, i);
	outb(bus, 0x71, v);
}

static void assert_time(uint8_t century, uint8_t y, uint8_t mo, uint8_t d, uint8_t wd, uint8_t h,
			uint8_t mi, uint8_t s)
{
	assert_int_equal(get(0x32), century);
	assert_int_equal(get(9), y);
	assert_int_equal(get(8), mo);
	assert_int_equal(get(7), d);
	assert_int_equal(get(6), wd);
	assert_int_equal(get(4), h);
	assert_int_equal(get(2), mi);
	assert_int_equal(get(0), s);
}

static void test_calendar_agrees_with_libc(void **state)
{
	uint64_t seed = 42;

	for (int i = 0; i < 20000; i++) {
		time_t s = (time_t)(fuzz_next(&seed) % (400ULL * 366 * 86400)) - 3000000000LL;
		struct rtc_time t;
		struct tm tm;

		gmtime_r(&s, &tm);
		rtc_time_split(s, &t);
		assert_int_equal(t.year, tm.tm_year + 1900);
		assert_int_equal(t.month, tm.tm_mon + 1);
		assert_int_equal(t.day, tm.tm_mday);
		assert_int_equal(t.weekday, tm.tm_wday + 1);
		assert_int_equal(t.hour * 3600 + t.minute * 60 + t.second,
				 tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec);
		assert_true(rtc_time_join(&t) == s);
	}
}

static void test_time_encodings(void **state)
{
	assert_int_equal(get(0xb), 0x02);
	assert_int_equal(get(0xd), 0x80);
	assert_time(0x20, 0x24, 0x02, 0x29, 0x05, 0x12, 0x34, 0x56);
	fake_run(11 * 3600 * SEC + 25 * 60 * SEC + 4 * SEC);
	assert_time(0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00);
	put(0xb, 0x06);
	assert_time(20, 24, 3, 1, 6, 0, 0, 0);
	put(0xb, 0x04); /* 12-hour, binary */
	assert_int_equal(get(4), 12);
	fake_run(13 * 3600 * SEC);
	assert_int_equal(get(4), 0x81);
	put(0xb, 0x00);
	assert_int_equal(get(4), 0x81);
	fake_run(10 * 3600 * SEC);
	assert_int_equal(get(4), 0x91);
}

static void test_set_time(void **state)
{
	put(0xb, 0x82);
	put(0x32, 0x19);
	put(9, 0x99);
	put(8, 0x12);
	put(7, 0x31);
	put(4, 0x23);
	put(2, 0x59);
	put(0, 0x58);
	fake_run(100 * SEC); /* held */
	assert_int_equal(get(0), 0x58);
	put(0xb, 0x02);
	assert_time(0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58);
	fake_run(2 * SEC);
	assert_time(0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00);
	put(4, 0x07); /* without SET, one register at a time */
	assert_time(0x20, 0x00, 0x01, 0x01, 7, 0x07, 0x00, 0x00);
	rtc_reset(rtc); /* battery-backed */
	assert_time(0x20, 0x00, 0x01, 0x01, 7, 0x07, 0x00, 0x00);
}

static void test_update_in_progress(void **state)
{
	assert_false(get(0xa) & 0x80);
	fake_run(SEC - 200000);
	assert_true(get(0xa) & 0x80);
	fake_run(200000);
	assert_false(get(0xa) & 0x80);
	assert_int_equal(get(0), 0x57);
}

static void test_update_interrupt(void **state)
{
	get(0xc);
	put(0xb, 0x12);
	assert_false(irq8.level);
	fake_run(SEC + 1);
	assert_true(irq8.level);
	fake_run(5 * SEC);
	assert_int_equal(irq8.rises, 1); /* until register C is read */
	assert_int_equal(get(0xc) & 0xb0, 0x90);
	assert_false(irq8.level);
	assert_int_equal(get(0xc) & 0xb0, 0);
	for (int i = 0; i < 10; i++) {
		fake_run(SEC);
		assert_int_equal(get(0xc) & 0xb0, 0x90);
	}
	assert_int_equal(irq8.rises, 11);
	put(0xb, 0x92); /* SET clears UIE */
	assert_int_equal(get(0xb), 0x82);
}

static void test_periodic_interrupt(void **state)
{
	unsigned ticks = 0;

	put(0xa, 0x26); /* 1024 Hz */
	get(0xc);
	put(0xb, 0x42);
	for (int i = 0; i < 10000; i++) {
		fake_run(100000);
		if (irq8.level) {
			assert_int_equal(get(0xc) & 0xc0, 0xc0);
			ticks++;
		}
	}
	assert_in_range(ticks, 1020, 1026);
	put(0xa, 0x20); /* no rate */
	get(0xc);
	fake_run(SEC);
	assert_false(irq8.level);
}

static void test_alarm(void **state)
{
	put(5, 0x12);
	put(3, 0x35);
	put(1, 0x10);
	get(0xc);
	put(0xb, 0x22);
	fake_run(13 * SEC); /* 12:35:09 */
	assert_false(irq8.level);
	fake_run(SEC + 1);
	assert_true(irq8.level);
	assert_int_equal(get(0xc) & 0xa0, 0xa0);
	fake_run(86399 * SEC);
	assert_false(irq8.level);
	fake_run(SEC);
	assert_true(irq8.level);
	get(0xc);
	put(5, 0xff); /* any hour, any minute: every minute */
	put(3, 0xc0);
	get(0xc);
	irq8.rises = 0;
	for (int i = 0; i < 600; i++) {
		fake_run(SEC);
		get(0xc);
	}
	assert_int_equal(irq8.rises, 10);
	put(1, 0x77); /* a second that never comes */
	get(0xc);
	irq8.rises = 0;
	fake_run(2 * 86400 * SEC);
	assert_int_equal(irq8.rises, 0);
}

/* Without interrupts, a guest polls the flags of register C. */
static void test_flags_without_interrupts(void **state)
{
	get(0xc);
	assert_int_equal(fake.n, 0);
	fake_run(SEC);
	assert_int_equal(get(0xc) & 0xd0, 0x50);
	assert_false(irq8.level);
}

static void test_wall_clock_steps(void **state)
{
	put(0xb, 0x12);
	get(0xc);
	utc_base -= 7200 * (int64_t)SEC;
	fake_run(3 * SEC);
	assert_true(irq8.level);
	utc_base += 86400 * (int64_t)SEC;
	get(0xc);
	fake_run(2 * SEC);
	assert_true(irq8.level);
}

static void test_ram_and_memory_size(void **state)
{
	rtc_set_memory_size(rtc, MIB(512), GIB(1));
	assert_int_equal(get(0x15) | get(0x16) << 8, 640);
	assert_int_equal(get(0x17) | get(0x18) << 8, 0xffff);
	assert_int_equal(get(0x30) | get(0x31) << 8, 0xffff);
	assert_int_equal(get(0x34) | get(0x35) << 8, (512 - 16) * 16);
	assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 1024 * 16);
	rtc_set_memory_size(rtc, MIB(2), 0);
	assert_int_equal(get(0x17) | get(0x18) << 8, 1024);
	assert_int_equal(get(0x34) | get(0x35) << 8, 0);
	put(0x40, 0xa5);
	put(0x80 | 0x41, 0x5a); /* bit 7 is the NMI mask */
	rtc_reset(rtc);
	assert_int_equal(get(0x40), 0xa5);
	assert_int_equal(get(0x41), 0x5a);
}

static void test_hostile(void **state)
{
	for (unsigned i = 0; i < 300; i++) {
		fuzz_range(bus, BUS_PIO, 0x70, 2, 11 + i, 200);
		get(0xc);
		put(0xa, 0x26);
		put(0xb, i & 0x7f);
		put(i % 14, i * 7);
	}
	put(0xa, 0x2f);
	put(0xb, 0x82);
	put(0xb, 0x02);
	get(0xc);
	fake_run(SEC);
	assert_int_equal(get(0xc) & 0x10, 0x10);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calendar_agrees_with_libc),
		T(test_time_encodings),
		T(test_set_time),
		T(test_update_in_progress),
		T(test_update_interrupt),
		T(test_periodic_interrupt),
		T(test_alarm),
		T(test_flags_without_interrupts),
		T(test_wall_clock_steps),
		T(test_ram_and_memory_size),
		T(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
