/* doctor_engine.c - what the engine contract sets. Apart, since <sys/auxv.h> and x86.h both have a PF_W. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cpu/engine.h"

void doctor_code_cache(struct finding *f)
{
	char def[32], min[32], max[32];

	snprintf(f->value, sizeof(f->value),
		 "%s for each virtual processor unless --bt-cache says otherwise, %s to %s",
		 size_text(def, ENGINE_CACHE_DEFAULT), size_text(min, ENGINE_CACHE_MIN),
		 size_text(max, ENGINE_CACHE_MAX));
}

void doctor_assists(struct finding *f)
{
	snprintf(f->value, sizeof(f->value), "%d, all on unless --assist says otherwise; see ringer assists",
		 ASSIST_COUNT);
}
