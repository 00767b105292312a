/* test_dev_pit.c - the 8254 and port 0x61, from the data sheet. */
#include "dev_fakes.h"

#include "dev/chipset/pit8254.h"
#include "dev/chipset/ticks.h"

static struct bus *bus;
static struct pit8254 *pit;
static struct fake_line irq0;

static int setup(void **state)
{
	bus = new_bus();
	assert_int_equal(pit8254_new(&pit, bus, NULL, fake_line(&irq0), NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	pit8254_free(pit);
	assert_int_equal(fake.n, 0);
	bus_free(bus);
	return 0;
}

static void program(unsigned c, unsigned mode, uint16_t count)
{
	outb(bus, 0x43, c << 6 | 0x30 | mode << 1);
	outb(bus, 0x40 + c, count);
	outb(bus, 0x40 + c, count >> 8);
}

static uint16_t read_count(unsigned c)
{
	uint8_t low = inb(bus, 0x40 + c);

	return low | inb(bus, 0x40 + c) << 8;
}

static uint16_t read_latched(unsigned c)
{
	outb(bus, 0x43, c << 6);
	return read_count(c);
}

static void pass(uint64_t clocks)
{
	fake_run(ticks_to_ns(clocks, PIT_HZ));
}

static void test_rate_generator(void **state)
{
	program(0, 2, 11932); /* 100 Hz */
	assert_true(irq0.level);
	irq0.rises = 0;
	fake_run(10 * SEC);
	assert_in_range(irq0.rises, 999, 1000);
	irq0.rises = 0;
	program(0, 2, 0); /* 65536: 18.2 Hz */
	fake_run(10 * SEC);
	assert_in_range(irq0.rises, 182, 183);
}

static void test_square_wave(void **state)
{
	program(2, 3, 1000);
	outb(bus, 0x61, 1);
	assert_true(inb(bus, 0x61) & 0x20);
	pass(499);
	assert_true(inb(bus, 0x61) & 0x20);
	pass(2);
	assert_false(inb(bus, 0x61) & 0x20);
	pass(500);
	assert_true(inb(bus, 0x61) & 0x20);
	irq0.rises = 0;
	program(0, 3, 1193);
	irq0.rises = 0;
	fake_run(SEC);
	assert_in_range(irq0.rises, 999, 1001);
}

static void test_one_shot_interrupt(void **state)
{
	program(0, 0, 1193);
	assert_false(irq0.level);
	pass(1190);
	assert_false(irq0.level);
	pass(5);
	assert_true(irq0.level);
	assert_int_equal(irq0.rises, 1);
	pass(1000000);
	assert_int_equal(irq0.rises, 1);
	program(0, 0, 100);
	assert_false(irq0.level);
	pass(101);
	assert_int_equal(irq0.rises, 2);
}

static void test_strobe(void **state)
{
	program(0, 4, 100);
	irq0.rises = 0;
	pass(99);
	assert_int_equal(irq0.rises, 0);
	pass(3);
	assert_int_equal(irq0.rises, 1);
	pass(1000000);
	assert_int_equal(irq0.rises, 1);
}

static void test_no_count_no_interrupt(void **state)
{
	program(0, 2, 1193);
	outb(bus, 0x43, 0x30); /* mode 0, count not written: how kernels stop it */
	irq0.rises = 0;
	fake_run(10 * SEC);
	assert_int_equal(irq0.rises, 0);
}

static void test_count_and_latch(void **state)
{
	program(0, 2, 10000);
	pass(100);
	assert_in_range(read_latched(0), 9898, 9901);
	outb(bus, 0x43, 0x00);
	pass(500);
	outb(bus, 0x43, 0x00); /* ignored: the first latch is still unread */
	assert_int_equal(read_count(0), 9900);
	assert_in_range(read_latched(0), 9398, 9401);
}

static void test_read_back(void **state)
{
	program(0, 2, 10000);
	program(2, 0, 500);
	pass(10);
	outb(bus, 0x43, 0xc2); /* status and count of channel 0 */
	assert_int_equal(inb(bus, 0x40), 0xb4);
	assert_in_range(read_count(0), 9989, 9991);
	outb(bus, 0x43, 0xe8); /* status alone, of channel 2 */
	assert_int_equal(inb(bus, 0x42), 0x30);
	outb(bus, 0x43, 0xb0);
	outb(bus, 0x43, 0xe8);
	assert_int_equal(inb(bus, 0x42), 0x70); /* null count */
}

static void test_byte_access_and_bcd(void **state)
{
	outb(bus, 0x43, 0x94); /* channel 2, low byte, mode 2 */
	outb(bus, 0x42, 200);
	outb(bus, 0x61, 1);
	pass(50);
	assert_in_range(inb(bus, 0x42), 149, 151);
	outb(bus, 0x43, 0xb1); /* channel 2, both, mode 0, BCD */
	outb(bus, 0x42, 0x00);
	outb(bus, 0x42, 0x10); /* 1000 */
	pass(1);
	assert_int_equal(read_latched(2), 0x999);
	pass(1000);
	assert_int_equal(read_latched(2) >> 12, 9); /* wrapped below zero: 9999 */
}

/* How kernels calibrate their TSC: gate channel 2, mode 0, poll bit 5. */
static void test_port_61_calibration(void **state)
{
	outb(bus, 0x61, (inb(bus, 0x61) & ~2) | 1);
	program(2, 0, 59659); /* 50 ms */
	assert_false(inb(bus, 0x61) & 0x20);
	fake_run(49 * MS);
	assert_false(inb(bus, 0x61) & 0x20);
	fake_run(2 * MS);
	assert_true(inb(bus, 0x61) & 0x20);
}

static void test_gate_stops_counting(void **state)
{
	outb(bus, 0x61, 1);
	program(2, 0, 1000);
	pass(400);
	outb(bus, 0x61, 0);
	pass(5000);
	assert_false(inb(bus, 0x61) & 0x20);
	assert_in_range(read_latched(2), 599, 601);
	outb(bus, 0x61, 1);
	pass(598);
	assert_false(inb(bus, 0x61) & 0x20);
	pass(4);
	assert_true(inb(bus, 0x61) & 0x20);
}

static void test_hardware_triggered(void **state)
{
	program(2, 1, 100);
	assert_true(inb(bus, 0x61) & 0x20);
	pass(1000);
	assert_true(inb(bus, 0x61) & 0x20);
	outb(bus, 0x61, 1); /* the rising gate starts it */
	assert_false(inb(bus, 0x61) & 0x20);
	outb(bus, 0x61, 0); /* and cannot stop it */
	pass(99);
	assert_false(inb(bus, 0x61) & 0x20);
	outb(bus, 0x61, 1); /* but restart it */
	pass(99);
	assert_false(inb(bus, 0x61) & 0x20);
	pass(2);
	assert_true(inb(bus, 0x61) & 0x20);
}

static void test_port_61_bits(void **state)
{
	uint8_t a;

	outb(bus, 0x61, 0xff);
	assert_int_equal(inb(bus, 0x61) & 0xcf, 0x0f);
	a = inb(bus, 0x61);
	fake_run(15085);
	assert_int_equal((inb(bus, 0x61) ^ a) & 0x10, 0x10);
}

/* The fastest rate a guest can set costs a bounded number of timer events. */
static void test_rate_is_bounded(void **state)
{
	program(0, 2, 1);
	assert_in_range(fake_run(SEC), 1000, 60000);
	program(0, 3, 2);
	assert_in_range(fake_run(SEC), 1000, 60000);
}

static void test_missed_periods_do_not_pile_up(void **state)
{
	program(0, 2, 1193);
	fake.now += 60 * SEC;
	irq0.rises = 0;
	assert_in_range(fake_run(10 * MS), 9, 12);
	assert_in_range(irq0.rises, 9, 12);
}

static void test_hostile(void **state)
{
	for (unsigned i = 0; i < 200; i++) {
		fuzz_range(bus, BUS_PIO, 0x40, 4, 7 + i, 300);
		fuzz_range(bus, BUS_PIO, 0x61, 1, 77 + i, 20);
	}
	pit8254_reset(pit);
	assert_int_equal(fake.n, 0);
	test_rate_generator(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rate_generator),
		T(test_square_wave),
		T(test_one_shot_interrupt),
		T(test_strobe),
		T(test_no_count_no_interrupt),
		T(test_count_and_latch),
		T(test_read_back),
		T(test_byte_access_and_bcd),
		T(test_port_61_calibration),
		T(test_gate_stops_counting),
		T(test_hardware_triggered),
		T(test_port_61_bits),
		T(test_rate_is_bounded),
		T(test_missed_periods_do_not_pile_up),
		T(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
