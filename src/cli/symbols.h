/* symbols.h - names for guest addresses, from a System.map or an ELF file's symbol table. */
#ifndef RINGER_CLI_SYMBOLS_H
#define RINGER_CLI_SYMBOLS_H

#include "base/base.h"
#include "base/err.h"

struct symbols;

/* -ENOENT (...): the file cannot be read; -ENOEXEC: it is neither, damaged, or names no function. */
int symbols_load(struct symbols **out, const char *path, struct err *err) must_check;
void symbols_free(struct symbols *s);
/* The function around addr and the distance from its start; NULL when none is. s may be NULL. */
const char *symbols_find(const struct symbols *s, uint64_t addr, uint64_t *offset);

#endif
