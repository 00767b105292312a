/* The PCI core as a guest sees it: mechanism #1, ECAM, BARs, capabilities, INTx. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "bus/pci.h"
#include "bus/pci_regs.h"

#define ECAM 0xe0000000ull

struct machine {
	struct bus *bus;
	struct pci_bus *pci;
	struct pci_function a, b;
	bool line[4];
	unsigned changes;
	unsigned resets;
	unsigned written, refreshed;
};

static void set_line(void *ctx, unsigned n, bool level)
{
	struct machine *m = ctx;

	m->line[n] = level;
	m->changes++;
}

static uint64_t bar_read(void *dev, uint64_t off, unsigned size)
{
	return *(uint64_t *)dev + off;
}

static void bar_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
}

static const struct bus_ops bar_ops = { bar_read, bar_write, 0, 0 };
static uint64_t tag_a = 0xa000, tag_b = 0xb000, tag_bar1 = 0xc000;

static int setup(void **state)
{
	static struct machine m;
	struct irq_line intx[4];

	memset(&m, 0, sizeof(m));
	for (unsigned i = 0; i < 4; i++)
		intx[i] = (struct irq_line){ set_line, &m, i };
	assert_int_equal(bus_new(&m.bus, NULL, NULL), 0);
	assert_int_equal(pci_bus_new(&m.pci, m.bus, ECAM, intx, NULL), 0);
	m.a.name = "a";
	m.a.vendor = 0x1af4;
	m.a.device = 0x1042;
	m.a.class_code = 0x010802;
	m.a.subsystem = 0x40;
	m.a.irq_pin = 1;
	m.a.dev = &tag_a;
	m.a.bar[0] = (struct pci_bar){
		.size = 0x4000, .space = BUS_MMIO, .is_64bit = true, .ops = &bar_ops
	};
	m.a.bar[2] = (struct pci_bar){
		.size = 0x1000, .space = BUS_MMIO, .ops = &bar_ops, .dev = &tag_bar1
	};
	m.a.bar[3] = (struct pci_bar){ .size = 0x20, .space = BUS_PIO, .ops = &bar_ops };
	m.b.name = "b";
	m.b.vendor = 0x8086;
	m.b.device = 0x1237;
	m.b.irq_pin = 2;
	m.b.dev = &tag_b;
	m.b.bar[0] = (struct pci_bar){ .size = 0x1000, .space = BUS_MMIO, .ops = &bar_ops };
	*state = &m;
	assert_int_equal(pci_add(m.pci, &m.a, 3, NULL), 0);
	assert_int_equal(pci_add(m.pci, &m.b, 2, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	pci_bus_free(m->pci);
	bus_free(m->bus);
	return 0;
}

static uint64_t cfg(struct machine *m, unsigned slot, unsigned off, unsigned size)
{
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	return bus_read(m->bus, BUS_PIO, 0xcfc + (off & 3), size);
}

static void cfg_set(struct machine *m, unsigned slot, unsigned off, unsigned size, uint64_t v)
{
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
	bus_write(m->bus, BUS_PIO, 0xcfc + (off & 3), size, v);
}

static uint64_t ecam(struct machine *m, unsigned slot, unsigned off, unsigned size)
{
	return bus_read(m->bus, BUS_MMIO, ECAM + (slot << 15) + off, size);
}

static void test_identity(void **state)
{
	struct machine *m = *state;

	assert_int_equal(cfg(m, 3, 0, 4), 0x10421af4);
	assert_int_equal(cfg(m, 3, 2, 2), 0x1042);
	assert_int_equal(cfg(m, 3, 1, 1), 0x1a);
	assert_int_equal(cfg(m, 3, 8, 4), 0x01080200);
	assert_int_equal(cfg(m, 3, 0x3d, 1), 1);
	assert_int_equal(ecam(m, 3, 0, 4), 0x10421af4);
	assert_int_equal(ecam(m, 2, 0, 8), 0x12378086); /* two doublewords; command and status 0 */
	/* Nobody: other slots, functions, buses. */
	assert_int_equal(cfg(m, 4, 0, 4), 0xffffffff);
	assert_int_equal(ecam(m, 4, 0, 2), 0xffff);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, ECAM + (3 << 15) + 0x1000, 4), 0xffffffff);
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80010000u | 3 << 11);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcfc, 4), 0xffffffff);
	/* Disabled by bit 31, and identity cannot be written. */
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 3 << 11);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcfc, 4), 0xffffffff);
	cfg_set(m, 3, 0, 4, 0);
	assert_int_equal(cfg(m, 3, 0, 4), 0x10421af4);
	/* An access across two functions' spaces. */
	assert_int_equal(ecam(m, 3, 0xffe, 4), 0xffffffff);
}

static void test_probe_of_mechanism_1(void **state)
{
	struct machine *m = *state;

	bus_write(m->bus, BUS_PIO, 0xcfb, 1, 1);
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000000u);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcf8, 4), 0x80000000u);
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0xffffffffu);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcf8, 4), 0x80fffffcu);
	bus_write(m->bus, BUS_PIO, 0xcf8, 2, 0);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcf8, 4), 0x80fffffcu);
}

static void test_bar_sizing(void **state)
{
	struct machine *m = *state;

	assert_int_equal(cfg(m, 3, 0x10, 4), 4);
	cfg_set(m, 3, 0x10, 4, 0xffffffff);
	cfg_set(m, 3, 0x14, 4, 0xffffffff);
	assert_int_equal(cfg(m, 3, 0x10, 4), 0xffffc004);
	assert_int_equal(cfg(m, 3, 0x14, 4), 0xffffffff);
	cfg_set(m, 3, 0x18, 4, 0xffffffff);
	assert_int_equal(cfg(m, 3, 0x18, 4), 0xfffff000);
	cfg_set(m, 3, 0x1c, 4, 0xffffffff);
	assert_int_equal(cfg(m, 3, 0x1c, 4), 0xffe1);
	cfg_set(m, 3, 0x20, 4, 0xffffffff); /* no such BAR, no ROM */
	assert_int_equal(cfg(m, 3, 0x20, 4), 0);
	cfg_set(m, 3, 0x30, 4, 0xffffffff);
	assert_int_equal(cfg(m, 3, 0x30, 4), 0);
}

static void test_bar_mapping(void **state)
{
	struct machine *m = *state;
	uint64_t high = 0x4080000000ull;

	cfg_set(m, 3, 0x10, 4, (uint32_t)high);
	cfg_set(m, 3, 0x14, 4, high >> 32);
	cfg_set(m, 3, 0x18, 4, 0xc0001000);
	cfg_set(m, 3, 0x1c, 4, 0xc040);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, high + 8, 2), 0xffff);
	cfg_set(m, 3, 4, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, high + 8, 2), 0xa008);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0001004, 2), 0xc004); /* its own dev */
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xc041, 2), 0xffff);
	cfg_set(m, 3, 4, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xc041, 2), 0xa001);
	/* Moved while enabled, then disabled. */
	cfg_set(m, 3, 0x18, 4, 0xc0008000);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0001004, 2), 0xffff);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0008004, 2), 0xc004);
	cfg_set(m, 3, 4, 2, 0);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0008004, 2), 0xffff);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, high, 2), 0xffff);
}

static void test_bar_conflicts(void **state)
{
	struct machine *m = *state;

	cfg_set(m, 3, 4, 2, 3);
	cfg_set(m, 2, 4, 2, 3);
	cfg_set(m, 2, 0x10, 4, 0xc0000000);
	cfg_set(m, 3, 0x18, 4, 0xc0000000); /* taken: stays away, then gets it */
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0000000, 2), 0xb000);
	cfg_set(m, 2, 0x10, 4, 0xc0002000);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0000000, 2), 0xc000);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0002000, 2), 0xb000);
	/* Over the configuration ports and ECAM: those stay. */
	cfg_set(m, 3, 0x1c, 4, 0xce0);
	assert_int_equal(cfg(m, 3, 0x1c, 4), 0xce1);
	cfg_set(m, 3, 0x18, 4, ECAM);
	assert_int_equal(ecam(m, 3, 0x18, 4), ECAM);
	/* Swapped by ECAM in one go: all ones while enabled is harmless. */
	cfg_set(m, 3, 0x10, 4, 0xffffffff);
	cfg_set(m, 3, 0x14, 4, 0xffffffff);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xffffffffffffc000, 2), 0xa000);
}

static void test_reset(void **state)
{
	struct machine *m = *state;

	cfg_set(m, 3, 0x18, 4, 0xc0000000);
	cfg_set(m, 3, 0x3c, 1, 11);
	cfg_set(m, 3, 4, 2, 7);
	assert_true(pci_bus_master(&m->a));
	pci_set_intx(&m->a, true);
	assert_true(m->line[3]);
	pci_bus_reset(m->pci);
	assert_false(m->line[3]);
	assert_false(pci_bus_master(&m->a));
	assert_int_equal(bus_read(m->bus, BUS_MMIO, 0xc0000000, 2), 0xffff);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcf8, 4), 0);
	assert_int_equal(cfg(m, 3, 0x18, 4), 0);
	assert_int_equal(cfg(m, 3, 0x3c, 1), 0);
	assert_int_equal(cfg(m, 3, 0, 4), 0x10421af4);
}

static void test_intx(void **state)
{
	struct machine *m = *state;

	/* Slot 3 INTA and slot 2 INTB share line 3. */
	pci_set_intx(&m->a, true);
	assert_int_equal(m->changes, 1);
	assert_true(m->line[3]);
	irq_set(&m->b.intx, true);
	irq_set(&m->b.intx, true);
	pci_set_intx(&m->a, false);
	assert_int_equal(m->changes, 1);
	assert_int_equal(cfg(m, 2, 6, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	assert_int_equal(cfg(m, 3, 6, 2) & PCI_STATUS_INTERRUPT, 0);
	cfg_set(m, 2, 4, 2, PCI_COMMAND_INTX_DISABLE);
	assert_false(m->line[3]);
	assert_int_equal(cfg(m, 2, 6, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	cfg_set(m, 2, 4, 2, 0);
	assert_true(m->line[3]);
	cfg_set(m, 2, 6, 2, 0xffff); /* status is not writable */
	assert_true(m->line[3]);
	irq_set(&m->b.intx, false);
	assert_false(m->line[3]);
}

static void test_capabilities(void **state)
{
	struct machine *m = *state;
	struct pci_function f = { .name = "caps", .dev = &tag_a };
	unsigned off, seen = 0;
	int r;

	r = pci_add_cap(&f, PCI_CAP_ID_MSIX, 12);
	assert_int_equal(r, 0x40);
	r = pci_add_cap(&f, PCI_CAP_ID_VENDOR, 18);
	assert_int_equal(r, 0x4c);
	assert_int_equal(pci_add_cap(&f, PCI_CAP_ID_VENDOR, 16), 0x60);
	assert_int_equal(pci_add_cap(&f, PCI_CAP_ID_VENDOR, 0x91), -ENOSPC);
	assert_int_equal(pci_add_cap(&f, PCI_CAP_ID_VENDOR, 0x90), 0x70);
	assert_int_equal(pci_add_cap(&f, PCI_CAP_ID_VENDOR, 2), -ENOSPC);
	assert_int_equal(pci_add(m->pci, &f, 9, NULL), 0);
	assert_int_equal(cfg(m, 9, 6, 2), PCI_STATUS_CAP_LIST);
	for (off = cfg(m, 9, 0x34, 1); off; off = cfg(m, 9, off + 1, 1))
		assert_in_range(++seen, 1, 4);
	assert_int_equal(seen, 4);
	assert_int_equal(cfg(m, 9, 0x40, 1), PCI_CAP_ID_MSIX);
	pci_bus_reset(m->pci);
	assert_int_equal(cfg(m, 9, 0x34, 1), 0x70);
	pci_bus_free(m->pci); /* f goes out of scope */
	m->pci = NULL;
}

static void hook_read(struct pci_function *f, unsigned off, unsigned len)
{
	f->config[0x80] = 0x5a;
	if (off == 0x80)
		container_of(f, struct machine, a)->refreshed++;
}

static void hook_written(struct pci_function *f, unsigned off, unsigned len)
{
	if (off == 0x84 && len == 2 && f->config[0x84] == 0x0f)
		container_of(f, struct machine, a)->written++;
}

static void test_hooks(void **state)
{
	struct machine *m = *state;

	m->a.config_read = hook_read;
	m->a.config_written = hook_written;
	m->a.write_mask[0x84] = 0x0f;
	assert_int_equal(cfg(m, 3, 0x80, 1), 0x5a);
	assert_int_equal(m->refreshed, 1);
	cfg_set(m, 3, 0x84, 2, 0xffff);
	assert_int_equal(m->written, 1);
	assert_int_equal(cfg(m, 3, 0x84, 4), 0x0f);
}

static void count_reset(void *ctx)
{
	((struct machine *)ctx)->resets++;
}

static void test_reset_control(void **state)
{
	struct machine *m = *state;

	bus_write(m->bus, BUS_PIO, 0xcf9, 1, 6); /* nobody listens */
	bus_write(m->bus, BUS_PIO, 0xcf9, 1, 0);
	pci_bus_on_reset(m->pci, count_reset, m);
	bus_write(m->bus, BUS_PIO, 0xcf9, 1, 2);
	assert_int_equal(bus_read(m->bus, BUS_PIO, 0xcf9, 1), 2);
	assert_int_equal(m->resets, 0);
	bus_write(m->bus, BUS_PIO, 0xcf9, 1, 6);
	assert_int_equal(m->resets, 1);
	bus_write(m->bus, BUS_PIO, 0xcf9, 1, 0xe);
	assert_int_equal(m->resets, 1);
}

static void test_bad_declarations(void **state)
{
	struct machine *m = *state;
	struct pci_function f = { .name = "bad" };
	static const struct pci_bar bad[] = {
		{ .size = 0x1800, .space = BUS_MMIO, .ops = &bar_ops },
		{ .size = 0x800, .space = BUS_MMIO, .ops = &bar_ops },
		{ .size = 0x1000, .space = BUS_MMIO },
		{ .size = 8, .space = BUS_PIO, .ops = &bar_ops },
		{ .size = 0x200, .space = BUS_PIO, .ops = &bar_ops },
		{ .size = GIB(4), .space = BUS_MMIO, .ops = &bar_ops },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		f.bar[1] = bad[i];
		assert_int_equal(pci_add(m->pci, &f, 9, NULL), -EINVAL);
	}
	f.bar[1] = m->b.bar[0];
	f.bar[0] = m->a.bar[0]; /* 64 bits wide: needs slot 1 */
	assert_int_equal(pci_add(m->pci, &f, 9, NULL), -EINVAL);
	f.bar[0].size = f.bar[1].size = 0;
	assert_int_equal(pci_add(m->pci, &f, 3, NULL), -EBUSY);
	assert_int_equal(pci_add(m->pci, &f, 32, NULL), -EINVAL);
	assert_null(pci_function_at(m->pci, 9));
	assert_ptr_equal(pci_function_at(m->pci, 3), &m->a);
	assert_null(pci_function_at(m->pci, 99));
}

#define PCI_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PCI_TEST(test_identity),
		PCI_TEST(test_probe_of_mechanism_1),
		PCI_TEST(test_bar_sizing),
		PCI_TEST(test_bar_mapping),
		PCI_TEST(test_bar_conflicts),
		PCI_TEST(test_reset),
		PCI_TEST(test_intx),
		PCI_TEST(test_capabilities),
		PCI_TEST(test_hooks),
		PCI_TEST(test_reset_control),
		PCI_TEST(test_bad_declarations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
