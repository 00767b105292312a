/*
 * i8042.h - keyboard controller with nothing plugged in: self-tests pass, devices do not answer,
 * and the output port resets the machine.
 */
#ifndef RINGER_DEV_CHIPSET_I8042_H
#define RINGER_DEV_CHIPSET_I8042_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/chipset/signal.h"
#include "snap/snap.h"

struct i8042;

/* Claims ports 0x60 and 0x64. irq1: output buffer full, when the guest enabled it. */
int i8042_new(struct i8042 **out, struct bus *bus, struct irq_line irq1, struct dev_signal reset,
	      struct err *err) must_check;
void i8042_reset(struct i8042 *k);
void i8042_free(struct i8042 *k);

extern const struct snap_desc i8042_snap;

#endif
