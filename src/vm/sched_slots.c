/*
 * sched_slots.c - what sched_core decides, carried out on vCPUs' threads.
 *
 * The lock guards the core. vCPUs' threads take it when they go into and out of the engine, the timer thread when something
 * is due; nobody waits while holding it, and no signal handler takes it. Under it, the core's decisions are taken;
 * acting on them comes after.
 *
 * A thread that waits sleeps on its wake_seq, like a halted one (vcpu_thread.h). `granted` of its seat says that it may go.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/kvm.h"
#include "cpu/ringer.h"
#include "host/loop.h"
#include "vm/sched_core.h"
#include "vm/vcpu_thread.h"

struct seat {
	struct vcpu_thread *thread; /* set when it first enters */
	_Atomic bool granted;
};

struct sched {
	struct vcpu_sched head;
	pthread_mutex_t lock;
	pthread_cond_t timer_wake;
	struct sched_core core;
	struct seat seat[SCHED_VCPUS_MAX];
	uint64_t timer_at; /* when the timer thread will look by itself; ns */
	bool stop;
	pthread_t timer;
	bool timer_runs; /* owner's */
};

/* What the core decided, out of the lock. */
struct orders {
	uint64_t granted, stop, stop_safe;
};

/* The lock is held; gives it up. */
static struct orders decide(struct sched *s)
{
	struct sched_core *c = &s->core;
	struct orders o = {c->granted, c->stop, c->stop_safe};

	c->granted = c->stop = c->stop_safe = 0;
	for (uint64_t rest = o.granted; rest; rest &= rest - 1)
		s->seat[__builtin_ctzll(rest)].granted = true;
	if (sched_core_deadline(c) < s->timer_at)
		pthread_cond_signal(&s->timer_wake);
	pthread_mutex_unlock(&s->lock);
	return o;
}

static void carry_out(struct sched *s, const struct orders *o)
{
	for (uint64_t rest = o->granted; rest; rest &= rest - 1)
		vcpu_thread_unpark(s->seat[__builtin_ctzll(rest)].thread);
	for (uint64_t rest = o->stop | o->stop_safe; rest; rest &= rest - 1) {
		unsigned i = (unsigned)__builtin_ctzll(rest);

		if (o->stop >> i & 1)
			vcpu_request(s->seat[i].thread->vcpu, CPU_REQ_STOP);
		else if (s->core.policy->user_is_safe)
			vcpu_request(s->seat[i].thread->vcpu, CPU_REQ_USER);
	}
}

static void finish(struct sched *s)
{
	struct orders o = decide(s);

	carry_out(s, &o);
}

/* Until it has a slot, or is to stop. */
static void wait_for_slot(struct sched *s, struct vcpu_thread *t)
{
	struct seat *seat = &s->seat[t->vcpu->id];
	uint64_t from, now;

	if (seat->granted)
		return;
	from = host_now_ns();
	for (;;) {
		uint32_t seq = atomic_load(&t->wake_seq);

		if (seat->granted || t->should_stop(t->ctx))
			break;
		vcpu_thread_park(t, seq);
	}
	now = host_now_ns();
	cpu_kvm_held(t->vcpu, now - from);
	pthread_mutex_lock(&s->lock);
	sched_core_started(&s->core, t->vcpu->id, now);
	pthread_mutex_unlock(&s->lock);
}

/* The lock is held, and the core does not know yet: whoever has asked has got what he wanted. */
static void give_up(struct sched *s, struct vcpu_thread *t)
{
	s->seat[t->vcpu->id].granted = false;
	t->vcpu->request &= ~(uint32_t)CPU_REQ_USER;
}

static void enter(struct vcpu_sched *head, struct vcpu_thread *t)
{
	struct sched *s = (struct sched *)head;
	unsigned i = t->vcpu->id;

	if (s->seat[i].granted)
		return;
	pthread_mutex_lock(&s->lock);
	if (s->seat[i].thread != t)
		s->seat[i].thread = t;
	sched_core_wait(&s->core, i, host_now_ns());
	finish(s);
	wait_for_slot(s, t);
}

static void leave(struct vcpu_sched *head, struct vcpu_thread *t, enum run_exit why)
{
	struct sched *s = (struct sched *)head;
	bool stops = t->should_stop(t->ctx), asked = why == RUN_STOP || why == RUN_BUDGET;
	unsigned i = t->vcpu->id;
	uint64_t now = host_now_ns();

	pthread_mutex_lock(&s->lock);
	if (!stops && asked && sched_core_stays(&s->core, i, now)) {
		pthread_mutex_unlock(&s->lock);
		return;
	}
	give_up(s, t);
	if (asked && !stops)
		sched_core_preempt(&s->core, i, now);
	else
		sched_core_leave(&s->core, i, now);
	finish(s);
}

static void yield_to(struct vcpu_sched *head, struct vcpu_thread *t, uint32_t id)
{
	struct sched *s = (struct sched *)head;
	unsigned i = t->vcpu->id;
	uint64_t now = host_now_ns();

	pthread_mutex_lock(&s->lock);
	if (!sched_core_yield(&s->core, i, id, now)) {
		pthread_mutex_unlock(&s->lock);
		if (!s->core.policy->slots)
			sched_yield();
		return;
	}
	give_up(s, t);
	sched_core_wait(&s->core, i, now);
	finish(s);
	wait_for_slot(s, t);
}

static const struct vcpu_sched_ops ops = {.enter = enter, .leave = leave, .yield_to = yield_to};

static uint64_t used_ns(const struct sched *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SCHED_VCPUS_MAX; i++)
		if (s->seat[i].thread)
			sum += vcpu_thread_cpu_ns(s->seat[i].thread);
	return sum;
}

/* The lock is held. */
static void tick(struct sched *s)
{
	struct sched_core *c = &s->core;
	uint64_t now = host_now_ns();

	if (c->cap.percent && (now >= c->cap.look_at || !c->cap.period_end))
		sched_cap_update(&c->cap, used_ns(s), (unsigned)__builtin_popcountll(c->running), now);
	sched_core_tick(c, now);
}

static void wait_until(struct sched *s, uint64_t at)
{
	struct timespec t = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};

	s->timer_at = at;
	if (at == UINT64_MAX)
		pthread_cond_wait(&s->timer_wake, &s->lock);
	else
		pthread_cond_timedwait(&s->timer_wake, &s->lock, &t);
	s->timer_at = 0; /* awake: nobody needs to wake it */
}

static void *timer_main(void *arg)
{
	struct sched *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		uint64_t at = sched_core_deadline(&s->core);

		if (at > host_now_ns()) {
			wait_until(s, at);
			continue;
		}
		tick(s);
		finish(s);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static bool locked(void *ctx, unsigned i)
{
	const struct sched *s = ctx;

	return s->seat[i].thread && cpu_lock_hint(s->seat[i].thread->vcpu);
}

int sched_new(struct sched **out, const struct sched_config *config, struct err *err)
{
	struct sched *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (!s)
		return err_set(err, ENOMEM, "out of host memory");
	s->head.ops = &ops;
	sched_core_init(&s->core, config->policy, config->slots);
	if (config->slice_ns)
		s->core.slice_ns = config->slice_ns;
	s->core.cap.percent = config->cap_percent;
	s->core.locked = locked;
	s->core.ctx = s;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->timer_wake, &attr);
	pthread_condattr_destroy(&attr);
	*out = s;
	return 0;
}

void sched_free(struct sched *s)
{
	if (!s)
		return;
	pthread_cond_destroy(&s->timer_wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct vcpu_sched *sched_vcpu_sched(struct sched *s)
{
	return s ? &s->head : NULL;
}

int sched_start(struct sched *s, struct err *err)
{
	sigset_t all, old;
	int rc;

	s->stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&s->timer, NULL, timer_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(err, rc, "cannot start a thread for scheduling: %s", strerror(rc));
	pthread_setname_np(s->timer, "sched");
	s->timer_runs = true;
	return 0;
}

void sched_stop(struct sched *s)
{
	if (!s->timer_runs)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_signal(&s->timer_wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->timer, NULL);
	s->timer_runs = false;
}

void sched_get_counters(struct sched *s, unsigned i, struct sched_counters *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->core.vcpu[i].n;
	pthread_mutex_unlock(&s->lock);
}

void sched_describe(struct sched *s, unsigned *slots, unsigned *cap_percent, uint64_t *exhaustions)
{
	pthread_mutex_lock(&s->lock);
	*slots = s->core.policy->slots ? s->core.slots : 0;
	*cap_percent = s->core.cap.percent;
	*exhaustions = s->core.cap.exhaustions;
	pthread_mutex_unlock(&s->lock);
}
