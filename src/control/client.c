/*
 * client.c - one client of the control socket: moves the bytes of its session, and limits it.
 *
 * A client is limited in everything: the size of its request (session.h), the time a request may
 * take to come, the time an answer may take to be read, and the number of its kind. When all places
 * are taken, the one that has been idle longest makes room.
 *
 * All is called with the loop's lock. A client may be gone after anything was done to it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/internal.h"

#define SECONDS(n) ((uint64_t)(n) * 1000000000u)
#define REQUEST_TIME SECONDS(5)  /* from the first byte to the last */
#define ANSWER_TIME SECONDS(5)   /* for the client to take it */
#define MACHINE_TIME SECONDS(10) /* to pause or resume */
#define IDLE_TIME SECONDS(60)    /* between requests */
#define LINGER_TIME SECONDS(1)   /* for a refused client to hear of it */
#define FAREWELL_MS 1000

void client_free(struct client *cl)
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
static enum client_phase phase_of(const struct client *cl, uint64_t *limit)
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

void client_update(struct client *cl)
{
	struct session *s = &cl->session;
	uint64_t limit, now = host_now_ns();
	uint32_t events = EPOLLIN;
	enum client_phase phase;

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
	if (phase != cl->phase || s->taken != cl->taken || !loop_timer_armed(&cl->timer))
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

void client_add(struct control *c, int fd)
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

void client_farewell(struct control *c)
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
