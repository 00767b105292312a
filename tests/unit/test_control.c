/*
 * The control socket: names and locks, conversations, and a machine that many speak to at once. Nothing depends on
 * speed but that some limit of time is not reached.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/control.h"
#include "control/internal.h"
#include "control/talk.h"

#define LONG_TIME (host_now_ns() + 60000000000u)

/*
 *	mov $'c', %al
 * 1:	out %al, $0xe9
 *	jmp 1b
 */
static const uint8_t guest[] = {0xb0, 0x63, 0xe6, 0xe9, 0xeb, 0xfc};

static char runtime_dir[64];

static int make_dir(void **state)
{
	strcpy(runtime_dir, "/tmp/ringer-control-XXXXXX");
	assert_non_null(mkdtemp(runtime_dir));
	return setenv("XDG_RUNTIME_DIR", runtime_dir, 1);
}

static int remove_dir(void **state)
{
	char dir[96];

	snprintf(dir, sizeof(dir), "%s/ringer", runtime_dir);
	/* Empty: whoever had a name has cleaned up. */
	if (rmdir(dir) < 0 && errno != ENOENT)
		return -1;
	return rmdir(runtime_dir);
}

/* Names and places */

static void names(void **state)
{
	static const char *const good[] = {"a", "web", "Web-1_x.y", "1",
					   "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"};
	static const char *const bad[] = {"", ".", "..", "-a", "_a", "a/b", "../a", "a b", "a\n", "\xc3\xa4",
					  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx"};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(place_check_name(good[i], &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(place_check_name(bad[i], &err), -EINVAL);
}

static void find(struct place *p)
{
	struct err err;

	if (place_find(p, &err))
		fail_msg("%s", err.text);
}

static void places(void **state)
{
	char dir[96];
	struct place p;
	struct stat st;
	struct err err;

	find(&p);
	snprintf(dir, sizeof(dir), "%s/ringer", runtime_dir);
	assert_string_equal(p.dir, dir);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* Others may look in: refused. */
	assert_int_equal(chmod(dir, 0750), 0);
	assert_int_equal(place_find(&p, &err), -EPERM);
	assert_non_null(strstr(err.text, "chmod 700"));
	assert_int_equal(rmdir(dir), 0);
	/* A link, even to a directory that would do. */
	assert_int_equal(symlink(runtime_dir, dir), 0);
	assert_int_equal(place_find(&p, &err), -ENOTDIR);
	assert_int_equal(unlink(dir), 0);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_int_equal(place_find(&p, &err), -EINVAL);
	setenv("XDG_RUNTIME_DIR", "/nonexistent/directory", 1);
	assert_int_equal(place_find(&p, &err), -ENOENT);
	unsetenv("XDG_RUNTIME_DIR");
	find(&p);
	assert_true(!strncmp(p.dir, "/tmp/ringer-", 12) || !strncmp(p.dir, "/run/user/", 10));
	setenv("XDG_RUNTIME_DIR", runtime_dir, 1);
}

static void locks(void **state)
{
	struct place_names *list = malloc(sizeof(*list));
	struct place_lock a, b;
	struct place p;
	struct err err;
	bool stale;
	int fd;

	assert_non_null(list);
	find(&p);
	assert_int_equal(place_lock(&a, &p, "web", &err), 0);
	assert_int_equal(place_lock(&b, &p, "web", &err), -EEXIST);
	assert_non_null(strstr(err.text, "'web' runs already"));
	assert_int_equal(place_lock(&b, &p, "db", &err), 0);
	assert_int_equal(place_list(&p, list, &err), 0);
	assert_int_equal(list->n, 2);
	assert_string_equal(list->name[0], "db");
	assert_string_equal(list->name[1], "web");
	assert_true(place_lives(&p, "web", &stale));
	place_unlock(&b);
	place_unlock(&a);
	assert_false(place_lives(&p, "web", &stale));
	assert_false(stale);
	/* What a killed process leaves: both files, and no lock. */
	assert_int_equal(place_lock(&a, &p, "web", &err), 0);
	fd = open(a.address.sun_path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	close(a.fd);
	assert_int_equal(place_lock(&b, &p, "web", &err), 0);
	assert_int_not_equal(access(a.address.sun_path, F_OK), 0);
	fd = open(a.address.sun_path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	close(b.fd);
	assert_false(place_lives(&p, "web", &stale));
	assert_true(stale);
	assert_int_equal(place_list(&p, list, &err), 0);
	assert_int_equal(list->n, 0);
	free(list);
}

/* A machine with a control socket */

struct rig {
	char path[32];
	struct vm_config cfg;
	struct loop *loop;
	struct vm *vm;
	struct control *control;
	struct vm_result result;
	pthread_t thread;
};

static void *run_thread(void *arg)
{
	struct rig *r = arg;

	vm_run(r->vm, &r->result);
	control_ended(r->control, "stopped", r->result.reason);
	return NULL;
}

static void write_image(struct rig *r)
{
	uint32_t h[8] = {0x1badb002, 0x10000, -(0x1badb002u + 0x10000u), 0x100000, 0x100000, 0, 0, 0x100020};
	int fd;

	strcpy(r->path, "/tmp/ringer-vm-XXXXXX");
	fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, h, sizeof(h)), sizeof(h));
	assert_int_equal(write(fd, guest, sizeof(guest)), sizeof(guest));
	close(fd);
}

static void rig_start(struct rig *r)
{
	struct control_config config = {.version = "1.2.3", .kernel = r->path};
	struct err err = {""};

	memset(r, 0, sizeof(*r));
	write_image(r);
	r->cfg = (struct vm_config){.kernel = r->path, .ram = MIB(8), .engine = "interp"};
	if (control_open(&r->control, "web", &err) || loop_new(&r->loop, &err) || loop_start(r->loop, &err) ||
	    vm_new(&r->vm, &r->cfg, r->loop, &err) || control_start(r->control, r->vm, &config, &err))
		fail_msg("%s", err.text);
	assert_int_equal(pthread_create(&r->thread, NULL, run_thread, r), 0);
	while (vm_state(r->vm) == VM_CREATED)
		sched_yield();
}

static void rig_end(struct rig *r)
{
	vm_stop(r->vm);
	assert_int_equal(pthread_join(r->thread, NULL), 0);
	assert_int_equal(r->result.end, VM_END_STOPPED);
	control_free(r->control);
	vm_free(r->vm);
	loop_free(r->loop);
	unlink(r->path);
}

static void connect_to(struct talk *t)
{
	struct place p;
	struct err err;

	find(&p);
	if (talk_open(t, &p, "web", &err))
		fail_msg("%s", err.text);
}

/* The status, and the answer in *json unless that is NULL. */
static unsigned ask(struct talk *t, const char *method, const char *path, const char *body, cJSON **json)
{
	struct talk_reply r;
	struct err err = {""};

	if (talk_send(t, method, path, body, LONG_TIME, &err) || talk_receive(t, &r, LONG_TIME, &err))
		fail_msg("%s %s: %s", method, path, err.text);
	if (json)
		*json = r.json;
	else
		cJSON_Delete(r.json);
	return r.status;
}

static const char *text_of(const cJSON *j, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(j, name));

	assert_non_null(text);
	return text;
}

static void check_state(struct talk *t, const char *state)
{
	cJSON *j;

	assert_int_equal(ask(t, "GET", "/api/v1/vm.info", NULL, &j), 200);
	assert_string_equal(text_of(j, "state"), state);
	cJSON_Delete(j);
}

static void pause_and_resume(void **state)
{
	struct vm_stats before, after;
	struct stat st;
	struct talk t;
	struct rig r;

	rig_start(&r);
	assert_int_equal(stat(r.control->lock.address.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	connect_to(&t);
	assert_int_equal(t.pid, getpid());
	check_state(&t, "Running");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.pause", NULL, NULL), 204);
	check_state(&t, "Paused");
	vm_stats(r.vm, &before);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.pause", NULL, NULL), 204);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.reboot", NULL, NULL), 204);
	check_state(&t, "Paused");
	vm_stats(r.vm, &after);
	assert_int_equal(before.insns, after.insns);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.resume", NULL, NULL), 204);
	check_state(&t, "Running");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.power-button", NULL, NULL), 204);
	talk_close(&t);
	rig_end(&r);
}

static void next_event(struct talk *t, const char *name)
{
	struct err err = {""};
	cJSON *j;

	if (talk_event(t, &j, LONG_TIME, &err))
		fail_msg("no %s: %s", name, err.text);
	assert_string_equal(text_of(j, "event"), name);
	assert_true(cJSON_GetObjectItem(j, "time")->valuedouble > 1e9);
	cJSON_Delete(j);
}

static void events(void **state)
{
	struct talk listener, t;
	struct err err;
	struct rig r;
	cJSON *j;

	rig_start(&r);
	connect_to(&t);
	check_state(&t, "Running");
	connect_to(&listener);
	assert_int_equal(talk_send(&listener, "GET", "/api/v1/vm.events", NULL, LONG_TIME, &err), 0);
	assert_int_equal(talk_receive_stream(&listener, LONG_TIME, &err), 0);
	next_event(&listener, "state");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.pause", NULL, NULL), 204);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.pause", NULL, NULL), 204);
	next_event(&listener, "paused");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.resume", NULL, NULL), 204);
	next_event(&listener, "resumed");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.reboot", NULL, NULL), 204);
	next_event(&listener, "reset");
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.shutdown", NULL, NULL), 204);
	next_event(&listener, "ended");
	/* The stream ends in order. */
	assert_int_equal(talk_event(&listener, &j, LONG_TIME, &err), -EPIPE);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.pause", NULL, NULL), 409);
	rig_end(&r);
	assert_true(talk_is_closed(&listener, LONG_TIME));
	assert_true(talk_is_closed(&t, LONG_TIME));
	talk_close(&listener);
	talk_close(&t);
}

static void bad_bodies(void **state)
{
	static const char *const bodies[] = {
		NULL, "", "1", "[]", "{}", "{\"desired_vcpus\":0}", "{\"desired_vcpus\":-1}",
		"{\"desired_vcpus\":1.5}", "{\"desired_vcpus\":1e300}", "{\"desired_vcpus\":\"1\"}",
		"{\"desired_vcpus\":1,\"x\":1}", "{\"Desired_vcpus\":1}", "{\"desired_vcpus\":1} x",
		"{\"desired_vcpus\":1", "{\"desired_vcpus\":99999}", "[[[[[[[[[[[[[[[[[[[[[[[[",
	};
	struct talk t;
	struct rig r;

	rig_start(&r);
	connect_to(&t);
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		if (ask(&t, "PUT", "/api/v1/vm.resize", bodies[i], NULL) != 400)
			fail_msg("%s is taken", bodies[i]);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.resize", " {\"desired_vcpus\": 1}\r\n", NULL), 204);
	talk_close(&t);
	rig_end(&r);
}

/* Sends the text as it is. */
static void say(struct talk *t, const char *text)
{
	assert_int_equal(send(t->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static unsigned hear(struct talk *t)
{
	struct talk_reply r;
	struct err err = {""};

	if (talk_receive(t, &r, LONG_TIME, &err))
		fail_msg("%s", err.text);
	cJSON_Delete(r.json);
	return r.status;
}

static void odd_clients(void **state)
{
	static const char slow[] = "PUT /api/v1/vm.resize HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n\r\n"
				   "{\"desired_vcpus\":1}";
	struct talk t, other;
	struct rig r;

	rig_start(&r);
	connect_to(&t);
	connect_to(&other);
	/* Byte for byte, while another is served. */
	for (size_t i = 0; slow[i]; i++) {
		assert_int_equal(send(t.fd, slow + i, 1, MSG_NOSIGNAL), 1);
		if (i % 20 == 0)
			check_state(&other, "Running");
	}
	assert_int_equal(hear(&t), 204);
	/* Several at once are answered in order. */
	say(&t, "GET /api/v1/vmm.ping HTTP/1.1\r\nHost: a\r\n\r\nPUT /api/v1/vm.pause HTTP/1.1\r\nHost: a\r\n\r\n"
		"PUT /api/v1/vm.ping HTTP/1.1\r\nHost: a\r\n\r\nPUT /api/v1/vm.resume HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(hear(&t), 200);
	assert_int_equal(hear(&t), 204);
	assert_int_equal(hear(&t), 404);
	assert_int_equal(hear(&t), 204);
	/* Told to go on before its body is sent. */
	say(&t, "PUT /api/v1/vm.resize HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	assert_int_equal(poll(&(struct pollfd){.fd = t.fd, .events = POLLIN}, 1, 60000), 1);
	assert_int_equal(recv(t.fd, t.buf, TALK_BUFFER, 0), 25);
	assert_memory_equal(t.buf, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	say(&t, "{}");
	assert_int_equal(hear(&t), 400);
	say(&t, "GET /api/v1/vm.info?x HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(hear(&t), 400);
	say(&t, "DELETE /api/v1/vm.info HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(hear(&t), 405);
	say(&t, "PUT /api/v1/vm.resize HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n");
	assert_int_equal(hear(&t), 413);
	assert_true(talk_is_closed(&t, LONG_TIME));
	talk_close(&t);
	connect_to(&t);
	say(&t, "HELO\r\n\r\n");
	assert_int_equal(hear(&t), 400);
	assert_true(talk_is_closed(&t, LONG_TIME));
	talk_close(&t);
	/* Gone before the answer. */
	for (int i = 0; i < 20; i++) {
		connect_to(&t);
		say(&t, "PUT /api/v1/vm.pause HTTP/1.1\r\nHost: a\r\n\r\nPUT /api/v1/vm.resume");
		talk_close(&t);
	}
	/* Their requests may come to be heard after this one, which is then told so. */
	while (ask(&other, "PUT", "/api/v1/vm.resume", NULL, NULL) == 409)
		sched_yield();
	talk_close(&other);
	rig_end(&r);
}

/* All places are taken by those who say nothing: the oldest makes room. By those who listen: some are left. */
static void many_clients(void **state)
{
	struct talk idle[CONTROL_CLIENTS_MAX + 4], t;
	struct err err;
	struct rig r;

	rig_start(&r);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++) {
		connect_to(&idle[i]);
		check_state(&idle[i], "Running");
	}
	assert_true(talk_is_closed(&idle[0], LONG_TIME));
	check_state(&idle[ARRAY_SIZE(idle) - 1], "Running");
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		talk_close(&idle[i]);
	for (size_t i = 0; i < CONTROL_LISTENERS_MAX; i++) {
		connect_to(&idle[i]);
		assert_int_equal(talk_send(&idle[i], "GET", "/api/v1/vm.events", NULL, LONG_TIME, &err), 0);
		assert_int_equal(talk_receive_stream(&idle[i], LONG_TIME, &err), 0);
	}
	connect_to(&t);
	assert_int_equal(ask(&t, "GET", "/api/v1/vm.events", NULL, NULL), 503);
	check_state(&t, "Running");
	for (size_t i = 0; i < CONTROL_LISTENERS_MAX; i++)
		talk_close(&idle[i]);
	talk_close(&t);
	rig_end(&r);
}

/* Who waits for the opposite of what another asked for later is told. */
static void *storm(void *arg)
{
	struct talk t;
	unsigned seed = (unsigned)(uintptr_t)arg;

	connect_to(&t);
	for (int i = 0; i < 60; i++) {
		static const char *const paths[] = {"/api/v1/vm.pause", "/api/v1/vm.resume", "/api/v1/vm.reboot",
						    "/api/v1/vm.power-button"};
		unsigned n = (unsigned)rand_r(&seed) % 8;
		unsigned status = ask(&t, "PUT", paths[n < 6 ? n & 1 : n - 4], NULL, NULL);

		assert_true(status == 204 || status == 409);
		ask(&t, "GET", "/api/v1/vm.counters", NULL, NULL);
	}
	talk_close(&t);
	return NULL;
}

static void storms(void **state)
{
	pthread_t thread[4];
	struct talk t, listener;
	struct err err;
	struct rig r;

	rig_start(&r);
	connect_to(&listener); /* and never reads */
	assert_int_equal(talk_send(&listener, "GET", "/api/v1/vm.events", NULL, LONG_TIME, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, storm, (void *)(i + 1)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	connect_to(&t);
	assert_int_equal(ask(&t, "PUT", "/api/v1/vm.resume", NULL, NULL), 204);
	check_state(&t, "Running");
	talk_close(&t);
	talk_close(&listener);
	rig_end(&r);
}

/* The machine ends under its clients' hands. */
static void end_in_a_storm(void **state)
{
	struct talk t[8];
	struct rig r;

	for (int round = 0; round < 10; round++) {
		rig_start(&r);
		for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
			connect_to(&t[i]);
			say(&t[i], i & 1 ? "PUT /api/v1/vm.pause HTTP/1.1\r\nHost: a\r\n\r\n"
					 : "PUT /api/v1/vm.shutdown HTTP/1.1\r\nHost: a\r\n\r\n");
		}
		rig_end(&r);
		for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
			assert_true(talk_is_closed(&t[i], LONG_TIME));
			talk_close(&t[i]);
		}
	}
}

static void no_such_machine(void **state)
{
	struct place p;
	struct talk t;
	struct err err;
	struct rig r;

	find(&p);
	assert_int_equal(talk_open(&t, &p, "web", &err), -ENOENT);
	assert_non_null(strstr(err.text, "none runs"));
	rig_start(&r);
	assert_int_equal(talk_open(&t, &p, "wbe", &err), -ENOENT);
	assert_non_null(strstr(err.text, "did you mean 'web'?"));
	assert_int_equal(talk_open(&t, &p, "../web", &err), -ENOENT);
	assert_int_equal(control_open(&r.control, "web", &err), -EEXIST);
	rig_end(&r);
}

/* Somebody holds the name, but answers nobody. */
static void hung_machine(void **state)
{
	struct place_lock lock;
	struct talk_reply reply;
	struct place p;
	struct talk t;
	struct err err;
	int fd;

	find(&p);
	assert_int_equal(place_lock(&lock, &p, "web", &err), 0);
	assert_int_equal(talk_open(&t, &p, "web", &err), -EAGAIN);
	assert_non_null(strstr(err.text, "starting"));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&lock.address, sizeof(lock.address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(talk_open(&t, &p, "web", &err), 0);
	assert_int_equal(talk_send(&t, "GET", "/", NULL, LONG_TIME, &err), 0);
	assert_int_equal(talk_receive(&t, &reply, host_now_ns() + 10000000, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "does not answer"));
	talk_close(&t);
	/* Its process dies. */
	close(fd);
	close(lock.fd);
	assert_int_equal(talk_open(&t, &p, "web", &err), -ENOENT);
	assert_non_null(strstr(err.text, "was killed"));
	assert_int_equal(talk_open(&t, &p, "web", &err), -ENOENT);
	assert_non_null(strstr(err.text, "none runs"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(places),
		cmocka_unit_test(locks),
		cmocka_unit_test(pause_and_resume),
		cmocka_unit_test(events),
		cmocka_unit_test(bad_bodies),
		cmocka_unit_test(odd_clients),
		cmocka_unit_test(many_clients),
		cmocka_unit_test(storms),
		cmocka_unit_test(end_in_a_storm),
		cmocka_unit_test(no_such_machine),
		cmocka_unit_test(hung_machine),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
