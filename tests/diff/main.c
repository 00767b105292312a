/*
 * main.c - the differential test: the same cases on the host CPU and on an engine, compared.
 *
 *   diff [--quick] [--cases N] [--seed S] [--engine NAME|native] [--no-compat] [--verbose]
 * [--max-report N] diff --seed S --case N          replays one case and prints both sides
 *
 * Engine "native" runs every case twice on the host: a check of the harness itself.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gen.h"

enum { QUICK_CASES = 80000, FULL_CASES = 2400000, SKIP = 77 };

struct options {
	uint64_t seed, cases, one;
	bool replay, compat, verbose;
	const char *engine;
	unsigned max_report;
};

struct tally {
	uint32_t count, undefined;
	uint32_t ran, ended; /* by native outcome, single instructions alone */
	uint64_t first, first_undefined, last;
	char field[32];
};

struct run {
	struct options opt;
	struct diff_shared *sh;
	struct native *native, *second;
	struct engine_side *engine;
	struct gen gen;
	struct diff_result *result; /* of the engine, a batch */
	struct tally *tally;        /* by mnemonic */
	uint64_t mismatches, undefined, excused, ran, by_outcome[5], by_vector[32], reported, empty;
	uint64_t next;        /* the first case of the next batch */
	uint64_t engine_case; /* the one the engine is at */
	uint64_t engine_crashes, native_crashes;
	double start;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *mnemonic_name(ZydisMnemonic m)
{
	const char *name = ZydisMnemonicGetString(m);

	return name && m ? name : "(none)";
}

static void report(struct run *run, const struct diff_case *c, const struct diff_result *a,
		   const struct diff_result *b, const struct diff_verdict *v)
{
	struct tally *t = &run->tally[v->mnemonic];

	run->mismatches++;
	if (!t->count++) {
		t->first = c->number;
		snprintf(t->field, sizeof(t->field), "%s", v->field);
	}
	if (t->count > 1 && !run->opt.verbose)
		return;
	if (run->reported++ >= run->opt.max_report)
		return;
	printf("MISMATCH %s: --seed %" PRIu64 " --case %" PRIu64 "%s%s\n",
	       mnemonic_name(v->mnemonic), run->opt.seed, c->number,
	       c->mode == X86_MODE_64 ? "" : " (32-bit)",
	       c->flags & CASE_INVALID ? " (invalid)" : "");
	case_disassemble(c, stdout);
	case_compare(run->sh, c, a, b, stdout);
	if (a->outcome == OUT_BROKEN || b->outcome == OUT_BROKEN)
		printf("  %s %s\n", a->outcome == OUT_BROKEN ? a->why : "",
		       b->outcome == OUT_BROKEN ? b->why : "");
}

static void judge(struct run *run, const struct diff_case *c, const struct diff_result *a,
		  const struct diff_result *b)
{
	struct diff_verdict v = case_compare(run->sh, c, a, b, NULL);

	run->ran++;
	run->by_outcome[a->outcome]++;
	run->empty += !c->code_len;
	run->excused += v.excused;
	if (a->outcome == OUT_FAULT)
		run->by_vector[a->vector & 31]++;
	if (c->kind == DIFF_FORM && c->code_len) {
		run->tally[c->mnemonic].ran++;
		run->tally[c->mnemonic].last = c->number;
		run->tally[c->mnemonic].ended += a->outcome == OUT_EXIT;
	}
	if (v.mismatch) {
		report(run, c, a, b, &v);
	} else if (v.undefined) {
		run->undefined++;
		if (!run->tally[c->mnemonic].undefined++)
			run->tally[c->mnemonic].first_undefined = c->number;
	}
}

/* Fills the batch, has both sides run it, and compares. */
static int run_batch(struct run *run, uint64_t first, uint32_t n)
{
	struct diff_shared *sh = run->sh;
	int r;

	for (uint32_t i = 0; i < n; i++)
		gen_case(&run->gen, first + i, &sh->cases[i]);
	sh->count = n;
	r = native_submit(run->native);
	for (uint32_t i = 0; run->engine && i < n; i++) {
		run->engine_case = first + i;
		engine_side_run(run->engine, &sh->cases[i], &run->result[i]);
	}
	r = r ? r : native_wait(run->native);
	if (!r && !run->engine) {
		memcpy(run->result, sh->native, n * sizeof(*run->result));
		r = native_submit(run->native);
		r = r ? r : native_wait(run->native);
	}
	for (uint32_t i = 0; !r && i < n; i++)
		judge(run, &sh->cases[i], &sh->native[i], &run->result[i]);
	return r;
}

static int replay(struct run *run)
{
	int r = run_batch(run, run->opt.one, 1);

	if (r)
		return r;
	case_print(&run->sh->cases[0], stdout);
	result_print(&run->sh->native[0], "native", stdout);
	result_print(&run->result[0], "engine", stdout);
	printf(run->mismatches  ? "DIFFERENT:\n"
	       : run->undefined ? "same but for undefined flags\n"
				: "same\n");
	case_compare(run->sh, &run->sh->cases[0], &run->sh->native[0], &run->result[0], stdout);
	return 0;
}

static int run_all(struct run *run)
{
	double last = now();

	while (run->next < run->opt.cases) {
		uint32_t n = (uint32_t)min_u64(DIFF_BATCH, run->opt.cases - run->next);
		int r = run_batch(run, run->next, n);

		if (r)
			return r;
		run->next += n;
		run->native_crashes = native_crashes(run->native);
		if (now() - last > 5) {
			last = now();
			fprintf(stderr,
				"  %" PRIu64 " of %" PRIu64 " cases, %" PRIu64
				" mismatches, %.0f a second\n",
				run->ran, run->opt.cases, run->mismatches,
				(double)run->ran / (last - run->start));
		}
	}
	return 0;
}

/* A mnemonic whose cases all fault is hardly tested; some are made to fault. */
static void print_coverage(const struct run *run)
{
	unsigned all = 0, never = 0;

	double t = now() - run->start;

	printf("%" PRIu64 " cases in %.1f s (%.0f a second): %" PRIu64 " ended, %" PRIu64
	       " faulted, %" PRIu64 " timed out, %" PRIu64 " empty; the native child died %" PRIu64
	       " times\n",
	       run->ran, t, (double)run->ran / t, run->by_outcome[OUT_EXIT],
	       run->by_outcome[OUT_FAULT], run->by_outcome[OUT_TIMEOUT], run->empty,
	       run->native_crashes);
	printf("faults by vector:");
	for (unsigned i = 0; i < 32; i++)
		if (run->by_vector[i])
			printf(" %u: %" PRIu64, i, run->by_vector[i]);
	printf("\n");
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		all += run->tally[m].ran > 0;
		never += run->tally[m].ran && !run->tally[m].ended;
		if (run->opt.verbose && run->tally[m].ran && !run->tally[m].ended)
			printf("  always faults: %s (%u cases, as --case %" PRIu64 ")\n",
			       ZydisMnemonicGetString((ZydisMnemonic)m), run->tally[m].ran,
			       run->tally[m].last);
	}
	printf("mnemonics run alone: %u, of which %u always faulted\n", all, never);
}

static void summary(const struct run *run)
{
	print_coverage(run);
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const struct tally *t = &run->tally[m];
		const char *name = m ? ZydisMnemonicGetString((ZydisMnemonic)m) : "(none)";

		if (t->count)
			printf("  mismatch: %-16s %6u, first --case %" PRIu64 " (%s)\n", name,
			       t->count, t->first, t->field);
		if (t->undefined)
			printf("  undefined flags: %-16s %6u, first --case %" PRIu64 "\n", name,
			       t->undefined, t->first_undefined);
	}
	printf("seed %" PRIu64 ": %" PRIu64 " cases, %" PRIu64 " mismatches, %" PRIu64
	       " differences in undefined flags alone, %" PRIu64 " excused\n",
	       run->opt.seed, run->ran, run->mismatches, run->undefined, run->excused);
}

static int parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"quick", no_argument, NULL, 'q'},
		{"cases", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"case", required_argument, NULL, 'c'},
		{"engine", required_argument, NULL, 'e'},
		{"no-compat", no_argument, NULL, 'C'},
		{"verbose", no_argument, NULL, 'v'},
		{"max-report", required_argument, NULL, 'm'},
		{0},
	};
	int c;

	*o = (struct options){.seed = 1,
			      .cases = FULL_CASES,
			      .compat = true,
			      .engine = "interp",
			      .max_report = 400};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'q':
			o->cases = QUICK_CASES;
			break;
		case 'n':
			o->cases = strtoull(optarg, NULL, 0);
			break;
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'c':
			o->one = strtoull(optarg, NULL, 0);
			o->replay = true;
			break;
		case 'e':
			o->engine = optarg;
			break;
		case 'C':
			o->compat = false;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'm':
			o->max_report = (unsigned)strtoul(optarg, NULL, 0);
			break;
		default:
			return -EINVAL;
		}
	}
	return optind == argc ? 0 : -EINVAL;
}

static void *shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int set_up(struct run *run, struct err *err)
{
	int r;

	run->sh = shared(sizeof(*run->sh));
	run->result = calloc(DIFF_BATCH, sizeof(*run->result));
	run->tally = shared((ZYDIS_MNEMONIC_MAX_VALUE + 1) * sizeof(*run->tally));
	if (!run->sh || !run->result || !run->tally)
		return err_set(err, ENOMEM, "out of memory");
	r = cpu_model_init(&run->sh->model, "host", err);
	if (r)
		return r;
	state_pool(run->sh, run->opt.seed);
	r = gen_init(&run->gen, run->sh, run->opt.seed, run->opt.compat);
	return r ? err_set(err, -r, "out of memory") : 0;
}

/* Both sides and the cases that are left. Ends the process. */
static _Noreturn void work(struct run *run)
{
	struct err err = {0};
	int r = native_start(&run->native, run->sh);

	if (r)
		err_set(&err, -r, "cannot start the native side: %s", strerror(-r));
	else if (strcmp(run->opt.engine, "native"))
		r = engine_side_new(&run->engine, run->opt.engine, run->sh, &err);
	if (!r) {
		r = run->opt.replay ? replay(run) : run_all(run);
		if (r)
			err_set(&err, -r, "the native side failed: %s", strerror(-r));
		native_stop(run->native);
		engine_side_free(run->engine);
	}
	if (r)
		fprintf(stderr, "diff: %s\n", err.text);
	fflush(stdout);
	_exit(r ? 1 : 0);
}

static void report_crash(struct run *run, int status)
{
	struct diff_case *c = &run->sh->cases[0];

	gen_case(&run->gen, run->engine_case, c);
	run->mismatches++;
	run->engine_crashes++;
	printf("CRASH of the engine (status %#x): --seed %" PRIu64 " --case %" PRIu64 "%s\n",
	       (unsigned)status, run->opt.seed, c->number,
	       c->mode == X86_MODE_64 ? "" : " (32-bit)");
	case_disassemble(c, stdout);
}

/* A worker does the cases; one that dies is an engine's bug, reported, and the rest of its batch is
 * left out. */
static int supervise(struct run *run)
{
	for (;;) {
		int status = 0;
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid < 0)
			return -errno;
		if (!pid)
			work(run);
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR)
				return -errno;
		if (WIFEXITED(status))
			return WEXITSTATUS(status) ? -EIO : 0;
		report_crash(run, status);
		run->next = run->engine_case + 1;
		if (run->opt.replay || run->engine_crashes > 200)
			return 0;
	}
}

/* <sys/auxv.h> brings in ELF's PF_W, which x86.h has another meaning for. */
unsigned long getauxval(unsigned long type);
#define HWCAP2 26

/* The native side reads and writes FS and GS bases without the kernel: HWCAP2 bit 1. */
static bool host_usable(void)
{
	return getauxval(HWCAP2) & 2;
}

int main(int argc, char **argv)
{
	struct run *run = shared(sizeof(*run));
	struct err err = {0};
	int r;

	if (!run || parse(&run->opt, argc, argv)) {
		fprintf(stderr, "usage: diff [--quick] [--cases N] [--seed S] [--case N] [--engine "
				"NAME]\n");
		return 2;
	}
	if (!host_usable()) {
		printf("skipped: the host has no user-mode WRFSBASE\n");
		return SKIP;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	run->start = now();
	r = set_up(run, &err);
	if (r) {
		fprintf(stderr, "diff: %s\n", err.text);
		return 1;
	}
	printf("seed %" PRIu64 ", engine %s\n", run->opt.seed, run->opt.engine);
	if (!run->opt.replay)
		gen_report(&run->gen, run->opt.verbose, stdout);
	r = supervise(run);
	if (!r && !run->opt.replay)
		summary(run);
	gen_free(&run->gen);
	return r || run->mismatches ? 1 : 0;
}
