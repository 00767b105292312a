/*
 * err.h - an error for people: one line that says what, where and what to do.
 *
 * A function that can fail for a reason its caller's user must understand takes a `struct err *`
 * and returns 0 or -errno. It fills the error once, where the reason is known; callers pass it up
 * and may prefix it. A NULL `struct err *` is allowed everywhere and discards the text.
 */
#ifndef RINGER_BASE_ERR_H
#define RINGER_BASE_ERR_H

#include "base/base.h"

struct err {
	char text[512]; /* no newline, no trailing dot; "" when nothing failed */
};

/* Sets the text and returns -code, so that `return err_set(e, EINVAL, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts "prefix: " before the text. */
void err_prefix(struct err *e, const char *fmt, ...) printf_like(2, 3);

#endif
