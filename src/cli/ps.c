/*
 * ps.c - `ringer ps`: the machines that run. All are asked before any answer is waited for, so that
 * several that hang cost no more time than one.
 */
#include <errno.h>
#include <stdlib.h>

#include "cli/machine.h"
#include "host/loop.h"

#define PS_ANSWER_TIME MACHINE_SECONDS(2)

struct ps_row {
	struct talk talk;
	const char *name, *problem; /* NULL: info is there */
	cJSON *info;
};

static void ask(struct ps_row *row, const struct place *p, uint64_t deadline)
{
	struct err err;
	int rc = talk_open(&row->talk, p, row->name, &err);

	if (!rc)
		rc = talk_send(&row->talk, "GET", "/api/v1/vm.info", NULL, deadline, &err);
	if (rc)
		row->problem = rc == -EAGAIN ? "starting" : rc == -ETIMEDOUT ? "no answer" : "ended";
}

static void hear(struct ps_row *row, uint64_t deadline)
{
	struct talk_reply r = {0};
	struct err err;
	int rc = talk_receive(&row->talk, &r, deadline, &err);

	row->info = r.json;
	if (rc || r.status != 200)
		row->problem = rc == -ETIMEDOUT || !rc ? "no answer" : "ended";
}

static void print_row(FILE *out, const struct ps_row *row)
{
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(row->info, "config");
	char pid[16] = "-", state[32], memory[32], uptime[48];

	if (row->talk.pid)
		snprintf(pid, sizeof(pid), "%d", (int)row->talk.pid);
	if (row->problem) {
		fprintf(out, "%-20s %-8s %-10s %5s %8s %-8s %s\n", row->name, pid, row->problem, "-",
			"-", "-", "-");
		return;
	}
	fprintf(out, "%-20s %-8s %-10s %5.0f %8s %-8s %s\n", row->name, pid,
		machine_state_word(state, machine_text(row->info, "state")),
		machine_number(row->info, "vcpus"),
		size_text(memory, (uint64_t)machine_number(row->info, "memory_actual_size")),
		machine_text(config, "engine"),
		machine_uptime(uptime, machine_number(row->info, "uptime")));
}

static void add_number(cJSON *j, const char *name, const struct ps_row *row, const char *member)
{
	if (row->problem)
		cJSON_AddNullToObject(j, name);
	else
		cJSON_AddNumberToObject(j, name, machine_number(row->info, member));
}

static cJSON *row_json(const struct ps_row *row)
{
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(row->info, "config");
	cJSON *j = cJSON_CreateObject();
	char state[32];

	cJSON_AddStringToObject(j, "name", row->name);
	if (row->talk.pid)
		cJSON_AddNumberToObject(j, "pid", row->talk.pid);
	else
		cJSON_AddNullToObject(j, "pid");
	cJSON_AddStringToObject(j, "state", row->problem ? row->problem
			: machine_state_word(state, machine_text(row->info, "state")));
	add_number(j, "cpus", row, "vcpus");
	add_number(j, "memory", row, "memory_actual_size");
	if (row->problem)
		cJSON_AddNullToObject(j, "engine");
	else
		cJSON_AddStringToObject(j, "engine", machine_text(config, "engine"));
	add_number(j, "uptime", row, "uptime");
	return j;
}

static int print_rows(struct cli *cli, const struct ps_row *rows, size_t n, bool json)
{
	cJSON *j = json ? cJSON_CreateArray() : NULL;

	if (!json)
		fprintf(cli->out, "%-20s %-8s %-10s %5s %8s %-8s %s\n", "NAME", "PID", "STATE", "CPUS",
			"MEMORY", "ENGINE", "UPTIME");
	for (size_t i = 0; i < n; i++) {
		if (json)
			cJSON_AddItemToArray(j, row_json(&rows[i]));
		else
			print_row(cli->out, &rows[i]);
	}
	return json ? json_print(cli, j) : CLI_OK;
}

static int show(struct cli *cli, const struct place *p, const struct place_names *names, bool json)
{
	struct ps_row *rows = calloc(names->n + 1, sizeof(*rows));
	uint64_t deadline = host_now_ns() + PS_ANSWER_TIME;
	int status;

	if (!rows)
		return cli_fail(cli, CLI_HOST, "ps: not enough memory");
	for (size_t i = 0; i < names->n; i++) {
		rows[i].name = names->name[i];
		ask(&rows[i], p, deadline);
	}
	for (size_t i = 0; i < names->n; i++)
		if (!rows[i].problem)
			hear(&rows[i], deadline);
	status = print_rows(cli, rows, names->n, json);
	for (size_t i = 0; i < names->n; i++) {
		talk_close(&rows[i].talk);
		cJSON_Delete(rows[i].info);
	}
	free(rows);
	return status;
}

static int print_names(FILE *out, const struct place_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		fprintf(out, "%s\n", names->name[i]);
	return CLI_OK;
}

int cmd_ps(struct cli *cli, const struct cli_call *call)
{
	struct place_names *names = malloc(sizeof(*names));
	struct err err = {""};
	struct place p;
	int status, rc = names ? place_find(&p, &err) : err_set(&err, ENOMEM, "not enough memory");

	if (!rc)
		rc = place_list(&p, names, &err);
	if (rc)
		status = cli_fail(cli, CLI_HOST, "ps: %s", err.text);
	else if (call->o.machine.quiet)
		status = print_names(cli->out, names);
	else
		status = show(cli, &p, names, call->o.machine.json);
	free(names);
	return status;
}
