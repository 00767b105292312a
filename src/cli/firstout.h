/* firstout.h - a character backend in front of another that notes when the guest first writes to it. */
#ifndef RINGER_CLI_FIRSTOUT_H
#define RINGER_CLI_FIRSTOUT_H

#include <stdatomic.h>

#include "host/chr.h"

/*
 * Takes inner, also when it fails. *first_ns, which outlives it, becomes host_now_ns() at the first byte; it is 0
 * until then.
 */
int firstout_new(struct chr **out, struct chr *inner, _Atomic uint64_t *first_ns,
		 struct err *err) must_check;

#endif
