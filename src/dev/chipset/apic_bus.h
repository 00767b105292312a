/*
 * apic_bus.h - the interrupt "system bus": carries messages from I/O APICs, MSI writes and local
 * APICs' ICRs to the local APICs that a message's destination names (SDM vol. 3, 11.6.2 and 11.11).
 */
#ifndef RINGER_DEV_CHIPSET_APIC_BUS_H
#define RINGER_DEV_CHIPSET_APIC_BUS_H

#include "base/base.h"
#include "base/err.h"
#include "bus/irq.h"

struct apic_bus;
struct lapic;

#define APIC_BUS_MAX 256          /* local APICs on one bus */
#define APIC_DEST_ALL 0xffffffffu /* every local APIC, physical or logical */

/* The delivery mode field of redirection entries, MSI data, LVT entries and the ICR. */
enum apic_delivery {
	APIC_FIXED = 0,
	APIC_LOWEST = 1,
	APIC_SMI = 2,
	APIC_NMI = 4,
	APIC_INIT = 5,
	APIC_SIPI = 6,
	APIC_EXTINT = 7,
};

struct apic_msg {
	/* x2APIC width. Sources with an 8-bit field turn physical 0xff into APIC_DEST_ALL. */
	uint32_t dest;
	uint8_t vector;
	enum apic_delivery delivery;
	bool logical; /* destination mode */
	bool level;   /* trigger mode: sets the vector's TMR bit, so that EOI is broadcast */
};

int apic_bus_new(struct apic_bus **out, struct err *err) must_check;
void apic_bus_free(struct apic_bus *b); /* after every local APIC on it */

void apic_bus_deliver(struct apic_bus *b, const struct apic_msg *m);

/* A sink for MSI writes: hand it to the PCI core and to devices. Lives as long as the bus. */
const struct msi_sink *apic_bus_msi(struct apic_bus *b);

/* Who hears EOIs of level-triggered vectors: the I/O APIC. */
void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *ctx, uint8_t vector), void *ctx);

/* Who answers an ExtINT acknowledge cycle: the 8259. */
void apic_bus_on_extint_ack(struct apic_bus *b, int (*ack)(void *ctx), void *ctx);

/* The wire to LINT0 of every local APIC: the output of the 8259. */
struct irq_line apic_bus_lint0(struct apic_bus *b);
/* The wire to LINT1 of every local APIC: external NMI sources. */
struct irq_line apic_bus_lint1(struct apic_bus *b);

/* For local_apic.c: attaching, and the other end of the calls above. */
int apic_bus_attach(struct apic_bus *b, struct lapic *l, struct err *err) must_check;
void apic_bus_detach(struct apic_bus *b, struct lapic *l);
void apic_bus_broadcast_eoi(struct apic_bus *b, uint8_t vector);
int apic_bus_extint_ack(struct apic_bus *b);
/* ICR destination shorthands. */
void apic_bus_deliver_all(struct apic_bus *b, const struct apic_msg *m, const struct lapic *except);

#endif
