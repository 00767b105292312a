/*
 * typist.c - the room that the guest's serial port announces goes to the typed text first, then to
 * the backend behind. Text is delivered by a timer, never from inside a call of the frontend.
 */
#include "cli/typist.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct typist {
	struct chr base;
	struct chr *inner; /* owned */
	struct loop_timer timer;
	size_t room; /* of the frontend; inner has been told of it only when nothing is queued */
	size_t n_queued;
	uint8_t queued[256];
};

static void typist_receive(void *ctx, const uint8_t *data, size_t len)
{
	struct typist *t = ctx;

	t->room -= min_u64(t->room, len);
	if (t->base.receive)
		t->base.receive(t->base.receive_ctx, data, len);
}

static void deliver(void *ctx)
{
	struct typist *t = ctx;
	size_t n = min_u64(t->room, t->n_queued);
	uint8_t data[sizeof(t->queued)];

	if (!n || !t->base.receive)
		return;
	memcpy(data, t->queued, n);
	t->n_queued -= n;
	memmove(t->queued, t->queued + n, t->n_queued);
	t->room -= n;
	t->base.receive(t->base.receive_ctx, data, n);
	/* The frontend's next set_room() reaches the backend behind again. */
	if (!t->n_queued)
		chr_set_room(t->inner, t->room);
}

static void typist_set_room(struct chr *c, size_t room)
{
	struct typist *t = container_of(c, struct typist, base);

	t->room = room;
	if (t->n_queued && room)
		loop_timer_set(&t->timer, 0);
	chr_set_room(t->inner, t->n_queued ? 0 : room);
}

static void typist_write(struct chr *c, const uint8_t *data, size_t len)
{
	chr_write(container_of(c, struct typist, base)->inner, data, len);
}

static void typist_free(struct chr *c)
{
	struct typist *t = container_of(c, struct typist, base);

	loop_timer_cancel(&t->timer);
	chr_free(t->inner);
	free(t);
}

static const struct chr_ops typist_ops = {
	.write = typist_write, .set_room = typist_set_room, .free = typist_free};

int typist_new(struct chr **out, struct chr *inner, struct loop *loop, struct err *err)
{
	struct typist *t = calloc(1, sizeof(*t));

	if (!t) {
		chr_free(inner);
		return err_set(err, ENOMEM, "out of memory for the console");
	}
	t->base.ops = &typist_ops;
	t->inner = inner;
	inner->receive = typist_receive;
	inner->receive_ctx = t;
	loop_timer_init(&t->timer, loop, deliver, t);
	*out = &t->base;
	return 0;
}

void typist_type(struct chr *c, const char *text)
{
	struct typist *t = container_of(c, struct typist, base);
	size_t n = min_u64(strlen(text), sizeof(t->queued) - t->n_queued);

	memcpy(t->queued + t->n_queued, text, n);
	t->n_queued += n;
	chr_set_room(t->inner, 0);
	if (t->room)
		loop_timer_set(&t->timer, 0);
}
