/*
 * Application processors of a 64-bit guest. ap_code..ap_code_end is copied to a page below 1 MiB, which the start-up
 * IPI names; it may be any. Each processor that starts takes the next stack and calls ap_main() in 64-bit mode, with
 * interrupts off. count_stubs: one interrupt handler for each vector, 64 bytes apart: counts in the processor's own
 * struct at GS (layout: ipi64.c), and ends the interrupt in the mode that its local APIC is in.
 */
#define STACK 4096
#define X2 4
#define NMIS 8
#define COUNT 16

	.text
	.globl ap_code, ap_code_end
	.code16
ap_code:
	cli
	cld
	mov %cs, %ax
	mov %ax, %ds
	lgdtl ap_gdtr - ap_code
	mov %cr0, %eax
	and $~0x60000000, %eax		/* CD, NW */
	or $1, %eax
	mov %eax, %cr0
	ljmpl $0x18, $ap32
	.balign 8
ap_gdtr:
	.word 511
	.long gdt
ap_code_end:

	.code32
ap32:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x20, %eax			/* CR4.PAE */
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x901, %eax			/* EFER.NXE, LME, SCE */
	wrmsr
	mov $0x80010031, %eax
	mov %eax, %cr0
	ljmp $0x08, $1f
	.code64
1:	mov $1, %eax
	lock xadd %eax, ap_started
	and $7, %eax
	shl $12, %eax
	lea ap_stacks + STACK(%rax), %rsp
	xor %ebp, %ebp
	call ap_main
2:	hlt
	jmp 2b

	.balign 64
	.globl count_stubs, nmi_stub
count_stubs:
	.set n, 0
	.rept 256
	.balign 64
	push %rax
	incl %gs:COUNT + n * 4
	jmp end_of_interrupt
	.set n, n + 1
	.endr
nmi_stub:
	incl %gs:NMIS
	iretq
end_of_interrupt:
	push %rcx
	push %rdx
	cmpl $0, %gs:X2
	je 3f
	mov $0x80b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	jmp 4f
3:	mov $0xfee000b0, %eax
	movl $0, (%rax)
4:	pop %rdx
	pop %rcx
	pop %rax
	iretq

	.bss
	.balign 4096
ap_stacks:
	.skip 8 * STACK
	.globl ap_started
	.balign 4
ap_started: .skip 4
	.section .note.GNU-stack, "", @progbits
