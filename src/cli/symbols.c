/*
 * symbols.c - a sorted array of functions. Names stay in the file's memory. A System.map does not say how long a
 * function is: it then ends at the next one, or FAR bytes on.
 */
#include "cli/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vm/elf_view.h"

#define FILE_MAX GIB(2)
#define FAR MIB(1)

struct symbol {
	uint64_t addr, size; /* size 0: unknown */
	const char *name;
};

struct symbols {
	struct boot_file file;
	struct symbol *symbol;
	size_t n, room;
};

static int add(struct symbols *s, uint64_t addr, uint64_t size, const char *name, struct err *err)
{
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 1024;
		struct symbol *p = reallocarray(s->symbol, room, sizeof(*p));

		if (!p)
			return err_set(err, ENOMEM, "no memory for the symbols");
		s->symbol = p;
		s->room = room;
	}
	s->symbol[s->n++] = (struct symbol){addr, size, name};
	return 0;
}

static int load_elf(struct symbols *s, const struct boot_bytes *bytes, struct err *err)
{
	struct elf_view view;
	int rc = elf_view_open(&view, bytes, err);

	for (uint64_t i = 1; !rc && i < view.n_symbols; i++) {
		struct elf_symbol sym;

		rc = elf_view_symbol(&view, i, &sym, err);
		if (rc || sym.section == ELF_INDEX_UNDEF || !*sym.name)
			continue;
		if (sym.type == ELF_SYMBOL_FUNC || sym.type == ELF_SYMBOL_NOTYPE)
			rc = add(s, sym.value, sym.size, sym.name, err);
	}
	return rc;
}

/* "ffffffff81000000 T _text": the address, and the name if it is code. The line ends with a null character. */
static bool parse_map_line(char *line, uint64_t *addr, const char **name)
{
	char *end;

	*addr = strtoull(line, &end, 16);
	if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ' || !end[3])
		return false;
	*name = strchr("tTwW", end[1]) ? end + 3 : NULL;
	end = strchr(end + 3, '\t'); /* a module's name may follow */
	if (end)
		*end = '\0';
	return true;
}

static int load_map(struct symbols *s, const char *path, struct err *err)
{
	char *p = (char *)s->file.data, *end = p + s->file.size;
	unsigned line = 1;

	for (; p < end; line++) {
		char *eol = memchr(p, '\n', (size_t)(end - p));
		const char *name;
		uint64_t addr;
		int rc;

		if (!eol)
			return err_set(err, ENOEXEC, "%s: truncated: its last line does not end", path);
		*eol = '\0';
		if (!parse_map_line(p, &addr, &name))
			return err_set(err, ENOEXEC,
				       "%s: neither an ELF file nor a System.map: line %u is not "
				       "'ADDRESS TYPE NAME'",
				       path, line);
		rc = name ? add(s, addr, 0, name, err) : 0;
		if (rc)
			return rc;
		p = eol + 1;
	}
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

int symbols_load(struct symbols **out, const char *path, struct err *err)
{
	struct symbols *s = calloc(1, sizeof(*s));
	struct boot_bytes bytes;
	int rc;

	if (!s)
		return err_set(err, ENOMEM, "no memory for the symbols");
	rc = boot_file_read(&s->file, path, "symbol", FILE_MAX, err);
	if (!rc) {
		bytes = (struct boot_bytes){s->file.data, s->file.size, path, NULL};
		rc = bytes.size >= 4 && !memcmp(bytes.data, "\177ELF", 4)
			     ? load_elf(s, &bytes, err)
			     : load_map(s, path, err);
	}
	if (!rc && !s->n)
		rc = err_set(err, ENOEXEC, "%s: names no function: it is stripped; give the System.map or "
					   "an image with symbols", path);
	if (rc) {
		symbols_free(s);
		return rc;
	}
	qsort(s->symbol, s->n, sizeof(*s->symbol), by_address);
	*out = s;
	return 0;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	boot_file_free(&s->file);
	free(s->symbol);
	free(s);
}

const char *symbols_find(const struct symbols *s, uint64_t addr, uint64_t *offset)
{
	size_t lo = 0, hi = s ? s->n : 0;

	/* The last one at or below addr. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->symbol[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	*offset = addr - s->symbol[lo - 1].addr;
	if (*offset >= (s->symbol[lo - 1].size ? s->symbol[lo - 1].size : FAR))
		return NULL;
	return s->symbol[lo - 1].name;
}
