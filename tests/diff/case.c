/*
 * case.c - what both sides do with a case alike: memory contents, code bytes, XSAVE images.
 */
#include <string.h>

#include "case.h"

const struct arena_page arena_page[ARENA_PAGES] = {
	[ARENA_DATA] = {DIFF_DATA, false},
	[ARENA_DATA2] = {DIFF_DATA + DIFF_PAGE, false},
	[ARENA_RO] = {DIFF_DATA + 2 * DIFF_PAGE, true},
	[ARENA_STACK] = {DIFF_STACK, false},
	[ARENA_STACK2] = {DIFF_STACK + DIFF_PAGE, false},
	[ARENA_HIGH] = {DIFF_HIGH, false},
	[ARENA_HIGH_RO] = {DIFF_HIGH + DIFF_PAGE, true},
};

static void poke_byte(uint8_t *pages[ARENA_PAGES], uint64_t va, uint8_t value)
{
	for (unsigned i = 0; i < ARENA_PAGES; i++)
		if (va - arena_page[i].va < DIFF_PAGE && !arena_page[i].ro)
			pages[i][va - arena_page[i].va] = value;
}

void case_poke(const struct diff_shared *sh, const struct diff_case *c, uint8_t *pages[ARENA_PAGES])
{
	if (c->image < DIFF_IMAGES)
		for (unsigned i = 0; i < DIFF_IMAGE_SIZE; i++)
			poke_byte(pages, c->image_addr + i, sh->image[c->image][i]);
	for (unsigned p = 0; p < c->npokes; p++)
		for (unsigned i = 0; i < c->poke[p].len; i++)
			poke_byte(pages, c->poke[p].addr + i, (uint8_t)(c->poke[p].value >> 8 * i));
}

size_t case_code(const struct diff_case *c, uint8_t buf[DIFF_CODE_MAX])
{
	uint8_t *p = buf + c->code_len;
	uint64_t stub = DIFF_STUB;
	/* The pointer is aligned: EFLAGS.AC may be set. */
	uint32_t gap = -(c->code_off + c->code_len + 6u) & 7;

	memcpy(buf, c->code, c->code_len);
	if (!c->with_exit)
		return c->code_len;
	if (c->mode == X86_MODE_64) {
		p[0] = 0xff; /* jmp *gap(%rip) */
		p[1] = 0x25;
		memcpy(p + 2, &gap, 4);
		memset(p + 6, 0xcc, gap);
		memcpy(p + 6 + gap, &stub, 8);
		return c->code_len + 14u + gap;
	}
	*p = 0xea; /* ljmp $DIFF_CS64, $DIFF_STUB */
	memcpy(p + 1, &stub, 4);
	p[5] = DIFF_CS64;
	p[6] = 0;
	return c->code_len + 7u;
}

static void collect_page(const uint8_t *page, const uint8_t *tmpl, unsigned first,
			 struct diff_result *r)
{
	for (unsigned i = 0; i < DIFF_PAGE / 64; i++) {
		if (!memcmp(page + i * 64, tmpl + i * 64, 64))
			continue;
		if (r->ndirty < DIFF_DIRTY_MAX) {
			struct diff_line *l = &r->dirty[r->ndirty];

			l->index = first + i;
			memcpy(l->data, page + i * 64, 64);
		}
		r->ndirty++;
	}
}

void case_collect(const struct diff_shared *sh, const struct diff_case *c,
		  uint8_t *pages[ARENA_PAGES], struct diff_result *r)
{
	r->ndirty = 0;
	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		const uint8_t *tmpl = sh->template[c->template] + i * DIFF_PAGE;

		if (memcmp(pages[i], tmpl, DIFF_PAGE))
			collect_page(pages[i], tmpl, i * (DIFF_PAGE / 64), r);
	}
}

/* XSAVE area: legacy region, header at 512 with XSTATE_BV, then the components (SDM vol. 1, 13.4).
 */
enum { X_YMM = 2, X_K = 5, X_ZMM_HI = 6, X_HI16 = 7 };

void fpu_to_xsave(const struct xstate_layout *x, const struct diff_fpu *f, uint8_t *image)
{
	uint64_t header[8] = {x->xcr0};

	memcpy(image, f->fx, 160);
	memset(image + 416, 0, 96);
	memcpy(image + 512, header, 64);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(image + 160 + 16 * i, f->zmm[i], 16);
		if (x->xcr0 & XCR0_AVX)
			memcpy(image + x->offset[X_YMM] + 16 * i, f->zmm[i] + 16, 16);
		if (x->xcr0 & XCR0_ZMM_HI256)
			memcpy(image + x->offset[X_ZMM_HI] + 32 * i, f->zmm[i] + 32, 32);
		if (x->xcr0 & XCR0_HI16_ZMM)
			memcpy(image + x->offset[X_HI16] + 64 * i, f->zmm[16 + i], 64);
	}
	if (x->xcr0 & XCR0_OPMASK)
		memcpy(image + x->offset[X_K], f->k, 64);
}

void fpu_from_xsave(const struct xstate_layout *x, const uint8_t *image, uint64_t bv,
		    struct diff_fpu *f)
{
	static const uint8_t init_x87[2] = {0x7f, 0x03};

	memset(f, 0, sizeof(*f));
	if (bv & XCR0_X87)
		memcpy(f->fx, image, 160);
	else
		memcpy(f->fx, init_x87, 2);
	memcpy(f->fx + 24, image + 24, 8); /* MXCSR is written whatever XSTATE_BV says */
	for (unsigned i = 0; i < 16; i++) {
		if (bv & XCR0_SSE)
			memcpy(f->zmm[i], image + 160 + 16 * i, 16);
		if (bv & XCR0_AVX)
			memcpy(f->zmm[i] + 16, image + x->offset[X_YMM] + 16 * i, 16);
		if (bv & XCR0_ZMM_HI256)
			memcpy(f->zmm[i] + 32, image + x->offset[X_ZMM_HI] + 32 * i, 32);
		if (bv & XCR0_HI16_ZMM)
			memcpy(f->zmm[16 + i], image + x->offset[X_HI16] + 64 * i, 64);
	}
	if (bv & XCR0_OPMASK)
		memcpy(f->k, image + x->offset[X_K], 64);
}
