#include "control/talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/suggest.h"
#include "control/http.h"
#include "host/loop.h"

/* Opening */

static int no_such_machine(const struct place *p, const char *name, struct err *err)
{
	struct place_names *known = malloc(sizeof(*known));
	const char **names = known ? calloc(PLACE_MACHINES_MAX, sizeof(*names)) : NULL, *near = NULL;
	int rc;

	if (!names || place_list(p, known, NULL) < 0) {
		rc = err_set(err, ENOENT, "no machine has the name '%.64s'", name);
	} else {
		for (size_t i = 0; i < known->n; i++)
			names[i] = known->name[i];
		near = suggest(name, names, known->n);
		if (near)
			rc = err_set(err, ENOENT, "no machine has the name '%.64s'; did you mean '%s'?",
				     name, near);
		else
			rc = err_set(err, ENOENT, "no machine has the name '%.64s'; %s", name,
				     known->n ? "'ringer ps' lists those that run" : "none runs");
	}
	free(names);
	free(known);
	return rc;
}

static int no_answer(const struct talk *t, struct err *err)
{
	if (!t->pid)
		return err_set(err, ETIMEDOUT, "the machine '%s' does not answer", t->name);
	return err_set(err, ETIMEDOUT, "the machine '%s' (process %d) does not answer: it hangs or is "
		       "stopped", t->name, (int)t->pid);
}

static int connect_error(struct talk *t, const struct place *p, int code, struct err *err)
{
	bool stale;

	if (code == EAGAIN) /* its queue is full */
		return no_answer(t, err);
	if (code != ENOENT && code != ECONNREFUSED)
		return err_set(err, code, "cannot connect to the machine '%s': %s", t->name,
			       strerror(code));
	if (place_lives(p, t->name, &stale))
		return err_set(err, EAGAIN, "the machine '%s' is only starting; try again", t->name);
	if (stale)
		return err_set(err, ENOENT, "the machine '%s' was killed: nobody answers at the socket "
			       "that it left, which is removed now", t->name);
	return no_such_machine(p, t->name, err);
}

int talk_open(struct talk *t, const struct place *p, const char *name, struct err *err)
{
	struct sockaddr_un address;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int rc = place_check_name(name, err);

	*t = (struct talk){.fd = -1};
	if (rc)
		return no_such_machine(p, name, err);
	snprintf(t->name, sizeof(t->name), "%s", name);
	rc = place_address(&address, p, name, err);
	if (rc)
		return rc;
	t->buf = malloc(TALK_BUFFER);
	t->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!t->buf || t->fd < 0)
		rc = err_set(err, t->buf ? errno : ENOMEM, "cannot open a socket: %m");
	else if (connect(t->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		rc = connect_error(t, p, errno, err);
	if (rc) {
		talk_close(t);
		return rc;
	}
	if (getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		t->pid = peer.pid;
	return 0;
}

void talk_close(struct talk *t)
{
	if (t->fd >= 0)
		close(t->fd);
	free(t->buf);
	t->buf = NULL;
	t->fd = -1;
}

/* Bytes */

static int wait_for(const struct talk *t, short events, uint64_t deadline_ns, struct err *err)
{
	for (;;) {
		struct pollfd p = {.fd = t->fd, .events = events};
		uint64_t now = host_now_ns();
		uint64_t ms = now >= deadline_ns ? 0 : (deadline_ns - now) / 1000000 + 1;
		int n = poll(&p, 1, (int)min_u64(ms, 1000000));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_set(err, errno, "poll: %s", strerror(errno));
		if (n == 0 && !ms)
			return no_answer(t, err);
	}
}

static int broken(const struct talk *t, struct err *err)
{
	return err_set(err, EPIPE, "the machine '%s' has ended meanwhile", t->name);
}

static int nonsense(const struct talk *t, struct err *err)
{
	return err_set(err, EPROTO, "what answers for the machine '%s' is no machine of this version",
		       t->name);
}

static int send_all(struct talk *t, const char *data, size_t len, uint64_t deadline_ns, struct err *err)
{
	while (len) {
		ssize_t n = send(t->fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			int rc = wait_for(t, POLLOUT, deadline_ns, err);

			if (rc)
				return rc;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return broken(t, err);
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* More bytes at the end of the buffer. */
static int receive_more(struct talk *t, uint64_t deadline_ns, struct err *err)
{
	ssize_t n;
	int rc;

	if (t->at) {
		t->len -= t->at;
		memmove(t->buf, t->buf + t->at, t->len);
		t->at = 0;
	}
	if (t->len == TALK_BUFFER)
		return nonsense(t, err);
	do {
		rc = wait_for(t, POLLIN, deadline_ns, err);
		if (rc)
			return rc;
		n = recv(t->fd, t->buf + t->len, TALK_BUFFER - t->len, 0);
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	if (n <= 0)
		return broken(t, err);
	t->len += (size_t)n;
	return 0;
}

/* Messages */

int talk_send(struct talk *t, const char *method, const char *path, const char *body,
	      uint64_t deadline_ns, struct err *err)
{
	char text[1024];
	int n;

	if (body)
		n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
			     "application/json\r\nContent-Length: %zu\r\n\r\n%s", method, path,
			     strlen(body), body);
	else
		n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method,
			     path);
	if ((size_t)n >= sizeof(text))
		return err_set(err, EINVAL, "the request is too long");
	return send_all(t, text, (size_t)n, deadline_ns, err);
}

static int receive_head(struct talk *t, struct http_response *h, uint64_t deadline_ns, struct err *err)
{
	int n, rc;

	while (!(n = http_parse_response(t->buf + t->at, t->len - t->at, h))) {
		rc = receive_more(t, deadline_ns, err);
		if (rc)
			return rc;
	}
	if (n < 0)
		return nonsense(t, err);
	t->at += (size_t)n;
	return 0;
}

int talk_receive(struct talk *t, struct talk_reply *r, uint64_t deadline_ns, struct err *err)
{
	struct http_response h;
	int rc = receive_head(t, &h, deadline_ns, err);

	*r = (struct talk_reply){.status = h.status};
	if (rc)
		return rc;
	if (h.chunked || h.body_len > TALK_BUFFER || (!h.has_length && h.status != 204))
		return nonsense(t, err);
	while (t->len - t->at < h.body_len) {
		rc = receive_more(t, deadline_ns, err);
		if (rc)
			return rc;
	}
	if (h.body_len) {
		r->json = cJSON_ParseWithLength(t->buf + t->at, (size_t)h.body_len);
		if (!r->json)
			return nonsense(t, err);
	}
	t->at += (size_t)h.body_len;
	return 0;
}

int talk_receive_stream(struct talk *t, uint64_t deadline_ns, struct err *err)
{
	struct http_response h;
	int rc = receive_head(t, &h, deadline_ns, err);

	if (rc)
		return rc;
	return h.status == 200 && h.chunked ? 0 : nonsense(t, err);
}

/* One event is one chunk. */
int talk_event(struct talk *t, cJSON **event, uint64_t deadline_ns, struct err *err)
{
	uint64_t size;
	int n, rc;

	for (;;) {
		n = http_parse_chunk(t->buf + t->at, t->len - t->at, &size);
		if (n < 0 || (n > 0 && size > TALK_BUFFER / 2))
			return nonsense(t, err);
		if (n > 0 && t->len - t->at >= (size_t)n + size + 2)
			break;
		rc = receive_more(t, deadline_ns, err);
		if (rc)
			return rc;
	}
	t->at += (size_t)n;
	if (!size)
		return broken(t, err);
	*event = cJSON_ParseWithLength(t->buf + t->at, (size_t)size);
	t->at += (size_t)size + 2;
	return *event ? 0 : nonsense(t, err);
}

bool talk_is_closed(struct talk *t, uint64_t deadline_ns)
{
	int rc;

	do {
		t->at = t->len;
		rc = receive_more(t, deadline_ns, NULL);
	} while (!rc);
	return rc == -EPIPE;
}
