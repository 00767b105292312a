/*
 * hotplug.c - processors that come and go while the machine runs.
 *
 * Theory of operation. A processor is present (its bit in `present` is set and its thread runs) or not. It comes when
 * the machine says so: vm_run()'s thread makes the vCPU, or takes one that was let go before, and tells the guest
 * through the hot-plug registers and a general-purpose event; the guest starts it with INIT and a start-up IPI like
 * any other. It goes when the guest says so, by ejecting it; all the machine can do is ask. vCPUs that the guest has
 * let go are kept, in their reset state and without a thread, until the machine ends.
 *
 * All this happens while no vCPU runs, so nothing that a vCPU looks at changes under it. A hostile guest can make the
 * machine stop for such a moment once for each processor that it was given, no more.
 *
 * want_cpus is what was asked for last. A guest that ejects a processor unasked thereby wants one less.
 */
#include <errno.h>
#include <stdio.h>

#include "vm/internal.h"

static unsigned count(uint64_t set)
{
	return (unsigned)__builtin_popcountll(set);
}

static unsigned highest(uint64_t set)
{
	return 63 - (unsigned)__builtin_clzll(set);
}

void vm_cpu_ejected(void *ctx, unsigned cpu)
{
	struct vm *vm = ctx;

	atomic_fetch_or(&vm->ejected, BIT(cpu));
	vm_post(vm, EVENT_EJECT);
}

/* Others must not wait for it to follow their writes to code. */
static void retire(struct vm *vm, uint64_t gone)
{
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		if (gone >> i & 1)
			code_user_retire(&vm->vcpu[i]->mmu.code);
}

static void let_go(struct vm *vm, uint64_t ejected)
{
	uint64_t unasked = ejected & ~vm->leaving;

	vm->present &= ~ejected;
	vm->leaving &= ~ejected;
	for (unsigned i = 0; i < vm->n_vcpus; i++) {
		if (!(ejected >> i & 1))
			continue;
		vm_reset_vcpu(vm, i);
		board_reset_cpu(vm->board, i);
	}
	retire(vm, ejected);
	if (unasked)
		vm->want_cpus = (unsigned)min_u64(vm->want_cpus, count(vm->present));
}

static int plug_one(struct vm *vm, struct err *err)
{
	unsigned id = (unsigned)__builtin_ctzll(~vm->present);
	int ret = id == vm->n_vcpus ? vm_new_vcpu(vm, err) : 0;

	if (ret < 0)
		return ret;
	vm_reset_vcpu(vm, id);
	vm_match_vcpus(vm);
	board_reset_cpu(vm->board, id);
	vm->present |= BIT(id);
	board_cpu_comes(vm->board, id);
	return 0;
}

static int plug(struct vm *vm, struct err *err)
{
	int ret = 0;

	while (ret == 0 && count(vm->present) < vm->want_cpus)
		ret = plug_one(vm, err);
	if (ret < 0) {
		log_error(&vm->cfg.log, "no %u processors: %s", vm->want_cpus, err->text);
		vm->want_cpus = count(vm->present);
	}
	return ret;
}

/* The highest go first. Who was asked before is asked again: the guest may have had its reasons then. */
static void ask_to_leave(struct vm *vm)
{
	uint64_t rest = vm->present;

	while (count(rest) > vm->want_cpus) {
		unsigned id = highest(rest);

		rest &= ~BIT(id);
		vm->leaving |= BIT(id);
		board_cpu_should_go(vm->board, id);
	}
}

void vm_settle_cpus(struct vm *vm, uint32_t events)
{
	struct err err = {""};
	char text[64];

	if (events & EVENT_EJECT)
		let_go(vm, atomic_exchange(&vm->ejected, 0));
	if (events & EVENT_CPUS)
		ask_to_leave(vm);
	if (plug(vm, &err) < 0) {
		vm_tell(vm, VM_NEWS_CPUS, err.text);
		return;
	}
	snprintf(text, sizeof(text), "%u of %u", count(vm->present), vm->want_cpus);
	vm_tell(vm, VM_NEWS_CPUS, text);
}

/* A reset takes what was asked for: the guest has nothing running on the others any more. */
void vm_reset_cpus(struct vm *vm)
{
	uint64_t before = vm->present;

	vm->present &= ~atomic_exchange(&vm->ejected, 0);
	while (count(vm->present) > vm->want_cpus)
		vm->present &= ~BIT(highest(vm->present));
	vm->leaving = 0;
	retire(vm, before & ~vm->present);
}

int vm_set_cpus(struct vm *vm, unsigned n, struct err *err)
{
	if (n < 1 || n > vm->cfg.max_cpus)
		return err_set(err, EINVAL, "%u processors: between 1 and %u are possible", n,
			       vm->cfg.max_cpus);
	atomic_store(&vm->want_cpus, n);
	vm_post(vm, EVENT_CPUS);
	return 0;
}
