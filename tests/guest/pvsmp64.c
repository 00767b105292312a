/*
 * pvsmp64.c - the KVM paravirtual interface between processors: kicks, clocks that are one, interrupts by hypercall, TLB
 * flushes that are left to a processor that sleeps. Numbers as in abi/kvm_para.h.
 *
 * The machine has CPUS processors. Nothing but kicks wakes the others from HLT, except where interrupts are tested.
 */
#include "rt/rt.h"

#define CPUS 4
#define START_PAGE 8 /* physical 0x8000 */
#define APIC 0xfee00000u
#define MSR_CLOCK 0x4b564d01u
#define MSR_STEAL 0x4b564d03u
#define MSR_TSC 0x10
#define REMAPPED 0x3fe00000ul /* above RAM; its page table is table_a */
enum { HC_KICK = 5, HC_IPI = 10 };
enum { PREEMPTED = 1, FLUSH_TLB = 2 };
enum { REG_SVR = 0xf0, REG_ICR = 0x300 };

/* At GS; ap.S knows where x2, nmis and count are. */
struct cpu {
	uint32_t id, x2;
	volatile uint32_t nmis, unused;
	volatile uint32_t count[256];
	uint64_t early; /* times that had not come yet when they were handed on to us */
	uint64_t saw;   /* at REMAPPED */
	uint8_t marked; /* as preempted, just before */
};
static struct cpu cpu[CPUS];
static struct steal {
	uint64_t steal;
	uint32_t version, flags;
	volatile uint8_t preempted;
	uint8_t pad[47];
} steal[CPUS] __attribute__((aligned(64)));
static uint8_t clock_page[CPUS][64] __attribute__((aligned(64)));

/* Whose turn it is; what he is to do; and how often still. */
static volatile uint32_t turn, job, hops, ready;
enum { JOB_HOP, JOB_CLOCK, JOB_READ, JOB_LISTEN };
static volatile uint64_t handed_ns;

extern const char ap_code[], ap_code_end[], count_stubs[], nmi_stub[];
void ap_main(void);

static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	int64_t r;

	__asm__ volatile("vmmcall" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return r;
}

/* Until the condition holds; false after many turns. The boot processor's TSC is left alone. */
#define wait_for(condition) ({ \
	uint64_t begin_ = rdtsc(); \
	while (!(condition) && rdtsc() - begin_ < 40000000000ull) \
		__asm__ volatile("pause" : : : "memory"); \
	(bool)(condition); \
})

static uint64_t clock_ns(const volatile uint8_t *page)
{
	int shift = *(volatile int8_t *)(page + 28);
	uint64_t t = rdtsc() - *(volatile uint64_t *)(page + 8), mul = *(volatile uint32_t *)(page + 24);

	t = shift >= 0 ? t << shift : t >> -shift;
	return *(volatile uint64_t *)(page + 16) + (uint64_t)((unsigned __int128)t * mul >> 32);
}

static void hand_to(uint32_t id)
{
	__atomic_store_n(&turn, id, __ATOMIC_SEQ_CST);
	call(HC_KICK, 0, id, 0, 0);
}

/* Interrupts are off: only a kick ends the HLT, whether it comes before or after. */
static void sleep_until_turn(uint32_t id)
{
	while (turn != id)
		__asm__ volatile("hlt" : : : "memory");
}

static void work(struct cpu *c)
{
	uint64_t now;

	switch (job) {
	case JOB_CLOCK:
		now = clock_ns(clock_page[c->id]);
		if (now < handed_ns)
			c->early++;
		handed_ns = clock_ns(clock_page[c->id]);
		break;
	case JOB_READ:
		c->marked = __atomic_load_n(&steal[c->id].preempted, __ATOMIC_SEQ_CST);
		c->saw = *(volatile uint64_t *)REMAPPED;
		break;
	case JOB_LISTEN:
		__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
		__asm__ volatile("sti; 1: hlt; cmpl $0, %0; je 1b; cli" : : "m"(c->count[0x50]) : "memory");
		break;
	}
}

void ap_main(void)
{
	uint32_t id = *(volatile uint32_t *)(APIC + 0x20) >> 24;
	struct cpu *c = &cpu[id];

	load_idt(4095);
	wrmsr(0xc0000101, (uintptr_t)c); /* GS */
	*(volatile uint32_t *)(APIC + REG_SVR) = 0x1ff;
	wrmsr(MSR_CLOCK, (uintptr_t)clock_page[id] | 1);
	wrmsr(MSR_STEAL, (uintptr_t)&steal[id] | 1);
	wrmsr(MSR_TSC, rdtsc() - ((uint64_t)id << 40)); /* its own idea of time; the clock page follows */
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		sleep_until_turn(id);
		work(c);
		if (hops && --hops)
			hand_to((id + 1) % CPUS);
		else
			hand_to(0);
	}
}

static void start_others(void)
{
	copy((void *)(uintptr_t)(START_PAGE << 12), ap_code, (size_t)(ap_code_end - ap_code));
	*(volatile uint32_t *)(APIC + REG_ICR) = 3 << 18 | 1 << 14 | 5 << 8;
	*(volatile uint32_t *)(APIC + REG_ICR) = 3 << 18 | 1 << 14 | 6 << 8 | START_PAGE;
	casef("start");
	check(wait_for(ready == CPUS - 1), "only %u processors start", ready);
}

/* Round and round, this processor taking part. */
static void go_round(uint32_t what, uint32_t n)
{
	job = what;
	hops = n;
	for (;;) {
		hand_to(1);
		sleep_until_turn(0);
		if (!hops)
			break;
		work(&cpu[0]);
		if (!--hops)
			break;
	}
}

static void kicks(void)
{
	go_round(JOB_HOP, 20000);
	casef("a kick for each hop");
	check_eq("hops left", hops, 0);
}

static void clocks(void)
{
	handed_ns = 0;
	go_round(JOB_CLOCK, 8000);
	casef("clocks");
	for (uint32_t i = 0; i < CPUS; i++)
		check_eq("times from the future", cpu[i].early, 0);
	check(handed_ns > 0, "no time");
}

static void do_job(uint32_t id, uint32_t what)
{
	job = what;
	hops = 0;
	hand_to(id);
	sleep_until_turn(0);
}

/*
 * What is mapped changes while the other sleeps, and is seen when it wakes: it has been asked to flush. A processor in HLT is
 * not marked as preempted, so the mark is this guest's own. One that was not asleep yet may not have looked at it.
 */
static void flushes(void)
{
	uint64_t *pt = (uint64_t *)table_a;
	unsigned followed = 0;

	*(uint64_t *)page_a = 1;
	*(uint64_t *)page_b = 2;
	for (unsigned i = 0; i < 512; i++)
		pt[i] = 0;
	pt[0] = (uintptr_t)page_a | P | W | A | D;
	pds[REMAPPED >> 21] = (uintptr_t)table_a | P | W | A;
	flush();
	do_job(2, JOB_READ);
	casef("before");
	check_eq("what processor 2 saw", cpu[2].saw, 1);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t now = 1 + i % 2;

		casef("round %u", i);
		pt[0] = (uintptr_t)(now == 1 ? page_a : page_b) | P | W | A | D;
		__atomic_store_n(&steal[2].preempted, PREEMPTED | FLUSH_TLB, __ATOMIC_SEQ_CST);
		do_job(2, JOB_READ);
		if (cpu[2].marked)
			continue;
		followed++;
		check_eq("what processor 2 saw", cpu[2].saw, now);
	}
	casef("flushes");
	check(followed > 20, "it followed %u times only", followed);
	check_eq("this processor runs", steal[0].preempted, 0);
}

static void ipis(void)
{
	casef("interrupts by hypercall");
	ready = 0;
	job = JOB_LISTEN;
	hops = 0;
	for (uint32_t i = 1; i < CPUS; i++) {
		turn = i;
		call(HC_KICK, 0, i, 0, 0);
		check(wait_for(ready == i), "processor %u does not listen", i);
	}
	check_eq("processors", call(HC_IPI, 0xe, 0, 0, 0x50), CPUS - 1);
	for (uint32_t i = 1; i < CPUS; i++)
		check(wait_for(cpu[i].count[0x50] == 1), "processor %u got none", i);
	check_eq("processors, for an NMI", call(HC_IPI, 0x3, 0, 2, 4 << 8), 2);
	check(wait_for(cpu[2].nmis == 1 && cpu[3].nmis == 1), "NMIs");
	check_eq("NMIs of another", cpu[1].nmis, 0);
}

void guest_main(void)
{
	uint32_t r[4];

	cpuid(0x40000000, 0, r);
	if (r[1] != 0x4b4d564b /* "KVMK" */) {
		skip("no KVM interface");
		return;
	}
	for (unsigned v = 0x20; v < 0x100; v++)
		idt_set(v, (word)count_stubs + v * 64, SEL_CODE, D_INT, 0);
	idt_set(NMI, (word)nmi_stub, SEL_CODE, D_INT, 0);
	for (uint32_t i = 0; i < CPUS; i++)
		cpu[i].id = i;
	wrmsr(0xc0000101, (uintptr_t)&cpu[0]);
	apic_enable();
	wrmsr(MSR_CLOCK, (uintptr_t)clock_page[0] | 1);
	wrmsr(MSR_STEAL, (uintptr_t)&steal[0] | 1);
	start_others();
	kicks();
	clocks();
	flushes();
	ipis();
}
