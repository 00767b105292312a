/*
 * sched_hint.c - a vCPU whose slice is over goes on while its guest says that it holds a lock, for a while at most. The guest
 * says so in a word of its memory (abi/ringer_para.h). Unlike lhp, this needs its help, but sees what that knows:
 * most moments in the kernel are safe, and some in user mode are not.
 */
#include "vm/sched_core.h"

static bool safe(const struct sched_core *c, unsigned i)
{
	return !c->locked || !c->locked(c->ctx, i);
}

static enum sched_ask over(const struct sched_core *c, unsigned i)
{
	return safe(c, i) ? SCHED_ASK_NOW : SCHED_ASK_SAFE;
}

const struct sched_policy sched_hint = {
	.name = "hint", .text = "a processor is not taken away while the guest says that it holds a lock",
	.slots = true, .next = sched_core_unsafe_first, .over = over, .safe = safe,
};
