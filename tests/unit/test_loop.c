/* The event loop: timers, watches and the thread. No test looks at how long something took. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "host/loop.h"
#include "host/timer_heap.h"

struct world {
	struct loop *loop;
	sem_t done;
	struct loop_timer t[8];
	unsigned order[64], n;
	pthread_t thread;
	bool signals_blocked;
	struct loop_watch w, w2;
	int pipe[2], pipe2[2];
	char buf[16];
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	sem_init(&w->done, 0, 0);
	assert_int_equal(pipe(w->pipe), 0);
	assert_int_equal(pipe(w->pipe2), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	loop_free(w->loop);
	for (unsigned i = 0; i < 2; i++) {
		close(w->pipe[i]);
		close(w->pipe2[i]);
	}
	sem_destroy(&w->done);
	free(w);
	return 0;
}

static void wait_done(struct world *w)
{
	while (sem_wait(&w->done) < 0)
		assert_int_equal(errno, EINTR);
}

static void post(void *ctx)
{
	sem_post(&((struct world *)ctx)->done);
}

/* Random additions and removals, the root compared with a plain search each time. */
static void test_heap(void **state)
{
	struct timer_heap h = { 0 };
	struct loop_timer t[100] = { 0 };
	unsigned seed = 12345;

	for (unsigned round = 0; round < 20000; round++) {
		struct loop_timer *x;
		uint64_t first = UINT64_MAX;

		seed = seed * 1103515245 + 12345;
		x = &t[(seed >> 16) % 100];
		x->armed = !x->armed;
		x->deadline_ns = x->armed ? (seed >> 8) % 500 : x->deadline_ns;
		if (x->armed)
			timer_heap_add(&h, x);
		else
			timer_heap_remove(&h, x);
		for (unsigned i = 0; i < 100; i++)
			if (t[i].armed)
				first = min_u64(first, t[i].deadline_ns);
		assert_true(h.root ? h.root->armed && h.root->deadline_ns == first
				   : first == UINT64_MAX);
	}
}

/* Timers note their number; the last one ends the test. */
struct note {
	struct world *w;
	unsigned id;
	bool last;
};

static void note(void *ctx)
{
	struct note *n = ctx;

	n->w->order[n->w->n++] = n->id;
	if (n->last)
		post(n->w);
}

static void test_timer_order(void **state)
{
	struct world *w = *state;
	struct note notes[5];
	static const int deadline[5] = { 3, 1, 5, 2, 4 };
	uint64_t now = host_now_ns();

	for (unsigned i = 0; i < 5; i++) {
		notes[i] = (struct note){ w, (unsigned)deadline[i], deadline[i] == 5 };
		loop_timer_init(&w->t[i], w->loop, note, &notes[i]);
		assert_false(loop_timer_armed(&w->t[i]));
		loop_timer_set(&w->t[i], now + (uint64_t)deadline[i] * 1000000);
	}
	loop_timer_set(&w->t[4], now + 50000000); /* 4 now comes after 5, */
	loop_timer_cancel(&w->t[0]);              /* and 3 not at all */
	notes[4].last = true;
	notes[2].last = false;
	assert_int_equal(loop_start(w->loop, NULL), 0);
	wait_done(w);
	loop_stop(w->loop);
	assert_int_equal(w->n, 4);
	assert_int_equal(w->order[0], 1);
	assert_int_equal(w->order[1], 2);
	assert_int_equal(w->order[2], 5);
	assert_int_equal(w->order[3], 4);
	assert_true(host_now_ns() >= now + 50000000);
}

/* Overdue by a second: that is said first. What was armed for the past is not overdue. */
static void test_late(void **state)
{
	struct world *w = *state;
	struct note timer = { w, 1, true }, late = { w, 2, false };
	uint64_t due;

	loop_timer_init(&w->t[0], w->loop, note, &timer);
	loop_on_late(w->loop, note, &late);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	loop_lock(w->loop);
	loop_timer_set(&w->t[0], 1);
	loop_unlock(w->loop);
	wait_done(w);
	assert_int_equal(w->n, 1);
	/* As if the thread were stopped: it cannot go on without the lock. */
	loop_lock(w->loop);
	due = host_now_ns() + 1000000;
	loop_timer_set(&w->t[0], due);
	while (host_now_ns() < due + LOOP_LATE_NS)
		usleep(10000);
	loop_unlock(w->loop);
	wait_done(w);
	loop_stop(w->loop);
	assert_int_equal(w->n, 3);
	assert_int_equal(w->order[1], 2);
	assert_int_equal(w->order[2], 1);
}

static void test_timer_from_other_thread(void **state)
{
	struct world *w = *state;

	loop_timer_init(&w->t[0], w->loop, post, w);
	loop_timer_init(&w->t[1], w->loop, post, w);
	loop_timer_init(&w->t[2], w->loop, post, w);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	loop_lock(w->loop);
	loop_timer_set(&w->t[1], host_now_ns() + 3600000000000ull);
	loop_timer_set(&w->t[2], UINT64_MAX);
	loop_unlock(w->loop);
	for (unsigned i = 0; i < 100; i++) {
		loop_lock(w->loop);
		/* Now, soon, and never later than the one of an hour. */
		loop_timer_set(&w->t[0], i & 1 ? 0 : host_now_ns() + 20000);
		loop_unlock(w->loop);
		wait_done(w);
	}
	loop_lock(w->loop);
	assert_true(loop_timer_armed(&w->t[1]));
	assert_true(loop_timer_armed(&w->t[2]));
	assert_false(loop_timer_armed(&w->t[0]));
	loop_timer_cancel(&w->t[1]);
	loop_timer_cancel(&w->t[2]);
	loop_unlock(w->loop);
}

/* t[0] cancels t[1], which is due too, arms t[2] and rearms itself in the past. */
static void meddle(void *ctx)
{
	struct world *w = ctx;

	loop_timer_cancel(&w->t[1]);
	if (++w->n < 1000)
		loop_timer_set(&w->t[0], 1);
	else
		loop_timer_set(&w->t[2], 0);
}

static void must_not_run(void *ctx)
{
	((struct world *)ctx)->n = 100000;
}

static void test_callbacks_change_timers(void **state)
{
	struct world *w = *state;

	loop_timer_init(&w->t[0], w->loop, meddle, w);
	loop_timer_init(&w->t[1], w->loop, must_not_run, w);
	loop_timer_init(&w->t[2], w->loop, post, w);
	loop_timer_set(&w->t[0], 1);
	loop_timer_set(&w->t[1], 2);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	wait_done(w);
	loop_stop(w->loop);
	assert_int_equal(w->n, 1000);
}

/* A timer that is always due must not keep others from the lock. */
static void again(void *ctx)
{
	struct world *w = ctx;

	w->n++;
	loop_timer_set(&w->t[0], 0);
}

static void test_busy_timer_lets_others_in(void **state)
{
	struct world *w = *state;

	loop_timer_init(&w->t[0], w->loop, again, w);
	loop_timer_set(&w->t[0], 0);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		loop_lock(w->loop);
		loop_unlock(w->loop);
	}
	loop_lock(w->loop);
	loop_timer_cancel(&w->t[0]);
	loop_unlock(w->loop);
}

static void free_self(void *ctx)
{
	struct world **box = ctx;

	post(*box);
	free(box);
}

static void test_timer_frees_itself(void **state)
{
	struct world *w = *state;
	struct box {
		struct world *w;
		struct loop_timer t;
	} *box = calloc(1, sizeof(*box));

	assert_non_null(box);
	box->w = w;
	loop_timer_init(&box->t, w->loop, free_self, box);
	loop_timer_set(&box->t, 0);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	wait_done(w);
}

static void look_at_thread(void *ctx)
{
	struct world *w = ctx;
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	w->signals_blocked = sigismember(&set, SIGTERM) && sigismember(&set, SIGINT) &&
			     sigismember(&set, SIGPIPE) && sigismember(&set, SIGWINCH);
	w->thread = pthread_self();
	post(w);
}

static void test_thread(void **state)
{
	struct world *w = *state;
	sigset_t before, after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	loop_timer_init(&w->t[0], w->loop, look_at_thread, w);
	/* Stopped before it started, started twice, and once more after a stop. */
	loop_stop(w->loop);
	for (unsigned i = 0; i < 3; i++) {
		loop_lock(w->loop);
		loop_timer_set(&w->t[0], 0);
		loop_unlock(w->loop);
		assert_int_equal(loop_start(w->loop, NULL), 0);
		assert_int_equal(loop_start(w->loop, NULL), 0);
		wait_done(w);
		loop_stop(w->loop);
		assert_true(w->signals_blocked);
		assert_false(pthread_equal(w->thread, pthread_self()));
	}
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

static void read_one(void *ctx, uint32_t events)
{
	struct world *w = ctx;

	assert_true(events & EPOLLIN);
	if (read(w->w.fd, &w->buf[w->n++], 1) == 1)
		post(w);
}

static void put(int fd, const char *s)
{
	assert_int_equal(write(fd, s, strlen(s)), strlen(s));
}

static void test_watch(void **state)
{
	struct world *w = *state;

	assert_int_equal(loop_watch_add(&w->w, w->loop, w->pipe[0], EPOLLIN, read_one, w), 0);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	put(w->pipe[1], "abc");
	for (unsigned i = 0; i < 3; i++)
		wait_done(w);
	assert_memory_equal(w->buf, "abc", 3);
	/* Mask 0 reports nothing, until it is raised again. */
	loop_lock(w->loop);
	assert_int_equal(loop_watch_change(&w->w, 0), 0);
	put(w->pipe[1], "d");
	loop_unlock(w->loop);
	loop_timer_init(&w->t[0], w->loop, post, w);
	loop_lock(w->loop);
	loop_timer_set(&w->t[0], host_now_ns() + 2000000);
	loop_unlock(w->loop);
	wait_done(w);
	loop_lock(w->loop);
	assert_int_equal(w->n, 3);
	assert_int_equal(loop_watch_change(&w->w, EPOLLIN), 0);
	loop_unlock(w->loop);
	wait_done(w);
	loop_lock(w->loop);
	assert_int_equal(w->n, 4);
	loop_watch_del(&w->w);
	loop_watch_del(&w->w); /* twice is harmless */
	loop_unlock(w->loop);
	assert_int_not_equal(loop_watch_add(&w->w, w->loop, 9999, EPOLLIN, read_one, w), 0);
}

/*
 * Whichever of two ready watches runs first removes both, and puts new ones in their slots that are not
 * ready: the event still in flight is the removed watch's and must not reach the new one.
 */
static void remove_both(void *ctx, uint32_t events)
{
	struct world *w = ctx;
	char c;

	w->n++;
	loop_watch_del(&w->w);
	loop_watch_del(&w->w2);
	assert_int_equal(read(w->pipe[0], &c, 1) + read(w->pipe2[0], &c, 1), 2);
	assert_int_equal(loop_watch_add(&w->w, w->loop, w->pipe[0], EPOLLIN, remove_both, w), 0);
	assert_int_equal(loop_watch_add(&w->w2, w->loop, w->pipe2[0], EPOLLIN, remove_both, w), 0);
	loop_timer_set(&w->t[0], 0);
}

static void test_watch_removed_in_callback(void **state)
{
	struct world *w = *state;

	put(w->pipe[1], "x");
	put(w->pipe2[1], "x");
	loop_timer_init(&w->t[0], w->loop, post, w);
	assert_int_equal(loop_watch_add(&w->w, w->loop, w->pipe[0], EPOLLIN, remove_both, w), 0);
	assert_int_equal(loop_watch_add(&w->w2, w->loop, w->pipe2[0], EPOLLIN, remove_both, w), 0);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	wait_done(w);
	loop_stop(w->loop);
	assert_int_equal(w->n, 1);
}

static void read_file(void *ctx, uint32_t events)
{
	struct world *w = ctx;

	if (read(w->w.fd, &w->buf[w->n], 1) == 1) {
		w->n++;
		return;
	}
	loop_watch_del(&w->w);
	post(w);
}

/* epoll refuses these: they are always ready. */
static void test_regular_file(void **state)
{
	struct world *w = *state;
	FILE *f = tmpfile();
	int null = open("/dev/null", O_RDONLY);

	assert_non_null(f);
	assert_true(null >= 0);
	put(fileno(f), "file");
	lseek(fileno(f), 0, SEEK_SET);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	loop_lock(w->loop);
	assert_int_equal(loop_watch_add(&w->w, w->loop, fileno(f), 0, read_file, w), 0);
	assert_int_equal(loop_watch_change(&w->w, EPOLLIN), 0);
	loop_unlock(w->loop);
	wait_done(w);
	assert_int_equal(w->n, 4);
	assert_memory_equal(w->buf, "file", 4);
	loop_lock(w->loop);
	assert_int_equal(loop_watch_add(&w->w, w->loop, null, EPOLLIN, read_file, w), 0);
	loop_unlock(w->loop);
	wait_done(w);
	fclose(f);
	close(null);
}

static void test_many_watches(void **state)
{
	struct world *w = *state;
	struct loop_watch many[40];

	/* More than one table's worth, all on copies of a readable pipe but one. */
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(
			loop_watch_add(&many[i], w->loop, dup(w->pipe2[0]), EPOLLIN, read_one, w),
			0);
	assert_int_equal(loop_watch_add(&w->w, w->loop, w->pipe[0], EPOLLIN, read_one, w), 0);
	assert_int_equal(loop_start(w->loop, NULL), 0);
	put(w->pipe[1], "z");
	wait_done(w);
	loop_stop(w->loop);
	assert_int_equal(w->n, 1);
	for (unsigned i = 0; i < 40; i++) {
		loop_watch_del(&many[i]);
		close(many[i].fd);
	}
}

#define LOOP_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heap),
		LOOP_TEST(test_late),
		LOOP_TEST(test_timer_order),
		LOOP_TEST(test_timer_from_other_thread),
		LOOP_TEST(test_callbacks_change_timers),
		LOOP_TEST(test_busy_timer_lets_others_in),
		LOOP_TEST(test_timer_frees_itself),
		LOOP_TEST(test_thread),
		LOOP_TEST(test_watch),
		LOOP_TEST(test_watch_removed_in_callback),
		LOOP_TEST(test_regular_file),
		LOOP_TEST(test_many_watches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
