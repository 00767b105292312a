/* JMP and CALL through memory at an EIP-relative address, which has 32 bits. */
#include "rt/rt.h"
void guest_main(void)
{
	volatile uint64_t *pdpt = (volatile uint64_t *)pdpt0, *pd = (volatile uint64_t *)table_a;
	static const uint8_t jmp[] = {0x67, 0xff, 0x25, 0, 0, 0, 0},
			     call[] = {0x67, 0xff, 0x15, 0, 0, 0, 0};
	uint64_t one = (word)CODE("mov eax, 1"), two = (word)CODE("mov eax, 2");
	zero(table_a, 4096);
	pd[0] = 0x800000 | P | W | PS;
	pdpt[4] = (word)pd | P | W;
	__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
	for (int k = 0; k < 2; k++) {
		uint8_t *there = (uint8_t *)0x800000 + (word)page_b + k * 64,
			*here = page_b + k * 64;
		struct ctx x;
		row("warm", CODE("mov ecx, 9; 1: call rax; dec ecx; jnz 1b"), .env = K64,
		    .ax = (word)CODE("ret"), .vec = DONE);
		row("warm", CODE("jmp rax"), .env = K64, .ax = one, .vec = DONE, .any_ip = true);
		row("warm", CODE("jmp rax"), .env = K64, .ax = one, .vec = DONE, .any_ip = true);
		copy(there, k ? call : jmp, 7);
		copy(there + 7, &one, 8);
		copy(here + 7, &two, 8);
		ctx_init(&x, K64, here);
		x.ip = 0x100000000ul + (word)here;
		run(&x);
		check_eq("vec", trap.vec, DONE);
		check_eq("ax", trap.r.ax & 15, 2);
		x.ip = 0x100000000ul + (word)here;
	}
}
