/*
 * Hardware task switches (SDM vol. 3, chapter 7): 16- and 32-bit task-state segments, legacy modes only.
 *
 * Order: all checks that raise in the old task's context; save the old task; load the new task's registers;
 * then load its segments, whose faults belong to the new task.
 */
#include "cpu/system.h"

/* Offsets in the two layouts. General registers and selectors are stored in encoding order. */
struct tss_layout {
	unsigned cr3, ip, flags, gpr, sel, ldt, reg_size, n_sel, min_limit;
};
static const struct tss_layout tss32 = {0x1c, 0x20, 0x24, 0x28, 0x48, 0x60, 4, 6, 0x67};
static const struct tss_layout tss16 = {0, 0x0e, 0x10, 0x12, 0x22, 0x2a, 2, 4, 0x2b};

static const struct tss_layout *layout(uint32_t attr)
{
	return (attr & SEG_TYPE) >= DESC_TSS ? &tss32 : &tss16;
}

static void save_old(struct vcpu *v, uint64_t next_rip, uint32_t flags)
{
	const struct segment *tr = &v->seg[S_TR];
	const struct tss_layout *l = layout(tr->attr);

	cpu_store_sys(v, tr->base + l->ip, l->reg_size, next_rip);
	cpu_store_sys(v, tr->base + l->flags, l->reg_size, flags);
	for (unsigned i = 0; i < 8; i++)
		cpu_store_sys(v, tr->base + l->gpr + i * l->reg_size, l->reg_size, v->gpr[i]);
	for (unsigned i = 0; i < l->n_sel; i++)
		cpu_store_sys(v, tr->base + l->sel + i * l->reg_size, 2, v->seg[i].sel);
}

static void set_busy(struct vcpu *v, uint16_t sel, bool busy)
{
	struct descriptor d;

	if (desc_fetch(v, sel, &d))
		cpu_update_sys(v, d.addr + 5, busy ? 2 : 0, busy ? 0 : 2);
}

static void load_ldt(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;

	v->seg[S_LDTR] = (struct segment){.sel = sel, .attr = SEG_UNUSABLE};
	if (!(sel & ~3))
		return;
	if ((sel & 4) || !desc_fetch(v, sel, &d) || (desc_attr(&d) & (SEG_S | SEG_TYPE)) != DESC_LDT ||
	    !(desc_attr(&d) & SEG_P))
		cpu_raise_error(v, EXC_TS, sel & ~3u);
	desc_to_segment(&v->seg[S_LDTR], sel, &d);
}

static void load_code(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;
	struct segment cs;
	uint32_t attr;
	unsigned rpl = sel & 3;

	desc_fetch_or(v, sel, EXC_TS, &d);
	attr = desc_attr(&d);
	if (!(attr & SEG_S) || !(attr & SEG_CODE) ||
	    (attr & SEG_CONFORMING ? seg_dpl(attr) > rpl : seg_dpl(attr) != rpl))
		cpu_raise_error(v, EXC_TS, sel & ~3u);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_set_accessed(v, &d);
	desc_to_segment(&cs, sel, &d);
	cpu_set_cs(v, &cs, rpl);
}

static void load_data(struct vcpu *v, unsigned s, uint16_t sel)
{
	struct descriptor d;
	uint32_t attr;

	if (!(sel & ~3))
		return;
	desc_fetch_or(v, sel, EXC_TS, &d);
	attr = desc_attr(&d);
	if (!(attr & SEG_S) || ((attr & SEG_CODE) && !(attr & SEG_RW)) ||
	    (!((attr & SEG_CODE) && (attr & SEG_CONFORMING)) &&
	     (seg_dpl(attr) < v->cpl || seg_dpl(attr) < (sel & 3u))))
		cpu_raise_error(v, EXC_TS, sel & ~3u);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_set_accessed(v, &d);
	desc_to_segment(&v->seg[s], sel, &d);
}

static void load_segments(struct vcpu *v, const uint16_t sel[6], uint16_t ldt)
{
	static const uint8_t data[] = {S_ES, S_DS, S_FS, S_GS};
	struct segment ss;

	for (unsigned s = 0; s < 6; s++)
		v->seg[s] = (struct segment){.sel = sel[s], .attr = SEG_UNUSABLE};
	load_ldt(v, ldt);
	if (cpu_v86(v)) {
		for (unsigned s = 0; s < 6; s++)
			cpu_set_real_segment(v, s, sel[s]);
		v->seg[S_CS].attr |= SEG_CODE;
		cpu_set_cpl(v, 3);
		cpu_update_mode(v);
		return;
	}
	load_code(v, sel[S_CS]);
	cpu_check_stack(v, sel[S_SS], v->cpl, EXC_TS, &ss);
	v->seg[S_SS] = ss;
	for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
		load_data(v, data[i], sel[data[i]]);
}

static void check_new(struct vcpu *v, uint16_t sel, enum task_source source, struct descriptor *d)
{
	unsigned vector = source == TASK_IRET ? EXC_TS : EXC_GP;
	uint32_t ext = source == TASK_GATE ? 1 : 0;
	unsigned type;

	if ((sel & 4) || !desc_fetch(v, sel, d))
		cpu_raise_error(v, vector, (sel & ~3u) | ext);
	type = desc_attr(d) & (SEG_S | SEG_TYPE);
	if (source == TASK_IRET ? type != DESC_TSS_BUSY && type != DESC_TSS16_BUSY :
				  type != DESC_TSS && type != DESC_TSS16)
		cpu_raise_error(v, vector, (sel & ~3u) | ext);
	if (!(desc_attr(d) & SEG_P))
		cpu_raise_error(v, EXC_NP, (sel & ~3u) | ext);
	if (desc_limit(d) < layout(desc_attr(d))->min_limit)
		cpu_raise_error(v, EXC_TS, (sel & ~3u) | ext);
}

void cpu_task_switch(struct vcpu *v, uint16_t tss_sel, enum task_source source, uint64_t next_rip,
		     bool has_error, uint32_t error)
{
	struct descriptor d;
	struct segment tss;
	const struct tss_layout *l;
	uint16_t old_sel = v->seg[S_TR].sel, sel[6] = {0}, ldt;
	uint32_t flags = (uint32_t)cpu_rflags(v), new_flags, gpr[8];
	uint64_t ip, cr3;
	bool nested = source == TASK_CALL || source == TASK_GATE || source == TASK_SOFT_GATE;

	check_new(v, tss_sel, source, &d);
	desc_to_segment(&tss, tss_sel, &d);
	l = layout(tss.attr);
	/* Read (and so check the mapping of) the new state before the old task is saved. */
	cr3 = l == &tss32 ? cpu_load_sys(v, tss.base + l->cr3, 4) : v->cr3;
	ip = cpu_load_sys(v, tss.base + l->ip, l->reg_size);
	new_flags = (uint32_t)cpu_load_sys(v, tss.base + l->flags, l->reg_size);
	for (unsigned i = 0; i < 8; i++)
		gpr[i] = (uint32_t)cpu_load_sys(v, tss.base + l->gpr + i * l->reg_size, l->reg_size);
	for (unsigned i = 0; i < l->n_sel; i++)
		sel[i] = (uint16_t)cpu_load_sys(v, tss.base + l->sel + i * l->reg_size, 2);
	ldt = (uint16_t)cpu_load_sys(v, tss.base + l->ldt, 2);

	if (source == TASK_IRET)
		flags &= ~(uint32_t)FLAG_NT;
	if (!nested)
		set_busy(v, old_sel, false);
	save_old(v, next_rip, flags);
	if (nested) {
		cpu_store_sys(v, tss.base, 2, old_sel);
		new_flags |= FLAG_NT;
	}
	if (source != TASK_IRET)
		set_busy(v, tss_sel, true);

	v->soft_int_pending = false;
	v->seg[S_TR] = tss;
	v->seg[S_TR].attr |= 2; /* busy */
	v->cr0 |= CR0_TS;
	if (l == &tss32 && (v->cr0 & CR0_PG) && cr3 != v->cr3) {
		v->cr3 = cr3;
		mmu_set_cr3(&v->mmu, cr3, false);
	}
	v->rip = ip;
	for (unsigned i = 0; i < 8; i++)
		v->gpr[i] = l == &tss32 ? gpr[i] : (v->gpr[i] & 0xffff0000) | gpr[i];
	if (l == &tss16)
		new_flags &= 0xffff;
	cpu_set_rflags(v, new_flags);
	v->dr7 &= ~0x155ULL; /* the local breakpoint enables */
	cpu_update_breakpoints(v);
	load_segments(v, sel, ldt);
	if (l == &tss32 && (cpu_load_sys(v, tss.base + 0x64, 2) & 1))
		v->pending_db |= BIT(15); /* BT: debug trap flag of the new task */
	if (has_error)
		cpu_push(v, l->reg_size, error);
	cpu_check_rip(v, &v->seg[S_CS], false, v->rip);
}
