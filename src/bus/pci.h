/*
 * pci.h - PCI core: one segment, bus 0, configuration space by CF8/CFC and by ECAM, BARs, INTx,
 * MSI-X.
 *
 * A function is a struct embedded in its device. The core owns the standard header's behaviour
 * (command bits, BAR sizing and remapping, interrupt pin and line, capability list); a device
 * declares its BARs and capabilities once at creation. Device lock held throughout.
 */
#ifndef RINGER_BUS_PCI_H
#define RINGER_BUS_PCI_H

#include "bus/bus.h"
#include "bus/irq.h"

struct pci_bus;

#define PCI_ECAM_SIZE MIB(1) /* one bus: 32 devices x 8 functions x 4 KiB */

struct pci_bar {
	uint64_t size; /* power of two, at least 16 for ports and 4096 for memory; 0: no such BAR */
	enum bus_space space;
	bool is_64bit; /* memory only; takes the next BAR's slot too */
	const struct bus_ops *ops;
	void *dev;          /* passed to ops; NULL: the function's dev */
	uint64_t mapped_at; /* where the core claimed it, when mapped */
	bool mapped;
};

struct pci_function {
	const char *name;
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t irq_pin;     /* 0: none, 1..4: INTA..INTD */
	struct pci_bar bar[6];
	uint8_t config[4096];
	uint8_t write_mask[4096]; /* bits of config the guest may change; set by the core and by
				     pci_add_cap users */
	uint8_t next_cap;         /* offset where the next capability goes; 0: none yet */
	/*
	 * Optional, for capabilities with a behaviour. config_read may refresh f->config before the
	 * guest reads len bytes at off; config_written sees what the guest's write has changed,
	 * after the core.
	 */
	void (*config_read)(struct pci_function *f, unsigned off, unsigned len);
	void (*config_written)(struct pci_function *f, unsigned off, unsigned len);
	void *dev; /* passed to bar ops */
	struct pci_bus *bus;
	uint8_t devfn;
	struct irq_line intx; /* set by pci_add: as pci_set_intx(), for devices that take a line */
};

/*
 * ECAM at ecam_base (0: none); CF8/CFC in port space; intx[4] are the lines behind INTA..INTD after
 * swizzling: INTx of device d drives intx[(d + x) % 4], which is low as long as no function drives
 * it.
 */
int pci_bus_new(struct pci_bus **out, struct bus *bus, uint64_t ecam_base,
		const struct irq_line intx[4], struct err *err) must_check;
void pci_bus_free(struct pci_bus *p);
/* Clears what the guest may write, unmaps all BARs, lowers all interrupts. */
void pci_bus_reset(struct pci_bus *p);
/*
 * Port CF9, the chipset's reset control register, lies within CF8's range: fn is called when the
 * guest asks.
 */
void pci_bus_on_reset(struct pci_bus *p, void (*fn)(void *ctx), void *ctx);
/*
 * Adds f at device number slot (0..31), function 0. f stays the caller's and must outlive the bus.
 * The identity, BARs and capabilities are set before; the rest of f is zero or the core's.
 */
int pci_add(struct pci_bus *p, struct pci_function *f, unsigned slot, struct err *err) must_check;
/* The function at slot; NULL when there is none. */
struct pci_function *pci_function_at(struct pci_bus *p, unsigned slot);
/* Reserves len bytes for a capability in the first 256 bytes; returns its offset, or -ENOSPC. */
int pci_add_cap(struct pci_function *f, uint8_t id, unsigned len);
/* The level of f's interrupt; what reaches the line depends on the command register, too. */
void pci_set_intx(struct pci_function *f, bool level);
/* Whether the guest lets f access memory (and so send MSIs). */
bool pci_bus_master(const struct pci_function *f);

/*
 * Little-endian fields of the configuration space, for whoever fills or reads one. off + size <=
 * 4096.
 */
static inline void pci_config_set(uint8_t *config, unsigned off, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		config[off + i] = (uint8_t)(value >> (8 * i));
}
static inline uint32_t pci_config_get(const uint8_t *config, unsigned off, unsigned size)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint32_t)config[off + i] << (8 * i);
	return v;
}

#endif
