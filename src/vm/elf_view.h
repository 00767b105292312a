/*
 * elf_view.h - sections, symbols and relocations of a 64-bit x86 ELF file in memory: for symbol names and for running
 * single functions. Kernel images are booted by segments: vm/boot/elf.c.
 *
 * The file is hostile. elf_view_open() checks the tables, every accessor checks what it returns: a section's bytes lie
 * in the file, a string ends in its table. Nothing is copied; the file must outlive the view.
 */
#ifndef RINGER_VM_ELF_VIEW_H
#define RINGER_VM_ELF_VIEW_H

#include "vm/boot/boot.h"

enum { ELF_TYPE_REL = 1, ELF_TYPE_EXEC = 2, ELF_TYPE_DYN = 3 };
enum { ELF_SECTION_PROGBITS = 1, ELF_SECTION_SYMTAB = 2, ELF_SECTION_RELA = 4, ELF_SECTION_NOBITS = 8,
       ELF_SECTION_REL = 9, ELF_SECTION_DYNSYM = 11 };
enum { ELF_SECTION_WRITE = 1, ELF_SECTION_ALLOC = 2, ELF_SECTION_EXEC = 4 };
enum { ELF_SYMBOL_NOTYPE = 0, ELF_SYMBOL_OBJECT = 1, ELF_SYMBOL_FUNC = 2, ELF_SYMBOL_SECTION = 3,
       ELF_SYMBOL_IFUNC = 10 };
enum { ELF_INDEX_UNDEF = 0, ELF_INDEX_SPECIAL = 0xff00, ELF_INDEX_ABS = 0xfff1 };

struct elf_section {
	const char *name;
	uint32_t type, link, info;
	uint64_t flags, addr, size, align, entsize;
	const uint8_t *data; /* size bytes; NULL for ELF_SECTION_NOBITS */
};

struct elf_symbol {
	const char *name; /* may be "" */
	uint8_t type;     /* ELF_SYMBOL_*, or another */
	uint16_t section; /* an index; or ELF_INDEX_* */
	uint64_t value, size;
};

struct elf_rela {
	uint64_t offset;
	uint32_t type, symbol;
	int64_t addend;
};

struct elf_view {
	struct boot_bytes file;
	uint16_t type;      /* ELF_TYPE_* */
	uint64_t sections;  /* where their headers are */
	unsigned n_sections;
	unsigned names;     /* the section with their names */
	unsigned symtab;    /* index of the symbol table, 0: none */
	uint64_t n_symbols;
};

/* -ENOEXEC when it is no 64-bit x86 ELF object, executable or shared library, or damaged. */
int elf_view_open(struct elf_view *v, const struct boot_bytes *file, struct err *err) must_check;
int elf_view_section(const struct elf_view *v, unsigned i, struct elf_section *s,
		     struct err *err) must_check;
int elf_view_symbol(const struct elf_view *v, uint64_t i, struct elf_symbol *s,
		    struct err *err) must_check;
/* The i-th entry of a section of type ELF_SECTION_RELA; false past the last. */
bool elf_view_rela(const struct elf_section *s, uint64_t i, struct elf_rela *r);

#endif
