/*
 * Instructions that 64-bit code lacks, so that no 64-bit host can run them on copies: decimal adjustment, BOUND,
 * SALC. And XLAT, whose implicit operand is simplest here. SDM vol. 2, each instruction's pseudo-code.
 */
#include "cpu/system.h"

static uint8_t al(const struct vcpu *v)
{
	return (uint8_t)v->gpr[R_AX];
}

static void set_szp(struct vcpu *v, uint8_t val, bool cf, bool af)
{
	unsigned f = 0;

	if (val & 0x80)
		f |= FLAG_SF;
	if (!val)
		f |= FLAG_ZF;
	if (!(__builtin_popcount(val) & 1))
		f |= FLAG_PF;
	if (cf)
		f |= FLAG_CF;
	if (af)
		f |= FLAG_AF;
	v->status = (uint16_t)(f << 8); /* OF, bit 0, is undefined: cleared */
}

static bool flag(const struct vcpu *v, unsigned f)
{
	return v->status >> 8 & f;
}

static void exec_daa_das(struct vcpu *v, const struct cpu_op *op)
{
	bool sub = op->mnemonic == ZYDIS_MNEMONIC_DAS, cf = false, af = false;
	uint8_t old = al(v), val = old;

	if ((old & 0xf) > 9 || flag(v, FLAG_AF)) {
		cf = flag(v, FLAG_CF) || (sub ? old < 6 : old > 0xf9);
		val = (uint8_t)(sub ? val - 6 : val + 6);
		af = true;
	}
	if (old > 0x99 || flag(v, FLAG_CF)) {
		val = (uint8_t)(sub ? val - 0x60 : val + 0x60);
		cf = true;
	}
	cpu_set_reg(v, R_AX, 1, false, val);
	set_szp(v, val, cf, af);
	cpu_next(v, op);
}

static void exec_aaa_aas(struct vcpu *v, const struct cpu_op *op)
{
	bool sub = op->mnemonic == ZYDIS_MNEMONIC_AAS;
	bool adjust = (al(v) & 0xf) > 9 || flag(v, FLAG_AF);
	uint16_t ax = (uint16_t)v->gpr[R_AX];

	if (adjust)
		ax = (uint16_t)(sub ? ax - 0x106 : ax + 0x106);
	ax &= 0xff0f;
	cpu_set_reg(v, R_AX, 2, false, ax);
	set_szp(v, (uint8_t)ax, adjust, adjust);
	cpu_next(v, op);
}

static void exec_aam(struct vcpu *v, const struct cpu_op *op)
{
	uint8_t base = (uint8_t)op->imm;

	if (!base)
		cpu_raise(v, EXC_DE);
	cpu_set_reg(v, R_AX, 2, false, (uint64_t)(al(v) / base) << 8 | al(v) % base);
	set_szp(v, al(v), false, false);
	cpu_next(v, op);
}

static void exec_aad(struct vcpu *v, const struct cpu_op *op)
{
	uint8_t ah = (uint8_t)(v->gpr[R_AX] >> 8), old = al(v);
	uint8_t tens = (uint8_t)(ah * (uint8_t)op->imm), val = (uint8_t)(old + tens);

	cpu_set_reg(v, R_AX, 2, false, val);
	/* CF, AF and OF are undefined; CPUs show the addition's. */
	set_szp(v, val, val < old, (val ^ old ^ tens) & 0x10);
	if ((old ^ val) & (tens ^ val) & 0x80)
		v->status |= 1;
	cpu_next(v, op);
}

static void exec_salc(struct vcpu *v, const struct cpu_op *op)
{
	cpu_set_reg(v, R_AX, 1, false, flag(v, FLAG_CF) ? 0xff : 0);
	cpu_next(v, op);
}

static void exec_bound(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = op->op_size;
	uint64_t lin = cpu_linear(v, op->seg, cpu_ea(v, op), size * 2, false);
	int64_t low = (int64_t)sext_size(cpu_load(v, op->seg, lin, size), size);
	int64_t index = (int64_t)sext_size(v->gpr[op->reg], size);

	/* Below the lower bound the upper one is not even read. */
	if (index < low || index > (int64_t)sext_size(cpu_load(v, op->seg, lin + size, size), size))
		cpu_raise(v, EXC_BR);
	cpu_next(v, op);
}

static void exec_xlat(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t mask = op->addr_size == 8 ? ~0ULL : op->addr_size == 4 ? 0xffffffff : 0xffff;
	uint64_t ea = (v->gpr[R_BX] + al(v)) & mask;

	cpu_set_reg(v, R_AX, 1, false, cpu_load_seg(v, op->seg, ea, 1));
	cpu_next(v, op);
}

const struct cpu_emulation cpu_legacy_insns[] = {
	{ZYDIS_MNEMONIC_DAA, exec_daa_das}, {ZYDIS_MNEMONIC_DAS, exec_daa_das}, {ZYDIS_MNEMONIC_AAA, exec_aaa_aas},
	{ZYDIS_MNEMONIC_AAS, exec_aaa_aas}, {ZYDIS_MNEMONIC_AAM, exec_aam},     {ZYDIS_MNEMONIC_AAD, exec_aad},
	{ZYDIS_MNEMONIC_SALC, exec_salc},   {ZYDIS_MNEMONIC_BOUND, exec_bound}, {ZYDIS_MNEMONIC_XLAT, exec_xlat},
	{0, NULL},
};
