/*
 * loop.h - the event loop: one thread that waits for file descriptors, timers and posted work.
 *
 * Each machine has one loop and one loop thread. Every callback runs on that thread with the loop's
 * lock held: the *device lock*. Whoever touches a device from another thread (a vCPU dispatching a
 * port access) takes the same lock with loop_lock(). Device code therefore never locks anything.
 *
 * Timers may be armed and cancelled, and descriptors watched, by any thread that holds the lock.
 * The lock is not recursive: a callback already has it.
 */
#ifndef RINGER_HOST_LOOP_H
#define RINGER_HOST_LOOP_H

#include "base/base.h"
#include "base/err.h"

struct loop;

int loop_new(struct loop **out, struct err *err) must_check;
/*
 * Stops the thread if it runs; lock not held. Timers and watches must be gone or never be used
 * again.
 */
void loop_free(struct loop *loop);
/* Starts the loop thread, with every signal blocked in it. */
int loop_start(struct loop *loop, struct err *err) must_check;
/* Stops and joins the thread; lock not held, not from the loop thread. May be started again. */
void loop_stop(struct loop *loop);

void loop_lock(struct loop *loop);
void loop_unlock(struct loop *loop);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t host_now_ns(void);

/*
 * fn is called, like a callback, before timers that are overdue by LOOP_LATE_NS though the thread was waiting for them: the
 * process stood still, or was kept from running. NULL: nobody is.
 */
#define LOOP_LATE_NS 1000000000ULL
void loop_on_late(struct loop *loop, void (*fn)(void *ctx), void *ctx);

struct loop_timer {
	struct loop *loop;
	void (*fn)(void *ctx);
	void *ctx;
	uint64_t deadline_ns; /* host_now_ns() time; valid while armed */
	bool armed;
	/* The loop's heap (timer_heap.c) lives in the timers, so that arming cannot fail. */
	struct loop_timer *child, *sibling, *prev;
};

/*
 * Binds a timer to a loop; does not arm it. The struct is the caller's and must stay put while
 * armed.
 */
void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx);
/*
 * (Re)arms for an absolute time; a time in the past fires at once, UINT64_MAX never. Lock held.
 * Cannot fail. The callback runs with the timer no longer armed and may arm, cancel or free any
 * timer.
 */
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns);
void loop_timer_cancel(struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
	return t->armed;
}

/*
 * events is a mask of EPOLLIN/EPOLLOUT; fn gets what is ready, EPOLLERR and EPOLLHUP included. A
 * mask of 0 reports nothing, not even a hang-up. What epoll refuses (regular files, /dev/null)
 * counts as always ready. One watch per descriptor; remove it before closing the descriptor. Lock
 * held.
 */
struct loop_watch {
	struct loop *loop;
	int fd;
	uint32_t events;
	void (*fn)(void *ctx, uint32_t events);
	void *ctx;
	uint32_t slot;     /* index in the loop's table of watches */
	bool always_ready; /* epoll refused the descriptor */
	bool polled;       /* the descriptor is in the epoll set now */
};
int loop_watch_add(struct loop_watch *w, struct loop *loop, int fd, uint32_t events,
		   void (*fn)(void *ctx, uint32_t events), void *ctx) must_check;
int loop_watch_change(struct loop_watch *w, uint32_t events) must_check;
/* From any callback, the watch's own included: fn is not called again once this returns. */
void loop_watch_del(struct loop_watch *w);

#endif
