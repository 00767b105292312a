// SPDX-License-Identifier: MIT
/*
 * ringer_lockhint - a Linux guest tells Ringer when a processor holds a spinlock, for `ringer run --sched hint`.
 *
 * Linux counts, in a word of each processor, what forbids preemption: spinlocks, also while one is waited for, and
 * interrupt handlers. The word is there already (CONFIG_PREEMPT_COUNT), so all this does is to say where: nothing is
 * added to any lock. Bit 31, PREEMPT_NEED_RESCHED, is no lock, and inverted. Numbers: abi/ringer_para.h.
 */
#include <linux/cpu.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <asm/msr.h>

#include "ringer_para.h"

#ifndef CONFIG_PREEMPT_COUNT
#error "This kernel does not count: CONFIG_PREEMPT_COUNT is not set."
#endif

static enum cpuhp_state state;

static int online(unsigned int cpu)
{
	int *word = this_cpu_ptr(&__preempt_count);

	/* In the linear map, but for percpu_alloc=page. */
	if (!virt_addr_valid(word))
		return -ENXIO;
	if (wrmsrl_safe(MSR_RINGER_LOCK_MASK, 0x7fffffff))
		return -ENODEV;
	return wrmsrl_safe(MSR_RINGER_LOCK_WORD, virt_to_phys(word) | RINGER_MSR_ENABLED) ? -ENODEV : 0;
}

static int offline(unsigned int cpu)
{
	wrmsrl_safe(MSR_RINGER_LOCK_WORD, 0);
	return 0;
}

static int __init lockhint_init(void)
{
	int ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "ringer:lockhint", online, offline);

	if (ret < 0)
		return ret;
	state = ret;
	return 0;
}

static void __exit lockhint_exit(void)
{
	cpuhp_remove_state(state);
}

module_init(lockhint_init);
module_exit(lockhint_exit);
MODULE_DESCRIPTION("Tells Ringer when a processor holds a spinlock");
MODULE_LICENSE("Dual MIT/GPL");
