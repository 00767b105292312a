/* pit8254.h - the 8254 interval timer, with system control port B (0x61) that gates channel 2. */
#ifndef RINGER_DEV_CHIPSET_PIT8254_H
#define RINGER_DEV_CHIPSET_PIT8254_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "host/loop.h"
#include "snap/snap.h"

#define PIT_HZ 1193182ULL

struct pit8254;

/* Claims 0x40-43 and 0x61. irq0 follows the output of channel 0. */
int pit8254_new(struct pit8254 **out, struct bus *bus, struct loop *loop, struct irq_line irq0,
		struct err *err) must_check;
void pit8254_reset(struct pit8254 *p);
void pit8254_free(struct pit8254 *p);

extern const struct snap_desc pit8254_snap;

#endif
