/*
 * gates64.c - changes of code segment and privilege in long mode: far transfers, call gates, IRET,
 * selector loads, LAR/LSL/VERR/VERW, LTR/LLDT, the I/O permission bitmap. SDM vol. 3, ch. 5 to 7.
 */
#include "rt/rt.h"

#define BAD (1ul << 47)
#define NEW(n) (SEL_FREE + (n) * 8)
enum { X_NP_CODE = NEW(0), X_NP_DATA = NEW(1), X_RO = NEW(2), X_XO = NEW(3), X_CONF = NEW(4), X_D0 = NEW(5),
       X_LD = NEW(6), X_CODE1 = NEW(7), X_DATA1 = NEW(8), X_NULL = NEW(9), X_CONF3 = NEW(10), X_GATE = NEW(12),
       X_TSS2 = NEW(14), X_LDT2 = NEW(16), X_NPSYS = NEW(18), X_CCONF = NEW(20), X_NP_RO = NEW(21), X_NP_D0 = NEW(22),
       X_OUT = 0x400 };

static void descriptors(void)
{
	gdt_set(X_NP_CODE, 0x00af7b000000ffff & ~(1ull << 47));
	gdt_set(X_NP_DATA, 0x00cf73000000ffff & ~(1ull << 47));
	gdt_set(X_RO, 0x00cff1000000ffff);
	gdt_set(X_XO, 0x00aff9000000ffff);
	gdt_set(X_CONF, 0x00af9f000000ffff);  /* 64-bit, conforming, DPL 0 */
	gdt_set(X_D0, 0x00cf93000000ffff);
	gdt_set(X_LD, 0x00ef9b000000ffff);    /* L and D: reserved */
	gdt_set(X_CODE1, 0x00afbb000000ffff); /* DPL 1 */
	gdt_set(X_DATA1, 0x00cfb3000000ffff);
	gdt_set(X_NULL, 0);
	gdt_set(X_CONF3, 0x00afff000000ffff); /* conforming, DPL 3 */
	gdt_set(X_CCONF, 0x00cf9f000000ffff); /* 32-bit, conforming */
	gdt_set(X_NP_RO, 0x00cf11000000ffff);
	gdt_set(X_NP_D0, 0x00cf13000000ffff);
	set_system_desc(&gdt[X_TSS2 >> 3], (word)tss, 0x67, D_TSS);
	set_system_desc(&gdt[X_LDT2 >> 3], (word)ldt, 0xff, D_LDT);
	set_system_desc(&gdt[X_NPSYS >> 3], (word)ldt, 0xff, D_LDT & ~0x80);
}

struct sel_row {
	const char *name;
	enum env env;
	unsigned sel;
	int vec;
	word err;
};

/* MOV to DS: SDM vol. 2, MOV; a null selector is fine until used, and in 64-bit mode even then. */
static void load_data(void)
{
	static const struct sel_row t[] = {
		{ "ds = 0", K64, 0, DONE, 0 }, { "ds = 3", U64, 3, DONE, 0 }, { "ds = data", U64, SEL_UDATA, DONE, 0 },
		{ "ds = read-only", U64, X_RO | 3, DONE, 0 }, { "ds = readable code", U64, SEL_UCODE64, DONE, 0 },
		{ "ds = execute-only", U64, X_XO | 3, GP, X_XO }, { "ds = beyond the GDT", U64, X_OUT | 3, GP, X_OUT },
		{ "ds = beyond the LDT", U64, 0x207, GP, 0x204 }, { "ds = empty LDT entry", U64, 0x17, GP, 0x14 },
		{ "ds = not present", K64, X_NP_DATA, NP, X_NP_DATA },
		{ "ds = DPL 0 at CPL 3", U64, X_D0 | 3, GP, X_D0 }, { "ds = DPL 0, RPL 3", K64, X_D0 | 3, GP, X_D0 },
		{ "ds = DPL 3, RPL 3 at CPL 0", K64, SEL_UDATA, DONE, 0 },
		{ "ds = DPL 1, RPL 1", K64, X_DATA1 | 1, DONE, 0 }, { "ds = DPL 1, RPL 2", K64, X_DATA1 | 2, GP, X_DATA1 },
		{ "ds = conforming, DPL 0 at CPL 3", U64, X_CONF | 3, DONE, 0 },
		{ "ds = code, DPL 0 at CPL 3", U64, SEL_CODE | 3, GP, SEL_CODE },
		{ "ds = TSS", K64, SEL_TSS, GP, SEL_TSS }, { "ds = LDT", K64, SEL_LDT, GP, SEL_LDT },
		{ "ds = empty", K64, X_NULL, GP, X_NULL },
		{ "ds = DPL before P", U64, X_NP_DATA | 3, NP, X_NP_DATA },
		{ "ds = DPL before P (code)", K64, X_NP_CODE, NP, X_NP_CODE },
	};
	static const struct sel_row ss[] = {
		{ "ss = 0 at CPL 0", K64, 0, DONE, 0 }, { "ss = 3 at CPL 0: RPL", K64, 3, GP, 0 },
		{ "ss = 3 at CPL 3", U64, 3, GP, 0 }, { "ss = 0 at CPL 3", U64, 0, GP, 0 },
		{ "ss = null in compat", U32, 0, GP, 0 }, { "ss = data", U64, SEL_UDATA, DONE, 0 },
		{ "ss: RPL", U64, SEL_UDATA & ~3u, GP, SEL_UDATA & ~3u },
		{ "ss: DPL", K64, SEL_UDATA & ~3u, GP, SEL_UDATA & ~3u },
		{ "ss = read-only", U64, X_RO | 3, GP, X_RO }, { "ss = code", U64, SEL_UCODE64, GP, SEL_UCODE64 & ~3u },
		{ "ss = not present", K64, X_NP_D0, SS, X_NP_D0 },
		{ "ss = read-only, not present: #GP first", K64, X_NP_RO, GP, X_NP_RO },
		{ "ss = beyond the GDT", K64, X_OUT, GP, X_OUT }, { "ss = TSS", K64, SEL_TSS, GP, SEL_TSS },
	};
	const void *code = CODE("mov ds, eax"), *code32 = CODE32("mov ss, eax; nop"), *code_ss = CODE("mov ss, eax; nop");
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++)
		run_row(t[i].name, code, &(struct row){ .env = t[i].env, .ax = t[i].sel, .vec = t[i].vec, .err = t[i].err });
	for (i = 0; i < sizeof(ss) / sizeof(*ss); i++)
		run_row(ss[i].name, ss[i].env == U32 ? code32 : code_ss,
			&(struct row){ .env = ss[i].env, .ax = ss[i].sel, .vec = ss[i].vec, .err = ss[i].err });
	row("mov to ds uses 16 bits", CODE("mov ds, rax; mov eax, ds"), .ax = ~0xfffful | SEL_UDATA, .vec = DONE,
	    .check_ax = true, .want_ax = SEL_UDATA);
	row("null ds is usable in 64-bit mode", CODE("mov al, [rdi]"), .di = (word)page_a, .ds = 0, .vec = DONE);
	row("null ds in compat", CODE32("xor eax, eax; mov ds, eax; mov al, [edi]"), .env = U32, .di = USER(page_a),
	    .off = 4, .vec = GP);
	row("null fs in compat", CODE32("xor eax, eax; mov fs, eax; mov al, fs:[edi]"), .env = U32,
	    .di = USER(page_a), .off = 4, .vec = GP);
	row("write through read-only ds in compat", CODE32("mov ds, eax; mov [edi], al"), .env = U32, .ax = X_RO | 3,
	    .di = USER(page_a), .off = 2, .vec = GP);
	row("write through a code segment in compat", CODE32("mov byte ptr cs:[edi], 1"), .env = U32, .di = USER(page_a),
	    .vec = GP);
	row("write through read-only ds in 64-bit mode", CODE("mov ds, eax; mov [rdi], al"), .ax = X_RO,
	    .di = (word)page_a, .vec = DONE);
}

/* Accessed bit: set in the table by a load, and only by a load that succeeds. */
static void accessed(void)
{
	gdt_set(X_D0, 0x00cf92000000ffff);
	row("load", CODE("mov ds, eax"), .ax = X_D0, .vec = DONE);
	check_eq("type", ((volatile uint64_t *)gdt)[X_D0 >> 3] >> 40 & 0xf, 3);
	gdt_set(X_D0, 0x00cf92000000ffff);
	row("refused load", CODE("mov ds, eax"), .env = U64, .ax = X_D0 | 3, .vec = GP, .err = X_D0);
	check_eq("type", ((volatile uint64_t *)gdt)[X_D0 >> 3] >> 40 & 0xf, 2);
	row("lar", CODE("lar eax, eax; and eax, 0xf0ffff"), .ax = X_D0, .vec = DONE, .check_ax = true,
	    .want_ax = 0xc09200);
	check_eq("type", ((volatile uint64_t *)gdt)[X_D0 >> 3] >> 40 & 0xf, 2);
}

/* LAR, LSL, VERR, VERW: ZF and the result; never a fault for a bad selector. */
static void probe_one(const char *name, enum env env, unsigned sel, bool lar, uint32_t access, bool lsl, bool r, bool w)
{
	struct row x = { .env = env, .ax = sel, .cx = 0x55, .vec = DONE, .check_ax = true };

	x.want_ax = lar;
	run_row(name, CODE("lar ecx, eax; setz al; movzx eax, al"), &x);
	/* Bits 19:16 are undefined. */
	check_eq("LAR", trap.r.cx & ~0xf0000ul, (lar ? access : 0x55) & ~0xf0000u);
	x.want_ax = lsl;
	run_row(name, CODE("lsl ecx, eax; setz al; movzx eax, al"), &x);
	x.want_ax = r;
	run_row(name, CODE("verr ax; setz al; movzx eax, al"), &x);
	x.want_ax = w;
	run_row(name, CODE("verw ax; setz al; movzx eax, al"), &x);
}

static void probes(void)
{
	unsigned i;

	probe_one("null", K64, 0, false, 0, false, false, false);
	probe_one("data", K64, SEL_DATA, true, 0xcf9300, true, true, true);
	probe_one("user data at CPL 3", U64, SEL_UDATA, true, 0xcff300, true, true, true);
	probe_one("data of CPL 0 at CPL 3", U64, SEL_DATA, false, 0, false, false, false);
	probe_one("data of CPL 0, RPL 3", K64, SEL_DATA | 3, false, 0, false, false, false);
	probe_one("read-only", U64, X_RO | 3, true, 0xcff100, true, true, false);
	probe_one("execute-only", U64, X_XO | 3, true, 0xaff900, true, false, false);
	probe_one("code", U64, SEL_UCODE64, true, 0xaffb00, true, true, false);
	probe_one("conforming code at CPL 3", U64, X_CONF | 3, true, 0xaf9f00, true, true, false);
	probe_one("TSS (busy)", K64, SEL_TSS, true, 0x8b00, true, false, false);
	probe_one("TSS at CPL 3", U64, SEL_TSS | 3, false, 0, false, false, false);
	probe_one("LDT", K64, SEL_LDT, true, 0x8200, true, false, false);
	probe_one("not present data", K64, X_NP_DATA, true, 0xcf7300 & ~0x8000u, true, true, true);
	probe_one("beyond the GDT", K64, X_OUT, false, 0, false, false, false);
	probe_one("empty", K64, X_NULL, false, 0, false, false, false);
	/* Which system types LAR and LSL know in long mode: 2, 9, b, and LAR also c. */
	for (i = 0; i < 16; i++) {
		bool lsl = i == 2 || i == 9 || i == 11;

		set_system_desc(&gdt[X_GATE >> 3], 0x1000, 0x1234, 0x80 | i);
		probe_one("system type", K64, X_GATE, lsl || i == 12, 0x8000 | i << 8, lsl, false, false);
	}
	row("lsl of byte granularity", CODE("lsl eax, eax"), .ax = SEL_TSS, .vec = DONE, .check_ax = true, .want_ax = 0x67);
	row("lsl of page granularity", CODE(".byte 0x48, 0x0f, 0x03, 0xc0"), .ax = SEL_UDATA, .vec = DONE, .check_ax = true,
	    .want_ax = 0xffffffff);
	row("lsl, 16 bits", CODE("lsl ax, ax"), .ax = 0xabcd0000 | SEL_UDATA, .vec = DONE, .check_ax = true,
	    .want_ax = 0xabcdffff);
	row("arpl is movsxd in 64-bit mode", CODE(".byte 0x63, 0xc1"), .ax = 7, .cx = 9, .vec = DONE);
	row("arpl in compat raises RPL", CODE32("arpl ax, cx; setz cl"), .env = U32, .ax = 0x10, .cx = 3, .vec = DONE,
	    .check_ax = true, .want_ax = 0x13);
	check_eq("CL", trap.r.cx & 0xff, 1);
	row("arpl in compat, nothing to do", CODE32("arpl ax, cx; setz cl"), .env = U32, .ax = 0x13, .cx = 2, .vec = DONE,
	    .check_ax = true, .want_ax = 0x13);
	check_eq("CL", trap.r.cx & 0xff, 0);
}

/* Far return is the simplest far transfer: to SEL:IP on the stack. ax = selector; rdx = target. */
static void far_transfers(void)
{
	static const struct sel_row t[] = {
		{ "64-bit code", K64, SEL_CODE, DONE, 0 }, { "null", K64, 0, GP, 0 },
		{ "data", K64, SEL_DATA, GP, SEL_DATA }, { "beyond the GDT", K64, X_OUT, GP, X_OUT },
		{ "not present", K64, X_NP_CODE & ~3u, NP, X_NP_CODE }, { "L and D", K64, X_LD, GP, X_LD },
		{ "TSS", K64, SEL_TSS, GP, SEL_TSS }, { "code of DPL 1, RPL 0", K64, X_CODE1, GP, X_CODE1 },
		{ "to an inner level", U64, SEL_CODE, GP, SEL_CODE },
		{ "to an inner level, RPL 3", U64, SEL_CODE | 3, GP, SEL_CODE },
		{ "conforming code of DPL 0 at CPL 3", U64, X_CONF | 3, DONE, 0 },
		{ "conforming code of DPL 3 at CPL 0", K64, X_CONF3, GP, X_CONF3 },
		{ "same level", U64, SEL_UCODE64, DONE, 0 }, { "execute-only code", U64, X_XO | 3, DONE, 0 },
	};
	const void *code = CODE("push rax; lea rcx, 1f[rip]; push rcx; .byte 0x48, 0xcb; 1:");
	const void *jmp = CODE("push rax; lea rcx, 1f[rip]; mov [rsp], ecx; mov [rsp + 4], ax; .byte 0xff, 0x2c, 0x24; 1:");
	/* Offsets of the far instructions in them. */
	const int code_off = 9, jmp_off = 16;
	unsigned i;

	gdt_set(X_NP_CODE, 0x00af1b000000ffff);
	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct row r = { .env = t[i].env, .ax = t[i].sel, .vec = t[i].vec, .err = t[i].err };

		r.off = r.vec == DONE ? 0 : code_off;
		run_row(t[i].name, code, &r);
		casef("far ret: %s", t[i].name);
		if (r.vec == DONE)
			check_eq("CS", trap.r.cs, t[i].sel);
		if (t[i].sel == SEL_CODE && t[i].env == U64)
			continue; /* a far jump's rules differ there: below */
		/* m16:32: AMD has no far jump with a 64-bit offset (APM vol. 3, JMP far). */
		r.off = r.vec == DONE ? 0 : jmp_off;
		run_row(t[i].name, jmp, &r);
	}
	row("far ret with a non-canonical offset", CODE("push 8; push rcx; .byte 0x48, 0xcb"), .cx = BAD, .off = 3, .vec = GP);
	row("far ret 16", CODE("push 0; push 0; push 8; lea rcx, 1f[rip]; push rcx; .byte 0x48, 0xca, 16, 0; 1:"),
	    .vec = DONE);
	check_eq("RSP", trap.r.sp, top(kstack) - 64);
	row("far jmp m16:32", CODE("lea rcx, 1f[rip]; mov [rdi], ecx; mov word ptr [rdi + 4], 8; .byte 0xff, 0x2f; 1:"),
	    .di = (word)page_a, .vec = DONE);
	row("far jmp to DPL 0 at CPL 3", CODE("mov dword ptr [rdi], 0; mov word ptr [rdi + 4], 8; .byte 0xff, 0x2f"),
	    .env = U64, .di = USER(page_a), .off = 12, .vec = GP, .err = 8);
	row("far call m16:32 pushes two dwords", CODE("lea rcx, 1f[rip]; mov [rdi], ecx; mov word ptr [rdi + 4], 8;"
	    "mov rdx, rsp; .byte 0xff, 0x1f; nop; 1: sub rdx, rsp; mov eax, [rsp + 4]"), .di = (word)page_a, .vec = DONE,
	    .check_ax = true, .want_ax = 8);
	check_eq("pushed", trap.r.dx, 8);
	row("far jmp to 32-bit code and back", CODE("lea rcx, 1f[rip]; mov [rdi], ecx; mov word ptr [rdi + 4], 0x18;"
	    ".byte 0xff, 0x2f; .code32; 1: mov ecx, 5; dec ecx; .byte 0x4a; .att_syntax; ljmp $8, $2f; .intel_syntax noprefix;"
	    ".code64; 2: mov eax, ecx"), .di = (word)page_a, .dx = 9, .vec = DONE, .check_ax = true, .want_ax = 4);
	check_eq("48..4f were INC/DEC there", trap.r.dx, 8);
}

static void call_gate(word target, unsigned sel, unsigned access, unsigned zero_type)
{
	volatile uint64_t *g = &gdt[X_GATE >> 3];

	g[0] = (target & 0xffff) | (uint64_t)sel << 16 | (uint64_t)access << 40 | (target >> 16 & 0xffff) << 48;
	g[1] = target >> 32 | (uint64_t)zero_type << 40;
}

static void call_gates(void)
{
	static const struct {
		const char *name;
		unsigned sel, access;
		word high;
		unsigned zero_type;
		int vec;
		word err;
	} t[] = {
		{ "gate not present", SEL_CODE, 0x6c, 0, 0, NP, X_GATE },
		{ "gate of DPL 0", SEL_CODE, 0x8c, 0, 0, GP, X_GATE },
		{ "null selector", 0, 0xec, 0, 0, GP, 0 },
		{ "data selector", SEL_DATA, 0xec, 0, 0, GP, SEL_DATA },
		{ "32-bit code", SEL_CODE32, 0xec, 0, 0, GP, SEL_CODE32 },
		{ "code not present", X_NP_CODE, 0xec, 0, 0, NP, X_NP_CODE },
		{ "beyond the GDT", X_OUT, 0xec, 0, 0, GP, X_OUT },
		{ "type in the second half not 0", SEL_CODE, 0xec, 0, 1, GP, X_GATE },
		{ "target not canonical", SEL_CODE, 0xec, BAD, 0, GP, 0 },
		{ "interrupt gate", SEL_CODE, 0xee, 0, 0, GP, X_GATE },
		{ "16-bit call gate", SEL_CODE, 0xe4, 0, 0, GP, X_GATE },
		{ "task gate", SEL_CODE, 0xe5, 0, 0, GP, X_GATE },
	};
	const void *target = CODE("mov eax, cs; mov ecx, ss; mov rdx, rsp; mov rbx, [rsp]; mov rsi, [rsp + 8]");
	const void *call = CODE("mov word ptr [rdi + 4], 0x0100; .byte 0xff, 0x1f"); /* patched: X_GATE */
	unsigned i;

	((volatile uint8_t *)call)[4] = X_GATE & 0xff;
	((volatile uint8_t *)call)[5] = X_GATE >> 8;
	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		call_gate((word)target | t[i].high, t[i].sel, t[i].access, t[i].zero_type);
		run_row(t[i].name, call, &(struct row){ .env = U64, .di = USER(page_a), .off = 6, .vec = t[i].vec,
							  .err = t[i].err });
	}
	call_gate((word)target, SEL_CODE, 0xec, 0);
	row("call gate to CPL 0", call, .env = U64, .di = USER(page_a), .vec = DONE, .check_ax = true, .want_ax = 8);
	casef("call gate to CPL 0");
	check_eq("SS is null", trap.r.cx, 0);
	check_eq("RSP: SS, RSP, CS, IP pushed", trap.r.dx, top(trapstack) - 32);
	check_eq("return IP", trap.r.bx, USER(call) + 8);
	check_eq("return CS", trap.r.si, SEL_UCODE64);
	row("call gate at CPL 0", call, .di = (word)page_a, .vec = DONE, .check_ax = true, .want_ax = 8);
	check_eq("RSP: CS, IP pushed", trap.r.dx, top(kstack) - 64 - 16);
	call_gate(USER(target), SEL_UCODE64 & ~3u, 0xec, 0);
	row("call gate to the same outer level", call, .env = U64, .di = USER(page_a), .vec = DONE, .check_ax = true,
	    .want_ax = SEL_UCODE64);
	call_gate((word)target, SEL_CODE, 0xec, 0);
	row("far jmp through a gate to an inner level", CODE("mov word ptr [rdi + 4], 0xe0; .byte 0xff, 0x2f"), .env = U64,
	    .di = USER(page_a), .off = 6, .vec = GP, .err = SEL_CODE);
	row("far jmp through a gate at CPL 0", CODE("mov word ptr [rdi + 4], 0xe0; .byte 0xff, 0x2f"),
	    .di = (word)page_a, .vec = DONE);
	tss_set_stack(0, BAD);
	row("call gate, RSP0 not canonical", call, .env = U64, .di = USER(page_a), .vec = DF);
	tss_set_stack(0, top(trapstack));
}

/* IRETQ from CPL 0. r8.. : IP, CS, flags, SP, SS. */
static const void *iret_snip;

static void iret_row(const char *name, word cs, word ss, word ip, word sp, word flags, int vec, word err)
{
	struct ctx c;

	ctx_init(&c, K64, iret_snip);
	c.r[8] = ip;
	c.r[9] = cs;
	c.r[10] = flags;
	c.r[11] = sp;
	c.r[12] = ss;
	casef("iret: %s", name);
	run(&c);
	c.ip += 10;
	check_trap(&c, vec, err);
}

static void irets(void)
{
	word done = (word)CODE("nop"), u = USER(done), usp = USER(top(ustack)) - 64, ksp = top(kstack) - 256;

	iret_snip = CODE("push r12; push r11; push r10; push r9; push r8; iretq");
	iret_row("same level", SEL_CODE, SEL_DATA, done, ksp, 2, DONE, 0);
	check_eq("RSP comes from the frame", trap.r.sp, ksp);
	iret_row("same level, null SS", SEL_CODE, 0, done, ksp, 2, DONE, 0);
	iret_row("CPL 3", SEL_UCODE64, SEL_UDATA, u, usp, 2, DONE, 0);
	iret_row("CPL 3, all flags", SEL_UCODE64, SEL_UDATA, u, usp, 0x247cd7, DONE, 0);
	check_eq("flags", trap.r.flags, 0x247cd7 & ~0u);
	iret_row("compat", SEL_UCODE32, SEL_UDATA, u, usp, 2, DONE, 0);
	iret_row("null CS", 0, SEL_DATA, done, ksp, 2, GP, 0);
	iret_row("data CS", SEL_DATA, SEL_DATA, done, ksp, 2, GP, SEL_DATA);
	iret_row("CS beyond the GDT", X_OUT, SEL_DATA, done, ksp, 2, GP, X_OUT);
	iret_row("CS not present", X_NP_CODE, SEL_DATA, done, ksp, 2, NP, X_NP_CODE);
	iret_row("DPL 0 code with RPL 3", SEL_CODE | 3, SEL_UDATA, done, ksp, 2, GP, SEL_CODE);
	iret_row("DPL 3 code with RPL 0", SEL_UCODE64 & ~3u, SEL_DATA, u, ksp, 2, GP, SEL_UCODE64 & ~3u);
	iret_row("null SS to CPL 3, 64-bit", SEL_UCODE64, 3, u, usp, 2, GP, 0);
	iret_row("null SS to compat", SEL_UCODE32, 3, u, usp, 2, GP, 0);
	iret_row("SS of another RPL", SEL_UCODE64, SEL_UDATA & ~3u, u, usp, 2, GP, SEL_UDATA & ~3u);
	iret_row("SS of another DPL", SEL_UCODE64, SEL_DATA | 3, u, usp, 2, GP, SEL_DATA);
	iret_row("SS read-only", SEL_UCODE64, X_RO | 3, u, usp, 2, GP, X_RO);
	gdt_set(X_NP_DATA, 0x00cf73000000ffff);
	iret_row("SS not present", SEL_UCODE64, X_NP_DATA | 3, u, usp, 2, SS, X_NP_DATA);
	iret_row("IP not canonical", SEL_CODE, SEL_DATA, BAD, ksp, 2, GP, 0);
	iret_row("IP not canonical, to CPL 3", SEL_UCODE64, SEL_UDATA, BAD, usp, 2, GP, 0);
	iret_row("CS: L and D", X_LD, SEL_DATA, done, ksp, 2, GP, X_LD);
	row("NT in long mode", CODE("push 0x4002; popfq; iretq"), .off = 6, .vec = GP);
	row("CPL 3: IF and IOPL stay", CODE("push rax; push rsp; add qword ptr [rsp], 8; push 0x3202; push rcx;"
	    "lea rax, 1f[rip]; push rax; iretq; 1: pushfq; pop rax"), .env = U64, .ax = SEL_UDATA, .cx = SEL_UCODE64,
	    .flags = F_IOPL(0), .vec = DONE, .check_ax = true, .want_ax = 2);
	row("CPL 3 with IOPL 3: IF changes, IOPL stays", CODE("push rax; push rsp; add qword ptr [rsp], 8; push 0x0202; push rcx;"
	    "lea rax, 1f[rip]; push rax; iretq; 1: pushfq; pop rax"), .env = U64, .ax = SEL_UDATA, .cx = SEL_UCODE64,
	    .flags = F_IOPL(3), .vec = DONE, .check_ax = true, .want_ax = 0x3202);
	row("popf at CPL 3: IF and IOPL stay", CODE("push 0x3ed7; popfq; pushfq; pop rax"), .env = U64, .vec = DONE,
	    .check_ax = true, .want_ax = 0xcd7 & ~F_TF);
	row("popf at CPL 3, IOPL 3: IF changes", CODE("push 0x0202; popfq; pushfq; pop rax"), .env = U64,
	    .flags = F_IOPL(3), .vec = DONE, .check_ax = true, .want_ax = 0x3202);
	row("popf at CPL 0 takes all but RF, VM", CODE("push 0x2774d7; popfq; pushfq; pop rax; push 2; popfq"), .vec = DONE,
	    .check_ax = true, .want_ax = 0x2474d7);
	row("pushf clears RF and VM", CODE("pushfq; pop rax"), .env = U64, .flags = F_RF, .vec = DONE, .check_ax = true,
	    .want_ax = 2);
}

static void tr_and_ldtr(void)
{
	row("ltr of a busy TSS", CODE("ltr ax"), .ax = SEL_TSS, .vec = GP, .err = SEL_TSS);
	row("ltr of null", CODE("ltr ax"), .ax = 0, .vec = GP);
	row("ltr of an LDT", CODE("ltr ax"), .ax = SEL_LDT, .vec = GP, .err = SEL_LDT);
	row("ltr of data", CODE("ltr ax"), .ax = SEL_DATA, .vec = GP, .err = SEL_DATA);
	row("ltr of an LDT selector", CODE("ltr ax"), .ax = SEL_TSS | 4, .vec = GP, .err = SEL_TSS | 4);
	row("ltr beyond the GDT", CODE("ltr ax"), .ax = X_OUT, .vec = GP, .err = X_OUT);
	set_system_desc(&gdt[X_TSS2 >> 3], (word)tss, 0x67, 0x09);
	row("ltr of a TSS not present", CODE("ltr ax"), .ax = X_TSS2, .vec = NP, .err = X_TSS2);
	set_system_desc(&gdt[X_TSS2 >> 3], (word)tss, 0x67, D_TSS);
	row("ltr", CODE("ltr ax; str eax"), .ax = X_TSS2 | 3, .vec = DONE, .check_ax = true, .want_ax = X_TSS2 | 3);
	check_eq("busy", ((volatile uint64_t *)gdt)[X_TSS2 >> 3] >> 40 & 0xff, 0x8b);
	tss_set_limit(0x67);
	row("lldt of null", CODE("lldt ax; sldt eax"), .ax = 0, .vec = DONE, .check_ax = true, .want_ax = 0);
	row("selector in a null LDT", CODE("mov ds, eax"), .ax = 0x0c, .vec = GP, .err = 0x0c);
	row("lldt of a TSS", CODE("lldt ax"), .ax = SEL_TSS, .vec = GP, .err = SEL_TSS);
	row("lldt of data", CODE("lldt ax"), .ax = SEL_DATA, .vec = GP, .err = SEL_DATA);
	row("lldt not present", CODE("lldt ax"), .ax = X_NPSYS, .vec = NP, .err = X_NPSYS);
	row("lldt of an LDT selector", CODE("lldt ax"), .ax = SEL_LDT | 4, .vec = GP, .err = SEL_LDT | 4);
	row("lldt", CODE("lldt ax; sldt eax"), .ax = SEL_LDT, .vec = DONE, .check_ax = true, .want_ax = SEL_LDT);
}

/* TSS limit and I/O permission bitmap at CPL 3, IOPL 0 (SDM vol. 1, 19.5.2). */
static void io_bitmap(void)
{
	static const struct {
		uint32_t limit;
		unsigned port, clear_from, clear_to; /* bits cleared in an all-ones map */
		unsigned size;
		int vec;
	} t[] = {
		{ 0x67, 0x80, 0, 0x200, 1, GP }, { 0x68 + 0x200, 0x80, 0x80, 0x81, 1, DONE },
		{ 0x68 + 0x200, 0x80, 0x81, 0x100, 1, GP }, { 0x68 + 0x200, 0x80, 0x80, 0x81, 2, GP },
		{ 0x68 + 0x200, 0x80, 0x80, 0x82, 2, DONE }, { 0x68 + 0x200, 0x80, 0x80, 0x83, 4, GP },
		{ 0x68 + 0x200, 0x80, 0x80, 0x84, 4, DONE }, { 0x68 + 0x200, 0x86, 0x86, 0x8a, 4, DONE },
		{ 0x68 + 0x200, 0x86, 0x86, 0x89, 4, GP }, { 0x68 + 0x11, 0x80, 0x80, 0x81, 1, DONE },
		/* The CPU reads two bytes of the map: the second must be within the limit too. */
		{ 0x68 + 0x10, 0x80, 0x80, 0x81, 1, GP }, { 0x68 + 0x0f, 0x80, 0x80, 0x81, 1, GP },
		{ 0x68 + 8192, 0xffff, 0xffff, 0x10000, 1, DONE }, { 0x68 + 8191, 0xffff, 0xffff, 0x10000, 1, GP },
	};
	const void *code[5] = { 0, CODE("in al, dx"), CODE("in ax, dx"), 0, CODE("in eax, dx") };
	unsigned i, b;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		for (b = 0; b < 8193; b++)
			tss[0x68 + b] = 0xff;
		for (b = t[i].clear_from; b < t[i].clear_to; b++)
			tss[0x68 + b / 8] &= ~(1 << b % 8);
		tss_set_limit(t[i].limit);
		casef("I/O map row %d", i);
		run_row("I/O bitmap", code[t[i].size], &(struct row){ .env = U64, .dx = t[i].port, .vec = t[i].vec });
	}
	row("IOPL 3 needs no map", CODE("in al, dx"), .env = U64, .dx = 0x71, .flags = F_IOPL(3), .vec = DONE);
	*(volatile uint16_t *)(tss + 0x66) = 0xffff;
	row("map base beyond the limit", CODE("in al, dx"), .env = U64, .dx = 0x80, .vec = GP);
	*(volatile uint16_t *)(tss + 0x66) = 0x68;
	tss_set_limit(0x67);
}

void guest_main(void)
{
	descriptors();
	load_data();
	accessed();
	probes();
	far_transfers();
	call_gates();
	irets();
	tr_and_ldtr();
	io_bitmap();
}
