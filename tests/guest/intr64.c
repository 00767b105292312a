/*
 * intr64.c - interrupts in long mode: flags in the handler, shadows, priorities, NMI blocking.
 * SDM vol. 3, 6.7, 6.8 and 11.8; APM vol. 2, 8.2.3 and 16.
 */
#include "rt/rt.h"

#define APIC_ICR 0xfee00300

/* Flags in the handler: an interrupt gate clears IF; both clear TF, NT, RF. */
static void handler_flags(void)
{
	const void *h = CODE("pushfq; pop rax");

	idt_set(0x41, (word)h, SEL_CODE, D_INT | D_DPL3, 0);
	idt_set(0x42, (word)h, SEL_CODE, D_TRAP | D_DPL3, 0);
	row("interrupt gate", CODE("int 0x41"), .env = U64, .flags = F_IF | F_NT | F_AC | F_IOPL(3) | F_DF, .vec = DONE,
	    .check_ax = true, .want_ax = F_AC | F_IOPL(3) | F_DF | F_1);
	row("trap gate", CODE("int 0x42"), .env = U64, .flags = F_IF | F_NT | F_IOPL(2), .vec = DONE, .check_ax = true,
	    .want_ax = F_IF | F_IOPL(2) | F_1);
	idt_default(0x41);
	idt_default(0x42);
}

static void interrupts(void)
{
	apic_enable();
	apic_self(0x40);
	row("IF = 0", CODE("nop; nop"), .vec = DONE);
	row("sti; cli", CODE("sti; cli; nop"), .vec = DONE);
	row("sti shadow", CODE("sti; nop; nop"), .vec = 0x40, .off = 2);
	apic_eoi();
	apic_self(0x40);
	row("popf has no shadow", CODE("push 0x202; popfq; nop; nop"), .vec = 0x40, .off = 6);
	apic_eoi();
	apic_self(0x40);
	row("sti; hlt", CODE("sti; hlt; nop"), .vec = 0x40, .off = 2);
	apic_eoi();
	apic_self(0x40);
	row("iret to CPL 3 with IF", CODE("nop; nop"), .env = U64, .flags = F_IF, .vec = 0x40, .off = 0);
	casef("IP of an interrupt before the first instruction");
	check(trap.r.ip != 0 && !trap.has_err, "error code");
	apic_eoi();
	apic_self(0x40);
	write_cr8(4);
	row("CR8 = 4 holds vector 40h", CODE("sti; nop; nop; nop; cli"), .vec = DONE);
	write_cr8(3);
	row("CR8 = 3 lets it in", CODE("sti; nop; nop; nop; cli"), .vec = 0x40, .off = 2);
	write_cr8(0);
	apic_eoi();
	apic_self(0x40);
	row("mov cr8 lets it in at once", CODE("mov eax, 15; mov cr8, rax; sti; nop; xor eax, eax; mov cr8, rax; nop"),
	    .vec = 0x40, .off = 17);
	apic_eoi();
	write_cr8(0);
	apic_self(0x40);
	apic_self(0x80);
	row("the higher class first", CODE("sti; nop; nop"), .vec = 0x80, .off = 2);
	row("the lower waits for EOI", CODE("sti; nop; nop; cli"), .vec = DONE);
	apic_eoi();
	row("EOI lets it in", CODE("sti; nop; nop; cli"), .vec = 0x40, .off = 2);
	apic_eoi();
	apic_self(MF);
	row("vector 16 is an exception's, too", CODE("sti; nop; nop; cli"), .vec = MF, .off = 2);
	check_eq("an interrupt saves no RF", trap.r.flags & F_RF, 0);
	apic_eoi();
}

static volatile uint32_t nmis __asm__("nmis"), nmi_nested __asm__("nmi_nested");

/* A second NMI sent by the handler waits for IRET. */
static void nmi(void)
{
	/* ICR: NMI, to APIC ID 0; the shorthand for self allows fixed interrupts only. */
	/* The loops are for CPUs on which the way through the local APIC takes time. */
	const void *handler = CODE("inc dword ptr [nmis]; add [nmi_nested], ebx; inc ebx; cmp dword ptr [nmis], 1;"
				   "jne 1f; mov dword ptr [rsi], 0x4400; mov ecx, 100000; 2: dec ecx; jnz 2b; 1: dec ebx; iretq");
	row("NMI", CODE("mov dword ptr [rsi], 0x4400; mov ecx, 100000; 1: dec ecx; jnz 1b"), .si = APIC_ICR,
	    .vec = NMI);
	idt_set(NMI, (word)handler, SEL_CODE, D_INT, 0);
	nmis = nmi_nested = 0;
	row("NMI blocks NMI", CODE("mov dword ptr [rsi], 0x4400; mov edx, 100000; 1: dec edx; jnz 1b"), .si = APIC_ICR,
	    .vec = DONE);
	check_eq("NMIs taken", nmis, 2);
	check_eq("NMIs within the handler", nmi_nested, 0);
	idt_default(NMI);
}

void guest_main(void)
{
	handler_flags();
	interrupts();
	nmi();
}
