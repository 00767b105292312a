/*
 * test_vm_cpus.c - machines of several processors: their number, while they run and across resets, and storms of
 * changes, pauses and stops. Nothing here depends on speed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>

static const char *engine = "auto"; /* what the machines are to run on */

#include "vm_rig.h"

/*
 *	mov $'h', %al
 *	out %al, $0xe9
 * 1:	hlt
 *	jmp 1b
 */
static const uint8_t guest_halt[] = {0xb0, 0x68, 0xe6, 0xe9, 0xf4, 0xeb, 0xfd};
/*
 * 2:	mov $1, %ecx             # lets processors 1 to 7 go, over and over
 * 1:	mov $0x640, %edx         # CPU_HOTPLUG_SELECT
 *	mov %ecx, %eax
 *	out %eax, %dx
 *	mov $0x645, %edx         # CPU_HOTPLUG_COMMAND
 *	mov $3, %al              # CPU_HOTPLUG_EJECT
 *	out %al, %dx
 *	inc %ecx
 *	cmp $8, %ecx
 *	jne 1b
 *	mov $'e', %al
 *	out %al, $0xe9
 *	jmp 2b
 */
static const uint8_t guest_eject[] = {
	0xb9, 0x01, 0x00, 0x00, 0x00, 0xba, 0x40, 0x06, 0x00, 0x00, 0x89, 0xc8, 0xef, 0xba, 0x45,
	0x06, 0x00, 0x00, 0xb0, 0x03, 0xee, 0x41, 0x83, 0xf9, 0x08, 0x75, 0xea, 0xb0, 0x65, 0xe6,
	0xe9, 0xeb, 0xdf
};

static unsigned cpus_now(struct rig *r)
{
	struct vm_info info;

	vm_get_info(r->vm, &info);
	return info.cpus;
}

static void rig_end(struct rig *r)
{
	vm_stop(r->vm);
	rig_join(r);
	assert_int_equal(r->result.end, VM_END_STOPPED);
	rig_free(r);
}

static void refused(struct rig *r, const char *words)
{
	struct err err = {""};

	assert_int_equal(chr_buffer_new(&r->cfg.debugcon, &err), 0);
	assert_int_equal(vm_new(&r->vm, &r->cfg, r->loop, &err), -EINVAL);
	assert_non_null(strstr(err.text, words));
}

static void test_limits(void **state)
{
	struct err err = {""};
	struct rig r;

	rig_init(&r, guest_halt, sizeof(guest_halt));
	chr_free(r.out);
	r.cfg.cpus = VM_CPUS_MAX + 1;
	refused(&r, "between 1 and 64");
	r.cfg.cpus = 1;
	r.cfg.max_cpus = VM_CPUS_MAX + 1;
	refused(&r, "between 1 and 64");
	r.cfg.cpus = 3;
	r.cfg.max_cpus = 2;
	refused(&r, "3 processors, but at most 2");
	r.cfg.max_cpus = 0;
	r.cfg.n_pins = 1;
	r.cfg.pin[0] = 1023;
	refused(&r, "host CPU 1023");
	r.cfg.n_pins = 0;
	r.cfg.nice = 20;
	refused(&r, "at most 19");
	r.cfg.nice = 0;
	assert_int_equal(chr_buffer_new(&r.cfg.debugcon, &err), 0);
	rig_new(&r);
	assert_int_equal(vm_set_cpus(r.vm, 0, &err), -EINVAL);
	assert_int_equal(vm_set_cpus(r.vm, 4, &err), -EINVAL);
	assert_non_null(strstr(err.text, "between 1 and 3"));
	assert_int_equal(cpus_now(&r), 3);
	rig_free(&r);
}

/* The guest takes no notice: processors come, none goes until the reset. */
static void test_number(void **state)
{
	struct err err = {""};
	struct vm_info info;
	struct told t;
	struct rig r;

	rig_init(&r, guest_halt, sizeof(guest_halt));
	r.cfg.cpus = 2;
	r.cfg.max_cpus = 6;
	rig_new(&r);
	told_init(&t, &r);
	vm_get_info(r.vm, &info);
	assert_int_equal(info.cpus, 2);
	assert_int_equal(info.boot_cpus, 2);
	assert_int_equal(info.max_cpus, 6);
	rig_start(&r);
	wait_output(&r);
	assert_int_equal(vm_set_cpus(r.vm, 5, &err), 0);
	wait_news(&t, VM_NEWS_CPUS, 1);
	assert_int_equal(cpus_now(&r), 5);
	assert_string_equal(t.detail, "5 of 5");
	assert_int_equal(vm_set_cpus(r.vm, 3, &err), 0);
	wait_news(&t, VM_NEWS_CPUS, 2);
	assert_int_equal(cpus_now(&r), 5);
	assert_string_equal(t.detail, "5 of 3");
	vm_reboot(r.vm);
	wait_news(&t, VM_NEWS_RESET, 1);
	assert_int_equal(cpus_now(&r), 3);
	assert_int_equal(vm_set_cpus(r.vm, 6, &err), 0);
	wait_news(&t, VM_NEWS_CPUS, 3);
	assert_int_equal(cpus_now(&r), 6);
	rig_end(&r);
}

/* Processors that the guest lets go unasked are not given back. */
static void test_eject(void **state)
{
	struct err err = {""};
	struct rig r;

	rig_init(&r, guest_eject, sizeof(guest_eject));
	r.cfg.cpus = 8;
	rig_new(&r);
	rig_start(&r);
	while (cpus_now(&r) > 1)
		sched_yield();
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(vm_set_cpus(r.vm, 1 + i % 8, &err), 0);
		wait_more_output(&r);
	}
	while (cpus_now(&r) > 1)
		sched_yield();
	rig_end(&r);
}

static void *change(void *arg)
{
	struct err err = {""};
	struct rig *r = arg;

	for (unsigned i = 0; i < 150; i++) {
		if (vm_set_cpus(r->vm, 1 + i * 5 % 8, &err) < 0)
			abort();
		vm_pause(r->vm);
		vm_resume(r->vm);
		if (i % 50 == 0)
			vm_reboot(r->vm);
	}
	return NULL;
}

/* Changes, pauses and resets by two threads, while the guest ejects whatever comes. */
static void test_storm(void **state)
{
	struct err err = {""};
	pthread_t thread;
	struct rig r;

	rig_init(&r, guest_eject, sizeof(guest_eject));
	r.cfg.cpus = 4;
	r.cfg.max_cpus = 8;
	rig_new(&r);
	rig_start(&r);
	assert_int_equal(pthread_create(&thread, NULL, change, &r), 0);
	change(&r);
	pthread_join(thread, NULL);
	vm_resume(r.vm);
	assert_int_equal(vm_set_cpus(r.vm, 8, &err), 0);
	wait_more_output(&r);
	while (cpus_now(&r) > 1)
		sched_yield();
	rig_end(&r);
}

static void test_stop_storm(void **state)
{
	for (unsigned i = 0; i < 30; i++) {
		struct rig r;

		rig_init(&r, guest_halt, sizeof(guest_halt));
		r.cfg.cpus = 1 + i % 5;
		rig_new(&r);
		rig_start(&r);
		if (i & 1)
			wait_output(&r);
		rig_end(&r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits), cmocka_unit_test(test_number),
		cmocka_unit_test(test_eject),  cmocka_unit_test(test_storm),
		cmocka_unit_test(test_stop_storm),
	};

	if (argc > 1)
		engine = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
