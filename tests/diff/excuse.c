/*
 * excuse.c - what an implementation may choose when an instruction faults: the manuals leave it open, or Intel's and
 * AMD's CPUs differ. Where the results differ in just that, the engine's is made to agree.
 */
#include <string.h>

#include "case.h"

/* The instruction at RIP, which is the one that faulted. */
static bool insn_at(const struct diff_case *c, uint64_t rip, struct insn *in)
{
	uint64_t off = rip - DIFF_CODE - c->code_off;
	struct insn_decoder dec;

	if (off >= c->code_len)
		return false;
	insn_decoder_init(&dec);
	return insn_decode(&dec, c->mode, c->code + off, c->code_len - off, in) == DECODE_OK;
}

static bool uses_mmx(const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(in->op[i].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return false;
}

/*
 * An MMX instruction sets TOP to 0 and all tags to valid: whether it has done so when it faults is not said. The
 * FXSAVE image counts registers from TOP, so that they move.
 */
static void excuse_mmx(const struct diff_fpu *a, struct diff_fpu *b)
{
	unsigned top = b->fx[3] >> 3 & 7;
	uint8_t x87[160];

	memcpy(x87, b->fx, sizeof(x87));
	x87[3] &= (uint8_t)~0x38;
	x87[4] = 0xff;
	for (unsigned i = 0; i < 8; i++)
		memcpy(x87 + 32 + 16 * i, b->fx + 32 + 16 * ((i - top) & 7), 16);
	if (a->fx[4] == b->fx[4])
		x87[4] = b->fx[4];
	if (!memcmp(x87 + 2, a->fx + 2, 3) && !memcmp(x87 + 32, a->fx + 32, 128))
		memcpy(b->fx, x87, sizeof(x87));
}

/* A memory operand: linear address and length. Addresses in it wrap in 32-bit code, at `wrap`. */
struct operand {
	uint64_t lin, wrap;
	unsigned len;
	bool any_order; /* accessed in parts, in an order of the implementation's own */
};

static bool is_maskmov(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_MASKMOVQ || m == ZYDIS_MNEMONIC_MASKMOVDQU ||
	       m == ZYDIS_MNEMONIC_VMASKMOVDQU;
}

static bool is_masked(const struct insn *in)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return true;
	default:
		return is_maskmov(in->z.mnemonic) ||
		       (in->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
			in->z.avx.mask.reg > ZYDIS_REGISTER_K0);
	}
}

static uint64_t register_value(const struct diff_result *a, ZydisRegister r, uint64_t next)
{
	if (r == ZYDIS_REGISTER_NONE)
		return 0;
	if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_IP)
		return next;
	return a->gpr[ZydisRegisterGetId(r) & 15];
}

static uint64_t segment_base(const struct diff_case *c, const struct diff_result *a, ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_FS)
		return c->mode == X86_MODE_64 ? a->fs_base : DIFF_FS32_BASE;
	if (r == ZYDIS_REGISTER_GS)
		return c->mode == X86_MODE_64 ? a->gs_base : DIFF_GS32_BASE;
	return 0;
}

static bool find_operand(const struct diff_case *c, const struct diff_result *a,
			 const struct insn *in, struct operand *out)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->op[i];
		uint64_t ea, mask;

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    o->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			continue;
		mask = ~0ULL >> (64 - in->z.address_width);
		ea = register_value(a, o->mem.base, a->rip + in->z.length) +
		     register_value(a, o->mem.index, 0) * o->mem.scale +
		     (uint64_t)o->mem.disp.value;
		out->lin = (ea & mask) + segment_base(c, a, o->mem.segment);
		out->wrap = c->mode == X86_MODE_64 ? ~0ULL : mask;
		out->len = o->size / 8;
		out->any_order = is_masked(in);
		if (in->z.mnemonic == ZYDIS_MNEMONIC_RET && in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
			out->any_order = true;
			out->len = in->z.operand_width / 8 * 2;
		}
		return true;
	}
	return false;
}

static bool within(const struct operand *o, uint64_t lin)
{
	return ((lin - o->lin) & o->wrap) < o->len;
}

/* Which of a masked operand's bytes a page fault names, and which of its two pages it is for. */
static void excuse_masked(const struct operand *o, const struct diff_result *a,
			  struct diff_result *b)
{
	if (a->vector != EXC_PF || b->vector != EXC_PF || !within(o, a->cr2) || !within(o, b->cr2))
		return;
	b->cr2 = a->cr2;
	b->error = a->error;
}

/* Several accesses, in an order of the implementation's own. */
static bool in_pieces(const struct insn *in, const struct operand *o)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FRSTOR:
		return true;
	default:
		return o->any_order || o->len == 10;
	}
}

static bool addresses(uint8_t vector)
{
	return vector == EXC_PF || vector == EXC_GP || vector == EXC_SS;
}

/* Across the end of canonical addresses: one part of the operand has a page fault, another #GP or #SS. */
static void excuse_edge(const struct operand *o, const struct diff_result *a, struct diff_result *b)
{
	bool crosses = (o->lin ^ (o->lin + o->len - 1)) >> 47;

	if (!crosses || a->vector == b->vector || !addresses(a->vector) || !addresses(b->vector))
		return;
	b->vector = a->vector;
	b->error = a->error;
	b->cr2 = a->cr2;
}

static void excuse_fault(const struct diff_case *c, const struct insn *in,
			 const struct diff_result *a, struct diff_result *b, struct diff_excuse *x)
{
	struct operand o;

	if (uses_mmx(in))
		excuse_mmx(&a->fpu, &b->fpu);
	if (!find_operand(c, a, in, &o))
		return;
	if (in_pieces(in, &o))
		excuse_edge(&o, a, b);
	if (o.any_order)
		excuse_masked(&o, a, b);
	/* The first part of a store of ten bytes to two pages may have been made. */
	if (o.len == 10) {
		x->free_at = o.lin;
		x->free_len = o.len;
	}
}

/*
 * Where only one side faults: MASKMOVDQU and its kin may fault although no byte is active (SDM vol. 2); what
 * follows cannot be compared then.
 */
static bool excuse_outcome(const struct insn *in, bool native)
{
	return native && is_maskmov(in->z.mnemonic);
}

struct diff_excuse case_excuse(const struct diff_case *c, const struct diff_result *a,
			       struct diff_result *b)
{
	const struct diff_result *f = a->outcome == OUT_FAULT ? a : b;
	struct diff_excuse x = {.mnemonic = c->mnemonic};
	struct insn in;

	if (f->outcome != OUT_FAULT || !insn_at(c, f->rip, &in))
		return x;
	x.mnemonic = in.z.mnemonic;
	if (a->outcome == b->outcome && a->rip == b->rip)
		excuse_fault(c, &in, a, b, &x);
	else if (excuse_outcome(&in, f == a))
		x.whole = true;
	return x;
}
