/* pic8259.h - the pair of 8259A interrupt controllers of a PC, with the edge/level registers. */
#ifndef RINGER_DEV_CHIPSET_PIC8259_H
#define RINGER_DEV_CHIPSET_PIC8259_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "snap/snap.h"

struct pic8259;

/* Claims 0x20-21, 0xa0-a1 and 0x4d0-4d1. intr is the master's INT output. */
int pic8259_new(struct pic8259 **out, struct bus *bus, struct irq_line intr,
		struct err *err) must_check;
void pic8259_reset(struct pic8259 *p);
void pic8259_free(struct pic8259 *p);

/* Inputs 0..15; 2 is the cascade and ignored, as is anything above 15. */
void pic8259_set_irq(struct pic8259 *p, unsigned irq, bool level);
/* The INTA cycle: the vector to deliver (of IRQ 7 or 15 when the request has gone: spurious). */
int pic8259_ack(struct pic8259 *p);

extern const struct snap_desc pic8259_snap;

#endif
