/*
 * stop.c - `ringer stop NAME`: the power button, or with --force the end at once.
 *
 * It listens to the machine's events before it asks, so that it hears the end however soon that
 * comes. A machine that does not even answer is ended by signals: SIGTERM, by which Ringer ends a
 * machine in order, and after a while SIGKILL.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "cli/machine.h"
#include "host/loop.h"

#define KILL_TIME MACHINE_SECONDS(3)

/* What the machine said at its end. */
struct farewell {
	char end[32], reason[256];
};

static int say_farewell(struct cli *cli, const struct cli_call *call, const struct farewell *f)
{
	cJSON *j;

	if (!call->o.machine.json) {
		fprintf(cli->out, "%s has ended: %s\n", call->args[0], f->reason);
		return CLI_OK;
	}
	j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "name", call->args[0]);
	cJSON_AddStringToObject(j, "end", f->end);
	cJSON_AddStringToObject(j, "reason", f->reason);
	return json_print(cli, j);
}

/* Reads events up to the one that is asked for. 0, -errno. */
static int wait_event(struct talk *events, const char *name, uint64_t deadline, cJSON **out,
		      struct err *err)
{
	for (;;) {
		int rc = talk_event(events, out, deadline, err);

		if (rc || !strcmp(machine_text(*out, "event"), name))
			return rc;
		cJSON_Delete(*out);
	}
}

/* Subscribed when this returns 0; the machine's state then. */
static int listen_to(struct talk *events, uint64_t deadline, char state[32], struct err *err)
{
	cJSON *first;
	int rc = talk_send(events, "GET", "/api/v1/vm.events", NULL, deadline, err);

	if (!rc)
		rc = talk_receive_stream(events, deadline, err);
	if (!rc)
		rc = wait_event(events, "state", deadline, &first, err);
	if (rc)
		return rc;
	machine_state_word(state, machine_text(first, "state"));
	cJSON_Delete(first);
	return 0;
}

/* 0 with the farewell; a machine that ended without one has ended, too. */
static int wait_end(struct talk *events, uint64_t deadline, struct farewell *f, struct err *err)
{
	cJSON *event;
	int rc = wait_event(events, "ended", deadline, &event, err);

	if (rc == -EPIPE) {
		*f = (struct farewell){"killed", "it was killed"};
		return 0;
	}
	if (rc)
		return rc;
	snprintf(f->end, sizeof(f->end), "%s", machine_text(event, "end"));
	snprintf(f->reason, sizeof(f->reason), "%s", machine_text(event, "reason"));
	cJSON_Delete(event);
	return 0;
}

/* The socket is open to it still, so the number is its process's, and no other's. */
static int end_by_signal(struct cli *cli, const struct cli_call *call, struct talk *t)
{
	struct farewell f = {"killed", "it did not answer, and was killed"};

	if (t->pid <= 1)
		return cli_fail(cli, CLI_HOST, "stop: %s does not answer, and its process is not known",
				t->name);
	if (kill(t->pid, SIGTERM) < 0 || !talk_is_closed(t, host_now_ns() + KILL_TIME)) {
		if (kill(t->pid, SIGKILL) < 0 && errno != ESRCH)
			return cli_fail(cli, CLI_HOST, "stop: cannot end process %d: %s", (int)t->pid,
					strerror(errno));
		if (!talk_is_closed(t, host_now_ns() + KILL_TIME))
			return cli_fail(cli, CLI_NO_ANSWER, "stop: process %d does not end", (int)t->pid);
	}
	return say_farewell(cli, call, &f);
}

static int ended_late(struct cli *cli, const struct cli_call *call, const struct err *err)
{
	return cli_fail(cli, CLI_NO_ANSWER,
			"stop: %s has not powered off in %llu s; its guest may not heed the power button: "
			"--timeout waits longer, --force ends it", call->args[0],
			(unsigned long long)call->o.machine.timeout);
}

static int stop(struct cli *cli, const struct cli_call *call, struct talk *events, struct talk *t)
{
	bool force = call->o.machine.force;
	const char *path = force ? "/api/v1/vm.shutdown" : "/api/v1/vm.power-button";
	uint64_t time = MACHINE_SECONDS(call->o.machine.timeout);
	struct err err = {""};
	struct farewell f;
	char state[32];
	int status, rc = listen_to(events, host_now_ns() + MACHINE_ANSWER_TIME, state, &err);

	if (rc == -ETIMEDOUT && force)
		return end_by_signal(cli, call, events);
	if (rc)
		return cli_fail(cli, machine_status(rc), "stop: %s%s", err.text,
				rc == -ETIMEDOUT ? "; --force ends it" : "");
	if (!force && !strcmp(state, "paused"))
		return cli_fail(cli, CLI_HOST, "stop: %s is paused and cannot heed its power button; "
				"resume it first, or use --force", call->args[0]);
	status = machine_ask(cli, call, t, "PUT", path, NULL, MACHINE_ANSWER_TIME, NULL);
	if (status)
		return status;
	rc = wait_end(events, host_now_ns() + time, &f, &err);
	if (!rc)
		return say_farewell(cli, call, &f);
	if (rc == -ETIMEDOUT && force)
		return end_by_signal(cli, call, events);
	return rc == -ETIMEDOUT ? ended_late(cli, call, &err)
				: cli_fail(cli, machine_status(rc), "stop: %s", err.text);
}

int cmd_stop(struct cli *cli, const struct cli_call *call)
{
	struct talk events, t;
	int status = machine_open(cli, call, &events);

	if (status)
		return status;
	status = machine_open(cli, call, &t);
	if (!status) {
		status = stop(cli, call, &events, &t);
		talk_close(&t);
	}
	talk_close(&events);
	return status;
}
