/*
 * run() enters a context with IRETQ; every vector ends it: the whole state goes to `trap` and run()
 * returns. Nothing here depends on GS, DS or on where the interrupted RSP pointed.
 * Whether the CPU pushed an error code is read off the alignment of RSP: the CPU aligns the frame to 16.
 */
#define R(n) (n * 8)
#define IP 16
#define FLAGS 17
#define CS 18
#define SS 19
#define DS 20
#define ES 21
#define FS 22
#define GS 23
#define VEC 24
#define ERR 25
#define HAS_ERR 26
#define CR2 27
#define FRAME 28
#define COUNT 29
#define HSS 30

	.text
	.globl run
run:
	pushfq
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, saved_rsp
	movq $0, trap + R(COUNT)
	mov R(DS)(%rdi), %eax
	mov %eax, %ds
	mov R(ES)(%rdi), %eax
	mov %eax, %es
	pushq R(SS)(%rdi)
	pushq R(4)(%rdi)
	pushq R(FLAGS)(%rdi)
	pushq R(CS)(%rdi)
	pushq R(IP)(%rdi)
	mov R(0)(%rdi), %rax
	mov R(1)(%rdi), %rcx
	mov R(2)(%rdi), %rdx
	mov R(3)(%rdi), %rbx
	mov R(5)(%rdi), %rbp
	mov R(6)(%rdi), %rsi
	mov R(8)(%rdi), %r8
	mov R(9)(%rdi), %r9
	mov R(10)(%rdi), %r10
	mov R(11)(%rdi), %r11
	mov R(12)(%rdi), %r12
	mov R(13)(%rdi), %r13
	mov R(14)(%rdi), %r14
	mov R(15)(%rdi), %r15
	mov R(7)(%rdi), %rdi
	.globl run_iret
run_iret:
	iretq

common:
	mov %rax, trap + R(0)
	mov %rcx, trap + R(1)
	mov %rdx, trap + R(2)
	mov %rbx, trap + R(3)
	mov %rbp, trap + R(5)
	mov %rsi, trap + R(6)
	mov %rdi, trap + R(7)
	mov %r8, trap + R(8)
	mov %r9, trap + R(9)
	mov %r10, trap + R(10)
	mov %r11, trap + R(11)
	mov %r12, trap + R(12)
	mov %r13, trap + R(13)
	mov %r14, trap + R(14)
	mov %r15, trap + R(15)
	pop %rax
	mov %rax, trap + R(VEC)
	xor %eax, %eax
	xor %ecx, %ecx
	test $8, %spl
	jnz 1f
	pop %rax
	inc %ecx
1:	mov %rax, trap + R(ERR)
	mov %rcx, trap + R(HAS_ERR)
	mov %rsp, trap + R(FRAME)
	popq trap + R(IP)
	popq trap + R(CS)
	popq trap + R(FLAGS)
	popq trap + R(4)
	popq trap + R(SS)
	mov %cr2, %rax
	mov %rax, trap + R(CR2)
	xor %eax, %eax
	mov %ds, %eax
	mov %rax, trap + R(DS)
	mov %es, %eax
	mov %rax, trap + R(ES)
	mov %fs, %eax
	mov %rax, trap + R(FS)
	mov %gs, %eax
	mov %rax, trap + R(GS)
	mov %ss, %eax
	mov %rax, trap + R(HSS)
	incq trap + R(COUNT)
	.globl run_return
run_return:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov saved_rsp, %rsp
	cld
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	popfq
	ret

	.balign 16
	.globl stubs
stubs:
	.set n, 0
	.rept 256
	.balign 16
	pushq $n
	jmp common
	.set n, n + 1
	.endr

	.bss
	.balign 16
	.globl trap, saved_rsp
trap:	.skip 32 * 8
saved_rsp: .skip 8
	.section .note.GNU-stack, "", @progbits
