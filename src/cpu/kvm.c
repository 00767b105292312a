/* The KVM paravirtual interface: its MSRs, PV EOI and hypercalls. See kvm.h. */
#include "cpu/kvm.h"

#include <errno.h>

#include "cpu/system.h"
#include "x86/feature.h"

void cpu_kvm_reset(struct vcpu *v)
{
	v->kvm.system_time = v->kvm.wall_clock = v->kvm.steal_time = v->kvm.pv_eoi = v->kvm.eoi_offered = 0;
	v->kvm.poll_control = 1;
	v->kvm.kicked = false;
}

/* What each MSR is, which feature brings it, and the bits that must be 0. */
struct kvm_msr {
	uint32_t msr;
	uint16_t feature, offset;
	uint64_t reserved;
	void (*written)(struct vcpu *v);
};

#define MSR(num, feat, field, zero, fn) {num, feat, offsetof(struct vcpu, kvm.field), zero, fn}
static const struct kvm_msr msrs[] = {
	MSR(MSR_KVM_SYSTEM_TIME_NEW, FEAT_KVM_CLOCK, system_time, 0, cpu_kvm_clock_update),
	MSR(MSR_KVM_SYSTEM_TIME, FEAT_KVM_CLOCK, system_time, 0, cpu_kvm_clock_update),
	MSR(MSR_KVM_WALL_CLOCK_NEW, FEAT_KVM_CLOCK, wall_clock, 0, cpu_kvm_wall_clock),
	MSR(MSR_KVM_WALL_CLOCK, FEAT_KVM_CLOCK, wall_clock, 0, cpu_kvm_wall_clock),
	MSR(MSR_KVM_STEAL_TIME, FEAT_KVM_STEAL_TIME, steal_time, BITS(5, 1), cpu_kvm_steal_begin),
	MSR(MSR_KVM_PV_EOI, FEAT_KVM_PV_EOI, pv_eoi, BIT(1), NULL),
	MSR(MSR_KVM_POLL_CONTROL, FEAT_KVM_POLL_CONTROL, poll_control, ~1ULL, NULL),
};

static const struct kvm_msr *find(uint32_t msr)
{
	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
		if (msrs[i].msr == msr)
			return &msrs[i];
	return NULL;
}

static uint64_t *field(struct vcpu *v, const struct kvm_msr *m)
{
	return (uint64_t *)((char *)v + m->offset);
}

int cpu_kvm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const struct kvm_msr *m = find(msr);

	if (!m)
		return -ENOENT;
	if (!cpu_has(v->model, m->feature))
		return -EINVAL;
	*val = *field(v, m);
	return 0;
}

int cpu_kvm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	const struct kvm_msr *m = find(msr);

	if (!m)
		return -ENOENT;
	if (!cpu_has(v->model, m->feature) || (val & m->reserved))
		return -EINVAL;
	*field(v, m) = val;
	if (m->written)
		m->written(v);
	return 0;
}

bool cpu_kvm_eoi_offer(struct vcpu *v)
{
	uint64_t gpa = v->kvm.pv_eoi & ~(uint64_t)KVM_MSR_ENABLED;
	_Atomic uint8_t *bit;

	if (!(v->kvm.pv_eoi & KVM_MSR_ENABLED))
		return false;
	bit = cpu_kvm_shared(v, gpa, 4, 4);
	if (!bit)
		return false;
	atomic_store(bit, KVM_PV_EOI_OFFERED);
	guest_mem_wrote(v->mem, GPA(gpa), 1);
	v->kvm.eoi_offered = gpa | 1; /* a new address does not take the offer along */
	return true;
}

bool cpu_kvm_eoi_withdraw(struct vcpu *v)
{
	uint64_t gpa = v->kvm.eoi_offered & ~1ULL;
	_Atomic uint8_t *bit = v->kvm.eoi_offered ? cpu_kvm_shared(v, gpa, 4, 4) : NULL;

	v->kvm.eoi_offered = 0;
	if (!bit)
		return false;
	if (!(atomic_exchange(bit, 0) & KVM_PV_EOI_OFFERED)) {
		v->kvm.eois++;
		return true;
	}
	guest_mem_wrote(v->mem, GPA(gpa), 1);
	return false;
}

void cpu_kvm_kick(struct vcpu *v)
{
	v->kvm.kicked = true;
	vcpu_request(v, CPU_REQ_KICK);
}

void cpu_kvm_stood_still(struct vcpu *v)
{
	v->kvm.stood_still = true;
	vcpu_request(v, CPU_REQ_KICK);
}

static struct vcpu *peer(struct vcpu *v, uint32_t apic_id)
{
	if (v->peer)
		return v->peer(v, apic_id);
	return apic_id == v->id ? v : NULL;
}

static int64_t kick_cpu(struct vcpu *v, uint64_t apic_id)
{
	struct vcpu *to = apic_id <= UINT32_MAX ? peer(v, (uint32_t)apic_id) : NULL;

	if (to) {
		v->kvm.kicks++;
		cpu_kvm_kick(to);
	}
	return 0;
}

/* A hint: the caller waits for that vCPU. */
static int64_t yield(struct vcpu *v, uint64_t apic_id)
{
	if (apic_id > UINT32_MAX || apic_id == v->id || !v->yield_to || !peer(v, (uint32_t)apic_id))
		return 0;
	v->kvm.yields++;
	cpu_kvm_leave(v);
	v->yield_to(v, (uint32_t)apic_id);
	cpu_kvm_enter(v);
	return 0;
}

#define ICR_VECTOR_AND_MODE 0x7ffu
#define ICR_DEST_AND_SHORTHAND (BIT(11) | BITS(19, 18))

/* How many there are to send to. */
static int64_t send_ipi(struct vcpu *v, const uint64_t bitmap[2], uint64_t first, uint64_t icr, unsigned width)
{
	int64_t sent = 0;

	if (icr & ICR_DEST_AND_SHORTHAND)
		return -KVM_EINVAL;
	if (!v->apic || !v->apic->send)
		return -KVM_ENOSYS;
	if (first > UINT32_MAX - 2 * width)
		return 0;
	cpu_lock(v);
	for (unsigned i = 0; i < 2 * width; i++) {
		uint32_t id = (uint32_t)first + i;

		if (!(bitmap[i / width] >> (i % width) & 1) || !peer(v, id))
			continue;
		v->apic->send(v->apic->ctx, (uint32_t)icr & ICR_VECTOR_AND_MODE, id);
		sent++;
	}
	cpu_unlock(v);
	v->kvm.ipis += (uint64_t)sent;
	return sent;
}

int64_t cpu_kvm_hypercall(struct vcpu *v, uint64_t number, const uint64_t arg[4], bool wide)
{
	const struct cpu_model *m = v->model;

	cpu_fpu_spill(v); /* the machine's functions, below */
	if (v->cpl)
		return -KVM_EPERM;
	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_KICK_CPU:
		return cpu_has(m, FEAT_KVM_PV_UNHALT) ? kick_cpu(v, arg[1]) : -KVM_ENOSYS;
	case KVM_HC_CLOCK_PAIRING:
		return cpu_has(m, FEAT_KVM_CLOCK) ? cpu_kvm_clock_pairing(v, arg[0], arg[1]) : -KVM_ENOSYS;
	case KVM_HC_SEND_IPI:
		return cpu_has(m, FEAT_KVM_PV_IPI) ? send_ipi(v, arg, arg[2], arg[3], wide ? 64 : 32) : -KVM_ENOSYS;
	case KVM_HC_SCHED_YIELD:
		return cpu_has(m, FEAT_KVM_PV_SCHED_YIELD) ? yield(v, arg[0]) : -KVM_ENOSYS;
	default:
		return -KVM_ENOSYS;
	}
}

unsigned cpu_kvm_counters(const struct vcpu *v, struct engine_counter *out, unsigned max)
{
	const struct engine_counter all[] = {
		{"stolen_ns", "stolen time, as told", "ns", v->kvm.stolen_ns},
		{"flushes", "TLB flushes left to a vCPU", "", v->kvm.flushes},
		{"ipis", "interrupts sent by hypercall", "", v->kvm.ipis},
		{"eois", "interrupts ended in memory", "", v->kvm.eois},
		{"kicks", "kicks out of HLT", "", v->kvm.kicks},
		{"yields", "yields", "", v->kvm.yields},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all) && i < max; i++)
		out[i] = all[i];
	return ARRAY_SIZE(all);
}
