/* Writes through at once, so that a file can be followed while the guest runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/chr.h"
#include "host/fdio.h"

struct chr_file {
	struct chr base;
	int fd;
	bool regular; /* cannot raise SIGPIPE */
};

/* A full disk or a reader that has gone costs the guest its output, and nothing else. */
static void file_write(struct chr *c, const uint8_t *data, size_t len)
{
	struct chr_file *f = container_of(c, struct chr_file, base);

	while (len) {
		ssize_t n =
			f->regular ? write(f->fd, data, len) : write_no_sigpipe(f->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static void file_free(struct chr *c)
{
	struct chr_file *f = container_of(c, struct chr_file, base);

	close(f->fd);
	free(f);
}

static const struct chr_ops file_ops = { .write = file_write, .free = file_free };

int chr_file_new(struct chr **out, const char *path, struct err *err)
{
	struct chr_file *f = calloc(1, sizeof(*f));
	struct stat st;
	int e;

	if (!f)
		return err_set(err, ENOMEM, "out of memory for a character backend");
	/* O_NONBLOCK: a FIFO without a reader is an error, not a wait; a slow one loses bytes. */
	f->fd = open(path,
		     O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		     0666);
	if (f->fd < 0) {
		e = errno;
		free(f);
		errno = e;
		return err_set(err, e, "cannot write to %s: %m", path);
	}
	f->regular = fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode);
	f->base.ops = &file_ops;
	*out = &f->base;
	return 0;
}
