/*
 * The KVM paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst, cpuid.rst): a page in guest memory that
 * turns the guest's TSC into nanoseconds, and the wall-clock time at which that count was zero. The TSC neither
 * stops nor is scaled here, so one update when the guest registers the page lasts until the next.
 */
#include <time.h>

#include "cpu/system.h"

struct pvclock_time {
	uint32_t version; /* odd while the host writes */
	uint32_t pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};

struct pvclock_wall {
	uint32_t version, sec, nsec;
};

#define PVCLOCK_TSC_STABLE 1
#define PVCLOCK_GUEST_STOPPED 2

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ns = (shift >= 0 ? tsc << shift : tsc >> -shift) * mul / 2^32 */
static void tsc_scale(uint64_t hz, uint32_t *mul, int8_t *shift)
{
	uint64_t scaled = 1000000000, tps = hz;
	int s = 0;

	while (tps > scaled * 2) {
		tps >>= 1;
		s--;
	}
	while (tps <= scaled) {
		tps <<= 1;
		s++;
	}
	*shift = (int8_t)s;
	*mul = (uint32_t)((unsigned __int128)scaled * (1ULL << 32) / tps);
}

static uint64_t tsc_to_ns(uint64_t tsc, uint32_t mul, int8_t shift)
{
	tsc = shift >= 0 ? tsc << shift : tsc >> -shift;
	return (uint64_t)((unsigned __int128)tsc * mul >> 32);
}

void cpu_kvm_clock_update(struct vcpu *v)
{
	struct pvclock_time t = {.version = 2, .flags = PVCLOCK_TSC_STABLE};

	if (!(v->kvm_system_time & 1))
		return;
	tsc_scale(v->model->tsc_hz, &t.tsc_to_system_mul, &t.tsc_shift);
	/*
	 * Time since the host's TSC was zero, whatever the guest has written to its own: the same line for every vCPU,
	 * so no vCPU's clock is behind another's.
	 */
	t.tsc_timestamp = (uint64_t)v->tsc_offset;
	t.system_time = 0;
	(void)!guest_write(v->mem, GPA(v->kvm_system_time & ~1ULL), &t, sizeof(t));
}

void cpu_kvm_wall_clock(struct vcpu *v, uint64_t gpa)
{
	struct pvclock_wall w = {.version = 2};
	uint32_t mul;
	int8_t shift;
	uint64_t boot;

	cpu_fpu_spill(v); /* clock_gettime() is libc's */
	tsc_scale(v->model->tsc_hz, &mul, &shift);
	boot = clock_ns(CLOCK_REALTIME) - tsc_to_ns(cpu_tsc(v) - (uint64_t)v->tsc_offset, mul, shift);
	w.sec = (uint32_t)(boot / 1000000000);
	w.nsec = (uint32_t)(boot % 1000000000);
	(void)!guest_write(v->mem, GPA(gpa), &w, sizeof(w));
}

/* The guest clears the flag when it has seen it, without heed of the version; nobody else writes the page now. */
void cpu_kvm_clock_stopped(struct vcpu *v)
{
	uint64_t flags = (v->kvm_system_time & ~1ULL) + offsetof(struct pvclock_time, flags);
	uint8_t value;

	if (!(v->kvm_system_time & 1) || guest_read(v->mem, GPA(flags), &value, sizeof(value)))
		return;
	value |= PVCLOCK_GUEST_STOPPED;
	(void)!guest_write(v->mem, GPA(flags), &value, sizeof(value));
}
