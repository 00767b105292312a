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

#define NS_PER_S 1000000000ULL
#define STOOD_STILL_NS NS_PER_S

static struct kvm_steal_time *record(struct vcpu *v, uint64_t *gpa)
{
	*gpa = v->kvm.steal_time & ~(uint64_t)KVM_MSR_ENABLED;
	if (!(v->kvm.steal_time & KVM_MSR_ENABLED))
		return NULL;
	return cpu_kvm_shared(v, *gpa, sizeof(struct kvm_steal_time), sizeof(struct kvm_steal_time));
}

static uint64_t delay_ns(struct vcpu *v, uint64_t *ran_ns)
{
	*ran_ns = v->kvm.ran_ns;
	return v->kvm.held_ns + (v->run_delay ? v->run_delay(v, ran_ns) : 0);
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

/* It had work to do, a second has gone by, and it has not run: the guest must not take that for a hang of its own. */
static void check_stood_still(struct vcpu *v, uint64_t cycles, uint64_t ran_ns)
{
	uint64_t hz = v->model->tsc_hz, wall = cycles / hz * NS_PER_S + cycles % hz * NS_PER_S / hz;

	if (v->run_delay && wall > ran_ns && wall - ran_ns > STOOD_STILL_NS)
		cpu_kvm_clock_stopped(v);
}

/* had_work: the thread has not slept since the last look, or no more than a millisecond. */
static void look(struct vcpu *v, bool had_work)
{
	uint64_t now = __builtin_ia32_rdtsc(), cycles = now - v->kvm.looked_tsc, delay, ran, gpa;
	struct kvm_steal_time *st;

	if (cycles < v->model->tsc_hz / 1000 || !((v->kvm.steal_time | v->kvm.system_time) & KVM_MSR_ENABLED))
		return;
	cpu_fpu_spill(v); /* run_delay() is the machine's */
	delay = delay_ns(v, &ran);
	if (had_work && v->kvm.looked_tsc)
		check_stood_still(v, cycles, ran - v->kvm.ran_ns);
	v->kvm.looked_tsc = now;
	v->kvm.ran_ns = ran;
	st = record(v, &gpa);
	if (st && delay > v->kvm.steal_seen)
		add_steal(v, st, gpa, delay - v->kvm.steal_seen);
	v->kvm.steal_seen = max_u64(delay, v->kvm.steal_seen);
}

/* What was stolen before does not count. */
void cpu_kvm_steal_begin(struct vcpu *v)
{
	if (!(v->kvm.steal_time & KVM_MSR_ENABLED))
		return;
	cpu_fpu_spill(v);
	v->kvm.steal_seen = delay_ns(v, &v->kvm.ran_ns);
	v->kvm.looked_tsc = __builtin_ia32_rdtsc();
	cpu_kvm_enter(v);
}

void cpu_kvm_tick(struct vcpu *v)
{
	look(v, true);
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

/* Takes both bits, and does what was promised. */
static void run_again(struct vcpu *v, struct kvm_steal_time *st, uint64_t gpa)
{
	uint8_t was = atomic_exchange((_Atomic uint8_t *)&st->preempted, 0);

	if (was)
		guest_mem_wrote(v->mem, GPA(gpa), sizeof(*st));
	if ((was & KVM_STEAL_FLUSH_TLB) && cpu_has(v->model, FEAT_KVM_PV_TLB_FLUSH)) {
		v->kvm.flushes++;
		mmu_flush(&v->mmu);
	}
}

void cpu_kvm_enter(struct vcpu *v)
{
	uint64_t gpa;
	struct kvm_steal_time *st = record(v, &gpa);

	if (st)
		run_again(v, st, gpa);
	look(v, false);
}
