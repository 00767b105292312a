/* run.h - a run of the differential test: its options and tallies, shared by main.c and report.c.
 */
#ifndef RINGER_DIFF_RUN_H
#define RINGER_DIFF_RUN_H

#include <sys/types.h>

#include "gen.h"

struct options {
	uint64_t seed, cases, one;
	bool replay, compat, verbose, shrink, x87_pointers;
	enum diff_shape shape;
	struct weights weights;
	const char *engine;
	unsigned max_report;
	unsigned sabotage; /* mnemonic whose results are spoiled, 0: none; or one of these */
};
enum { SABOTAGE_FLAGS = 1 << 30, SABOTAGE_CRASH = 1 << 29 };

struct tally {
	uint32_t count, undefined;
	uint32_t ran, ended; /* by native outcome, single instructions alone */
	uint64_t first, first_undefined, last;
	char field[32];
};

/* Lies in memory shared with the worker. */
struct run {
	struct options opt;
	struct diff_shared *sh;
	struct native *native, *second;
	struct engine_side *engine;
	struct gen gen;
	struct diff_result *result; /* of the engine, a batch */
	struct tally *tally;        /* by mnemonic */
	uint64_t mismatches, undefined, excused, dead_flags, x87_pointers, ran, by_outcome[5],
		by_vector[32], reported, empty;
	uint64_t by_shape[SHAPES], shape_ended[SHAPES];
	uint64_t next, done;  /* the first number of the next batch; cases of the batches before */
	uint64_t engine_case; /* the one the engine is at */
	uint64_t engine_crashes, native_crashes;
	double start;
};

double now(void);
/* Runs the first n of run->sh->cases on both sides. */
int run_cases(struct run *run, uint32_t n) must_check;
void run_engine(struct run *run, const struct diff_case *c, struct diff_result *r);

/* report.c */
/* Counts the results of a case; whether it has to be reported. */
bool judge(struct run *run, const struct diff_case *c, const struct diff_result *a,
	   const struct diff_result *b);
/* Shrinks the case of this number and prints it. Uses the batch's first place. */
void report_mismatch(struct run *run, uint64_t number);
/* Without a worker: the case that killed it, shrunk by running it in processes of its own. */
void report_crash(struct run *run, int status);
void summary(const struct run *run);

#endif
