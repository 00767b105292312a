/*
 * Guest RAM: anonymous mappings behind a small sorted array of regions.
 *
 * The array never changes once vCPUs run, so lookups take no lock. Beside each region stands a struct code_page for
 * each page: see code.h.
 */
#include "mem/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mem/region.h"

#define HUGE_PAGE MIB(2)

int guest_mem_new(struct guest_mem **out, struct err *err)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : err_set(err, ENOMEM, "out of host memory");
}

void guest_mem_free(struct guest_mem *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < m->n_regions; i++) {
		struct region *r = &m->region[i];

		munmap(r->host, r->size);
		munmap((void *)r->code, r->size / GUEST_PAGE_SIZE * sizeof(*r->code));
	}
	free(m);
}

static void *map_anonymous(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int guest_mem_add_ram(struct guest_mem *m, gpa_t base, uint64_t size, struct err *err)
{
	struct region r = {.base = base.v, .size = size};
	unsigned at = 0;

	if (!size || (base.v | size) % GUEST_PAGE_SIZE || add_overflows(base.v, size))
		return err_set(err, EINVAL, "RAM region at %#lx of %#lx bytes is not whole 4 KiB pages",
			       base.v, size);
	if (m->n_regions == MAX_REGIONS)
		return err_set(err, ENOSPC, "more than %d RAM regions", MAX_REGIONS);
	while (at < m->n_regions && m->region[at].base < base.v)
		at++;
	if ((at > 0 && m->region[at - 1].base + m->region[at - 1].size > base.v) ||
	    (at < m->n_regions && base.v + size > m->region[at].base))
		return err_set(err, EEXIST, "RAM region at %#lx overlaps another", base.v);

	r.host = map_anonymous(size);
	if (!r.host)
		return err_set(err, ENOMEM, "the host cannot map %lu MiB for guest memory", size >> 20);
	r.code = map_anonymous(size / GUEST_PAGE_SIZE * sizeof(*r.code));
	if (!r.code) {
		munmap(r.host, size);
		return err_set(err, ENOMEM, "the host cannot map memory");
	}
	/* Fewer host TLB misses; a host without transparent huge pages only runs slower. */
	(void)madvise(r.host, size, MADV_HUGEPAGE);
	memmove(&m->region[at + 1], &m->region[at], (m->n_regions - at) * sizeof(r));
	m->region[at] = r;
	m->n_regions++;
	return 0;
}

uint64_t guest_mem_size(const struct guest_mem *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->n_regions; i++)
		sum += m->region[i].size;
	return sum;
}

bool guest_mem_region(const struct guest_mem *m, unsigned i, gpa_t *base, uint64_t *size)
{
	if (i >= m->n_regions)
		return false;
	*base = GPA(m->region[i].base);
	*size = m->region[i].size;
	return true;
}

void guest_mem_clear(struct guest_mem *m)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		struct region *r = &m->region[i];

		guest_mem_wrote(m, GPA(r->base), r->size);
		/* Anonymous pages read as zero after this; the fallback costs memory, not correctness. */
		if (madvise(r->host, r->size, MADV_DONTNEED))
			memset(r->host, 0, r->size);
	}
}

void *guest_ptr(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct region *r = guest_region(m, gpa, len);

	return r ? r->host + (gpa.v - r->base) : NULL;
}

void *guest_page_ptr(const struct guest_mem *m, gpa_t page, struct code_page **code)
{
	const struct region *r = guest_region(m, page, GUEST_PAGE_SIZE);

	*code = r ? &r->code[(page.v - r->base) >> GUEST_PAGE_SHIFT] : NULL;
	return r ? r->host + (page.v - r->base) : NULL;
}

int guest_read(const struct guest_mem *m, gpa_t gpa, void *buf, size_t len)
{
	const void *p = guest_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(buf, p, len);
	return 0;
}

int guest_write(struct guest_mem *m, gpa_t gpa, const void *buf, size_t len)
{
	void *p = guest_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(p, buf, len);
	guest_mem_wrote(m, gpa, len);
	return 0;
}

void guest_mem_split_lock(struct guest_mem *m)
{
	while (atomic_exchange(&m->split_lock, true))
		while (m->split_lock)
			__builtin_ia32_pause();
}

void guest_mem_split_unlock(struct guest_mem *m)
{
	m->split_lock = false;
}

void *mem_map_tables(uint64_t size)
{
	uint64_t room = align_up(size, GUEST_PAGE_SIZE) + HUGE_PAGE;
	uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *at;

	if (p == MAP_FAILED)
		return NULL;
	at = (uint8_t *)align_up((uint64_t)p, HUGE_PAGE);
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + align_up(size, GUEST_PAGE_SIZE), (size_t)(p + room - at) - align_up(size, GUEST_PAGE_SIZE));
	(void)madvise(at, size, MADV_HUGEPAGE);
	return at;
}
