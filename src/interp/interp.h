/*
 * interp.h - the reference interpreter: every mode, every instruction.
 *
 * A library for engines: one runs guest code with nothing else, others hand it what they do not translate. An
 * interpreter belongs to one vCPU and runs on that vCPU's thread. It finds itself through vcpu.interp, so an
 * engine's own state can stand beside it in vcpu.engine_state.
 */
#ifndef RINGER_INTERP_INTERP_H
#define RINGER_INTERP_INTERP_H

#include <signal.h>

#include "cpu/engine.h"

struct interp;

/* Whether this host lets it work; a reason for people either way. */
bool interp_usable(struct err *why);
/* Sets v->interp too, and watches v->mem for writes to code it has decoded. */
int interp_new(struct interp **out, struct vcpu *v, struct err *err) must_check;
void interp_free(struct interp *it); /* NULL: nothing */

/* An engine's whole run(): see cpu/engine.h. */
enum run_exit interp_run(struct interp *it, uint64_t max_insns);

/*
 * For an engine that has a run loop of its own. Between interp_enter() and interp_leave(), on one thread, the
 * signal handlers that host faults need are in place, and the hardware's MXCSR is the guest's. -errno from enter:
 * the host refuses, and nothing has changed.
 */
int interp_enter(struct interp *it) must_check;
void interp_leave(struct interp *it);
/*
 * Executes one instruction (one iteration of a repeated string instruction) at CS:RIP, with all that
 * single-stepping implies: breakpoints, RF, TF. Debug traps wait in vcpu.pending_db for cpu_take_pending().
 * Faults are raised through v->fault_jmp, which is the caller's; who catches one calls interp_faulted() before
 * delivering it. Ask interp_failed() when it returns.
 */
void interp_one(struct interp *it);
void interp_faulted(struct interp *it, const struct cpu_event *event);
/* The host failed while the guest ran (no memory, say): v->stop_reason says how. */
bool interp_failed(const struct interp *it);
/* As engine_ops.counters. */
unsigned interp_counters(const struct interp *it, struct engine_counter *out, unsigned max);

/*
 * Asked first about every host fault signal while this interpreter is entered. true: handled, the context is
 * resumed as the hook left it. It runs as a signal handler does, on the alternate stack. NULL: none.
 */
typedef bool (*interp_fault_fn)(void *ctx, int sig, siginfo_t *info, void *ucontext);
void interp_set_fault_hook(struct interp *it, interp_fault_fn fault, void *ctx);

#endif
