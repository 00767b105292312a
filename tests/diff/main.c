/*
 * main.c - the differential test: the same cases on the host CPU and on an engine, compared.
 *
 *   diff [--quick] [--shape all|single|block|loop] [--engine NAME|native] [--cases N] [--seed S]
 *   diff --seed S --case N [--engine NAME]      replays one case and prints both sides
 *
 * A number names the same case whatever shapes a run is limited to; --only-class and --weights
 * change them all. Engine "native" runs every case twice on the host: a check of the harness
 * itself. --sabotage MNEMONIC, flags or crash spoils results on purpose: a check that faults are
 * found and shrunk.
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

#include "run.h"

enum { QUICK_CASES = 160000, FULL_CASES = 4800000, SKIP = 77 };

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool has_mnemonic(const struct gen *g, const struct diff_case *c, unsigned mnemonic)
{
	struct insn in;

	for (size_t at = 0; at < c->code_len; at += in.z.length) {
		if (insn_decode(&g->dec, c->mode, c->code + at, c->code_len - at, &in) != DECODE_OK)
			return false;
		if (in.z.mnemonic == mnemonic)
			return true;
	}
	return false;
}

static void sabotage(const struct run *run, const struct diff_case *c, struct diff_result *r)
{
	unsigned what = run->opt.sabotage;

	if (what == SABOTAGE_FLAGS) {
		if (r->outcome == OUT_FAULT)
			r->rflags ^= FLAG_CF;
	} else if (what == SABOTAGE_CRASH) {
		if (c->kind >= DIFF_BLOCK && has_mnemonic(&run->gen, c, ZYDIS_MNEMONIC_XADD))
			__builtin_trap();
	} else if (has_mnemonic(&run->gen, c, what)) {
		r->gpr[R_BX] ^= 1;
	}
}

void run_engine(struct run *run, const struct diff_case *c, struct diff_result *r)
{
	engine_side_run(run->engine, c, r);
	if (run->opt.sabotage)
		sabotage(run, c, r);
}

int run_cases(struct run *run, uint32_t n)
{
	struct diff_shared *sh = run->sh;
	int r;

	sh->count = n;
	r = native_submit(run->native);
	for (uint32_t i = 0; run->engine && i < n; i++) {
		run->engine_case = sh->cases[i].number;
		run_engine(run, &sh->cases[i], &run->result[i]);
	}
	r = r ? r : native_wait(run->native);
	if (!r && !run->engine) {
		memcpy(run->result, sh->native, n * sizeof(*run->result));
		r = native_submit(run->native);
		r = r ? r : native_wait(run->native);
	}
	return r;
}

static bool wanted(const struct run *run, uint64_t number)
{
	return run->opt.shape == SHAPE_ALL || shape_of(number) == run->opt.shape;
}

/* The next n cases of the shapes that are wanted: runs and compares them. */
static int run_batch(struct run *run, uint32_t n)
{
	struct diff_shared *sh = run->sh;
	uint64_t bad[DIFF_BATCH];
	uint32_t nbad = 0, i = 0;
	int r;

	for (; i < n; run->next++)
		if (wanted(run, run->next))
			gen_case(&run->gen, run->next, &sh->cases[i++]);
	r = run_cases(run, n);
	if (r)
		return r;
	for (i = 0; i < n; i++)
		if (judge(run, &sh->cases[i], &sh->native[i], &run->result[i]))
			bad[nbad++] = sh->cases[i].number;
	for (i = 0; i < nbad; i++)
		report_mismatch(run, bad[i]);
	return 0;
}

static int replay(struct run *run)
{
	int r;
	bool bad;

	gen_case(&run->gen, run->opt.one, &run->sh->cases[0]);
	r = run_cases(run, 1);
	if (r)
		return r;
	bad = judge(run, &run->sh->cases[0], &run->sh->native[0], &run->result[0]);
	case_print(&run->sh->cases[0], stdout);
	result_print(&run->sh->native[0], "native", stdout);
	result_print(&run->result[0], "engine", stdout);
	printf(run->mismatches  ? "DIFFERENT:\n"
	       : run->undefined ? "same but for undefined flags\n"
				: "same\n");
	case_compare(run->sh, &run->sh->cases[0], &run->sh->native[0], &run->result[0], stdout);
	if (bad)
		report_mismatch(run, run->opt.one);
	return 0;
}

static int run_all(struct run *run)
{
	double last = now();

	while (run->done < run->opt.cases) {
		uint32_t n = (uint32_t)min_u64(DIFF_BATCH, run->opt.cases - run->done);
		int r = run_batch(run, n);

		if (r)
			return r;
		run->done += n;
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

static int parse_shape(struct options *o, const char *name)
{
	for (int i = 0; i < SHAPES; i++)
		if (!strcmp(name, shape_name[i])) {
			o->shape = (enum diff_shape)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_sabotage(struct options *o, const char *name)
{
	if (!strcmp(name, "flags"))
		o->sabotage = SABOTAGE_FLAGS;
	else if (!strcmp(name, "crash"))
		o->sabotage = SABOTAGE_CRASH;
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (!strcmp(name, ZydisMnemonicGetString((ZydisMnemonic)m)))
			o->sabotage = m;
	return o->sabotage ? 0 : -EINVAL;
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
		{"shape", required_argument, NULL, 'S'},
		{"only-class", required_argument, NULL, 'o'},
		{"weights", required_argument, NULL, 'w'},
		{"x87-pointers", no_argument, NULL, 'p'},
		{"no-shrink", no_argument, NULL, 'k'},
		{"sabotage", required_argument, NULL, 'x'},
		{0},
	};
	int c;

	*o = (struct options){.seed = 1,
			      .cases = FULL_CASES,
			      .compat = true,
			      .shrink = true,
			      .engine = "interp",
			      .max_report = 25};
	weights_default(&o->weights);
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
		case 'S':
			if (parse_shape(o, optarg))
				return -EINVAL;
			break;
		case 'o':
		case 'w':
			if (weights_parse(&o->weights, optarg, c == 'o'))
				return -EINVAL;
			break;
		case 'p':
			o->x87_pointers = true;
			break;
		case 'k':
			o->shrink = false;
			break;
		case 'x':
			if (parse_sabotage(o, optarg))
				return -EINVAL;
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
	run->sh->x87_pointers = run->opt.x87_pointers;
	state_pool(run->sh, run->opt.seed);
	r = gen_init(&run->gen, run->sh, run->opt.seed, run->opt.compat, &run->opt.weights);
	return r ? err_set(err, -r, "cannot make cases: %s", strerror(-r)) : 0;
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
		run->done += DIFF_BATCH;
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
		fprintf(stderr,
			"usage: diff [--quick] [--cases N] [--seed S] [--case N] [--engine NAME] "
			"[--shape "
			"all|single|block|loop] [--only-class integer|CLASS,...] [--weights "
			"CLASS=N,...] "
			"[--x87-pointers] [--no-shrink] [--max-report N] [--no-compat] "
			"[--verbose]\nclasses:");
		weights_help(stderr);
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
