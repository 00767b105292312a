/*
 * seq.c - instructions of random forms in a row, each with its operands set up before it; and the
 * short sequences with skips and LOOP, in both modes.
 */
#include <string.h>

#include "emit.h"

static uint64_t gpr_bit(ZydisRegister reg)
{
	ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (ZydisRegisterGetClass(full) != ZYDIS_REGCLASS_GPR64)
		return 0;
	return BIT((unsigned)ZydisRegisterGetId(full) & 15);
}

/* Pushes and pops of their own may move a kept RSP, but not in a loop, whose returns would go
 * astray. */
static bool writes_kept(const struct seq *q, const struct insn *in)
{
	bool may_push = q->c->kind != DIFF_LOOP;

	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];
		bool hidden = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
		uint64_t bit;

		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		bit = gpr_bit(op->reg.value);
		if (bit & q->keep && !(hidden && bit == BIT(R_SP) && may_push))
			return true;
	}
	return false;
}

/* With RSP kept its operands use it as it is: those that stay near are taken. */
static bool near_stack(const struct seq *q, const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperandMem *m = &in->op[i].mem;

		if (in->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY || gpr_bit(m->base) != BIT(R_SP))
			continue;
		if (m->index != ZYDIS_REGISTER_NONE || m->disp.value < -512 ||
		    m->disp.value > 512 || in->z.address_width != 64)
			return false;
	}
	return true;
}

/* Whole state images have a case of their own; MASKMOV may fault in an earlier round than an
 * engine. */
static bool fits_block(const struct diff_case *c, const struct insn *in)
{
	const char *name = ZydisMnemonicGetString(in->z.mnemonic);

	if (c->kind < DIFF_BLOCK)
		return true;
	return strncmp(name, "xsave", 5) && strncmp(name, "xrstor", 6) &&
	       strncmp(name, "fxsave", 6) && strncmp(name, "fxrstor", 7) &&
	       strcmp(name, "fnsave") && strcmp(name, "fnstenv") && !strstr(name, "maskmovq") &&
	       !strstr(name, "maskmovdqu");
}

static bool draw_insn(const struct seq *q, struct insn *in)
{
	const struct gen *g = q->g;
	uint8_t mode = q->c->mode;

	for (unsigned t = 0; t < 12; t++) {
		const struct form_list *l = &g->seq[mode][weights_draw(&g->weights, q->r)];

		if (l->n && form_instance(g, &g->form[l->index[rnd_below(q->r, l->n)]], q->r, in) &&
		    !writes_kept(q, in) && fits_block(q->c, in))
			return true;
	}
	return false;
}

void put_insn(const struct seq *q)
{
	struct steer s = {
		.g = q->g, .r = q->r, .c = q->c, .sequence = true, .stack = q->keep & BIT(R_SP)};
	struct insn in;
	uint8_t bytes[X86_INSN_MAX];

	if (!draw_insn(q, &in) || !room(q->c, 128))
		return;
	steer_registers(&s, &in);
	for (unsigned i = 0; i < s.nsets; i++)
		if (q->keep >> s.set[i].reg & 1 && (s.set[i].reg != R_SP || !near_stack(q, &in)))
			return;
	for (unsigned i = 0; i < s.nsets; i++)
		if (!(q->keep >> s.set[i].reg & 1))
			put_mov(q->c, s.set[i].reg, s.set[i].value);
	memcpy(bytes, in.bytes, sizeof(bytes));
	steer_patch(&s, &in, bytes, here(q->c));
	put(q->c, bytes, in.z.length);
	note_undefined(q->c, &in);
	if (!q->c->mnemonic)
		q->c->mnemonic = in.z.mnemonic;
}

/* jcc over what the body puts. */
static void put_skip(struct seq *q)
{
	struct diff_case *c = q->c;
	uint8_t jcc[2] = {(uint8_t)(0x70 | rnd_below(q->r, 16)), 0};
	uint16_t at;

	put(c, jcc, 2);
	at = c->code_len;
	put_insn(q);
	if (c->code_len - at < 128)
		c->code[at - 1] = (uint8_t)(c->code_len - at);
}

static void put_loop(struct seq *q)
{
	static const uint8_t loops[] = {0xe2, 0xe2, 0xe0, 0xe1};
	struct diff_case *c = q->c;
	uint8_t loop[2] = {loops[rnd_below(q->r, 4)], 0};
	uint16_t at;

	put_mov(c, R_CX, 1 + rnd_below(q->r, 12));
	q->keep |= BIT(R_CX);
	at = c->code_len;
	for (unsigned n = 1 + (unsigned)rnd_below(q->r, 2); n--;)
		put_insn(q);
	q->keep &= ~BIT(R_CX);
	if (c->code_len + 2 - at > 128)
		return;
	loop[1] = (uint8_t)(at - (c->code_len + 2));
	put_pinned(c, loop, 2);
}

void calm(struct diff_case *c)
{
	uint8_t *fx = c->fpu.fx;

	fx[0] |= 0x3f; /* FCW */
	fx[2] &= 0x7f; /* FSW.ES and B */
	fx[3] &= 0x7f;
	fx[24] |= 0x80; /* MXCSR */
	fx[25] |= 0x1f;
}

void sequence_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	struct seq q = {g, r, c, 0};
	unsigned n = 2 + (unsigned)rnd_below(r, 11);

	c->mnemonic = ZYDIS_MNEMONIC_INVALID;
	if (chance(r, 90))
		calm(c);
	c->rflags &= ~(uint64_t)FLAG_AC;
	while (n-- && c->code_len < 200) {
		unsigned what = (unsigned)rnd_below(r, 12);

		if (what == 0)
			put_loop(&q);
		else if (what <= 2)
			put_skip(&q);
		else
			put_insn(&q);
	}
}
