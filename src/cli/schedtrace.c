#include "cli/schedtrace.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define PERIOD_NS 200000

enum row_state { ROW_NONE, ROW_USER, ROW_KERNEL, ROW_DEVICE, ROW_HALTED, ROW_SLOT, ROW_HOST };
static const char *const names[] = {NULL, "user", "kernel", "device", "halted", "slot", "host"};

int schedtrace_open(struct schedtrace *t, const char *path, struct err *err)
{
	memset(t, 0, sizeof(*t));
	t->file = fopen(path, "we");
	if (!t->file)
		return err_set(err, errno, "--trace: cannot write %s: %s", path, strerror(errno));
	fputs("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [", t->file);
	return 0;
}

static void begin_event(struct schedtrace *t)
{
	fputs(t->any ? ",\n" : "\n", t->file);
	t->any = true;
}

static double us(uint64_t ns)
{
	return (double)ns / 1e3;
}

/* What the row has shown until now, and its name the first time. */
static void write_event(struct schedtrace *t, unsigned i, uint64_t now)
{
	if (!t->row[i].named) {
		begin_event(t);
		fprintf(t->file, "{\"ph\": \"M\", \"name\": \"thread_name\", \"pid\": 1, \"tid\": %u, "
			"\"args\": {\"name\": \"vCPU %u\"}}", i, i);
		t->row[i].named = true;
	}
	begin_event(t);
	fprintf(t->file, "{\"ph\": \"X\", \"name\": \"%s\", \"pid\": 1, \"tid\": %u, \"ts\": %.1f, \"dur\": %.1f}",
		names[t->row[i].state], i, us(t->row[i].since_ns - t->begin_ns), us(now - t->row[i].since_ns));
}

static void change(struct schedtrace *t, unsigned i, enum row_state state, uint64_t now)
{
	if (t->row[i].state == state)
		return;
	if (t->row[i].state != ROW_NONE)
		write_event(t, i, now);
	t->row[i].state = state;
	t->row[i].since_ns = now;
}

/* elapsed: since the last look; ran: processor time used in it. */
static enum row_state state_of(const struct vm_vcpu_now *v, uint64_t elapsed, uint64_t ran)
{
	static const enum row_state of[] = {
		[VM_VCPU_OFF] = ROW_NONE, [VM_VCPU_USER] = ROW_USER, [VM_VCPU_KERNEL] = ROW_KERNEL,
		[VM_VCPU_DEVICE] = ROW_DEVICE, [VM_VCPU_HALTED] = ROW_HALTED, [VM_VCPU_HELD] = ROW_SLOT,
	};
	enum row_state state = of[v->state];
	bool runs = state == ROW_USER || state == ROW_KERNEL || state == ROW_DEVICE;

	return runs && ran < elapsed / 2 ? ROW_HOST : state;
}

static void look(struct schedtrace *t, uint64_t now)
{
	struct vm_vcpu_now v[VM_CPUS_MAX];
	unsigned n = vm_vcpus_now(t->vm, v);

	for (unsigned i = 0; i < n; i++) {
		uint64_t ran = v[i].cpu_ns - min_u64(v[i].cpu_ns, t->row[i].cpu_ns);

		t->row[i].cpu_ns = v[i].cpu_ns;
		/* The time when it changed is somewhere between the two looks. */
		change(t, i, state_of(&v[i], now - t->last_ns, ran), now);
	}
	t->last_ns = now;
}

static void *trace_main(void *arg)
{
	struct schedtrace *t = arg;
	const struct timespec period = {.tv_nsec = PERIOD_NS};

	while (!atomic_load(&t->stop)) {
		look(t, host_now_ns());
		clock_nanosleep(CLOCK_MONOTONIC, 0, &period, NULL);
	}
	for (unsigned i = 0; i < VM_CPUS_MAX; i++)
		change(t, i, ROW_NONE, host_now_ns());
	return NULL;
}

int schedtrace_start(struct schedtrace *t, const struct vm *vm, struct err *err)
{
	sigset_t all, old;
	int rc;

	if (!t->file)
		return 0;
	t->vm = vm;
	t->begin_ns = t->last_ns = host_now_ns();
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&t->thread, NULL, trace_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(err, rc, "cannot start a thread: %s", strerror(rc));
	t->runs = true;
	return 0;
}

int schedtrace_close(struct schedtrace *t, struct err *err)
{
	bool bad;

	if (t->runs) {
		atomic_store(&t->stop, true);
		pthread_join(t->thread, NULL);
	}
	t->runs = false;
	if (!t->file)
		return 0;
	fputs("\n]}\n", t->file);
	bad = ferror(t->file);
	bad |= fclose(t->file) != 0;
	t->file = NULL;
	return bad ? err_set(err, EIO, "not all of the trace could be written") : 0;
}
