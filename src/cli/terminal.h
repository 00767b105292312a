/*
 * terminal.h - the terminal and the signals of this process.
 *
 * Both belong to the process, not to a machine, and signal handlers get no context: this is the one
 * place with file-scope state. Only one command at a time may use it.
 */
#ifndef RINGER_CLI_TERMINAL_H
#define RINGER_CLI_TERMINAL_H

#include "base/base.h"
#include "base/err.h"

/*
 * Catches every signal that would end or stop the process, so that the terminal is restored first.
 * To be called before vm_new(): engines put their handlers for faults in front of these. Signals
 * that the process was started with ignored (nohup, background jobs) stay ignored.
 */
int signals_catch(struct err *err) must_check;
/*
 * From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT call stop(ctx), which must be async-signal-safe,
 * instead of ending the process; the second one of them ends it all the same. NULL: back to ending
 * it.
 */
void signals_on_stop(void (*stop)(void *ctx), void *ctx);
/* SIGUSR1 calls report(ctx), which must be async-signal-safe. NULL: back to ending the process. */
void signals_on_report(void (*report)(void *ctx), void *ctx);
/* The signal that called stop(), 0 when none did. */
int signals_caught(void);
/* Restores the terminal and ends the process by that signal. */
_Noreturn void signals_die(int sig);

/*
 * Puts the terminal fd into raw mode; from here on every way out of the process restores it. A
 * child process watches over this one and does so even when it is killed (SIGKILL). Does nothing
 * when fd is no terminal.
 */
int terminal_raw(int fd, struct err *err) must_check;
bool terminal_is_raw(void);
void terminal_restore(void);
/*
 * What ends a line that is written to stream fd just now: raw terminals need the carriage return.
 */
const char *terminal_eol(int fd);

#endif
