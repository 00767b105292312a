/*
 * gen.c - makes case number n of a run: forms in turn, mutated bytes, and short sequences.
 */
#include <errno.h>
#include <string.h>

#include "gen.h"

int gen_init(struct gen *g, const struct diff_shared *sh, uint64_t seed, bool compat)
{
	memset(g, 0, sizeof(*g));
	g->seed = seed;
	g->sh = sh;
	g->compat = compat;
	insn_decoder_init(&g->dec);
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (exclude_mnemonic(m))
			g->coverage[m] = COV_EXCLUDED;
	return forms_enumerate(g);
}

void gen_free(struct gen *g)
{
	free(g->form);
	for (unsigned i = 0; i < ARRAY_SIZE(g->seq); i++)
		free(g->seq[i]);
}

static void place(struct rng *r, struct diff_case *c)
{
	c->code_off = 0x400 + (uint32_t)rnd_below(r, 0x400);
	if (chance(r, 10))
		c->code_off = 0x1000 - (uint32_t)rnd_below(r, 16); /* across a page */
	c->with_exit = true;
	c->code_len = 0;
}

/* The code runs into the end of the mapped pages: the fetch faults part of the way. */
static void cut_at_end(struct rng *r, struct diff_case *c)
{
	uint32_t keep = (uint32_t)rnd_below(r, c->code_len);

	c->code_len = (uint16_t)keep;
	c->code_off = DIFF_CODE_SIZE - keep;
	c->with_exit = false;
}

static void note_undefined(struct diff_case *c, const struct insn *in)
{
	/* What the interpreter runs on the host CPU has the CPU's flags, undefined ones too. */
	if (in->z.cpu_flags && insn_form_info(in)->interp != INSN_NATIVE)
		c->undefined |= in->z.cpu_flags->undefined & FLAG_STATUS;
}

/* Whether a misaligned vector access raises #AC is up to the implementation (SDM vol. 3, 6.15). */
static bool has_vector(const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		ZydisRegisterClass k = ZYDIS_REGCLASS_INVALID;

		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			k = ZydisRegisterGetClass(in->op[i].reg.value);
		if (k >= ZYDIS_REGCLASS_XMM && k <= ZYDIS_REGCLASS_ZMM)
			return true;
	}
	return false;
}

static void one_insn(const struct gen *g, struct rng *r, struct diff_case *c, struct insn *in)
{
	struct steer s = {.g = g, .r = r, .c = c};

	c->mnemonic = in->z.mnemonic;
	if (has_vector(in))
		c->rflags &= ~(uint64_t)FLAG_AC;
	steer_registers(&s, in);
	memcpy(c->code, in->bytes, in->z.length);
	steer_patch(&s, in, c->code, DIFF_CODE + c->code_off);
	c->code_len = in->z.length;
	note_undefined(c, in);
}

static void form_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	const struct form *f = &g->form[c->form];
	struct insn in;

	c->mnemonic = f->mnemonic;
	if (!form_instance(g, f, r, &in))
		return; /* an empty case: nothing but the exit */
	one_insn(g, r, c, &in);
	if (chance(r, 1))
		cut_at_end(r, c);
}

static void mutate(struct rng *r, uint8_t *b, size_t *len)
{
	static const uint8_t prefix[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e,
					 0x26, 0x64, 0x65, 0x48, 0x40, 0x41, 0x44, 0x4f};
	unsigned n = 1 + (unsigned)rnd_below(r, 3);

	while (n--) {
		size_t at = rnd_below(r, *len);

		switch (rnd_below(r, 5)) {
		case 0:
			b[at] ^= (uint8_t)(1u << rnd_below(r, 8));
			break;
		case 1:
			b[at] = (uint8_t)rnd(r);
			break;
		default:
			if (*len >= 24)
				break;
			memmove(b + 1, b, *len);
			b[0] = prefix[rnd_below(r, ARRAY_SIZE(prefix))];
			++*len;
		}
	}
}

static void mutated_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	const struct form *f = &g->form[c->form];
	uint8_t b[40] = {0};
	enum coverage why;
	struct insn in;
	size_t len;

	if (!form_instance(g, f, r, &in))
		return;
	memcpy(b, in.bytes, in.z.length);
	len = in.z.length;
	mutate(r, b, &len);
	switch (insn_decode(&g->dec, (enum x86_mode)c->mode, b, sizeof(b), &in)) {
	case DECODE_OK:
		if (insn_runnable(g, &in, &why))
			one_insn(g, r, c, &in);
		break;
	case DECODE_TOO_LONG:
		memcpy(c->code, b, sizeof(b));
		c->code_len = sizeof(b);
		break;
	default:
		/* All that the decoder saw: an exit jump behind fewer bytes might complete them. */
		memcpy(c->code, b, 24);
		c->code_len = 24;
		c->flags |= CASE_INVALID;
	}
}

struct sequence {
	const struct gen *g;
	struct rng *r;
	struct diff_case *c;
	uint64_t keep; /* registers that must not be written: a loop counter */
};

static bool writes_kept(const struct sequence *q, const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];
		ZydisRegister full;

		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->reg.value);
		if (ZydisRegisterGetClass(full) == ZYDIS_REGCLASS_GPR64 &&
		    q->keep >> ((unsigned)ZydisRegisterGetId(full) & 15) & 1)
			return true;
	}
	return false;
}

static void put(struct diff_case *c, const void *bytes, size_t len)
{
	memcpy(c->code + c->code_len, bytes, len);
	c->code_len = (uint16_t)(c->code_len + len);
}

static void put_mov(struct diff_case *c, unsigned reg, uint64_t value)
{
	uint8_t op[2] = {(uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7))};

	if (c->mode == X86_MODE_64) {
		put(c, op, 2);
		put(c, &value, 8);
	} else {
		put(c, op + 1, 1);
		put(c, &value, 4);
	}
}

static bool draw_insn(const struct sequence *q, struct insn *in)
{
	const struct gen *g = q->g;
	uint8_t mode = q->c->mode;

	for (unsigned t = 0; t < 8; t++) {
		const struct form *f = &g->form[g->seq[mode][rnd_below(q->r, g->nseq[mode])]];

		/* Half of them from the legacy maps, which have few forms. */
		if (f->enc.kind != ENC_LEGACY && chance(q->r, 80))
			continue;
		if (form_instance(g, f, q->r, in) && !writes_kept(q, in))
			return true;
	}
	return false;
}

static void put_insn(const struct sequence *q)
{
	struct steer s = {.g = q->g, .r = q->r, .c = q->c, .sequence = true};
	struct insn in;
	uint8_t bytes[X86_INSN_MAX];

	if (!draw_insn(q, &in))
		return;
	steer_registers(&s, &in);
	for (unsigned i = 0; i < s.nsets; i++) {
		if (q->keep >> s.set[i].reg & 1)
			return;
		put_mov(q->c, s.set[i].reg, s.set[i].value);
	}
	memcpy(bytes, in.bytes, sizeof(bytes));
	steer_patch(&s, &in, bytes, DIFF_CODE + q->c->code_off + q->c->code_len);
	put(q->c, bytes, in.z.length);
	note_undefined(q->c, &in);
	if (!q->c->mnemonic)
		q->c->mnemonic = in.z.mnemonic;
}

/* jcc over what the body puts. */
static void put_skip(struct sequence *q)
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

static void put_loop(struct sequence *q)
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
	put(c, loop, 2);
}

/* Exceptions masked, so that most sequences get to their end. */
static void calm(struct diff_case *c)
{
	uint8_t *fx = c->fpu.fx;

	fx[0] |= 0x3f; /* FCW */
	fx[2] &= 0x7f; /* FSW.ES and B */
	fx[3] &= 0x7f;
	fx[24] |= 0x80; /* MXCSR */
	fx[25] |= 0x1f;
}

static void sequence_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	struct sequence q = {g, r, c, 0};
	unsigned n = 2 + (unsigned)rnd_below(r, 11);

	c->mnemonic = ZYDIS_MNEMONIC_INVALID;
	if (chance(r, 90))
		calm(c);
	c->rflags &= ~(uint64_t)FLAG_AC;
	while (n-- && c->code_len < 110) {
		unsigned what = (unsigned)rnd_below(r, 12);

		if (what == 0)
			put_loop(&q);
		else if (what <= 2)
			put_skip(&q);
		else
			put_insn(&q);
	}
}

void gen_case(const struct gen *g, uint64_t number, struct diff_case *c)
{
	struct rng r = {g->seed * 0x9e3779b97f4a7c15ULL ^ number * 0xd1342543de82ef95ULL};

	rnd(&r);
	memset(c, 0, offsetof(struct diff_case, fpu));
	c->number = number;
	c->kind = number % 8 < 5 ? DIFF_FORM : number % 8 == 5 ? DIFF_MUTATED : DIFF_SEQUENCE;
	c->form = c->kind == DIFF_FORM ? (uint32_t)((number / 8 * 5 + number % 8) % g->nforms)
				       : (uint32_t)rnd_below(&r, g->nforms);
	c->mode = g->form[c->form].mode;
	if (c->kind == DIFF_SEQUENCE)
		c->mode = g->compat && chance(&r, 25) ? X86_MODE_32 : X86_MODE_64;
	place(&r, c);
	state_random(&r, g->sh, c);
	if (c->kind == DIFF_FORM)
		form_case(g, &r, c);
	else if (c->kind == DIFF_MUTATED)
		mutated_case(g, &r, c);
	else
		sequence_case(g, &r, c);
}

void gen_report(const struct gen *g, bool verbose, FILE *out)
{
	unsigned n[4] = {0};

	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		n[g->coverage[m]]++;
	fprintf(out, "forms: %u in 64-bit mode, %u in 32-bit mode\n", g->count[X86_MODE_64],
		g->count[X86_MODE_32]);
	fprintf(out,
		"mnemonics: %u tried, %u not offered by the CPU model, %u excluded, %u with no "
		"encoding in these modes\n",
		n[COV_FORM], n[COV_NOT_OFFERED], n[COV_EXCLUDED], n[COV_UNKNOWN]);
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (exclude_mnemonic(m))
			fprintf(out, "  excluded: %-10s %s\n",
				ZydisMnemonicGetString((ZydisMnemonic)m), exclude_mnemonic(m));
	for (unsigned m = 1; verbose && m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (g->coverage[m] == COV_UNKNOWN || g->coverage[m] == COV_NOT_OFFERED)
			fprintf(out, "  %s: %s\n",
				g->coverage[m] == COV_UNKNOWN ? "no encoding" : "not offered",
				ZydisMnemonicGetString((ZydisMnemonic)m));
}
