/* tty.h - the user's terminal: raw mode that is always undone, and its size. */
#ifndef RINGER_HOST_TTY_H
#define RINGER_HOST_TTY_H

#include <signal.h>
#include <termios.h>

#include "base/base.h"
#include "base/err.h"

/* The mode to return to. Zero-initialized: nothing to restore. */
struct tty_saved {
	struct termios mode;
	int fd;
	volatile sig_atomic_t valid; /* read by signal handlers, set after the rest */
};

/*
 * Raw input: each key at once, no echo, no signals from keys. Output keeps its newline translation,
 * so that messages of the host stay legible. -ENOTTY when fd is no terminal; saved is then not
 * valid.
 */
int tty_raw(int fd, struct tty_saved *saved, struct err *err) must_check;
/* Back to the saved mode; at any time, any number of times, from signal handlers too. */
void tty_restore(struct tty_saved *saved);
/* -errno when fd is no terminal or does not know its size. */
int tty_size(int fd, unsigned *columns, unsigned *rows) must_check;
/*
 * Opens /dev/null for each of descriptors 0, 1, 2 that is closed, so that no file opened later
 * takes its place. The first thing a program does.
 */
int stdio_reserve(void) must_check;

#endif
