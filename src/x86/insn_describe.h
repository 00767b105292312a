/*
 * insn_describe.h - one instruction explained: what it is, how it is encoded, what it touches, whether it can
 * be virtualized by trapping, and what each engine does with it. `ringer insn` prints it.
 *
 * Everything is text or plain numbers, ready to print; strings are static or inside the struct.
 */
#ifndef RINGER_X86_INSN_DESCRIBE_H
#define RINGER_X86_INSN_DESCRIBE_H

#include "base/base.h"
#include "base/err.h"
#include "x86/insn.h"

struct insn_operand_description {
	char text[48];      /* as the assembler writes it: "rax", "qword ptr [rdi]" */
	const char *type;   /* "register", "memory", "immediate", "pointer" */
	const char *access; /* "read", "write", "read, write", "may write", ... */
	uint16_t bits;      /* size */
	bool implicit;      /* not written out in assembly */
};

struct insn_description {
	struct insn insn;
	enum x86_mode mode;
	bool example; /* the operands were chosen by us: only a mnemonic was asked for */

	char mnemonic[24];
	char text[96];     /* disassembly, Intel syntax */
	char hex[64];      /* "0f 20 d8" */
	unsigned length;
	const char *encoding; /* "legacy", "VEX", "EVEX", ... */
	const char *map;      /* "one-byte", "0F", "0F38", ... */
	uint8_t opcode;
	const char *category, *isa_set, *isa_ext; /* the decoder's names */

	unsigned operand_count;
	struct insn_operand_description operand[ZYDIS_MAX_OPERAND_COUNT];

	/* RFLAGS, names separated by spaces; "" when none. */
	char flags_read[64], flags_written[64], flags_cleared[64], flags_set[64], flags_undefined[64];
	/* Code sizes in which these bytes are an instruction of the same name: indexed by enum x86_mode. */
	bool valid_in[3];

	const struct insn_info *info; /* of this form */
	const char *class_name;
	const char *note;       /* why it is in its class; "" for the plainly innocuous */
	const char *by_trapping; /* whether and why trap-and-emulate can virtualize it: one sentence */
	const char *interp, *bt, *kvm; /* what each engine does: one sentence each */
};

/*
 * Describes what text says: a mnemonic ("popf", "vaddps"; an example encoding is made up), an instruction in
 * Intel syntax ("mov cr3, rax", "lock add dword ptr [rdi+8], 1"). What 64-bit mode cannot encode ("aaa") is
 * described in 32- or 16-bit code: see d->mode. -EINVAL with a reason, and the nearest known name for an
 * unknown mnemonic.
 */
int insn_describe(struct insn_description *d, const char *text, enum x86_mode mode, struct err *err) must_check;
/* The same for the first instruction in hex bytes: "0f01d9" or "0f 01 d9"; the rest must not be there. */
int insn_describe_hex(struct insn_description *d, const char *hex, enum x86_mode mode,
		      struct err *err) must_check;

#endif
