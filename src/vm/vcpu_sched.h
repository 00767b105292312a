/*
 * vcpu_sched.h - what a policy for scheduling vCPUs is: who of several may run guest code now. The mechanism is the vCPU's
 * thread (vcpu_thread.h) and the host's scheduler; without a policy, the latter decides alone.
 *
 * A policy keeps what it knows of a vCPU by vcpu_thread.vcpu->id. To have a vCPU leave its engine, it requests
 * CPU_REQ_STOP (vcpu_request()): the vCPU leaves at its next safe point, between two instructions, and asks to enter
 * again. All calls are made on the vCPU's own thread, without locks; several vCPUs' at the same time.
 */
#ifndef RINGER_VM_VCPU_SCHED_H
#define RINGER_VM_VCPU_SCHED_H

#include "cpu/engine.h"

struct vcpu_thread;
struct vcpu_sched;

struct vcpu_sched_ops {
	/*
	 * The vCPU wants to run guest code: returns when it may. It must also return soon after t's wake_seq has
	 * changed and t->should_stop() says true: whoever ends a machine counts wake_seq up and wakes the futex on it.
	 */
	void (*enter)(struct vcpu_sched *s, struct vcpu_thread *t);
	/* It has left the engine. For RUN_HALT it sleeps next, until it has something to do. */
	void (*leave)(struct vcpu_sched *s, struct vcpu_thread *t, enum run_exit why);
	/* From within the engine: vCPU `id` (which need not exist) should run rather than this one. */
	void (*yield_to)(struct vcpu_sched *s, struct vcpu_thread *t, uint32_t id);
};

/* The head of a policy's own structure. Any function may be NULL. */
struct vcpu_sched {
	const struct vcpu_sched_ops *ops;
};

#endif
