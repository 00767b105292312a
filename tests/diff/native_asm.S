/*
 * native_asm.S - into a test case on the host CPU, and back.
 *
 * All state goes through the context page at a fixed address below 2 GiB, so that no register is needed to
 * reach it. See struct layout in layout.h.
 */
#include "layout.h"

	.text
	.globl	diff_native_enter
	.type	diff_native_enter, @function
diff_native_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, CTX_HOST_RSP
	mov	CTX_XCR0, %eax
	xor	%edx, %edx
	xrstor64 CTX_IN_FPU
	movw	CTX_SEL, %ds
	movw	CTX_SEL + 2, %es
	movw	CTX_SEL + 4, %fs
	movw	CTX_SEL + 6, %gs
	cmpl	$0, CTX_MODE32
	jne	1f
	mov	CTX_FS_BASE, %rax
	wrfsbase %rax
	mov	CTX_GS_BASE, %rax
	wrgsbase %rax
1:	mov	$CTX_RFLAGS, %esp
	popfq
	mov	CTX_GPR + 8 * 0, %rax
	mov	CTX_GPR + 8 * 1, %rcx
	mov	CTX_GPR + 8 * 2, %rdx
	mov	CTX_GPR + 8 * 3, %rbx
	mov	CTX_GPR + 8 * 4, %rsp
	mov	CTX_GPR + 8 * 5, %rbp
	mov	CTX_GPR + 8 * 6, %rsi
	mov	CTX_GPR + 8 * 7, %rdi
	mov	CTX_GPR + 8 * 8, %r8
	mov	CTX_GPR + 8 * 9, %r9
	mov	CTX_GPR + 8 * 10, %r10
	mov	CTX_GPR + 8 * 11, %r11
	mov	CTX_GPR + 8 * 12, %r12
	mov	CTX_GPR + 8 * 13, %r13
	mov	CTX_GPR + 8 * 14, %r14
	mov	CTX_GPR + 8 * 15, %r15
	jmp	*CTX_TAIL

	.globl	diff_native_enter32
diff_native_enter32:
	ljmpl	*CTX_FAR

	/* The code under test is done. */
	.globl	diff_native_exit
diff_native_exit:
	mov	%rax, CTX_OUT_GPR + 8 * 0
	mov	%rcx, CTX_OUT_GPR + 8 * 1
	mov	%rdx, CTX_OUT_GPR + 8 * 2
	mov	%rbx, CTX_OUT_GPR + 8 * 3
	mov	%rsp, CTX_OUT_GPR + 8 * 4
	mov	%rbp, CTX_OUT_GPR + 8 * 5
	mov	%rsi, CTX_OUT_GPR + 8 * 6
	mov	%rdi, CTX_OUT_GPR + 8 * 7
	mov	%r8, CTX_OUT_GPR + 8 * 8
	mov	%r9, CTX_OUT_GPR + 8 * 9
	mov	%r10, CTX_OUT_GPR + 8 * 10
	mov	%r11, CTX_OUT_GPR + 8 * 11
	mov	%r12, CTX_OUT_GPR + 8 * 12
	mov	%r13, CTX_OUT_GPR + 8 * 13
	mov	%r14, CTX_OUT_GPR + 8 * 14
	mov	%r15, CTX_OUT_GPR + 8 * 15
	mov	$CTX_STACK_TOP, %esp
	pushfq
	popq	CTX_OUT_RFLAGS
	pushq	$2
	popfq
	movw	%ds, CTX_OUT_SEL
	movw	%es, CTX_OUT_SEL + 2
	movw	%fs, CTX_OUT_SEL + 4
	movw	%gs, CTX_OUT_SEL + 6
	movw	%ss, CTX_OUT_SEL + 8
	movw	%cs, CTX_OUT_SEL + 10
	rdfsbase %rax
	mov	%rax, CTX_OUT_FS_BASE
	rdgsbase %rax
	mov	%rax, CTX_OUT_GS_BASE
	mov	CTX_XCR0, %eax
	xor	%edx, %edx
	xsave64	CTX_OUT_FPU

	/* Also where signal handlers come back to. */
	.globl	diff_native_resume
diff_native_resume:
	xor	%eax, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$DIFF_SS, %eax
	mov	%eax, %ss
	mov	CTX_HOST_FS, %rax
	wrfsbase %rax
	mov	CTX_HOST_GS, %rax
	wrgsbase %rax
	fninit
	ldmxcsr	CTX_MXCSR
	mov	CTX_HOST_RSP, %rsp
	pushq	$2
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size	diff_native_enter, . - diff_native_enter

	/*
	 * Signal handlers: the flags of the code under test may have AC set, which C cannot live with. The rest
	 * stay, since sigreturn does not bring back ID.
	 */
	.globl	diff_native_signal
	.type	diff_native_signal, @function
diff_native_signal:
	pushfq
	andl	$~0x40000, (%rsp)
	popfq
	jmp	diff_native_fault
	.size	diff_native_signal, . - diff_native_signal

	.section .note.GNU-stack, "", @progbits
