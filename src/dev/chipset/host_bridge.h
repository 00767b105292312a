/* host_bridge.h - the PCI host bridge's own function, at slot 0: an identity and no behaviour. */
#ifndef RINGER_DEV_CHIPSET_HOST_BRIDGE_H
#define RINGER_DEV_CHIPSET_HOST_BRIDGE_H

#include "base/base.h"
#include "base/err.h"
#include "bus/pci.h"

struct host_bridge;

/* Adds the function to pci at slot 0. Freed after the PCI bus. */
int host_bridge_new(struct host_bridge **out, struct pci_bus *pci, struct err *err) must_check;
void host_bridge_free(struct host_bridge *h);

#endif
