/*
 * timer_heap.h - the loop's timers, earliest first: a pairing heap whose links are in the timers.
 *
 * Intrusive because arming a timer must not fail: an array heap would have to grow. Adding takes
 * constant time, removing amortized logarithmic time. No function recurses.
 */
#ifndef RINGER_HOST_TIMER_HEAP_H
#define RINGER_HOST_TIMER_HEAP_H

#include "host/loop.h"

struct timer_heap {
	struct loop_timer *root; /* the earliest deadline; NULL when empty */
};

/* t->deadline_ns is set and t is in no heap. */
void timer_heap_add(struct timer_heap *h, struct loop_timer *t);
/* t is in h. */
void timer_heap_remove(struct timer_heap *h, struct loop_timer *t);

#endif
