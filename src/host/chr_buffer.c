/* The backend of unit tests: output is kept, input is fed by hand. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/chr.h"
#include "host/outbuf.h"

struct chr_buffer {
	struct chr base;
	struct outbuf out, in;
	size_t room;
	bool delivering;
};

/* set_room, called by the frontend from within receive, must not recurse. */
static void deliver(struct chr_buffer *b)
{
	if (b->delivering)
		return;
	b->delivering = true;
	while (b->base.receive && b->room && b->in.len) {
		uint8_t chunk[64];
		size_t n = min_u64(min_u64(b->room, b->in.len), sizeof(chunk));

		memcpy(chunk, b->in.data + b->in.head, n);
		outbuf_consume(&b->in, n);
		b->room -= n;
		b->base.receive(b->base.receive_ctx, chunk, n);
	}
	b->delivering = false;
}

static void buffer_write(struct chr *c, const uint8_t *data, size_t len)
{
	outbuf_put(&container_of(c, struct chr_buffer, base)->out, data, len);
}

static void buffer_set_room(struct chr *c, size_t room)
{
	struct chr_buffer *b = container_of(c, struct chr_buffer, base);

	b->room = room;
	deliver(b);
}

static void buffer_free(struct chr *c)
{
	struct chr_buffer *b = container_of(c, struct chr_buffer, base);

	outbuf_free(&b->out);
	outbuf_free(&b->in);
	free(b);
}

static const struct chr_ops buffer_ops = { .write = buffer_write,
					   .set_room = buffer_set_room,
					   .free = buffer_free };

int chr_buffer_new(struct chr **out, struct err *err)
{
	struct chr_buffer *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, ENOMEM, "out of memory for a character backend");
	b->base.ops = &buffer_ops;
	b->out.limit = b->in.limit = MIB(64);
	*out = &b->base;
	return 0;
}

const uint8_t *chr_buffer_output(struct chr *c, size_t *len)
{
	struct chr_buffer *b = container_of(c, struct chr_buffer, base);

	*len = b->out.len;
	return b->out.data;
}

void chr_buffer_input(struct chr *c, const uint8_t *data, size_t len)
{
	struct chr_buffer *b = container_of(c, struct chr_buffer, base);

	outbuf_put(&b->in, data, len);
	deliver(b);
}
