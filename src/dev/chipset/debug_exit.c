/* debug_exit.c - the test guests' way out. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/debug_exit.h"

struct debug_exit {
	struct bus *bus;
	void (*exit)(void *ctx, uint32_t value);
	void *ctx;
};

static uint64_t debug_exit_read(void *dev, uint64_t off, unsigned size)
{
	return 0;
}

static void debug_exit_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct debug_exit *d = dev;

	if (off == 0 && d->exit)
		d->exit(d->ctx, value);
}

static const struct bus_ops ops = {debug_exit_read, debug_exit_write, 1, 4};

int debug_exit_new(struct debug_exit **out, struct bus *bus,
		   void (*exit)(void *ctx, uint32_t value), void *ctx, struct err *err)
{
	struct debug_exit *d = malloc(sizeof(*d));
	int ret;

	if (!d)
		return err_set(err, ENOMEM, "debug exit: out of memory");
	*d = (struct debug_exit){bus, exit, ctx};
	ret = bus_claim(bus, BUS_PIO, DEBUG_EXIT_PORT, 4, &ops, d, "debug exit", err);
	if (ret) {
		free(d);
		return ret;
	}
	*out = d;
	return 0;
}

void debug_exit_free(struct debug_exit *d)
{
	if (!d)
		return;
	bus_release(d->bus, BUS_PIO, DEBUG_EXIT_PORT);
	free(d);
}
