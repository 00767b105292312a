/* engine_options.h - the options that tell an engine what to do, for every command that has them. */
#ifndef RINGER_CLI_ENGINE_OPTIONS_H
#define RINGER_CLI_ENGINE_OPTIONS_H

#include "cli/cli.h"
#include "vm/vm.h"

/* The words of --assist and --stress, for the option table. */
cli_list_fn assist_words, stress_words;
/* The position from which the words of --assist have a sign. */
#define ASSIST_WORDS_SIGNED 2

/* The values, which the table has checked, as a configuration. */
void engine_options_fill(const struct engine_options *o, struct engine_config *c);
/*
 * The engine that --engine names; -EINVAL when it cannot work here, or when an option was given that means nothing to
 * it.
 */
int engine_options_check(const struct cli_call *call, const char *name,
			 const struct engine_ops **engine, struct err *err) must_check;

#endif
