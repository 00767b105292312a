/* ports.h - claiming the several port ranges of one device, all or none. */
#ifndef RINGER_DEV_CHIPSET_PORTS_H
#define RINGER_DEV_CHIPSET_PORTS_H

#include "bus/bus.h"

struct port_range {
	uint16_t base, len;
	const struct bus_ops *ops;
	void *dev;
	const char *name;
};

int ports_claim(struct bus *bus, const struct port_range *r, size_t n, struct err *err) must_check;
void ports_release(struct bus *bus, const struct port_range *r, size_t n);

#endif
