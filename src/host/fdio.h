/* fdio.h - writing to descriptors that somebody else made. */
#ifndef RINGER_HOST_FDIO_H
#define RINGER_HOST_FDIO_H

#include <sys/types.h>

#include "base/base.h"

/* write(2) without SIGPIPE, whatever the process does with that signal: EPIPE is only an errno. */
ssize_t write_no_sigpipe(int fd, const void *data, size_t len);

enum fd_out_kind {
	FD_OUT_PLAIN,    /* regular files, and what else never makes a writer wait for long */
	FD_OUT_NONBLOCK, /* our own non-blocking open file description */
	FD_OUT_SOCKET,
	FD_OUT_CAREFUL, /* shared and blocking: small writes, and only when poll() allows them */
};

/*
 * A descriptor that is written without ever sleeping. O_NONBLOCK is a flag of the open file
 * description, which the shell that started us shares: it is never set on the original, only on a
 * second opening of the same file, where there can be one.
 */
struct fd_out {
	int fd;
	bool owned; /* fd is ours to close */
	enum fd_out_kind kind;
};

void fd_out_init(struct fd_out *o, int fd);
void fd_out_close(struct fd_out *o);
/* The number of bytes taken, or -errno; -EAGAIN when the host takes none now. */
ssize_t fd_out_write(struct fd_out *o, const void *data, size_t len);

#endif
