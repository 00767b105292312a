/*
 * vm.h - a machine: made from a configuration, run, ended. Two machines in one process do not know of
 * each other.
 */
#ifndef RINGER_VM_VM_H
#define RINGER_VM_VM_H

#include "base/base.h"
#include "base/err.h"
#include "base/log.h"
#include "cpu/engine.h"
#include "host/chr.h"
#include "host/loop.h"
#include "vm/sched_core.h"

/* Processors that a machine can have. */
#define VM_CPUS_MAX 64

enum vm_boot {
	VM_BOOT_AUTO,  /* by the file's kind, the fastest way that works */
	VM_BOOT_LINUX, /* Linux 64-bit entry; a compressed payload is unpacked on the host */
	VM_BOOT_LINUX_ORIGINAL, /* bzImage's own decompressor runs in the guest */
	VM_BOOT_PVH, VM_BOOT_MULTIBOOT,
};

struct vm_config {
	const char *kernel;  /* path; required */
	const char *initrd;  /* path or NULL */
	const char *cmdline; /* or NULL: "" */
	uint64_t ram;        /* bytes, multiple of 4 KiB; at least 2 MiB, at most 64 GiB */
	const char *engine;  /* a name of vm_engines, or "auto": the first that works here */
	unsigned cpus;       /* 1..VM_CPUS_MAX; 0: 1. May be more than the host has */
	unsigned max_cpus;   /* what vm_set_cpus() can reach: cpus..VM_CPUS_MAX; 0: cpus */
	/* vCPU i runs on host CPU pin[i % n_pins] alone; n_pins 0: on any. */
	uint16_t pin[VM_CPUS_MAX];
	unsigned n_pins;
	/* Who runs when there are more vCPUs than host CPUs (vm/sched_core.h). */
	const char *sched;       /* a policy's name; NULL: the default, which leaves it to the host */
	unsigned sched_slots;    /* how many run at a time; 0: as many as there are host CPUs for them */
	uint64_t sched_slice_ns; /* how long one runs while others wait; 0: the default */
	unsigned cpu_cap; /* processor time of all vCPUs together, per cent of one host CPU; 0: no bound */
	unsigned nice; /* that much less priority for vCPUs than the process has: 0..19 */
	/*
	 * Microseconds that a halted vCPU may look out for an interrupt before its thread sleeps, where that helps (vm/halt_poll.h):
	 * at most 1000; 0: never.
	 */
	unsigned halt_poll;
	/* What the engine may be told (copied); cache_bytes 0: ENGINE_CACHE_DEFAULT. */
	struct engine_config engine_config;
	const char *cpu;     /* model name; NULL: "default" */
	enum vm_boot boot;
	/* Serial port COM1's backend. Consumed: freed by the machine, also when vm_new() fails. */
	struct chr *serial;
	struct chr *debugcon; /* port 0xe9; NULL: discarded. Consumed likewise. */
	bool debug_exit;     /* offer the debug-exit port 0xf4 (a guest can end the machine with a status) */
	bool reset_on_triple_fault; /* otherwise a triple fault stops the machine */
	bool no_reboot;      /* a guest reset ends the machine instead */
	struct log log;      /* sink may be NULL */
	/* Called from vm_new() when something takes long; fraction 0..1; may be NULL. */
	void (*progress)(void *ctx, const char *what, double fraction);
	void *progress_ctx;
};

enum vm_end {
	VM_END_POWEROFF,     /* the guest powered off */
	VM_END_RESET,        /* reset with no_reboot */
	VM_END_DEBUG_EXIT,   /* the guest wrote `value` to the debug-exit port */
	VM_END_TRIPLE_FAULT, /* with the register dump */
	VM_END_STOPPED,      /* vm_stop() */
	VM_END_ERROR,        /* the engine or the host failed: reason */
};

struct vm_result {
	enum vm_end end;
	uint32_t value;       /* of the debug-exit port */
	char reason[256];     /* one line for people */
	char dump[4096];      /* registers, for triple faults and errors; "" otherwise */
	uint64_t insns;       /* guest instructions retired */
	unsigned resets;      /* times the guest rebooted */
};

/*
 * Figures about a machine, summed over its vCPUs. Taken while it runs they may be a little old, and
 * each on its own: sums need not agree to the last unit. Cycles are those of the host's time-stamp
 * counter, on the vCPUs' threads; engine, idle and devices never overlap but that devices are part
 * of the engine's.
 */
#define VM_ENGINE_COUNTERS 64
#define VM_PV_COUNTERS 16
struct vm_sched_stats {
	const char *policy;
	unsigned slots, n_vcpus; /* slots 0: the policy has none */
	unsigned cap_percent;
	uint64_t exhaustions; /* periods in which the cap stopped the vCPUs */
	struct sched_counters total, vcpu[VM_CPUS_MAX];
};
struct vm_stats {
	uint64_t insns, exceptions, interrupts;
	uint64_t engine_cycles; /* in the engine's run() */
	uint64_t idle_cycles;   /* waiting in HLT */
	uint64_t held_cycles;   /* ready, but kept from running by a scheduling policy or a cap */
	uint64_t device_cycles; /* in devices, with the wait for their lock */
	unsigned resets;
	struct vm_sched_stats sched;
	unsigned n_engine; /* the engine's own counters */
	struct engine_counter engine[VM_ENGINE_COUNTERS];
	unsigned n_pv; /* of the paravirtual interface */
	struct engine_counter pv[VM_PV_COUNTERS];
};

struct vm;

enum vm_state {
	VM_CREATED, /* vm_run() has not begun */
	VM_RUNNING,
	VM_PAUSED,  /* no vCPU runs; devices, timers and clocks go on */
	VM_ENDED,
};

/*
 * What happens to a machine, told on vm_run()'s thread, no lock held, no vCPU running. PAUSED and RUNNING are also
 * told when a request to pause or resume changed nothing.
 */
enum vm_news {
	VM_NEWS_BOOTED,  /* vm_run() began */
	VM_NEWS_RUNNING, /* after vm_resume() */
	VM_NEWS_PAUSED,
	VM_NEWS_CPUS,    /* they have, or the number asked for has, changed; detail: "N of M", or what failed */
	VM_NEWS_RESET,   /* detail: "guest" or "host", who asked for it */
	VM_NEWS_ENDED,   /* detail: the reason; the last news */
};
struct vm_listener {
	void (*fn)(void *ctx, enum vm_news news, const char *detail);
	void *ctx;
};

/* What a machine is made of. Strings are the machine's or constant. */
struct vm_info {
	uint64_t ram; /* bytes */
	unsigned cpus, boot_cpus, max_cpus; /* that the guest has now, had at first, may have */
	const char *engine, *cpu_model, *boot_protocol;
};

/*
 * Puts the machine together and loads the guest. -EINVAL/-ENOEXEC/-EFBIG: the configuration or an image is bad
 * (err says which and why); -ENOENT/-EACCES/...: a file cannot be read; -ENOMEM etc.: the host failed.
 */
int vm_new(struct vm **out, struct vm_config *config, struct loop *loop, struct err *err) must_check;
/* Runs until the machine ends; the loop must be started. May be called once. */
void vm_run(struct vm *vm, struct vm_result *result);
/* Makes vm_run() return soon with VM_END_STOPPED. Any thread, also a signal handler's. */
void vm_stop(struct vm *vm);
/*
 * Ask for a pause between two instructions of each vCPU, for its end, for a reset (also with no_reboot; a paused
 * machine stays so). They only ask; the listener is told. Any thread, also a signal handler's.
 */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
void vm_reboot(struct vm *vm);
/*
 * How many processors the guest is to have: 1 to max_cpus, -EINVAL. More come at once; the guest decides when, and
 * whether, some go. The listener is told. Any thread, also a signal handler's; also before vm_run().
 */
int vm_set_cpus(struct vm *vm, unsigned n, struct err *err) must_check;
/* Any thread. */
enum vm_state vm_state(const struct vm *vm);
/* One listener; before vm_run(). */
void vm_listen(struct vm *vm, const struct vm_listener *listener);
/* Any thread. */
void vm_get_info(const struct vm *vm, struct vm_info *info);
/* Presses the power button (ACPI). Any thread but a signal handler. */
void vm_power_button(struct vm *vm);
/* Any thread but a signal handler, until vm_free(). */
void vm_stats(const struct vm *vm, struct vm_stats *s);
/* What each vCPU does at this moment, and the processor time its thread has used; returns how many there are. Any thread. */
enum vm_vcpu_state {
	VM_VCPU_OFF,    /* the guest does not have it, or the machine does not run */
	VM_VCPU_USER,   /* in the guest's user mode */
	VM_VCPU_KERNEL, /* in its other code, or in what the engine does for it */
	VM_VCPU_DEVICE, /* in a device, or waiting for the others to be done with theirs */
	VM_VCPU_HALTED,
	VM_VCPU_HELD,   /* ready, but kept from running by a scheduling policy or a cap */
};
struct vm_vcpu_now {
	enum vm_vcpu_state state;
	uint64_t cpu_ns;
};
unsigned vm_vcpus_now(const struct vm *vm, struct vm_vcpu_now out[VM_CPUS_MAX]);
/* The engine that runs it. */
const struct engine_ops *vm_engine(const struct vm *vm);
void vm_free(struct vm *vm);

/* The engines built in, in order of preference; NULL-terminated. */
extern const struct engine_ops *const vm_engines[];
/*
 * The engine of that name, or for "auto" and NULL the first that works on this host; only if it works. -EINVAL with
 * the reason.
 */
int vm_choose_engine(const struct engine_ops **out, const char *name, struct err *err) must_check;
/* -EINVAL when a figure is out of its limits. Fills in the defaults. */
int vm_check_engine_config(struct engine_config *c, struct err *err) must_check;

#endif
