/* The interpreter (src/interp/) behind the engine contract. */
#include "engine/interp/engine.h"

#include "interp/interp.h"

static int vcpu_init(struct vcpu *v, struct err *err)
{
	struct interp *it;

	return interp_new(&it, v, err);
}

static void vcpu_fini(struct vcpu *v)
{
	interp_free(v->interp);
}

static enum run_exit run(struct vcpu *v, uint64_t max_insns)
{
	return interp_run(v->interp, max_insns);
}

static unsigned counters(const struct vcpu *v, struct engine_counter *out, unsigned max)
{
	return interp_counters(v->interp, out, max);
}

const struct engine_ops interp_engine = {
	.name = "interp",
	.description = "reference interpreter: every mode, every instruction; innocuous ones run on the host CPU",
	.usable = interp_usable,
	.vcpu_init = vcpu_init,
	.vcpu_fini = vcpu_fini,
	.run = run,
	.counters = counters,
};
