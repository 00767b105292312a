/*
 * x87, SSE, AVX and AVX-512 state: what must be enabled before use, and FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC,
 * XRSTOR (SDM vol. 1, chapter 13). The state lives in struct fpu_state; these build and take apart images in
 * guest memory. A component counts as in use when it differs from its initial configuration.
 */
#include "cpu/system.h"

#define MXCSR_MASK 0xffffu
#define FX_MXCSR 24
#define FX_XMM 160
#define XSAVE_HEADER 512
#define XSAVE_EXTENDED 576
#define XCOMP_COMPACTED BIT(63)

void cpu_require_fpu(struct vcpu *v, enum fpu_need need)
{
	switch (need) {
	case FPU_NONE:
		return;
	case FPU_VEX: /* VEX-encoded, but of general registers: not in real and virtual-8086 mode */
		if (!cpu_protected(v))
			cpu_ud(v);
		return;
	case FPU_X87:
		if (v->cr0 & (CR0_EM | CR0_TS))
			cpu_raise(v, EXC_NM);
		return;
	case FPU_WAIT:
		if ((v->cr0 & CR0_TS) && (v->cr0 & CR0_MP))
			cpu_raise(v, EXC_NM);
		return;
	case FPU_MMX:
		if (v->cr0 & CR0_EM)
			cpu_ud(v);
		break;
	case FPU_SSE:
		if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR))
			cpu_ud(v);
		break;
	case FPU_AVX:
		if (!cpu_protected(v) || !(v->cr4 & CR4_OSXSAVE) ||
		    (v->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
			cpu_ud(v);
		break;
	case FPU_AVX512:
		if (!cpu_protected(v) || !(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & 0xe6) != 0xe6)
			cpu_ud(v);
		break;
	}
	if (v->cr0 & CR0_TS)
		cpu_raise(v, EXC_NM);
}

void cpu_check_fpu(struct vcpu *v, enum fpu_need need)
{
	cpu_require_fpu(v, need);
	if (need > FPU_VEX)
		cpu_fpu_spill(v);
}

static void check_fxsr(struct vcpu *v, uint64_t ea, unsigned align)
{
	if (v->cr0 & CR0_EM)
		cpu_ud(v);
	if (v->cr0 & CR0_TS)
		cpu_raise(v, EXC_NM);
	if (ea & (align - 1))
		cpu_gp(v);
	cpu_fpu_spill(v);
}

/* The x87 part of an image; without REX.W the pointers are 32-bit with (zero) selectors. */
static void put_x87(const struct vcpu *v, uint8_t *img, bool wide)
{
	memcpy(img, v->fpu.fx, 24);
	memcpy(img + 32, v->fpu.fx + 32, 128);
	img[5] = 0;
	if (!wide) {
		memset(img + 12, 0, 4);
		memset(img + 20, 0, 4);
	}
}

static void get_x87(struct vcpu *v, const uint8_t *img, bool wide)
{
	bool pending;

	memcpy(v->fpu.fx, img, 24);
	memcpy(v->fpu.fx + 32, img + 32, 128);
	for (unsigned i = 0; i < 8; i++)
		memset(v->fpu.fx + 32 + i * 16 + 10, 0, 6);
	v->fpu.fx[5] = 0;
	v->fpu.fx[7] &= 0x07; /* FOP has 11 bits */
	v->fpu.fx[1] &= 0x1f; /* FCW's reserved bits: 6 reads as one, 7 and 15:13 as zero */
	v->fpu.fx[0] = (uint8_t)((v->fpu.fx[0] & 0x7f) | 0x40);
	/* FSW's ES and B say whether an unmasked exception is pending. */
	pending = v->fpu.fx[2] & ~v->fpu.fx[0] & 0x3f;
	v->fpu.fx[2] = (uint8_t)((v->fpu.fx[2] & 0x7f) | (pending ? 0x80 : 0));
	v->fpu.fx[3] = (uint8_t)((v->fpu.fx[3] & 0x7f) | (pending ? 0x80 : 0));
	if (!wide) {
		memset(v->fpu.fx + 12, 0, 4);
		memset(v->fpu.fx + 20, 0, 4);
	}
}

static void init_x87(struct vcpu *v)
{
	memset(v->fpu.fx, 0, 24);
	memset(v->fpu.fx + 32, 0, 128);
	v->fpu.fx[0] = 0x7f;
	v->fpu.fx[1] = 0x03;
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

static unsigned vector_regs(const struct vcpu *v)
{
	return v->mode == X86_MODE_64 ? 16 : 8;
}

static void exec_fxsave(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t ea = cpu_ea(v, op), lin;
	uint8_t img[416];
	/* FFXSR: at CPL 0 in 64-bit mode the XMM registers are left out. */
	bool fast = (v->efer & EFER_FFXSR) && v->cpl == 0 && v->mode == X86_MODE_64;
	unsigned len = 160;

	check_fxsr(v, 0, 16);
	lin = cpu_linear(v, op->seg, ea, 512, true);
	if (lin & 15)
		cpu_gp(v);
	/* The unused parts of the image in memory stay as they are. */
	cpu_probe(v, op->seg, lin, 512, true, v->mmu_mode);
	cpu_read_slow(v, op->seg, lin, img, sizeof(img), v->mmu_mode);
	put_x87(v, img, op->op_size == 8);
	memcpy(img + FX_MXCSR, v->fpu.fx + FX_MXCSR, 4);
	{
		uint32_t mask = MXCSR_MASK;

		memcpy(img + 28, &mask, 4);
	}
	if (!fast) {
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(img + FX_XMM + i * 16, v->fpu.zmm[i], 16);
		len = FX_XMM + vector_regs(v) * 16;
	}
	cpu_write_slow(v, op->seg, lin, img, len, v->mmu_mode);
	cpu_next(v, op);
}

static void exec_fxrstor(struct vcpu *v, const struct cpu_op *op)
{
	uint8_t img[512];
	uint64_t lin;
	bool fast = (v->efer & EFER_FFXSR) && v->cpl == 0 && v->mode == X86_MODE_64;

	check_fxsr(v, 0, 16);
	lin = cpu_linear(v, op->seg, cpu_ea(v, op), 512, false);
	if (lin & 15)
		cpu_gp(v);
	cpu_read_slow(v, op->seg, lin, img, sizeof(img), v->mmu_mode);
	if (get32(img + FX_MXCSR) & ~MXCSR_MASK)
		cpu_gp(v);
	get_x87(v, img, op->op_size == 8);
	memcpy(v->fpu.fx + FX_MXCSR, img + FX_MXCSR, 4);
	if (!fast)
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(v->fpu.zmm[i], img + FX_XMM + i * 16, 16);
	cpu_next(v, op);
}

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		if (*b++)
			return false;
	return true;
}

/* A component as bytes of its own: where it lies in fpu_state is not where images have it. */
static void pack(const struct vcpu *v, unsigned n, uint8_t *out)
{
	switch (n) {
	case 2:
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(out + i * 16, v->fpu.zmm[i] + 16, 16);
		break;
	case 5:
		memcpy(out, v->fpu.k, 64);
		break;
	case 6:
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(out + i * 32, v->fpu.zmm[i] + 32, 32);
		break;
	case 7:
		if (v->mode == X86_MODE_64)
			memcpy(out, v->fpu.zmm[16], 16 * 64);
		break;
	default:
		break;
	}
}

static void unpack(struct vcpu *v, unsigned n, const uint8_t *in)
{
	switch (n) {
	case 2:
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(v->fpu.zmm[i] + 16, in + i * 16, 16);
		break;
	case 5:
		memcpy(v->fpu.k, in, 64);
		break;
	case 6:
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(v->fpu.zmm[i] + 32, in + i * 32, 32);
		break;
	case 7:
		if (v->mode == X86_MODE_64)
			memcpy(v->fpu.zmm[16], in, 16 * 64);
		break;
	default:
		break;
	}
}

static unsigned component_size(unsigned n)
{
	static const uint16_t size[] = {0, 0, 256, 0, 0, 64, 512, 1024};

	return size[n];
}

/* In legacy modes only the low 8 registers exist; the image keeps what it had for the others. */
static unsigned component_used(const struct vcpu *v, unsigned n)
{
	if (v->mode == X86_MODE_64 || n == 5)
		return component_size(n);
	return n == 7 ? 0 : component_size(n) / 2;
}

static uint64_t in_use(const struct vcpu *v)
{
	uint64_t used = 0;
	uint8_t buf[1024] = {0};
	uint8_t x87[24] = {0x7f, 0x03};

	if (memcmp(v->fpu.fx, x87, sizeof(x87)) || !all_zero(v->fpu.fx + 32, 128))
		used |= XCR0_X87;
	for (unsigned i = 0; i < vector_regs(v); i++)
		if (!all_zero(v->fpu.zmm[i], 16))
			used |= XCR0_SSE;
	for (unsigned n = 2; n < 8; n++) {
		if (!component_size(n))
			continue;
		memset(buf, 0, sizeof(buf));
		pack(v, n, buf);
		if (!all_zero(buf, component_size(n)))
			used |= BIT(n);
	}
	return used;
}

static void check_xsave(struct vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		cpu_ud(v);
	if (v->cr0 & CR0_TS)
		cpu_raise(v, EXC_NM);
	cpu_fpu_spill(v);
}

static uint64_t requested(const struct vcpu *v)
{
	return ((uint32_t)v->gpr[R_AX] | v->gpr[R_DX] << 32) & v->xcr0;
}

/* Offset of component n in an image of this format. */
static unsigned image_offset(const struct vcpu *v, unsigned n, bool compacted, uint64_t components)
{
	unsigned at = XSAVE_EXTENDED;

	if (!compacted)
		return v->model->xstate.offset[n];
	for (unsigned i = 2; i < n; i++)
		if (components & BIT(i)) /* none of these is 64-byte aligned by CPUID */
			at += component_size(i);
	return at;
}

static unsigned image_size(const struct vcpu *v, bool compacted, uint64_t components)
{
	unsigned end = XSAVE_EXTENDED;

	for (unsigned n = 2; n < 8; n++)
		if ((components & BIT(n)) && component_size(n))
			end = (unsigned)max_u64(end, image_offset(v, n, compacted, components) + component_size(n));
	return end;
}

enum xsave_kind { XSAVE_PLAIN, XSAVE_OPT, XSAVE_COMPACT };

static void save(struct vcpu *v, const struct cpu_op *op, enum xsave_kind kind)
{
	uint64_t rfbm, lin, used, store;
	bool compact = kind == XSAVE_COMPACT;
	unsigned size;
	uint8_t *img = v->bounce;

	check_xsave(v);
	rfbm = requested(v);
	size = image_size(v, compact, rfbm);
	lin = cpu_linear(v, op->seg, cpu_ea(v, op), size, true);
	if (lin & 63)
		cpu_gp(v);
	cpu_probe(v, op->seg, lin, size, true, v->mmu_mode);
	cpu_read_slow(v, op->seg, lin, img, size, v->mmu_mode);
	used = in_use(v);
	store = kind == XSAVE_PLAIN ? rfbm : rfbm & used;
	if (store & XCR0_X87)
		put_x87(v, img, op->op_size == 8);
	if (compact ? rfbm & XCR0_SSE && (used & XCR0_SSE || get32(v->fpu.fx + FX_MXCSR) != 0x1f80) :
		      !!(rfbm & (XCR0_SSE | XCR0_AVX))) {
		uint32_t mask = MXCSR_MASK;

		memcpy(img + FX_MXCSR, v->fpu.fx + FX_MXCSR, 4);
		memcpy(img + 28, &mask, 4);
	}
	if (compact && (rfbm & XCR0_SSE) && get32(v->fpu.fx + FX_MXCSR) != 0x1f80) {
		used |= XCR0_SSE;
		store |= XCR0_SSE;
	}
	if (store & XCR0_SSE)
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(img + FX_XMM + i * 16, v->fpu.zmm[i], 16);
	for (unsigned n = 2; n < 8; n++)
		if ((store & BIT(n)) && component_used(v, n))
			pack(v, n, img + image_offset(v, n, compact, rfbm));
	{
		uint64_t bv = get64(img + XSAVE_HEADER), comp = rfbm | XCOMP_COMPACTED;

		bv = compact ? rfbm & used : (bv & ~rfbm) | (rfbm & used);
		memcpy(img + XSAVE_HEADER, &bv, 8);
		if (compact)
			memcpy(img + XSAVE_HEADER + 8, &comp, 8);
	}
	cpu_write_slow(v, op->seg, lin, img, size, v->mmu_mode);
	cpu_next(v, op);
}

static void exec_xsave(struct vcpu *v, const struct cpu_op *op)
{
	save(v, op, XSAVE_PLAIN);
}

static void exec_xsaveopt(struct vcpu *v, const struct cpu_op *op)
{
	save(v, op, XSAVE_OPT);
}

static void exec_xsavec(struct vcpu *v, const struct cpu_op *op)
{
	save(v, op, XSAVE_COMPACT);
}

static void check_header(struct vcpu *v, const uint8_t *img, bool compact)
{
	uint64_t bv = get64(img + XSAVE_HEADER), comp = get64(img + XSAVE_HEADER + 8);

	if (compact) {
		if (comp & ~XCOMP_COMPACTED & ~v->xcr0 || bv & ~comp || !all_zero(img + XSAVE_HEADER + 16, 48))
			cpu_gp(v);
	} else if (bv & ~v->xcr0 || !all_zero(img + XSAVE_HEADER + 8, 16)) {
		cpu_gp(v);
	}
}

static void exec_xrstor(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t rfbm, lin, ea, bv, comp;
	uint8_t *img = v->bounce, zero[1024] = {0};
	bool compact;

	check_xsave(v);
	rfbm = requested(v);
	ea = cpu_ea(v, op);
	lin = cpu_linear(v, op->seg, ea, XSAVE_EXTENDED, false);
	if (lin & 63)
		cpu_gp(v);
	cpu_read_slow(v, op->seg, lin, img, XSAVE_EXTENDED, v->mmu_mode);
	bv = get64(img + XSAVE_HEADER);
	comp = get64(img + XSAVE_HEADER + 8);
	compact = comp & XCOMP_COMPACTED;
	check_header(v, img, compact);
	if (rfbm & bv & BITS(7, 2)) {
		unsigned size = image_size(v, compact, compact ? comp : rfbm & bv);

		lin = cpu_linear(v, op->seg, ea, size, false);
		cpu_read_slow(v, op->seg, lin, img, size, v->mmu_mode);
		check_header(v, img, compact); /* another CPU may have changed it meanwhile */
		if (get64(img + XSAVE_HEADER) != bv || get64(img + XSAVE_HEADER + 8) != comp)
			cpu_gp(v);
	}
	/* MXCSR: from memory for SSE or AVX (standard form), with SSE only and when in BV (compacted form). */
	if (compact ? rfbm & XCR0_SSE && bv & XCR0_SSE : !!(rfbm & (XCR0_SSE | XCR0_AVX))) {
		if (get32(img + FX_MXCSR) & ~MXCSR_MASK)
			cpu_gp(v);
		memcpy(v->fpu.fx + FX_MXCSR, img + FX_MXCSR, 4);
	} else if (compact && (rfbm & XCR0_SSE)) {
		uint32_t mxcsr = 0x1f80;

		memcpy(v->fpu.fx + FX_MXCSR, &mxcsr, 4);
	}
	if (rfbm & XCR0_X87) {
		if (bv & XCR0_X87)
			get_x87(v, img, op->op_size == 8);
		else
			init_x87(v);
	}
	if (rfbm & XCR0_SSE)
		for (unsigned i = 0; i < vector_regs(v); i++)
			memcpy(v->fpu.zmm[i], bv & XCR0_SSE ? img + FX_XMM + i * 16 : zero, 16);
	for (unsigned n = 2; n < 8; n++)
		if ((rfbm & BIT(n)) && component_size(n))
			unpack(v, n, bv & BIT(n) ? img + image_offset(v, n, compact, comp) : zero);
	cpu_next(v, op);
}

const struct cpu_emulation cpu_xsave_insns[] = {
	{ZYDIS_MNEMONIC_FXSAVE, exec_fxsave},	  {ZYDIS_MNEMONIC_FXSAVE64, exec_fxsave},
	{ZYDIS_MNEMONIC_FXRSTOR, exec_fxrstor},	  {ZYDIS_MNEMONIC_FXRSTOR64, exec_fxrstor},
	{ZYDIS_MNEMONIC_XSAVE, exec_xsave},	  {ZYDIS_MNEMONIC_XSAVE64, exec_xsave},
	{ZYDIS_MNEMONIC_XSAVEOPT, exec_xsaveopt}, {ZYDIS_MNEMONIC_XSAVEOPT64, exec_xsaveopt},
	{ZYDIS_MNEMONIC_XSAVEC, exec_xsavec},	  {ZYDIS_MNEMONIC_XSAVEC64, exec_xsavec},
	{ZYDIS_MNEMONIC_XRSTOR, exec_xrstor},	  {ZYDIS_MNEMONIC_XRSTOR64, exec_xrstor},
	{0, NULL},
};
