/*
 * local_apic.h - the local APIC of one CPU: xAPIC registers, x2APIC MSRs, timer (SDM vol. 3,
 * chapter 11).
 *
 * bus/irq.h's struct local_apic is what the CPU asks; this device is behind it. The register page
 * is per CPU, so the board claims 0xfee00000 once and routes an access to the accessing CPU's local
 * APIC.
 *
 * The timer's input clock is LOCAL_APIC_CLOCK_HZ before the divide configuration register: a kernel
 * learns it from hypervisor CPUID leaf 0x40000010 EBX (in kHz), from calibration, or uses
 * TSC-deadline mode.
 */
#ifndef RINGER_DEV_CHIPSET_LOCAL_APIC_H
#define RINGER_DEV_CHIPSET_LOCAL_APIC_H

#include "base/base.h"
#include "base/err.h"
#include "bus/irq.h"
#include "dev/chipset/apic_bus.h"
#include "host/loop.h"
#include "snap/snap.h"

#define LOCAL_APIC_DEFAULT_BASE 0xfee00000ULL
#define LOCAL_APIC_SIZE 0x1000ULL
#define LOCAL_APIC_CLOCK_HZ 1000000000ULL /* 1 GHz: one tick is one nanosecond */

struct local_apic_config {
	uint32_t id;       /* initial APIC ID; below 255 to be reachable in xAPIC mode */
	bool bsp;          /* IA32_APIC_BASE.BSP */
	uint8_t phys_bits; /* MAXPHYADDR: reserved bits of IA32_APIC_BASE */
	struct loop *loop;
	struct apic_bus *bus;
	struct cpu_pins pins; /* copied */
	/* For TSC-deadline mode: guest TSC frequency, and this CPU's TSC now (called on any
	 * thread). */
	uint64_t tsc_hz;
	uint64_t (*guest_tsc)(void *ctx);
	void *tsc_ctx;
};

int local_apic_new(struct lapic **out, const struct local_apic_config *cfg,
		   struct err *err) must_check;
/* RESET#: everything back to power-up, the ID and IA32_APIC_BASE too. */
void local_apic_reset(struct lapic *l);
void local_apic_free(struct lapic *l);

/*
 * What firmware leaves on the boot processor ("virtual wire mode"): software-enabled, LINT0 =
 * ExtINT, LINT1 = NMI. For direct kernel boot; call after a reset.
 */
void local_apic_set_virtual_wire(struct lapic *l);

/* What the CPU asks; lives as long as l. */
const struct local_apic *local_apic_iface(struct lapic *l);

/*
 * The register page: off is 0..0xfff. As the SDM requires, registers are 32 bits wide on 16-byte
 * boundaries; other accesses read what the aligned register holds there, and narrow writes do
 * nothing. In x2APIC mode or when disabled the page is not decoded: all ones.
 */
uint64_t local_apic_mmio_read(struct lapic *l, uint64_t off, unsigned size);
void local_apic_mmio_write(struct lapic *l, uint64_t off, unsigned size, uint64_t value);

/* The guest wrote IA32_TSC or IA32_TSC_ADJUST: a pending TSC deadline is re-aimed. */
void local_apic_tsc_changed(struct lapic *l);

uint32_t local_apic_id(const struct lapic *l);
extern const struct snap_desc local_apic_snap;

/* For apic_bus.c. */
bool local_apic_matches(const struct lapic *l, uint32_t dest, bool logical);
/* Lower is less busy; ~0u when it cannot take interrupts now. For lowest-priority arbitration. */
unsigned local_apic_arbitration(const struct lapic *l);
void local_apic_accept(struct lapic *l, const struct apic_msg *m);
void local_apic_set_lint(struct lapic *l, unsigned pin, bool level);

#endif
