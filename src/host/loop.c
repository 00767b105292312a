/*
 * Theory of operation.
 *
 * The loop thread sleeps in epoll_wait() without the lock and does everything else with it. Three
 * kernel objects wake it: the watched descriptors, a timerfd and an eventfd.
 *
 * Timers. `armed_ns` is what the timerfd is programmed for. It is never later than the earliest
 * timer while the loop thread sleeps. Whoever arms an earlier timer programs the timerfd himself:
 * the kernel then wakes the thread at the deadline, and not now. A cancelled or postponed timer
 * leaves the timerfd as it is; the thread wakes once for nothing and programs it anew. While
 * callbacks run (`dispatching`), programming waits until all of them have run. One round fires no
 * more timers than `max_timers_per_round`, so that a timer that arms itself in the past cannot hold
 * the lock for ever.
 *
 * Watches. An event in flight may name a watch that is gone by the time the lock is held again. The
 * kernel therefore gets a slot number and the slot's generation, not a pointer; an event whose
 * generation has passed is dropped. The mask is checked again, too.
 *
 * Fairness. A pthread mutex lets its last owner overtake those who sleep on it. The loop thread,
 * when it has work at once and somebody is still waiting, sleeps a moment before it takes the lock.
 */
#include "host/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "host/timer_heap.h"

enum { max_timers_per_round = 64, max_events_per_round = 32 };

#define NEVER UINT64_MAX
/* Values of epoll_data that are no watch's: generations start at 1, so theirs are above 2^32. */
#define DATA_TIMER 0
#define DATA_WAKE 1

struct watch_slot {
	struct loop_watch *watch; /* NULL: free */
	uint32_t generation;
};

struct loop {
	pthread_mutex_t lock;
	atomic_uint waiters; /* threads asleep in loop_lock() */

	int epoll_fd, timer_fd, wake_fd; /* constant */

	/* The owner of the loop: loop_start() and loop_stop(). */
	pthread_t thread;
	bool running;

	/* All below: lock. */
	bool stop;
	bool dispatching; /* the loop thread is running callbacks */
	struct timer_heap timers;
	uint64_t armed_ns; /* what timer_fd is programmed for, NEVER when it is not */
	uint64_t seen_ns;  /* when timers were run last: any that was due then is gone */
	void (*late)(void *ctx);
	void *late_ctx;
	struct watch_slot *slots;
	uint32_t n_slots;
	uint32_t n_always; /* watches that are always ready and want events */
};

uint64_t host_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void loop_lock(struct loop *loop)
{
	if (pthread_mutex_trylock(&loop->lock) == 0)
		return;
	atomic_fetch_add_explicit(&loop->waiters, 1, memory_order_relaxed);
	pthread_mutex_lock(&loop->lock);
	atomic_fetch_sub_explicit(&loop->waiters, 1, memory_order_relaxed);
}

void loop_unlock(struct loop *loop)
{
	pthread_mutex_unlock(&loop->lock);
}

static int open_descriptors(struct loop *loop)
{
	struct epoll_event timer = { .events = EPOLLIN, .data.u64 = DATA_TIMER };
	struct epoll_event wake = { .events = EPOLLIN, .data.u64 = DATA_WAKE };

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->timer_fd < 0)
		return -errno;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return -errno;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &timer) < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0)
		return -errno;
	return 0;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

int loop_new(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return err_set(err, ENOMEM, "out of memory for the event loop");
	loop->epoll_fd = loop->timer_fd = loop->wake_fd = -1;
	loop->armed_ns = NEVER;
	pthread_mutex_init(&loop->lock, NULL);
	r = open_descriptors(loop);
	if (r < 0) {
		errno = -r;
		err_set(err, -r, "cannot set up the event loop: %m");
		loop_free(loop);
		return r;
	}
	*out = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_stop(loop);
	close_if_open(loop->epoll_fd);
	close_if_open(loop->timer_fd);
	close_if_open(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop->slots);
	free(loop);
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread is awake anyway. */
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static void drain(int fd)
{
	uint64_t count;

	/* Empty is fine: somebody programmed the timerfd anew after it had expired. */
	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

/* Timers */

/* Sees to it that the timerfd expires no later than the earliest timer. */
static void program_timer(struct loop *loop)
{
	struct itimerspec spec = { 0 };
	uint64_t ns;

	if (!loop->timers.root || loop->timers.root->deadline_ns >= loop->armed_ns)
		return;
	ns = loop->timers.root->deadline_ns;
	loop->armed_ns = ns;
	ns = max_u64(ns, 1); /* zero would disarm */
	spec.it_value.tv_sec = (time_t)(ns / 1000000000u);
	spec.it_value.tv_nsec = (long)(ns % 1000000000u);
	timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	*t = (struct loop_timer){ .loop = loop, .fn = fn, .ctx = ctx };
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	struct loop *loop = t->loop;

	loop_timer_cancel(t);
	t->deadline_ns = deadline_ns;
	t->armed = true;
	timer_heap_add(&loop->timers, t);
	if (!loop->dispatching)
		program_timer(loop);
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t->armed)
		return;
	timer_heap_remove(&t->loop->timers, t);
	t->armed = false;
}

void loop_on_late(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
	loop_lock(loop);
	loop->late = fn;
	loop->late_ctx = ctx;
	loop_unlock(loop);
}

/* One armed for the past is late by nobody's fault. */
static void check_late(struct loop *loop, uint64_t now)
{
	const struct loop_timer *t = loop->timers.root;

	if (t && loop->late && t->deadline_ns > loop->seen_ns && t->deadline_ns < now && now - t->deadline_ns >= LOOP_LATE_NS)
		loop->late(loop->late_ctx);
	loop->seen_ns = now;
}

static void run_timers(struct loop *loop)
{
	uint64_t now = host_now_ns();

	check_late(loop, now);
	for (int i = 0; i < max_timers_per_round; i++) {
		struct loop_timer *t = loop->timers.root;

		if (!t || t->deadline_ns > now || t->deadline_ns == NEVER)
			return;
		loop_timer_cancel(t);
		t->fn(t->ctx); /* t may be gone after this */
	}
}

/* Watches */

static int alloc_slot(struct loop *loop, uint32_t *out)
{
	struct watch_slot *slots;
	uint32_t n = loop->n_slots;

	for (uint32_t i = 0; i < n; i++) {
		if (!loop->slots[i].watch) {
			*out = i;
			return 0;
		}
	}
	slots = realloc(loop->slots, (n + 8) * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = n; i < n + 8; i++)
		slots[i] = (struct watch_slot){ .generation = 1 };
	loop->slots = slots;
	loop->n_slots = n + 8;
	*out = n;
	return 0;
}

static int poll_ctl(struct loop_watch *w, int op, uint32_t events)
{
	struct loop *loop = w->loop;
	struct epoll_event ev = {
		.events = events,
		.data.u64 = (uint64_t)loop->slots[w->slot].generation << 32 | w->slot,
	};

	return epoll_ctl(loop->epoll_fd, op, w->fd, &ev) < 0 ? -errno : 0;
}

/* Changes a watch that epoll refused: the loop polls it by itself. */
static void change_always_ready(struct loop_watch *w, uint32_t events)
{
	struct loop *loop = w->loop;

	if (w->events)
		loop->n_always--;
	if (events) {
		loop->n_always++;
		wake(loop);
	}
	w->events = events;
}

int loop_watch_change(struct loop_watch *w, uint32_t events)
{
	int r = 0;

	if (w->always_ready) {
		change_always_ready(w, events);
		return 0;
	}
	if (events == w->events)
		return 0;
	/* Out of the set altogether for 0: epoll reports hang-ups whatever the mask. */
	if (events && !w->polled)
		r = poll_ctl(w, EPOLL_CTL_ADD, events);
	else if (events)
		r = poll_ctl(w, EPOLL_CTL_MOD, events);
	else if (w->polled)
		r = poll_ctl(w, EPOLL_CTL_DEL, 0);
	if (r == -EPERM && !w->polled) {
		w->always_ready = true;
		change_always_ready(w, events);
		return 0;
	}
	if (r < 0)
		return r;
	w->events = events;
	w->polled = events != 0;
	return 0;
}

int loop_watch_add(struct loop_watch *w, struct loop *loop, int fd, uint32_t events,
		   void (*fn)(void *ctx, uint32_t events), void *ctx)
{
	int r;

	*w = (struct loop_watch){ .loop = loop, .fd = fd, .fn = fn, .ctx = ctx };
	r = alloc_slot(loop, &w->slot);
	if (r == 0)
		r = loop_watch_change(w, events);
	if (r < 0) {
		w->loop = NULL;
		return r;
	}
	loop->slots[w->slot].watch = w;
	return 0;
}

void loop_watch_del(struct loop_watch *w)
{
	struct watch_slot *s;

	if (!w->loop)
		return;
	/* A descriptor closed too early has left the set by itself: nothing to do then. */
	if (loop_watch_change(w, 0) < 0)
		w->events = 0;
	s = &w->loop->slots[w->slot];
	s->watch = NULL;
	if (++s->generation == 0)
		s->generation = 1;
	w->loop = NULL;
}

static void dispatch_event(struct loop *loop, const struct epoll_event *ev)
{
	uint32_t slot = (uint32_t)ev->data.u64, generation = (uint32_t)(ev->data.u64 >> 32);
	struct loop_watch *w;
	uint32_t ready;

	if (ev->data.u64 == DATA_TIMER) {
		drain(loop->timer_fd);
		loop->armed_ns = NEVER;
		return;
	}
	if (ev->data.u64 == DATA_WAKE) {
		drain(loop->wake_fd);
		return;
	}
	w = loop->slots[slot].watch;
	if (!w || loop->slots[slot].generation != generation || !w->events)
		return;
	ready = ev->events & (w->events | EPOLLERR | EPOLLHUP);
	if (ready)
		w->fn(w->ctx, ready);
}

static void dispatch_always_ready(struct loop *loop)
{
	/* Slots may be added, moved and freed meanwhile: index anew each time. */
	for (uint32_t i = 0; loop->n_always && i < loop->n_slots; i++) {
		struct loop_watch *w = loop->slots[i].watch;

		if (w && w->always_ready && w->events)
			w->fn(w->ctx, w->events);
	}
}

/* The thread */

static void let_waiters_in(struct loop *loop)
{
	const struct timespec moment = { .tv_nsec = 20000 };

	if (atomic_load_explicit(&loop->waiters, memory_order_relaxed))
		nanosleep(&moment, NULL);
}

static void *loop_main(void *arg)
{
	struct loop *loop = arg;
	struct epoll_event ev[max_events_per_round];

	prctl(PR_SET_TIMERSLACK, 1UL);
	loop_lock(loop);
	loop->seen_ns = host_now_ns();
	while (!loop->stop) {
		int timeout_ms = loop->n_always ? 0 : -1;
		int n;

		program_timer(loop);
		loop->dispatching = false;
		loop_unlock(loop);
		n = epoll_wait(loop->epoll_fd, ev, ARRAY_SIZE(ev), timeout_ms);
		let_waiters_in(loop);
		loop_lock(loop);
		loop->dispatching = true;
		for (int i = 0; i < n; i++)
			dispatch_event(loop, &ev[i]);
		dispatch_always_ready(loop);
		run_timers(loop);
	}
	loop->dispatching = false;
	loop_unlock(loop);
	return NULL;
}

int loop_start(struct loop *loop, struct err *err)
{
	sigset_t all, old;
	int r;

	if (loop->running)
		return 0;
	loop->stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&loop->thread, NULL, loop_main, loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		errno = r;
		return err_set(err, r, "cannot start the event loop's thread: %m");
	}
	pthread_setname_np(loop->thread, "ringer-loop");
	loop->running = true;
	return 0;
}

void loop_stop(struct loop *loop)
{
	if (!loop->running)
		return;
	loop_lock(loop);
	loop->stop = true;
	loop_unlock(loop);
	wake(loop);
	pthread_join(loop->thread, NULL);
	loop->running = false;
}
