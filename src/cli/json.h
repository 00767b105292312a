/* json.h - JSON output, for `--json`. cJSON's functions take NULL objects and do nothing then. */
#ifndef RINGER_CLI_JSON_H
#define RINGER_CLI_JSON_H

#include <cjson/cJSON.h>

#include "cli/cli.h"

/*
 * Prints the value and a newline and frees it; j may be NULL. Returns CLI_OK or CLI_HOST with a
 * message.
 */
int json_print(struct cli *cli, cJSON *j);

#endif
