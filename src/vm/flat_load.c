/*
 * flat_load.c - ELF objects and executables into a flat guest. An object's sections follow one another from FLAT_BASE;
 * an executable's lie at their addresses. Relocations: System V ABI, AMD64 supplement, table 4.10.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "vm/flat.h"

#define IMAGE_MAX MIB(512)
#define SECTION_ALIGN_MAX MIB(2)
#define SECTION_TLS 0x400

enum { R_64 = 1, R_PC32 = 2, R_PLT32 = 4, R_RELATIVE = 8, R_GOTPCREL = 9, R_32 = 10, R_32S = 11, R_PC64 = 24,
       R_GOTPCRELX = 41, R_REX_GOTPCRELX = 42 };

struct loader {
	struct flat *flat;
	const struct elf_view *view;
	uint64_t *addr;      /* of each section; 0: not in memory */
	uint64_t got, n_got; /* addresses of symbols, for code that asks a GOT */
	struct flat_function *fn;
	struct err *err;
};

static bool in_memory(const struct elf_section *s)
{
	return (s->flags & ELF_SECTION_ALLOC) && s->size &&
	       !((s->flags & SECTION_TLS) && s->type == ELF_SECTION_NOBITS);
}

static bool is_got(uint32_t type)
{
	return type == R_GOTPCREL || type == R_GOTPCRELX || type == R_REX_GOTPCRELX;
}

/* ---- placing ---- */

int flat_load_size(const struct elf_view *v, uint64_t *bytes, struct err *err)
{
	uint64_t sum = 4 * GUEST_PAGE_SIZE;

	for (unsigned i = 1; i < v->n_sections; i++) {
		struct elf_section s;
		int ret = elf_view_section(v, i, &s, err);

		if (ret)
			return ret;
		if (s.type == ELF_SECTION_RELA)
			sum += s.size / 24 * 8;
		if (!in_memory(&s))
			continue;
		if (s.align > SECTION_ALIGN_MAX)
			return err_set(err, ENOEXEC, "%s: section %u wants to be aligned to %llu bytes",
				       v->file.name, i, (unsigned long long)s.align);
		/* What alignment costs, and tables far from all others. */
		if (s.size > IMAGE_MAX || (sum += s.size + s.align + 5 * GUEST_PAGE_SIZE) > IMAGE_MAX)
			return err_set(err, EFBIG, "%s: more than %llu MiB have to be loaded", v->file.name,
				       (unsigned long long)IMAGE_MAX >> 20);
	}
	*bytes = sum;
	return 0;
}

static int place(struct loader *l)
{
	const struct elf_view *v = l->view;
	uint64_t at = FLAT_BASE;
	int ret = 0;

	l->fn->base = v->type == ELF_TYPE_EXEC ? 0 : FLAT_BASE;
	for (unsigned i = 1; i < v->n_sections && !ret; i++) {
		struct elf_section s;

		ret = elf_view_section(v, i, &s, l->err);
		if (ret || !in_memory(&s))
			continue;
		if (v->type == ELF_TYPE_REL) {
			at = align_up(at, s.align ? s.align : 1);
			l->addr[i] = at;
			at += s.size;
		} else {
			l->addr[i] = l->fn->base + s.addr;
		}
		ret = flat_put(l->flat, l->addr[i], s.data, s.size, l->err);
		if (ret)
			err_prefix(l->err, "%s: section %u", v->file.name, i);
	}
	l->got = align_up(at, GUEST_PAGE_SIZE);
	return ret;
}

/* ---- relocations ---- */

static int unresolved(struct loader *l, const char *name, uint64_t *value)
{
	struct flat_function *fn = l->fn;
	char text[sizeof(fn->unresolved[0])];
	unsigned i;

	*value = FLAT_UNRESOLVED_BASE;
	memset(text, 0, sizeof(text));
	snprintf(text, sizeof(text), "%s", *name ? name : "(unnamed)");
	for (char *p = text; *p; p++) /* it is printed */
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			*p = '?';
	for (i = 0; i < fn->n_unresolved && strcmp(fn->unresolved[i], text); i++)
		continue;
	if (i == fn->n_unresolved && i < FLAT_UNRESOLVED)
		memcpy(fn->unresolved[fn->n_unresolved++], text, sizeof(text));
	return 0;
}

static int symbol_value(struct loader *l, uint32_t index, uint64_t *value)
{
	struct elf_symbol s;
	int ret;

	*value = 0;
	if (!index)
		return 0;
	ret = elf_view_symbol(l->view, index, &s, l->err);
	if (ret)
		return ret;
	if (s.section == ELF_INDEX_ABS) {
		*value = s.value;
		return 0;
	}
	if (s.section == ELF_INDEX_UNDEF || s.section >= l->view->n_sections || !l->addr[s.section])
		return unresolved(l, s.name, value);
	*value = l->addr[s.section] + s.value;
	return 0;
}

/* A GOT entry for each use: nothing has to be looked up, and nobody compares their addresses. */
static int got_entry(struct loader *l, uint64_t value, uint64_t *addr)
{
	*addr = l->got + 8 * l->n_got++;
	return flat_put(l->flat, *addr, &value, 8, l->err);
}

/* One entry against section `target` of an object, which lies at l->addr[target]. */
static int relocate(struct loader *l, const struct elf_rela *r, unsigned target, uint64_t size)
{
	bool wide = r->type == R_64 || r->type == R_PC64;
	uint64_t place_at = l->addr[target] + r->offset, value;
	unsigned bytes = wide ? 8 : 4;
	char what[32];
	int ret;

	if (!r->type)
		return 0;
	if (!range_within(r->offset, bytes, size))
		return err_set(l->err, ENOEXEC, "%s: damaged: a relocation at %#llx lies outside of section %u",
			       l->view->file.name, (unsigned long long)r->offset, target);
	ret = symbol_value(l, r->symbol, &value);
	if (!ret && is_got(r->type))
		ret = got_entry(l, value, &value);
	if (ret)
		return ret;
	switch (r->type) {
	case R_64:
	case R_32:
	case R_32S:
		value += (uint64_t)r->addend;
		break;
	case R_PC32:
	case R_PLT32:
	case R_PC64:
	case R_GOTPCREL:
	case R_GOTPCRELX:
	case R_REX_GOTPCRELX:
		value += (uint64_t)r->addend - place_at;
		break;
	default:
		snprintf(what, sizeof(what), "(relocation type %u)", r->type);
		return unresolved(l, what, &value);
	}
	return flat_put(l->flat, place_at, &value, bytes, l->err);
}

/* Of a linked file: only what moves with it. The rest waits for a dynamic linker, which there is none. */
static int relocate_linked(struct loader *l, const struct elf_rela *r)
{
	uint64_t value = l->fn->base + (uint64_t)r->addend, old;

	if (r->type != R_RELATIVE) {
		l->fn->n_dynamic += r->type != 0;
		return 0;
	}
	if (flat_get(l->flat, l->fn->base + r->offset, &old, 8) < 0)
		return err_set(l->err, ENOEXEC, "%s: damaged: a relocation at %#llx is nowhere in memory",
			       l->view->file.name, (unsigned long long)r->offset);
	return flat_put(l->flat, l->fn->base + r->offset, &value, 8, l->err);
}

static int relocate_section(struct loader *l, const struct elf_section *s)
{
	bool object = l->view->type == ELF_TYPE_REL;
	struct elf_section target = {0};
	struct elf_rela r;
	int ret = 0;

	if (object) {
		if (s->info >= l->view->n_sections || !l->addr[s->info])
			return 0; /* debug information */
		ret = elf_view_section(l->view, s->info, &target, l->err);
	} else if (!(s->flags & ELF_SECTION_ALLOC)) {
		return 0;
	}
	for (uint64_t i = 0; !ret && elf_view_rela(s, i, &r); i++)
		ret = object ? relocate(l, &r, s->info, target.size) : relocate_linked(l, &r);
	return ret;
}

static int relocate_all(struct loader *l)
{
	uint8_t hlt[GUEST_PAGE_SIZE];
	int ret;

	memset(hlt, 0xf4, sizeof(hlt));
	ret = flat_put(l->flat, FLAT_UNRESOLVED_BASE, hlt, sizeof(hlt), l->err);
	for (unsigned i = 1; i < l->view->n_sections && !ret; i++) {
		struct elf_section s;

		ret = elf_view_section(l->view, i, &s, l->err);
		if (!ret && s.type == ELF_SECTION_RELA)
			ret = relocate_section(l, &s);
	}
	return ret;
}

/* ---- the function ---- */

static bool is_function(const struct loader *l, const struct elf_symbol *s)
{
	return *s->name && (s->type == ELF_SYMBOL_FUNC || s->type == ELF_SYMBOL_NOTYPE) && s->section &&
	       s->section < l->view->n_sections && l->addr[s->section];
}

static int no_function(const struct loader *l, const char *name)
{
	const char **names = calloc(l->view->n_symbols + 1, sizeof(*names)), *near;
	struct elf_symbol s;
	size_t n = 0;

	for (uint64_t i = 1; names && i < l->view->n_symbols; i++)
		if (!elf_view_symbol(l->view, i, &s, NULL) && is_function(l, &s))
			names[n++] = s.name;
	near = names ? suggest(name, names, n) : NULL;
	free(names);
	if (!n)
		return err_set(l->err, ENOENT, "%s: there is no symbol table, or no function in it: it is stripped",
			       l->view->file.name);
	if (near)
		return err_set(l->err, ENOENT, "%s: there is no function '%.64s'; did you mean '%.64s'?",
			       l->view->file.name, name, near);
	return err_set(l->err, ENOENT, "%s: there is no function '%.64s'; 'nm %s' lists what there is",
		       l->view->file.name, name, l->view->file.name);
}

static int find_function(struct loader *l, const char *name)
{
	struct elf_section section;
	struct elf_symbol s;
	int ret = 0;

	for (uint64_t i = 1; i < l->view->n_symbols; i++) {
		ret = elf_view_symbol(l->view, i, &s, l->err);
		if (ret)
			return ret;
		if (!is_function(l, &s) || strcmp(s.name, name))
			continue;
		ret = elf_view_section(l->view, s.section, &section, l->err);
		if (ret)
			return ret;
		/* An object's symbols are relative to their section. */
		if (l->view->type != ELF_TYPE_REL)
			s.value -= section.addr;
		if (s.value >= section.size)
			return err_set(l->err, ENOEXEC, "%s: damaged: function '%.64s' lies outside of its section",
				       l->view->file.name, name);
		l->fn->addr = l->addr[s.section] + s.value;
		l->fn->size = min_u64(s.size ? s.size : section.size, section.size - s.value);
		return 0;
	}
	return no_function(l, name);
}

int flat_load(struct flat *f, const struct elf_view *v, const char *function,
	      struct flat_function *out, struct err *err)
{
	struct loader l = {.flat = f, .view = v, .fn = out, .err = err,
			   .addr = calloc(v->n_sections + 1, sizeof(*l.addr))};
	int ret;

	memset(out, 0, sizeof(*out));
	if (!l.addr)
		return err_set(err, ENOMEM, "out of memory");
	ret = place(&l);
	if (!ret)
		ret = find_function(&l, function);
	if (!ret)
		ret = relocate_all(&l);
	free(l.addr);
	return ret;
}
