/* version.c - `ringer version`. RINGER_VERSION comes from the build. */
#include "cli/version.h"

#include "cli/cli.h"
#include "cli/json.h"
#include "vm/vm.h"

const char ringer_version[] = RINGER_VERSION;

static int version_json(struct cli *cli)
{
	cJSON *j = cJSON_CreateObject(), *engines;

	cJSON_AddStringToObject(j, "name", "ringer");
	cJSON_AddStringToObject(j, "version", ringer_version);
	engines = cJSON_AddArrayToObject(j, "engines");
	for (unsigned i = 0; vm_engines[i]; i++)
		cJSON_AddItemToArray(engines, cJSON_CreateString(vm_engines[i]->name));
	return json_print(cli, j);
}

int cmd_version(struct cli *cli, const struct cli_call *call)
{
	if (call->o.version.json)
		return version_json(cli);
	fprintf(cli->out, "ringer %s\nengines:", ringer_version);
	for (unsigned i = 0; vm_engines[i]; i++)
		fprintf(cli->out, " %s", vm_engines[i]->name);
	fputc('\n', cli->out);
	return CLI_OK;
}
