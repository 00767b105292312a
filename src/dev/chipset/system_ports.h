/*
 * system_ports.h - odds and ends of the PC's first 256 ports: the POST code and I/O delay port
 * 0x80, the DMA page registers beside it, and system control port A (0x92: fast A20, fast reset).
 */
#ifndef RINGER_DEV_CHIPSET_SYSTEM_PORTS_H
#define RINGER_DEV_CHIPSET_SYSTEM_PORTS_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "dev/chipset/signal.h"
#include "snap/snap.h"

struct system_ports;

/* Claims 0x80-8f and 0x92. Address line 20 is always on: its bit can be written and gates nothing.
 */
int system_ports_new(struct system_ports **out, struct bus *bus, struct dev_signal reset,
		     struct err *err) must_check;
void system_ports_reset(struct system_ports *s);
void system_ports_free(struct system_ports *s);
/* The last POST code written to port 0x80: tells how far a firmware came. */
uint8_t system_ports_post_code(const struct system_ports *s);

extern const struct snap_desc system_ports_snap;

#endif
