/*
 * sys64.c - privileged and control-sensitive instructions in long mode: who may execute them, what they
 * refuse, what control registers and MSRs take. SDM vol. 2 and 3, 2.5; APM vol. 2, 3.1 and vol. 3.
 */
#include "rt/rt.h"

#define BAD (1ul << 47) /* the first address that is not canonical */

static word saved_cr0, saved_cr3, saved_cr4;

static void save_crs(void)
{
	saved_cr0 = read_cr0();
	saved_cr3 = read_cr3();
	saved_cr4 = read_cr4();
}

static void restore_crs(void)
{
	write_cr4(saved_cr4);
	write_cr0(saved_cr0);
	write_cr3(saved_cr3);
}

/* The same bytes at CPL 3 in 64-bit and in compatibility mode. */
#define USER_BOTH(text, ...) do { \
	row("CPL 3 64-bit: " text, CODE(text), .env = U64, .di = (word)page_a + UBASE, __VA_ARGS__); \
	row("CPL 3 compat: " text, CODE32(text), .env = U32, .di = (word)page_a + UBASE, __VA_ARGS__); \
} while (0)
/* Forms with no common spelling are given as bytes. */
#define USER_BYTES(name, bytes, ...) do { \
	row("CPL 3 64-bit: " name, CODE(".byte " bytes), .env = U64, .di = (word)page_a + UBASE, __VA_ARGS__); \
	row("CPL 3 compat: " name, CODE32(".byte " bytes), .env = U32, .di = (word)page_a + UBASE, __VA_ARGS__); \
} while (0)

static void privileged(void)
{
	USER_BOTH("hlt", .vec = GP);
	USER_BOTH("clts", .vec = GP);
	USER_BOTH("lgdt [edi]", .vec = GP);
	USER_BOTH("lidt [edi]", .vec = GP);
	USER_BOTH("lldt ax", .vec = GP);
	USER_BOTH("ltr ax", .vec = GP);
	USER_BOTH("lmsw ax", .vec = GP);
	USER_BOTH("invlpg [edi]", .vec = GP);
	USER_BOTH("invd", .vec = GP);
	USER_BOTH("wbinvd", .vec = GP);
	USER_BOTH("rdmsr", .cx = 0x10, .vec = GP);
	USER_BOTH("wrmsr", .cx = 0x10, .vec = GP);
	USER_BOTH("rdmsr", .cx = 0x12345678, .vec = GP);
	USER_BYTES("mov eax, cr0", "0x0f, 0x20, 0xc0", .vec = GP);
	USER_BYTES("mov eax, cr2", "0x0f, 0x20, 0xd0", .vec = GP);
	USER_BYTES("mov eax, cr3", "0x0f, 0x20, 0xd8", .vec = GP);
	USER_BYTES("mov eax, cr4", "0x0f, 0x20, 0xe0", .vec = GP);
	USER_BYTES("mov cr0, eax", "0x0f, 0x22, 0xc0", .vec = GP);
	USER_BYTES("mov cr3, eax", "0x0f, 0x22, 0xd8", .vec = GP);
	USER_BYTES("mov cr4, eax", "0x0f, 0x22, 0xe0", .vec = GP);
	USER_BYTES("mov eax, dr0", "0x0f, 0x21, 0xc0", .vec = GP);
	USER_BYTES("mov eax, dr7", "0x0f, 0x21, 0xf8", .vec = GP);
	USER_BYTES("mov dr6, eax", "0x0f, 0x23, 0xf0", .vec = GP);
	USER_BOTH("cli", .vec = GP);
	USER_BOTH("sti", .vec = GP);
	USER_BOTH("cli", .flags = F_IOPL(2), .vec = GP);
	USER_BOTH("sti", .flags = F_IOPL(2), .vec = GP);
	USER_BOTH("cli", .flags = F_IOPL(3), .vec = DONE);
	USER_BOTH("in al, 0x71", .vec = GP);
	USER_BOTH("out 0x80, al", .vec = GP);
	USER_BOTH("in eax, dx", .dx = 0x80, .vec = GP);
	USER_BOTH("insb", .dx = 0x80, .vec = GP);
	USER_BOTH("outsd", .dx = 0x80, .vec = GP);
	USER_BOTH("in al, 0x71", .flags = F_IOPL(3), .vec = DONE);
	row("CPL 3: swapgs", CODE("swapgs"), .env = U64, .vec = GP);
	row("compat: swapgs is #UD", CODE32(".byte 0x0f, 0x01, 0xf8"), .env = U32, .vec = UD);
	row("CPL 3: sysret", CODE("sysretd"), .env = U64, .vec = GP);
	row("CPL 3: mov cr8, rax", CODE("mov cr8, rax"), .env = U64, .vec = GP);
	row("CPL 3: mov rax, cr8", CODE("mov rax, cr8"), .env = U64, .vec = GP);
	/* SYSENTER and SYSEXIT: AMD has them in legacy mode only (APM vol. 3); Intel everywhere. */
	if (is_amd()) {
		row("sysenter in 64-bit mode", CODE("sysenter"), .env = U64, .vec = UD);
		row("sysenter in compatibility mode", CODE32("sysenter"), .env = U32, .vec = UD);
		row("sysexit in 64-bit mode", CODE("sysexitd"), .env = K64, .vec = UD);
		row("sysexit at CPL 3", CODE("sysexitd"), .env = U64, .vec = UD);
	}
	if (HAS_INVPCID)
		row("CPL 3: invpcid", CODE("invpcid rax, [rdi]"), .env = U64, .di = USER(page_a), .vec = GP);
}

static void umip(void)
{
	bool on;
	int k;

	for (k = 0; k < 2; k++) {
		int v;

		on = k;
		if (on && !HAS_UMIP) {
			skip("UMIP");
			break;
		}
		v = on ? GP : DONE;
		write_cr4((read_cr4() & ~(word)CR4_UMIP) | (on ? CR4_UMIP : 0));
		USER_BOTH("sgdt [edi]", .vec = v);
		USER_BOTH("sidt [edi]", .vec = v);
		USER_BOTH("sldt eax", .vec = v);
		USER_BOTH("sldt [edi]", .vec = v);
		USER_BOTH("str eax", .vec = v);
		USER_BOTH("smsw eax", .vec = v);
		USER_BOTH("smsw [edi]", .vec = v);
		row("CPL 0: sgdt", CODE("sgdt [rdi]"), .di = (word)page_a, .vec = DONE);
		row("CPL 0: smsw", CODE("smsw eax"), .vec = DONE, .check_ax = true,
		    .want_ax = (unsigned)read_cr0());
		row("CPL 0: str", CODE("str eax"), .ax = ~0ul, .vec = DONE, .check_ax = true, .want_ax = SEL_TSS);
		row("CPL 0: sldt", CODE("sldt eax"), .ax = ~0ul, .vec = DONE, .check_ax = true, .want_ax = SEL_LDT);
	}
	write_cr4(read_cr4() & ~(word)CR4_UMIP);
	casef("sgdt stores ten bytes");
	check_eq("limit", *(volatile uint16_t *)page_a, 511);
	check_eq("base", *(volatile uint64_t *)(page_a + 2), (word)gdt);
}

static void bad_cr0(const char *name, word v)
{
	run_row(name, CODE("mov cr0, rax"), &(struct row){ .ax = v, .vec = GP });
	casef("%s: unchanged", name);
	check_eq("CR0", read_cr0(), saved_cr0);
	restore_crs();
}

static void bad_cr3(const char *name, word v)
{
	run_row(name, CODE("mov cr3, rax"), &(struct row){ .ax = v, .vec = GP });
	restore_crs();
}

static void bad_cr4(const char *name, word v)
{
	run_row(name, CODE("mov cr4, rax"), &(struct row){ .ax = v, .vec = GP });
	casef("%s: unchanged", name);
	check_eq("CR4", read_cr4(), saved_cr4);
	restore_crs();
}

static void more_control_registers(void)
{
	bad_cr0("CR0: PG without PE", saved_cr0 & ~(word)CR0_PE);
	bad_cr0("CR0: clearing PG in 64-bit mode", saved_cr0 & ~CR0_PG);
	bad_cr4("CR4: clearing PAE in long mode", saved_cr4 & ~(word)CR4_PAE);
	bad_cr4("CR4: LA57 cannot change in long mode", saved_cr4 ^ 1ul << 12);
	bad_cr4("CR4: bit 63", saved_cr4 | 1ul << 63);
	bad_cr4("CR4: bit 32", saved_cr4 | 1ul << 32);
	bad_cr4("CR4: bit 31", saved_cr4 | 1ul << 31);
	bad_cr4("CR4: bit 15", saved_cr4 | 1ul << 15);
	if (is_amd()) { /* VMXE and SMXE are Intel's */
		bad_cr4("CR4: VMXE on AMD", saved_cr4 | 1ul << 13);
		bad_cr4("CR4: SMXE on AMD", saved_cr4 | 1ul << 14);
	}
	if (phys_bits() < 52) {
		bad_cr3("CR3: bit 51", saved_cr3 | 1ul << 51);
		bad_cr3("CR3: first bit above MAXPHYADDR", saved_cr3 | 1ul << phys_bits());
	}
	bad_cr3("CR3: bit 63 without PCIDE", saved_cr3 | 1ul << 63);
	bad_cr3("CR3: bit 62", saved_cr3 | 1ul << 62);
}

static void control_registers(void)
{
	save_crs();
	bad_cr0("CR0: NW without CD", (saved_cr0 & ~(word)CR0_CD) | CR0_NW);
	bad_cr0("CR0: bit 32", saved_cr0 | 1ul << 32);
	bad_cr0("CR0: bit 63", saved_cr0 | 1ul << 63);
	if (is_tcg())
		skip("illegal PG, PE, PAE, CR3 and CR4");
	else
		more_control_registers();
	if (HAS_PCID) {
		write_cr3(saved_cr3 | 8);
		row("CR4: PCIDE with CR3[11:0] != 0", CODE("mov cr4, rax"), .ax = saved_cr4 | CR4_PCIDE, .vec = GP);
		restore_crs();
		write_cr4(saved_cr4 | CR4_PCIDE);
		row("CR3: bit 62 with PCIDE", CODE("mov cr3, rax"), .ax = saved_cr3 | 1ul << 62, .vec = GP);
		row("CR3: bit 63 with PCIDE", CODE("mov cr3, rax"), .ax = saved_cr3 | 1ul << 63, .vec = DONE);
		casef("CR3: bit 63 is not stored");
		check_eq("CR3", read_cr3(), saved_cr3);
		restore_crs();
	} else {
		bad_cr4("CR4: PCIDE without PCID", saved_cr4 | CR4_PCIDE);
		skip("PCID");
	}
}

static void control_register_state(void)
{
	word cr0 = read_cr0();

	write_cr0(cr0 & ~0x10ul);
	casef("CR0.ET is always set");
	check_eq("CR0", read_cr0(), cr0);
	row("clts", CODE("clts"), .vec = DONE);
	write_cr0(cr0 | CR0_TS);
	row("clts", CODE("clts; mov rax, cr0"), .vec = DONE, .check_ax = true, .want_ax = cr0);
	row("lmsw sets MP EM TS", CODE("lmsw ax; mov rax, cr0"), .ax = 0xf, .vec = DONE, .check_ax = true,
	    .want_ax = cr0 | 0xe);
	row("lmsw clears them, never PE", CODE("lmsw ax; mov rax, cr0"), .ax = 0, .vec = DONE, .check_ax = true,
	    .want_ax = cr0);
	row("lmsw leaves bits 15:4", CODE("lmsw ax; mov rax, cr0"), .ax = 0xffff0, .vec = DONE, .check_ax = true,
	    .want_ax = cr0);
	write_cr0(cr0);
	row("CR8 takes 15", CODE("mov cr8, rax; xor eax, eax; mov rax, cr8"), .ax = 15, .vec = DONE,
	    .check_ax = true, .want_ax = 15);
	row("CR8 is 4 bits", CODE("mov cr8, rax"), .ax = 16, .vec = GP);
	row("CR8: bit 63", CODE("mov cr8, rax"), .ax = 1ul << 63, .vec = GP);
	write_cr8(0);
	row("mov rax, cr1", CODE(".byte 0x0f, 0x20, 0xc8"), .vec = UD);
	row("mov cr1, rax", CODE(".byte 0x0f, 0x22, 0xc8"), .vec = UD);
	row("mov rax, cr5", CODE(".byte 0x0f, 0x20, 0xe8"), .vec = UD);
	row("mov rax, cr7", CODE(".byte 0x0f, 0x20, 0xf8"), .vec = UD);
	row("mov rax, cr9", CODE(".byte 0x44, 0x0f, 0x20, 0xc8"), .vec = UD);
	row("mov rax, cr15", CODE(".byte 0x44, 0x0f, 0x20, 0xf8"), .vec = UD);
	row("mov ignores mod: register form", CODE(".byte 0x0f, 0x20, 0x00"), .vec = DONE, .check_ax = true,
	    .want_ax = cr0);
	row("mov cr0 ignores 66", CODE(".byte 0x66, 0x0f, 0x20, 0xc0"), .vec = DONE, .check_ax = true,
	    .want_ax = cr0);
	row("lock mov cr0 is #UD (but AMD's CR8 alias)", CODE(".byte 0xf0, 0x0f, 0x20, 0xd8"), .vec = UD);
	row("mov rax, dr8", CODE(".byte 0x44, 0x0f, 0x21, 0xc0"), .vec = UD);
	row("DR7: high half", CODE("mov dr7, rax"), .ax = 1ul << 32, .vec = GP);
	row("DR6: high half", CODE("mov dr6, rax"), .ax = 1ul << 63, .vec = GP);
	write_cr4(read_cr4() | CR4_DE);
	row("DR4 with DE", CODE(".byte 0x0f, 0x21, 0xe0"), .vec = UD);
	row("DR5 with DE", CODE(".byte 0x0f, 0x23, 0xe8"), .vec = UD);
	write_cr4(read_cr4() & ~(word)CR4_DE);
	row("DR5 is DR7 without DE", CODE(".byte 0x0f, 0x21, 0xe8"), .vec = DONE, .check_ax = true, .want_ax = 0x400);
}

struct msr_row {
	const char *name;
	uint32_t msr;
	uint64_t value;
	int vec;
};

static void msr_write(const struct msr_row *r)
{
	bool readable;
	uint64_t old = 0;
	struct row rd = { .cx = r->msr, .vec = DONE };

	run_row("rdmsr before a write", CODE("rdmsr"), &rd);
	readable = trap.vec == DONE;
	if (readable)
		old = (uint32_t)trap.r.ax | (uint64_t)trap.r.dx << 32;
	rd.ax = (uint32_t)r->value;
	rd.dx = (uint32_t)(r->value >> 32);
	rd.vec = r->vec;
	run_row(r->name, CODE("wrmsr"), &rd);
	casef("%s: value", r->name);
	if (r->vec == GP && readable)
		check_eq("MSR", rdmsr(r->msr), old);
	else if (r->vec == DONE)
		check_eq("MSR", rdmsr(r->msr), r->value);
	if (readable)
		wrmsr(r->msr, old);
}

static void msrs(void)
{
	static const struct msr_row t[] = {
		{ "LSTAR", MSR_LSTAR, ~0ul << 47, DONE },
		{ "LSTAR", MSR_LSTAR, BAD - 1, DONE },
		{ "LSTAR not canonical", MSR_LSTAR, BAD, GP },
		{ "CSTAR not canonical", MSR_CSTAR, BAD, GP },
		{ "FS_BASE not canonical", MSR_FS_BASE, BAD, GP },
		{ "GS_BASE not canonical", MSR_GS_BASE, 1ul << 63, GP },
		{ "KERNEL_GS_BASE not canonical", MSR_KERNEL_GS_BASE, (~0ul << 47) - 1, GP },
		{ "FS_BASE", MSR_FS_BASE, ~0ul << 47, DONE },
		{ "GS_BASE", MSR_GS_BASE, BAD - 1, DONE },
		{ "KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, ~0ul << 47, DONE },
		{ "STAR", MSR_STAR, 0x0023001000000000, DONE },
		{ "EFER: bit 2", MSR_EFER, 0xd05, GP },
		{ "EFER: bit 63", MSR_EFER, 1ul << 63 | 0xd01, GP },
		{ "EFER: LME while paging", MSR_EFER, 0xc01, GP },
		{ "EFER: SCE", MSR_EFER, 0xd00, DONE },
		{ "EFER: NXE", MSR_EFER, 0x501, DONE },
		{ "PAT: reserved type 2", 0x277, 0x0007040600070402, GP },
		{ "PAT: reserved type 3", 0x277, 0x0307040600070406, GP },
		{ "PAT: bit 3 of an entry", 0x277, 0x0007040600070f06, GP },
		{ "PAT", 0x277, 0x0007010600070106, DONE },
		{ "MTRRdefType: reserved", 0x2ff, 1ul << 63, GP },
		{ "MTRRdefType: type 2", 0x2ff, 2, GP },
		{ "APIC_BASE: reserved", 0x1b, 1ul << 62, GP },
	};
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++)
		msr_write(&t[i]);
	row("read of an unknown MSR", CODE("rdmsr"), .cx = 0x12345678, .vec = GP);
	row("write of an unknown MSR", CODE("wrmsr"), .cx = 0x12345678, .vec = GP);
	row("read of MSR ~0", CODE("rdmsr"), .cx = 0xffffffff, .vec = GP);
	row("ECX alone selects the MSR", CODE("rdmsr"), .cx = 0xffffffff00000000 | MSR_EFER, .ax = ~0ul, .dx = ~0ul,
	    .vec = DONE, .check_ax = true, .want_ax = 0xd01);
	casef("rdmsr clears the high half");
	check_eq("RDX", trap.r.dx, 0);
	row("write of MTRRCAP", CODE("wrmsr"), .cx = 0xfe, .vec = GP);
	row("SFMASK", CODE("wrmsr; rdmsr"), .cx = MSR_SFMASK, .ax = 0x47700, .vec = DONE, .check_ax = true,
	    .want_ax = 0x47700);
	/* AMD's SYSENTER MSRs hold 32 bits and check nothing; Intel's must be canonical. */
	if (is_amd())
		row("SYSENTER_EIP takes anything on AMD", CODE("wrmsr"), .cx = 0x176, .dx = 0x8000, .vec = DONE);
}

static void xcr(void)
{
	uint32_t r[4];
	word max;

	if (!HAS_XSAVE) {
		skip("XSAVE");
		return;
	}
	row("xgetbv without OSXSAVE", CODE("xgetbv"), .vec = UD);
	row("xsetbv without OSXSAVE", CODE("xsetbv"), .ax = 1, .vec = UD);
	row("xsave without OSXSAVE", CODE("xsave [rdi]"), .di = (word)page_a, .vec = UD);
	casef("CPUID.OSXSAVE");
	check_eq("follows CR4", has_cpuid(1, 0, 2, 27), 0);
	write_cr4(read_cr4() | CR4_OSXSAVE);
	check_eq("follows CR4", has_cpuid(1, 0, 2, 27), 1);
	cpuid(13, 0, r);
	max = r[0];
	row("XCR0 = 1", CODE("xsetbv; xgetbv"), .ax = 1, .vec = DONE, .check_ax = true, .want_ax = 1);
	row("XCR0 = 3", CODE("xsetbv; xgetbv"), .ax = 3, .vec = DONE, .check_ax = true, .want_ax = 3);
	row("XCR0 = max", CODE("xsetbv; xgetbv"), .ax = max, .vec = DONE, .check_ax = true, .want_ax = max);
	row("XCR0 = 1", CODE("xsetbv; xgetbv"), .ax = 1, .vec = DONE, .check_ax = true, .want_ax = 1);
	row("XCR0 without x87", CODE("xsetbv"), .ax = 2, .vec = GP);
	row("XCR0 = 0", CODE("xsetbv"), .ax = 0, .vec = GP);
	row("XCR0: AVX without SSE", CODE("xsetbv"), .ax = 5, .vec = GP);
	row("XCR0: opmask without AVX", CODE("xsetbv"), .ax = 0x23, .vec = GP);
	row("XCR0: ZMM_Hi256 alone", CODE("xsetbv"), .ax = 0x47, .vec = GP);
	row("XCR0: bit 63", CODE("xsetbv"), .ax = 1, .dx = 1ul << 31, .vec = GP);
	row("XCR1", CODE("xsetbv"), .ax = 1, .cx = 1, .vec = GP);
	row("xgetbv of XCR2", CODE("xgetbv"), .cx = 2, .vec = GP);
	row("CPL 3: xsetbv", CODE("xsetbv"), .env = U64, .ax = 1, .vec = GP);
	row("CPL 3: xgetbv", CODE("xgetbv"), .env = U64, .vec = DONE, .check_ax = true, .want_ax = 1);
	row("66 xgetbv", CODE(".byte 0x66, 0x0f, 0x01, 0xd0"), .vec = UD);
	row("xsave, address not a multiple of 64", CODE("xsave [rdi]"), .di = (word)page_a + 8, .vec = GP);
	write_cr4(read_cr4() & ~(word)CR4_OSXSAVE);
}

static void tsc_and_bases(void)
{
	row("rdtsc at CPL 3", CODE("rdtsc"), .env = U64, .vec = DONE);
	write_cr4(read_cr4() | CR4_TSD);
	USER_BOTH("rdtsc", .vec = GP);
	if (HAS_RDTSCP)
		USER_BOTH("rdtscp", .vec = GP);
	row("rdtsc at CPL 0 with TSD", CODE("rdtsc"), .vec = DONE);
	write_cr4(read_cr4() & ~(word)CR4_TSD);
	USER_BOTH("rdpmc", .vec = GP); /* CR4.PCE = 0 */
	if (!HAS_FSGSBASE) {
		skip("FSGSBASE");
		return;
	}
	row("rdfsbase with FSGSBASE = 0", CODE("rdfsbase rax"), .vec = UD);
	row("wrgsbase with FSGSBASE = 0", CODE("wrgsbase rax"), .env = U64, .vec = UD);
	write_cr4(read_cr4() | CR4_FSGSBASE);
	row("wrfsbase", CODE("wrfsbase rcx; rdfsbase rax"), .env = U64, .cx = BAD - 1, .vec = DONE, .check_ax = true,
	    .want_ax = BAD - 1);
	row("wrgsbase, 32 bits", CODE("wrgsbase ecx; rdgsbase rax"), .env = U64, .cx = ~0ul, .vec = DONE,
	    .check_ax = true, .want_ax = 0xffffffff);
	row("wrfsbase, not canonical", CODE("wrfsbase rax"), .env = U64, .ax = BAD, .vec = GP);
	row("wrgsbase, not canonical", CODE("wrgsbase rax"), .ax = 1ul << 63, .vec = GP);
	row("rdfsbase in compatibility mode", CODE32(".byte 0xf3, 0x0f, 0xae, 0xc0"), .env = U32, .vec = UD);
	write_cr4(read_cr4() & ~(word)CR4_FSGSBASE);
	wrmsr(MSR_GS_BASE, 0x1234);
	wrmsr(MSR_KERNEL_GS_BASE, 0x5678);
	row("swapgs", CODE("swapgs"), .vec = DONE);
	check_eq("GS_BASE", rdmsr(MSR_GS_BASE), 0x5678);
	check_eq("KERNEL_GS_BASE", rdmsr(MSR_KERNEL_GS_BASE), 0x1234);
	wrmsr(MSR_GS_BASE, 0);
	row("lmsw cannot clear PE", CODE("xor eax, eax; lmsw ax; smsw ax; and eax, 1"), .vec = DONE,
	    .check_ax = true, .want_ax = 1);
}

void guest_main(void)
{
	privileged();
	umip();
	control_registers();
	control_register_state();
	msrs();
	xcr();
	tsc_and_bases();
}
