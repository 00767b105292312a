/* file.c - reading an image file into memory, with a clear line for everything that goes wrong. */
#include "vm/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
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

static int check_stat(int fd, const char *path, const char *what, uint64_t limit, size_t *room,
		      struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "%s: cannot read the %s: %s", path, what,
			       strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, EINVAL, "%s: is a directory, not a %s file", path, what);
	if (S_ISREG(st.st_mode) && st.st_size == 0)
		return err_set(err, EINVAL, "%s: is empty: a %s file was expected", path, what);
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit)
		return err_set(err, EFBIG,
			       "%s: %llu MiB is more than the %llu MiB that can be loaded", path,
			       (unsigned long long)st.st_size >> 20,
			       (unsigned long long)limit >> 20);
	/* A pipe that has a writer, as in <(zcat ...), is waited for. */
	if (S_ISFIFO(st.st_mode) && fcntl(fd, F_SETFL, 0) < 0)
		return err_set(err, errno, "%s: cannot read the %s: %s", path, what, strerror(errno));
	/* One byte more, so that the end of file is seen without growing. */
	*room = align_up((S_ISREG(st.st_mode) ? (uint64_t)st.st_size : MIB(1)) + 1, 4096);
	return 0;
}

int boot_file_read(struct boot_file *f, const char *path, const char *what, uint64_t limit,
		   struct err *err)
{
	/* Not to hang on a pipe that nobody writes to, or a terminal. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int ret;

	memset(f, 0, sizeof(*f));
	if (fd < 0)
		return err_set(err, errno, "%s: cannot open the %s: %s", path, what,
			       strerror(errno));
	/* Opened without blocking, since a FIFO without a writer would wait for ever; it then reads as empty. */
	ret = fcntl(fd, F_SETFL, 0) < 0 ? err_set(err, errno, "%s: %s", path, strerror(errno)) :
					  check_stat(fd, path, what, limit, &f->mapped, err);
	if (ret < 0)
		goto out;
	f->data = mmap(NULL, f->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->data == MAP_FAILED) {
		f->data = NULL;
		ret = err_set(err, ENOMEM, "%s: no memory for %zu bytes", path, f->mapped);
		goto out;
	}
	ret = read_all(f, fd, path, limit, err);
	if (ret == 0 && f->size == 0)
		ret = err_set(err, EINVAL, "%s: is empty: a %s file was expected", path, what);
	if (ret < 0)
		boot_file_free(f);
out:
	close(fd);
	return ret;
}

void boot_file_free(struct boot_file *f)
{
	if (f->data)
		munmap(f->data, f->mapped);
	memset(f, 0, sizeof(*f));
}
