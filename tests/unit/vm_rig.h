/*
 * vm_rig.h - a machine under test with all that belongs to it, made from a few bytes of 32-bit code. Include once, in
 * the test program, after `static const char *engine`, what the machines are to run on.
 */
#ifndef RINGER_TESTS_VM_RIG_H
#define RINGER_TESTS_VM_RIG_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm/vm.h"

#define GUEST(name) guest_##name, sizeof(guest_##name)

/* A machine under test, with all that belongs to it. */
struct rig {
	char path[32];
	struct vm_config cfg;
	struct loop *loop;
	struct chr *out; /* the machine's */
	struct vm *vm;
	struct vm_result result;
	pthread_t thread;
};

/* A multiboot image at 1 MiB that describes itself: header of 32 bytes, then the code. */
static inline void write_image(struct rig *r, const uint8_t *code, size_t len)
{
	uint32_t h[8] = {0x1badb002, 0x10000, -(0x1badb002u + 0x10000u), 0x100000, 0x100000, 0,
			 0,          0x100020};
	int fd;

	strcpy(r->path, "/tmp/ringer-vm-XXXXXX");
	fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, h, sizeof(h)), sizeof(h));
	assert_int_equal(write(fd, code, len), len);
	close(fd);
}

static inline void rig_init(struct rig *r, const uint8_t *code, size_t len)
{
	struct err err = {""};

	memset(r, 0, sizeof(*r));
	write_image(r, code, len);
	assert_int_equal(loop_new(&r->loop, &err), 0);
	assert_int_equal(loop_start(r->loop, &err), 0);
	assert_int_equal(chr_buffer_new(&r->out, &err), 0);
	r->cfg = (struct vm_config){.kernel = r->path,
				    .ram = MIB(8),
				    .engine = engine,
				    .debug_exit = true,
				    .debugcon = r->out};
}

static inline void rig_new(struct rig *r)
{
	struct err err = {""};

	if (vm_new(&r->vm, &r->cfg, r->loop, &err) < 0)
		fail_msg("vm_new: %s", err.text);
}

static inline void rig_free(struct rig *r)
{
	vm_free(r->vm);
	loop_free(r->loop);
	unlink(r->path);
}

static inline void *run_thread(void *arg)
{
	struct rig *r = arg;

	vm_run(r->vm, &r->result);
	return NULL;
}

static inline void rig_start(struct rig *r)
{
	assert_int_equal(pthread_create(&r->thread, NULL, run_thread, r), 0);
}

static inline void rig_join(struct rig *r)
{
	assert_int_equal(pthread_join(r->thread, NULL), 0);
}

static inline size_t output_len(struct rig *r)
{
	size_t len;

	loop_lock(r->loop);
	chr_buffer_output(r->out, &len);
	loop_unlock(r->loop);
	return len;
}

/* The guest has written something: it runs. */
static inline void wait_output(struct rig *r)
{
	const struct timespec ms = {0, 1000000};

	while (output_len(r) == 0)
		nanosleep(&ms, NULL);
}

struct told {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned count[VM_NEWS_ENDED + 1];
	char detail[256];
};

static inline void hear(void *ctx, enum vm_news news, const char *detail)
{
	struct told *t = ctx;

	pthread_mutex_lock(&t->lock);
	t->count[news]++;
	snprintf(t->detail, sizeof(t->detail), "%s", detail ? detail : "");
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* Until the news has come that many times. */
static inline void wait_news(struct told *t, enum vm_news news, unsigned count)
{
	pthread_mutex_lock(&t->lock);
	while (t->count[news] < count)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

static inline void told_init(struct told *t, struct rig *r)
{
	const struct vm_listener listener = {hear, t};

	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	vm_listen(r->vm, &listener);
}

static inline void wait_more_output(struct rig *r)
{
	const struct timespec ms = {0, 1000000};
	size_t before = output_len(r);

	while (output_len(r) == before)
		nanosleep(&ms, NULL);
}

#endif
