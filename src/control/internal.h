/* internal.h - what the server's files share. */
#ifndef RINGER_CONTROL_INTERNAL_H
#define RINGER_CONTROL_INTERNAL_H

#include <cjson/cJSON.h>

#include "control/control.h"
#include "control/place.h"
#include "control/session.h"

enum {
	CONTROL_CLIENTS_MAX = 32,
	CONTROL_LISTENERS_MAX = 16, /* of vm.events, so that some are left for others */
};

enum client_phase {
	PHASE_IDLE,    /* between requests */
	PHASE_REQUEST, /* a request has begun to come */
	PHASE_MACHINE, /* it waits for the machine */
	PHASE_ANSWER,  /* an answer has yet to be taken */
	PHASE_LISTENS,
	PHASE_LINGERS, /* refused */
};

struct client {
	struct client *next; /* newest first */
	struct control *control;
	int fd;
	struct loop_watch watch;
	struct loop_timer timer;
	unsigned taken;   /* requests when the timer was set */
	uint64_t idle_ns; /* since when it has nothing to say; 0: it has */
	enum client_phase phase;
	struct session session;
};

struct control {
	struct control_config cfg;
	char name[PLACE_NAME_MAX + 1];
	struct place place;
	struct place_lock lock; /* of the name */
	struct loop *loop;      /* ours; its lock guards all below */
	struct vm *vm;
	uint64_t start_ns;      /* host_now_ns() */
	bool want_paused;       /* what was asked for last */
	bool paused;            /* what was told last */
	bool ended;
	int listen_fd;
	struct loop_watch listen_watch;
	struct loop_timer retry; /* accept() had no descriptor left */
	struct client *clients;
	unsigned n_clients;
};

/* client.c. Takes over the descriptor of one who may connect. */
void client_add(struct control *c, int fd);
/* After anything happened to its session: sends, ends it, or sets what it waits for. cl may be gone. */
void client_update(struct client *cl);
void client_free(struct client *cl);
/* The loop has stopped: sends the last answers, to all clients together for no longer than a moment. */
void client_farewell(struct control *c);
/* How many listen to events. */
unsigned control_listeners(const struct control *c);

/* report.c: answers as JSON; NULL without memory. */
cJSON *report_ping(const struct control *c);
cJSON *report_info(const struct control *c);
cJSON *report_counters(const struct control *c);
/* One event with its time, to which more may be added. */
cJSON *report_event(const char *event);
const char *report_state(enum vm_state state);

#endif
