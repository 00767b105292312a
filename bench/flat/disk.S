/*
 * disk.S - boot sector for a PC without multiboot: reads the flat image that follows on the disk, goes to 32-bit
 * protected mode, moves it to 1 MiB and jumps there. SECTORS (at most 127: one call, below 64 KiB) comes from
 * the command line.
 */
	.code16
	.globl boot
boot:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0x7c00, %sp
	sti
	mov	$packet, %si		/* int 13h, AH=42h: extended read; DL is the BIOS's */
	mov	$0x42, %ah
	int	$0x13
	jc	fail
	cli
	in	$0x92, %al		/* A20 */
	or	$2, %al
	and	$0xfe, %al
	out	%al, $0x92
	lgdt	gdt_pointer
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$8, $protected
fail:	hlt
	jmp	fail
	.code32
protected:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x10000, %esi
	mov	$0x100000, %edi
	mov	$SECTORS * 128, %ecx
	rep movsl
	mov	$0x2badb002, %eax
	mov	$0x100000, %ecx
	jmp	*%ecx

	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt
packet:	.byte	16, 0
	.word	SECTORS
	.word	0, 0x1000		/* to 1000:0000 */
	.quad	1			/* from the second sector */
	.org	510
	.word	0xaa55
