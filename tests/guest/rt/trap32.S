/*
 * run() enters a context with IRETD (to the same level, to an outer one, or to virtual-8086 mode); every
 * vector ends it: the state goes to `trap` and run() returns. A context at CPL 0 must have a flat stack.
 */
#define R(n) (n * 4)
#define IP 8
#define FLAGS 9
#define CS 10
#define SS 11
#define DS 12
#define ES 13
#define FS 14
#define GS 15

	.text
	.globl run
run:
	mov 4(%esp), %ecx
	pushfl
	push %ebx
	push %ebp
	push %esi
	push %edi
	mov %esp, saved_esp
	movl $0, trap + R(21)
	testl $0x20000, R(FLAGS)(%ecx)
	jnz 1f
	testl $3, R(CS)(%ecx)
	jnz 2f
	mov R(SS)(%ecx), %eax		/* CPL 0: IRET pops no stack, so change it first */
	mov %eax, %ss
	mov R(4)(%ecx), %esp
	jmp 3f
1:	pushl R(GS)(%ecx)
	pushl R(FS)(%ecx)
	pushl R(DS)(%ecx)
	pushl R(ES)(%ecx)
2:	pushl R(SS)(%ecx)
	pushl R(4)(%ecx)
3:	pushl R(FLAGS)(%ecx)
	pushl R(CS)(%ecx)
	pushl R(IP)(%ecx)
	pushl R(1)(%ecx)
	testl $0x20000, R(FLAGS)(%ecx)
	jnz 4f
	pushl R(DS)(%ecx)
	mov R(ES)(%ecx), %eax
	mov %eax, %es
	mov R(FS)(%ecx), %eax
	mov %eax, %fs
	mov R(GS)(%ecx), %eax
	mov %eax, %gs
4:	mov R(0)(%ecx), %eax
	mov R(2)(%ecx), %edx
	mov R(3)(%ecx), %ebx
	mov R(5)(%ecx), %ebp
	mov R(6)(%ecx), %esi
	mov R(7)(%ecx), %edi
	testl $0x20000, R(FLAGS)(%ecx)
	jnz 5f
	pop %ds
5:	pop %ecx
	.globl run_iret
run_iret:
	iretl

common:
	pushal
	push %ds
	push %es
	push %fs
	push %gs
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	cld
	mov %esp, %eax
	push %eax
	call trap_save
	.globl run_return
run_return:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov saved_esp, %esp
	cld
	pop %edi
	pop %esi
	pop %ebp
	pop %ebx
	popfl
	ret

	.balign 16
	.globl stubs
stubs:
	.set n, 0
	.rept 256
	.balign 16
	.if !(n == 8 || (n >= 10 && n <= 14) || n == 17)
	pushl $0
	.endif
	pushl $n
	jmp common
	.set n, n + 1
	.endr

	.bss
	.balign 16
	.globl trap, saved_esp
trap:	.skip 24 * 4
saved_esp: .skip 4
	.section .note.GNU-stack, "", @progbits
