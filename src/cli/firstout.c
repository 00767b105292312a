#include "cli/firstout.h"

#include <errno.h>
#include <stdlib.h>

struct firstout {
	struct chr base;
	struct chr *inner; /* owned */
	_Atomic uint64_t *first_ns;
};

static void firstout_receive(void *ctx, const uint8_t *data, size_t len)
{
	struct firstout *f = ctx;

	if (f->base.receive)
		f->base.receive(f->base.receive_ctx, data, len);
}

static void firstout_write(struct chr *c, const uint8_t *data, size_t len)
{
	struct firstout *f = container_of(c, struct firstout, base);

	if (len && !*f->first_ns)
		*f->first_ns = host_now_ns();
	chr_write(f->inner, data, len);
}

static void firstout_set_room(struct chr *c, size_t room)
{
	chr_set_room(container_of(c, struct firstout, base)->inner, room);
}

static void firstout_free(struct chr *c)
{
	struct firstout *f = container_of(c, struct firstout, base);

	chr_free(f->inner);
	free(f);
}

static const struct chr_ops firstout_ops = {
	.write = firstout_write, .set_room = firstout_set_room, .free = firstout_free};

int firstout_new(struct chr **out, struct chr *inner, _Atomic uint64_t *first_ns, struct err *err)
{
	struct firstout *f = calloc(1, sizeof(*f));

	if (!f) {
		chr_free(inner);
		return err_set(err, ENOMEM, "out of memory for the serial port");
	}
	f->base.ops = &firstout_ops;
	f->inner = inner;
	f->first_ns = first_ns;
	inner->receive = firstout_receive;
	inner->receive_ctx = f;
	*out = &f->base;
	return 0;
}
