#include "host/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

ssize_t write_no_sigpipe(int fd, const void *data, size_t len)
{
	const struct timespec zero = { 0 };
	sigset_t pipe_only, pending, old;
	bool was_pending;
	ssize_t n;
	int e;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE) == 1;
	pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
	n = write(fd, data, len);
	e = errno;
	if (n < 0 && e == EPIPE && !was_pending)
		sigtimedwait(&pipe_only, NULL, &zero);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = e;
	return n;
}

void fd_out_init(struct fd_out *o, int fd)
{
	char path[32];
	struct stat st;
	int own;

	*o = (struct fd_out){ .fd = fd, .kind = FD_OUT_PLAIN };
	if (fstat(fd, &st) < 0)
		return;
	if (S_ISSOCK(st.st_mode)) {
		o->kind = FD_OUT_SOCKET;
		return;
	}
	if (!S_ISCHR(st.st_mode) && !S_ISFIFO(st.st_mode))
		return;
	o->kind = FD_OUT_CAREFUL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return; /* no /proc, or a terminal of another user */
	o->fd = own;
	o->owned = true;
	o->kind = FD_OUT_NONBLOCK;
}

void fd_out_close(struct fd_out *o)
{
	if (o->owned)
		close(o->fd);
	o->owned = false;
}

ssize_t fd_out_write(struct fd_out *o, const void *data, size_t len)
{
	/* A pipe that polls writable takes a page; a terminal at least some: so few rarely wait. */
	enum { careful_chunk = 256 };
	struct pollfd p = { .fd = o->fd, .events = POLLOUT };
	ssize_t n;

	if (o->kind == FD_OUT_SOCKET) {
		n = send(o->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (o->kind == FD_OUT_CAREFUL) {
		if (poll(&p, 1, 0) == 0)
			return -EAGAIN;
		n = write_no_sigpipe(o->fd, data, min_u64(len, careful_chunk));
	} else {
		n = write_no_sigpipe(o->fd, data, len);
	}
	if (n >= 0)
		return n;
	return errno == EINTR ? -EAGAIN : -errno;
}
