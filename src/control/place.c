#include "control/place.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* An own directory of the user's, whoever else can write its parent: neither a link nor another's. */
static int check_dir(const char *dir, struct err *err)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return err_set(err, errno, "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "%s is no directory; remove it", dir);
	if (st.st_uid != geteuid())
		return err_set(err, EPERM, "%s belongs to another user; set XDG_RUNTIME_DIR to a "
			       "directory of your own", dir);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(err, EPERM, "%s is open to other users; close it: chmod 700 %s", dir,
			       dir);
	return 0;
}

static bool is_own_dir(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

int place_find(struct place *p, struct err *err)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	unsigned uid = (unsigned)geteuid();
	char user[64];
	int n;

	snprintf(user, sizeof(user), "/run/user/%u", uid);
	if (xdg && *xdg && *xdg != '/')
		return err_set(err, EINVAL, "XDG_RUNTIME_DIR is no absolute path");
	if (xdg && *xdg)
		n = snprintf(p->dir, sizeof(p->dir), "%s/ringer", xdg);
	else if (is_own_dir(user))
		n = snprintf(p->dir, sizeof(p->dir), "%s/ringer", user);
	else
		n = snprintf(p->dir, sizeof(p->dir), "/tmp/ringer-%u", uid);
	if ((size_t)n >= sizeof(p->dir))
		return err_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
	if (mkdir(p->dir, S_IRWXU) < 0 && errno != EEXIST)
		return err_set(err, errno, "cannot make the directory %s for control sockets: %s",
			       p->dir, strerror(errno));
	return check_dir(p->dir, err);
}

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > PLACE_NAME_MAX || !isalnum((unsigned char)*name))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

int place_check_name(const char *name, struct err *err)
{
	if (is_name(name))
		return 0;
	return err_set(err, EINVAL, "'%.64s' is no name for a machine: up to %d letters, digits, '.', "
		       "'_' and '-', the first a letter or a digit", name, PLACE_NAME_MAX);
}

int place_address(struct sockaddr_un *a, const struct place *p, const char *name, struct err *err)
{
	int n;

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s.sock", p->dir, name);
	if ((size_t)n < sizeof(a->sun_path))
		return 0;
	return err_set(err, ENAMETOOLONG, "%s/%s.sock: a socket's path has at most %zu characters; set "
		       "XDG_RUNTIME_DIR to a shorter one", p->dir, name, sizeof(a->sun_path) - 1);
}

/* A descriptor with the lock, for the file that has that path now; -EWOULDBLOCK: another holds it. */
static int try_lock(const char *path, int flags)
{
	struct stat ours, named;
	int fd;

	for (int i = 0; i < 100; i++) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, S_IRUSR | S_IWUSR);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int e = errno;

			close(fd);
			return -e;
		}
		/* Its holder may have removed it between open and lock. */
		if (fstat(fd, &ours) == 0 && lstat(path, &named) == 0 &&
		    ours.st_ino == named.st_ino && ours.st_dev == named.st_dev)
			return fd;
		close(fd);
		if (!(flags & O_CREAT))
			return -ENOENT;
	}
	return -EWOULDBLOCK;
}

int place_lock(struct place_lock *l, const struct place *p, const char *name, struct err *err)
{
	const struct timespec moment = {.tv_nsec = 20000000};
	int rc;

	l->fd = -1;
	rc = place_address(&l->address, p, name, err);
	if (rc)
		return rc;
	snprintf(l->lock_path, sizeof(l->lock_path), "%s/%s.lock", p->dir, name);
	rc = try_lock(l->lock_path, O_CREAT);
	/* Who looks for what dead machines left has the lock for a moment. */
	for (int i = 0; i < 10 && rc == -EWOULDBLOCK; i++) {
		nanosleep(&moment, NULL);
		rc = try_lock(l->lock_path, O_CREAT);
	}
	if (rc == -EWOULDBLOCK)
		return err_set(err, EEXIST, "a machine with the name '%s' runs already; 'ringer ps' "
			       "lists them", name);
	if (rc < 0)
		return err_set(err, -rc, "%s: %s", l->lock_path, strerror(-rc));
	l->fd = rc;
	unlink(l->address.sun_path);
	return 0;
}

void place_unlock(struct place_lock *l)
{
	if (l->fd < 0)
		return;
	unlink(l->address.sun_path);
	unlink(l->lock_path);
	close(l->fd);
	l->fd = -1;
}

bool place_lives(const struct place *p, const char *name, bool *was_stale)
{
	struct place_lock l = {.fd = -1};
	struct err err;

	*was_stale = false;
	if (!is_name(name) || place_address(&l.address, p, name, &err))
		return false;
	snprintf(l.lock_path, sizeof(l.lock_path), "%s/%s.lock", p->dir, name);
	l.fd = try_lock(l.lock_path, 0);
	if (l.fd < 0)
		return l.fd == -EWOULDBLOCK;
	*was_stale = access(l.address.sun_path, F_OK) == 0;
	place_unlock(&l);
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

int place_list(const struct place *p, struct place_names *out, struct err *err)
{
	DIR *dir = opendir(p->dir);
	struct dirent *e;
	bool stale;

	out->n = 0;
	if (!dir)
		return err_set(err, errno, "%s: %s", p->dir, strerror(errno));
	while (out->n < PLACE_MACHINES_MAX && (e = readdir(dir))) {
		size_t len = strlen(e->d_name);
		char *name = out->name[out->n];

		if (len <= 5 || len - 5 > PLACE_NAME_MAX || strcmp(e->d_name + len - 5, ".lock"))
			continue;
		snprintf(name, PLACE_NAME_MAX + 1, "%.*s", (int)(len - 5), e->d_name);
		if (place_lives(p, name, &stale))
			out->n++;
	}
	closedir(dir);
	qsort(out->name, out->n, sizeof(out->name[0]), by_name);
	return 0;
}
