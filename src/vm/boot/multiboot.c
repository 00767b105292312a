/*
 * multiboot.c - the Multiboot Specification version 0.6.96 ("multiboot 1"), section numbers below
 * are its. The image is ELF, or describes itself by addresses in the header ("a.out kludge", flag
 * bit 16).
 */
#include "vm/boot/internal.h"

#include <errno.h>
#include <stdio.h>

#define MB_MAGIC 0x1badb002u
#define MB_LOADED 0x2badb002u
#define MB_SEARCH 8192u /* 3.1: the header lies within the first 8 KiB, 4-aligned */

enum { MB_ADDRESSES = 1 << 16, MB_REQUIRED = 0xffff, MB_KNOWN = 0x7 };
/* 3.3: flags of the information structure. */
enum {
	MBI_MEM = 1 << 0,
	MBI_CMDLINE = 1 << 2,
	MBI_MODS = 1 << 3,
	MBI_MMAP = 1 << 6,
	MBI_NAME = 1 << 9
};
/* Layout of our page of tables. */
enum {
	OFF_MODS = 0x80,
	OFF_NAME = 0xa0,
	OFF_MOD_NAME = 0xb0,
	OFF_MMAP = 0x200,
	OFF_CMDLINE = 0x400
};

bool multiboot_find(const struct boot_bytes *b, uint64_t *off)
{
	for (uint64_t o = 0; o + 12 <= MB_SEARCH && bytes_have(b, o, 12); o += 4) {
		const uint8_t *h = b->data + o;

		if (get_le32(h) == MB_MAGIC &&
		    get_le32(h) + get_le32(h + 4) + get_le32(h + 8) == 0) {
			*off = o;
			return true;
		}
	}
	return false;
}

/* 3.1.3: where the header itself is to be gives the file offset of everything else. */
static int plan_kludge(struct boot_plan *plan, const struct boot_bytes *b, uint64_t off,
		       struct err *err)
{
	const uint8_t *h = b->data + off;
	uint64_t header, load, load_end, bss_end, start, len;

	if (!bytes_have(b, off, 32))
		return err_set(err, ENOEXEC, "%s: truncated: the multiboot header does not fit",
			       b->name);
	header = get_le32(h + 12);
	load = get_le32(h + 16);
	load_end = get_le32(h + 20);
	bss_end = get_le32(h + 24);
	if (load > header || header - load > off)
		return err_set(err, ENOEXEC,
			       "%s: damaged: the multiboot load address %#llx does not agree with "
			       "the header's, %#llx",
			       b->name, (unsigned long long)load, (unsigned long long)header);
	start = off - (header - load);
	len = load_end ? load_end - load : b->size - start;
	if ((load_end && load_end < load) || !bytes_have(b, start, len))
		return err_set(err, ENOEXEC,
			       "%s: truncated: the multiboot header wants %llu bytes from offset "
			       "%llu, the file "
			       "has %llu",
			       b->name, (unsigned long long)len, (unsigned long long)start,
			       (unsigned long long)b->size);
	if (bss_end && bss_end < load + len)
		return err_set(err, ENOEXEC,
			       "%s: damaged: the multiboot bss ends at %#llx, inside the data",
			       b->name, (unsigned long long)bss_end);
	plan->entry = get_le32(h + 28);
	if (plan->entry < load || plan->entry - load >= len)
		return err_set(err, ENOEXEC,
			       "%s: damaged: the multiboot entry point %#llx is outside the image",
			       b->name, (unsigned long long)plan->entry);
	return boot_plan_add(plan, "multiboot image", load, b->data + start, len,
			     bss_end ? bss_end - load : len, err);
}

static int plan_image(struct boot_plan *plan, const struct boot_bytes *b, uint64_t off,
		      struct err *err)
{
	uint32_t flags = get_le32(b->data + off + 4);
	struct elf_image elf;
	int ret;

	if (flags & MB_REQUIRED & ~MB_KNOWN)
		return err_set(err, ENOEXEC,
			       "%s: the multiboot header requires features that are not offered "
			       "(flags %#x)",
			       b->name, flags & MB_REQUIRED & ~MB_KNOWN);
	if (flags & MB_ADDRESSES)
		return plan_kludge(plan, b, off, err);
	if (!elf_is(b))
		return err_set(err, ENOEXEC,
			       "%s: a multiboot image that is neither ELF nor gives its load "
			       "addresses",
			       b->name);
	ret = elf_parse(b, &elf, err);
	if (ret == 0)
		ret = elf_entry(b, &elf, &plan->entry, err);
	return ret < 0 ? ret : elf_plan(plan, b, &elf, err);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* 3.3: each entry's size field does not count itself. */
static unsigned fill_mmap(uint8_t *p, uint64_t ram)
{
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(ram, map);

	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = p + i * 24;

		put_le32(e, 20);
		put_le64(e + 4, map[i].base);
		put_le64(e + 12, map[i].size);
		put_le32(e + 20, map[i].type);
	}
	return n * 24;
}

static void fill_info(uint8_t *p, const struct boot_request *req, uint64_t initrd)
{
	uint32_t flags = MBI_MEM | MBI_CMDLINE | MBI_MMAP | MBI_NAME;

	put_le32(p + 4, BOOT_EBDA >> 10);
	put_le32(p + 8, (uint32_t)((boot_low_ram_end(req->ram) - MIB(1)) >> 10));
	put_le32(p + 16, LOW_MULTIBOOT + OFF_CMDLINE);
	put_le32(p + 44, fill_mmap(p + OFF_MMAP, req->ram));
	put_le32(p + 48, LOW_MULTIBOOT + OFF_MMAP);
	put_le32(p + 64, LOW_MULTIBOOT + OFF_NAME);
	strcpy((char *)p + OFF_NAME, "ringer");
	if (initrd) {
		flags |= MBI_MODS;
		put_le32(p + 20, 1);
		put_le32(p + 24, LOW_MULTIBOOT + OFF_MODS);
		put_le32(p + OFF_MODS, (uint32_t)initrd);
		put_le32(p + OFF_MODS + 4, (uint32_t)(initrd + req->initrd.size));
		put_le32(p + OFF_MODS + 8, LOW_MULTIBOOT + OFF_MOD_NAME);
		snprintf((char *)p + OFF_MOD_NAME, OFF_MMAP - OFF_MOD_NAME, "%s",
			 base_name(req->initrd.name));
	}
	put_le32(p, flags);
}

int multiboot_plan(struct boot_plan *plan, const struct boot_request *req, struct err *err)
{
	const struct boot_bytes *b = &req->kernel;
	uint64_t off, initrd;
	uint8_t *info;
	char argv0[256];
	int ret;

	if (!multiboot_find(b, &off))
		return err_set(err, ENOEXEC, "%s: has no multiboot header in its first 8 KiB",
			       b->name);
	info = boot_plan_alloc(plan, OFF_CMDLINE, err);
	if (!info)
		return -ENOMEM;
	/* By custom the command line starts with the image's name. */
	snprintf(argv0, sizeof(argv0), "%s ", base_name(b->name));
	ret = plan_image(plan, b, off, err);
	if (ret == 0)
		ret = boot_plan_add(plan, "multiboot information", LOW_MULTIBOOT, info, OFF_CMDLINE,
				    0, err);
	if (ret == 0)
		ret = boot_plan_cmdline(plan, req, argv0, LOW_MULTIBOOT + OFF_CMDLINE,
					LOW_MULTIBOOT_SIZE - OFF_CMDLINE, err);
	if (ret == 0)
		ret = boot_plan_gdt(plan, err);
	if (ret == 0)
		ret = boot_plan_initrd(plan, req, BOOT_PCI_HOLE, &initrd, err);
	if (ret < 0)
		return ret;
	fill_info(info, req, initrd);
	plan->mode = BOOT_CPU_PROTECTED;
	plan->rax = MB_LOADED;
	plan->rbx = LOW_MULTIBOOT;
	plan->protocol = "multiboot";
	return 0;
}
