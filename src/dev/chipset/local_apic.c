/*
 * local_apic.c - acceptance, priority and delivery of interrupts.
 *
 * Theory of operation. An accepted fixed interrupt sets its bit in IRR. The CPU may take the
 * highest IRR vector whose class (bits 7:4) is above the processor priority PPR, itself the larger
 * of TPR and the highest vector in service. Taking it (ack) moves the bit from IRR to ISR; EOI
 * clears the highest ISR bit. Besides, the 8259's output on LINT0 in ExtINT mode asks for an
 * acknowledge cycle that the 8259 answers; that bypasses IRR, ISR and priorities, and wins over
 * fixed interrupts.
 *
 * After any change, lapic_update() recomputes whether something is deliverable and tells the CPU's
 * INTR pin. The pin is a hint: ack decides. It is re-asserted on every update that finds something
 * deliverable, so that a CPU may drop its note of the pin whenever it asks.
 *
 * PV EOI (docs/paravirt.md). When the vector taken is edge-triggered and nothing waits in IRR, its EOI would lead to
 * nothing but the clearing of its ISR bit: the guest may then say so in its own memory, which only the CPU's thread
 * looks at. While that is offered ISR may be out of date. So whatever that thread does with the APIC that ISR has a part
 * in settles it first: the offer ends, and the EOI is done if the guest has made it. Another thread that raises an interrupt cannot know
 * whether it is deliverable, and asks the CPU to look.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/local_apic_priv.h"

#define F(field, reset_value) SNAP_U(struct lapic, field, reset_value)
#define A(field, reset_value) SNAP_ARRAY(struct lapic, field, reset_value)

static const struct snap_field fields[] = {
	F(base, LOCAL_APIC_DEFAULT_BASE | BASE_ENABLED),
	F(tpr, 0),
	F(ldr, 0),
	F(dfr, 0xffffffff),
	F(svr, 0xff),
	F(esr, 0),
	F(esr_pending, 0),
	F(icr_low, 0),
	F(icr_high, 0),
	F(divide, 0),
	F(initial_count, 0),
	A(lvt, LVT_MASKED),
	A(irr, 0),
	A(isr, 0),
	A(tmr, 0),
	F(timer_zero_ns, 0),
	F(deadline, 0),
	F(lint, 0),
	SNAP_B(struct lapic, extint_message, false),
	SNAP_B(struct lapic, eoi_offered, false),
};

const struct snap_desc local_apic_snap = {"local-apic", 1, fields, ARRAY_SIZE(fields)};

static int highest(const uint32_t set[8])
{
	for (int i = 7; i >= 0; i--)
		if (set[i])
			return i * 32 + 31 - __builtin_clz(set[i]);
	return -1;
}

static void set_bit(uint32_t set[8], uint8_t v, bool on)
{
	uint32_t mask = 1u << (v & 31);

	set[v >> 5] = on ? set[v >> 5] | mask : set[v >> 5] & ~mask;
}

static bool get_bit(const uint32_t set[8], uint8_t v)
{
	return set[v >> 5] >> (v & 31) & 1;
}

uint8_t lapic_ppr(const struct lapic *l)
{
	int in_service = highest(l->isr);
	uint8_t class = in_service < 0 ? 0 : in_service & 0xf0;

	return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

/* The vector that the CPU may take now, or -1. */
static int deliverable(const struct lapic *l)
{
	int v;

	if (!lapic_soft_enabled(l))
		return -1;
	v = highest(l->irr);
	return v >= 0 && (v & 0xf0) > (lapic_ppr(l) & 0xf0) ? v : -1;
}

/* With the APIC disabled by IA32_APIC_BASE, its pins are the processor's own INTR and NMI. */
static bool extint_pending(const struct lapic *l)
{
	uint32_t lvt = l->lvt[LVT_LINT0];

	if (l->extint_message)
		return true;
	if (!(l->lint & 1))
		return false;
	return !lapic_enabled(l) || (!(lvt & LVT_MASKED) && LVT_DELIVERY(lvt) == APIC_EXTINT);
}

void lapic_update(struct lapic *l)
{
	bool unsettled = l->eoi_offered && lapic_soft_enabled(l) && highest(l->irr) >= 0;
	bool intr = extint_pending(l) || deliverable(l) >= 0 || unsettled;

	if ((intr || l->intr) && l->cfg.pins.intr)
		l->cfg.pins.intr(l->cfg.pins.ctx, intr);
	l->intr = intr;
}

void lapic_raise(struct lapic *l, uint8_t vector, bool level)
{
	if (vector < 16) {
		lapic_error(l, ESR_RECV_ILLEGAL_VECTOR);
		return;
	}
	set_bit(l->irr, vector, true);
	set_bit(l->tmr, vector, level);
	lapic_update(l);
}

/* An event at a local source: timer, error, or an edge at a LINT pin. */
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt which)
{
	uint32_t lvt = l->lvt[which];
	bool lint = which == LVT_LINT0 || which == LVT_LINT1;
	bool level = which == LVT_LINT0 && (lvt & LVT_LEVEL);

	if ((lvt & LVT_MASKED) || !lapic_soft_enabled(l))
		return;
	switch (which == LVT_TIMER || which == LVT_ERROR ? APIC_FIXED : LVT_DELIVERY(lvt)) {
	case APIC_FIXED:
		if (lint && level) {
			if (lvt & LVT_REMOTE_IRR)
				return;
			l->lvt[which] |= LVT_REMOTE_IRR;
		}
		lapic_raise(l, lvt & 0xff, lint && level);
		break;
	case APIC_NMI:
		if (l->cfg.pins.nmi)
			l->cfg.pins.nmi(l->cfg.pins.ctx);
		break;
	case APIC_INIT:
		lapic_registers_reset(l);
		if (l->cfg.pins.init)
			l->cfg.pins.init(l->cfg.pins.ctx);
		break;
	default: /* ExtINT is a level, seen by extint_pending(); SMI: there is no SMM */
		break;
	}
}

/* Pending errors appear in the ESR at the next write to it (SDM vol. 3, 11.5.3). */
void lapic_error(struct lapic *l, uint32_t bits)
{
	uint32_t lvt = l->lvt[LVT_ERROR];
	bool news = bits & ~l->esr_pending;

	l->esr_pending |= bits;
	if (!news || (lvt & LVT_MASKED) || !lapic_soft_enabled(l))
		return;
	if ((lvt & 0xff) < 16)
		l->esr_pending |=
			ESR_RECV_ILLEGAL_VECTOR; /* and no interrupt about the interrupt */
	else
		lapic_raise(l, lvt & 0xff, false);
}

void lapic_eoi(struct lapic *l)
{
	int v = highest(l->isr);

	if (v < 0)
		return;
	set_bit(l->isr, v, false);
	if (get_bit(l->tmr, v)) {
		uint32_t *lvt = &l->lvt[LVT_LINT0];

		if ((*lvt & LVT_REMOTE_IRR) && (*lvt & 0xff) == (uint32_t)v) {
			*lvt &= ~LVT_REMOTE_IRR;
			if (l->lint & 1)
				lapic_raise_lvt(l, LVT_LINT0);
		}
		apic_bus_broadcast_eoi(l->cfg.bus, v);
	}
	lapic_update(l);
}

void lapic_settle_eoi(struct lapic *l)
{
	if (likely(!l->eoi_offered))
		return;
	l->eoi_offered = false;
	if (l->cfg.pins.eoi_withdraw(l->cfg.pins.ctx))
		lapic_eoi(l);
}

/* v was just taken. */
static void offer_eoi(struct lapic *l, uint8_t v)
{
	if (l->cfg.pins.eoi_offer && !get_bit(l->tmr, v) && highest(l->irr) < 0)
		l->eoi_offered = l->cfg.pins.eoi_offer(l->cfg.pins.ctx);
}

static int lapic_ack(void *ctx)
{
	struct lapic *l = ctx;
	int v;

	lapic_settle_eoi(l);
	if (extint_pending(l)) {
		l->extint_message = false;
		v = apic_bus_extint_ack(l->cfg.bus);
		lapic_update(l);
		if (v >= 0)
			return v;
	}
	v = deliverable(l);
	if (v >= 0) {
		set_bit(l->irr, v, false);
		set_bit(l->isr, v, true);
		offer_eoi(l, v);
	}
	lapic_update(l);
	return v;
}

static uint8_t lapic_get_tpr(void *ctx)
{
	return ((struct lapic *)ctx)->tpr >> 4 & 0xf;
}

static void lapic_set_tpr(void *ctx, uint8_t cr8)
{
	struct lapic *l = ctx;

	lapic_settle_eoi(l);
	l->tpr = (cr8 & 0xf) << 4;
	lapic_update(l);
}

static uint64_t lapic_get_base(void *ctx)
{
	return ((struct lapic *)ctx)->base;
}

/* The transitions of SDM vol. 3, figure 11-27: x2APIC is entered from xAPIC and left by disabling.
 */
static int lapic_set_base(void *ctx, uint64_t value)
{
	struct lapic *l = ctx;
	uint64_t valid = BASE_BSP | BASE_X2APIC | BASE_ENABLED | BITS(l->cfg.phys_bits - 1, 12);
	bool on = value & BASE_ENABLED, x2 = value & BASE_X2APIC;

	lapic_settle_eoi(l);
	if (value & ~valid)
		return -EINVAL;
	if (x2 && (!on || !lapic_enabled(l)))
		return -EINVAL;
	if (on && !x2 && lapic_x2apic(l))
		return -EINVAL;
	if (!on && lapic_enabled(l))
		lapic_registers_reset(l);
	if (x2 && !lapic_x2apic(l))
		l->icr_high = 0;
	l->base = value;
	lapic_update(l);
	return 0;
}

/* INIT: everything but the ID, IA32_APIC_BASE and what the outside drives onto the pins. */
void lapic_registers_reset(struct lapic *l)
{
	uint64_t base = l->base;
	uint8_t lint = l->lint;

	lapic_timer_stop(l);
	snap_reset(&local_apic_snap, l, false);
	l->base = base;
	l->lint = lint;
	lapic_update(l);
}

void local_apic_reset(struct lapic *l)
{
	uint8_t lint = l->lint;

	lapic_timer_stop(l);
	snap_reset(&local_apic_snap, l, true);
	l->lint = lint;
	l->base |= l->cfg.bsp ? BASE_BSP : 0;
	lapic_update(l);
}

void local_apic_set_virtual_wire(struct lapic *l)
{
	l->svr = 0xff | SVR_ENABLED;
	l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	l->lvt[LVT_LINT1] = APIC_NMI << 8;
	lapic_update(l);
}

static void lapic_send_ipi(void *ctx, uint32_t icr, uint32_t dest)
{
	lapic_send(ctx, icr, dest);
}

static void tsc_changed(void *ctx)
{
	local_apic_tsc_changed(ctx);
}

int local_apic_new(struct lapic **out, const struct local_apic_config *cfg, struct err *err)
{
	struct lapic *l;
	int ret;

	if (cfg->phys_bits < 36 || cfg->phys_bits > 52)
		return err_set(err, EINVAL, "local APIC: %u physical address bits", cfg->phys_bits);
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(err, ENOMEM, "local APIC: out of memory");
	l->cfg = *cfg;
	l->iface = (struct local_apic){
		.ack = lapic_ack,
		.get_tpr = lapic_get_tpr,
		.set_tpr = lapic_set_tpr,
		.get_base = lapic_get_base,
		.set_base = lapic_set_base,
		.msr_read = lapic_msr_read,
		.msr_write = lapic_msr_write,
		.get_deadline = lapic_deadline_get,
		.set_deadline = lapic_deadline_set,
		.tsc_changed = tsc_changed,
		.send = lapic_send_ipi,
		.ctx = l,
	};
	ret = apic_bus_attach(cfg->bus, l, err);
	if (ret) {
		free(l);
		return ret;
	}
	lapic_timer_init(l);
	local_apic_reset(l);
	*out = l;
	return 0;
}

void local_apic_free(struct lapic *l)
{
	if (!l)
		return;
	lapic_timer_stop(l);
	apic_bus_detach(l->cfg.bus, l);
	free(l);
}

const struct local_apic *local_apic_iface(struct lapic *l)
{
	return &l->iface;
}

uint32_t local_apic_id(const struct lapic *l)
{
	return l->cfg.id;
}
