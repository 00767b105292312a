/* signal.h - something a device tells the board: reset the machine, power it off, ... */
#ifndef RINGER_DEV_CHIPSET_SIGNAL_H
#define RINGER_DEV_CHIPSET_SIGNAL_H

#include "base/base.h"

/*
 * Called with the device lock held, from within the guest's own register access: the receiver notes
 * the event and acts later (a reset from inside a device's write would pull the device from under
 * itself).
 */
struct dev_signal {
	void (*fn)(void *ctx); /* may be NULL: nobody listens */
	void *ctx;
};

static inline void dev_signal_send(const struct dev_signal *s)
{
	if (s->fn)
		s->fn(s->ctx);
}

#endif
