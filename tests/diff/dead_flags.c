/*
 * dead_flags.c - which status flags are dead at an instruction: those that it and what follows it overwrite before
 * anything reads them, on every way through direct jumps. At what may go elsewhere, all flags that are left live. What the
 * architecture leaves undefined counts as overwritten: no program relies on it.
 */
#include <string.h>

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

/* live: what is read before it is overwritten, at each offset: what is known so far of the least solution. */
struct scan {
	const struct diff_case *c;
	struct insn_decoder dec;
	uint32_t live[DIFF_CASE_CODE];
	bool seen[DIFF_CASE_CODE];
	bool changed;
};

static uint32_t live_before(struct scan *s, uint64_t at);

static uint32_t live_after(struct scan *s, const struct insn *in, uint64_t at)
{
	uint64_t next = at + in->z.length;

	if (in->z.meta.category == ZYDIS_CATEGORY_RET || insn_form_info(in)->interp == INSN_UD)
		return FLAG_STATUS;
	if (in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE)
		return live_before(s, next);
	if (in->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !in->op[0].imm.is_relative)
		return FLAG_STATUS;
	if (in->z.meta.category == ZYDIS_CATEGORY_UNCOND_BR)
		return live_before(s, next + in->op[0].imm.value.u);
	if (in->z.meta.category == ZYDIS_CATEGORY_COND_BR)
		return live_before(s, next) | live_before(s, next + in->op[0].imm.value.u);
	return FLAG_STATUS;
}

static uint32_t live_before(struct scan *s, uint64_t at)
{
	uint32_t live, written = 0, read = 0;
	struct insn in;

	if (at >= s->c->code_len)
		return FLAG_STATUS;
	if (s->seen[at])
		return s->live[at];
	s->seen[at] = true;
	if (insn_decode(&s->dec, s->c->mode, s->c->code + at, s->c->code_len - at, &in) != DECODE_OK)
		return s->live[at] = FLAG_STATUS;
	if (in.z.cpu_flags)
		read = in.z.cpu_flags->tested & FLAG_STATUS;
	if (in.z.cpu_flags && !may_keep(&in))
		written = in.z.cpu_flags->modified | in.z.cpu_flags->set_0 | in.z.cpu_flags->set_1 |
			  in.z.cpu_flags->undefined;
	live = (live_after(s, &in, at) & ~written) | read;
	s->changed |= live != s->live[at];
	return s->live[at] = live;
}

uint32_t dead_flags(const struct diff_case *c, uint64_t rip)
{
	struct scan s = {.c = c};
	uint32_t live;

	insn_decoder_init(&s.dec);
	do {
		s.changed = false;
		memset(s.seen, 0, sizeof(s.seen));
		live = live_before(&s, rip - DIFF_CODE - c->code_off);
	} while (s.changed);
	return FLAG_STATUS & ~live;
}
