/*
 * vcpu_thread.h - one host thread per vCPU: runs the engine and waits while the vCPU is halted.
 *
 * Waking. vcpu_request() sets request bits, then calls wake, which counts wake_seq up and wakes the
 * futex on it. The thread reads wake_seq before it enters the engine and sleeps only while the
 * count is still that: a request that comes after the engine last looked cannot be slept through.
 * Nobody is woken, which would take a system call, while the thread is not about to sleep: an
 * interrupt for a running vCPU costs two atomic accesses. wake is a plain atomic and a system call,
 * so that a signal handler may call it.
 */
#ifndef RINGER_VM_VCPU_THREAD_H
#define RINGER_VM_VCPU_THREAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/engine.h"
#include "host/run_delay.h"
#include "vm/halt_poll.h"
#include "vm/vcpu_sched.h"

/* What the thread did with its time, in time-stamp cycles of the host. */
struct vcpu_times {
	uint64_t engine, idle, held; /* held: ready, but kept from running by a policy */
};

/* What a thread's time is spent on. */
enum vcpu_doing { VCPU_NOTHING, VCPU_ENGINE, VCPU_IDLE, VCPU_HELD };

struct vcpu_thread {
	struct vcpu *vcpu; /* set by the owner, whose v->owner points back here */
	/* Whether to leave: asked before each entry to the engine. Called on the vCPU's thread. */
	bool (*should_stop)(void *ctx);
	/* The engine returned something else than RUN_HALT, RUN_STOP or RUN_BUDGET: the thread then
	 * ends. */
	void (*ended)(void *ctx, struct vcpu *v, enum run_exit why);
	void *ctx;
	struct vcpu_sched *sched; /* NULL: the host's scheduler decides alone */
	int host_cpu;             /* the only one to run on; -1: any */
	int nice;                 /* that much less priority than the process has: 0..19 */
	struct halt_poll halt_poll; /* the thread's, once it runs */
	_Atomic uint32_t wake_seq;
	_Atomic bool asleep; /* or about to be */
	_Atomic bool parked; /* asleep for the policy: requests other than CPU_REQ_STOP need not wake it */
	/*
	 * Written by the vCPU's thread alone, read by any: cycles by enum vcpu_doing up to `since`, when it began with what it
	 * does now. seq is odd while they change.
	 */
	_Atomic uint32_t times_seq;
	_Atomic uint64_t cycles[4], since;
	_Atomic unsigned doing;
	/* Likewise: the clock of the thread's processor time, and what threads before it have used, ns. */
	_Atomic int cpu_clock; /* a clockid_t; 0: no thread runs */
	_Atomic uint64_t cpu_ns_before;
	/* The thread's alone: what its predecessors (a machine that was paused gets new ones) were kept waiting. */
	struct run_delay delay;
	uint64_t delay_before_ns, idle_before, held_before; /* the others: idle cycles, held_ns when it began */
	pthread_t thread;
	bool running; /* owner's thread only: to be joined */
};

/* Any thread, also in a signal handler: the vcpu's wake callback. */
void vcpu_thread_wake(struct vcpu *v);
/* The vcpu's run_delay and yield_to callbacks; on its thread. */
uint64_t vcpu_thread_run_delay(struct vcpu *v, uint64_t *ran_ns);
void vcpu_thread_yield(struct vcpu *v, uint32_t apic_id);
int vcpu_thread_start(struct vcpu_thread *t, struct err *err) must_check;
/* Up to now. Any thread. */
void vcpu_thread_times(const struct vcpu_thread *t, struct vcpu_times *out);
/* Processor time used, ns. Any thread. */
uint64_t vcpu_thread_cpu_ns(const struct vcpu_thread *t);
/* For the policy, on the vCPU's thread: sleeps until wake_seq is no longer seq. Any thread ends that with unpark. */
void vcpu_thread_park(struct vcpu_thread *t, uint32_t seq);
void vcpu_thread_unpark(struct vcpu_thread *t);
/* Waits until the thread has ended; the owner has made it (CPU_REQ_STOP with should_stop true). */
void vcpu_thread_join(struct vcpu_thread *t);

#endif
