/* ports.c - claiming port ranges. */
#include "dev/chipset/ports.h"

int ports_claim(struct bus *bus, const struct port_range *r, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		int ret = bus_claim(bus, BUS_PIO, r[i].base, r[i].len, r[i].ops, r[i].dev,
				    r[i].name, err);

		if (ret) {
			ports_release(bus, r, i);
			return ret;
		}
	}
	return 0;
}

void ports_release(struct bus *bus, const struct port_range *r, size_t n)
{
	while (n--)
		bus_release(bus, BUS_PIO, r[n].base);
}
