/*
 * gates32.c - changes of privilege in legacy protected mode: interrupt, trap and call gates of both sizes,
 * far transfers, IRET, SYSENTER, SYSCALL. SDM vol. 3, 5.8 and 6.12; APM vol. 2, ch. 4 and 8.
 */
#include "rt/rt.h"

#define X(n) (SEL_FREE + (n) * 8)
enum { X_GATE = X(0), X_CONF = X(1), X_NP = X(2), X_CODE1 = X(3), X_DATA1 = X(4), X_SS1 = X(5), X_16 = X(6), X_OUT = 0x800 };

static void vectors(void)
{
	row("#DE", CODE("div cl"), .vec = DE);
	row("#BP at CPL 3", CODE("int3"), .env = U32, .off = 1, .vec = BP);
	row("#OF", CODE("mov al, 0x7f; inc al; into"), .env = U32, .off = 5, .vec = OF);
	row("#BR", CODE("push 10; push 5; mov eax, 11; bound eax, [esp]"), .env = U32, .off = 9, .vec = BR);
	row("#UD", CODE("ud2"), .env = U32, .vec = UD);
	row("#GP: hlt", CODE("hlt"), .env = U32, .vec = GP);
	row("int 32 at CPL 3", CODE("int 32"), .env = U32, .vec = GP, .err = 32 * 8 + 2);
	row("int 255 at CPL 0", CODE("int 255"), .off = 2, .vec = 255);
	row("aam 0", CODE("aam 0"), .env = U32, .vec = DE);
	row("lock nop", CODE(".byte 0xf0, 0x90"), .env = U32, .vec = UD);
	row("sysret without SCE", CODE(".byte 0x0f, 0x07"), .vec = UD);
	row("swapgs", CODE(".byte 0x0f, 0x01, 0xf8"), .vec = UD);
	row("cmpxchg8b of a register", CODE(".byte 0x0f, 0xc7, 0xc8"), .vec = UD);
	row("les of a register is VEX", CODE(".byte 0xc4, 0xc0, 0, 0"), .env = U32, .vec = UD);
	row("bound of a register", CODE(".byte 0x62, 0xc0, 0, 0, 0, 0, 0"), .env = U32, .vec = UD);
	row("cpl 3 frame", CODE("ud2"), .env = U32, .flags = F_AC | F_ID | F_IOPL(3) | F_IF | 0xcd5, .vec = UD);
	casef("frame from CPL 3");
	check_eq("at ESP0", trap.frame, top(trapstack) - 20);
	check_eq("flags", trap.r.flags, F_AC | F_ID | F_IOPL(3) | F_IF | 0xcd5 | F_1 | F_RF);
	check_eq("SS", trap.r.ss, SEL_UDATA);
	check_eq("ESP", trap.r.sp, USER(top(ustack)) - 64);
	row("frame", CODE("ud2"), .vec = UD);
	casef("frame from CPL 0: three dwords, no alignment");
	check_eq("at", trap.frame, top(kstack) - 64 - 12);
	row("instruction of 16 bytes", CODE(".rept 14; .byte 0x66; .endr; .byte 0x90, 0x90; nop"), .vec = DONE);
	row("instruction of 16 bytes", CODE(".rept 15; .byte 0x66; .endr; .byte 0x90"), .vec = GP);
}

static void bad_gates(void)
{
	static const struct {
		const char *name;
		unsigned sel, access;
		int vec;
		word err; /* -1: of the gate */
	} t[] = {
		{ "not present", SEL_CODE, 0x6e, NP, -1ul },       { "call gate", SEL_CODE, 0xec, GP, -1ul },
		{ "type 0", SEL_CODE, 0xe0, GP, -1ul },            { "data segment as a gate", SEL_CODE, 0xf2, GP, -1ul },
		{ "null selector", 0, 0xee, GP, 0 },               { "data selector", SEL_DATA, 0xee, GP, SEL_DATA },
		{ "TSS selector", SEL_TSS, 0xee, GP, SEL_TSS },    { "beyond the GDT", X_OUT, 0xee, GP, X_OUT },
		{ "code not present", X_NP, 0xee, NP, X_NP },      { "LDT selector", 0x44, 0xef, GP, 0x44 },
		{ "task gate to data", SEL_DATA, 0xe5, GP, SEL_DATA },
	};
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct row r = { .env = U32, .vec = t[i].vec };

		idt_set(0x41, (word)stubs + 0x41 * 16, t[i].sel, t[i].access, 0);
		r.err = t[i].err == -1ul ? 0x41 * 8 + 2 : t[i].err;
		run_row(t[i].name, CODE("int 0x41"), &r);
		r.env = K32;
		run_row(t[i].name, CODE("int 0x41"), &r);
		idt_set(UD, (word)stubs + UD * 16, t[i].sel, t[i].access, 0);
		r.err = (t[i].err == -1ul ? UD * 8 + 2 : t[i].err) + 1;
		run_row(t[i].name, CODE("ud2"), &r);
		idt_default(UD);
		idt_set(DE, (word)stubs + DE * 16, t[i].sel, t[i].access, 0);
		run_row(t[i].name, CODE("div cl"), &(struct row){ .vec = DF });
		idt_default(DE);
	}
	idt_set(0x41, (word)stubs, SEL_CODE, D_INT, 0);
	row("gate of DPL 0 at CPL 3", CODE("int 0x41"), .env = U32, .vec = GP, .err = 0x41 * 8 + 2);
	idt_set(0x41, (word)stubs, SEL_CODE, 0x0e, 0);
	row("DPL before P", CODE("int 0x41"), .env = U32, .vec = GP, .err = 0x41 * 8 + 2);
	idt_set(0x41, (word)stubs + 0x41 * 16, SEL_UCODE32 & ~3u, 0xee, 0);
	row("gate to an outer level", CODE("int 0x41"), .vec = GP, .err = SEL_UCODE32 & ~3u);
	load_idt(0x80 * 8 - 1);
	row("beyond the IDT", CODE("int 0x80"), .env = U32, .vec = GP, .err = 0x80 * 8 + 2);
	load_idt(0x80 * 8 + 6);
	row("partly beyond the IDT", CODE("int 0x80"), .vec = GP, .err = 0x80 * 8 + 2);
	load_idt(2047);
	idt_default(0x41);
}

/* The stack that an interrupt at CPL 3 switches to: #TS with its selector, or #SS. */
static void bad_inner_stacks(void)
{
	static const struct {
		const char *name;
		unsigned ss0;
		int vec;
		word err;
	} t[] = {
		{ "SS0 null", 0, TS, 0 }, { "SS0 of RPL 3", SEL_DATA | 3, TS, SEL_DATA },
		{ "SS0 of DPL 3", SEL_UDATA & ~3u, TS, SEL_UDATA & ~3u }, { "SS0 code", SEL_CODE, TS, SEL_CODE },
		{ "SS0 beyond the GDT", X_OUT, TS, X_OUT }, { "SS0 read-only", X(8), TS, X(8) },
		{ "SS0 not present", X(9), SS, X(9) },
	};
	const unsigned n = sizeof(t) / sizeof(*t);
	unsigned i;

	/*
	 * The handler of the fault must not need the bad stack: its code conforms, it runs at CPL 3. It mends the
	 * stack, so that the end of the snippet gets through.
	 */
	gdt_set(X(8), 0x00cf91000000ffff);
	gdt_set(X(9), 0x00cf13000000ffff);
	gdt_set(X(10), 0x00cf9f000000ffff);
	for (i = 0; i < 2 * n; i++) { /* by INT n, then by an exception, which adds EXT */
		word ext = i >= n;
		struct ctx c;

		*(volatile uint16_t *)(tss + 8) = (uint16_t)t[i % n].ss0;
		ctx_init(&c, U32, ext ? CODE("ud2") : CODE("int 0x41"));
		idt_set(0x41, (word)stubs + 0x41 * 16, SEL_CODE, D_INT | D_DPL3, 0);
		idt_set((unsigned)t[i % n].vec, (word)CODE("pop ecx; mov edx, cs; mov dword ptr [tss + 8], 0x10"), X(10), D_TRAP, 0);
		casef("%s%s", t[i % n].name, ext ? ", exception" : "");
		run(&c);
		check_eq("vector at the end", trap.vec, DONE);
		check_eq("error code", trap.r.cx, t[i % n].err | ext);
		check_eq("CS of the handler", trap.r.dx, X(10) | 3);
		idt_default((unsigned)t[i % n].vec);
		*(volatile uint16_t *)(tss + 8) = SEL_DATA;
	}
	idt_default(0x41);
}

static void gate_sizes(void)
{
	const void *h = CODE("mov eax, [esp]; mov ecx, [esp + 4]; mov edx, [esp + 8]; pushf; pop ebx; mov ebp, esp");
	word stack = top(trapstack);

	idt_set(0x41, (word)h, SEL_CODE, 0xee, 0);
	row("32-bit interrupt gate", CODE("int 0x41"), .env = U32, .flags = F_IF | F_NT, .vec = DONE);
	check_eq("ESP: five dwords", trap.r.bp, stack - 20);
	check_eq("CS", trap.r.cx & 0xffff, SEL_UCODE32);
	check_eq("flags", trap.r.dx, F_IF | F_NT | F_1);
	check_eq("flags in the handler", trap.r.bx, F_1);
	idt_set(0x41, (word)h, SEL_CODE, 0xef, 0);
	row("32-bit trap gate", CODE("int 0x41"), .env = U32, .flags = F_IF | F_NT, .vec = DONE);
	check_eq("flags in the handler", trap.r.bx, F_IF | F_1);
	/* A 16-bit gate's offset has 16 bits: its code segment starts at the handler. */
	gdt_set(X_16, seg_desc((uint32_t)(word)h, 0xffff, D_CODE, FL_DB));
	idt_set(0x41, 0, X_16, 0xe6, 0);
	row("16-bit interrupt gate", CODE("int 0x41"), .env = U32, .flags = F_IF, .vec = DONE);
	check_eq("ESP: five words", trap.r.bp, stack - 10);
	check_eq("CS", trap.r.ax >> 16, SEL_UCODE32);
	check_eq("flags", trap.r.cx & 0xffff, F_IF | F_1);
	check_eq("SP", trap.r.cx >> 16, (USER(top(ustack)) - 64) & 0xffff);
	check_eq("flags in the handler", trap.r.bx, F_1);
	idt_set(0x41, 0, X_16, 0xe7, 0);
	row("16-bit trap gate at CPL 0", CODE("int 0x41"), .flags = F_IF, .vec = DONE);
	check_eq("ESP: three words", trap.r.bp, top(kstack) - 64 - 6);
	check_eq("flags in the handler", trap.r.bx, F_IF | F_1);
	/* Conforming code: no change of level. */
	idt_set(0x41, (word)CODE("mov eax, cs; mov ebp, esp"), X_CONF, 0xee, 0);
	row("gate to conforming code", CODE("int 0x41"), .env = U32, .vec = DONE, .check_ax = true, .want_ax = X_CONF | 3);
	check_eq("ESP", trap.r.bp, USER(top(ustack)) - 64 - 12);
	idt_default(0x41);
}

static void call_gate(word target, unsigned sel, unsigned access, unsigned count)
{
	gdt_set(X_GATE, (target & 0xffff) | sel << 16 | (uint64_t)count << 32 | (uint64_t)access << 40 |
			(uint64_t)(target >> 16) << 48);
}

static void call_gates(void)
{
	static const struct {
		const char *name;
		unsigned sel, access;
		int vec;
		word err;
	} t[] = {
		{ "not present", SEL_CODE, 0x6c, NP, X_GATE },   { "DPL 0", SEL_CODE, 0x8c, GP, X_GATE },
		{ "null selector", 0, 0xec, GP, 0 },             { "data selector", SEL_DATA, 0xec, GP, SEL_DATA },
		{ "code not present", X_NP, 0xec, NP, X_NP },    { "beyond the GDT", X_OUT, 0xec, GP, X_OUT },
		{ "interrupt gate", SEL_CODE, 0xee, GP, X_GATE }, { "LDT", SEL_CODE, 0xe2, GP, X_GATE },
	};
	const void *h = CODE("mov eax, [esp]; mov ecx, [esp + 4]; mov edx, [esp + 8]; mov ebx, [esp + 12]; mov esi, [esp + 16];"
			     "mov ebp, esp; mov edi, cs");
	const void *call = CODE(".byte 0x9a, 0, 0, 0, 0, 0x80, 0");
	word stack = top(trapstack);
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		call_gate((word)h, t[i].sel, t[i].access, 0);
		run_row(t[i].name, call, &(struct row){ .env = U32, .vec = t[i].vec, .err = t[i].err });
	}
	call_gate((word)h, SEL_CODE, 0xec, 2);
	row("32-bit call gate, two parameters", CODE("push 0x22; push 0x11; .byte 0x9a, 0, 0, 0, 0, 0x80, 0"), .env = U32, .vec = DONE);
	casef("32-bit call gate, two parameters");
	check_eq("return EIP", trap.r.ax != 0, 1);
	check_eq("return CS", trap.r.cx & 0xffff, SEL_UCODE32);
	check_eq("first", trap.r.dx, 0x11);
	check_eq("second", trap.r.bx, 0x22);
	check_eq("ESP saved", trap.r.si, USER(top(ustack)) - 72);
	check_eq("ESP", trap.r.bp, stack - 24);
	check_eq("CS", trap.r.di, SEL_CODE);
	call_gate((word)CODE(".byte 0xca, 8, 0"), SEL_CODE, 0xec, 2);
	row("far ret drops the parameters of both stacks", CODE("push 2; push 1; .byte 0x9a, 0, 0, 0, 0, 0x80, 0"), .env = U32, .vec = DONE);
	check_eq("ESP", trap.r.sp, USER(top(ustack)) - 64);
	check_eq("CS", trap.r.cs, SEL_UCODE32);
	call_gate((word)h, SEL_CODE, 0xec, 2);
	row("same level: no parameters", CODE("push 2; push 1; .byte 0x9a, 0, 0, 0, 0, 0x80, 0"), .vec = DONE);
	check_eq("ESP", trap.r.bp, top(kstack) - 64 - 16);
	gdt_set(X_16, seg_desc((uint32_t)(word)h, 0xffff, D_CODE, FL_DB));
	call_gate(0, X_16, 0xe4, 1);
	row("16-bit call gate", CODE("push 0x12345678; .byte 0x9a, 0, 0, 0, 0, 0x80, 0"), .env = U32, .vec = DONE);
	casef("16-bit call gate");
	check_eq("ESP: five words", trap.r.bp, stack - 10);
	check_eq("return CS", trap.r.ax >> 16, SEL_UCODE32);
	check_eq("parameter", trap.r.cx & 0xffff, 0x5678);
	call_gate((word)CODE("mov eax, cs"), X_CONF, 0xec, 0);
	row("call gate to conforming code", call, .env = U32, .vec = DONE, .check_ax = true, .want_ax = X_CONF | 3);
	call_gate((word)h, SEL_CODE, 0xec, 0);
	row("far jmp through a gate to an inner level", CODE(".byte 0xea, 0, 0, 0, 0, 0x80, 0"), .env = U32, .vec = GP, .err = SEL_CODE);
	row("far jmp through a gate", CODE(".byte 0xea, 0, 0, 0, 0, 0x80, 0"), .vec = DONE);
	*(volatile uint16_t *)(tss + 8) = SEL_UDATA;
	row("SS0 bad, at CPL 0 nobody looks", call, .vec = DONE);
	*(volatile uint16_t *)(tss + 8) = SEL_DATA;
}

static void far_direct(void)
{
	static const struct {
		const char *name;
		enum env env;
		unsigned sel;
		int vec;
		word err;
	} t[] = {
		{ "same level", K32, SEL_CODE, DONE, 0 },       { "null", K32, 0, GP, 0 },
		{ "data", K32, SEL_DATA, GP, SEL_DATA },         { "beyond", K32, X_OUT, GP, X_OUT },
		{ "not present", K32, X_NP, NP, X_NP },          { "DPL 1 from CPL 0", K32, X_CODE1, GP, X_CODE1 },
		{ "DPL 0 from CPL 3", U32, SEL_CODE, GP, SEL_CODE }, { "LDT descriptor", K32, SEL_LDT, GP, SEL_LDT },
		{ "RPL 3 to DPL 0", K32, SEL_CODE | 3, GP, SEL_CODE }, { "conforming from CPL 3", U32, X_CONF | 3, DONE, 0 },
		{ "conforming, RPL 0, from CPL 3", U32, X_CONF, DONE, 0 },
		{ "same level, RPL 0, from CPL 3", U32, SEL_UCODE32 & ~3u, DONE, 0 },
	};
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct row r = { .env = t[i].env, .ax = t[i].sel, .vec = t[i].vec, .err = t[i].err, .si = USER(page_a) };

		r.off = r.vec == DONE ? 0 : 9;
		run_row(t[i].name, CODE("mov dword ptr [esi], offset 1f; mov [esi + 4], eax; .byte 0xff, 0x2e; 1: mov edx, cs"), &r);
	}
}

static void iret_rows(void)
{
	static const struct {
		const char *name;
		unsigned cs, ss;
		int vec;
		word err;
	} t[] = {
		{ "to CPL 3", SEL_UCODE32, SEL_UDATA, DONE, 0 }, { "to CPL 1", X_CODE1 | 1, X_SS1 | 1, DONE, 0 },
		{ "null CS", 0, SEL_DATA, GP, 0 },            { "data CS", SEL_DATA, SEL_DATA, GP, SEL_DATA },
		{ "CS not present", X_NP, 0, NP, X_NP },      { "CS of DPL 0, RPL 3", SEL_CODE | 3, SEL_UDATA, GP, SEL_CODE },
		{ "CS of DPL 3, RPL 0", SEL_UCODE32 & ~3u, SEL_UDATA, GP, SEL_UCODE32 & ~3u },
		{ "null SS", SEL_UCODE32, 0, GP, 0 },         { "SS of RPL 0", SEL_UCODE32, SEL_UDATA & ~3u, GP, SEL_UDATA & ~3u },
		{ "SS of DPL 0", SEL_UCODE32, SEL_DATA | 3, GP, SEL_DATA },
		{ "SS code", SEL_UCODE32, SEL_UCODE32, GP, SEL_UCODE32 & ~3u },
		{ "conforming CS of DPL 0 to CPL 3", X_CONF | 3, SEL_UDATA, DONE, 0 },
	};
	const void *iret = CODE("push ecx; push esi; push edx; push eax; push edi; iret");
	word target = (word)CODE("nop");
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct ctx c;

		ctx_init(&c, K32, iret);
		c.cx = t[i].ss;
		c.si = USER(top(ustack)) - 64;
		c.dx = F_1;
		c.ax = t[i].cs;
		c.di = target;
		casef("iret: %s", t[i].name);
		run(&c);
		c.ip += 5;
		check_trap(&c, t[i].vec, t[i].err);
	}
	row("segments that CPL 3 may not use are cleared", CODE("push 0x2b; push esi; push 2; push 0x23; push edi; mov eax, 0x10;"
	    "mov fs, eax; mov eax, 0x2b; mov gs, eax; iret"), .si = USER(top(ustack)) - 64,
	    .di = (word)CODE("mov eax, fs; mov ecx, gs; mov edx, ds"), .vec = DONE, .check_ax = true, .want_ax = 0);
	check_eq("GS", trap.r.cx, SEL_UDATA);
	check_eq("DS", trap.r.dx, 0);
	row("iret at CPL 3: IOPL and IF stay", CODE("push 0x3202; push cs; push offset 1f; iret; 1: pushf; pop eax"), .env = U32,
	    .vec = DONE, .check_ax = true, .want_ax = 2);
	row("iret at CPL 3 cannot set VM", CODE("push 0x20002; push cs; push offset 1f; iret; 1: pushf; pop eax"), .env = U32,
	    .vec = DONE, .check_ax = true, .want_ax = 2);
	row("popf at CPL 3", CODE("push 0x3202; popf; pushf; pop eax"), .env = U32, .vec = DONE, .check_ax = true, .want_ax = 2);
	row("popf at CPL 3, IOPL 3", CODE("push 0x0202; popf; pushf; pop eax"), .env = U32, .flags = F_IOPL(3), .vec = DONE,
	    .check_ax = true, .want_ax = 0x3202);
	row("popf, 16 bits, leaves the high half", CODE("push 0x40002; popf; .byte 0x66; push 2; .byte 0x66; popf; pushf; pop eax"),
	    .vec = DONE, .check_ax = true, .want_ax = 0x40002);
	row("cli, IOPL 0", CODE("cli"), .env = U32, .vec = GP);
	row("cli, IOPL 3", CODE("cli"), .env = U32, .flags = F_IOPL(3), .vec = DONE);
}

static void sysenter(void)
{
	const void *h = CODE("mov eax, cs; mov ecx, ss; mov ebp, esp; pushf; pop edx; mov esp, ebx");

	wrmsr(0x174, 0);
	row("sysenter with SYSENTER_CS = 0", CODE("sysenter"), .env = U32, .vec = GP);
	row("sysexit with SYSENTER_CS = 0", CODE("sysexit"), .vec = GP);
	wrmsr(0x174, 8);
	wrmsr(0x175, top(kstack) - 512);
	wrmsr(0x176, (word)h);
	row("sysenter", CODE("sysenter"), .env = U32, .flags = F_IF | F_AC, .bx = top(kstack) - 64, .vec = DONE,
	    .check_ax = true, .want_ax = 8);
	check_eq("SS", trap.r.cx, 0x10);
	check_eq("ESP", trap.r.bp, top(kstack) - 512);
	check_eq("flags: IF cleared", trap.r.dx, F_AC | F_1);
	row("sysexit at CPL 3", CODE("sysexit"), .env = U32, .vec = GP);
	row("sysexit", CODE("sysexit"), .cx = USER(top(ustack)) - 64, .dx = USER(CODE("mov eax, cs; mov ebx, ss")),
	    .vec = DONE, .check_ax = true, .want_ax = 0x1b);
	check_eq("SS", trap.r.bx, 0x23);
	check_eq("ESP", trap.r.sp, USER(top(ustack)) - 64);
}

static void syscall(void)
{
	const void *h = CODE("mov eax, cs; mov edx, ss; pushf; pop ebx");

	row("syscall without SCE", CODE("syscall"), .env = U32, .vec = UD);
	if (!is_amd())
		return;
	wrmsr(MSR_EFER, EFER_SCE);
	wrmsr(MSR_STAR, (uint64_t)0x001b0008 << 32 | (word)h);
	/* Legacy mode: the target is in STAR, SFMASK is not used; IF and VM are cleared (APM vol. 3). */
	row("syscall", CODE("mov esp, ebp; syscall"), .env = U32, .bp = top(kstack) - 64, .flags = F_IF | F_DF, .vec = DONE,
	    .check_ax = true, .want_ax = 8);
	check_eq("SS", trap.r.dx, 0x10);
	check_eq("flags", trap.r.bx, F_DF | F_1);
	row("sysret", CODE(".byte 0x0f, 0x07"), .sp = USER(top(ustack)) - 64, .cx = USER(CODE("mov eax, cs; mov edx, ss")),
	    .vec = DONE, .check_ax = true, .want_ax = 0x1b);
	check_eq("SS", trap.r.dx, 0x23);
	row("sysret at CPL 3", CODE(".byte 0x0f, 0x07"), .env = U32, .vec = GP);
	wrmsr(MSR_EFER, 0);
}

static void control(void)
{
	word cr0 = read_cr0();

	row("PG without PE", CODE("mov cr0, eax"), .ax = CR0_PG | 0x30, .vec = GP);
	row("NW without CD", CODE("mov cr0, eax"), .ax = cr0 | CR0_NW, .vec = GP);
	check_eq("CR0", read_cr0(), cr0);
	row("PCIDE outside long mode", CODE("mov cr4, eax"), .ax = CR4_PCIDE, .vec = GP);
	write_cr0(cr0);
	write_cr4(0);
	row("CR4: reserved", CODE("mov cr4, eax"), .ax = 1 << 15, .vec = GP);
	if (!HAS_VME)
		row("CR4.VME without VME", CODE("mov cr4, eax"), .ax = CR4_VME, .vec = GP);
	row("mov cr8 does not exist here: 44 is INC", CODE(".byte 0x44, 0x0f, 0x20, 0xc0"), .vec = DONE);
	wrmsr(MSR_EFER, EFER_LME);
	row("PG with LME but without PAE", CODE("mov cr0, eax"), .ax = cr0 | CR0_PG, .vec = GP);
	wrmsr(MSR_EFER, 0);
	row("LME can be changed without paging", CODE("wrmsr; rdmsr"), .cx = MSR_EFER, .ax = EFER_LME, .vec = DONE,
	    .check_ax = true, .want_ax = EFER_LME);
	wrmsr(MSR_EFER, 0);
	row("wrfsbase outside long mode", CODE(".byte 0xf3, 0x0f, 0xae, 0xd0"), .vec = UD);
	row("DR7: GD", CODE("mov dr7, eax; mov eax, dr7"), .ax = 0x2400, .vec = DB, .off = 3);
}

void guest_main(void)
{
	gdt_set(X_CONF, 0x00cf9f000000ffff);
	gdt_set(X_NP, 0x00cf1b000000ffff);
	gdt_set(X_CODE1, 0x00cfbb000000ffff);
	gdt_set(X_DATA1, 0x00cfb3000000ffff);
	gdt_set(X_SS1, 0x00cfb3000000ffff);
	vectors();
	bad_gates();
	bad_inner_stacks();
	gate_sizes();
	call_gates();
	far_direct();
	iret_rows();
	sysenter();
	syscall();
	control();
}
