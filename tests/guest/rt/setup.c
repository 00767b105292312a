/* setup.c - descriptor tables, contexts, small instructions. */
#include "rt/rt.h"

uint64_t gdt[64] __attribute__((aligned(64))) = {
#ifdef __x86_64__
	[1] = 0x00af9b000000ffff, /* 64-bit code */
#else
	[1] = 0x00cf9b000000ffff, /* 32-bit code */
#endif
	[2] = 0x00cf93000000ffff, [3] = 0x00cf9b000000ffff, [4] = 0x00cffb000000ffff,
	[5] = 0x00cff3000000ffff, [6] = 0x00affb000000ffff,
	[7] = 0x000f9b000000ffff, [8] = 0x000ffb000000ffff, /* 16-bit code, base 0, 1 MiB: see code16_base() */
	[13] = 0x008f93000000ffff, [14] = 0x008ff3000000ffff, /* flat, B = 0 */
};
uint64_t idt[512] __attribute__((aligned(64)));
uint64_t ldt[64] __attribute__((aligned(64)));
uint8_t tss[0x68 + 8192 + 1] __attribute__((aligned(4096)));
uint8_t kstack[8192] __attribute__((aligned(4096)));
uint8_t trapstack[8192] __attribute__((aligned(4096)));
uint8_t ustack[8192] __attribute__((aligned(4096)));
uint8_t iststack[3][4096] __attribute__((aligned(4096)));
#define PAGE __attribute__((aligned(4096)))
uint8_t page_a[4096] PAGE, page_b[4096] PAGE, table_a[4096] PAGE, table_b[4096] PAGE, table_c[4096] PAGE,
	table_d[4096] PAGE;
#ifndef __x86_64__
word ubase;
#endif

void zero(volatile void *p, size_t n)
{
	volatile uint8_t *b = p;

	while (n--)
		*b++ = 0;
}

void copy(volatile void *to, const volatile void *from, size_t n)
{
	volatile uint8_t *t = to;
	const volatile uint8_t *f = from;

	while (n--)
		*t++ = *f++;
}

/* gcc may call these. */
void *memset(void *p, int c, size_t n);
void *memset(void *p, int c, size_t n)
{
	volatile uint8_t *b = p;

	while (n--)
		*b++ = (uint8_t)c;
	return p;
}
void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
	copy(to, from, n);
	return to;
}

uint64_t seg_desc(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

void gdt_set(unsigned sel, uint64_t desc)
{
	((volatile uint64_t *)gdt)[sel >> 3] = desc;
}

void set_system_desc(uint64_t *slot, word base, uint32_t limit, unsigned access)
{
	((volatile uint64_t *)slot)[0] = seg_desc((uint32_t)base, limit, access, 0);
#ifdef __x86_64__
	((volatile uint64_t *)slot)[1] = base >> 32;
#endif
}

void idt_set(unsigned vec, word handler, unsigned sel, unsigned access, unsigned ist)
{
	uint64_t low = (handler & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
		       (uint64_t)access << 40 | (uint64_t)(handler >> 16 & 0xffff) << 48;
#ifdef __x86_64__
	((volatile uint64_t *)idt)[vec * 2] = low;
	((volatile uint64_t *)idt)[vec * 2 + 1] = handler >> 32;
#else
	((volatile uint64_t *)idt)[vec] = low;
#endif
}

/* Interrupt gates at CPL 0 only, but for #BP, #OF and the end of snippets. #DF has a stack of its own. */
void idt_default(unsigned vec)
{
	bool user = vec == BP || vec == OF || vec == DONE;

	idt_set(vec, (word)stubs + vec * 16, SEL_CODE, D_INT | (user ? D_DPL3 : 0),
		sizeof(word) == 8 && vec == DF ? 1 : 0);
}

struct table_ptr {
	uint16_t limit;
	word base;
} __attribute__((packed));

void load_idt(unsigned limit)
{
	struct table_ptr p = { (uint16_t)limit, (word)idt };

	__asm__ volatile("lidt %0" : : "m"(p));
}

void tss_set_stack(unsigned level, word sp)
{
#ifdef __x86_64__
	*(volatile word *)(tss + 4 + level * 8) = sp;
#else
	*(volatile word *)(tss + 4 + level * 8) = sp;
	*(volatile word *)(tss + 8 + level * 8) = SEL_DATA | level;
#endif
}

void tss_set_ist(unsigned n, word sp)
{
	*(volatile word *)(tss + 0x1c + n * 8) = sp;
}

void tss_set_limit(uint32_t limit)
{
	set_system_desc(&gdt[SEL_TSS >> 3], (word)tss, limit, D_TSS);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

void load_gdt(void)
{
	unsigned i;

	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	for (i = 0; i < 256; i++)
		idt_default(i);
	load_idt(sizeof(word) == 8 ? 4095 : 2047);
	tss_set_stack(0, top(trapstack));
#ifdef __x86_64__
	for (i = 1; i <= 3; i++)
		tss_set_ist(i, (word)iststack + i * 4096);
#endif
	*(volatile uint16_t *)(tss + 0x66) = 0x68;
	tss_set_limit(0x67);
	set_system_desc(&gdt[SEL_LDT >> 3], (word)ldt, sizeof(ldt) - 1, D_LDT);
	__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
}

static const uint16_t env_cs[] = { 0, SEL_CODE, SEL_UCODE64, SEL_CODE32, SEL_UCODE32, SEL_CODE16, SEL_UCODE16, 0 };

static bool env_user(enum env env)
{
	return env == U64 || env == U32 || env == U16;
}

void ctx_init(struct ctx *c, enum env env, const void *code)
{
	bool user = env_user(env);

	zero(c, sizeof(*c));
	c->ip = user ? USER(code) : (word)code;
	c->sp = (user ? USER(top(ustack)) : top(kstack)) - 64;
	c->flags = F_1;
	c->cs = env_cs[env];
	c->ss = user ? SEL_UDATA : SEL_DATA;
	c->ds = c->es = c->ss;
	if (env == K16 || env == U16) {
		/* IP must be below 64 KiB: the segment starts at the snippet's 64 KiB. */
		uint32_t base = (uint32_t)c->ip & ~0xffffu;

		gdt_set(c->cs, seg_desc(base, 0xffff, user ? D_CODE | D_DPL3 : D_CODE, 0));
		c->ip &= 0xffff;
	}
}

#ifndef __x86_64__
/* Called on the trap's own stack with what common in trap32.S pushed. */
void trap_save(const word *f);
void trap_save(const word *f)
{
	static const uint8_t order[8] = { 7, 6, 5, 4, 3, 2, 1, 0 }; /* where AX.. are above the selectors */
	const word *e = f + 14;
	volatile struct trap *t = &trap;
	unsigned i;

	t->handler_ss = (f[0] | f[1] | f[2] | f[3]) & 0xffff;
	t->r.gs = f[0] & 0xffff;
	t->r.fs = f[1] & 0xffff;
	t->r.es = f[2] & 0xffff;
	t->r.ds = f[3] & 0xffff;
	for (i = 0; i < 8; i++)
		t->r.r[i] = f[4 + order[i]];
	t->vec = f[12];
	t->err = f[13];
	t->has_err = vec_has_error((int)t->vec) && t->vec < 20;
	t->r.ip = e[0];
	t->r.cs = e[1];
	t->r.flags = e[2];
	t->frame = (word)e;
	t->cr2 = read_cr2();
	t->count++;
	t->r.sp = (word)(e + 3);
	t->r.ss = SEL_DATA;
	if ((e[2] & F_VM) || (e[1] & 3)) {
		t->r.sp = e[3];
		t->r.ss = e[4];
	}
	if (e[2] & F_VM) {
		t->r.es = e[5];
		t->r.ds = e[6];
		t->r.fs = e[7];
		t->r.gs = e[8];
	}
}
#endif

void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	__asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(sub));
}

bool has_cpuid(uint32_t leaf, uint32_t sub, unsigned reg, unsigned bit)
{
	uint32_t r[4];

	cpuid(leaf & 0x80000000, 0, r);
	if (r[0] < leaf)
		return false;
	cpuid(leaf, sub, r);
	return r[reg] >> bit & 1;
}

bool is_amd(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
	return r[1] == 0x68747541; /* "Auth" */
}

bool is_tcg(void)
{
	uint32_t r[4];

	cpuid(0x40000000, 0, r);
	return r[1] == 0x54474354; /* "TCGT" */
}

unsigned phys_bits(void)
{
	uint32_t r[4];

	cpuid(0x80000008, 0, r);
	return r[0] & 0xff;
}

uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (uint64_t)hi << 32;
}

void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static volatile uint32_t *apic_reg(unsigned offset)
{
	return (volatile uint32_t *)(word)(0xfee00000 + offset);
}

void apic_enable(void)
{
	*apic_reg(0xf0) = 0x1ff; /* spurious vector 0xff, enabled */
}

void apic_self(uint32_t icr_low)
{
	unsigned vec = icr_low & 0xff, spin = 1000000;

	*apic_reg(0x300) = icr_low | 1u << 18; /* shorthand: self */
	while (vec && !(*apic_reg(0x200 + vec / 32 * 16) >> vec % 32 & 1) && --spin)
		; /* until it is requested */
}

void apic_eoi(void)
{
	*apic_reg(0xb0) = 0;
}
