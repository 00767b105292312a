/*
 * test_vcpu_thread.c - vCPU threads under an engine that does nothing but halt: nobody sleeps through a wake-up, a
 * policy is asked whenever it should be, and polling follows its rules.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vcpu_thread.h"

#define N 4
#define HOPS 20000

static struct rig {
	struct vcpu *vcpu[N];
	struct vcpu_thread thread[N];
	struct cpu_model model;
	struct guest_mem *mem;
	struct bus *bus;
	_Atomic unsigned hops;
	_Atomic bool stop;
	_Atomic unsigned entered, left, halts;
} rig;

/* Whoever is interrupted interrupts the next, and halts. */
static enum run_exit run(struct vcpu *v, uint64_t max_insns)
{
	(void)max_insns;
	v->poll = 0;
	if (v->request & CPU_REQ_STOP) {
		v->request &= ~(uint32_t)CPU_REQ_STOP;
		return RUN_STOP;
	}
	if (v->request & CPU_REQ_INTR) {
		v->request &= ~(uint32_t)CPU_REQ_INTR;
		if (++rig.hops < HOPS)
			vcpu_request(rig.vcpu[(v->id + 1) % N], CPU_REQ_INTR);
	}
	return RUN_HALT;
}

static const struct engine_ops engine = {.name = "halts", .run = run};

static bool should_stop(void *ctx)
{
	return rig.stop;
}

static void ended(void *ctx, struct vcpu *v, enum run_exit why)
{
	abort();
}

static void enter(struct vcpu_sched *s, struct vcpu_thread *t)
{
	rig.entered += t->sched == s;
}

static void leave(struct vcpu_sched *s, struct vcpu_thread *t, enum run_exit why)
{
	rig.left++;
	rig.halts += why == RUN_HALT;
}

static const struct vcpu_sched_ops sched_ops = {.enter = enter, .leave = leave};
static struct vcpu_sched sched = {&sched_ops};

static int setup(void **state)
{
	struct err err;

	memset(&rig, 0, sizeof(rig));
	assert_int_equal(cpu_model_init(&rig.model, "x86-64-v2", &err), 0);
	assert_int_equal(guest_mem_new(&rig.mem, &err), 0);
	assert_int_equal(bus_new(&rig.bus, NULL, &err), 0);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(vcpu_new(&rig.vcpu[i], i, &rig.model, rig.mem, rig.bus, &err), 0);
		rig.thread[i] = (struct vcpu_thread){.vcpu = rig.vcpu[i], .should_stop = should_stop,
						     .ended = ended, .host_cpu = -1};
		rig.vcpu[i]->owner = &rig.thread[i];
		rig.vcpu[i]->wake = vcpu_thread_wake;
		rig.vcpu[i]->engine = &engine;
	}
	return 0;
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < N; i++)
		vcpu_free(rig.vcpu[i]);
	bus_free(rig.bus);
	guest_mem_free(rig.mem);
	return 0;
}

static void start(void)
{
	struct err err;

	for (unsigned i = 0; i < N; i++)
		assert_int_equal(vcpu_thread_start(&rig.thread[i], &err), 0);
}

static void stop(void)
{
	rig.stop = true;
	for (unsigned i = 0; i < N; i++)
		vcpu_request(rig.vcpu[i], CPU_REQ_STOP);
	for (unsigned i = 0; i < N; i++)
		vcpu_thread_join(&rig.thread[i]);
}

/* One token: a wake-up that is lost stops it. */
static void go_round(void)
{
	start();
	vcpu_request(rig.vcpu[0], CPU_REQ_INTR);
	while (rig.hops < HOPS)
		sched_yield();
	stop();
	assert_int_equal(rig.hops, HOPS);
}

static void test_wake(void **state)
{
	go_round();
}

static void test_wake_polling(void **state)
{
	for (unsigned i = 0; i < N; i++)
		rig.thread[i].halt_poll.cycles = 20000;
	go_round();
}

static void test_policy(void **state)
{
	for (unsigned i = 0; i < N; i++)
		rig.thread[i].sched = &sched;
	go_round();
	assert_int_equal(rig.entered, rig.left);
	assert_true(rig.halts >= HOPS);
}

/* Stopping meets threads that sleep, run, and have not begun. */
static void test_stop_storm(void **state)
{
	for (unsigned n = 0; n < 200; n++) {
		rig.stop = false;
		start();
		vcpu_request(rig.vcpu[n % N], CPU_REQ_INTR);
		stop();
	}
}

static unsigned halts_between_polls(struct halt_poll *p)
{
	unsigned n = 0;

	while (!halt_poll_begin(p))
		n++;
	return n;
}

static void test_poll_rules(void **state)
{
	struct halt_poll p = {.cycles = 5}, never = {.cycles = 0};
	unsigned want = 0;

	/* Twice as many go by each time, up to the most. */
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(halts_between_polls(&p), want);
		halt_poll_end(&p, false);
		want = (unsigned)min_u64(want * 2 + 1, HALT_POLL_SKIP_MAX);
	}
	assert_int_equal(halts_between_polls(&p), HALT_POLL_SKIP_MAX);
	halt_poll_end(&p, true);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(halt_poll_begin(&p), 5);
		halt_poll_end(&p, true);
	}
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(halt_poll_begin(&never), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_wake), T(test_wake_polling), T(test_policy),
					   T(test_stop_storm), cmocka_unit_test(test_poll_rules)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
