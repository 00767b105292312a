/*
 * vm.c - a machine's life: put together, loaded, run, reset, ended.
 *
 * Theory of operation. What happens to a running machine is noted as an event: a bit in `events`,
 * set by any thread (a device in the guest's register access, vm_stop() in a signal handler), after
 * which every vCPU is asked to leave its engine. The vCPU threads end, and vm_run()'s thread,
 * having joined them, is alone with the machine: it acts on the events, and for a reset starts the
 * threads again. So nobody ever resets a device or a vCPU that is in use, however many vCPUs there
 * are.
 *
 * Only vm_run()'s thread clears events. What goes with an event (exit value, failed vCPU) is
 * written before its bit is set, by the one who sets it first.
 *
 * Pausing is an event, too: the vCPU threads end, and vm_run()'s thread sleeps until the next event.
 * `want_paused` says what was asked for last; whoever changes it posts EVENT_PAUSE, which means
 * "look at it". Time goes on in a paused machine: the guest's clocks and the devices' timers follow
 * the host's, and a timer that expires raises its interrupt, which waits. Afterwards the clocks are
 * right, and the guest is told through its paravirtual clock that it did not run.
 */
#include "vm/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kvm.h"
#include "vm/acpi.h"
#include "vm/internal.h"

#define KERNEL_FILE_MAX GIB(2)
#define RAM_MIN MIB(2)
#define RAM_MAX GIB(64)

void vm_post(struct vm *vm, enum vm_event event)
{
	atomic_fetch_or(&vm->events, event);
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		vcpu_request(vm->vcpu[i], CPU_REQ_STOP);
	sem_post(&vm->posted);
}

/* The process was stopped, or its host: the guest is to know before its timers' interrupts tell it. */
static void on_late(void *ctx)
{
	struct vm *vm = ctx;

	for (unsigned i = 0; i < vm->n_vcpus; i++)
		cpu_kvm_stood_still(vm->vcpu[i]);
}

static void on_power_off(void *ctx)
{
	vm_post(ctx, EVENT_POWER_OFF);
}

static void on_reset(void *ctx)
{
	vm_post(ctx, EVENT_RESET);
}

static void on_debug_exit(void *ctx, uint32_t value)
{
	struct vm *vm = ctx;

	if (!(atomic_load(&vm->events) & EVENT_DEBUG_EXIT))
		atomic_store(&vm->exit_value, value);
	vm_post(vm, EVENT_DEBUG_EXIT);
}

static int check_config(const struct vm_config *c, struct err *err)
{
	if (!c->kernel)
		return err_set(err, EINVAL, "no kernel given");
	if (c->ram % GUEST_PAGE_SIZE)
		return err_set(err, EINVAL, "%llu bytes of memory are not a multiple of 4 KiB",
			       (unsigned long long)c->ram);
	if (c->ram < RAM_MIN || c->ram > RAM_MAX)
		return err_set(err, EINVAL,
			       "%llu KiB of memory: between %llu MiB and %llu GiB are possible",
			       (unsigned long long)c->ram >> 10, (unsigned long long)RAM_MIN >> 20,
			       (unsigned long long)RAM_MAX >> 30);
	return 0;
}

static int new_board(struct vm *vm, struct err *err)
{
	const struct board_config cfg = {
		.ram = vm->cfg.ram,
		.loop = vm->loop,
		.log = &vm->cfg.log,
		.serial = vm->cfg.serial,
		.debugcon = vm->cfg.debugcon,
		.power_off = {on_power_off, vm},
		.reset = {on_reset, vm},
		.debug_exit = vm->cfg.debug_exit ? on_debug_exit : NULL,
		.debug_exit_ctx = vm,
		.eject = vm->cfg.max_cpus > 1 ? vm_cpu_ejected : NULL,
		.eject_ctx = vm,
	};

	return board_new(&vm->board, &cfg, err);
}

/*
 * Frees of the files what the plan can do without: the bytes of open ones, and all of the kernel's when everything is in
 * buffers of the plan's own (an unpacked payload).
 */
static void drop_unused(struct vm *vm)
{
	const struct boot_file *f = &vm->kernel;
	bool used = false;

	for (unsigned i = 0; i < vm->plan.n_pieces; i++) {
		const struct boot_piece *p = &vm->plan.piece[i];

		used |= p->file == f || (p->data >= f->data && p->data < f->data + f->size);
	}
	if (!used)
		boot_file_free(&vm->kernel);
	boot_file_forget(&vm->kernel);
	boot_file_forget(&vm->initrd);
}

static void free_boot(struct vm *vm)
{
	boot_plan_free(&vm->plan);
	boot_file_free(&vm->kernel);
	boot_file_free(&vm->initrd);
}

/* They say which processors are there. Always of the same length. */
static int build_acpi(struct vm *vm, struct err *err)
{
	uint64_t low = boot_low_ram_end(vm->cfg.ram), present = vm->present;
	const struct acpi_config cfg = {
		.cpus = vm->cfg.max_cpus, .present = &present,
		.cpu_hotplug_base = vm->board->hotplug ? BOARD_CPU_HOTPLUG_BASE : 0,
		.ram_top = GIB(4) + vm->cfg.ram - low,
		.phys_bits = vm->model.phys_bits, .pm_base = BOARD_PM_BASE,
	};

	return acpi_build(&cfg, BOOT_ACPI_BASE, vm->acpi, sizeof(vm->acpi), err);
}

static int plan_acpi(struct vm *vm, struct err *err)
{
	int len = build_acpi(vm, err);

	if (len < 0)
		return len;
	return boot_plan_add(&vm->plan, "ACPI tables", BOOT_ACPI_BASE, vm->acpi, (uint64_t)len,
			     BOOT_ACPI_SIZE, err);
}

static int plan_boot(struct vm *vm, const struct vm_config *c, struct err *err)
{
	struct boot_request req = {
		.cmdline = c->cmdline, .ram = c->ram, .how = c->boot,
		.progress = c->progress, .progress_ctx = c->progress_ctx,
	};
	int ret = boot_file_open(&vm->kernel, c->kernel, "kernel", KERNEL_FILE_MAX, err);

	if (ret == 0 && c->initrd)
		ret = boot_file_open(&vm->initrd, c->initrd, "initrd",
				     min_u64(c->ram, BOOT_PCI_HOLE), err);
	if (ret < 0)
		return ret;
	req.kernel = (struct boot_bytes){vm->kernel.data, vm->kernel.size, c->kernel, &vm->kernel};
	req.initrd = (struct boot_bytes){vm->initrd.data, vm->initrd.size, c->initrd, &vm->initrd};
	ret = boot_plan_make(&vm->plan, &req, err);
	if (ret == 0)
		ret = plan_acpi(vm, err);
	if (ret == 0)
		drop_unused(vm);
	return ret;
}

/* Everything as after power-on or reset, with the guest loaded. No vCPU thread runs. */
static int reset_machine(struct vm *vm, struct err *err)
{
	int ret;

	guest_mem_clear(vm->board->mem);
	vm_reset_cpus(vm);
	vm_reset_vcpus(vm);
	board_reset(vm->board, vm->present);
	ret = build_acpi(vm, err);
	if (ret >= 0)
		ret = boot_plan_load(&vm->plan, vm->board->mem, err);
	if (ret < 0)
		return ret;
	boot_plan_enter(&vm->plan, vm->vcpu[0]);
	vm_match_vcpus(vm);
	return 0;
}

int vm_new(struct vm **out, struct vm_config *config, struct loop *loop, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm) {
		chr_free(config->serial);
		chr_free(config->debugcon);
		return err_set(err, ENOMEM, "no memory for a machine");
	}
	vm->cfg = *config;
	vm->loop = loop;
	sem_init(&vm->posted, 0, 0);
	ret = check_config(config, err);
	if (ret == 0)
		ret = vm_check_cpus(&vm->cfg, err);
	if (ret == 0)
		ret = vm_new_sched(vm, err);
	if (ret == 0)
		ret = vm_check_engine_config(&vm->cfg.engine_config, err);
	if (ret == 0)
		ret = vm_choose_engine(&vm->engine, config->engine, err);
	if (ret == 0)
		ret = cpu_model_init(&vm->model, config->cpu ? config->cpu : "default", err);
	if (ret == 0)
		ret = new_board(vm, err);
	if (ret == 0)
		ret = vm_new_vcpus(vm, err);
	if (ret == 0)
		ret = plan_boot(vm, config, err);
	if (ret == 0)
		ret = reset_machine(vm, err);
	if (ret < 0) {
		vm_free(vm);
		return ret;
	}
	log_info(&vm->cfg.log, "%s: %s, engine %s, %u CPUs %s, %llu MiB", config->kernel,
		 vm->plan.protocol, vm->engine->name, vm->n_vcpus, vm->model.name,
		 (unsigned long long)config->ram >> 20);
	loop_on_late(loop, on_late, vm);
	*out = vm;
	return 0;
}

/* Sleeps until an event; returns the events, cleared. */
static uint32_t wait_paused(struct vm *vm)
{
	uint32_t events;

	/* More posts than events: those from before the pause. */
	while (!(events = atomic_exchange(&vm->events, 0)))
		sem_wait(&vm->posted);
	return events;
}

void vm_tell(struct vm *vm, enum vm_news news, const char *detail)
{
	if (vm->listener.fn)
		vm->listener.fn(vm->listener.ctx, news, detail);
}

static void settle_pause(struct vm *vm)
{
	bool paused = atomic_load(&vm->want_paused);

	if (!paused && vm->state == VM_PAUSED)
		for (unsigned i = 0; i < vm->n_vcpus; i++)
			cpu_kvm_clock_stopped(vm->vcpu[i]);
	vm->state = paused ? VM_PAUSED : VM_RUNNING;
	vm_tell(vm, paused ? VM_NEWS_PAUSED : VM_NEWS_RUNNING, NULL);
}

static void set_reason(struct vm_result *r, enum vm_end end, const char *fmt, ...)
	printf_like(3, 4);
static void set_reason(struct vm_result *r, enum vm_end end, const char *fmt, ...)
{
	va_list ap;

	r->end = end;
	va_start(ap, fmt);
	vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
	va_end(ap);
}

static void ended_result(struct vm *vm, struct vm_result *r)
{
	struct vcpu *v = atomic_load(&vm->ended_vcpu);
	bool shutdown = vm->ended_why == RUN_SHUTDOWN;

	set_reason(r, shutdown ? VM_END_TRIPLE_FAULT : VM_END_ERROR, "%s on vCPU %u: %s",
		   shutdown ? "triple fault" : "the engine cannot go on", v->id, v->stop_reason);
	cpu_dump(v, r->dump, sizeof(r->dump));
}

/* Whether the machine has ended. */
static bool has_ended(struct vm *vm, uint32_t events, struct vm_result *r, const struct err *err)
{
	if (events & EVENT_POWER_OFF) {
		set_reason(r, VM_END_POWEROFF, "the guest powered off");
	} else if (events & EVENT_DEBUG_EXIT) {
		r->value = atomic_load(&vm->exit_value);
		set_reason(r, VM_END_DEBUG_EXIT, "the guest ended the machine with value %u",
			   r->value);
	} else if (events & EVENT_ENDED) {
		ended_result(vm, r);
	} else if (events & EVENT_STOP) {
		set_reason(r, VM_END_STOPPED, "stopped");
	} else if (!events) {
		set_reason(r, VM_END_ERROR, "%s", err->text);
	} else if (events & EVENT_RESET && !(events & EVENT_REBOOT) && vm->cfg.no_reboot) {
		set_reason(r, VM_END_RESET, "the guest reset the machine");
	} else {
		return false;
	}
	return true;
}

/* Whether the machine has ended; otherwise it was reset, paused or resumed, and goes on. */
static bool handle_events(struct vm *vm, uint32_t events, struct vm_result *r, struct err *err)
{
	const char *who = events & EVENT_REBOOT ? "host" : "guest";

	if (has_ended(vm, events, r, err))
		return true;
	if (events & (EVENT_RESET | EVENT_REBOOT)) {
		if (reset_machine(vm, err) < 0) {
			set_reason(r, VM_END_ERROR, "reset: %s", err->text);
			return true;
		}
		vm->resets++;
		log_info(&vm->cfg.log, "the %s reset the machine", who);
		vm_tell(vm, VM_NEWS_RESET, who);
	}
	if (events & (EVENT_CPUS | EVENT_EJECT))
		vm_settle_cpus(vm, events);
	if (events & EVENT_PAUSE)
		settle_pause(vm);
	return false;
}

void vm_run(struct vm *vm, struct vm_result *result)
{
	struct err err = {"no event"};
	uint32_t events;

	memset(result, 0, sizeof(*result));
	vm->state = VM_RUNNING;
	vm_tell(vm, VM_NEWS_BOOTED, NULL);
	do
		events = vm->state == VM_PAUSED ? wait_paused(vm) : vm_run_vcpus(vm, &err);
	while (!handle_events(vm, events, result, &err));
	vm->state = VM_ENDED;
	for (unsigned i = 0; i < vm->n_vcpus; i++)
		result->insns += vm->vcpu[i]->insns;
	result->resets = vm->resets;
	vm_tell(vm, VM_NEWS_ENDED, result->reason);
}

const struct engine_ops *vm_engine(const struct vm *vm)
{
	return vm->engine;
}

void vm_stop(struct vm *vm)
{
	vm_post(vm, EVENT_STOP);
}

void vm_pause(struct vm *vm)
{
	atomic_store(&vm->want_paused, true);
	vm_post(vm, EVENT_PAUSE);
}

void vm_resume(struct vm *vm)
{
	atomic_store(&vm->want_paused, false);
	vm_post(vm, EVENT_PAUSE);
}

void vm_reboot(struct vm *vm)
{
	vm_post(vm, EVENT_REBOOT);
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

void vm_listen(struct vm *vm, const struct vm_listener *listener)
{
	vm->listener = *listener;
}

void vm_get_info(const struct vm *vm, struct vm_info *info)
{
	*info = (struct vm_info){
		.ram = vm->cfg.ram, .cpus = (unsigned)__builtin_popcountll(vm->present),
		.boot_cpus = vm->cfg.cpus, .max_cpus = vm->cfg.max_cpus,
		.engine = vm->engine->name, .cpu_model = vm->model.name,
		.boot_protocol = vm->plan.protocol,
	};
}

void vm_power_button(struct vm *vm)
{
	board_power_button(vm->board);
}

static void free_vcpus(void *ctx)
{
	vm_free_vcpus(ctx);
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	loop_on_late(vm->loop, NULL, NULL);
	vm_fini_engines(vm);
	board_free(vm->board, free_vcpus, vm);
	free_boot(vm);
	loop_lock(vm->loop);
	chr_free(vm->cfg.serial);
	chr_free(vm->cfg.debugcon);
	loop_unlock(vm->loop);
	sem_destroy(&vm->posted);
	sched_free(vm->sched);
	free(vm);
}
