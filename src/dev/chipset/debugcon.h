/* debugcon.h - port 0xe9: bytes for the machine's owner. Reads 0xe9, so that a guest can find it.
 */
#ifndef RINGER_DEV_CHIPSET_DEBUGCON_H
#define RINGER_DEV_CHIPSET_DEBUGCON_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "host/chr.h"

#define DEBUGCON_PORT 0xe9

struct debugcon;

/* chr stays the caller's and outlives the device; NULL: output is dropped. */
int debugcon_new(struct debugcon **out, struct bus *bus, struct chr *chr,
		 struct err *err) must_check;
void debugcon_free(struct debugcon *d);

#endif
