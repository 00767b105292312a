/*
 * stats.h - the figures of `ringer run --stats`: at the end, and live when SIGUSR1 comes.
 *
 * Live: the signal's handler only posts a semaphore; a thread of its own takes the figures and writes them, so that
 * neither the machine nor the loop ever waits for whoever reads standard error.
 */
#ifndef RINGER_CLI_STATS_H
#define RINGER_CLI_STATS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

#include "cli/json.h"
#include "vm/vm.h"

struct stats {
	uint64_t start_ns;            /* of the command */
	uint64_t run_ns;              /* vm_run() began; 0: not yet */
	uint64_t end_ns;              /* vm_run() returned; 0: it runs */
	_Atomic uint64_t first_ns;    /* first byte on the serial port; 0: none yet */
	bool json;
	const struct vm *vm;          /* while the thread runs */
	const struct engine_ops *engine;
	bool counts_insns;            /* vm_stats.insns says something */
	pthread_t thread;
	bool runs;
	atomic_bool stop;
	sem_t requests;
};

/* At the beginning of the command, signals caught: SIGUSR1 does no harm from here to the end of the process. */
void stats_init(struct stats *s, bool json);
/* The machine is there: asked-for figures are printed. */
int stats_start(struct stats *s, const struct vm *vm, struct err *err) must_check;
/* Before the machine is freed; also after a failed or no stats_start(). */
void stats_fini(struct stats *s);

/* The figures at this moment, as lines and as an object. */
void stats_print(const struct stats *s, const struct vm_stats *v, FILE *out);
cJSON *stats_json(const struct stats *s, const struct vm_stats *v);

#endif
