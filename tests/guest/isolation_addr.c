/*
 * isolation_addr.c - every way to form an address, with wild addresses, from kernel and user code: the exact fault or
 * the exact value, and no byte changed by a store that faults.
 */
#include "isolation.h"

/* Neighbours at WIN: writable, read-only, absent, supervisor's; then the edges of the address space. */
const struct mapping space[] = {
	{ WIN, filled[0], P | W | U },
	{ WIN + 0x1000, filled[1], P | W | U },
	{ WIN + 0x2000, filled[2], P | U },
	{ WIN + 0x4000, filled[3], P | W },
	{ WIN + 0x5000, filled[0], P | W | U },
	{ WIN + 0x6000, filled[2], P },
	{ LOW_END - PAGE_4K, filled[0], P | W | U },
	{ HIGH_START, filled[1], P | W | U },
	{ -PAGE_4K, filled[2], P | W | U },
};
const unsigned space_size = sizeof(space) / sizeof(*space);

/* How the address gets into the instruction. */
enum how {
	BY_DI, BY_SI, BY_BP, BY_SP, BY_R12, BY_R10, BY_SUM, BY_INDEX, BY_FS, BY_FS_SI, BY_GS, BY_FS_EXTREME, BY_MOFFS, BY_BIT,
	BY_BIT_BACK, BY_EDI, BY_FS_EDI,
};
/* Results that need another check, or none. */
enum { NO_VALUE = 1, ONLY_FAULT = 2, ALIGNED = 4, TWO_PARTS = 8 };

struct form {
	const char *name;
	const void *code;
	uint8_t how, size, access, flags;
	int64_t adjust; /* the register holds the address plus this */
};

static word unequal(word x)
{
	return x * 0x9e3779b97f4a7c15ul;
}

static void set_moffs(const struct form *f, word va)
{
	volatile uint8_t *code = (volatile uint8_t *)f->code;
	unsigned at = code[0] == 0x48 ? 2 : 1, i;

	for (i = 0; i < 8; i++)
		code[at + i] = (uint8_t)(va >> 8 * i);
}

/* Sets up registers so that the form's operand is at va. False: the form cannot reach it. */
static bool aim(const struct form *f, struct ctx *c, word va)
{
	word reg = va + (word)f->adjust, base;

	switch (f->how) {
	case BY_DI:
		c->di = reg;
		return true;
	case BY_SI:
		c->si = reg;
		return true;
	case BY_BP:
		c->bp = reg;
		return true;
	case BY_SP:
		c->sp = reg;
		return true;
	case BY_R12:
		c->r[12] = reg;
		return true;
	case BY_R10:
		c->r[10] = reg;
		return true;
	case BY_SUM: /* [rdi + rsi * 8], wrapping */
		c->si = unequal(va | 1);
		c->di = reg - c->si * 8;
		return true;
	case BY_INDEX: /* [r11 * 1 + disp32] */
		c->r[11] = reg;
		return true;
	case BY_FS:
	case BY_FS_SI:
	case BY_GS:
		base = is_canonical(va + 0x10000) ? va + 0x10000 : WIN;
		wrmsr(f->how == BY_GS ? MSR_GS_BASE : MSR_FS_BASE, base);
		*(f->how == BY_FS_SI ? &c->si : &c->di) = reg - base;
		return true;
	case BY_FS_EXTREME:
		base = va & 1 ? HIGH_START : va & 2 ? LOW_END - 1 : ~0ul;
		wrmsr(MSR_FS_BASE, base);
		c->di = reg - base;
		return true;
	case BY_MOFFS:
		set_moffs(f, va);
		return true;
	case BY_BIT: /* bts [rdi], rsi: 8 bytes at rdi + (rsi >> 6) * 8 */
	case BY_BIT_BACK:
		c->di = (WIN & ~7ul) | (va & 7);
		if (f->how == BY_BIT_BACK)
			c->di += 1ul << 44;
		c->si = ((va - c->di) << 3) | 5;
		return (word)((int64_t)c->si >> 6) * 8 + c->di == va;
	case BY_EDI:
		c->di = (reg & 0xffffffff) | 0xdead00000000;
		return !(va >> 32);
	case BY_FS_EDI: /* a 32-bit offset to a 64-bit base */
		base = va - 0xfffffff0;
		if (!is_canonical(base))
			return false;
		wrmsr(MSR_FS_BASE, base);
		c->di = 0xfffffff0 | 0x7ffful << 32;
		return true;
	}
	return false;
}

static void check_value(const struct form *f, word va)
{
	word mask = f->size >= 8 ? ~0ul : (1ul << 8 * f->size) - 1;

	if (f->flags & NO_VALUE || f->size > 8)
		return;
	if (f->access & WRITE)
		check_eq("memory", expect_value(va, f->size), 0x5a5a5a5a5a5a5a5aul & mask);
	else
		check_eq("AX", trap.r.ax & mask, expect_value(va, f->size));
}

static bool in_filled(word va)
{
	return va - WIN < 0x7000 || va - (LOW_END - PAGE_4K) < PAGE_4K || va - HIGH_START < PAGE_4K || va >= -PAGE_4K;
}

static void attempt(const struct form *f, word va, enum env env)
{
	struct outcome o = expect_access(va, f->size, f->access, env == U64);
	struct ctx c;

	if (f->flags & ALIGNED && va & (f->size - 1u))
		o = (struct outcome){ GP, 0, 0 };
	/* What is not ours must not be written; what is unknown is not popped. */
	if (o.vec == DONE && (f->flags & ONLY_FAULT || (f->access & WRITE && (!in_filled(va) || va + f->size < va))))
		return;
	ctx_init(&c, env, f->code);
	c.ax = 0x5a5a5a5a5a5a5a5a;
	c.cx = 1;
	c.di = c.si = env == U64 ? WIN : (word)filled[3];
	if (!aim(f, &c, va))
		return;
	casef("%s, %s, at 0x%lx", f->name, env == U64 ? "user" : "kernel", va);
	run(&c);
	if (!check_outcome(&c, &o))
		return;
	if (o.vec == DONE)
		check_value(f, va);
	if (f->access & WRITE && o.vec == DONE)
		fill();
	else if (f->access & WRITE && !(f->flags & TWO_PARTS))
		check_eq("words disturbed by a store that faults", disturbed(), 0);
	else if (f->flags & TWO_PARTS)
		fill();
}

static word targets[160];
static unsigned ntargets;

static void add(word va)
{
	if (ntargets < sizeof(targets) / sizeof(*targets))
		targets[ntargets++] = va;
}

/* Where an access of this size may go. */
static void list_targets(unsigned size)
{
	static const word wild[] = {
		0x7ffff7dd1000, 0x555555554018, 0x7f0000000010, 0x7fff12345678, 0x7ffff7fff000, 0x10, 0x1000, 0xffff,
		0xdeadbeefdeadbeef, 1ul << 63, 1ul << 48, 0xfffeffffffffffff, 0xffff7ffffffffff0, 0xffffffff80000000,
		0xffffff7fffffffff, 0xffffc90000000000, 0xfeffffffffffff00, 0x0000ffffffffff00,
	};
	unsigned b, i;

	ntargets = 0;
	for (b = 0; b < 8; b++) {
		word edge = WIN + b * 0x1000;

		add(edge);
		add(edge - size);
		if (size > 1) {
			add(edge - 1);
			add(edge - size + 1);
			add(edge - size / 2);
		}
	}
	add(LOW_END - size);
	add(LOW_END - 1);
	add(LOW_END);
	add(LOW_END - PAGE_4K - 1);
	add(HIGH_START - 1);
	add(HIGH_START - size);
	add(HIGH_START);
	add(-(word)size);
	add(-1ul);
	add(-(word)size / 2);
	add(-PAGE_4K - 1);
	for (i = 0; i < sizeof(wild) / sizeof(*wild); i++)
		add(wild[i]);
}

static void try_form(const struct form *f)
{
	unsigned i;

	list_targets(f->size);
	for (i = 0; i < ntargets; i++) {
		attempt(f, targets[i], K64);
		attempt(f, targets[i], U64);
	}
}

#define FORMS(...) \
	do { \
		const struct form forms_[] = { __VA_ARGS__ }; \
		unsigned i_; \
		for (i_ = 0; i_ < sizeof(forms_) / sizeof(*forms_); i_++) \
			try_form(&forms_[i_]); \
	} while (0)

/* clang-format off */
static void addressing(void)
{
	FORMS({ "mov al, [rdi]", CODE("mov al, [rdi]"), BY_DI, 1, READ, 0, 0 },
	      { "mov ax, [rdi]", CODE("mov ax, [rdi]"), BY_DI, 2, READ, 0, 0 },
	      { "mov eax, [rdi]", CODE("mov eax, [rdi]"), BY_DI, 4, READ, 0, 0 },
	      { "mov rax, [rdi]", CODE("mov rax, [rdi]"), BY_DI, 8, READ, 0, 0 },
	      { "mov [rdi], al", CODE("mov [rdi], al"), BY_DI, 1, WRITE, 0, 0 },
	      { "mov [rdi], rax", CODE("mov [rdi], rax"), BY_DI, 8, WRITE, 0, 0 },
	      { "mov rax, [rdi + 0x7f]", CODE("mov rax, [rdi + 0x7f]"), BY_DI, 8, READ, 0, -0x7f },
	      { "mov [rdi - 0x80000000], rax", CODE("mov [rdi - 0x80000000], rax"), BY_DI, 8, WRITE, 0, 0x80000000l },
	      { "mov eax, [rdi + 0x7fffffff]", CODE("mov eax, [rdi + 0x7fffffff]"), BY_DI, 4, READ, 0, -0x7fffffffl },
	      { "mov rax, [rbp + 8]", CODE("mov rax, [rbp + 8]"), BY_BP, 8, STACK, 0, -8 },
	      { "mov [rbp - 4], eax", CODE("mov [rbp - 4], eax"), BY_BP, 4, STACK | WRITE, 0, 4 },
	      { "mov rax, [rsp + 8]", CODE("mov rax, [rsp + 8]"), BY_SP, 8, STACK, 0, -8 },
	      { "mov [rsp - 0x100], rax", CODE("mov [rsp - 0x100], rax"), BY_SP, 8, STACK | WRITE, 0, 0x100 },
	      { "mov rax, [r12]", CODE("mov rax, [r12]"), BY_R12, 8, READ, 0, 0 },
	      { "mov [r10 + 1], rax", CODE("mov [r10 + 1], rax"), BY_R10, 8, WRITE, 0, -1 },
	      { "mov rax, [rdi + rsi * 8]", CODE("mov rax, [rdi + rsi * 8]"), BY_SUM, 8, READ, 0, 0 },
	      { "mov [rdi + rsi * 8 + 3], eax", CODE("mov [rdi + rsi * 8 + 3], eax"), BY_SUM, 4, WRITE, 0, -3 },
	      { "mov rax, [r11 + 0x12345678]", CODE("mov rax, [r11 * 1 + 0x12345678]"), BY_INDEX, 8, READ, 0, -0x12345678l },
	      { "mov rax, fs:[rdi]", CODE("mov rax, fs:[rdi]"), BY_FS, 8, READ, 0, 0 },
	      { "mov gs:[rdi + 4], eax", CODE("mov gs:[rdi + 4], eax"), BY_GS, 4, WRITE, 0, -4 },
	      { "mov rax, fs:[rdi], extreme base", CODE("mov rax, fs:[rdi]"), BY_FS_EXTREME, 8, READ, 0, 0 },
	      { "mov fs:[rdi], rax, extreme base", CODE("mov fs:[rdi], rax"), BY_FS_EXTREME, 8, WRITE, 0, 0 },
	      { "movabs al, [moffs]", CODE("movabs al, [0x1122334455667788]"), BY_MOFFS, 1, READ, 0, 0 },
	      { "movabs rax, [moffs]", CODE("movabs rax, [0x1122334455667788]"), BY_MOFFS, 8, READ, 0, 0 },
	      { "movabs [moffs], rax", CODE("movabs [0x1122334455667788], rax"), BY_MOFFS, 8, WRITE, 0, 0 },
	      { "mov rax, [edi]", CODE("mov rax, [edi]"), BY_EDI, 8, READ, 0, 0 },
	      { "mov eax, [edi + 0x7fffff00]", CODE("mov eax, [edi + 0x7fffff00]"), BY_EDI, 4, READ, 0, -0x7fffff00l },
	      { "mov rax, fs:[edi]", CODE("mov rax, fs:[edi]"), BY_FS_EDI, 8, READ, 0, 0 },
	      { "mov fs:[edi], rax", CODE("mov fs:[edi], rax"), BY_FS_EDI, 8, WRITE, 0, 0 });
}

static void bit_strings(void)
{
	FORMS({ "bt [rdi], rsi", CODE("bt [rdi], rsi"), BY_BIT, 8, READ, NO_VALUE, 0 },
	      { "bts [rdi], rsi", CODE("bts [rdi], rsi"), BY_BIT, 8, WRITE, NO_VALUE, 0 },
	      { "lock btc [rdi], rsi", CODE("lock btc [rdi], rsi"), BY_BIT_BACK, 8, WRITE, NO_VALUE, 0 },
	      { "bt [rdi], rsi, backward", CODE("bt [rdi], rsi"), BY_BIT_BACK, 8, READ, NO_VALUE, 0 });
}

static void read_modify_write(void)
{
	FORMS({ "add [rdi], rax", CODE("add [rdi], rax"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "lock xadd [rdi], eax", CODE("lock xadd [rdi], eax"), BY_DI, 4, WRITE, NO_VALUE, 0 },
	      { "xchg [rdi], rax", CODE("xchg [rdi], rax"), BY_DI, 8, WRITE, 0, 0 },
	      { "cmpxchg [rdi], rcx (unequal)", CODE("cmpxchg [rdi], rcx"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "cmpxchg8b", CODE("cmpxchg8b [rdi]"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "not word ptr [rdi]", CODE("not word ptr [rdi]"), BY_DI, 2, WRITE, NO_VALUE, 0 },
	      { "inc qword ptr [rdi]", CODE("inc qword ptr [rdi]"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "sete [rdi]", CODE("sete [rdi]"), BY_DI, 1, WRITE, NO_VALUE, 0 },
	      { "shl dword ptr [rdi], 3", CODE("shl dword ptr [rdi], 3"), BY_DI, 4, WRITE, NO_VALUE, 0 },
	      { "imul rax, [rdi]", CODE("imul rax, [rdi]"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "cmp [rdi], rax", CODE("cmp [rdi], rax"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "cmove rax, [rdi] (not taken)", CODE("cmove rax, [rdi]"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "movzx eax, byte ptr [rdi]", CODE("movzx eax, byte ptr [rdi]"), BY_DI, 1, READ, 0, 0 });
	if (has_cpuid(1, 0, 2, 13))
		FORMS({ "cmpxchg16b", CODE("cmpxchg16b [rdi]"), BY_DI, 16, WRITE, NO_VALUE | ALIGNED, 0 });
}

static void stack_forms(void)
{
	FORMS({ "push rax", CODE("push rax"), BY_SP, 8, STACK | WRITE, 0, 8 },
	      { "push [rdi]", CODE("push qword ptr [rdi]"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "push imm", CODE("push 0x5a5a5a5a"), BY_SP, 8, STACK | WRITE, NO_VALUE, 8 },
	      { "push ax", CODE("push ax"), BY_SP, 2, STACK | WRITE, 0, 2 },
	      { "pushf", CODE("pushfq"), BY_SP, 8, STACK | WRITE, NO_VALUE, 8 },
	      { "pop rax", CODE("pop rax"), BY_SP, 8, STACK, 0, 0 },
	      { "pop ax", CODE("pop ax"), BY_SP, 2, STACK, 0, 0 },
	      { "pop [rdi]", CODE("pop qword ptr [rdi]"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "popf", CODE("popfq"), BY_SP, 8, STACK, NO_VALUE | ONLY_FAULT, 0 },
	      { "call", CODE("call 1f; 1:"), BY_SP, 8, STACK | WRITE, NO_VALUE, 8 },
	      { "ret", CODE("ret"), BY_SP, 8, STACK, NO_VALUE | ONLY_FAULT, 0 },
	      { "ret 16", CODE("ret 16"), BY_SP, 8, STACK, NO_VALUE | ONLY_FAULT, 0 },
	      { "leave", CODE("leave"), BY_BP, 8, STACK, NO_VALUE | ONLY_FAULT, 0 },
	      { "enter 0, 0", CODE("enter 0, 0"), BY_SP, 8, STACK | WRITE, NO_VALUE, 8 },
	      { "call [rdi]", CODE("call qword ptr [rdi]"), BY_DI, 8, READ, NO_VALUE | ONLY_FAULT, 0 },
	      { "jmp [rdi]", CODE("jmp qword ptr [rdi]"), BY_DI, 8, READ, NO_VALUE | ONLY_FAULT, 0 },
	      { "iretq", CODE("iretq"), BY_SP, 8, STACK, NO_VALUE | ONLY_FAULT, 0 });
}

static void strings(void)
{
	FORMS({ "lodsb", CODE("lodsb"), BY_SI, 1, READ, 0, 0 },
	      { "lodsq", CODE("lodsq"), BY_SI, 8, READ, 0, 0 },
	      { "stosq", CODE("stosq"), BY_DI, 8, WRITE, 0, 0 },
	      { "scasd", CODE("scasd"), BY_DI, 4, READ, NO_VALUE, 0 },
	      { "movsq, wild source", CODE("movsq"), BY_SI, 8, READ, NO_VALUE | TWO_PARTS, 0 },
	      { "movsb, wild destination", CODE("movsb"), BY_DI, 1, WRITE, NO_VALUE, 0 },
	      { "cmpsq, wild source", CODE("cmpsq"), BY_SI, 8, READ, NO_VALUE, 0 },
	      { "rep stosb", CODE("rep stosb"), BY_DI, 1, WRITE, 0, 0 },
	      { "rep movsd", CODE("rep movsd"), BY_SI, 4, READ, NO_VALUE | TWO_PARTS, 0 },
	      { "repne scasq", CODE("repne scasq"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "lodsb fs:", CODE("lods al, byte ptr fs:[rsi]"), BY_FS_SI, 1, READ, 0, 0 });
}

static void vectors(void)
{
	FORMS({ "movups xmm0, [rdi]", CODE("movups xmm0, [rdi]"), BY_DI, 16, READ, 0, 0 },
	      { "movups [rdi], xmm0", CODE("movups [rdi], xmm0"), BY_DI, 16, WRITE, 0, 0 },
	      { "movaps [rdi], xmm0", CODE("movaps [rdi], xmm0"), BY_DI, 16, WRITE, ALIGNED, 0 },
	      { "addps xmm0, [rdi]", CODE("addps xmm0, [rdi]"), BY_DI, 16, READ, ALIGNED, 0 },
	      { "movq [rdi], xmm0", CODE("movq [rdi], xmm0"), BY_DI, 8, WRITE, NO_VALUE, 0 },
	      { "movnti", CODE("movnti [rdi], rax"), BY_DI, 8, WRITE, 0, 0 },
	      { "fld m80", CODE("fld tbyte ptr [rdi]"), BY_DI, 10, READ, 0, 0 },
	      { "fild m64", CODE("fild qword ptr [rdi]"), BY_DI, 8, READ, NO_VALUE, 0 },
	      { "fnstcw", CODE("fnstcw [rdi]"), BY_DI, 2, WRITE, NO_VALUE, 0 },
	      { "stmxcsr", CODE("stmxcsr [rdi]"), BY_DI, 4, WRITE, NO_VALUE, 0 });
	if (HAS_AVX)
		FORMS({ "vmovups ymm0, [rdi]", CODE("vmovups ymm0, [rdi]"), BY_DI, 32, READ, 0, 0 },
		      { "vmovdqu [rdi], ymm0", CODE("vmovdqu [rdi], ymm0"), BY_DI, 32, WRITE, 0, 0 },
		      { "vbroadcastss", CODE("vbroadcastss ymm1, [rdi]"), BY_DI, 4, READ, NO_VALUE, 0 });
	else
		skip("AVX");
	if (HAS_AVX512F)
		FORMS({ "vmovdqu64 zmm16, [rdi]", CODE("vmovdqu64 zmm16, [rdi]"), BY_DI, 64, READ, 0, 0 },
		      { "vmovdqu64 [rdi], zmm16", CODE("vmovdqu64 [rdi], zmm16"), BY_DI, 64, WRITE, 0, 0 });
}
/* clang-format on */

void guest_main(void)
{
	safe_stacks();
	enable_vectors();
	fill();
	map_space();
	__asm__ volatile("fninit");
	addressing();
	bit_strings();
	read_modify_write();
	stack_forms();
	strings();
	vectors();
}
