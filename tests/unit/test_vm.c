/*
 * test_vm.c - machines from power-on to their end, with flat multiboot guests given here as bytes
 * (their source is in the comments: GNU as, --32, at 0x100020). Nothing here depends on speed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/light.h"

static const char *engine = "auto"; /* what the machines are to run on */

#include "vm_rig.h"

/*
 *	mov 0xfee00020, %eax     # local APIC ID, through the register page
 *	mov 0xfee00030, %ebx     # version: not all ones
 *	shr $24, %eax
 *	and $0xff, %ebx
 *	shl $8, %ebx
 *	or %ebx, %eax
 *	out %eax, $0xf4
 * 1:	hlt
 *	jmp 1b
 */
static const uint8_t guest_apic[] = {
	0xa1, 0x20, 0x00, 0xe0, 0xfe, 0x8b, 0x1d, 0x30, 0x00, 0xe0, 0xfe, 0xc1,
	0xe8, 0x18, 0x81, 0xe3, 0xff, 0x00, 0x00, 0x00, 0xc1, 0xe3, 0x08, 0x09,
	0xd8, 0xe7, 0xf4, 0xf4, 0xeb, 0xfd
};
/*
 *	mov $0x602, %dx          # PM1 enable: PWRBTN_EN
 *	mov $0x100, %ax
 *	out %ax, %dx
 *	mov $'b', %al
 *	out %al, $0xe9
 *	mov $0x600, %dx
 * 1:	in %dx, %ax              # PM1 status
 *	test $0x100, %ax
 *	jz 1b
 *	mov $0x604, %dx          # PM1 control: SLP_TYP 5, SLP_EN
 *	mov $0x3400, %ax
 *	out %ax, %dx
 * 2:	hlt
 *	jmp 2b
 */
static const uint8_t guest_button[] = {
	0x66, 0xba, 0x02, 0x06, 0x66, 0xb8, 0x00, 0x01, 0x66, 0xef, 0xb0, 0x62,
	0xe6, 0xe9, 0x66, 0xba, 0x00, 0x06, 0x66, 0xed, 0x66, 0xa9, 0x00, 0x01,
	0x74, 0xf8, 0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef,
	0xf4, 0xeb, 0xfd
};
/*
 *	mov 16(%ebx), %esi       # multiboot information: command line
 *	movzbl 17(%esi), %eax    # after the image's name
 *	mov $20000, %ecx
 * 1:	out %al, $0xe9
 *	loop 1b
 *	out %eax, $0xf4
 * 2:	hlt
 *	jmp 2b
 */
static const uint8_t guest_count[] = {
	0x8b, 0x73, 0x10, 0x0f, 0xb6, 0x46, 0x11, 0xb9, 0x20, 0x4e, 0x00, 0x00,
	0xe6, 0xe9, 0xe2, 0xfc, 0xe7, 0xf4, 0xf4, 0xeb, 0xfd
};
/*
 *	mov $0xe9, %dx
 *	mov $message, %esi
 *	mov $6, %ecx
 *	cld
 *	rep outsb
 *	mov $0x1234, %eax
 *	out %eax, $0xf4
 * 1:	hlt
 *	jmp 1b
 * message: .ascii "hello\n"
 */
static const uint8_t guest_exit[] = {
	0x66, 0xba, 0xe9, 0x00, 0xbe, 0x3b, 0x00, 0x10, 0x00, 0xb9, 0x06, 0x00,
	0x00, 0x00, 0xfc, 0xf3, 0x6e, 0xb8, 0x34, 0x12, 0x00, 0x00, 0xe7, 0xf4,
	0xf4, 0xeb, 0xfd, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a
};
/*
 *	mov $'h', %al
 *	out %al, $0xe9
 * 1:	hlt
 *	jmp 1b
 */
static const uint8_t guest_halt[] = {
	0xb0, 0x68, 0xe6, 0xe9, 0xf4, 0xeb, 0xfd
};
/*
 *	mov $'c', %al
 * 1:	out %al, $0xe9
 *	jmp 1b
 */
static const uint8_t guest_chatter[] = {
	0xb0, 0x63, 0xe6, 0xe9, 0xeb, 0xfc
};
/*
 *	cmpl $0, mark            # memory is cold after a reset
 *	jne 3f
 *	movl $1, mark
 *	mov $0x40, %al           # CMOS RAM outlives it
 *	out %al, $0x70
 *	in $0x71, %al
 *	cmp $3, %al
 *	je 2f
 *	inc %al
 *	mov %al, %ah
 *	mov $0x40, %al
 *	out %al, $0x70
 *	mov %ah, %al
 *	out %al, $0x71
 *	mov $0xcf9, %dx
 *	mov $2, %al
 *	out %al, %dx
 *	mov $6, %al
 *	out %al, %dx
 * 1:	hlt
 *	jmp 1b
 * 2:	mov $7, %eax
 *	out %eax, $0xf4
 *	jmp 1b
 * 3:	mov $99, %eax
 *	out %eax, $0xf4
 *	jmp 1b
 *	.balign 4
 * mark:	.long 0
 */
static const uint8_t guest_reset[] = {
	0x83, 0x3d, 0x68, 0x00, 0x10, 0x00, 0x00, 0x75, 0x36, 0xc7, 0x05, 0x68,
	0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x00, 0xb0, 0x40, 0xe6, 0x70, 0xe4,
	0x71, 0x3c, 0x03, 0x74, 0x19, 0xfe, 0xc0, 0x88, 0xc4, 0xb0, 0x40, 0xe6,
	0x70, 0x88, 0xe0, 0xe6, 0x71, 0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x02, 0xee,
	0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd, 0xb8, 0x07, 0x00, 0x00, 0x00, 0xe7,
	0xf4, 0xeb, 0xf4, 0xb8, 0x63, 0x00, 0x00, 0x00, 0xe7, 0xf4, 0xeb, 0xeb,
	0x00, 0x00, 0x00, 0x00
};
/*
 *	mov $'s', %al
 *	out %al, $0xe9
 * 1:	jmp 1b
 */
static const uint8_t guest_spin[] = {
	0xb0, 0x73, 0xe6, 0xe9, 0xeb, 0xfe
};
/*
 *	.set idt, 0x110000
 *	mov $0x200000, %esp
 *	mov $handler, %eax       # IDT entry 0x20: a 32-bit interrupt gate
 *	mov %ax, idt + 0x100
 *	movw $8, idt + 0x102
 *	movw $0x8e00, idt + 0x104
 *	shr $16, %eax
 *	mov %ax, idt + 0x106
 *	lidt idtr
 *	mov $0x11, %al           # 8259s: vectors 0x20 and 0x28, IRQ 0 alone
 *	out %al, $0x20
 *	mov $0x20, %al
 *	out %al, $0x21
 *	mov $4, %al
 *	out %al, $0x21
 *	mov $1, %al
 *	out %al, $0x21
 *	mov $0xfe, %al
 *	out %al, $0x21
 *	mov $0x34, %al           # 8254: channel 0, mode 2, 1 ms
 *	out %al, $0x43
 *	mov $0xa9, %al
 *	out %al, $0x40
 *	mov $4, %al
 *	out %al, $0x40
 *	xor %ecx, %ecx
 *	sti
 * 1:	hlt
 *	cmp $5, %ecx
 *	jb 1b
 *	mov %ecx, %eax
 *	out %eax, $0xf4
 *	jmp 1b
 * handler:
 *	inc %ecx
 *	mov $0x20, %al
 *	out %al, $0x20
 *	iret
 * idtr:	.word 0x1ff
 *	.long idt
 * 
 * 
 */
static const uint8_t guest_timer[] = {
	0xbc, 0x00, 0x00, 0x20, 0x00, 0xb8, 0x81, 0x00, 0x10, 0x00, 0x66, 0xa3,
	0x00, 0x01, 0x11, 0x00, 0x66, 0xc7, 0x05, 0x02, 0x01, 0x11, 0x00, 0x08,
	0x00, 0x66, 0xc7, 0x05, 0x04, 0x01, 0x11, 0x00, 0x00, 0x8e, 0xc1, 0xe8,
	0x10, 0x66, 0xa3, 0x06, 0x01, 0x11, 0x00, 0x0f, 0x01, 0x1d, 0x87, 0x00,
	0x10, 0x00, 0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04,
	0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21, 0xb0, 0x34,
	0xe6, 0x43, 0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40, 0x31, 0xc9,
	0xfb, 0xf4, 0x83, 0xf9, 0x05, 0x72, 0xfa, 0x89, 0xc8, 0xe7, 0xf4, 0xeb,
	0xf4, 0x41, 0xb0, 0x20, 0xe6, 0x20, 0xcf, 0xff, 0x01, 0x00, 0x00, 0x11,
	0x00
};
/*
 *	lidt no_idt
 *	mov $0xdeadbeef, %eax
 *	ud2
 * no_idt:	.word 0
 *	.long 0
 */
static const uint8_t guest_triple[] = {
	0x0f, 0x01, 0x1d, 0x2e, 0x00, 0x10, 0x00, 0xb8, 0xef, 0xbe, 0xad, 0xde,
	0x0f, 0x0b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00
};

static void test_debug_exit(void **state)
{
	const uint8_t *out;
	struct rig r;
	size_t len;

	rig_init(&r, GUEST(exit));
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_DEBUG_EXIT);
	assert_int_equal(r.result.value, 0x1234);
	out = chr_buffer_output(r.out, &len);
	assert_int_equal(len, 6);
	assert_memory_equal(out, "hello\n", 6);
	assert_true(r.result.insns >= 6);
	assert_int_equal(r.result.resets, 0);
	rig_free(&r);
}

static void test_two_machines(void **state)
{
	struct rig r[2];

	for (unsigned i = 0; i < 2; i++) {
		rig_init(&r[i], GUEST(count));
		/* argv[0] is the file's name, "ringer-vm-XXXXXX" */
		r[i].cfg.cmdline = i ? "B" : "A";
		rig_new(&r[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		rig_start(&r[i]);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t letter = (uint8_t)('A' + i);
		const uint8_t *out;
		size_t len;

		rig_join(&r[i]);
		assert_int_equal(r[i].result.end, VM_END_DEBUG_EXIT);
		assert_int_equal(r[i].result.value, letter);
		out = chr_buffer_output(r[i].out, &len);
		assert_int_equal(len, 20000);
		for (size_t n = 0; n < len; n++)
			assert_int_equal(out[n], letter);
	}
	for (unsigned i = 0; i < 2; i++)
		rig_free(&r[i]);
}

static void stop_running(const uint8_t *code, size_t len)
{
	struct rig r;

	rig_init(&r, code, len);
	rig_new(&r);
	rig_start(&r);
	wait_output(&r);
	vm_stop(r.vm);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_STOPPED);
	rig_free(&r);
}

static void test_stop_halted(void **state)
{
	stop_running(GUEST(halt));
}

static void test_stop_spinning(void **state)
{
	stop_running(GUEST(spin));
}

static void test_stop_before_run(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(spin));
	rig_new(&r);
	vm_stop(r.vm);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_STOPPED);
	rig_free(&r);
}

static struct vm *signal_vm;

static void on_signal(int sig)
{
	vm_stop(signal_vm);
}

/* vCPU threads take no signals; whichever thread does may stop the machine. */
static void test_stop_in_signal_handler(void **state)
{
	struct sigaction act = {.sa_handler = on_signal}, old;
	struct rig r;

	rig_init(&r, GUEST(halt));
	rig_new(&r);
	signal_vm = r.vm;
	assert_int_equal(sigaction(SIGUSR1, &act, &old), 0);
	rig_start(&r);
	wait_output(&r);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_STOPPED);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
	rig_free(&r);
}

static void test_reset(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(reset));
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_DEBUG_EXIT);
	assert_int_equal(r.result.value, 7);
	assert_int_equal(r.result.resets, 3);
	rig_free(&r);
}

static void test_no_reboot(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(reset));
	r.cfg.no_reboot = true;
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_RESET);
	assert_int_equal(r.result.resets, 0);
	rig_free(&r);
}

static void test_triple_fault(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(triple));
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_TRIPLE_FAULT);
	assert_true(r.result.reason[0]);
	assert_non_null(strstr(r.result.dump, "deadbeef"));
	rig_free(&r);
	/* Or as a PC does: it resets. */
	rig_init(&r, GUEST(triple));
	r.cfg.reset_on_triple_fault = true;
	r.cfg.no_reboot = true;
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_RESET);
	rig_free(&r);
}

/* How often each news came, and the last one's detail. */
static void test_pause(void **state)
{
	const struct timespec a_while = {0, 30000000};
	struct told t;
	struct rig r;
	size_t len;

	rig_init(&r, GUEST(chatter));
	rig_new(&r);
	told_init(&t, &r);
	assert_int_equal(vm_state(r.vm), VM_CREATED);
	rig_start(&r);
	wait_output(&r);
	assert_int_equal(vm_state(r.vm), VM_RUNNING);
	vm_pause(r.vm);
	wait_news(&t, VM_NEWS_PAUSED, 1);
	assert_int_equal(vm_state(r.vm), VM_PAUSED);
	len = output_len(&r);
	nanosleep(&a_while, NULL);
	assert_int_equal(output_len(&r), len);
	/* Again: told, and still paused. */
	vm_pause(r.vm);
	wait_news(&t, VM_NEWS_PAUSED, 2);
	/* A reset does not end the pause. */
	vm_reboot(r.vm);
	wait_news(&t, VM_NEWS_RESET, 1);
	assert_string_equal(t.detail, "host");
	nanosleep(&a_while, NULL);
	assert_int_equal(output_len(&r), len);
	vm_resume(r.vm);
	wait_news(&t, VM_NEWS_RUNNING, 1);
	wait_more_output(&r);
	vm_pause(r.vm);
	wait_news(&t, VM_NEWS_PAUSED, 3);
	vm_stop(r.vm);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_STOPPED);
	assert_int_equal(r.result.resets, 1);
	assert_int_equal(vm_state(r.vm), VM_ENDED);
	assert_int_equal(t.count[VM_NEWS_BOOTED], 1);
	assert_int_equal(t.count[VM_NEWS_ENDED], 1);
	assert_string_equal(t.detail, "stopped");
	rig_free(&r);
}

static void test_pause_before_run(void **state)
{
	struct told t;
	struct rig r;

	rig_init(&r, GUEST(exit));
	rig_new(&r);
	told_init(&t, &r);
	vm_pause(r.vm);
	rig_start(&r);
	wait_news(&t, VM_NEWS_PAUSED, 1);
	assert_int_equal(output_len(&r), 0);
	vm_resume(r.vm);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_DEBUG_EXIT);
	rig_free(&r);
}

static void *pause_and_resume(void *arg)
{
	struct rig *r = arg;

	for (int i = 0; i < 300; i++) {
		vm_pause(r->vm);
		vm_resume(r->vm);
		if (i % 50 == 0)
			vm_reboot(r->vm);
	}
	return NULL;
}

/* Two threads at it, against each other. */
static void test_pause_storm(void **state)
{
	pthread_t thread;
	struct rig r;

	rig_init(&r, GUEST(chatter));
	r.cfg.no_reboot = true; /* does not forbid the host's */
	rig_new(&r);
	rig_start(&r);
	assert_int_equal(pthread_create(&thread, NULL, pause_and_resume, &r), 0);
	pause_and_resume(&r);
	pthread_join(thread, NULL);
	vm_resume(r.vm);
	wait_more_output(&r);
	vm_stop(r.vm);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_STOPPED);
	assert_true(r.result.resets >= 1);
	rig_free(&r);
}

static void test_power_button(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(button));
	rig_new(&r);
	rig_start(&r);
	wait_output(&r);
	vm_power_button(r.vm);
	rig_join(&r);
	assert_int_equal(r.result.end, VM_END_POWEROFF);
	rig_free(&r);
}

/* Through the 8254, 8259, LINT0 and the halted vCPU's wake-up. */
static void test_timer(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(timer));
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_DEBUG_EXIT);
	assert_int_equal(r.result.value, 5);
	rig_free(&r);
}

static void test_apic_page(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(apic));
	rig_new(&r);
	vm_run(r.vm, &r.result);
	assert_int_equal(r.result.end, VM_END_DEBUG_EXIT);
	assert_int_equal(r.result.value & 0xff, 0);
	assert_in_range(r.result.value >> 8, 0x10, 0x1f);
	rig_free(&r);
}

/* vm_new() fails with `code`, says `word`, and has freed the backend it was given (leak checkers
 * see). */
static void refused(struct rig *r, int code, const char *word)
{
	struct err err = {""};

	assert_int_equal(vm_new(&r->vm, &r->cfg, r->loop, &err), -code);
	if (!strstr(err.text, word))
		fail_msg("\"%s\" not in \"%s\"", word, err.text);
	assert_int_equal(chr_buffer_new(&r->out, &err), 0);
	r->cfg.debugcon = r->out;
}

static void test_bad_config(void **state)
{
	struct rig r;

	rig_init(&r, GUEST(halt));
	r.cfg.ram = MIB(8) + 1;
	refused(&r, EINVAL, "4 KiB");
	r.cfg.ram = MIB(1);
	refused(&r, EINVAL, "2 MiB");
	r.cfg.ram = GIB(65);
	refused(&r, EINVAL, "64 GiB");
	r.cfg.ram = MIB(8);
	r.cfg.engine = "steam";
	refused(&r, EINVAL, "steam");
	r.cfg.engine = NULL;
	r.cfg.cpu = "z80";
	refused(&r, EINVAL, "z80");
	r.cfg.cpu = NULL;
	r.cfg.initrd = "/nonexistent";
	refused(&r, ENOENT, "/nonexistent");
	r.cfg.initrd = NULL;
	r.cfg.kernel = "/dev/null";
	refused(&r, EINVAL, "empty");
	r.cfg.kernel = NULL;
	refused(&r, EINVAL, "kernel");
	chr_free(r.out);
	r.vm = NULL;
	rig_free(&r);
}

/* The translator goes first, where the build lets it work. */
static void test_default_engine(void **state)
{
	const struct engine_ops *chosen, *other;
	struct err err = {""};

	assert_int_equal(vm_choose_engine(&chosen, "auto", &err), 0);
	assert_string_equal(chosen->name, light_code ? "bt" : "interp");
	assert_int_equal(vm_choose_engine(&other, NULL, &err), 0);
	assert_ptr_equal(other, chosen);
	assert_int_equal(vm_choose_engine(&other, "interp", &err), 0);
	assert_string_equal(other->name, "interp");
	assert_int_equal(vm_choose_engine(&other, "bt", &err), light_code ? 0 : -EINVAL);
	assert_int_equal(vm_choose_engine(&other, "warp", &err), -EINVAL);
	assert_non_null(strstr(err.text, "warp"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_debug_exit),
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_stop_halted),
		cmocka_unit_test(test_stop_spinning),
		cmocka_unit_test(test_stop_before_run),
		cmocka_unit_test(test_stop_in_signal_handler),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_no_reboot),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_pause_before_run),
		cmocka_unit_test(test_pause_storm),
		cmocka_unit_test(test_power_button),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_apic_page),
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test(test_default_engine),
	};

	if (argc > 1)
		engine = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
