/*
 * real16.c - real mode: interrupts by the vector table, limits of 64 KiB, what does not exist there, and the
 * way in and out. SDM vol. 3, ch. 21.1; APM vol. 2, 8.5 and 14.
 */
#include "rt/rt.h"

#define REAL 0x7000
#define SEG 0x0800
#define DSEG 0x0a00
#define SSEG 0x0900

/* As in rt/real.S. */
struct real_regs {
	uint32_t r[8]; /* ax cx dx bx sp bp si di */
	uint32_t ip, flags, cs, ss, ds, es, vec, count;
};
static volatile struct real_regs *const rec = (struct real_regs *)0x6000;
void run_real(void);
extern const char real_code[], real_code_end[], real_stubs[];

struct real {
	uint32_t ax, cx, dx, bx, si, di, bp, sp, flags;
	int vec;
	uint32_t ip;
	bool check_ip, check_ax;
	uint32_t want_ax;
};

static void setup(void)
{
	uint32_t stub = REAL + (uint32_t)(real_stubs - real_code);
	unsigned i;

	copy((void *)REAL, real_code, (size_t)(real_code_end - real_code));
	/* A stub starts every 8 bytes while its push and jump fit: 2 + 3 bytes. */
	for (i = 0; i < 256; i++)
		((volatile uint32_t *)0)[i] = stub + i * 8;
	gdt_set(0x1e0, seg_desc(0, 0xffff, D_CODE, 0));
	gdt_set(0x1e8, seg_desc(0, 0xffff, D_DATA, 0));
}

static void run_row_real(const char *name, const void *code, const struct real *t)
{
	casef("%s", name);
	copy((void *)(SEG * 16), code, 64);
	zero(rec, sizeof(*rec));
	rec->r[0] = t->ax;
	rec->r[1] = t->cx;
	rec->r[2] = t->dx;
	rec->r[3] = t->bx;
	rec->r[4] = t->sp ? t->sp : 0x100;
	rec->r[5] = t->bp;
	rec->r[6] = t->si;
	rec->r[7] = t->di;
	rec->cs = SEG;
	rec->ss = SSEG;
	rec->ds = rec->es = DSEG;
	rec->flags = t->flags | 2;
	run_real();
	if (!check(rec->count == 1 && (rec->vec & 0xff) == (uint32_t)t->vec, "vector %d count %d ip 0x%x, not vector %d",
		   (int)(rec->vec & 0xff), (int)rec->count, rec->ip, t->vec))
		return;
	if (vec_is_fault(t->vec) || t->check_ip)
		check_eq("IP", rec->ip, t->ip);
	if (t->check_ax)
		check_eq("EAX", rec->r[0], t->want_ax);
}
#define real(text, ...) run_row_real(text, CODE16(text), &(struct real){ __VA_ARGS__ })

static void vectors(void)
{
	real("nop", .vec = DONE, .ip = 3, .check_ip = true);
	real("div cl", .vec = DE);
	real("int3", .vec = BP, .ip = 1, .check_ip = true);
	real("int 0x41", .vec = 0x41, .ip = 2, .check_ip = true);
	real("int 13", .vec = 13, .ip = 2);
	real("mov al, 0x7f; inc al; into", .vec = OF, .ip = 5, .check_ip = true);
	real("mov bx, 0x10; bound ax, [bx]", .ax = 9, .vec = BR, .ip = 3);
	real("mov bx, 0x10; bound ax, [bx]", .ax = 8, .vec = DONE);
	real("ud2", .vec = UD);
	real("lock; nop", .vec = UD);
	real(".byte 0x8e, 0xc8", .vec = UD);
	real(".byte 0xf1", .vec = DB, .ip = 1, .check_ip = true);
	real(".rept 15; .byte 0x66; .endr; nop", .vec = GP);
	real("push 0x102; popf; nop; nop", .vec = DB, .ip = 5, .check_ip = true);
	real("int 0x41", .flags = F_IF | F_CF | 0x7000, .vec = 0x41);
	check_eq("saved flags", rec->flags, F_IF | F_CF | 0x7000 | F_1);
	check_eq("SP is back after three words", rec->r[4], 0x100);
	check_eq("CS", rec->cs, SEG);
}

/* IF and TF are cleared; IRET puts all of the 16 flags back. */
static void handlers(void)
{
	((volatile uint32_t *)0)[0x42] = SEG << 16 | 0x20;
	real("int 0x42; jmp 1f; .skip 0x20 - (. - 771b); pushf; pop ax; iret; 1:", .flags = F_IF | 0x4000, .vec = DONE,
	     .check_ax = true, .want_ax = 0x4002);
	check_eq("flags after iret", rec->flags, F_IF | 0x4000 | F_1);
	real("int 0x42; jmp 1f; .skip 0x20 - (. - 771b); mov bp, sp; mov ax, [bp]; iret; 1:", .vec = DONE, .check_ax = true,
	     .want_ax = 2);
	real("push 0x7ad7; popf; pushf; pop ax; push 2; popf", .vec = DONE, .check_ax = true, .want_ax = 0x7ad7);
	real("push 0; push 0x7002; push 0x800; push 0x20; jmp 1f; .skip 0x20 - (. - 771b); pushf; pop ax; int 0xfe; 1: iret",
	     .vec = DONE, .check_ax = true, .want_ax = 0x7002);
	real("push cs; push 0x20; retf; .skip 0x20 - (. - 771b); mov ax, cs", .vec = DONE, .check_ax = true, .want_ax = SEG);
	real(".byte 0x9a; .word 0x10, 0x801; .skip 0x20 - (. - 771b); mov ax, cs; pop cx; pop dx", .vec = DONE, .check_ax = true,
	     .want_ax = SEG + 1);
	check_eq("return IP", rec->r[1], 5);
	check_eq("return CS", rec->r[2], SEG);
}

static void limits(void)
{
	real("mov al, [bx]", .bx = 0xffff, .vec = DONE);
	real("mov ax, [bx]", .bx = 0xffff, .vec = GP);
	real("mov eax, [bx]", .bx = 0xfffd, .vec = GP);
	real("mov eax, [bx]", .bx = 0xfffc, .vec = DONE);
	real("mov [bx], ax", .bx = 0xffff, .vec = GP);
	real("mov al, [ebx]", .bx = 0x10000, .vec = GP);
	real("mov al, es:[ebx]", .bx = 0x12345678, .vec = GP);
	real("mov ax, [bp]", .bp = 0xffff, .vec = SS);
	real("mov al, [bx + si]", .bx = 0xfff0, .si = 0x18, .vec = DONE, .check_ax = true, .want_ax = 0x77);
	real("push ax", .sp = 2, .vec = DONE);
	real("pop ax", .sp = 0xffff, .vec = SS);
	real("push eax", .sp = 2, .vec = SS);
	real("mov byte ptr cs:[bx], 9; mov al, cs:[bx]", .bx = 0x80, .vec = DONE, .check_ax = true, .want_ax = 9);
	real(".byte 0x66, 0xe9; .long 0x10000", .vec = GP);
	real("jmp eax", .ax = 0x10000, .vec = GP);
	real("mov ax, 0xffff; mov ds, ax; mov eax, [bx]", .bx = 0x10, .vec = DONE, .check_ax = true, .want_ax = 0x1badb002);
	/* IDTR.limit counts here too. */
	real("lidt [bx]; int 0x80", .bx = 0x20, .vec = GP, .ip = 3);
	real("lidt [bx]; int 0x7f", .bx = 0x20, .vec = 0x7f, .check_ip = true, .ip = 5);
	real("lidt [bx]; div cl", .bx = 0x20, .vec = DE, .ip = 3);
}

static void not_here(void)
{
	real("sldt ax", .vec = UD);
	real("str ax", .vec = UD);
	real("lldt ax", .vec = UD);
	real("ltr ax", .vec = UD);
	real("lar ax, ax", .vec = UD);
	real("lsl ax, ax", .vec = UD);
	real("verr ax", .vec = UD);
	real("verw ax", .vec = UD);
	real("arpl ax, ax", .vec = UD);
	real(".byte 0x0f, 0x34", .vec = GP); /* sysenter */
	real(".byte 0x0f, 0x35", .vec = GP); /* sysexit */
	real(".byte 0x0f, 0x05", .vec = UD); /* syscall without SCE */
	real("smsw ax; and ax, 1", .vec = DONE, .check_ax = true, .want_ax = 0);
	real("mov eax, cr0; and eax, 1", .vec = DONE, .check_ax = true, .want_ax = 0);
	real("sgdt [bx]; mov ax, [bx]", .bx = 0x40, .vec = DONE, .check_ax = true, .want_ax = 511);
	real("cli; sti; cli", .vec = DONE);
	real("in al, 0x71", .vec = DONE);
	real("wbinvd", .vec = DONE);
	real("clts", .vec = DONE);
	real("mov ecx, 0x10; rdmsr", .vec = DONE);
	real("mov ecx, 0x12345678; rdmsr", .vec = GP, .ip = 6);
	real("mov eax, 0x80000030; mov cr0, eax", .vec = GP, .ip = 6);
	real("mov eax, cr0; or al, 8; mov cr0, eax; fldz", .vec = NM, .ip = 8);
	real("mov eax, cr0; and al, 0xf7; mov cr0, eax; fldz", .vec = DONE);
	real(".byte 0xc4, 0xc0, 0, 0", .vec = UD);
}

/* Hidden parts of the segment registers outlive the change of mode ("unreal" mode). */
static void hidden(void)
{
	real("mov ax, 0x1234; mov fs, ax; mov ax, fs", .vec = DONE, .check_ax = true, .want_ax = 0x1234);
	real("mov eax, cr0; or al, 1; mov cr0, eax; mov bx, 0x10; mov ds, bx; and al, 0xfe; mov cr0, eax; mov eax, [ecx]",
	     .cx = 0x100000, .vec = DONE, .check_ax = true, .want_ax = 0x1badb002);
	real("mov eax, cr0; or al, 1; mov cr0, eax; mov bx, 0x10; mov ds, bx; and al, 0xfe; mov cr0, eax; xor ax, ax; mov ds, ax;"
	     "mov eax, [ecx]", .cx = 0x100000, .vec = DONE, .check_ax = true, .want_ax = 0x1badb002);
	real("mov eax, [ecx]", .cx = 0x100000, .vec = GP);
}

void guest_main(void)
{
	volatile uint8_t *d = (uint8_t *)(DSEG * 16);

	setup();
	d[8] = 0x77;
	*(volatile uint32_t *)(d + 0x10) = 0x00080001; /* bounds 1 and 8 */
	*(volatile uint16_t *)(d + 0x20) = 0x80 * 4 - 1;
	vectors();
	handlers();
	limits();
	not_here();
	hidden();
}
