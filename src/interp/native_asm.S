/*
 * int native_call_asm(struct vcpu *v (rdi), void *mem (rsi), void *thunk (rdx), uint64_t *rsp (rcx))
 *
 * Thunks use every general register freely, so all that the ABI wants kept is saved here; the stack pointer goes
 * to *rsp (in the vCPU), where the thunk finds it after borrowing RSP and the signal handler after a fault.
 */
	.text
	.globl native_call_asm
	.type native_call_asm, @function
native_call_asm:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rcx)
	call *%rdx
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
	.size native_call_asm, . - native_call_asm

/* Where the signal handler resumes, with RSP = the saved one. */
	.globl native_fault_exit
	.type native_fault_exit, @function
native_fault_exit:
	mov $-1, %eax
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	cld
	ret
	.size native_fault_exit, . - native_fault_exit
	.section .note.GNU-stack,"",@progbits
