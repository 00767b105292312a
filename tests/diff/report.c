/* report.c - what a run found. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "shrink.h"

static const char *mnemonic_name(ZydisMnemonic m)
{
	const char *name = ZydisMnemonicGetString(m);

	return name && m ? name : "(none)";
}

/* Whether a mismatch is printed: the first of its mnemonic, as long as there is room. */
static bool worth_printing(struct run *run, const struct diff_case *c, const struct diff_verdict *v)
{
	struct tally *t = &run->tally[v->mnemonic];

	run->mismatches++;
	if (!t->count++) {
		t->first = c->number;
		snprintf(t->field, sizeof(t->field), "%s", v->field);
	}
	if (t->count > 1 && !run->opt.verbose && c->kind < DIFF_BLOCK)
		return false;
	return run->reported++ < run->opt.max_report;
}

static void count_case(struct run *run, const struct diff_case *c, const struct diff_result *a)
{
	enum diff_shape shape = shape_of(c->number);

	run->ran++;
	run->by_outcome[a->outcome]++;
	run->by_shape[shape]++;
	run->shape_ended[shape] += a->outcome == OUT_EXIT;
	run->empty += !c->code_len;
	if (a->outcome == OUT_FAULT)
		run->by_vector[a->vector & 31]++;
	if (c->kind == DIFF_FORM && c->code_len) {
		run->tally[c->mnemonic].ran++;
		run->tally[c->mnemonic].last = c->number;
		run->tally[c->mnemonic].ended += a->outcome == OUT_EXIT;
	}
}

bool judge(struct run *run, const struct diff_case *c, const struct diff_result *a,
	   const struct diff_result *b)
{
	struct diff_verdict v = case_compare(run->sh, c, a, b, NULL);

	count_case(run, c, a);
	run->excused += v.excused;
	if (v.mismatch)
		return worth_printing(run, c, &v);
	run->dead_flags += v.dead_flags;
	run->x87_pointers += v.x87_pointers;
	if (v.undefined) {
		run->undefined++;
		if (!run->tally[c->mnemonic].undefined++)
			run->tally[c->mnemonic].first_undefined = c->number;
	}
	return false;
}

/* A smaller case shows the same fault when both sides end as they did, and they differ. */
struct witness {
	struct run *run;
	struct trial *trial;
	uint8_t outcome[2]; /* native and engine, of the whole case */
};

static bool shows_mismatch(void *ctx, const struct diff_case *c)
{
	struct witness *w = ctx;
	struct run *run = w->run;
	const struct diff_result *a = &run->sh->native[0], *b = &run->result[0];

	if (c != &run->sh->cases[0])
		run->sh->cases[0] = *c;
	if (run_cases(run, 1))
		return false;
	w->trial->stuck += a->outcome == OUT_TIMEOUT || b->outcome == OUT_TIMEOUT;
	if (a->outcome != w->outcome[0] || b->outcome != w->outcome[1])
		return false;
	return case_compare(run->sh, c, a, b, NULL).mismatch;
}

static void print_title(const struct run *run, const char *what, const struct diff_case *c)
{
	printf("%s: --engine %s --seed %" PRIu64 " --case %" PRIu64, what, run->opt.engine,
	       run->opt.seed, c->number);
	weights_print(&run->opt.weights, stdout);
	printf("%s%s\n", c->mode == X86_MODE_64 ? "" : " (32-bit)",
	       c->flags & CASE_INVALID ? " (invalid)" : "");
}

static void print_both(struct run *run, const struct diff_case *c)
{
	static const char *const outcome[] = {"did not run", "ended", "faulted", "timed out",
					      "broke"};
	const struct diff_result *a = &run->sh->native[0], *b = &run->result[0];

	printf(" native %s, engine %s %s%s\n", outcome[a->outcome], outcome[b->outcome],
	       a->outcome == OUT_BROKEN ? a->why : "", b->outcome == OUT_BROKEN ? b->why : "");
	results_print(c, a, b, stdout);
	case_compare(run->sh, c, a, b, stdout);
}

static void shrink_and_print(struct run *run, struct trial *t, struct diff_case *c)
{
	unsigned before = shrink_size(c), first;

	shrink(t, c);
	first = shrink_first(t, c);
	printf(" shrunk from %u to %u instructions in %u trials (~: NOPs left out; >: a jump's "
	       "target)\n",
	       before, shrink_size(c), t->count);
	case_disassemble(c, true, stdout);
	if (first < c->code_len)
		printf(" first wrong after %08" PRIx64 "\n",
		       (uint64_t)DIFF_CODE + c->code_off + first);
}

void report_mismatch(struct run *run, uint64_t number)
{
	struct diff_case *c = malloc(sizeof(*c));
	struct witness w = {.run = run};
	struct trial t = {shows_mismatch, &w, 0, 0};
	char title[64];

	if (!c)
		return;
	w.trial = &t;
	gen_case(&run->gen, number, c);
	run->sh->cases[0] = *c;
	if (run_cases(run, 1)) {
		free(c);
		return;
	}
	w.outcome[0] = run->sh->native[0].outcome;
	w.outcome[1] = run->result[0].outcome;
	snprintf(title, sizeof(title), "MISMATCH %s",
		 c->kind >= DIFF_BLOCK ? shape_name[shape_of(number)] : mnemonic_name(c->mnemonic));
	print_title(run, title, c);
	case_disassemble(c, false, stdout);
	print_both(run, c);
	if (c->kind >= DIFF_SEQUENCE && run->opt.shrink) {
		if (!shows_mismatch(&w, c)) {
			printf(" not the same when run again: not shrunk\n");
		} else {
			shrink_and_print(run, &t, c);
			if (shows_mismatch(&w, c))
				print_both(run, c);
		}
	}
	free(c);
	fflush(stdout);
}

/* Runs the case on a new engine in a process of its own: whether that dies. */
static bool shows_crash(void *ctx, const struct diff_case *c)
{
	struct run *run = ctx;
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (!pid) {
		static const struct rlimit none = {0, 0};
		struct err err;

		setrlimit(RLIMIT_CORE, &none);
		if (!engine_side_new(&run->engine, run->opt.engine, run->sh, &err))
			run_engine(run, c, &run->result[0]);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFSIGNALED(status);
}

void report_crash(struct run *run, int status)
{
	struct diff_case *c = &run->sh->cases[0];
	bool hang = WTERMSIG(status) == SIGXCPU;
	/* A hang takes seconds to show. */
	struct trial t = {shows_crash, run, hang ? SHRINK_TRIALS - 40 : 0, 0};

	gen_case(&run->gen, run->engine_case, c);
	run->mismatches++;
	run->engine_crashes++;
	print_title(run, hang ? "HANG of the engine" : "CRASH of the engine", c);
	printf(" status %#x (%s)\n", (unsigned)status, strsignal(WTERMSIG(status)));
	case_disassemble(c, false, stdout);
	if (run->reported++ >= run->opt.max_report || !run->opt.shrink)
		return;
	if (!shows_crash(run, c))
		printf(" does not crash a new engine by itself: not shrunk\n");
	else
		shrink_and_print(run, &t, c);
	fflush(stdout);
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
	for (unsigned i = SHAPE_SINGLE; i < SHAPES; i++)
		if (run->by_shape[i])
			printf("%s %s: %" PRIu64 ", %" PRIu64 "%% to the end",
			       i > SHAPE_SINGLE ? ";" : "", shape_name[i], run->by_shape[i],
			       run->shape_ended[i] * 100 / run->by_shape[i]);
	printf("\nfaults by vector:");
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

void summary(const struct run *run)
{
	print_coverage(run);
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const struct tally *t = &run->tally[m];
		const char *name = mnemonic_name((ZydisMnemonic)m);

		if (t->count)
			printf("  mismatch: %-16s %6u, first --case %" PRIu64 " (%s)\n", name,
			       t->count, t->first, t->field);
		if (t->undefined)
			printf("  undefined flags: %-16s %6u, first --case %" PRIu64 "\n", name,
			       t->undefined, t->first_undefined);
	}
	printf("seed %" PRIu64 ": %" PRIu64 " cases, %" PRIu64 " mismatches, %" PRIu64
	       " differences in undefined flags alone, %" PRIu64
	       " in flags dead at a fault alone, %" PRIu64 " in x87 pointers alone, %" PRIu64
	       " excused\n",
	       run->opt.seed, run->ran, run->mismatches, run->undefined, run->dead_flags,
	       run->x87_pointers, run->excused);
}
