/* The engine's functions: run(), its life cycle, its counters. */
#include <asm/prctl.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/light.h"
#include "engine/bt/bt.h"
#include "engine/bt/internal.h"

static enum run_exit run(struct vcpu *v, uint64_t max_insns)
{
	struct bt *bt = bt_of(v);
	enum run_exit exit;

	bt->budget = max_insns ? max_insns : NO_BUDGET;
	bt->single = max_insns || bt->config->stress.one_insn;
	bt->flags_basis[0] = ~0ULL; /* single may have changed */
	/* The C library has no use for GS. */
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, v) || interp_enter(bt->interp)) {
		snprintf(v->stop_reason, sizeof(v->stop_reason), "the host refuses a GS base or a signal stack");
		return RUN_ERROR;
	}
	exit = bt_run_with_faults(bt);
	cpu_fpu_spill(v);
	interp_leave(bt->interp);
	return exit;
}

static uint64_t on_wrote(void *ctx, gpa_t gpa, uint64_t len)
{
	return cache_wrote(ctx, gpa.v, len);
}

static void on_lost(void *ctx)
{
	cache_drop_all(ctx);
}

static void vcpu_fini(struct vcpu *v)
{
	struct bt *bt = bt_of(v);

	if (!bt->v)
		return;
	code_user_remove_cache(&v->mmu.code, bt);
	interp_free(bt->interp);
	fpu_fini(bt);
	cache_free(bt);
	translation_free(bt);
	verify_free(bt);
	bt->v = NULL;
}

static int start(struct bt *bt, struct err *err)
{
	struct code_cache c = {.wrote = on_wrote, .lost = on_lost, .ctx = bt};
	int rc = fpu_init(bt, err);

	if (!rc)
		rc = cache_new(bt, err);
	if (!rc)
		rc = translation_new(bt, err);
	if (!rc && bt->config->verify)
		rc = verify_new(bt, err);
	if (!rc)
		rc = interp_new(&bt->interp, bt->v, err);
	if (!rc && code_user_add_cache(&bt->v->mmu.code, &c))
		rc = err_set(err, ENOSPC, "a vCPU with more than two caches of code");
	return rc;
}

static const struct engine_config default_config = {.cache_bytes = ENGINE_CACHE_DEFAULT};

static int vcpu_init(struct vcpu *v, struct err *err)
{
	struct bt *bt = bt_of(v);
	int rc;

	_Static_assert(sizeof(struct bt) <= CPU_ENGINE_AREA, "struct bt must fit its place in struct vcpu");
	bt->v = v;
	bt->config = v->config ? v->config : &default_config;
	memset(bt->space_of_key, 0xff, sizeof(bt->space_of_key));
	for (unsigned i = 0; i < 2 * JUMP_SLOTS; i++)
		jump_clear(bt, i);
	rc = light_code ? start(bt, err) : err_set(err, ENOTSUP, "a build with a sanitizer cannot run the translator");
	if (rc) {
		vcpu_fini(v);
		return rc;
	}
	bt->bmi2 = __builtin_cpu_supports("bmi2");
	stubs_make(bt);
	interp_set_fault_hook(bt->interp, bt_on_host_fault, bt);
	v->fpu_spill = fpu_spill;
	v->engine_state = bt;
	return 0;
}

static bool usable(struct err *why)
{
	if (!interp_usable(why))
		return false;
	if (!light_code) {
		err_set(why, ENOTSUP, "built with a sanitizer, whose code uses the registers that hold guest state");
		return false;
	}
	err_set(why, 0, "translates 64-bit code; needs nothing but executable memory, which this host gives");
	return true;
}

static const struct {
	const char *name, *text, *unit;
} counters_of[STAT_COUNT] = {
	[STAT_BLOCKS] = {"blocks", "blocks translated", ""},
	[STAT_INSNS] = {"block_insns", "instructions translated", ""},
	[STAT_BYTES_IN] = {"bytes_in", "guest code translated", "bytes"},
	[STAT_BYTES_OUT] = {"bytes_out", "translated code", "bytes"},
	[STAT_LINKS] = {"links", "jumps chained", ""},
	[STAT_LINK_EXITS] = {"link_exits", "exits: direct jump not chained", ""},
	[STAT_DISPATCHES] = {"dispatches", "blocks dispatched", ""},
	[STAT_SLOW] = {"slow", "exits: TLB probe failed", ""},
	[STAT_SLOW_INTERP] = {"slow_interp", "accesses by the interpreter", ""},
	[STAT_CROSSING] = {"group_misses", "groups taken apart", ""},
	[STAT_VERIFIED] = {"verified", "pieces of blocks verified", ""},
	[STAT_JUDGED] = {"judged", "blocks translated anew when hot", ""},
	[STAT_WILD] = {"wild_sites", "probes made to compute their slot", ""},
	[STAT_CROSSED] = {"crossings", "operands across two pages", ""},
	[STAT_INTERP] = {"interpreted", "instructions interpreted", ""},
	[STAT_LIGHT] = {"light", "instructions by light calls", ""},
	[STAT_POLLS] = {"polls", "exits: poll", ""},
	[STAT_FAULTS] = {"faults", "guest faults", ""},
	[STAT_HOST_FAULTS] = {"host_faults", "host faults in translated code", ""},
	[STAT_INVALIDATED] = {"invalidated", "blocks invalidated by writes", ""},
	[STAT_EVICTED] = {"evicted", "blocks evicted", ""},
	[STAT_EVICTION] = {"longest_eviction", "longest time in eviction", "tsc"},
	[STAT_SPILLS] = {"fpu_spills", "vector state spilled", ""},
	[STAT_NEW_KEYS] = {"keys", "jump table keys", ""},
	[STAT_TRANSLATION] = {"translation", "time in translation", "tsc"},
};

static unsigned counters(const struct vcpu *v, struct engine_counter *out, unsigned max)
{
	const struct bt *bt = bt_of(v);
	unsigned n = 0;

	for (unsigned i = 0; i < STAT_COUNT; i++) {
		if (!counters_of[i].name)
			continue;
		if (n < max)
			out[n] = (struct engine_counter){counters_of[i].name, counters_of[i].text, counters_of[i].unit,
							 bt->stat[i]};
		n++;
	}
	return n;
}

const struct engine_ops bt_engine = {
	.name = "bt",
	.description = "binary translator: 64-bit code at close to the speed of the hardware",
	.usable = usable,
	.vcpu_init = vcpu_init,
	.vcpu_fini = vcpu_fini,
	.run = run,
	.counters = counters,
	.uses_config = true,
};
