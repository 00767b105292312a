/*
 * cpu_hotplug.h - where the guest's ACPI code learns which processors are there, which have come and which
 * are asked to go, and says that it let one go. The DSDT (vm/acpi_cpus.c) is its driver.
 *
 * Sixteen ports, little-endian:
 *
 *	0  4 bytes  SELECT   read/write: the processor that STATUS and COMMAND are about, by APIC ID
 *	4  1 byte   STATUS   read: CPU_HOTPLUG_*; 0 for a processor that cannot be
 *	5  1 byte   COMMAND  write: enum cpu_hotplug_command
 *	8  4 bytes  NEXT     read: selects the lowest processor with something to tell and returns it;
 *	                     0xffffffff, and SELECT stays, when there is none
 */
#ifndef RINGER_DEV_CHIPSET_CPU_HOTPLUG_H
#define RINGER_DEV_CHIPSET_CPU_HOTPLUG_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "snap/snap.h"

#define CPU_HOTPLUG_SIZE 16
#define CPU_HOTPLUG_MAX 64 /* processors */

enum cpu_hotplug_register {
	CPU_HOTPLUG_SELECT = 0,
	CPU_HOTPLUG_STATUS = 4,
	CPU_HOTPLUG_COMMAND = 5,
	CPU_HOTPLUG_NEXT = 8,
};

#define CPU_HOTPLUG_PRESENT BIT(0)
#define CPU_HOTPLUG_INSERTED BIT(1) /* and the guest was not told yet */
#define CPU_HOTPLUG_LEAVE BIT(2)    /* asked to go, and the guest was not told yet */

enum cpu_hotplug_command {
	CPU_HOTPLUG_TOLD_INSERTED = 1,
	CPU_HOTPLUG_TOLD_LEAVE = 2,
	CPU_HOTPLUG_EJECT = 3, /* not processor 0 */
};

struct cpu_hotplug;

struct cpu_hotplug_config {
	struct bus *bus;
	uint16_t base;
	void (*notify)(void *ctx); /* there is something to tell: raises the general-purpose event */
	/* The guest gave the processor up: from its own register access, so the receiver acts later. */
	void (*eject)(void *ctx, unsigned cpu);
	void *ctx;
};

int cpu_hotplug_new(struct cpu_hotplug **out, const struct cpu_hotplug_config *cfg,
		    struct err *err) must_check;
void cpu_hotplug_free(struct cpu_hotplug *h);
/* The processors there are from now on; nothing is left to tell. */
void cpu_hotplug_reset(struct cpu_hotplug *h, uint64_t present);
/* cpu < CPU_HOTPLUG_MAX. It is there from now on, and the guest is told. */
void cpu_hotplug_insert(struct cpu_hotplug *h, unsigned cpu);
/* The guest is asked to give it up, which it may do at any time, or never. */
void cpu_hotplug_ask_to_leave(struct cpu_hotplug *h, unsigned cpu);

extern const struct snap_desc cpu_hotplug_snap;

#endif
