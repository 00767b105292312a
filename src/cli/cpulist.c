/* cpulist.c - lists of processors as Linux writes them: "0,2-3". */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>

static bool number(const char **p, unsigned *n)
{
	char *end;
	unsigned long v;

	if (**p < '0' || **p > '9')
		return false;
	v = strtoul(*p, &end, 10);
	*p = end;
	*n = v < CLI_HOST_CPUS ? (unsigned)v : CLI_HOST_CPUS;
	return true;
}

int cpulist_parse(const char *text, uint16_t *out, unsigned room, unsigned *n, struct err *err)
{
	const char *p = text;
	unsigned count = 0, first, last;

	do {
		if (!number(&p, &first))
			goto bad;
		last = first;
		if (*p == '-' && (p++, !number(&p, &last)))
			goto bad;
		if (last < first || last >= CLI_HOST_CPUS)
			goto bad;
		for (; first <= last; first++, count++)
			if (out && count < room)
				out[count] = (uint16_t)first;
	} while (*p == ',' && p++);
	if (*p)
		goto bad;
	if (n)
		*n = count < room ? count : room;
	return 0;
bad:
	return err_set(err, EINVAL, "'%.64s' is no list of processors; write it like 0,2-3", text);
}
