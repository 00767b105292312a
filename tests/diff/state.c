/*
 * state.c - random starting states: registers, x87 and vector state, memory templates, XSAVE
 * images.
 */
#include <string.h>

#include "gen.h"

static uint64_t random_float64(struct rng *r)
{
	static const uint64_t special[] = {
		0,
		0x8000000000000000,
		0x3ff0000000000000,
		0xbff0000000000000,
		0x7ff0000000000000,
		0xfff0000000000000,
		0x7ff8000000000000,
		0x7ff0000000000001,
		0xfff8000000000001,
		1,
		0x000fffffffffffff,
		0x0010000000000000,
		0x7fefffffffffffff,
		0x43e0000000000000,
		0xc3e0000000000000,
		0x41dfffffffc00000,
		0x4330000000000001,
		0x3fe0000000000000,
	};

	if (chance(r, 60))
		return special[rnd_below(r, ARRAY_SIZE(special))];
	/* Exponent near 1.0: sums and products stay finite and round. */
	return (rnd(r) & 0x800fffffffffffff) | (1023 - 8 + rnd_below(r, 16)) << 52;
}

static uint32_t random_float32(struct rng *r)
{
	static const uint32_t special[] = {
		0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
		0x7f800001, 0xffc00001, 1,          0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000,
		0xcf000000, 0x5f000000, 0x3c003c00, 0x7bff0001, 0x7c00fc00, 0x7e007c01, 0x03ff8400,
	};

	if (chance(r, 60))
		return special[rnd_below(r, ARRAY_SIZE(special))];
	return (uint32_t)(rnd(r) & 0x807fffff) | (uint32_t)(127 - 8 + rnd_below(r, 16)) << 23;
}

static uint64_t random_edge(struct rng *r)
{
	static const uint64_t edge[] = {
		0,
		1,
		~0ULL,
		0x7f,
		0x80,
		0xff,
		0x7fff,
		0x8000,
		0xffff,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		0x7fffffffffffffff,
		0x8000000000000000,
		0xffffffff80000000,
		2,
		63,
		64,
		31,
		32,
		0x0101010101010101,
		0x8080808080808080,
		0x5555555555555555,
		0x7fffffffffff,
		0x800000000000,
	};

	return edge[rnd_below(r, ARRAY_SIZE(edge))];
}

uint64_t random_value(struct rng *r)
{
	switch (rnd_below(r, 8)) {
	case 0:
	case 1:
		return random_edge(r);
	case 2:
		return rnd_below(r, 256);
	case 3:
		return (uint64_t) - (int64_t)rnd_below(r, 256);
	case 4:
		return rnd(r) & 0xffffffff;
	case 5:
		return DIFF_DATA + rnd_below(r, 0x2000);
	default:
		return rnd(r);
	}
}

/* Vector register contents: integers, or floats of one width. */
static void random_vector(struct rng *r, uint8_t *p, size_t len)
{
	unsigned kind = (unsigned)rnd_below(r, 6);

	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = rnd(r);

		if (kind == 0)
			v = random_float64(r);
		else if (kind == 1)
			v = random_float32(r) | (uint64_t)random_float32(r) << 32;
		else if (kind == 2)
			v = random_edge(r);
		else if (kind == 3) /* signs alone: masks for masked moves */
			v &= 0x8080808080808080;
		memcpy(p + i, &v, 8);
	}
}

static void random_st(struct rng *r, uint8_t *p)
{
	static const struct {
		uint64_t mant;
		uint16_t se;
	} special[] = {
		{0, 0},
		{0, 0x8000},
		{BIT(63), 0x3fff},
		{BIT(63), 0xbfff},
		{BIT(63), 0x7fff},
		{BIT(63), 0xffff},
		{3ULL << 62, 0x7fff},
		{BIT(63) | 1, 0x7fff},
		{3ULL << 62, 0xffff},
		{1, 0},
		{BIT(63), 0},
		{1, 0x3fff},
		{0, 0x7fff},
		{~0ULL, 0x7ffe},
		{0xc90fdaa22168c235, 0x4000},
		{~0ULL, 0x403d},
		{BIT(63), 0x403e},
		{BIT(63), 0xc03e},
		{BIT(62), 0x7fff},
	};
	uint64_t mant = rnd(r) | BIT(63);
	uint16_t se = (uint16_t)((rnd(r) & 0x8000) | (0x3fff - 70 + rnd_below(r, 140)));

	if (chance(r, 50)) {
		unsigned i = (unsigned)rnd_below(r, ARRAY_SIZE(special));

		mant = special[i].mant;
		se = special[i].se;
	} else if (chance(r, 20)) {
		mant &= ~0ULL << 40; /* short significands make exact results */
	}
	memset(p, 0, 16);
	memcpy(p, &mant, 8);
	memcpy(p + 8, &se, 2);
}

static void random_x87(struct rng *r, uint8_t *fx)
{
	uint16_t fcw = (uint16_t)(0x40 | 0x3f | (rnd(r) & 0xf00));
	uint16_t fsw = (uint16_t)(rnd(r) & 0x7f00);
	uint64_t fip = DIFF_CODE + rnd_below(r, 0x1000), fdp = DIFF_DATA + rnd_below(r, 0x1000);
	uint16_t fop = (uint16_t)(rnd(r) & 0x7ff);

	if (chance(r, 15))
		fcw &= (uint16_t)~rnd_below(r, 64);
	if (chance(r, 20))
		fsw |= (uint16_t)rnd_below(r, 128);
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080; /* ES and B follow from the rest */
	memcpy(fx, &fcw, 2);
	memcpy(fx + 2, &fsw, 2);
	fx[4] = chance(r, 50) ? 0xff : chance(r, 20) ? 0 : (uint8_t)rnd(r);
	fx[5] = 0;
	memcpy(fx + 6, &fop, 2);
	memcpy(fx + 8, &fip, 8);
	memcpy(fx + 16, &fdp, 8);
	for (unsigned i = 0; i < 8; i++)
		random_st(r, fx + 32 + 16 * i);
}

static uint32_t random_mxcsr(struct rng *r)
{
	uint32_t v = 0x1f80;

	if (chance(r, 40))
		v |= (uint32_t)rnd(r) & 0xe07f; /* FZ, RC, DAZ, flags */
	if (chance(r, 15))
		v &= ~(uint32_t)(rnd(r) & 0x1f80);
	return v;
}

void fpu_random(struct rng *r, struct diff_fpu *f)
{
	uint32_t mxcsr = random_mxcsr(r), mask = 0xffff;

	memset(f->fx, 0, sizeof(f->fx));
	random_x87(r, f->fx);
	memcpy(f->fx + 24, &mxcsr, 4);
	memcpy(f->fx + 28, &mask, 4);
	for (unsigned i = 0; i < 32; i++)
		random_vector(r, f->zmm[i], 64);
	for (unsigned i = 0; i < 8; i++)
		f->k[i] = random_value(r);
}

void state_random(struct rng *r, const struct diff_shared *sh, struct diff_case *c)
{
	uint64_t x;

	for (unsigned i = 0; i < 16; i++)
		c->gpr[i] = random_value(r);
	c->gpr[R_SP] = DIFF_STACK + 0x800 + (rnd_below(r, 0x1000) & ~7ULL);
	x = rnd(r);
	c->rflags = FLAG_1 | FLAG_IF | (x & FLAG_STATUS);
	if (chance(r, 20))
		c->rflags |= FLAG_DF;
	if (chance(r, 5))
		c->rflags |= FLAG_AC;
	if (chance(r, 5))
		c->rflags |= FLAG_ID;
	c->fs_base = DIFF_DATA + rnd_below(r, 0x2000);
	c->gs_base = chance(r, 80) ? DIFF_STACK + rnd_below(r, 0x2000)
				   : DIFF_HIGH + rnd_below(r, 0x1000);
	if (c->mode != X86_MODE_64) {
		for (unsigned i = 0; i < 8; i++)
			c->gpr[i] &= 0xffffffff;
		memset(c->gpr + 8, 0, 8 * sizeof(uint64_t));
		c->fs_base = DIFF_FS32_BASE;
		c->gs_base = DIFF_GS32_BASE;
	}
	c->template = (uint8_t)rnd_below(r, DIFF_TEMPLATES);
	c->image = DIFF_IMAGES;
	fpu_random(r, &c->fpu);
	/* A component without host support keeps its initial value on both sides. */
	for (unsigned i = 0; i < 32; i++) {
		if (i >= 16 && !(sh->model.xstate.xcr0 & XCR0_HI16_ZMM))
			memset(c->fpu.zmm[i], 0, 64);
		if (!(sh->model.xstate.xcr0 & XCR0_ZMM_HI256))
			memset(c->fpu.zmm[i] + 32, 0, 32);
		if (!(sh->model.xstate.xcr0 & XCR0_AVX))
			memset(c->fpu.zmm[i] + 16, 0, 48);
	}
	if (!(sh->model.xstate.xcr0 & XCR0_OPMASK))
		memset(c->fpu.k, 0, sizeof(c->fpu.k));
}

/* An image that XRSTOR and FXRSTOR take, unless it is damaged on purpose. */
static void random_image(struct rng *r, const struct diff_shared *sh, uint8_t *img)
{
	static const uint8_t dead[] = {8, 16, 23};
	struct diff_fpu f;
	uint64_t header[8] = {0}, xcr0 = sh->model.xstate.xcr0;
	uint8_t big[8192] = {0};

	fpu_random(r, &f);
	fpu_to_xsave(&sh->model.xstate, &f, big);
	header[0] = chance(r, 40) ? xcr0 : xcr0 & rnd(r);
	if (chance(r, 30))
		header[1] = BIT(63) | header[0] | (xcr0 & rnd(r)); /* compacted */
	if (chance(r, 10))
		header[rnd_below(r, 8)] ^= BIT(rnd_below(r, 64));
	if (chance(r, 5))
		big[512 + dead[rnd_below(r, 3)]] ^= 1;
	memcpy(big + 512, header, 64);
	if (chance(r, 5))
		big[24 + 2] = 1; /* MXCSR reserved bit */
	memcpy(img, big, DIFF_IMAGE_SIZE);
}

void state_pool(struct diff_shared *sh, uint64_t seed)
{
	struct rng r = {seed ^ 0x7e57ab1e};

	for (unsigned t = 0; t < DIFF_TEMPLATES; t++)
		for (unsigned i = 0; i < ARENA_SIZE; i += 64)
			random_vector(&r, sh->template[t] + i, 64);
	for (unsigned t = 1; t < DIFF_TEMPLATES; t++)
		for (unsigned i = 0; i < ARENA_PAGES; i++)
			if (arena_page[i].ro)
				memcpy(sh->template[t] + i * DIFF_PAGE,
				       sh->template[0] + i * DIFF_PAGE, DIFF_PAGE);
	for (unsigned i = 0; i < DIFF_IMAGES; i++)
		random_image(&r, sh, sh->image[i]);
}
