/* assists.c - `ringer assists`: what the translator does by itself, and what happens when it is told not to. */
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cpu/engine.h"

static int print_json(struct cli *cli)
{
	cJSON *array = cJSON_CreateArray();

	for (unsigned i = 0; i < ASSIST_COUNT; i++) {
		const struct engine_assist_info *a = &engine_assists[i];
		cJSON *j = cJSON_CreateObject();

		cJSON_AddStringToObject(j, "name", a->name);
		cJSON_AddStringToObject(j, "handles", a->what);
		cJSON_AddStringToObject(j, "without", a->replaces);
		cJSON_AddItemToArray(array, j);
	}
	return json_print(cli, array);
}

int cmd_assists(struct cli *cli, const struct cli_call *call)
{
	char text[256];

	if (call->o.assists.json)
		return print_json(cli);
	fprintf(cli->out, "VM assists, all on unless --assist says otherwise:\n\n");
	for (unsigned i = 0; i < ASSIST_COUNT; i++) {
		const struct engine_assist_info *a = &engine_assists[i];

		snprintf(text, sizeof(text), "%s; without it: %s", a->what, a->replaces);
		text_row(cli->out, 14, a->name, text);
	}
	fprintf(cli->out, "\n--assist -NAME switches one off, --assist none all, --assist "
			  "none,+NAME leaves one on.\n");
	return CLI_OK;
}
