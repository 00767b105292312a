/* list.c - option values that are words with commas between them: -syscall,-iret or poll,flush=100. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"

#define MAX_NAMES 64

bool list_next(const char **list, char *word, size_t len)
{
	size_t n = strcspn(*list, ",");

	if (!**list)
		return false;
	snprintf(word, len, "%.*s", (int)min_u64(n, len - 1), *list);
	*list += n + ((*list)[n] == ',');
	return true;
}

/* What is wrong with a word that is in no list. */
static int unknown_word(const struct cli_option *opt, const char *word, struct err *err)
{
	const char *names[MAX_NAMES], *near;
	char all[320] = "", bare[64], sign[2] = "";
	unsigned n = 0;

	if (opt->signed_from && (*word == '+' || *word == '-'))
		sign[0] = *word;
	snprintf(bare, sizeof(bare), "%.63s", word + strlen(sign));
	bare[strcspn(bare, "=")] = '\0';
	for (; n < MAX_NAMES && (names[n] = cli_choice(opt, n, NULL)); n++) {
		size_t at = strlen(all);

		snprintf(all + at, sizeof(all) - at, "%s%s", n ? ", " : "", names[n]);
	}
	near = suggest(bare, names, n);
	if (near)
		return err_set(err, EINVAL, "--%s: unknown word '%s'; did you mean '%s%s'?",
			       opt->name, word, sign, near);
	return err_set(err, EINVAL, "--%s: unknown word '%s'; it is one of %s", opt->name, word,
		       all);
}

static int check_number(const struct cli_option *opt, const char *name, const char *number,
			struct err *err)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(number, &end, 10);
	if (isdigit((unsigned char)*number) && !*end && !errno && n >= 1 && n <= UINT32_MAX)
		return 0;
	return err_set(err, EINVAL, "--%s: '%s%s' needs a number from 1 to %u after it", opt->name,
		       name, number, UINT32_MAX);
}

static int check_word(const struct cli_option *opt, const char *word, struct err *err)
{
	bool sign = *word == '+' || *word == '-';
	const char *name, *bare = opt->signed_from && sign ? word + 1 : word;

	for (unsigned i = 0; (name = cli_choice(opt, i, NULL)); i++) {
		size_t len = strlen(name);
		bool number = len && name[len - 1] == '=';

		if (number && !strncmp(bare, name, len - 1) && (!bare[len - 1] || bare[len - 1] == '='))
			return check_number(opt, name, bare + len - (bare[len - 1] != '='), err);
		if (strcmp(bare, name))
			continue;
		if (opt->signed_from && i >= opt->signed_from && !sign)
			return err_set(err, EINVAL, "--%s: write '+%s' or '-%s'", opt->name, name,
				       name);
		if (i < opt->signed_from && sign)
			return err_set(err, EINVAL, "--%s: '%s' takes no sign", opt->name, name);
		return 0;
	}
	return unknown_word(opt, word, err);
}

int list_check(const struct cli_option *opt, const char *value, struct err *err)
{
	char word[64];
	int rc = 0;

	if (!*value)
		return err_set(err, EINVAL, "--%s: the list is empty", opt->name);
	while (!rc && list_next(&value, word, sizeof(word)))
		rc = check_word(opt, word, err);
	return rc;
}
