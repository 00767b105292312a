/* ticks.h - host nanoseconds to and from ticks of a clock, exact and without overflow for
 * centuries. */
#ifndef RINGER_DEV_CHIPSET_TICKS_H
#define RINGER_DEV_CHIPSET_TICKS_H

#include "base/base.h"

static inline uint64_t ns_to_ticks(uint64_t ns, uint64_t hz)
{
	return (unsigned __int128)ns * hz / 1000000000u;
}

/* The first nanosecond at which that many ticks have passed. */
static inline uint64_t ticks_to_ns(uint64_t ticks, uint64_t hz)
{
	return ((unsigned __int128)ticks * 1000000000u + hz - 1) / hz;
}

#endif
