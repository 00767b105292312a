/*
 * server.c - the socket: who may connect, how many, and for how long.
 *
 * A client is limited in everything: the size of its request (session.h), the time a request may
 * take to come, the time an answer may take to be read, and the number of its kind. When all places
 * are taken, the one that has been idle longest makes room. Only the user's own processes and root
 * are served: the directory and the socket's mode see to it, and SO_PEERCRED once more.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/internal.h"

#define SECONDS(n) ((uint64_t)(n) * 1000000000u)
#define REQUEST_TIME SECONDS(5)  /* from the first byte to the last */
#define ANSWER_TIME SECONDS(5)   /* for the client to take it */
#define MACHINE_TIME SECONDS(10) /* to pause or resume */
#define IDLE_TIME SECONDS(60)    /* between requests */
#define LINGER_TIME SECONDS(1)   /* for a refused client to hear of it */
#define FAREWELL_MS 1000
#define BACKLOG 64
#define ACCEPTS_PER_ROUND 16

struct client {
	struct client *next; /* newest first */
	struct control *control;
	int fd;
	struct loop_watch watch;
	struct loop_timer timer;
	unsigned taken;   /* requests when the timer was set */
	uint64_t idle_ns; /* since when it has nothing to say; 0: it has */
	enum { PHASE_IDLE, PHASE_REQUEST, PHASE_MACHINE, PHASE_ANSWER, PHASE_LISTENS, PHASE_LINGERS } phase;
	struct session session;
};

static void client_free(struct client *cl)
{
	struct control *c = cl->control;
	struct client **at = &c->clients;

	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
	c->n_clients--;
	loop_watch_del(&cl->watch);
	loop_timer_cancel(&cl->timer);
	close(cl->fd);
	session_fini(&cl->session);
	free(cl);
}

unsigned control_listeners(const struct control *c)
{
	unsigned n = 0;

	for (const struct client *cl = c->clients; cl; cl = cl->next)
		n += cl->session.state == SESSION_STREAMING;
	return n;
}

/* Sends what the client takes now; false when it is gone. */
static bool send_pending(struct client *cl)
{
	struct session *s = &cl->session;

	while (session_pending(s)) {
		ssize_t n = send(cl->fd, s->out + s->out_at, session_pending(s),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		session_sent(s, (size_t)n);
	}
	return true;
}

/* What the client is at, and how long that may take. */
static int phase_of(const struct client *cl, uint64_t *limit)
{
	const struct session *s = &cl->session;

	*limit = UINT64_MAX;
	if (session_pending(s)) {
		*limit = ANSWER_TIME;
		return PHASE_ANSWER;
	}
	switch (s->state) {
	case SESSION_WAITING:
		*limit = MACHINE_TIME;
		return PHASE_MACHINE;
	case SESSION_STREAMING:
		return PHASE_LISTENS;
	default:
		*limit = s->in_len ? REQUEST_TIME : IDLE_TIME;
		return s->in_len ? PHASE_REQUEST : PHASE_IDLE;
	}
}

/*
 * Refused: what it has yet to send is thrown away for a moment. If its socket were closed at once, its next write
 * would fail, and it would not look for the answer.
 */
static void client_linger(struct client *cl)
{
	if (cl->phase == PHASE_LINGERS)
		return;
	cl->phase = PHASE_LINGERS;
	cl->idle_ns = host_now_ns();
	shutdown(cl->fd, SHUT_WR);
	if (loop_watch_change(&cl->watch, EPOLLIN) < 0)
		client_free(cl);
	else
		loop_timer_set(&cl->timer, cl->idle_ns + LINGER_TIME);
}

/* After anything happened to a session: sends, ends it, or sets what it waits for. cl may be gone. */
static void client_update(struct client *cl)
{
	struct session *s = &cl->session;
	uint64_t limit, now = host_now_ns();
	uint32_t events = EPOLLIN;
	int phase;

	if (!send_pending(cl) ||
	    (s->state == SESSION_CLOSING && !session_pending(s) && !s->refused)) {
		client_free(cl);
		return;
	}
	if (s->state == SESSION_CLOSING && !session_pending(s)) {
		client_linger(cl);
		return;
	}
	phase = phase_of(cl, &limit);
	if (session_pending(s))
		events = EPOLLOUT;
	else if (s->state == SESSION_WAITING)
		events = 0; /* one request after the other */
	if (loop_watch_change(&cl->watch, events) < 0) {
		client_free(cl);
		return;
	}
	cl->idle_ns = phase == PHASE_IDLE ? now : 0;
	/* Progress within a phase buys no time: only the next phase, or the next request, does. */
	if (phase != (int)cl->phase || s->taken != cl->taken || !loop_timer_armed(&cl->timer))
		loop_timer_set(&cl->timer, limit == UINT64_MAX ? limit : now + limit);
	cl->phase = phase;
	cl->taken = s->taken;
}

/* False: the client is gone. */
static bool receive(struct client *cl)
{
	struct session *s = &cl->session;
	char *to, waste[4096];
	size_t room = session_room(s, &to);
	ssize_t n = recv(cl->fd, room ? to : waste, room ? room : sizeof(waste), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	/* A listener has nothing to say but good-bye. */
	if (n == 0 || (!room && cl->phase != PHASE_LINGERS))
		return false;
	if (room)
		session_received(s, (size_t)n);
	return true;
}

static void on_client(void *ctx, uint32_t events)
{
	struct client *cl = ctx;

	if ((events & EPOLLIN && !receive(cl)) ||
	    (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)))
		client_free(cl);
	else
		client_update(cl);
}

static void on_timer(void *ctx)
{
	struct client *cl = ctx;

	if (cl->phase == PHASE_LINGERS) {
		client_free(cl);
		return;
	}
	session_timeout(&cl->session);
	client_update(cl);
}

/* Room for one more; false when all clients are busy. */
static bool make_room(struct control *c)
{
	struct client *oldest = NULL;

	if (c->n_clients < CONTROL_CLIENTS_MAX)
		return true;
	for (struct client *cl = c->clients; cl; cl = cl->next)
		if (cl->idle_ns && (!oldest || cl->idle_ns <= oldest->idle_ns))
			oldest = cl;
	if (oldest)
		client_free(oldest);
	return oldest != NULL;
}

static bool may_connect(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void turn_away(int fd)
{
	static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
				   "Connection: close\r\nContent-Length: 28\r\n\r\n"
				   "{\"error\":\"too many clients\"}";

	if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* Then without a word. */
	}
	close(fd);
}

/* Takes over the descriptor. */
static void add_client(struct control *c, int fd)
{
	struct client *cl;

	if (!make_room(c)) {
		turn_away(fd);
		return;
	}
	cl = calloc(1, sizeof(*cl));
	if (!cl) {
		close(fd);
		return;
	}
	cl->control = c;
	cl->fd = fd;
	loop_timer_init(&cl->timer, c->loop, on_timer, cl);
	session_init(&cl->session, c);
	if (loop_watch_add(&cl->watch, c->loop, fd, EPOLLIN, on_client, cl) < 0) {
		close(fd);
		free(cl);
		return;
	}
	cl->next = c->clients;
	c->clients = cl;
	c->n_clients++;
	client_update(cl);
}

static void on_retry(void *ctx)
{
	struct control *c = ctx;

	if (loop_watch_change(&c->listen_watch, EPOLLIN) < 0)
		loop_timer_set(&c->retry, host_now_ns() + SECONDS(1));
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
				loop_timer_set(&c->retry, host_now_ns() + SECONDS(1) / 10);
			return;
		}
		if (may_connect(fd))
			add_client(c, fd);
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

/* The loop has stopped. Sends the last answers, to all clients together for no longer than a moment. */
static void say_farewell(struct control *c)
{
	uint64_t end = host_now_ns() + FAREWELL_MS * 1000000u;

	for (;;) {
		struct pollfd fds[CONTROL_CLIENTS_MAX];
		nfds_t n = 0;
		uint64_t now = host_now_ns();

		for (struct client *cl = c->clients, *next; cl; cl = next) {
			next = cl->next;
			if (!send_pending(cl) || !session_pending(&cl->session))
				client_free(cl);
			else
				fds[n++] = (struct pollfd){.fd = cl->fd, .events = POLLOUT};
		}
		if (!n || now >= end || poll(fds, n, (int)((end - now) / 1000000) + 1) < 0)
			return;
	}
}

void control_free(struct control *c)
{
	if (!c)
		return;
	if (c->loop) {
		loop_stop(c->loop);
		loop_lock(c->loop);
		say_farewell(c);
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
