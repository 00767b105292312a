#include "host/run_delay.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts = {0};

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

bool run_delay_parse(const char *text, uint64_t *used_ns, uint64_t *delay_ns)
{
	char *end;

	*used_ns = strtoull(text, &end, 10);
	/* A kernel that does not count writes zeros, yet whoever reads this has run. */
	if (end == text || *end != ' ' || !*used_ns)
		return false;
	text = end + 1;
	*delay_ns = strtoull(text, &end, 10);
	return end != text && (*end == ' ' || *end == '\n' || !*end);
}

static bool read_schedstat(int fd, uint64_t *used_ns, uint64_t *delay_ns)
{
	char text[96];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return run_delay_parse(text, used_ns, delay_ns);
}

/* The first figure of a thread is read when it has hardly run: the scheduler may have counted nothing yet. */
static bool counts(int fd)
{
	uint64_t used, delay;

	for (unsigned i = 0; i < 50; i++) {
		static const struct timespec nap = {.tv_nsec = 100000};

		if (read_schedstat(fd, &used, &delay))
			return true;
		nanosleep(&nap, NULL);
	}
	return false;
}

void run_delay_open(struct run_delay *r)
{
	*r = (struct run_delay){.fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC),
				.wall_ns = clock_ns(CLOCK_MONOTONIC),
				.used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID)};
	if (r->fd >= 0 && !counts(r->fd))
		run_delay_close(r);
}

uint64_t run_delay_ns(struct run_delay *r, uint64_t idle_ns, uint64_t *used_ns)
{
	uint64_t ns = r->last, busy;

	if (r->fd < 0 || !read_schedstat(r->fd, used_ns, &ns)) {
		/* In this order: preempted in between, it is too little now, and right the next time. */
		ns = clock_ns(CLOCK_MONOTONIC) - r->wall_ns;
		*used_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		busy = *used_ns - r->used_ns + idle_ns;
		ns = r->fd < 0 && ns > busy ? ns - busy : 0;
	}
	r->last = max_u64(ns, r->last);
	return r->last;
}

void run_delay_close(struct run_delay *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}
