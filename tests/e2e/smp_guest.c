/*
 * Runs inside a guest, as a program of its own: threads on all processors. Each test prints "NAME ok" or what is wrong.
 *	smp_guest SECONDS
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 8
#define MEMBARRIER_SYNC_CORE 32 /* MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE (linux/membarrier.h); registration: twice that */

static unsigned n_cpus;
static double seconds;
static int failures;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void say(const char *name, const char *wrong, unsigned long n)
{
	if (wrong)
		printf("%s: %s (%lu)\n", name, wrong, n);
	else
		printf("%s ok\n", name);
	failures += !!wrong;
	fflush(stdout);
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % n_cpus, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Threads that meet at the beginning of each round. */
struct round {
	atomic_uint here;
	unsigned n;
};

static void meet(struct round *r, unsigned number)
{
	atomic_fetch_add(&r->here, 1);
	while (atomic_load(&r->here) < number * r->n)
		sched_yield();
}

/* Memory order: plain accesses of two variables a cell, in program order. */
#define CELLS 4096
#define ROUNDS_OF 64

struct cell {
	_Alignas(64) volatile unsigned x;
	_Alignas(64) volatile unsigned y;
	_Alignas(64) unsigned r[MAX_THREADS][2];
};

enum shape { SB, SB_FENCED, MP, LB, IRIW, SHAPES };
static const char *const shape_name[] = {"SB", "SB+fence", "MP", "LB", "IRIW"};
static const unsigned shape_threads[] = {2, 2, 2, 2, 4};

static struct cell cells[CELLS];
static struct round cell_round;

struct litmus {
	enum shape shape;
	unsigned number;
};

#define COMPILER_BARRIER() asm volatile("" : : : "memory")

static void one_cell(const struct litmus *l, struct cell *c)
{
	volatile unsigned *a = l->number & 1 ? &c->y : &c->x, *b = l->number & 1 ? &c->x : &c->y;
	unsigned r0 = 0, r1 = 0;

	switch (l->shape) {
	case SB:
		*a = 1;
		COMPILER_BARRIER();
		r0 = *b;
		break;
	case SB_FENCED:
		*a = 1;
		if (l->number)
			asm volatile("mfence" : : : "memory");
		else
			asm volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
		r0 = *b;
		break;
	case MP:
		if (l->number) {
			r0 = c->y;
			COMPILER_BARRIER();
			r1 = c->x;
		} else {
			c->x = 1;
			COMPILER_BARRIER();
			c->y = 1;
		}
		break;
	case LB:
		r0 = *a;
		COMPILER_BARRIER();
		*b = 1;
		break;
	default:
		if (l->number < 2) {
			*a = 1;
			break;
		}
		r0 = *a;
		COMPILER_BARRIER();
		r1 = *b;
	}
	c->r[l->number][0] = r0;
	c->r[l->number][1] = r1;
}

static void *litmus_thread(void *arg)
{
	const struct litmus *l = arg;

	pin(l->number);
	for (unsigned i = 0; i < CELLS; i++) {
		if (i % ROUNDS_OF == 0)
			meet(&cell_round, i / ROUNDS_OF + 1);
		one_cell(l, &cells[i]);
	}
	return NULL;
}

static int forbidden(enum shape s, const struct cell *c)
{
	switch (s) {
	case SB:
		return 0;
	case SB_FENCED:
		return !c->r[0][0] && !c->r[1][0];
	case MP:
		return c->r[1][0] && !c->r[1][1];
	case LB:
		return c->r[0][0] && c->r[1][0];
	default:
		return c->r[2][0] && !c->r[2][1] && c->r[3][0] && !c->r[3][1];
	}
}

static void litmus(enum shape s)
{
	unsigned long seen = 0;
	double end = now() + seconds;

	do {
		pthread_t t[MAX_THREADS];
		struct litmus l[MAX_THREADS];

		memset(cells, 0, sizeof(cells));
		cell_round.n = shape_threads[s];
		atomic_store(&cell_round.here, 0);
		for (unsigned i = 0; i < shape_threads[s]; i++) {
			l[i] = (struct litmus){s, i};
			pthread_create(&t[i], NULL, litmus_thread, &l[i]);
		}
		for (unsigned i = 0; i < shape_threads[s]; i++)
			pthread_join(t[i], NULL);
		for (unsigned i = 0; i < CELLS; i++)
			seen += forbidden(s, &cells[i]);
	} while (now() < end);
	say(shape_name[s], seen ? "what x86 forbids was seen" : NULL, seen);
}

/* Atomics: on a line of its own, across lines, across pages. */
static uint8_t *counters;
static const unsigned counter_at[] = {128, 4096 + 60, 3 * 4096 - 3};
static const char *const counter_name[] = {"atomic", "atomic across lines", "atomic across pages"};
static unsigned long adds[] = {200000, 200, 200};

static void *add_thread(void *arg)
{
	unsigned which = *(unsigned *)arg;
	uint64_t *p = (uint64_t *)(counters + counter_at[which]);

	for (unsigned long i = 0; i < adds[which]; i++) {
		uint64_t old;

		asm volatile("lock incq %0" : "+m"(*p) : : "cc");
		old = 1;
		asm volatile("lock xaddq %0, %1" : "+r"(old), "+m"(*p) : : "cc");
		asm volatile("1: mov %0, %%rax; lea 1(%%rax), %%rdx; lock cmpxchg %%rdx, %0; jne 1b" : "+m"(*p) : : "rax", "rdx", "cc");
	}
	return NULL;
}

static void atomics(unsigned which)
{
	pthread_t t[MAX_THREADS];
	uint64_t sum, want = 3 * adds[which] * n_cpus;

	memset(counters, 0, 4 * 4096);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_create(&t[i], NULL, add_thread, &which);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_join(t[i], NULL);
	memcpy(&sum, counters + counter_at[which], 8);
	say(counter_name[which], sum == want ? NULL : "lost", want - sum);
}

/* Code that one thread writes and all run, as just-in-time compilers do, with membarrier() between. */
static uint8_t *code;
static atomic_ulong generation, stop;
static atomic_ulong jit_bad, jit_runs;

static void *jit_thread(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	while (!atomic_load(&stop)) {
		unsigned long before = atomic_load(&generation), after;
		unsigned got = ((unsigned (*)(void))code)();

		after = atomic_load(&generation);
		if (got < before || got > after + 1)
			atomic_fetch_add(&jit_bad, 1);
		atomic_fetch_add(&jit_runs, 1);
	}
	return NULL;
}

/* mov eax, value; ret: in one aligned store */
static void write_code(uint32_t value)
{
	*(volatile uint64_t *)code = 0xb8 | (uint64_t)value << 8 | 0xc3ULL << 40;
}

static void jit(void)
{
	pthread_t t[MAX_THREADS];
	double end = now() + seconds * 2;
	unsigned long g = 0;

	if (syscall(SYS_membarrier, MEMBARRIER_SYNC_CORE * 2, 0, 0)) {
		say("jit", "no membarrier()", 0);
		return;
	}
	atomic_store(&stop, 0);
	write_code(0);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_create(&t[i], NULL, jit_thread, (void *)(uintptr_t)i);
	while (now() < end || !atomic_load(&jit_runs)) {
		g++;
		write_code((uint32_t)g);
		syscall(SYS_membarrier, MEMBARRIER_SYNC_CORE, 0, 0);
		atomic_store(&generation, g); /* from here on nobody runs what was before */
	}
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_join(t[i], NULL);
	say("jit", atomic_load(&jit_bad) ? "old code was run" : NULL, atomic_load(&jit_bad));
}

/* TLB shoot-down: one thread takes away, moves and gives back pages that others read and write. */
static volatile unsigned *pages;
static atomic_ulong tlb_bad;

static void *tlb_thread(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	while (!atomic_load(&stop)) {
		unsigned long before = atomic_load(&generation);
		unsigned got = pages[(uintptr_t)arg];

		if (got && (got < before || got > atomic_load(&generation) + 1))
			atomic_fetch_add(&tlb_bad, 1);
	}
	return NULL;
}

static void shoot_down(void)
{
	pthread_t t[MAX_THREADS];
	double end = now() + seconds * 2;
	unsigned long g = 0;

	atomic_store(&stop, 0);
	atomic_store(&generation, 0);
	pages = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_create(&t[i], NULL, tlb_thread, (void *)(uintptr_t)i);
	while (now() < end) {
		unsigned *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		g++;
		for (unsigned i = 0; i < 1024; i++)
			fresh[i] = (unsigned)g;
		if (mremap(fresh, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)pages) == MAP_FAILED)
			break;
		atomic_store(&generation, g); /* nobody sees an older page now */
		madvise((void *)pages, 4096, g & 1 ? MADV_DONTNEED : MADV_NORMAL);
	}
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_join(t[i], NULL);
	say("shoot-down", atomic_load(&tlb_bad) ? "an old page was seen" : NULL, atomic_load(&tlb_bad));
}

/* Processes come and go everywhere: pages of code and data change their roles. */
static void processes(void)
{
	double end = now() + seconds * 2;
	unsigned long bad = 0;

	while (now() < end) {
		for (unsigned i = 0; i < n_cpus * 2; i++)
			if (!fork()) {
				pin(i);
				execl("/proc/self/exe", "smp_guest", "child", NULL);
				_exit(1);
			}
		for (unsigned i = 0; i < n_cpus * 2; i++) {
			int status = 1;

			wait(&status);
			bad += !!status;
		}
	}
	say("processes", bad ? "children failed" : NULL, bad);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "child"))
		return 0;
	seconds = argc > 1 ? atof(argv[1]) : 1;
	n_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	n_cpus = n_cpus > MAX_THREADS ? MAX_THREADS : n_cpus;
	counters = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned s = 0; s < SHAPES; s++)
		litmus((enum shape)s);
	for (unsigned i = 0; i < sizeof(adds) / sizeof(adds[0]); i++)
		atomics(i);
	jit();
	shoot_down();
	processes();
	printf(failures ? "smp_guest: %d failed\n" : "smp_guest: all is well\n", failures);
	return failures != 0;
}
