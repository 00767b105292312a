/*
 * pvh.c - the PVH direct boot ABI (Xen, docs/misc/pvh.pandoc;
 * xen/include/public/arch-x86/hvm/start_info.h): an ELF note names a 32-bit entry point, and EBX
 * points to a start info structure.
 */
#include "vm/boot/internal.h"

#include <errno.h>

enum {
	START_INFO_SIZE = 56, MODULE_SIZE = 32, MEMMAP_SIZE = 24,
	OFF_MODULE = 64, OFF_MEMMAP = 128, PVH_PAGE = 4096,
};
#define START_MAGIC 0x336ec578u

static void fill_start_info(uint8_t *p, const struct boot_request *req, uint64_t initrd)
{
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(req->ram, map);

	put_le32(p, START_MAGIC);
	put_le32(p + 4, 1); /* version 1: with a memory map */
	put_le64(p + 24, LOW_CMDLINE);
	put_le64(p + 32, BOOT_ACPI_BASE);
	put_le64(p + 40, LOW_BOOT_PARAMS + OFF_MEMMAP);
	put_le32(p + 48, n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = p + OFF_MEMMAP + i * MEMMAP_SIZE;

		put_le64(e, map[i].base);
		put_le64(e + 8, map[i].size);
		put_le32(e + 16, map[i].type);
	}
	if (initrd) {
		put_le32(p + 12, 1);
		put_le64(p + 16, LOW_BOOT_PARAMS + OFF_MODULE);
		put_le64(p + OFF_MODULE, initrd);
		put_le64(p + OFF_MODULE + 8, req->initrd.size);
	}
}

/* The note holds the entry as 4 bytes or, for 64-bit images, sometimes 8. */
static int pvh_entry(const struct boot_bytes *b, const struct elf_image *elf, uint64_t *entry,
		     struct err *err)
{
	struct boot_bytes desc;

	if (!elf_note(b, elf, "Xen", XEN_NOTE_PHYS32_ENTRY, &desc))
		return err_set(err, ENOEXEC,
			       "%s: has no PVH entry point (ELF note Xen %d): boot it another way",
			       b->name, XEN_NOTE_PHYS32_ENTRY);
	if (desc.size != 4 && desc.size != 8)
		return err_set(err, ENOEXEC, "%s: damaged: the PVH note has %llu bytes, not 4 or 8",
			       b->name, (unsigned long long)desc.size);
	*entry = desc.size == 4 ? get_le32(desc.data) : get_le64(desc.data);
	for (unsigned i = 0; i < elf->n; i++) {
		const struct elf_segment *s = &elf->seg[i];

		if (s->type == ELF_PT_LOAD && *entry >= s->paddr && *entry - s->paddr < s->filesz)
			return 0;
	}
	return err_set(err, ENOEXEC,
		       "%s: damaged: the PVH entry point %#llx is outside every segment", b->name,
		       (unsigned long long)*entry);
}

int pvh_plan(struct boot_plan *plan, const struct boot_request *req, const struct elf_image *elf,
	     struct err *err)
{
	uint8_t *info = boot_plan_alloc(plan, PVH_PAGE, err);
	uint64_t initrd;
	int ret;

	if (!info)
		return -ENOMEM;
	ret = pvh_entry(&req->kernel, elf, &plan->entry, err);
	if (ret == 0)
		ret = elf_plan(plan, &req->kernel, elf, err);
	if (ret == 0)
		ret = boot_plan_add(plan, "start info", LOW_BOOT_PARAMS, info, PVH_PAGE, 0, err);
	if (ret == 0)
		ret = boot_plan_gdt(plan, err);
	if (ret == 0)
		ret = boot_plan_cmdline(plan, req, "", LOW_CMDLINE, CMDLINE_MAX, err);
	if (ret == 0)
		ret = boot_plan_initrd(plan, req, BOOT_PCI_HOLE, &initrd, err);
	if (ret < 0)
		return ret;
	fill_start_info(info, req, initrd);
	plan->mode = BOOT_CPU_PROTECTED;
	plan->rbx = LOW_BOOT_PARAMS;
	plan->protocol = "PVH";
	return 0;
}
