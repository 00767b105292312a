/*
 * outwatch.h - ends a machine whose output nobody reads any more: `ringer run ... | head` must not
 * leave it running for ever.
 */
#ifndef RINGER_CLI_OUTWATCH_H
#define RINGER_CLI_OUTWATCH_H

#include <stdatomic.h>

#include "host/loop.h"

struct vm;

struct outwatch {
	struct vm *vm;
	int fd; /* our own duplicate: a loop watches a descriptor once */
	struct loop_watch watch;
	atomic_bool closed;
};

/*
 * Watches standard output if it is a pipe or a socket; otherwise does nothing. Lock held or loop
 * not started.
 */
void outwatch_start(struct outwatch *w, struct vm *vm, struct loop *loop);
/* The loop is stopped. Also without outwatch_start(), on a zeroed struct. */
void outwatch_stop(struct outwatch *w);

#endif
