/*
 * flat.h - a small 64-bit guest without devices, in which single functions are called: for `ringer translate` and tests.
 *
 * One vCPU in long mode. Memory is mapped where something is put; around it there is nothing, so that a stray access
 * faults. The function runs at CPL 3 or 0 on a stack of its own; it returns to a HLT, and so does every exception's
 * handler, on another stack: after run() the place of the HLT says what happened.
 */
#ifndef RINGER_VM_FLAT_H
#define RINGER_VM_FLAT_H

#include "cpu/engine.h"
#include "vm/elf_view.h"

struct flat;

struct flat_config {
	const struct engine_ops *engine;
	const struct engine_config *config; /* outlives the guest; NULL: defaults */
	bool user;                          /* CPL 3 */
	uint64_t ram;                       /* bytes that will be put, rounded up to pages each */
};

int flat_new(struct flat **out, const struct flat_config *c, struct err *err) must_check;
void flat_free(struct flat *f);
/*
 * Puts bytes at a linear address, zeroes when data is NULL; pages appear as needed, readable, writable, executable.
 * -EFBIG: more than flat_config.ram; -EINVAL: no address of x86-64.
 */
int flat_put(struct flat *f, uint64_t va, const void *data, uint64_t len, struct err *err) must_check;
/* -EFAULT when not all of it has been put. */
int flat_get(const struct flat *f, uint64_t va, void *data, uint64_t len) must_check;
struct vcpu *flat_vcpu(struct flat *f);

enum flat_end {
	FLAT_RETURNED,
	FLAT_FAULT,   /* an exception, or HLT */
	FLAT_STOPPED, /* CPU_REQ_STOP */
	FLAT_TIMEOUT,
	FLAT_ERROR,   /* the engine cannot go on */
};

struct flat_result {
	enum flat_end end;
	uint64_t rax;
	uint64_t rip;   /* FLAT_FAULT: of the instruction */
	uint64_t insns; /* retired by this call, by an engine that counts them */
	char reason[192]; /* unless FLAT_RETURNED */
};

#define FLAT_ARGS 32

/*
 * Calls the function at va with integer arguments, by the System V ABI, and waits until it returns or seconds are over.
 * At most FLAT_ARGS arguments.
 */
void flat_call(struct flat *f, uint64_t va, const uint64_t *args, unsigned n_args, unsigned seconds,
	       struct flat_result *r);

/* flat_load.c: a function of an ELF file. */
#define FLAT_UNRESOLVED 16

struct flat_function {
	uint64_t addr, size;
	uint64_t base; /* what was added to the file's addresses; objects: where .text begins */
	unsigned n_dynamic;    /* relocations that only a dynamic linker can do */
	unsigned n_unresolved; /* symbols that the file does not have: the first few of them */
	char unresolved[FLAT_UNRESOLVED][64];
};

/* The memory that flat_load() will need. -EFBIG: too much; -ENOEXEC: a damaged file. */
int flat_load_size(const struct elf_view *v, uint64_t *bytes, struct err *err) must_check;
/*
 * Loads everything of the file that has a place in memory, applies relocations, finds the function. What the file refers
 * to and does not have is a HLT at FLAT_UNRESOLVED_BASE. -ENOENT: there is no such function, with a suggestion.
 */
int flat_load(struct flat *f, const struct elf_view *v, const char *function,
	      struct flat_function *out, struct err *err) must_check;

#define FLAT_OWN 0xffff900000000000ULL   /* the guest's own pages: handlers, the HLT to return to */
#define FLAT_BASE 0x400000ULL            /* of objects and of what can lie anywhere */
#define FLAT_UNRESOLVED_BASE 0x3ff000ULL /* one page of HLT */

#endif
