/*
 * main.c - driver of the guest's micro-benchmarks.
 *
 *	mb list				the names
 *	mb run NAME...			run them: a line of result each, as below
 *	mb forkexec			the row sys.forkexec
 *	mb time NAME OUTPUT CMD...	the same line for a command's wall time; its standard output goes to a file
 *	mb gen-data FILE MIB		write compressible data
 *	mb gen-source FILE COUNT	write a C file of COUNT functions
 *
 *	RUN name
 *	BENCH name value unit seconds checksum
 *	FAIL name reason, or SKIP name reason
 *
 * The line RUN lets whoever reads the console time the work with a clock outside the machine. BENCH_SECS (default 1)
 * is the least time that a kernel's last, reported, pass takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bench.h"

static const struct bench benches[] = {
	{"int.matrix", k_int_matrix, 1e-3, "kunit/s", 0, NULL},
	{"int.list", k_int_list, 1e-3, "kunit/s", 0, NULL},
	{"int.crc", k_int_crc, 16384 / 1e6, "MB/s", 0, NULL},
	{"int.state", k_int_state, 8192 / 1e6, "MB/s", 0, NULL},
	{"int.mix", k_int_mix, 1e-3, "kunit/s", 0, NULL},
	{"int.sort", k_int_sort, 4096 / 1e6, "Melem/s", 0, NULL},
	{"call.fib", k_call_fib, 21891 / 1e6, "Mcall/s", 0, NULL},
	{"ind.vm", k_ind_vm, 9005 / 1e6, "Mop/s", 0, NULL},
	{"ind.call", k_ind_call, 10000 / 1e6, "Mcall/s", 0, NULL},
	{"jit.smc", k_jit_smc, 100 / 1e3, "krewrite/s", 0, NULL},
	{"mem.chase64m", k_mem_chase, 65536, "ns/hop", 1, NULL},
	{"mem.memcpy", k_mem_copy, 64.0 * 1048576 / 1e9, "GB/s", 0, NULL},
	{"mem.repmovsq", k_mem_rep, 64.0 * 1048576 / 1e9, "GB/s", 0, NULL},
	{"mem.sum64", k_mem_sum, 64.0 * 1048576 / 1e9, "GB/s", 0, NULL},
	{"fp.nbody", k_fp_nbody, 100 / 1e3, "kstep/s", 0, NULL},
	{"fp.daxpy_sse2", k_fp_daxpy_sse2, 100 * 4096 * 2 / 1e6, "MFLOP/s", 0, NULL},
	{"fp.daxpy_avx2", k_fp_daxpy_avx2, 100 * 4096 * 2 / 1e6, "MFLOP/s", 0, have_avx2},
	{"fp.x87", k_fp_x87, 1000 * 8 / 1e6, "Mterm/s", 0, NULL},
	{"sys.getppid", k_sys_getppid, 1000, "ns/call", 1, NULL},
	{"sys.pipe", k_sys_pipe, 100, "ns/roundtrip", 1, NULL},
	{"sys.fault", k_sys_fault, 16384, "ns/fault", 1, NULL},
	{"sys.signal", k_sys_signal, 100, "ns/signal", 1, NULL},
	{"mt.int1", k_mt_int1, 1e-3, "kunit/s", 0, NULL},
	{"mt.int2", k_mt_int2, 1e-3, "kunit/s", 0, NULL},
	{"mt.atomic2", k_mt_atomic2, 2000 / 1e6, "Minc/s", 0, NULL},
};

enum { COUNT = sizeof benches / sizeof benches[0] };

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t mix64(uint64_t h, uint64_t v)
{
	h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	return h * 0xff51afd7ed558ccdu;
}

void die(const char *what)
{
	fprintf(stderr, "mb: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void run_one(const struct bench *b)
{
	const char *env = getenv("BENCH_SECS");
	double least = env ? atof(env) : 1.0, t;
	uint64_t n = 1, sum;

	if (b->supported && !b->supported()) {
		printf("SKIP %s unsupported-cpu\n", b->name);
		return;
	}
	b->fn(1); /* set-up, first touch */
	/* grow the count until a pass takes a tenth of the time wanted, then aim for all of it */
	for (;;) {
		t = now();
		sum = b->fn(n);
		t = now() - t;
		if (t >= least / 10)
			break;
		n = t < least / 1000 ? n * 10 : (uint64_t)((double)n * least / 8 / t) + 1;
	}
	n = (uint64_t)((double)n * least * 1.05 / t) + 1;
	printf("RUN %s\n", b->name);
	fflush(stdout);
	t = now();
	sum = b->fn(n);
	t = now() - t;
	if (b->inverse)
		printf("BENCH %s %.4g %s %.3f %016llx\n", b->name, t * 1e9 / ((double)n * b->scale),
		       b->unit, t, (unsigned long long)sum);
	else
		printf("BENCH %s %.4g %s %.3f %016llx\n", b->name, (double)n * b->scale / t,
		       b->unit, t, (unsigned long long)sum);
}

static int cmd_run(int count, char **names)
{
	int bad = 0;

	for (int a = 0; a < count; a++) {
		int i = 0;

		while (i < COUNT && strcmp(names[a], benches[i].name))
			i++;
		if (i < COUNT)
			run_one(&benches[i]);
		else
			bad = fprintf(stderr, "mb: no benchmark %s\n", names[a]);
	}
	return bad != 0;
}

static void exec_with_output(const char *output, char **cmd)
{
	int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		_exit(126);
	execvp(cmd[0], cmd);
	_exit(127);
}

static int cmd_time(const char *name, const char *output, char **cmd)
{
	double t;
	pid_t pid;
	int st;

	printf("RUN %s\n", name);
	fflush(stdout);
	t = now();
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		exec_with_output(output, cmd);
	if (waitpid(pid, &st, 0) != pid)
		die("waitpid");
	t = now() - t;
	if (!WIFEXITED(st) || WEXITSTATUS(st)) {
		printf("FAIL %s status %#x\n", name, (unsigned)st);
		return 1;
	}
	printf("BENCH %s %.4g s %.3f -\n", name, t, t);
	return 0;
}

/* 300 fork+exec of /bin/true: fixed work, so that it is over soon on a slow machine */
static int cmd_forkexec(void)
{
	enum { PROCS = 300 };
	uint64_t bad;
	double t;

	printf("RUN sys.forkexec\n");
	fflush(stdout);
	k_sys_forkexec(3);
	t = now();
	bad = k_sys_forkexec(PROCS);
	t = now() - t;
	if (bad) {
		printf("FAIL sys.forkexec %llu of %d failed\n", (unsigned long long)bad, PROCS);
		return 1;
	}
	printf("BENCH sys.forkexec %.4g us/proc %.3f -\n", t * 1e6 / PROCS, t);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (int i = 0; i < COUNT; i++)
			puts(benches[i].name);
		return 0;
	}
	if (argc >= 3 && !strcmp(argv[1], "run"))
		return cmd_run(argc - 2, argv + 2);
	if (argc == 2 && !strcmp(argv[1], "forkexec"))
		return cmd_forkexec();
	if (argc >= 5 && !strcmp(argv[1], "time"))
		return cmd_time(argv[2], argv[3], argv + 4);
	if (argc == 4 && !strcmp(argv[1], "gen-data"))
		return gen_data(argv[2], atol(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "gen-source"))
		return gen_source(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: mb list | run NAME... | forkexec | time NAME OUTPUT CMD... | "
			"gen-data FILE MIB | gen-source FILE COUNT\n");
	return 2;
}
