/* test_dev_pic.c - the 8259 pair, from its data sheet. */
#include "dev_fakes.h"

#include "dev/chipset/pic8259.h"

static struct bus *bus;
static struct pic8259 *pic;
static struct fake_line intr;

static int setup(void **state)
{
	bus = new_bus();
	assert_int_equal(pic8259_new(&pic, bus, fake_line(&intr), NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	pic8259_free(pic);
	bus_free(bus);
	return 0;
}

/* As a PC kernel does it: vectors 0x30.. and 0x38.., all unmasked. */
static void init(uint8_t icw4)
{
	outb(bus, 0x20, 0x11);
	outb(bus, 0x21, 0x30);
	outb(bus, 0x21, 0x04);
	outb(bus, 0x21, icw4);
	outb(bus, 0xa0, 0x11);
	outb(bus, 0xa1, 0x38);
	outb(bus, 0xa1, 0x02);
	outb(bus, 0xa1, icw4);
	outb(bus, 0x21, 0);
	outb(bus, 0xa1, 0);
}

static void pulse(unsigned irq)
{
	pic8259_set_irq(pic, irq, false);
	pic8259_set_irq(pic, irq, true);
}

static void test_mask_register(void **state)
{
	init(1);
	outb(bus, 0x21, 0xa5);
	outb(bus, 0xa1, 0x5a);
	assert_int_equal(inb(bus, 0x21), 0xa5);
	assert_int_equal(inb(bus, 0xa1), 0x5a);
	pulse(0);
	assert_false(intr.level);
	outb(bus, 0x21, 0xfe);
	assert_true(intr.level);
}

static void test_vectors_and_eoi(void **state)
{
	init(1);
	for (unsigned irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;
		pulse(irq);
		assert_true(intr.level);
		assert_int_equal(pic8259_ack(pic), 0x30 + irq);
		assert_false(intr.level);
		outb(bus, 0x20, 0x0b);
		assert_int_equal(inb(bus, 0x20), irq < 8 ? 1 << irq : 4);
		outb(bus, 0xa0, 0x0b);
		assert_int_equal(inb(bus, 0xa0), irq < 8 ? 0 : 1 << (irq - 8));
		if (irq >= 8)
			outb(bus, 0xa0, 0x20);
		outb(bus, 0x20, 0x20);
		assert_int_equal(inb(bus, 0x20), 0);
		/* The line is still high: an edge-triggered input does not ask again. */
		assert_false(intr.level);
	}
}

static void test_priorities_nest(void **state)
{
	init(1);
	pulse(4);
	assert_int_equal(pic8259_ack(pic), 0x34);
	pulse(6);
	assert_false(intr.level);
	pulse(1);
	assert_true(intr.level);
	assert_int_equal(pic8259_ack(pic), 0x31);
	outb(bus, 0x20, 0x20); /* non-specific: the highest in service, 1 */
	assert_false(intr.level);
	outb(bus, 0x20, 0x64); /* specific: 4 */
	assert_int_equal(pic8259_ack(pic), 0x36);
}

static void test_slave_request_survives_master_eoi_order(void **state)
{
	init(1);
	pulse(8);
	pulse(12);
	assert_int_equal(pic8259_ack(pic), 0x38);
	outb(bus, 0xa0, 0x20);
	assert_false(intr.level);
	outb(bus, 0x20, 0x20);
	assert_int_equal(pic8259_ack(pic), 0x3c);
}

static void test_spurious(void **state)
{
	init(1);
	pic8259_set_irq(pic, 3, true);
	pic8259_set_irq(pic, 3, false);
	assert_false(intr.level);
	assert_int_equal(pic8259_ack(pic), 0x37);
	outb(bus, 0x20, 0x0b);
	assert_int_equal(inb(bus, 0x20), 0);
	/* A request that vanishes behind the cascade leaves the slave's IR7 and the master's
	 * cascade bit. */
	pic8259_set_irq(pic, 10, true);
	outb(bus, 0xa1, 0x04);
	assert_int_equal(pic8259_ack(pic) & 7, 7);
}

static void test_level_triggered(void **state)
{
	init(1);
	outb(bus, 0x4d0, 0xff);
	outb(bus, 0x4d1, 0xff);
	assert_int_equal(inb(bus, 0x4d0), 0xf8);
	assert_int_equal(inb(bus, 0x4d1), 0xde);
	pic8259_set_irq(pic, 9, true);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pic8259_ack(pic), 0x39);
		outb(bus, 0xa0, 0x20);
		outb(bus, 0x20, 0x20);
		assert_true(intr.level); /* still asserted */
	}
	pic8259_set_irq(pic, 9, false);
	assert_false(intr.level);
}

static void test_auto_eoi_and_rotation(void **state)
{
	init(3);
	outb(bus, 0x20, 0x80); /* rotate in AEOI mode */
	pulse(3);
	pulse(5);
	assert_int_equal(pic8259_ack(pic), 0x33);
	outb(bus, 0x20, 0x0b);
	assert_int_equal(inb(bus, 0x20), 0);
	/* 3 is lowest now: 4 and 5 come before it. */
	pulse(3);
	assert_int_equal(pic8259_ack(pic), 0x35);
	assert_int_equal(pic8259_ack(pic), 0x33);
}

static void test_set_priority(void **state)
{
	init(1);
	outb(bus, 0x20, 0xc4); /* 4 lowest: 5 highest */
	pulse(1);
	pulse(5);
	assert_int_equal(pic8259_ack(pic), 0x35);
	assert_false(intr.level);
	outb(bus, 0x20, 0xa0); /* rotate on EOI: 5 lowest, 6 highest */
	pulse(5);
	assert_int_equal(pic8259_ack(pic), 0x31);
}

static void test_special_mask_mode(void **state)
{
	init(1);
	pulse(2 + 1);
	assert_int_equal(pic8259_ack(pic), 0x33);
	pulse(6);
	assert_false(intr.level);
	outb(bus, 0x21, 0x08); /* mask what is in service ... */
	assert_false(intr.level);
	outb(bus, 0x20, 0x68); /* ... and lift its priority */
	assert_true(intr.level);
	assert_int_equal(pic8259_ack(pic), 0x36);
	outb(bus, 0x20, 0x48);
	outb(bus, 0x20, 0x0b);
	assert_int_equal(inb(bus, 0x20), 0x48);
}

static void test_special_fully_nested(void **state)
{
	init(0x11);
	pulse(12);
	assert_int_equal(pic8259_ack(pic), 0x3c);
	pulse(8);
	assert_true(intr.level);
	assert_int_equal(pic8259_ack(pic), 0x38);
}

static void test_poll(void **state)
{
	init(1);
	outb(bus, 0x20, 0x0c);
	assert_int_equal(inb(bus, 0x20) & 0x80, 0);
	pulse(5);
	outb(bus, 0x20, 0x0c);
	assert_int_equal(inb(bus, 0x20), 0x85);
	outb(bus, 0x20, 0x0b);
	assert_int_equal(inb(bus, 0x20), 0x20);
}

static void test_initialization_clears(void **state)
{
	init(1);
	pulse(5);
	assert_int_equal(pic8259_ack(pic), 0x35);
	outb(bus, 0x21, 0xff);
	pulse(6);
	init(1);
	assert_false(intr.level);
	outb(bus, 0x20, 0x0b);
	assert_int_equal(inb(bus, 0x20), 0);
	outb(bus, 0x20, 0x0a);
	assert_int_equal(inb(bus, 0x20), 0);
}

static void test_hostile(void **state)
{
	init(1);
	for (unsigned i = 0; i < 300; i++) {
		fuzz_range(bus, BUS_PIO, 0x20, 2, 1 + i, 100);
		fuzz_range(bus, BUS_PIO, 0xa0, 2, 1000 + i, 100);
		fuzz_range(bus, BUS_PIO, 0x4d0, 2, 2000 + i, 10);
		pic8259_set_irq(pic, i, i >> 4 & 1);
		assert_in_range(pic8259_ack(pic), 0, 255);
	}
	pic8259_reset(pic);
	for (unsigned irq = 0; irq < 16; irq++)
		pic8259_set_irq(pic, irq, false);
	assert_false(intr.level);
	test_vectors_and_eoi(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mask_register, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vectors_and_eoi, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priorities_nest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slave_request_survives_master_eoi_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_spurious, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level_triggered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_auto_eoi_and_rotation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_priority, setup, teardown),
		cmocka_unit_test_setup_teardown(test_special_mask_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(test_special_fully_nested, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(test_initialization_clears, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
