#include "control/http.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* A part of the message. */
struct span {
	const char *p;
	size_t len;
};

static bool equals(struct span s, const char *word)
{
	return s.len == strlen(word) && !strncasecmp(s.p, word, s.len);
}

/* RFC 9110, 5.6.2 */
static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!isalnum((unsigned char)s.p[i]) &&
		    (!s.p[i] || !strchr("!#$%&'*+-.^_`|~", s.p[i])))
			return false;
	return s.len > 0;
}

/* RFC 9110, 5.5: visible characters, space, tab, and what is not ASCII. */
static bool is_value(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
			return false;
	return true;
}

static struct span trim(struct span s)
{
	while (s.len && (*s.p == ' ' || *s.p == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* Cuts what is before the separator off; false when there is none. */
static bool cut(struct span *s, char separator, struct span *before)
{
	const char *at = memchr(s->p, separator, s->len);

	if (!at)
		return false;
	*before = (struct span){s->p, (size_t)(at - s->p)};
	s->len -= before->len + 1;
	s->p = at + 1;
	return true;
}

/* Decimal digits alone, fewer than would wrap. */
static bool parse_number(struct span s, uint64_t *out)
{
	uint64_t n = 0;

	if (!s.len || s.len > 18)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!isdigit((unsigned char)s.p[i]))
			return false;
		n = n * 10 + (uint64_t)(s.p[i] - '0');
	}
	*out = n;
	return true;
}

/* Whether a comma list has the word. */
static bool lists(struct span value, const char *word)
{
	struct span item;

	while (cut(&value, ',', &item))
		if (equals(trim(item), word))
			return true;
	return equals(trim(value), word);
}

/* Length of the head with its empty line; 0: not all there. */
static size_t head_len(const char *buf, size_t len)
{
	const char *end = memmem(buf, len, "\r\n\r\n", 4);

	return end ? (size_t)(end - buf) + 4 : 0;
}

/* What the headers that matter said. */
struct headers {
	unsigned hosts, lengths;
	bool close, keep_alive, encoded, chunked, expect, expect_continue;
	uint64_t length;
};

/* 0, or a status. */
static int note_header(struct span name, struct span value, struct headers *h)
{
	if (equals(name, "host")) {
		h->hosts++;
	} else if (equals(name, "content-length")) {
		if (h->lengths++ || !parse_number(value, &h->length))
			return 400;
	} else if (equals(name, "transfer-encoding")) {
		h->chunked = !h->encoded && equals(value, "chunked");
		h->encoded = true;
	} else if (equals(name, "connection")) {
		h->close = h->close || lists(value, "close");
		h->keep_alive = h->keep_alive || lists(value, "keep-alive");
	} else if (equals(name, "expect")) {
		h->expect = true;
		h->expect_continue = equals(value, "100-continue");
	}
	return 0;
}

/* The lines up to the empty one. 0, or a status. */
static int parse_headers(struct span rest, struct headers *h)
{
	struct span line, name;
	int status = 0;

	*h = (struct headers){0};
	for (unsigned n = 0; !status && cut(&rest, '\n', &line); n++) {
		if (!line.len || line.p[--line.len] != '\r')
			return 400;
		if (!line.len)
			return 0;
		if (n == HTTP_HEADERS_MAX)
			return 431;
		/* A name next to its colon: no space between, none before (a continued line). */
		if (!cut(&line, ':', &name) || !is_token(name))
			return 400;
		line = trim(line);
		status = is_value(line) ? note_header(name, line, h) : 400;
	}
	return status;
}

static bool is_path(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f || s.p[i] == '#')
			return false;
	return s.len && *s.p == '/';
}

/* METHOD /path HTTP/1.1. 0, or a status. */
static int parse_request_line(struct span line, struct http_request *r)
{
	struct span method, target, path;

	if (!cut(&line, ' ', &method) || !cut(&line, ' ', &target) || !is_token(method))
		return 400;
	if (line.len != 8 || memcmp(line.p, "HTTP/", 5) || line.p[6] != '.' ||
	    !isdigit((unsigned char)line.p[5]) || !isdigit((unsigned char)line.p[7]))
		return 400;
	if (line.p[5] != '1')
		return 505;
	r->old = line.p[7] == '0';
	if (!is_path(target))
		return 400;
	path = target;
	r->has_query = cut(&target, '?', &path);
	if (path.len > HTTP_PATH_MAX)
		return 414;
	if (method.len >= sizeof(r->method))
		return 501;
	memcpy(r->method, method.p, method.len);
	memcpy(r->path, path.p, path.len);
	return 0;
}

/* What the headers of a request come to. 0, or a status. */
static int judge_request(const struct headers *h, struct http_request *r)
{
	if (h->hosts > 1 || (!r->old && !h->hosts))
		return 400;
	/* With a length too, the two could disagree about where the next request begins. */
	if (h->encoded)
		return h->lengths ? 400 : 411;
	if (h->expect && !h->expect_continue)
		return 417;
	r->expect_continue = h->expect_continue && !r->old;
	r->body_len = h->length;
	r->keep_alive = !h->close && (!r->old || h->keep_alive);
	return 0;
}

int http_parse_request(const char *buf, size_t len, struct http_request *r)
{
	struct span rest = {buf, head_len(buf, min_u64(len, HTTP_HEAD_MAX))}, line;
	struct headers h;
	int status;

	memset(r, 0, sizeof(*r));
	if (!rest.len)
		return len >= HTTP_HEAD_MAX ? -431 : 0;
	len = rest.len;
	if (!cut(&rest, '\n', &line) || !line.len || line.p[--line.len] != '\r')
		return -400;
	status = parse_request_line(line, r);
	if (!status)
		status = parse_headers(rest, &h);
	if (!status)
		status = judge_request(&h, r);
	return status ? -status : (int)len;
}

int http_parse_response(const char *buf, size_t len, struct http_response *r)
{
	struct span rest = {buf, head_len(buf, min_u64(len, HTTP_HEAD_MAX))}, line;
	struct headers h;
	uint64_t status;

	memset(r, 0, sizeof(*r));
	if (!rest.len)
		return len >= HTTP_HEAD_MAX ? -1 : 0;
	len = rest.len;
	/* HTTP/1.1 200 OK */
	if (!cut(&rest, '\n', &line) || line.len < 13 || memcmp(line.p, "HTTP/1.", 7) ||
	    line.p[8] != ' ' || !parse_number((struct span){line.p + 9, 3}, &status))
		return -1;
	if (parse_headers(rest, &h) || (h.encoded && !h.chunked))
		return -1;
	r->status = (unsigned)status;
	r->chunked = h.chunked;
	r->has_length = h.lengths && !h.chunked;
	r->body_len = r->has_length ? h.length : 0;
	return (int)len;
}

int http_parse_chunk(const char *buf, size_t len, uint64_t *size)
{
	uint64_t n = 0;
	size_t i = 0;

	for (; i < len && isxdigit((unsigned char)buf[i]); i++) {
		int c = tolower((unsigned char)buf[i]);

		if (i == 8)
			return -1;
		n = n << 4 | (uint64_t)(isdigit(c) ? c - '0' : c - 'a' + 10);
	}
	if (len - i < 2)
		return i == len || (i && buf[i] == '\r') ? 0 : -1;
	if (!i || buf[i] != '\r' || buf[i + 1] != '\n')
		return -1;
	*size = n;
	return (int)i + 2;
}

const char *http_status_text(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} rows[] = {
		{200, "OK"}, {204, "No Content"}, {400, "Bad Request"}, {404, "Not Found"},
		{405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
		{411, "Length Required"}, {413, "Content Too Large"}, {414, "URI Too Long"},
		{415, "Unsupported Media Type"}, {417, "Expectation Failed"},
		{431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
		{501, "Not Implemented"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].status == status)
			return rows[i].text;
	return "Unknown";
}
