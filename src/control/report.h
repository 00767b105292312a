/* report.h - parts of what a machine says of itself that others print, too. */
#ifndef RINGER_CONTROL_REPORT_H
#define RINGER_CONTROL_REPORT_H

#include <cjson/cJSON.h>

#include "vm/vm.h"

/* As members of the object. */
void report_sched(cJSON *j, const struct vm_sched_stats *s);
void report_sched_counters(cJSON *j, const struct sched_counters *c);

#endif
