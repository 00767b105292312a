/* host_bridge.c - the PCI host bridge's configuration header. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/host_bridge.h"

/* The identity that kernels know as a generic PCIe host bridge, so that no chipset quirk applies.
 */
#define VENDOR 0x1b36
#define DEVICE 0x0008

struct host_bridge {
	struct pci_function pci;
};

int host_bridge_new(struct host_bridge **out, struct pci_bus *pci, struct err *err)
{
	struct host_bridge *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return err_set(err, ENOMEM, "host bridge: out of memory");
	h->pci = (struct pci_function){
		.name = "host bridge",
		.vendor = VENDOR,
		.device = DEVICE,
		.subsystem_vendor = VENDOR,
		.subsystem = DEVICE,
		.class_code = 0x060000,
		.dev = h,
	};
	ret = pci_add(pci, &h->pci, 0, err);
	if (ret) {
		free(h);
		return ret;
	}
	*out = h;
	return 0;
}

void host_bridge_free(struct host_bridge *h)
{
	free(h);
}
