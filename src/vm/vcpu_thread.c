#include "vm/vcpu_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	int saved = errno; /* wake runs inside signal handlers */

	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
	errno = saved;
}

void vcpu_thread_wake(struct vcpu *v)
{
	struct vcpu_thread *t = v->owner;

	atomic_fetch_add(&t->wake_seq, 1);
	futex(&t->wake_seq, FUTEX_WAKE_PRIVATE, 1);
}

static void *thread_main(void *arg)
{
	struct vcpu_thread *t = arg;

	while (!t->should_stop(t->ctx)) {
		uint32_t seq = atomic_load(&t->wake_seq);
		enum run_exit why = t->vcpu->engine->run(t->vcpu, 0);

		if (why == RUN_HALT)
			futex(&t->wake_seq, FUTEX_WAIT_PRIVATE, seq);
		if (why == RUN_HALT || why == RUN_STOP || why == RUN_BUDGET)
			continue;
		t->ended(t->ctx, t->vcpu, why);
		break;
	}
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

int vcpu_thread_start(struct vcpu_thread *t, struct err *err)
{
	sigset_t set, old;
	int ret;

	vcpu_signals(&set);
	pthread_sigmask(SIG_SETMASK, &set, &old);
	ret = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return err_set(err, ret, "cannot start a thread for vCPU %u: %s", t->vcpu->id,
			       strerror(ret));
	t->running = true;
	return 0;
}

void vcpu_thread_join(struct vcpu_thread *t)
{
	if (t->running)
		pthread_join(t->thread, NULL);
	t->running = false;
}
