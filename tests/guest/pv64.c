/*
 * pv64.c - the KVM paravirtual interface from inside: hypercalls by both instructions and from every privilege and
 * width, registers that must survive them, MSRs, HLT and kicks, interrupts sent and ended without the APIC.
 * Linux, Documentation/virt/kvm/x86; numbers as in abi/kvm_para.h.
 */
#include "rt/rt.h"

enum { HC_POLL = 1, HC_KICK = 5, HC_PAIRING = 9, HC_IPI = 10, HC_YIELD = 11 };
enum { EPERM = 1, EFAULT = 14, EINVAL = 22, ENOSYS = 1000 };
#define MSR_WALL 0x4b564d00u
#define MSR_CLOCK 0x4b564d01u
#define MSR_STEAL 0x4b564d03u
#define MSR_EOI 0x4b564d04u
#define APIC_ISR 0xfee00100ul
#define OK(value) .vec = DONE, .check_ax = true, .want_ax = (word)(value)

static void calls(void)
{
	const void *vmmcall = CODE("vmmcall"), *vmcall = CODE("vmcall");

	row("vmmcall: unknown", vmmcall, .ax = 99, OK(-ENOSYS));
	row("vmcall: unknown", vmcall, .ax = 99, OK(-ENOSYS));
	row("vmmcall at CPL 3", vmmcall, .env = U64, .ax = HC_POLL, OK(-EPERM));
	row("vmcall at CPL 3", vmcall, .env = U64, .ax = 99, OK(-EPERM));
	row("32-bit caller", CODE32("vmmcall"), .env = K32, .ax = 99, OK((uint32_t)-ENOSYS));
	row("32-bit caller at CPL 3", CODE32("vmmcall"), .env = U32, .ax = 99, OK((uint32_t)-EPERM));
	row("poll", vmmcall, .ax = HC_POLL, OK(0));
	row("clock pairing", vmmcall, .ax = HC_PAIRING, .bx = (word)page_a, OK(0));
	casef("clock pairing");
	check(*(volatile uint64_t *)(page_a + 16) != 0, "no TSC");
	check(*(volatile uint64_t *)(page_a + 8) < 1000000000, "nanoseconds");
	row("clock pairing beyond memory", vmmcall, .ax = HC_PAIRING, .bx = ~0xffful, OK(-EFAULT));
	row("yield to nobody", vmmcall, .ax = HC_YIELD, .bx = 77, OK(0));
	row("yield to itself", vmmcall, .ax = HC_YIELD, OK(0));
	row("kick nobody", vmmcall, .ax = HC_KICK, .cx = ~0ul, OK(0));
}

/* The monitor's own code runs in between, which would like these registers. */
static void registers(void)
{
	write_cr4(read_cr4() | CR4_OSFXSR);
	write_cr0(read_cr0() & ~(word)(CR0_TS | CR0_EM));
	row("XMM1 outlives a call", CODE("movd xmm1, edi; vmmcall; movd eax, xmm1"), .ax = HC_PAIRING, .bx = (word)page_a,
	    .di = 0x12345678, OK(0x12345678));
	row("XMM15 outlives a yield", CODE("movd xmm15, edi; vmmcall; movd eax, xmm15"), .ax = HC_YIELD, .bx = 1,
	    .di = 0x87654321, OK(0x87654321));
	row("x87 outlives a call", CODE("fninit; fld1; vmmcall; fistp qword ptr [rdi]; mov rax, [rdi]"), .ax = HC_PAIRING,
	    .bx = (word)page_a, .di = (word)page_b, OK(1));
	row("flags outlive a call", CODE("stc; vmmcall; setc al; movzx eax, al"), .ax = HC_POLL, OK(1));
	row("arguments outlive a call", CODE("vmmcall; lea rax, [rbx + rcx]; add rax, rdx; add rax, rsi"), .ax = HC_KICK,
	    .bx = 1000, .cx = 200, .dx = 30, .si = 4, OK(1234));
}

static void kicks(void)
{
	row("kicked before HLT", CODE("vmmcall; cli; hlt; mov eax, 77"), .ax = HC_KICK, OK(77));
	row("kicked twice is kicked once", CODE("mov edi, eax; vmmcall; mov eax, edi; vmmcall; cli; hlt; mov eax, 78"),
	    .ax = HC_KICK, OK(78));
}

static uint32_t in_service(unsigned vec)
{
	return *(volatile uint32_t *)(APIC_ISR + vec / 32 * 16) >> vec % 32 & 1;
}

static void ipis(void)
{
	apic_enable();
	row("IPI to itself", CODE("vmmcall; sti; nop; nop"), .ax = HC_IPI, .bx = 1, .si = 0x51, .vec = 0x51, .off = 5);
	check_eq("CPUs that got it", trap.r.ax, 1);
	apic_eoi();
	row("IPI to nobody", CODE("vmmcall"), .ax = HC_IPI, .bx = ~1ul, .cx = ~0ul, .si = 0x51, OK(0));
	row("IPI with a shorthand", CODE("vmmcall"), .ax = HC_IPI, .bx = 1, .si = 0x40051, OK(-EINVAL));
	row("NMI to itself", CODE("vmmcall; nop"), .ax = HC_IPI, .bx = 1, .si = 0x400, .vec = NMI, .off = 3);
}

/* The interrupt is ended by clearing a bit, unless another waits. */
static void eois(void)
{
	volatile uint32_t *word_ = (volatile uint32_t *)page_a;
	const void *open = CODE("sti; nop; nop; cli");

	apic_enable();
	zero(page_a, sizeof(page_a));
	wrmsr(MSR_EOI, (word)page_a | 1);
	apic_self(0x40);
	row("interrupt", open, .vec = 0x40, .off = 2);
	check_eq("PV EOI is offered", *word_, 1);
	*word_ = 0;
	apic_self(0x35);
	row("a lower vector after it", open, .vec = 0x35, .off = 2);
	check_eq("the first has ended", in_service(0x40), 0);
	check_eq("the second is in service", in_service(0x35), 1);
	check_eq("looking takes the offer back", *word_, 0);
	apic_eoi();
	check_eq("EOI by the register", in_service(0x35), 0);
	apic_self(0x40);
	apic_self(0x60);
	row("the higher of two", open, .vec = 0x60, .off = 2);
	check_eq("not offered while another waits", *word_, 0);
	apic_eoi();
	row("the lower of two", open, .vec = 0x40, .off = 2);
	check_eq("offered when it is the last", *word_, 1);
	*word_ = 0;
	row("nothing waits", open, .vec = DONE);
	wrmsr(MSR_EOI, 0);
	apic_self(0x41);
	row("switched off", open, .vec = 0x41, .off = 2);
	check_eq("not offered when switched off", *word_, 0);
	check_eq("what was ended in memory has ended", in_service(0x40), 0);
	apic_eoi();
}

static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static uint64_t clock_ns(const volatile uint8_t *page)
{
	int shift = *(volatile int8_t *)(page + 28);
	uint64_t t = rdtsc() - *(volatile uint64_t *)(page + 8), mul = *(volatile uint32_t *)(page + 24);

	t = shift >= 0 ? t << shift : t >> -shift;
	return *(volatile uint64_t *)(page + 16) + (uint64_t)((unsigned __int128)t * mul >> 32);
}

static void msrs(void)
{
	const void *w = CODE("wrmsr"), *r = CODE("rdmsr");
	uint64_t first;

	zero(page_a, sizeof(page_a));
	row("steal time, bit 1", w, .cx = MSR_STEAL, .ax = (word)page_a | 3, .vec = GP);
	row("steal time, not on 64 bytes", w, .cx = MSR_STEAL, .ax = (word)page_a | 33, .vec = GP);
	row("PV EOI, bit 1", w, .cx = MSR_EOI, .ax = (word)page_a | 3, .vec = GP);
	row("clock at CPL 3", w, .env = U64, .cx = MSR_CLOCK, .ax = (word)page_a | 1, .vec = GP);
	row("asynchronous page faults", r, .cx = 0x4b564d02, .vec = GP);
	row("steal time beyond memory", w, .cx = MSR_STEAL, .ax = 0xffffffc1, .dx = 0xfffff, .vec = DONE);
	row("clock beyond memory", w, .cx = MSR_CLOCK, .ax = 0xffffffc1, .dx = 0xfffff, .vec = DONE);
	row("wall clock beyond memory", w, .cx = MSR_WALL, .ax = 0xffffffc0, .dx = 0xfffff, .vec = DONE);
	row("steal time", w, .cx = MSR_STEAL, .ax = (word)page_a | 1, .vec = DONE);
	row("read back", r, .cx = MSR_STEAL, OK((word)page_a | 1));
	check_eq("preempted", page_a[16], 0);
	row("kicked with steal time on", CODE("vmmcall; cli; hlt; mov eax, 79"), .ax = HC_KICK, OK(79));
	check_eq("preempted after HLT", page_a[16], 0);
	wrmsr(MSR_STEAL, 0);
	zero(page_a, sizeof(page_a));
	wrmsr(MSR_CLOCK, (word)page_a | 1);
	casef("the clock");
	check(*(volatile uint32_t *)page_a && !(*(volatile uint32_t *)page_a & 1), "version");
	check_eq("flags", page_a[29], 1);
	first = clock_ns(page_a);
	wrmsr(0x10, 1000); /* the TSC goes back; the clock does not */
	check(clock_ns(page_a) >= first, "the clock follows the TSC");
	wrmsr(MSR_CLOCK, 0);
	wrmsr(MSR_WALL, (word)page_b);
	check(*(volatile uint32_t *)(page_b + 4) > 1600000000, "the wall clock is before 2020");
}

void guest_main(void)
{
	uint32_t r[4];

	cpuid(0x40000000, 0, r);
	if (r[1] != 0x4b4d564b /* "KVMK" */) {
		skip("no KVM interface");
		return;
	}
	calls();
	registers();
	kicks();
	ipis();
	eois();
	msrs();
}
