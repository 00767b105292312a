/*
 * decode.c - instruction decoding: Zydis, set up so that it sees what the guest's CPU would execute.
 *
 * Some encodings mean one thing on a CPU that has an extension and another on one that does not. No CPU
 * model offers MPX, CET, CLDEMOTE or Knights Corner, so their encodings must decode as the NOPs (or the
 * masks) they are everywhere else. LZCNT and TZCNT stay on: REP BSF and REP BSR run on the host CPU, and
 * every host Ringer runs on executes them so.
 *
 * A 66 prefix on a near branch in 64-bit mode is ignored by Intel and halves the target on AMD. Software
 * that runs on both never uses it; it is decoded as Intel does, which is also what REX.W 66 means on AMD
 * (the padding of __tls_get_addr calls).
 */
#include "x86/insn.h"

#include <string.h>

static void init_mode(ZydisDecoder *z, ZydisMachineMode machine, ZydisStackWidth stack)
{
	static const ZydisDecoderMode off[] = {
		ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_KNC,
		ZYDIS_DECODER_MODE_CLDEMOTE, ZYDIS_DECODER_MODE_AMD_BRANCHES,
	};

	/* These fail for impossible arguments only. */
	(void)ZydisDecoderInit(z, machine, stack);
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		(void)ZydisDecoderEnableMode(z, off[i], ZYAN_FALSE);
	(void)ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_LZCNT, ZYAN_TRUE);
	(void)ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_TZCNT, ZYAN_TRUE);
}

void insn_decoder_init(struct insn_decoder *d)
{
	init_mode(&d->z[X86_MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	init_mode(&d->z[X86_MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	init_mode(&d->z[X86_MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

/*
 * A SIB byte with base 101 and mod 00 means no base register, whatever REX.B says (SDM vol. 2, table 2-5).
 * Zydis 4.0 reads R13 there.
 */
static void drop_false_base(struct insn *insn)
{
	const ZydisDecodedInstruction *z = &insn->z;

	if (!(z->attributes & ZYDIS_ATTRIB_HAS_SIB) || z->raw.sib.base != 5 || z->raw.modrm.mod != 0)
		return;
	for (unsigned i = 0; i < z->operand_count; i++) {
		ZydisDecodedOperand *o = &insn->op[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			continue;
		o->mem.base = ZYDIS_REGISTER_NONE;
		o->mem.disp.has_displacement = ZYAN_TRUE;
		o->mem.disp.value = z->raw.disp.value;
	}
}

/* All that are not there are 800 bytes: clearing them would be a twentieth of decoding, and push other data out. */
static void clear_absent(struct insn *insn)
{
	for (unsigned i = insn->z.operand_count; i < INSN_OPERANDS_MIN; i++)
		memset(&insn->op[i], 0, sizeof(insn->op[i]));
}

enum decode_result insn_decode(const struct insn_decoder *d, enum x86_mode mode, const uint8_t *bytes,
			       size_t len, struct insn *out)
{
	ZydisDecoderContext context;
	ZyanStatus st;

	if (len > X86_INSN_MAX)
		len = X86_INSN_MAX;
	if (!len)
		return DECODE_SHORT;
	st = ZydisDecoderDecodeInstruction(&d->z[mode], &context, bytes, len, &out->z);
	if (ZYAN_SUCCESS(st))
		st = ZydisDecoderDecodeOperands(&d->z[mode], &context, &out->z, out->op, out->z.operand_count);
	if (ZYAN_SUCCESS(st)) {
		clear_absent(out);
		memset(out->bytes, 0, sizeof(out->bytes));
		memcpy(out->bytes, bytes, out->z.length);
		drop_false_base(out);
		return DECODE_OK;
	}
	/* Known to be too long before all bytes are here: the fetch of the rest comes, and may fault, first. */
	if (st == ZYDIS_STATUS_NO_MORE_DATA || st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return len < X86_INSN_MAX ? DECODE_SHORT : DECODE_TOO_LONG;
	return DECODE_INVALID;
}

unsigned insn_opcode_offset(const ZydisDecodedInstruction *z)
{
	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		return z->raw.vex.offset + z->raw.vex.size;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		return z->raw.evex.offset + 4u;
	default:
		return z->attributes & ZYDIS_ATTRIB_HAS_REX ? z->raw.rex.offset + 1u : z->raw.prefix_count;
	}
}

bool insn_has_hidden_memory(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->z.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    insn->op[i].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			return true;
	return false;
}
