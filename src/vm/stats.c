/* stats.c - figures about a machine, summed over its vCPUs. */
#include <string.h>

#include "cpu/kvm.h"
#include "vm/internal.h"

/* Adds the n counters of one vCPU to those of the vCPUs before it, which have the same in the same order. */
static void add_counters(struct engine_counter *sum, unsigned *n_sum, const struct engine_counter *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (i < *n_sum) {
			sum[i].value += c[i].value;
		} else {
			sum[i] = c[i];
			*n_sum = i + 1;
		}
	}
}

static void add_engine_counters(struct vm_stats *s, const struct vcpu *v)
{
	struct engine_counter c[VM_ENGINE_COUNTERS];
	unsigned n = 0;

	if (v->engine && v->engine->counters)
		n = v->engine->counters(v, c, ARRAY_SIZE(c));
	add_counters(s->engine, &s->n_engine, c, (unsigned)min_u64(n, ARRAY_SIZE(c)));
}

static void add_pv_counters(struct vm_stats *s, const struct vcpu *v)
{
	struct engine_counter c[VM_PV_COUNTERS];
	unsigned n = cpu_kvm_counters(v, c, ARRAY_SIZE(c));

	add_counters(s->pv, &s->n_pv, c, (unsigned)min_u64(n, ARRAY_SIZE(c)));
}

static void add(struct sched_counters *sum, const struct sched_counters *c)
{
	sum->slices += c->slices;
	sum->wait_ns += c->wait_ns;
	sum->preemptions += c->preemptions;
	sum->safe += c->safe;
	sum->forced += c->forced;
	sum->yields += c->yields;
}

static void add_sched(struct vm_sched_stats *s, const struct vm *vm)
{
	s->policy = vm->cfg.sched;
	if (!vm->sched)
		return;
	sched_describe(vm->sched, &s->slots, &s->cap_percent, &s->exhaustions);
	s->n_vcpus = vm->n_vcpus;
	for (unsigned i = 0; i < s->n_vcpus; i++) {
		sched_get_counters(vm->sched, i, &s->vcpu[i]);
		add(&s->total, &s->vcpu[i]);
	}
}

void vm_stats(const struct vm *vm, struct vm_stats *s)
{
	memset(s, 0, sizeof(*s));
	s->resets = vm->resets;
	add_sched(&s->sched, vm);
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		const struct vcpu *v = vm->vcpu[i];
		struct vcpu_times t;

		vcpu_thread_times(&vm->thread[i], &t);
		s->engine_cycles += t.engine;
		s->idle_cycles += t.idle;
		s->held_cycles += t.held;
		s->device_cycles += v->device_cycles;
		s->insns += v->insns;
		s->interrupts += v->interrupts;
		for (unsigned e = 0; e < ARRAY_SIZE(v->exceptions); e++)
			s->exceptions += v->exceptions[e];
		add_engine_counters(s, v);
		add_pv_counters(s, v);
	}
}

/* A look in passing: the vCPU goes on meanwhile. */
static enum vm_vcpu_state state_now(const struct vcpu_thread *t)
{
	const struct vcpu *v = t->vcpu;

	switch ((enum vcpu_doing)t->doing) {
	case VCPU_IDLE:
		return VM_VCPU_HALTED;
	case VCPU_HELD:
		return VM_VCPU_HELD;
	case VCPU_ENGINE:
		if (__atomic_load_n(&v->lock_tsc, __ATOMIC_RELAXED))
			return VM_VCPU_DEVICE;
		return __atomic_load_n(&v->cpl, __ATOMIC_RELAXED) == 3 ? VM_VCPU_USER : VM_VCPU_KERNEL;
	case VCPU_NOTHING:
		break;
	}
	return VM_VCPU_OFF;
}

unsigned vm_vcpus_now(const struct vm *vm, struct vm_vcpu_now out[VM_CPUS_MAX])
{
	unsigned n = vm->n_vcpus;

	for (unsigned i = 0; i < n; i++)
		out[i] = (struct vm_vcpu_now){state_now(&vm->thread[i]), vcpu_thread_cpu_ns(&vm->thread[i])};
	return n;
}
