/*
 * terminal.c - raw mode, undone on every way out.
 *
 * Three nets hang below it: terminal_restore() on the ordinary way out, the signal handlers for
 * what can be caught, and a guard process for what cannot: SIGKILL, the kernel's out-of-memory
 * killer, a fault on a thread that blocks all signals. The guard sleeps on a pipe whose other end
 * only this process has: when the kernel closes it, the guard restores the terminal, unless
 * somebody (the shell) has already changed it.
 */
#include "cli/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/terminal_signals.h"
#include "host/tty.h"

static struct {
	atomic_flag busy; /* held, with signals blocked, by whoever changes the mode */
	struct tty_saved saved;
	volatile sig_atomic_t wanted; /* raw mode is to be entered again after a stop */
	int fd;
	int guard_fd; /* our end of the pipe; -1: no guard */
	pid_t guard;
} terminal = {.busy = ATOMIC_FLAG_INIT, .fd = -1, .guard_fd = -1};

/*
 * Handlers of different signals can run on different threads at once. The wait is bounded: a fault
 * while the mode is being changed comes here on the thread that holds the flag, and must get
 * through.
 */
static void lock(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, old);
	for (int i = 0; i < 10000 && atomic_flag_test_and_set(&terminal.busy); i++)
		sched_yield();
}

static void unlock(const sigset_t *old)
{
	atomic_flag_clear(&terminal.busy);
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

/*
 * The guest's driver has put the carriage returns where they belong: output passes as it is. A
 * full-screen program in the guest counts on a line feed that only moves down.
 */
static void pass_output(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &mode) == 0) {
		mode.c_oflag &= ~(tcflag_t)OPOST;
		tcsetattr(fd, TCSANOW, &mode);
	}
}

static bool same_mode(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag &&
	       a->c_cflag == b->c_cflag;
}

/*
 * The guard: everything but the terminal (3) and the pipe (4) is closed, every signal is blocked.
 */
_Noreturn static void guard_main(int tty, int pipe_fd, const struct termios *saved)
{
	struct termios raw, now;
	char byte;
	ssize_t n;

	/* dup2() through high numbers: neither source is overwritten before it is copied. */
	tty = fcntl(tty, F_DUPFD, 10);
	pipe_fd = fcntl(pipe_fd, F_DUPFD, 10);
	if (tty < 0 || pipe_fd < 0 || dup2(tty, 3) < 0 || dup2(pipe_fd, 4) < 0)
		_exit(1);
	close_range(5, ~0U, 0);
	close_range(0, 2, 0);
	prctl(PR_SET_NAME, "ringer-tty");
	if (chdir("/") < 0 || tcgetattr(3, &raw) < 0)
		_exit(1);
	do
		n = read(4, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0 && tcgetattr(3, &now) == 0 && same_mode(&now, &raw))
		tcsetattr(3, TCSANOW, saved);
	_exit(0);
}

/*
 * Best effort: without a guard the other two nets remain. Raw mode is already on, signals are
 * blocked.
 */
static void start_guard(int fd)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0)
		guard_main(fd, fds[0], &terminal.saved.mode);
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return;
	}
	terminal.guard = pid;
	terminal.guard_fd = fds[1];
}

/* Async-signal-safe. The guard must not act after us: the terminal is the shell's again. */
static void dismiss_guard(void)
{
	if (terminal.guard_fd < 0)
		return;
	if (write(terminal.guard_fd, "q", 1) < 0) {
		/* The guard is gone: nothing is left to tell. */
	}
	close(terminal.guard_fd);
	terminal.guard_fd = -1;
}

/* Without job control on this terminal there is no background. */
static bool in_background(int fd)
{
	pid_t group = tcgetpgrp(fd);

	return group >= 0 && group != getpgrp();
}

int terminal_raw(int fd, struct err *err)
{
	sigset_t old;
	int rc = 0;

	if (!isatty(fd))
		return 0;
	/* Waits for the foreground, as tcsetattr() would if lock() did not block its signal. */
	if (in_background(fd))
		kill(0, SIGTTOU);
	lock(&old);
	terminal.fd = fd;
	terminal.wanted = 1;
	/* Still there when the signal is ignored: SIGCONT tries again. */
	if (!in_background(fd)) {
		rc = tty_raw(fd, &terminal.saved, err);
		if (!rc) {
			pass_output(fd);
			start_guard(fd);
		}
	}
	unlock(&old);
	return rc;
}

bool terminal_is_raw(void)
{
	return terminal.saved.valid;
}

void terminal_leave(bool for_good)
{
	sigset_t old;

	lock(&old);
	tty_restore(&terminal.saved);
	if (for_good) {
		terminal.wanted = 0;
		dismiss_guard();
	}
	unlock(&old);
}

void terminal_restore(void)
{
	terminal_leave(true);
	if (terminal.guard > 0) {
		while (waitpid(terminal.guard, NULL, 0) < 0 && errno == EINTR)
			continue;
		terminal.guard = 0;
	}
}

void terminal_reenter(void)
{
	sigset_t old;

	lock(&old);
	/* In the background the terminal is somebody else's. */
	if (terminal.wanted && !in_background(terminal.fd)) {
		tty_restore(&terminal.saved);
		if (tty_raw(terminal.fd, &terminal.saved, NULL) == 0)
			pass_output(terminal.fd);
	}
	unlock(&old);
}

const char *terminal_eol(int fd)
{
	return terminal_is_raw() && isatty(fd) ? "\r\n" : "\n";
}
