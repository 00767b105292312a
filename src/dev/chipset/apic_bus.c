/* apic_bus.c - routing of interrupt messages between I/O APICs, MSI writes and local APICs. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/apic_bus.h"
#include "dev/chipset/local_apic.h"

struct apic_bus {
	struct lapic *apics[APIC_BUS_MAX]; /* in order of attachment */
	unsigned n;
	unsigned rotate; /* where the next lowest-priority arbitration starts: ties take turns */
	struct msi_sink msi;
	void (*eoi)(void *ctx, uint8_t vector);
	void *eoi_ctx;
	int (*ack)(void *ctx);
	void *ack_ctx;
};

/* SDM vol. 3, 11.11: the address names who, the data what. */
static void msi_send(void *ctx, uint64_t address, uint32_t data)
{
	struct apic_bus *b = ctx;
	uint32_t dest = address >> 12 & 0xff;
	bool logical = address & BIT(2), redirect = address & BIT(3), level = data & BIT(15);
	struct apic_msg m = {
		.dest = dest == 0xff && !logical ? APIC_DEST_ALL : dest,
		.vector = data & 0xff,
		.delivery = data >> 8 & 7,
		.logical = logical,
		.level = level,
	};

	if (address >> 20 != 0xfee)
		return;
	if (level && !(data & BIT(14)))
		return; /* de-assertion: only bus-level protocols of the past used it */
	if (redirect && m.delivery == APIC_FIXED)
		m.delivery = APIC_LOWEST;
	apic_bus_deliver(b, &m);
}

int apic_bus_new(struct apic_bus **out, struct err *err)
{
	struct apic_bus *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, ENOMEM, "interrupt bus: out of memory");
	b->msi = (struct msi_sink){.send = msi_send, .ctx = b};
	*out = b;
	return 0;
}

void apic_bus_free(struct apic_bus *b)
{
	free(b);
}

int apic_bus_attach(struct apic_bus *b, struct lapic *l, struct err *err)
{
	if (b->n == APIC_BUS_MAX)
		return err_set(err, ENOSPC, "more than %d local APICs on one bus", APIC_BUS_MAX);
	b->apics[b->n++] = l;
	return 0;
}

void apic_bus_detach(struct apic_bus *b, struct lapic *l)
{
	for (unsigned i = 0; i < b->n; i++) {
		if (b->apics[i] != l)
			continue;
		for (b->n--; i < b->n; i++)
			b->apics[i] = b->apics[i + 1];
	}
}

static struct lapic *arbitrate(struct apic_bus *b, const struct apic_msg *m)
{
	struct lapic *best = NULL;
	unsigned best_load = ~0u, start = b->rotate;

	for (unsigned i = 0; i < b->n; i++) {
		unsigned k = (start + i) % b->n;
		struct lapic *l = b->apics[k];
		unsigned load;

		if (!local_apic_matches(l, m->dest, m->logical))
			continue;
		load = local_apic_arbitration(l);
		if (load < best_load) {
			best = l;
			best_load = load;
			b->rotate = k + 1;
		}
	}
	return best;
}

void apic_bus_deliver(struct apic_bus *b, const struct apic_msg *m)
{
	if (m->delivery == APIC_LOWEST) {
		struct lapic *l = arbitrate(b, m);

		if (l)
			local_apic_accept(l, m);
		return;
	}
	for (unsigned i = 0; i < b->n; i++)
		if (local_apic_matches(b->apics[i], m->dest, m->logical))
			local_apic_accept(b->apics[i], m);
}

void apic_bus_deliver_all(struct apic_bus *b, const struct apic_msg *m, const struct lapic *except)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->apics[i] != except && local_apic_matches(b->apics[i], APIC_DEST_ALL, false))
			local_apic_accept(b->apics[i], m);
}

const struct msi_sink *apic_bus_msi(struct apic_bus *b)
{
	return &b->msi;
}

void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *ctx, uint8_t vector), void *ctx)
{
	b->eoi = eoi;
	b->eoi_ctx = ctx;
}

void apic_bus_broadcast_eoi(struct apic_bus *b, uint8_t vector)
{
	if (b->eoi)
		b->eoi(b->eoi_ctx, vector);
}

void apic_bus_on_extint_ack(struct apic_bus *b, int (*ack)(void *ctx), void *ctx)
{
	b->ack = ack;
	b->ack_ctx = ctx;
}

int apic_bus_extint_ack(struct apic_bus *b)
{
	return b->ack ? b->ack(b->ack_ctx) : -1;
}

static void set_lint(void *ctx, unsigned pin, bool level)
{
	struct apic_bus *b = ctx;

	for (unsigned i = 0; i < b->n; i++)
		local_apic_set_lint(b->apics[i], pin, level);
}

struct irq_line apic_bus_lint0(struct apic_bus *b)
{
	return (struct irq_line){.set = set_lint, .ctx = b, .n = 0};
}

struct irq_line apic_bus_lint1(struct apic_bus *b)
{
	return (struct irq_line){.set = set_lint, .ctx = b, .n = 1};
}
