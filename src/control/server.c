/*
 * server.c - the control socket: who may connect, what clients are told, and its life.
 *
 * Only the user's own processes and root are served: the directory and the socket's mode see to it,
 * and SO_PEERCRED once more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/internal.h"

#define RETRY_NS 100000000u /* for a descriptor to be free */
#define BACKLOG 64
#define ACCEPTS_PER_ROUND 16

static void on_retry(void *ctx)
{
	struct control *c = ctx;

	if (loop_watch_change(&c->listen_watch, EPOLLIN) < 0)
		loop_timer_set(&c->retry, host_now_ns() + RETRY_NS);
}

static bool may_connect(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connect(void *ctx, uint32_t events)
{
	struct control *c = ctx;

	for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
		int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			/* Nobody more; or no descriptors, which would be reported for ever. */
			if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNABORTED &&
			    errno != EINTR && loop_watch_change(&c->listen_watch, 0) == 0)
				loop_timer_set(&c->retry, host_now_ns() + RETRY_NS);
			return;
		}
		if (may_connect(fd))
			client_add(c, fd);
		else
			close(fd);
	}
}

/* News */

/* Lock held. Consumes the event. */
static void publish(struct control *c, cJSON *event)
{
	char *line = event ? cJSON_PrintUnformatted(event) : NULL;

	cJSON_Delete(event);
	for (struct client *cl = c->clients, *next; line && cl; cl = next) {
		next = cl->next;
		if (cl->session.state != SESSION_STREAMING)
			continue;
		session_event(&cl->session, line);
		client_update(cl);
	}
	cJSON_free(line);
}

/* Answers those who wait for it. */
static void settled(struct control *c, bool paused)
{
	for (struct client *cl = c->clients, *next; cl; cl = next) {
		struct session *s = &cl->session;

		next = cl->next;
		if (s->state != SESSION_WAITING)
			continue;
		if (s->want_paused == paused)
			session_reply_empty(s);
		else if (s->want_paused != c->want_paused)
			session_reply_error(s, 409, "another request has %s the machine",
					    paused ? "paused" : "resumed");
		else
			continue; /* news of what was before this request */
		client_update(cl);
	}
	if (paused != c->paused)
		publish(c, report_event(paused ? "paused" : "resumed"));
	c->paused = paused;
}

/* On vm_run()'s thread. */
static void on_news(void *ctx, enum vm_news news, const char *detail)
{
	struct control *c = ctx;
	struct vm_info info;
	cJSON *event;

	loop_lock(c->loop);
	switch (news) {
	case VM_NEWS_BOOTED:
		publish(c, report_event("booted"));
		break;
	case VM_NEWS_PAUSED:
	case VM_NEWS_RUNNING:
		settled(c, news == VM_NEWS_PAUSED);
		break;
	case VM_NEWS_CPUS:
		vm_get_info(c->vm, &info);
		event = report_event("cpus");
		cJSON_AddNumberToObject(event, "vcpus", info.cpus);
		cJSON_AddStringToObject(event, "detail", detail);
		publish(c, event);
		break;
	case VM_NEWS_RESET:
		event = report_event("reset");
		cJSON_AddStringToObject(event, "by", detail);
		publish(c, event);
		break;
	case VM_NEWS_ENDED: /* control_ended() knows how */
		break;
	}
	loop_unlock(c->loop);
}

void control_ended(struct control *c, const char *end, const char *reason)
{
	cJSON *event;

	loop_lock(c->loop);
	c->ended = true;
	event = report_event("ended");
	cJSON_AddStringToObject(event, "end", end);
	cJSON_AddStringToObject(event, "reason", reason);
	publish(c, event);
	for (struct client *cl = c->clients, *next; cl; cl = next) {
		next = cl->next;
		if (cl->session.state == SESSION_WAITING)
			session_reply_error(&cl->session, 409, "the machine has ended");
		session_end_stream(&cl->session);
		client_update(cl);
	}
	loop_unlock(c->loop);
}

/* Life */

void control_default_name(char *buf, size_t len)
{
	snprintf(buf, len, "ringer-%d", (int)getpid());
}

int control_open(struct control **out, const char *name, struct err *err)
{
	struct control *c;
	int rc = place_check_name(name, err);

	if (rc)
		return rc;
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, ENOMEM, "no memory for the control socket");
	c->listen_fd = c->lock.fd = -1;
	snprintf(c->name, sizeof(c->name), "%s", name);
	rc = place_find(&c->place, err);
	if (!rc)
		rc = place_lock(&c->lock, &c->place, name, err);
	if (!rc)
		rc = loop_new(&c->loop, err);
	if (rc) {
		control_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

static int open_socket(struct control *c, struct err *err)
{
	const struct sockaddr_un *a = &c->lock.address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	c->listen_fd = fd;
	/* bind() takes the file's mode from the socket: at no time may others connect. */
	if (fd < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0 ||
	    bind(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 || listen(fd, BACKLOG) < 0)
		return err_set(err, errno, "cannot open the control socket %s: %s", a->sun_path,
			       strerror(errno));
	return 0;
}

int control_start(struct control *c, struct vm *vm, const struct control_config *cfg, struct err *err)
{
	const struct vm_listener listener = {on_news, c};
	int rc;

	c->cfg = *cfg;
	c->vm = vm;
	c->start_ns = host_now_ns();
	rc = open_socket(c, err);
	if (rc)
		return rc;
	loop_lock(c->loop);
	loop_timer_init(&c->retry, c->loop, on_retry, c);
	rc = loop_watch_add(&c->listen_watch, c->loop, c->listen_fd, EPOLLIN, on_connect, c);
	loop_unlock(c->loop);
	if (rc)
		return err_set(err, -rc, "cannot watch the control socket: %s", strerror(-rc));
	rc = loop_start(c->loop, err);
	if (!rc)
		vm_listen(vm, &listener);
	return rc;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	if (c->loop) {
		loop_stop(c->loop);
		loop_lock(c->loop);
		client_farewell(c);
		while (c->clients)
			client_free(c->clients);
		loop_timer_cancel(&c->retry);
		loop_watch_del(&c->listen_watch);
		loop_unlock(c->loop);
	}
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	place_unlock(&c->lock);
	loop_free(c->loop);
	free(c);
}
