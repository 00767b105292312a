/*
 * FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC and XRSTOR while the guest's state is in the hardware: the host's own
 * instruction does it, with no component that the guest has not enabled.
 *
 * A save goes straight to guest memory where that is one piece for the host. With x87 in use the image may name code of
 * the cache (FIP), which no guest may see, not even another vCPU for a moment: then it is made in vcpu.bounce first. A
 * restore always comes from there: what was checked is what is loaded. XSAVEOPT's modified optimization goes by the
 * address of the last XRSTOR, so into the bounce buffer all is saved.
 *
 * What does not fit (faults, images in pieces, 32-bit forms, verification) takes src/cpu's way, which spills the state.
 */
#include "engine/bt/light.h"

#define FX_FIXED 416 /* bytes of an FXSAVE image that the CPU writes */
#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define MXCSR_MASK 0xffffu
#define XSAVE_HEADER 512
#define XSAVE_EXTENDED 576
#define COMPACTED BIT(63)

static uint64_t xinuse(void)
{
	uint32_t lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(1));
	return (uint64_t)hi << 32 | lo;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t val;

	memcpy(&val, p, 4);
	return val;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t val;

	memcpy(&val, p, 8);
	return val;
}

static bool all_zero(const uint8_t *p, unsigned len)
{
	uint64_t any = 0;

	for (unsigned i = 0; i < len; i += 8)
		any |= get64(p + i);
	return !any;
}

static void general(struct vcpu *v, const struct cpu_op *op)
{
	cpu_emulate_fn(op->mnemonic)(v, op);
}

static bool usable(const struct vcpu *v, const struct cpu_op *op)
{
	return v->fpu_live && v->mode == X86_MODE_64 && op->op_size == 8 && !(v->cr0 & (CR0_EM | CR0_TS)) &&
	       !bt_of(v)->verify && !bt_of(v)->config->stress.slow_memory;
}

static uint64_t linear(const struct vcpu *v, const struct cpu_op *op)
{
	return cpu_ea(v, op) + (op->seg >= S_FS ? v->seg[op->seg].base : 0);
}

/* All of [lin, lin + len) in host memory, or NULL. */
static uint8_t *image_at(struct vcpu *v, uint64_t lin, enum mmu_access access, uint64_t len)
{
	uint64_t got = len;
	uint8_t *p = light_span(v, lin, access, &got);

	return got == len ? p : NULL;
}

/* The mask of MXCSR as src/cpu shows it, whatever more the host has. */
static void fix_mxcsr_mask(const struct vcpu *v, uint8_t *img)
{
	const uint32_t mask = MXCSR_MASK;

	if (bt_of(v)->mxcsr_mask != mask && get32(img + FX_MXCSR_MASK) == bt_of(v)->mxcsr_mask)
		memcpy(img + FX_MXCSR_MASK, &mask, 4);
}

static void light_fxsave(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = linear(v, op);
	uint8_t *img = NULL;

	if (usable(v, op) && !(lin & 15) && !(v->efer & EFER_FFXSR))
		img = image_at(v, lin, MMU_WRITE, 512);
	if (!img) {
		general(v, op);
		return;
	}
	asm volatile("fxsave64 %0" : "=m"(*(uint8_t(*)[512])v->bounce));
	fix_mxcsr_mask(v, v->bounce);
	fpu_fix_pointers(bt_of(v), v->bounce);
	memcpy(img, v->bounce, FX_FIXED);
	cpu_next(v, op);
}

static void light_fxrstor(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = linear(v, op);
	const uint8_t *img = NULL;

	if (usable(v, op) && !(lin & 15) && !(v->efer & EFER_FFXSR))
		img = image_at(v, lin, MMU_READ, 512);
	if (img)
		memcpy(v->bounce, img, 512);
	if (!img || get32(v->bounce + FX_MXCSR) & ~MXCSR_MASK) {
		general(v, op);
		return;
	}
	fpu_hide_pointers(bt_of(v), v->bounce);
	asm volatile("fxrstor64 %0" : : "m"(*(uint8_t(*)[512])v->bounce));
	cpu_next(v, op);
}

/* The components asked for; false: they are not all the hardware's, or lie elsewhere in the guest's standard form. */
static bool components(const struct vcpu *v, uint64_t *rfbm)
{
	const struct bt *bt = bt_of(v);

	*rfbm = ((uint32_t)v->gpr[R_AX] | v->gpr[R_DX] << 32) & v->xcr0;
	if (v->xcr0 & ~bt->xsave_mask || !(v->cr4 & CR4_OSXSAVE) || !bt->has_xinuse)
		return false;
	for (unsigned n = 2; n < ARRAY_SIZE(bt->xsave_at); n++)
		if (v->xcr0 >> n & 1 && v->model->xstate.offset[n] != bt->xsave_at[n])
			return false;
	return true;
}

/* Bytes of an image with these components. */
static unsigned image_size(const struct vcpu *v, bool compacted, uint64_t which)
{
	unsigned end = XSAVE_EXTENDED;

	for (unsigned n = 2; n < 8; n++) {
		if (!(which >> n & 1))
			continue;
		end = v->model->xstate.size[n] + (compacted ? end : v->model->xstate.offset[n]);
	}
	return end;
}

#define XSAVE(insn, area, mask)                                                                            \
	asm volatile(insn " %0" : "+m"(*(uint8_t(*)[4096])(area)) : "a"((uint32_t)(mask)), "d"((uint32_t)((mask) >> 32)))

static void save_image(const struct cpu_op *op, uint8_t *area, uint64_t rfbm, bool optimize)
{
	if (op->mnemonic == ZYDIS_MNEMONIC_XSAVEC64)
		XSAVE("xsavec64", area, rfbm);
	else if (op->mnemonic == ZYDIS_MNEMONIC_XSAVEOPT64 && optimize)
		XSAVE("xsaveopt64", area, rfbm);
	else
		XSAVE("xsave64", area, rfbm);
}

static void light_xsave(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = linear(v, op), rfbm;
	bool compact = op->mnemonic == ZYDIS_MNEMONIC_XSAVEC64;
	unsigned size;
	uint8_t *img;

	if (!usable(v, op) || (lin & 63) || !components(v, &rfbm)) {
		general(v, op);
		return;
	}
	/* The hardware calls x87 unused, but the guest has pointers in it. */
	if (rfbm & XCR0_X87 && !(xinuse() & XCR0_X87) && (bt_of(v)->kept_fip || bt_of(v)->kept_fdp)) {
		general(v, op);
		return;
	}
	size = image_size(v, compact, rfbm);
	img = image_at(v, lin, MMU_WRITE, size);
	if (!img) {
		general(v, op);
		return;
	}
	if (rfbm & XCR0_X87 && xinuse() & XCR0_X87) {
		memcpy(v->bounce, img, size);
		save_image(op, v->bounce, rfbm, false);
		fpu_fix_pointers(bt_of(v), v->bounce);
		fix_mxcsr_mask(v, v->bounce);
		memcpy(img, v->bounce, size);
	} else {
		save_image(op, img, rfbm, true);
		fix_mxcsr_mask(v, img);
	}
	cpu_next(v, op);
}

/* The checks that XRSTOR makes, on a copy of the header. */
static bool header_valid(const struct vcpu *v, const uint8_t *img)
{
	uint64_t bv = get64(img + XSAVE_HEADER), comp = get64(img + XSAVE_HEADER + 8);

	if (comp & COMPACTED)
		return !(comp & ~COMPACTED & ~v->xcr0) && !(bv & ~comp) && all_zero(img + XSAVE_HEADER + 16, 48);
	return !(bv & ~v->xcr0) && all_zero(img + XSAVE_HEADER + 8, 16) && !(get32(img + FX_MXCSR) & ~MXCSR_MASK);
}

static bool fetch_image(struct vcpu *v, uint64_t lin, uint64_t rfbm)
{
	const uint8_t *img = image_at(v, lin, MMU_READ, XSAVE_EXTENDED);
	uint64_t bv, comp;
	unsigned size;

	if (!img)
		return false;
	memcpy(v->bounce, img, XSAVE_EXTENDED);
	if (!header_valid(v, v->bounce) || get32(v->bounce + FX_MXCSR) & ~MXCSR_MASK)
		return false;
	bv = get64(v->bounce + XSAVE_HEADER);
	comp = get64(v->bounce + XSAVE_HEADER + 8);
	if (!(rfbm & bv & BITS(7, 2)))
		return true;
	size = image_size(v, comp & COMPACTED, comp & COMPACTED ? comp : rfbm & bv);
	img = image_at(v, lin, MMU_READ, size);
	if (img)
		memcpy(v->bounce + XSAVE_EXTENDED, img + XSAVE_EXTENDED, size - XSAVE_EXTENDED);
	return img;
}

static void light_xrstor(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = linear(v, op), rfbm;

	if (!usable(v, op) || (lin & 63) || !components(v, &rfbm) || !fetch_image(v, lin, rfbm)) {
		general(v, op);
		return;
	}
	if (rfbm & XCR0_X87) {
		if (!(get64(v->bounce + XSAVE_HEADER) & XCR0_X87))
			memset(v->bounce, 0, 24); /* the initial state has none; the rest of it is not looked at */
		fpu_hide_pointers(bt_of(v), v->bounce);
	}
	asm volatile("xrstor64 %0"
		     :
		     : "m"(*(uint8_t(*)[4096])v->bounce), "a"((uint32_t)rfbm), "d"((uint32_t)(rfbm >> 32)));
	cpu_next(v, op);
}

cpu_op_fn light_fpu_fn(const struct cpu_op *op)
{
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE64:
		return light_fxsave;
	case ZYDIS_MNEMONIC_FXRSTOR64:
		return light_fxrstor;
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XSAVEC64:
		return light_xsave;
	case ZYDIS_MNEMONIC_XRSTOR64:
		return light_xrstor;
	default:
		return NULL;
	}
}
