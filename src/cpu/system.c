/*
 * System instructions: descriptor-table registers, segment inspection, SYSCALL and SYSENTER families, segment bases,
 * TLB invalidation, CPUID, time-stamp counter, HLT, hypercalls. SDM vol. 2; AMD APM vol. 3 for SYSCALL/SYSRET.
 */
#include "cpu/kvm.h"
#include "cpu/system.h"

static void require_protected(struct vcpu *v)
{
	if (!cpu_protected(v))
		cpu_ud(v);
}

/* LGDT and LIDT read 2 + 4 bytes (24 significant bits with a 16-bit operand), or 2 + 8 in 64-bit mode. */
static void load_table(struct vcpu *v, const struct cpu_op *op, uint64_t *base, uint16_t *limit)
{
	unsigned size = v->mode == X86_MODE_64 ? 8 : 4;
	uint64_t ea = cpu_ea(v, op), lin, b;
	uint16_t l;

	require_cpl0(v);
	lin = cpu_linear(v, op->seg, ea, size + 2, false);
	l = (uint16_t)cpu_load(v, op->seg, lin, 2);
	b = cpu_load(v, op->seg, lin + 2, size);
	if (size == 4 && op->op_size == 2)
		b &= 0xffffff;
	if (!canonical(b))
		cpu_gp(v);
	*base = b;
	*limit = l;
	cpu_next(v, op);
}

static void exec_lgdt(struct vcpu *v, const struct cpu_op *op)
{
	cpu_serialize(v);
	load_table(v, op, &v->gdt_base, &v->gdt_limit);
}

static void exec_lidt(struct vcpu *v, const struct cpu_op *op)
{
	cpu_serialize(v);
	load_table(v, op, &v->idt_base, &v->idt_limit);
}

static void store_table(struct vcpu *v, const struct cpu_op *op, uint64_t base, uint16_t limit)
{
	unsigned size = v->mode == X86_MODE_64 ? 8 : 4;
	uint64_t lin;

	check_umip(v);
	lin = cpu_linear(v, op->seg, cpu_ea(v, op), size + 2, true);
	cpu_probe(v, op->seg, lin, size + 2, true, v->mmu_mode);
	cpu_store(v, op->seg, lin, 2, limit);
	cpu_store(v, op->seg, lin + 2, size, base);
	cpu_next(v, op);
}

static void exec_sgdt(struct vcpu *v, const struct cpu_op *op)
{
	store_table(v, op, v->gdt_base, v->gdt_limit);
}

static void exec_sidt(struct vcpu *v, const struct cpu_op *op)
{
	store_table(v, op, v->idt_base, v->idt_limit);
}

static void exec_lldt(struct vcpu *v, const struct cpu_op *op)
{
	struct descriptor d;
	uint16_t sel;

	require_protected(v);
	require_cpl0(v);
	cpu_serialize(v);
	sel = (uint16_t)cpu_read_rm(v, op, 2);
	if (!(sel & ~3)) {
		v->seg[S_LDTR] = (struct segment){.sel = sel, .attr = SEG_UNUSABLE};
		cpu_next(v, op);
		return;
	}
	if (sel & 4)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	desc_fetch_or(v, sel, EXC_GP, &d);
	if ((desc_attr(&d) & (SEG_S | SEG_TYPE)) != DESC_LDT)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (!(desc_attr(&d) & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_fetch_high(v, sel, EXC_GP, &d);
	if (!canonical(desc_base(&d)))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	desc_to_segment(&v->seg[S_LDTR], sel, &d);
	cpu_next(v, op);
}

static void exec_ltr(struct vcpu *v, const struct cpu_op *op)
{
	struct descriptor d;
	uint16_t sel;
	unsigned type;

	require_protected(v);
	require_cpl0(v);
	cpu_serialize(v);
	sel = (uint16_t)cpu_read_rm(v, op, 2);
	if (!(sel & ~3))
		cpu_gp(v);
	if (sel & 4)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	desc_fetch_or(v, sel, EXC_GP, &d);
	type = desc_attr(&d) & (SEG_S | SEG_TYPE);
	if (type != DESC_TSS && (type != DESC_TSS16 || cpu_long(v)))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (!(desc_attr(&d) & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_fetch_high(v, sel, EXC_GP, &d);
	if (!canonical(desc_base(&d)))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	/* Another processor may have been faster. */
	if (cpu_update_sys(v, d.addr + 5, 2, 0) & 2)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	d.raw |= BIT(41); /* busy */
	desc_to_segment(&v->seg[S_TR], sel, &d);
	cpu_next(v, op);
}

/* SLDT, STR: a register operand of any size gets the zero-extended selector; memory gets 16 bits. */
static void store_selector(struct vcpu *v, const struct cpu_op *op, uint16_t sel)
{
	require_protected(v);
	check_umip(v);
	cpu_write_rm(v, op, op->flags & OP_MEM ? 2 : op->op_size, sel);
	cpu_next(v, op);
}

static void exec_sldt(struct vcpu *v, const struct cpu_op *op)
{
	store_selector(v, op, v->seg[S_LDTR].sel);
}

static void exec_str(struct vcpu *v, const struct cpu_op *op)
{
	store_selector(v, op, v->seg[S_TR].sel);
}

static void set_zf(struct vcpu *v, bool on)
{
	v->status = (uint16_t)((v->status & ~(FLAG_ZF << 8)) | (on ? FLAG_ZF << 8 : 0));
}

/* Whether CPL and RPL may see the segment that sel names; conforming code is visible to all. */
static bool visible(const struct vcpu *v, uint16_t sel, uint32_t attr)
{
	bool conforming = (attr & SEG_S) && (attr & SEG_CODE) && (attr & SEG_CONFORMING);

	return conforming || (seg_dpl(attr) >= v->cpl && seg_dpl(attr) >= (sel & 3u));
}

/* System descriptor types that LAR (and LSL) accept. */
static bool lar_type(const struct vcpu *v, unsigned type, bool lsl)
{
	switch (type) {
	case DESC_LDT:
	case DESC_TSS:
	case DESC_TSS_BUSY:
		return true;
	case DESC_TSS16:
	case DESC_TSS16_BUSY:
		return !cpu_long(v);
	case DESC_CALL:
		return !lsl;
	case DESC_CALL16:
	case DESC_TASK_GATE:
		return !lsl && !cpu_long(v);
	default:
		return false;
	}
}

static bool inspect(struct vcpu *v, uint16_t sel, bool lsl, struct descriptor *d)
{
	uint32_t attr;

	if (!desc_fetch(v, sel, d))
		return false;
	attr = desc_attr(d);
	return visible(v, sel, attr) && ((attr & SEG_S) || lar_type(v, attr & SEG_TYPE, lsl));
}

/* LAR and LSL: the access rights or the limit of what sel names, if this CPL and RPL may see it. */
static void load_inspected(struct vcpu *v, const struct cpu_op *op, bool lsl)
{
	struct descriptor d;
	bool ok;

	require_protected(v);
	ok = inspect(v, (uint16_t)cpu_read_rm(v, op, 2), lsl, &d);
	if (ok)
		cpu_set_reg(v, op->reg, op->op_size, false, lsl ? desc_limit(&d) : d.raw >> 32 & 0xffff00);
	set_zf(v, ok);
	cpu_next(v, op);
}

static void exec_lar(struct vcpu *v, const struct cpu_op *op)
{
	load_inspected(v, op, false);
}

static void exec_lsl(struct vcpu *v, const struct cpu_op *op)
{
	load_inspected(v, op, true);
}

static void verify(struct vcpu *v, const struct cpu_op *op, bool write)
{
	struct descriptor d;
	uint16_t sel;
	uint32_t attr;
	bool ok;

	require_protected(v);
	sel = (uint16_t)cpu_read_rm(v, op, 2);
	ok = desc_fetch(v, sel, &d);
	if (ok) {
		attr = desc_attr(&d);
		ok = (attr & SEG_S) && visible(v, sel, attr) &&
		     (write ? !(attr & SEG_CODE) && (attr & SEG_RW) : !(attr & SEG_CODE) || (attr & SEG_RW));
	}
	set_zf(v, ok);
	cpu_next(v, op);
}

static void exec_verr(struct vcpu *v, const struct cpu_op *op)
{
	verify(v, op, false);
}

static void exec_verw(struct vcpu *v, const struct cpu_op *op)
{
	verify(v, op, true);
}

static void exec_arpl(struct vcpu *v, const struct cpu_op *op)
{
	uint16_t dst, src = (uint16_t)v->gpr[op->reg];

	require_protected(v);
	dst = (uint16_t)cpu_read_rm(v, op, 2);
	if ((dst & 3) < (src & 3)) {
		cpu_write_rm(v, op, 2, (dst & ~3u) | (src & 3u));
		set_zf(v, true);
	} else {
		set_zf(v, false);
	}
	cpu_next(v, op);
}

static void exec_mov_sreg(struct vcpu *v, const struct cpu_op *op)
{
	unsigned s = op->reg & 7; /* REX.R is ignored */

	if (s > S_GS)
		cpu_ud(v);
	if (op->opcode == 0x8c) {
		cpu_write_rm(v, op, op->flags & OP_MEM ? 2 : op->op_size, v->seg[s].sel);
		cpu_next(v, op);
		return;
	}
	if (s == S_CS)
		cpu_ud(v);
	cpu_load_sreg(v, s, (uint16_t)cpu_read_rm(v, op, 2));
	cpu_next(v, op);
	if (s == S_SS) {
		v->inhibit_rip = v->rip;
		v->inhibit_debug = true;
	}
}

cpu_op_fn cpu_mov_sreg_fn(void)
{
	return exec_mov_sreg;
}

/* LDS, LES, LFS, LGS, LSS */
static void exec_load_far_ptr(struct vcpu *v, const struct cpu_op *op)
{
	unsigned s = op->mnemonic == ZYDIS_MNEMONIC_LDS ? S_DS :
		     op->mnemonic == ZYDIS_MNEMONIC_LES ? S_ES :
		     op->mnemonic == ZYDIS_MNEMONIC_LFS ? S_FS :
		     op->mnemonic == ZYDIS_MNEMONIC_LGS ? S_GS : S_SS;
	uint64_t lin = cpu_linear(v, op->seg, cpu_ea(v, op), op->op_size + 2, false);
	uint64_t off = cpu_load(v, op->seg, lin, op->op_size);
	uint16_t sel = (uint16_t)cpu_load(v, op->seg, lin + op->op_size, 2);

	cpu_load_sreg(v, s, sel);
	cpu_set_reg(v, op->reg, op->op_size, false, off);
	cpu_next(v, op);
}

/* Flat segments that SYSCALL and its kin install without reading descriptors. */
static void flat_cs(struct vcpu *v, uint16_t sel, unsigned cpl, bool long_code)
{
	struct segment cs = {.sel = sel, .limit = 0xffffffff,
			     .attr = SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED | SEG_G | cpl << 5 |
				     (long_code ? (uint32_t)SEG_L : (uint32_t)SEG_DB)};

	cpu_set_cs(v, &cs, cpl);
}

static void flat_ss(struct vcpu *v, uint16_t sel, unsigned cpl)
{
	v->seg[S_SS] = (struct segment){.sel = sel, .limit = 0xffffffff,
					.attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | SEG_DB | cpl << 5};
}

static void exec_syscall(struct vcpu *v, const struct cpu_op *op)
{
	uint16_t sel = v->star >> 32 & 0xfffc;
	uint64_t flags = cpu_rflags(v) & ~(uint64_t)FLAG_RF;

	if (!(v->efer & EFER_SCE) || !(v->cr0 & CR0_PE))
		cpu_ud(v);
	if (cpu_long(v)) {
		uint64_t target = v->mode == X86_MODE_64 ? v->lstar : v->cstar;

		v->gpr[R_CX] = v->rip + op->len;
		v->gpr[R_11] = flags;
		flat_cs(v, sel, 0, true);
		flat_ss(v, sel + 8, 0);
		cpu_set_rflags(v, flags & ~(v->sfmask | FLAG_RF));
		v->rip = target;
		return;
	}
	v->gpr[R_CX] = (uint32_t)(v->rip + op->len);
	flat_cs(v, sel, 0, false);
	flat_ss(v, sel + 8, 0);
	cpu_set_rflags(v, flags & ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF));
	v->rip = (uint32_t)v->star;
}

static void exec_sysret(struct vcpu *v, const struct cpu_op *op)
{
	uint16_t base = v->star >> 48;
	bool to64 = v->mode == X86_MODE_64 && op->op_size == 8;
	uint64_t rip = to64 ? v->gpr[R_CX] : (uint32_t)v->gpr[R_CX];

	if (!(v->efer & EFER_SCE) || !cpu_protected(v))
		cpu_ud(v);
	require_cpl0(v);
	if (cpu_long(v)) {
		uint64_t flags = v->gpr[R_11];

		/* AMD loads RIP unchecked; the fetch at CPL 3 then faults. */
		cpu_set_rflags(v, flags & ~(uint64_t)(FLAG_RF | FLAG_VM));
	} else {
		v->sys_flags |= FLAG_IF;
	}
	flat_cs(v, (uint16_t)((to64 ? base + 16 : base) | 3), 3, to64);
	/* AMD leaves SS's hidden part as it is; Linux loads a flat SS anyway. Intel's flat one is a superset. */
	flat_ss(v, (uint16_t)((base + 8) | 3), 3);
	v->rip = rip;
}

static void exec_sysenter(struct vcpu *v, const struct cpu_op *op)
{
	(void)op;
	/* AMD: not in long mode. */
	if (cpu_long(v))
		cpu_ud(v);
	if (!(v->cr0 & CR0_PE) || !(v->sysenter_cs & 0xfffc))
		cpu_gp(v);
	v->sys_flags &= ~(uint32_t)(FLAG_VM | FLAG_IF | FLAG_RF);
	flat_cs(v, v->sysenter_cs & 0xfffc, 0, false);
	flat_ss(v, (v->sysenter_cs & 0xfffc) + 8, 0);
	v->gpr[R_SP] = (uint32_t)v->sysenter_esp;
	v->rip = (uint32_t)v->sysenter_eip;
}

static void exec_sysexit(struct vcpu *v, const struct cpu_op *op)
{
	uint16_t base = v->sysenter_cs & 0xfffc;

	(void)op;
	if (cpu_long(v))
		cpu_ud(v);
	if (!(v->cr0 & CR0_PE) || v->cpl || !base)
		cpu_gp(v);
	v->rip = (uint32_t)v->gpr[R_DX];
	v->gpr[R_SP] = (uint32_t)v->gpr[R_CX];
	flat_cs(v, (uint16_t)((base + 16) | 3), 3, false);
	flat_ss(v, (uint16_t)((base + 24) | 3), 3);
}

static void exec_swapgs(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t base = v->seg[S_GS].base;

	if (v->mode != X86_MODE_64)
		cpu_ud(v);
	require_cpl0(v);
	v->seg[S_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	cpu_next(v, op);
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE */
static void exec_fsgsbase(struct vcpu *v, const struct cpu_op *op)
{
	bool write = op->mnemonic == ZYDIS_MNEMONIC_WRFSBASE || op->mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
	bool gs = op->mnemonic == ZYDIS_MNEMONIC_RDGSBASE || op->mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
	struct segment *s = &v->seg[gs ? S_GS : S_FS];
	unsigned size = op->op_size == 8 ? 8 : 4; /* an operand-size prefix is ignored */

	if (v->mode != X86_MODE_64 || !(v->cr4 & CR4_FSGSBASE))
		cpu_ud(v);
	if (write) {
		uint64_t base = cpu_reg(v, op->rm, size, false);

		if (!canonical(base))
			cpu_gp(v);
		s->base = base;
	} else {
		cpu_set_reg(v, op->rm, size, false, s->base);
	}
	cpu_next(v, op);
}

static void exec_invlpg(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t ea = cpu_ea(v, op);

	require_cpl0(v);
	cpu_serialize(v);
	if (v->mode == X86_MODE_64)
		ea += op->seg >= S_FS ? v->seg[op->seg].base : 0;
	else
		ea = (ea + v->seg[op->seg].base) & 0xffffffff;
	if (canonical(ea))
		mmu_flush_page(&v->mmu, ea);
	cpu_next(v, op);
}

static void exec_invpcid(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin, pcid, addr, type = cpu_reg(v, op->reg, v->mode == X86_MODE_64 ? 8 : 4, false);

	if (!cpu_protected(v) && (v->cr0 & CR0_PE))
		cpu_gp(v);
	require_cpl0(v);
	lin = cpu_linear(v, op->seg, cpu_ea(v, op), 16, false);
	pcid = cpu_load(v, op->seg, lin, 8);
	addr = cpu_load(v, op->seg, lin + 8, 8);
	if (type > 3 || (pcid & ~0xfffULL))
		cpu_gp(v);
	if (type <= 1 && !(v->cr4 & CR4_PCIDE) && pcid)
		cpu_gp(v);
	if (type == 0 && !canonical(addr))
		cpu_gp(v);
	cpu_serialize(v);
	switch (type) {
	case 0:
		mmu_flush_page_pcid(&v->mmu, (uint16_t)pcid, addr);
		break;
	case 1:
		mmu_flush_pcid(&v->mmu, (uint16_t)pcid);
		break;
	case 2:
		mmu_flush_all(&v->mmu);
		break;
	default:
		mmu_flush_nonglobal(&v->mmu);
	}
	cpu_next(v, op);
}

static void exec_cache_flush(struct vcpu *v, const struct cpu_op *op)
{
	require_cpl0(v);
	cpu_serialize(v);
	cpu_next(v, op);
}

static void exec_cpuid(struct vcpu *v, const struct cpu_op *op)
{
	struct cpuid_state s = {.cr4 = v->cr4, .xcr0 = v->xcr0, .apic_id = v->id, .cpu_count = v->cpu_count};
	struct cpuid_regs r;

	cpu_serialize(v);
	if (v->apic) {
		cpu_lock(v);
		s.apic_base = v->apic->get_base(v->apic->ctx);
		cpu_unlock(v);
	}
	r = cpuid_execute(v->model, &s, (uint32_t)v->gpr[R_AX], (uint32_t)v->gpr[R_CX]);
	v->gpr[R_AX] = r.eax;
	v->gpr[R_BX] = r.ebx;
	v->gpr[R_CX] = r.ecx;
	v->gpr[R_DX] = r.edx;
	cpu_next(v, op);
}

static void exec_rdtsc(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t tsc;

	if ((v->cr4 & CR4_TSD) && v->cpl)
		cpu_gp(v);
	tsc = cpu_tsc(v);
	v->gpr[R_AX] = (uint32_t)tsc;
	v->gpr[R_DX] = tsc >> 32;
	if (op->mnemonic == ZYDIS_MNEMONIC_RDTSCP)
		v->gpr[R_CX] = (uint32_t)v->tsc_aux;
	cpu_next(v, op);
}

static void exec_rdpmc(struct vcpu *v, const struct cpu_op *op)
{
	(void)op;
	cpu_gp(v); /* there are no counters: CPL or index, the fault is the same */
}

static void exec_hlt(struct vcpu *v, const struct cpu_op *op)
{
	require_cpl0(v);
	cpu_next(v, op);
	v->halted = true;
}

/* VMCALL and VMMCALL alike, whatever the CPU's vendor. An error is a result, at any privilege: no fault. */
static void exec_hypercall(struct vcpu *v, const struct cpu_op *op)
{
	bool wide = v->mode == X86_MODE_64;
	uint64_t mask = wide ? ~0ULL : UINT32_MAX;
	const uint64_t arg[4] = {v->gpr[R_BX] & mask, v->gpr[R_CX] & mask, v->gpr[R_DX] & mask, v->gpr[R_SI] & mask};

	v->gpr[R_AX] = (uint64_t)cpu_kvm_hypercall(v, v->gpr[R_AX] & mask, arg, wide) & mask;
	cpu_next(v, op);
}

static void exec_rdmsr(struct vcpu *v, const struct cpu_op *op)
{
	cpu_msr_fn(false)(v, op);
}

static void exec_wrmsr(struct vcpu *v, const struct cpu_op *op)
{
	cpu_msr_fn(true)(v, op);
}

static void exec_ud(struct vcpu *v, const struct cpu_op *op)
{
	(void)op;
	cpu_ud(v);
}

/* Hints without effect here: no state depends on them. */
static void exec_nop(struct vcpu *v, const struct cpu_op *op)
{
	cpu_next(v, op);
}

const struct cpu_emulation cpu_system_insns[] = {
	{ZYDIS_MNEMONIC_LGDT, exec_lgdt},	  {ZYDIS_MNEMONIC_LIDT, exec_lidt},
	{ZYDIS_MNEMONIC_SGDT, exec_sgdt},	  {ZYDIS_MNEMONIC_SIDT, exec_sidt},
	{ZYDIS_MNEMONIC_LLDT, exec_lldt},	  {ZYDIS_MNEMONIC_LTR, exec_ltr},
	{ZYDIS_MNEMONIC_SLDT, exec_sldt},	  {ZYDIS_MNEMONIC_STR, exec_str},
	{ZYDIS_MNEMONIC_LAR, exec_lar},		  {ZYDIS_MNEMONIC_LSL, exec_lsl},
	{ZYDIS_MNEMONIC_VERR, exec_verr},	  {ZYDIS_MNEMONIC_VERW, exec_verw},
	{ZYDIS_MNEMONIC_ARPL, exec_arpl},	  {ZYDIS_MNEMONIC_LDS, exec_load_far_ptr},
	{ZYDIS_MNEMONIC_LES, exec_load_far_ptr},  {ZYDIS_MNEMONIC_LFS, exec_load_far_ptr},
	{ZYDIS_MNEMONIC_LGS, exec_load_far_ptr},  {ZYDIS_MNEMONIC_LSS, exec_load_far_ptr},
	{ZYDIS_MNEMONIC_SYSCALL, exec_syscall},	  {ZYDIS_MNEMONIC_SYSRET, exec_sysret},
	{ZYDIS_MNEMONIC_SYSENTER, exec_sysenter}, {ZYDIS_MNEMONIC_SYSEXIT, exec_sysexit},
	{ZYDIS_MNEMONIC_SWAPGS, exec_swapgs},	  {ZYDIS_MNEMONIC_RDFSBASE, exec_fsgsbase},
	{ZYDIS_MNEMONIC_RDGSBASE, exec_fsgsbase}, {ZYDIS_MNEMONIC_WRFSBASE, exec_fsgsbase},
	{ZYDIS_MNEMONIC_WRGSBASE, exec_fsgsbase}, {ZYDIS_MNEMONIC_INVLPG, exec_invlpg},
	{ZYDIS_MNEMONIC_INVPCID, exec_invpcid},	  {ZYDIS_MNEMONIC_WBINVD, exec_cache_flush},
	{ZYDIS_MNEMONIC_INVD, exec_cache_flush},
	{ZYDIS_MNEMONIC_CPUID, exec_cpuid},	  {ZYDIS_MNEMONIC_RDTSC, exec_rdtsc},
	{ZYDIS_MNEMONIC_RDTSCP, exec_rdtsc},	  {ZYDIS_MNEMONIC_RDPMC, exec_rdpmc},
	{ZYDIS_MNEMONIC_HLT, exec_hlt},		  {ZYDIS_MNEMONIC_VMCALL, exec_hypercall},
	{ZYDIS_MNEMONIC_VMMCALL, exec_hypercall}, {ZYDIS_MNEMONIC_RDMSR, exec_rdmsr},
	{ZYDIS_MNEMONIC_WRMSR, exec_wrmsr},	  {ZYDIS_MNEMONIC_UD0, exec_ud},
	{ZYDIS_MNEMONIC_UD1, exec_ud},		  {ZYDIS_MNEMONIC_UD2, exec_ud},
	{ZYDIS_MNEMONIC_PAUSE, exec_nop},	  {0, NULL},
};
