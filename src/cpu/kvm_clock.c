/*
 * The KVM paravirtual clock: a page in guest memory that turns the guest's TSC into nanoseconds, and the wall-clock
 * time at which that count was zero.
 *
 * Theory of operation. The TSC neither stops nor is scaled here, and time is counted from the host's TSC being zero,
 * whatever the guest has written to its own. So the clocks of all vCPUs are one line, which no update moves: they are
 * stable in the interface's sense, no vCPU's clock is ever behind another's, and a page is written only when the guest
 * registers it or moves its TSC, and to tell that the machine stood still. Time goes on while it does: the wall
 * clock is right at once when it goes on.
 */
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "cpu/kvm.h"
#include "cpu/system.h"
#include "x86/feature.h"

struct tsc_scale {
	uint32_t mul;
	int8_t shift;
};

static uint64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ns = (shift >= 0 ? tsc << shift : tsc >> -shift) * mul / 2^32 */
static struct tsc_scale tsc_scale(uint64_t hz)
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
	return (struct tsc_scale){(uint32_t)((unsigned __int128)scaled * (1ULL << 32) / tps), (int8_t)s};
}

static uint64_t tsc_to_ns(uint64_t tsc, struct tsc_scale c)
{
	tsc = c.shift >= 0 ? tsc << c.shift : tsc >> -c.shift;
	return (uint64_t)((unsigned __int128)tsc * c.mul >> 32);
}

/* Only this thread writes the page, the flag that the guest clears apart: the guest reads it on any. */
static void write_page(struct vcpu *v, uint8_t set)
{
	uint64_t gpa = v->kvm.system_time & ~(uint64_t)KVM_MSR_ENABLED;
	struct tsc_scale c = tsc_scale(v->model->tsc_hz);
	struct kvm_clock t = {.tsc_to_system_mul = c.mul, .tsc_shift = c.shift};
	const size_t head = sizeof(t.version);
	_Atomic uint32_t *version;
	uint8_t *page; /* aligned to 4 only */

	if (!(v->kvm.system_time & KVM_MSR_ENABLED))
		return;
	page = cpu_kvm_shared(v, gpa, sizeof(t), 4);
	if (!page)
		return;
	t.tsc_timestamp = (uint64_t)v->tsc_offset; /* the guest's TSC when the host's was 0 */
	t.flags = *(volatile uint8_t *)(page + offsetof(struct kvm_clock, flags)) & KVM_CLOCK_GUEST_STOPPED;
	t.flags |= set | (cpu_has(v->model, FEAT_KVM_CLOCK_STABLE) ? KVM_CLOCK_TSC_STABLE : 0);
	version = (_Atomic uint32_t *)page;
	t.version = (*version + 1) | 1;
	atomic_store(version, t.version);
	memcpy(page + head, (char *)&t + head, sizeof(t) - head);
	atomic_store(version, t.version + 1);
	guest_mem_wrote(v->mem, GPA(gpa), sizeof(t));
}

void cpu_kvm_clock_update(struct vcpu *v)
{
	write_page(v, 0);
}

void cpu_kvm_clock_stopped(struct vcpu *v)
{
	write_page(v, KVM_CLOCK_GUEST_STOPPED);
}

void cpu_kvm_wall_clock(struct vcpu *v)
{
	uint64_t gpa = v->kvm.wall_clock, boot;
	struct kvm_wall_clock *w;
	_Atomic uint32_t *version;
	uint32_t n;

	w = gpa ? cpu_kvm_shared(v, gpa, sizeof(*w), 4) : NULL;
	if (!w)
		return;
	cpu_fpu_spill(v); /* clock_gettime() is libc's */
	boot = realtime_ns() - tsc_to_ns(cpu_tsc(v) - (uint64_t)v->tsc_offset, tsc_scale(v->model->tsc_hz));
	version = (_Atomic uint32_t *)&w->version;
	n = (*version + 1) | 1;
	atomic_store(version, n);
	w->sec = (uint32_t)(boot / 1000000000);
	w->nsec = (uint32_t)(boot % 1000000000);
	atomic_store(version, n + 1);
	guest_mem_wrote(v->mem, GPA(gpa), sizeof(*w));
}

int64_t cpu_kvm_clock_pairing(struct vcpu *v, uint64_t gpa, uint64_t clock)
{
	struct kvm_clock_pairing p = {0};
	uint64_t best = ~0ULL;

	if (clock != KVM_CLOCK_PAIRING_WALLCLOCK)
		return -KVM_EOPNOTSUPP;
	cpu_fpu_spill(v);
	/* Time and TSC cannot be read at once: of some tries, the one that took least. */
	for (unsigned i = 0; i < 4; i++) {
		uint64_t before = cpu_tsc(v), now = realtime_ns(), took = cpu_tsc(v) - before;

		if (took >= best)
			continue;
		best = took;
		p.sec = (int64_t)(now / 1000000000);
		p.nsec = (int64_t)(now % 1000000000);
		p.tsc = before + took / 2;
	}
	return guest_write(v->mem, GPA(gpa), &p, sizeof(p)) ? -KVM_EFAULT : 0;
}
