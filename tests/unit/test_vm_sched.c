/*
 * test_vm_sched.c - machines with fewer slots than processors, under each policy: all of them run, through storms of pauses,
 * resets and changes of their number. Nothing here depends on speed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

static const char *engine = "auto"; /* what the machines are to run on */

#include "vm_rig.h"

/*
 *	movl $0xe9e661b0, 0x8000   # real-mode code for the others: 1: mov $'a', %al; out %al, $0xe9
 *	movl $0xe2ffffb9, 0x8004   #    mov $0xffff, %cx; 2: loop 2b
 *	movl $0x00f5ebfe, 0x8008   #    jmp 1b
 *	movl $0xc4500, 0xfee00300  # INIT to all others
 *	movl $0xc4608, 0xfee00300  # and their start at 8000
 * 1:	mov $'h', %al
 *	out %al, $0xe9
 *	mov $0xffff, %ecx
 * 2:	loop 2b
 *	jmp 1b
 */
static const uint8_t guest_all_busy[] = {
	0xc7, 0x05, 0x00, 0x80, 0x00, 0x00, 0xb0, 0x61, 0xe6, 0xe9, 0xc7, 0x05, 0x04, 0x80, 0x00, 0x00, 0xb9, 0xff,
	0xff, 0xe2, 0xc7, 0x05, 0x08, 0x80, 0x00, 0x00, 0xfe, 0xeb, 0xf5, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe,
	0x00, 0x45, 0x0c, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x0c, 0x00, 0xb0, 0x68, 0xe6, 0xe9,
	0xb9, 0xff, 0xff, 0x00, 0x00, 0xe2, 0xfe, 0xeb, 0xf3};

static void start(struct rig *r, const char *policy, unsigned slots, unsigned cap)
{
	rig_init(r, GUEST(all_busy));
	r->cfg.cpus = 4;
	r->cfg.max_cpus = 6;
	r->cfg.sched = policy;
	r->cfg.sched_slots = slots;
	r->cfg.sched_slice_ns = 300000;
	r->cfg.cpu_cap = cap;
	rig_new(r);
	rig_start(r);
	wait_output(r);
}

static void end(struct rig *r)
{
	vm_stop(r->vm);
	rig_join(r);
	assert_int_equal(r->result.end, VM_END_STOPPED);
	rig_free(r);
}

/* Until each of the first n has had a slot more than `times`. */
static void wait_slices(struct rig *r, unsigned n, uint64_t times)
{
	static const struct timespec ms = {0, 1000000};
	struct vm_stats *s = malloc(sizeof(*s));
	unsigned had;

	assert_non_null(s);
	do {
		nanosleep(&ms, NULL);
		vm_stats(r->vm, s);
		had = 0;
		for (unsigned i = 0; i < s->sched.n_vcpus && i < n; i++)
			had += s->sched.vcpu[i].slices > times;
	} while (had < n);
	free(s);
}

static void test_all_run(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++)
		for (unsigned slots = 1; slots <= 3 && sched_policies[p]->slots; slots++) {
			struct rig r;

			start(&r, sched_policies[p]->name, slots, 0);
			wait_slices(&r, 4, 20);
			end(&r);
		}
}

static void test_storm(void **state)
{
	struct err err = {""};

	for (unsigned p = 0; sched_policies[p]; p++) {
		struct rig r;

		start(&r, sched_policies[p]->name, 2, 90);
		for (unsigned i = 0; i < 60; i++) {
			assert_int_equal(vm_set_cpus(r.vm, 1 + i % 6, &err), 0);
			vm_pause(r.vm);
			if (i % 3)
				wait_slices(&r, 1, 0);
			vm_resume(r.vm);
			if (i % 20 == 0)
				vm_reboot(r.vm);
		}
		vm_reboot(r.vm);
		wait_more_output(&r);
		end(&r);
	}
}

/* It ends while all are kept from running. */
static void test_stop_when_capped(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++) {
		const struct timespec ms = {0, 1000000};
		struct vm_stats *s = malloc(sizeof(*s));
		struct rig r;

		assert_non_null(s);
		start(&r, sched_policies[p]->name, 2, 1);
		do {
			nanosleep(&ms, NULL);
			vm_stats(r.vm, s);
		} while (s->sched.exhaustions < 2);
		assert_int_equal(s->sched.cap_percent, 1);
		free(s);
		end(&r);
	}
}

static void test_unknown_policy(void **state)
{
	struct err err = {""};
	struct rig r;

	rig_init(&r, GUEST(all_busy));
	r.cfg.sched = "best";
	assert_int_equal(vm_new(&r.vm, &r.cfg, r.loop, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'best'"));
	loop_free(r.loop);
	unlink(r.path);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_run), cmocka_unit_test(test_storm), cmocka_unit_test(test_stop_when_capped),
		cmocka_unit_test(test_unknown_policy),
	};

	if (argc > 1)
		engine = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
