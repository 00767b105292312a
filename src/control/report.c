/* report.c - what a machine says of itself, as JSON. abi/ringer-api.yaml has the schemas. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "control/internal.h"
#include "control/report.h"

const char *report_state(enum vm_state state)
{
	static const char *const names[] = {"Created", "Running", "Paused", "Shutdown"};

	return names[state];
}

static double uptime(const struct control *c)
{
	return (double)((host_now_ns() - c->start_ns) / 1000000) / 1e3;
}

cJSON *report_ping(const struct control *c)
{
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "build_version", c->cfg.version);
	cJSON_AddStringToObject(j, "version", c->cfg.version);
	cJSON_AddNumberToObject(j, "pid", getpid());
	cJSON_AddItemToObject(j, "features", cJSON_CreateArray());
	return j;
}

static void add_config(cJSON *j, const struct control *c, const struct vm_info *info)
{
	cJSON *config = cJSON_AddObjectToObject(j, "config"), *part;

	part = cJSON_AddObjectToObject(config, "cpus");
	cJSON_AddNumberToObject(part, "boot_vcpus", info->boot_cpus);
	cJSON_AddNumberToObject(part, "max_vcpus", info->max_cpus);
	cJSON_AddStringToObject(part, "model", info->cpu_model);
	part = cJSON_AddObjectToObject(config, "memory");
	cJSON_AddNumberToObject(part, "size", (double)info->ram);
	part = cJSON_AddObjectToObject(config, "payload");
	cJSON_AddStringToObject(part, "kernel", c->cfg.kernel);
	if (c->cfg.initrd)
		cJSON_AddStringToObject(part, "initramfs", c->cfg.initrd);
	if (c->cfg.cmdline)
		cJSON_AddStringToObject(part, "cmdline", c->cfg.cmdline);
	cJSON_AddStringToObject(part, "protocol", info->boot_protocol);
	cJSON_AddStringToObject(config, "engine", info->engine);
}

cJSON *report_info(const struct control *c)
{
	cJSON *j = cJSON_CreateObject();
	struct vm_info info;

	vm_get_info(c->vm, &info);
	cJSON_AddStringToObject(j, "name", c->name);
	cJSON_AddNumberToObject(j, "pid", getpid());
	cJSON_AddStringToObject(j, "version", c->cfg.version);
	cJSON_AddStringToObject(j, "state", report_state(vm_state(c->vm)));
	cJSON_AddNumberToObject(j, "uptime", uptime(c));
	cJSON_AddNumberToObject(j, "vcpus", info.cpus);
	cJSON_AddNumberToObject(j, "memory_actual_size", (double)info.ram);
	add_config(j, c, &info);
	return j;
}

void report_sched_counters(cJSON *j, const struct sched_counters *c)
{
	cJSON_AddNumberToObject(j, "slices", (double)c->slices);
	cJSON_AddNumberToObject(j, "wait_ns", (double)c->wait_ns);
	cJSON_AddNumberToObject(j, "preemptions", (double)c->preemptions);
	cJSON_AddNumberToObject(j, "safe", (double)c->safe);
	cJSON_AddNumberToObject(j, "forced", (double)c->forced);
	cJSON_AddNumberToObject(j, "yields", (double)c->yields);
}

void report_sched(cJSON *j, const struct vm_sched_stats *s)
{
	cJSON_AddNumberToObject(j, "slots", s->slots);
	cJSON_AddNumberToObject(j, "cap_percent", s->cap_percent);
	cJSON_AddNumberToObject(j, "cap_exhaustions", (double)s->exhaustions);
	report_sched_counters(j, &s->total);
}

/* A group for all, and one for each vCPU: counters are one level deep. */
static void add_sched(cJSON *j, const struct vm_sched_stats *s)
{
	char name[32];

	report_sched(cJSON_AddObjectToObject(j, "scheduling"), s);
	for (unsigned i = 0; i < s->n_vcpus; i++) {
		snprintf(name, sizeof(name), "scheduling_vcpu%u", i);
		report_sched_counters(cJSON_AddObjectToObject(j, name), &s->vcpu[i]);
	}
}

cJSON *report_counters(const struct control *c)
{
	cJSON *j = cJSON_CreateObject(), *part;
	struct vm_stats s;

	vm_stats(c->vm, &s);
	part = cJSON_AddObjectToObject(j, "machine");
	cJSON_AddNumberToObject(part, "resets", s.resets);
	part = cJSON_AddObjectToObject(j, "vcpus");
	cJSON_AddNumberToObject(part, "instructions", (double)s.insns);
	cJSON_AddNumberToObject(part, "exceptions", (double)s.exceptions);
	cJSON_AddNumberToObject(part, "interrupts", (double)s.interrupts);
	cJSON_AddNumberToObject(part, "engine_cycles", (double)s.engine_cycles);
	cJSON_AddNumberToObject(part, "idle_cycles", (double)s.idle_cycles);
	cJSON_AddNumberToObject(part, "device_cycles", (double)s.device_cycles);
	cJSON_AddNumberToObject(part, "held_cycles", (double)s.held_cycles);
	if (s.sched.n_vcpus)
		add_sched(j, &s.sched);
	part = cJSON_AddObjectToObject(j, "engine");
	for (unsigned i = 0; i < s.n_engine; i++)
		cJSON_AddNumberToObject(part, s.engine[i].name, (double)s.engine[i].value);
	return j;
}

cJSON *report_event(const char *event)
{
	cJSON *j = cJSON_CreateObject();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	cJSON_AddNumberToObject(j, "time",
				(double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1e3);
	cJSON_AddStringToObject(j, "event", event);
	return j;
}
