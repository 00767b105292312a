/*
 * schedtrace.h - --trace sched: what each vCPU does when, in the trace event format of Chrome, Perfetto and
 * tools/trace-svg.py. One row per vCPU, with slices "user", "kernel", "device", "halted", "slot" (waits for one) and
 * "host" (the host runs something else in its place).
 *
 * A thread of its own looks every 0.2 ms, so that vCPUs do nothing for it. What is shorter than that can be missed, and
 * where the host has no processor for that thread, it sees nothing for as long.
 */
#ifndef RINGER_CLI_SCHEDTRACE_H
#define RINGER_CLI_SCHEDTRACE_H

#include <pthread.h>
#include <stdio.h>

#include "vm/vm.h"

struct schedtrace {
	FILE *file;
	const struct vm *vm;
	uint64_t begin_ns, last_ns;
	struct {
		unsigned state; /* index of names[]; 0: none */
		uint64_t since_ns, cpu_ns;
		bool named;
	} row[VM_CPUS_MAX];
	bool any; /* an event has been written */
	pthread_t thread;
	bool runs;
	_Atomic bool stop;
};

int schedtrace_open(struct schedtrace *t, const char *path, struct err *err) must_check;
int schedtrace_start(struct schedtrace *t, const struct vm *vm, struct err *err) must_check;
/* Before the machine is freed. 0 or -errno: not all was written. Nothing happens if it was not opened. */
int schedtrace_close(struct schedtrace *t, struct err *err) must_check;

#endif
