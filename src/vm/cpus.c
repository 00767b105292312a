/* cpus.c - the machine's vCPUs: made, reset, run on their threads, taken down. */
#include <errno.h>
#include <sched.h>

#include "vm/internal.h"

static int check_pins(const struct vm_config *c, struct err *err)
{
	cpu_set_t allowed;

	if (!c->n_pins)
		return 0;
	if (c->n_pins > VM_CPUS_MAX)
		return err_set(err, EINVAL, "%u host CPUs to pin to: at most %d", c->n_pins, VM_CPUS_MAX);
	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	for (unsigned i = 0; i < c->n_pins; i++)
		if (!CPU_ISSET(c->pin[i], &allowed))
			return err_set(err, EINVAL, "host CPU %u is not there or not allowed to this process",
				       c->pin[i]);
	return 0;
}

int vm_check_cpus(struct vm_config *c, struct err *err)
{
	c->cpus = (unsigned)max_u64(c->cpus, 1);
	if (!c->max_cpus)
		c->max_cpus = c->cpus;
	if (c->cpus > VM_CPUS_MAX || c->max_cpus > VM_CPUS_MAX)
		return err_set(err, EINVAL, "%u processors: between 1 and %d are possible",
			       (unsigned)max_u64(c->cpus, c->max_cpus), VM_CPUS_MAX);
	if (c->max_cpus < c->cpus)
		return err_set(err, EINVAL, "%u processors, but at most %u", c->cpus, c->max_cpus);
	if (c->halt_poll > 1000)
		return err_set(err, EINVAL, "%u us of polling: at most 1000", c->halt_poll);
	if (c->nice > 19)
		return err_set(err, EINVAL, "nice %u: at most 19", c->nice);
	return check_pins(c, err);
}

/* How many vCPUs can run at a time. */
static unsigned host_cpus(const struct vm_config *c)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	if (c->n_pins) {
		CPU_ZERO(&cpus);
		for (unsigned i = 0; i < c->n_pins; i++)
			CPU_SET(c->pin[i], &cpus);
	}
	return (unsigned)max_u64((unsigned)CPU_COUNT(&cpus), 1);
}

/* Without a policy and without a cap there is nothing to do. */
int vm_new_sched(struct vm *vm, struct err *err)
{
	struct vm_config *c = &vm->cfg;
	const struct sched_config config = {
		.policy = c->sched ? sched_find(c->sched) : sched_policies[0],
		.slots = c->sched_slots ? c->sched_slots : host_cpus(c),
		.slice_ns = c->sched_slice_ns,
		.cap_percent = c->cpu_cap,
	};

	if (!config.policy)
		return err_set(err, EINVAL, "no scheduling policy is called '%.32s'", c->sched);
	c->sched = config.policy->name;
	if (!config.policy->slots && !config.cap_percent)
		return 0;
	return sched_new(&vm->sched, &config, err);
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

static void connect_vcpu(struct vm *vm, struct vcpu *v)
{
	struct vcpu_thread *t = &vm->thread[v->id];

	*t = (struct vcpu_thread){
		.vcpu = v, .should_stop = should_stop, .ended = on_ended, .ctx = vm,
		.sched = sched_vcpu_sched(vm->sched), .nice = (int)vm->cfg.nice,
		.halt_poll.cycles = vm->cfg.halt_poll * (vm->model.tsc_hz / 1000000),
		.host_cpu = vm->cfg.n_pins ? vm->cfg.pin[v->id % vm->cfg.n_pins] : -1};
	v->cpu_count = vm->cfg.max_cpus;
	v->log = &vm->cfg.log;
	v->owner = t;
	v->wake = vcpu_thread_wake;
	v->peer = peer;
	v->run_delay = vcpu_thread_run_delay;
	v->yield_to = vcpu_thread_yield;
	v->config = &vm->cfg.engine_config;
}

/* Devices go on while a processor is plugged in, and an engine's set-up may not meet them (mem.h). */
static int init_engine(struct vm *vm, struct vcpu *v, struct err *err)
{
	int ret;

	loop_lock(vm->loop);
	v->engine = vm->engine;
	ret = vm->engine->vcpu_init ? vm->engine->vcpu_init(v, err) : 0;
	if (ret < 0)
		v->engine = NULL; /* nothing to take down */
	loop_unlock(vm->loop);
	return ret;
}

int vm_new_vcpu(struct vm *vm, struct err *err)
{
	unsigned id = vm->n_vcpus;
	struct vcpu *v;
	int ret = vcpu_new(&v, id, &vm->model, vm->board->mem, vm->board->bus, err);

	if (ret < 0)
		return ret;
	connect_vcpu(vm, v);
	ret = board_plug_cpu(vm->board, v, err);
	if (ret < 0)
		goto free_vcpu;
	ret = init_engine(vm, v, err);
	if (ret < 0)
		goto unplug;
	vm->vcpu[id] = v;
	vm->n_vcpus = id + 1;
	return 0;
unplug:
	board_unplug_cpu(vm->board);
free_vcpu:
	vcpu_free(v);
	return ret;
}

int vm_new_vcpus(struct vm *vm, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg.cpus && ret == 0; i++)
		ret = vm_new_vcpu(vm, err);
	vm->present = BITS(vm->cfg.cpus - 1, 0);
	vm->want_cpus = vm->cfg.cpus;
	return ret;
}

void vm_reset_vcpu(struct vm *vm, unsigned id)
{
	struct vcpu *v = vm->vcpu[id];

	vcpu_reset(v);
	/* All time-stamp counters are the host's, so that they agree to the cycle. */
	v->tsc_adjust = 0;
	v->tsc_offset = 0;
	v->wait_sipi = id > 0;
}

void vm_reset_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vm_reset_vcpu(vm, i);
}

void vm_match_vcpus(struct vm *vm)
{
	for (unsigned i = 1; i < vm->n_vcpus; i++)
		vm->vcpu[i]->mtrr_def_type = vm->vcpu[0]->mtrr_def_type;
}

uint32_t vm_run_vcpus(struct vm *vm, struct err *err)
{
	int ret = vm->sched ? sched_start(vm->sched, err) : 0;

	for (unsigned i = 0; i < vm->n_vcpus && ret == 0; i++)
		if (vm->present >> i & 1)
			ret = vcpu_thread_start(&vm->thread[i], err);
	if (ret < 0)
		vm_post(vm, EVENT_STOP);
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_thread_join(&vm->thread[i]);
	if (vm->sched)
		sched_stop(vm->sched);
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
