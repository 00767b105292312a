/*
 * gsi.h - the board's interrupt wiring: one line goes to the 8259s and to the I/O APIC at once, and
 * the guest decides which it listens to. ISA IRQ 0 (the 8254) is wired to I/O APIC pin 2, which the
 * MADT states.
 */
#ifndef RINGER_DEV_CHIPSET_GSI_H
#define RINGER_DEV_CHIPSET_GSI_H

#include "base/base.h"
#include "bus/irq.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/pic8259.h"

#define GSI_COUNT IOAPIC_PINS

/* Holds no state of its own; embedded in the board. Either controller may be NULL. */
struct gsi_router {
	struct pic8259 *pic;
	struct ioapic *ioapic;
};

/* A line: 0..15 are ISA IRQs (2 is not usable), 16..23 go to the I/O APIC alone. r must outlive the
 * line. */
struct irq_line gsi_line(struct gsi_router *r, unsigned irq);

#endif
