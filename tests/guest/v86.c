/*
 * v86.c - virtual-8086 mode without VME: what IOPL lets through, what does not exist there, segments of 64 KiB,
 * interrupts out of it and IRET into it. SDM vol. 3, ch. 21; APM vol. 2, ch. 10.
 */
#include "rt/rt.h"

#define SEG 0x0800 /* code at 0x8000 */
#define DSEG 0x0a00
#define SSEG 0x0900

struct v86 {
	unsigned iopl;
	word ax, cx, dx, bx, si, di, bp, flags;
	word sp; /* 0: 0x100 */
	int vec;
	word err;
	int off;
};

static void run_v86(const char *name, const void *code, const struct v86 *r)
{
	struct ctx c;

	casef("%s, IOPL %d", name, r->iopl);
	copy((void *)(SEG * 16), code, 64);
	zero(&c, sizeof(c));
	c.cs = SEG;
	c.ss = SSEG;
	c.ds = c.es = c.fs = c.gs = DSEG;
	c.sp = r->sp ? r->sp : 0x100;
	c.flags = F_1 | F_VM | F_IOPL(r->iopl) | r->flags;
	c.ax = r->ax;
	c.cx = r->cx;
	c.dx = r->dx;
	c.bx = r->bx;
	c.si = r->si;
	c.di = r->di;
	c.bp = r->bp;
	run(&c);
	if (trap.vec == (word)r->vec && !vec_is_fault(r->vec)) {
		check_trap(&c, r->vec, r->err);
		return;
	}
	c.ip = (word)r->off;
	check_trap(&c, r->vec, r->err);
}
/* The snippets end in INT 0xfe, which IOPL < 3 refuses: those end with INT3 (vector BP) before it. */
#define v86(text, ...) run_v86(text, CODE16(text), &(struct v86){ __VA_ARGS__ })

static void sensitive(void)
{
	unsigned iopl;

	for (iopl = 0; iopl < 4; iopl++) {
		int v = iopl == 3 ? DONE : GP, b = iopl == 3 ? BP : GP;

		v86("cli; int3", .iopl = iopl, .vec = b);
		v86("sti; int3", .iopl = iopl, .vec = b);
		v86("pushf; int3", .iopl = iopl, .vec = b);
		v86("popf; int3", .iopl = iopl, .vec = b);
		v86("nop", .iopl = iopl, .vec = v, .off = 1);
		v86(".byte 0x66; pushf; int3", .iopl = iopl, .vec = b);
		v86("int 0x41", .iopl = iopl, .vec = GP, .err = iopl == 3 ? 0x41 * 8 + 2 : 0);
		v86("iret; .skip 0x30 - (. - 771b); int3", .iopl = iopl, .sp = 0x40, .vec = iopl == 3 ? BP : GP);
		v86("int3", .iopl = iopl, .vec = BP);
		v86("mov al, 0x7f; inc al; into", .iopl = iopl, .vec = OF);
		v86(".byte 0xf1", .iopl = iopl, .vec = DB);
		v86("in al, 0x80; int3", .iopl = iopl, .vec = GP);
		v86("out dx, al; int3", .iopl = iopl, .dx = 0x80, .vec = GP);
		v86("hlt", .iopl = iopl, .vec = GP);
		v86("mov eax, cr0", .iopl = iopl, .vec = GP);
		v86("mov cr0, eax", .iopl = iopl, .vec = GP);
		v86("mov eax, dr7", .iopl = iopl, .vec = GP);
		v86("clts", .iopl = iopl, .vec = GP);
		v86("lmsw ax", .iopl = iopl, .vec = GP);
		v86("lgdt [bx]", .iopl = iopl, .vec = GP);
		v86("lidt [bx]", .iopl = iopl, .vec = GP);
		v86("invd", .iopl = iopl, .vec = GP);
		v86("wbinvd", .iopl = iopl, .vec = GP);
		v86("invlpg [bx]", .iopl = iopl, .vec = GP);
		v86("rdmsr", .iopl = iopl, .vec = GP);
		v86("wrmsr", .iopl = iopl, .vec = GP);
		/* Not recognized in virtual-8086 mode. */
		v86("sldt ax", .iopl = iopl, .vec = UD);
		v86("str ax", .iopl = iopl, .vec = UD);
		v86("lldt ax", .iopl = iopl, .vec = UD);
		v86("ltr ax", .iopl = iopl, .vec = UD);
		v86("lar ax, ax", .iopl = iopl, .vec = UD);
		v86("lsl ax, ax", .iopl = iopl, .vec = UD);
		v86("verr ax", .iopl = iopl, .vec = UD);
		v86("verw ax", .iopl = iopl, .vec = UD);
		v86("arpl ax, ax", .iopl = iopl, .vec = UD);
		v86("smsw ax; int3", .iopl = iopl, .vec = BP);
		v86("sgdt [bx + 0x40]; int3", .iopl = iopl, .vec = BP);
	}
}

static void segments(void)
{
	word k = top(trapstack);

	v86("mov eax, [bx]; int3", .bx = 4, .vec = BP);
	casef("DS * 16");
	check_eq("EAX", trap.r.ax, 0x12345678);
	v86("mov ax, 0x0a01; mov es, ax; mov eax, es:[bx]; int3", .bx = 0xfff4, .vec = BP);
	v86("mov ax, 0x0940; mov ds, ax; mov eax, [0xc04]; int3", .vec = BP);
	casef("any value loads, base is 16 times that");
	check_eq("EAX", trap.r.ax, 0x12345678);
	check_eq("DS", trap.r.ds, 0x940);
	v86("mov al, [bx]; int3", .bx = 0xffff, .vec = BP);
	v86("mov ax, [bx]", .bx = 0xffff, .vec = GP);
	v86("mov eax, [bx]", .bx = 0xfffd, .vec = GP);
	v86("mov eax, [ebx]", .bx = 0x10000, .vec = GP);
	v86("mov al, [ebx]; int3", .bx = 0xffff, .vec = BP);
	v86("mov ax, [bp]", .bp = 0xffff, .vec = SS);
	v86("push ax; int3", .sp = 2, .vec = BP);
	v86("pop ax", .sp = 0xffff, .vec = SS);
	v86("push eax", .sp = 3, .vec = SS);
	v86("mov byte ptr cs:[bx], 1; int3", .bx = 0x200, .vec = BP);
	v86(".byte 0x66, 0xe9; .long 0x10000", .vec = GP);
	v86("mov ss, ax; mov ax, ss; int3", .ax = 0x1234, .vec = BP);
	v86("ud2", .vec = UD);
	v86("lock; nop", .vec = UD);
	v86("div cl", .vec = DE);
	v86("mov bx, 0; bound ax, [bx]", .ax = 0x7000, .off = 3, .vec = BR);
	v86(".byte 0xea; .word 0x20, 0x800; .skip 0x20 - (. - 771b); int3", .vec = BP);
	v86("int3", .flags = F_AC | F_ID | 0xcd5 | F_DF, .vec = BP);
	casef("frame");
	check_eq("flags", trap.r.flags, F_VM | F_AC | F_ID | 0xcd5 | F_DF | F_1);
	check_eq("nine dwords at ESP0", trap.frame, k - 36);
	check_eq("CS", trap.r.cs, SEG);
	check_eq("SS", trap.r.ss, SSEG);
	check_eq("ESP", trap.r.sp, 0x100);
	check_eq("DS", trap.r.ds, DSEG);
	check_eq("ES", trap.r.es, DSEG);
	check_eq("FS", trap.r.fs, DSEG);
	check_eq("GS", trap.r.gs, DSEG);
	check_eq("data segments of the handler are null", trap.handler_ss, 0);
}

static void interrupts_out(void)
{
	gdt_set(SEL_FREE, 0x00cf9f000000ffff);
	gdt_set(SEL_FREE + 8, 0x00cfbb000000ffff);
	idt_set(0x41, (word)stubs + 0x41 * 16, SEL_FREE, 0xee, 0);
	v86("int 0x41", .iopl = 3, .vec = GP, .err = SEL_FREE);
	idt_set(0x41, (word)stubs + 0x41 * 16, SEL_FREE + 8, 0xee, 0);
	v86("int 0x41", .iopl = 3, .vec = GP, .err = SEL_FREE + 8);
	idt_set(0x41, (word)stubs + 0x41 * 16, SEL_CODE, 0xee, 0);
	v86("int 0x41", .iopl = 3, .vec = 0x41);
	idt_default(0x41);
	v86("int 0x41", .iopl = 3, .vec = GP, .err = 0x41 * 8 + 2);
	/* Flags at IOPL 3. */
	v86("push 0x3202; popf; pushf; pop ax", .iopl = 3, .vec = DONE);
	casef("popf leaves IOPL");
	check_eq("flags", trap.r.ax & 0xffff, 0x3202);
	v86("push 0x0002; popf; pushf; pop ax", .iopl = 3, .vec = DONE);
	check_eq("flags", trap.r.ax & 0xffff, 0x3002);
	v86("push 2; push 0x800; push 0x20; iret; .skip 0x20 - (. - 771b); pushf; pop ax", .iopl = 3, .vec = DONE);
	check_eq("iret leaves IOPL", trap.r.ax & 0xffff, 0x3002);
	check_eq("and VM", trap.r.flags & F_VM, F_VM);
}

static void io_map(void)
{
	unsigned b;

	for (b = 0; b < 64; b++)
		tss[0x68 + b] = 0xff;
	tss[0x68 + 0x80 / 8] = 0xfe;
	tss_set_limit(0x68 + 64);
	v86("in al, 0x80; int3", .vec = BP);
	v86("in al, 0x81; int3", .iopl = 3, .vec = GP);
	v86("in ax, 0x80; int3", .iopl = 3, .vec = GP);
	tss_set_limit(0x67);
}

void guest_main(void)
{
	*(volatile uint32_t *)(DSEG * 16 + 4) = 0x12345678;
	*(volatile uint32_t *)(DSEG * 16) = 0x00100000; /* bounds 0 and 16 */
	/* IRET of sensitive(): to an INT3 at SEG:0x30. */
	*(volatile uint16_t *)(SSEG * 16 + 0x40) = 0x30;
	*(volatile uint16_t *)(SSEG * 16 + 0x42) = SEG;
	*(volatile uint16_t *)(SSEG * 16 + 0x44) = 2;
	sensitive();
	segments();
	interrupts_out();
	io_map();
}
