/*
 * run_delay.h - how long a thread was ready to run but had no processor, as the host's scheduler counts it.
 *
 * Read from /proc/thread-self/schedstat. Where the kernel does not count, it is what is left of the thread's life when
 * the time it used and the time it slept of its own will are taken away: then waits for locks and pages are in it,
 * and what passes between waking up and running is not.
 */
#ifndef RINGER_HOST_RUN_DELAY_H
#define RINGER_HOST_RUN_DELAY_H

#include "base/base.h"

struct run_delay {
	int fd;           /* of schedstat; -1: the kernel does not count */
	uint64_t wall_ns, used_ns; /* time, and processor time of the thread, when it was opened */
	uint64_t last;    /* what was read last: the figure only grows */
};

/* Of the calling thread, which is the one that reads and closes too. Cannot fail: there is always the other way. */
void run_delay_open(struct run_delay *r);
/*
 * ns, of which only differences mean something: what the thread was kept waiting, and (*used_ns) what it ran. idle_ns: that
 * it has slept of its own will since open().
 */
uint64_t run_delay_ns(struct run_delay *r, uint64_t idle_ns, uint64_t *used_ns);
void run_delay_close(struct run_delay *r);

/* "used-ns delay-ns slices"; false when the text is no such thing, or the kernel does not count. */
bool run_delay_parse(const char *text, uint64_t *used_ns, uint64_t *delay_ns);

#endif
