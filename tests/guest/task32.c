/*
 * task32.c - 32-bit task switches by JMP, CALL, IRET, INT and exceptions, and how they fail.
 * SDM vol. 3, ch. 8; APM vol. 2, ch. 12.
 */
#include "rt/rt.h"

#define X(n) (SEL_FREE + (n) * 8)
enum { X_TSS = X(0), X_GATE = X(1), X_SHORT = X(2), X_NPSEG = X(3), X_HANDLER = X(4) };

/* The dwords of a 32-bit TSS. */
enum { T_LINK, T_ESP0, T_SS0, T_CR3 = 7, T_EIP, T_FLAGS, T_EAX, T_ECX, T_EDX, T_EBX, T_ESP, T_EBP, T_ESI, T_EDI, T_ES, T_CS,
       T_SS, T_DS, T_FS, T_GS, T_LDT, T_IO, T_DWORDS };

static volatile uint32_t new_tss[T_DWORDS] __attribute__((aligned(128)));
static uint8_t new_stack[1024] __attribute__((aligned(16)));
static volatile uint32_t handler_tss[T_DWORDS] __attribute__((aligned(128)));
static uint8_t handler_stack[1024] __attribute__((aligned(16)));
static volatile uint32_t *const old_tss = (uint32_t *)tss;

static bool busy(unsigned sel)
{
	return ((volatile uint64_t *)gdt)[sel >> 3] >> 41 & 1;
}

/* A fresh second task; and TR back at the first, whatever a test left. */
static void prepare(const void *code)
{
	zero(new_tss, sizeof(new_tss));
	new_tss[T_ESP0] = top(trapstack);
	new_tss[T_SS0] = SEL_DATA;
	new_tss[T_EIP] = (uint32_t)(word)code;
	new_tss[T_FLAGS] = F_1;
	new_tss[T_EAX] = 0x11;
	new_tss[T_ECX] = 0x22;
	new_tss[T_EDX] = 0x33;
	new_tss[T_EBX] = 0x44;
	new_tss[T_EBP] = 0x55;
	new_tss[T_ESI] = 0x66;
	new_tss[T_EDI] = 0x77;
	new_tss[T_ESP] = top(new_stack);
	new_tss[T_CS] = SEL_CODE;
	new_tss[T_SS] = new_tss[T_DS] = new_tss[T_ES] = SEL_DATA;
	new_tss[T_FS] = SEL_UDATA;
	new_tss[T_IO] = 0x680000;
	set_system_desc(&gdt[X_TSS >> 3], (word)new_tss, 0x67, D_TSS);
	gdt_set(X_GATE, (uint64_t)X_TSS << 16 | (uint64_t)0xe5 << 40);
	old_tss[T_LINK] = 0;
	tss_set_limit(0x67);
	__asm__ volatile("clts");
}

/*
 * A task for faults of a half-made one, whose segments cannot be relied on (SDM 8.3): it needs nothing of it.
 */
static void prepare_handler(const void *code)
{
	copy(handler_tss, new_tss, sizeof(handler_tss));
	handler_tss[T_EIP] = (uint32_t)(word)code;
	handler_tss[T_ESP] = top(handler_stack);
	handler_tss[T_CS] = SEL_CODE;
	handler_tss[T_SS] = handler_tss[T_DS] = handler_tss[T_ES] = SEL_DATA;
	handler_tss[T_FS] = handler_tss[T_LDT] = 0;
	set_system_desc(&gdt[X_HANDLER >> 3], (word)handler_tss, 0x67, D_TSS);
}

static uint32_t str(void)
{
	uint32_t v;

	__asm__ volatile("str %0" : "=r"(v));
	return v;
}

static void loaded(const char *name)
{
	casef("%s", name);
	if (!check_eq("vector", trap.vec, DONE))
		return;
	check_eq("EAX", trap.r.ax, 0x11);
	check_eq("ECX", trap.r.cx, 0x22);
	check_eq("EDX", trap.r.dx, 0x33);
	check_eq("EBX", trap.r.bx, 0x44);
	check_eq("EBP", trap.r.bp, 0x55);
	check_eq("ESI", trap.r.si, 0x66);
	check_eq("EDI", trap.r.di, 0x77);
	check_eq("FS", trap.r.fs, SEL_UDATA);
	check_eq("GS", trap.r.gs, 0);
	check_eq("TR", str(), X_TSS);
	check_eq("CR0.TS", read_cr0() & CR0_TS, CR0_TS);
	check(busy(X_TSS), "the new TSS is not busy");
}

static void switches(void)
{
	const void *end = CODE("nop"), *jmp = CODE(".byte 0xea, 0, 0, 0, 0, 0x80, 0; nop"),
		   *call = CODE(".byte 0x9a, 0, 0, 0, 0, 0x80, 0; mov edx, eax"),
		   *gate = CODE(".byte 0xea, 0, 0, 0, 0, 0x88, 0");

	prepare(end);
	row("jmp to a TSS", jmp, .ax = 0xaa, .di = 0xdd, .flags = F_CF, .vec = DONE);
	loaded("jmp to a TSS");
	check_eq("saved EIP", old_tss[T_EIP], (word)jmp + 7);
	check_eq("saved EAX", old_tss[T_EAX], 0xaa);
	check_eq("saved EDI", old_tss[T_EDI], 0xdd);
	check_eq("saved ESP", old_tss[T_ESP], top(kstack) - 64);
	check_eq("saved CS", old_tss[T_CS], SEL_CODE32);
	check_eq("saved flags", old_tss[T_FLAGS], F_1 | F_CF);
	check(!busy(SEL_TSS), "the old TSS is busy");
	check_eq("link", new_tss[T_LINK], 0);
	check_eq("NT", trap.r.flags & F_NT, 0);
	prepare(end);
	row("call to a TSS", call, .vec = DONE);
	loaded("call to a TSS");
	check_eq("link", new_tss[T_LINK] & 0xffff, SEL_TSS);
	check_eq("NT", trap.r.flags & F_NT, F_NT);
	check(busy(SEL_TSS), "the caller's TSS is not busy");
	prepare(CODE("mov eax, 0x99; iret; nop"));
	row("iret from a called task", call, .ax = 0x1234, .vec = DONE);
	check_eq("EDX: back in the caller", trap.r.dx, 0x1234);
	check_eq("TR", str(), SEL_TSS);
	check_eq("EAX saved in the callee's TSS", new_tss[T_EAX], 0x99);
	check_eq("NT saved as clear", new_tss[T_FLAGS] & F_NT, 0);
	check(!busy(X_TSS), "the callee is still busy");
	prepare(end);
	row("jmp to a task gate", gate, .vec = DONE);
	loaded("jmp to a task gate");
	prepare(end);
	row("jmp to a task gate at CPL 3", gate, .env = U32, .vec = DONE);
	loaded("jmp to a task gate at CPL 3");
	check_eq("saved CS", old_tss[T_CS], SEL_UCODE32);
	prepare(end);
	idt_set(0x41, 0, X_TSS, 0xe5, 0);
	row("int n through a task gate", CODE("int 0x41"), .env = U32, .vec = DONE);
	loaded("int n through a task gate");
	check_eq("NT", trap.r.flags & F_NT, F_NT);
	check_eq("ESP: no error code", trap.r.sp, top(new_stack));
	prepare(end);
	idt_set(GP, 0, X_TSS, 0x85, 0);
	row("#GP through a task gate", CODE("hlt"), .env = U32, .vec = DONE);
	loaded("#GP through a task gate");
	check_eq("ESP: an error code", trap.r.sp, top(new_stack) - 4);
	check_eq("saved EIP is the fault's", old_tss[T_EIP], USER(trap.r.ip) ? old_tss[T_EIP] : 0);
	idt_default(GP);
	idt_default(0x41);
}

/* What is found bad before the switch faults in the old task; after it, in the new one. */
static void failures(void)
{
	static const struct {
		const char *name;
		unsigned access;
		uint32_t limit;
		int vec;
		word err;
	} before[] = {
		{ "busy", 0x8b, 0x67, GP, X_TSS },       { "not present", 0x09, 0x67, NP, X_TSS },
		{ "limit too small", 0x89, 0x66, TS, X_TSS }, { "LDT", 0x82, 0x67, GP, X_TSS },
	};
	static const struct {
		const char *name;
		unsigned field;
		uint32_t value;
		int vec;
		word err;
	} after[] = {
		{ "CS null", T_CS, 0, TS, 0 },           { "CS data", T_CS, SEL_DATA, TS, SEL_DATA },
		{ "CS: DPL and RPL", T_CS, SEL_CODE | 3, TS, SEL_CODE },
		{ "CS not present", T_CS, X_NPSEG, NP, X_NPSEG },
		{ "SS null", T_SS, 0, TS, 0 },           { "SS of DPL 3", T_SS, SEL_UDATA & ~3u, TS, SEL_UDATA & ~3u },
		{ "SS code", T_SS, SEL_CODE, TS, SEL_CODE },
		{ "DS beyond the GDT", T_DS, 0x800, TS, 0x800 }, { "FS is a TSS", T_FS, SEL_TSS, TS, SEL_TSS },
		{ "LDT is data", T_LDT, SEL_DATA, TS, SEL_DATA }, { "LDT beyond the GDT", T_LDT, 0x800, TS, 0x800 },
	};
	const void *jmp = CODE(".byte 0xea, 0, 0, 0, 0, 0x80, 0"), *end = CODE("nop");
	unsigned i;

	gdt_set(X_NPSEG, 0x00cf1b000000ffff);
	for (i = 0; i < sizeof(before) / sizeof(*before); i++) {
		prepare(end);
		set_system_desc(&gdt[X_TSS >> 3], (word)new_tss, before[i].limit, before[i].access);
		run_row(before[i].name, jmp, &(struct row){ .vec = before[i].vec, .err = before[i].err });
		check_eq("TR", str(), SEL_TSS);
	}
	for (i = 0; i < sizeof(after) / sizeof(*after); i++) {
		prepare(end);
		new_tss[after[i].field] = after[i].value;
		prepare_handler(CODE("pop eax; str ecx"));
		idt_set((unsigned)after[i].vec, 0, X_HANDLER, 0x85, 0);
		run_row(after[i].name, jmp, &(struct row){ .vec = DONE, .check_ax = true, .want_ax = after[i].err });
		check_eq("TR", str(), X_HANDLER);
		check_eq("link", handler_tss[T_LINK] & 0xffff, X_TSS);
		check_eq("IP is the new task's", new_tss[T_EIP], (word)end);
		idt_default((unsigned)after[i].vec);
	}
	prepare(end);
	new_tss[T_DS] = 0x800;
	prepare_handler(CODE("pop eax; str ecx"));
	idt_set(TS, 0, X_HANDLER, 0x85, 0);
	idt_set(0x41, 0, X_TSS, 0xe5, 0);
	run_row("DS beyond the GDT, int n through a task gate", CODE("int 0x41"), &(struct row){ .vec = DONE });
	check_eq("error code, but for EXT", trap.r.ax & ~1ul, 0x800);
	check_eq("IP is the new task's", new_tss[T_EIP], (word)end);
	check_eq("link", handler_tss[T_LINK] & 0xffff, X_TSS);
	idt_default(TS);
	idt_default(0x41);
	__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
	prepare(end);
	row("DPL of the TSS at CPL 3", jmp, .env = U32, .vec = GP, .err = X_TSS);
	gdt_set(X_GATE, (uint64_t)X_TSS << 16 | (uint64_t)0x85 << 40);
	row("DPL of the task gate at CPL 3", CODE(".byte 0xea, 0, 0, 0, 0, 0x88, 0"), .env = U32, .vec = GP, .err = X_GATE);
	gdt_set(X_GATE, (uint64_t)X_TSS << 16 | (uint64_t)0x65 << 40);
	row("task gate not present", CODE(".byte 0xea, 0, 0, 0, 0, 0x88, 0"), .vec = NP, .err = X_GATE);
	gdt_set(X_GATE, (uint64_t)SEL_TSS << 16 | (uint64_t)0xe5 << 40);
	row("task gate to a busy TSS", CODE(".byte 0xea, 0, 0, 0, 0, 0x88, 0"), .vec = GP, .err = SEL_TSS);
	prepare(end);
	old_tss[T_LINK] = X_TSS;
	row("iret with NT to a TSS that is not busy", CODE("push 0x4002; popf; iret"), .off = 6, .vec = TS, .err = X_TSS);
	old_tss[T_LINK] = 0;
	row("iret with NT and a null link", CODE("push 0x4002; popf; iret"), .off = 6, .vec = TS, .err = 0);
	old_tss[T_LINK] = SEL_DATA;
	row("iret with NT and a link to data", CODE("push 0x4002; popf; iret"), .off = 6, .vec = TS, .err = SEL_DATA);
	prepare(end);
	write_dr6(0xffff0ff0);
	new_tss[T_IO] |= 1;
	row("debug trap of the new TSS", jmp, .vec = DB, .any_ip = true);
	check_eq("IP", trap.r.ip, (word)end);
	check_eq("DR6: BT", read_dr6(), 0xffff0ff0 | 1 << 15);
	prepare(end);
	row("the runtime's task again", CODE("nop"), .vec = DONE);
}

void guest_main(void)
{
	switches();
	failures();
}
