/* change.c - `ringer info | pause | resume | cpus NAME`: one request, one answer. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/machine.h"
#include "host/loop.h"

int machine_check(const struct cli_call *call, struct err *err)
{
	const char *name = call->cmd->name;

	if (call->n_args == 1)
		return 0;
	if (!call->n_args)
		return err_set(err, EINVAL, "%s: which machine? 'ringer ps' lists them", name);
	return err_set(err, EINVAL, "%s: unexpected '%.64s'; give one machine", name, call->args[1]);
}

static void info_row(FILE *out, const char *what, const char *text)
{
	if (*text)
		fprintf(out, "%-14s %s\n", what, text);
}

static void print_info(FILE *out, const cJSON *j)
{
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(j, "config");
	const cJSON *payload = cJSON_GetObjectItemCaseSensitive(config, "payload");
	const cJSON *cpus = cJSON_GetObjectItemCaseSensitive(config, "cpus");
	char text[48];

	info_row(out, "name", machine_text(j, "name"));
	fprintf(out, "%-14s %.0f\n", "process", machine_number(j, "pid"));
	info_row(out, "state", machine_state_word(text, machine_text(j, "state")));
	info_row(out, "uptime", machine_uptime(text, machine_number(j, "uptime")));
	fprintf(out, "%-14s %.0f of at most %.0f\n", "processors", machine_number(j, "vcpus"),
		machine_number(cpus, "max_vcpus"));
	info_row(out, "CPU model", machine_text(cpus, "model"));
	info_row(out, "memory", size_text(text, (uint64_t)machine_number(j, "memory_actual_size")));
	info_row(out, "engine", machine_text(config, "engine"));
	info_row(out, "kernel", machine_text(payload, "kernel"));
	info_row(out, "initrd", machine_text(payload, "initramfs"));
	info_row(out, "command line", machine_text(payload, "cmdline"));
	info_row(out, "boot protocol", machine_text(payload, "protocol"));
	info_row(out, "version", machine_text(j, "version"));
}

static void print_counters(FILE *out, const cJSON *counters)
{
	const cJSON *part, *n;

	cJSON_ArrayForEach(part, counters) {
		fprintf(out, "%s\n", part->string);
		cJSON_ArrayForEach(n, part)
			fprintf(out, "  %-28s %.0f\n", n->string, n->valuedouble);
	}
}

int cmd_info(struct cli *cli, const struct cli_call *call)
{
	cJSON *info = NULL, *counters = NULL;
	struct talk t;
	int status = machine_open(cli, call, &t);

	if (status)
		return status;
	status = machine_ask(cli, call, &t, "GET", "/api/v1/vm.info", NULL, MACHINE_ANSWER_TIME, &info);
	if (!status && call->o.machine.counters)
		status = machine_ask(cli, call, &t, "GET", "/api/v1/vm.counters", NULL,
				     MACHINE_ANSWER_TIME, &counters);
	if (!status && call->o.machine.json) {
		if (counters)
			cJSON_AddItemToObject(info, "counters", counters);
		counters = NULL;
		status = json_print(cli, info);
		info = NULL;
	} else if (!status) {
		print_info(cli->out, info);
		print_counters(cli->out, counters);
	}
	cJSON_Delete(info);
	cJSON_Delete(counters);
	talk_close(&t);
	return status;
}

static int say_state(struct cli *cli, const struct cli_call *call, const char *state)
{
	cJSON *j;

	if (!call->o.machine.json) {
		fprintf(cli->out, "%s is %s\n", call->args[0], state);
		return CLI_OK;
	}
	j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "name", call->args[0]);
	cJSON_AddStringToObject(j, "state", state);
	return json_print(cli, j);
}

static int change(struct cli *cli, const struct cli_call *call, const char *path, const char *state)
{
	struct talk t;
	int status = machine_open(cli, call, &t);

	if (status)
		return status;
	status = machine_ask(cli, call, &t, "PUT", path, NULL, MACHINE_CHANGE_TIME, NULL);
	talk_close(&t);
	return status ? status : say_state(cli, call, state);
}

int cmd_pause(struct cli *cli, const struct cli_call *call)
{
	return change(cli, call, "/api/v1/vm.pause", "paused");
}

int cmd_resume(struct cli *cli, const struct cli_call *call)
{
	return change(cli, call, "/api/v1/vm.resume", "running");
}

/* "+1", "-1" or "4": the sign, 0 for none, and the number. */
static int parse_cpus(const char *text, char *sign, unsigned *n)
{
	size_t digits;

	*sign = *text == '+' || *text == '-' ? *text++ : 0;
	digits = strspn(text, "0123456789");
	if (!digits || digits > 4 || text[digits])
		return -EINVAL;
	*n = (unsigned)atoi(text);
	return 0;
}

int cpus_check(const struct cli_call *call, struct err *err)
{
	char sign;
	unsigned n;

	if (call->n_args < 2)
		return machine_check(call, err);
	if (call->n_args > 2)
		return err_set(err, EINVAL, "cpus: unexpected '%.64s'; give a machine and a number",
			       call->args[2]);
	if (parse_cpus(call->args[1], &sign, &n))
		return err_set(err, EINVAL, "cpus: '%.64s' is no number of processors; write +1, -1 or 4",
			       call->args[1]);
	return 0;
}

static int say_cpus(struct cli *cli, const struct cli_call *call, double cpus, double max)
{
	cJSON *j;

	if (!call->o.machine.json) {
		fprintf(cli->out, "%s has %.0f processor%s of at most %.0f\n", call->args[0], cpus,
			cpus == 1 ? "" : "s", max);
		return CLI_OK;
	}
	j = cJSON_CreateObject();
	cJSON_AddStringToObject(j, "name", call->args[0]);
	cJSON_AddNumberToObject(j, "cpus", cpus);
	cJSON_AddNumberToObject(j, "max", max);
	return json_print(cli, j);
}

/* The number wanted, from what there is; 0 and a message when it cannot be. */
static unsigned wanted_cpus(struct cli *cli, const struct cli_call *call, double now, double max)
{
	unsigned n;
	char sign;
	double want;

	if (parse_cpus(call->args[1], &sign, &n) < 0)
		return 0;
	want = sign == '+' ? now + n : sign == '-' ? now - n : n;
	if (want >= 1 && want <= max)
		return (unsigned)want;
	cli_fail(cli, CLI_USAGE, "cpus: %s has %.0f of at most %.0f processor%s: %.0f cannot be",
		 call->args[0], now, max, max == 1 ? "" : "s", want);
	return 0;
}

/* The processors that the machine has, and may have. */
static int ask_cpus(struct cli *cli, const struct cli_call *call, struct talk *t, double *now, double *max)
{
	cJSON *info, *config;
	int status = machine_ask(cli, call, t, "GET", "/api/v1/vm.info", NULL, MACHINE_ANSWER_TIME, &info);

	if (status)
		return status;
	config = cJSON_GetObjectItemCaseSensitive(info, "config");
	*now = machine_number(info, "vcpus");
	*max = machine_number(cJSON_GetObjectItemCaseSensitive(config, "cpus"), "max_vcpus");
	cJSON_Delete(info);
	return CLI_OK;
}

/* Until there are as many as wanted: a guest lets go of processors in its own time, or never. */
static int wait_cpus(struct cli *cli, const struct cli_call *call, struct talk *t, unsigned want, double *now)
{
	const struct timespec moment = {.tv_nsec = 20000000};
	uint64_t deadline = host_now_ns() + MACHINE_SECONDS(call->o.machine.timeout);
	double max;
	int status;

	while (!(status = ask_cpus(cli, call, t, now, &max)) && *now != want) {
		if (host_now_ns() > deadline)
			return cli_fail(cli, CLI_NO_ANSWER,
					"cpus: %s still has %.0f processor%s: its guest has not done it in %llu s",
					call->args[0], *now, *now == 1 ? "" : "s",
					(unsigned long long)call->o.machine.timeout);
		nanosleep(&moment, NULL);
	}
	return status;
}

static int resize(struct cli *cli, const struct cli_call *call, struct talk *t, double *now, double max)
{
	unsigned want = wanted_cpus(cli, call, *now, max);
	char body[48];
	int status;

	if (!want)
		return CLI_USAGE;
	snprintf(body, sizeof(body), "{\"desired_vcpus\":%u}", want);
	status = machine_ask(cli, call, t, "PUT", "/api/v1/vm.resize", body, MACHINE_ANSWER_TIME, NULL);
	return status ? status : wait_cpus(cli, call, t, want, now);
}

int cmd_cpus(struct cli *cli, const struct cli_call *call)
{
	double now = 0, max = 0;
	struct talk t;
	int status = machine_open(cli, call, &t);

	if (status)
		return status;
	status = ask_cpus(cli, call, &t, &now, &max);
	if (!status && call->n_args > 1)
		status = resize(cli, call, &t, &now, max);
	talk_close(&t);
	return status ? status : say_cpus(cli, call, now, max);
}
