/* test_run_delay.c - how long a thread was ready without a processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "host/run_delay.h"

#define SECOND 1000000000ULL

static void parse(void **state)
{
	static const char *const bad[] = {"", "x", "12", "12 ", "12 x 3\n", "0 0 0\n", "0 50759 1\n", "12,5 3 1\n"};
	uint64_t used = 0, ns = 0;

	assert_true(run_delay_parse("123 456 7\n", &used, &ns));
	assert_int_equal(ns, 456);
	assert_int_equal(used, 123);
	assert_true(run_delay_parse("123 0 7\n", &used, &ns));
	assert_int_equal(ns, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (run_delay_parse(bad[i], &used, &ns))
			fail_msg("\"%s\" is taken", bad[i]);
}

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static _Atomic bool done;

static void *compete(void *unused)
{
	(void)unused;
	while (!done)
		;
	return NULL;
}

static int pin_to_one(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? 0 : cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* Time that this thread has not had since `began`, when it had had `used`. */
static int64_t missed(uint64_t began, uint64_t used)
{
	uint64_t wall = now(CLOCK_MONOTONIC) - began;

	return (int64_t)(wall - (now(CLOCK_THREAD_CPUTIME_ID) - used));
}

/* Two threads on one processor: what this one does not get is delay, whichever way it is found. */
static void shared(bool counted)
{
	struct run_delay r;
	uint64_t start, got, used, began, ran, ran_before;
	pthread_t t;

	if (pin_to_one())
		skip();
	done = false;
	run_delay_open(&r);
	if (!counted)
		run_delay_close(&r);
	else if (r.fd < 0)
		skip();
	began = now(CLOCK_MONOTONIC);
	used = now(CLOCK_THREAD_CPUTIME_ID);
	start = run_delay_ns(&r, 0, &ran_before);
	assert_int_equal(pthread_create(&t, NULL, compete, NULL), 0);
	/* Until enough of it has passed without us; a clock that stands still must not hang the test. */
	while (missed(began, used) < (int64_t)SECOND / 5 && now(CLOCK_MONOTONIC) - began < 60 * SECOND)
		;
	got = run_delay_ns(&r, 0, &ran) - start;
	done = true;
	pthread_join(t, NULL);
	run_delay_close(&r);
	assert_true(got >= SECOND / 10);
	assert_true(ran > ran_before);
	assert_true(got <= now(CLOCK_MONOTONIC) - began);
}

static void delay_counted(void **state)
{
	shared(true);
}

static void delay_inferred(void **state)
{
	shared(false);
}

/* Sleep is not delay, and the figure never goes back. */
static void sleep_is_none(void **state)
{
	struct run_delay r = {.fd = -1};
	uint64_t before, after, slept, ran;

	run_delay_open(&r);
	run_delay_close(&r);
	before = run_delay_ns(&r, 0, &ran);
	slept = now(CLOCK_MONOTONIC);
	usleep(100000);
	slept = now(CLOCK_MONOTONIC) - slept;
	after = run_delay_ns(&r, slept, &ran);
	assert_true(after >= before);
	assert_true(after - before < slept);
	assert_int_equal(run_delay_ns(&r, 3600 * SECOND, &ran), after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse), cmocka_unit_test(delay_counted), cmocka_unit_test(delay_inferred),
		cmocka_unit_test(sleep_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
