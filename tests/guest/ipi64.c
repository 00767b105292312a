/*
 * ipi64.c - several processors: their start, interrupts between them by xAPIC and x2APIC, what CPUID says of them, and
 * their time-stamp counters. SDM vol. 3, 9.4 and 11.4 to 11.12; APM vol. 3, appendix E.
 *
 * The machine has CPUS processors. The others halt, with interrupts on, until there is something to do.
 */
#include "rt/rt.h"

#define CPUS 4
#define START_PAGE 8 /* physical 0x8000 */
#define APIC 0xfee00000u
#define MSR_APIC_BASE 0x1b
#define MSR_TSC_ADJUST 0x3b

enum { REG_ID = 0x20, REG_LDR = 0xd0, REG_DFR = 0xe0, REG_SVR = 0xf0, REG_ICR = 0x300, REG_ICR2 = 0x310, X2_SELF = 0x3f0 };
enum { ICR_LOWEST = 1 << 8, ICR_NMI = 4 << 8, ICR_INIT = 5 << 8, ICR_STARTUP = 6 << 8, ICR_LOGICAL = 1 << 11,
       ICR_ASSERT = 1 << 14, ICR_SELF = 1 << 18, ICR_ALL = 2 << 18, ICR_OTHERS = 3 << 18 };
enum { VEC_TEST = 0x50, VEC_WAKE = 0x58, VEC_RING = 0x60 };

/* What a processor knows; at GS. ap.S knows where id, x2, nmis and count are. */
struct cpu {
	uint32_t id, x2;
	volatile uint32_t nmis, starts;
	volatile uint32_t count[256];
	uint32_t ring_seen, tsc_seen;
	volatile uint64_t tsc_early; /* time-stamp counts that went backwards on their way here */
	uint32_t leaf_1_id, leaf_b_id, leaf_1e_id, bsp;
	uint64_t tsc_adjust;
};
static struct cpu cpu[CPUS + 1]; /* the last is of processors that should not be */
static volatile uint32_t want_x2, hops, arrived;
static volatile struct {
	uint64_t tsc;
	uint32_t turn; /* whose */
} pass;

extern const char ap_code[], ap_code_end[], count_stubs[], nmi_stub[];
extern volatile uint32_t ap_started;
void ap_main(void);

static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/* Until the condition holds; false after a time that no machine needs. */
#define wait_for(condition) ({ \
	uint64_t begin_ = rdtsc(); \
	while (!(condition) && rdtsc() - begin_ < 20000000000ull) \
		__asm__ volatile("pause" : : : "memory"); \
	(bool)(condition); \
})

static struct cpu *me(void)
{
	uint32_t id;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(id));
	return &cpu[id];
}

static volatile uint32_t *reg(uint32_t r)
{
	return (volatile uint32_t *)(uintptr_t)(APIC + r);
}

static void apic_write(uint32_t r, uint64_t v)
{
	if (me()->x2)
		wrmsr(0x800 + (r >> 4), v);
	else
		*reg(r) = (uint32_t)v;
}

static void send(uint32_t dest, uint32_t low)
{
	if (me()->x2) {
		wrmsr(0x830, (uint64_t)dest << 32 | low);
		return;
	}
	*reg(REG_ICR2) = dest << 24;
	*reg(REG_ICR) = low;
}

static void apic_init(struct cpu *c)
{
	*reg(REG_DFR) = 0xffffffff;
	*reg(REG_LDR) = 1u << (24 + c->id);
	*reg(REG_SVR) = 0x1ff;
}

static void look_at_self(struct cpu *c)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	c->leaf_1_id = r[1] >> 24;
	cpuid(0xb, 1, r);
	c->leaf_b_id = r[3];
	cpuid(0x8000001e, 0, r);
	c->leaf_1e_id = r[0];
	c->bsp = rdmsr(MSR_APIC_BASE) >> 8 & 1;
	c->tsc_adjust = rdmsr(MSR_TSC_ADJUST);
}

static void enter_x2apic(struct cpu *c)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	c->x2 = 1;
}

/* A token on its way round. */
static bool ring(struct cpu *c)
{
	if (c->count[VEC_RING] == c->ring_seen)
		return false;
	c->ring_seen++;
	if (__atomic_sub_fetch(&hops, 1, __ATOMIC_SEQ_CST) == 0)
		arrived = 1;
	else
		send((c->id + 1) % CPUS, ICR_ASSERT | VEC_RING);
	return true;
}

/* A time stamp on its way round: it must not be from the future. */
static bool hand_on_tsc(struct cpu *c)
{
	if (pass.turn != c->id + 1)
		return false;
	if (rdtsc() < pass.tsc)
		c->tsc_early++;
	pass.tsc = rdtsc();
	pass.turn = (c->id + 1) % CPUS + 1;
	return true;
}

void ap_main(void)
{
	uint32_t id = *reg(REG_ID) >> 24;
	struct cpu *c = &cpu[id < CPUS ? id : CPUS];

	wrmsr(MSR_GS_BASE, (uintptr_t)c);
	c->x2 = 0;
	load_idt(4095);
	apic_init(c);
	look_at_self(c);
	__atomic_add_fetch(&c->starts, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		__asm__ volatile("cli" : : : "memory");
		if (want_x2 && !c->x2)
			enter_x2apic(c);
		else if (pass.turn)
			hand_on_tsc(c);
		else if (!ring(c))
			__asm__ volatile("sti; hlt" : : : "memory");
		__asm__ volatile("sti; nop" : : : "memory");
	}
}

static void pause_a_while(void)
{
	uint64_t begin = rdtsc();

	while (rdtsc() - begin < 20000000)
		__asm__ volatile("pause");
}

static void start_others(void)
{
	copy((void *)(uintptr_t)(START_PAGE << 12), ap_code, (size_t)(ap_code_end - ap_code));
	copy((void *)(uintptr_t)((START_PAGE + 1) << 12), ap_code, (size_t)(ap_code_end - ap_code));
	casef("start by INIT and start-up IPI");
	for (uint32_t i = 1; i < CPUS; i++) {
		send(i, ICR_INIT | ICR_ASSERT);
		send(i, ICR_STARTUP | START_PAGE);
		check(wait_for(cpu[i].starts == 1), "processor %u does not start", i);
		send(i, ICR_STARTUP | START_PAGE); /* a second one changes nothing */
	}
	pause_a_while();
	for (uint32_t i = 1; i < CPUS; i++)
		check_eq("starts", cpu[i].starts, 1);
	check_eq("processors that should not be", cpu[CPUS].starts, 0);
}

/* INIT stops a processor, and clears its local APIC; all at once may be told. */
static void start_again(void)
{
	casef("INIT and a start-up IPI for all others, from another page");
	send(0, ICR_OTHERS | ICR_STARTUP | START_PAGE); /* before the INIT: of no use after it */
	send(0, ICR_OTHERS | ICR_INIT | ICR_ASSERT);
	send(1, ICR_ASSERT | VEC_TEST);
	pause_a_while();
	check_eq("interrupts of a processor that waits for its start", cpu[1].count[VEC_TEST], 0);
	send(0, ICR_OTHERS | ICR_STARTUP | (START_PAGE + 1));
	for (uint32_t i = 1; i < CPUS; i++)
		check(wait_for(cpu[i].starts == 2), "processor %u does not start again", i);
	pause_a_while();
	check_eq("interrupts from before the start", cpu[1].count[VEC_TEST], 0);
}

/* What each processor has had of the test's vector and of NMIs. */
static void forget(void)
{
	for (uint32_t i = 0; i < CPUS; i++)
		cpu[i].count[VEC_TEST] = cpu[i].nmis = 0;
}

static uint32_t got(uint32_t i, bool nmi)
{
	return nmi ? cpu[i].nmis : cpu[i].count[VEC_TEST];
}

/* Exactly the processors of the mask get one each. */
static void expect(const char *name, uint32_t mask, bool nmi)
{
	casef("%s, %s", name, me()->x2 ? "x2APIC" : "xAPIC");
	for (uint32_t i = 0; i < CPUS; i++)
		if (mask >> i & 1)
			check(wait_for(got(i, nmi)), "processor %u gets none", i);
	/* Whoever should not have had any would have it before the boot processor gets this from all the others. */
	for (uint32_t i = 1; i < CPUS; i++) {
		uint32_t before = cpu[i].count[VEC_WAKE];

		send(i, ICR_ASSERT | VEC_WAKE);
		check(wait_for(cpu[i].count[VEC_WAKE] != before), "processor %u sleeps", i);
	}
	for (uint32_t i = 0; i < CPUS; i++)
		check_eq("interrupts", got(i, nmi), mask >> i & 1);
	forget();
}

static void physical(void)
{
	for (uint32_t i = 0; i < CPUS; i++) {
		send(i, ICR_ASSERT | VEC_TEST);
		expect("fixed, physical", 1u << i, false);
		send(i, ICR_ASSERT | ICR_NMI);
		expect("NMI, physical", 1u << i, true);
	}
	send(me()->x2 ? 0xffffffff : 0xff, ICR_ASSERT | VEC_TEST);
	expect("fixed, physical broadcast", 0xf, false);
	send(CPUS, ICR_ASSERT | VEC_TEST);
	expect("to nobody", 0, false);
}

static void shorthands(void)
{
	send(0, ICR_ASSERT | ICR_SELF | VEC_TEST);
	expect("to self", 1, false);
	send(0, ICR_ASSERT | ICR_ALL | VEC_TEST);
	expect("to all", 0xf, false);
	send(0, ICR_ASSERT | ICR_OTHERS | VEC_TEST);
	expect("to all others", 0xe, false);
	send(0, ICR_ASSERT | ICR_OTHERS | ICR_NMI);
	expect("NMI to all others", 0xe, true);
	if (!me()->x2)
		return;
	apic_write(X2_SELF, VEC_TEST);
	expect("SELF IPI", 1, false);
}

static void logical(void)
{
	static const uint32_t masks[] = {1, 2, 8, 0xa, 0x6, 0xf};

	for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		send(masks[i], ICR_ASSERT | ICR_LOGICAL | VEC_TEST);
		expect("fixed, logical", masks[i], false);
		send(masks[i], ICR_ASSERT | ICR_LOGICAL | ICR_NMI);
		expect("NMI, logical", masks[i], true);
	}
}

static uint32_t sum(uint32_t mask)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < CPUS; i++)
		n += mask >> i & 1 ? cpu[i].count[VEC_TEST] : 0;
	return n;
}

/* One of the mask gets each. */
static void lowest_priority(void)
{
	casef("lowest priority, %s", me()->x2 ? "x2APIC" : "xAPIC");
	for (uint32_t n = 1; n <= 32; n++) {
		send(0xe, ICR_ASSERT | ICR_LOGICAL | ICR_LOWEST | VEC_TEST);
		check(wait_for(sum(0xf) == n), "interrupt %u does not arrive", n);
	}
	check_eq("those addressed", sum(0xe), 32);
	forget();
	/* The one that runs at a low priority takes it. */
	write_cr8(15);
	send(3, ICR_ASSERT | ICR_LOGICAL | ICR_LOWEST | VEC_TEST);
	check(wait_for(sum(0xf) == 1), "the interrupt does not arrive");
	check_eq("processor 1", cpu[1].count[VEC_TEST], 1);
	write_cr8(0);
	forget();
}

/* Each hop wakes a processor from HLT: one lost wake-up, and the token stays where it is. */
static void run_ring(uint32_t n)
{
	struct cpu *c = me();

	casef("%u hops, %s", n, c->x2 ? "x2APIC" : "xAPIC");
	hops = n;
	arrived = 0;
	send(1, ICR_ASSERT | VEC_RING);
	wait_for((ring(c), arrived));
	check_eq("hops left", hops, 0);
	check_eq("arrived", arrived, 1);
}

static void time_stamps(void)
{
	uint32_t rounds = 40; /* all processors spin: on fewer of the host's, each turn may take a time slice */

	casef("time-stamp counters");
	pass.tsc = rdtsc();
	pass.turn = 1;
	/* They must be awake to see that it is their turn. */
	send(0, ICR_ASSERT | ICR_OTHERS | VEC_WAKE);
	while (rounds && wait_for(pass.turn == 1)) {
		hand_on_tsc(me());
		rounds--;
	}
	wait_for(pass.turn == 1);
	pass.turn = 0;
	check_eq("rounds left", rounds, 0);
	for (uint32_t i = 0; i < CPUS; i++) {
		check_eq("stamps from the future", cpu[i].tsc_early, 0);
		check_eq("TSC_ADJUST", cpu[i].tsc_adjust, 0);
	}
}

static void topology(void)
{
	uint32_t r[4];

	casef("topology");
	for (uint32_t i = 0; i < CPUS; i++) {
		check_eq("APIC ID in leaf 1", cpu[i].leaf_1_id, i);
		check_eq("x2APIC ID in leaf 0Bh", cpu[i].leaf_b_id, i);
		check_eq("extended APIC ID in leaf 8000001Eh", cpu[i].leaf_1e_id, i);
		check_eq("boot processor", cpu[i].bsp, i == 0);
	}
	cpuid(1, 0, r);
	check_eq("logical processors in leaf 1", r[1] >> 16 & 0xff, CPUS);
	check_eq("HTT", r[3] >> 28 & 1, 1);
	cpuid(0xb, 0, r);
	check_eq("threads of a core", r[1] & 0xffff, 1);
	check_eq("bits of a thread's number", r[0] & 0x1f, 0);
	cpuid(0xb, 1, r);
	check_eq("processors of the package in leaf 0Bh", r[1] & 0xffff, CPUS);
	check_eq("bits below the package's number", r[0] & 0x1f, 2);
	cpuid(0x80000008, 0, r);
	check_eq("processors in leaf 80000008h", (r[2] & 0xff) + 1, CPUS);
	check_eq("size of an APIC ID", r[2] >> 12 & 0xf, 2);
	for (uint32_t i = 0; i < 4; i++) {
		cpuid(0x8000001d, i, r);
		check_eq("processors that share a cache", (r[0] >> 14 & 0xfff) + 1, i == 3 ? CPUS : 1);
	}
}

static void all_ways(void)
{
	physical();
	shorthands();
	logical();
	lowest_priority();
	run_ring(2000);
}

void guest_main(void)
{
	for (unsigned v = 0x20; v < 0x100; v++)
		idt_set(v, (word)count_stubs + v * 64, SEL_CODE, D_INT, 0);
	idt_set(NMI, (word)nmi_stub, SEL_CODE, D_INT, 0);
	for (uint32_t i = 0; i <= CPUS; i++)
		cpu[i].id = i;
	wrmsr(MSR_GS_BASE, (uintptr_t)&cpu[0]);
	apic_init(&cpu[0]);
	look_at_self(&cpu[0]);
	start_others();
	topology();
	start_again();
	__asm__ volatile("sti");
	all_ways();
	time_stamps();
	want_x2 = 1;
	send(0, ICR_ASSERT | ICR_OTHERS | VEC_WAKE);
	enter_x2apic(&cpu[0]);
	casef("x2APIC mode");
	for (uint32_t i = 1; i < CPUS; i++)
		check(wait_for(cpu[i].x2), "processor %u stays in xAPIC mode", i);
	forget();
	all_ways();
	__asm__ volatile("cli");
}
