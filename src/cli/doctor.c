/*
 * doctor.c - `ringer doctor`: the host's findings, the CPU models and engines that follow from
 * them, and what `ringer run` would therefore choose.
 */
#include "cli/doctor.h"

#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "vm/vm.h"
#include "x86/cpuid.h"

#define COLUMN 26

static const char *const state_names[] = {"ok", "note", "PROBLEM"};

struct verdict {
	unsigned problems;
	const struct engine_ops *engine; /* what "auto" chooses; NULL: none */
	bool model;                      /* the default CPU model can be built */
};

/* What each part is printed by: text, or JSON when `array` is there. */
struct doctor {
	FILE *out;
	cJSON *array;
	struct verdict v;
};

static void row(struct doctor *d, enum finding_state state, const char *name, const char *key,
		const char *value, const char *why)
{
	char term[32];

	if (d->out) {
		snprintf(term, sizeof(term), "%s%.20s", state == FINDING_OK ? "  " : "! ", name);
		text_row(d->out, COLUMN, term, value);
		if (*why)
			text_wrap(d->out, COLUMN, 0, why);
	} else {
		cJSON *j = cJSON_CreateObject();

		cJSON_AddStringToObject(j, "name", key);
		cJSON_AddStringToObject(j, "state", state_names[state]);
		cJSON_AddStringToObject(j, "value", value);
		cJSON_AddStringToObject(j, "why", why);
		cJSON_AddItemToArray(d->array, j);
	}
	d->v.problems += state == FINDING_PROBLEM;
}

static void section(struct doctor *d, cJSON *json, const char *title, const char *key)
{
	if (d->out)
		fprintf(d->out, "%s%s\n", !strcmp(key, "host") ? "" : "\n", title);
	else
		d->array = cJSON_AddArrayToObject(json, key);
}

static void host_rows(struct doctor *d)
{
	for (const struct doctor_check *c = doctor_checks; c->name; c++) {
		struct finding f = {FINDING_OK, "", ""};

		c->look(&f);
		row(d, f.state, c->name, c->key, f.value, f.why);
	}
}

static void model_rows(struct doctor *d)
{
	const char *name, *text;

	for (unsigned i = 0; (name = cpu_model_name(i, &text)); i++) {
		struct cpu_model m;
		struct err err = {""};
		bool yes = cpu_model_init(&m, name, &err) == 0;
		bool standard = !strcmp(name, "default");

		if (standard)
			d->v.model = yes;
		row(d,
		    yes        ? FINDING_OK
		    : standard ? FINDING_PROBLEM
			       : FINDING_NOTE,
		    name, name, yes ? text ? text : "available" : "not on this host",
		    yes ? "" : err.text);
	}
}

/* Feature names, as text and as JSON. */
struct words {
	char text[2048];
	cJSON *array;
};

static void add_word(struct words *w, const char *word)
{
	size_t at = strlen(w->text);

	snprintf(w->text + at, sizeof(w->text) - at, "%s%s", at ? " " : "", word);
	if (w->array)
		cJSON_AddItemToArray(w->array, cJSON_CreateString(word));
}

static void collect_features(unsigned level, const struct host_cpu *h, struct words *offered,
			     struct words *lacking)
{
	const struct cpuid_feature *c;

	for (unsigned i = 0; (c = cpuid_feature_at(i)); i++) {
		bool lacks = c->kind == FEATURE_NATIVE && !host_has(h, c->feature);

		if (c->level == level)
			add_word(lacks ? lacking : offered, c->name);
	}
}

/*
 * What a model of that level has more than the level below, and what of it this host cannot give.
 */
static void feature_row(struct doctor *d, const char *name, unsigned level,
			const struct host_cpu *h)
{
	struct words offered = {"", NULL}, lacking = {"", NULL};
	char why[2100] = "";
	cJSON *j;

	if (d->array) {
		j = cJSON_CreateObject();
		cJSON_AddStringToObject(j, "name", name);
		offered.array = cJSON_AddArrayToObject(j, "offered");
		lacking.array = cJSON_AddArrayToObject(j, "lacking");
		cJSON_AddItemToArray(d->array, j);
		collect_features(level, h, &offered, &lacking);
		return;
	}
	collect_features(level, h, &offered, &lacking);
	if (lacking.text[0])
		snprintf(why, sizeof(why), "not on this host: %s", lacking.text);
	row(d, FINDING_OK, name, name, offered.text, why);
}

static void feature_rows(struct doctor *d)
{
	static const char *const names[] = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4",
					    "host"};
	struct host_cpu h;

	host_cpu_read(&h);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		feature_row(d, names[i], i + 1, &h);
}

static void engine_rows(struct doctor *d)
{
	for (unsigned i = 0; vm_engines[i]; i++) {
		const struct engine_ops *e = vm_engines[i];
		struct err why = {""};
		bool yes = !e->usable || e->usable(&why);

		if (yes && !d->v.engine)
			d->v.engine = e;
		row(d, yes ? FINDING_OK : FINDING_NOTE, e->name, e->name, e->description, why.text);
	}
}

static bool can_run(const struct verdict *v)
{
	return v->engine && v->model && !v->problems;
}

static int print_text(struct cli *cli)
{
	struct doctor d = {.out = cli->out};

	section(&d, NULL, "Host", "host");
	host_rows(&d);
	section(&d, NULL, "CPU models for guests (--cpu)", "models");
	model_rows(&d);
	section(&d, NULL, "CPU features, by the lowest model that has them", "features");
	feature_rows(&d);
	section(&d, NULL, "Engines (--engine), the best first", "engines");
	engine_rows(&d);
	fputc('\n', cli->out);
	if (can_run(&d.v))
		fprintf(cli->out, "Ringer can run machines here; --engine auto is %s.\n",
			d.v.engine->name);
	else if (!d.v.engine)
		fprintf(cli->out, "Ringer cannot run machines here: no engine works.\n");
	else
		fprintf(cli->out, "Ringer cannot run machines here: see the lines marked '!'.\n");
	return can_run(&d.v) ? CLI_OK : CLI_HOST;
}

static int print_json(struct cli *cli)
{
	struct doctor d = {.out = NULL};
	cJSON *j = cJSON_CreateObject();
	int rc;

	section(&d, j, "", "host");
	host_rows(&d);
	section(&d, j, "", "models");
	model_rows(&d);
	section(&d, j, "", "features");
	feature_rows(&d);
	section(&d, j, "", "engines");
	engine_rows(&d);
	cJSON_AddStringToObject(j, "engine", d.v.engine ? d.v.engine->name : "");
	cJSON_AddBoolToObject(j, "can_run", can_run(&d.v));
	rc = json_print(cli, j);
	return rc ? rc : can_run(&d.v) ? CLI_OK : CLI_HOST;
}

int cmd_doctor(struct cli *cli, const struct cli_call *call)
{
	return call->o.doctor.json ? print_json(cli) : print_text(cli);
}
