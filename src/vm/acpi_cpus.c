/*
 * acpi_cpus.c - the processors in the DSDT (ACPI 6.5, 8.4), and the code that plugs and unplugs them: the driver of
 * dev/chipset/cpu_hotplug.
 *
 * The general-purpose event is edge-triggered: the guest clears its status, then runs _GPE._E02, which takes all news
 * there is. What comes meanwhile raises the event again. A mutex keeps SELECT and what is done with it together.
 */
#include <stdio.h>

#include "dev/chipset/cpu_hotplug.h"
#include "vm/acpi.h"
#include "vm/acpi_aml.h"

#define NONE 0xffffffffu
enum { NOTIFY_CHECK = 1, NOTIFY_EJECT_REQUEST = 3 }; /* 5.6.6 */
#define STA_THERE 0xf /* 6.3.7: present, enabled, shown, working */

static void cpu_name(char name[8], unsigned cpu)
{
	snprintf(name, 8, "C%03X", cpu & 0xfff);
}

static void set(struct aml *a, const char *target, uint64_t value)
{
	aml_store(a);
	aml_int(a, value);
	aml_path(a, target);
}

static void registers(struct aml *a, uint16_t base)
{
	aml_io_region(a, "CPHR", base, CPU_HOTPLUG_SIZE);
	aml_fields(a, "CPHR", AML_DWORD_ACCESS);
	aml_field(a, "CSEL", 4);
	aml_field_gap(a, CPU_HOTPLUG_NEXT - 4);
	aml_field(a, "CNXT", 4);
	aml_end(a);
	aml_fields(a, "CPHR", AML_BYTE_ACCESS);
	aml_field_gap(a, CPU_HOTPLUG_STATUS);
	aml_field(a, "CSTS", 1);
	aml_field(a, "CCMD", 1);
	aml_end(a);
	aml_mutex(a, "CPLK");
}

/* CSTA (cpu): its _STA. */
static void status_method(struct aml *a)
{
	aml_method(a, "CSTA", 1);
	aml_acquire(a, "CPLK");
	aml_store(a);
	aml_arg(a, 0);
	aml_path(a, "CSEL");
	aml_store(a);
	aml_path(a, "CSTS");
	aml_local(a, 0);
	aml_release(a, "CPLK");
	aml_if(a);
	aml_and(a);
	aml_local(a, 0);
	aml_int(a, CPU_HOTPLUG_PRESENT);
	aml_no_target(a);
	aml_return(a);
	aml_int(a, STA_THERE);
	aml_end(a);
	aml_return(a);
	aml_int(a, 0);
	aml_end(a);
}

/* CEJE (cpu): gives it up. */
static void eject_method(struct aml *a)
{
	aml_method(a, "CEJE", 1);
	aml_acquire(a, "CPLK");
	aml_store(a);
	aml_arg(a, 0);
	aml_path(a, "CSEL");
	set(a, "CCMD", CPU_HOTPLUG_EJECT);
	aml_release(a, "CPLK");
	aml_end(a);
}

/* CTEL (cpu, what): notifies its device. */
static void tell_method(struct aml *a, unsigned count)
{
	aml_method(a, "CTEL", 2);
	for (unsigned i = 0; i < count; i++) {
		char name[8];

		cpu_name(name, i);
		aml_if(a);
		aml_equal(a);
		aml_arg(a, 0);
		aml_int(a, i);
		aml_notify(a);
		aml_path(a, name);
		aml_arg(a, 1);
		aml_end(a);
	}
	aml_end(a);
}

/* If the status in Local1 has the bit: command, and tell. */
static void take_news(struct aml *a, unsigned bit, unsigned command, unsigned what)
{
	aml_if(a);
	aml_and(a);
	aml_local(a, 1);
	aml_int(a, bit);
	aml_no_target(a);
	set(a, "CCMD", command);
	aml_path(a, "CTEL");
	aml_local(a, 0);
	aml_int(a, what);
	aml_end(a);
}

/* CSCN (): takes all news. */
static void scan_method(struct aml *a)
{
	aml_method(a, "CSCN", 0);
	aml_acquire(a, "CPLK");
	aml_while(a);
	aml_int(a, 1);
	aml_store(a);
	aml_path(a, "CNXT");
	aml_local(a, 0);
	aml_if(a);
	aml_equal(a);
	aml_local(a, 0);
	aml_int(a, NONE);
	aml_break(a);
	aml_end(a);
	aml_store(a);
	aml_path(a, "CSTS");
	aml_local(a, 1);
	take_news(a, CPU_HOTPLUG_INSERTED, CPU_HOTPLUG_TOLD_INSERTED, NOTIFY_CHECK);
	take_news(a, CPU_HOTPLUG_LEAVE, CPU_HOTPLUG_TOLD_LEAVE, NOTIFY_EJECT_REQUEST);
	aml_end(a);
	aml_release(a, "CPLK");
	aml_end(a);
}

/* The methods of a processor that may come and go: _STA, _MAT (its MADT entry), _EJ0. */
static void coming_and_going(struct aml *a, unsigned cpu)
{
	const uint8_t entry[8] = {0, 8, (uint8_t)cpu, (uint8_t)cpu, 1};

	aml_method(a, "_STA", 0);
	aml_return(a);
	aml_path(a, "CSTA");
	aml_int(a, cpu);
	aml_end(a);
	aml_name(a, "_MAT");
	aml_buffer(a, entry, sizeof(entry));
	if (cpu == 0)
		return; /* the boot processor stays */
	aml_method(a, "_EJ0", 1);
	aml_path(a, "CEJE");
	aml_int(a, cpu);
	aml_end(a);
}

void acpi_processors(struct aml *a, const struct acpi_config *c)
{
	bool hotplug = c->cpu_hotplug_base;

	if (hotplug)
		registers(a, c->cpu_hotplug_base);
	for (unsigned i = 0; i < c->cpus; i++) {
		char name[8];

		cpu_name(name, i);
		aml_device(a, name);
		aml_name(a, "_HID");
		aml_string(a, "ACPI0007");
		aml_name_int(a, "_UID", i);
		if (hotplug)
			coming_and_going(a, i);
		aml_end(a);
	}
	if (!hotplug)
		return;
	status_method(a);
	eject_method(a);
	tell_method(a, c->cpus);
	scan_method(a);
}

void acpi_cpu_events(struct aml *a, const struct acpi_config *c)
{
	char name[8];

	if (!c->cpu_hotplug_base)
		return;
	snprintf(name, sizeof(name), "_E%02X", ACPI_CPU_GPE);
	aml_scope(a, "\\_GPE");
	aml_method(a, name, 0);
	aml_path(a, "\\_SB.CSCN");
	aml_end(a);
	aml_end(a);
}
