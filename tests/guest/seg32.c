/*
 * seg32.c - segmentation in 32- and 16-bit protected mode: limits in every form, what may be loaded and used,
 * stack size, code limits. SDM vol. 3, ch. 5.3 to 5.7; APM vol. 2, 4.5 to 4.12.
 */
#include "rt/rt.h"

#define X(n) (SEL_FREE + (n) * 8)
#define BASE ((uint32_t)(word)arena + 0x2000)

static uint8_t arena[0x6000] __attribute__((aligned(4096)));

struct kind {
	const char *name;
	unsigned access, flags;
	uint32_t raw_limit;
};

static const struct kind kinds[] = {
	{ "expand-up, bytes", 0xf3, FL_DB, 0x7ff },
	{ "expand-up, B = 0", 0xf3, 0, 0x7ff },
	{ "expand-up, limit 0", 0xf3, FL_DB, 0 },
	{ "expand-up, pages", 0xf3, FL_DB | FL_G, 0 },
	{ "expand-up, two pages", 0xf3, FL_DB | FL_G, 1 },
	{ "read-only", 0xf1, FL_DB, 0x7ff },
	{ "readable code", 0xfb, FL_DB, 0x7ff },
	{ "conforming readable code", 0xff, FL_DB, 0x7ff },
	{ "expand-down, B = 1", 0xf7, FL_DB, 0x7ff },
	{ "expand-down, B = 0", 0xf7, 0, 0x7ff },
	{ "expand-down, pages", 0xf7, FL_DB | FL_G, 0 },
	{ "expand-down, limit 0", 0xf7, FL_DB, 0 },
	{ "expand-down, read-only", 0xf5, FL_DB, 0x7ff },
};

static bool allowed(const struct kind *k, uint32_t off, unsigned size, bool write)
{
	uint32_t limit = k->flags & FL_G ? k->raw_limit << 12 | 0xfff : k->raw_limit;
	uint32_t max = k->flags & FL_DB ? 0xffffffff : 0xffff;
	bool code = k->access & 8;

	if (write && (code || !(k->access & 2)))
		return false;
	if (!code && (k->access & D_EXPDOWN))
		return off > limit && (uint64_t)off + size - 1 <= max;
	return (uint64_t)off + size - 1 <= limit;
}

static const void *loads[5], *stores[5];

static void access(const struct kind *k, unsigned sel, uint32_t off, unsigned size, bool write, bool user)
{
	struct ctx c;

	ctx_init(&c, user ? U32 : K32, write ? stores[size] : loads[size]);
	c.ds = sel | (user ? 3 : 0);
	c.di = off;
	casef("%s, %s of %d bytes at 0x%x, CPL %d", k->name, write ? "write" : "read", size, off, user ? 3 : 0);
	run(&c);
	check_trap(&c, allowed(k, off, size, write) ? DONE : GP, 0);
}

static void data_limits(void)
{
	unsigned i, n, size;

	for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		const struct kind *k = &kinds[i];
		uint32_t limit = k->flags & FL_G ? k->raw_limit << 12 | 0xfff : k->raw_limit;

		gdt_set(X(0), seg_desc(BASE, k->raw_limit, k->access, k->flags));
		for (size = 1; size <= 4; size *= 2)
			for (n = 0; n < 7; n++) {
				uint32_t off = limit - 4 + n;

				if (off > limit && limit < 4 && off > 0xffff)
					continue; /* wraps around 4 GiB: left to the implementation */
				access(k, X(0), off, size, false, n & 1);
				access(k, X(0), off, size, true, n & 1);
			}
		access(k, X(0), 0, 1, false, true);
	}
	/* The upper end of an expand-down segment with B = 0 is 64 KiB. */
	gdt_set(X(0), seg_desc((uint32_t)(word)arena + 0x1000 - 0x10000, 0x7ff, 0xf7, 0));
	for (n = 0; n < 6; n++)
		for (size = 1; size <= 4; size *= 2)
			access(&kinds[9], X(0), 0xfffc + n, size, n & 1, true);
}

/* Overrides pick the segment; SS by default for ESP and EBP, and its faults are #SS. */
static void overrides(void)
{
	gdt_set(X(0), seg_desc(BASE, 0x7ff, 0xf3, FL_DB));
	row("es:", CODE("mov es, eax; mov cl, es:[edi]"), .env = U32, .ax = X(0) | 3, .di = 0x800, .off = 2, .vec = GP);
	row("fs:", CODE("mov fs, eax; mov cl, fs:[edi]"), .env = U32, .ax = X(0) | 3, .di = 0x800, .off = 2, .vec = GP);
	row("gs:", CODE("mov gs, eax; mov cl, gs:[edi]"), .env = U32, .ax = X(0) | 3, .di = 0x7ff, .vec = DONE);
	row("ebp is SS", CODE("mov cl, [ebp]"), .env = U32, .ss = X(0) | 3, .bp = 0x800, .vec = SS);
	row("esp is SS", CODE("mov cl, [esp]"), .env = U32, .ss = X(0) | 3, .sp = 0x800, .vec = SS);
	row("ss:", CODE("mov cl, ss:[edi]"), .env = U32, .ss = X(0) | 3, .di = 0x800, .vec = SS);
	row("ds:[ebp]", CODE("mov cl, ds:[ebp]"), .env = U32, .ds = X(0) | 3, .bp = 0x800, .vec = GP);
	row("movs: source in DS", CODE("movsb"), .env = U32, .ds = X(0) | 3, .si = 0x800, .di = BASE, .vec = GP);
	row("movs: destination in ES", CODE("mov es, eax; movsb"), .env = U32, .ax = X(0) | 3, .si = BASE, .di = 0x800,
	    .off = 2, .vec = GP);
	row("stos: no override", CODE("mov es, eax; .byte 0x64; stosb"), .env = U32, .ax = X(0) | 3, .di = 0x800, .off = 2,
	    .vec = GP);
	row("xlat", CODE("xlatb"), .env = U32, .ds = X(0) | 3, .bx = 0x7f0, .ax = 0x10, .vec = GP);
	row("base is added", CODE("mov eax, [edi]"), .env = U32, .ds = X(0) | 3, .di = 4, .vec = DONE, .check_ax = true,
	    .want_ax = 0x12345678);
	row("cs: reads", CODE("mov eax, cs:[edi]"), .env = U32, .di = BASE + 4, .vec = DONE, .check_ax = true,
	    .want_ax = 0x12345678);
	row("cs: writes", CODE("mov cs:[edi], eax"), .env = U32, .di = BASE + 4, .vec = GP);
	row("16-bit address", CODE(".byte 0x67, 0x8a, 0x05"), .env = U32, .ds = X(0) | 3, .di = 0x107ff, .vec = DONE);
	row("lea checks nothing", CODE("lea eax, [edi]"), .env = U32, .ds = X(0) | 3, .di = 0x8000, .vec = DONE);
	row("lgdt through a short segment", CODE("lgdt [edi]"), .ds = X(0), .di = 0x7fc, .vec = GP);
	row("fnstcw across the limit", CODE("fnstcw [edi]"), .env = U32, .ds = X(0) | 3, .di = 0x7ff, .vec = GP);
}

static void nulls(void)
{
	const unsigned null[] = { 0, 1, 2, 3 };
	unsigned i;

	for (i = 0; i < 4; i++) {
		row("load of null", CODE("mov ds, eax"), .env = U32, .ax = null[i], .vec = DONE);
		row("use of null", CODE("mov ds, eax; mov cl, [edi]"), .env = U32, .ax = null[i], .di = BASE, .off = 2, .vec = GP);
		row("use of null at CPL 0", CODE("mov es, eax; mov es:[edi], cl"), .ax = null[i], .di = BASE, .off = 2, .vec = GP);
		row("ss = null", CODE("mov ss, eax"), .ax = null[i], .vec = GP);
		row("ss = null at CPL 3", CODE("mov ss, eax"), .env = U32, .ax = null[i], .vec = GP);
	}
}

static void loads_of_selectors(void)
{
	static const struct {
		const char *name;
		uint64_t desc;
		bool user, ss;
		unsigned rpl;
		int vec;
	} t[] = {
		{ "data of DPL 0 at CPL 3", 0x00cf93000000ffff, true, false, 3, GP },
		{ "data of DPL 0 at CPL 3, RPL 0", 0x00cf93000000ffff, true, false, 0, GP },
		{ "data of DPL 3", 0x00cff3000000ffff, true, false, 0, DONE },
		{ "data of DPL 0, RPL 3", 0x00cf93000000ffff, false, false, 3, GP },
		{ "not present", 0x00cf73000000ffff, true, false, 3, NP },
		{ "execute-only", 0x00cff9000000ffff, true, false, 3, GP },
		{ "conforming execute-only", 0x00cffd000000ffff, true, false, 3, GP },
		{ "conforming code of DPL 0", 0x00cf9f000000ffff, true, false, 3, DONE },
		{ "TSS", 0x0000e9000000ffff, true, false, 3, GP },
		{ "call gate", 0x0000ec000000ffff, true, false, 3, GP },
		{ "empty", 0, true, false, 3, GP },
		{ "SS: data of DPL 3", 0x00cff3000000ffff, true, true, 3, DONE },
		{ "SS: RPL 0 at CPL 3", 0x00cff3000000ffff, true, true, 0, GP },
		{ "SS: DPL 0 at CPL 3", 0x00cf93000000ffff, true, true, 3, GP },
		{ "SS: DPL 3 at CPL 0", 0x00cff3000000ffff, false, true, 0, GP },
		{ "SS: read-only", 0x00cff1000000ffff, true, true, 3, GP },
		{ "SS: code", 0x00cffb000000ffff, true, true, 3, GP },
		{ "SS: not present", 0x00cf73000000ffff, true, true, 3, SS },
		{ "SS: expand-down", 0x00cff70000000fff, true, true, 3, DONE },
	};
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		gdt_set(X(1), t[i].desc);
		run_row(t[i].name, t[i].ss ? CODE("mov ss, eax; nop") : CODE("mov ds, eax; nop"),
			&(struct row){ .env = t[i].user ? U32 : K32, .ax = X(1) | t[i].rpl, .vec = t[i].vec, .err = X(1) });
		if (t[i].ss)
			continue;
		run_row(t[i].name, CODE("push eax; pop gs; nop"),
			&(struct row){ .env = t[i].user ? U32 : K32, .ax = X(1) | t[i].rpl, .vec = t[i].vec, .err = X(1),
				       .off = t[i].vec == DONE ? 0 : 1 });
	}
	*(volatile uint16_t *)(arena + 0x2000 + 0x104) = X(1) | 3;
	gdt_set(X(1), 0x00cf73000000ffff);
	row("les", CODE("les eax, [edi]"), .env = U32, .di = BASE + 0x100, .vec = NP, .err = X(1));
	casef("les that faults leaves the register");
	check_eq("AX", trap.r.ax, 0);
	gdt_set(X(1), 0x00cff3000000ffff);
	row("lfs", CODE("lfs eax, [edi]; mov eax, fs"), .env = U32, .di = BASE + 0x100, .vec = DONE, .check_ax = true,
	    .want_ax = X(1) | 3);
	row("mov cs", CODE(".byte 0x8e, 0xc8"), .vec = UD);
	row("pop cs does not exist: 0f", CODE(".byte 0x0f, 0x0b"), .vec = UD);
	row("hidden part stays until reloaded", CODE("mov fs, eax; mov dword ptr [esi + 4], 0; mov eax, fs:[edi]"),
	    .ax = X(1), .si = (word)&gdt[X(1) >> 3], .di = BASE + 4, .vec = DONE, .check_ax = true, .want_ax = 0x12345678);
}

/* Stack: size of the pointer is SS.B; limits raise #SS. */
static void stacks(void)
{
	uint32_t b = BASE;

	gdt_set(X(0), seg_desc(b, 0xfff, 0xf3, FL_DB));   /* expand-up, 4 KiB */
	gdt_set(X(1), seg_desc(b, 0xfff, 0xf3, 0));       /* the same, 16-bit SP */
	gdt_set(X(2), seg_desc(b, 0x7ff, 0xf7, FL_DB));   /* expand-down above 800h */
	gdt_set(X(3), seg_desc(b - 0xe000, 0xffff, 0xf3, 0));
	row("push below the limit", CODE("push eax"), .env = U32, .ss = X(0) | 3, .sp = 0x1000, .vec = DONE);
	row("push over the limit", CODE("push eax"), .env = U32, .ss = X(0) | 3, .sp = 0x1001, .vec = SS);
	row("push at 0 wraps", CODE("push eax"), .env = U32, .ss = X(0) | 3, .sp = 0, .vec = SS);
	row("push at 2 wraps", CODE("push eax"), .env = U32, .ss = X(0) | 3, .sp = 2, .vec = SS);
	check_eq("ESP", trap.r.sp, 2);
	row("pop at the limit", CODE("pop eax"), .env = U32, .ss = X(0) | 3, .sp = 0xffd, .vec = SS);
	row("pop", CODE("pop eax"), .env = U32, .ss = X(0) | 3, .sp = 0xffc, .vec = DONE);
	row("push ax", CODE("push ax"), .env = U32, .ss = X(0) | 3, .sp = 2, .vec = DONE);
	row("call over the limit", CODE("call edi"), .env = U32, .ss = X(0) | 3, .sp = 0, .vec = SS);
	row("ret over the limit", CODE("ret"), .env = U32, .ss = X(0) | 3, .sp = 0xffe, .vec = SS);
	row("pusha over the limit", CODE("pusha"), .env = U32, .ss = X(0) | 3, .sp = 16, .vec = SS);
	row("popa over the limit", CODE("popa"), .env = U32, .ss = X(0) | 3, .sp = 0xff0, .vec = SS);
	row("enter over the limit", CODE("enter 0, 0"), .env = U32, .ss = X(0) | 3, .sp = 0, .vec = SS);
	row("leave over the limit", CODE("leave"), .env = U32, .ss = X(0) | 3, .bp = 0x1000, .vec = SS);
	row("pushf over the limit", CODE("pushf"), .env = U32, .ss = X(0) | 3, .sp = 0, .vec = SS);
	row("expand-down: push", CODE("push eax"), .env = U32, .ss = X(2) | 3, .sp = 0x804, .vec = DONE);
	row("expand-down: push at its end", CODE("push eax"), .env = U32, .ss = X(2) | 3, .sp = 0x803, .vec = SS);
	/*
	 * 16-bit SP: the high half of ESP is neither used nor changed. IRET to such a stack does not load it
	 * either, so the snippets do.
	 */
	row("SP: push", CODE("mov esp, ecx; push eax"), .env = U32, .ss = X(1) | 3, .cx = 0x12340100, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x123400fc);
	row("SP: push wraps at 0", CODE("mov esp, ecx; push ax"), .env = U32, .ss = X(3) | 3, .cx = 0x12340000, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x1234fffe);
	row("SP: pop", CODE("mov esp, ecx; pop ax"), .env = U32, .ss = X(3) | 3, .cx = 0x1234fffe, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x12340000);
	row("SP: call and ret", CODE("mov esp, ecx; call 1f; jmp 2f; 1: ret 4; 2:"), .env = U32, .ss = X(1) | 3,
	    .cx = 0x56780100, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x56780104);
	row("SP: leave", CODE("mov esp, ecx; leave"), .env = U32, .ss = X(1) | 3, .cx = 0x9abc0000, .bp = 0x12340100, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x9abc0104);
	row("SP: [esp] still uses ESP", CODE("mov esp, ecx; mov al, [esp]"), .env = U32, .ss = X(1) | 3, .cx = 0x12340100, .off = 2, .vec = SS);
	row("SP: enter", CODE("mov esp, ecx; enter 8, 0"), .env = U32, .ss = X(1) | 3, .cx = 0x12340100, .bp = 0x77, .vec = DONE);
	check_eq("ESP", trap.r.sp, 0x123400f4);
}

/* Code limits; the code segment starts at a copy of the snippet. */
static void code_row(const char *name, unsigned flags, uint32_t limit, const void *code, word ip, int vec, word want_ip)
{
	struct ctx c;

	gdt_set(X(4), seg_desc(BASE + 0x1000, limit, 0xfb, flags));
	zero(arena + 0x3000, 0x1000);
	copy(arena + 0x3000 + (ip & 0xfff), code, 64);
	ctx_init(&c, U32, code);
	c.cs = X(4) | 3;
	c.ip = ip;
	casef("code: %s", name);
	run(&c);
	check_eq("vector", trap.vec, (word)vec);
	check_eq("IP", trap.r.ip, want_ip);
}

static void code_limits(void)
{
	const void *nops = CODE("nop; nop; nop"), *mov = CODE("mov eax, 1"), *jmp = CODE("jmp .+0x100"),
		   *call = CODE("mov eax, 0x500; call eax"), *ret = CODE("push 0x600; ret"),
		   *loop = CODE("loop .+0x40"),
		   *wrap16 = CODE16("jmp .+0x7000");

	code_row("inside", FL_DB, 0xfff, nops, 0x100, DONE, 0x105);
	code_row("runs off the limit", FL_DB, 0x101, nops, 0x100, GP, 0x102);
	code_row("instruction ends at the limit", FL_DB, 0x106, mov, 0x100, DONE, 0x107);
	code_row("instruction straddles the limit", FL_DB, 0x103, mov, 0x100, GP, 0x100);
	code_row("jmp beyond the limit faults as the jump", FL_DB, 0x1ff, jmp, 0x100, GP, 0x100);
	code_row("call beyond the limit", FL_DB, 0x4ff, call, 0x100, GP, 0x105);
	code_row("ret beyond the limit", FL_DB, 0x5ff, ret, 0x100, GP, 0x105);
	code_row("loop beyond the limit", FL_DB, 0x120, loop, 0x100, GP, 0x100);
	code_row("16-bit code, jmp beyond the limit", 0, 0x1fff, wrap16, 0x100, GP, 0x100);
	code_row("pages", FL_DB | FL_G, 0, nops, 0xffd, GP, 0x1000);
	row("entering beyond the limit", CODE("nop"), .env = U32, .cs = X(4) | 3, .vec = GP, .any_ip = true);
}

/* 16-bit code: default sizes and wrapping. */
static void sixteen(void)
{
	row("operands are 16 bits", CODE16("mov ax, 0x1234; inc ax"), .env = U16, .ax = 0x55550000, .vec = DONE,
	    .check_ax = true, .want_ax = 0x55551235);
	row("66 makes them 32", CODE16(".byte 0x66, 0xb8; .long 0x12345678"), .env = U16, .vec = DONE, .check_ax = true,
	    .want_ax = 0x12345678);
	row("addresses are 16 bits", CODE16("mov al, [bx + si]"), .env = U16, .ds = X(5) | 3, .bx = 0x12340ff0,
	    .si = 0xffff0010, .vec = GP);
	row("address wraps at 64 KiB", CODE16("mov ax, [bx + si]"), .env = U16, .ds = X(5) | 3, .bx = 0xfff0,
	    .si = 0x14, .vec = DONE, .check_ax = true, .want_ax = 0x5678);
	row("bp is SS", CODE16("mov al, [bp]"), .env = U16, .ss = X(0) | 3, .bp = 0x2000, .vec = SS);
	row("push is 16 bits, with ESP", CODE16("push ax"), .env = U16, .vec = DONE);
	check_eq("ESP", trap.r.sp, USER(top(ustack)) - 66);
	row("call near pushes IP", CODE16("call 1f; 1: pop ax"), .env = U16, .vec = DONE);
	row("at CPL 0", CODE16("mov eax, cr0; and eax, 1"), .env = K16, .vec = DONE, .check_ax = true, .want_ax = 1);
	row("hlt at CPL 3", CODE16("hlt"), .env = U16, .vec = GP);
	row("loop uses CX", CODE16("mov ax, 0; 1: inc ax; loop 1b"), .env = U16, .cx = 0x10003, .vec = DONE,
	    .check_ax = true, .want_ax = 3);
	check_eq("ECX", trap.r.cx, 0x10000);
	row("rep movsb uses CX, SI, DI", CODE16("rep movsb"), .env = U16, .cx = 0x10000, .si = ~0ul, .vec = DONE);
	row("aam 0", CODE16("aam 0"), .env = U16, .vec = DE);
	row("bound", CODE16("push 5; push 1; mov bp, sp; mov ax, 9; nop"), .env = U16, .vec = DONE);
	row("into", CODE16("mov al, 0x7f; inc al; into"), .env = U16, .off = 5, .vec = OF);
}

void guest_main(void)
{
	loads[1] = CODE("mov cl, [edi]; nop");
	loads[2] = CODE("mov cx, [edi]; nop");
	loads[4] = CODE("mov ecx, [edi]; nop");
	stores[1] = CODE("mov [edi], cl; nop");
	stores[2] = CODE("mov [edi], cx; nop");
	stores[4] = CODE("mov [edi], ecx; nop");
	*(volatile uint32_t *)(arena + 0x2004) = 0x12345678;
	gdt_set(X(5), seg_desc(BASE, 0xfff, 0xf3, 0));
	data_limits();
	*(volatile uint32_t *)(arena + 0x2004) = 0x12345678;
	overrides();
	nulls();
	loads_of_selectors();
	gdt_set(X(0), seg_desc(BASE, 0xfff, 0xf3, FL_DB));
	sixteen();
	stacks();
	code_limits();
}
