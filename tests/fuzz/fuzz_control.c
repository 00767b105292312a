/*
 * The control socket, from both ends. The first byte chooses: a client's conversation with the server, in pieces
 * whose sizes the input gives too, or what a server could answer to our own client. No machine is there.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/internal.h"
#include "control/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The machine. It does nothing at once. */

static unsigned asked;

void vm_pause(struct vm *vm)
{
	asked++;
}

void vm_resume(struct vm *vm)
{
	asked++;
}

void vm_reboot(struct vm *vm)
{
	asked++;
}

void vm_stop(struct vm *vm)
{
	asked++;
}

void vm_power_button(struct vm *vm)
{
	asked++;
}

int vm_set_cpus(struct vm *vm, unsigned n, struct err *err)
{
	return n == 3 ? err_set(err, EINVAL, "not three") : 0;
}

enum vm_state vm_state(const struct vm *vm)
{
	return VM_RUNNING;
}

void vm_listen(struct vm *vm, const struct vm_listener *listener)
{
}

void vm_get_info(const struct vm *vm, struct vm_info *info)
{
	*info = (struct vm_info){
		.ram = MIB(512), .cpus = 1, .boot_cpus = 1, .max_cpus = 4,
		.engine = "none", .cpu_model = "none", .boot_protocol = "none",
	};
}

void vm_stats(const struct vm *vm, struct vm_stats *s)
{
	memset(s, 0, sizeof(*s));
}

/* One answer after the other, whole, and nothing between them; but for a stream, whose chunks are. */
static void check_output(const struct session *s, bool *streams)
{
	const char *at = s->out + s->out_at;
	size_t left = session_pending(s);

	if (left > SESSION_OUT_MAX)
		abort();
	while (left) {
		struct http_response r;
		uint64_t body = 0;
		int n = *streams ? http_parse_chunk(at, left, &body) : http_parse_response(at, left, &r);

		if (n <= 0)
			abort();
		if (*streams) {
			body += 2;
		} else {
			*streams = r.chunked;
			body = r.body_len;
			/* HTTP/1.0 has no chunks: lines up to the end. */
			if (r.status == 200 && !r.chunked && !r.has_length)
				return;
		}
		if (body > left - (size_t)n)
			abort();
		at += (size_t)n + body;
		left -= (size_t)n + body;
	}
}

static void converse(const uint8_t *data, size_t size)
{
	static struct control control = {.cfg = {.version = "0", .kernel = "k", .initrd = "i", .cmdline = "\"\\\n"},
					 .name = "fuzz"};
	struct session *s = malloc(sizeof(*s));
	bool streams = false;

	if (!s)
		return;
	session_init(s, &control);
	while (size > 1 && s->state != SESSION_CLOSING) {
		size_t piece = min_u64(size - 1, data[0] ? data[0] : 4096);
		char *to;

		piece = min_u64(piece, session_room(s, &to));
		if (!piece && !session_pending(s) && s->state == SESSION_READING)
			abort(); /* nobody would ever go on */
		memcpy(to, data + 1, piece);
		data += piece + 1;
		size -= piece + 1;
		if (piece)
			session_received(s, piece);
		if (s->state == SESSION_WAITING)
			session_reply_empty(s);
		while (session_pending(s)) {
			check_output(s, &streams);
			session_event(s, "{}");
			session_sent(s, session_pending(s));
			if (s->state == SESSION_WAITING)
				session_timeout(s);
		}
	}
	session_timeout(s);
	session_fini(s);
	free(s);
}

static void be_answered(const uint8_t *data, size_t size, bool stream)
{
	struct talk t = {.name = "fuzz"};
	struct talk_reply r = {0};
	struct err err = {""};
	uint64_t end = host_now_ns() + 1000000000;
	int fd[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		return;
	t.fd = fd[0];
	t.buf = malloc(TALK_BUFFER);
	/* What does not fit the socket is cut off. */
	if (size && send(fd[1], data, size, MSG_NOSIGNAL) < 0)
		abort();
	close(fd[1]);
	rc = t.buf ? 0 : -1;
	if (!rc && stream)
		rc = talk_receive_stream(&t, end, &err);
	while (!rc) {
		r.json = NULL;
		rc = stream ? talk_event(&t, &r.json, end, &err) : talk_receive(&t, &r, end, &err);
		cJSON_Delete(r.json);
	}
	if (t.buf && !err.text[0])
		abort();
	talk_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		be_answered(data + 1, size - 1, data[0] & 2);
	else
		converse(data + 1, size - 1);
	return 0;
}
