/*
 * api.c - the requests, one row each. abi/ringer-api.yaml describes them; a test holds the two
 * together. Handlers run on the control's thread with its lock held, and wait for nothing: what
 * takes long leaves the session WAITING.
 */
#include <string.h>

#include "base/suggest.h"
#include "control/internal.h"

struct api_call {
	struct control *control;
	struct session *session;
	const char *body;
	size_t len;
};

struct api_route {
	const char *path, *method;
	void (*handle)(const struct api_call *c);
};

static void get_ping(const struct api_call *c)
{
	session_reply_json(c->session, 200, report_ping(c->control));
}

static void get_info(const struct api_call *c)
{
	session_reply_json(c->session, 200, report_info(c->control));
}

static void get_counters(const struct api_call *c)
{
	session_reply_json(c->session, 200, report_counters(c->control));
}

static void get_events(const struct api_call *c)
{
	cJSON *j;
	char *line;

	if (control_listeners(c->control) >= CONTROL_LISTENERS_MAX) {
		session_reply_error(c->session, 503, "%d listen to events already",
				    CONTROL_LISTENERS_MAX);
		return;
	}
	session_stream(c->session);
	j = report_event("state");
	cJSON_AddStringToObject(j, "state", report_state(vm_state(c->control->vm)));
	line = cJSON_PrintUnformatted(j);
	cJSON_Delete(j);
	if (line)
		session_event(c->session, line);
	cJSON_free(line);
}

/* Whether there is a machine to change; otherwise answers. */
static bool is_alive(const struct api_call *c)
{
	if (!c->control->ended)
		return true;
	session_reply_error(c->session, 409, "the machine has ended");
	return false;
}

/* The answer comes with the machine's news. */
static void change_pause(const struct api_call *c, bool pause)
{
	if (!is_alive(c))
		return;
	c->session->state = SESSION_WAITING;
	c->session->want_paused = c->control->want_paused = pause;
	if (pause)
		vm_pause(c->control->vm);
	else
		vm_resume(c->control->vm);
}

static void put_pause(const struct api_call *c)
{
	change_pause(c, true);
}

static void put_resume(const struct api_call *c)
{
	change_pause(c, false);
}

static void put_reboot(const struct api_call *c)
{
	if (!is_alive(c))
		return;
	vm_reboot(c->control->vm);
	session_reply_empty(c->session);
}

static void put_power_button(const struct api_call *c)
{
	if (!is_alive(c))
		return;
	vm_power_button(c->control->vm);
	session_reply_empty(c->session);
}

static void put_shutdown(const struct api_call *c)
{
	if (!is_alive(c))
		return;
	vm_stop(c->control->vm);
	session_reply_empty(c->session);
}

/* The body as an object; otherwise answers. */
static cJSON *parse_body(const struct api_call *c)
{
	const char *end = c->body;
	cJSON *j = cJSON_ParseWithLengthOpts(c->body, c->len, &end, 0);

	while (j && end < c->body + c->len && strchr(" \t\r\n", *end))
		end++;
	if (j && end == c->body + c->len && cJSON_IsObject(j))
		return j;
	cJSON_Delete(j);
	session_reply_error(c->session, 400, "the body is no JSON object");
	return NULL;
}

/* The number of that name, and no other member; 0 when that is not what there is. */
static unsigned only_number(const cJSON *j, const char *name)
{
	const cJSON *n = j->child;

	if (!n || n->next || strcmp(n->string, name) || !cJSON_IsNumber(n) ||
	    !(n->valuedouble >= 1 && n->valuedouble <= 65536) ||
	    (unsigned)n->valuedouble != n->valuedouble)
		return 0;
	return (unsigned)n->valuedouble;
}

static void put_resize(const struct api_call *c)
{
	struct vm_info info;
	struct err err = {""};
	unsigned cpus;
	cJSON *j = is_alive(c) ? parse_body(c) : NULL;

	if (!j)
		return;
	cpus = only_number(j, "desired_vcpus");
	cJSON_Delete(j);
	vm_get_info(c->control->vm, &info);
	if (!cpus)
		session_reply_error(c->session, 400, "the body is {\"desired_vcpus\": N}, N at least 1");
	else if (cpus > info.max_cpus)
		session_reply_error(c->session, 400, "the machine can have at most %u processor%s",
				    info.max_cpus, info.max_cpus == 1 ? "" : "s");
	else if (vm_set_cpus(c->control->vm, cpus, &err) < 0)
		session_reply_error(c->session, 400, "%s", err.text);
	else
		session_reply_empty(c->session);
}

static const struct api_route routes[] = {
	{"/api/v1/vmm.ping", "GET", get_ping},
	{"/api/v1/vm.info", "GET", get_info},
	{"/api/v1/vm.counters", "GET", get_counters},
	{"/api/v1/vm.events", "GET", get_events},
	{"/api/v1/vm.pause", "PUT", put_pause},
	{"/api/v1/vm.resume", "PUT", put_resume},
	{"/api/v1/vm.reboot", "PUT", put_reboot},
	{"/api/v1/vm.power-button", "PUT", put_power_button},
	{"/api/v1/vm.shutdown", "PUT", put_shutdown},
	{"/api/v1/vm.resize", "PUT", put_resize},
};

/* 404, with what was perhaps meant. */
static void no_such_path(struct session *s, const char *path)
{
	const char *names[ARRAY_SIZE(routes)], *near;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		names[i] = routes[i].path;
	near = suggest(path, names, ARRAY_SIZE(routes));
	if (near)
		session_reply_error(s, 404, "there is no such path; did you mean %s?", near);
	else
		session_reply_error(s, 404, "there is no such path");
}

void api_handle(struct session *s, const struct http_request *r, const char *body, size_t len)
{
	const struct api_call call = {s->control, s, body, len};

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (strcmp(routes[i].path, r->path))
			continue;
		if (strcmp(routes[i].method, r->method))
			session_reply_method(s, routes[i].method);
		else if (r->has_query)
			session_reply_error(s, 400, "this takes no query");
		else
			routes[i].handle(&call);
		return;
	}
	no_such_path(s, r->path);
}
