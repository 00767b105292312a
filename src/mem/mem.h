/*
 * mem.h - guest-physical memory: which addresses are RAM, and checked access to them.
 *
 * A guest-physical address is its own type, gpa_t, which cannot be dereferenced. RAM regions are added
 * while the machine is put together and stay until it is freed; afterwards every function here may be
 * called from any thread. Guest memory is shared with running vCPUs: copy in, validate the copy, use it.
 */
#ifndef RINGER_MEM_MEM_H
#define RINGER_MEM_MEM_H

#include "base/base.h"
#include "base/err.h"

typedef struct {
	uint64_t v;
} gpa_t;

#define GPA(x) ((gpa_t){(uint64_t)(x)})

#define GUEST_PAGE_SIZE 4096ULL
#define GUEST_PAGE_SHIFT 12

struct guest_mem;

int guest_mem_new(struct guest_mem **out, struct err *err) must_check;
void guest_mem_free(struct guest_mem *m);
/* Adds zeroed anonymous RAM at [base, base+size), both multiples of 4 KiB, not overlapping. At most 8 regions. */
int guest_mem_add_ram(struct guest_mem *m, gpa_t base, uint64_t size, struct err *err) must_check;
/* Total RAM in bytes, and the i-th region (0-based, ascending); false past the last. */
uint64_t guest_mem_size(const struct guest_mem *m);
bool guest_mem_region(const struct guest_mem *m, unsigned i, gpa_t *base, uint64_t *size);
/* Zeroes all RAM (a reboot's cold memory); gives pages back to the host. */
void guest_mem_clear(struct guest_mem *m);

/*
 * Copies between guest RAM and a host buffer. -EFAULT, with nothing copied, when any byte is not RAM.
 * Writes tell those who have cached code of the bytes (code.h).
 */
int guest_read(const struct guest_mem *m, gpa_t gpa, void *buf, size_t len) must_check;
int guest_write(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len) must_check;

/*
 * Host address of [gpa, gpa+len) when that lies in one RAM region, else NULL. For engines, the page walk
 * and bulk loading; a writer must call guest_mem_wrote() afterwards.
 */
void *guest_ptr(const struct guest_mem *m, gpa_t gpa, uint64_t len);
void guest_mem_wrote(struct guest_mem *m, gpa_t gpa, uint64_t len);

/*
 * For operations that must be atomic to each other and cannot be one access of the host. Held for a few instructions; nothing
 * that waits or faults comes in between.
 */
void guest_mem_split_lock(struct guest_mem *m);
void guest_mem_split_unlock(struct guest_mem *m);

/* Mask of 64-byte lines of the page at gpa that somebody may have cached code of (code.h); 0 for pages that are not RAM. */
uint64_t guest_code_lines(const struct guest_mem *m, gpa_t page);
/* Both for a page: its host address, or NULL, and what is known of code in it. */
struct code_page;
void *guest_page_ptr(const struct guest_mem *m, gpa_t page, struct code_page **code);

/*
 * Zeroed memory for tables that are used all over, in huge pages where the host has them; NULL: none. To be given back with
 * munmap().
 */
void *mem_map_tables(uint64_t size);

#endif
