/* A store into the running block, in a page that was read-only when the block was made: what it
 * changes reads flags. */
#include "rt/rt.h"
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
}
