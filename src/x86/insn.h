/*
 * insn.h - decoding (by Zydis) and the instruction table: what no decoder knows about each instruction.
 *
 * The classes are Popek and Goldberg's (1974), with the sensitive ones that do not trap in user mode told
 * apart, since those are the ones that defeat trap-and-emulate on x86:
 *   innocuous            same effect in every mode and at every privilege; reads and writes no machine state
 *   privileged           traps (#GP, #UD) unless CPL is 0; a monitor can catch it
 *   control-sensitive    changes (or would change) the resources of the machine, or the privilege level
 *   behaviour-sensitive  its result depends on the privilege level, on real resources or on machine state,
 *                        and it does not trap: the POPF family
 * The dispatcher, the interpreter, the translator, `ringer insn` and the test generator read this table.
 */
#ifndef RINGER_X86_INSN_H
#define RINGER_X86_INSN_H

#include <Zydis/Zydis.h>

#include "base/base.h"

#define X86_INSN_MAX 15 /* bytes; Intel SDM vol. 2, 2.3.11 */

enum insn_class { INSN_INNOCUOUS, INSN_PRIVILEGED, INSN_CONTROL_SENSITIVE, INSN_BEHAVIOUR_SENSITIVE };

/* What an engine does with an instruction. */
enum insn_treatment {
	INSN_NATIVE,  /* runs on the host CPU, on copies of its operands */
	INSN_CONTROL, /* transfers control within a privilege level: followed by the engine */
	INSN_STACK,   /* implicit stack access: done by the engine with checked accesses */
	INSN_STRING,  /* string instruction: iterated by the engine, restartable at each element */
	INSN_VECTOR_MEM, /* gathers, scatters, masked moves: memory element by element, faults suppressed or exact */
	INSN_EMULATE, /* written once in src/cpu/ (sensitive), or a data instruction that 64-bit hosts lack (AAA) */
	INSN_UD,      /* not offered by any CPU model: raises #UD (VMX, SVM, TSX, AMX, ...) */
};

struct insn_info {
	ZydisMnemonic mnemonic;
	enum insn_class cls;
	enum insn_treatment interp; /* by the interpreter */
	enum insn_treatment bt;     /* by the translator */
	const char *note;           /* why the class: one sentence for people; NULL for the innocuous rest */
};

/*
 * The row of a mnemonic. Never NULL; mnemonic must be one of Zydis's. Instructions not listed one by one are
 * innocuous and NATIVE; their shared rows have .mnemonic 0. Where the forms of a mnemonic differ this is the
 * common one: with a decoded instruction at hand, ask insn_form_info().
 */
const struct insn_info *insn_info(ZydisMnemonic mnemonic);

/* Names for people: "innocuous", "privileged", ...; "native", "control", ... */
const char *insn_class_name(enum insn_class c);
const char *insn_treatment_name(enum insn_treatment t);

/* Code size of the running segment. */
enum x86_mode { X86_MODE_16, X86_MODE_32, X86_MODE_64 };

enum decode_result {
	DECODE_OK,
	DECODE_SHORT,   /* the bytes end within the instruction: fetch more */
	DECODE_INVALID, /* #UD */
	DECODE_TOO_LONG /* more than 15 bytes: #GP(0) */
};

#define INSN_OPERANDS_MIN 2u

struct insn {
	ZydisDecodedInstruction z;
	/* z.operand_count of them, at least INSN_OPERANDS_MIN: of unused type then. */
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t bytes[X86_INSN_MAX];
};

/*
 * The row of a decoded instruction, its operands considered: far JMP/CALL/RET, MOV to and from control, debug
 * and segment registers, PUSH and POP of segment registers, MOVSD and CMPSD (string or SSE2), register forms
 * of compress and expand, EVEX instructions with a masked memory operand, instruction sets long gone (3DNow!,
 * XOP). Never NULL.
 */
const struct insn_info *insn_form_info(const struct insn *i);

/* One decoder per mode and thread of use; immutable after init, so it may be shared. */
struct insn_decoder {
	ZydisDecoder z[3];
};
void insn_decoder_init(struct insn_decoder *d);
/* Decodes at most len (any number) bytes. Never reads past them; any bytes are allowed. */
enum decode_result insn_decode(const struct insn_decoder *d, enum x86_mode mode, const uint8_t *bytes,
			       size_t len, struct insn *out);

/* Where the opcode (with its escape bytes, in legacy encoding) begins among the instruction's bytes. */
unsigned insn_opcode_offset(const ZydisDecodedInstruction *z);
/*
 * Whether it accesses memory that no explicit operand names: a stack, a string, MOVDIR64B's destination, CLZERO's line.
 * Isolation rests on this: engines that run an instruction on the host redirect its explicit memory operand only, so
 * these must never run there.
 */
bool insn_has_hidden_memory(const struct insn *insn);

#endif
