/* PUSH and POP of segment registers, PUSHA, POPA, ENTER, LEAVE. Plain PUSH and POP are here too, for every form. */
#include "cpu/system.h"

static bool segment_register_op(const struct cpu_op *op, unsigned *s)
{
	if (op->map == 0) {
		switch (op->opcode) {
		case 0x06: case 0x07: *s = S_ES; return true;
		case 0x0e: *s = S_CS; return true;
		case 0x16: case 0x17: *s = S_SS; return true;
		case 0x1e: case 0x1f: *s = S_DS; return true;
		default: return false;
		}
	}
	*s = op->opcode < 0xa8 ? S_FS : S_GS; /* 0F A0/A1, A8/A9 */
	return op->map == 1;
}

static void exec_push(struct vcpu *v, const struct cpu_op *op)
{
	unsigned s;
	uint64_t val, sp;

	if (segment_register_op(op, &s)) {
		/* A 32-bit push of a selector moves the stack pointer by 4 and writes 2 bytes. */
		sp = cpu_sp_add(v, -(int64_t)op->op_size);
		cpu_store_seg(v, S_SS, sp, op->op_size == 4 ? 2 : op->op_size, v->seg[s].sel);
		cpu_set_sp(v, sp);
		cpu_next(v, op);
		return;
	}
	if (op->map == 0 && (op->opcode == 0x68 || op->opcode == 0x6a))
		val = op->imm;
	else
		val = cpu_read_rm(v, op, op->op_size);
	cpu_push(v, op->op_size, val);
	cpu_next(v, op);
}

static void pop_segment(struct vcpu *v, const struct cpu_op *op, unsigned s)
{
	uint16_t sel = (uint16_t)cpu_peek(v, 0, 2); /* whatever the stack pointer moves by */
	uint64_t sp = cpu_sp_add(v, op->op_size);

	cpu_load_sreg(v, s, sel);
	cpu_set_sp(v, sp);
	cpu_next(v, op);
	if (s == S_SS) {
		v->inhibit_rip = v->rip;
		v->inhibit_debug = true;
	}
}

static void exec_pop(struct vcpu *v, const struct cpu_op *op)
{
	unsigned s;
	uint64_t old = v->gpr[R_SP], val;

	if (segment_register_op(op, &s)) {
		pop_segment(v, op, s);
		return;
	}
	val = cpu_peek(v, 0, op->op_size);
	if (!(op->flags & OP_MEM)) {
		cpu_set_sp(v, cpu_sp_add(v, op->op_size));
		cpu_set_reg(v, op->rm, op->op_size, false, val);
	} else {
		/* An RSP-based address uses the incremented RSP; a fault must leave the old one. */
		uint64_t ea, lin;

		cpu_set_sp(v, cpu_sp_add(v, op->op_size));
		ea = cpu_ea(v, op);
		{
			uint64_t incremented = v->gpr[R_SP];

			v->gpr[R_SP] = old;
			lin = cpu_linear(v, op->seg, ea, op->op_size, true);
			cpu_store(v, op->seg, lin, op->op_size, val);
			v->gpr[R_SP] = incremented;
		}
	}
	cpu_next(v, op);
}

static void exec_pusha(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = op->op_size;

	for (unsigned i = 0; i < 8; i++) /* every check before the first store */
		cpu_probe(v, S_SS, cpu_linear(v, S_SS, cpu_sp_add(v, -(int64_t)(size * (i + 1))), size, true), size,
			  true, v->mmu_mode);
	for (unsigned i = 0; i < 8; i++)
		cpu_store_seg(v, S_SS, cpu_sp_add(v, -(int64_t)(size * (i + 1))), size, v->gpr[i]);
	cpu_set_sp(v, cpu_sp_add(v, -(int64_t)(size * 8)));
	cpu_next(v, op);
}

static void exec_popa(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = op->op_size;
	uint64_t val[8];

	for (unsigned i = 0; i < 8; i++)
		val[7 - i] = cpu_peek(v, i * size, size);
	for (unsigned i = 0; i < 8; i++)
		if (i != R_SP)
			cpu_set_reg(v, i, size, false, val[i]);
	cpu_set_sp(v, cpu_sp_add(v, size * 8));
	cpu_next(v, op);
}

static void exec_enter(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = op->op_size, level = op->imm2 & 31, stack = cpu_stack_size(v);
	uint64_t bp = v->gpr[R_BP], sp = cpu_sp_add(v, -(int64_t)size), frame = sp, final;

	cpu_store_seg(v, S_SS, sp, size, bp);
	for (unsigned i = 1; i < level; i++) {
		uint64_t val;

		bp = trunc_size(bp - size, stack);
		val = cpu_load_seg(v, S_SS, bp, size);
		sp = trunc_size(sp - size, stack);
		cpu_store_seg(v, S_SS, sp, size, val);
	}
	if (level) {
		sp = trunc_size(sp - size, stack);
		cpu_store_seg(v, S_SS, sp, size, frame);
	}
	final = trunc_size(sp - (op->imm & 0xffff), stack);
	/* A stack that cannot take a push after ENTER faults in ENTER itself. */
	cpu_probe(v, S_SS, cpu_linear(v, S_SS, final, size, true), size, true, v->mmu_mode);
	cpu_set_reg(v, R_BP, size, false, frame);
	cpu_set_sp(v, final);
	cpu_next(v, op);
}

static void exec_leave(struct vcpu *v, const struct cpu_op *op)
{
	unsigned stack = cpu_stack_size(v);
	uint64_t sp = trunc_size(v->gpr[R_BP], stack);
	uint64_t bp = cpu_load_seg(v, S_SS, sp, op->op_size);

	cpu_set_sp(v, trunc_size(sp + op->op_size, stack));
	cpu_set_reg(v, R_BP, op->op_size, false, bp);
	cpu_next(v, op);
}

const struct cpu_emulation cpu_stack_insns[] = {
	{ZYDIS_MNEMONIC_PUSH, exec_push},   {ZYDIS_MNEMONIC_POP, exec_pop},     {ZYDIS_MNEMONIC_PUSHA, exec_pusha},
	{ZYDIS_MNEMONIC_PUSHAD, exec_pusha}, {ZYDIS_MNEMONIC_POPA, exec_popa},  {ZYDIS_MNEMONIC_POPAD, exec_popa},
	{ZYDIS_MNEMONIC_ENTER, exec_enter}, {ZYDIS_MNEMONIC_LEAVE, exec_leave},
	{0, NULL},
};
