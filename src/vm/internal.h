/*
 * internal.h - what the files of this folder share about a machine. vm.c has the theory of operation.
 */
#ifndef RINGER_VM_INTERNAL_H
#define RINGER_VM_INTERNAL_H

#include <semaphore.h>

#include "vm/board.h"
#include "vm/boot/boot.h"
#include "vm/vcpu_thread.h"
#include "vm/vm.h"

/* In order of precedence when several are seen together. */
enum vm_event {
	EVENT_POWER_OFF = 1 << 0,
	EVENT_DEBUG_EXIT = 1 << 1,
	EVENT_ENDED = 1 << 2,
	EVENT_STOP = 1 << 3,
	EVENT_RESET = 1 << 4,
	EVENT_REBOOT = 1 << 5, /* a reset that the host asked for */
	EVENT_PAUSE = 1 << 6,  /* want_paused may have changed */
	EVENT_CPUS = 1 << 7,   /* want_cpus may have changed */
	EVENT_EJECT = 1 << 8,  /* the guest let processors go: `ejected` */
};

struct vm {
	struct vm_config cfg; /* strings are not kept */
	struct loop *loop;
	struct cpu_model model;
	const struct engine_ops *engine;
	struct board *board;
	/*
	 * vCPU i has APIC ID i. The first n_vcpus exist, whether the guest has them now or not (hotplug.c); only
	 * vm_new() and vm_run()'s thread add any, which makes the pointer good before the number.
	 */
	struct vcpu *vcpu[VM_CPUS_MAX];
	struct vcpu_thread thread[VM_CPUS_MAX];
	_Atomic unsigned n_vcpus;
	struct sched *sched; /* NULL: the host decides alone. Set before the first vCPU is made */
	_Atomic uint64_t present; /* bit i: the guest has vCPU i. Written while no vCPU runs */
	uint64_t leaving;         /* bit i: and was asked to let it go. vm_run()'s thread */
	_Atomic unsigned want_cpus; /* how many it is to have, as asked last; goes with EVENT_CPUS */
	_Atomic uint64_t ejected; /* bit i: the guest has let it go; goes with EVENT_EJECT */
	struct boot_file kernel, initrd; /* the plan refers to them */
	struct boot_plan plan;
	uint8_t acpi[BOOT_ACPI_SIZE];

	_Atomic uint32_t events;        /* enum vm_event */
	_Atomic uint32_t exit_value;    /* of EVENT_DEBUG_EXIT */
	_Atomic(struct vcpu *) ended_vcpu; /* of EVENT_ENDED */
	enum run_exit ended_why;
	_Atomic unsigned resets;
	_Atomic bool want_paused;
	_Atomic enum vm_state state; /* written by vm_run()'s thread */
	sem_t posted; /* wakes vm_run()'s thread while the machine is paused */
	struct vm_listener listener;
};

/* vm.c: notes the event and asks every vCPU to leave. Any thread, also in a signal handler. */
void vm_post(struct vm *vm, enum vm_event event);

void vm_tell(struct vm *vm, enum vm_news news, const char *detail);

/* cpus.c. Nothing here is called while vCPU threads run, except as said. */
int vm_check_cpus(struct vm_config *c, struct err *err) must_check;
int vm_new_sched(struct vm *vm, struct err *err) must_check;
int vm_new_vcpus(struct vm *vm, struct err *err) must_check;
/* vCPU number n_vcpus. */
int vm_new_vcpu(struct vm *vm, struct err *err) must_check;
/* Power-on state: the boot processor runs, the others wait for their start-up IPI. */
void vm_reset_vcpus(struct vm *vm);
void vm_reset_vcpu(struct vm *vm, unsigned id);
/* What firmware sets alike on every processor: the others' as the boot processor's. */
void vm_match_vcpus(struct vm *vm);
/* Runs the vCPUs until an event; returns the events, cleared; 0 with err when they could not be run. */
uint32_t vm_run_vcpus(struct vm *vm, struct err *err);
/* The engine's part of each vCPU, and then, when nothing refers to them any more, the rest. */
void vm_fini_engines(struct vm *vm);
void vm_free_vcpus(struct vm *vm);

/* hotplug.c. From the device, on a vCPU's thread: */
void vm_cpu_ejected(void *ctx, unsigned cpu);
/* On vm_run()'s thread, no vCPU running: after EVENT_EJECT or EVENT_CPUS, and at a reset. */
void vm_settle_cpus(struct vm *vm, uint32_t events);
void vm_reset_cpus(struct vm *vm);

#endif
