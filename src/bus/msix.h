/*
 * msix.h - message-signalled interrupts of a PCI function (PCI 3.0, 6.8.2): table, pending bits, masks.
 *
 * A struct embedded in a device. It takes one BAR of the function, which it owns, and one capability.
 * Device lock held throughout.
 */
#ifndef RINGER_BUS_MSIX_H
#define RINGER_BUS_MSIX_H

#include "bus/pci.h"

#define MSIX_MAX_VECTORS 2048

struct msix {
	struct pci_function *f;
	struct msi_sink sink;
	unsigned n_vectors;
	unsigned cap;  /* offset of the capability */
	uint8_t *mem;  /* the BAR's contents, owned: table, then pending bits */
	uint64_t size; /* of mem */
};

/*
 * Declares BAR `bar` and the capability; before pci_add. -EINVAL for a number of vectors outside
 * 1..MSIX_MAX_VECTORS.
 */
int msix_init(struct msix *m, struct pci_function *f, unsigned bar, unsigned n_vectors,
	      struct msi_sink sink, struct err *err) must_check;
void msix_free(struct msix *m);
/* Masks all vectors and forgets what is pending; beside pci_bus_reset(), which disables MSI-X. */
void msix_reset(struct msix *m);
/* Whether the guest has chosen MSI-X: INTx must then stay low. */
bool msix_enabled(const struct msix *m);
/*
 * Sends a vector's message, or makes it pending while it is masked or f may not write memory. Without
 * effect when MSI-X is off or the vector (often a number from the guest) does not exist.
 */
void msix_notify(struct msix *m, unsigned vector);
/* To be called from f's config_written: sends what a change of masks lets through. */
void msix_config_written(struct msix *m, unsigned off, unsigned len);

#endif
