/* test_dev_cpu_hotplug.c - the hot-plug registers, as the guest's ACPI code and a hostile guest use them. */
#include "dev_fakes.h"

#include <string.h>

#include "dev/chipset/cpu_hotplug.h"

#define BASE 0x640
#define NONE 0xffffffffu

static struct bus *bus;
static struct cpu_hotplug *h;
static unsigned notified, ejected[CPU_HOTPLUG_MAX];

static void on_notify(void *ctx)
{
	notified++;
}

static void on_eject(void *ctx, unsigned cpu)
{
	assert_true(cpu < CPU_HOTPLUG_MAX);
	ejected[cpu]++;
}

static int setup(void **state)
{
	const struct cpu_hotplug_config cfg = {.notify = on_notify, .eject = on_eject, .base = BASE};
	struct cpu_hotplug_config c = cfg;

	bus = new_bus();
	c.bus = bus;
	notified = 0;
	memset(ejected, 0, sizeof(ejected));
	assert_int_equal(cpu_hotplug_new(&h, &c, NULL), 0);
	cpu_hotplug_reset(h, 3);
	return 0;
}

static int teardown(void **state)
{
	cpu_hotplug_free(h);
	bus_free(bus);
	return 0;
}

static uint32_t get(unsigned reg, unsigned size)
{
	return (uint32_t)bus_read(bus, BUS_PIO, BASE + reg, size);
}

static void put(unsigned reg, unsigned size, uint32_t v)
{
	bus_write(bus, BUS_PIO, BASE + reg, size, v);
}

static uint32_t status_of(uint32_t cpu)
{
	put(CPU_HOTPLUG_SELECT, 4, cpu);
	return get(CPU_HOTPLUG_STATUS, 1);
}

static void test_present(void **state)
{
	assert_int_equal(status_of(0), CPU_HOTPLUG_PRESENT);
	assert_int_equal(status_of(1), CPU_HOTPLUG_PRESENT);
	assert_int_equal(status_of(2), 0);
	assert_int_equal(status_of(63), 0);
	assert_int_equal(status_of(64), 0);
	assert_int_equal(status_of(NONE), 0);
	assert_int_equal(get(CPU_HOTPLUG_SELECT, 4), NONE);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), NONE);
	assert_int_equal(notified, 0);
}

static void test_comes(void **state)
{
	cpu_hotplug_insert(h, 63);
	cpu_hotplug_insert(h, 2);
	assert_int_equal(notified, 2);
	assert_int_equal(status_of(2), CPU_HOTPLUG_PRESENT | CPU_HOTPLUG_INSERTED);
	put(CPU_HOTPLUG_SELECT, 4, 0);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), 2);
	assert_int_equal(get(CPU_HOTPLUG_SELECT, 4), 2);
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_TOLD_INSERTED);
	assert_int_equal(get(CPU_HOTPLUG_STATUS, 1), CPU_HOTPLUG_PRESENT);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), 63);
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_TOLD_INSERTED);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), NONE);
	assert_int_equal(get(CPU_HOTPLUG_SELECT, 4), 63);
}

static void test_goes(void **state)
{
	cpu_hotplug_ask_to_leave(h, 1);
	cpu_hotplug_ask_to_leave(h, 5); /* is not there */
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), 1);
	assert_int_equal(get(CPU_HOTPLUG_STATUS, 1), CPU_HOTPLUG_PRESENT | CPU_HOTPLUG_LEAVE);
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_TOLD_LEAVE);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), NONE);
	assert_int_equal(ejected[1], 0);
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_EJECT);
	assert_int_equal(ejected[1], 1);
	assert_int_equal(get(CPU_HOTPLUG_STATUS, 1), 0);
	/* Once only; and it may come again. */
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_EJECT);
	assert_int_equal(ejected[1], 1);
	cpu_hotplug_insert(h, 1);
	put(CPU_HOTPLUG_COMMAND, 1, CPU_HOTPLUG_EJECT);
	assert_int_equal(ejected[1], 2);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), NONE);
}

static void test_refused(void **state)
{
	static const uint32_t whom[] = {0, 2, 63, 64, 0x80000000, NONE};

	for (unsigned i = 0; i < ARRAY_SIZE(whom); i++) {
		put(CPU_HOTPLUG_SELECT, 4, whom[i]);
		for (unsigned c = 0; c < 256; c++)
			put(CPU_HOTPLUG_COMMAND, 1, c);
	}
	for (unsigned i = 0; i < CPU_HOTPLUG_MAX; i++)
		assert_int_equal(ejected[i], 0);
	assert_int_equal(status_of(0), CPU_HOTPLUG_PRESENT);
}

static void test_hostile(void **state)
{
	uint32_t x = 12345;

	for (unsigned i = 0; i < 200000; i++) {
		unsigned size;

		x = x * 1664525 + 1013904223;
		size = 1u << (x >> 30) % 3;
		if (x >> 29 & 1)
			put(x >> 8 & 15, size, x);
		else
			get(x >> 8 & 15, size);
	}
	assert_int_equal(ejected[0], 0);
	assert_true(ejected[1] <= 1);
	assert_int_equal(notified, 0);
}

static void test_reset(void **state)
{
	cpu_hotplug_insert(h, 2);
	cpu_hotplug_ask_to_leave(h, 1);
	cpu_hotplug_reset(h, 5);
	assert_int_equal(get(CPU_HOTPLUG_NEXT, 4), NONE);
	assert_int_equal(status_of(1), 0);
	assert_int_equal(status_of(2), CPU_HOTPLUG_PRESENT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_present), T(test_comes),   T(test_goes),
					   T(test_refused), T(test_hostile), T(test_reset)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
