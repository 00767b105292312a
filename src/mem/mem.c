/*
 * Guest RAM: anonymous mappings behind a small sorted array of regions.
 *
 * The array never changes once vCPUs run, so lookups take no lock. Beside each region stands one 64-bit
 * word per 4 KiB page: which of its 64-byte lines hold code that an engine has cached. A writer reads that
 * word after its store; an engine sets it before it decodes. Both orders are safe: either the writer sees
 * the mark and reports the write, or the decoder reads the new bytes (sequentially consistent accesses). The
 * marks are cleared before the watchers are told: one that is set while they are at work, on whichever thread,
 * stays.
 */
#include "mem/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE MIB(2)
#define MAX_REGIONS 8
#define CODE_LINE_SHIFT 6

struct region {
	uint64_t base, size;
	uint8_t *host;
	_Atomic uint64_t *code_lines; /* one word per page */
};

struct guest_mem {
	struct region region[MAX_REGIONS];
	unsigned n_regions;
	struct code_watcher watcher[GUEST_MEM_WATCHERS];
	unsigned n_watchers;
};

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
		munmap((void *)r->code_lines, r->size / GUEST_PAGE_SIZE * sizeof(uint64_t));
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
	r.code_lines = map_anonymous(size / GUEST_PAGE_SIZE * sizeof(uint64_t));
	if (!r.code_lines) {
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

static const struct region *find_region(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		const struct region *r = &m->region[i];

		if (gpa.v >= r->base && range_within(gpa.v - r->base, len, r->size))
			return r;
	}
	return NULL;
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
	const struct region *r = find_region(m, gpa, len);

	return r ? r->host + (gpa.v - r->base) : NULL;
}

void *guest_page_ptr(const struct guest_mem *m, gpa_t page, uint64_t *code_lines)
{
	const struct region *r = find_region(m, page, GUEST_PAGE_SIZE);

	*code_lines = r ? r->code_lines[(page.v - r->base) >> GUEST_PAGE_SHIFT] : 0;
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

/* Lines of the page (that starts at page_off in the region) touched by [from, to), offsets in the region. */
static uint64_t line_mask(uint64_t page_off, uint64_t from, uint64_t to)
{
	uint64_t lo = max_u64(from, page_off) - page_off;
	uint64_t hi = min_u64(to, page_off + GUEST_PAGE_SIZE) - page_off - 1;

	return BITS(hi >> CODE_LINE_SHIFT, lo >> CODE_LINE_SHIFT);
}

/* Clears the marks of every page of which a marked line lies in [from, to); false: none did. */
static bool clear_marks(const struct region *r, uint64_t from, uint64_t to)
{
	bool hit = false;

	for (uint64_t page = align_down(from, GUEST_PAGE_SIZE); page < to; page += GUEST_PAGE_SIZE) {
		_Atomic uint64_t *lines = &r->code_lines[page >> GUEST_PAGE_SHIFT];

		if (likely(!(*lines & line_mask(page, from, to))))
			continue;
		*lines = 0;
		hit = true;
	}
	return hit;
}

void guest_mem_wrote(struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? find_region(m, gpa, len) : NULL;

	if (!r || !m->n_watchers)
		return;
	atomic_thread_fence(memory_order_seq_cst); /* the store before the look at the marks */
	if (!clear_marks(r, gpa.v - r->base, gpa.v - r->base + len))
		return;
	for (unsigned i = 0; i < m->n_watchers; i++)
		m->watcher[i].wrote(m->watcher[i].ctx, gpa, len);
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

int guest_mem_watch_code(struct guest_mem *m, const struct code_watcher *w)
{
	if (m->n_watchers == GUEST_MEM_WATCHERS)
		return -ENOSPC;
	m->watcher[m->n_watchers++] = *w;
	return 0;
}

void guest_mem_unwatch_code(struct guest_mem *m, const void *ctx)
{
	for (unsigned i = 0; i < m->n_watchers; i++)
		if (m->watcher[i].ctx == ctx) {
			m->watcher[i] = m->watcher[--m->n_watchers];
			return;
		}
}

void guest_code_mark(struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? find_region(m, gpa, len) : NULL;
	uint64_t from, to;

	if (!r)
		return;
	from = gpa.v - r->base;
	to = from + len;
	for (uint64_t page = align_down(from, GUEST_PAGE_SIZE); page < to; page += GUEST_PAGE_SIZE)
		atomic_fetch_or(&r->code_lines[page >> GUEST_PAGE_SHIFT], line_mask(page, from, to));
}

uint64_t guest_code_lines(const struct guest_mem *m, gpa_t page)
{
	const struct region *r = find_region(m, page, 1);

	return r ? r->code_lines[(page.v - r->base) >> GUEST_PAGE_SHIFT] : 0;
}
