/* Messages of the control socket: what is understood, what is refused, and that it does not matter how it is cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "control/http.h"

#define HOST "Host: localhost\r\n"

static void requests(void **state)
{
	static const struct {
		const char *text;
		int status; /* 0: fine */
	} rows[] = {
		{"GET / HTTP/1.1\r\n" HOST "\r\n", 0},
		{"GET /a?b=c HTTP/1.1\r\n" HOST "\r\n", 0},
		{"GET / HTTP/1.0\r\n\r\n", 0},
		{"PUT /x HTTP/1.1\r\nhOsT:\tlocalhost \t\r\ncontent-length:  12\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n" HOST "X-Empty:\r\nX-High: \xc3\xa4\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
		{"\r\n\r\n", 400},
		{"GET /\r\n\r\n", 400},
		{"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
		{"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
		{"GET / http/1.1\r\n" HOST "\r\n", 400},
		{"GET / HTTP/1.x\r\n" HOST "\r\n", 400},
		{"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
		{"GET * HTTP/1.1\r\n" HOST "\r\n", 400},
		{"GET http://localhost/ HTTP/1.1\r\n" HOST "\r\n", 400},
		{"GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400},
		{"GET /a\tb HTTP/1.1\r\n" HOST "\r\n", 400},
		{"G(T / HTTP/1.1\r\n" HOST "\r\n", 400},
		{"ABCDEFGHIJKLMNOP / HTTP/1.1\r\n" HOST "\r\n", 501},
		{"GET / HTTP/1.1\n" HOST "\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: localhost\n\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST "X : y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST " folded: y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST "X y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST ": y\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 411},
		{"PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
		{"PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n", 0},
		{"PUT / HTTP/1.1\r\n" HOST "Expect: wonders\r\n\r\n", 417},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_request r;
		size_t len = strlen(rows[i].text);
		int got = http_parse_request(rows[i].text, len, &r);

		if (got != (rows[i].status ? -rows[i].status : (int)len))
			fail_msg("%s: %d", rows[i].text, got);
		/* All but the last byte: nobody can tell yet. */
		assert_int_equal(http_parse_request(rows[i].text, len - 1, &r), 0);
	}
}

static void what_a_request_says(void **state)
{
	struct http_request r;
	const char *text = "PUT /api/v1/vm.resize?x HTTP/1.1\r\n" HOST "Content-Length: 0017\r\n"
			   "Connection: foo, Close\r\nExpect: 100-Continue\r\n\r\n{\"rest\"";

	assert_int_equal(http_parse_request(text, strlen(text), &r), strlen(text) - 7);
	assert_string_equal(r.method, "PUT");
	assert_string_equal(r.path, "/api/v1/vm.resize");
	assert_true(r.has_query);
	assert_int_equal(r.body_len, 17);
	assert_false(r.keep_alive);
	assert_true(r.expect_continue);
	text = "GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n";
	assert_true(http_parse_request(text, strlen(text), &r) > 0);
	assert_true(r.old);
	assert_false(r.keep_alive);
	assert_false(r.expect_continue);
	text = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
	assert_true(http_parse_request(text, strlen(text), &r) > 0);
	assert_true(r.keep_alive);
	/* A zero byte ends nothing. */
	assert_int_equal(http_parse_request("GET /\0a HTTP/1.1\r\n" HOST "\r\n", 37, &r), -400);
	assert_int_equal(http_parse_request("GET / HTTP/1.1\r\nHost: \0\r\n\r\n", 27, &r), -400);
}

static void limits(void **state)
{
	static char buf[HTTP_HEAD_MAX + 16];
	struct http_request r;
	size_t len;

	memset(buf, 'a', sizeof(buf));
	assert_int_equal(http_parse_request(buf, HTTP_HEAD_MAX - 1, &r), 0);
	assert_int_equal(http_parse_request(buf, HTTP_HEAD_MAX, &r), -431);
	/* A path of the greatest length, and one more. */
	for (unsigned over = 0; over < 2; over++) {
		memcpy(buf, "GET /", 5);
		memset(buf + 5, 'a', HTTP_PATH_MAX - 1 + over);
		strcpy(buf + 4 + HTTP_PATH_MAX + over, " HTTP/1.1\r\n" HOST "\r\n");
		len = strlen(buf);
		assert_int_equal(http_parse_request(buf, len, &r), over ? -414 : (int)len);
	}
	for (unsigned over = 0; over < 2; over++) {
		strcpy(buf, "GET / HTTP/1.1\r\n" HOST);
		for (unsigned i = 1; i < HTTP_HEADERS_MAX + over; i++)
			strcat(buf, "X: y\r\n");
		strcat(buf, "\r\n");
		len = strlen(buf);
		assert_int_equal(http_parse_request(buf, len, &r), over ? -431 : (int)len);
	}
}

static void responses(void **state)
{
	struct http_response r;
	const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

	assert_int_equal(http_parse_response(text, strlen(text), &r), strlen(text) - 5);
	assert_int_equal(r.status, 200);
	assert_true(r.has_length);
	assert_int_equal(r.body_len, 5);
	text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
	assert_int_equal(http_parse_response(text, strlen(text), &r), strlen(text));
	assert_true(r.chunked);
	text = "HTTP/1.1 204 No Content\r\n\r\n";
	assert_int_equal(http_parse_response(text, strlen(text), &r), strlen(text));
	assert_false(r.has_length);
	assert_int_equal(http_parse_response(text, 20, &r), 0);
	text = "SSH-2.0-OpenSSH_9.2\r\n\r\n";
	assert_int_equal(http_parse_response(text, strlen(text), &r), -1);
	text = "HTTP/1.1 2x0 OK\r\n\r\n";
	assert_int_equal(http_parse_response(text, strlen(text), &r), -1);
	text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n";
	assert_int_equal(http_parse_response(text, strlen(text), &r), -1);
}

static void chunks(void **state)
{
	uint64_t size = 0;

	assert_int_equal(http_parse_chunk("1a\r\n", 4, &size), 4);
	assert_int_equal(size, 0x1a);
	assert_int_equal(http_parse_chunk("FFFFFFFF\r\n", 10, &size), 10);
	assert_int_equal(size, 0xffffffff);
	assert_int_equal(http_parse_chunk("0\r\n\r\n", 5, &size), 3);
	assert_int_equal(size, 0);
	assert_int_equal(http_parse_chunk("", 0, &size), 0);
	assert_int_equal(http_parse_chunk("1a", 2, &size), 0);
	assert_int_equal(http_parse_chunk("1a\r", 3, &size), 0);
	assert_int_equal(http_parse_chunk("\r\n", 2, &size), -1);
	assert_int_equal(http_parse_chunk("g\r\n", 3, &size), -1);
	assert_int_equal(http_parse_chunk("1 \r\n", 4, &size), -1);
	assert_int_equal(http_parse_chunk("1\n\r\n", 4, &size), -1);
	assert_int_equal(http_parse_chunk("100000000\r\n", 11, &size), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(what_a_request_says),
		cmocka_unit_test(limits),
		cmocka_unit_test(responses),
		cmocka_unit_test(chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
