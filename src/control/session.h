/*
 * session.h - one client's conversation: bytes in, bytes out, no socket. client.c moves the bytes,
 * api.c gives the answers.
 *
 *	          head and body are there                  answered
 *	READING ------------------------> (handler) ---------------------> READING, or CLOSING
 *	                                     |   \
 *	                  pause, resume:     |    `-- vm.events: STREAMING, until the machine ends
 *	                  WAITING -----------'
 *
 * A session takes the next request only when its last answer has been sent (out is empty).
 */
#ifndef RINGER_CONTROL_SESSION_H
#define RINGER_CONTROL_SESSION_H

#include <cjson/cJSON.h>

#include "control/http.h"

enum {
	SESSION_BODY_MAX = 4096,
	SESSION_OUT_MAX = 256 * 1024, /* a listener that is further behind is dropped */
};

enum session_state {
	SESSION_READING,   /* a request, or between two */
	SESSION_WAITING,   /* for the machine; no more is read */
	SESSION_STREAMING, /* events are written as they come; no more is read */
	SESSION_CLOSING,   /* when out has been sent */
};

struct control;

struct session {
	struct control *control;
	enum session_state state;
	bool want_paused; /* WAITING: what for */
	bool chunked;     /* STREAMING: each event is a chunk */
	bool close_after; /* the answer is this session's last */
	bool refused;     /* the client may be sending yet what nobody will read */
	bool continued;   /* this request's "100 Continue" is out */
	char in[HTTP_HEAD_MAX + SESSION_BODY_MAX];
	size_t in_len;
	unsigned taken; /* requests so far; may wrap */
	char *out; /* out_at to out_len is to be sent */
	size_t out_len, out_at, out_size;
};

void session_init(struct session *s, struct control *control);
void session_fini(struct session *s);

/* Where input may be put, and how much; none unless READING. */
size_t session_room(struct session *s, char **to);
/* len bytes were put there. */
void session_received(struct session *s, size_t len);
/* len bytes of the output were sent. */
void session_sent(struct session *s, size_t len);
/* The request has not come, or the machine has not done it, in time. */
void session_timeout(struct session *s);
static inline size_t session_pending(const struct session *s)
{
	return s->out_len - s->out_at;
}

/* Answers, for handlers: exactly one for each request. */
void session_reply_json(struct session *s, unsigned status, cJSON *body); /* consumes it */
void session_reply_empty(struct session *s);
void session_reply_error(struct session *s, unsigned status, const char *fmt, ...) printf_like(3, 4);
/* 405, with the one method that there is. */
void session_reply_method(struct session *s, const char *allow);
void session_stream(struct session *s);
/* One line of a stream; nothing for others. */
void session_event(struct session *s, const char *line);
void session_end_stream(struct session *s);

/* api.c: answers a request, whose body is text of that length, not terminated. */
void api_handle(struct session *s, const struct http_request *r, const char *body, size_t len);

#endif
