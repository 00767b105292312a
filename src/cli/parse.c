/*
 * parse.c - the command line, by the table.
 *
 * Long options take their value as `--opt value` or `--opt=value`, short ones as `-m value` or
 * `-mvalue`.
 * `--` ends the options. An option given twice is refused: which one was meant cannot be known. A
 * word that is the name of an option is never taken for the value of the one before it;
 * `--opt=--name` says so where it is meant.
 */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

#include "base/suggest.h"

#define MAX_NAMES 64

/* " (did you mean 'X'?)" or, when nothing is near, where to look. */
static const char *hint(char *buf, size_t len, const char *word, const char *prefix,
			const char *const *names, size_t n, const char *otherwise)
{
	const char *near = suggest(word, names, n);

	if (near)
		snprintf(buf, len, "; did you mean '%s%s'?", prefix, near);
	else
		snprintf(buf, len, "; %s", otherwise);
	return buf;
}

static int unknown_command(const char *word, struct err *err)
{
	const char *names[MAX_NAMES];
	char buf[128];
	size_t n = 0;

	for (; cli_commands[n].name && n < MAX_NAMES; n++)
		names[n] = cli_commands[n].name;
	return err_set(err, EINVAL, "unknown command '%.64s'%s", word,
		       hint(buf, sizeof(buf), word, "", names, n, "see 'ringer help'"));
}

static int unknown_option(const struct cli_command *cmd, const char *word, struct err *err)
{
	const char *names[MAX_NAMES + 1], *bare = word + strspn(word, "-");
	char buf[128], see[64], name[64];
	size_t n = 0;

	for (; cmd->options[n].name && n < MAX_NAMES; n++)
		names[n] = cmd->options[n].name;
	names[n++] = cli_help_option.name;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(bare, "="), bare);
	snprintf(see, sizeof(see), "see 'ringer help %s'", cmd->name);
	return err_set(err, EINVAL, "%s: unknown option '%.*s'%s", cmd->name,
		       (int)min_u64(64, strcspn(word, "=")), word,
		       hint(buf, sizeof(buf), name, "--", names, n, see));
}

/* word is the part of value that was looked up. */
static int bad_choice(const struct cli_option *opt, const char *value, size_t len, struct err *err)
{
	const char *names[MAX_NAMES];
	char buf[256], all[224] = "it is one of", word[64];
	size_t n = 0;

	for (; n < MAX_NAMES && (names[n] = cli_choice(opt, (unsigned)n, NULL)); n++) {
		size_t at = strlen(all);

		snprintf(all + at, sizeof(all) - at, "%s %s", n ? "," : "", names[n]);
	}
	snprintf(word, sizeof(word), "%.*s", (int)min_u64(len, sizeof(word) - 1), value);
	return err_set(err, EINVAL, "--%s: unknown value '%s'%s", opt->name, word,
		       hint(buf, sizeof(buf), word, "", names, n, all));
}

static int set_choice(const struct cli_option *opt, void *field, const char *value, struct err *err)
{
	size_t len = strcspn(value, opt->more ? "," : opt->file ? "=" : "");
	const char *name;

	for (unsigned i = 0; (name = cli_choice(opt, i, NULL)); i++) {
		if (strlen(name) != len || memcmp(name, value, len))
			continue;
		if (opt->file && value[len] && !value[len + 1])
			return err_set(err, EINVAL, "--%s: '%.64s' needs a file name after it",
				       opt->name, value);
		if (opt->kind == OPT_NAME)
			*(const char **)field = opt->more || opt->file ? value : name;
		else
			*(unsigned *)field = i;
		return 0;
	}
	return bad_choice(opt, value, len, err);
}

static int set_size(const struct cli_option *opt, uint64_t *field, const char *value,
		    struct err *err)
{
	char min[32], max[32];
	uint64_t n;
	int rc = size_parse(value, &n);

	if (rc == -EINVAL)
		return err_set(err, EINVAL, "--%s: '%.64s' is no size; write it like 512M or 4G",
			       opt->name, value);
	size_text(min, opt->min);
	size_text(max, opt->max);
	if (rc || n > opt->max)
		return err_set(err, EINVAL, "--%s: %.64s is too large; at most %s", opt->name,
			       value, max);
	if (n < opt->min && value[strspn(value, "0123456789")] == '\0' && n)
		return err_set(err, EINVAL,
			       "--%s: %.64s is a number of bytes, and at least %s is "
			       "needed; did you mean %.64sM?",
			       opt->name, value, min, value);
	if (n < opt->min)
		return err_set(err, EINVAL, "--%s: %.64s is too small; at least %s", opt->name,
			       value, min);
	if (opt->step && n % opt->step)
		return err_set(err, EINVAL, "--%s: %.64s is no multiple of %s", opt->name, value,
			       size_text(min, opt->step));
	*field = n;
	return 0;
}

static int set_number(const struct cli_option *opt, uint64_t *field, const char *value,
		      struct err *err)
{
	uint64_t n = 0;

	if (!*value || value[strspn(value, "0123456789")])
		return err_set(err, EINVAL, "--%s: '%.64s' is no number", opt->name, value);
	for (const char *p = value; *p; p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			n = UINT64_MAX;
	if (n < opt->min || n > opt->max)
		return err_set(err, EINVAL, "--%s: %.64s is out of range; between %llu and %llu are possible",
			       opt->name, value, (unsigned long long)opt->min,
			       (unsigned long long)opt->max);
	*field = n;
	return 0;
}

static int set_chr(const struct cli_option *opt, struct chr_spec *field, const char *value,
		   struct err *err)
{
	static const char *const names[] = {"stdio", "null", "file:PATH"};
	char buf[128];

	field->path = NULL;
	if (!strcmp(value, "stdio")) {
		field->kind = CHR_SPEC_STDIO;
	} else if (!strcmp(value, "null")) {
		field->kind = CHR_SPEC_NULL;
	} else if (!strncmp(value, "file:", 5)) {
		if (!value[5])
			return err_set(err, EINVAL, "--%s: 'file:' needs a path after it",
				       opt->name);
		field->kind = CHR_SPEC_FILE;
		field->path = value + 5;
	} else {
		return err_set(err, EINVAL, "--%s: unknown value '%.64s'%s", opt->name, value,
			       hint(buf, sizeof(buf), value, "", names, ARRAY_SIZE(names),
				    "it is one of stdio, null, file:PATH"));
	}
	return 0;
}

static int set_option(const struct cli_option *opt, struct cli_options *o, const char *value,
		      struct err *err)
{
	void *field = (char *)o + opt->offset;

	switch (opt->kind) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_FILE:
		if (!*value)
			return err_set(err, EINVAL, "--%s: the file name is empty", opt->name);
		*(const char **)field = value;
		return 0;
	case OPT_TEXT:
		*(const char **)field = value;
		return 0;
	case OPT_SIZE:
		return set_size(opt, field, value, err);
	case OPT_NUMBER:
		return set_number(opt, field, value, err);
	case OPT_CHOICE:
	case OPT_NAME:
		return set_choice(opt, field, value, err);
	case OPT_CPUS:
		*(const char **)field = value;
		return cpulist_parse(value, NULL, 0, NULL, err);
	case OPT_LIST:
		*(const char **)field = value;
		return list_check(opt, value, err);
	case OPT_CHR:
		return set_chr(opt, field, value, err);
	}
	return err_set(err, EINVAL, "--%s: cannot be set", opt->name);
}

/* Where parsing is. */
struct cursor {
	int argc, at;
	char *const *argv;
};

static bool names_option(const struct cli_command *cmd, const char *word)
{
	return !strncmp(word, "--", 2) &&
	       cli_find_option(cmd, word + 2, strcspn(word + 2, "=")) >= 0;
}

/* The value of option i, attached ("=value") or the next word. */
static int option_value(const struct cli_call *call, const struct cli_option *opt,
			const char *attached, struct cursor *c, const char **value, struct err *err)
{
	*value = attached;
	if (opt->kind == OPT_FLAG)
		return attached ? err_set(err, EINVAL, "%s: --%s takes no value", call->cmd->name,
					  opt->name)
				: 0;
	if (attached)
		return 0;
	if (c->at == c->argc)
		return err_set(err, EINVAL, "%s: --%s needs a value: --%s %s", call->cmd->name,
			       opt->name, opt->name, opt->value);
	if (names_option(call->cmd, c->argv[c->at]))
		return err_set(err, EINVAL,
			       "%s: --%s needs a value before '%.64s'; if that is the "
			       "value, write '--%s=%.64s'",
			       call->cmd->name, opt->name, c->argv[c->at], opt->name,
			       c->argv[c->at]);
	*value = c->argv[c->at++];
	return 0;
}

static int parse_option(struct cli_call *call, int i, const char *attached, struct cursor *c,
			struct err *err)
{
	const struct cli_option *opt = &call->cmd->options[i];
	const char *value;
	int rc;

	if (call->given >> i & 1)
		return err_set(err, EINVAL, "%s: --%s is given twice; give it once",
			       call->cmd->name, opt->name);
	call->given |= BIT(i);
	rc = option_value(call, opt, attached, c, &value, err);
	if (rc)
		return rc;
	rc = set_option(opt, &call->o, value, err);
	if (rc)
		err_prefix(err, "%s", call->cmd->name);
	return rc;
}

/* A word that begins with a dash. */
static int parse_dashed(struct cli_call *call, const char *word, struct cursor *c, struct err *err)
{
	const struct cli_command *cmd = call->cmd;
	const char *eq = strchr(word, '=');
	int i;

	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		call->help = true;
		return 0;
	}
	if (word[1] == '-') {
		i = cli_find_option(cmd, word + 2, strcspn(word + 2, "="));
		return i >= 0 ? parse_option(call, i, eq ? eq + 1 : NULL, c, err)
			      : unknown_option(cmd, word, err);
	}
	for (i = 0; cmd->options[i].name; i++)
		if (cmd->options[i].letter == word[1])
			return parse_option(call, i, word[2] ? word + 2 + (word[2] == '=') : NULL,
					    c, err);
	return unknown_option(cmd, word, err);
}

static int parse_arg(struct cli_call *call, const char *word, struct err *err)
{
	const struct cli_command *cmd = call->cmd;

	if (cmd->args) {
		if (call->n_args == CLI_MAX_ARGS)
			return err_set(err, EINVAL, "%s: too many arguments", cmd->name);
		call->args[call->n_args++] = word;
		return 0;
	}
	for (int i = 0; cmd->options[i].name; i++)
		if (cmd->options[i].required && !(call->given >> i & 1))
			return err_set(err, EINVAL,
				       "%s: unexpected '%.64s'; did you mean '--%s %.64s'?",
				       cmd->name, word, cmd->options[i].name, word);
	return err_set(err, EINVAL, "%s: unexpected '%.64s'; see 'ringer help %s'", cmd->name, word,
		       cmd->name);
}

/* The first option of the space-separated names that was given, or NULL. */
static const char *given_of(const struct cli_call *call, const char *names)
{
	while (*names) {
		size_t len = strcspn(names, " ");
		int i = cli_find_option(call->cmd, names, len);

		if (i >= 0 && call->given >> i & 1)
			return call->cmd->options[i].name;
		names += len;
		names += strspn(names, " ");
	}
	return NULL;
}

/* "trace perf" as "--trace or --perf". */
static const char *alternatives(char *buf, size_t len, const char *names)
{
	size_t at = 0;

	while (*names && at < len) {
		size_t n = strcspn(names, " ");

		at += (size_t)snprintf(buf + at, len - at, "%s--%.*s", at ? " or " : "", (int)n, names);
		names += n;
		names += strspn(names, " ");
	}
	return buf;
}

static int check_rows(const struct cli_call *call, struct err *err)
{
	const struct cli_command *cmd = call->cmd;

	for (int i = 0; cmd->options[i].name; i++) {
		const struct cli_option *opt = &cmd->options[i];
		bool given = call->given >> i & 1;
		const char *other;
		char buf[128];

		if (opt->required && !given)
			return err_set(err, EINVAL, "%s: --%s %s is missing; see 'ringer help %s'",
				       cmd->name, opt->name, opt->value, cmd->name);
		if (!given)
			continue;
		other = opt->conflicts ? given_of(call, opt->conflicts) : NULL;
		if (other)
			return err_set(err, EINVAL,
				       "%s: --%s and --%s contradict each other; leave "
				       "one out",
				       cmd->name, opt->name, other);
		if (opt->needs && !given_of(call, opt->needs))
			return err_set(err, EINVAL, "%s: --%s only goes with %s", cmd->name,
				       opt->name, alternatives(buf, sizeof(buf), opt->needs));
	}
	return 0;
}

static int set_defaults(struct cli_call *call, struct err *err)
{
	for (const struct cli_option *opt = call->cmd->options; opt->name; opt++) {
		int rc = opt->def ? set_option(opt, &call->o, opt->def, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}

/* A number among the arguments of a command that takes some. */
static bool is_negative(const struct cli_command *cmd, const char *word)
{
	return cmd->args && word[1] >= '0' && word[1] <= '9';
}

/* `ringer --help` and `ringer --version` are what people try first. */
static const struct cli_command *find_first_word(const char *word)
{
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return cli_find_command("help");
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		return cli_find_command("version");
	return cli_find_command(word);
}

int cli_parse(struct cli_call *call, int argc, char *const *argv, struct err *err)
{
	struct cursor c = {.argc = argc, .at = 1, .argv = argv};
	bool options = true;
	int rc;

	memset(call, 0, sizeof(*call));
	if (argc < 1)
		return err_set(err, EINVAL, "no command given; see 'ringer help'");
	call->cmd = find_first_word(argv[0]);
	if (!call->cmd)
		return unknown_command(argv[0], err);
	rc = set_defaults(call, err);
	while (!rc && c.at < argc) {
		const char *word = argv[c.at++];

		if (options && !strcmp(word, "--"))
			options = false;
		else if (options && word[0] == '-' && word[1] && !is_negative(call->cmd, word))
			rc = parse_dashed(call, word, &c, err);
		else
			rc = parse_arg(call, word, err);
	}
	if (!rc && !call->help)
		rc = check_rows(call, err);
	if (!rc && !call->help && call->cmd->check)
		rc = call->cmd->check(call, err);
	return rc;
}
