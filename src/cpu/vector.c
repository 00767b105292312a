/*
 * Vector instructions that access memory element by element: gathers, scatters, VMASKMOV, VPMASKMOV, MASKMOVDQU,
 * MASKMOVQ. Elements are taken from the lowest up, and what is done stays done when one faults: a gather clears
 * its mask as it goes (SDM vol. 2, VPGATHERDD), so that restarting it repeats nothing.
 *
 * These need more of the encoding than struct cpu_op keeps. Its fields are used so: reg the destination (or
 * source) vector, index the VSIB or mask vector, mask the opmask register (0 for VEX), elem_size the bytes of a
 * data element, rm the bytes of an index element, elem_count the elements, imm the vector length in bytes.
 */
#include "cpu/vector.h"

#include "cpu/system.h"

static uint64_t element_get(const uint8_t *reg, unsigned i, unsigned size)
{
	uint64_t val = 0;

	memcpy(&val, reg + i * size, size);
	return val;
}

/* Zero-extends a vector register beyond the vector length, as VEX and EVEX writes do. */
static void clear_above(struct vcpu *v, unsigned reg, unsigned len)
{
	memset(v->fpu.zmm[reg] + len, 0, 64 - len);
}

static bool element_on(struct vcpu *v, const struct cpu_op *op, unsigned i)
{
	if (op->flags & OP_MASKED)
		return v->fpu.k[op->mask] >> i & 1;
	/* VEX: the sign bit of the mask vector's element; its number is in imm2. */
	return v->fpu.zmm[op->imm2][i * op->elem_size + op->elem_size - 1] & 0x80;
}

static void element_done(struct vcpu *v, const struct cpu_op *op, unsigned i)
{
	if (op->flags & OP_MASKED)
		v->fpu.k[op->mask] &= ~BIT(i);
	else
		memset(v->fpu.zmm[op->imm2] + i * op->elem_size, 0, op->elem_size);
}

static uint64_t element_address(struct vcpu *v, const struct cpu_op *op, unsigned i)
{
	uint64_t index = sext_size(element_get(v->fpu.zmm[op->index], i, op->rm), op->rm);
	uint64_t ea = v->ea_reg[op->base] + (index << op->scale) + (uint64_t)op->disp;

	return ea & op->addr_mask;
}

/* Bytes of the wider of data and indices: what a gather's registers are until it is done. */
static unsigned vector_length(const struct cpu_op *op)
{
	return op->elem_count * (op->elem_size > op->rm ? op->elem_size : op->rm);
}

/* The VEX mask: elements become all ones or zero by their sign before the first access. */
static void normalize_mask(struct vcpu *v, const struct cpu_op *op)
{
	unsigned len = vector_length(op);

	if (op->flags & OP_MASKED)
		return;
	for (unsigned i = 0; i < len / op->elem_size; i++)
		memset(v->fpu.zmm[op->imm2] + i * op->elem_size, element_on(v, op, i) ? 0xff : 0, op->elem_size);
	clear_above(v, op->imm2, len);
}

static void exec_gather(struct vcpu *v, const struct cpu_op *op)
{
	unsigned n = op->elem_count, size = op->elem_size;

	cpu_check_fpu(v, op->fpu);
	if ((op->flags & OP_MASKED) && op->reg == op->index)
		cpu_ud(v);
	normalize_mask(v, op);
	for (unsigned i = 0; i < n; i++) {
		uint64_t val;

		if (!element_on(v, op, i))
			continue;
		val = cpu_load_seg(v, op->seg, element_address(v, op, i), size);
		memcpy(v->fpu.zmm[op->reg] + i * size, &val, size);
		clear_above(v, op->reg, vector_length(op)); /* each element is a register write of its own */
		element_done(v, op, i);
	}
	clear_above(v, op->reg, n * size);
	if (op->flags & OP_MASKED)
		v->fpu.k[op->mask] = 0;
	else
		memset(v->fpu.zmm[op->imm2], 0, 64);
	cpu_next(v, op);
}

static void exec_scatter(struct vcpu *v, const struct cpu_op *op)
{
	cpu_check_fpu(v, op->fpu);
	for (unsigned i = 0; i < op->elem_count; i++) {
		if (!element_on(v, op, i))
			continue;
		cpu_store_seg(v, op->seg, element_address(v, op, i), op->elem_size,
			      element_get(v->fpu.zmm[op->reg], i, op->elem_size));
		element_done(v, op, i);
	}
	v->fpu.k[op->mask] = 0;
	cpu_next(v, op);
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q; the load form merges nothing: masked elements become zero. */
static void exec_maskmov_load(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t ea = cpu_ea(v, op), val;
	uint8_t result[64] = {0};

	cpu_check_fpu(v, op->fpu);
	for (unsigned i = 0; i < op->elem_count; i++)
		if (element_on(v, op, i)) {
			val = cpu_load_seg(v, op->seg, (ea + i * op->elem_size) & op->addr_mask, op->elem_size);
			memcpy(result + i * op->elem_size, &val, op->elem_size);
		}
	memcpy(v->fpu.zmm[op->reg], result, 64);
	cpu_next(v, op);
}

/* Every element is checked before the first is stored: a fault leaves memory as it was. */
static void store_masked(struct vcpu *v, const struct cpu_op *op, uint64_t ea, const uint8_t *src)
{
	for (int pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < op->elem_count; i++) {
			uint64_t lin;

			if (!element_on(v, op, i))
				continue;
			lin = cpu_linear(v, op->seg, (ea + i * op->elem_size) & op->addr_mask, op->elem_size, true);
			if (pass)
				cpu_store(v, op->seg, lin, op->elem_size, element_get(src, i, op->elem_size));
			else
				cpu_probe(v, op->seg, lin, op->elem_size, true, v->mmu_mode);
		}
}

static void exec_maskmov_store(struct vcpu *v, const struct cpu_op *op)
{
	cpu_check_fpu(v, op->fpu);
	store_masked(v, op, cpu_ea(v, op), v->fpu.zmm[op->reg]);
	cpu_next(v, op);
}

static void exec_maskmovdqu(struct vcpu *v, const struct cpu_op *op)
{
	cpu_check_fpu(v, op->fpu);
	store_masked(v, op, v->gpr[R_DI] & op->addr_mask, v->fpu.zmm[op->reg]);
	cpu_next(v, op);
}

/* The FXSAVE image keeps registers relative to the stack top; MMX registers are the physical ones. */
static uint8_t *mmx_register(struct vcpu *v, unsigned n)
{
	unsigned top = v->fpu.fx[3] >> 3 & 7;

	return v->fpu.fx + 32 + ((n - top) & 7) * 16;
}

/* What every MMX instruction but EMMS does to the x87 state: TOP is 0 and all registers are valid. */
static void enter_mmx(struct vcpu *v)
{
	uint8_t physical[8][16];

	for (unsigned i = 0; i < 8; i++)
		memcpy(physical[i], mmx_register(v, i), 16);
	memcpy(v->fpu.fx + 32, physical, sizeof(physical));
	v->fpu.fx[3] &= (uint8_t)~0x38;
	v->fpu.fx[4] = 0xff;
}

static void exec_maskmovq(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t ea = v->gpr[R_DI] & op->addr_mask;
	uint8_t mask[8], src[8];

	cpu_check_fpu(v, FPU_MMX);
	if (v->fpu.fx[2] & 0x80) /* FSW.ES: an earlier x87 exception comes first */
		cpu_raise(v, EXC_MF);
	memcpy(mask, mmx_register(v, op->imm2 & 7), 8);
	memcpy(src, mmx_register(v, op->reg & 7), 8);
	/* To alignment checking it is one access of 8 bytes. */
	if (v->align_check && (cpu_linear(v, op->seg, ea, 1, true) & 7))
		cpu_raise_error(v, EXC_AC, 0);
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < 8; i++) {
			uint64_t lin;

			if (!(mask[i] & 0x80))
				continue;
			lin = cpu_linear(v, op->seg, (ea + i) & op->addr_mask, 1, true);
			if (pass)
				cpu_store(v, op->seg, lin, 1, src[i]);
			else
				cpu_probe(v, op->seg, lin, 1, true, v->mmu_mode);
		}
	enter_mmx(v);
	cpu_next(v, op);
}

static const ZydisDecodedOperand *find_memory(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->z.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &insn->op[i];
	return NULL;
}

/* The n-th (0-based) explicit vector register operand, by number. */
static unsigned vector_operand(const struct insn *insn, unsigned n)
{
	for (unsigned i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->op[i];
		ZydisRegisterClass c;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		c = ZydisRegisterGetClass(o->reg.value);
		if (c != ZYDIS_REGCLASS_XMM && c != ZYDIS_REGCLASS_YMM && c != ZYDIS_REGCLASS_ZMM &&
		    c != ZYDIS_REGCLASS_MMX)
			continue;
		if (!n--)
			return (unsigned)ZydisRegisterGetId(o->reg.value);
	}
	return 0;
}

enum { VSIB_D = 4, VSIB_Q = 8 };

/* Data and index element sizes by mnemonic; false when it is neither a gather nor a scatter. */
static bool vsib_sizes(ZydisMnemonic m, uint8_t *data, uint8_t *index, bool *scatter)
{
	static const struct {
		uint16_t mnemonic;
		uint8_t data, index;
		bool scatter;
	} map[] = {
		{ZYDIS_MNEMONIC_VPGATHERDD, 4, VSIB_D, false},	{ZYDIS_MNEMONIC_VPGATHERDQ, 8, VSIB_D, false},
		{ZYDIS_MNEMONIC_VPGATHERQD, 4, VSIB_Q, false},	{ZYDIS_MNEMONIC_VPGATHERQQ, 8, VSIB_Q, false},
		{ZYDIS_MNEMONIC_VGATHERDPS, 4, VSIB_D, false},	{ZYDIS_MNEMONIC_VGATHERDPD, 8, VSIB_D, false},
		{ZYDIS_MNEMONIC_VGATHERQPS, 4, VSIB_Q, false},	{ZYDIS_MNEMONIC_VGATHERQPD, 8, VSIB_Q, false},
		{ZYDIS_MNEMONIC_VPSCATTERDD, 4, VSIB_D, true},	{ZYDIS_MNEMONIC_VPSCATTERDQ, 8, VSIB_D, true},
		{ZYDIS_MNEMONIC_VPSCATTERQD, 4, VSIB_Q, true},	{ZYDIS_MNEMONIC_VPSCATTERQQ, 8, VSIB_Q, true},
		{ZYDIS_MNEMONIC_VSCATTERDPS, 4, VSIB_D, true},	{ZYDIS_MNEMONIC_VSCATTERDPD, 8, VSIB_D, true},
		{ZYDIS_MNEMONIC_VSCATTERQPS, 4, VSIB_Q, true},	{ZYDIS_MNEMONIC_VSCATTERQPD, 8, VSIB_Q, true},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].mnemonic == m) {
			*data = map[i].data;
			*index = map[i].index;
			*scatter = map[i].scatter;
			return true;
		}
	return false;
}

static bool init_vsib(struct cpu_op *op, const struct insn *insn)
{
	const ZydisDecodedOperand *mem = find_memory(insn);
	uint8_t data, index;
	unsigned len = insn->z.avx.vector_length / 8;
	bool scatter;

	if (!mem || !vsib_sizes(insn->z.mnemonic, &data, &index, &scatter))
		return false;
	op->index = (uint8_t)ZydisRegisterGetId(mem->mem.index);
	op->reg = (uint8_t)vector_operand(insn, 0);
	op->elem_size = data;
	op->rm = index;
	/* The vector length is that of the wider of data and indices. */
	op->elem_count = (uint8_t)(len / (data > index ? data : index));
	if (insn->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
		op->mask = (uint8_t)ZydisRegisterGetId(insn->z.avx.mask.reg);
		op->flags |= OP_MASKED;
	} else {
		op->flags &= (uint16_t)~OP_MASKED;
		op->imm2 = (uint16_t)vector_operand(insn, 1);
	}
	op->fn = scatter ? exec_scatter : exec_gather;
	return true;
}

static void init_maskmov(struct cpu_op *op, const struct insn *insn, unsigned elem, bool load)
{
	unsigned len = insn->z.avx.vector_length / 8;

	op->elem_size = (uint8_t)elem;
	op->elem_count = (uint8_t)(len / elem);
	/* load: dst, mask, mem; store: mem, mask, src */
	op->reg = (uint8_t)vector_operand(insn, load ? 0 : 1);
	op->imm2 = (uint16_t)vector_operand(insn, load ? 1 : 0);
	op->flags &= (uint16_t)~OP_MASKED;
	op->fn = load ? exec_maskmov_load : exec_maskmov_store;
}

bool cpu_vector_op_init(struct cpu_op *op, const struct insn *insn)
{
	bool load = insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER;

	if (init_vsib(op, insn))
		return true;
	switch (insn->z.mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		init_maskmov(op, insn, 4, load);
		return true;
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		init_maskmov(op, insn, 8, load);
		return true;
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		op->elem_size = 1;
		op->elem_count = 16;
		op->reg = (uint8_t)vector_operand(insn, 0);
		op->imm2 = (uint16_t)vector_operand(insn, 1);
		op->fn = exec_maskmovdqu;
		return true;
	case ZYDIS_MNEMONIC_MASKMOVQ:
		op->reg = (uint8_t)vector_operand(insn, 0);
		op->imm2 = (uint16_t)vector_operand(insn, 1);
		op->fn = exec_maskmovq;
		return true;
	default:
		return false;
	}
}
