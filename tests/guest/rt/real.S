/*
 * run_real(): enters a context in real mode and comes back to 32-bit protected mode on the first interrupt or
 * exception of any vector. The part that runs in real mode is copied to REAL (below 64 KiB), its record is at REC.
 */
#define REAL 0x7000
#define REC 0x6000
#define AT(sym) (sym - real_code + REAL)
/* struct real_regs */
#define R(n) (REC + (n) * 4)
#define IP 8
#define FLAGS 9
#define CS 10
#define SS 11
#define DS 12
#define ES 13
#define VEC 14
#define COUNT 15

	.text
	.globl real_code, real_code_end, run_real, real_stubs
run_real:
	pushfl
	push %ebx
	push %ebp
	push %esi
	push %edi
	mov %esp, saved_esp
	cli
	lidt real_idtr
	ljmp $0x1e0, $AT(to_real)

	.balign 16
real_code:
	.code16
to_real:
	mov $0x1e8, %ax			/* 64 KiB limits, as after reset */
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %ax, %fs
	mov %ax, %gs
	mov %cr0, %eax
	and $~1, %al
	mov %eax, %cr0
	ljmp $0, $AT(1f)
1:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %fs
	mov %ax, %gs
	mov R(SS), %ss
	movl R(4), %esp
	pushw R(FLAGS)
	pushw R(CS)
	pushw R(IP)
	movl R(0), %eax
	movl R(1), %ecx
	movl R(2), %edx
	movl R(3), %ebx
	movl R(5), %ebp
	movl R(6), %esi
	movl R(7), %edi
	mov R(ES), %es
	mov R(DS), %ds
	iret

common16:
	movl %eax, %cs:R(0)
	movl %ecx, %cs:R(1)
	movl %edx, %cs:R(2)
	movl %ebx, %cs:R(3)
	movl %ebp, %cs:R(5)
	movl %esi, %cs:R(6)
	movl %edi, %cs:R(7)
	xor %eax, %eax
	mov %ds, %ax
	movl %eax, %cs:R(DS)
	mov %es, %ax
	movl %eax, %cs:R(ES)
	mov %ss, %ax
	movl %eax, %cs:R(SS)
	pop %ax
	movl %eax, %cs:R(VEC)
	pop %ax
	movl %eax, %cs:R(IP)
	pop %ax
	movl %eax, %cs:R(CS)
	pop %ax
	movl %eax, %cs:R(FLAGS)
	movl %esp, %cs:R(4)
	incl %cs:R(COUNT)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $0x08, $from_real

	.balign 8
real_stubs:
	.set n, 0
	.rept 256
	.balign 8
	push $n - (n & 128) * 2		/* sign-extended byte */
	jmp common16
	.set n, n + 1
	.endr
real_code_end:
	.code32
from_real:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov saved_esp, %esp
	lidt pm_idtr
	cld
	pop %edi
	pop %esi
	pop %ebp
	pop %ebx
	popfl
	ret

	.data
	.balign 8
	.word 0, 0, 0
real_idtr: .word 0x3ff
	.long 0
	.word 0
pm_idtr: .word 2047
	.long idt
	.section .note.GNU-stack, "", @progbits
