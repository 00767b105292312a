/*
 * signals.c - every signal leaves the terminal as it was.
 *
 * In raw mode keys make no signals; what arrives here comes from outside, or is a fault of our own.
 * Requests to end (SIGTERM and its like) stop the machine, so that files are flushed and the reason
 * is reported; the process then dies by the same signal, as whoever sent it expects. Everything
 * else that is deadly restores the terminal and dies at once.
 *
 * Handlers run with every signal blocked, so that tcsetattr() from the background does not stop us
 * (SIGTTOU).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal.h"
#include "cli/terminal_signals.h"

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
/* All others whose default is to end the process, but SIGKILL and the real-time ones. */
static const int deadly_signals[] = {
	SIGABRT, SIGSEGV,   SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS, SIGXCPU,
	SIGALRM, SIGVTALRM, SIGPROF, SIGUSR2, SIGIO,   SIGPWR, SIGSTKFLT,
};

static struct {
	/* Written by the thread that runs the command; the ctx first. */
	void (*stop)(void *ctx);
	void *stop_ctx;
	void (*report)(void *ctx);
	void *report_ctx;
	volatile sig_atomic_t caught;
} signals;

/* The default action of sig, which is pending or about to be, is to end the process. */
static void die_on_return(int sig)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};

	terminal_leave(true);
	sigaction(sig, &dfl, NULL);
	raise(sig);
}

static void on_stop(int sig, siginfo_t *info, void *uc)
{
	void (*stop)(void *ctx) = __atomic_load_n(&signals.stop, __ATOMIC_SEQ_CST);
	int e = errno;

	if (stop && !signals.caught) {
		signals.caught = sig;
		stop(signals.stop_ctx);
	} else {
		die_on_return(sig);
	}
	errno = e;
}

static void on_report(int sig, siginfo_t *info, void *uc)
{
	void (*report)(void *ctx) = __atomic_load_n(&signals.report, __ATOMIC_SEQ_CST);
	int e = errno;

	if (report)
		report(signals.report_ctx);
	else
		die_on_return(sig);
	errno = e;
}

/* A fault strikes again on return if it is one; raise() is for those that were sent. */
static void on_deadly(int sig, siginfo_t *info, void *uc)
{
	die_on_return(sig);
}

static int install(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = handler,
			       .sa_flags = SA_SIGINFO | SA_ONSTACK | flags};
	struct sigaction old;

	sigfillset(&sa.sa_mask);
	if (sigaction(sig, NULL, &old) < 0)
		return -errno;
	/* Ignored by whoever started us: nohup, a job in the background of a script. */
	if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_IGN)
		return 0;
	return sigaction(sig, &sa, NULL) < 0 ? -errno : 0;
}

/* Stops as the default action would, between two changes of the terminal. */
static void on_tstp(int sig, siginfo_t *info, void *uc)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL}, old;
	sigset_t set;
	int e = errno;

	terminal_leave(false);
	sigaction(sig, &dfl, &old);
	raise(sig);
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* here it stops */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(sig, &old, NULL);
	terminal_reenter();
	errno = e;
}

/* Also after SIGSTOP, of which nobody told us. */
static void on_cont(int sig, siginfo_t *info, void *uc)
{
	int e = errno;

	terminal_reenter();
	errno = e;
}

int signals_catch(struct err *err)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(stop_signals) && !rc; i++)
		rc = install(stop_signals[i], on_stop, SA_RESTART);
	for (size_t i = 0; i < ARRAY_SIZE(deadly_signals) && !rc; i++)
		rc = install(deadly_signals[i], on_deadly, 0);
	if (!rc)
		rc = install(SIGUSR1, on_report, SA_RESTART);
	if (!rc)
		rc = install(SIGTSTP, on_tstp, SA_RESTART);
	if (!rc)
		rc = install(SIGCONT, on_cont, SA_RESTART);
	/* A reader that goes away, or a file at its limit, is an error of write(). */
	if (!rc && (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGXFSZ, &ignore, NULL) < 0))
		rc = -errno;
	return rc ? err_set(err, -rc, "cannot catch signals: %s", strerror(-rc)) : 0;
}

void signals_on_stop(void (*stop)(void *ctx), void *ctx)
{
	if (stop)
		signals.stop_ctx = ctx;
	__atomic_store_n(&signals.stop, stop, __ATOMIC_SEQ_CST);
}

void signals_on_report(void (*report)(void *ctx), void *ctx)
{
	__atomic_store_n(&signals.report, NULL, __ATOMIC_SEQ_CST);
	signals.report_ctx = ctx;
	__atomic_store_n(&signals.report, report, __ATOMIC_SEQ_CST);
}

int signals_caught(void)
{
	return signals.caught;
}

void signals_die(int sig)
{
	sigset_t set;

	die_on_return(sig);
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + sig); /* not reached: sig's default is to end the process */
}
