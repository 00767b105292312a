/*
 * kvm.h - the KVM paravirtual interface, served by every engine alike: clock, steal time, kicks out of HLT, TLB
 * flushes that wait, interrupt ends without an access to the APIC, hypercalls. docs/paravirt.md; abi/kvm_para.h has the
 * numbers.
 *
 * What a guest registers is an address of its own choosing. It is looked up anew at each use; where it is no RAM, or not
 * aligned as the interface asks, nothing is written, as KVM does it. What is read there is never trusted: it can only
 * change what that guest sees.
 *
 * All on the vCPU's own thread, or while it does not run, except where stated.
 */
#ifndef RINGER_CPU_KVM_H
#define RINGER_CPU_KVM_H

#include "cpu/engine.h"
#include "kvm_para.h"

/* RESET# and INIT: nothing is registered. */
void cpu_kvm_reset(struct vcpu *v);

/* -ENOENT: not one of the interface's; -EINVAL: #GP(0). */
int cpu_kvm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val) must_check;
int cpu_kvm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val) must_check;

/* The result of a hypercall with these arguments; 64-bit ones if wide. */
int64_t cpu_kvm_hypercall(struct vcpu *v, uint64_t number, const uint64_t arg[4], bool wide);

/*
 * This thread is about to run guest code; or will not for a while. In between the guest may ask for a flush of the
 * TLB, which is done by enter(). leave() twice is leave() once. Whoever keeps a vCPU from running calls both: its
 * thread's loop around the engine, a scheduler that holds it back.
 */
void cpu_kvm_enter(struct vcpu *v);
void cpu_kvm_leave(struct vcpu *v);

/* Tells the guest its steal time, if that has not been done for a millisecond. Vector state: spilled when it is due. */
void cpu_kvm_tick(struct vcpu *v);
/* The monitor itself kept the vCPU from running for so long, though it was ready: that is stolen time too. */
void cpu_kvm_held(struct vcpu *v, uint64_t ns);

/* The machine stood still, and the guest's watchdogs shall forgive it. For every vCPU, before it runs again. */
void cpu_kvm_clock_stopped(struct vcpu *v);
/* The same, while it may be running; before it takes another interrupt. Any thread, also in a signal handler. */
void cpu_kvm_stood_still(struct vcpu *v);

/* Ends the HLT that v is in, or else its next one. Any thread. */
void cpu_kvm_kick(struct vcpu *v);
/* What CPU_REQ_KICK stands for, but for the kick itself. */
static inline void cpu_kvm_kicked(struct vcpu *v)
{
	if (atomic_exchange(&v->kvm.stood_still, false))
		cpu_kvm_clock_stopped(v);
}
/* Takes the kick, if there is one. */
static inline bool cpu_kvm_take_kick(struct vcpu *v)
{
	return unlikely(v->kvm.kicked) && atomic_exchange(&v->kvm.kicked, false);
}

/*
 * PV EOI, for the APIC's side (bus/irq.h). offer: the guest may end the interrupt it gets now by clearing a bit in its
 * memory; false: it cannot. withdraw: takes that back; true when the guest has used it. Both on v's thread.
 */
bool cpu_kvm_eoi_offer(struct vcpu *v);
bool cpu_kvm_eoi_withdraw(struct vcpu *v);

/* Figures about v: at most max of them; returns how many there are. Any thread: they may be a little old. */
unsigned cpu_kvm_counters(const struct vcpu *v, struct engine_counter *out, unsigned max);

/* MSR_KVM_STEAL_TIME was written. */
void cpu_kvm_steal_begin(struct vcpu *v);
/* Clock page and wall clock, from v's MSRs. */
void cpu_kvm_clock_update(struct vcpu *v);
void cpu_kvm_wall_clock(struct vcpu *v);
/* KVM_HC_CLOCK_PAIRING: 0 or a negative enum kvm_error. */
int64_t cpu_kvm_clock_pairing(struct vcpu *v, uint64_t gpa, uint64_t clock);

/* Host address of an aligned structure of `size` bytes in one page of RAM, or NULL. align: a power of two */
static inline void *cpu_kvm_shared(struct vcpu *v, uint64_t gpa, uint64_t size, uint64_t align)
{
	return gpa & (align - 1) ? NULL : guest_ptr(v->mem, GPA(gpa), size);
}

#endif
