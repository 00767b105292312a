/*
 * classes.c - sorts forms into classes, and how often each is drawn for sequences, blocks and
 * loops. Translators go wrong in plain integer code, memory operands, stack and flags, so these
 * dominate.
 */
#include <errno.h>
#include <string.h>

#include "gen.h"

static const struct {
	const char *name;
	unsigned weight;
} class_row[CLASSES] = {
	[CLASS_INT] = {"int", 20},      [CLASS_MEM] = {"mem", 30},
	[CLASS_STACK] = {"stack", 8},   [CLASS_FLAG] = {"flag", 18},
	[CLASS_STRING] = {"string", 4}, [CLASS_X87] = {"x87", 4},
	[CLASS_MMX] = {"mmx", 1},       [CLASS_SSE] = {"sse", 5},
	[CLASS_AVX] = {"avx", 4},       [CLASS_AVX512] = {"avx512", 4},
	[CLASS_OTHER] = {"other", 1},
};

static bool any_register(const struct insn *in, ZydisRegisterClass lo, ZydisRegisterClass hi)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		ZydisRegisterClass k = ZYDIS_REGCLASS_INVALID;

		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			k = ZydisRegisterGetClass(in->op[i].reg.value);
		if (k >= lo && k <= hi)
			return true;
	}
	return false;
}

static bool has_memory(const struct insn *in, bool stack)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];
		bool hidden = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (stack ? hidden && ZydisRegisterGetId(op->mem.base) == R_SP
			  : op->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			return true;
	}
	return false;
}

static enum form_class vector_class(const struct insn *in)
{
	if (in->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    any_register(in, ZYDIS_REGCLASS_MASK, ZYDIS_REGCLASS_MASK))
		return CLASS_AVX512;
	if (!any_register(in, ZYDIS_REGCLASS_XMM, ZYDIS_REGCLASS_ZMM))
		return CLASSES;
	return in->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? CLASS_AVX : CLASS_SSE;
}

enum form_class class_of(const struct insn *in)
{
	enum form_class v = vector_class(in);
	uint32_t tested = in->z.cpu_flags ? in->z.cpu_flags->tested & FLAG_STATUS : 0;

	if (v != CLASSES)
		return v;
	if (any_register(in, ZYDIS_REGCLASS_MMX, ZYDIS_REGCLASS_MMX))
		return CLASS_MMX;
	if (in->z.meta.isa_ext == ZYDIS_ISA_EXT_X87)
		return CLASS_X87;
	if (in->z.meta.category == ZYDIS_CATEGORY_STRINGOP)
		return CLASS_STRING;
	if (insn_form_info(in)->cls != INSN_INNOCUOUS)
		return CLASS_OTHER;
	if (has_memory(in, true))
		return CLASS_STACK;
	if (tested || in->z.meta.category == ZYDIS_CATEGORY_FLAGOP)
		return CLASS_FLAG;
	if (in->z.mnemonic == ZYDIS_MNEMONIC_NOP || !in->z.operand_count_visible)
		return CLASS_OTHER;
	return has_memory(in, false) ? CLASS_MEM : CLASS_INT;
}

static int class_named(const char *s, size_t len)
{
	for (int i = 0; i < CLASSES; i++)
		if (strlen(class_row[i].name) == len && !strncmp(class_row[i].name, s, len))
			return i;
	return -EINVAL;
}

int weights_parse(struct weights *w, const char *text, bool only)
{
	static const char integer[] = "int,mem,stack,flag,string";

	if (only && !strcmp(text, "integer"))
		text = integer;
	if (only)
		memset(w->n, 0, sizeof(w->n));
	while (*text) {
		size_t len = strcspn(text, ",="), skip = len;
		int i = class_named(text, len);
		char *end;

		if (i < 0)
			return i;
		w->n[i] = class_row[i].weight;
		if (text[skip] == '=') {
			w->n[i] = (unsigned)strtoul(text + skip + 1, &end, 10);
			skip = (size_t)(end - text);
		}
		text += skip;
		text += *text == ',';
	}
	w->total = 0;
	for (int i = 0; i < CLASSES; i++)
		w->total += w->n[i];
	return w->total ? 0 : -EINVAL;
}

void weights_default(struct weights *w)
{
	w->total = 0;
	for (int i = 0; i < CLASSES; i++)
		w->total += w->n[i] = class_row[i].weight;
}

void weights_print(const struct weights *w, FILE *out)
{
	struct weights d;
	const char *sep = "";

	weights_default(&d);
	if (!memcmp(d.n, w->n, sizeof(d.n)))
		return;
	fprintf(out, " --only-class ");
	for (int i = 0; i < CLASSES; i++)
		if (w->n[i]) {
			fprintf(out, "%s%s=%u", sep, class_row[i].name, w->n[i]);
			sep = ",";
		}
}

void weights_help(FILE *out)
{
	for (int i = 0; i < CLASSES; i++)
		fprintf(out, " %s=%u", class_row[i].name, class_row[i].weight);
	fprintf(out, "\n");
}

enum form_class weights_draw(const struct weights *w, struct rng *r)
{
	uint64_t x = rnd_below(r, w->total);
	unsigned i = 0;

	while (x >= w->n[i])
		x -= w->n[i++];
	return (enum form_class)i;
}

int classes_index(struct gen *g)
{
	g->single = malloc((g->nforms + 1) * sizeof(uint32_t));
	if (!g->single)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->nforms; i++)
		if (g->weights.n[g->form[i].cls])
			g->single[g->nsingle++] = i;
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < g->nforms; i++) {
			struct form_list *l = &g->seq[g->form[i].mode][g->form[i].cls];

			if (!g->form[i].seq_ok)
				continue;
			if (pass)
				l->index[l->n] = i;
			l->n++;
		}
		for (unsigned k = 0; !pass && k < 3 * CLASSES; k++) {
			struct form_list *l = &g->seq[k / CLASSES][k % CLASSES];

			l->index = malloc((l->n + 1) * sizeof(uint32_t));
			if (!l->index)
				return -ENOMEM;
			l->n = 0;
		}
	}
	return g->nsingle ? 0 : -EINVAL;
}
