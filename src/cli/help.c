/* help.c - `ringer help [COMMAND]`, generated from the table. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

#include "base/suggest.h"

const char cli_about[] =
	"Ringer runs unmodified x86-64 operating systems in an ordinary Linux process: it needs no "
	"privilege, no kernel module and no hardware virtualization.";

void cli_option_term(char *buf, size_t len, const struct cli_option *opt)
{
	char letter[8] = "";

	if (opt->letter)
		snprintf(letter, sizeof(letter), "-%c, ", opt->letter);
	snprintf(buf, len, "%s--%s%s%s", letter, opt->name, opt->value ? " " : "",
		 opt->value ? opt->value : "");
}

static void print_option(FILE *out, const struct cli_option *opt)
{
	char term[64], text[1200], all[384] = "";
	const char *name;
	size_t at = 0;

	cli_option_term(term, sizeof(term), opt);
	if (opt->kind == OPT_CHR)
		snprintf(all, sizeof(all), " One of stdio, null, file:PATH");
	for (unsigned i = 0; (name = cli_choice(opt, i, NULL)) && at < sizeof(all) - 64; i++)
		at += (size_t)snprintf(all + at, sizeof(all) - at, "%s %.48s",
				       i                       ? ","
				       : opt->kind == OPT_LIST ? " Any of"
							       : " One of",
				       name);
	snprintf(text, sizeof(text), "%s%s%s%s%s%s", opt->help, all, all[0] && !opt->def ? "." : "",
		 opt->def ? (all[0] ? "; default " : " Default ") : "", opt->def ? opt->def : "",
		 opt->def        ? "."
		 : opt->required ? " Required."
				 : "");
	text_row(out, 24, term, text);
}

static void print_usage(FILE *out, const struct cli_command *cmd)
{
	fprintf(out, "Usage: ringer %s", cmd->name);
	for (const struct cli_option *o = cmd->options; o->name; o++)
		if (o->required)
			fprintf(out, " --%s %s", o->name, o->value);
	fprintf(out, " [OPTION]...%s%s\n\n", cmd->args ? " " : "", cmd->args ? cmd->args : "");
}

static void print_command(FILE *out, const struct cli_command *cmd)
{
	print_usage(out, cmd);
	text_wrap(out, 0, 0, cmd->description);
	fprintf(out, "\nOptions:\n");
	for (const struct cli_option *o = cmd->options; o->name; o++)
		print_option(out, o);
	print_option(out, &cli_help_option);
	for (const struct cli_section *s = cmd->sections; s && s->title; s++) {
		const char *term, *text;

		fprintf(out, "\n%s:\n", s->title);
		for (unsigned i = 0; (term = s->list(i, &text)); i++)
			text_row(out, 16, term, text);
	}
	if (cmd->examples)
		fprintf(out, "\nExamples:\n");
	for (const char *const *e = cmd->examples; e && *e; e++)
		fprintf(out, "  %s\n", *e);
}

void cli_print_help(FILE *out, const struct cli_command *cmd)
{
	if (cmd) {
		print_command(out, cmd);
		return;
	}
	fprintf(out, "Usage: ringer COMMAND [OPTION]...\n\n");
	text_wrap(out, 0, 0, cli_about);
	fprintf(out, "\nCommands:\n");
	for (const struct cli_command *c = cli_commands; c->name; c++)
		text_row(out, 12, c->name, c->summary);
	fprintf(out, "\n'ringer help COMMAND' tells all about one of them.\n");
}

int help_check(const struct cli_call *call, struct err *err)
{
	const char *names[64], *near;
	size_t n = 0;

	if (!call->n_args)
		return 0;
	if (call->given)
		return err_set(err, EINVAL,
			       "help: '%.64s' contradicts --man and --completion; leave "
			       "one out",
			       call->args[0]);
	if (call->n_args > 1)
		return err_set(err, EINVAL, "help: unexpected '%.64s'; give one command",
			       call->args[1]);
	if (cli_find_command(call->args[0]))
		return 0;
	for (; cli_commands[n].name && n < ARRAY_SIZE(names); n++)
		names[n] = cli_commands[n].name;
	near = suggest(call->args[0], names, n);
	if (near)
		return err_set(err, EINVAL, "help: unknown command '%.64s'; did you mean '%s'?",
			       call->args[0], near);
	return err_set(err, EINVAL, "help: unknown command '%.64s'; see 'ringer help'",
		       call->args[0]);
}

int cmd_help(struct cli *cli, const struct cli_call *call)
{
	const struct help_options *o = &call->o.help;

	if (o->man)
		cli_print_man(cli->out);
	else if (o->completion && cli_print_completion(cli->out, o->completion))
		return cli_fail(cli, CLI_USAGE, "help: no completion for '%s'", o->completion);
	else if (!o->completion)
		cli_print_help(cli->out, call->n_args ? cli_find_command(call->args[0]) : NULL);
	return CLI_OK;
}
