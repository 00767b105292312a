/* threads.c - scaling: the same integer work in one thread and in two, and a contended atomic.
 * The state of the kernel is per thread, so nothing is shared but the atomic. */
#include <pthread.h>
#include <stdatomic.h>
#include "bench.h"

static uint64_t work(uint64_t units)
{
	uint64_t h = 0;

	while (units--) {
		uint32_t t[256], s = 5;

		for (int i = 0; i < 256; i++)
			t[i] = xorshift32(&s);
		for (int i = 0; i < 5000; i++) {
			uint32_t x = t[i & 255];

			x = x * 2654435761u + (x >> 3);
			if (x & 64)
				x ^= t[(x >> 8) & 255];
			t[(x >> 20) & 255] += x;
		}
		h = 0;
		for (int i = 0; i < 256; i++)
			h = mix64(h, t[i]);
	}
	return h;
}

struct job {
	pthread_t thread;
	uint64_t units, sum;
};

static void *run_job(void *arg)
{
	struct job *j = arg;

	j->sum = work(j->units);
	return NULL;
}

/* units are split over the threads, so the rate reported is the total */
static uint64_t run(uint64_t units, int threads)
{
	struct job j[2] = {0};

	for (int i = 0; i < threads; i++) {
		j[i].units = units / (uint64_t)threads + 1;
		if (pthread_create(&j[i].thread, NULL, run_job, &j[i]))
			die("pthread_create");
	}
	for (int i = 0; i < threads; i++)
		pthread_join(j[i].thread, NULL);
	return threads == 2 && j[0].sum != j[1].sum ? 0 : j[0].sum;
}

uint64_t k_mt_int1(uint64_t units)
{
	return run(units, 1);
}
uint64_t k_mt_int2(uint64_t units)
{
	return run(units, 2);
}

static atomic_ulong counter;

static void *run_atomic(void *arg)
{
	struct job *j = arg;

	for (uint64_t n = j->units * 1000; n; n--)
		atomic_fetch_add(&counter, 1);
	return NULL;
}

uint64_t k_mt_atomic2(uint64_t units) /* a unit is 1000 increments in each thread */
{
	struct job j[2] = {{.units = units}, {.units = units}};

	atomic_store(&counter, 0);
	for (int i = 0; i < 2; i++)
		if (pthread_create(&j[i].thread, NULL, run_atomic, &j[i]))
			die("pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(j[i].thread, NULL);
	return atomic_load(&counter) == units * 2000;
}
