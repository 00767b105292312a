#include "control/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void session_init(struct session *s, struct control *control)
{
	memset(s, 0, sizeof(*s));
	s->control = control;
}

void session_fini(struct session *s)
{
	free(s->out);
	s->out = NULL;
	s->out_len = s->out_at = s->out_size = 0;
}

/* Output */

/* What cannot be kept ends the session: half a message helps nobody. */
static void give_up(struct session *s)
{
	s->state = SESSION_CLOSING;
	s->out_len = s->out_at = 0;
}

static bool reserve(struct session *s, size_t len)
{
	size_t size = s->out_size ? s->out_size : 1024;
	char *out;

	if (s->out_at) {
		s->out_len -= s->out_at;
		memmove(s->out, s->out + s->out_at, s->out_len);
		s->out_at = 0;
	}
	if (len > SESSION_OUT_MAX || s->out_len + len > SESSION_OUT_MAX)
		return false;
	while (size < s->out_len + len)
		size *= 2;
	if (size == s->out_size)
		return true;
	out = realloc(s->out, size);
	if (!out)
		return false;
	s->out = out;
	s->out_size = size;
	return true;
}

static void put(struct session *s, const char *data, size_t len)
{
	if (!reserve(s, len)) {
		give_up(s);
		return;
	}
	memcpy(s->out + s->out_len, data, len);
	s->out_len += len;
}

static void put_head(struct session *s, unsigned status, const char *headers)
{
	char head[384];
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\n%s%s\r\n", status,
			 http_status_text(status), headers,
			 s->close_after ? "Connection: close\r\n" : "");

	put(s, head, (size_t)n);
}

/* The request has its answer. */
static void answered(struct session *s)
{
	s->state = s->close_after ? SESSION_CLOSING : SESSION_READING;
}

static void reply_text(struct session *s, unsigned status, const char *more, const char *body)
{
	char headers[192];
	size_t len = body ? strlen(body) : 0;

	answered(s);
	if (!body) { /* cJSON had no memory */
		s->close_after = true;
		answered(s);
		status = 500;
	}
	snprintf(headers, sizeof(headers),
		 "Content-Type: application/json\r\n%sContent-Length: %zu\r\n", more, len);
	put_head(s, status, headers);
	if (body)
		put(s, body, len);
}

static void reply_with(struct session *s, unsigned status, const char *more, cJSON *body)
{
	char *text = body ? cJSON_PrintUnformatted(body) : NULL;

	cJSON_Delete(body);
	reply_text(s, status, more, text);
	cJSON_free(text);
}

void session_reply_json(struct session *s, unsigned status, cJSON *body)
{
	reply_with(s, status, "", body);
}

void session_reply_empty(struct session *s)
{
	answered(s);
	put_head(s, 204, "");
}

static cJSON *error_body(const char *text)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "error", text);
	return j;
}

void session_reply_error(struct session *s, unsigned status, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	reply_with(s, status, "", error_body(text));
}

void session_reply_method(struct session *s, const char *allow)
{
	char more[64], text[64];

	snprintf(more, sizeof(more), "Allow: %s\r\n", allow);
	snprintf(text, sizeof(text), "the method for this is %s", allow);
	reply_with(s, 405, more, error_body(text));
}

void session_stream(struct session *s)
{
	s->close_after = true;
	s->state = SESSION_STREAMING;
	put_head(s, 200, s->chunked ? "Content-Type: application/x-ndjson\r\n"
				      "Transfer-Encoding: chunked\r\n"
				    : "Content-Type: application/x-ndjson\r\n");
}

void session_event(struct session *s, const char *line)
{
	char size[24];
	size_t len = strlen(line);

	if (s->state != SESSION_STREAMING)
		return;
	snprintf(size, sizeof(size), "%zx\r\n", len + 1);
	if (!reserve(s, len + sizeof(size) + 4)) {
		give_up(s);
		return;
	}
	if (s->chunked)
		put(s, size, strlen(size));
	put(s, line, len);
	put(s, s->chunked ? "\n\r\n" : "\n", s->chunked ? 3 : 1);
}

void session_end_stream(struct session *s)
{
	if (s->state != SESSION_STREAMING)
		return;
	s->state = SESSION_CLOSING;
	if (s->chunked)
		put(s, "0\r\n\r\n", 5);
}

/* Input */

/* An answer to what was no request: where the next would begin is not known. */
static void refuse(struct session *s, unsigned status, const char *text)
{
	s->close_after = s->refused = true;
	s->in_len = 0;
	session_reply_error(s, status, "%s", text);
}

static const char *refusal(unsigned status)
{
	switch (status) {
	case 411:
		return "the body needs a Content-Length";
	case 413:
		return "the body is too long";
	case 414:
		return "the path is too long";
	case 417:
		return "the only expectation that is met is 100-continue";
	case 431:
		return "the headers are too long or too many";
	case 501:
		return "there is no such method";
	case 505:
		return "the protocol is HTTP/1.1";
	default:
		return "this is no HTTP/1.1 request";
	}
}

/* One request from the start of the input; false when it is not all there, or was none. */
static bool take_request(struct session *s)
{
	struct http_request r;
	size_t total;
	int head = http_parse_request(s->in, s->in_len, &r);

	if (head < 0) {
		refuse(s, (unsigned)-head, refusal((unsigned)-head));
		return false;
	}
	if (!head)
		return false;
	if (r.body_len > SESSION_BODY_MAX) {
		refuse(s, 413, refusal(413));
		return false;
	}
	total = (size_t)head + (size_t)r.body_len;
	if (s->in_len < total) {
		if (r.expect_continue && !s->continued)
			put(s, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		s->continued = true;
		return false;
	}
	s->continued = false;
	s->taken++;
	s->close_after = !r.keep_alive;
	s->chunked = !r.old;
	api_handle(s, &r, s->in + head, (size_t)r.body_len);
	s->in_len -= total;
	memmove(s->in, s->in + total, s->in_len);
	return true;
}

static void take_requests(struct session *s)
{
	while (s->state == SESSION_READING && s->in_len && !session_pending(s) && take_request(s))
		continue;
}

size_t session_room(struct session *s, char **to)
{
	*to = s->in + s->in_len;
	return s->state == SESSION_READING ? sizeof(s->in) - s->in_len : 0;
}

void session_received(struct session *s, size_t len)
{
	s->in_len += len;
	take_requests(s);
}

void session_sent(struct session *s, size_t len)
{
	s->out_at += len;
	take_requests(s);
}

void session_timeout(struct session *s)
{
	if (s->state == SESSION_WAITING) {
		s->close_after = true;
		session_reply_error(s, 504, "the machine has not done it in time");
	} else if (s->state == SESSION_READING && s->in_len && !session_pending(s)) {
		refuse(s, 408, "the request did not come in time");
	} else {
		give_up(s);
	}
}
