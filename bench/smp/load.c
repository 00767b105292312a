/*
 * load.c - loads for machines with several processors, as the init of a small initramfs of its own.
 *
 * The kernel hands on "name=value" of its command line as environment:
 *	load=NAME,...   which loads, in this order; default: all but the last
 *	threads=N secs=S
 *	hint=1          load /lockhint.ko first
 * One line for each: LOAD name, operations a second of all threads together, the most and the least of one thread.
 */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64

struct ticket_lock {
	_Alignas(64) _Atomic uint32_t next;
	_Alignas(64) _Atomic uint32_t serving;
};

static struct ticket_lock ticket;
static _Atomic int stop, ready;
static struct worker {
	_Alignas(64) uint64_t n;
	pthread_t thread;
	unsigned id;
	int fd;
	const struct load *load;
} worker[MAX_THREADS];
static volatile uint64_t shared_sum;

/* Threads of a process share the lock of its signal handlers: a spinlock for a few dozen instructions. */
static void mask_signal(struct worker *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(w->n & 1 ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* They share the table of files, and its spinlock. */
static void dup_close(struct worker *w)
{
	close(dup(w->fd));
}

/* A spinlock of the file's locks, held for longer. */
static void flock_file(struct worker *w)
{
	struct flock l = {.l_type = w->n & 1 ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = w->id * 2, .l_len = 1};

	fcntl(w->fd, F_OFD_SETLK, &l);
}

/* Create, rename and unlink in one directory: its lock sleeps, but spins for a while before. */
static void rename_file(struct worker *w)
{
	char a[32], b[32];

	snprintf(a, sizeof(a), "/tmp/a%u", w->id);
	snprintf(b, sizeof(b), "/tmp/b%u", w->id);
	close(open(a, O_CREAT | O_RDWR, 0600));
	rename(a, b);
	unlink(b);
}

/* A spinlock in user mode, first come first served: 100 multiplications with it, 400 without. */
static void spin(unsigned n)
{
	uint64_t x = n;

	while (n--)
		x = x * 6364136223846793005u + 1;
	__asm__ volatile("" : : "r"(x));
}

static void ticket_spin(struct worker *w)
{
	uint32_t mine = atomic_fetch_add(&ticket.next, 1);

	while (atomic_load(&ticket.serving) != mine)
		__builtin_ia32_pause();
	shared_sum++;
	spin(100);
	atomic_fetch_add(&ticket.serving, 1);
	spin(400);
}

static void compute(struct worker *w)
{
	spin(10000);
}

static const struct load {
	const char *name;
	void (*fn)(struct worker *w);
	unsigned batch;
} loads[] = {
	{"sigmask", mask_signal, 16}, {"dup", dup_close, 16}, {"flock", flock_file, 16}, {"rename", rename_file, 1},
	{"ticket", ticket_spin, 1}, {"compute", compute, 1},
};

static void *work(void *arg)
{
	struct worker *w = arg;

	w->fd = open("/lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&stop))
		for (unsigned i = 0; i < w->load->batch; i++, w->n++)
			w->load->fn(w);
	return NULL;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run(const struct load *l, unsigned threads, double secs)
{
	uint64_t sum = 0, most = 0, least = ~0ULL;
	struct timespec nap = {(time_t)secs, (long)((secs - (double)(time_t)secs) * 1e9)};
	double begin, took;

	stop = ready = 0;
	memset(&ticket, 0, sizeof(ticket));
	for (unsigned i = 0; i < threads; i++) {
		worker[i] = (struct worker){.id = i, .load = l};
		if (pthread_create(&worker[i].thread, NULL, work, &worker[i]))
			exit(1);
	}
	begin = now();
	nanosleep(&nap, NULL);
	stop = 1;
	took = now() - begin;
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(worker[i].thread, NULL);
		sum += worker[i].n;
		most = worker[i].n > most ? worker[i].n : most;
		least = worker[i].n < least ? worker[i].n : least;
		close(worker[i].fd);
	}
	took = now() - begin;
	printf("LOAD %s %.0f %.0f %.0f %.3f\n", l->name, (double)sum / took, (double)most / took, (double)least / took,
	       took);
	fflush(stdout);
}

static const char *env(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

static int listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; (p = strstr(p, name)); p += len)
		if ((p == list || p[-1] == ',') && (!p[len] || p[len] == ','))
			return 1;
	return 0;
}

static void load_hints(void)
{
	int fd = open("/lockhint.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		printf("HINT %s\n", strerror(errno));
	else
		printf("HINT loaded\n");
}

int main(void)
{
	unsigned threads = (unsigned)atoi(env("threads", "8"));
	const char *list = env("load", "sigmask,dup,flock,rename,ticket,compute");

	mkdir("/tmp", 0700);
	if (getenv("hint"))
		load_hints();
	printf("LOADS begin\n");
	for (unsigned i = 0; i < sizeof(loads) / sizeof(*loads); i++)
		if (listed(list, loads[i].name))
			run(&loads[i], threads < MAX_THREADS ? threads : MAX_THREADS, atof(env("secs", "1")));
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 0;
}
