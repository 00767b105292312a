/*
 * sched_lhp.c - a vCPU whose slice is over goes on until its guest is in user mode or halts, for a while at most. There a
 * kernel holds no spinlock and waits for none in a queue, so nobody spins in vain for one who has been taken off
 * (lock-holder preemption; Uhlig et al., "Towards Scalable Multiprocessor Virtual Machines", 2004). The guest need not
 * know. What user code locks for itself, this cannot see.
 */
#include "vm/sched_core.h"

static enum sched_ask over(const struct sched_core *c, unsigned i)
{
	return SCHED_ASK_SAFE;
}

const struct sched_policy sched_lhp = {
	.name = "lhp", .text = "a processor is given up in user mode or when idle, where no kernel lock is held",
	.slots = true, .next = sched_core_unsafe_first, .over = over, .user_is_safe = true,
};
