/*
 * boot.h - from an image file to a guest that is about to execute its first instruction.
 *
 * Theory of operation. Loading has two steps, because a guest that resets is loaded again:
 *   - boot_plan_make() looks at hostile bytes once and produces a plan: which bytes go where in
 *     guest memory, and the CPU state at the entry point. It needs no machine, so unit tests and
 *     the fuzzer run it alone.
 *   - boot_plan_load() and boot_plan_enter() carry a plan out, any number of times. They cannot
 *     meet bad input any more: every piece was checked against the memory layout when planned.
 * A regular file's bytes go straight from the file to guest memory, at a reset again: a kernel and an
 * initrd would otherwise stay in memory twice. What goes on from there is what was planned, or an error:
 * the plan only holds for the file that it was made of, so a file changed since is refused.
 * Pieces never overlap and lie in RAM below 4 GiB; what no piece fills is zero after a reset.
 */
#ifndef RINGER_VM_BOOT_BOOT_H
#define RINGER_VM_BOOT_BOOT_H

#include <time.h>

#include "base/base.h"
#include "base/err.h"
#include "vm/vm.h"

struct boot_file;

/* The bytes of a file, and the name that messages call it by. Not owned. */
struct boot_bytes {
	const uint8_t *data;
	uint64_t size;
	const char *name;
	struct boot_file *file; /* data holds only what boot_bytes_get() was asked for; NULL: everything */
};

/* Where things are in the guest-physical address space of every machine. */
#define BOOT_LOW_END 0xa0000ULL       /* RAM below the VGA hole */
#define BOOT_EBDA 0x9fc00ULL          /* reserved up to BOOT_LOW_END, as PC firmware does */
#define BOOT_HIGH_BIOS 0xc0000ULL     /* RAM again from here: option ROM area */
#define BOOT_ACPI_BASE 0xe0000ULL     /* RSDP first, then the tables; reserved up to 1 MiB */
#define BOOT_ACPI_SIZE 0x20000ULL
#define BOOT_PCI_HOLE 0xc0000000ULL   /* RAM ends here at the latest and goes on at 4 GiB */
#define BOOT_ECAM_BASE 0xe0000000ULL
#define BOOT_ECAM_SIZE MIB(1)

enum { E820_RAM = 1, E820_RESERVED = 2 };

struct boot_range {
	uint64_t base, size;
	uint32_t type; /* E820_* */
};

#define BOOT_MAP_MAX 8

/* RAM regions to create for `ram` bytes; returns their number (at most 3). */
unsigned boot_ram_layout(uint64_t ram, struct boot_range out[3]);
/* The memory map shown to guests, ascending; returns the number of ranges. */
unsigned boot_memory_map(uint64_t ram, struct boot_range out[BOOT_MAP_MAX]);
/* End of the RAM below 4 GiB. */
uint64_t boot_low_ram_end(uint64_t ram);

#define BOOT_PIECES 96
#define BOOT_BUFFERS 8

struct boot_piece {
	const char *what; /* for messages; static storage */
	uint64_t gpa;
	uint64_t len;     /* bytes taken from data */
	uint64_t mem_len; /* bytes the guest needs there; at least len */
	const uint8_t *data;
	struct boot_file *file; /* not NULL: the bytes are there, from off, and data is NULL */
	uint64_t off;
};

enum boot_cpu_mode {
	BOOT_CPU_LONG,      /* Linux Documentation/arch/x86/boot.rst, 64-bit boot protocol */
	BOOT_CPU_PROTECTED, /* PVH and multiboot: flat 32-bit segments, paging off */
};

struct boot_plan {
	struct boot_piece piece[BOOT_PIECES];
	unsigned n_pieces;
	struct {
		void *p;
		size_t len;
	} buffer[BOOT_BUFFERS]; /* mappings owned by the plan */
	unsigned n_buffers;
	uint64_t ram;
	enum boot_cpu_mode mode;
	uint64_t entry, rax, rbx, rsi;
	const char *protocol; /* "Linux 64-bit", "PVH", ...: for people; static storage */
};

struct boot_request {
	struct boot_bytes kernel;
	struct boot_bytes initrd; /* data NULL: none */
	const char *cmdline;      /* NULL: "" */
	uint64_t ram;
	enum vm_boot how;
	void (*progress)(void *ctx, const char *what, double fraction); /* may be NULL */
	void *progress_ctx;
};

/*
 * The plan refers to the request's bytes and files: they must outlive it, but for the bytes of open files. A failure
 * leaves nothing to free.
 */
int boot_plan_make(struct boot_plan *plan, const struct boot_request *req,
		   struct err *err) must_check;
/* Adds bytes to a finished plan, e.g. the ACPI tables. */
int boot_plan_add(struct boot_plan *plan, const char *what, uint64_t gpa, const void *data,
		  uint64_t len, uint64_t mem_len, struct err *err) must_check;
void boot_plan_free(struct boot_plan *plan);

/* Copies every piece; guest memory must be zero. */
int boot_plan_load(const struct boot_plan *plan, struct guest_mem *mem, struct err *err) must_check;
/* Puts a reset vCPU at the entry point. */
void boot_plan_enter(const struct boot_plan *plan, struct vcpu *v);

/*
 * Reads a whole file into memory of its own (not a file mapping: a file cut short by another
 * process must not become SIGBUS). limit: more bytes than this are -EFBIG. Empty files and
 * directories are errors. `what` names its role, e.g. "kernel".
 */
struct boot_file {
	uint8_t *data;
	uint64_t size;
	size_t mapped;
	/* Of a file that stays open: */
	bool open;
	int fd;
	char *name;
	struct timespec written; /* last, before anything was read */
};
int boot_file_read(struct boot_file *f, const char *path, const char *what, uint64_t limit,
		   struct err *err) must_check;
/*
 * The same for a pipe and the like; a regular file stays open, and its data has the right size but holds only the bytes
 * that boot_file_get() was asked for.
 */
int boot_file_open(struct boot_file *f, const char *path, const char *what, uint64_t limit,
		   struct err *err) must_check;
/* [off, off+len) lies in the file. */
int boot_file_get(struct boot_file *f, uint64_t off, uint64_t len, struct err *err) must_check;
/* Reads from an open file, which must be as it was when opened. */
int boot_file_load(const struct boot_file *f, uint64_t off, void *to, uint64_t len,
		   struct err *err) must_check;
/* Of an open file: frees data. */
void boot_file_forget(struct boot_file *f);
void boot_file_free(struct boot_file *f);

#endif
