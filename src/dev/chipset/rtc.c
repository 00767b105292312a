/*
 * rtc.c - MC146818 (Motorola data sheet ADI-856).
 *
 * The clock is the host's wall clock plus an offset that the guest changes by setting the time. The
 * time registers are encoded when read; while register B's SET bit holds the clock, they are plain
 * memory, and letting go turns them into a new offset.
 *
 * Events (periodic tick, alarm, end of update) are also functions of time: each flag of register C
 * remembers the time up to which it has been reported. A timer runs only for events that can raise
 * an interrupt now, that is, whose enable bit is set and whose flag is clear; reading register C
 * starts it again.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "dev/chipset/ports.h"
#include "dev/chipset/rtc.h"
#include "dev/chipset/rtc_time.h"
#include "dev/chipset/ticks.h"

enum {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
};

#define A_UIP BIT(7)
#define A_DIVIDER 0x70
#define A_DIVIDER_ON 0x20 /* 32.768 kHz; others hold the chain in reset */

#define B_SET BIT(7)
#define B_24H BIT(1)
#define B_BINARY BIT(2)
/* PIE, AIE, UIE in B; PF, AF, UF in C; the same bits. */
#define EVENT_PERIODIC BIT(6)
#define EVENT_ALARM BIT(5)
#define EVENT_UPDATE BIT(4)
#define EVENTS (EVENT_PERIODIC | EVENT_ALARM | EVENT_UPDATE)
#define C_IRQF BIT(7)

#define D_VALID BIT(7) /* the battery is good */

#define ALARM_ANY(v) ((v) >= 0xc0)

#define NS_PER_S 1000000000LL
#define UIP_NS 244000                          /* warning time before an update, t_BUC */
#define MAX_SLEEP_NS (60 * (uint64_t)NS_PER_S) /* the wall clock may be set meanwhile */

struct rtc {
	uint8_t ram[128]; /* time registers: valid while SET */
	uint8_t index;
	uint64_t offset_s;  /* two's complement: guest clock minus wall clock */
	uint64_t seen_s;    /* guest clock second up to which AF and UF are reported */
	uint64_t seen_tick; /* periodic ticks of the host clock reported */

	struct loop_timer timer;
	struct rtc_config cfg;
	struct port_range ranges[1];
};

static const struct snap_field fields[] = {
	{"ram", offsetof(struct rtc, ram), 1, 128, SNAP_UINT, 0, true},
	SNAP_U(struct rtc, index, 0),
	{"offset_s", offsetof(struct rtc, offset_s), 8, 1, SNAP_UINT, 0, true},
	{"seen_s", offsetof(struct rtc, seen_s), 8, 1, SNAP_UINT, 0, true},
	{"seen_tick", offsetof(struct rtc, seen_tick), 8, 1, SNAP_UINT, 0, true},
};

const struct snap_desc rtc_snap = {"rtc", 1, fields, ARRAY_SIZE(fields)};

static int64_t host_utc_ns(void *ctx)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* The guest's clock: seconds, and nanoseconds within the second. */
static int64_t clock_now(const struct rtc *r, uint64_t *ns)
{
	int64_t utc = r->cfg.utc_ns(r->cfg.utc_ctx);
	int64_t s = utc / NS_PER_S - (utc % NS_PER_S < 0);

	*ns = utc - s * NS_PER_S;
	return (int64_t)((uint64_t)s + r->offset_s);
}

static bool running(const struct rtc *r)
{
	return !(r->ram[REG_B] & B_SET) && (r->ram[REG_A] & A_DIVIDER) == A_DIVIDER_ON;
}

static uint8_t encode(const struct rtc *r, unsigned v)
{
	return r->ram[REG_B] & B_BINARY ? v : v / 10 % 10 << 4 | v % 10;
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
	return r->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 0xf);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
	if (r->ram[REG_B] & B_24H)
		return encode(r, h);
	return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->ram[REG_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static void store_time(struct rtc *r)
{
	struct rtc_time t;
	uint64_t ns;
	int64_t now = clock_now(r, &ns);

	rtc_time_split(now, &t);
	r->ram[SECONDS] = encode(r, t.second);
	r->ram[MINUTES] = encode(r, t.minute);
	r->ram[HOURS] = encode_hour(r, t.hour);
	r->ram[WEEKDAY] = encode(r, t.weekday);
	r->ram[DAY] = encode(r, t.day);
	r->ram[MONTH] = encode(r, t.month);
	r->ram[YEAR] = encode(r, t.year % 100 & 0xff);
	r->ram[RTC_CENTURY] = encode(r, t.year / 100 & 0xff);
}

static void load_time(struct rtc *r)
{
	struct rtc_time t = {
		.year = decode(r, r->ram[RTC_CENTURY]) * 100 + decode(r, r->ram[YEAR]),
		.month = decode(r, r->ram[MONTH]),
		.day = decode(r, r->ram[DAY]),
		.hour = decode_hour(r, r->ram[HOURS]),
		.minute = decode(r, r->ram[MINUTES]),
		.second = decode(r, r->ram[SECONDS]),
	};
	uint64_t ns, now = clock_now(r, &ns);

	r->offset_s += (uint64_t)rtc_time_join(&t) - now;
	r->seen_s = rtc_time_join(&t);
}

/* Clock values from `from` (inclusive) on within its day, then from midnight, whose alarm bytes
 * match. */
static bool alarm_in_day(const struct rtc *r, unsigned from, unsigned *found)
{
	uint8_t ah = r->ram[HOURS_ALARM], am = r->ram[MINUTES_ALARM], as = r->ram[SECONDS_ALARM];

	for (unsigned h = from / 3600; h < 24; h++) {
		if (!ALARM_ANY(ah) && decode_hour(r, ah) != h)
			continue;
		for (unsigned m = h * 60 < from / 60 ? from / 60 % 60 : 0; m < 60; m++) {
			unsigned s = (h * 60 + m) * 60, first = s < from ? from - s : 0;

			if (!ALARM_ANY(am) && decode(r, am) != m)
				continue;
			if (!ALARM_ANY(as) && decode(r, as) >= first && decode(r, as) < 60)
				first = decode(r, as);
			else if (!ALARM_ANY(as))
				continue;
			if (first >= 60)
				continue;
			*found = s + first;
			return true;
		}
	}
	return false;
}

/* The first alarm after `after`; false when the alarm bytes never match. */
static bool next_alarm(const struct rtc *r, int64_t after, int64_t *at)
{
	int64_t from = after + 1, day = from / 86400 - (from % 86400 < 0);
	unsigned s;

	if (alarm_in_day(r, from - day * 86400, &s)) {
		*at = day * 86400 + s;
		return true;
	}
	if (!alarm_in_day(r, 0, &s))
		return false;
	*at = (day + 1) * 86400 + s;
	return true;
}

/* Periodic rate in Hz; 0: none. */
static uint64_t periodic_hz(const struct rtc *r)
{
	unsigned rate = r->ram[REG_A] & 0xf;

	if (!rate || (r->ram[REG_A] & A_DIVIDER) != A_DIVIDER_ON)
		return 0;
	return 32768 >> ((rate <= 2 ? rate + 7 : rate) - 1);
}

/* Sets the flags of what has happened since it was last looked at. */
static void collect_events(struct rtc *r)
{
	uint64_t ns, hz = periodic_hz(r);
	int64_t now, at;

	if (hz) {
		uint64_t tick = ns_to_ticks(host_now_ns(), hz);

		if (tick > r->seen_tick)
			r->ram[REG_C] |= EVENT_PERIODIC;
		r->seen_tick = tick;
	}
	if (!running(r))
		return;
	now = clock_now(r, &ns);
	if (now != (int64_t)r->seen_s)
		r->ram[REG_C] |= EVENT_UPDATE;
	/* A wall clock that was set back raises no alarm twice. */
	if (now > (int64_t)r->seen_s && next_alarm(r, r->seen_s, &at) && at <= now)
		r->ram[REG_C] |= EVENT_ALARM;
	r->seen_s = now;
}

static void update_irq(struct rtc *r)
{
	if (r->ram[REG_C] & r->ram[REG_B] & EVENTS)
		r->ram[REG_C] |= C_IRQF;
	else
		r->ram[REG_C] &= ~C_IRQF;
	irq_set(&r->cfg.irq8, r->ram[REG_C] & C_IRQF);
}

static uint64_t until_second(const struct rtc *r, int64_t s)
{
	uint64_t ns;
	int64_t now = clock_now(r, &ns);

	if (s <= now)
		return 0;
	if (s - now > (int64_t)(MAX_SLEEP_NS / NS_PER_S))
		return MAX_SLEEP_NS;
	return (s - now) * NS_PER_S - ns;
}

static void schedule(struct rtc *r)
{
	uint8_t wanted = r->ram[REG_B] & ~r->ram[REG_C] & EVENTS;
	uint64_t wait = UINT64_MAX, now = host_now_ns(), hz = periodic_hz(r);
	int64_t at;

	if ((wanted & EVENT_PERIODIC) && hz) {
		uint64_t tick_ns = ticks_to_ns(r->seen_tick + 1, hz);

		wait = tick_ns - min_u64(now, tick_ns);
	}
	if ((wanted & EVENT_UPDATE) && running(r))
		wait = min_u64(wait, until_second(r, r->seen_s + 1));
	if ((wanted & EVENT_ALARM) && running(r) && next_alarm(r, r->seen_s, &at))
		wait = min_u64(wait, until_second(r, at));
	if (wait == UINT64_MAX)
		loop_timer_cancel(&r->timer);
	else
		loop_timer_set(&r->timer, now + wait);
}

static void refresh(void *ctx)
{
	struct rtc *r = ctx;

	collect_events(r);
	update_irq(r);
	schedule(r);
}

static bool is_time(unsigned i)
{
	return i == SECONDS || i == MINUTES || i == HOURS || (i >= WEEKDAY && i <= YEAR) ||
	       i == RTC_CENTURY;
}

static uint8_t reg_read(struct rtc *r, unsigned i)
{
	uint8_t value;
	uint64_t ns;

	if (is_time(i) && running(r))
		store_time(r);
	switch (i) {
	case REG_A:
		clock_now(r, &ns);
		value = r->ram[REG_A];
		return running(r) && ns >= NS_PER_S - UIP_NS ? value | A_UIP : value;
	case REG_C:
		collect_events(r);
		update_irq(r);
		value = r->ram[REG_C];
		r->ram[REG_C] = 0;
		update_irq(r);
		schedule(r);
		return value;
	case REG_D:
		return D_VALID;
	}
	return r->ram[i];
}

/* Registers A and B decide whether the clock runs and how it is encoded. */
static void mode_write(struct rtc *r, unsigned i, uint8_t value)
{
	bool was = running(r);

	collect_events(r);
	if (was)
		store_time(r);
	if (i == REG_A)
		value &= ~A_UIP;
	else if (value & B_SET)
		value &= ~EVENT_UPDATE;
	r->ram[i] = value;
	if (!was && running(r))
		load_time(r);
	refresh(r);
}

static void reg_write(struct rtc *r, unsigned i, uint8_t value)
{
	if (i == REG_A || i == REG_B) {
		mode_write(r, i, value);
	} else if (i == REG_C || i == REG_D) {
		return; /* read-only */
	} else if (is_time(i) && running(r)) {
		store_time(r);
		r->ram[i] = value;
		if (i != WEEKDAY) /* which follows from the date */
			load_time(r);
		refresh(r);
	} else {
		r->ram[i] = value;
		if (i == SECONDS_ALARM || i == MINUTES_ALARM || i == HOURS_ALARM)
			refresh(r);
	}
}

/* Port 0x70 takes the index (bit 7 masks NMI, of which there is no source) and cannot be read back.
 */
static uint64_t rtc_read(void *dev, uint64_t off, unsigned size)
{
	struct rtc *r = dev;

	return off ? reg_read(r, r->index) : 0xff;
}

static void rtc_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct rtc *r = dev;

	if (off)
		reg_write(r, r->index, value);
	else
		r->index = value & 0x7f;
}

static const struct bus_ops ops = {rtc_read, rtc_write, 1, 1};

void rtc_set_ram(struct rtc *r, uint8_t index, uint8_t value)
{
	if (index > REG_D && index < sizeof(r->ram) && !is_time(index))
		r->ram[index] = value;
}

static void set_word(struct rtc *r, uint8_t index, uint64_t value)
{
	rtc_set_ram(r, index, value);
	rtc_set_ram(r, index + 1, value >> 8);
}

void rtc_set_memory_size(struct rtc *r, uint64_t below_4g, uint64_t above_4g)
{
	uint64_t extended = below_4g > MIB(1) ? below_4g - MIB(1) : 0;
	uint64_t above_16m = below_4g > MIB(16) ? below_4g - MIB(16) : 0;
	uint64_t high = above_4g / KIB(64);

	set_word(r, 0x15, 640);                                    /* base memory, KiB */
	set_word(r, 0x17, min_u64(extended / KIB(1), UINT16_MAX)); /* from 1 MiB, KiB */
	set_word(r, 0x30, min_u64(extended / KIB(1), UINT16_MAX));
	set_word(r, 0x34, min_u64(above_16m / KIB(64), UINT16_MAX)); /* from 16 MiB, 64 KiB */
	set_word(r, 0x5b, high);                                     /* from 4 GiB, 64 KiB */
	rtc_set_ram(r, 0x5d, high >> 16);
}

/* RESET# clears the interrupt enables and flags and nothing else. */
void rtc_reset(struct rtc *r)
{
	snap_reset(&rtc_snap, r, false);
	r->ram[REG_B] &= ~(EVENTS | BIT(3));
	r->ram[REG_C] = 0;
	loop_timer_cancel(&r->timer);
	update_irq(r);
}

int rtc_new(struct rtc **out, const struct rtc_config *cfg, struct err *err)
{
	struct rtc *r = calloc(1, sizeof(*r));
	uint64_t ns;
	int ret;

	if (!r)
		return err_set(err, ENOMEM, "RTC: out of memory");
	r->cfg = *cfg;
	if (!r->cfg.utc_ns)
		r->cfg.utc_ns = host_utc_ns;
	r->ranges[0] = (struct port_range){0x70, 2, &ops, r, "RTC"};
	ret = ports_claim(cfg->bus, r->ranges, ARRAY_SIZE(r->ranges), err);
	if (ret) {
		free(r);
		return ret;
	}
	loop_timer_init(&r->timer, cfg->loop, refresh, r);
	snap_reset(&rtc_snap, r, true);
	r->ram[REG_A] = A_DIVIDER_ON | 6; /* 1024 Hz */
	r->ram[REG_B] = B_24H;
	r->offset_s = cfg->offset_s;
	r->seen_s = clock_now(r, &ns);
	r->seen_tick = ns_to_ticks(host_now_ns(), periodic_hz(r));
	update_irq(r);
	*out = r;
	return 0;
}

void rtc_free(struct rtc *r)
{
	if (!r)
		return;
	loop_timer_cancel(&r->timer);
	ports_release(r->cfg.bus, r->ranges, ARRAY_SIZE(r->ranges));
	free(r);
}
