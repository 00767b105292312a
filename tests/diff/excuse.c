/*
 * excuse.c - what an implementation may choose when an instruction faults: the manuals leave it
 * open, or Intel's and AMD's CPUs differ. Where the results differ in just that, the engine's is
 * made to agree.
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
 * An MMX instruction sets TOP to 0 and all tags to valid: whether it has done so when it faults is
 * not said. The FXSAVE image counts registers from TOP, so that they move.
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

/* A memory operand: linear and effective address, the mask at which that wraps, and length. */
struct operand {
	uint64_t lin, ea, wrap;
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

static uint64_t segment_base(const struct diff_case *c, const struct diff_result *a,
			     ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_FS)
		return c->mode == X86_MODE_64 ? a->fs_base : DIFF_FS32_BASE;
	if (r == ZYDIS_REGISTER_GS)
		return c->mode == X86_MODE_64 ? a->gs_base : DIFF_GS32_BASE;
	return 0;
}

static bool is_stack(const ZydisDecodedOperand *o)
{
	unsigned base = (unsigned)ZydisRegisterGetId(o->mem.base);

	return o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && (base == R_SP || base == R_BP);
}

static bool find_operand(const struct diff_case *c, const struct diff_result *a,
			 const struct insn *in, struct operand *out)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->op[i];
		uint64_t ea, mask;

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			continue;
		mask = ~0ULL >> (64 - in->z.address_width);
		if (is_stack(o))
			mask = c->mode == X86_MODE_64 ? ~0ULL : 0xffffffff; /* the stack's own */
		ea = register_value(a, o->mem.base, a->rip + in->z.length) +
		     register_value(a, o->mem.index, 0) * o->mem.scale +
		     (uint64_t)o->mem.disp.value;
		out->ea = ea & mask;
		out->lin = out->ea + segment_base(c, a, o->mem.segment);
		out->wrap = mask;
		out->len = o->size / 8;
		out->any_order = is_masked(in);
		if (in->z.mnemonic == ZYDIS_MNEMONIC_RET &&
		    in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
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

static bool of_access(uint8_t vector)
{
	return vector == EXC_PF || vector == EXC_GP || vector == EXC_SS || vector == EXC_AC;
}

/*
 * Which of several faults comes first: those of an operand's parts across the end of canonical
 * addresses; those of CALL's target and of its push.
 */
static void excuse_order(const struct insn *in, const struct operand *o,
			 const struct diff_result *a, struct diff_result *b)
{
	bool crosses = (o->lin ^ (o->lin + o->len - 1)) >> 47;

	if (a->vector == b->vector || !of_access(a->vector) || !of_access(b->vector))
		return;
	if (in->z.mnemonic != ZYDIS_MNEMONIC_CALL && !(crosses && in_pieces(in, o)))
		return;
	b->vector = a->vector;
	b->error = a->error;
	b->cr2 = a->cr2;
}

/* What POPA, FRSTOR and XRSTOR have already loaded, and PUSHA stored (8 registers), when they
 * fault. */
static void excuse_partial(const struct insn *in, const struct diff_result *a,
			   struct diff_result *b, struct diff_excuse *x)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		x->free_len = in->z.operand_width;
		x->free_at = (uint32_t)(a->gpr[R_SP] - x->free_len);
		break;
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		for (unsigned i = 0; i < 8; i++)
			if (i != R_SP)
				b->gpr[i] = a->gpr[i];
		break;
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		if (a->vector == b->vector)
			b->fpu = a->fpu;
		break;
	default:
		break;
	}
}

static void excuse_fault(const struct diff_case *c, const struct insn *in,
			 const struct diff_result *a, struct diff_result *b, struct diff_excuse *x)
{
	struct operand o;

	if (uses_mmx(in))
		excuse_mmx(&a->fpu, &b->fpu);
	excuse_partial(in, a, b, x);
	if (!find_operand(c, a, in, &o))
		return;
	excuse_order(in, &o, a, b);
	if (o.any_order)
		excuse_masked(&o, a, b);
	/* The first part of a store of ten bytes to two pages may have been made. */
	if (o.len == 10) {
		x->free_at = o.lin;
		x->free_len = o.len;
	}
}

/*
 * An operand that runs over the end of a 4 GiB segment may fault or wrap (SDM vol. 3, 5.3). And one
 * of several parts, with 32-bit addresses in 64-bit code: whether each part's address wraps is not
 * said.
 */
static bool excuse_wrap(const struct diff_case *c, const struct insn *in,
			const struct diff_result *f, const struct diff_result *a,
			const struct diff_result *b)
{
	bool image = c->flags & CASE_IMAGE;
	struct operand o;

	if (c->mode == X86_MODE_64 && !image)
		return false;
	if (find_operand(c, f, in, &o))
		return o.wrap == 0xffffffff &&
		       o.ea + (image ? DIFF_IMAGE_SIZE : o.len) > 1ULL << 32;
	/* A gather or scatter: one side had a page fault right there, without a segment base. */
	return (a->vector == EXC_PF && a->cr2 + 8 > 1ULL << 32 && b->vector == EXC_GP) ||
	       (b->vector == EXC_PF && b->cr2 + 8 > 1ULL << 32 && a->vector == EXC_GP);
}

static bool is_far_return(const struct insn *in)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_RET:
		return in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		return true;
	default:
		return false;
	}
}

/* A 64-bit return to 32-bit code drops RIP's upper half, or holds it against the limit. */
static bool excuse_return(const struct diff_case *c, const struct insn *in,
			  const struct diff_result *a, const struct diff_result *b)
{
	return c->mode == X86_MODE_64 && is_far_return(in) && a->cs == DIFF_CS32 &&
	       b->cs == DIFF_CS64 && b->vector == EXC_GP;
}

/*
 * MASKMOVDQU and its kin may fault although no byte is active (SDM vol. 2), and so in an earlier
 * round of a loop than the engine, if it does at all.
 */
static bool excuse_maskmov(const struct diff_case *c, const struct diff_result *a,
			   const struct diff_result *b)
{
	if (a->outcome != OUT_FAULT)
		return false;
	return a->rip != b->rip || (c->kind >= DIFF_SEQUENCE && a->gpr[R_CX] != b->gpr[R_CX]);
}

/* IRET whose frame runs into a read-only page: the host was seen to fault in it without end. */
static bool stuck_in_return(const struct insn *in, const struct diff_result *a,
			    const struct diff_result *b)
{
	return a->outcome == OUT_TIMEOUT && a->rip == b->rip && is_far_return(in);
}

/* The native side has a page of its own, which is absent in the guest. */
static bool hits_harness(const struct diff_result *b)
{
	return b->outcome == OUT_FAULT && b->vector == EXC_PF && b->cr2 - DIFF_CTX < DIFF_CTX_SIZE;
}

/* What follows an instruction that faults on one side, and is excused, cannot be compared. f: a or
 * b. */
static bool excuse_rest(const struct diff_case *c, const struct insn *in,
			const struct diff_result *f, const struct diff_result *a,
			const struct diff_result *b)
{
	if (is_maskmov(in->z.mnemonic) && f == a && excuse_maskmov(c, a, b))
		return true;
	if (a->rip == b->rip && a->outcome == b->outcome && a->vector == b->vector)
		return false;
	return excuse_wrap(c, in, f, a, b) || excuse_return(c, in, a, b) || hits_harness(b) ||
	       stuck_in_return(in, a, b);
}

/* How many bits of an address the x87 pointers hold is the implementation's: 48 at least. */
static void excuse_pointer(const uint8_t *a, uint8_t *b)
{
	uint64_t pa, pb;

	memcpy(&pa, a, 8);
	memcpy(&pb, b, 8);
	if (((pa ^ pb) & (BIT(48) - 1)) == 0 && !canonical(pb))
		memcpy(b, a, 8);
}

struct diff_excuse case_excuse(const struct diff_case *c, const struct diff_result *a,
			       struct diff_result *b)
{
	struct diff_excuse x = {.mnemonic = c->mnemonic};
	struct insn in;

	excuse_pointer(a->fpu.fx + 8, b->fpu.fx + 8);
	excuse_pointer(a->fpu.fx + 16, b->fpu.fx + 16);
	if (b->outcome == OUT_FAULT && insn_at(c, b->rip, &in)) {
		x.mnemonic = in.z.mnemonic;
		x.whole |= excuse_rest(c, &in, b, a, b);
	}
	if (a->outcome == OUT_FAULT && insn_at(c, a->rip, &in)) {
		x.mnemonic = in.z.mnemonic;
		x.whole |= excuse_rest(c, &in, a, a, b);
		if (a->outcome == b->outcome && a->rip == b->rip)
			excuse_fault(c, &in, a, b, &x);
	}
	return x;
}
