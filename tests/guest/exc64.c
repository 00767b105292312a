/*
 * exc64.c - exceptions in long mode: vectors, error codes, what is saved and where, priorities, double
 * faults, non-canonical addresses. SDM vol. 3, ch. 6; APM vol. 2, ch. 8.
 */
#include "rt/rt.h"

#define BAD (1ul << 47) /* the first address that is not canonical */
#define VA_LAST (BAD - 4096)
#define VA_TEST (1ul << 39) /* page_a, then page_b (unless unmapped) */

static uint64_t *const pt = (uint64_t *)table_c;

static void map_test_pages(void)
{
	pml4[1] = (word)table_a | P | W | U;
	*(uint64_t *)table_a = (word)table_b | P | W | U;
	*(uint64_t *)table_b = (word)table_c | P | W | U;
	pt[0] = (word)page_a | P | W | U;
	pt[1] = 0;
	/* The last page below the hole, through the same tables. */
	pml4[255] = (word)table_d | P | W | U;
	((uint64_t *)table_d)[511] = (word)table_b | P | W | U;
	((uint64_t *)table_b)[511] = (word)table_c | P | W | U;
	pt[511] = (word)page_a | P | W | U;
	flush();
}

static void vectors(void)
{
	row("#DE: div by 0", CODE("xor ecx, ecx; div ecx"), .off = 2, .vec = DE);
	row("#DE: idiv overflow", CODE("idiv ecx"), .ax = 0x80000000, .dx = ~0ul, .cx = ~0ul, .vec = DE);
	row("#DE at CPL 3", CODE("div cl"), .env = U64, .vec = DE);
	row("#DB: int1", CODE(".byte 0xf1"), .off = 1, .vec = DB);
	row("#DB: int1 at CPL 3 needs no DPL", CODE(".byte 0xf1"), .env = U64, .off = 1, .vec = DB);
	row("#BP", CODE("int3"), .env = U64, .off = 1, .vec = BP);
	row("int 3, two bytes", CODE(".byte 0xcd, 3"), .env = U64, .off = 2, .vec = BP);
	row("#OF in compat", CODE32("mov al, 0x7f; inc al; into"), .env = U32, .off = 5, .vec = OF);
	row("into without OF", CODE32("into"), .env = U32, .vec = DONE);
	row("into in 64-bit mode", CODE(".byte 0xce"), .vec = UD);
	row("#BR in compat", CODE32("push 10; push 5; mov eax, 4; bound eax, [esp]"), .env = U32, .off = 9, .vec = BR);
	row("bound, inside", CODE32("push 10; push 5; mov eax, 10; bound eax, [esp]"), .env = U32, .vec = DONE);
	row("int 32 at CPL 3: DPL", CODE("int 32"), .env = U64, .vec = GP, .err = 32 * 8 + 2);
	row("int 13 at CPL 3: DPL", CODE("int 13"), .env = U64, .vec = GP, .err = 13 * 8 + 2);
	row("int 1 at CPL 3: DPL", CODE(".byte 0xcd, 1"), .env = U64, .vec = GP, .err = 1 * 8 + 2);
	row("int 255", CODE("int 255"), .vec = 255, .off = 2);
}

/* INT n pushes no error code, also for vectors that have one. */
static void software_vectors(void)
{
	static const uint8_t t[] = { 0, 4, 6, 8, 10, 11, 12, 13, 14, 17, 18, 19, 21, 30 };
	const uint8_t *code = CODE("int 0x55");
	unsigned i;

	for (i = 0; i < sizeof(t); i++) {
		struct ctx c;

		((volatile uint8_t *)code)[1] = t[i];
		ctx_init(&c, K64, code);
		run(&c);
		casef("int %d at CPL 0", t[i]);
		check_eq("vector", trap.vec, t[i]);
		check_eq("IP", trap.r.ip, c.ip + 2);
		check(!trap.has_err, "an error code was pushed");
	}
}

static void undefined(void)
{
	row("ud2", CODE("ud2"), .vec = UD);
	row("ud1", CODE(".byte 0x0f, 0xb9, 0xc0"), .vec = UD);
	row("ud0", CODE(".byte 0x0f, 0xff, 0xc0"), .vec = UD);
	row("push es", CODE(".byte 0x06"), .vec = UD);
	row("pop ds", CODE(".byte 0x1f"), .vec = UD);
	row("pusha", CODE(".byte 0x60"), .vec = UD);
	row("popa", CODE(".byte 0x61"), .vec = UD);
	row("daa", CODE(".byte 0x27"), .vec = UD);
	row("aaa", CODE(".byte 0x37"), .vec = UD);
	row("aam", CODE(".byte 0xd4, 10"), .vec = UD);
	row("aad", CODE(".byte 0xd5, 10"), .vec = UD);
	row("salc", CODE(".byte 0xd6"), .vec = UD);
	row("82 group", CODE(".byte 0x82, 0xc0, 0"), .vec = UD);
	row("call far ptr", CODE(".byte 0x9a, 0, 0, 0, 0, 8, 0"), .vec = UD);
	row("jmp far ptr", CODE(".byte 0xea, 0, 0, 0, 0, 8, 0"), .vec = UD);
	row("mov cs, eax", CODE(".byte 0x8e, 0xc8"), .vec = UD);
	row("mov sreg 6", CODE(".byte 0x8e, 0xf0"), .vec = UD);
	row("mov eax, sreg 7", CODE(".byte 0x8c, 0xf8"), .vec = UD);
	row("lea of a register", CODE(".byte 0x8d, 0xc0"), .vec = UD);
	row("lock nop", CODE(".byte 0xf0, 0x90"), .vec = UD);
	row("lock mov", CODE(".byte 0xf0, 0x89, 0x07"), .di = (word)page_a, .vec = UD);
	row("lock add reg, reg", CODE(".byte 0xf0, 0x01, 0xc0"), .vec = UD);
	row("lock add reg, mem", CODE(".byte 0xf0, 0x03, 0x07"), .di = (word)page_a, .vec = UD);
	row("lock cmp", CODE(".byte 0xf0, 0x39, 0x07"), .di = (word)page_a, .vec = UD);
	row("lock bt", CODE(".byte 0xf0, 0x0f, 0xa3, 0x07"), .di = (word)page_a, .vec = UD);
	row("lock add mem, reg", CODE("lock add [rdi], eax"), .di = (word)page_a, .vec = DONE);
	row("lock of a bad address: #UD first", CODE(".byte 0xf0, 0x89, 0x07"), .di = BAD, .vec = UD);
	row("cmpxchg8b of a register", CODE(".byte 0x0f, 0xc7, 0xc8"), .vec = UD);
	row("c6 /1", CODE(".byte 0xc6, 0xc8, 0"), .vec = UD);
	row("fe /2", CODE(".byte 0xfe, 0xd0"), .vec = UD);
	row("ff /7", CODE(".byte 0xff, 0xf8"), .vec = UD);
	row("jmp far of a register", CODE(".byte 0xff, 0xe8"), .vec = UD);
	row("lidt [rax] at CPL 3: #GP before #PF", CODE("lidt [rax]"), .ax = VA_TEST + 4096, .env = U64,
	    .vec = GP);
	row("movabs stays", CODE("movabs rax, 0x1122334455667788"), .vec = DONE, .check_ax = true,
	    .want_ax = 0x1122334455667788);
	row("ud2 at CPL 3", CODE("ud2"), .env = U64, .vec = UD);
	row("ud2 in compat", CODE32("ud2"), .env = U32, .vec = UD);
	row("push es in compat is valid", CODE32("push es; pop eax"), .env = U32, .vec = DONE, .check_ax = true,
	    .want_ax = SEL_UDATA);
}

static void canonical(void)
{
	row("read", CODE("mov al, [rdi]"), .di = BAD, .vec = GP);
	row("read, bottom of the upper half - 1", CODE("mov al, [rdi]"), .di = ~0ul << 47, .si = 0, .vec = PF,
	    .cr2 = ~0ul << 47);
	row("read, hole's last byte", CODE("mov al, [rdi]"), .di = (~0ul << 47) - 1, .vec = GP);
	row("write at CPL 3", CODE("mov [rdi], al"), .env = U64, .di = BAD, .vec = GP);
	row("push", CODE("mov rsp, rdi; push rax"), .di = BAD + 64, .off = 3, .vec = DF);
	row("[rbp]", CODE("mov al, [rbp]"), .bp = BAD, .vec = SS);
	row("[rbp] at CPL 3", CODE("mov al, [rbp + 8]"), .env = U64, .bp = BAD, .vec = SS);
	row("[rbp] with an FS prefix", CODE("mov al, fs:[rbp]"), .bp = BAD, .vec = GP);
	row("[rsp] at CPL 3", CODE("mov al, [rsp + 64]"), .env = U64, .sp = BAD, .vec = SS);
	row("push at CPL 3", CODE("push rax"), .env = U64, .sp = BAD + 64, .vec = SS);
	row("pop at CPL 3", CODE("pop rax"), .env = U64, .sp = BAD, .vec = SS);
	row("call at CPL 3", CODE("call rdi"), .env = U64, .sp = BAD + 64, .vec = SS);
	row("ret at CPL 3, bad stack", CODE("ret"), .env = U64, .sp = BAD, .vec = SS);
	row("enter at CPL 3", CODE("enter 0, 0"), .env = U64, .sp = BAD + 64, .vec = SS);
	row("leave at CPL 3", CODE("leave"), .env = U64, .bp = BAD, .vec = SS);
	row("jmp to it", CODE("jmp rdi"), .di = BAD, .vec = GP);
	row("jmp [mem]", CODE("push rdi; jmp [rsp]"), .di = BAD, .off = 1, .vec = GP);
	row("call to it", CODE("call rdi"), .di = BAD, .vec = GP);
	casef("call to it pushes nothing");
	check_eq("RSP", trap.r.sp, top(kstack) - 64);
	row("ret to it", CODE("push rdi; ret"), .di = BAD, .off = 1, .vec = GP);
	casef("ret to it pops nothing");
	check_eq("RSP", trap.r.sp, top(kstack) - 72);
	row("ret to it at CPL 3", CODE("push rdi; ret"), .env = U64, .di = BAD, .off = 1, .vec = GP);
	row("8 bytes up to the edge", CODE("mov rax, [rdi]"), .di = BAD - 8, .vec = DONE);
	row("8 bytes across the edge", CODE("mov rax, [rdi]"), .di = BAD - 4, .vec = GP);
	row("8 bytes across the edge, write", CODE("mov [rdi], rax"), .di = BAD - 1, .vec = GP);
	row("8 bytes across the edge, stack", CODE("mov rax, [rbp]"), .bp = BAD - 4, .vec = SS);
	row("FS base added", CODE("mov ecx, 0xc0000100; mov eax, 0xfffffff0; mov edx, 0x7fff; wrmsr; mov al, fs:[0x10]"),
	    .off = 17, .vec = GP);
	row("FS base added, below", CODE("mov al, fs:[rdi - 1]"), .di = 0x10, .vec = DONE);
	wrmsr(MSR_FS_BASE, 0);
	row("invlpg of it is no fault", CODE("invlpg [rdi]"), .di = BAD, .vec = DONE);
	row("lea of it is no fault", CODE("lea rax, [rdi]"), .di = BAD, .vec = DONE);
	row("prefetch of it is no fault", CODE("prefetcht0 [rdi]"), .di = BAD, .vec = DONE);
	row("multi-byte nop of it is no fault", CODE("nop dword ptr [rdi]"), .di = BAD, .vec = DONE);
	row("lgdt of it", CODE("lgdt [rdi]"), .di = BAD, .vec = GP);
	if (is_tcg())
		skip("lgdt of a non-canonical base");
	else
		row("lgdt of a non-canonical base", CODE("mov qword ptr [rdi], 0x7fff; mov [rdi + 2], rcx; lgdt [rdi]"),
		    .di = (word)page_a, .cx = BAD, .off = 11, .vec = GP);
}

/* IP leaves the canonical space by itself. */
static void run_off(void)
{
	struct ctx c;

	page_a[4095] = 0x90;
	ctx_init(&c, K64, (void *)(BAD - 1));
	run(&c);
	casef("a nop as the last byte below the hole");
	c.ip = BAD;
	check_trap(&c, GP, 0);
	page_a[4094] = 0xeb;
	page_a[4095] = 0x10;
	c.ip = BAD - 2;
	run(&c);
	casef("jmp short over the edge faults as the jump");
	check_trap(&c, GP, 0);
	page_a[4094] = 0x66;
	page_a[4095] = 0x66;
	run(&c);
	casef("an instruction that starts below and ends above the edge");
	check_trap(&c, GP, 0);
	check_eq("vector of the same at CPL 3", (c.cs = SEL_UCODE64, c.ss = SEL_UDATA, run(&c), trap.vec), GP);
}

static void put_code(word off, const char *bytes, unsigned n)
{
	copy(page_a + off, bytes, n);
}

/* Runs what is at offset off of page_a, with page_b not mapped after it; .di etc. as usual. */
static void at_page_end(const char *name, word off, enum env env, int vec, word err, word cr2, word di)
{
	struct ctx c;

	ctx_init(&c, env, NULL);
	c.ip = VA_TEST + off;
	c.di = di;
	casef("%s", name);
	run(&c);
	check_trap(&c, vec, err);
	if (vec == PF)
		check_eq("CR2", trap.cr2, cr2);
}

static void fetch(void)
{
	const word next = VA_TEST + 4096;
	word err = E_I; /* EFER.NXE is set */
	unsigned i;

	put_code(4094, "\xcd\xfe", 2);
	at_page_end("instruction ends with its page", 4094, K64, DONE, 0, 0, 0);
	put_code(4095, "\xcd", 1);
	at_page_end("second byte on a missing page", 4095, K64, PF, err, next, 0);
	at_page_end("the same at CPL 3", 4095, U64, PF, err | E_U, next, 0);
	put_code(4094, "\x8a\x87", 2); /* mov al, [rdi + disp32] */
	at_page_end("fetch fault before data fault", 4094, K64, PF, err, next, 0xffff800000001000);
	at_page_end("fetch fault before #GP", 4094, K64, PF, err, next, BAD);
	put_code(4095, "\xf0", 1);
	at_page_end("prefix on the last byte", 4095, K64, PF, err, next, 0);
	put_code(4095, "\x0f", 1);
	at_page_end("0f on the last byte", 4095, K64, PF, err, next, 0);
	put_code(4095, "\x06", 1);
	at_page_end("a whole invalid opcode on the last byte", 4095, K64, UD, 0, 0, 0);
	put_code(4094, "\x0f\x0b", 2);
	at_page_end("ud2 at the end", 4094, K64, UD, 0, 0, 0);
	put_code(4095, "\xf4", 1);
	at_page_end("hlt at the end, CPL 3", 4095, U64, GP, 0, 0, 0);
	pt[1] = (word)page_b | P | W | U | NX;
	invlpg(next);
	put_code(4095, "\xcd", 1);
	at_page_end("second byte on a no-execute page", 4095, K64, PF, E_P | E_I, next, 0);
	at_page_end("second byte on a no-execute page, CPL 3", 4095, U64, PF, E_P | E_I | E_U, next, 0);
	pt[1] = 0;
	invlpg(next);
	/* 15 bytes are the most. */
	for (i = 0; i < 15; i++)
		page_a[1024 + i] = 0x66;
	put_code(1024 + 14, "\x90\xcd\xfe", 3);
	at_page_end("15 bytes", 1024, K64, DONE, 0, 0, 0);
	put_code(1024 + 14, "\x66\x90\xcd\xfe", 4);
	at_page_end("16 bytes", 1024, K64, GP, 0, 0, 0);
	at_page_end("16 bytes at CPL 3", 1024, U64, GP, 0, 0, 0);
	put_code(1024 + 13, "\x0f\x0b\x90", 3);
	at_page_end("15 bytes of ud2", 1024, K64, UD, 0, 0, 0);
	put_code(1024 + 14, "\x0f\x0b\x90", 3);
	at_page_end("16 bytes of ud2", 1024, K64, GP, 0, 0, 0);
}

static void data_crossing(void)
{
	const word edge = VA_TEST + 4096;
	uint32_t before;

	row("read across, second page missing", CODE("mov rax, [rdi]"), .di = edge - 3, .vec = PF, .cr2 = edge);
	row("read across at CPL 3", CODE("mov eax, [rdi]"), .env = U64, .di = edge - 1, .vec = PF, .err = E_U, .cr2 = edge);
	*(volatile uint32_t *)(page_a + 4092) = before = 0x01020304;
	row("write across, second page missing", CODE("mov [rdi], rax"), .di = edge - 4, .ax = ~0ul, .vec = PF,
	    .err = E_W, .cr2 = edge);
	casef("write across wrote nothing");
	check_eq("first page", *(volatile uint32_t *)(page_a + 4092), before);
	row("xchg across", CODE("xchg [rdi], eax"), .di = edge - 2, .vec = PF, .err = E_W, .cr2 = edge);
	row("add to memory across", CODE("add [rdi], eax"), .di = edge - 2, .vec = PF, .err = E_W, .cr2 = edge);
	row("pop across", CODE("pop rax"), .env = U64, .sp = edge - 4, .vec = PF, .err = E_U, .cr2 = edge);
	row("push across, from the missing page", CODE("push rax"), .env = U64, .sp = edge + 4, .vec = PF,
	    .err = E_U | E_W, .cr2 = edge);
	pt[1] = (word)page_b | P;
	invlpg(edge);
	row("write across, second page read-only", CODE("mov [rdi], rax"), .di = edge - 4, .ax = ~0ul, .vec = PF,
	    .err = E_W | E_P, .cr2 = edge);
	casef("write across wrote nothing");
	check_eq("first page", *(volatile uint32_t *)(page_a + 4092), before);
	row("read across, second page a supervisor's", CODE("mov rax, [rdi]"), .env = U64, .di = edge - 3, .vec = PF,
	    .err = E_U | E_P, .cr2 = edge);
	row("cmpxchg that fails still writes", CODE("cmpxchg [rdi], ecx"), .di = edge + 8, .ax = 77, .vec = PF,
	    .err = E_W | E_P, .cr2 = edge + 8);
	pt[0] = 0;
	invlpg(VA_TEST);
	row("read across, first page missing", CODE("mov rax, [rdi]"), .di = edge - 3, .vec = PF, .cr2 = edge - 3);
	pt[1] = 0;
	invlpg(edge);
	row("read across, both missing", CODE("mov rax, [rdi]"), .di = edge - 3, .vec = PF, .cr2 = edge - 3);
	pt[0] = (word)page_a | P | W | U;
	flush();
	row("rep movsb stops at the fault", CODE("rep movsb"), .si = (word)page_b, .di = edge - 5, .cx = 100, .vec = PF,
	    .err = E_W, .cr2 = edge);
	casef("rep movsb stops at the fault");
	check_eq("RCX", trap.r.cx, 95);
	check_eq("RDI", trap.r.di, edge);
	check_eq("RSI", trap.r.si, (word)page_b + 5);
	row("rep stosq stops at the fault", CODE("rep stosq"), .di = edge - 20, .cx = 100, .vec = PF, .err = E_W,
	    .cr2 = edge);
	casef("rep stosq stops at the fault");
	check_eq("RCX", trap.r.cx, 98);
	check_eq("RDI", trap.r.di, edge - 4);
	row("rep movsb with a count of 0 touches nothing", CODE("rep movsb"), .si = BAD, .di = BAD, .vec = DONE);
	write_cr2(0x1234);
	row("#GP leaves CR2", CODE("mov rax, [rdi]"), .di = BAD, .vec = GP);
	check_eq("CR2", trap.cr2, 0x1234);
	row("pop [mem]: RSP restored", CODE("push rax; pop qword ptr [rdi]"), .di = edge, .off = 1, .vec = PF, .err = E_W,
	    .cr2 = edge);
	casef("pop [mem]: RSP restored");
	check_eq("RSP", trap.r.sp, top(kstack) - 72);
	row("push [mem]: RSP kept", CODE("push qword ptr [rdi]"), .di = edge, .vec = PF, .cr2 = edge);
	check_eq("RSP", trap.r.sp, top(kstack) - 64);
}

static void gate(unsigned vec, unsigned sel, unsigned access)
{
	idt_set(vec, (word)stubs + vec * 16, sel, access, 0);
}

static void bad_gates(void)
{
	static const struct {
		const char *name;
		unsigned sel, access;
		int vec;
		word err; /* without EXT; -1: the gate's own */
	} t[] = {
		{ "not present", SEL_CODE, 0x0e, NP, -1ul },
		{ "type 0", SEL_CODE, 0x80, GP, -1ul },
		{ "task gate", SEL_CODE, 0x85, GP, -1ul },
		{ "call gate", SEL_CODE, 0x8c, GP, -1ul },
		{ "16-bit interrupt gate", SEL_CODE, 0x86, GP, -1ul },
		{ "null selector", 0, 0x8e, GP, 0 },
		{ "data segment", SEL_DATA, 0x8e, GP, SEL_DATA },
		{ "RPL of the selector is ignored: data", SEL_DATA | 3, 0x8e, GP, SEL_DATA },
		{ "32-bit code segment", SEL_CODE32, 0x8e, GP, SEL_CODE32 },
		{ "code segment of CPL 3", SEL_UCODE64, 0x8e, GP, SEL_UCODE64 & ~3u },
		{ "beyond the GDT", 0x400, 0x8e, GP, 0x400 },
		{ "code segment not present", SEL_FREE, 0x8e, NP, SEL_FREE },
		{ "TSS", SEL_TSS, 0x8e, GP, SEL_TSS },
	};
	unsigned i;

	gdt_set(SEL_FREE, 0x00af1b000000ffff);
	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct row r = { .vec = t[i].vec };

		gate(0x41, t[i].sel, t[i].access | 0x60);
		r.err = t[i].err == -1ul ? 0x41 * 8 + 2 : t[i].err;
		run_row(t[i].name, CODE("int 0x41"), &r);
		if (t[i].sel != SEL_UCODE64) { /* that is the same level for CPL 3 */
			r.env = U64;
			run_row(t[i].name, CODE("int 0x41"), &r);
			r.env = K64;
		}
		/* As an exception: EXT is set. #UD is benign, so this is no double fault. */
		gate(UD, t[i].sel, t[i].access);
		r.err = (t[i].err == -1ul ? UD * 8 + 2 : t[i].err) + 1;
		run_row(t[i].name, CODE("ud2"), &r);
		idt_default(UD);
		/* #DE and what follows are both contributory. */
		gate(DE, t[i].sel, t[i].access);
		r = (struct row){ .vec = DF };
		run_row(t[i].name, CODE("div cl"), &r);
		idt_default(DE);
	}
	idt_default(0x41);
	load_idt(0x80 * 16 - 1);
	row("beyond the IDT's limit", CODE("int 0x80"), .vec = GP, .err = 0x80 * 8 + 2);
	row("beyond the IDT's limit", CODE("int 0xff"), .env = U64, .vec = GP, .err = 0xff * 8 + 2);
	load_idt(0x80 * 16 + 14);
	row("a gate half beyond the limit", CODE("int 0x80"), .vec = GP, .err = 0x80 * 8 + 2);
	load_idt(4095);
}

static void double_faults(void)
{
	gate(PF, SEL_CODE, 0x0e);
	row("#PF, then #NP", CODE("mov al, [rdi]"), .di = VA_TEST + 4096, .vec = DF);
	idt_default(PF);
	gate(GP, SEL_CODE, 0x0e);
	row("#GP, then #NP", CODE("mov al, [rdi]"), .di = BAD, .vec = DF);
	idt_default(GP);
	gate(NP, SEL_CODE, 0x0e);
	gate(UD, SEL_CODE, 0x0e);
	row("#UD, then #NP, then #NP", CODE("ud2"), .vec = DF);
	idt_default(NP);
	idt_default(UD);
	row("#UD on a missing stack, then #PF on it", CODE("mov rsp, rdi; ud2"), .di = VA_TEST + 8192, .vec = DF);
	idt_set(PF, (word)stubs + PF * 16, SEL_CODE, D_INT, 2);
	row("#UD on a missing stack, #PF with a stack of its own", CODE("mov rsp, rdi; ud2"), .di = VA_TEST + 8192,
	    .off = 3, .vec = PF, .err = E_W, .cr2 = VA_TEST + 8192 - 8);
	check_eq("RSP", trap.r.sp, VA_TEST + 8192);
	row("#DE, then #PF: in turn", CODE("mov rsp, rdi; xor ecx, ecx; div ecx"), .di = VA_TEST + 8192, .off = 5,
	    .vec = PF, .err = E_W, .cr2 = VA_TEST + 8192 - 8);
	row("#PF on a missing stack", CODE("mov rsp, rdi; push rax"), .di = VA_TEST + 8192, .off = 3, .vec = PF,
	    .err = E_W, .cr2 = VA_TEST + 8192 - 8);
	idt_default(PF);
	tss_set_stack(0, BAD + 64);
	row("RSP0 not canonical", CODE("ud2"), .env = U64, .vec = DF);
	tss_set_stack(0, VA_TEST + 8192);
	row("RSP0 not mapped", CODE("ud2"), .env = U64, .vec = DF);
	tss_set_stack(0, top(trapstack));
	row("#DF pushes error code 0", CODE("mov rsp, rdi; ud2"), .di = BAD + 64, .vec = DF, .err = 0);
}

static void frame_at(const char *name, word want, word sp)
{
	casef("%s", name);
	check_eq("frame", trap.frame, want);
	check_eq("saved RSP", trap.r.sp, sp);
}

static void frames(void)
{
	word k = top(kstack) - 64, flags;
	unsigned i;

	for (i = 0; i < 16; i++) {
		struct ctx c;

		ctx_init(&c, K64, CODE("ud2"));
		c.sp = k - i;
		run(&c);
		frame_at("RSP is aligned to 16 on delivery", ((k - i) & ~15ul) - 40, k - i);
	}
	row("error code", CODE("mov al, [rdi]"), .di = BAD, .vec = GP);
	frame_at("frame above the error code", k - 40, k);
	row("CPL 3", CODE("ud2"), .env = U64, .vec = UD);
	frame_at("RSP0", top(trapstack) - 40, USER(top(ustack)) - 64);
	check_eq("saved SS", trap.r.ss, SEL_UDATA);
	check_eq("saved CS", trap.r.cs, SEL_UCODE64);
	check_eq("handler's SS is null", trap.handler_ss, 0);
	tss_set_stack(0, top(trapstack) - 7);
	row("CPL 3", CODE("ud2"), .env = U64, .vec = UD);
	frame_at("RSP0 is aligned", top(trapstack) - 16 - 40, USER(top(ustack)) - 64);
	tss_set_stack(0, top(trapstack));
	idt_set(UD, (word)stubs + UD * 16, SEL_CODE, D_INT, 3);
	row("IST from CPL 0", CODE("ud2"), .vec = UD);
	frame_at("IST", (word)iststack + 3 * 4096 - 40, k);
	row("IST from CPL 3", CODE("ud2"), .env = U64, .vec = UD);
	frame_at("IST", (word)iststack + 3 * 4096 - 40, USER(top(ustack)) - 64);
	tss_set_ist(3, (word)iststack + 3 * 4096 - 3);
	row("IST, not aligned", CODE("ud2"), .vec = UD);
	frame_at("IST", (word)iststack + 3 * 4096 - 16 - 40, k);
	tss_set_ist(3, (word)iststack + 3 * 4096);
	idt_default(UD);
	flags = 0xcd5 | F_NT | F_AC | F_ID | F_IOPL(3) | F_IF | F_1;
	row("flags", CODE("ud2"), .env = U64, .flags = flags, .vec = UD);
	casef("saved flags (RF set: #UD is a fault)");
	check_eq("RFLAGS", trap.r.flags, flags | F_RF);
	row("flags of int n", CODE("int3"), .env = U64, .flags = flags, .off = 1, .vec = BP);
	casef("saved flags of INT3: no RF");
	check_eq("RFLAGS", trap.r.flags, flags);
}

void guest_main(void)
{
	map_test_pages();
	vectors();
	software_vectors();
	undefined();
	canonical();
	run_off();
	fetch();
	data_crossing();
	bad_gates();
	double_faults();
	frames();
}
