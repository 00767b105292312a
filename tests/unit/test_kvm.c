/*
 * test_kvm.c - the KVM paravirtual interface as a vCPU serves it: what lands in guest memory, bit by bit, what is
 * refused, and what hostile addresses do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/kvm.h"
#include "cpu/system.h"
#include "mem/mmu.h"

#define RAM MIB(1)
#define PAGE 0x8000ULL
#define CPUS 3

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v[CPUS];
	uint64_t delay;      /* what run_delay() says */
	unsigned delays;     /* how often it was asked */
	uint64_t ran;
	unsigned yields;
	uint32_t yielded_to;
	uint8_t during_yield; /* `preempted` as others see it then */
	struct local_apic apic;
	struct {
		uint32_t icr, dest;
	} ipi[256];
	unsigned n_ipis;
};

static struct vcpu *peer(struct vcpu *v, uint32_t id)
{
	struct machine *m = v->owner;

	return id < CPUS ? m->v[id] : NULL;
}

static uint64_t run_delay(struct vcpu *v, uint64_t *ran_ns)
{
	struct machine *m = v->owner;

	*ran_ns = m->ran;

	m->delays++;
	return m->delay;
}

static struct kvm_steal_time *steal(struct machine *m)
{
	return guest_ptr(m->mem, GPA(PAGE), sizeof(struct kvm_steal_time));
}

static void yield_to(struct vcpu *v, uint32_t id)
{
	struct machine *m = v->owner;

	m->yields++;
	m->yielded_to = id;
	m->during_yield = steal(m)->preempted;
}

static void send_ipi(void *ctx, uint32_t icr, uint32_t dest)
{
	struct machine *m = ctx;

	assert_true(m->n_ipis < ARRAY_SIZE(m->ipi));
	m->ipi[m->n_ipis].icr = icr;
	m->ipi[m->n_ipis++].dest = dest;
}

static struct machine *machine_new(const char *cpu)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err;

	assert_non_null(m);
	assert_int_equal(guest_mem_new(&m->mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(m->mem, GPA(0), RAM, &err), 0);
	assert_int_equal(bus_new(&m->bus, NULL, &err), 0);
	assert_int_equal(cpu_model_init(&m->model, cpu, &err), 0);
	m->apic = (struct local_apic){.send = send_ipi, .ctx = m};
	for (unsigned i = 0; i < CPUS; i++) {
		assert_int_equal(vcpu_new(&m->v[i], i, &m->model, m->mem, m->bus, &err), 0);
		m->v[i]->owner = m;
		m->v[i]->peer = peer;
		m->v[i]->run_delay = run_delay;
		m->v[i]->yield_to = yield_to;
		m->v[i]->apic = &m->apic;
	}
	return m;
}

static void machine_free(struct machine *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_free(m->v[i]);
	bus_free(m->bus);
	guest_mem_free(m->mem);
	free(m);
}

static int setup(void **state)
{
	*state = machine_new("default");
	return 0;
}

static int teardown(void **state)
{
	machine_free(*state);
	return 0;
}

static uint64_t page_ns(const struct kvm_clock *p, uint64_t tsc)
{
	uint64_t t = tsc - p->tsc_timestamp;

	t = p->tsc_shift >= 0 ? t << p->tsc_shift : t >> -p->tsc_shift;
	return p->system_time + (uint64_t)((unsigned __int128)t * p->tsc_to_system_mul >> 32);
}

static uint64_t host_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void clock_page(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_clock *p = guest_ptr(m->mem, GPA(PAGE), sizeof(*p));
	uint64_t val, before, after;

	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, PAGE), 0);
	assert_int_equal(p->version, 0); /* not enabled */
	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, PAGE | 1), 0);
	assert_int_equal(cpu_msr_read(v, MSR_KVM_SYSTEM_TIME, &val), 0);
	assert_int_equal(val, PAGE | 1);
	assert_true(p->version >= 2 && !(p->version & 1));
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
	/* A second of TSC is a second, to a part in a million. */
	before = page_ns(p, p->tsc_timestamp);
	after = page_ns(p, p->tsc_timestamp + m->model.tsc_hz);
	assert_int_equal(before, 0);
	assert_in_range(after, 999999000, 1000001000);
}

static void poll_control(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[1];
	uint64_t val = 7;
	bool stop;

	assert_int_equal(cpu_msr_read(v, MSR_KVM_POLL_CONTROL, &val), 0);
	assert_int_equal(val, 1);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_POLL_CONTROL, 2), -EINVAL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_POLL_CONTROL, 0), 0);
	assert_int_equal(v->kvm.poll_control, 0);
	vcpu_request(v, CPU_REQ_INIT);
	assert_true(cpu_take_pending(v, &stop));
	assert_int_equal(v->kvm.poll_control, 1);
}

/* A page that is no more than aligned to four bytes. */
static void clock_page_at_4(void **state)
{
	struct machine *m = *state;
	uint8_t *ram = guest_ptr(m->mem, GPA(PAGE), 64);

	ram[3] = ram[36] = 0x5a;
	assert_int_equal(cpu_msr_write(m->v[0], MSR_KVM_SYSTEM_TIME_NEW, (PAGE + 4) | 1), 0);
	assert_int_equal(ram[4 + offsetof(struct kvm_clock, flags)], KVM_CLOCK_TSC_STABLE);
	assert_int_equal(ram[3], 0x5a);
	assert_int_equal(ram[36], 0x5a);
}

/* Whatever the guests' TSCs are, one moment has one time on all vCPUs. */
static void clocks_agree(void **state)
{
	struct machine *m = *state;
	uint64_t ns[CPUS];
	uint64_t host = __builtin_ia32_rdtsc();

	assert_int_equal(cpu_msr_write(m->v[1], MSR_TSC, 12345), 0);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(cpu_msr_write(m->v[i], MSR_KVM_SYSTEM_TIME_NEW, (PAGE + i * 64) | 1), 0);
	/* Moved after the page was registered: the page follows. */
	assert_int_equal(cpu_msr_write(m->v[2], MSR_TSC_ADJUST, 0x123456789abcULL), 0);
	for (unsigned i = 0; i < CPUS; i++) {
		const struct kvm_clock *p = guest_ptr(m->mem, GPA(PAGE + i * 64), sizeof(*p));

		assert_false(p->version & 1);
		ns[i] = page_ns(p, host + (uint64_t)m->v[i]->tsc_offset);
	}
	assert_int_equal(ns[0], ns[1]);
	assert_int_equal(ns[0], ns[2]);
}

static void wall_clock(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_wall_clock *w = guest_ptr(m->mem, GPA(PAGE + 0x100), sizeof(*w));
	struct kvm_clock *p = guest_ptr(m->mem, GPA(PAGE), sizeof(*p));
	uint64_t wall, host;

	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, PAGE | 1), 0);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_WALL_CLOCK_NEW, PAGE + 0x100), 0);
	assert_true(w->version && !(w->version & 1));
	wall = w->sec * 1000000000ULL + w->nsec + page_ns(p, cpu_tsc(v));
	host = host_ns(CLOCK_REALTIME);
	/* Not about speed: both are the time of day, an hour apart at the very most. */
	assert_in_range(wall, host - 3600000000000ULL, host + 3600000000000ULL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_WALL_CLOCK_NEW, 0), 0);
}

static void stopped_flag(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_clock *p = guest_ptr(m->mem, GPA(PAGE), sizeof(*p));
	uint32_t version;
	bool stop;

	cpu_kvm_clock_stopped(v); /* nothing is registered */
	assert_int_equal(p->flags, 0);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, PAGE | 1), 0);
	version = p->version;
	cpu_kvm_clock_stopped(v);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_GUEST_STOPPED);
	assert_true(p->version > version && !(p->version & 1));
	/* It stays until the guest has seen it. */
	assert_int_equal(cpu_msr_write(v, MSR_TSC, 1), 0);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_GUEST_STOPPED);
	p->flags &= (uint8_t)~KVM_CLOCK_GUEST_STOPPED;
	assert_int_equal(cpu_msr_write(v, MSR_TSC, 2), 0);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
	/* Asked for by another thread: done on the vCPU's own, which sleeps on. */
	v->halted = true;
	cpu_kvm_stood_still(v);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
	assert_true(cpu_take_pending(v, &stop));
	assert_true(v->halted);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_GUEST_STOPPED);
	assert_int_equal(v->request, 0);
}

static void due(struct vcpu *v)
{
	v->kvm.looked_tsc = 0;
}

static void steal_counts(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_steal_time *st = steal(m);
	unsigned asked;

	m->delay = 5000;
	st->version = 7; /* left odd by somebody */
	st->steal = 100; /* the guest says where it begins */
	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, PAGE | 1), 0);
	assert_int_equal(st->steal, 100); /* what was before does not count */
	m->delay = 5400;
	due(v);
	cpu_kvm_tick(v);
	assert_int_equal(st->steal, 500);
	assert_false(st->version & 1);
	assert_true(st->version > 7);
	cpu_kvm_held(v, 1000);
	due(v);
	cpu_kvm_enter(v);
	assert_int_equal(st->steal, 1500);
	/* The figure of the host goes back: the guest's does not. */
	m->delay = 10;
	due(v);
	cpu_kvm_tick(v);
	assert_int_equal(st->steal, 1500);
	m->delay = 6000;
	due(v);
	cpu_kvm_tick(v);
	assert_int_equal(st->steal, 2100);
	/* Not looked at more often than once a millisecond. */
	m->delay = 7000;
	v->kvm.looked_tsc = __builtin_ia32_rdtsc();
	asked = m->delays;
	for (unsigned i = 0; i < 100; i++)
		cpu_kvm_tick(v);
	assert_true(m->delays - asked < 100);
	/* Off: nothing is written any more. */
	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, 0), 0);
	memset(st, 0, sizeof(*st));
	due(v);
	cpu_kvm_leave(v);
	cpu_kvm_enter(v);
	for (unsigned i = 0; i < sizeof(*st); i++)
		assert_int_equal(((uint8_t *)st)[i], 0);
}

/* A vCPU that had work and did not run for a second: whether it ran, or slept, makes the difference. */
static void stood_still(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_clock *p = guest_ptr(m->mem, GPA(PAGE), sizeof(*p));
	const uint64_t second = 1000000000, two_seconds = 2 * m->model.tsc_hz;

	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, PAGE | 1), 0);
	m->ran = 5 * second;
	cpu_kvm_enter(v);
	v->kvm.looked_tsc = __builtin_ia32_rdtsc() - two_seconds;
	m->ran += 2 * second; /* it ran, with interrupts off perhaps */
	cpu_kvm_tick(v);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
	v->kvm.looked_tsc = __builtin_ia32_rdtsc() - two_seconds;
	cpu_kvm_enter(v); /* it slept */
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
	v->kvm.looked_tsc = __builtin_ia32_rdtsc() - two_seconds;
	m->ran += second / 100;
	cpu_kvm_tick(v);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_GUEST_STOPPED);
	/* Another thread runs it from now on, and has run less. */
	p->flags = KVM_CLOCK_TSC_STABLE;
	m->ran = 0;
	cpu_kvm_enter(v);
	assert_int_equal(p->flags, KVM_CLOCK_TSC_STABLE);
}

static void preempted_and_flush(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	struct kvm_steal_time *st = steal(m);
	uint64_t flushes;

	st->preempted = 3; /* junk of before */
	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, PAGE | 1), 0);
	assert_int_equal(st->preempted, 0);
	flushes = v->mmu.stats.flush_all;
	cpu_kvm_leave(v);
	assert_int_equal(st->preempted, KVM_STEAL_PREEMPTED);
	cpu_kvm_enter(v);
	assert_int_equal(st->preempted, 0);
	assert_int_equal(v->mmu.stats.flush_all, flushes);
	cpu_kvm_leave(v);
	st->preempted |= KVM_STEAL_FLUSH_TLB; /* another vCPU */
	cpu_kvm_leave(v);
	assert_int_equal(st->preempted, KVM_STEAL_PREEMPTED | KVM_STEAL_FLUSH_TLB);
	cpu_kvm_enter(v);
	assert_int_equal(st->preempted, 0);
	assert_int_equal(v->mmu.stats.flush_all, flushes + 1);
}

static void eoi_bit(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	uint32_t *word = guest_ptr(m->mem, GPA(PAGE), 8);

	assert_false(cpu_kvm_eoi_offer(v));
	assert_int_equal(cpu_msr_write(v, MSR_KVM_PV_EOI, PAGE | 1), 0);
	word[1] = 0x55555555;
	assert_true(cpu_kvm_eoi_offer(v));
	assert_int_equal(word[0], KVM_PV_EOI_OFFERED);
	assert_false(cpu_kvm_eoi_withdraw(v)); /* not used */
	assert_int_equal(word[0], 0);
	assert_true(cpu_kvm_eoi_offer(v));
	word[0] = 0;
	assert_true(cpu_kvm_eoi_withdraw(v)); /* used */
	assert_false(cpu_kvm_eoi_withdraw(v)); /* nothing is offered */
	/* Registered elsewhere meanwhile: the offer is where it was made. */
	assert_true(cpu_kvm_eoi_offer(v));
	assert_int_equal(cpu_msr_write(v, MSR_KVM_PV_EOI, (PAGE + 64) | 1), 0);
	assert_false(cpu_kvm_eoi_withdraw(v));
	assert_int_equal(word[0], 0);
	assert_int_equal(word[1], 0x55555555);
}

static int64_t call(struct vcpu *v, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t arg[4] = {a, b, c, d};

	return cpu_kvm_hypercall(v, nr, arg, true);
}

static void kick(void **state)
{
	struct machine *m = *state;
	bool stop;

	assert_int_equal(call(m->v[0], KVM_HC_KICK_CPU, 0, 1, 0, 0), 0);
	/* Before it halts: its next HLT ends at once, with interrupts off; the one after does not. */
	assert_true(cpu_take_pending(m->v[1], &stop));
	assert_int_equal(m->v[1]->request, 0);
	m->v[1]->halted = true;
	assert_true(cpu_take_pending(m->v[1], &stop));
	assert_false(m->v[1]->halted);
	m->v[1]->halted = true;
	assert_true(cpu_take_pending(m->v[1], &stop));
	assert_true(m->v[1]->halted);
	/* While it is halted. */
	assert_int_equal(call(m->v[0], KVM_HC_KICK_CPU, 0, 1, 0, 0), 0);
	assert_true(m->v[1]->request & CPU_REQ_KICK);
	assert_true(cpu_take_pending(m->v[1], &stop));
	assert_false(m->v[1]->halted);
	/* Nobody there. */
	assert_int_equal(call(m->v[0], KVM_HC_KICK_CPU, 0, CPUS, 0, 0), 0);
	assert_int_equal(call(m->v[0], KVM_HC_KICK_CPU, 0, 0x100000001ULL, 0, 0), 0);
	assert_int_equal(m->v[1]->request, 0);
	assert_int_equal(m->v[2]->request, 0);
}

static void yields(void **state)
{
	struct machine *m = *state;

	assert_int_equal(cpu_msr_write(m->v[0], MSR_KVM_STEAL_TIME, PAGE | 1), 0);
	assert_int_equal(call(m->v[0], KVM_HC_SCHED_YIELD, 2, 0, 0, 0), 0);
	assert_int_equal(m->yields, 1);
	assert_int_equal(m->yielded_to, 2);
	assert_int_equal(m->during_yield, KVM_STEAL_PREEMPTED);
	assert_int_equal(steal(m)->preempted, 0);
	/* To itself, to nobody. */
	assert_int_equal(call(m->v[0], KVM_HC_SCHED_YIELD, 0, 0, 0, 0), 0);
	assert_int_equal(call(m->v[0], KVM_HC_SCHED_YIELD, CPUS, 0, 0, 0), 0);
	assert_int_equal(call(m->v[0], KVM_HC_SCHED_YIELD, ~0ULL, 0, 0, 0), 0);
	assert_int_equal(m->yields, 1);
}

static void ipis(void **state)
{
	struct machine *m = *state;
	const uint64_t arg[4] = {1, 1, 0, 0xfd};

	/* APIC IDs 0 and 2 of 0..2, and 3 and 64, which there are not. */
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, 1 << 0 | 1 << 2 | 1 << 3, 1, 0, 0xfd), 2);
	assert_int_equal(m->n_ipis, 2);
	assert_int_equal(m->ipi[0].dest, 0);
	assert_int_equal(m->ipi[1].dest, 2);
	assert_int_equal(m->ipi[1].icr, 0xfd);
	/* Counted from another than 0; an NMI. */
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, 1, 0, 1, 4 << 8), 1);
	assert_int_equal(m->ipi[2].dest, 1);
	assert_int_equal(m->ipi[2].icr, 4 << 8);
	/* 32-bit callers have words of 32 bits: bit 0 of the second is the first's 32nd. */
	m->n_ipis = 0;
	assert_int_equal(cpu_kvm_hypercall(m->v[0], KVM_HC_SEND_IPI, arg, false), 1);
	assert_int_equal(m->n_ipis, 1);
	m->n_ipis = 0;
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, ~0ULL, ~0ULL, UINT32_MAX - 10, 0xfd), 0);
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, ~0ULL, ~0ULL, ~0ULL, 0xfd), 0);
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, 1, 0, 0, 1 << 11 | 0xfd), -KVM_EINVAL);
	assert_int_equal(call(m->v[0], KVM_HC_SEND_IPI, 1, 0, 0, 2 << 18 | 0xfd), -KVM_EINVAL);
	assert_int_equal(m->n_ipis, 0);
}

static void clock_pairing(void **state)
{
	struct machine *m = *state;
	struct kvm_clock_pairing *p = guest_ptr(m->mem, GPA(PAGE), sizeof(*p));
	uint64_t before = cpu_tsc(m->v[0]), after;

	assert_int_equal(call(m->v[0], KVM_HC_CLOCK_PAIRING, PAGE, 0, 0, 0), 0);
	after = cpu_tsc(m->v[0]);
	assert_in_range(p->tsc, before, after);
	assert_in_range(p->sec, time(NULL) - 3600, time(NULL) + 3600);
	assert_in_range(p->nsec, 0, 999999999);
	assert_int_equal(call(m->v[0], KVM_HC_CLOCK_PAIRING, PAGE, 1, 0, 0), -KVM_EOPNOTSUPP);
	assert_int_equal(call(m->v[0], KVM_HC_CLOCK_PAIRING, RAM - 8, 0, 0, 0), -KVM_EFAULT);
	assert_int_equal(call(m->v[0], KVM_HC_CLOCK_PAIRING, ~0ULL, 0, 0, 0), -KVM_EFAULT);
}

static void refused_calls(void **state)
{
	struct machine *m = *state;

	assert_int_equal(call(m->v[0], 0, 0, 0, 0, 0), -KVM_ENOSYS);
	assert_int_equal(call(m->v[0], ~0ULL, 0, 0, 0, 0), -KVM_ENOSYS);
	m->v[0]->cpl = 3;
	assert_int_equal(call(m->v[0], KVM_HC_KICK_CPU, 0, 1, 0, 0), -KVM_EPERM);
	assert_int_equal(m->v[1]->request, 0);
}

/* Every place a guest may name that is not all RAM, or not aligned: refused or ignored, and nothing else is written. */
static void hostile_addresses(void **state)
{
	static const uint64_t bad[] = {
		RAM - 4, RAM - 2, RAM, RAM + 64, 0xfee00000, 0xfffffffffffff000, ~0ULL << 12 | 0xfc0, PAGE + 2,
	};
	struct machine *m = *state;
	struct vcpu *v = m->v[0];
	uint8_t *ram = guest_ptr(m->mem, GPA(0), RAM);

	m->delay = 1000;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int rc;

		rc = cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, bad[i] | 1);
		assert_int_equal(rc, 0);
		assert_int_equal(cpu_msr_write(v, MSR_KVM_WALL_CLOCK_NEW, bad[i]), 0);
		rc = cpu_msr_write(v, MSR_KVM_STEAL_TIME, bad[i] | 1);
		assert_int_equal(rc, bad[i] & 0x3e ? -EINVAL : 0);
		rc = cpu_msr_write(v, MSR_KVM_PV_EOI, bad[i] | 1);
		assert_int_equal(rc, bad[i] & 2 ? -EINVAL : 0);
		m->delay += 1000;
		due(v);
		cpu_kvm_leave(v);
		cpu_kvm_enter(v);
		cpu_kvm_tick(v);
		cpu_kvm_clock_stopped(v);
		if (!(bad[i] & 2) && bad[i] != RAM - 4)
			assert_false(cpu_kvm_eoi_offer(v));
		else
			cpu_kvm_eoi_offer(v);
		cpu_kvm_eoi_withdraw(v);
	}
	for (uint64_t i = 0; i < RAM; i++)
		if (ram[i])
			fail_msg("byte %#lx is %#x", (unsigned long)i, ram[i]);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, PAGE | 2 | 1), -EINVAL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_PV_EOI, PAGE | 2 | 1), -EINVAL);
}

static void init_forgets(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v[1];
	uint64_t val;
	bool stop;

	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, PAGE | 1), 0);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, (PAGE + 64) | 1), 0);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_PV_EOI, (PAGE + 128) | 1), 0);
	vcpu_request(v, CPU_REQ_INIT);
	assert_true(cpu_take_pending(v, &stop));
	memset(guest_ptr(m->mem, GPA(PAGE), 256), 0, 256);
	cpu_kvm_leave(v);
	cpu_kvm_clock_stopped(v);
	assert_false(cpu_kvm_eoi_offer(v));
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(*(uint8_t *)guest_ptr(m->mem, GPA(PAGE + i), 1), 0);
	assert_int_equal(cpu_msr_read(v, MSR_KVM_STEAL_TIME, &val), 0);
	assert_int_equal(val, 0);
}

/* What the CPU model leaves out is not there: its MSRs raise #GP, its calls are unknown. */
static void left_out(void **state)
{
	struct machine *m = machine_new("default,-kvm-steal-time,-kvm-pv-eoi,-kvm-pv-unhalt,-kvm-pv-ipi,-kvmclock");
	struct vcpu *v = m->v[0];
	uint64_t val;

	assert_int_equal(cpu_msr_write(v, MSR_KVM_STEAL_TIME, PAGE | 1), -EINVAL);
	assert_int_equal(cpu_msr_read(v, MSR_KVM_STEAL_TIME, &val), -EINVAL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_PV_EOI, PAGE | 1), -EINVAL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_SYSTEM_TIME, PAGE | 1), -EINVAL);
	assert_int_equal(cpu_msr_write(v, MSR_KVM_WALL_CLOCK_NEW, PAGE), -EINVAL);
	assert_int_equal(call(v, KVM_HC_KICK_CPU, 0, 1, 0, 0), -KVM_ENOSYS);
	assert_int_equal(call(v, KVM_HC_SEND_IPI, 1, 0, 0, 0xfd), -KVM_ENOSYS);
	assert_int_equal(call(v, KVM_HC_SCHED_YIELD, 1, 0, 0, 0), -KVM_ENOSYS); /* goes with steal time */
	assert_int_equal(call(v, KVM_HC_CLOCK_PAIRING, PAGE, 0, 0, 0), -KVM_ENOSYS);
	assert_int_equal(*(uint32_t *)guest_ptr(m->mem, GPA(PAGE), 4), 0);
	machine_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clock_page), TEST(clock_page_at_4), TEST(poll_control), TEST(clocks_agree), TEST(wall_clock), TEST(stopped_flag), TEST(steal_counts),
		TEST(stood_still), TEST(preempted_and_flush), TEST(eoi_bit), TEST(kick), TEST(yields), TEST(ipis), TEST(clock_pairing),
		TEST(refused_calls), TEST(hostile_addresses), TEST(init_forgets), cmocka_unit_test(left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
