/*
 * Descriptors and segment registers: fetching from the GDT and LDT, the checks of a load, and what each mode
 * keeps in the hidden part. SDM vol. 3, chapters 3.4 and 5; AMD APM vol. 2, chapter 4.
 */
#include "cpu/system.h"

uint64_t desc_base(const struct descriptor *d)
{
	uint64_t base = (d->raw >> 16 & 0xffffff) | (d->raw >> 56 & 0xff) << 24;

	return base | (d->high & 0xffffffff) << 32;
}

uint32_t desc_limit(const struct descriptor *d)
{
	uint32_t limit = (uint32_t)((d->raw & 0xffff) | (d->raw >> 32 & 0xf0000));

	return d->raw & BIT(55) ? limit << 12 | 0xfff : limit;
}

uint32_t desc_attr(const struct descriptor *d)
{
	return d->raw >> 40 & 0xf0ff;
}

bool desc_fetch(struct vcpu *v, uint16_t sel, struct descriptor *d)
{
	uint64_t base = v->gdt_base;
	uint32_t limit = v->gdt_limit;
	uint32_t off = sel & ~7u;

	if (!(sel & ~3))
		return false;
	if (sel & 4) {
		if (v->seg[S_LDTR].attr & SEG_UNUSABLE)
			return false;
		base = v->seg[S_LDTR].base;
		limit = v->seg[S_LDTR].limit;
	}
	if (off + 7 > limit)
		return false;
	d->addr = base + off;
	if (!cpu_long(v))
		d->addr &= 0xffffffff;
	d->raw = cpu_load_sys(v, d->addr, 8);
	d->high = 0;
	return true;
}

void desc_fetch_or(struct vcpu *v, uint16_t sel, unsigned vector, struct descriptor *d)
{
	if (!desc_fetch(v, sel, d))
		cpu_raise_error(v, vector, sel & ~3u);
}

void desc_fetch_high(struct vcpu *v, uint16_t sel, unsigned vector, struct descriptor *d)
{
	uint32_t limit = sel & 4 ? v->seg[S_LDTR].limit : v->gdt_limit;

	if (!cpu_long(v))
		return;
	if ((sel & ~7u) + 15 > limit)
		cpu_raise_error(v, vector, sel & ~3u);
	d->high = cpu_load_sys(v, d->addr + 8, 8);
	if (d->high & BITS(44, 40)) /* the type field of the upper half must be 0 */
		cpu_raise_error(v, vector, sel & ~3u);
}

void desc_set_accessed(struct vcpu *v, struct descriptor *d)
{
	if (d->raw & BIT(40))
		return;
	d->raw |= BIT(40);
	cpu_update_sys(v, d->addr + 5, 1, 0);
}

void desc_to_segment(struct segment *s, uint16_t sel, const struct descriptor *d)
{
	s->sel = sel;
	s->base = desc_base(d);
	s->limit = desc_limit(d);
	s->attr = desc_attr(d);
}

void cpu_set_real_segment(struct vcpu *v, unsigned s, uint16_t sel)
{
	v->seg[s].sel = sel;
	v->seg[s].base = (uint64_t)sel << 4;
	if (cpu_v86(v)) {
		v->seg[s].limit = 0xffff;
		v->seg[s].attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_DPL;
	} else if (s == S_CS) { /* real mode keeps limits ("unreal" mode), but code becomes writable data */
		v->seg[s].attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | (v->seg[s].attr & SEG_DB);
	}
}

void cpu_set_null_ss(struct vcpu *v, unsigned rpl)
{
	v->seg[S_SS] = (struct segment){.sel = (uint16_t)rpl, .attr = SEG_UNUSABLE | SEG_P | SEG_S | SEG_RW | rpl << 5};
}

void cpu_check_stack(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vector, struct segment *ss)
{
	struct descriptor d;
	uint32_t attr;

	if (!desc_fetch(v, sel, &d))
		cpu_raise_error(v, vector, (sel & ~3u) | v->ext);
	attr = desc_attr(&d);
	if ((sel & 3) != cpl || seg_dpl(attr) != cpl || !(attr & SEG_S) || (attr & SEG_CODE) || !(attr & SEG_RW))
		cpu_raise_error(v, vector, (sel & ~3u) | v->ext);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_SS, (sel & ~3u) | v->ext);
	desc_set_accessed(v, &d);
	desc_to_segment(ss, sel, &d);
}

static void load_ss(struct vcpu *v, uint16_t sel)
{
	struct segment ss;

	if (!(sel & ~3)) {
		/* Allowed only in 64-bit code below CPL 3, and then RPL must be CPL. */
		if (v->mode != X86_MODE_64 || v->cpl == 3 || (sel & 3) != v->cpl)
			cpu_gp(v);
		cpu_set_null_ss(v, sel & 3);
		return;
	}
	cpu_check_stack(v, sel, v->cpl, EXC_GP, &ss);
	v->seg[S_SS] = ss;
}

static void load_data(struct vcpu *v, unsigned s, uint16_t sel)
{
	struct descriptor d;
	uint32_t attr;

	if (!(sel & ~3)) {
		/* AMD clears base and limit too ("null selector clears base" in CPUID). */
		v->seg[s] = (struct segment){.sel = sel, .attr = SEG_UNUSABLE};
		return;
	}
	desc_fetch_or(v, sel, EXC_GP, &d);
	attr = desc_attr(&d);
	if (!(attr & SEG_S) || ((attr & SEG_CODE) && !(attr & SEG_RW)))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (!((attr & SEG_CODE) && (attr & SEG_CONFORMING)) &&
	    (seg_dpl(attr) < v->cpl || seg_dpl(attr) < (sel & 3u)))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_set_accessed(v, &d);
	desc_to_segment(&v->seg[s], sel, &d);
}

void cpu_load_sreg(struct vcpu *v, unsigned s, uint16_t sel)
{
	if (!cpu_protected(v))
		cpu_set_real_segment(v, s, sel);
	else if (s == S_SS)
		load_ss(v, sel);
	else
		load_data(v, s, sel);
}

void cpu_set_cs(struct vcpu *v, const struct segment *cs, unsigned cpl)
{
	v->seg[S_CS] = *cs;
	v->seg[S_CS].sel = (uint16_t)((cs->sel & ~3u) | cpl);
	cpu_update_mode(v);
	cpu_set_cpl(v, cpl);
}

void cpu_drop_data_segments(struct vcpu *v)
{
	static const uint8_t data[] = {S_ES, S_DS, S_FS, S_GS};

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		struct segment *s = &v->seg[data[i]];
		bool conforming = (s->attr & SEG_CODE) && (s->attr & SEG_CONFORMING);

		if (!(s->attr & SEG_UNUSABLE) && seg_dpl(s->attr) < v->cpl && !conforming)
			*s = (struct segment){.attr = SEG_UNUSABLE};
	}
}

void cpu_check_rip(struct vcpu *v, const struct segment *cs, bool long_code, uint64_t rip)
{
	if (long_code ? !canonical(rip) : rip > cs->limit)
		cpu_gp(v);
}

uint64_t cpu_tss_ist(struct vcpu *v, unsigned n)
{
	unsigned off = 0x24 + (n - 1) * 8;

	if (off + 7 > v->seg[S_TR].limit)
		cpu_raise_error(v, EXC_TS, (v->seg[S_TR].sel & ~3u) | v->ext);
	return cpu_load_sys(v, v->seg[S_TR].base + off, 8);
}

void cpu_tss_stack(struct vcpu *v, unsigned pl, uint16_t *ss, uint64_t *sp)
{
	const struct segment *tr = &v->seg[S_TR];
	bool wide = (tr->attr & SEG_TYPE) >= DESC_TSS;
	unsigned size = cpu_long(v) ? 8 : wide ? 4 : 2;
	unsigned off = cpu_long(v) ? 4 + pl * 8 : wide ? 4 + pl * 8 : 2 + pl * 4;
	unsigned last = off + size + (cpu_long(v) ? 0 : 2) - 1;

	if (last > tr->limit)
		cpu_raise_error(v, EXC_TS, (tr->sel & ~3u) | v->ext);
	*sp = cpu_load_sys(v, tr->base + off, size);
	*ss = cpu_long(v) ? (uint16_t)pl : (uint16_t)cpu_load_sys(v, tr->base + off + size, 2);
}
