/* MSI-X as a guest drives it: table, masks, pending bits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "bus/msix.h"
#include "bus/pci_regs.h"

#define BAR 0xc0000000ull
#define PBA (BAR + 70 * 16)

struct machine {
	struct bus *bus;
	struct pci_bus *pci;
	struct pci_function f;
	struct msix msix;
	uint64_t address;
	uint32_t data;
	unsigned sent;
};

static void send(void *ctx, uint64_t address, uint32_t data)
{
	struct machine *m = ctx;

	m->address = address;
	m->data = data;
	m->sent++;
}

static void written(struct pci_function *f, unsigned off, unsigned len)
{
	msix_config_written(&container_of(f, struct machine, f)->msix, off, len);
}

static void cfg_set(struct machine *m, unsigned off, unsigned size, uint64_t v)
{
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000800u | (off & 0xfc));
	bus_write(m->bus, BUS_PIO, 0xcfc + (off & 3), size, v);
}

static uint64_t cfg(struct machine *m, unsigned off, unsigned size)
{
	bus_write(m->bus, BUS_PIO, 0xcf8, 4, 0x80000800u | (off & 0xfc));
	return bus_read(m->bus, BUS_PIO, 0xcfc + (off & 3), size);
}

static int setup(void **state)
{
	static struct machine m;
	struct irq_line intx[4] = { 0 };
	struct msi_sink sink = { send, &m };

	memset(&m, 0, sizeof(m));
	assert_int_equal(bus_new(&m.bus, NULL, NULL), 0);
	assert_int_equal(pci_bus_new(&m.pci, m.bus, 0, intx, NULL), 0);
	m.f.name = "f";
	m.f.config_written = written;
	assert_int_equal(msix_init(&m.msix, &m.f, 1, 70, sink, NULL), 0);
	assert_int_equal(pci_add(m.pci, &m.f, 1, NULL), 0);
	cfg_set(&m, 0x14, 4, BAR);
	cfg_set(&m, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	*state = &m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	pci_bus_free(m->pci);
	msix_free(&m->msix);
	bus_free(m->bus);
	return 0;
}

static void program(struct machine *m, unsigned v, uint64_t address, uint32_t data, uint32_t control)
{
	bus_write(m->bus, BUS_MMIO, BAR + v * 16, 8, address);
	bus_write(m->bus, BUS_MMIO, BAR + v * 16 + 8, 4, data);
	bus_write(m->bus, BUS_MMIO, BAR + v * 16 + 12, 4, control);
}

static void test_capability(void **state)
{
	struct machine *m = *state;

	assert_int_equal(cfg(m, 0x34, 1), 0x40);
	assert_int_equal(cfg(m, 0x40, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(cfg(m, 0x42, 2), 69);
	assert_int_equal(cfg(m, 0x44, 4), 1);
	assert_int_equal(cfg(m, 0x48, 4), (70 * 16) | 1);
	cfg_set(m, 0x42, 2, 0xffff);
	assert_int_equal(cfg(m, 0x42, 2), 0xc000 | 69);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, BAR + 12, 4), 1); /* masked at first */
}

static void test_send(void **state)
{
	struct machine *m = *state;

	program(m, 69, 0x1fee00003, 0x4041, 0);
	msix_notify(&m->msix, 69); /* off: nothing, not even pending */
	assert_int_equal(bus_read(m->bus, BUS_MMIO, PBA + 8, 4), 0);
	assert_false(msix_enabled(&m->msix));
	cfg_set(m, 0x42, 2, 0x8000);
	assert_true(msix_enabled(&m->msix));
	msix_notify(&m->msix, 69);
	assert_int_equal(m->sent, 1);
	assert_int_equal(m->address, 0x1fee00000);
	assert_int_equal(m->data, 0x4041);
	msix_notify(&m->msix, 70);
	msix_notify(&m->msix, 0xffff);
	assert_int_equal(m->sent, 1);
}

static void test_pending(void **state)
{
	struct machine *m = *state;

	cfg_set(m, 0x42, 2, 0x8000);
	program(m, 66, 0xfee00000, 66, 1);
	msix_notify(&m->msix, 66);
	msix_notify(&m->msix, 66);
	assert_int_equal(m->sent, 0);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, PBA + 8, 8), 4);
	bus_write(m->bus, BUS_MMIO, PBA + 8, 4, 0); /* read-only */
	assert_int_equal(bus_read(m->bus, BUS_MMIO, PBA + 8, 4), 4);
	program(m, 66, 0xfee00000, 67, 0xfffffffe); /* unmasked; reserved bits stay 0 */
	assert_int_equal(m->sent, 1);
	assert_int_equal(m->data, 67);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, PBA + 8, 4), 0);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, BAR + 66 * 16 + 12, 4), 0);
	/* The function's mask, then no bus mastering. */
	cfg_set(m, 0x42, 2, 0xc000);
	msix_notify(&m->msix, 66);
	assert_int_equal(m->sent, 1);
	cfg_set(m, 0x42, 2, 0x8000);
	assert_int_equal(m->sent, 2);
	cfg_set(m, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	msix_notify(&m->msix, 66);
	assert_int_equal(m->sent, 2);
	cfg_set(m, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(m->sent, 3);
	msix_notify(&m->msix, 0);
	msix_reset(&m->msix);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, PBA, 8), 0);
}

static void test_odd_accesses(void **state)
{
	struct machine *m = *state;

	cfg_set(m, 0x42, 2, 0x8000);
	program(m, 0, 0xfee00000, 0x11223344, 1);
	for (unsigned off = 0; off < 4096; off++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			bus_read(m->bus, BUS_MMIO, BAR + off, size);
			if (off % 4 || size < 4)
				bus_write(m->bus, BUS_MMIO, BAR + off, size, ~0ull);
		}
	}
	assert_int_equal(bus_read(m->bus, BUS_MMIO, BAR + 8, 4), 0x11223344);
	assert_int_equal(bus_read(m->bus, BUS_MMIO, BAR + 9, 1), 0x33);
	assert_int_equal(m->sent, 0);
}

static void test_limits(void **state)
{
	struct pci_function f = { .name = "f" };
	struct msi_sink sink = { send, NULL };
	struct msix x;

	assert_int_equal(msix_init(&x, &f, 0, 0, sink, NULL), -EINVAL);
	assert_int_equal(msix_init(&x, &f, 0, 2049, sink, NULL), -EINVAL);
	assert_int_equal(msix_init(&x, &f, 6, 1, sink, NULL), -EINVAL);
	assert_int_equal(msix_init(&x, &f, 0, 2048, sink, NULL), 0);
	assert_int_equal(f.bar[0].size, 65536);
	msix_free(&x);
	assert_int_equal(pci_add_cap(&f, PCI_CAP_ID_VENDOR, 170), 0x4c);
	assert_int_equal(msix_init(&x, &f, 0, 1, sink, NULL), -ENOSPC);
}

#define MSIX_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MSIX_TEST(test_capability),   MSIX_TEST(test_send),	MSIX_TEST(test_pending),
		MSIX_TEST(test_odd_accesses), cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
