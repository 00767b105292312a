/* sched_fair.c - everybody runs; the host's scheduler alone shares out its CPUs. Bounds and counters still work. */
#include "vm/sched_core.h"

static int next(struct sched_core *c, uint64_t now)
{
	return __builtin_ctzll(c->waiting);
}

const struct sched_policy sched_fair = {
	.name = "fair", .text = "the host decides, as for any threads", .next = next,
};
