/* cpus.c - the machine's vCPUs: made, reset, run on their threads, taken down. */
#include <errno.h>

#include "vm/internal.h"

int vm_check_cpus(const struct vm_config *c, struct err *err)
{
	if (c->cpus > VM_CPUS_MAX)
		return err_set(err, EINVAL, "%u processors: between 1 and %d are possible", c->cpus,
			       VM_CPUS_MAX);
	return 0;
}

static bool should_stop(void *ctx)
{
	struct vm *vm = ctx;

	return atomic_load(&vm->events) != 0;
}

static void on_ended(void *ctx, struct vcpu *v, enum run_exit why)
{
	struct vm *vm = ctx;
	struct vcpu *none = NULL;

	if (why == RUN_SHUTDOWN && vm->cfg.reset_on_triple_fault) {
		log_warn(&vm->cfg.log, "vCPU %u: triple fault, resetting: %s", v->id,
			 v->stop_reason);
		vm_post(vm, EVENT_RESET);
		return;
	}
	if (atomic_compare_exchange_strong(&vm->ended_vcpu, &none, v))
		vm->ended_why = why;
	vm_post(vm, EVENT_ENDED);
}

/* A vCPU's number is its APIC ID. */
static struct vcpu *peer(struct vcpu *v, uint32_t apic_id)
{
	const struct vcpu_thread *t = v->owner;
	struct vm *vm = t->ctx;

	return apic_id < vm->n_vcpus ? vm->vcpu[apic_id] : NULL;
}

static int new_vcpu(struct vm *vm, unsigned id, struct err *err)
{
	struct vcpu_thread *t = &vm->thread[id];
	struct vcpu *v;
	int ret = vcpu_new(&v, id, &vm->model, vm->board->mem, vm->board->bus, err);

	if (ret < 0)
		return ret;
	vm->vcpu[id] = v;
	*t = (struct vcpu_thread){
		.vcpu = v, .should_stop = should_stop, .ended = on_ended, .ctx = vm};
	v->cpu_count = vm->cfg.cpus;
	v->log = &vm->cfg.log;
	v->owner = t;
	v->wake = vcpu_thread_wake;
	v->peer = peer;
	v->run_delay = vcpu_thread_run_delay;
	v->yield_to = vcpu_thread_yield;
	vm->n_vcpus++;
	ret = board_plug_cpu(vm->board, v, err);
	if (ret < 0)
		return ret;
	v->engine = vm->engine;
	v->config = &vm->cfg.engine_config;
	ret = vm->engine->vcpu_init ? vm->engine->vcpu_init(v, err) : 0;
	if (ret < 0)
		v->engine = NULL; /* nothing to take down */
	return ret;
}

int vm_new_vcpus(struct vm *vm, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg.cpus && ret == 0; i++)
		ret = new_vcpu(vm, i, err);
	return ret;
}

void vm_reset_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *v = vm->vcpu[i];

		vcpu_reset(v);
		/* All time-stamp counters are the host's, so that they agree to the cycle. */
		v->tsc_adjust = 0;
		v->tsc_offset = 0;
		v->wait_sipi = i > 0;
	}
}

void vm_match_vcpus(struct vm *vm)
{
	for (unsigned i = 1; i < vm->n_vcpus; i++)
		vm->vcpu[i]->mtrr_def_type = vm->vcpu[0]->mtrr_def_type;
}

uint32_t vm_run_vcpus(struct vm *vm, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->n_vcpus && ret == 0; i++)
		ret = vcpu_thread_start(&vm->thread[i], err);
	if (ret < 0)
		vm_post(vm, EVENT_STOP);
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_thread_join(&vm->thread[i]);
	return ret < 0 ? 0 : atomic_exchange(&vm->events, 0);
}

void vm_fini_engines(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		struct vcpu *v = vm->vcpu[i];

		if (v->engine && v->engine->vcpu_fini)
			v->engine->vcpu_fini(v);
		v->engine = NULL;
	}
}

void vm_free_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_free(vm->vcpu[i]);
}
