/* machine.h - what the commands that speak to running machines share. */
#ifndef RINGER_CLI_MACHINE_H
#define RINGER_CLI_MACHINE_H

#include "cli/cli.h"
#include "cli/json.h"
#include "control/talk.h"

#define MACHINE_SECONDS(n) ((uint64_t)(n) * 1000000000u)
#define MACHINE_ANSWER_TIME MACHINE_SECONDS(5)
/* A server gives a machine ten seconds to pause or resume. */
#define MACHINE_CHANGE_TIME MACHINE_SECONDS(15)

/* The exit status for a failure of talk.h. */
int machine_status(int rc);
/* Connects to the machine that the command names. CLI_OK, or a status with its message printed. */
int machine_open(struct cli *cli, const struct cli_call *call, struct talk *t) must_check;
/* A request and its answer, which must be a success; *json (may be NULL) is the caller's. */
int machine_ask(struct cli *cli, const struct cli_call *call, struct talk *t, const char *method,
		const char *path, const char *body, uint64_t time_ns, cJSON **json) must_check;

/* "running" for "Running". */
const char *machine_state_word(char buf[32], const char *state);
/* The member's text or number, "" or 0 when there is none such. */
const char *machine_text(const cJSON *j, const char *name);
double machine_number(const cJSON *j, const char *name);
/* "3:07:12", "2d 1:00:00" */
const char *machine_uptime(char buf[48], double seconds);

#endif
