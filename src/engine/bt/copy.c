/* Copying an instruction: its bytes, with the memory operand and R10 redirected. */
#include "engine/bt/translate.h"

/* LOCK, F2, F3, 66. Segment overrides and 67 concern the address, which is none of this. */
static void emit_prefixes(struct emitter *e, const ZydisDecodedInstruction *z)
{
	for (unsigned i = 0; i < z->raw.prefix_count; i++) {
		uint8_t p = z->raw.prefixes[i].value;

		if (p == 0xf0 || p == 0xf2 || p == 0xf3 || (p == 0x66 && z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY))
			emit8(e, p);
	}
}

/* Where a guest register number stands that must change from 10 to 11: they differ in the lowest bit alone. */
struct renaming {
	bool modrm_reg, modrm_rm, vvvv, opcode;
};

static struct renaming find_r10(const struct guest_insn *g)
{
	struct renaming r = {0};

	for (unsigned i = 0; i < g->insn.z.operand_count; i++) {
		const ZydisDecodedOperand *o = &g->insn.op[i];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) != ZYDIS_REGISTER_R10)
			continue;
		r.modrm_reg |= o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
		r.modrm_rm |= o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
		r.vvvv |= o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD;
		r.opcode |= o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
	}
	return r;
}

/* The X and B bits of VEX and EVEX, which are inverted, for a memory operand. */
static uint8_t extension_bits(const struct host_operand *m)
{
	bool x = m->index != NO_INDEX && m->index >= 8;

	return (uint8_t)((x ? 0 : 0x40) | (m->base >= 8 ? 0 : 0x20));
}

/* REX, VEX or EVEX with the address's extension bits replaced by those of m, if that is not NULL. */
static void emit_extension(struct emitter *e, const struct guest_insn *g, const struct host_operand *m, bool flip_vvvv)
{
	const ZydisDecodedInstruction *z = &g->insn.z;
	const uint8_t *b = g->insn.bytes;
	uint8_t ext = m ? extension_bits(m) : 0;
	uint8_t flip = flip_vvvv ? 0x08 : 0;

	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY: {
		bool has = z->attributes & ZYDIS_ATTRIB_HAS_REX;
		unsigned rex = has ? (unsigned)(z->raw.rex.W << 3 | z->raw.rex.R << 2) : 0;

		rex |= m ? (unsigned)(~ext & 0x60) >> 5 : has ? (unsigned)(z->raw.rex.X << 1 | z->raw.rex.B) : 0;
		if (has || rex)
			emit8(e, 0x40 | rex);
		break;
	}
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		b += z->raw.vex.offset;
		if (b[0] == 0xc5 && m && ext != 0x60) { /* the two-byte form has neither */
			emit8(e, 0xc4);
			emit8(e, (b[1] & 0x80) | ext | 1);
			emit8(e, (b[1] & 0x7f) ^ flip);
		} else if (b[0] == 0xc5) {
			emit8(e, 0xc5);
			emit8(e, b[1] ^ flip);
		} else {
			emit8(e, 0xc4);
			emit8(e, m ? (b[1] & ~0x60u) | ext : b[1]);
			emit8(e, b[2] ^ flip);
		}
		break;
	default: /* EVEX */
		b += z->raw.evex.offset;
		emit8(e, b[0]);
		emit8(e, m ? (b[1] & ~0x60u) | ext : b[1]);
		emit8(e, b[2] ^ flip);
		emit8(e, b[3]);
	}
}

void emit_copy(struct emitter *e, const struct guest_insn *g, const struct host_operand *m, bool r10_to_r11)
{
	const ZydisDecodedInstruction *z = &g->insn.z;
	const uint8_t *b = g->insn.bytes;
	struct renaming r = {0};
	unsigned at = insn_opcode_offset(z), reg, rm;

	if (r10_to_r11)
		r = find_r10(g);
	emit_prefixes(e, z);
	emit_extension(e, g, m, r.vvvv);
	if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		unsigned opcode_end = at;

		if (r.opcode) { /* a register in the opcode's low bits: of the last opcode byte */
			while (opcode_end < z->length && b[opcode_end] != z->opcode)
				emit8(e, b[opcode_end++]);
			emit8(e, b[opcode_end++] ^ 1u);
		}
		emit_bytes(e, b + opcode_end, z->length - opcode_end);
		return;
	}
	emit_bytes(e, b + at, z->raw.modrm.offset - at);
	at = z->raw.modrm.offset + 1u;
	reg = z->raw.modrm.reg ^ (unsigned)r.modrm_reg;
	rm = z->raw.modrm.rm ^ (unsigned)r.modrm_rm;
	if (!m) {
		emit8(e, (unsigned)(z->raw.modrm.mod << 6) | reg << 3 | rm);
	} else {
		at += (z->attributes & ZYDIS_ATTRIB_HAS_SIB ? 1u : 0u) + z->raw.disp.size / 8u;
		emit_operand(e, reg, m, z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX);
	}
	emit_bytes(e, b + at, z->length - at);
}
