/*
 * gen.c - makes case number n of a run: forms in turn, mutated bytes, and short sequences.
 */
#include <errno.h>
#include <string.h>

#include "emit.h"

int gen_init(struct gen *g, const struct diff_shared *sh, uint64_t seed, bool compat,
	     const struct weights *w)
{
	memset(g, 0, sizeof(*g));
	g->seed = seed;
	g->sh = sh;
	g->compat = compat;
	g->weights = *w;
	insn_decoder_init(&g->dec);
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (exclude_mnemonic(m))
			g->coverage[m] = COV_EXCLUDED;
	return forms_enumerate(g);
}

void gen_free(struct gen *g)
{
	free(g->form);
	free(g->single);
	for (unsigned i = 0; i < 3 * CLASSES; i++)
		free(g->seq[i / CLASSES][i % CLASSES].index);
}

static void place(struct rng *r, struct diff_case *c)
{
	bool large = c->kind >= DIFF_BLOCK;

	c->code_off = 0x400 + (uint32_t)rnd_below(r, 0x400);
	if (large && chance(r, 40))
		c->code_off = 0x1000 - (uint32_t)rnd_below(r, 400);
	else if (chance(r, 10))
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

void note_undefined(struct diff_case *c, const struct insn *in)
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

const char *const shape_name[SHAPES] = {"all", "single", "block", "loop"};

enum diff_shape shape_of(uint64_t number)
{
	return number % 4 < 2 ? SHAPE_SINGLE : number % 4 == 2 ? SHAPE_BLOCK : SHAPE_LOOP;
}

/* n counts the cases of the shape SHAPE_SINGLE. */
static void single_kind(const struct gen *g, struct rng *r, uint64_t n, struct diff_case *c)
{
	c->kind = n % 8 < 5 ? DIFF_FORM : n % 8 == 5 ? DIFF_MUTATED : DIFF_SEQUENCE;
	c->form = g->single[c->kind == DIFF_FORM ? (n / 8 * 5 + n % 8) % g->nsingle
						 : rnd_below(r, g->nsingle)];
	c->mode = g->form[c->form].mode;
	if (c->kind == DIFF_SEQUENCE)
		c->mode = g->compat && chance(r, 25) ? X86_MODE_32 : X86_MODE_64;
}

void gen_case(const struct gen *g, uint64_t number, struct diff_case *c)
{
	static void (*const make[])(const struct gen *, struct rng *, struct diff_case *) = {
		[DIFF_FORM] = form_case,         [DIFF_MUTATED] = mutated_case,
		[DIFF_SEQUENCE] = sequence_case, [DIFF_BLOCK] = block_case,
		[DIFF_LOOP] = loop_case,
	};
	struct rng r = {g->seed * 0x9e3779b97f4a7c15ULL ^ number * 0xd1342543de82ef95ULL};
	enum diff_shape shape = shape_of(number);

	rnd(&r);
	memset(c, 0, offsetof(struct diff_case, fpu));
	c->number = number;
	c->mode = X86_MODE_64;
	c->kind = shape == SHAPE_BLOCK ? DIFF_BLOCK : DIFF_LOOP;
	if (shape == SHAPE_SINGLE)
		single_kind(g, &r, number / 4 * 2 + number % 4, c);
	place(&r, c);
	state_random(&r, g->sh, c);
	make[c->kind](g, &r, c);
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
	for (unsigned m = 1; verbose && m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (exclude_mnemonic(m))
			fprintf(out, "  excluded: %-10s %s\n",
				ZydisMnemonicGetString((ZydisMnemonic)m), exclude_mnemonic(m));
	for (unsigned m = 1; verbose && m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
		if (g->coverage[m] == COV_UNKNOWN || g->coverage[m] == COV_NOT_OFFERED)
			fprintf(out, "  %s: %s\n",
				g->coverage[m] == COV_UNKNOWN ? "no encoding" : "not offered",
				ZydisMnemonicGetString((ZydisMnemonic)m));
}
