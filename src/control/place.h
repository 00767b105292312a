/*
 * place.h - where running machines can be found: one directory per user, in which a machine NAME has
 *
 *	NAME.sock   its control socket, mode 0600
 *	NAME.lock   locked (flock) as long as the machine lives
 *
 * The lock says who is there: a socket whose lock nobody holds was left behind by a process that was
 * killed, and may be removed by whoever then holds the lock. A lock file may be removed by its
 * holder; who gets a lock therefore looks whether the file is still the one of that name.
 */
#ifndef RINGER_CONTROL_PLACE_H
#define RINGER_CONTROL_PLACE_H

#include <sys/un.h>

#include "base/base.h"
#include "base/err.h"

enum { PLACE_NAME_MAX = 40, PLACE_MACHINES_MAX = 1024 };

struct place {
	char dir[256];
};

/* A name that is taken, and the files that go with it. */
struct place_lock {
	int fd; /* -1: none */
	struct sockaddr_un address;
	char lock_path[320];
};

/*
 * The directory: ringer/ in $XDG_RUNTIME_DIR, else in /run/user/UID, else /tmp/ringer-UID. Made if it
 * is missing; -EPERM when it is not the user's own alone.
 */
int place_find(struct place *p, struct err *err) must_check;

/* A letter or digit, then letters, digits, '.', '_' and '-': -EINVAL. */
int place_check_name(const char *name, struct err *err) must_check;

/* -EEXIST: a machine of that name runs. What a dead one left is removed. */
int place_lock(struct place_lock *l, const struct place *p, const char *name, struct err *err) must_check;
/* Removes socket and lock file. */
void place_unlock(struct place_lock *l);

int place_address(struct sockaddr_un *a, const struct place *p, const char *name,
		  struct err *err) must_check;

struct place_names {
	char name[PLACE_MACHINES_MAX][PLACE_NAME_MAX + 1];
	size_t n;
};
/*
 * The machines that have a lock, by name in order; what dead ones left is removed. More than fit are
 * left out.
 */
int place_list(const struct place *p, struct place_names *out, struct err *err) must_check;
/* Whether a machine of that name runs; what a dead one left is removed, and *was_stale set. */
bool place_lives(const struct place *p, const char *name, bool *was_stale);

#endif
