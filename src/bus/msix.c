/*
 * The table's entries are 16 bytes: message address, upper address, data, vector control (bit 0 masks).
 * The pending bits follow it in the same BAR. A message is sent when MSI-X is enabled, neither the
 * function nor the vector is masked, and the function may write memory; until then its pending bit
 * waits, and whatever lifts a condition looks at the pending bits.
 */
#include "bus/msix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/pci_regs.h"

enum {
	entry_size = 16,
	entry_data = 8,
	entry_control = 12,
	control_masked = 1,

	cap_len = 12,
	cap_control = 2, /* offsets in the capability */
	cap_table = 4,
	cap_pending = 8,
	enable = 0x8000,
	function_mask = 0x4000,
};

static uint64_t get(const struct msix *m, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)m->mem[off + i] << (8 * i);
	return v;
}

static uint8_t *pending_byte(const struct msix *m, unsigned vector)
{
	return &m->mem[m->n_vectors * entry_size + vector / 8];
}

static unsigned control(const struct msix *m)
{
	return pci_config_get(m->f->config, m->cap + cap_control, 2);
}

bool msix_enabled(const struct msix *m)
{
	return control(m) & enable;
}

static bool may_send(const struct msix *m)
{
	return (control(m) & (enable | function_mask)) == enable && pci_bus_master(m->f);
}

static void deliver(struct msix *m, unsigned vector)
{
	uint64_t entry = (uint64_t)vector * entry_size;
	uint8_t bit = (uint8_t)(1u << vector % 8);

	if (!may_send(m) || (get(m, entry + entry_control, 4) & control_masked)) {
		*pending_byte(m, vector) |= bit;
		return;
	}
	*pending_byte(m, vector) &= (uint8_t)~bit;
	m->sink.send(m->sink.ctx, get(m, entry, 8), (uint32_t)get(m, entry + entry_data, 4));
}

static void deliver_if_pending(struct msix *m, unsigned vector)
{
	if (*pending_byte(m, vector) & 1u << vector % 8)
		deliver(m, vector);
}

void msix_notify(struct msix *m, unsigned vector)
{
	if (vector < m->n_vectors && msix_enabled(m))
		deliver(m, vector);
}

void msix_config_written(struct msix *m, unsigned off, unsigned len)
{
	bool command = off < PCI_COMMAND + 2 && PCI_COMMAND < off + len;
	bool own = off < m->cap + cap_table && m->cap < off + len;

	if ((!command && !own) || !may_send(m))
		return;
	for (unsigned i = 0; i < m->n_vectors; i++)
		deliver_if_pending(m, i);
}

/* The BAR. off + size <= m->size; the specification allows aligned accesses only. */

static uint64_t mem_read(void *dev, uint64_t off, unsigned size)
{
	return off % 4 ? ~0ull : get(dev, off, size);
}

static void mem_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct msix *m = dev;

	if (off % 4 || off >= (uint64_t)m->n_vectors * entry_size)
		return;
	if (off % entry_size == 0)
		value &= ~3ull; /* messages are doublewords at aligned addresses */
	if (off % entry_size == entry_control)
		value &= control_masked;
	for (unsigned i = 0; i < size; i++)
		m->mem[off + i] = (uint8_t)(value >> (8 * i));
	if (off % entry_size == entry_control && msix_enabled(m))
		deliver_if_pending(m, (unsigned)(off / entry_size));
}

static const struct bus_ops mem_ops = { mem_read, mem_write, 4, 4 };

void msix_reset(struct msix *m)
{
	memset(m->mem, 0, m->size);
	for (unsigned i = 0; i < m->n_vectors; i++)
		m->mem[i * entry_size + entry_control] = control_masked;
}

int msix_init(struct msix *m, struct pci_function *f, unsigned bar, unsigned n_vectors,
	      struct msi_sink sink, struct err *err)
{
	uint64_t table = (uint64_t)n_vectors * entry_size, size = 4096;
	int cap;

	if (!n_vectors || n_vectors > MSIX_MAX_VECTORS || bar >= ARRAY_SIZE(f->bar))
		return err_set(err, EINVAL, "%s: cannot have %u MSI-X vectors in BAR %u", f->name,
			       n_vectors, bar);
	while (size < table + n_vectors / 8 + 8)
		size *= 2;
	*m = (struct msix){ .f = f, .sink = sink, .n_vectors = n_vectors, .size = size };
	m->mem = malloc(size);
	if (!m->mem)
		return err_set(err, ENOMEM, "%s: out of memory for MSI-X", f->name);
	cap = pci_add_cap(f, PCI_CAP_ID_MSIX, cap_len);
	if (cap < 0) {
		msix_free(m);
		return err_set(err, -cap, "%s: no room for the MSI-X capability", f->name);
	}
	m->cap = (unsigned)cap;
	msix_reset(m);
	pci_config_set(f->config, m->cap + cap_control, 2, n_vectors - 1);
	pci_config_set(f->config, m->cap + cap_table, 4, bar);
	pci_config_set(f->config, m->cap + cap_pending, 4, table | bar);
	pci_config_set(f->write_mask, m->cap + cap_control, 2, enable | function_mask);
	f->bar[bar] = (struct pci_bar){ .size = size, .space = BUS_MMIO, .ops = &mem_ops, .dev = m };
	return 0;
}

void msix_free(struct msix *m)
{
	free(m->mem);
	m->mem = NULL;
}
