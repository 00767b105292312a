#include "vm/vcpu_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "cpu/kvm.h"

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	int saved = errno; /* wake runs inside signal handlers */

	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
	errno = saved;
}

/* Either the count is up before the thread looks at it, or `asleep` is seen here. */
void vcpu_thread_wake(struct vcpu *v)
{
	struct vcpu_thread *t = v->owner;

	atomic_fetch_add(&t->wake_seq, 1);
	if (atomic_load(&t->asleep) && (!atomic_load(&t->parked) || v->request & CPU_REQ_STOP))
		futex(&t->wake_seq, FUTEX_WAKE_PRIVATE, 1);
}

void vcpu_thread_unpark(struct vcpu_thread *t)
{
	atomic_fetch_add(&t->wake_seq, 1);
	if (atomic_load(&t->asleep))
		futex(&t->wake_seq, FUTEX_WAKE_PRIVATE, 1);
}

/*
 * What the thread does from now on. The counter around the change lets readers see all of it or none: they would
 * otherwise count a stretch twice.
 */
static void account(struct vcpu_thread *t, enum vcpu_doing doing)
{
	uint64_t now = __rdtsc(), since = t->since;

	atomic_fetch_add(&t->times_seq, 1);
	if (now > since)
		t->cycles[t->doing] += now - since;
	t->since = now;
	t->doing = doing;
	atomic_fetch_add(&t->times_seq, 1);
}

void vcpu_thread_times(const struct vcpu_thread *t, struct vcpu_times *out)
{
	uint64_t since = 0, now, cycles[ARRAY_SIZE(t->cycles)] = {0};
	unsigned doing = VCPU_NOTHING;
	uint32_t seq;

	/* Bounded: a torn figure is better than a reader that a busy thread holds up. */
	for (int i = 0; i < 1000; i++) {
		seq = t->times_seq;
		for (unsigned k = 0; k < ARRAY_SIZE(cycles); k++)
			cycles[k] = t->cycles[k];
		since = t->since;
		doing = t->doing;
		if (!(seq & 1) && seq == t->times_seq)
			break;
	}
	now = __rdtsc();
	if (now > since)
		cycles[doing] += now - since;
	*out = (struct vcpu_times){cycles[VCPU_ENGINE], cycles[VCPU_IDLE], cycles[VCPU_HELD]};
}

/* The clock of a thread that has just ended, or does so now, reads as an error: it is counted a little later. */
uint64_t vcpu_thread_cpu_ns(const struct vcpu_thread *t)
{
	uint64_t before = t->cpu_ns_before;
	clockid_t clock = t->cpu_clock;
	struct timespec now;

	if (!clock || clock_gettime(clock, &now) < 0)
		return before;
	return before + (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t vcpu_thread_run_delay(struct vcpu *v, uint64_t *ran_ns)
{
	struct vcpu_thread *t = v->owner;
	uint64_t idle = t->cycles[VCPU_IDLE] - t->idle_before;

	idle = (uint64_t)((unsigned __int128)idle * 1000000000 / v->model->tsc_hz);
	return t->delay_before_ns + run_delay_ns(&t->delay, idle + v->kvm.held_ns - t->held_before, ran_ns);
}

/* Without a policy, the host's scheduler is not told whom: what it runs instead is up to it. */
void vcpu_thread_yield(struct vcpu *v, uint32_t apic_id)
{
	struct vcpu_thread *t = v->owner;

	if (t->sched && t->sched->ops->yield_to)
		t->sched->ops->yield_to(t->sched, t, apic_id);
	else
		sched_yield();
}

/* Whether there is no need to sleep. */
static bool poll_halted(struct vcpu_thread *t, uint32_t seq)
{
	uint64_t begin = __rdtsc(), cycles;
	bool woken = false;

	/* A guest that polls by itself before it halts need not have it done twice. */
	if (!(t->vcpu->kvm.poll_control & 1))
		return false;
	cycles = halt_poll_begin(&t->halt_poll);
	if (!cycles)
		return false;
	while (!woken && __rdtsc() - begin < cycles) {
		_mm_pause();
		woken = atomic_load(&t->wake_seq) != seq;
	}
	halt_poll_end(&t->halt_poll, woken);
	return woken;
}

static void wait_halted(struct vcpu_thread *t, uint32_t seq)
{
	account(t, VCPU_IDLE);
	if (!poll_halted(t, seq)) {
		atomic_store(&t->asleep, true);
		if (atomic_load(&t->wake_seq) == seq)
			futex(&t->wake_seq, FUTEX_WAIT_PRIVATE, seq);
		atomic_store(&t->asleep, false);
	}
	account(t, VCPU_ENGINE);
}

void vcpu_thread_park(struct vcpu_thread *t, uint32_t seq)
{
	account(t, VCPU_HELD);
	atomic_store(&t->parked, true);
	atomic_store(&t->asleep, true);
	if (atomic_load(&t->wake_seq) == seq)
		futex(&t->wake_seq, FUTEX_WAIT_PRIVATE, seq);
	atomic_store(&t->asleep, false);
	atomic_store(&t->parked, false);
	account(t, VCPU_ENGINE);
}

/* *seq: to sleep by, if it halts. */
static enum run_exit run_engine(struct vcpu_thread *t, uint32_t *seq)
{
	struct vcpu_sched *s = t->sched;
	enum run_exit why;

	if (s && s->ops->enter)
		s->ops->enter(s, t);
	*seq = atomic_load(&t->wake_seq);
	cpu_kvm_enter(t->vcpu);
	why = t->vcpu->engine->run(t->vcpu, 0);
	/* Who sleeps is not preempted: the guest's scheduler would not give it work. */
	if (why != RUN_HALT)
		cpu_kvm_leave(t->vcpu);
	if (s && s->ops->leave)
		s->ops->leave(s, t, why);
	return why;
}

/* Less priority can always be had. */
static void set_nice(int more)
{
	id_t tid = (id_t)gettid();

	if (more)
		setpriority(PRIO_PROCESS, tid, getpriority(PRIO_PROCESS, tid) + more);
}

static void begin(struct vcpu_thread *t)
{
	clockid_t clock;

	set_nice(t->nice);
	run_delay_open(&t->delay);
	t->idle_before = t->cycles[VCPU_IDLE];
	t->held_before = t->vcpu->kvm.held_ns;
	if (pthread_getcpuclockid(pthread_self(), &clock) == 0)
		t->cpu_clock = clock;
	account(t, VCPU_ENGINE);
}

static void end(struct vcpu_thread *t)
{
	uint64_t ran;

	account(t, VCPU_NOTHING);
	t->delay_before_ns = vcpu_thread_run_delay(t->vcpu, &ran);
	run_delay_close(&t->delay);
	t->cpu_ns_before = vcpu_thread_cpu_ns(t);
	t->cpu_clock = 0;
}

static void *thread_main(void *arg)
{
	struct vcpu_thread *t = arg;

	begin(t);
	while (!t->should_stop(t->ctx)) {
		uint32_t seq;
		enum run_exit why = run_engine(t, &seq);

		if (why == RUN_HALT)
			wait_halted(t, seq);
		if (why == RUN_HALT || why == RUN_STOP || why == RUN_BUDGET)
			continue;
		t->ended(t->ctx, t->vcpu, why);
		break;
	}
	end(t);
	return NULL;
}

/* Everything asynchronous is for other threads; faults of the vCPU's own code must arrive. */
static void vcpu_signals(sigset_t *set)
{
	static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL,
					  SIGTRAP, SIGSYS, SIGABRT};

	sigfillset(set);
	for (unsigned i = 0; i < ARRAY_SIZE(synchronous); i++)
		sigdelset(set, synchronous[i]);
}

static int create(struct vcpu_thread *t)
{
	pthread_attr_t attr;
	cpu_set_t cpus;
	int ret = pthread_attr_init(&attr);

	if (ret)
		return ret;
	CPU_ZERO(&cpus);
	if (t->host_cpu >= 0) {
		CPU_SET((unsigned)t->host_cpu, &cpus);
		ret = pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	if (ret == 0)
		ret = pthread_create(&t->thread, &attr, thread_main, t);
	pthread_attr_destroy(&attr);
	return ret;
}

int vcpu_thread_start(struct vcpu_thread *t, struct err *err)
{
	sigset_t set, old;
	char name[16];
	int ret;

	vcpu_signals(&set);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	ret = create(t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return err_set(err, ret, "cannot start a thread for vCPU %u: %s", t->vcpu->id,
			       strerror(ret));
	snprintf(name, sizeof(name), "vcpu%u", t->vcpu->id);
	pthread_setname_np(t->thread, name);
	t->running = true;
	return 0;
}

void vcpu_thread_join(struct vcpu_thread *t)
{
	if (t->running)
		pthread_join(t->thread, NULL);
	t->running = false;
}
