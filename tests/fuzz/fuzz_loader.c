/*
 * fuzz_loader.c - libFuzzer harness for the kernel loaders: any bytes, every way to boot.
 *
 * The first byte picks the loader and whether the rest is also taken as an initrd; the rest is the file.
 * A plan that comes out is checked for what boot_plan_load() relies on.
 */
#include <stdlib.h>

#include "vm/boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_plan(const struct boot_plan *plan)
{
	volatile uint8_t sum = 0;

	for (unsigned i = 0; i < plan->n_pieces; i++) {
		const struct boot_piece *p = &plan->piece[i];

		if (p->len > p->mem_len || !range_within(p->gpa, p->mem_len, plan->ram))
			abort();
		for (unsigned j = 0; j < i; j++) {
			const struct boot_piece *q = &plan->piece[j];

			if (p->gpa < q->gpa + q->mem_len && q->gpa < p->gpa + p->mem_len)
				abort();
		}
		/* Its bytes are there: the sanitizer sees to it. */
		if (p->len)
			sum = (uint8_t)(sum + p->data[0] + p->data[p->len / 2] + p->data[p->len - 1]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_request req = {.cmdline = "x", .ram = MIB(32)};
	struct boot_plan plan;
	struct err err = {""};

	if (size < 1)
		return 0;
	req.how = (enum vm_boot)(data[0] % (VM_BOOT_MULTIBOOT + 1));
	req.kernel = (struct boot_bytes){data + 1, size - 1, "kernel", NULL};
	if (data[0] & 0x80)
		req.initrd = (struct boot_bytes){data + 1, size - 1, "initrd", NULL};
	if (boot_plan_make(&plan, &req, &err) < 0) {
		if (!err.text[0])
			abort();
		return 0;
	}
	check_plan(&plan);
	boot_plan_free(&plan);
	return 0;
}
