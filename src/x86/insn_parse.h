/* insn_parse.h - one instruction in Intel syntax to machine code, by way of Zydis's encoder. */
#ifndef RINGER_X86_INSN_PARSE_H
#define RINGER_X86_INSN_PARSE_H

#include "base/base.h"
#include "base/err.h"
#include "x86/insn.h"

/*
 * Assembles text into bytes (X86_INSN_MAX of room) and *len. A mnemonic alone that wants operands gets ones
 * that fit, and *example is set. -EINVAL with a reason.
 */
int insn_parse(const char *text, enum x86_mode mode, uint8_t *bytes, size_t *len, bool *example,
	       struct err *err) must_check;

#endif
