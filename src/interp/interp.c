/* The interpreter's life cycle and run loop. */
#include "interp/interp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "interp/internal.h"

#define NO_RIP (~0ULL)
#define NO_BUDGET (~0ULL)

bool interp_usable(struct err *why)
{
	struct thunks *t;

	if (thunks_new(&t, why))
		return false;
	thunks_free(t);
	err_set(why, 0, "needs nothing but executable memory, which this host gives");
	return true;
}

static uint64_t interp_wrote(void *ctx, gpa_t gpa, uint64_t len)
{
	return block_wrote(ctx, gpa.v, len);
}

static void interp_lost(void *ctx)
{
	block_drop_all(ctx);
}

void interp_free(struct interp *it)
{
	if (!it)
		return;
	code_user_remove_cache(&it->v->mmu.code, it);
	block_drop_all(it);
	block_free_dropped(it);
	thunks_free(it->thunks);
	native_fini(it);
	it->v->interp = NULL;
	free(it);
}

int interp_new(struct interp **out, struct vcpu *v, struct err *err)
{
	struct interp *it = calloc(1, sizeof(*it));
	struct code_cache c = {.wrote = interp_wrote, .lost = interp_lost, .ctx = it};
	int rc;

	if (!it)
		return err_set(err, ENOMEM, "out of host memory");
	it->v = v;
	it->generation = 1;
	it->budget = NO_BUDGET;
	insn_decoder_init(&it->decoder);
	rc = thunks_new(&it->thunks, err);
	if (!rc)
		rc = native_init(it, err);
	if (!rc && code_user_add_cache(&v->mmu.code, &c))
		rc = err_set(err, ENOSPC, "a vCPU with more than two caches of code");
	if (rc) {
		native_fini(it);
		thunks_free(it->thunks);
		free(it);
		return rc;
	}
	v->interp = it;
	*out = it;
	return 0;
}

void interp_set_fault_hook(struct interp *it, interp_fault_fn fault, void *ctx)
{
	it->fault_hook = fault;
	it->fault_ctx = ctx;
}

bool interp_failed(const struct interp *it)
{
	return it->failed;
}

unsigned interp_counters(const struct interp *it, struct engine_counter *out, unsigned max)
{
	const struct engine_counter all[] = {
		{"blocks", "blocks decoded", "", it->blocks_decoded},
		{"dropped", "blocks dropped", "", it->blocks_dropped},
		{"host_faults", "host faults in guest instructions", "", it->native_faults},
		{"block_bytes", "decoded blocks", "bytes", it->block_bytes},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all) && i < max; i++)
		out[i] = all[i];
	return ARRAY_SIZE(all);
}

/* Single steps, breakpoints, RF and instruction budgets are exact only one instruction at a time. */
static bool must_step(const struct vcpu *v, const struct interp *it)
{
	return (v->sys_flags & (FLAG_TF | FLAG_RF)) || (v->dr7 & 0xff) || it->budget != NO_BUDGET;
}

static void check_code_limit(struct vcpu *v, const struct cpu_op *op)
{
	if (v->mode != X86_MODE_64 && op->len && v->rip + op->len - 1 > v->seg[S_CS].limit)
		cpu_gp(v);
}

static void raise_code_breakpoint(struct vcpu *v)
{
	uint64_t lin = v->mode == X86_MODE_64 ? v->rip : (v->seg[S_CS].base + v->rip) & 0xffffffff;

	if (cpu_code_breakpoint(v, lin))
		cpu_raise(v, EXC_DB);
}

/* One instruction, with all that single-stepping implies. */
static void step(struct interp *it)
{
	struct vcpu *v = it->v;
	bool tf = v->sys_flags & FLAG_TF;
	const struct cpu_op *op;
	const struct block *b;
	uint64_t next;

	if (it->budget != NO_BUDGET)
		it->budget--;
	v->insns++;
	it->pending_before = v->pending_db;
	if ((v->dr7 & 0xff) && !v->in_rep && !(v->rip == v->inhibit_rip && v->inhibit_debug))
		raise_code_breakpoint(v);
	b = block_lookup(it);
	if (!b)
		return;
	op = &b->op[0];
	check_code_limit(v, op);
	v->sys_flags &= ~(uint32_t)FLAG_RF;
	if (v->rip == v->inhibit_rip)
		v->inhibit_rip = NO_RIP;
	next = v->rip + op->len;
	op->fn(v, op);
	/* With DEBUGCTL.BTF only taken branches trap. */
	if (tf && (v->debugctl & DEBUGCTL_BTF) && (v->rip == next || v->in_rep))
		return;
	/* SYSCALL takes TF from SFMASK at once; elsewhere the TF that counts is the one before the instruction. */
	if (tf && !(op->mnemonic == ZYDIS_MNEMONIC_SYSCALL && !(v->sys_flags & FLAG_TF)))
		v->pending_db |= BIT(14);
}

static void run_block(struct interp *it, const struct block *b)
{
	struct vcpu *v = it->v;
	const struct cpu_op *op = b->op, *end = b->op + b->n_ops;

	if (unlikely(v->mode != X86_MODE_64) && v->rip + b->len - 1 > v->seg[S_CS].limit) {
		check_code_limit(v, op);
		op->fn(v, op);
		v->insns++;
		return;
	}
	do {
		op->fn(v, op);
		op++;
		/* A block may have dropped itself; debug traps are taken at once. */
		if (unlikely(it->stale))
			break;
	} while (op < end);
	v->insns += (uint64_t)(op - b->op);
}

/* No block is running: those that were dropped can go. */
static void settle(struct interp *it)
{
	if (it->graveyard)
		block_free_dropped(it);
	it->stale = false;
}

void interp_one(struct interp *it)
{
	settle(it);
	step(it);
}

/* Data breakpoints that a faulting instruction met before it faulted do not count. */
void interp_faulted(struct interp *it, const struct cpu_event *event)
{
	if (!event->software)
		it->v->pending_db = it->pending_before;
}

/* What must be looked at between blocks; false: leave run() with *exit. */
static bool between_blocks(struct interp *it, enum run_exit *exit)
{
	struct vcpu *v = it->v;
	bool stop;

	cpu_catch_up(v);
	settle(it);
	if (it->failed) {
		*exit = RUN_ERROR;
		return false;
	}
	if (!v->request && !v->pending_db && !v->halted && !v->wait_sipi)
		return true;
	if (!cpu_take_pending(v, &stop)) {
		*exit = RUN_SHUTDOWN;
		return false;
	}
	if (stop || v->halted || v->wait_sipi) {
		*exit = stop ? RUN_STOP : RUN_HALT;
		return false;
	}
	return true;
}

static enum run_exit loop(struct interp *it)
{
	struct vcpu *v = it->v;
	enum run_exit exit = RUN_STOP;

	for (;;) {
		const struct block *b;

		if (!between_blocks(it, &exit))
			return exit;
		if (!it->budget)
			return RUN_BUDGET;
		/* In an interrupt shadow with something pending, exactly one instruction runs. */
		if (unlikely(must_step(v, it) || (v->request && v->rip == v->inhibit_rip))) {
			step(it);
			continue;
		}
		b = block_lookup(it);
		if (!b)
			continue;
		v->inhibit_rip = NO_RIP;
		run_block(it, b);
	}
}

/* Apart from run(): a function that sets a jump target must not hold variables that it changes. */
static enum run_exit run_with_faults(struct interp *it)
{
	struct vcpu *v = it->v;

	if (_setjmp(v->fault_jmp)) {
		struct cpu_event e = v->event;

		if (must_step(v, it))
			interp_faulted(it, &e);
		if (!cpu_deliver(v, &e))
			return RUN_SHUTDOWN;
	}
	return loop(it);
}

int interp_enter(struct interp *it)
{
	int rc = native_enter(it);

	it->budget = NO_BUDGET;
	if (rc)
		return rc;
	code_user_enter(&it->v->mmu.code);
	cpu_catch_up(it->v); /* with what was written since it ran last */
	return 0;
}

void interp_leave(struct interp *it)
{
	code_user_exit(&it->v->mmu.code);
	native_leave(it);
}

enum run_exit interp_run(struct interp *it, uint64_t max_insns)
{
	struct vcpu *v = it->v;
	enum run_exit exit;

	if (interp_enter(it)) {
		snprintf(v->stop_reason, sizeof(v->stop_reason), "the host refuses an alternate signal stack");
		return RUN_ERROR;
	}
	if (max_insns)
		it->budget = max_insns;
	exit = run_with_faults(it);
	interp_leave(it);
	return exit;
}
