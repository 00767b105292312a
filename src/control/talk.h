/*
 * talk.h - the client's side: one connection to a running machine. Every wait has an end.
 */
#ifndef RINGER_CONTROL_TALK_H
#define RINGER_CONTROL_TALK_H

#include <cjson/cJSON.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/err.h"
#include "control/place.h"

enum { TALK_BUFFER = 64 * 1024 };

struct talk {
	char name[PLACE_NAME_MAX + 1];
	int fd; /* -1: none */
	pid_t pid; /* of the machine's process */
	char *buf; /* TALK_BUFFER bytes; at..len: not consumed */
	size_t at, len;
};

struct talk_reply {
	unsigned status;
	cJSON *json; /* NULL: no body; the caller's */
};

/*
 * -ENOENT: no machine has that name, or had it and is gone; -EAGAIN: it is only starting;
 * -ETIMEDOUT: it does not answer; others: the host failed. err is for people.
 */
int talk_open(struct talk *t, const struct place *p, const char *name, struct err *err) must_check;
void talk_close(struct talk *t);

/* body may be NULL. deadline_ns is in host_now_ns() time here and below. */
int talk_send(struct talk *t, const char *method, const char *path, const char *body,
	      uint64_t deadline_ns, struct err *err) must_check;
/* -EPROTO: no answer that makes sense. */
int talk_receive(struct talk *t, struct talk_reply *r, uint64_t deadline_ns, struct err *err) must_check;

/* After a request for events: the answer's head, then one event after the other. */
int talk_receive_stream(struct talk *t, uint64_t deadline_ns, struct err *err) must_check;
/* *event is the caller's. -EPIPE: there are no more. */
int talk_event(struct talk *t, cJSON **event, uint64_t deadline_ns, struct err *err) must_check;

/* Whether the machine's side is closed by then; what comes meanwhile is lost. */
bool talk_is_closed(struct talk *t, uint64_t deadline_ns);

#endif
