/*
 * acpi.h - the ACPI tables (ACPI 6.5) that describe the board to the guest's kernel: the fixed
 * hardware of src/dev/chipset, interrupt controllers, PCI, and the devices no bus can enumerate.
 */
#ifndef RINGER_VM_ACPI_H
#define RINGER_VM_ACPI_H

#include "base/base.h"
#include "base/err.h"

struct acpi_config {
	unsigned cpus;      /* that may be: 1..256; APIC ids 0.. */
	const uint64_t *present; /* bit n: processor n is there (cpus <= 64); NULL: all are */
	uint16_t cpu_hotplug_base; /* of dev/chipset/cpu_hotplug (cpus <= 64); 0: processors stay as they are */
	uint64_t ram_top;   /* first address above all RAM: the 64-bit PCI window starts there */
	uint8_t phys_bits;  /* MAXPHYADDR, which bounds that window */
	uint16_t pm_base;   /* of the power management block */
};

/*
 * Writes the tables for loading at guest-physical `base` (64-byte aligned): the RSDP is first.
 * Returns the number of bytes used, or -ENOSPC.
 */
int acpi_build(const struct acpi_config *c, uint64_t base, uint8_t *buf, size_t size,
	       struct err *err) must_check;

/* The DSDT's body, for acpi.c. */
struct aml;
void acpi_dsdt_body(struct aml *a, const struct acpi_config *c);
/* The processors, in \_SB, and what handles their general-purpose event. */
void acpi_processors(struct aml *a, const struct acpi_config *c);
void acpi_cpu_events(struct aml *a, const struct acpi_config *c);

/* Interrupt wiring shared by the tables and the board. */
#define ACPI_SCI_IRQ 9
#define ACPI_CPU_GPE 2  /* general-purpose event of CPU hot-plug */
#define ACPI_PCI_GSI 16 /* INTA..INTD after swizzling: GSI 16..19 */

#endif
