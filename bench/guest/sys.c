/* sys.c - kernel work: system calls, context switches, page faults, processes, signals. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

uint64_t k_sys_getppid(uint64_t units) /* a unit is 1000 calls */
{
	while (units--)
		for (int i = 0; i < 1000; i++)
			syscall(SYS_getppid);
	return 0;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set); /* best effort */
}

/* Two processes on one CPU pass a byte to and fro: a unit is 100 round trips. */
uint64_t k_sys_pipe(uint64_t units)
{
	cpu_set_t old;
	int ping[2], pong[2];
	char c = 0;
	pid_t pid;

	sched_getaffinity(0, sizeof old, &old);
	pin(0);
	if (pipe(ping) || pipe(pong))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(ping[1]);
		close(pong[0]);
		while (read(ping[0], &c, 1) == 1)
			if (write(pong[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	close(ping[0]);
	close(pong[1]);
	for (uint64_t n = units * 100; n; n--)
		if (write(ping[1], &c, 1) != 1 || read(pong[0], &c, 1) != 1)
			die("ping-pong");
	close(ping[1]);
	close(pong[0]);
	waitpid(pid, NULL, 0);
	sched_setaffinity(0, sizeof old, &old);
	return 0;
}

/* Map 64 MiB, touch every page, unmap: a unit is 16384 faults. */
uint64_t k_sys_fault(uint64_t units)
{
	enum { SIZE = 64 << 20 };

	while (units--) {
		char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

		if (p == MAP_FAILED)
			die("mmap");
		madvise(p, SIZE, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < SIZE; i += 4096)
			p[i] = 1;
		munmap(p, SIZE);
	}
	return 0;
}

/* fork + exec of /bin/true; a unit is one process */
uint64_t k_sys_forkexec(uint64_t units)
{
	uint64_t bad = 0;

	while (units--) {
		int st;
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		if (waitpid(pid, &st, 0) != pid || !WIFEXITED(st) || WEXITSTATUS(st))
			bad++;
	}
	return bad;
}

static volatile sig_atomic_t hits;

static void on_signal(int sig)
{
	(void)sig;
	hits++;
}

uint64_t k_sys_signal(uint64_t units) /* a unit is 100 signals to itself */
{
	pid_t self = getpid();

	signal(SIGUSR1, on_signal);
	while (units--)
		for (int i = 0; i < 100; i++)
			kill(self, SIGUSR1);
	return 0;
}
