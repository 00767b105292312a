/* internal.h - what the loaders share: little-endian reads, planning helpers, the ELF view. */
#ifndef RINGER_VM_BOOT_INTERNAL_H
#define RINGER_VM_BOOT_INTERNAL_H

#include <string.h>

#include "vm/boot/boot.h"

/* Low memory used by the loaders themselves; all of it is free for the guest after entry. */
#define LOW_GDT 0x500ULL
#define LOW_BOOT_PARAMS 0x7000ULL  /* Linux zero page, PVH start info or multiboot info */
#define LOW_STACK_TOP 0x8ff0ULL
#define LOW_PAGE_TABLES 0x9000ULL  /* PML4, PDPT, four PDs: 6 pages */
#define LOW_CMDLINE 0x20000ULL
#define CMDLINE_MAX 0x10000ULL
/* Multiboot images may be linked anywhere above 1 MiB and some below: their tables go high. */
#define LOW_MULTIBOOT 0x90000ULL
#define LOW_MULTIBOOT_SIZE 0xf000ULL

static inline uint16_t get_le16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t get_le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t get_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void put_le16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void put_le64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* Whether the file has [off, off+len). */
static inline bool bytes_have(const struct boot_bytes *b, uint64_t off, uint64_t len)
{
	return range_within(off, len, b->size);
}

/* Before data[off..off+len), which the file has, is looked at; the first BOOT_HEAD bytes are there from the start. */
#define BOOT_HEAD KIB(64)
int boot_bytes_get(const struct boot_bytes *b, uint64_t off, uint64_t len, struct err *err) must_check;

/* Zeroed memory that the plan frees; NULL with err set. */
void *boot_plan_alloc(struct boot_plan *plan, size_t len, struct err *err) must_check;
/*
 * Highest page-aligned room for len bytes at or above 1 MiB, below `limit` and the end of low RAM,
 * clear of every piece. -EFBIG when there is none.
 */
int boot_plan_find_high(const struct boot_plan *plan, uint64_t len, uint64_t limit,
			uint64_t *gpa) must_check;
/* Adds the request's initrd high below limit; *gpa and *size are 0 without one. */
int boot_plan_initrd(struct boot_plan *plan, const struct boot_request *req, uint64_t limit,
		     uint64_t *gpa, struct err *err) must_check;
/* Adds [prefix] + the command line, NUL-terminated, at gpa; room includes the NUL. */
int boot_plan_cmdline(struct boot_plan *plan, const struct boot_request *req, const char *prefix,
		      uint64_t gpa, uint64_t room, struct err *err) must_check;
/* Adds the GDT that the entry states refer to. */
int boot_plan_gdt(struct boot_plan *plan, struct err *err) must_check;

#define ELF_SEGMENTS 64
enum { ELF_PT_LOAD = 1, ELF_PT_INTERP = 3, ELF_PT_NOTE = 4, ELF_PT_TLS = 7 };
enum { ELF_EM_386 = 3, ELF_EM_X86_64 = 62 };

struct elf_segment {
	uint32_t type;
	uint64_t off, vaddr, paddr, filesz, memsz, align;
};

struct elf_image {
	bool is64;
	uint16_t machine;
	uint64_t entry;
	unsigned n;
	struct elf_segment seg[ELF_SEGMENTS];
};

bool elf_is(const struct boot_bytes *b);
/* Checks the file as an executable x86 ELF image: every segment's bytes are in the file then. */
int elf_parse(const struct boot_bytes *b, struct elf_image *elf, struct err *err) must_check;
/* Plans the PT_LOAD segments at their physical addresses. */
int elf_plan(struct boot_plan *plan, const struct boot_bytes *b, const struct elf_image *elf,
	     struct err *err) must_check;
/* Physical address of the entry point: e_entry, translated when it is a virtual one. */
int elf_entry(const struct boot_bytes *b, const struct elf_image *elf, uint64_t *entry,
	      struct err *err) must_check;
/* Finds a note by owner and type; its descriptor lies within the file. */
bool elf_note(const struct boot_bytes *b, const struct elf_image *elf, const char *owner,
	      uint32_t type, struct boot_bytes *desc);

enum { XEN_NOTE_GUEST_OS = 6, XEN_NOTE_PHYS32_ENTRY = 18 };

/* Compressed streams that kernels are packed with. */
enum unpack_kind {
	UNPACK_UNKNOWN, UNPACK_GZIP, UNPACK_XZ, UNPACK_LZMA, UNPACK_ZSTD, UNPACK_LZ4,
	UNPACK_BZIP2, UNPACK_LZO, UNPACK_NONE /* an ELF image as it is */
};
enum unpack_kind unpack_detect(const uint8_t *src, size_t len);
const char *unpack_name(enum unpack_kind kind);
bool unpack_supported(enum unpack_kind kind);
struct unpack_progress {
	void (*fn)(void *ctx, const char *what, double fraction);
	void *ctx;
	const char *what;
};
/* Unpacks exactly dst_len bytes; anything else is -ENOEXEC with a reason. */
int unpack(enum unpack_kind kind, const uint8_t *src, size_t len, uint8_t *dst, size_t dst_len,
	   const struct unpack_progress *progress, struct err *err) must_check;

/* The loaders. */
bool linux_is_bzimage(const struct boot_bytes *b);
int linux_plan_bzimage(struct boot_plan *plan, const struct boot_request *req, bool original,
		       struct err *err) must_check;
int linux_plan_vmlinux(struct boot_plan *plan, const struct boot_request *req,
		       const struct elf_image *elf, struct err *err) must_check;
int pvh_plan(struct boot_plan *plan, const struct boot_request *req, const struct elf_image *elf,
	     struct err *err) must_check;
bool multiboot_find(const struct boot_bytes *b, uint64_t *off);
int multiboot_plan(struct boot_plan *plan, const struct boot_request *req,
		   struct err *err) must_check;
/* What a file that no loader takes seems to be; always fails with -ENOEXEC. */
int boot_refuse(const struct boot_bytes *b, struct err *err) must_check;

#endif
