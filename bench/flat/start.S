/*
 * start.S - from multiboot 1 (32-bit protected mode, paging off) to 64-bit C with SSE, the first 1 GiB mapped
 * one to one in 2 MiB pages. The image is flat: linked, loaded and entered at 1 MiB.
 */
	.section .start, "ax"
	.code32
	.globl start
start:
	jmp	enter
	.balign	4
	/* Multiboot header with the address fields (flag 16): magic, flags, checksum, header, load, end, bss end, entry */
header:
	.long	0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
	.long	header, start, image_end, bss_end, start
enter:
	cli
	mov	$stack_end, %esp
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	xor	%eax, %eax
	rep stosb
	/* pml4[0] -> pdpt, pdpt[0] -> pd, pd[i] = 2 MiB * i, present, writable, large */
	movl	$pdpt + 3, pml4
	movl	$pd + 3, pdpt
	mov	$0x83, %eax
	mov	$pd, %edi
	mov	$512, %ecx
1:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	1b
	mov	$0x6a0, %eax		/* CR4: PAE, PGE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER.LME */
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	$0x80010033, %eax	/* CR0: PG, WP, NE, ET, MP, PE */
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$8, $long_mode
	.code64
long_mode:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	fninit
	call	guest_main
2:	hlt
	jmp	2b

	.balign	8
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt

	.bss
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4096
	.skip	65536
stack_end:
	.section .note.GNU-stack, "", @progbits
