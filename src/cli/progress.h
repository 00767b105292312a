/* progress.h - one line that says what takes so long, for people only. */
#ifndef RINGER_CLI_PROGRESS_H
#define RINGER_CLI_PROGRESS_H

#include <stdio.h>

#include "base/base.h"

/* Nothing is shown in the first second, nor when out is no terminal. */
struct progress {
	FILE *out;
	uint64_t start_ns, shown_ns; /* shown_ns 0: nothing is on the line */
	bool terminal;
};

void progress_init(struct progress *p, FILE *out);
/* vm_config.progress; ctx is the struct progress. */
void progress_show(void *ctx, const char *what, double fraction);
/* Clears the line. */
void progress_end(struct progress *p);

#endif
