/* size.c - sizes for people: binary multiples, checked. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const char units[] = "KMGT";

int size_parse(const char *text, uint64_t *bytes)
{
	const char *unit;
	uint64_t n = 0;
	unsigned shift;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	if (*text) {
		unit = strchr(units, toupper((unsigned char)*text));
		if (!unit)
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
		if (n << shift >> shift != n)
			return -ERANGE;
		n <<= shift;
		text++;
		if (!strcmp(text, "iB") || !strcmp(text, "B"))
			text = "";
	}
	if (*text)
		return -EINVAL;
	*bytes = n;
	return 0;
}

const char *size_text(char buf[32], uint64_t bytes)
{
	int unit = -1;

	while (bytes && bytes % 1024 == 0 && unit < 3) {
		bytes /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(buf, 32, "%llu bytes", (unsigned long long)bytes);
	else
		snprintf(buf, 32, "%llu%c", (unsigned long long)bytes, units[unit]);
	return buf;
}
