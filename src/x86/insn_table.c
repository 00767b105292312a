/* insn_table.c - what each instruction is and how engines treat it. */
#include "x86/insn.h"

static const struct insn_info plain = { 0, INSN_INNOCUOUS, INSN_NATIVE, INSN_NATIVE, NULL };

const struct insn_info *insn_info(ZydisMnemonic mnemonic)
{
	return &plain;
}
