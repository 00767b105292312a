/* internal.h - what server.c, api.c and report.c share. */
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

struct client;

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

/* server.c: how many listen to events. */
unsigned control_listeners(const struct control *c);

/* report.c: answers as JSON; NULL without memory. */
cJSON *report_ping(const struct control *c);
cJSON *report_info(const struct control *c);
cJSON *report_counters(const struct control *c);
/* One event with its time, to which more may be added. */
cJSON *report_event(const char *event);
const char *report_state(enum vm_state state);

#endif
