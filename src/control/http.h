/*
 * http.h - HTTP/1.1 messages (RFC 9110, RFC 9112), as much as the control socket speaks: parsing
 * alone, no sockets and no state.
 *
 * The parser is strict: what two readers of a message could understand differently is refused.
 * Lines end in CR LF; a header is not continued on the next line; a body has one Content-Length.
 */
#ifndef RINGER_CONTROL_HTTP_H
#define RINGER_CONTROL_HTTP_H

#include "base/base.h"

enum {
	HTTP_HEAD_MAX = 8192, /* bytes of a request or status line with its headers */
	HTTP_HEADERS_MAX = 64,
	HTTP_PATH_MAX = 255,
};

struct http_request {
	char method[16];
	char path[HTTP_PATH_MAX + 1]; /* without the query */
	bool has_query;
	bool old;             /* HTTP/1.0: no chunks in the answer */
	bool keep_alive;      /* the connection outlives the answer */
	bool expect_continue; /* the client waits before it sends the body */
	uint64_t body_len;    /* what follows the head; not limited here */
};

struct http_response {
	unsigned status;
	bool chunked;
	bool has_length;
	uint64_t body_len;
};

/*
 * The head at the start of buf: its length with the empty line, 0 when more bytes are needed (fewer
 * than HTTP_HEAD_MAX are there), or minus the status to answer with.
 */
int http_parse_request(const char *buf, size_t len, struct http_request *r) must_check;
/* Likewise, but -1 for what is no such head. */
int http_parse_response(const char *buf, size_t len, struct http_response *r) must_check;

/*
 * The line "SIZE CR LF" of a chunk: its length and the size in *size, 0 when more is needed, -1 for
 * what is none.
 */
int http_parse_chunk(const char *buf, size_t len, uint64_t *size) must_check;

/* "Not Found" for 404. */
const char *http_status_text(unsigned status);

#endif
