/*
 * halt_poll.h - whether a vCPU that halts looks out for its next interrupt a moment before its thread sleeps.
 *
 * Sleeping costs little, but waking a thread on another processor of the host takes it long (tens of microseconds when
 * that processor went to sleep, too), and two vCPUs that wait for each other pay that at every turn. Polling saves it,
 * if whoever sends the interrupt runs meanwhile. When he wants the same processor it only keeps him from it. So what
 * counts is whether polling has led to anything: after each time that it has not, twice as many halts go by without,
 * up to HALT_POLL_SKIP_MAX; after one that has, the next halt polls. A vCPU that is really idle hardly ever polls.
 * docs/decisions/ has the figures.
 */
#ifndef RINGER_VM_HALT_POLL_H
#define RINGER_VM_HALT_POLL_H

#include "base/base.h"

#define HALT_POLL_SKIP_MAX 256

struct halt_poll {
	uint64_t cycles;       /* how long, in time-stamp cycles; 0: never */
	uint32_t skip, skipped; /* halts to let go by, and those that did */
};

/* At a halt: for how many cycles to poll. */
static inline uint64_t halt_poll_begin(struct halt_poll *p)
{
	if (!p->cycles || p->skipped < p->skip) {
		p->skipped++;
		return 0;
	}
	p->skipped = 0;
	return p->cycles;
}

/* What came of it. */
static inline void halt_poll_end(struct halt_poll *p, bool woken)
{
	if (woken)
		p->skip = 0;
	else
		p->skip = (uint32_t)min_u64(p->skip * 2 + 1, HALT_POLL_SKIP_MAX);
}

#endif
