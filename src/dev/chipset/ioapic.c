/*
 * ioapic.c - I/O APIC.
 *
 * An edge pin sends its message when the pin rises; a masked edge is lost, as on the 82093AA. A
 * level pin sends when asserted, unmasked and not waiting for an EOI (remote IRR), and is looked at
 * again after each change of any of the three.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/ioapic.h"

#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define REG_EOI 0x40

enum { INDEX_ID, INDEX_VERSION, INDEX_ARBITRATION, INDEX_TABLE = 0x10 };
#define VERSION (0x20 | (IOAPIC_PINS - 1) << 16)

/* Redirection table entry. */
#define RTE_VECTOR(e) ((e)&0xff)
#define RTE_DELIVERY(e) ((e) >> 8 & 7)
#define RTE_LOGICAL BIT(11)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_DEST(e) ((e) >> 56)
/* All but the delivery status and remote IRR, which the guest only reads. */
#define RTE_WRITABLE (BITS(63, 56) | BITS(16, 15) | BIT(13) | BITS(11, 0))

struct ioapic {
	uint64_t table[IOAPIC_PINS];
	uint32_t pins; /* levels: not reset, the devices drive them */
	uint8_t id, select;
	uint8_t initial_id;
	struct apic_bus *apics;
	struct bus *bus;
	uint64_t base;
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct ioapic, table, RTE_MASKED),
	{"pins", offsetof(struct ioapic, pins), 4, 1, SNAP_UINT, 0, true},
	SNAP_U(struct ioapic, id, 0),
	SNAP_U(struct ioapic, select, 0),
};

const struct snap_desc ioapic_snap = {"ioapic", 1, fields, ARRAY_SIZE(fields)};

static bool is_level(uint64_t e)
{
	unsigned delivery = RTE_DELIVERY(e);

	return (e & RTE_LEVEL) && (delivery == APIC_FIXED || delivery == APIC_LOWEST);
}

static void send(struct ioapic *io, unsigned pin)
{
	uint64_t e = io->table[pin];
	bool logical = e & RTE_LOGICAL;
	struct apic_msg m = {
		.dest = RTE_DEST(e) == 0xff && !logical ? APIC_DEST_ALL : RTE_DEST(e),
		.vector = RTE_VECTOR(e),
		.delivery = RTE_DELIVERY(e),
		.logical = logical,
		.level = is_level(e),
	};

	apic_bus_deliver(io->apics, &m);
}

static void service_level(struct ioapic *io, unsigned pin)
{
	uint64_t e = io->table[pin];

	if (!is_level(e) || (e & (RTE_MASKED | RTE_REMOTE_IRR)) || !(io->pins >> pin & 1))
		return;
	io->table[pin] |= RTE_REMOTE_IRR;
	send(io, pin);
}

void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level)
{
	bool was;

	if (pin >= IOAPIC_PINS)
		return;
	was = io->pins >> pin & 1;
	if (level == was)
		return;
	io->pins ^= 1u << pin;
	if (is_level(io->table[pin]))
		service_level(io, pin);
	else if (level && !(io->table[pin] & RTE_MASKED))
		send(io, pin);
}

static void eoi(void *ctx, uint8_t vector)
{
	struct ioapic *io = ctx;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *e = &io->table[pin];

		if (!is_level(*e) || RTE_VECTOR(*e) != vector || !(*e & RTE_REMOTE_IRR))
			continue;
		*e &= ~RTE_REMOTE_IRR;
		service_level(io, pin);
	}
}

static uint32_t index_read(const struct ioapic *io)
{
	unsigned i = io->select - INDEX_TABLE;

	switch (io->select) {
	case INDEX_ID:
	case INDEX_ARBITRATION:
		return (uint32_t)io->id << 24;
	case INDEX_VERSION:
		return VERSION;
	}
	if (i >= 2 * IOAPIC_PINS)
		return 0;
	return io->table[i / 2] >> (i & 1) * 32;
}

static void index_write(struct ioapic *io, uint32_t value)
{
	unsigned i = io->select - INDEX_TABLE, sh = (i & 1) * 32;
	uint64_t *e, mask;

	if (io->select == INDEX_ID)
		io->id = value >> 24;
	if (i >= 2 * IOAPIC_PINS)
		return;
	e = &io->table[i / 2];
	mask = RTE_WRITABLE & (uint64_t)UINT32_MAX << sh;
	*e = (*e & ~mask) | ((uint64_t)value << sh & mask);
	/* Kernels clear a stuck remote IRR by a round trip through edge mode. */
	if (!is_level(*e))
		*e &= ~RTE_REMOTE_IRR;
	service_level(io, i / 2);
}

static uint64_t ioapic_read(void *dev, uint64_t off, unsigned size)
{
	struct ioapic *io = dev;
	unsigned sh = (off & 3) * 8;

	switch (off & ~3ULL) {
	case REG_SELECT:
		return trunc_size(io->select >> sh, size);
	case REG_WINDOW:
		return trunc_size(index_read(io) >> sh, size);
	}
	return 0;
}

static void ioapic_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct ioapic *io = dev;

	switch (off) {
	case REG_SELECT:
		io->select = value;
		break;
	case REG_WINDOW:
		if (size == 4)
			index_write(io, value);
		break;
	case REG_EOI:
		eoi(io, value);
		break;
	}
}

static const struct bus_ops ops = {ioapic_read, ioapic_write, 1, 4};

void ioapic_reset(struct ioapic *io)
{
	snap_reset(&ioapic_snap, io, false);
	io->id = io->initial_id;
}

int ioapic_new(struct ioapic **out, struct bus *bus, uint64_t base, struct apic_bus *apics,
	       uint8_t id, struct err *err)
{
	struct ioapic *io = calloc(1, sizeof(*io));
	int ret;

	if (!io)
		return err_set(err, ENOMEM, "I/O APIC: out of memory");
	io->bus = bus;
	io->base = base;
	io->apics = apics;
	io->initial_id = id;
	ret = bus_claim(bus, BUS_MMIO, base, IOAPIC_SIZE, &ops, io, "I/O APIC", err);
	if (ret) {
		free(io);
		return ret;
	}
	ioapic_reset(io);
	apic_bus_on_eoi(apics, eoi, io);
	*out = io;
	return 0;
}

void ioapic_free(struct ioapic *io)
{
	if (!io)
		return;
	apic_bus_on_eoi(io->apics, NULL, NULL);
	bus_release(io->bus, BUS_MMIO, io->base);
	free(io);
}
