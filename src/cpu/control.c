/* Control and debug registers: MOV CR, MOV DR, LMSW, SMSW, CLTS, XSETBV, XGETBV (SDM vol. 3, 2.5, 2.6, 17.2). */
#include "cpu/system.h"

#define CR0_DEFINED                                                                                        \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static void enter_long_mode(struct vcpu *v)
{
	const struct segment *cs = &v->seg[S_CS], *tr = &v->seg[S_TR];

	if (!(v->cr4 & CR4_PAE) || (cs->attr & SEG_L) || (tr->attr & SEG_TYPE) < DESC_TSS)
		cpu_gp(v);
	v->efer |= EFER_LMA;
}

/*
 * PAE paging loads its four page-directory-pointer entries when CR3 (or what enables them) is written: a reserved
 * bit in a present one raises #GP(0) then (SDM vol. 3, 4.4.1). Walks read them from memory again, as AMD does.
 */
static void check_pdptes(struct vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4)
{
	uint64_t reserved = (BITS(63, 0) & ~BITS(v->model->phys_bits - 1, 0)) | BITS(8, 5) | BITS(2, 1);

	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || (v->efer & EFER_LME))
		return;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t e;

		if (!guest_read(v->mem, GPA((cr3 & 0xffffffe0) + i * 8), &e, 8) && (e & PTE_P) && (e & reserved))
			cpu_gp(v);
	}
}

void cpu_set_cr0(struct vcpu *v, uint64_t val)
{
	uint64_t old = v->cr0;

	if (val >> 32)
		cpu_gp(v);
	val = (val & CR0_DEFINED) | CR0_ET;
	if ((val & CR0_PG) && !(val & CR0_PE))
		cpu_gp(v);
	if ((val & CR0_NW) && !(val & CR0_CD))
		cpu_gp(v);
	if ((old ^ val) & (CR0_PG | CR0_CD | CR0_NW))
		check_pdptes(v, val, v->cr3, v->cr4);
	if ((val & CR0_PG) && !(old & CR0_PG) && (v->efer & EFER_LME))
		enter_long_mode(v);
	if (!(val & CR0_PG) && (old & CR0_PG)) {
		if (v->mode == X86_MODE_64 || (v->cr4 & CR4_PCIDE))
			cpu_gp(v);
		v->efer &= ~(uint64_t)EFER_LMA;
	}
	v->cr0 = val;
	cpu_update_mmu(v);
	if ((old ^ val) & CR0_PE && !(val & CR0_PE))
		v->cpl = 0;
	cpu_update_mode(v);
	cpu_update_privilege(v);
}

void cpu_set_cr3(struct vcpu *v, uint64_t val)
{
	bool noflush = (v->cr4 & CR4_PCIDE) && (val & BIT(63));

	if (noflush)
		val &= ~BIT(63);
	if (cpu_long(v) && val >> v->model->phys_bits)
		cpu_gp(v);
	if (!cpu_long(v))
		val &= 0xffffffff;
	check_pdptes(v, v->cr0, val, v->cr4);
	v->cr3 = val;
	mmu_set_cr3(&v->mmu, val, noflush);
}

/* CR4 bits of the features that the model offers. */
static uint64_t cr4_allowed(const struct vcpu *v)
{
	static const struct {
		uint64_t bit;
		uint16_t feature;
	} map[] = {
		{CR4_VME | CR4_PVI, CPUID_FEATURE(CPUID_1_EDX, 1)}, {CR4_DE, CPUID_FEATURE(CPUID_1_EDX, 2)},
		{CR4_PSE, CPUID_FEATURE(CPUID_1_EDX, 3)},	   {CR4_PAE, CPUID_FEATURE(CPUID_1_EDX, 6)},
		{CR4_MCE, CPUID_FEATURE(CPUID_1_EDX, 7)},	   {CR4_PGE, CPUID_FEATURE(CPUID_1_EDX, 13)},
		{CR4_OSFXSR, CPUID_FEATURE(CPUID_1_EDX, 24)},	   {CR4_OSXMMEXCPT, CPUID_FEATURE(CPUID_1_EDX, 25)},
		{CR4_UMIP, CPUID_FEATURE(CPUID_7_ECX, 2)},	   {CR4_FSGSBASE, CPUID_FEATURE(CPUID_7_EBX, 0)},
		{CR4_PCIDE, CPUID_FEATURE(CPUID_1_ECX, 17)},	   {CR4_OSXSAVE, CPUID_FEATURE(CPUID_1_ECX, 26)},
		{CR4_SMEP, CPUID_FEATURE(CPUID_7_EBX, 7)},	   {CR4_SMAP, CPUID_FEATURE(CPUID_7_EBX, 20)},
	};
	uint64_t allowed = CR4_TSD | CR4_PCE;

	for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
		if (cpu_has(v->model, map[i].feature))
			allowed |= map[i].bit;
	return allowed;
}

void cpu_set_cr4(struct vcpu *v, uint64_t val)
{
	uint64_t old = v->cr4;

	if (val & ~cr4_allowed(v))
		cpu_gp(v);
	if (cpu_long(v) && !(val & CR4_PAE))
		cpu_gp(v);
	if ((val & CR4_PCIDE) && !(old & CR4_PCIDE) && (!cpu_long(v) || (v->cr3 & 0xfff)))
		cpu_gp(v);
	if ((old ^ val) & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP))
		check_pdptes(v, v->cr0, v->cr3, val);
	v->cr4 = val;
	cpu_update_mmu(v);
}

void cpu_set_efer(struct vcpu *v, uint64_t val)
{
	uint64_t allowed = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

	if (cpu_has(v->model, CPUID_FEATURE(CPUID_80000001_EDX, 25)))
		allowed |= EFER_FFXSR;
	if (cpu_has(v->model, CPUID_FEATURE(CPUID_80000021_EAX, 8)))
		allowed |= EFER_AUTOIBRS;
	if (val & ~allowed)
		cpu_gp(v);
	if (((val ^ v->efer) & EFER_LME) && (v->cr0 & CR0_PG))
		cpu_gp(v);
	v->efer = (val & ~(uint64_t)EFER_LMA) | (v->efer & EFER_LMA);
	cpu_update_mmu(v);
}

static bool apic_cr8(const struct vcpu *v)
{
	return v->apic && v->apic->get_tpr;
}

static uint64_t read_cr8(struct vcpu *v)
{
	uint64_t val = 0;

	if (apic_cr8(v)) {
		cpu_lock(v);
		val = v->apic->get_tpr(v->apic->ctx);
		cpu_unlock(v);
	}
	return val;
}

static void write_cr8(struct vcpu *v, uint64_t val)
{
	if (val & ~0xfULL)
		cpu_gp(v);
	if (apic_cr8(v)) {
		cpu_lock(v);
		v->apic->set_tpr(v->apic->ctx, (uint8_t)val);
		cpu_unlock(v);
	}
}

/* LOCK MOV CR0 is AMD's way to name CR8 outside 64-bit mode. */
static unsigned cr_number(const struct cpu_op *op)
{
	return op->reg == 0 && (op->flags & OP_LOCK) ? 8 : op->reg;
}

static void mov_from_cr(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val;

	switch (cr_number(op)) {
	case 0:
		val = v->cr0;
		break;
	case 2:
		val = v->cr2;
		break;
	case 3:
		val = v->cr3;
		break;
	case 4:
		val = v->cr4;
		break;
	case 8:
		val = read_cr8(v);
		break;
	default:
		cpu_ud(v);
	}
	cpu_set_reg(v, op->rm, v->mode == X86_MODE_64 ? 8 : 4, false, val);
	cpu_next(v, op);
}

static void mov_to_cr(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = cpu_reg(v, op->rm, v->mode == X86_MODE_64 ? 8 : 4, false);
	uint64_t next = v->rip + op->len;

	if (cr_number(op) != 8)
		cpu_serialize(v);
	switch (cr_number(op)) {
	case 0:
		cpu_set_cr0(v, val);
		break;
	case 2:
		v->cr2 = val;
		break;
	case 3:
		cpu_set_cr3(v, val);
		break;
	case 4:
		cpu_set_cr4(v, val);
		break;
	case 8:
		write_cr8(v, val);
		break;
	default:
		cpu_ud(v);
	}
	v->rip = v->mode == X86_MODE_64 ? next : next & 0xffffffff;
}

static unsigned dr_number(struct vcpu *v, const struct cpu_op *op)
{
	unsigned n = op->reg;

	if (n > 7)
		cpu_ud(v);
	if ((n == 4 || n == 5) && (v->cr4 & CR4_DE))
		cpu_ud(v);
	require_cpl0(v);
	if (v->dr7 & BIT(13)) { /* GD: the access itself is what is being debugged */
		v->dr6 = (v->dr6 & ~0xfULL) | BIT(13);
		v->dr7 &= ~BIT(13);
		cpu_raise(v, EXC_DB);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

static void mov_from_dr(struct vcpu *v, const struct cpu_op *op)
{
	unsigned n = dr_number(v, op);
	uint64_t val = n == 6 ? v->dr6 : n == 7 ? v->dr7 : v->dr[n & 3];

	cpu_set_reg(v, op->rm, v->mode == X86_MODE_64 ? 8 : 4, false, val);
	cpu_next(v, op);
}

static void mov_to_dr(struct vcpu *v, const struct cpu_op *op)
{
	unsigned n = dr_number(v, op);
	uint64_t val = cpu_reg(v, op->rm, v->mode == X86_MODE_64 ? 8 : 4, false);

	if (n >= 6 && val >> 32)
		cpu_gp(v);
	if (n == 6)
		v->dr6 = (val & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		v->dr7 = (val & 0xffff2bff) | 0x400;
	else
		v->dr[n] = val;
	cpu_update_breakpoints(v);
	cpu_serialize(v);
	cpu_next(v, op);
}

/* MOV to and from control and debug registers share one mnemonic with every other MOV: opcode 0F 20..23. */
static void exec_mov_crdr(struct vcpu *v, const struct cpu_op *op)
{
	if (op->opcode <= 0x20 || op->opcode == 0x22) {
		unsigned n = cr_number(op);

		if (n == 1 || (n > 4 && n != 8))
			cpu_ud(v);
		require_cpl0(v);
	}
	switch (op->opcode) {
	case 0x20:
		mov_from_cr(v, op);
		break;
	case 0x21:
		mov_from_dr(v, op);
		break;
	case 0x22:
		mov_to_cr(v, op);
		break;
	default:
		mov_to_dr(v, op);
	}
}

cpu_op_fn cpu_mov_crdr_fn(void)
{
	return exec_mov_crdr;
}

static void exec_lmsw(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val;

	require_cpl0(v);
	val = cpu_read_rm(v, op, 2);
	/* Loads PE, MP, EM, TS; cannot clear PE. */
	cpu_set_cr0(v, (v->cr0 & ~0xeULL) | (val & 0xf));
	cpu_next(v, op);
}

static void exec_smsw(struct vcpu *v, const struct cpu_op *op)
{
	check_umip(v);
	cpu_write_rm(v, op, op->flags & OP_MEM ? 2 : op->op_size, v->cr0);
	cpu_next(v, op);
}

static void exec_clts(struct vcpu *v, const struct cpu_op *op)
{
	require_cpl0(v);
	v->cr0 &= ~(uint64_t)CR0_TS;
	cpu_next(v, op);
}

static void check_osxsave(struct vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		cpu_ud(v);
}

static void exec_xgetbv(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = v->xcr0;
	uint32_t index = (uint32_t)v->gpr[R_CX];

	check_osxsave(v);
	/* XCR1 reads as XCR0 & XINUSE; all enabled components count as in use. */
	if (index > 1 || (index == 1 && !cpu_has(v->model, CPUID_FEATURE(CPUID_D_1_EAX, 2))))
		cpu_gp(v);
	v->gpr[R_AX] = (uint32_t)val;
	v->gpr[R_DX] = val >> 32;
	cpu_next(v, op);
}

static void exec_xsetbv(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = (uint32_t)v->gpr[R_AX] | v->gpr[R_DX] << 32;
	uint64_t avx512 = XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM;

	check_osxsave(v);
	require_cpl0(v);
	if ((uint32_t)v->gpr[R_CX] || (val & ~v->model->xstate.xcr0) || !(val & XCR0_X87))
		cpu_gp(v);
	if ((val & XCR0_AVX) && !(val & XCR0_SSE))
		cpu_gp(v);
	if ((val & avx512) && ((val & avx512) != avx512 || !(val & XCR0_AVX)))
		cpu_gp(v);
	v->xcr0 = val;
	cpu_next(v, op);
}

const struct cpu_emulation cpu_control_insns[] = {
	{ZYDIS_MNEMONIC_LMSW, exec_lmsw},     {ZYDIS_MNEMONIC_SMSW, exec_smsw},     {ZYDIS_MNEMONIC_CLTS, exec_clts},
	{ZYDIS_MNEMONIC_XGETBV, exec_xgetbv}, {ZYDIS_MNEMONIC_XSETBV, exec_xsetbv},
	{0, NULL},
};
