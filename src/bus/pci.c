/*
 * Theory of operation.
 *
 * A function's configuration space is an array of bytes beside a mask of the bits that the guest
 * may write; that gives BAR sizing, too, because a BAR's mask is its size's complement. After a
 * write that can change what is decoded (command register or a BAR), all BARs are looked at again:
 * first those that are no longer wanted where they are leave the bus, then those that are wanted
 * come. A BAR whose place is taken (or is 0, which is where an unassigned one points) stays off the
 * bus, and is tried again at the next change.
 *
 * INTx: a function's own level is status bit 3. Each of the four lines is the OR over the functions
 * behind it, kept as a mask of slots.
 *
 * One mechanism #1 register (CF8) selects; CFC..CFF and ECAM end in the same two functions.
 */
#include "bus/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/pci_regs.h"

enum { n_slots = 32 };

#define CF8 0xcf8
#define CFC 0xcfc
/* CONFIG_ADDRESS: enable, bus, device, function, register. */
#define CF8_ENABLE 0x80000000u
#define CF8_WRITABLE 0x80fffffcu
/* CF9, as in Intel chipsets: a rising edge of bit 2 resets, bit 1 (hard or soft) is kept. */
#define CF9_RESET 0x04
#define CF9_WRITABLE 0x0e

struct pci_bus {
	struct bus *bus;
	uint64_t ecam_base; /* 0: none */
	struct pci_function *slot[n_slots];
	struct irq_line intx[4];
	uint32_t driven[4]; /* per line: slots that hold it high */
	uint32_t config_address;
	uint8_t reset_control;
	void (*reset)(void *ctx);
	void *reset_ctx;
};

/* Interrupts */

static unsigned slot_of(const struct pci_function *f)
{
	return f->devfn >> 3;
}

static void update_intx(struct pci_function *f)
{
	struct pci_bus *p = f->bus;
	uint32_t status = pci_config_get(f->config, PCI_STATUS, 2);
	uint32_t command = pci_config_get(f->config, PCI_COMMAND, 2);
	bool drive = (status & PCI_STATUS_INTERRUPT) && !(command & PCI_COMMAND_INTX_DISABLE);
	uint32_t bit = 1u << slot_of(f), before;
	unsigned line;

	if (!f->irq_pin)
		return;
	line = (slot_of(f) + f->irq_pin - 1) % 4;
	before = p->driven[line];
	p->driven[line] = drive ? before | bit : before & ~bit;
	if (!before != !p->driven[line])
		irq_set(&p->intx[line], p->driven[line] != 0);
}

void pci_set_intx(struct pci_function *f, bool level)
{
	uint8_t *status = &f->config[PCI_STATUS];

	*status = level ? *status | PCI_STATUS_INTERRUPT : *status & ~PCI_STATUS_INTERRUPT;
	if (f->bus)
		update_intx(f);
}

static void intx_line_set(void *ctx, unsigned n, bool level)
{
	pci_set_intx(ctx, level);
}

bool pci_bus_master(const struct pci_function *f)
{
	return pci_config_get(f->config, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
}

/* BARs */

static uint64_t bar_address(const struct pci_function *f, unsigned i)
{
	unsigned off = PCI_BAR0 + 4 * i;
	uint64_t v = pci_config_get(f->config, off, 4);

	if (f->bar[i].is_64bit)
		v |= (uint64_t)pci_config_get(f->config, off + 4, 4) << 32;
	return v & ~(f->bar[i].size - 1);
}

/* Where BAR i is to be decoded now; 0 for nowhere. */
static uint64_t wanted_at(const struct pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bar[i];
	uint32_t command = pci_config_get(f->config, PCI_COMMAND, 2);
	uint32_t enable = bar->space == BUS_PIO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	return bar->size && (command & enable) ? bar_address(f, i) : 0;
}

static void unmap_bar(struct pci_function *f, unsigned i)
{
	struct pci_bar *bar = &f->bar[i];

	if (bar->mapped)
		bus_release(f->bus->bus, bar->space, bar->mapped_at);
	bar->mapped = false;
}

static void map_bar(struct pci_function *f, unsigned i, uint64_t at)
{
	struct pci_bar *bar = &f->bar[i];
	void *dev = bar->dev ? bar->dev : f->dev;

	/* Failing is part of a guest's sizing and moving of BARs: no message. */
	if (bus_claim(f->bus->bus, bar->space, at, bar->size, bar->ops, dev, f->name, NULL) < 0)
		return;
	bar->mapped = true;
	bar->mapped_at = at;
}

static void update_bars(struct pci_bus *p)
{
	for (unsigned k = 0; k < n_slots * ARRAY_SIZE(p->slot[0]->bar); k++) {
		struct pci_function *f = p->slot[k / 6];
		unsigned i = k % 6;

		if (f && f->bar[i].mapped && wanted_at(f, i) != f->bar[i].mapped_at)
			unmap_bar(f, i);
	}
	for (unsigned k = 0; k < n_slots * ARRAY_SIZE(p->slot[0]->bar); k++) {
		struct pci_function *f = p->slot[k / 6];
		unsigned i = k % 6;

		if (f && !f->bar[i].mapped && wanted_at(f, i))
			map_bar(f, i, wanted_at(f, i));
	}
}

/* Configuration accesses: off + len <= 4096 */

static bool overlaps(unsigned off, unsigned len, unsigned from, unsigned to)
{
	return off < to && from < off + len;
}

static uint32_t config_read(struct pci_function *f, unsigned off, unsigned len)
{
	if (!f)
		return (uint32_t)trunc_size(~0ull, len);
	if (f->config_read)
		f->config_read(f, off, len);
	return pci_config_get(f->config, off, len);
}

static void config_write(struct pci_function *f, unsigned off, unsigned len, uint32_t value)
{
	if (!f)
		return;
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = f->write_mask[off + i], byte = (uint8_t)(value >> (8 * i));

		f->config[off + i] = (f->config[off + i] & ~mask) | (byte & mask);
	}
	if (overlaps(off, len, PCI_COMMAND, PCI_COMMAND + 2) ||
	    overlaps(off, len, PCI_BAR0, PCI_BAR0 + 24))
		update_bars(f->bus);
	if (overlaps(off, len, PCI_COMMAND, PCI_COMMAND + 2))
		update_intx(f);
	if (f->config_written)
		f->config_written(f, off, len);
}

/* bus_devfn: bus number in bits 15:8. Only bus 0 and function 0 exist. */
static struct pci_function *find_function(struct pci_bus *p, unsigned bus_devfn)
{
	if (bus_devfn >> 8 || bus_devfn & 7)
		return NULL;
	return p->slot[bus_devfn >> 3];
}

static uint64_t ecam_read(void *dev, uint64_t off, unsigned size)
{
	/* An unaligned access may reach past a function's space: undefined by the specification. */
	if ((off & 0xfff) + size > 4096)
		return ~0ull;
	return config_read(find_function(dev, (unsigned)(off >> 12)), off & 0xfff, size);
}

static void ecam_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	if ((off & 0xfff) + size > 4096)
		return;
	config_write(find_function(dev, (unsigned)(off >> 12)), off & 0xfff, size, (uint32_t)value);
}

static const struct bus_ops ecam_ops = { ecam_read, ecam_write, 1, 4 };

/* CF8: the doubleword is CONFIG_ADDRESS; the byte at offset 1 is the reset control register. */
static uint64_t address_read(void *dev, uint64_t off, unsigned size)
{
	struct pci_bus *p = dev;

	if (off == 0 && size == 4)
		return p->config_address;
	if (off == 1 && size == 1)
		return p->reset_control;
	return ~0ull;
}

static void reset_control_write(struct pci_bus *p, uint8_t value)
{
	bool edge = (value & CF9_RESET) && !(p->reset_control & CF9_RESET);

	p->reset_control = value & CF9_WRITABLE;
	if (edge && p->reset)
		p->reset(p->reset_ctx);
}

static void address_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct pci_bus *p = dev;

	if (off == 0 && size == 4)
		p->config_address = (uint32_t)value & CF8_WRITABLE;
	else if (off == 1 && size == 1)
		reset_control_write(p, (uint8_t)value);
}

static const struct bus_ops address_ops = { address_read, address_write, 1, 4 };

/* CFC: off is 0..3 and off + size <= 4, because the bus stays within the range. */
static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
	struct pci_bus *p = dev;

	if (!(p->config_address & CF8_ENABLE))
		return ~0ull;
	return config_read(find_function(p, (p->config_address >> 8) & 0xffff),
			   (p->config_address & 0xfc) + (unsigned)off, size);
}

static void data_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct pci_bus *p = dev;

	if (!(p->config_address & CF8_ENABLE))
		return;
	config_write(find_function(p, (p->config_address >> 8) & 0xffff),
		     (p->config_address & 0xfc) + (unsigned)off, size, (uint32_t)value);
}

static const struct bus_ops data_ops = { data_read, data_write, 1, 4 };

/* Creation */

static int claim_config_access(struct pci_bus *p, uint64_t ecam_base, struct err *err)
{
	struct bus *bus = p->bus;
	int r;

	r = bus_claim(bus, BUS_PIO, CF8, 4, &address_ops, p, "pci config address", err);
	if (r < 0)
		return r;
	r = bus_claim(bus, BUS_PIO, CFC, 4, &data_ops, p, "pci config data", err);
	if (r < 0)
		goto release_address;
	if (!ecam_base)
		return 0;
	r = bus_claim(bus, BUS_MMIO, ecam_base, PCI_ECAM_SIZE, &ecam_ops, p, "pci ecam", err);
	if (r < 0)
		goto release_data;
	return 0;

release_data:
	bus_release(bus, BUS_PIO, CFC);
release_address:
	bus_release(bus, BUS_PIO, CF8);
	return r;
}

int pci_bus_new(struct pci_bus **out, struct bus *bus, uint64_t ecam_base,
		const struct irq_line intx[4], struct err *err)
{
	struct pci_bus *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_set(err, ENOMEM, "out of memory for the PCI bus");
	p->bus = bus;
	memcpy(p->intx, intx, sizeof(p->intx));
	r = claim_config_access(p, ecam_base, err);
	if (r < 0) {
		free(p);
		return r;
	}
	p->ecam_base = ecam_base;
	*out = p;
	return 0;
}

void pci_bus_free(struct pci_bus *p)
{
	if (!p)
		return;
	for (unsigned k = 0; k < n_slots; k++) {
		for (unsigned i = 0; p->slot[k] && i < 6; i++)
			unmap_bar(p->slot[k], i);
		if (p->slot[k])
			p->slot[k]->bus = NULL;
	}
	bus_release(p->bus, BUS_PIO, CF8);
	bus_release(p->bus, BUS_PIO, CFC);
	if (p->ecam_base)
		bus_release(p->bus, BUS_MMIO, p->ecam_base);
	free(p);
}

void pci_bus_on_reset(struct pci_bus *p, void (*fn)(void *ctx), void *ctx)
{
	p->reset = fn;
	p->reset_ctx = ctx;
}

static void reset_function(struct pci_function *f)
{
	for (unsigned off = 0; off < sizeof(f->config); off++)
		f->config[off] &= ~f->write_mask[off];
	pci_set_intx(f, false);
}

void pci_bus_reset(struct pci_bus *p)
{
	for (unsigned k = 0; k < n_slots; k++)
		if (p->slot[k])
			reset_function(p->slot[k]);
	update_bars(p);
	p->config_address = 0;
	p->reset_control = 0;
}

struct pci_function *pci_function_at(struct pci_bus *p, unsigned slot)
{
	return slot < n_slots ? p->slot[slot] : NULL;
}

/* Declaring a function */

static int check_bar(const struct pci_function *f, unsigned i, struct err *err)
{
	const struct pci_bar *bar = &f->bar[i];
	bool is_io = bar->space == BUS_PIO;

	if (i && f->bar[i - 1].size && f->bar[i - 1].is_64bit && bar->size)
		return err_set(err, EINVAL, "%s: BAR %u is the upper half of BAR %u", f->name, i,
			       i - 1);
	if (!bar->size)
		return 0;
	if (bar->size & (bar->size - 1) || bar->size < (is_io ? 16 : 4096) || !bar->ops)
		return err_set(err, EINVAL, "%s: BAR %u has no valid size or no operations",
			       f->name, i);
	if (is_io ? bar->is_64bit || bar->size > 256
		  : (bar->is_64bit ? i == 5 : bar->size > GIB(2)))
		return err_set(err, EINVAL, "%s: BAR %u does not fit its kind", f->name, i);
	return 0;
}

static void set_up_bar(struct pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bar[i];
	unsigned off = PCI_BAR0 + 4 * i;
	uint64_t mask = ~(bar->size - 1);

	if (!bar->size)
		return;
	if (bar->space == BUS_PIO)
		mask &= 0xffff;
	pci_config_set(f->write_mask, off, bar->is_64bit ? 8 : 4, mask);
	f->config[off] = bar->space == BUS_PIO ? PCI_BAR_IO : bar->is_64bit ? PCI_BAR_MEM_64 : 0;
}

static void set_up_header(struct pci_function *f)
{
	pci_config_set(f->config, PCI_VENDOR_ID, 2, f->vendor);
	pci_config_set(f->config, PCI_DEVICE_ID, 2, f->device);
	pci_config_set(f->config, PCI_REVISION_ID, 1, f->revision);
	pci_config_set(f->config, PCI_CLASS_CODE, 3, f->class_code);
	pci_config_set(f->config, PCI_SUBSYSTEM_VENDOR_ID, 2, f->subsystem_vendor);
	pci_config_set(f->config, PCI_SUBSYSTEM_ID, 2, f->subsystem);
	pci_config_set(f->config, PCI_INTERRUPT_PIN, 1, f->irq_pin);
	pci_config_set(f->write_mask, PCI_COMMAND, 2,
		       PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			       PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	f->write_mask[PCI_CACHE_LINE_SIZE] = 0xff;
	f->write_mask[PCI_LATENCY_TIMER] = 0xff;
	f->write_mask[PCI_INTERRUPT_LINE] = 0xff;
}

int pci_add(struct pci_bus *p, struct pci_function *f, unsigned slot, struct err *err)
{
	int r;

	if (slot >= n_slots || f->irq_pin > 4)
		return err_set(err, EINVAL, "%s: no such PCI slot or interrupt pin", f->name);
	if (p->slot[slot])
		return err_set(err, EBUSY, "%s: PCI slot %u is taken by %s", f->name, slot,
			       p->slot[slot]->name);
	for (unsigned i = 0; i < ARRAY_SIZE(f->bar); i++) {
		r = check_bar(f, i, err);
		if (r < 0)
			return r;
	}
	f->bus = p;
	f->devfn = (uint8_t)(slot << 3);
	f->intx = (struct irq_line){ .set = intx_line_set, .ctx = f };
	set_up_header(f);
	for (unsigned i = 0; i < ARRAY_SIZE(f->bar); i++)
		set_up_bar(f, i);
	p->slot[slot] = f;
	return 0;
}

int pci_add_cap(struct pci_function *f, uint8_t id, unsigned len)
{
	unsigned off = f->next_cap ? f->next_cap : PCI_HEADER_END;

	if (len < 2 || len > 256 - off)
		return -ENOSPC;
	f->config[off] = id;
	f->config[off + 1] = f->config[PCI_CAPABILITIES];
	f->config[PCI_CAPABILITIES] = (uint8_t)off;
	f->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	/*
	 * Doubleword-aligned, as the bottom two bits of a capability pointer are reserved. 0xff:
	 * full.
	 */
	f->next_cap = (uint8_t)min_u64(align_up(off + len, 4), 0xff);
	return (int)off;
}
