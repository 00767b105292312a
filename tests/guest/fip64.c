/* Host addresses stay hidden: FIP as a guest loaded it comes back as it was, wherever the monitor
 * keeps its code. */
#include "rt/rt.h"

static _Alignas(64) uint8_t img[512];
static uint64_t probe(uint64_t ip)
{
	*(uint64_t *)(img + 8) = ip;
	__asm__ volatile("fxrstor64 %0; fxsave64 %0" : "+m"(img));
	return *(uint64_t *)(img + 8);
}
void guest_main(void)
{
	__asm__ volatile("fninit; fxsave64 %0" : "=m"(img));
	unsigned n = 0;
	check_eq("plain", probe(0x123456789000), 0x123456789000);
	for (uint64_t a = 0x7fffffff0000; a > 0x7f0000000000; a -= 0x4000000, n++)
		if (probe(a) != a) {
			print("host code cache is near %lx after %u guesses\n", a, n);
			check(false, "found");
			uint64_t top = a;
			while (probe(top + 4096) != top + 4096)
				top += 4096;
			print("its end: %lx\n", top + 4096);
			return;
		}
	check(true, "not found");
}
