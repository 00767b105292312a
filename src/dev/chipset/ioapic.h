/* ioapic.h - I/O APIC, 24 pins, version 0x20 (82093AA registers plus the EOI register). */
#ifndef RINGER_DEV_CHIPSET_IOAPIC_H
#define RINGER_DEV_CHIPSET_IOAPIC_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "dev/chipset/apic_bus.h"
#include "snap/snap.h"

#define IOAPIC_DEFAULT_BASE 0xfec00000ULL
#define IOAPIC_SIZE 0x1000ULL
#define IOAPIC_PINS 24

struct ioapic;

/* Claims [base, base+IOAPIC_SIZE) in memory space; listens for EOIs on the APIC bus. */
int ioapic_new(struct ioapic **out, struct bus *bus, uint64_t base, struct apic_bus *apics,
	       uint8_t id, struct err *err) must_check;
void ioapic_reset(struct ioapic *io);
void ioapic_free(struct ioapic *io);

/* Pin levels are logical: true is asserted whatever the polarity bit says. pin >= 24 is ignored. */
void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level);

extern const struct snap_desc ioapic_snap;

#endif
