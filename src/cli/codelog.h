/*
 * codelog.h - what becomes of translated blocks outside the machine: --trace bt writes them as text, --perf names them
 * for Linux perf.
 *
 * perf finds names in two ways. The map, /tmp/perf-PID.map, is a list of addresses; it cannot say that a part of the
 * cache was used again, the last name wins. A jitdump file has a time and a copy of the code for each block; perf
 * record notes the file because it is mapped executable once.
 */
#ifndef RINGER_CLI_CODELOG_H
#define RINGER_CLI_CODELOG_H

#include <pthread.h>

#include "cli/blocktext.h"
#include "cli/symbols.h"

enum perf_where { PERF_OFF = 0, PERF_MAP = 1, PERF_JITDUMP = 2 }; /* both: 3 */

struct codelog {
	pthread_mutex_t lock; /* vCPUs' threads write */
	struct blocktext text;
	struct symbols *symbols; /* NULL: none */
	FILE *trace, *map, *jitdump;
	void *marker;
	size_t marker_size;
	uint64_t index; /* of blocks in the jitdump file */
	bool to_stderr;
};

struct codelog_config {
	const char *trace;   /* file; "" standard error; NULL: none */
	unsigned perf;       /* enum perf_where */
	const char *symbols; /* file, or NULL: */
	const char *kernel;  /* its symbols, if it has any */
};

int codelog_open(struct codelog *l, const struct codelog_config *c, struct err *err) must_check;
/* engine_config.translated, with the log as ctx. */
void codelog_block(void *ctx, const struct engine_block *b);
/* 0 or -errno: not all was written. */
int codelog_close(struct codelog *l, struct err *err) must_check;

#endif
