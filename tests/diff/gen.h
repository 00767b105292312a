/*
 * gen.h - the generator: forms (enumerated encodings), operand steering, starting states.
 */
#ifndef RINGER_DIFF_GEN_H
#define RINGER_DIFF_GEN_H

#include <stdlib.h>

#include "case.h"

/* splitmix64: every state is a good seed. */
struct rng {
	uint64_t s;
};
static inline uint64_t rnd(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}
/* 0..n-1; n > 0. */
static inline uint64_t rnd_below(struct rng *r, uint64_t n)
{
	return (uint64_t)((unsigned __int128)rnd(r) * n >> 64);
}
/* True in pct of a hundred cases. */
static inline bool chance(struct rng *r, unsigned pct)
{
	return rnd_below(r, 100) < pct;
}

enum enc_kind { ENC_LEGACY, ENC_VEX, ENC_EVEX };

/* An encoding, field by field; the bytes after the opcode (ModRM, SIB, displacement, immediates)
 * are tail. */
struct enc {
	uint8_t kind, map, opcode;
	uint8_t p66, rep, lock, seg, a67; /* rep: 0, F2 or F3; seg: 0 or the prefix byte */
	uint8_t rex;                      /* 0 or 40..4F */
	uint8_t pp, w, l, b, z, aaa;
	uint8_t vvvv; /* register number, not inverted; bit 4 is EVEX.V' */
	uint8_t rxb;  /* R X B R' as bits 0..3, not inverted */
	uint8_t tail[12];
};

struct form {
	struct enc enc;
	uint64_t key;
	uint16_t mnemonic;
	uint8_t mode;
	uint8_t seq_ok; /* may stand in the middle of a sequence */
	uint8_t cls;    /* enum form_class */
};

/* classes.c */
enum form_class {
	CLASS_INT,   /* general registers alone */
	CLASS_MEM,   /* ... and memory */
	CLASS_STACK, /* push, pop, ... */
	CLASS_FLAG,  /* reads status flags */
	CLASS_STRING,
	CLASS_X87,
	CLASS_MMX,
	CLASS_SSE,
	CLASS_AVX,
	CLASS_AVX512,
	CLASS_OTHER,
	CLASSES
};
struct weights {
	unsigned n[CLASSES], total;
};
struct form_list {
	uint32_t *index, n;
};

/* What became of each mnemonic. */
enum coverage { COV_UNKNOWN, COV_EXCLUDED, COV_NOT_OFFERED, COV_FORM };

struct gen {
	uint64_t seed;
	const struct diff_shared *sh;
	struct insn_decoder dec;
	struct form *form;
	uint32_t nforms;
	struct weights weights;
	struct form_list seq[3][CLASSES]; /* forms with seq_ok, by mode */
	uint32_t *single, nsingle;        /* forms that cases of one instruction draw from */
	uint32_t first[3], count[3];      /* forms by mode */
	uint8_t coverage[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	bool compat; /* also make cases in 32-bit mode */
};

/* exclude.c: why an instruction cannot be compared with the host CPU; NULL when it can. */
const char *exclude_reason(const ZydisDecodedInstruction *z);
const char *exclude_mnemonic(unsigned mnemonic);

enum form_class class_of(const struct insn *in);
void weights_default(struct weights *w);
/* "int=20,mem=5" changes these; only: all others become 0, and "integer" means all but vectors and
 * x87. */
int weights_parse(struct weights *w, const char *text, bool only) must_check;
/* As options, when they are not the default. */
void weights_print(const struct weights *w, FILE *out);
void weights_help(FILE *out);
enum form_class weights_draw(const struct weights *w, struct rng *r);
int classes_index(struct gen *g) must_check;

/* forms.c */
size_t enc_emit(const struct enc *e, uint8_t out[32]);
int forms_enumerate(struct gen *g);
/* Another instruction of the same form: other registers, addressing, immediates. */
bool form_instance(const struct gen *g, const struct form *f, struct rng *r, struct insn *out);
bool insn_runnable(const struct gen *g, const struct insn *in, enum coverage *why);

/* state.c */
void state_pool(struct diff_shared *sh, uint64_t seed);
void state_random(struct rng *r, const struct diff_shared *sh, struct diff_case *c);
uint64_t random_value(struct rng *r);
void fpu_random(struct rng *r, struct diff_fpu *f);

/* steer.c: gives operands sensible values. */
struct steer {
	const struct gen *g;
	struct rng *r;
	struct diff_case *c;
	/* In a sequence, register values are set by instructions emitted before the steered one. */
	bool sequence;
	uint64_t stack;    /* BIT(R_SP) when RSP is good as it is */
	uint64_t assigned; /* registers given a value for this instruction */
	struct {
		uint8_t reg;
		uint64_t value;
	} set[8];
	unsigned nsets;
	uint64_t tpl_addr; /* of the explicit memory operand, 0: none */
};
/* Chooses register values for the instruction: into the case, or into set[] for a sequence. */
void steer_registers(struct steer *s, const struct insn *in);
/* Patches displacements and branch targets, when the address of the instruction is known. */
void steer_patch(struct steer *s, const struct insn *in, uint8_t *bytes, uint64_t ip);

/* gen.c */
enum diff_shape { SHAPE_ALL, SHAPE_SINGLE, SHAPE_BLOCK, SHAPE_LOOP, SHAPES };
extern const char *const shape_name[SHAPES];
/* The shape that the case of this number has: numbers mean the same whatever shapes a run is
 * limited to. */
enum diff_shape shape_of(uint64_t number);
int gen_init(struct gen *g, const struct diff_shared *sh, uint64_t seed, bool compat,
	     const struct weights *w) must_check;
void note_undefined(struct diff_case *c, const struct insn *in);
void gen_free(struct gen *g);
void gen_case(const struct gen *g, uint64_t number, struct diff_case *c);
void gen_report(const struct gen *g, bool verbose, FILE *out);

#endif
