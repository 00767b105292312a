/*
 * chr.h - a character backend: where a serial port's bytes go to and come from.
 *
 * Backend side (this header's constructors, src/host/chr_*.c) knows no device; device side (a UART)
 * knows only this contract. All calls and callbacks happen with the loop's lock held.
 */
#ifndef RINGER_HOST_CHR_H
#define RINGER_HOST_CHR_H

#include "base/base.h"
#include "base/err.h"
#include "host/loop.h"

struct chr;

struct chr_ops {
	/* Takes all len bytes (the backend buffers what the host does not take at once). */
	void (*write)(struct chr *c, const uint8_t *data, size_t len);
	/*
	 * The frontend can take `room` more bytes now (0: stop delivering). Delivered bytes count
	 * against it until the next announcement. receive may be called from within.
	 */
	void (*set_room)(struct chr *c, size_t room);
	void (*free)(struct chr *c);
};

struct chr {
	const struct chr_ops *ops;
	/* Set by the frontend; never called with more bytes than the room last announced. */
	void (*receive)(void *ctx, const uint8_t *data, size_t len);
	void *receive_ctx;
};

static inline void chr_write(struct chr *c, const uint8_t *data, size_t len)
{
	c->ops->write(c, data, len);
}
static inline void chr_set_room(struct chr *c, size_t room)
{
	if (c->ops->set_room)
		c->ops->set_room(c, room);
}
static inline void chr_free(struct chr *c)
{
	if (c)
		c->ops->free(c);
}

/* Discards output, never delivers input. */
int chr_null_new(struct chr **out, struct err *err) must_check;
/* Output appended to a file that is created or truncated, unbuffered; no input. */
int chr_file_new(struct chr **out, const char *path, struct err *err) must_check;
/*
 * Standard input and output. filter (may be NULL) sees every input byte first and returns how many
 * of the len bytes in buf to keep (it edits buf in place): the CLI's Ctrl-A escape lives there. End
 * of input is not an error: nothing more is delivered. The terminal mode is the caller's business.
 *
 * write only queues; the loop thread writes. A reader that falls 1 MiB behind loses bytes, and is
 * told so in the output. On a terminal with a filter, input is read even when the guest takes none,
 * so that the escape keys work; what the guest has no room for is kept up to 4 KiB. Other input
 * waits in the host. chr_free waits up to a second for queued output to be taken.
 */
int chr_stdio_new(struct chr **out, struct loop *loop,
		  size_t (*filter)(void *ctx, uint8_t *buf, size_t len), void *ctx,
		  struct err *err) must_check;
/* Keeps output in memory and lets a test feed input: for unit tests. */
int chr_buffer_new(struct chr **out, struct err *err) must_check;
/* The bytes written so far (owned by c) and their count. */
const uint8_t *chr_buffer_output(struct chr *c, size_t *len);
/* Queues input; delivered at once as far as there is room, the rest by set_room. */
void chr_buffer_input(struct chr *c, const uint8_t *data, size_t len);

#endif
