/* region.h - private to src/mem: what guest memory consists of. */
#ifndef RINGER_MEM_REGION_H
#define RINGER_MEM_REGION_H

#include "mem/code.h"

#define MAX_REGIONS 8

struct region {
	uint64_t base, size;
	uint8_t *host;
	struct code_page *code; /* one for each page */
};

struct guest_mem {
	struct region region[MAX_REGIONS];
	unsigned n_regions;
	_Atomic(struct code_user *) user[CODE_USERS];
	_Atomic bool split_lock;
};

/* The region that holds all of [gpa, gpa+len), or NULL. */
static inline const struct region *guest_region(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		const struct region *r = &m->region[i];

		if (gpa.v >= r->base && range_within(gpa.v - r->base, len, r->size))
			return r;
	}
	return NULL;
}

#endif
