/*
 * Guest code of test_smp.c: position-independent, 64-bit, CPL 0. Every piece begins at a symbol and ends at the next one; HLT
 * ends a run. OUT to port 80h gives the host's processor away: vCPUs are more than there are processors. RDI: the barrier's word; R9: how many vCPUs run; RBP: this vCPU's own number.
 */
	.intel_syntax noprefix
	.section .rodata

	.macro piece name
	.globl smp_\name
	.balign 16
smp_\name:
	xor r15d, r15d
	.endm

/* All meet. R15 counts. */
	.macro meet
	add r15, r9
	lock inc qword ptr [rdi]
77:	cmp qword ptr [rdi], r15
	jae 78f
	out 0x80, al
	jmp 77b
78:
	.endm

/* Atomics: RCX rounds on the operand at R8. */
	piece inc
	meet
1:	lock inc qword ptr [r8]
	dec rcx
	jnz 1b
	hlt

	piece xadd
	xor r11d, r11d
	meet
1:	mov eax, 1
	lock xadd qword ptr [r8], rax
	cmp rax, r11            /* what this vCPU sees never goes back */
	jb 2f
	lea r11, [rax + 1]
	dec rcx
	jnz 1b
	hlt
2:	ud2

	piece cmpxchg
	meet
1:	mov rax, qword ptr [r8]
2:	lea rdx, [rax + 1]
	lock cmpxchg qword ptr [r8], rdx
	jne 2b
	dec rcx
	jnz 1b
	hlt

	piece cmpxchg8b
	mov r10, rcx
	meet
1:	mov eax, dword ptr [r8]
	mov edx, dword ptr [r8 + 4]
2:	mov ebx, eax
	mov ecx, edx
	add ebx, 1
	adc ecx, 0
	lock cmpxchg8b qword ptr [r8]
	jne 2b
	dec r10
	jnz 1b
	hlt

/* Both halves count: they are never seen apart. */
	piece cmpxchg16b
	mov r10, rcx
	meet
1:	mov rax, qword ptr [r8]
	mov rdx, qword ptr [r8 + 8]
2:	lea rbx, [rax + 1]
	lea rcx, [rdx + 1]
	lock cmpxchg16b xmmword ptr [r8]
	jne 2b
	cmp rax, rdx
	jne 3f
	dec r10
	jnz 1b
	hlt
3:	ud2

/* A lock by XCHG, which is locked without LOCK; what it guards, at R12, counts by plain instructions. */
	piece xchg
	meet
1:	mov eax, 1
	xchg qword ptr [r8], rax
	test eax, eax
	jz 2f
	out 0x80, al
	jmp 1b
2:	inc qword ptr [r12]
	xor eax, eax
	xchg qword ptr [r8], rax
	dec rcx
	jnz 1b
	hlt

/* A lock by a bit string: bit 70 from R8 - 8 is bit 6 of the operand. */
	piece bts
	mov edx, 70
	meet
1:	lock bts qword ptr [r8 - 8], rdx
	jnc 2f
	out 0x80, al
	jmp 1b
2:	inc qword ptr [r12]
	lock btr qword ptr [r8 - 8], rdx
	jnc 3f
	dec rcx
	jnz 1b
	hlt
3:	ud2

/*
 * Litmus tests: RCX cells of 128 bytes at RDX, the variables at offsets R10 and R11 in each, results (two dwords a cell) at
 * RSI. All meet every 32 cells.
 */
	.macro litmus name
	piece \name
1:	test ecx, 31
	jnz 2f
	meet
2:
	.endm
	.macro next_cell
	add rdx, 128
	add rsi, 8
	dec rcx
	jnz 1b
	hlt
	.endm

	litmus store
	mov dword ptr [rdx + r10], 1
	next_cell

	litmus store2
	mov dword ptr [rdx + r10], 1
	mov dword ptr [rdx + r11], 1
	next_cell

	litmus load2
	mov eax, dword ptr [rdx + r10]
	mov ebx, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	mov dword ptr [rsi + 4], ebx
	next_cell

	litmus sb
	mov dword ptr [rdx + r10], 1
	mov eax, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	next_cell

	litmus sb_mfence
	mov dword ptr [rdx + r10], 1
	mfence
	mov eax, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	next_cell

	litmus sb_lock
	mov dword ptr [rdx + r10], 1
	lock or dword ptr [rsp], 0
	mov eax, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	next_cell

	litmus sb_xchg
	mov eax, 1
	xchg dword ptr [rdx + r10], eax
	mov eax, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	next_cell

	litmus sb_cr3
	mov dword ptr [rdx + r10], 1
	mov rax, cr3
	mov cr3, rax
	mov eax, dword ptr [rdx + r11]
	mov dword ptr [rsi], eax
	next_cell

	litmus lb
	mov eax, dword ptr [rdx + r10]
	mov dword ptr [rdx + r11], 1
	mov dword ptr [rsi], eax
	next_cell

/*
 * The INT3 protocol. R8: the words of struct patch (test_smp.c): 0 begun, 8 done, 16 sync asked for, 24 + 8 * vCPU sync
 * seen, 128 over. R12: the code to patch. R13 (patcher): the same page elsewhere. The version is four times the same byte.
 */
	.macro sync_all /* the others have executed a serializing instruction */
	inc qword ptr [r8 + 16]
	mov rax, qword ptr [r8 + 16]
	mov rdx, r9
88:	dec rdx
	jz 89f
90:	cmp qword ptr [r8 + rdx * 8 + 24], rax
	je 88b
	out 0x80, al
	jmp 90b
89:
	.endm

	piece patcher
	xor ebx, ebx
	meet
1:	add ebx, 0x01010101
	jnc 2f
	mov ebx, 0x01010101
2:	inc qword ptr [r8]
	mov dword ptr [r8 + 136], ebx
	mov byte ptr [r13], 0xcc
	sync_all
	mov dword ptr [r13 + 1], ebx
	sync_all
	mov byte ptr [r13], 0xb8
	sync_all
	mov dword ptr [r8 + 140], ebx
	inc qword ptr [r8 + 8]
	dec rcx
	jnz 1b
	mov qword ptr [r8 + 128], 1
	hlt

/* Every value is that of a version that was in force at some time between before and after the call. */
	piece patched
	xor r14d, r14d
	meet
1:	mov rax, qword ptr [r8 + 16]
	cmp rax, r14
	je 2f
	mov r14, rax
	xor eax, eax
	xor ecx, ecx
	cpuid
	mov qword ptr [r8 + rbp * 8 + 24], r14
2:	mov r10, qword ptr [r8 + 8]
	mov r11d, dword ptr [r8 + 140]
	call r12
	mov esi, dword ptr [r8 + 136]
	mov rdx, qword ptr [r8]
	cmp eax, 0x33       /* INT3's handler: a change was going on */
	je 4f
	cmp eax, r11d       /* the version of before, */
	je 3f
	cmp eax, esi        /* or that of after, */
	je 3f
	sub rdx, r10        /* or one in between */
	cmp rdx, 2
	jb 9f
	movzx ecx, al
	imul ecx, ecx, 0x01010101
	cmp eax, ecx
	jne 9f
3:	cmp qword ptr [r8 + 128], 0
	jne 5f
	inc r13d
	test r13b, r13b
	jnz 1b
	out 0x80, al
	jmp 1b
5:	hlt
4:	cmp rdx, r10
	jne 3b
9:	ud2

/* Skips what is being patched. */
	.globl smp_int3
smp_int3:
	add qword ptr [rsp], 4
	mov eax, 0x33
	iretq

/*
 * Code that is written as data and run by others, again and again. R8: 0 generation, 8 where the code is, 16 its value, 24 + 8
 * * vCPU generation seen. RCX generations; R12: 64 pages for the code. RDX: 0, or 1: who runs it does not serialize, but
 * waits until it sees the new value.
 */
	piece writer
	xor ebx, ebx
	meet
1:	inc rbx
	mov r10d, ebx       /* another page each time, another place in it now and then */
	and r10d, 63
	shl r10d, 12
	mov r11d, ebx
	shr r11d, 4
	and r11d, 0xff0
	or r10d, r11d
	add r10, r12
	mov byte ptr [r10], 0xb8
	mov dword ptr [r10 + 1], ebx
	mov byte ptr [r10 + 5], 0xc3
	mov qword ptr [r8 + 8], r10
	mov qword ptr [r8], rbx
2:	mov rdx, r9
3:	dec rdx
	jz 5f
4:	cmp qword ptr [r8 + rdx * 8 + 24], rbx
	je 3b
	out 0x80, al
	jmp 4b
5:	/* The same place at once: whoever has just run it must see that, too. */
	test ebx, 1
	jz 6f
	inc rbx
	mov dword ptr [r10 + 1], ebx
	mov qword ptr [r8], rbx
	jmp 2b
6:	cmp rbx, rcx
	jb 1b
	hlt

	piece runner
	mov rsi, rcx
	xor r14d, r14d
	meet
1:	mov r10d, 100
2:	pause
	mov r13, qword ptr [r8]
	cmp r13, r14
	jne 3f
	dec r10d
	jnz 2b
	out 0x80, al
	jmp 1b
3:	xor eax, eax
	xor ecx, ecx
	cpuid
	call qword ptr [r8 + 8]
	cmp eax, r13d
	jne 9f
	mov r14, r13
	mov qword ptr [r8 + rbp * 8 + 24], r14
	cmp r14, rsi
	jb 1b
	hlt
9:	ud2

/* One place, rewritten by one aligned store: those who only wait see it some time, and never half of it. */
	piece rewriter
	xor ebx, ebx
	meet
1:	inc ebx
	mov eax, ebx
	shl rax, 8
	or rax, 0xb8
	mov r10, 0xc30000000000
	or rax, r10             /* mov eax, ebx; ret */
	mov qword ptr [r12], rax
	mov rdx, r9
2:	dec rdx
	jz 4f
3:	cmp qword ptr [r8 + rdx * 8 + 24], rbx
	je 2b
	out 0x80, al
	jmp 3b
4:	cmp rbx, rcx
	jb 1b
	hlt

	piece waiter
	xor r14d, r14d
	meet
1:	mov r10d, 100
2:	call r12
	cmp eax, r14d
	jne 3f
	dec r10d
	jnz 2b
	out 0x80, al
	jmp 1b
3:	inc r14d
	cmp eax, r14d
	jne 9f
	mov qword ptr [r8 + rbp * 8 + 24], r14
	cmp r14, rcx
	jb 1b
	hlt
9:	ud2

/*
 * Page-table entries: R8 an entry, R10 the address that it maps, RBP the number (plus 52) of a bit that is this vCPU's own. RCX
 * rounds of: change the bit, drop the translation, touch. The walks set A and D meanwhile; nobody's change gets lost.
 */
	piece pte
	lea rax, [rbp + 52]
	xor ebx, ebx
	meet
1:	lock btc qword ptr [r8], rax
	setc dl
	cmp dl, bl
	jne 9f
	xor bl, 1
	test cl, 3
	jnz 2f
	lock and qword ptr [r8], ~0x60 /* A and D again */
2:	invlpg [r10]
	test cl, 1
	jnz 3f
	inc dword ptr [r10 + rbp * 8]
3:	cmp dword ptr [r10], 0
	dec rcx
	jnz 1b
	hlt
9:	ud2

/* Waits until the page at R10 holds RBX, then RCX: another thread changes the mapping. */
	piece remap
	meet
1:	cmp qword ptr [r10], rbx
	jne 1b
	inc qword ptr [r8 + rbp * 8]
	mov edx, 1000
2:	cmp qword ptr [r10], rcx
	je 3f
	dec edx
	jnz 2b
	out 0x80, al
	mov edx, 1000
	jmp 2b
3:	hlt

	.globl smp_end
smp_end:
	.section .note.GNU-stack,"",@progbits
