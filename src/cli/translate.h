/* translate.h - between the two files of `ringer translate`: what was loaded and seen, and how it is printed. */
#ifndef RINGER_CLI_TRANSLATE_H
#define RINGER_CLI_TRANSLATE_H

#include "cli/cli.h"
#include "cpu/engine.h"
#include "vm/flat.h"

/* A block, kept: the engine's own may be gone by the time that it is printed. */
struct kept_block {
	struct engine_block b;
	uint8_t *copy; /* guest, host and insn */
};

struct translate {
	struct cli *cli;
	const struct cli_call *call;
	const char *path;
	char function[256];
	uint64_t arg[FLAT_ARGS];
	unsigned n_args;
	const struct engine_ops *engine;
	struct engine_config config;
	struct boot_file file;
	struct elf_view view;
	struct flat *flat;
	struct flat_function fn;
	struct kept_block *block;
	size_t n_blocks, room;
	bool exploring, lost; /* lost: no memory for a block */
};

static inline bool translate_inside(const struct translate *t, uint64_t rip)
{
	return rip - t->fn.addr < t->fn.size;
}

static inline const uint8_t *kept_guest(const struct kept_block *k)
{
	return k->copy + k->b.n_insns * sizeof(*k->b.insn);
}

#define TRANSLATE_COUNTERS 64

unsigned translate_counters(struct translate *t, struct engine_counter *c);
/* translate_print.c */
void translate_print_header(struct translate *t);
void translate_print_unresolved(struct translate *t);
/* Those of the function, by address. */
void translate_print_blocks(struct translate *t);
void translate_print_result(struct translate *t, const struct flat_result *r);
/* The blocks of the function in the order of their translation. */
void translate_print_path(struct translate *t);
/* Which of their jumps lead to each other directly. The engine must still be there. */
void translate_print_chains(struct translate *t);
/* By how much the engine's counters went up. */
void translate_print_counters(struct translate *t, const struct engine_counter *before, unsigned n_before);

#endif
