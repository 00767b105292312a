/* cli.c - from a command line to an exit status. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

static int dispatch(struct cli *cli, const struct cli_call *call)
{
	/* `ringer --help` is `ringer help`; `ringer help --help` explains help itself. */
	if (call->help) {
		cli_print_help(cli->out, call->cmd);
		return CLI_OK;
	}
	return call->cmd->run(cli, call);
}

int cli_main(struct cli *cli, int argc, char *const *argv)
{
	struct cli_call call;
	struct err err = {""};
	int status;

	if (cli_parse(&call, argc - 1, argv + 1, &err))
		return cli_fail(cli, CLI_USAGE, "%s", err.text);
	status = dispatch(cli, &call);
	/* What a full disk swallowed must not look like success. */
	if ((fflush(cli->out) || ferror(cli->out)) && status == CLI_OK)
		status = cli_fail(cli, CLI_HOST, "cannot write standard output: %s",
				  strerror(errno));
	return status;
}
