#include "cli/stats.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/terminal.h"
#include "control/report.h"
#include "host/loop.h"
#include "x86/feature.h"

/* One part of the vCPUs' time. */
struct stretch {
	const char *name, *text;
	uint64_t cycles;
};

#define STRETCHES (VM_ENGINE_COUNTERS + 4)

static bool is_time(const struct engine_counter *c)
{
	return !strcmp(c->unit, "tsc");
}

/*
 * Where the time of the vCPU threads went. What neither devices nor the engine claims of the time in the engine is the
 * guest's own code. Returns the number of parts; *total is their sum.
 */
static unsigned divide_time(const struct vm_stats *v, struct stretch *out, uint64_t *total)
{
	uint64_t claimed = v->device_cycles;
	unsigned n = 1;

	for (unsigned i = 0; i < v->n_engine; i++) {
		if (!is_time(&v->engine[i]))
			continue;
		claimed += v->engine[i].value;
		out[n++] = (struct stretch){v->engine[i].name, v->engine[i].text,
					    v->engine[i].value};
	}
	out[0] = (struct stretch){"guest_code", "guest code",
				  v->engine_cycles - min_u64(claimed, v->engine_cycles)};
	out[n++] = (struct stretch){"devices", "devices", v->device_cycles};
	out[n++] = (struct stretch){"idle", "idle", v->idle_cycles};
	out[n++] = (struct stretch){"held", "waiting for a slot", v->held_cycles};
	*total = v->engine_cycles + v->idle_cycles + v->held_cycles;
	return n;
}

static double tsc_seconds(uint64_t cycles)
{
	uint64_t hz = host_tsc_hz();

	return hz ? (double)cycles / (double)hz : 0.0;
}

static double ns_seconds(uint64_t from, uint64_t to)
{
	return from && to > from ? (double)(to - from) / 1e9 : 0.0;
}

static double tv_seconds(const struct timeval *tv)
{
	return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

static double run_seconds(const struct stats *s)
{
	return ns_seconds(s->run_ns, s->end_ns ? s->end_ns : host_now_ns());
}

static void print_counter(FILE *out, const struct engine_counter *c)
{
	unsigned long long value = c->value;

	if (!strcmp(c->unit, "bytes") && value >= MIB(10))
		fprintf(out, "  %-28s %llu MiB\n", c->text, value >> 20);
	else if (!strcmp(c->unit, "bytes") && value >= KIB(10))
		fprintf(out, "  %-28s %llu KiB\n", c->text, value >> 10);
	else
		fprintf(out, "  %-28s %llu%s%s\n", c->text, value, *c->unit ? " " : "", c->unit);
}

static void print_host(const struct stats *s, const struct vm_stats *v, FILE *out)
{
	double seconds = run_seconds(s);
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	fprintf(out, "  %-28s %.3f\n", "seconds", seconds);
	if (s->first_ns)
		fprintf(out, "  %-28s %.3f s after the start\n", "first serial output",
			ns_seconds(s->start_ns, s->first_ns));
	fprintf(out, "  %-28s %.3f user, %.3f system\n", "CPU seconds", tv_seconds(&u.ru_utime),
		tv_seconds(&u.ru_stime));
	fprintf(out, "  %-28s %ld MiB\n", "peak memory", u.ru_maxrss / 1024);
	if (s->counts_insns) {
		fprintf(out, "  %-28s %llu\n", "instructions", (unsigned long long)v->insns);
		fprintf(out, "  %-28s %.1f million\n", "instructions/s",
			seconds > 0 ? (double)v->insns / seconds / 1e6 : 0.0);
	}
	fprintf(out, "  %-28s %llu\n", "exceptions", (unsigned long long)v->exceptions);
	fprintf(out, "  %-28s %llu\n", "interrupts", (unsigned long long)v->interrupts);
	fprintf(out, "  %-28s %u\n", "guest resets", v->resets);
}

static void print_sched_row(const char *name, const struct sched_counters *c, FILE *out)
{
	fprintf(out, "  %-8s %10llu %10.3f %11llu %11llu %8llu %8llu\n", name, (unsigned long long)c->slices,
		(double)c->wait_ns / 1e9, (unsigned long long)c->preemptions, (unsigned long long)c->safe,
		(unsigned long long)c->forced, (unsigned long long)c->yields);
}

static void print_sched(const struct vm_sched_stats *s, FILE *out)
{
	char name[16];

	if (!s->n_vcpus)
		return;
	fprintf(out, "scheduling: %s", s->policy);
	if (s->slots)
		fprintf(out, ", %u at a time", s->slots);
	if (s->cap_percent)
		fprintf(out, ", at most %u %%: stopped in %llu periods", s->cap_percent,
			(unsigned long long)s->exhaustions);
	fprintf(out, "\n  %-8s %10s %10s %11s %11s %8s %8s\n", "", "slices", "waited, s", "preemptions", "when safe",
		"forced", "yields");
	for (unsigned i = 0; i < s->n_vcpus; i++) {
		snprintf(name, sizeof(name), "vCPU %u", i);
		print_sched_row(name, &s->vcpu[i], out);
	}
	print_sched_row("all", &s->total, out);
}

static cJSON *sched_json(const struct vm_sched_stats *s)
{
	cJSON *j = cJSON_CreateObject(), *vcpus, *one;

	cJSON_AddStringToObject(j, "policy", s->policy);
	report_sched(j, s);
	vcpus = cJSON_AddArrayToObject(j, "vcpus");
	for (unsigned i = 0; i < s->n_vcpus; i++) {
		one = cJSON_CreateObject();
		report_sched_counters(one, &s->vcpu[i]);
		cJSON_AddItemToArray(vcpus, one);
	}
	return j;
}

void stats_print(const struct stats *s, const struct vm_stats *v, FILE *out)
{
	struct stretch part[STRETCHES];
	uint64_t total;
	unsigned n = divide_time(v, part, &total);
	bool title = true;

	fputs("machine\n", out);
	print_host(s, v, out);
	fputs("time of the virtual processors\n", out);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "  %-28s %.3f s, %.1f %%\n", part[i].text, tsc_seconds(part[i].cycles),
			total ? 100.0 * (double)part[i].cycles / (double)total : 0.0);
	print_sched(&v->sched, out);
	for (unsigned i = 0; i < v->n_engine; i++) {
		if (is_time(&v->engine[i]))
			continue;
		if (title)
			fprintf(out, "engine %s\n", s->engine->name);
		title = false;
		print_counter(out, &v->engine[i]);
	}
	fputs("paravirtual interface\n", out);
	for (unsigned i = 0; i < v->n_pv; i++)
		print_counter(out, &v->pv[i]);
}

static void add_host(cJSON *j, const struct stats *s, const struct vm_stats *v)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	cJSON_AddNumberToObject(j, "seconds", run_seconds(s));
	if (s->first_ns)
		cJSON_AddNumberToObject(j, "first_output_seconds",
					ns_seconds(s->start_ns, s->first_ns));
	else
		cJSON_AddNullToObject(j, "first_output_seconds");
	cJSON_AddNumberToObject(j, "user_seconds", tv_seconds(&u.ru_utime));
	cJSON_AddNumberToObject(j, "system_seconds", tv_seconds(&u.ru_stime));
	cJSON_AddNumberToObject(j, "peak_memory_bytes", (double)u.ru_maxrss * 1024);
	if (s->counts_insns)
		cJSON_AddNumberToObject(j, "instructions", (double)v->insns);
	else
		cJSON_AddNullToObject(j, "instructions");
	cJSON_AddNumberToObject(j, "exceptions", (double)v->exceptions);
	cJSON_AddNumberToObject(j, "interrupts", (double)v->interrupts);
	cJSON_AddNumberToObject(j, "resets", v->resets);
}

cJSON *stats_json(const struct stats *s, const struct vm_stats *v)
{
	struct stretch part[STRETCHES];
	uint64_t total;
	unsigned n = divide_time(v, part, &total);
	cJSON *j = cJSON_CreateObject(), *times, *engine, *pv;

	add_host(j, s, v);
	times = cJSON_AddObjectToObject(j, "time");
	for (unsigned i = 0; i < n; i++)
		cJSON_AddNumberToObject(times, part[i].name, tsc_seconds(part[i].cycles));
	cJSON_AddItemToObject(j, "scheduling", sched_json(&v->sched));
	engine = cJSON_AddObjectToObject(j, "engine");
	for (unsigned i = 0; i < v->n_engine; i++)
		if (!is_time(&v->engine[i]))
			cJSON_AddNumberToObject(engine, v->engine[i].name,
						(double)v->engine[i].value);
	pv = cJSON_AddObjectToObject(j, "pv");
	for (unsigned i = 0; i < v->n_pv; i++)
		cJSON_AddNumberToObject(pv, v->pv[i].name, (double)v->pv[i].value);
	return j;
}

/* All in one write where the kernel lets us, so that other lines do not get into the table. */
static void write_lines(const char *text)
{
	const char *eol = terminal_eol(STDERR_FILENO);
	char *buf = NULL;
	size_t len = 0, at = 0;
	FILE *out = open_memstream(&buf, &len);

	if (!out)
		return;
	for (; *text; text++) {
		if (*text == '\n')
			fputs(eol, out);
		else
			fputc(*text, out);
	}
	fclose(out);
	while (buf && at < len) {
		ssize_t n = write(STDERR_FILENO, buf + at, len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* nobody to tell */
		at += (size_t)n;
	}
	free(buf);
}

static char *live_text(const struct stats *s, const struct vm_stats *v)
{
	cJSON *j = cJSON_CreateObject();
	char *text;

	cJSON_AddItemToObject(j, "stats", stats_json(s, v));
	text = cJSON_PrintUnformatted(j);
	cJSON_Delete(j);
	return text;
}

static void report(const struct stats *s)
{
	struct vm_stats v;
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	vm_stats(s->vm, &v);
	if (s->json) {
		text = live_text(s, &v);
		if (text)
			write_lines(text);
		write_lines("\n");
		cJSON_free(text);
		return;
	}
	out = open_memstream(&text, &len);
	if (!out)
		return;
	stats_print(s, &v, out);
	fclose(out);
	if (text)
		write_lines(text);
	free(text);
}

static void *reporter_main(void *ctx)
{
	struct stats *s = ctx;

	for (;;) {
		while (sem_wait(&s->requests) < 0 && errno == EINTR)
			continue;
		if (atomic_load(&s->stop))
			return NULL;
		report(s);
	}
}

static void request(void *ctx)
{
	struct stats *s = ctx;

	sem_post(&s->requests);
}

void stats_init(struct stats *s, bool json)
{
	memset(s, 0, sizeof(*s));
	s->start_ns = host_now_ns();
	s->json = json;
	sem_init(&s->requests, 0, 0);
	signals_on_report(request, s);
}

int stats_start(struct stats *s, const struct vm *vm, struct err *err)
{
	sigset_t all, old;
	int rc;

	s->vm = vm;
	s->engine = vm_engine(vm);
	/* Translated code does not count: that would cost it speed. */
	s->counts_insns = !s->engine->uses_config;
	s->run_ns = host_now_ns();
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&s->thread, NULL, reporter_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(err, rc, "cannot start a thread: %s", strerror(rc));
	s->runs = true;
	return 0;
}

static void ignore(void *ctx)
{
}

/* Other threads block the signal: no handler is at work now. */
void stats_fini(struct stats *s)
{
	signals_on_report(ignore, NULL);
	if (s->runs) {
		atomic_store(&s->stop, true);
		sem_post(&s->requests);
		pthread_join(s->thread, NULL);
		s->runs = false;
	}
	sem_destroy(&s->requests);
}
