#include "cli/codelog.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/terminal.h"

/* Linux tools/perf/Documentation/jitdump-specification.txt, version 1. */
#define JITDUMP_MAGIC 0x4A695444u
#define JITDUMP_VERSION 1
#define ELF_MACHINE_X86_64 62
enum { JIT_CODE_LOAD = 0, JIT_CODE_CLOSE = 3 };

struct jitdump_header {
	uint32_t magic, version, total_size, elf_mach, pad, pid;
	uint64_t timestamp, flags;
};

struct jitdump_record {
	uint32_t id, total_size;
	uint64_t timestamp;
};

struct jitdump_load {
	struct jitdump_record head;
	uint32_t pid, tid;
	uint64_t vma, code_addr, code_size, code_index;
	/* name with its null character, then the code */
};

/* perf record -k mono has the same clock. */
static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/*
 * A file whose name anybody can foretell: it is made anew, never one that is there (or a link that lies in wait) is
 * opened.
 */
static int create(FILE **out, const char *path, struct err *err)
{
	int fd;

	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	*out = fd < 0 ? NULL : fdopen(fd, "w");
	if (*out)
		return 0;
	if (fd >= 0)
		close(fd);
	return err_set(err, errno, "--perf: cannot write %s: %s", path, strerror(errno));
}

static int open_map(struct codelog *l, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	return create(&l->map, path, err);
}

static int open_jitdump(struct codelog *l, struct err *err)
{
	struct jitdump_header h = {.magic = JITDUMP_MAGIC, .version = JITDUMP_VERSION,
				   .total_size = sizeof(h), .elf_mach = ELF_MACHINE_X86_64,
				   .pid = (uint32_t)getpid(), .timestamp = now_ns()};
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "jit-%d.dump", (int)getpid());
	rc = create(&l->jitdump, path, err);
	if (rc)
		return rc;
	fwrite(&h, sizeof(h), 1, l->jitdump);
	if (fflush(l->jitdump))
		return err_set(err, errno, "--perf: cannot write %s: %s", path, strerror(errno));
	l->marker_size = (size_t)sysconf(_SC_PAGESIZE);
	l->marker = mmap(NULL, l->marker_size, PROT_READ | PROT_EXEC, MAP_PRIVATE,
			 fileno(l->jitdump), 0);
	if (l->marker == MAP_FAILED) {
		l->marker = NULL;
		return err_set(err, errno,
			       "--perf: cannot map %s executable, by which perf finds it: %s; run where "
			       "the file system is not mounted noexec",
			       path, strerror(errno));
	}
	return 0;
}

static int open_trace(struct codelog *l, const char *path, struct err *err)
{
	int fd;

	l->to_stderr = !*path;
	fd = *path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
		   : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	l->trace = fd < 0 ? NULL : fdopen(fd, "w");
	if (l->trace)
		return 0;
	if (fd >= 0)
		close(fd);
	return err_set(err, errno, "--trace: cannot write %s: %s", *path ? path : "standard error",
		       strerror(errno));
}

int codelog_open(struct codelog *l, const struct codelog_config *c, struct err *err)
{
	struct err ignored = {""};
	int rc = 0;

	memset(l, 0, sizeof(*l));
	pthread_mutex_init(&l->lock, NULL);
	blocktext_init(&l->text);
	if (c->symbols)
		rc = symbols_load(&l->symbols, c->symbols, err);
	else if (symbols_load(&l->symbols, c->kernel, &ignored))
		l->symbols = NULL; /* most kernel images have none */
	if (!rc && c->trace)
		rc = open_trace(l, c->trace, err);
	if (!rc && (c->perf & PERF_MAP))
		rc = open_map(l, err);
	if (!rc && (c->perf & PERF_JITDUMP))
		rc = open_jitdump(l, err);
	if (rc)
		(void)!codelog_close(l, &ignored);
	return rc;
}

/* "schedule+0x10", or "". User code has other symbols than the kernel. */
static void function_name(const struct codelog *l, const struct engine_block *b, char *buf, size_t len)
{
	uint64_t off;
	const char *name = b->cpl == 3 ? NULL : symbols_find(l->symbols, b->rip, &off);

	buf[0] = '\0';
	if (name && off)
		snprintf(buf, len, "%.200s+%#llx", name, (unsigned long long)off);
	else if (name)
		snprintf(buf, len, "%.200s", name);
	/* A name with control characters would be lines of its own in a map. */
	for (char *p = buf; *p; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			*p = '?';
}

static void write_load(struct codelog *l, const struct engine_block *b, const char *name)
{
	size_t name_len = strlen(name) + 1;
	struct jitdump_load r = {
		.head = {JIT_CODE_LOAD, (uint32_t)(sizeof(r) + name_len + b->n_host), now_ns()},
		.pid = (uint32_t)getpid(), .tid = (uint32_t)gettid(),
		.vma = (uint64_t)(uintptr_t)b->host, .code_addr = (uint64_t)(uintptr_t)b->host,
		.code_size = b->n_host, .code_index = l->index++,
	};

	fwrite(&r, sizeof(r), 1, l->jitdump);
	fwrite(name, name_len, 1, l->jitdump);
	fwrite(b->host, b->n_host, 1, l->jitdump);
}

void codelog_block(void *ctx, const struct engine_block *b)
{
	struct codelog *l = ctx;
	char function[256], name[320];

	pthread_mutex_lock(&l->lock);
	function_name(l, b, function, sizeof(function));
	snprintf(name, sizeof(name), "guest%s:%llx%s%s", b->cpl == 3 ? "-user" : "",
		 (unsigned long long)b->rip, function[0] ? " " : "", function);
	if (l->map)
		fprintf(l->map, "%llx %x %s\n", (unsigned long long)(uintptr_t)b->host, b->n_host, name);
	if (l->jitdump)
		write_load(l, b, name);
	if (l->trace) {
		blocktext_print(&l->text, b, b->host, X86_MODE_64, function,
				l->to_stderr ? terminal_eol(STDERR_FILENO) : "\n", l->trace);
		/* The last block before a crash is the one that is wanted. */
		fflush(l->trace);
	}
	pthread_mutex_unlock(&l->lock);
}

static int close_file(FILE *file, const char *what, int rc, struct err *err)
{
	bool bad;

	if (!file)
		return rc;
	bad = ferror(file);
	if (fclose(file) || bad)
		return rc ? rc : err_set(err, EIO, "not all of the %s could be written", what);
	return rc;
}

int codelog_close(struct codelog *l, struct err *err)
{
	struct jitdump_record end = {JIT_CODE_CLOSE, sizeof(end), now_ns()};
	int rc;

	if (l->jitdump)
		fwrite(&end, sizeof(end), 1, l->jitdump);
	rc = close_file(l->trace, "trace", 0, err);
	rc = close_file(l->map, "perf map", rc, err);
	rc = close_file(l->jitdump, "jitdump file", rc, err);
	if (l->marker)
		munmap(l->marker, l->marker_size);
	symbols_free(l->symbols);
	pthread_mutex_destroy(&l->lock);
	return rc;
}
