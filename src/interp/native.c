/*
 * Running thunks: the signal handler that turns host faults inside a thunk into a return value.
 *
 * The handler runs on an alternate stack armed with SS_AUTODISARM, because RSP may hold any guest value when the
 * fault comes (even one inside that stack). It acts only when this thread is in native_enter(): first the engine's
 * hook is asked, which may have code of its own, then the thunk arena; every other signal goes to whoever was there
 * before.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "interp/internal.h"

#define SIGNAL_STACK 65536
#define HOST_MXCSR 0x1f80u /* as the psABI has it at program start */

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

extern char native_fault_exit[];

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

/*
 * Per thread: which interpreter runs on it. A signal handler gets no argument, so this is the one place where
 * a thread-local is needed.
 */
static _Thread_local struct interp *running;
static _Thread_local struct native_fault last_fault;

/* What was installed before ours. Signal handlers belong to the process, and so does this; written under the lock. */
static struct sigaction previous[ARRAY_SIZE(fault_signals)];
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

const struct native_fault *native_last_fault(void)
{
	return &last_fault;
}

static void chain(int sig, siginfo_t *info, void *context)
{
	for (unsigned i = 0; i < ARRAY_SIZE(fault_signals); i++) {
		const struct sigaction *sa = &previous[i];

		if (fault_signals[i] != sig)
			continue;
		if (sa->sa_flags & SA_SIGINFO) {
			sa->sa_sigaction(sig, info, context);
		} else if (sa->sa_handler != SIG_DFL && sa->sa_handler != SIG_IGN) {
			sa->sa_handler(sig);
		} else {
			signal(sig, SIG_DFL); /* the instruction faults again, and the default action follows */
		}
		return;
	}
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;
	struct interp *it = running;

	if (it && it->fault_hook && it->fault_hook(it->fault_ctx, sig, info, context))
		return;
	if (!it || !thunks_contain(it->thunks, (uint64_t)r[REG_RIP])) {
		chain(sig, info, context);
		return;
	}
	last_fault.vector = (unsigned)r[REG_TRAPNO];
	last_fault.error = (uint32_t)r[REG_ERR];
	last_fault.addr = (uint64_t)r[REG_CR2];
	if (!it->v->fpu_live) { /* else the fault was not x87's, and its state is the guest's */
		uc->uc_mcontext.fpregs->cwd = 0x37f;
		uc->uc_mcontext.fpregs->swd = 0;
		uc->uc_mcontext.fpregs->ftw = 0;
	}
	r[REG_RIP] = (greg_t)(uintptr_t)native_fault_exit;
	r[REG_RSP] = (greg_t)it->v->native_rsp;
}

/* Puts our handlers in front of whoever's are there. Asked at each entry: a library may have put its own since. */
static void install(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, now;

	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&install_lock);
	for (unsigned i = 0; i < ARRAY_SIZE(fault_signals); i++) {
		if (sigaction(fault_signals[i], NULL, &now) || now.sa_sigaction == on_fault)
			continue;
		previous[i] = now;
		sigaction(fault_signals[i], &sa, NULL);
	}
	pthread_mutex_unlock(&install_lock);
}

int native_init(struct interp *it, struct err *err)
{
	it->signal_stack = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (it->signal_stack == MAP_FAILED) {
		it->signal_stack = NULL;
		return err_set(err, ENOMEM, "out of host memory");
	}
	return 0;
}

void native_fini(struct interp *it)
{
	if (it->signal_stack)
		munmap(it->signal_stack, SIGNAL_STACK);
}

int native_enter(struct interp *it)
{
	stack_t ss = {.ss_sp = it->signal_stack, .ss_size = SIGNAL_STACK, .ss_flags = (int)SS_AUTODISARM};

	install();
	if (sigaltstack(&ss, &it->outer_stack))
		return -errno;
	running = it;
	/*
	 * The guest's MXCSR is the thread's from here on: loading it around each instruction would cost more than the
	 * instruction. Nothing that run() calls computes with floating point, so no C code depends on it; nor on the
	 * x87 state, which the last x87 instruction leaves behind (FNINIT after each would be a third of its cost).
	 */
	load_mxcsr(it->v->fpu.fx + FX_MXCSR);
	return 0;
}

void native_leave(struct interp *it)
{
	const uint32_t host = HOST_MXCSR;

	cpu_fpu_spill(it->v);
	asm volatile("fninit");
	store_mxcsr(it->v->fpu.fx + FX_MXCSR);
	load_mxcsr(&host);
	running = NULL;
	sigaltstack(&it->outer_stack, NULL);
}
