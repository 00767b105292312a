/*
 * forms.c - enumerates encodings, so that every mnemonic and every operand form is tried.
 *
 * All opcode maps are walked with samples of the fields that may choose another instruction or form
 * (prefixes, ModRM, VEX and EVEX fields); what decodes, and can run on both sides, is kept once per
 * key: mnemonic, opcode, operand kinds and sizes, vector length, masking, broadcast, rounding,
 * prefixes. What does not change the form (which registers, which addressing, immediates) is drawn
 * anew for each case by form_instance(), which checks that the key stayed the same.
 */
#include <errno.h>
#include <string.h>

#include "gen.h"

size_t enc_emit(const struct enc *e, uint8_t out[32])
{
	static const uint8_t escape[4][2] = {{0}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
	uint8_t *p = out;

	if (e->seg)
		*p++ = e->seg;
	if (e->a67)
		*p++ = 0x67;
	if (e->kind == ENC_LEGACY) {
		if (e->lock)
			*p++ = 0xf0;
		if (e->p66)
			*p++ = 0x66;
		if (e->rep)
			*p++ = e->rep;
		if (e->rex)
			*p++ = e->rex;
		for (unsigned i = 0; i < 2 && escape[e->map][i]; i++)
			*p++ = escape[e->map][i];
	} else if (e->kind == ENC_VEX) {
		bool r = e->rxb & 1, x = e->rxb >> 1 & 1, b = e->rxb >> 2 & 1;
		uint8_t last = (uint8_t)((~e->vvvv & 15) << 3 | (e->l & 1) << 2 | e->pp);

		if (e->map == 1 && !x && !b && !e->w && e->z) { /* z: the two-byte form is wanted */
			*p++ = 0xc5;
			*p++ = (uint8_t)(!r << 7 | last);
		} else {
			*p++ = 0xc4;
			*p++ = (uint8_t)(!r << 7 | !x << 6 | !b << 5 | e->map);
			*p++ = (uint8_t)(e->w << 7 | last);
		}
	} else {
		*p++ = 0x62;
		*p++ = (uint8_t)((~e->rxb & 7 & 1) << 7 | (~e->rxb >> 1 & 1) << 6 |
				 (~e->rxb >> 2 & 1) << 5 | (~e->rxb >> 3 & 1) << 4 | e->map);
		*p++ = (uint8_t)(e->w << 7 | (~e->vvvv & 15) << 3 | 4 | e->pp);
		*p++ = (uint8_t)(e->z << 7 | e->l << 5 | e->b << 4 | (~e->vvvv >> 4 & 1) << 3 |
				 e->aaa);
	}
	*p++ = e->opcode;
	memcpy(p, e->tail, sizeof(e->tail));
	return (size_t)(p - out) + sizeof(e->tail);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9fb21c651e98df25ULL;
	return h ^ h >> 29;
}

static uint64_t operand_key(const ZydisDecodedOperand *op)
{
	uint64_t h = mix(op->type, (uint64_t)op->encoding << 32 | op->size);

	h = mix(h, (uint64_t)op->element_type << 32 | (uint64_t)op->element_size << 16 |
			   op->element_count);
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		h = mix(h, ZydisRegisterGetClass(op->reg.value));
		if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
			h = mix(h, op->reg.value);
	}
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
		h = mix(h, op->mem.type);
	return h;
}

static uint64_t form_key(const struct insn *in, uint8_t mode)
{
	const ZydisDecodedInstruction *z = &in->z;
	uint64_t h = mix(mode, z->mnemonic);

	h = mix(h, (uint64_t)z->encoding << 32 | (uint64_t)z->opcode_map << 16 | z->opcode);
	h = mix(h, (uint64_t)z->operand_width << 32 | (uint64_t)z->stack_width << 16 |
			   z->avx.vector_length);
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		h = mix(h, z->address_width);
	h = mix(h, z->attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP |
				    ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE));
	h = mix(h, (uint64_t)z->avx.mask.mode << 32 | (uint64_t)z->avx.broadcast.mode << 16 |
			   z->avx.has_sae);
	h = mix(h, z->avx.rounding.mode != ZYDIS_ROUNDING_MODE_INVALID);
	for (unsigned i = 0; i < z->operand_count; i++)
		h = mix(h, operand_key(&in->op[i]));
	return h | 1;
}

bool insn_runnable(const struct gen *g, const struct insn *in, enum coverage *why)
{
	ZydisMnemonic m = in->z.mnemonic;
	const struct insn_info *info = insn_form_info(in);
	bool ud = m == ZYDIS_MNEMONIC_UD0 || m == ZYDIS_MNEMONIC_UD1 || m == ZYDIS_MNEMONIC_UD2;

	*why = COV_EXCLUDED;
	if (exclude_reason(&in->z))
		return false;
	*why = COV_NOT_OFFERED;
	if (ud)
		return true;
	return info->interp != INSN_UD && cpu_model_allows(&g->sh->model, &in->z);
}

/* Whether a sequence may contain it: it goes on to the next instruction, and faults on memory
 * alone. */
static bool fits_sequence(const struct insn *in)
{
	const struct insn_info *info = insn_form_info(in);
	ZydisMnemonic m = in->z.mnemonic;

	if (info->cls != INSN_INNOCUOUS || in->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		return false;
	if (m == ZYDIS_MNEMONIC_ENTER || m == ZYDIS_MNEMONIC_LEAVE || m == ZYDIS_MNEMONIC_DIV ||
	    m == ZYDIS_MNEMONIC_IDIV || m == ZYDIS_MNEMONIC_POPA || m == ZYDIS_MNEMONIC_POPAD)
		return false;
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return false;
	}
	return info->interp != INSN_CONTROL && info->interp != INSN_UD;
}

struct table {
	uint64_t *slot;
	uint32_t size, cap; /* size of slot[] is a power of two */
};

static bool table_add(struct table *t, uint64_t key)
{
	uint32_t i = (uint32_t)(key >> 20) & (t->size - 1);

	while (t->slot[i]) {
		if (t->slot[i] == key)
			return false;
		i = (i + 1) & (t->size - 1);
	}
	t->slot[i] = key;
	return true;
}

struct enumeration {
	struct gen *g;
	struct table seen;
	uint32_t cap;
	uint8_t mode;
	bool full;
};

static void keep(struct enumeration *en, const struct enc *e, const struct insn *in)
{
	struct gen *g = en->g;
	enum coverage why;
	uint64_t key;
	bool ok = insn_runnable(g, in, &why);
	uint8_t *cov = &g->coverage[in->z.mnemonic];

	if (!ok) {
		if (*cov < why)
			*cov = (uint8_t)why;
		return;
	}
	*cov = COV_FORM;
	key = form_key(in, en->mode);
	if (g->nforms >= en->cap || !table_add(&en->seen, key))
		return;
	g->form[g->nforms++] = (struct form){.enc = *e,
					     .key = key,
					     .mnemonic = (uint16_t)in->z.mnemonic,
					     .mode = en->mode,
					     .seq_ok = fits_sequence(in),
					     .cls = (uint8_t)class_of(in)};
}

static bool try_enc(struct enumeration *en, const struct enc *e)
{
	uint8_t bytes[32];
	struct insn in;
	size_t len = enc_emit(e, bytes);

	if (insn_decode(&en->g->dec, (enum x86_mode)en->mode, bytes, len, &in) != DECODE_OK)
		return false;
	keep(en, e, &in);
	return true;
}

static const struct prefixes {
	uint8_t p66, rep, rex, lock, a67;
} prefix_sets[] = {
	{0},
	{.p66 = 1},
	{.rep = 0xf2},
	{.rep = 0xf3},
	{.rex = 0x48},
	{.rex = 0x40},
	{.p66 = 1, .rep = 0xf2},
	{.p66 = 1, .rep = 0xf3},
	{.p66 = 1, .rex = 0x48},
	{.rep = 0xf2, .rex = 0x48},
	{.rep = 0xf3, .rex = 0x48},
	{.lock = 1},
	{.lock = 1, .p66 = 1},
	{.lock = 1, .rex = 0x48},
	{.a67 = 1},
	{.a67 = 1, .p66 = 1},
	{.a67 = 1, .rep = 0xf2},
	{.a67 = 1, .rep = 0xf3},
	{.a67 = 1, .rex = 0x48},
	{.a67 = 1, .rep = 0xf3, .p66 = 1},
	{.a67 = 1, .rep = 0xf3, .rex = 0x48},
	{.a67 = 1, .rep = 0xf2, .rex = 0x48},
	{.a67 = 1, .rep = 0xf2, .p66 = 1},
};

/* Bytes that are a prefix or an escape in the one-byte map. */
static bool is_prefix(uint8_t op, uint8_t mode)
{
	switch (op) {
	case 0x0f:
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return mode == X86_MODE_64 && op >= 0x40 && op <= 0x4f;
	}
}

static void enumerate_legacy(struct enumeration *en)
{
	for (unsigned map = 0; map < 4; map++)
		for (unsigned op = 0; op < 256; op++) {
			if ((map == 0 && is_prefix((uint8_t)op, en->mode)) ||
			    (map == 1 && (op == 0x38 || op == 0x3a || op == 0x0f)))
				continue;
			for (unsigned i = 0; i < ARRAY_SIZE(prefix_sets); i++) {
				const struct prefixes *p = &prefix_sets[i];
				struct enc e = {.kind = ENC_LEGACY,
						.map = (uint8_t)map,
						.opcode = (uint8_t)op,
						.p66 = p->p66,
						.rep = p->rep,
						.rex = p->rex,
						.lock = p->lock,
						.a67 = p->a67};

				if (p->rex && en->mode != X86_MODE_64)
					continue;
				for (unsigned m = 0; m < 64 + 8; m++) {
					e.tail[0] = (uint8_t)(m < 64 ? 0xc0 | m : (m & 7) << 3 | 3);
					try_enc(en, &e);
				}
			}
		}
}

/* ModRM, SIB and vvvv such that gathers decode too: destination, index and mask must differ. */
static const struct sample {
	uint8_t modrm, sib, vvvv;
} vector_samples[] = {{0xc0, 0, 0}, {0xd8, 0, 2},    {0x03, 0, 0},
		      {0x1b, 0, 2}, {0x1c, 0x0b, 2}, {0x1c, 0x0b, 0}};

static void try_vector(struct enumeration *en, struct enc *e, bool group)
{
	for (unsigned s = 0; s < ARRAY_SIZE(vector_samples); s++) {
		e->tail[0] = vector_samples[s].modrm;
		e->tail[1] = vector_samples[s].sib;
		e->vvvv = vector_samples[s].vvvv;
		try_enc(en, e);
	}
	if (!group)
		return;
	for (unsigned m = 0; m < 16; m++) {
		e->tail[0] = (uint8_t)((m & 8 ? 0xc3 : 3) | (m & 7) << 3);
		e->vvvv = 0;
		try_enc(en, e);
	}
}

static void enumerate_vex(struct enumeration *en)
{
	struct enc e = {.kind = ENC_VEX};

	for (unsigned i = 0; i < 3 * 256 * 16; i++) {
		e.map = (uint8_t)(1 + i / (256 * 16));
		e.opcode = (uint8_t)(i / 16);
		e.pp = i & 3;
		e.w = i >> 2 & 1;
		e.l = i >> 3 & 1;
		try_vector(en, &e,
			   (e.map == 1 &&
			    ((e.opcode >= 0x71 && e.opcode <= 0x73) || e.opcode == 0xae)) ||
				   (e.map == 2 && e.opcode == 0xf3));
	}
}

static void enumerate_evex_opcode(struct enumeration *en, struct enc *e)
{
	bool group = e->map == 1 && e->opcode >= 0x71 && e->opcode <= 0x73;

	for (unsigned i = 0; i < 4 * 2 * 4 * 2 * 3; i++) {
		unsigned m = i / 64;

		e->pp = i & 3;
		e->w = i >> 2 & 1;
		e->l = i >> 3 & 3;
		e->b = i >> 5 & 1;
		e->aaa = m ? 1 : 0;
		e->z = m == 2;
		try_vector(en, e, group);
	}
}

static void enumerate_evex(struct enumeration *en)
{
	static const uint8_t maps[] = {1, 2, 3, 5, 6};
	struct enc e = {.kind = ENC_EVEX};

	for (unsigned i = 0; i < ARRAY_SIZE(maps) * 256; i++) {
		e.map = maps[i / 256];
		e.opcode = (uint8_t)i;
		enumerate_evex_opcode(en, &e);
	}
}

static void enumerate_mode(struct enumeration *en, uint8_t mode)
{
	struct gen *g = en->g;

	en->mode = mode;
	g->first[mode] = g->nforms;
	enumerate_legacy(en);
	enumerate_vex(en);
	enumerate_evex(en);
	g->count[mode] = g->nforms - g->first[mode];
}

int forms_enumerate(struct gen *g)
{
	struct enumeration en = {.g = g, .cap = 1u << 17, .seen.size = 1u << 18};

	en.seen.slot = calloc(en.seen.size, sizeof(uint64_t));
	g->form = malloc(en.cap * sizeof(*g->form));
	if (!en.seen.slot || !g->form) {
		free(en.seen.slot);
		return -ENOMEM;
	}
	enumerate_mode(&en, X86_MODE_64);
	if (g->compat)
		enumerate_mode(&en, X86_MODE_32);
	free(en.seen.slot);
	return classes_index(g);
}

/* Draws the fields that should not change the form; `bold` of 0..3 says how many of them. */
static void redraw(struct enc *e, struct rng *r, uint8_t mode, unsigned bold)
{
	uint64_t x = rnd(r);
	uint8_t modrm = e->tail[0], draw = (uint8_t)x;

	for (unsigned i = 1; i < sizeof(e->tail); i++)
		e->tail[i] = (uint8_t)rnd(r);
	if (chance(r, 30))
		memset(e->tail + 2, (uint8_t)(rnd(r) & 1 ? 0xff : 0), 9);
	if ((modrm & 0xc0) != 0xc0) {
		modrm = (uint8_t)((modrm & 0x3f) | (draw & 0xc0 ? draw & 0xc0 : 0x40));
		if ((modrm & 0xc0) == 0xc0)
			modrm &= 0x3f;
		if ((e->tail[0] & 7) != 4) /* the enumeration has rm = 4 for VSIB alone */
			modrm = (uint8_t)((modrm & ~7) | (draw & 7));
	} else if (bold >= 2) {
		modrm = (uint8_t)((modrm & ~7) | (draw & 7));
	}
	if (bold >= 1)
		modrm = (uint8_t)((modrm & ~0x38) | (draw & 0x38));
	e->tail[0] = modrm;
	if (mode != X86_MODE_64) {
		e->rxb = 0;
		e->vvvv = bold >= 3 ? x >> 8 & 7 : e->vvvv & 7;
	} else if (e->kind == ENC_LEGACY) {
		if (e->rex || x >> 16 & 1)
			e->rex = (uint8_t)(0x40 | (e->rex & 8) | (x >> 17 & 7));
	} else {
		e->rxb = x >> 20 & 15;
		if (bold >= 3)
			e->vvvv = x >> 24 & (e->kind == ENC_VEX ? 15 : 31);
	}
	if (e->kind == ENC_EVEX && e->aaa)
		e->aaa = (uint8_t)(1 + (x >> 32) % 7);
	if (e->kind == ENC_EVEX && e->b && (modrm & 0xc0) == 0xc0 && x >> 40 & 1)
		e->l = x >> 41 & 3;
	if (e->kind == ENC_VEX)
		e->z = x >> 44 & 1;
	if (chance(r, 12)) {
		static const uint8_t segs[] = {0x64, 0x65, 0x64, 0x65, 0x2e, 0x36, 0x3e, 0x26};

		e->seg = segs[x >> 48 & 7];
	}
	if (e->kind != ENC_LEGACY && mode == X86_MODE_64 && chance(r, 6))
		e->a67 = 1;
}

bool form_instance(const struct gen *g, const struct form *f, struct rng *r, struct insn *out)
{
	for (unsigned t = 0; t < 12; t++) {
		struct enc e = f->enc;
		uint8_t bytes[32];
		size_t len;

		if (t < 11)
			redraw(&e, r, f->mode, t < 4 ? 3 : t < 7 ? 2 : t < 9 ? 1 : 0);
		len = enc_emit(&e, bytes);
		if (insn_decode(&g->dec, (enum x86_mode)f->mode, bytes, len, out) == DECODE_OK &&
		    form_key(out, f->mode) == f->key)
			return true;
	}
	return false;
}
