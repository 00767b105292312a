/* elf.c - ELF32 and ELF64 executables as kernel images. The file is hostile: see elf_parse(). */
#include "vm/boot/internal.h"

#include <errno.h>

/* ELF gABI, figure 4-3 and on: offsets that differ by class are read through this table. */
struct elf_layout {
	unsigned ehdr, entry, phoff, phentsize, phnum; /* ELF header and its size */
	unsigned phent;                                /* size of a program header */
	unsigned off, vaddr, paddr, filesz, memsz, align;     /* program header */
	unsigned word;                                        /* 4 or 8 bytes */
};

static const struct elf_layout elf32 = {52, 24, 28, 42, 44, 32, 4, 8, 12, 16, 20, 28, 4};
static const struct elf_layout elf64 = {64, 24, 32, 54, 56, 56, 8, 16, 24, 32, 40, 48, 8};

static uint64_t word(const struct elf_layout *l, const uint8_t *p)
{
	return l->word == 8 ? get_le64(p) : get_le32(p);
}

bool elf_is(const struct boot_bytes *b)
{
	return b->size >= 4 && !memcmp(b->data, "\177ELF", 4);
}

static const char *machine_name(uint16_t m)
{
	switch (m) {
	case 8:
		return "MIPS";
	case 20:
	case 21:
		return "PowerPC";
	case 22:
		return "S/390";
	case 40:
		return "32-bit ARM";
	case 183:
		return "arm64";
	case 243:
		return "RISC-V";
	case 258:
		return "LoongArch";
	default:
		return "another processor";
	}
}

static int check_header(const struct boot_bytes *b, struct elf_image *elf, struct err *err)
{
	const uint8_t *e = b->data;
	uint16_t type;

	if (b->size < elf32.ehdr || (e[4] == 2 && b->size < elf64.ehdr))
		return err_set(err, ENOEXEC,
			       "%s: truncated: the ELF header does not fit in its %llu bytes",
			       b->name, (unsigned long long)b->size);
	if (e[4] != 1 && e[4] != 2)
		return err_set(err, ENOEXEC, "%s: damaged: ELF class %u is neither 32 nor 64 bit",
			       b->name, e[4]);
	if (e[5] != 1)
		return err_set(err, ENOEXEC, "%s: a big-endian ELF image: not for x86", b->name);
	elf->is64 = e[4] == 2;
	type = get_le16(e + 16);
	elf->machine = get_le16(e + 18);
	if (elf->machine != ELF_EM_386 && elf->machine != ELF_EM_X86_64)
		return err_set(err, ENOEXEC,
			       "%s: an ELF image for %s (machine %u): an x86 one is needed",
			       b->name, machine_name(elf->machine), elf->machine);
	if (type == 1)
		return err_set(err, ENOEXEC,
			       "%s: an ELF object file or module: a linked kernel is needed",
			       b->name);
	if (type != 2 && type != 3)
		return err_set(err, ENOEXEC, "%s: ELF type %u (%s): an executable is needed",
			       b->name, type, type == 4 ? "a core dump" : "unknown");
	return 0;
}

static int read_segment(const struct boot_bytes *b, const struct elf_layout *l, const uint8_t *p,
			unsigned i, struct elf_segment *s, struct err *err)
{
	s->type = get_le32(p);
	s->off = word(l, p + l->off);
	s->vaddr = word(l, p + l->vaddr);
	s->paddr = word(l, p + l->paddr);
	s->filesz = word(l, p + l->filesz);
	s->memsz = word(l, p + l->memsz);
	s->align = word(l, p + l->align);
	if (s->type == ELF_PT_INTERP || s->type == ELF_PT_TLS)
		return err_set(err, ENOEXEC, "%s: an ordinary program or library, not a kernel",
			       b->name);
	if (s->type != ELF_PT_LOAD && s->type != ELF_PT_NOTE)
		return 0;
	if (!bytes_have(b, s->off, s->filesz))
		return err_set(err, ENOEXEC,
			       "%s: truncated: segment %u has %llu bytes at offset %llu, the file "
			       "has %llu",
			       b->name, i, (unsigned long long)s->filesz,
			       (unsigned long long)s->off, (unsigned long long)b->size);
	if (s->type == ELF_PT_NOTE)
		return boot_bytes_get(b, s->off, s->filesz, err);
	if (s->filesz > s->memsz)
		return err_set(err, ENOEXEC,
			       "%s: damaged: segment %u is larger in the file than in memory",
			       b->name, i);
	if (add_overflows(s->paddr, s->memsz) || add_overflows(s->vaddr, s->memsz))
		return err_set(err, ENOEXEC,
			       "%s: damaged: segment %u wraps around the address space", b->name,
			       i);
	return 0;
}

int elf_parse(const struct boot_bytes *b, struct elf_image *elf, struct err *err)
{
	const struct elf_layout *l;
	uint64_t phoff;
	unsigned phnum, phentsize, loads = 0;
	int ret;

	memset(elf, 0, sizeof(*elf));
	ret = check_header(b, elf, err);
	if (ret < 0)
		return ret;
	l = elf->is64 ? &elf64 : &elf32;
	elf->entry = word(l, b->data + l->entry);
	phoff = word(l, b->data + l->phoff);
	phentsize = get_le16(b->data + l->phentsize);
	phnum = get_le16(b->data + l->phnum);
	if (phnum == 0 || phnum > ELF_SEGMENTS || phentsize != l->phent)
		return err_set(err, ENOEXEC,
			       "%s: damaged or no kernel: %u program headers of %u bytes (expected "
			       "1..%d of %u)",
			       b->name, phnum, phentsize, ELF_SEGMENTS, l->phent);
	if (!bytes_have(b, phoff, (uint64_t)phnum * phentsize))
		return err_set(
			err, ENOEXEC,
			"%s: truncated: program headers at offset %llu, the file has %llu bytes",
			b->name, (unsigned long long)phoff, (unsigned long long)b->size);
	ret = boot_bytes_get(b, phoff, (uint64_t)phnum * phentsize, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < phnum; i++) {
		ret = read_segment(b, l, b->data + phoff + (uint64_t)i * phentsize, i, &elf->seg[i],
				   err);
		if (ret < 0)
			return ret;
		loads += elf->seg[i].type == ELF_PT_LOAD && elf->seg[i].memsz;
	}
	elf->n = phnum;
	if (!loads)
		return err_set(err, ENOEXEC,
			       "%s: damaged or no kernel: nothing in it is to be loaded", b->name);
	return 0;
}

int elf_plan(struct boot_plan *plan, const struct boot_bytes *b, const struct elf_image *elf,
	     struct err *err)
{
	for (unsigned i = 0; i < elf->n; i++) {
		const struct elf_segment *s = &elf->seg[i];
		int ret;

		if (s->type != ELF_PT_LOAD)
			continue;
		ret = boot_plan_add(plan, "kernel segment", s->paddr, b->data + s->off, s->filesz,
				    s->memsz, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int elf_entry(const struct boot_bytes *b, const struct elf_image *elf, uint64_t *entry,
	      struct err *err)
{
	for (unsigned virt = 0; virt < 2; virt++) {
		for (unsigned i = 0; i < elf->n; i++) {
			const struct elf_segment *s = &elf->seg[i];
			uint64_t start = virt ? s->vaddr : s->paddr;

			if (s->type != ELF_PT_LOAD || elf->entry < start ||
			    elf->entry - start >= s->filesz)
				continue;
			*entry = elf->entry - start + s->paddr;
			return 0;
		}
	}
	return err_set(err, ENOEXEC, "%s: damaged: the entry point %#llx is outside every segment",
		       b->name, (unsigned long long)elf->entry);
}

/* One PT_NOTE segment; each note is namesz, descsz, type, name, desc, the last two padded to 4. */
static bool find_note(const uint8_t *p, uint64_t len, const char *owner, uint32_t type,
		      struct boot_bytes *desc)
{
	uint64_t pos = 0;
	size_t owner_len = strlen(owner) + 1;

	while (range_within(pos, 12, len)) {
		uint64_t namesz = get_le32(p + pos), descsz = get_le32(p + pos + 4);
		uint64_t name = pos + 12, data = name + align_up(namesz, 4);

		if (!range_within(name, namesz, len) || !range_within(data, descsz, len))
			return false;
		if (get_le32(p + pos + 8) == type && namesz == owner_len &&
		    !memcmp(p + name, owner, owner_len)) {
			*desc = (struct boot_bytes){p + data, descsz, owner, NULL};
			return true;
		}
		pos = data + align_up(descsz, 4);
	}
	return false;
}

bool elf_note(const struct boot_bytes *b, const struct elf_image *elf, const char *owner,
	      uint32_t type, struct boot_bytes *desc)
{
	for (unsigned i = 0; i < elf->n; i++) {
		const struct elf_segment *s = &elf->seg[i];

		if (s->type == ELF_PT_NOTE &&
		    find_note(b->data + s->off, s->filesz, owner, type, desc))
			return true;
	}
	return false;
}
