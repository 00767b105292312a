/* sched_policies.c - the list of them. */
#include <string.h>

#include "vm/sched_core.h"

const struct sched_policy *const sched_policies[] = {&sched_fair, &sched_cosched, &sched_lhp, &sched_hint, NULL};

const struct sched_policy *sched_find(const char *name)
{
	for (unsigned i = 0; sched_policies[i]; i++)
		if (!strcmp(sched_policies[i]->name, name))
			return sched_policies[i];
	return NULL;
}
