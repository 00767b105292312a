/* test_dev_misc.c - keyboard controller, ACPI registers, debug ports, odd ports, host bridge. */
#include "dev_fakes.h"

#include "bus/pci.h"
#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/debug_exit.h"
#include "dev/chipset/debugcon.h"
#include "dev/chipset/host_bridge.h"
#include "dev/chipset/i8042.h"
#include "dev/chipset/system_ports.h"

#define PM 0x600

static struct bus *bus;
static struct fake_line line;
static unsigned resets, power_offs;

static int setup(void **state)
{
	bus = new_bus();
	resets = power_offs = 0;
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(fake.n, 0);
	bus_free(bus);
	return 0;
}

static struct dev_signal reset_signal(void)
{
	return (struct dev_signal){count_signal, &resets};
}

static uint8_t kbd_command(uint8_t cmd)
{
	outb(bus, 0x64, cmd);
	assert_true(inb(bus, 0x64) & 1);
	return inb(bus, 0x60);
}

static void test_i8042(void **state)
{
	struct i8042 *k;

	assert_int_equal(i8042_new(&k, bus, fake_line(&line), reset_signal(), NULL), 0);
	assert_int_equal(inb(bus, 0x64) & 0x03, 0);
	assert_int_equal(kbd_command(0xaa), 0x55);
	assert_int_equal(kbd_command(0xab), 0x00);
	outb(bus, 0x64, 0x60);
	outb(bus, 0x60, 0x65);
	assert_int_equal(kbd_command(0x20), 0x65);
	assert_int_equal(line.rises, 1);
	/* No mouse: the loop-back byte is not marked as one's, and the port test fails. */
	outb(bus, 0x64, 0xd3);
	outb(bus, 0x60, 0x5a);
	assert_false(inb(bus, 0x64) & 0x20);
	assert_int_equal(inb(bus, 0x60), 0x5a);
	assert_int_equal(kbd_command(0xa9), 0x01);
	/* No keyboard: a byte to it times out at once. */
	outb(bus, 0x60, 0xf2);
	assert_true(line.level);
	assert_int_equal(inb(bus, 0x64) & 0x41, 0x41);
	assert_int_equal(inb(bus, 0x60), 0xfe);
	assert_false(line.level);
	assert_int_equal(inb(bus, 0x64) & 0x41, 0);
	/* A20 and reset. */
	assert_int_equal(kbd_command(0xd0) & 3, 3);
	assert_int_equal(resets, 0);
	outb(bus, 0x64, 0xff);
	assert_int_equal(resets, 0);
	outb(bus, 0x64, 0xfe);
	assert_int_equal(resets, 1);
	outb(bus, 0x64, 0xd1);
	outb(bus, 0x60, 0xdf);
	assert_int_equal(resets, 1);
	outb(bus, 0x64, 0xd1);
	outb(bus, 0x60, 0xfe & ~1);
	assert_int_equal(resets, 2);
	fuzz_range(bus, BUS_PIO, 0x60, 5, 5, 100000);
	i8042_reset(k);
	assert_int_equal(kbd_command(0xaa), 0x55);
	i8042_free(k);
}

static struct acpi_pm *new_pm(void)
{
	struct acpi_pm_config cfg = {.bus = bus,
				     .base = PM,
				     .sci = fake_line(&line),
				     .power_off = {count_signal, &power_offs}};
	struct acpi_pm *a;

	assert_int_equal(acpi_pm_new(&a, &cfg, NULL), 0);
	return a;
}

static uint32_t pm_get(unsigned off, unsigned size)
{
	return bus_read(bus, BUS_PIO, PM + off, size);
}

static void pm_put(unsigned off, unsigned size, uint32_t v)
{
	bus_write(bus, BUS_PIO, PM + off, size, v);
}

static void test_power_button(void **state)
{
	struct acpi_pm *a = new_pm();

	acpi_pm_power_button(a);
	assert_false(line.level);
	pm_put(2, 2, 0xffff);
	assert_int_equal(pm_get(2, 2), 0x0721);
	assert_true(line.level);
	assert_int_equal(pm_get(0, 2), 0x100);
	pm_put(0, 2, 0x00ff);
	assert_true(line.level);
	pm_put(0, 2, 0x100);
	assert_false(line.level);
	assert_int_equal(pm_get(0, 4), 0x07210000);
	pm_put(2, 2, 0);
	acpi_pm_gpe(a, 3);
	acpi_pm_gpe(a, 16);
	assert_false(line.level);
	pm_put(ACPI_GPE0 + 2, 1, 8);
	assert_true(line.level);
	assert_int_equal(pm_get(ACPI_GPE0, 4), 0x00080008);
	pm_put(ACPI_GPE0, 1, 8);
	assert_false(line.level);
	acpi_pm_free(a);
}

static void test_sleep(void **state)
{
	struct acpi_pm *a = new_pm();

	assert_int_equal(pm_get(ACPI_PM1_CNT, 2), 1); /* SCI_EN */
	pm_put(ACPI_PM1_CNT, 2, 5 << 10);
	assert_int_equal(pm_get(ACPI_PM1_CNT, 2), 5 << 10 | 1);
	assert_int_equal(power_offs, 0);
	pm_put(ACPI_PM1_CNT, 2, 1 << 10 | 1 << 13);
	assert_int_equal(power_offs, 0);
	pm_put(ACPI_PM1_CNT, 2, 5 << 10 | 1 << 13);
	assert_int_equal(power_offs, 1);
	assert_int_equal(pm_get(ACPI_PM1_CNT, 2), 5 << 10 | 1);
	acpi_pm_free(a);
}

static void test_pm_timer(void **state)
{
	struct acpi_pm *a = new_pm();
	uint32_t t0 = pm_get(ACPI_PM_TMR, 4);

	fake_run(SEC);
	assert_in_range(pm_get(ACPI_PM_TMR, 4) - t0, 3579544, 3579546);
	pm_put(ACPI_PM_TMR, 4, 0);
	assert_in_range(pm_get(ACPI_PM_TMR, 4) - t0, 3579544, 3579546);
	/* Bit 31 toggles after 599.9 s, and may interrupt. */
	pm_put(2, 2, 1);
	fake_run(598 * SEC);
	assert_false(line.level);
	fake_run(SEC);
	assert_true(line.level);
	assert_true(pm_get(ACPI_PM_TMR, 4) >> 31);
	assert_int_equal(pm_get(0, 2), 1);
	pm_put(0, 2, 1);
	assert_false(line.level);
	fake_run(600 * SEC);
	assert_true(line.level);
	acpi_pm_reset(a);
	assert_false(line.level);
	assert_int_equal(pm_get(ACPI_PM_TMR, 4), 0);
	acpi_pm_free(a);
}

static void test_pm_hostile(void **state)
{
	struct acpi_pm *a = new_pm();

	fuzz_range(bus, BUS_PIO, PM - 4, ACPI_PM_SIZE + 8, 9, 100000);
	acpi_pm_reset(a);
	assert_int_equal(pm_get(0, 4), 0);
	acpi_pm_free(a);
}

static void exited(void *ctx, uint32_t value)
{
	*(uint64_t *)ctx = value | BIT(32);
}

static void test_debug_exit(void **state)
{
	struct debug_exit *d;
	uint64_t got = 0;

	assert_int_equal(debug_exit_new(&d, bus, exited, &got, NULL), 0);
	bus_read(bus, BUS_PIO, 0xf4, 4);
	outb(bus, 0xf5, 1);
	assert_true(got == 0);
	bus_write(bus, BUS_PIO, 0xf4, 4, 0x12345678);
	assert_true(got == 0x112345678);
	outb(bus, 0xf4, 0x2a);
	assert_true(got == 0x10000002a);
	debug_exit_free(d);
}

static void con_write(struct chr *c, const uint8_t *data, size_t len)
{
	*(uint8_t *)c->receive_ctx = data[len - 1];
}

static void test_debugcon(void **state)
{
	static const struct chr_ops ops = {con_write, NULL, NULL};
	uint8_t last = 0;
	struct chr chr = {.ops = &ops, .receive_ctx = &last};
	struct debugcon *d;

	assert_int_equal(debugcon_new(&d, bus, &chr, NULL), 0);
	assert_int_equal(inb(bus, 0xe9), 0xe9);
	outb(bus, 0xe9, 'D');
	assert_int_equal(last, 'D');
	debugcon_free(d);
	assert_int_equal(inb(bus, 0xe9), 0xff);
	assert_int_equal(debugcon_new(&d, bus, NULL, NULL), 0);
	outb(bus, 0xe9, 'x');
	debugcon_free(d);
}

static void test_system_ports(void **state)
{
	struct system_ports *s;

	assert_int_equal(system_ports_new(&s, bus, reset_signal(), NULL), 0);
	outb(bus, 0x80, 0x42);
	assert_int_equal(system_ports_post_code(s), 0x42);
	assert_int_equal(inb(bus, 0x92), 2);
	outb(bus, 0x92, 0);
	assert_int_equal(inb(bus, 0x92), 0);
	outb(bus, 0x92, 3);
	assert_int_equal(resets, 1);
	outb(bus, 0x92, 3); /* only the rising bit counts */
	assert_int_equal(resets, 1);
	system_ports_reset(s);
	assert_int_equal(inb(bus, 0x92), 2);
	fuzz_range(bus, BUS_PIO, 0x80, 0x13, 6, 10000);
	system_ports_free(s);
}

static void test_host_bridge(void **state)
{
	struct irq_line intx[4] = {0};
	struct host_bridge *h;
	struct pci_bus *pci;

	assert_int_equal(pci_bus_new(&pci, bus, 0xe0000000, intx, NULL), 0);
	assert_int_equal(host_bridge_new(&h, pci, NULL), 0);
	assert_int_equal(bus_read(bus, BUS_MMIO, 0xe0000000, 4), 0x00081b36);
	bus_write(bus, BUS_PIO, 0xcf8, 4, 0x80000008);
	assert_int_equal(bus_read(bus, BUS_PIO, 0xcfc, 4), 0x06000000);
	pci_bus_free(pci);
	host_bridge_free(h);
}

/* A range that is taken makes creation fail, and leaves nothing claimed. */
static void test_conflicts(void **state)
{
	static const struct bus_ops ops = {0};
	struct system_ports *s;
	struct i8042 *k;
	struct err err = {0};

	assert_int_equal(bus_claim(bus, BUS_PIO, 0x64, 1, &ops, NULL, "squatter", NULL), 0);
	assert_true(i8042_new(&k, bus, fake_line(&line), reset_signal(), &err) < 0);
	assert_true(err.text[0]);
	assert_int_equal(inb(bus, 0x60), 0xff);
	assert_int_equal(bus_claim(bus, BUS_PIO, 0x60, 1, &ops, NULL, "second", NULL), 0);
	assert_int_equal(bus_claim(bus, BUS_PIO, 0x85, 1, &ops, NULL, "third", NULL), 0);
	assert_true(system_ports_new(&s, bus, reset_signal(), &err) < 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_i8042),       T(test_power_button), T(test_sleep),    T(test_pm_timer),
		T(test_pm_hostile),  T(test_debug_exit),   T(test_debugcon), T(test_system_ports),
		T(test_host_bridge), T(test_conflicts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
