/*
 * bus.h - dispatch of port and memory-mapped accesses to devices.
 *
 * A device claims a range with the access sizes it understands; the bus hands it only accesses that
 * lie in the range and have such a size (a wider one is split into the largest allowed, low part
 * first; a narrower one than min is widened for reads and dropped, with a count, for writes). What
 * nobody claims reads as all ones and swallows writes, as on a PC; it is counted and logged once
 * per port or page. Accesses need not be aligned; a device sees an offset that is no multiple of
 * the size if a guest makes one.
 *
 * Ranges are added and removed with the device lock held; accesses are made with it held. A device
 * may claim and release ranges, its own included, from within an access.
 */
#ifndef RINGER_BUS_BUS_H
#define RINGER_BUS_BUS_H

#include "base/base.h"
#include "base/err.h"
#include "base/log.h"

struct bus;

struct bus_ops {
	/* off: bytes from the range's start; size: 1, 2, 4 or 8; the value is in the low bytes. */
	uint64_t (*read)(void *dev, uint64_t off, unsigned size);
	void (*write)(void *dev, uint64_t off, unsigned size, uint64_t value);
	uint8_t min_size, max_size; /* powers of two; 0 means 1 and 8 */
};

enum bus_space { BUS_PIO, BUS_MMIO };

int bus_new(struct bus **out, const struct log *log, struct err *err) must_check;
void bus_free(struct bus *b);

/*
 * Claims [base, base+len). name is shown to people and must live as long as the bus. -EBUSY on
 * overlap, -EINVAL for a range that is empty, leaves the space (64 KiB of ports), or is not made of
 * whole min_sizes.
 */
int bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t len,
	      const struct bus_ops *ops, void *dev, const char *name, struct err *err) must_check;
/* Releases the range that starts at base; no-op when there is none. For PCI BARs that move. */
void bus_release(struct bus *b, enum bus_space space, uint64_t base);

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned size);
void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned size, uint64_t value);

/* Calls fn for each claimed range in ascending order: for `info` and tests. */
void bus_for_each(struct bus *b, enum bus_space space,
		  void (*fn)(void *ctx, uint64_t base, uint64_t len, const char *name), void *ctx);
/* Accesses that no device claimed since start. */
uint64_t bus_unclaimed(const struct bus *b, enum bus_space space);
/* Writes dropped since start because they were narrower than the device's min_size. */
uint64_t bus_narrow_writes(const struct bus *b, enum bus_space space);

#endif
