/* acpi_dsdt.c - the DSDT: the devices of the board that a kernel cannot find by itself. */
#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/cpu_hotplug.h"
#include "vm/acpi.h"
#include "vm/acpi_aml.h"
#include "vm/boot/boot.h"

/*
 * _PRT (6.2.13): every slot's INTA..INTD to a GSI, swizzled as on a PC's bus: pin p of slot s goes
 * to line (s + p) mod 4. Slot 0 is the host bridge and has no pin. 31 * 4 = 124 entries fit in a
 * package.
 */
static void pci_routing(struct aml *a)
{
	aml_name(a, "_PRT");
	aml_package(a, 31 * 4);
	for (unsigned slot = 1; slot < 32; slot++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			aml_package(a, 4);
			aml_int(a, slot << 16 | 0xffff); /* every function */
			aml_int(a, pin);
			aml_int(a, 0); /* no link device: a GSI follows */
			aml_int(a, ACPI_PCI_GSI + (slot + pin) % 4);
			aml_end(a);
		}
	}
	aml_end(a);
}

static void pci_windows(struct aml *a, const struct acpi_config *c)
{
	uint64_t first = align_up(max_u64(c->ram_top, GIB(4)), GIB(1));
	uint64_t end = BIT(c->phys_bits);

	aml_resources(a, "_CRS");
	aml_res_bus_window(a, 0, 0);
	aml_res_io(a, 0xcf8, 8);
	aml_res_io_window(a, 0, 0xcf7);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_memory_window(a, BOOT_PCI_HOLE, BOOT_ECAM_BASE - 1);
	aml_res_memory_window(a, BOOT_ECAM_BASE + BOOT_ECAM_SIZE, 0xfebfffff);
	if (first < end)
		aml_res_memory64_window(a, first, min_u64(end, first + GIB(64)) - 1);
	aml_end_resources(a);
}

static void pci_root(struct aml *a, const struct acpi_config *c)
{
	aml_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisaid(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisaid(a, "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	pci_windows(a, c);
	pci_routing(a);
	/* _OSC (6.2.11): the operating system may have every feature it asks for. */
	aml_method(a, "_OSC", 4);
	aml_return_arg(a, 3);
	aml_end(a);
	aml_end(a);
}

static void legacy_device(struct aml *a, const char *name, const char *hid, unsigned uid)
{
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_eisaid(a, hid);
	aml_name_int(a, "_UID", uid);
	aml_resources(a, "_CRS");
}

static void legacy_end(struct aml *a)
{
	aml_end_resources(a);
	aml_end(a);
}

static void legacy_devices(struct aml *a, const struct acpi_config *c)
{
	legacy_device(a, "COM1", "PNP0501", 1);
	aml_res_io(a, 0x3f8, 8);
	aml_res_irq(a, 4);
	legacy_end(a);

	legacy_device(a, "RTC", "PNP0B00", 0);
	aml_res_io(a, 0x70, 2);
	aml_res_irq(a, 8);
	legacy_end(a);

	legacy_device(a, "PIC", "PNP0000", 0);
	aml_res_io(a, 0x20, 2);
	aml_res_io(a, 0xa0, 2);
	aml_res_io(a, 0x4d0, 2);
	aml_res_irq(a, 2);
	legacy_end(a);

	legacy_device(a, "TIMR", "PNP0100", 0);
	aml_res_io(a, 0x40, 4);
	aml_res_irq(a, 0);
	legacy_end(a);

	/* What is taken and is no device: power management ports and the configuration space
	 * window. */
	legacy_device(a, "MBRD", "PNP0C02", 0);
	aml_res_io(a, c->pm_base, ACPI_PM_SIZE);
	if (c->cpu_hotplug_base)
		aml_res_io(a, c->cpu_hotplug_base, CPU_HOTPLUG_SIZE);
	aml_res_io(a, 0x61, 1);
	aml_res_io(a, 0x80, 16);
	aml_res_io(a, 0x92, 1);
	aml_res_memory(a, BOOT_ECAM_BASE, BOOT_ECAM_SIZE);
	legacy_end(a);
}

void acpi_dsdt_body(struct aml *a, const struct acpi_config *c)
{
	aml_scope(a, "\\_SB");
	acpi_processors(a, c);
	pci_root(a, c);
	legacy_devices(a, c);
	aml_end(a);
	acpi_cpu_events(a, c);

	/* 7.4.2: the values for PM1a and PM1b that mean "off". */
	aml_name(a, "\\_S5");
	aml_package(a, 4);
	aml_int(a, ACPI_SLP_TYP_S5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}
