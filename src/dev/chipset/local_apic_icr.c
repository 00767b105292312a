/* local_apic_icr.c - messages: sending them through the ICR, and accepting those addressed to us.
 */
#include "dev/chipset/local_apic_priv.h"

#define ICR_LOGICAL BIT(11)
#define ICR_ASSERT BIT(14)
#define ICR_LEVEL BIT(15)
#define ICR_SHORTHAND(v) ((v) >> 18 & 3)

enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

static bool logical_match_xapic(const struct lapic *l, uint8_t mda)
{
	uint8_t ldr = l->ldr >> 24;

	if (l->dfr >> 28 == 0xf) /* flat model */
		return mda & ldr;
	if (mda == 0xff)
		return true;
	return mda >> 4 == ldr >> 4 && (mda & ldr & 0xf);
}

/* In x2APIC mode the logical ID is fixed: cluster id/16, bit id%16 (SDM vol. 3, 11.12.10.2). */
static bool logical_match_x2apic(const struct lapic *l, uint32_t mda)
{
	uint32_t id = l->cfg.id;

	return mda == APIC_DEST_ALL || (mda >> 16 == id >> 4 && (mda >> (id & 0xf) & 1));
}

bool local_apic_matches(const struct lapic *l, uint32_t dest, bool logical)
{
	if (!lapic_enabled(l))
		return false;
	if (!logical)
		return dest == APIC_DEST_ALL || dest == l->cfg.id;
	if (lapic_x2apic(l))
		return logical_match_x2apic(l, dest);
	return dest == APIC_DEST_ALL || (dest < 0x100 && logical_match_xapic(l, dest));
}

unsigned local_apic_arbitration(const struct lapic *l)
{
	return lapic_soft_enabled(l) ? lapic_ppr(l) : ~0u;
}

/* A software-disabled APIC still takes INIT, SIPI and NMI (SDM vol. 3, 11.4.7.2). */
void local_apic_accept(struct lapic *l, const struct apic_msg *m)
{
	const struct cpu_pins *pins = &l->cfg.pins;

	switch (m->delivery) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (lapic_soft_enabled(l))
			lapic_raise(l, m->vector, m->level);
		break;
	case APIC_NMI:
		if (pins->nmi)
			pins->nmi(pins->ctx);
		break;
	case APIC_INIT:
		lapic_registers_reset(l);
		if (pins->init)
			pins->init(pins->ctx);
		break;
	case APIC_SIPI:
		if (pins->sipi)
			pins->sipi(pins->ctx, m->vector);
		break;
	case APIC_EXTINT:
		if (lapic_soft_enabled(l)) {
			l->extint_message = true;
			lapic_update(l);
		}
		break;
	default: /* SMI and the reserved encoding: there is no SMM */
		break;
	}
}

void lapic_send(struct lapic *l, uint32_t low, uint32_t dest)
{
	struct apic_msg m = {
		.dest = dest,
		.vector = low & 0xff,
		.delivery = low >> 8 & 7,
		.logical = low & ICR_LOGICAL,
	};
	bool fixed = m.delivery == APIC_FIXED || m.delivery == APIC_LOWEST;

	if (m.delivery == APIC_EXTINT)
		return; /* reserved in the ICR */
	if (m.delivery == APIC_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
		return; /* INIT level de-assert: no processor with xAPIC does anything */
	if (fixed && m.vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
		return;
	}
	switch (ICR_SHORTHAND(low)) {
	case TO_DEST:
		apic_bus_deliver(l->cfg.bus, &m);
		break;
	case TO_SELF:
		if (fixed && lapic_enabled(l))
			local_apic_accept(l, &m);
		break;
	case TO_ALL:
		apic_bus_deliver_all(l->cfg.bus, &m, NULL);
		break;
	case TO_OTHERS:
		apic_bus_deliver_all(l->cfg.bus, &m, l);
		break;
	}
}

void local_apic_set_lint(struct lapic *l, unsigned pin, bool level)
{
	uint8_t bit = pin ? 2 : 1, was = l->lint & bit;

	l->lint = level ? l->lint | bit : l->lint & ~bit;
	if (level && !was) {
		if (lapic_enabled(l))
			lapic_raise_lvt(l, pin ? LVT_LINT1 : LVT_LINT0);
		else if (pin && l->cfg.pins.nmi)
			l->cfg.pins.nmi(l->cfg.pins.ctx);
	}
	lapic_update(l);
}
