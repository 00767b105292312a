/*
 * Raw mode is undone on every way out: a child on a terminal of its own enters raw mode and is
 * ended in each way there is; the terminal must be as it was.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/terminal.h"

enum way { WAY_RESTORE, WAY_SIGNAL, WAY_FAULT, WAY_FAULT_BLOCKED, WAY_STOP, WAY_STOP_TWICE };

struct tty {
	int master, slave;
	struct termios before;
};

static void tty_open(struct tty *t)
{
	t->master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(t->master >= 0);
	assert_int_equal(grantpt(t->master), 0);
	assert_int_equal(unlockpt(t->master), 0);
	t->slave = open(ptsname(t->master), O_RDWR | O_NOCTTY);
	assert_true(t->slave >= 0);
	assert_int_equal(tcgetattr(t->slave, &t->before), 0);
}

static bool tty_as_before(const struct tty *t)
{
	struct termios now;

	return tcgetattr(t->slave, &now) == 0 && now.c_lflag == t->before.c_lflag &&
	       now.c_iflag == t->before.c_iflag && now.c_oflag == t->before.c_oflag;
}

static bool tty_is_raw(const struct tty *t)
{
	struct termios now;

	return tcgetattr(t->slave, &now) == 0 && !(now.c_lflag & (ICANON | ECHO | ISIG)) &&
	       !(now.c_oflag & OPOST);
}

static volatile sig_atomic_t stopped;

static void stop(void *ctx)
{
	stopped = 1;
}

static void *fault(void *ctx)
{
	*(volatile int *)ctx = 0;
	return NULL;
}

static void fault_on_blocked_thread(void)
{
	pthread_t thread;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_create(&thread, NULL, fault, NULL);
	pthread_join(thread, NULL);
}

/* Sanitizers take over some signals: what is tested is what the process is given by the kernel. */
static void reset_signals(void)
{
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
}

_Noreturn static void child(const struct tty *t, enum way way, int ready)
{
	struct err err;

	setsid();
	ioctl(t->slave, TIOCSCTTY, 0);
	reset_signals();
	if (signals_catch(&err) || terminal_raw(t->slave, &err))
		_exit(99);
	if (way == WAY_STOP || way == WAY_STOP_TWICE)
		signals_on_stop(stop, NULL);
	if (!terminal_is_raw() || !tty_is_raw(t) || write(ready, "r", 1) != 1)
		_exit(98);
	switch (way) {
	case WAY_RESTORE:
		terminal_restore();
		_exit(0);
	case WAY_FAULT:
		fault(NULL);
		break;
	case WAY_FAULT_BLOCKED:
		fault_on_blocked_thread();
		break;
	case WAY_STOP:
		while (!stopped)
			poll(NULL, 0, 1);
		if (!terminal_is_raw())
			_exit(97);
		signals_die(signals_caught());
	default:
		break;
	}
	for (;;)
		pause();
}

/* Ends a child so, by sig if not 0; returns its wait status. */
static int end(struct tty *t, enum way way, int sig)
{
	int fds[2], status = 0;
	char byte;
	pid_t pid;

	tty_open(t);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(t, way, fds[1]);
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	if (way != WAY_RESTORE && way < WAY_STOP && sig)
		assert_true(tty_is_raw(t));
	if (sig)
		kill(pid, sig);
	while (way == WAY_STOP_TWICE && waitpid(pid, &status, WNOHANG) == 0) {
		kill(pid, sig);
		poll(NULL, 0, 5);
	}
	if (way != WAY_STOP_TWICE)
		assert_int_equal(waitpid(pid, &status, 0), pid);
	/* After SIGKILL the guard needs a moment: it is a process of its own. */
	for (int i = 0; i < 1000 && !tty_as_before(t); i++)
		poll(NULL, 0, 10);
	if (!tty_as_before(t))
		fail_msg("way %d, signal %d: the terminal is not as it was", (int)way, sig);
	close(t->master);
	close(t->slave);
	return status;
}

static void check_signaled(int status, int sig)
{
	if (!WIFSIGNALED(status) || WTERMSIG(status) != sig)
		fail_msg("signal %d: ended with status %#x", sig, status);
}

static void restored_when_done(void **state)
{
	struct tty t;
	int status = end(&t, WAY_RESTORE, 0);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void restored_by_signals(void **state)
{
	static const int sigs[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGABRT, SIGSEGV,
				   SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,  SIGALRM,
				   SIGUSR1, SIGUSR2, SIGXCPU, SIGKILL};
	struct tty t;

	for (size_t i = 0; i < ARRAY_SIZE(sigs); i++)
		check_signaled(end(&t, WAY_SIGNAL, sigs[i]), sigs[i]);
}

static void restored_by_faults(void **state)
{
	struct tty t;

	check_signaled(end(&t, WAY_FAULT, 0), SIGSEGV);
	check_signaled(end(&t, WAY_FAULT_BLOCKED, 0), SIGSEGV);
}

/* The first SIGTERM stops the machine, which ends by it; the second one does not wait. */
static void stops_then_dies(void **state)
{
	struct tty t;

	check_signaled(end(&t, WAY_STOP, SIGTERM), SIGTERM);
	check_signaled(end(&t, WAY_STOP, SIGINT), SIGINT);
	check_signaled(end(&t, WAY_STOP_TWICE, SIGTERM), SIGTERM);
}

static void not_a_terminal_is_left_alone(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(terminal_raw(fd, NULL), 0);
	assert_false(terminal_is_raw());
	assert_string_equal(terminal_eol(fd), "\n");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_a_terminal_is_left_alone),
		cmocka_unit_test(restored_when_done),
		cmocka_unit_test(restored_by_signals),
		cmocka_unit_test(restored_by_faults),
		cmocka_unit_test(stops_then_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
