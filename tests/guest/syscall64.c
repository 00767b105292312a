/*
 * syscall64.c - SYSCALL and SYSRET in 64-bit and compatibility mode. APM vol. 3, SYSCALL and SYSRET:
 * AMD's have a compatibility mode (CSTAR), Intel's raise #UD there.
 */
#include "rt/rt.h"

#define BAD (1ul << 47)
#define STAR_OK (0x0020ul << 48 | 0x0008ul << 32)

static uint64_t efer;

static void set_sce(bool on)
{
	wrmsr(MSR_EFER, on ? efer | EFER_SCE : efer & ~(uint64_t)EFER_SCE);
}

static void entry(void)
{
	/* The handler shows what it got: flags in RAX, CS in RDX, SS in RBX. */
	const void *h = CODE("mov rbp, rsp; mov rsp, [stack_for_syscall]; pushfq; pop rax; mov edx, cs; mov ebx, ss");
	const void *call = CODE("syscall");
	word want = F_AC | F_ID | 0xcd5 | F_IOPL(3) | F_1;

	wrmsr(MSR_STAR, STAR_OK);
	wrmsr(MSR_LSTAR, (word)h);
	wrmsr(MSR_CSTAR, (word)h + 0x10000000000);
	wrmsr(MSR_SFMASK, F_IF | F_TF | F_DF);
	row("syscall", call, .env = U64, .flags = F_IF | F_AC | F_ID | 0xcd5 | F_IOPL(3), .vec = DONE, .check_ax = true,
	    .want_ax = want & ~(word)F_DF & ~(word)0x10000);
	casef("syscall");
	check_eq("RCX", trap.r.cx, USER(call) + 2);
	check_eq("R11", trap.r.r[11], want | F_IF);
	check_eq("CS", trap.r.dx, 0x08);
	check_eq("SS", trap.r.bx, 0x10);
	check_eq("RSP is the caller's", trap.r.bp, USER(top(ustack)) - 64);
	wrmsr(MSR_SFMASK, 0xffffffff);
	row("SFMASK of all ones", call, .env = U64, .flags = F_IF | F_AC | F_ID | 0xcd5, .vec = DONE, .check_ax = true,
	    .want_ax = 2);
	wrmsr(MSR_SFMASK, 0);
	row("SFMASK of 0; RF is cleared", call, .env = U64, .flags = F_AC | F_RF, .vec = DONE, .check_ax = true,
	    .want_ax = F_AC | F_1);
	check_eq("R11", trap.r.r[11] & ~(word)F_RF, F_AC | F_1);
	row("syscall at CPL 0", call, .vec = DONE, .check_ax = true, .want_ax = 2);
	wrmsr(MSR_STAR, STAR_OK | 3ul << 32);
	row("RPL in STAR is ignored", call, .env = U64, .vec = DONE);
	check_eq("CS", trap.r.dx, 0x08);
	/* The descriptors are not read: selectors of nothing work. */
	wrmsr(MSR_STAR, 0x0020ul << 48 | 0x01c0ul << 32);
	row("CS from STAR is not looked up", CODE("syscall"), .env = U64, .vec = DONE);
	check_eq("CS", trap.r.dx, 0x1c0);
	check_eq("SS", trap.r.bx, 0x1c8);
	wrmsr(MSR_STAR, STAR_OK);
	wrmsr(MSR_LSTAR, BAD - 4096);
	row("LSTAR on a missing page", call, .env = U64, .vec = PF, .any_ip = true, .err = E_I, .cr2 = BAD - 4096);
	casef("LSTAR on a missing page");
	check_eq("IP", trap.r.ip, BAD - 4096);
	check_eq("CS", trap.r.cs, 0x08);
	wrmsr(MSR_LSTAR, (word)h);
	set_sce(false);
	row("syscall without SCE", call, .env = U64, .vec = UD);
	row("sysret without SCE", CODE("sysretd"), .vec = UD);
	row("syscall in compat without SCE", CODE32("syscall"), .env = U32, .vec = UD);
	set_sce(true);
	row("lock syscall", CODE(".byte 0xf0, 0x0f, 0x05"), .env = U64, .vec = UD);
}

static void compat(void)
{
	const void *h = CODE("mov rsp, [stack_for_syscall]; pushfq; pop rax; mov edx, cs");
	const void *call = CODE32("syscall");

	if (!is_amd()) {
		row("syscall in compat: Intel", call, .env = U32, .vec = UD);
		return;
	}
	wrmsr(MSR_CSTAR, (word)h);
	wrmsr(MSR_LSTAR, BAD - 4096);
	wrmsr(MSR_SFMASK, F_DF);
	row("syscall in compat goes to CSTAR", call, .env = U32, .flags = F_DF | F_AC, .vec = DONE, .check_ax = true,
	    .want_ax = F_AC | F_1);
	check_eq("RCX", trap.r.cx, USER(call) + 2);
	check_eq("R11", trap.r.r[11], F_DF | F_AC | F_1);
	check_eq("CS", trap.r.dx, 0x08);
}

static void ret_row(const char *name, const void *code, word ip, word flags, int vec, word cs, word want_flags)
{
	struct ctx c;

	casef("%s", name);
	ctx_init(&c, K64, code);
	c.cx = ip;
	c.r[11] = flags;
	c.sp = (word)USER(top(ustack)) - 64;
	run(&c);
	if (vec == DONE)
		c.ip = ip;
	if (!check_trap(&c, vec, 0) || vec != DONE)
		return;
	check_eq("IP", trap.r.ip, ip + 2);
	check_eq("CS", trap.r.cs, cs);
	check_eq("SS", trap.r.ss, 0x2b);
	check_eq("RSP", trap.r.sp, c.sp);
	check_eq("flags", trap.r.flags, want_flags);
}

static void rets(void)
{
	const void *ret64 = CODE("sysretq"), *ret32 = CODE("sysretd");
	word u = USER(CODE("nop")) + 1;

	wrmsr(MSR_STAR, STAR_OK);
	ret_row("sysretq", ret64, u, F_1, DONE, 0x33, F_1);
	ret_row("sysretq, all flags", ret64, u, 0x3f7cd7, DONE, 0x33, 0x3c7cd7);
	/* R11 is masked with 3c7fd7h. */
	ret_row("sysretq, RF and VM are cleared", ret64, u, F_RF | F_VM | F_1, DONE, 0x33, F_1);
	ret_row("sysretq, reserved flags", ret64, u, ~0ul & ~(word)(F_TF | F_IF | F_RF | F_VM | 3 << 19), DONE, 0x33,
		0x247cd7);
	ret_row("sysretd", ret32, u, F_1, DONE, 0x23, F_1);
	ret_row("sysretd uses ECX", ret32, u, F_1 | F_AC, DONE, 0x23, F_1 | F_AC);
	wrmsr(MSR_STAR, STAR_OK | 3ul << 48);
	ret_row("sysretq, RPL in STAR", ret64, u, F_1, DONE, 0x33, F_1);
	wrmsr(MSR_STAR, STAR_OK);
	row("sysret at CPL 3", CODE("sysretq"), .env = U64, .vec = GP);
	row("sysret in compat at CPL 3", CODE32(".byte 0x0f, 0x07"), .env = U32, .vec = GP);
	/* 64-bit RIP not canonical: AMD goes to CPL 3 and faults there; Intel faults at SYSRET, CPL 0. */
	if (is_amd()) {
		struct ctx c;

		ctx_init(&c, K64, ret64);
		c.cx = BAD;
		c.r[11] = F_1;
		casef("sysretq to a non-canonical RIP");
		run(&c);
		c.ip = BAD;
		if (is_tcg())
			skip("sysretq to a non-canonical RIP");
		else if (check_trap(&c, GP, 0))
			check_eq("CS", trap.r.cs, 0x33);
	}
	gdt_set(0x30, 0);
	ret_row("sysretq does not look CS up", ret64, u, F_1, DONE, 0x33, F_1);
	gdt_set(0x30, 0x00affb000000ffff);
}

void guest_main(void)
{
	__asm__ volatile(".pushsection .data\n.balign 8\nstack_for_syscall: .quad kstack + 4096\n.popsection");
	efer = rdmsr(MSR_EFER);
	entry();
	compat();
	rets();
}
