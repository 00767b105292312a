/* rtc.h - MC146818 real-time clock with 128 bytes of CMOS RAM, at ports 0x70-71. */
#ifndef RINGER_DEV_CHIPSET_RTC_H
#define RINGER_DEV_CHIPSET_RTC_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "host/loop.h"
#include "snap/snap.h"

#define RTC_CENTURY 0x32 /* the index for the FADT's century field */

struct rtc;

struct rtc_config {
	struct bus *bus;
	struct loop *loop;
	struct irq_line irq8;
	/* Wall clock, nanoseconds since 1970 UTC; NULL: the host's CLOCK_REALTIME. */
	int64_t (*utc_ns)(void *ctx);
	void *utc_ctx;
	int64_t offset_s; /* added to the wall clock: a guest that keeps local time */
};

int rtc_new(struct rtc **out, const struct rtc_config *cfg, struct err *err) must_check;
void rtc_reset(struct rtc *r); /* the battery keeps time and RAM */
void rtc_free(struct rtc *r);

/* Fills the memory-size bytes 0x15-18, 0x30-31, 0x34-35 and 0x5b-5d as a PC BIOS does. */
void rtc_set_memory_size(struct rtc *r, uint64_t below_4g, uint64_t above_4g);
/* Sets a byte of CMOS RAM; index 0x0e..0x7f. */
void rtc_set_ram(struct rtc *r, uint8_t index, uint8_t value);

extern const struct snap_desc rtc_snap;

#endif
