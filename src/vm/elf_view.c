/* elf_view.c - ELF64, little-endian, x86-64. Offsets and sizes: ELF gABI, figures 4-3, 4-8, 4-16, 4-21. */
#include "vm/elf_view.h"

#include <errno.h>
#include <string.h>

#include "vm/boot/internal.h"

#define EHDR 64
#define SHDR 64
#define SYM 24
#define RELA 24

static int check_header(const struct boot_bytes *f, struct err *err)
{
	const uint8_t *e = f->data;

	if (f->size < 4 || memcmp(e, "\177ELF", 4))
		return err_set(err, ENOEXEC, "%s: not an ELF file", f->name);
	if (f->size < EHDR)
		return err_set(err, ENOEXEC, "%s: truncated: the ELF header does not fit", f->name);
	if (e[4] != 2 || e[5] != 1 || get_le16(e + 18) != ELF_EM_X86_64)
		return err_set(err, ENOEXEC, "%s: not an ELF file for x86-64", f->name);
	return 0;
}

/* The symbol table proper, or else the dynamic one. */
static int find_symbols(struct elf_view *v, struct err *err)
{
	static const uint32_t types[] = {ELF_SECTION_SYMTAB, ELF_SECTION_DYNSYM};

	for (unsigned t = 0; t < ARRAY_SIZE(types) && !v->symtab; t++) {
		for (unsigned i = 1; i < v->n_sections && !v->symtab; i++) {
			struct elf_section s;

			if (get_le32(v->file.data + v->sections + (uint64_t)i * SHDR + 4) != types[t])
				continue;
			if (elf_view_section(v, i, &s, err))
				return -ENOEXEC;
			v->symtab = i;
			v->n_symbols = s.size / SYM;
		}
	}
	return 0;
}

int elf_view_open(struct elf_view *v, const struct boot_bytes *file, struct err *err)
{
	const uint8_t *e = file->data;
	int ret = check_header(file, err);

	if (ret)
		return ret;
	*v = (struct elf_view){.file = *file, .type = get_le16(e + 16), .sections = get_le64(e + 40),
			       .n_sections = get_le16(e + 60), .names = get_le16(e + 62)};
	if (v->type < ELF_TYPE_REL || v->type > ELF_TYPE_DYN)
		return err_set(err, ENOEXEC, "%s: neither an object nor an executable", file->name);
	if (!v->n_sections)
		return 0; /* stripped of all of them */
	if (get_le16(e + 58) != SHDR ||
	    !bytes_have(file, v->sections, (uint64_t)v->n_sections * SHDR))
		return err_set(err, ENOEXEC,
			       "%s: damaged or truncated: section headers at offset %llu, the file "
			       "has %llu bytes",
			       file->name, (unsigned long long)v->sections,
			       (unsigned long long)file->size);
	return find_symbols(v, err);
}

/* The string at `off` of a string table, or NULL when it does not end in there. */
static const char *string_at(const struct elf_view *v, unsigned table, uint64_t off)
{
	const uint8_t *h = v->file.data + v->sections + (uint64_t)table * SHDR;
	uint64_t start, size;

	if (table >= v->n_sections || get_le32(h + 4) == ELF_SECTION_NOBITS)
		return NULL;
	start = get_le64(h + 24);
	size = get_le64(h + 32);
	/* gABI: a string table ends with a null character. So no string in it has to be searched for its end. */
	if (!bytes_have(&v->file, start, size) || off >= size || v->file.data[start + size - 1])
		return NULL;
	return (const char *)v->file.data + start + off;
}

int elf_view_section(const struct elf_view *v, unsigned i, struct elf_section *s, struct err *err)
{
	const uint8_t *h = v->file.data + v->sections + (uint64_t)i * SHDR;
	uint64_t off;

	if (i >= v->n_sections)
		return err_set(err, ENOEXEC, "%s: damaged: there is no section %u", v->file.name, i);
	off = get_le64(h + 24);
	*s = (struct elf_section){
		.name = string_at(v, v->names, get_le32(h)), .type = get_le32(h + 4),
		.flags = get_le64(h + 8), .addr = get_le64(h + 16), .size = get_le64(h + 32),
		.link = get_le32(h + 40), .info = get_le32(h + 44), .align = get_le64(h + 48),
		.entsize = get_le64(h + 56),
	};
	if (!s->name)
		s->name = "";
	if (s->align & (s->align - 1))
		return err_set(err, ENOEXEC, "%s: damaged: section %u is aligned to no power of two",
			       v->file.name, i);
	if (s->type == ELF_SECTION_NOBITS)
		return 0;
	if (!bytes_have(&v->file, off, s->size))
		return err_set(err, ENOEXEC,
			       "%s: truncated: section %u has %llu bytes at offset %llu, the file "
			       "has %llu",
			       v->file.name, i, (unsigned long long)s->size, (unsigned long long)off,
			       (unsigned long long)v->file.size);
	s->data = v->file.data + off;
	return 0;
}

int elf_view_symbol(const struct elf_view *v, uint64_t i, struct elf_symbol *s, struct err *err)
{
	struct elf_section table;
	const uint8_t *p;

	if (!v->symtab || i >= v->n_symbols)
		return err_set(err, ENOEXEC, "%s: damaged: there is no symbol %llu", v->file.name,
			       (unsigned long long)i);
	if (elf_view_section(v, v->symtab, &table, err))
		return -ENOEXEC;
	p = table.data + i * SYM;
	*s = (struct elf_symbol){
		.name = string_at(v, table.link, get_le32(p)), .type = p[4] & 15,
		.section = get_le16(p + 6), .value = get_le64(p + 8), .size = get_le64(p + 16),
	};
	if (!s->name)
		return err_set(err, ENOEXEC, "%s: damaged: symbol %llu has no name", v->file.name,
			       (unsigned long long)i);
	return 0;
}

bool elf_view_rela(const struct elf_section *s, uint64_t i, struct elf_rela *r)
{
	const uint8_t *p;
	uint64_t info;

	if (s->type != ELF_SECTION_RELA || !s->data || i >= s->size / RELA)
		return false;
	p = s->data + i * RELA;
	info = get_le64(p + 8);
	*r = (struct elf_rela){get_le64(p), (uint32_t)info, (uint32_t)(info >> 32),
			       (int64_t)get_le64(p + 16)};
	return true;
}
