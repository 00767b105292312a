/* A store into the running block, in a page that was read-only when the block was made: what it
 * changes reads flags. */
#include "rt/rt.h"
/*
 * Code that is a page table too: the walk for an access sets the A bit in an operand of the block that makes the access.
 * The block goes on to its end, twice round, and must be followed by what was made of the new bytes.
 */
#define WINDOW 0x80000000ul

static void walk_writes_own_block(void)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));
	static const uint8_t code[] = {
		0x49, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, /* 1: mov r8, entry */
		0x49, 0xd3, 0xc1,                   /* rol r9, cl */
		0x4d, 0x31, 0xc1,                   /* xor r9, r8 */
		0x8b, 0x03,                         /* mov eax, [rbx] */
		0xff, 0xca,                         /* dec edx */
		0x75, 0xea,                         /* jnz 1b */
		0xcd, 0xfe,
	};
	uint64_t entry = (word)page_a | P | W, old = pds[1024];
	struct ctx c;

	for (unsigned k = 0; k < 4; k++) {
		unsigned at = 64 + 8 * k * 8;

		zero(page, sizeof(page));
		copy(page + at - 2, code, sizeof(code));
		copy(page + at, &entry, 8);
		pds[1024] = (word)page | P | W;
		flush();
		ctx_init(&c, K64, page + at - 2);
		c.r[9] = 0;
		c.cx = 16;
		c.dx = 3;
		c.bx = WINDOW + at / 8 * 4096;
		run(&c);
		casef("page table within code, %u", k);
		check_eq("vector", trap.vec, DONE);
		check_eq("entry", *(volatile uint64_t *)(page + at), entry | A);
		check_eq("operand", trap.r.r[8], entry | A);
		check_eq("all operands", trap.r.r[9], (entry << 32 | entry >> 32) ^ ((entry | A) << 16) ^ (entry | A));
	}
	pds[1024] = old;
	flush();
}

void guest_main(void)
{
	volatile uint64_t *pdpt = (volatile uint64_t *)pdpt0, *pd = (volatile uint64_t *)table_a;
	const uint8_t *c =
		CODE("mov eax,1; cmp eax,1; mov [rdi], edx; 2: cmp eax,2; nop; movzx eax, bl");
	zero(table_a, 4096);
	pd[0] = P | PS;
	pdpt[6] = (word)pd | P | W;
	__asm__ volatile("mov %%cr0, %%rax; or $0x10000, %%rax; mov %%rax, %%cr0; mov %%cr3, "
			 "%%rax; mov %%rax, %%cr3"
			 :
			 :
			 : "rax", "memory");
	copy(page_b, c, 64);
	for (int k = 0; k < 2; k++) {
		struct ctx x;
		ctx_init(&x, K64, c);
		x.ip = 0x180000000ul + (word)page_b;
		x.di = k ? x.ip + 5 + 3 + 2 : (word)page_a;
		x.dx = 0x90c3940f;
		x.bx = 0;
		run(&x);
		check_eq("vec", trap.vec, DONE);
		check_eq("al", trap.r.ax & 0xff, (word)k);
		pd[0] = P | PS | W;
		__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
	}
	walk_writes_own_block();
}
