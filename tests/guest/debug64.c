/*
 * debug64.c - single-step, breakpoints, DR6 and DR7, RF. SDM vol. 3, ch. 18; APM vol. 2, 13.1.
 */
#include "rt/rt.h"

#define MSR_DEBUGCTL 0x1d9u

enum { DR6_INIT = 0xffff0ff0, BS = 1 << 14, BD = 1 << 13 };

static unsigned steps;
static word step_ip[64];

/* Steps through a snippet with TF until INT 0xfe ends it, recording every IP of #DB. */
static void step(enum env env, const void *code, word cx, word si)
{
	struct ctx c;

	ctx_init(&c, env, code);
	c.flags |= F_TF;
	c.cx = cx;
	c.si = si;
	c.di = env == K64 ? (word)page_b : USER(page_b);
	steps = 0;
	for (;;) {
		write_dr6(DR6_INIT);
		run(&c);
		if (trap.vec != DB || steps == 64)
			break;
		if (!(read_dr6() & BS)) {
			check(false, "DR6 0x%lx without BS", read_dr6());
			break;
		}
		step_ip[steps++] = trap.r.ip - (env == K64 ? (word)code : USER(code));
		copy(&c, &trap.r, sizeof(c));
	}
}

/* offsets: the IPs at which #DB is expected, as a string of bytes. */
static void stepped(const char *name, enum env env, const void *code, const char *offsets, unsigned n, word cx)
{
	unsigned i;

	casef("single-step, %s", name);
	step(env, code, cx, env == K64 ? (word)page_a : USER(page_a));
	check_eq("vector at the end", trap.vec, DONE);
	if (!check_eq("steps", steps, n))
		return;
	for (i = 0; i < n; i++)
		check_eq("IP", step_ip[i], (uint8_t)offsets[i]);
}
#define STEPPED(name, env, text, offsets, cx) stepped(name, env, CODE(text), offsets, sizeof(offsets) - 1, cx)

static void single_step(void)
{
	STEPPED("nops", K64, "nop; nop; nop", "\1\2\3", 0);
	STEPPED("nops at CPL 3", U64, "nop; nop; nop", "\1\2\3", 0);
	STEPPED("jumps", U64, "jmp 1f; nop; 1: nop", "\3\4", 0);
	STEPPED("rep movsb: each iteration", U64, "rep movsb; nop", "\0\0\2\3", 3);
	STEPPED("rep stosb once", U64, "rep stosb; nop", "\2\3", 1);
	STEPPED("rep movsb with a count of 0", U64, "rep movsb; nop", "\2\3", 0);
	STEPPED("mov ss holds #DB for one instruction", K64, "mov eax, ss; mov ss, eax; nop; nop", "\2\5\6", 0);
	STEPPED("pop ss does not exist: mov ds holds nothing", K64, "mov eax, ds; mov ds, eax; nop", "\2\4\5", 0);
	STEPPED("pushf saves TF", U64, "pushfq; pop rax; nop", "\1\2\3", 0);
	check_eq("RAX", trap.r.ax & F_TF, F_TF);
	STEPPED("popf that clears TF still traps", U64, "push 2; popfq; nop; nop", "\2\3", 0);
	STEPPED("sti", U64, "nop; cpuid; nop", "\1\3\4", 0);
	STEPPED("sti shadow does not hold #DB", K64, "sti; cli; nop", "\1\2\3", 0);
	STEPPED("call and ret", U64, "call 1f; jmp 2f; 1: ret; 2: nop", "\7\5\10\11", 0);
	STEPPED("wrmsr and mov cr", K64, "mov rax, cr3; mov cr3, rax; nop", "\3\6\7", 0);
	row("popf that sets TF: trap after the next", CODE("push 0x102; popfq; nop; nop"), .env = U64, .off = 7, .vec = DB);
	row("popf that sets TF, then mov ss", CODE("mov ecx, ss; push 0x102; popfq; mov ss, ecx; nop; nop"), .off = 11,
	    .vec = DB);
	row("iret that sets TF", CODE("push rax; push rsp; add qword ptr [rsp], 8; push 0x102; push rcx; lea rax, 1f[rip];"
	    "push rax; iretq; nop; 1: nop; nop"), .env = U64, .ax = SEL_UDATA, .cx = SEL_UCODE64, .off = 25, .vec = DB);
	casef("saved flags of a step have TF and not RF");
	check_eq("flags", trap.r.flags & (F_TF | F_RF), F_TF);
	row("int n clears TF: no trap in the handler", CODE("push 0x102; popfq; int3; nop"), .env = U64, .off = 7, .vec = BP);
	check_eq("saved TF", trap.r.flags & F_TF, F_TF);
	row("a fault while stepping: the fault only", CODE("push 0x102; popfq; ud2"), .env = U64, .off = 6, .vec = UD);
	row("a fault while stepping: #GP", CODE("push 0x102; popfq; hlt"), .env = U64, .off = 6, .vec = GP);
	write_dr6(DR6_INIT);
	row("icebp does not set BS", CODE(".byte 0xf1"), .off = 1, .vec = DB);
	check_eq("DR6", read_dr6(), DR6_INIT);
}

static void syscall_step(void)
{
	const void *h = CODE("nop; nop; nop"), *call = CODE("syscall");
	struct ctx c;

	wrmsr(MSR_STAR, 0x0020ul << 48 | 0x0008ul << 32);
	wrmsr(MSR_LSTAR, (word)h);
	wrmsr(MSR_SFMASK, F_TF);
	ctx_init(&c, U64, call);
	c.flags |= F_TF;
	c.sp = top(kstack);
	casef("syscall with TF in SFMASK: no trap in the handler");
	run(&c);
	check_eq("vector", trap.vec, DONE);
	check_eq("R11 has TF", trap.r.r[11] & F_TF, F_TF);
	wrmsr(MSR_SFMASK, 0);
	casef("syscall with TF kept");
	run(&c);
	check_eq("vector", trap.vec, DB);
	check(trap.r.ip == (word)h || trap.r.ip == (word)h + 1, "IP 0x%lx", trap.r.ip);
}

/* Single-step on branches. */
static void branch_step(void)
{
	if (is_tcg()) {
		skip("DEBUGCTL.BTF");
		return;
	}
	wrmsr(MSR_DEBUGCTL, 2);
	STEPPED("BTF: no branch", K64, "nop; cpuid; nop", "", 0);
	check_eq("DEBUGCTL stays", rdmsr(MSR_DEBUGCTL), 2);
	STEPPED("BTF: a branch not taken", K64, "test esp, esp; jz 1f; nop; 1: nop", "", 0);
	check_eq("DEBUGCTL stays", rdmsr(MSR_DEBUGCTL), 2);
	write_dr6(DR6_INIT);
	row("BTF: a taken branch", CODE("push 0x102; popfq; nop; jmp 1f; nop; 1: nop; nop"), .env = U64, .off = 10, .vec = DB);
	check_eq("DR6", read_dr6(), DR6_INIT | BS);
	check_eq("DEBUGCTL is clear", rdmsr(MSR_DEBUGCTL), 0);
}

struct bp {
	const char *name;
	const void *code;
	enum env env;
	word addr;
	unsigned type, len; /* 0 exec, 1 write, 2 I/O, 3 read or write; len code */
	int vec;
	int off;
	bool rf;    /* RF in the saved flags: set between iterations, not by instruction breakpoints (SDM 18.3.1.1) */
};

static void breakpoint(const struct bp *b, unsigned n, bool global)
{
	struct ctx c;
	word dr6;

	casef("breakpoint %d%s: %s", n, global ? " G" : " L", b->name);
	ctx_init(&c, b->env, b->code);
	c.di = b->env == K64 ? (word)page_a : USER(page_a);
	c.si = c.di + 256;
	c.cx = 2;
	c.dx = 0x80;
	if (n == 0)
		write_dr0(b->addr);
	else if (n == 1)
		write_dr1(b->addr);
	else if (n == 2)
		write_dr2(b->addr);
	else
		write_dr3(b->addr);
	write_dr6(DR6_INIT);
	write_dr7(0x400 | 1u << (n * 2 + global) | (b->type | b->len << 2) << (16 + n * 4));
	run(&c);
	dr6 = read_dr6();
	write_dr7(0x400);
	if (!check_eq("vector", trap.vec, (word)b->vec) || b->vec != DB)
		return;
	check_eq("IP", trap.r.ip, c.ip + (word)b->off);
	check_eq("DR6", dr6, DR6_INIT | 1u << n);
	check_eq("RF", trap.r.flags & F_RF, b->rf ? F_RF : 0);
}

static void breakpoints(void)
{
	const void *nops = CODE("nop; nop; nop"), *store = CODE("mov [rdi], eax; nop; nop"),
		   *load = CODE("mov eax, [rdi]; nop; nop"), *rep = CODE("rep movsb; nop"),
		   *in = CODE("in al, dx; nop"), *load8 = CODE("mov rax, [rdi]; nop"), *push = CODE("mov rsp, rdi; push rax; nop");
	word k = (word)page_a, u = USER(page_a);
	const struct bp t[] = {
		{ "exec", nops, K64, (word)nops + 1, 0, 0, DB, 1, false },
		{ "exec at CPL 3", nops, U64, USER(nops) + 2, 0, 0, DB, 2, false },
		{ "exec, first instruction after iret", nops, U64, USER(nops), 0, 0, DB, 0, false },
		{ "exec inside an instruction", store, K64, (word)store + 1, 0, 0, DONE, 0, false },
		{ "write", store, K64, k, 1, 3, DB, 2, false },
		{ "write at CPL 3", store, U64, u, 1, 3, DB, 2, false },
		{ "write, one byte of it", store, U64, u + 3, 1, 0, DB, 2, false },
		{ "write, next byte", store, U64, u + 4, 1, 0, DONE, 0, false },
		{ "write, byte before", store, U64, u - 1, 1, 0, DONE, 0, false },
		{ "write does not see reads", load, U64, u, 1, 3, DONE, 0, false },
		{ "read or write sees reads", load, U64, u, 3, 3, DB, 2, false },
		{ "read or write sees writes", store, U64, u, 3, 3, DB, 2, false },
		{ "read or write does not see fetches", nops, U64, USER(nops), 3, 0, DONE, 0, false },
		{ "eight bytes", load8, U64, u, 3, 2, DB, 3, false },
		{ "eight bytes: alignment ignores low bits", store, U64, u + 7, 3, 2, DB, 2, false },
		{ "two bytes: alignment ignores bit 0", store, U64, u + 3, 3, 1, DB, 2, false },
		{ "stack", push, K64, k - 8, 1, 2, DB, 4, false },
		{ "rep movsb: after the iteration", rep, U64, u, 1, 0, DB, 0, true },
		{ "rep movsb: second iteration", rep, U64, u + 1, 1, 0, DB, 2, false },
		{ "another address", store, U64, u + 64, 3, 3, DONE, 0, false },
		{ "another address, same low bits", store, K64, k + (1ul << 32), 3, 3, DONE, 0, false },
		{ "I/O", in, K64, 0x80, 2, 0, DB, 1, false },
		{ "I/O, another port", in, K64, 0x81, 2, 0, DONE, 0, false },
		{ "I/O does not see memory", load, K64, k, 2, 0, DONE, 0, false },
	};
	unsigned i, n;

	write_cr4(read_cr4() | CR4_DE);
	for (i = 0; i < sizeof(t) / sizeof(*t); i++)
		for (n = 0; n < 4; n++)
			breakpoint(&t[i], n, n & 1);
	write_cr4(read_cr4() & ~(word)CR4_DE);
}

static void more_breakpoints(void)
{
	const void *nops = CODE("nop; nop; nop"), *store = CODE("mov [rdi], eax; nop; nop"), *gd = CODE("mov rax, dr0");
	struct ctx c;

	ctx_init(&c, U64, nops);
	write_dr0(USER(nops));
	write_dr7(0x400);
	casef("breakpoint not enabled");
	run(&c);
	check_eq("vector", trap.vec, DONE);
	write_dr7(0x401);
	c.flags |= F_RF;
	casef("RF holds an exec breakpoint off for one instruction");
	run(&c);
	check_eq("vector", trap.vec, DONE);
	write_dr0(USER(nops) + 1);
	casef("and only for one");
	run(&c);
	check_eq("vector", trap.vec, DB);
	check_eq("IP", trap.r.ip, USER(nops) + 1);
	/* Exec breakpoints come before faults of the instruction itself. */
	ctx_init(&c, U64, CODE("hlt"));
	write_dr0(c.ip);
	casef("exec breakpoint before #GP");
	run(&c);
	check_eq("vector", trap.vec, DB);
	c.flags |= F_RF;
	casef("with RF the #GP");
	run(&c);
	check_trap(&c, GP, 0);
	check_eq("RF in the image", trap.r.flags & F_RF, F_RF);
	/* Single-step and data breakpoint together: one #DB with both bits. */
	ctx_init(&c, U64, store);
	c.di = USER(page_a);
	c.flags |= F_TF;
	write_dr0(c.di);
	write_dr6(DR6_INIT);
	write_dr7(0xd0401);
	casef("step and data breakpoint");
	run(&c);
	write_dr7(0x400);
	check_eq("vector", trap.vec, DB);
	check_eq("DR6", read_dr6(), DR6_INIT | BS | 1);
	/* A data breakpoint on an access that faults does not happen. */
	write_dr0(0x30000000000);
	write_dr6(DR6_INIT);
	write_dr7(0xd0401);
	row("data breakpoint on a faulting access", CODE("mov [rdi], eax"), .di = 0x30000000000, .vec = PF, .err = E_W,
	    .cr2 = 0x30000000000);
	check_eq("DR6", read_dr6(), DR6_INIT);
	write_dr0((word)page_a);
	write_dr6(DR6_INIT);
	write_dr7(0xf0401);
	row("data breakpoint on what movs reads before it faults", CODE("movsd"), .si = (word)page_a, .di = 0x30000000000,
	    .vec = PF, .err = E_W, .cr2 = 0x30000000000);
	check_eq("DR6", read_dr6(), DR6_INIT);
	/* General detect: cleared by the delivery. */
	write_dr6(DR6_INIT);
	write_dr7(0x2400);
	casef("GD");
	ctx_init(&c, K64, gd);
	run(&c);
	check_eq("vector", trap.vec, DB);
	check_eq("IP: a fault", trap.r.ip, c.ip);
	check_eq("DR6", read_dr6(), DR6_INIT | BD);
	check_eq("DR7: GD cleared", read_dr7(), 0x400);
	write_dr7(0x2400);
	row("GD at CPL 3: #GP first", gd, .env = U64, .vec = GP);
	row("GD: a write too", CODE("mov dr7, rax"), .ax = 0x400, .vec = DB, .any_ip = true);
	write_dr7(0x400);
}

static void registers(void)
{
	row("DR6 reads with fixed ones", CODE("mov dr6, rax; mov rax, dr6"), .ax = 0, .vec = DONE, .check_ax = true,
	    .want_ax = DR6_INIT);
	row("DR6 takes B3-B0, BD, BS, BT", CODE("mov dr6, rax; mov rax, dr6"), .ax = 0xe00f, .vec = DONE, .check_ax = true,
	    .want_ax = DR6_INIT | 0xe00f);
	row("DR7 reads bit 10 set, 12, 14, 15 clear", CODE("mov dr7, rax; mov rax, dr7"), .ax = 0xd000, .vec = DONE,
	    .check_ax = true, .want_ax = 0x400);
	row("DR0 holds 64 bits", CODE("mov dr0, rax; xor eax, eax; mov rax, dr0"), .ax = 0x123456789abcdef0, .vec = DONE,
	    .check_ax = true, .want_ax = 0x123456789abcdef0);
	row("DR4 is DR6", CODE(".byte 0x0f, 0x21, 0xe0"), .vec = DONE, .check_ax = true, .want_ax = DR6_INIT | 0xe00f);
	write_dr6(DR6_INIT);
	write_dr7(0x400);
}

void guest_main(void)
{
	registers();
	single_step();
	syscall_step();
	branch_step();
	breakpoints();
	more_breakpoints();
}
