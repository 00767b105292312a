/*
 * BT, BTS, BTR and BTC with a memory operand and the bit's number in a register: the number, which is signed, reaches
 * beyond the operand. The word with that bit is found first; then the number counts within it.
 */
#include "engine/bt/light.h"

bool bit_string_usable(const struct guest_insn *g)
{
	return g->op.op_size >= 4 && g->op.addr_size == 8;
}

/* R11 = the bit's number; sign-extended when `wide`. Keeps flags. */
static void load_number(struct translation *t, const struct guest_insn *g, bool wide)
{
	struct emitter *e = &t->draft.e;
	unsigned r = g->op.reg;

	if (r == R_10 || r == R_11) {
		load_guest(e, R_11, r);
		r = R_11;
	}
	if (wide && g->op.op_size == 4)
		emit_rr(e, 0x63, 1, R_11, r); /* movsxd r11, r32 */
	else if (r != R_11)
		emit_mov(e, R_11, r);
}

/* R10 = host address of the word. */
static void emit_word(struct translation *t, const struct guest_insn *g)
{
	struct emitter *e = &t->draft.e;
	struct access a = {.used = true, .base = g->op.base, .index = g->op.index, .scale = g->op.scale,
			   
			   .seg = g->op.seg >= S_FS ? g->op.seg : S_SS, .addr_size = g->op.addr_size, .size = g->op.op_size, .disp = g->op.disp};

	if (a.base == EA_RIP)
		a.disp += g->off;
	t->retry = emit_at(e);
	emit_linear(t, &a, a.disp);
	load_number(t, g, true);
	emit_shift(e, SHIFT_SAR, 1, R_11, 3);
	emit_alu_ri(e, ALU_AND, 1, R_11, -(int32_t)g->op.op_size);
	emit_rr(e, OP_ADD_RM, 1, R_10, R_11);
	emit_probe(t, g->op.op_size, g->op.mnemonic != ZYDIS_MNEMONIC_BT, false, false, PROBE_HOST);
}

void emit_bit_string(struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	unsigned w = g->op.op_size == 8;

	t->holds = 0;
	clobber_flags(t, wanted_before(g));
	emit_word(t, g);
	if (g->op.mnemonic == ZYDIS_MNEMONIC_BT) {
		/* Registers: the number counts modulo the size by itself. */
		flags_before(t, g);
		note_flags(t);
		emit_rm(e, OP_MOV_RM, w, R_10, R_10, 0);
		load_number(t, g, false);
		emit_rr(e, 0x0fa3, w, R_11, R_10);
	} else {
		load_number(t, g, false);
		emit_alu_ri(e, ALU_AND, 0, R_11, (int32_t)g->op.op_size * 8 - 1);
		emit_rg(e, OP_MOV_MR, 1, R_11, GB(temp));
		flags_before(t, g);
		note_flags(t);
		emit_rg(e, OP_MOV_RM, 1, R_11, GB(temp));
		if (g->op.flags & OP_LOCK)
			emit8(e, 0xf0);
		emit_rm(e, 0x0f00u | g->op.opcode, w, R_11, R_10, 0);
	}
	t->flags = FLAGS_HOST;
}
