/* relay.h - a character backend whose output goes out through another one; no input. */
#ifndef RINGER_CLI_RELAY_H
#define RINGER_CLI_RELAY_H

#include "host/chr.h"

/* to is not owned; it must outlive the last write, not the relay. */
int relay_new(struct chr **out, struct chr *to, struct err *err) must_check;

#endif
