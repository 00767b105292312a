/*
 * Model-specific registers, and RDMSR/WRMSR. An unknown one raises #GP(0), as on hardware, and is counted and
 * logged once. Canonical checks: SDM vol. 3, 2.1.2; AMD's own: APM vol. 2, appendix A.
 */
#include <errno.h>

#include "cpu/kvm.h"
#include "cpu/ringer.h"
#include "cpu/system.h"

/* Registers that simply hold what was written: with the bits that may be set. */
struct plain_msr {
	uint32_t msr;
	uint16_t offset;
	bool must_be_canonical;
	uint64_t writable; /* other bits set: #GP(0) */
};
#define PLAIN(num, field, canon, mask) {num, offsetof(struct vcpu, field), canon, mask}
static const struct plain_msr plain[] = {
	PLAIN(MSR_STAR, star, false, ~0ULL),
	PLAIN(MSR_LSTAR, lstar, true, ~0ULL),
	PLAIN(MSR_CSTAR, cstar, true, ~0ULL),
	PLAIN(MSR_SFMASK, sfmask, false, 0xffffffff),
	PLAIN(MSR_FS_BASE, seg[S_FS].base, true, ~0ULL),
	PLAIN(MSR_GS_BASE, seg[S_GS].base, true, ~0ULL),
	PLAIN(MSR_KERNEL_GS_BASE, kernel_gs_base, true, ~0ULL),
	PLAIN(MSR_SYSENTER_CS, sysenter_cs, false, 0xffffffff),
	PLAIN(MSR_SYSENTER_ESP, sysenter_esp, false, ~0ULL), /* AMD: used in legacy modes only, never checked */
	PLAIN(MSR_SYSENTER_EIP, sysenter_eip, false, ~0ULL),
	PLAIN(MSR_TSC_AUX, tsc_aux, false, 0xffffffff),
	PLAIN(MSR_MISC_ENABLE, misc_enable, false, ~0ULL),
	PLAIN(MSR_SPEC_CTRL, spec_ctrl, false, 7),
	PLAIN(MSR_DEBUGCTL, debugctl, false, 3),
	PLAIN(MSR_MCG_STATUS, mcg_status, false, ~0ULL),
	PLAIN(MSR_MCG_CTL, mcg_ctl, false, ~0ULL),
	PLAIN(MSR_SYSCFG, syscfg, false, ~0ULL),
	PLAIN(MSR_HWCR, hwcr, false, ~0ULL),
	PLAIN(MSR_DE_CFG, de_cfg, false, ~0ULL),
};

static uint64_t *plain_field(struct vcpu *v, const struct plain_msr *p)
{
	return (uint64_t *)((char *)v + p->offset);
}

static const struct plain_msr *find_plain(uint32_t msr)
{
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++)
		if (plain[i].msr == msr)
			return &plain[i];
	return NULL;
}

/* Registers that read as a constant; writes are ignored where hardware (or a hypervisor) lets them pass. */
static const struct {
	uint32_t msr;
	uint64_t val;
	bool ignore_write;
} constant[] = {
	{MSR_UCODE_REV, 0x0a101148, true},   {MSR_PLATFORM_ID, 0, false},      {MSR_MTRRCAP, 0x508, false},
	{MSR_ARCH_CAPABILITIES, 0, false},   {MSR_PLATFORM_INFO, 0, false},
	{MSR_MCG_CAP, 0x100, false},	     {MSR_PRED_CMD, 0, true},          {MSR_FLUSH_CMD, 0, true},
	{0xc001001f, 0, true} /* NB_CFG */,  {0xc0010055, 0, true} /* INT_PENDING */, {0xc0010062, 0, true} /* PSTATE_CTL */,
	{0xc0010140, 0, true} /* OSVW_ID */, {0xc0010141, 0, true} /* OSVW_STATUS */, {0xc0011022, 0, true} /* DC_CFG */,
	{0xc0011020, 0, true} /* LS_CFG */,  {0xc001102c, 0, true} /* EX_CFG */,  {0xc0011028, 0, true} /* FP_CFG */,
	{0xc0011023, 0, true} /* BU_CFG2 */, {0xc0011021, 0, true} /* IC_CFG */,  {0xc001102a, 0, true} /* BU_CFG */,
};

static uint64_t *mtrr(struct vcpu *v, uint32_t msr)
{
	if (msr >= MSR_MTRR_PHYSBASE0 && msr < MSR_MTRR_PHYSBASE0 + 16)
		return &v->mtrr_var[msr - MSR_MTRR_PHYSBASE0];
	if (msr == MSR_MTRR_FIX64K)
		return &v->mtrr_fixed[0];
	if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
		return &v->mtrr_fixed[1 + msr - MSR_MTRR_FIX16K];
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return &v->mtrr_fixed[3 + msr - MSR_MTRR_FIX4K];
	if (msr == MSR_MTRR_DEF_TYPE)
		return &v->mtrr_def_type;
	return NULL;
}

static bool valid_memory_type(unsigned t)
{
	return t == 0 || t == 1 || t == 4 || t == 5 || t == 6;
}

static int write_mtrr(struct vcpu *v, uint32_t msr, uint64_t *field, uint64_t val)
{
	uint64_t phys = BITS(v->model->phys_bits - 1, 12);

	if (msr == MSR_MTRR_DEF_TYPE) {
		if ((val & ~0xcffULL) || !valid_memory_type(val & 0xff))
			return -EINVAL;
	} else if (msr < MSR_MTRR_FIX64K) {
		bool base = !(msr & 1);

		if (val & ~(phys | (base ? 0xff : 0x800)) || (base && !valid_memory_type(val & 0xff)))
			return -EINVAL;
	} else {
		for (unsigned i = 0; i < 8; i++)
			if (!valid_memory_type(val >> (i * 8) & 0x1f)) /* AMD has RdMem and WrMem at 4:3 */
				return -EINVAL;
	}
	*field = val;
	return 0;
}

static int write_pat(struct vcpu *v, uint64_t val)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned t = val >> (i * 8) & 0xff;

		if (t > 7 || t == 2 || t == 3)
			return -EINVAL;
	}
	v->pat = val;
	return 0;
}

static int apic_msr(struct vcpu *v, uint32_t msr, uint64_t *val, bool write)
{
	int rc = 0;

	if (!v->apic)
		return -EINVAL;
	cpu_lock(v);
	if (msr == MSR_APIC_BASE) {
		if (write)
			rc = v->apic->set_base(v->apic->ctx, *val);
		else
			*val = v->apic->get_base(v->apic->ctx);
	} else if (msr == MSR_TSC_DEADLINE) {
		if (write)
			v->apic->set_deadline(v->apic->ctx, *val);
		else
			*val = v->apic->get_deadline(v->apic->ctx);
	} else {
		rc = write ? v->apic->msr_write(v->apic->ctx, msr, *val) :
			     v->apic->msr_read(v->apic->ctx, msr, val);
	}
	cpu_unlock(v);
	return rc;
}

static bool is_apic_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

int cpu_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const struct plain_msr *p = find_plain(msr);
	uint64_t *m = mtrr(v, msr);

	if (p || m) {
		*val = p ? *plain_field(v, p) : *m;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(constant); i++)
		if (constant[i].msr == msr) {
			*val = constant[i].val;
			return 0;
		}
	if (is_apic_msr(msr))
		return apic_msr(v, msr, val, false);
	switch (msr) {
	case MSR_TSC:
		*val = cpu_tsc(v);
		return 0;
	case MSR_TSC_ADJUST:
		*val = v->tsc_adjust;
		return 0;
	case MSR_EFER:
		*val = v->efer;
		return 0;
	case MSR_PAT:
		*val = v->pat;
		return 0;
	default:
		/* Machine-check banks: MCG_CAP says there are none. */
		return cpu_kvm_msr_read(v, msr, val) && cpu_ringer_msr_read(v, msr, val) ? -EINVAL : 0;
	}
}

/* What follows the TSC follows it here too: a deadline in TSC ticks, and the clock page's anchor. */
static void move_tsc(struct vcpu *v, uint64_t delta)
{
	v->tsc_adjust += delta;
	v->tsc_offset += (int64_t)delta;
	cpu_kvm_clock_update(v);
	if (v->apic && v->apic->tsc_changed) {
		cpu_lock(v);
		v->apic->tsc_changed(v->apic->ctx);
		cpu_unlock(v);
	}
}

int cpu_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	const struct plain_msr *p = find_plain(msr);
	uint64_t *m = mtrr(v, msr);

	if (p) {
		if ((val & ~p->writable) || (p->must_be_canonical && !canonical(val)))
			return -EINVAL;
		*plain_field(v, p) = val;
		return 0;
	}
	if (m)
		return write_mtrr(v, msr, m, val);
	for (unsigned i = 0; i < ARRAY_SIZE(constant); i++)
		if (constant[i].msr == msr)
			return constant[i].ignore_write ? 0 : -EINVAL;
	if (is_apic_msr(msr))
		return apic_msr(v, msr, &val, true);
	switch (msr) {
	case MSR_TSC: /* SDM vol. 3, 17.17.3: TSC_ADJUST moves by the same amount */
		move_tsc(v, val - cpu_tsc(v));
		return 0;
	case MSR_TSC_ADJUST:
		move_tsc(v, val - v->tsc_adjust);
		return 0;
	case MSR_EFER:
		cpu_set_efer(v, val);
		return 0;
	case MSR_PAT:
		return write_pat(v, val);
	default:
		return cpu_kvm_msr_write(v, msr, val) && cpu_ringer_msr_write(v, msr, val) ? -EINVAL : 0;
	}
}

static void exec_rdmsr(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = 0;

	if (v->cpl)
		cpu_gp(v);
	if (cpu_msr_read(v, (uint32_t)v->gpr[R_CX], &val)) {
		cpu_fpu_spill(v); /* logging is printf's */
		if (!v->unknown_msr_reads++)
			log_info(v->log, "vcpu %u: first RDMSR of an unknown register: %#x (#GP)", v->id,
				 (uint32_t)v->gpr[R_CX]);
		log_debug(v->log, "vcpu %u: RDMSR %#x: #GP", v->id, (uint32_t)v->gpr[R_CX]);
		cpu_gp(v);
	}
	v->gpr[R_AX] = (uint32_t)val;
	v->gpr[R_DX] = val >> 32;
	cpu_next(v, op);
}

static void exec_wrmsr(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = (uint32_t)v->gpr[R_AX] | v->gpr[R_DX] << 32;

	if (v->cpl)
		cpu_gp(v);
	cpu_serialize(v);
	if (cpu_msr_write(v, (uint32_t)v->gpr[R_CX], val)) {
		cpu_fpu_spill(v);
		if (!v->unknown_msr_writes++)
			log_info(v->log, "vcpu %u: first refused WRMSR: %#x = %#lx (#GP)", v->id,
				 (uint32_t)v->gpr[R_CX], val);
		log_debug(v->log, "vcpu %u: WRMSR %#x = %#lx: #GP", v->id, (uint32_t)v->gpr[R_CX], val);
		cpu_gp(v);
	}
	cpu_next(v, op);
}

cpu_op_fn cpu_msr_fn(bool write)
{
	return write ? exec_wrmsr : exec_rdmsr;
}
