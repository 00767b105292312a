/* debugcon.c - debug console. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/debugcon.h"

struct debugcon {
	struct bus *bus;
	struct chr *chr;
};

static uint64_t debugcon_read(void *dev, uint64_t off, unsigned size)
{
	return DEBUGCON_PORT;
}

static void debugcon_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct debugcon *d = dev;
	uint8_t byte = value;

	if (d->chr)
		chr_write(d->chr, &byte, 1);
}

static const struct bus_ops ops = {debugcon_read, debugcon_write, 1, 1};

int debugcon_new(struct debugcon **out, struct bus *bus, struct chr *chr, struct err *err)
{
	struct debugcon *d = malloc(sizeof(*d));
	int ret;

	if (!d)
		return err_set(err, ENOMEM, "debug console: out of memory");
	*d = (struct debugcon){bus, chr};
	ret = bus_claim(bus, BUS_PIO, DEBUGCON_PORT, 1, &ops, d, "debug console", err);
	if (ret) {
		free(d);
		return ret;
	}
	*out = d;
	return 0;
}

void debugcon_free(struct debugcon *d)
{
	if (!d)
		return;
	bus_release(d->bus, BUS_PIO, DEBUGCON_PORT);
	free(d);
}
