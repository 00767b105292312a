/* completion.c - completion scripts for bash, zsh and fish, generated from the table. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

/* Inside single quotes of a shell: ' becomes '\''; extra is also escaped, by a backslash. */
static void quoted(FILE *out, const char *s, const char *extra)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else if (strchr(extra, *s))
			fprintf(out, "\\%c", *s);
		else
			fputc(*s, out);
	}
}

/* The first sentence is enough for a menu. */
static void menu_text(FILE *out, const char *s, const char *extra)
{
	char buf[256];
	const char *end = strstr(s, ". ");
	size_t len = end ? (size_t)(end - s) : strlen(s);

	if (!end && len && s[len - 1] == '.')
		len--;
	snprintf(buf, sizeof(buf), "%.*s", (int)min_u64(len, sizeof(buf) - 1), s);
	quoted(out, buf, extra);
}

static void words(FILE *out, const struct cli_option *opt)
{
	const char *name;

	for (unsigned i = 0; (name = cli_choice(opt, i, NULL)); i++)
		if (opt->signed_from && i >= opt->signed_from)
			fprintf(out, " -%s +%s", name, name);
		else
			fprintf(out, "%s%s", i ? " " : "", name);
	if (opt->kind == OPT_CHR)
		fputs("stdio null file:", out);
}

static bool has_words(const struct cli_option *opt)
{
	return opt->choices || opt->list || opt->kind == OPT_CHR;
}

/* ---- bash ---- */

static void bash_values(FILE *out, const struct cli_command *cmd, const struct cli_option *opt)
{
	if (opt->kind == OPT_FLAG)
		return;
	fprintf(out, "\t%s:--%s", cmd->name, opt->name);
	if (opt->letter)
		fprintf(out, "|%s:-%c", cmd->name, opt->letter);
	fputs(") ", out);
	if (opt->kind == OPT_FILE)
		fputs("_ringer_files \"$cur\"", out);
	else if (has_words(opt)) {
		fputs(opt->kind == OPT_LIST ? "_ringer_list '" : "_ringer_words '", out);
		words(out, opt);
		fputs("' \"$cur\"", out);
	} else {
		fputs(":", out);
	}
	fputs("; return ;;\n", out);
}

static void bash_command(FILE *out, const struct cli_command *cmd)
{
	const char *name, *text;

	fprintf(out, "\t%s) words='", cmd->name);
	for (const struct cli_option *o = cmd->options; o->name; o++)
		fprintf(out, "--%s ", o->name);
	fprintf(out, "--%s", cli_help_option.name);
	for (unsigned i = 0; cmd->arg_list && (name = cmd->arg_list(i, &text)); i++)
		fprintf(out, " %s", name);
	fputc('\'', out);
	if (cmd->arg_files)
		fputs("\n\t\t[[ $cur != -* ]] && { _ringer_files \"$cur\"; return; }", out);
	if (cmd->arg_machines)
		fputs("\n\t\t[[ $cur != -* ]] && { _ringer_words \"$(ringer ps --quiet 2>/dev/null)\" "
		      "\"$cur\"; return; }",
		      out);
	fputs(" ;;\n", out);
}

static void print_bash(FILE *out)
{
	fputs("# bash completion for ringer\n"
	      "_ringer_words()\n{\n\tmapfile -t COMPREPLY < <(compgen -W \"$1\" -- "
	      "\"$2\")\n}\n\n_ringer_list()\n{\n\tlocal head=''\n\n\t[[ $2 == *,* ]] && "
	      "head=${2%,*},\n\tmapfile -t COMPREPLY < <(compgen -P \"$head\" -W \"$1\" -- "
	      "\"${2##*,}\")\n}\n\n_ringer_files()\n{\n\tcompopt -o filenames 2>/dev/null\n\tmapfile -t "
	      "COMPREPLY < <(compgen -f -- \"$1\")\n}\n\n_ringer()\n{\n\tlocal "
	      "cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n\tlocal "
	      "cmd=${COMP_WORDS[1]}\n\n\tCOMPREPLY=()\n\tif ((COMP_CWORD == 1)); "
	      "then\n\t\t_ringer_words '",
	      out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		fprintf(out, "%s ", c->name);
	fputs("--help --version' \"$cur\"\n\t\treturn\n\tfi\n"
	      "\t# '=' and ':' are words of their own here.\n\tif [[ $cur == : ]] || { [[ $prev == "
	      ": ]] && [[ $cur != -* ]]; }; then\n\t\t_ringer_files "
	      "\"${cur#:}\"\n\t\treturn\n\tfi\n\tif [[ $cur == = ]]; then\n\t\tcur=''\n\telif [[ "
	      "$prev == = ]]; then\n\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n\tfi\n\tcase $cmd:$prev "
	      "in\n",
	      out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		for (const struct cli_option *o = c->options; o->name; o++)
			bash_values(out, c, o);
	fputs("\tesac\n\tcase $cmd in\n", out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		bash_command(out, c);
	fputs("\tesac\n\t_ringer_words \"$words\" \"$cur\"\n}\n\n"
	      "complete -F _ringer ringer\n",
	      out);
}

/* ---- zsh ---- */

static void zsh_option(FILE *out, const struct cli_option *opt)
{
	char names[64];

	if (opt->letter && opt->kind != OPT_FLAG)
		snprintf(names, sizeof(names), "(-%c --%s)'{-%c+,--%s=}'", opt->letter, opt->name,
			 opt->letter, opt->name);
	else if (opt->letter)
		snprintf(names, sizeof(names), "(-%c --%s)'{-%c,--%s}'", opt->letter, opt->name,
			 opt->letter, opt->name);
	else
		snprintf(names, sizeof(names), "--%s%s", opt->name,
			 opt->kind == OPT_FLAG ? "" : "=");
	fprintf(out, "\t\t\t'%s[", names);
	menu_text(out, opt->help, "[]:\\");
	fputc(']', out);
	if (opt->kind != OPT_FLAG)
		fprintf(out, ":%s:", opt->value);
	if (opt->kind == OPT_FILE) {
		fputs("_files", out);
	} else if (has_words(opt)) {
		fputc('(', out);
		if (opt->kind == OPT_CHR)
			fputs("stdio null file\\:", out);
		else
			words(out, opt);
		fputc(')', out);
	}
	fputs("' \\\n", out);
}

static void zsh_command(FILE *out, const struct cli_command *cmd)
{
	const char *name, *text;

	fprintf(out, "\t%s)\n\t\t_arguments -s \\\n", cmd->name);
	for (const struct cli_option *o = cmd->options; o->name; o++)
		zsh_option(out, o);
	zsh_option(out, &cli_help_option);
	fputs("\t\t\t'*:argument:", out);
	if (cmd->arg_list)
		fputc('(', out);
	for (unsigned i = 0; cmd->arg_list && (name = cmd->arg_list(i, &text)); i++)
		fprintf(out, "%s%s", i ? " " : "", name);
	fputs(cmd->arg_list       ? ")'\n"
	      : cmd->arg_files    ? "_files'\n"
	      : cmd->arg_machines ? "_ringer_machines'\n"
				  : "'\n",
	      out);
	fputs("\t\t;;\n", out);
}

static void print_zsh(FILE *out)
{
	fputs("#compdef ringer\n\n_ringer_machines()\n{\n"
	      "\tcompadd -- ${(f)\"$(ringer ps --quiet 2>/dev/null)\"}\n}\n\n_ringer()\n{\n"
	      "\tlocal -a commands\n"
	      "\tcommands=(\n",
	      out);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		fprintf(out, "\t\t'%s:", c->name);
		quoted(out, c->summary, ":\\");
		fputs("'\n", out);
	}
	fputs("\t)\n"
	      "\tif ((CURRENT == 2)); then\n\t\t_describe command "
	      "commands\n\t\treturn\n\tfi\n\tlocal command=$words[2]\n\twords=(\"ringer $command\" "
	      "\"${(@)words[3,-1]}\")\n\t((CURRENT--))\n\tcase $command in\n",
	      out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		zsh_command(out, c);
	fputs("\tesac\n}\n\nif [ \"$funcstack[1]\" = _ringer ]; then\n\t_ringer \"$@\"\nelse\n"
	      "\tcompdef _ringer ringer\nfi\n",
	      out);
}

/* ---- fish ---- */

static void fish_option(FILE *out, const struct cli_command *cmd, const struct cli_option *opt)
{
	fprintf(out, "complete -c ringer -n '__fish_seen_subcommand_from %s' -l %s", cmd->name,
		opt->name);
	if (opt->letter)
		fprintf(out, " -s %c", opt->letter);
	if (opt->kind == OPT_FILE)
		fputs(" -r -F", out);
	else if (opt->kind != OPT_FLAG)
		fputs(" -x", out);
	if (has_words(opt)) {
		fputs(" -a '", out);
		words(out, opt);
		fputc('\'', out);
	}
	fputs(" -d '", out);
	menu_text(out, opt->help, "\\");
	fputs("'\n", out);
}

static void print_fish(FILE *out)
{
	const char *name, *text;

	fputs("# fish completion for ringer\ncomplete -c ringer -f\n", out);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		fprintf(out, "complete -c ringer -n __fish_use_subcommand -a %s -d '", c->name);
		quoted(out, c->summary, "\\");
		fputs("'\n", out);
	}
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		for (const struct cli_option *o = c->options; o->name; o++)
			fish_option(out, c, o);
		fish_option(out, c, &cli_help_option);
		if (c->arg_files)
			fprintf(out, "complete -c ringer -n '__fish_seen_subcommand_from %s' -F\n",
				c->name);
		if (c->arg_machines)
			fprintf(out,
				"complete -c ringer -n '__fish_seen_subcommand_from %s' -a '(ringer ps "
				"--quiet 2>/dev/null)'\n",
				c->name);
		for (unsigned i = 0; c->arg_list && (name = c->arg_list(i, &text)); i++)
			fprintf(out,
				"complete -c ringer -n '__fish_seen_subcommand_from %s' -a %s\n",
				c->name, name);
	}
}

int cli_print_completion(FILE *out, const char *shell)
{
	if (!strcmp(shell, "bash"))
		print_bash(out);
	else if (!strcmp(shell, "zsh"))
		print_zsh(out);
	else if (!strcmp(shell, "fish"))
		print_fish(out);
	else
		return -EINVAL;
	return 0;
}
