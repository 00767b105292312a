/*
 * board.h - the machine's main board: memory, buses, chipset and interrupt wiring. It holds no
 * vCPUs; they are plugged in with board_plug_cpu(), which gives each its local APIC and the device
 * lock.
 *
 * The register page of the local APICs is one range of the bus, yet shows each CPU its own APIC.
 * Therefore the device lock is handed to each vCPU with a context of its own, and whoever holds it
 * is `current`.
 */
#ifndef RINGER_VM_BOARD_H
#define RINGER_VM_BOARD_H

#include "bus/bus.h"
#include "bus/pci.h"
#include "cpu/cpu.h"
#include "dev/chipset/gsi.h"
#include "dev/chipset/signal.h"
#include "host/chr.h"
#include "host/loop.h"
#include "mem/mem.h"

#define BOARD_CPUS 256
#define BOARD_PM_BASE 0x600
#define BOARD_CPU_HOTPLUG_BASE 0x640

struct board_config {
	uint64_t ram;
	struct loop *loop;
	const struct log *log; /* may be NULL; outlives the board */
	struct chr *serial, *debugcon; /* the caller's; NULL: not connected */
	struct dev_signal power_off, reset;
	void (*debug_exit)(void *ctx, uint32_t value); /* NULL: no such port */
	void *debug_exit_ctx;
	void (*eject)(void *ctx, unsigned cpu); /* the guest gave a processor up; NULL: it cannot */
	void *eject_ctx;
};

struct board;

struct board_cpu {
	struct board *board;
	struct vcpu *vcpu;
	struct lapic *lapic;
};

struct board {
	struct board_config cfg;
	struct guest_mem *mem;
	struct bus *bus;
	struct pci_bus *pci;
	struct gsi_router gsi;
	struct apic_bus *apics;
	struct host_bridge *host_bridge;
	struct pit8254 *pit;
	struct rtc *rtc;
	struct uart16550 *com1;
	struct i8042 *i8042;
	struct system_ports *ports;
	struct acpi_pm *pm;
	struct cpu_hotplug *hotplug; /* NULL: processors stay as they are */
	struct debug_exit *debug_exit;
	struct debugcon *debugcon;
	struct board_cpu cpu[BOARD_CPUS];
	unsigned n_cpus;
	struct board_cpu *current; /* who holds the device lock; NULL: no vCPU */
};

int board_new(struct board **out, const struct board_config *cfg, struct err *err) must_check;
/* Before any CPU runs. v outlives the board. The first one is the boot processor. */
int board_plug_cpu(struct board *b, struct vcpu *v, struct err *err) must_check;
/* The processor plugged in last goes; no CPU runs. */
void board_unplug_cpu(struct board *b);
/*
 * RESET# to every device, as at power-on but for what a battery keeps. No vCPU may be running. present: bit n says
 * whether the guest is to find processor n.
 */
void board_reset(struct board *b, uint64_t present);
/* RESET# to the local APIC of processor n alone. */
void board_reset_cpu(struct board *b, unsigned n);
/* Tells the guest that processor n has come, or asks it to let it go. With hotplug only. */
void board_cpu_comes(struct board *b, unsigned n);
void board_cpu_should_go(struct board *b, unsigned n);
void board_power_button(struct board *b);
/*
 * APICs refer to CPUs, CPUs to memory and bus: free_cpus (may be NULL) is called in between, with the device lock.
 * b may be NULL; then nothing is.
 */
void board_free(struct board *b, void (*free_cpus)(void *ctx), void *ctx);

#endif
