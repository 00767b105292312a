/* local_apic_regs.c - the registers, as memory-mapped words (xAPIC) and as MSRs (x2APIC). */
#include <errno.h>

#include "dev/chipset/local_apic_priv.h"

/* Version 0x14 (integrated, with x2APIC); bits 23:16 are the number of LVT entries minus one. */
#define VERSION (0x14 | (LVT_COUNT - 1) << 16)

/* Bits of each LVT register that can be set, besides the read-only status bits 12 and 14. */
static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};
#define LVT_READ_ONLY (BIT(12) | BIT(14))

#define SVR_WRITABLE 0x3ff
#define ICR_WRITABLE 0xccfff

/* What shows ISR or goes by it. Not the ICR and the timer, which interrupt handlers use while an EOI is offered. */
static void settle_for(struct lapic *l, uint32_t reg)
{
	bool isr = reg >= REG_ISR && reg < REG_TMR;

	if (isr || reg == REG_EOI || reg == REG_TPR || reg == REG_PPR || reg == REG_APR || reg == REG_SVR)
		lapic_settle_eoi(l);
}

static bool is_lvt(uint32_t reg)
{
	return reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR;
}

/* What both access methods read alike; false: there is no such register. */
static bool reg_read(struct lapic *l, uint32_t reg, uint32_t *value)
{
	if (is_lvt(reg)) {
		*value = l->lvt[(reg - REG_LVT_TIMER) >> 4];
		return true;
	}
	if (reg >= REG_ISR && reg < REG_ESR) {
		const uint32_t *set = reg < REG_TMR ? l->isr : reg < REG_IRR ? l->tmr : l->irr;

		*value = set[reg >> 4 & 7];
		return true;
	}
	switch (reg) {
	case REG_VERSION:
		*value = VERSION;
		return true;
	case REG_TPR:
		*value = l->tpr;
		return true;
	case REG_PPR:
		*value = lapic_ppr(l);
		return true;
	case REG_SVR:
		*value = l->svr;
		return true;
	case REG_ESR:
		*value = l->esr;
		return true;
	case REG_ICR:
		*value = l->icr_low;
		return true;
	case REG_INITIAL_COUNT:
		*value = l->initial_count;
		return true;
	case REG_CURRENT_COUNT:
		*value = lapic_timer_count(l);
		return true;
	case REG_DIVIDE:
		*value = l->divide;
		return true;
	}
	return false;
}

static void lvt_write(struct lapic *l, enum lapic_lvt which, uint32_t value)
{
	value &= lvt_writable[which];
	if (!(l->svr & SVR_ENABLED))
		value |= LVT_MASKED;
	if (which == LVT_TIMER) {
		lapic_timer_set_lvt(l, value);
		return;
	}
	if (value & LVT_LEVEL)
		value |= l->lvt[which] & LVT_REMOTE_IRR;
	l->lvt[which] = value;
	/* A level that waits at the pin is noticed now. */
	if (which == LVT_LINT0 && (value & LVT_LEVEL) && (l->lint & 1))
		lapic_raise_lvt(l, LVT_LINT0);
}

static void svr_write(struct lapic *l, uint32_t value)
{
	l->svr = value & SVR_WRITABLE;
	if (l->svr & SVR_ENABLED)
		return;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] |= LVT_MASKED;
}

/* What both access methods write alike; false: no such register, or not writable. */
static bool reg_write(struct lapic *l, uint32_t reg, uint32_t value)
{
	if (is_lvt(reg)) {
		lvt_write(l, (reg - REG_LVT_TIMER) >> 4, value);
		lapic_update(l);
		return true;
	}
	switch (reg) {
	case REG_TPR:
		l->tpr = value & 0xff;
		lapic_update(l);
		return true;
	case REG_EOI:
		lapic_eoi(l);
		return true;
	case REG_SVR:
		svr_write(l, value);
		lapic_update(l);
		return true;
	case REG_ESR:
		l->esr = l->esr_pending;
		l->esr_pending = 0;
		return true;
	case REG_INITIAL_COUNT:
		lapic_timer_start(l, value);
		return true;
	case REG_DIVIDE:
		lapic_timer_set_divide(l, value);
		return true;
	}
	return false;
}

static uint32_t xapic_read(struct lapic *l, uint32_t reg)
{
	uint32_t value = 0;

	switch (reg) {
	case REG_ID:
		return l->cfg.id << 24;
	case REG_LDR:
		return l->ldr;
	case REG_DFR:
		return l->dfr;
	case REG_ICR_HIGH:
		return l->icr_high;
	case REG_APR:
		return lapic_ppr(l);
	case REG_EOI:
	case REG_RRD:
		return 0;
	}
	if (!reg_read(l, reg, &value))
		lapic_error(l, ESR_ILLEGAL_REGISTER);
	return value;
}

static void xapic_write(struct lapic *l, uint32_t reg, uint32_t value)
{
	uint32_t dest;

	switch (reg) {
	case REG_LDR:
		l->ldr = value & 0xff000000;
		return;
	case REG_DFR:
		l->dfr = value | 0x0fffffff;
		return;
	case REG_ICR_HIGH:
		l->icr_high = value & 0xff000000;
		return;
	case REG_ICR:
		l->icr_low = value & ICR_WRITABLE & ~BIT(12);
		dest = l->icr_high >> 24;
		if (dest == 0xff && !(value & BIT(11)))
			dest = APIC_DEST_ALL;
		lapic_send(l, l->icr_low, dest);
		return;
	case REG_ID: /* not writable on processors since the P6 family's successors */
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_CURRENT_COUNT:
		return;
	}
	if (reg >= REG_ISR && reg < REG_ESR)
		return;
	if (!reg_write(l, reg, value))
		lapic_error(l, ESR_ILLEGAL_REGISTER);
}

static bool page_decoded(const struct lapic *l)
{
	return lapic_enabled(l) && !lapic_x2apic(l);
}

uint64_t local_apic_mmio_read(struct lapic *l, uint64_t off, unsigned size)
{
	unsigned byte = off & 0xf;

	if (!page_decoded(l))
		return trunc_size(~0ULL, size);
	if (off >= LOCAL_APIC_SIZE || byte >= 4)
		return 0;
	settle_for(l, off & ~0xfULL);
	return trunc_size((uint64_t)xapic_read(l, off & ~0xfULL) >> byte * 8, size);
}

void local_apic_mmio_write(struct lapic *l, uint64_t off, unsigned size, uint64_t value)
{
	if (!page_decoded(l) || off >= LOCAL_APIC_SIZE || (off & 0xf) || size < 4)
		return;
	settle_for(l, off);
	xapic_write(l, off, value);
}

static uint32_t msr_reg(uint32_t msr)
{
	return (msr - 0x800) << 4;
}

int lapic_msr_read(void *ctx, uint32_t msr, uint64_t *value)
{
	struct lapic *l = ctx;
	uint32_t low;

	if (!lapic_x2apic(l) || msr < 0x800 || msr > 0x8ff)
		return -EINVAL;
	settle_for(l, msr_reg(msr));
	switch (msr_reg(msr)) {
	case REG_ID:
		*value = l->cfg.id;
		return 0;
	case REG_LDR:
		*value = (uint64_t)(l->cfg.id >> 4) << 16 | 1u << (l->cfg.id & 0xf);
		return 0;
	case REG_ICR:
		*value = (uint64_t)l->icr_high << 32 | l->icr_low;
		return 0;
	}
	if (!reg_read(l, msr_reg(msr), &low))
		return -EINVAL;
	*value = low;
	return 0;
}

/* Bits that a WRMSR may set without #GP; 0 also for registers that take only a zero. */
static bool msr_valid(uint32_t reg, uint64_t value)
{
	if (is_lvt(reg))
		return !(value & ~(lvt_writable[(reg - REG_LVT_TIMER) >> 4] | LVT_READ_ONLY));
	switch (reg) {
	case REG_TPR:
	case REG_SELF_IPI:
		return value <= 0xff;
	case REG_EOI:
	case REG_ESR:
		return value == 0;
	case REG_SVR:
		return !(value & ~(uint64_t)SVR_WRITABLE);
	case REG_ICR:
		return !((uint32_t)value & ~ICR_WRITABLE);
	case REG_INITIAL_COUNT:
		return value <= UINT32_MAX;
	case REG_DIVIDE:
		return !(value & ~0xbULL);
	}
	return false;
}

int lapic_msr_write(void *ctx, uint32_t msr, uint64_t value)
{
	struct lapic *l = ctx;
	uint32_t reg = msr_reg(msr);

	if (!lapic_x2apic(l) || msr < 0x800 || msr > 0x8ff || !msr_valid(reg, value))
		return -EINVAL;
	settle_for(l, reg);
	switch (reg) {
	case REG_ICR:
		l->icr_low = value & ~BIT(12);
		l->icr_high = value >> 32;
		lapic_send(l, l->icr_low, l->icr_high);
		return 0;
	case REG_SELF_IPI:
		if (value < 16)
			lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
		else if (lapic_soft_enabled(l))
			lapic_raise(l, value, false);
		return 0;
	}
	return reg_write(l, reg, value) ? 0 : -EINVAL;
}
