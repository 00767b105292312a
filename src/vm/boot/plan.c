/* plan.c - building a boot plan: picking the loader, and pieces of guest memory, checked. */
#include "vm/boot/internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

void *boot_plan_alloc(struct boot_plan *plan, size_t len, struct err *err)
{
	void *p;

	if (plan->n_buffers == BOOT_BUFFERS) {
		err_set(err, ENOMEM, "too many boot buffers");
		return NULL;
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		err_set(err, ENOMEM, "no memory for %zu bytes of boot data", len);
		return NULL;
	}
	plan->buffer[plan->n_buffers].p = p;
	plan->buffer[plan->n_buffers++].len = len;
	return p;
}

void boot_plan_free(struct boot_plan *plan)
{
	for (unsigned i = 0; i < plan->n_buffers; i++)
		munmap(plan->buffer[i].p, plan->buffer[i].len);
	memset(plan, 0, sizeof(*plan));
}

/* Ranges of nonzero length; neither wraps, both having been checked against RAM. */
static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static bool in_low_ram(const struct boot_plan *plan, uint64_t gpa, uint64_t len)
{
	uint64_t end = boot_low_ram_end(plan->ram);

	if (range_within(gpa, len, BOOT_LOW_END))
		return true;
	return gpa >= BOOT_HIGH_BIOS && range_within(gpa, len, end);
}

int boot_plan_add(struct boot_plan *plan, const char *what, uint64_t gpa, const void *data,
		  uint64_t len, uint64_t mem_len, struct err *err)
{
	mem_len = max_u64(len, mem_len);
	if (mem_len == 0)
		return 0;
	if (!in_low_ram(plan, gpa, mem_len))
		return err_set(
			err, EFBIG,
			"the %s needs %llu KiB at %#llx, which is not RAM in a machine of %llu MiB"
			": give it more memory (-m)",
			what, (unsigned long long)mem_len >> 10, (unsigned long long)gpa,
			(unsigned long long)plan->ram >> 20);
	for (unsigned i = 0; i < plan->n_pieces; i++) {
		const struct boot_piece *p = &plan->piece[i];

		if (overlap(gpa, mem_len, p->gpa, p->mem_len))
			return err_set(err, ENOEXEC,
				       "the %s at %#llx..%#llx overlaps the %s at %#llx..%#llx",
				       what, (unsigned long long)gpa,
				       (unsigned long long)(gpa + mem_len), p->what,
				       (unsigned long long)p->gpa,
				       (unsigned long long)(p->gpa + p->mem_len));
	}
	if (plan->n_pieces == BOOT_PIECES)
		return err_set(err, ENOEXEC, "more than %d pieces to load", BOOT_PIECES);
	plan->piece[plan->n_pieces++] = (struct boot_piece){
		.what = what, .gpa = gpa, .len = len, .mem_len = mem_len, .data = data};
	return 0;
}

int boot_plan_find_high(const struct boot_plan *plan, uint64_t len, uint64_t limit, uint64_t *gpa)
{
	uint64_t top = min_u64(limit, boot_low_ram_end(plan->ram));
	bool moved;

	do {
		moved = false;
		if (top < MIB(1) || len > top - MIB(1))
			return -EFBIG;
		*gpa = align_down(top - len, GUEST_PAGE_SIZE);
		if (*gpa < MIB(1))
			return -EFBIG;
		for (unsigned i = 0; i < plan->n_pieces; i++) {
			const struct boot_piece *p = &plan->piece[i];

			/* top only ever falls, and no piece can stop it twice. */
			if (overlap(*gpa, max_u64(len, 1), p->gpa, p->mem_len)) {
				top = p->gpa;
				moved = true;
			}
		}
	} while (moved);
	return 0;
}

int boot_plan_initrd(struct boot_plan *plan, const struct boot_request *req, uint64_t limit,
		     uint64_t *gpa, struct err *err)
{
	const struct boot_bytes *b = &req->initrd;

	*gpa = 0;
	if (!b->data)
		return 0;
	if (boot_plan_find_high(plan, b->size, limit, gpa) < 0)
		return err_set(err, EFBIG,
			       "%s: the initrd's %llu KiB do not fit beside the kernel in a "
			       "machine of %llu "
			       "MiB (below %#llx): give it more memory (-m)",
			       b->name, (unsigned long long)b->size >> 10,
			       (unsigned long long)plan->ram >> 20,
			       (unsigned long long)min_u64(limit, boot_low_ram_end(plan->ram)));
	return boot_plan_add(plan, "initrd", *gpa, b->data, b->size, b->size, err);
}

int boot_plan_cmdline(struct boot_plan *plan, const struct boot_request *req, const char *prefix,
		      uint64_t gpa, uint64_t room, struct err *err)
{
	const char *cmdline = req->cmdline ? req->cmdline : "";
	size_t skip = strlen(prefix), len = strlen(cmdline);
	char *buf;

	if (skip + len + 1 > room)
		return err_set(err, EINVAL,
			       "the command line has %zu bytes, this kernel takes at most %llu",
			       skip + len, (unsigned long long)room - 1);
	buf = boot_plan_alloc(plan, skip + len + 1, err);
	if (!buf)
		return -ENOMEM;
	memcpy(buf, prefix, skip);
	memcpy(buf + skip, cmdline, len + 1);
	return boot_plan_add(plan, "command line", gpa, buf, skip + len + 1, skip + len + 1, err);
}

static const uint64_t boot_gdt[] = {
	0,
	0x00cf9b000000ffff, /* 0x08: 32-bit code, flat */
	0x00af9b000000ffff, /* 0x10: 64-bit code */
	0x00cf93000000ffff, /* 0x18: data, flat */
	0x00008b0000000067, /* 0x20: busy TSS at 0, for the architecture's sake */
	0,
};

int boot_plan_gdt(struct boot_plan *plan, struct err *err)
{
	return boot_plan_add(plan, "GDT", LOW_GDT, boot_gdt, sizeof(boot_gdt), sizeof(boot_gdt),
			     err);
}

static int plan_elf(struct boot_plan *plan, const struct boot_request *req, struct err *err)
{
	struct boot_bytes os, entry;
	struct elf_image elf;
	int ret = elf_parse(&req->kernel, &elf, err);
	bool pvh, is_linux;

	if (ret < 0)
		return ret;
	pvh = elf_note(&req->kernel, &elf, "Xen", XEN_NOTE_PHYS32_ENTRY, &entry);
	is_linux = elf_note(&req->kernel, &elf, "Xen", XEN_NOTE_GUEST_OS, &os) && os.size >= 5 &&
		   !memcmp(os.data, "linux", 5);
	if (req->how == VM_BOOT_PVH)
		return pvh_plan(plan, req, &elf, err);
	if (req->how == VM_BOOT_AUTO && pvh && !is_linux)
		return pvh_plan(plan, req, &elf, err);
	return linux_plan_vmlinux(plan, req, &elf, err);
}

static int plan_any(struct boot_plan *plan, const struct boot_request *req, struct err *err)
{
	const struct boot_bytes *k = &req->kernel;
	bool linux_wanted = req->how == VM_BOOT_LINUX || req->how == VM_BOOT_LINUX_ORIGINAL;
	uint64_t off;

	if (req->how == VM_BOOT_MULTIBOOT)
		return multiboot_plan(plan, req, err);
	if (linux_is_bzimage(k)) {
		if (req->how == VM_BOOT_PVH)
			return err_set(
				err, ENOEXEC,
				"%s: a bzImage has no PVH entry point: boot it as Linux, or give "
				"the vmlinux",
				k->name);
		return linux_plan_bzimage(plan, req, req->how == VM_BOOT_LINUX_ORIGINAL, err);
	}
	if (req->how == VM_BOOT_AUTO && multiboot_find(k, &off))
		return multiboot_plan(plan, req, err);
	if (elf_is(k) && req->how == VM_BOOT_LINUX_ORIGINAL)
		return err_set(err, ENOEXEC,
			       "%s: an ELF image has no decompressor of its own: boot it as Linux",
			       k->name);
	if (elf_is(k))
		return plan_elf(plan, req, err);
	if (linux_wanted && multiboot_find(k, &off))
		return err_set(err, ENOEXEC, "%s: a multiboot image, not a Linux kernel", k->name);
	return boot_refuse(k, err);
}

int boot_bytes_get(const struct boot_bytes *b, uint64_t off, uint64_t len, struct err *err)
{
	return b->file && len ? boot_file_get(b->file, off, len, err) : 0;
}

/* Pieces whose bytes lie in an open file come from there. */
static void bind_pieces(struct boot_plan *plan, struct boot_file *f)
{
	for (unsigned i = 0; f && f->open && i < plan->n_pieces; i++) {
		struct boot_piece *p = &plan->piece[i];

		if (!p->len || p->file || p->data < f->data || p->data >= f->data + f->size)
			continue;
		p->file = f;
		p->off = (uint64_t)(p->data - f->data);
		p->data = NULL;
	}
}

int boot_plan_make(struct boot_plan *plan, const struct boot_request *req, struct err *err)
{
	struct err why = {""};
	int ret;

	memset(plan, 0, sizeof(*plan));
	plan->ram = req->ram;
	ret = boot_bytes_get(&req->kernel, 0, min_u64(req->kernel.size, BOOT_HEAD), &why);
	if (ret == 0)
		ret = plan_any(plan, req, &why);
	if (ret < 0) {
		size_t n = strlen(req->kernel.name);

		/* Some reasons come from places that know no file names. */
		if (strncmp(why.text, req->kernel.name, n) || why.text[n] != ':')
			if (!req->initrd.name || strncmp(why.text, req->initrd.name,
							 strlen(req->initrd.name)))
				err_prefix(&why, "%.100s", req->kernel.name);
		boot_plan_free(plan);
		return err_set(err, -ret, "%s", why.text);
	}
	bind_pieces(plan, req->kernel.file);
	bind_pieces(plan, req->initrd.file);
	return 0;
}
