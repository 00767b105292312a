/* Near control flow: JMP, Jcc, CALL, RET, LOOP, JCXZ. SDM vol. 2; operand-size rules of AMD in 64-bit code. */
#include "interp/internal.h"

/* Sets RIP to a near target: truncated to the operand size, then checked. */
static inline uint64_t near_target(struct vcpu *v, const struct cpu_op *op, uint64_t target)
{
	if (v->mode == X86_MODE_64) {
		if (op->op_size == 2)
			target &= 0xffff;
		if (unlikely(!canonical(target)))
			cpu_gp(v);
		return target;
	}
	target = trunc_size(target, op->op_size);
	if (unlikely(target > v->seg[S_CS].limit))
		cpu_gp(v);
	return target;
}

static void op_jmp_rel(struct vcpu *v, const struct cpu_op *op)
{
	v->rip = near_target(v, op, v->rip + op->len + op->imm);
}

static void op_jmp_rm(struct vcpu *v, const struct cpu_op *op)
{
	v->rip = near_target(v, op, cpu_read_rm(v, op, op->op_size));
}

/* Conditions by the low opcode nibble, from the status word: OF bit 0, CF 8, PF 10, ZF 14, SF 15. */
static inline bool condition(const struct vcpu *v, unsigned cc)
{
	unsigned s = v->status;
	bool r;

	switch (cc >> 1) {
	case 0:
		r = s & 1;
		break;
	case 1:
		r = s & 0x100;
		break;
	case 2:
		r = s & 0x4000;
		break;
	case 3:
		r = s & 0x4100;
		break;
	case 4:
		r = s & 0x8000;
		break;
	case 5:
		r = s & 0x400;
		break;
	case 6:
		r = (s >> 15 ^ s) & 1;
		break;
	default:
		r = (s & 0x4000) || ((s >> 15 ^ s) & 1);
	}
	return r ^ (cc & 1);
}

static void op_jcc(struct vcpu *v, const struct cpu_op *op)
{
	if (condition(v, op->opcode & 0xf))
		v->rip = near_target(v, op, v->rip + op->len + op->imm);
	else
		cpu_next(v, op);
}

static void op_jcxz(struct vcpu *v, const struct cpu_op *op)
{
	if (!(v->gpr[R_CX] & op->addr_mask))
		v->rip = near_target(v, op, v->rip + op->len + op->imm);
	else
		cpu_next(v, op);
}

/* E0 LOOPNE, E1 LOOPE, E2 LOOP */
static void op_loop(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t count = (v->gpr[R_CX] - 1) & op->addr_mask;
	bool zf = v->status & 0x4000, taken = count;
	uint64_t target = v->rip;

	if (op->opcode == 0xe0)
		taken &= !zf;
	else if (op->opcode == 0xe1)
		taken &= zf;
	if (taken)
		target = near_target(v, op, v->rip + op->len + op->imm);
	cpu_set_reg(v, R_CX, op->addr_size, false, count);
	if (taken)
		v->rip = target;
	else
		cpu_next(v, op);
}

static void op_call_rel(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t ret = v->rip + op->len, target = near_target(v, op, ret + op->imm);

	cpu_push(v, op->op_size, ret);
	v->rip = target;
}

static void op_call_rm(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t target = near_target(v, op, cpu_read_rm(v, op, op->op_size));

	cpu_push(v, op->op_size, v->rip + op->len);
	v->rip = target;
}

static void op_ret(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t target = near_target(v, op, cpu_peek(v, 0, op->op_size));

	cpu_set_sp(v, cpu_sp_add(v, op->op_size + (int64_t)(op->imm & 0xffff)));
	v->rip = target;
}

static bool is_far(const struct insn *insn)
{
	return insn->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

cpu_op_fn flow_select(const struct cpu_op *op, const struct insn *insn)
{
	switch (insn->z.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_RET:
		if (is_far(insn))
			return cpu_far_fn(insn->z.mnemonic);
		if (insn->z.mnemonic == ZYDIS_MNEMONIC_RET)
			return op_ret;
		if (insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return insn->z.mnemonic == ZYDIS_MNEMONIC_JMP ? op_jmp_rel : op_call_rel;
		return insn->z.mnemonic == ZYDIS_MNEMONIC_JMP ? op_jmp_rm : op_call_rm;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		return op_jcxz;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		return op_loop;
	default:
		break;
	}
	if (insn->z.meta.category == ZYDIS_CATEGORY_COND_BR && (op->map == 1 || (op->opcode & 0xf0) == 0x70))
		return op_jcc;
	return NULL;
}
