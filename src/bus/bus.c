/*
 * Theory of operation.
 *
 * Each space keeps its ranges in one array sorted by base; they never overlap. An access is cut
 * into pieces. A piece is a power of two of bytes that lie in one range and suit its device, or
 * bytes up to the next range that nobody claims. The range is copied before its device is called
 * and looked up again for the next piece, because the device may claim and release (a PCI BAR moved
 * by a configuration write).
 *
 * The last range hit is tried first: a guest polls one device many times in a row.
 */
#include "bus/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { max_logged = 128 };

#define PIO_SIZE KIB(64)

struct range {
	uint64_t base, last; /* inclusive: a range may end at the top of the space */
	const struct bus_ops *ops;
	void *dev;
	const char *name;
	unsigned min_size, max_size;
};

struct space {
	struct range *ranges; /* sorted, disjoint */
	size_t n, cap;
	size_t last_hit;
	uint64_t limit; /* last address */
	uint64_t unclaimed, narrow_writes;
	uint64_t logged[max_logged]; /* ports or page numbers */
	size_t n_logged;
};

struct bus {
	struct space space[2];
	const struct log *log;
};

int bus_new(struct bus **out, const struct log *log, struct err *err)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, ENOMEM, "out of memory for the bus");
	b->log = log;
	b->space[BUS_PIO].limit = PIO_SIZE - 1;
	b->space[BUS_MMIO].limit = UINT64_MAX;
	*out = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	free(b->space[BUS_PIO].ranges);
	free(b->space[BUS_MMIO].ranges);
	free(b);
}

/* The index of the first range that ends at addr or later; n when there is none. */
static size_t find_index(const struct space *s, uint64_t addr)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->ranges[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool is_size(unsigned n)
{
	return n == 1 || n == 2 || n == 4 || n == 8;
}

static int grow(struct space *s)
{
	size_t cap = s->cap ? s->cap * 2 : 16;
	struct range *r;

	if (s->n < s->cap)
		return 0;
	r = realloc(s->ranges, cap * sizeof(*r));
	if (!r)
		return -ENOMEM;
	s->ranges = r;
	s->cap = cap;
	return 0;
}

int bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t len,
	      const struct bus_ops *ops, void *dev, const char *name, struct err *err)
{
	struct space *s = &b->space[space];
	struct range r = { .base = base, .ops = ops, .dev = dev, .name = name };
	size_t i;

	r.min_size = ops->min_size ? ops->min_size : 1;
	r.max_size = ops->max_size ? ops->max_size : 8;
	if (!len || base > s->limit || len - 1 > s->limit - base)
		return err_set(err, EINVAL,
			       "%s: range at 0x%" PRIx64 " of 0x%" PRIx64
			       " bytes is empty or leaves the address space",
			       name, base, len);
	if (!is_size(r.min_size) || !is_size(r.max_size) || r.min_size > r.max_size ||
	    len % r.min_size)
		return err_set(err, EINVAL,
			       "%s: access sizes %u to %u do not suit 0x%" PRIx64 " bytes", name,
			       r.min_size, r.max_size, len);
	r.last = base + (len - 1);
	i = find_index(s, base);
	if (i < s->n && s->ranges[i].base <= r.last)
		return err_set(err, EBUSY, "%s: 0x%" PRIx64 "..0x%" PRIx64 " is taken by %s", name,
			       base, r.last, s->ranges[i].name);
	if (grow(s) < 0)
		return err_set(err, ENOMEM, "%s: out of memory for an address range", name);
	memmove(&s->ranges[i + 1], &s->ranges[i], (s->n - i) * sizeof(r));
	s->ranges[i] = r;
	s->n++;
	return 0;
}

void bus_release(struct bus *b, enum bus_space space, uint64_t base)
{
	struct space *s = &b->space[space];
	size_t i = find_index(s, base);

	if (i == s->n || s->ranges[i].base != base)
		return;
	s->n--;
	memmove(&s->ranges[i], &s->ranges[i + 1], (s->n - i) * sizeof(s->ranges[0]));
}

/* Once per port or page; the table is bounded: a guest must not fill the log or our memory. */
static void log_unclaimed(struct bus *b, enum bus_space space, uint64_t addr, const char *what)
{
	struct space *s = &b->space[space];
	uint64_t key = space == BUS_PIO ? addr : addr >> 12;

	if (s->n_logged == max_logged)
		return;
	for (size_t i = 0; i < s->n_logged; i++)
		if (s->logged[i] == key)
			return;
	s->logged[s->n_logged++] = key;
	log_info(b->log, "bus: %s of %s 0x%" PRIx64 ", which no device claims%s", what,
		 space == BUS_PIO ? "port" : "address", addr,
		 s->n_logged == max_logged ? " (not reporting any more)" : "");
}

/* One access being cut into pieces. */
struct access {
	struct bus *b;
	enum bus_space space;
	uint64_t addr; /* of the next piece */
	unsigned left; /* bytes */
	bool unclaimed_seen;
	const char *what; /* "read", "write" */
};

static bool piece_fits(const struct access *a, const struct range *r, unsigned n)
{
	uint64_t off = a->addr - r->base;

	if (n > a->left || n - 1 > r->last - a->addr)
		return false;
	/* Below min_size it is widened, so it must lie within one aligned min_size. */
	return n >= r->min_size || off % r->min_size + n <= r->min_size;
}

/* The next piece: its range is copied to r and its size returned, or 0 when nobody claims addr. */
static unsigned next_piece(struct access *a, struct range *r)
{
	struct space *s = &a->b->space[a->space];
	size_t i = s->last_hit;
	unsigned n;

	if (i >= s->n || a->addr < s->ranges[i].base || a->addr > s->ranges[i].last) {
		i = find_index(s, a->addr);
		if (i == s->n || a->addr < s->ranges[i].base)
			return 0;
		s->last_hit = i;
	}
	*r = s->ranges[i];
	n = r->max_size;
	while (n > 1 && !piece_fits(a, r, n))
		n /= 2;
	return n;
}

static void count_unclaimed(struct access *a)
{
	if (a->unclaimed_seen)
		return;
	a->unclaimed_seen = true;
	a->b->space[a->space].unclaimed++;
	log_unclaimed(a->b, a->space, a->addr, a->what);
}

static void advance(struct access *a, unsigned n)
{
	a->addr += n;
	if (a->space == BUS_PIO)
		a->addr &= PIO_SIZE - 1;
	a->left -= n;
}

static void begin(struct access *a, struct bus *b, enum bus_space space, uint64_t addr,
		  unsigned size, const char *what)
{
	*a = (struct access){ .b = b, .space = space, .addr = addr, .what = what };
	if (space == BUS_PIO)
		a->addr &= PIO_SIZE - 1;
	a->left = (unsigned)min_u64(size, 8);
}

static uint64_t read_piece(const struct range *r, uint64_t addr, unsigned n)
{
	uint64_t off = addr - r->base;
	unsigned skip;

	if (n >= r->min_size)
		return trunc_size(r->ops->read(r->dev, off, n), n);
	skip = (unsigned)(off % r->min_size);
	return trunc_size(r->ops->read(r->dev, off - skip, r->min_size) >> (skip * 8), n);
}

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned size)
{
	struct access a;
	struct range r;
	uint64_t value = 0;
	unsigned shift = 0;

	begin(&a, b, space, addr, size, "read");
	while (a.left) {
		unsigned n = next_piece(&a, &r);
		uint64_t piece = 0xff;

		if (n)
			piece = read_piece(&r, a.addr, n);
		else
			count_unclaimed(&a);
		n = n ? n : 1;
		value |= piece << shift;
		shift += n * 8;
		advance(&a, n);
	}
	return value;
}

void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned size, uint64_t value)
{
	struct access a;
	struct range r;

	begin(&a, b, space, addr, size, "write");
	while (a.left) {
		unsigned n = next_piece(&a, &r);

		if (!n)
			count_unclaimed(&a);
		else if (n < r.min_size)
			b->space[space].narrow_writes++;
		else
			r.ops->write(r.dev, a.addr - r.base, n, trunc_size(value, n));
		n = n ? n : 1;
		value = n < 8 ? value >> (n * 8) : 0;
		advance(&a, n);
	}
}

void bus_for_each(struct bus *b, enum bus_space space,
		  void (*fn)(void *ctx, uint64_t base, uint64_t len, const char *name), void *ctx)
{
	const struct space *s = &b->space[space];

	for (size_t i = 0; i < s->n; i++)
		fn(ctx, s->ranges[i].base, s->ranges[i].last - s->ranges[i].base + 1,
		   s->ranges[i].name);
}

uint64_t bus_unclaimed(const struct bus *b, enum bus_space space)
{
	return b->space[space].unclaimed;
}

uint64_t bus_narrow_writes(const struct bus *b, enum bus_space space)
{
	return b->space[space].narrow_writes;
}
