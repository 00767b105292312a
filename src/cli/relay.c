#include "cli/relay.h"

#include <errno.h>
#include <stdlib.h>

struct relay {
	struct chr base;
	struct chr *to;
};

static void relay_write(struct chr *c, const uint8_t *data, size_t len)
{
	chr_write(container_of(c, struct relay, base)->to, data, len);
}

static void relay_free(struct chr *c)
{
	free(container_of(c, struct relay, base));
}

static const struct chr_ops relay_ops = {.write = relay_write, .free = relay_free};

int relay_new(struct chr **out, struct chr *to, struct err *err)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, ENOMEM, "out of memory for a character backend");
	r->base.ops = &relay_ops;
	r->to = to;
	*out = &r->base;
	return 0;
}
