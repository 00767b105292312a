/*
 * The command line: any words, split at zero bytes, are parsed, refused or accepted; an accepted
 * one's help is generated. Nothing is run.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cli_call call;
	struct err err = {""};
	char *text = malloc(size + 1), *argv[64], *p = text;
	int argc = 0, rc;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	while (p <= text + size && argc < 64) {
		argv[argc++] = p;
		p += strlen(p) + 1;
	}
	rc = cli_parse(&call, argc, argv, &err);
	/* A refusal says why; an acceptance gives a command and sane values. */
	if (rc ? !err.text[0] : !call.cmd)
		abort();
	if (!rc && !call.help && !strcmp(call.cmd->name, "run") &&
	    (!call.o.run.kernel || call.o.run.memory < MIB(2) || call.o.run.memory % KIB(4)))
		abort();
	free(text);
	return 0;
}
