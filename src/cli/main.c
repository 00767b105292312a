#include "cli/cli.h"
#include "host/tty.h"

int main(int argc, char **argv)
{
	struct cli cli = {.out = stdout, .err = stderr};

	/* No descriptor that is opened later may become standard output. */
	if (stdio_reserve() < 0)
		return CLI_HOST;
	return cli_main(&cli, argc, argv);
}
