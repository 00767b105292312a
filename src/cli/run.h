/* run.h - parts of `ringer run` that tests look at. */
#ifndef RINGER_CLI_RUN_H
#define RINGER_CLI_RUN_H

#include "cli/cli.h"
#include "vm/vm.h"

/* The exit status for a way to end. */
int run_status(const struct vm_result *r);
/*
 * The exit status for a failed vm_new() or backend: CLI_USAGE for what the user gave, else
 * CLI_HOST.
 */
int run_setup_status(int rc);
/* "poweroff", "triple-fault", ... */
const char *run_end_name(enum vm_end end);

#endif
