/*
 * control.h - the control socket of a running machine: HTTP and JSON on a unix socket, as
 * abi/ringer-api.yaml says.
 *
 * It has an event loop and a thread of its own, so that neither a client nor a busy device holds the
 * other up. All state is guarded by that loop's lock, which the machine's thread takes to tell news.
 */
#ifndef RINGER_CONTROL_CONTROL_H
#define RINGER_CONTROL_CONTROL_H

#include "base/base.h"
#include "base/err.h"
#include "vm/vm.h"

struct control;

/* What vm.info says beside what the machine knows. Strings outlive the control. */
struct control_config {
	const char *version;
	const char *kernel, *initrd, *cmdline; /* the last two may be NULL */
};

/* The name of a machine that was given none. */
void control_default_name(char *buf, size_t len);

/*
 * Takes the name: early, before anything that takes long. -EEXIST: it is in use; -EINVAL: it is
 * none.
 */
int control_open(struct control **out, const char *name, struct err *err) must_check;
/* Opens the socket and serves it. vm_run() has not begun; the machine outlives the control. */
int control_start(struct control *c, struct vm *vm, const struct control_config *cfg,
		  struct err *err) must_check;
/* vm_run() has returned: tells who listens. end is one word, reason a line for people. */
void control_ended(struct control *c, const char *end, const char *reason);
/*
 * Gives clients up to a second to take their last answer, closes all and frees the name. c may be
 * NULL. Before the machine is freed.
 */
void control_free(struct control *c);

#endif
