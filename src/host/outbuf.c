#include "host/outbuf.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for n more bytes behind the queued ones; false when there is no memory. */
static bool reserve(struct outbuf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 256;
	uint8_t *data;

	if (b->head && b->head + b->len + n > b->cap) {
		memmove(b->data, b->data + b->head, b->len);
		b->head = 0;
	}
	if (b->len + n <= b->cap)
		return true;
	while (cap < b->len + n)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return false;
	b->data = data;
	b->cap = cap;
	return true;
}

void outbuf_put(struct outbuf *b, const uint8_t *data, size_t len)
{
	size_t n = min_u64(len, b->limit - b->len);

	/* Once bytes are lost, all are until the reader has caught up: one gap, not many. */
	if (b->dropped || !n || !reserve(b, n))
		n = 0;
	if (n) {
		memcpy(b->data + b->head + b->len, data, n);
		b->len += n;
	}
	b->dropped += len - n;
}

void outbuf_consume(struct outbuf *b, size_t n)
{
	b->head += n;
	b->len -= n;
	if (!b->len)
		b->head = 0;
}

void outbuf_free(struct outbuf *b)
{
	free(b->data);
	b->data = NULL;
	b->head = b->len = b->cap = 0;
}
