/* file.c - reading an image file, with a clear line for everything that goes wrong. */
#include "vm/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(struct boot_file *f, int fd, const char *path, uint64_t limit, struct err *err)
{
	while (f->size <= limit) {
		ssize_t n;

		if (f->size == f->mapped) {
			size_t want = f->mapped * 2;
			void *p = mremap(f->data, f->mapped, want, MREMAP_MAYMOVE);

			if (p == MAP_FAILED)
				return err_set(err, ENOMEM, "%s: no memory for %zu bytes", path,
					       want);
			f->data = p;
			f->mapped = want;
		}
		n = read(fd, f->data + f->size, f->mapped - f->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, errno, "%s: cannot read: %s", path, strerror(errno));
		if (n == 0)
			return 0;
		f->size += (uint64_t)n;
	}
	return err_set(err, EFBIG, "%s: larger than %llu MiB, the most that can be loaded", path,
		       (unsigned long long)(limit >> 20));
}

static int check_stat(const struct stat *st, const char *path, const char *what, uint64_t limit, struct err *err)
{
	if (S_ISDIR(st->st_mode))
		return err_set(err, EINVAL, "%s: is a directory, not a %s file", path, what);
	if (S_ISREG(st->st_mode) && st->st_size == 0)
		return err_set(err, EINVAL, "%s: is empty: a %s file was expected", path, what);
	if (S_ISREG(st->st_mode) && (uint64_t)st->st_size > limit)
		return err_set(err, EFBIG,
			       "%s: %llu MiB is more than the %llu MiB that can be loaded", path,
			       (unsigned long long)st->st_size >> 20,
			       (unsigned long long)limit >> 20);
	return 0;
}

/* Opens it, checks it, and maps room for it. */
static int open_checked(struct boot_file *f, const char *path, const char *what, uint64_t limit, struct stat *st,
			struct err *err)
{
	/* Without blocking, not to hang on a pipe that nobody writes to, or a terminal: it then reads as empty. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), ret;

	memset(f, 0, sizeof(*f));
	if (fd < 0)
		return err_set(err, errno, "%s: cannot open the %s: %s", path, what, strerror(errno));
	/* A pipe that has a writer, as in <(zcat ...), is waited for. */
	ret = fstat(fd, st) < 0 || fcntl(fd, F_SETFL, 0) < 0 ?
		      err_set(err, errno, "%s: cannot read the %s: %s", path, what, strerror(errno)) :
		      check_stat(st, path, what, limit, err);
	if (ret < 0)
		goto fail;
	/* One byte more, so that the end of file is seen without growing. */
	f->mapped = align_up((S_ISREG(st->st_mode) ? (uint64_t)st->st_size : MIB(1)) + 1, 4096);
	f->data = mmap(NULL, f->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->data == MAP_FAILED) {
		f->data = NULL;
		ret = err_set(err, ENOMEM, "%s: no memory for %zu bytes", path, f->mapped);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return ret;
}

static int read_and_close(struct boot_file *f, int fd, const char *path, const char *what, uint64_t limit,
			  struct err *err)
{
	int ret = read_all(f, fd, path, limit, err);

	if (ret == 0 && f->size == 0)
		ret = err_set(err, EINVAL, "%s: is empty: a %s file was expected", path, what);
	if (ret < 0)
		boot_file_free(f);
	close(fd);
	return ret;
}

int boot_file_read(struct boot_file *f, const char *path, const char *what, uint64_t limit,
		   struct err *err)
{
	struct stat st;
	int fd = open_checked(f, path, what, limit, &st, err);

	return fd < 0 ? fd : read_and_close(f, fd, path, what, limit, err);
}

int boot_file_open(struct boot_file *f, const char *path, const char *what, uint64_t limit,
		   struct err *err)
{
	struct stat st;
	int fd = open_checked(f, path, what, limit, &st, err);

	if (fd < 0)
		return fd;
	if (!S_ISREG(st.st_mode))
		return read_and_close(f, fd, path, what, limit, err);
	f->open = true;
	f->fd = fd;
	f->size = (uint64_t)st.st_size;
	f->written = st.st_mtim;
	f->name = strdup(path);
	if (f->name)
		return 0;
	boot_file_free(f);
	return err_set(err, ENOMEM, "%s: no memory", path);
}

static int read_at(const struct boot_file *f, uint64_t off, uint8_t *to, uint64_t len, struct err *err)
{
	while (len) {
		ssize_t n = pread(f->fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, errno, "%s: cannot read: %s", f->name, strerror(errno));
		if (n == 0)
			return err_set(err, ESTALE, "%s: was cut short while in use", f->name);
		to += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int boot_file_get(struct boot_file *f, uint64_t off, uint64_t len, struct err *err)
{
	return f->open ? read_at(f, off, f->data + off, len, err) : 0;
}

int boot_file_load(const struct boot_file *f, uint64_t off, void *to, uint64_t len, struct err *err)
{
	int ret = read_at(f, off, to, len, err);
	struct stat st;

	if (ret < 0)
		return ret;
	/* Behind the read: what was written before it shows. */
	if (fstat(f->fd, &st) < 0)
		return err_set(err, errno, "%s: cannot read: %s", f->name, strerror(errno));
	if ((uint64_t)st.st_size != f->size || st.st_mtim.tv_sec != f->written.tv_sec ||
	    st.st_mtim.tv_nsec != f->written.tv_nsec)
		return err_set(err, ESTALE, "%s: was written to while in use: start the machine anew", f->name);
	return 0;
}

void boot_file_forget(struct boot_file *f)
{
	if (!f->open || !f->data)
		return;
	munmap(f->data, f->mapped);
	f->data = NULL;
}

void boot_file_free(struct boot_file *f)
{
	if (f->data)
		munmap(f->data, f->mapped);
	if (f->open)
		close(f->fd);
	free(f->name);
	memset(f, 0, sizeof(*f));
}
