/*
 * typist.h - a character backend in front of another one: types text to the guest as if it were
 * keyed in. All functions with the loop's lock held, like every chr.
 */
#ifndef RINGER_CLI_TYPIST_H
#define RINGER_CLI_TYPIST_H

#include "host/chr.h"

/* Consumes inner, also on failure. */
int typist_new(struct chr **out, struct chr *inner, struct loop *loop, struct err *err) must_check;
/* What does not fit into the buffer is dropped. */
void typist_type(struct chr *c, const char *text);

#endif
