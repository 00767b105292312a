/* outbuf.h - a bounded byte queue: output that the host has not taken yet. */
#ifndef RINGER_HOST_OUTBUF_H
#define RINGER_HOST_OUTBUF_H

#include "base/base.h"

struct outbuf {
	uint8_t *data;    /* owned */
	size_t head, len; /* the queued bytes are data[head .. head+len) */
	size_t cap;
	size_t limit;     /* never more bytes than this */
	uint64_t dropped; /* bytes refused since the reader last caught up */
};

/* Queues as much as limit and memory allow, counts the rest as dropped. */
void outbuf_put(struct outbuf *b, const uint8_t *data, size_t len);
/* Removes n <= len bytes from the front. */
void outbuf_consume(struct outbuf *b, size_t n);
void outbuf_free(struct outbuf *b);

#endif
