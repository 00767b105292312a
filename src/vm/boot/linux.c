/*
 * linux.c - the Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst, zero-page.rst).
 *
 * A bzImage is a setup part (real-mode code, not used here) with a header at 0x1f1, and a
 * protected-mode part: a decompressor around a packed vmlinux. Unpacking on the host and entering
 * vmlinux at its physical entry saves the guest that work (95 million instructions for Debian's lz4
 * payload of 51 MiB, far more for xz). The kernel then runs at its link address: the address
 * randomization that the decompressor does is skipped. The original way, the decompressor's 64-bit
 * entry at +0x200, stays for payloads the host cannot unpack and for who asks.
 */
#include "vm/boot/internal.h"

#include <errno.h>

/* Offsets in the setup header, which are the same in boot_params. */
enum {
	H_SETUP_SECTS = 0x1f1,
	H_BOOT_FLAG = 0x1fe,
	H_JUMP = 0x200,
	H_MAGIC = 0x202,
	H_VERSION = 0x206,
	H_TYPE_OF_LOADER = 0x210,
	H_LOADFLAGS = 0x211,
	H_CODE32_START = 0x214,
	H_RAMDISK_IMAGE = 0x218,
	H_RAMDISK_SIZE = 0x21c,
	H_CMD_LINE_PTR = 0x228,
	H_INITRD_ADDR_MAX = 0x22c,
	H_KERNEL_ALIGNMENT = 0x230,
	H_RELOCATABLE = 0x234,
	H_XLOADFLAGS = 0x236,
	H_CMDLINE_SIZE = 0x238,
	H_PAYLOAD_OFFSET = 0x248,
	H_PAYLOAD_LENGTH = 0x24c,
	H_SETUP_DATA = 0x250,
	H_PREF_ADDRESS = 0x258,
	H_INIT_SIZE = 0x260,
	H_END = 0x290,
	H_MIN = 0x268,
};
/* Other boot_params fields. */
enum { BP_ACPI_RSDP = 0x70, BP_E820_ENTRIES = 0x1e8, BP_E820_TABLE = 0x2d0, BP_SIZE = 4096 };
enum { LOADED_HIGH = 1, XLF_KERNEL_64 = 1 };

#define CMDLINE_DEFAULT 2048u
#define ENTRY_64 0x200 /* of the protected-mode code */

struct setup {
	uint16_t version;
	uint64_t code_off, code_len; /* protected-mode part within the file */
	uint64_t payload_off, payload_len; /* within the file */
	uint64_t pref_address, init_size, alignment;
	uint64_t initrd_max;
	uint32_t cmdline_size;
	bool relocatable;
};

bool linux_is_bzimage(const struct boot_bytes *b)
{
	return bytes_have(b, H_MAGIC, 4) && !memcmp(b->data + H_MAGIC, "HdrS", 4);
}

static int check_version(const struct boot_bytes *b, struct err *err)
{
	unsigned version;

	if (!bytes_have(b, 0, H_MIN))
		return err_set(err, ENOEXEC,
			       "%s: truncated: the Linux boot header does not fit in its %llu "
			       "bytes",
			       b->name, (unsigned long long)b->size);
	if (get_le16(b->data + H_BOOT_FLAG) != 0xaa55)
		return err_set(err, ENOEXEC,
			       "%s: damaged: the boot sector signature is %#x, not 0xaa55", b->name,
			       get_le16(b->data + H_BOOT_FLAG));
	version = get_le16(b->data + H_VERSION);
	if (version < 0x20c)
		return err_set(err, ENOEXEC,
			       "%s: boot protocol %u.%02u is too old: 2.12 or later (Linux 3.8) "
			       "has the 64-bit entry",
			       b->name, version >> 8, version & 0xff);
	if (!(b->data[H_LOADFLAGS] & LOADED_HIGH))
		return err_set(err, ENOEXEC,
			       "%s: a zImage, to be loaded below 1 MiB: a bzImage is needed",
			       b->name);
	if (!(get_le16(b->data + H_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(err, ENOEXEC, "%s: a 32-bit kernel: a 64-bit (x86-64) one is needed",
			       b->name);
	return 0;
}

static int parse_setup(const struct boot_bytes *b, struct setup *s, struct err *err)
{
	const uint8_t *h = b->data;
	unsigned sects;
	int ret = check_version(b, err);

	if (ret < 0)
		return ret;
	sects = h[H_SETUP_SECTS] ? h[H_SETUP_SECTS] : 4; /* 0 means 4: boot.rst */
	s->code_off = (sects + 1) * 512;
	if (s->code_off >= b->size || b->size - s->code_off <= ENTRY_64)
		return err_set(err, ENOEXEC,
			       "%s: truncated: the kernel starts at byte %llu, the file has %llu",
			       b->name, (unsigned long long)s->code_off,
			       (unsigned long long)b->size);
	s->version = get_le16(h + H_VERSION);
	s->code_len = b->size - s->code_off;
	s->payload_off = s->code_off + get_le32(h + H_PAYLOAD_OFFSET);
	s->payload_len = get_le32(h + H_PAYLOAD_LENGTH);
	if (!bytes_have(b, s->payload_off, s->payload_len))
		return err_set(err, ENOEXEC,
			       "%s: truncated: the header says %llu bytes of payload at %llu, the "
			       "file has %llu",
			       b->name, (unsigned long long)s->payload_len,
			       (unsigned long long)s->payload_off, (unsigned long long)b->size);
	s->relocatable = h[H_RELOCATABLE];
	s->pref_address = get_le64(h + H_PREF_ADDRESS);
	s->init_size = get_le32(h + H_INIT_SIZE);
	s->alignment = get_le32(h + H_KERNEL_ALIGNMENT);
	s->initrd_max = (uint64_t)get_le32(h + H_INITRD_ADDR_MAX) + 1;
	s->cmdline_size = get_le32(h + H_CMDLINE_SIZE);
	return 0;
}

/* PML4, PDPT and four page directories that map the first 4 GiB to themselves in 2 MiB pages. */
static int plan_page_tables(struct boot_plan *plan, struct err *err)
{
	uint64_t *t = boot_plan_alloc(plan, 6 * GUEST_PAGE_SIZE, err);

	if (!t)
		return -ENOMEM;
	t[0] = (LOW_PAGE_TABLES + 0x1000) | PTE_P | PTE_W;
	for (unsigned i = 0; i < 4; i++)
		t[512 + i] = (LOW_PAGE_TABLES + 0x2000 + i * 0x1000) | PTE_P | PTE_W;
	for (uint64_t i = 0; i < 4 * 512; i++)
		t[1024 + i] = i << 21 | PTE_P | PTE_W | PTE_PS;
	return boot_plan_add(plan, "page tables", LOW_PAGE_TABLES, t, 6 * GUEST_PAGE_SIZE, 0, err);
}

static void fill_e820(uint8_t *bp, uint64_t ram)
{
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(ram, map);

	bp[BP_E820_ENTRIES] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = bp + BP_E820_TABLE + i * 20;

		put_le64(e, map[i].base);
		put_le64(e + 8, map[i].size);
		put_le32(e + 16, map[i].type);
	}
}

/* bp holds the setup header, if any. initrd_max and cmdline_size are the kernel's limits. */
static int plan_common(struct boot_plan *plan, const struct boot_request *req, uint8_t *bp,
		       uint64_t initrd_max, uint32_t cmdline_size, struct err *err)
{
	uint64_t initrd;
	int ret = boot_plan_add(plan, "boot parameters", LOW_BOOT_PARAMS, bp, BP_SIZE, 0, err);

	if (ret == 0)
		ret = plan_page_tables(plan, err);
	if (ret == 0)
		ret = boot_plan_gdt(plan, err);
	if (ret == 0)
		ret = boot_plan_cmdline(plan, req, "", LOW_CMDLINE,
					min_u64((uint64_t)cmdline_size + 1, CMDLINE_MAX), err);
	if (ret == 0)
		ret = boot_plan_initrd(plan, req, initrd_max, &initrd, err);
	if (ret < 0)
		return ret;
	bp[H_TYPE_OF_LOADER] = 0xff; /* no assigned number */
	put_le32(bp + H_CMD_LINE_PTR, (uint32_t)LOW_CMDLINE);
	put_le32(bp + H_RAMDISK_IMAGE, (uint32_t)initrd);
	put_le32(bp + H_RAMDISK_SIZE, initrd ? (uint32_t)req->initrd.size : 0);
	put_le64(bp + H_SETUP_DATA, 0);
	put_le64(bp + BP_ACPI_RSDP, BOOT_ACPI_BASE);
	fill_e820(bp, req->ram);
	plan->mode = BOOT_CPU_LONG;
	plan->rsi = LOW_BOOT_PARAMS;
	return 0;
}

/* The header ends where the jump at 0x200 goes (boot.rst, "details of header fields"). */
static uint8_t *new_boot_params(struct boot_plan *plan, const struct boot_bytes *b, struct err *err)
{
	uint8_t *bp = boot_plan_alloc(plan, BP_SIZE, err);
	uint64_t end;

	if (bp) {
		end = min_u64(min_u64(H_MAGIC + b->data[H_JUMP + 1], H_END), b->size);
		if (end > H_SETUP_SECTS)
			memcpy(bp + H_SETUP_SECTS, b->data + H_SETUP_SECTS, end - H_SETUP_SECTS);
	}
	return bp;
}

static int plan_elf_kernel(struct boot_plan *plan, const struct boot_bytes *b,
			   const struct elf_image *elf, struct err *err)
{
	int ret;

	if (!elf->is64 || elf->machine != ELF_EM_X86_64)
		return err_set(err, ENOEXEC,
			       "%s: a 32-bit ELF image without a multiboot header: a 64-bit "
			       "(x86-64) kernel is needed",
			       b->name);
	ret = elf_entry(b, elf, &plan->entry, err);
	return ret < 0 ? ret : elf_plan(plan, b, elf, err);
}

int linux_plan_vmlinux(struct boot_plan *plan, const struct boot_request *req,
		       const struct elf_image *elf, struct err *err)
{
	uint8_t *bp = boot_plan_alloc(plan, BP_SIZE, err);
	int ret;

	if (!bp)
		return -ENOMEM;
	/* The header a bzImage would have brought: what the kernel reads of it. */
	put_le16(bp + H_BOOT_FLAG, 0xaa55);
	memcpy(bp + H_MAGIC, "HdrS", 4);
	put_le16(bp + H_VERSION, 0x20f);
	bp[H_LOADFLAGS] = LOADED_HIGH;
	put_le32(bp + H_KERNEL_ALIGNMENT, MIB(16));
	put_le32(bp + H_CMDLINE_SIZE, CMDLINE_DEFAULT - 1);
	put_le32(bp + H_INITRD_ADDR_MAX, 0x7fffffff);
	ret = plan_elf_kernel(plan, &req->kernel, elf, err);
	if (ret == 0)
		ret = plan_common(plan, req, bp, 0x80000000, CMDLINE_DEFAULT - 1, err);
	plan->protocol = "Linux 64-bit (vmlinux)";
	return ret;
}

/* The unpacked size: Linux puts it behind the stream as 32 bits (gzip has it there anyway). */
static int payload_size(const struct boot_plan *plan, const struct boot_bytes *b,
			const struct setup *s, uint64_t *size, struct err *err)
{
	if (s->payload_len < 16)
		return err_set(err, ENOEXEC, "%s: damaged: a payload of %llu bytes", b->name,
			       (unsigned long long)s->payload_len);
	*size = get_le32(b->data + s->payload_off + s->payload_len - 4);
	if (*size < 64)
		return err_set(err, ENOEXEC,
			       "%s: damaged: the payload says it unpacks to %llu bytes", b->name,
			       (unsigned long long)*size);
	if (*size > boot_low_ram_end(plan->ram))
		return err_set(err, EFBIG,
			       "%s: the kernel does not fit: it unpacks to %llu MiB and the "
			       "machine has %llu "
			       "MiB: give it more memory (-m)",
			       b->name, (unsigned long long)*size >> 20,
			       (unsigned long long)plan->ram >> 20);
	return 0;
}

static int plan_unpacked(struct boot_plan *plan, const struct boot_request *req,
			 const struct setup *s, enum unpack_kind kind, struct err *err)
{
	const struct boot_bytes *b = &req->kernel;
	const struct unpack_progress progress = {req->progress, req->progress_ctx,
						 "unpacking the kernel"};
	struct boot_bytes vmlinux = {.name = b->name};
	struct elf_image elf;
	uint8_t *bp, *out;
	int ret = payload_size(plan, b, s, &vmlinux.size, err);

	if (ret < 0)
		return ret;
	bp = new_boot_params(plan, b, err);
	out = boot_plan_alloc(plan, vmlinux.size, err);
	if (!bp || !out)
		return -ENOMEM;
	ret = unpack(kind, b->data + s->payload_off, s->payload_len, out, vmlinux.size, &progress,
		     err);
	if (ret < 0)
		return ret;
	vmlinux.data = out;
	if (!elf_is(&vmlinux))
		return err_set(err, ENOEXEC, "%s: damaged: the payload does not hold an ELF image",
			       b->name);
	ret = elf_parse(&vmlinux, &elf, err);
	if (ret == 0)
		ret = plan_elf_kernel(plan, &vmlinux, &elf, err);
	if (ret == 0)
		ret = plan_common(plan, req, bp, s->initrd_max, s->cmdline_size, err);
	plan->protocol = "Linux 64-bit (payload unpacked on the host)";
	return ret;
}

static int plan_original(struct boot_plan *plan, const struct boot_request *req,
			 const struct setup *s, struct err *err)
{
	const struct boot_bytes *b = &req->kernel;
	uint64_t load = s->relocatable ? s->pref_address : MIB(1);
	uint64_t need = max_u64(s->init_size, s->code_len);
	uint8_t *bp = new_boot_params(plan, b, err);
	int ret;

	if (!bp)
		return -ENOMEM;
	if (load < MIB(1))
		return err_set(err, ENOEXEC,
			       "%s: damaged: it wants to be loaded at %#llx, below 1 MiB", b->name,
			       (unsigned long long)load);
	if (!range_within(load, need, boot_low_ram_end(plan->ram)))
		return err_set(err, EFBIG,
			       "%s: the kernel does not fit: it needs %llu MiB from address %#llx, "
			       "the machine "
			       "has %llu MiB: give it more memory (-m)",
			       b->name, (unsigned long long)(need + MIB(1) - 1) >> 20,
			       (unsigned long long)load, (unsigned long long)plan->ram >> 20);
	ret = boot_plan_add(plan, "kernel", load, b->data + s->code_off, s->code_len, need, err);
	if (ret == 0)
		ret = plan_common(plan, req, bp, s->initrd_max, s->cmdline_size, err);
	put_le32(bp + H_CODE32_START, (uint32_t)load);
	plan->entry = load + ENTRY_64;
	plan->protocol = "Linux 64-bit (its own decompressor)";
	return ret;
}

int linux_plan_bzimage(struct boot_plan *plan, const struct boot_request *req, bool original,
		       struct err *err)
{
	const struct boot_bytes *b = &req->kernel;
	enum unpack_kind kind;
	struct setup s;
	int ret = parse_setup(b, &s, err);

	if (ret == 0)
		ret = boot_bytes_get(b, s.payload_off, s.payload_len, err);
	if (ret < 0)
		return ret;
	kind = unpack_detect(b->data + s.payload_off, s.payload_len);
	if (original || !unpack_supported(kind))
		return plan_original(plan, req, &s, err);
	return plan_unpacked(plan, req, &s, kind, err);
}
