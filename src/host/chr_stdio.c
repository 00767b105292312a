/*
 * Theory of operation.
 *
 * The guest writes a serial console byte by byte, on a vCPU thread. write() only queues, and a
 * timer that is due at once makes the loop thread write the burst: one system call, no wait and no
 * SIGPIPE on a vCPU. What the host does not take waits for EPOLLOUT.
 *
 * Descriptors 0 and 1 are shared with the shell: their open file descriptions are not touched
 * (fdio.h for output; input is read only after poll() has said that there is some).
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "host/chr.h"
#include "host/fdio.h"
#include "host/outbuf.h"

enum {
	pending_max = 4096,
	flush_chunk = 65536,
	free_wait_ms = 1000,
	background_retry_ms = 500,
};

struct chr_stdio {
	struct chr base;
	struct loop *loop;

	/* Input. */
	size_t (*filter)(void *ctx, uint8_t *buf, size_t len);
	void *filter_ctx;
	struct loop_watch in_watch;
	struct loop_timer in_timer; /* delivers what is pending, and ends a pause */
	size_t room;
	uint8_t pending[pending_max];
	size_t n_pending;
	bool read_ahead; /* read without room: a terminal whose escape keys must work */
	bool ended;
	bool paused; /* not ours to read now: in the background */

	/* Output. */
	struct fd_out out_fd;
	struct outbuf out;
	struct loop_watch out_watch;
	struct loop_timer out_timer;
	bool out_waits; /* out_watch is on */
	bool out_dead;  /* nobody reads: drop everything */
};

/* Input */

static void update_in_watch(struct chr_stdio *s)
{
	bool want = !s->ended && !s->paused && (s->read_ahead || s->room > 0);

	if (s->in_watch.loop && loop_watch_change(&s->in_watch, want ? EPOLLIN : 0) < 0)
		s->ended = true;
}

static void deliver(struct chr_stdio *s)
{
	uint8_t chunk[256];

	while (s->base.receive && s->room && s->n_pending) {
		size_t n = min_u64(min_u64(s->room, s->n_pending), sizeof(chunk));

		memcpy(chunk, s->pending, n);
		s->n_pending -= n;
		memmove(s->pending, s->pending + n, s->n_pending);
		s->room -= n;
		s->base.receive(s->base.receive_ctx, chunk, n);
	}
}

/* e: errno. A terminal says EIO to a process in the background, and when it has hung up. */
static void read_failed(struct chr_stdio *s, int e, bool hung_up)
{
	if (e == EAGAIN || e == EINTR)
		return;
	if (e == EIO && !hung_up && isatty(STDIN_FILENO)) {
		s->paused = true;
		loop_timer_set(&s->in_timer, host_now_ns() + background_retry_ms * 1000000ull);
		return;
	}
	s->ended = true;
}

static void on_input(void *ctx, uint32_t events)
{
	struct chr_stdio *s = ctx;
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	uint8_t buf[256];
	size_t want = sizeof(buf), keep;
	ssize_t n;

	if (!s->read_ahead)
		want = min_u64(want, s->room - min_u64(s->room, s->n_pending));
	if (!want || poll(&p, 1, 0) != 1)
		return;
	n = read(STDIN_FILENO, buf, want);
	if (n < 0)
		read_failed(s, errno, p.revents & POLLHUP);
	else if (n == 0)
		s->ended = true;
	keep = n > 0 ? (size_t)n : 0;
	if (keep && s->filter)
		keep = min_u64(s->filter(s->filter_ctx, buf, keep), keep);
	keep = min_u64(keep, sizeof(s->pending) - s->n_pending);
	memcpy(s->pending + s->n_pending, buf, keep);
	s->n_pending += keep;
	deliver(s);
	update_in_watch(s);
}

static void on_in_timer(void *ctx)
{
	struct chr_stdio *s = ctx;

	s->paused = false;
	deliver(s);
	update_in_watch(s);
}

static void stdio_set_room(struct chr *c, size_t room)
{
	struct chr_stdio *s = container_of(c, struct chr_stdio, base);

	s->room = room;
	if (s->n_pending && room)
		loop_timer_set(&s->in_timer, 0);
	update_in_watch(s);
}

/* Output */

static void set_out_waits(struct chr_stdio *s, bool on)
{
	int r = 0;

	if (on && !s->out_watch.loop)
		return; /* no watch: the timer retries */
	if (s->out_watch.loop)
		r = loop_watch_change(&s->out_watch, on ? EPOLLOUT : 0);
	s->out_waits = on && r == 0;
}

/* Writes what the host takes: 0 when all is written, -EAGAIN when some is left. */
static int flush(struct chr_stdio *s)
{
	while (s->out.len && !s->out_dead) {
		ssize_t n = fd_out_write(&s->out_fd, s->out.data + s->out.head,
					 min_u64(s->out.len, flush_chunk));

		if (n == -EAGAIN)
			return -EAGAIN;
		if (n <= 0)
			s->out_dead = true;
		else
			outbuf_consume(&s->out, (size_t)n);
	}
	if (s->out_dead)
		outbuf_free(&s->out);
	return 0;
}

/* Tells a reader that has caught up how much it missed. */
static void report_gap(struct chr_stdio *s)
{
	char note[96];
	int n;

	if (!s->out.dropped || s->out_dead)
		return;
	n = snprintf(note, sizeof(note),
		     "\r\n[%llu bytes of output lost: the reader was too slow]\r\n",
		     (unsigned long long)s->out.dropped);
	s->out.dropped = 0;
	outbuf_put(&s->out, (const uint8_t *)note, (size_t)n);
}

static void flush_or_wait(struct chr_stdio *s)
{
	int r = flush(s);

	if (r == 0) {
		report_gap(s);
		r = flush(s);
	}
	set_out_waits(s, r == -EAGAIN);
	if (r == -EAGAIN && !s->out_waits)
		loop_timer_set(&s->out_timer, host_now_ns() + 10000000);
}

static void on_output(void *ctx, uint32_t events)
{
	flush_or_wait(ctx);
}

static void on_out_timer(void *ctx)
{
	flush_or_wait(ctx);
}

static void stdio_write(struct chr *c, const uint8_t *data, size_t len)
{
	struct chr_stdio *s = container_of(c, struct chr_stdio, base);

	if (s->out_dead)
		return;
	outbuf_put(&s->out, data, len);
	if (!s->out_waits && !loop_timer_armed(&s->out_timer))
		loop_timer_set(&s->out_timer, 0);
}

static void final_flush(struct chr_stdio *s)
{
	uint64_t end = host_now_ns() + free_wait_ms * 1000000ull, now;

	while (flush(s) == -EAGAIN && (now = host_now_ns()) < end) {
		struct pollfd p = { .fd = s->out_fd.fd, .events = POLLOUT };

		poll(&p, 1, (int)((end - now) / 1000000) + 1);
	}
}

static void stdio_free(struct chr *c)
{
	struct chr_stdio *s = container_of(c, struct chr_stdio, base);

	final_flush(s);
	loop_timer_cancel(&s->in_timer);
	loop_timer_cancel(&s->out_timer);
	loop_watch_del(&s->in_watch);
	loop_watch_del(&s->out_watch);
	fd_out_close(&s->out_fd);
	outbuf_free(&s->out);
	free(s);
}

static const struct chr_ops stdio_ops = { .write = stdio_write,
					  .set_room = stdio_set_room,
					  .free = stdio_free };

int chr_stdio_new(struct chr **out, struct loop *loop,
		  size_t (*filter)(void *ctx, uint8_t *buf, size_t len), void *ctx, struct err *err)
{
	struct chr_stdio *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, ENOMEM, "out of memory for a character backend");
	s->base.ops = &stdio_ops;
	s->loop = loop;
	s->filter = filter;
	s->filter_ctx = ctx;
	s->read_ahead = filter && isatty(STDIN_FILENO);
	s->out.limit = MIB(1);
	loop_timer_init(&s->in_timer, loop, on_in_timer, s);
	loop_timer_init(&s->out_timer, loop, on_out_timer, s);
	fd_out_init(&s->out_fd, STDOUT_FILENO);
	/* Closed descriptors: no input; output is retried by the timer, fails and is dropped. */
	if (loop_watch_add(&s->in_watch, loop, STDIN_FILENO, 0, on_input, s) < 0)
		s->ended = true;
	if (loop_watch_add(&s->out_watch, loop, s->out_fd.fd, 0, on_output, s) < 0)
		s->out_waits = false;
	update_in_watch(s);
	*out = &s->base;
	return 0;
}
