#include "cli/cli.h"

int main(int argc, char **argv)
{
	struct cli cli = {.out = stdout, .err = stderr};

	return cli_main(&cli, argc, argv);
}
