/*
 * console.h - the guest's serial console on this process's standard input and output, with the keys
 * after Ctrl-A that talk to Ringer instead of the guest. The keys exist only where input is a
 * terminal: from a pipe every byte goes to the guest.
 */
#ifndef RINGER_CLI_CONSOLE_H
#define RINGER_CLI_CONSOLE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "cli/cli.h"
#include "host/chr.h"
#include "vm/vm.h"

struct console {
	struct vm *vm;    /* set before the loop starts */
	struct chr *chr;  /* the typist; owned by the machine once handed over */
	bool keys;        /* Ctrl-A is ours */
	bool escaped;     /* Ctrl-A was the last key; loop's lock */
	atomic_bool quit; /* Ctrl-A x was pressed */
	/*
	 * vm_power_button() takes the loop's lock, which the key's callback already holds: a thread
	 * presses.
	 */
	pthread_t presser;
	bool presser_runs;
	atomic_bool presser_stop;
	sem_t presses;
};

/* Makes the backend, c->chr. c must stay put until console_fini(). */
int console_init(struct console *c, struct loop *loop, struct err *err) must_check;
/* The machine is there: keys work from now on. */
int console_start(struct console *c, struct vm *vm, struct err *err) must_check;
/* Before the machine is freed; also after a failed or no console_start(). */
void console_fini(struct console *c);

/* The keys, for help. */
cli_list_fn console_key_list;

/*
 * Input filter, as chr_stdio_new() wants it: takes out Ctrl-A and the key after it, and acts on
 * them.
 */
size_t console_filter(void *ctx, uint8_t *buf, size_t len);

#endif
