#include "host/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

int tty_raw(int fd, struct tty_saved *saved, struct err *err)
{
	struct termios raw;

	saved->valid = 0;
	saved->fd = fd;
	if (tcgetattr(fd, &saved->mode) < 0)
		return err_set(err, errno, "descriptor %d is not a terminal: %m", fd);
	raw = saved->mode;
	cfmakeraw(&raw);
	raw.c_oflag |= saved->mode.c_oflag & OPOST;
	/* Before the change: a signal in between restores a mode that has not changed yet. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	saved->valid = 1;
	if (tcsetattr(fd, TCSANOW, &raw) < 0) {
		saved->valid = 0;
		return err_set(err, errno, "cannot switch the terminal to raw mode: %m");
	}
	return 0;
}

void tty_restore(struct tty_saved *saved)
{
	int e = errno;

	/* TCSANOW: the others wait for output, which a stopped terminal never takes. */
	if (saved->valid)
		tcsetattr(saved->fd, TCSANOW, &saved->mode);
	saved->valid = 0;
	errno = e;
}

int tty_size(int fd, unsigned *columns, unsigned *rows)
{
	struct winsize ws;

	if (ioctl(fd, TIOCGWINSZ, &ws) < 0)
		return -errno;
	if (!ws.ws_col || !ws.ws_row)
		return -ENODATA;
	*columns = ws.ws_col;
	*rows = ws.ws_row;
	return 0;
}

int stdio_reserve(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* The lowest free number is fd: those below it are open. */
		if (open("/dev/null", O_RDWR) != fd)
			return errno ? -errno : -EBADF;
	}
	return 0;
}
