/*
 * rt.h - the runtime of the flat test guests.
 *
 * A test puts a snippet of machine code (CODE, CODE16, CODE32: Intel syntax, ended by INT 0xfe) in a
 * context (mode and privilege level, registers), runs it, and compares how it ended: the vector (DONE when it ran
 * through), error code, saved state. A guest is one C file with `void guest_main(void)`; the shortest:
 *
 *	#include "rt/rt.h"
 *	void guest_main(void)
 *	{
 *		row("hlt at CPL 3", CODE("hlt"), .env = U64, .vec = GP);
 *	}
 *
 * The guest's image is at 1 MiB. A 64-bit guest has 0..4 GiB mapped one to one for supervisors, and
 * physical 0..4 MiB again at UBASE for users. A 32-bit guest starts without paging.
 */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word; /* as wide as the guest's general registers */

#ifdef __x86_64__
#define NREGS 16
#define CODE_END ".code64\n"
#define UBASE 0x20000000ul
#else
#define NREGS 8
#define CODE_END ".code32\n"
#define UBASE ubase
extern word ubase;
#endif

/* Vectors. DONE is the INT 0xfe at the end of each snippet. */
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM, DONE = 0xfe };
/* Page-fault error code. */
enum { E_P = 1, E_W = 2, E_U = 4, E_R = 8, E_I = 16 };
enum {
	F_CF = 1, F_1 = 2, F_ZF = 0x40, F_TF = 0x100, F_IF = 0x200, F_DF = 0x400, F_NT = 0x4000,
	F_RF = 1 << 16, F_VM = 1 << 17, F_AC = 1 << 18, F_ID = 1 << 21,
};
#define F_IOPL(n) ((n) << 12)
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 32, CR0_WP = 1 << 16, CR0_AM = 1 << 18,
       CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG 0x80000000ul
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_MCE = 64,
       CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512, CR4_OSXMMEXCPT = 1024, CR4_UMIP = 2048,
       CR4_FSGSBASE = 1 << 16, CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18, CR4_SMEP = 1 << 20,
       CR4_SMAP = 1 << 21 };
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* Page-table entry bits. */
#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)

/* Selectors of the GDT as the runtime sets it up; FREE and above are the tests' own. */
enum {
	SEL_CODE = 0x08, /* flat, of the guest's own width, CPL 0 */
	SEL_DATA = 0x10, SEL_CODE32 = 0x18, SEL_UCODE32 = 0x23, SEL_UDATA = 0x2b, SEL_UCODE64 = 0x33,
	SEL_CODE16 = 0x38, SEL_UCODE16 = 0x43, SEL_TSS = 0x48, SEL_LDT = 0x58, SEL_DATA16 = 0x68,
	SEL_UDATA16 = 0x73, SEL_TSSDF = 0x78, SEL_FREE = 0x80,
};
/* Access byte and flag nibble of descriptors. */
enum { D_CODE = 0x9b, D_DATA = 0x93, D_DPL3 = 0x60, D_CONF = 4, D_EXPDOWN = 4, D_RO = 0x91, D_XO = 0x99,
       D_TSS = 0x89, D_LDT = 0x82, D_CALL = 0x8c, D_INT = 0x8e, D_TRAP = 0x8f, D_TASK = 0x85,
       FL_L = 2, FL_DB = 4, FL_G = 8 };

/* Context: what run() loads. */
struct ctx {
	union {
		word r[NREGS];
		struct {
			word ax, cx, dx, bx, sp, bp, si, di;
		};
	};
	word ip, flags, cs, ss, ds, es, fs, gs;
};
/* How it ended. */
struct trap {
	struct ctx r;
	word vec, err, has_err, cr2;
	word frame; /* where the CPU pushed: address of the saved IP */
	word count; /* traps since run(); more than one means that the runtime itself faulted */
	word handler_ss; /* 64-bit guests: SS as the handler found it; 32-bit: its DS, ES, FS and GS ORed */
};
extern volatile struct trap trap;
void run(const struct ctx *c);
/* For handlers that replace a vector's entry: jump there to end the run without a new trap record. */
extern const char run_return[], run_iret[], stubs[];

/* Privilege and mode of a context. */
enum env { ENV_NONE, K64, U64, K32, U32, K16, U16, V86 };
void ctx_init(struct ctx *c, enum env env, const void *code);

#define SNIPPET(pre, text, post) ({ \
	const void *p_; \
	__asm__ volatile(".pushsection .snip, \"ax\"\n.balign 16\n" pre ".intel_syntax noprefix\n771: " text \
			 "\n.att_syntax\nint $0xfe\n" post ".popsection\nmov $771b, %k0" : "=r"(p_)); \
	p_; \
})
#define CODE(text) SNIPPET("", text, "")
#define CODE16(text) SNIPPET(".code16\n", text, CODE_END)
#define CODE32(text) SNIPPET(".code32\n", text, CODE_END)

/* One check. Unset fields are 0: note that vector 0 is #DE, so .vec is nearly always given. */
struct row {
	enum env env;
	word ax, cx, dx, bx, sp, bp, si, di; /* sp 0: the default stack */
	word flags;
	unsigned cs, ss, ds;                 /* 0: the default for env */
	/* Expected. */
	int vec;
	word err;
	word cr2;
	int off; /* offset of the saved IP from the snippet's start; for traps give it, for DONE it is ignored */
	bool any_ip;
	word want_ax;
	bool check_ax;
};
void run_row(const char *name, const void *code, const struct row *r);
#define row(name, code, ...) run_row(name, code, &(struct row){ __VA_ARGS__ })

/* Checks. casef() names what follows; the text is formatted only when something fails. */
void casef(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool check(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool check_eq(const char *what, uint64_t got, uint64_t want);
/* The trap was vec; faults: with this error code, and IP at the context's ip. */
bool check_trap(const struct ctx *c, int vec, word err);
bool vec_is_fault(int vec);
bool vec_has_error(int vec);
void skip(const char *what);
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void guest_main(void);
void guest_start(void) __attribute__((noreturn));

/* Descriptors. */
extern uint64_t gdt[64], idt[512], ldt[64];
extern uint8_t tss[0x68 + 8192 + 1];
uint64_t seg_desc(uint32_t base, uint32_t limit, unsigned access, unsigned flags);
void gdt_set(unsigned sel, uint64_t desc);
void set_system_desc(uint64_t *slot, word base, uint32_t limit, unsigned access);
void idt_set(unsigned vec, word handler, unsigned sel, unsigned access, unsigned ist);
void idt_default(unsigned vec);
void load_gdt(void);
void load_idt(unsigned limit);
void tss_set_stack(unsigned level, word sp);
void tss_set_ist(unsigned n, word sp);
/* Limit of the TSS descriptor; reloads TR. Bytes from 0x68 are the I/O permission bitmap. */
void tss_set_limit(uint32_t limit);
extern uint8_t kstack[8192], trapstack[8192], ustack[8192], iststack[3][4096];
#define top(stack) ((word)(stack) + sizeof(stack))
/* Where users see what is at physical p (below 4 MiB). */
#define USER(p) ((word)(p) + UBASE)

/* Memory for tests. */
extern uint8_t page_a[4096], page_b[4096], table_a[4096], table_b[4096], table_c[4096], table_d[4096];
extern char image_end[];
void zero(volatile void *p, size_t n);
void copy(volatile void *to, const volatile void *from, size_t n);

#ifdef __x86_64__
extern uint64_t pml4[512], pdpt0[512], pds[2048];
#endif

/* Instructions. */
void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4]);
bool has_cpuid(uint32_t leaf, uint32_t sub, unsigned reg, unsigned bit);
#define HAS_PCID has_cpuid(1, 0, 2, 17)
#define HAS_X2APIC has_cpuid(1, 0, 2, 21)
#define HAS_XSAVE has_cpuid(1, 0, 2, 26)
#define HAS_AVX has_cpuid(1, 0, 2, 28)
#define HAS_VME has_cpuid(1, 0, 3, 1)
#define HAS_FSGSBASE has_cpuid(7, 0, 1, 0)
#define HAS_SMEP has_cpuid(7, 0, 1, 7)
#define HAS_INVPCID has_cpuid(7, 0, 1, 10)
#define HAS_SMAP has_cpuid(7, 0, 1, 20)
#define HAS_UMIP has_cpuid(7, 0, 2, 2)
#define HAS_1G has_cpuid(0x80000001, 0, 3, 26)
#define HAS_RDTSCP has_cpuid(0x80000001, 0, 3, 27)
bool is_amd(void);
/* QEMU's TCG lacks some checks; where that would end the run, the row is skipped there. */
bool is_tcg(void);
unsigned phys_bits(void);
uint64_t rdmsr(uint32_t msr);
void wrmsr(uint32_t msr, uint64_t v);
static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
#define CR(n) \
	static inline word read_cr##n(void) \
	{ \
		word v; \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v)); \
		return v; \
	} \
	static inline void write_cr##n(word v) \
	{ \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory"); \
	}
CR(0) CR(2) CR(3) CR(4)
#undef CR
#define DR(n) \
	static inline word read_dr##n(void) \
	{ \
		word v; \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(v)); \
		return v; \
	} \
	static inline void write_dr##n(word v) \
	{ \
		__asm__ volatile("mov %0, %%dr" #n : : "r"(v)); \
	}
DR(0) DR(1) DR(2) DR(3) DR(6) DR(7)
#undef DR
static inline void invlpg(word va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void flush(void)
{
	write_cr3(read_cr3());
}
#ifdef __x86_64__
static inline word read_cr8(void)
{
	word v;

	__asm__ volatile("mov %%cr8, %0" : "=r"(v));
	return v;
}
static inline void write_cr8(word v)
{
	__asm__ volatile("mov %0, %%cr8" : : "r"(v));
}
#endif

/* Local APIC in xAPIC mode, for interrupts to itself. */
void apic_enable(void);
void apic_self(uint32_t icr_low); /* vector, or 0x400 for NMI */
void apic_eoi(void);

#endif
