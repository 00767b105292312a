/* blocktext.h - a translated block for people: guest and host code side by side. */
#ifndef RINGER_CLI_BLOCKTEXT_H
#define RINGER_CLI_BLOCKTEXT_H

#include <Zydis/Zydis.h>
#include <stdio.h>

#include "cpu/engine.h"

/* Decoder and formatter, made once. Constant afterwards. */
struct blocktext {
	struct insn_decoder decoder;
	ZydisFormatter formatter;
};

void blocktext_init(struct blocktext *t);
/*
 * One line that says what the block is, then one for each host instruction, beside the guest instruction that it is
 * for. code holds the n_host bytes to show, b->host is where they run; mode is the guest code's. name (of the function; may be "") and eol go into the text as they are.
 */
void blocktext_print(const struct blocktext *t, const struct engine_block *b, const uint8_t *code,
		     enum x86_mode mode, const char *name, const char *eol, FILE *out);
/* One instruction's text; its length, or 1 with text "(bad)" for bytes that are none. */
unsigned blocktext_insn(const struct blocktext *t, enum x86_mode mode, const uint8_t *bytes, size_t len,
			uint64_t addr, char *text, size_t text_len);

#endif
