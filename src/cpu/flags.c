/* Flags: PUSHF, POPF, CLI, STI, CLD, STD, CLC..., LAHF, SAHF, STAC, CLAC. The POPF family, in Popek and Goldberg's sense. */
#include "cpu/system.h"

static void exec_pushf(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t flags = cpu_rflags(v) & ~(uint64_t)(FLAG_VM | FLAG_RF);

	if (cpu_v86(v) && cpu_iopl(v) < 3)
		cpu_gp(v);
	cpu_push(v, op->op_size, flags);
	cpu_next(v, op);
}

static void exec_popf(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t mask = cpu_popped_flags(v, op->op_size) & ~(uint64_t)(FLAG_VIF | FLAG_VIP), flags;

	if (cpu_v86(v) && cpu_iopl(v) < 3)
		cpu_gp(v);
	flags = cpu_pop(v, op->op_size);
	cpu_load_flags(v, flags & ~(uint64_t)FLAG_RF, mask | FLAG_RF);
	cpu_next(v, op);
}

/* CLI and STI: allowed by IOPL; virtual-8086 mode and CPL 3 without VME and PVI just fault. */
static void check_if(struct vcpu *v)
{
	if ((v->cr0 & CR0_PE) && v->cpl > cpu_iopl(v))
		cpu_gp(v);
}

static void exec_cli(struct vcpu *v, const struct cpu_op *op)
{
	check_if(v);
	v->sys_flags &= ~(uint32_t)FLAG_IF;
	cpu_next(v, op);
}

static void exec_sti(struct vcpu *v, const struct cpu_op *op)
{
	bool was = v->sys_flags & FLAG_IF;

	check_if(v);
	v->sys_flags |= FLAG_IF;
	cpu_next(v, op);
	if (!was) {
		v->inhibit_rip = v->rip;
		v->inhibit_debug = false;
	}
}

static void exec_cld(struct vcpu *v, const struct cpu_op *op)
{
	v->sys_flags &= ~(uint32_t)FLAG_DF;
	cpu_next(v, op);
}

static void exec_std(struct vcpu *v, const struct cpu_op *op)
{
	v->sys_flags |= FLAG_DF;
	cpu_next(v, op);
}

static void exec_clc(struct vcpu *v, const struct cpu_op *op)
{
	v->status &= ~(uint16_t)(FLAG_CF << 8);
	cpu_next(v, op);
}

static void exec_stc(struct vcpu *v, const struct cpu_op *op)
{
	v->status |= FLAG_CF << 8;
	cpu_next(v, op);
}

static void exec_cmc(struct vcpu *v, const struct cpu_op *op)
{
	v->status ^= FLAG_CF << 8;
	cpu_next(v, op);
}

static void exec_lahf(struct vcpu *v, const struct cpu_op *op)
{
	cpu_set_reg(v, 4, 1, true, (v->status >> 8) | FLAG_1);
	cpu_next(v, op);
}

static void exec_sahf(struct vcpu *v, const struct cpu_op *op)
{
	v->status = (uint16_t)((v->status & 1) | (v->gpr[R_AX] & 0xd500));
	cpu_next(v, op);
}

static void exec_stac(struct vcpu *v, const struct cpu_op *op)
{
	if (v->cpl || !(v->cr0 & CR0_PE))
		cpu_ud(v);
	v->sys_flags |= FLAG_AC;
	cpu_update_privilege(v);
	cpu_next(v, op);
}

static void exec_clac(struct vcpu *v, const struct cpu_op *op)
{
	if (v->cpl || !(v->cr0 & CR0_PE))
		cpu_ud(v);
	v->sys_flags &= ~(uint32_t)FLAG_AC;
	cpu_update_privilege(v);
	cpu_next(v, op);
}

const struct cpu_emulation cpu_flag_insns[] = {
	{ZYDIS_MNEMONIC_PUSHF, exec_pushf}, {ZYDIS_MNEMONIC_PUSHFD, exec_pushf}, {ZYDIS_MNEMONIC_PUSHFQ, exec_pushf},
	{ZYDIS_MNEMONIC_POPF, exec_popf},   {ZYDIS_MNEMONIC_POPFD, exec_popf},   {ZYDIS_MNEMONIC_POPFQ, exec_popf},
	{ZYDIS_MNEMONIC_CLI, exec_cli},     {ZYDIS_MNEMONIC_STI, exec_sti},      {ZYDIS_MNEMONIC_CLD, exec_cld},
	{ZYDIS_MNEMONIC_STD, exec_std},     {ZYDIS_MNEMONIC_CLC, exec_clc},      {ZYDIS_MNEMONIC_STC, exec_stc},
	{ZYDIS_MNEMONIC_CMC, exec_cmc},     {ZYDIS_MNEMONIC_LAHF, exec_lahf},    {ZYDIS_MNEMONIC_SAHF, exec_sahf},
	{ZYDIS_MNEMONIC_STAC, exec_stac},   {ZYDIS_MNEMONIC_CLAC, exec_clac},
	{0, NULL},
};
