/*
 * kvm_para.h - the KVM paravirtual interface in numbers: CPUID bits, MSRs, structures in guest memory, hypercalls.
 * After the Linux kernel's Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst.
 */
#ifndef RINGER_ABI_KVM_PARA_H
#define RINGER_ABI_KVM_PARA_H

#include <stdint.h>

#define KVM_CPUID_SIGNATURE 0x40000000u /* EBX, ECX, EDX: "KVMKVMKVM" */
#define KVM_CPUID_FEATURES 0x40000001u  /* EAX: the bits below; EDX: hints */

enum kvm_feature_bit {
	KVM_FEATURE_CLOCKSOURCE = 0, /* the clock's MSRs of old */
	KVM_FEATURE_NOP_IO_DELAY = 1,
	KVM_FEATURE_CLOCKSOURCE2 = 3,
	KVM_FEATURE_ASYNC_PF = 4,
	KVM_FEATURE_STEAL_TIME = 5,
	KVM_FEATURE_PV_EOI = 6,
	KVM_FEATURE_PV_UNHALT = 7,
	KVM_FEATURE_PV_TLB_FLUSH = 9,
	KVM_FEATURE_PV_SEND_IPI = 11,
	KVM_FEATURE_POLL_CONTROL = 12,
	KVM_FEATURE_PV_SCHED_YIELD = 13,
	KVM_FEATURE_ASYNC_PF_INT = 14,
	KVM_FEATURE_CLOCKSOURCE_STABLE = 24,
};

/* In all of them that name an address, bit 0 enables. */
#define MSR_KVM_WALL_CLOCK 0x11u
#define MSR_KVM_SYSTEM_TIME 0x12u
#define MSR_KVM_WALL_CLOCK_NEW 0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define MSR_KVM_STEAL_TIME 0x4b564d03u
#define MSR_KVM_PV_EOI 0x4b564d04u
#define MSR_KVM_POLL_CONTROL 0x4b564d05u /* bit 0: the host may poll while this CPU is in HLT; 1 at first */
#define KVM_MSR_ENABLED 1u

/*
 * The clock page of one vCPU. An odd version means that it is being written. Nanoseconds at TSC t:
 * system_time + ((t - tsc_timestamp) << tsc_shift) * tsc_to_system_mul / 2^32, a negative shift being one to the right.
 */
struct kvm_clock {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};
#define KVM_CLOCK_TSC_STABLE 1u    /* the clocks of all vCPUs are one */
#define KVM_CLOCK_GUEST_STOPPED 2u /* the machine stood still; the guest clears it */

/* Wall-clock time at which system time was 0. */
struct kvm_wall_clock {
	uint32_t version, sec, nsec;
};

/* 64 bytes on a 64-byte boundary. */
struct kvm_steal_time {
	uint64_t steal;    /* ns that this vCPU was ready but did not run */
	uint32_t version;  /* odd: being written */
	uint32_t flags;    /* 0 */
	uint8_t preempted; /* written with locked operations by both sides */
	uint8_t pad[47];
};
#define KVM_STEAL_PREEMPTED 1u /* by the host: this vCPU does not run now */
#define KVM_STEAL_FLUSH_TLB 2u /* by the guest, while the other is set: drop the TLB before it does */

#define KVM_PV_EOI_OFFERED 1u /* bit 0 of the byte that MSR_KVM_PV_EOI names; clearing it ends the interrupt */

/* RAX the number, RBX, RCX, RDX, RSI the arguments; RAX the result, negative for errors. */
enum kvm_hypercall {
	KVM_HC_VAPIC_POLL_IRQ = 1,
	KVM_HC_KICK_CPU = 5,       /* flags (0), APIC ID */
	KVM_HC_CLOCK_PAIRING = 9,  /* address, clock */
	KVM_HC_SEND_IPI = 10,      /* bitmap (low, high), the APIC ID of its bit 0, ICR */
	KVM_HC_SCHED_YIELD = 11,   /* APIC ID */
};

enum kvm_error { KVM_EPERM = 1, KVM_EFAULT = 14, KVM_EINVAL = 22, KVM_EOPNOTSUPP = 95, KVM_ENOSYS = 1000 };

#define KVM_CLOCK_PAIRING_WALLCLOCK 0u
struct kvm_clock_pairing {
	int64_t sec, nsec; /* the host's wall clock */
	uint64_t tsc;      /* the guest's TSC at that time */
	uint32_t flags;    /* 0 */
	uint32_t pad[9];
};

#endif
