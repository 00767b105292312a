#include <errno.h>
#include <stdlib.h>

#include "host/chr.h"

static void null_write(struct chr *c, const uint8_t *data, size_t len)
{
}

static void null_free(struct chr *c)
{
	free(c);
}

static const struct chr_ops null_ops = { .write = null_write, .free = null_free };

int chr_null_new(struct chr **out, struct err *err)
{
	struct chr *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, ENOMEM, "out of memory for a character backend");
	c->ops = &null_ops;
	*out = c;
	return 0;
}
