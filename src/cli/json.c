#include "cli/json.h"

int json_print(struct cli *cli, cJSON *j)
{
	char *text = j ? cJSON_Print(j) : NULL;

	cJSON_Delete(j);
	if (!text)
		return cli_fail(cli, CLI_HOST, "not enough memory for the result");
	fprintf(cli->out, "%s\n", text);
	cJSON_free(text);
	return CLI_OK;
}
