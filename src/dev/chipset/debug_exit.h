/* debug_exit.h - port 0xf4: a test guest ends the machine with a value. */
#ifndef RINGER_DEV_CHIPSET_DEBUG_EXIT_H
#define RINGER_DEV_CHIPSET_DEBUG_EXIT_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"

#define DEBUG_EXIT_PORT 0xf4 /* 4 ports; a write of 1, 2 or 4 bytes at the first counts */

struct debug_exit;

/* exit is called with the device lock held, from the guest's write. */
int debug_exit_new(struct debug_exit **out, struct bus *bus,
		   void (*exit)(void *ctx, uint32_t value), void *ctx, struct err *err) must_check;
void debug_exit_free(struct debug_exit *d);

#endif
