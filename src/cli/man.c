/* man.c - the manual page ringer(1), generated from the table, in the man macros of roff. */
#include "cli/cli.h"

#include <ctype.h>
#include <string.h>

#include "cli/version.h"

/*
 * Text as roff input: nothing in it is a request or an escape, dashes stay ASCII, and each sentence
 * has its line, by which roff knows where one ends.
 */
static void roff(FILE *out, const char *s)
{
	const char *start = s;

	for (; *s; s++) {
		if (s > start + 1 && *s == ' ' && s[-1] == '.' && isupper((unsigned char)s[1])) {
			fputc('\n', out);
			continue;
		}
		if (s == start && (*s == '.' || *s == '\''))
			fputs("\\&", out);
		if (*s == '\\')
			fputs("\\e", out);
		else if (*s == '-')
			fputs("\\-", out);
		else if (*s == '"')
			fputs("\\(dq", out);
		else if (*s == '~')
			fputs("\\(ti", out);
		else
			fputc(*s, out);
	}
}

static void roff_line(FILE *out, const char *s)
{
	roff(out, s);
	fputc('\n', out);
}

/* A heading in capitals. */
static void heading(FILE *out, const char *s)
{
	fputs(".SH ", out);
	for (; *s; s++)
		fputc(toupper((unsigned char)*s), out);
	fputc('\n', out);
}

static void man_choices(FILE *out, const struct cli_option *opt)
{
	const char *name, *text;

	for (unsigned i = 0; (name = cli_choice(opt, i, &text)); i++) {
		fputs(i                       ? ", \\fB"
		      : opt->kind == OPT_LIST ? "Any of \\fB"
					      : "One of \\fB",
		      out);
		roff(out, name);
		fputs("\\fR", out);
		if (text) {
			fputs(" (", out);
			roff(out, text);
			fputc(')', out);
		}
	}
	if (opt->kind == OPT_CHR)
		fputs("One of \\fBstdio\\fR, \\fBnull\\fR, \\fBfile:\\fIPATH\\fR", out);
	if (opt->choices || opt->list || opt->kind == OPT_CHR)
		fputs(".\n", out);
}

static void man_option(FILE *out, const struct cli_option *opt)
{
	fputs(".TP\n", out);
	if (opt->letter)
		fprintf(out, "\\fB\\-%c\\fR, ", opt->letter);
	fputs("\\fB\\-\\-", out);
	roff(out, opt->name);
	fputs("\\fR", out);
	if (opt->value)
		fprintf(out, " \\fI%s\\fR", opt->value);
	fputc('\n', out);
	roff_line(out, opt->help);
	man_choices(out, opt);
	if (opt->def) {
		fputs("Default: \\fB", out);
		roff(out, opt->def);
		fputs("\\fR.\n", out);
	}
	if (opt->required)
		fputs("Required.\n", out);
}

static void man_synopsis(FILE *out, const struct cli_command *cmd)
{
	fprintf(out, "\\fBringer %s\\fR", cmd->name);
	for (const struct cli_option *o = cmd->options; o->name; o++)
		if (o->required)
			fprintf(out, " \\fB\\-\\-%s\\fR \\fI%s\\fR", o->name, o->value);
	fputs(" [\\fIOPTION\\fR]...", out);
	if (cmd->args) {
		fputc(' ', out);
		roff(out, cmd->args);
	}
	fputc('\n', out);
}

static void man_command(FILE *out, const struct cli_command *cmd)
{
	fputs(".SS ", out);
	man_synopsis(out, cmd);
	roff_line(out, cmd->description);
	for (const struct cli_option *o = cmd->options; o->name; o++)
		man_option(out, o);
	man_option(out, &cli_help_option);
}

/* Whether an earlier command has the same. */
static bool had_sections(const struct cli_command *c)
{
	for (const struct cli_command *o = cli_commands; o < c; o++)
		if (o->sections == c->sections)
			return true;
	return false;
}

/* "Of ringer info, ringer pause:" */
static void man_owners(FILE *out, const struct cli_command *c)
{
	fputs("Of", out);
	for (const struct cli_command *o = c; o->name; o++)
		if (o->sections == c->sections)
			fprintf(out, "%s \\fBringer %s\\fR", o == c ? "" : ",", o->name);
	fputs(":\n", out);
}

static void man_sections(FILE *out)
{
	const char *term, *text;

	for (const struct cli_command *c = cli_commands; c->name; c++) {
		for (const struct cli_section *s = c->sections; s && s->title; s++) {
			if (had_sections(c))
				continue;
			heading(out, s->title);
			man_owners(out, c);
			for (unsigned i = 0; (term = s->list(i, &text)); i++) {
				fputs(".TP\n\\fB", out);
				roff(out, term);
				fputs("\\fR\n", out);
				roff_line(out, text);
			}
		}
	}
}

static void man_examples(FILE *out)
{
	bool first = true;

	heading(out, "Examples");
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		for (const char *const *e = c->examples; e && *e; e++) {
			fputs(first ? ".nf\n" : ".PP\n.nf\n", out);
			first = false;
			roff_line(out, *e);
			fputs(".fi\n", out);
		}
	}
}

void cli_print_man(FILE *out)
{
	fprintf(out, ".TH RINGER 1 \"\" \"Ringer %s\" \"User Commands\"\n", ringer_version);
	fputs(".SH NAME\nringer \\- run operating systems in an ordinary process\n", out);
	fputs(".SH SYNOPSIS\n", out);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		man_synopsis(out, c);
		fputs(c[1].name ? ".br\n" : "", out);
	}
	fputs(".SH DESCRIPTION\n", out);
	roff_line(out, cli_about);
	fputs(".PP\nAn option's value is the next word or follows a \\(oq=\\(cq.\n"
	      "An error is one line on standard error.\nUnless a command says otherwise, the exit "
	      "status is 0 for success, 1 when the host fails\nand 2 when the command line or an "
	      "image is wrong.\n",
	      out);
	fputs(".SH COMMANDS\n", out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		man_command(out, c);
	man_sections(out);
	man_examples(out);
}
