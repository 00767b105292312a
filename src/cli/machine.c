#include "cli/machine.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "host/loop.h"

int machine_status(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -EINVAL:
		return CLI_USAGE;
	case -ETIMEDOUT:
		return CLI_NO_ANSWER;
	default:
		return CLI_HOST;
	}
}

int machine_open(struct cli *cli, const struct cli_call *call, struct talk *t)
{
	struct err err = {""};
	struct place p;
	int rc = place_find(&p, &err);

	if (!rc)
		rc = talk_open(t, &p, call->args[0], &err);
	if (rc)
		return cli_fail(cli, machine_status(rc), "%s: %s", call->cmd->name, err.text);
	return CLI_OK;
}

int machine_ask(struct cli *cli, const struct cli_call *call, struct talk *t, const char *method,
		const char *path, const char *body, uint64_t time_ns, cJSON **json)
{
	uint64_t deadline = host_now_ns() + time_ns;
	struct talk_reply r = {0};
	struct err err = {""};
	int status = CLI_OK, rc = talk_send(t, method, path, body, deadline, &err);

	if (json)
		*json = NULL;
	if (!rc)
		rc = talk_receive(t, &r, deadline, &err);
	if (rc) {
		status = cli_fail(cli, machine_status(rc), "%s: %s", call->cmd->name, err.text);
	} else if (r.status >= 300) {
		status = cli_fail(cli, CLI_HOST, "%s: %s: %s", call->cmd->name, t->name,
				  machine_text(r.json, "error"));
	} else if (json) {
		*json = r.json;
		r.json = NULL;
	}
	cJSON_Delete(r.json);
	return status;
}

const char *machine_state_word(char buf[32], const char *state)
{
	snprintf(buf, 32, "%.31s", state);
	for (char *p = buf; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return buf;
}

const char *machine_text(const cJSON *j, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, name));

	return text ? text : "";
}

double machine_number(const cJSON *j, const char *name)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(j, name);

	return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

const char *machine_uptime(char buf[48], double seconds)
{
	unsigned long long s = seconds > 0 && seconds < 1e15 ? (unsigned long long)seconds : 0;
	char days[24] = "";

	if (s >= 86400)
		snprintf(days, sizeof(days), "%llud ", s / 86400);
	snprintf(buf, 48, "%s%llu:%02llu:%02llu", days, s / 3600 % 24, s / 60 % 60, s % 60);
	return buf;
}
