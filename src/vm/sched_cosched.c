/*
 * sched_cosched.c - gangs: as many vCPUs as there are slots run together, for one slice, then the next as many.
 *
 * A vCPU that waits for an answer of its sibling has it at once when the sibling runs, too. Gangs are made anew for each slice,
 * in the vCPUs' order, of those that want to run: nobody who is halted takes a place. A place that becomes free
 * during the slice is filled for its rest. At its end all leave before anybody enters.
 */
#include "vm/sched_core.h"

/* In cyclic order from c->gang_next. */
static int next_in_order(struct sched_core *c)
{
	uint64_t from = c->gang_next < 64 ? c->waiting >> c->gang_next << c->gang_next : 0;
	int i = __builtin_ctzll(from ? from : c->waiting);

	c->gang_next = (unsigned)i + 1;
	return i;
}

static int next(struct sched_core *c, uint64_t now)
{
	if (c->asked)
		return -1; /* the old gang has not left */
	if (now >= c->gang_end || !c->running) {
		c->gang_end = now + c->slice_ns;
		for (uint64_t rest = c->running; rest; rest &= rest - 1)
			c->vcpu[__builtin_ctzll(rest)].slice_end = c->gang_end;
	}
	return next_in_order(c);
}

const struct sched_policy sched_cosched = {
	.name = "cosched", .text = "gangs: as many as there are slots run together", .slots = true, .gang = true,
	.next = next,
};
