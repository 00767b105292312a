/*
 * dead_flags.c - which status flags are dead at an instruction: those that it and what follows it
 * in the same block overwrite before anything reads them. The scan ends at the first instruction
 * that may go elsewhere, where all flags that are left live. What the architecture leaves undefined
 * counts as overwritten: no program relies on it.
 */
#include "case.h"

static bool zero_count(const struct insn *in)
{
	uint64_t mask = in->op[0].size == 64 ? 63 : 31;

	for (unsigned i = 1; i < in->z.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return !(in->op[i].imm.value.u & mask);
	return true; /* in CL: known only when it runs */
}

/* May leave flags as they are: its count may be zero. */
static bool may_keep(const struct insn *in)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		return zero_count(in);
	default:
		return in->z.meta.category == ZYDIS_CATEGORY_STRINGOP;
	}
}

static bool ends_block(const struct insn *in)
{
	return in->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
	       in->z.meta.category == ZYDIS_CATEGORY_RET || insn_form_info(in)->interp == INSN_UD;
}

uint32_t dead_flags(const struct diff_case *c, uint64_t rip)
{
	uint64_t at = rip - DIFF_CODE - c->code_off;
	uint32_t live = 0, dead = 0;
	struct insn_decoder dec;
	struct insn in;

	insn_decoder_init(&dec);
	for (; at < c->code_len; at += in.z.length) {
		if (insn_decode(&dec, c->mode, c->code + at, c->code_len - at, &in) != DECODE_OK)
			break;
		if (in.z.cpu_flags)
			live |= in.z.cpu_flags->tested & FLAG_STATUS & ~dead;
		if (ends_block(&in))
			break;
		if (in.z.cpu_flags && !may_keep(&in))
			dead |= (in.z.cpu_flags->modified | in.z.cpu_flags->set_0 |
				 in.z.cpu_flags->set_1 | in.z.cpu_flags->undefined) &
				FLAG_STATUS & ~live;
		if ((live | dead) == FLAG_STATUS)
			break;
	}
	return dead;
}
