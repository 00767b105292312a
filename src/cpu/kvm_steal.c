/*
 * The KVM paravirtual steal time: a record in guest memory says for how long this vCPU was ready but did not run, and
 * whether it runs now.
 *
 * Theory of operation. `steal` follows what the host's scheduler says of this thread (run_delay(), a system call),
 * and so is looked at where the guest is about to read it: before its timer interrupt, when the thread enters the
 * engine; no more often than once a millisecond. `preempted` is the monitor's while 0: leave() sets PREEMPTED. From
 * then on other vCPUs may set FLUSH_TLB beside it, with a locked compare-and-exchange, instead of waiting for this one;
 * enter() takes both bits by one exchange and flushes before any guest code runs. A vCPU that the host has
 * preempted in the midst of the engine is not marked: the thread cannot know before it runs again.
 */
#include "cpu/kvm.h"
#include "cpu/system.h"
#include "x86/feature.h"

static struct kvm_steal_time *record(struct vcpu *v, uint64_t *gpa)
{
	*gpa = v->kvm.steal_time & ~(uint64_t)KVM_MSR_ENABLED;
	if (!(v->kvm.steal_time & KVM_MSR_ENABLED))
		return NULL;
	return cpu_kvm_shared(v, *gpa, sizeof(struct kvm_steal_time), sizeof(struct kvm_steal_time));
}

static uint64_t delay_ns(struct vcpu *v)
{
	return v->kvm.held_ns + (v->run_delay ? v->run_delay(v) : 0);
}

static void add_steal(struct vcpu *v, struct kvm_steal_time *st, uint64_t gpa, uint64_t ns)
{
	_Atomic uint32_t *version = (_Atomic uint32_t *)&st->version;
	_Atomic uint64_t *steal = (_Atomic uint64_t *)&st->steal;
	uint32_t n = (*version + 1) | 1;

	atomic_store(version, n);
	/* On top of what is there: the guest says where the count begins, and takes it along through hot-plug. */
	atomic_store(steal, *steal + ns);
	atomic_store(version, n + 1);
	guest_mem_wrote(v->mem, GPA(gpa), sizeof(*st));
	v->kvm.stolen_ns += ns;
}

static void update(struct vcpu *v, struct kvm_steal_time *st, uint64_t gpa)
{
	uint64_t now = __builtin_ia32_rdtsc(), delay;

	if (now - v->kvm.steal_tsc < v->model->tsc_hz / 1000)
		return;
	v->kvm.steal_tsc = now;
	cpu_fpu_spill(v); /* run_delay() is the machine's */
	delay = delay_ns(v);
	if (delay > v->kvm.steal_seen)
		add_steal(v, st, gpa, delay - v->kvm.steal_seen);
	v->kvm.steal_seen = max_u64(delay, v->kvm.steal_seen);
}

/* What was stolen before does not count. */
void cpu_kvm_steal_begin(struct vcpu *v)
{
	if (!(v->kvm.steal_time & KVM_MSR_ENABLED))
		return;
	cpu_fpu_spill(v);
	v->kvm.steal_seen = delay_ns(v);
	v->kvm.steal_tsc = 0;
	cpu_kvm_enter(v);
}

void cpu_kvm_tick(struct vcpu *v)
{
	uint64_t gpa;
	struct kvm_steal_time *st = record(v, &gpa);

	if (st)
		update(v, st, gpa);
}

void cpu_kvm_held(struct vcpu *v, uint64_t ns)
{
	v->kvm.held_ns += ns;
}

void cpu_kvm_leave(struct vcpu *v)
{
	uint64_t gpa;
	struct kvm_steal_time *st = record(v, &gpa);
	uint8_t runs = 0;

	/* Not over FLUSH_TLB, if it is set already. */
	if (st && atomic_compare_exchange_strong((_Atomic uint8_t *)&st->preempted, &runs, KVM_STEAL_PREEMPTED))
		guest_mem_wrote(v->mem, GPA(gpa), sizeof(*st));
}

void cpu_kvm_enter(struct vcpu *v)
{
	uint64_t gpa;
	struct kvm_steal_time *st = record(v, &gpa);
	_Atomic uint8_t *preempted;
	uint8_t was;

	if (!st)
		return;
	preempted = (_Atomic uint8_t *)&st->preempted;
	was = atomic_exchange(preempted, 0);
	if (was)
		guest_mem_wrote(v->mem, GPA(gpa), sizeof(*st));
	if ((was & KVM_STEAL_FLUSH_TLB) && cpu_has(v->model, FEAT_KVM_PV_TLB_FLUSH)) {
		v->kvm.flushes++;
		mmu_flush(&v->mmu);
	}
	update(v, st, gpa);
}
