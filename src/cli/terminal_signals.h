/* terminal_signals.h - what signal handlers do to the terminal. All async-signal-safe. */
#ifndef RINGER_CLI_TERMINAL_SIGNALS_H
#define RINGER_CLI_TERMINAL_SIGNALS_H

#include "base/base.h"

/*
 * Back to the saved mode: for as long as the process is stopped, or for good because it is about to
 * die.
 */
void terminal_leave(bool for_good);
/* Raw again, if it was and the process is in the foreground. */
void terminal_reenter(void);

#endif
