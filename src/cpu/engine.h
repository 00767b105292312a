/*
 * engine.h - the engine contract: how guest instructions get executed.
 *
 * An engine is a folder behind these functions. All of a vCPU's architectural state is in struct vcpu
 * whenever run() is not running: engines can be switched at any instruction boundary.
 */
#ifndef RINGER_CPU_ENGINE_H
#define RINGER_CPU_ENGINE_H

#include "cpu/cpu.h"

enum run_exit {
	RUN_HALT,     /* HLT with nothing pending: wait for a request, then run again */
	RUN_STOP,     /* CPU_REQ_STOP was seen (and cleared) */
	RUN_BUDGET,   /* max_insns instructions are done */
	RUN_SHUTDOWN, /* triple fault: stop_reason says where */
	RUN_ERROR,    /* the engine cannot go on: stop_reason says why */
};

struct engine_ops {
	const char *name;
	const char *description; /* one line for `ringer doctor` */
	/* Whether it can work on this host; a reason for people either way. */
	bool (*usable)(struct err *why);
	int (*vcpu_init)(struct vcpu *v, struct err *err);
	void (*vcpu_fini)(struct vcpu *v);
	/*
	 * Runs until one of the above. max_insns: 0 means no limit; otherwise an instruction that faults counts
	 * as one (with the delivery of its exception), and so does each iteration after which a repeated string
	 * instruction is interrupted.
	 */
	enum run_exit (*run)(struct vcpu *v, uint64_t max_insns);
};

#endif
