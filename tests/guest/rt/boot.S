/*
 * Entry from a multiboot 1 loader: 32-bit protected mode, paging off. Leaves in the guest's own mode
 * (32-bit without paging, or 64-bit with the identity map of rt.h) with gdt loaded, and calls guest_start().
 */
	.section .mb, "a"
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.globl start
start:
	cli
	cld
	mov $stack_top, %esp
	lgdt gdtr
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
#ifdef __x86_64__
	ljmp $0x18, $1f
1:	call make_tables
	mov $0x20, %eax			/* CR4.PAE */
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x901, %eax			/* EFER.NXE, LME, SCE */
	wrmsr
	mov $0x80010031, %eax		/* CR0.PG, WP, NE, ET, PE */
	mov %eax, %cr0
	ljmp $0x08, $2f
	.code64
2:	mov $stack_top, %rsp
	call guest_start
	.code32
/* 0..4 GiB by supervisor 2 MiB pages; the first 4 MiB again, for users, at UBASE. */
make_tables:
	movl $pdpt0 + 7, pml4
	mov $pds + 7, %eax
	xor %ecx, %ecx
3:	mov %eax, pdpt0(, %ecx, 8)
	add $0x1000, %eax
	inc %ecx
	cmp $4, %ecx
	jne 3b
	mov $0x83, %eax
	xor %ecx, %ecx
4:	mov %eax, pds(, %ecx, 8)
	add $0x200000, %eax
	inc %ecx
	cmp $2048, %ecx
	jne 4b
	movl $0x87, pds + 256 * 8
	movl $0x200087, pds + 257 * 8
	ret
#else
	ljmp $0x08, $1f
1:	mov $0x31, %eax			/* CR0.NE, ET, PE */
	mov %eax, %cr0
	xor %eax, %eax
	mov %eax, %cr4
	call guest_start
#endif
5:	hlt
	jmp 5b

	.data
	.align 8
	.globl gdtr
	.word 0, 0, 0
gdtr:	.word 511
	.long gdt, 0

	.bss
	.balign 4096
#ifdef __x86_64__
	.globl pml4, pdpt0, pds
pml4:	.skip 4096
pdpt0:	.skip 4096
pds:	.skip 4 * 4096
#endif
	.skip 16384
stack_top:
	.section .note.GNU-stack, "", @progbits
