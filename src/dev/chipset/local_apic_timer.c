/*
 * local_apic_timer.c - the timer: one-shot and periodic counting at LOCAL_APIC_CLOCK_HZ, and TSC
 * deadlines.
 *
 * Nothing counts: timer_zero_ns is the host time at which the count reaches zero, and the current
 * count is computed from it. One loop timer serves both kinds; the mode says which is meant.
 */
#include "dev/chipset/local_apic_priv.h"

#define LVT_TIMER_MODE(v) ((v) >> 17 & 3)
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define NS_PER_S 1000000000ULL
/*
 * A periodic timer faster than this fires at this period: a guest must not keep the loop thread
 * busy. No kernel asks for more than 10 kHz or so.
 */
#define MIN_PERIOD_NS 20000ULL
/* Far deadlines are approached in steps, which keeps the arithmetic in 64 bits. */
#define MAX_STEP_NS (3600 * NS_PER_S)

static unsigned mode(const struct lapic *l)
{
	return LVT_TIMER_MODE(l->lvt[LVT_TIMER]);
}

/* Nanoseconds per count: bits 0, 1 and 3 encode the divisor 2, 4, ... 128, 1. */
static uint64_t count_ns(const struct lapic *l)
{
	unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);

	return code == 7 ? 1 : 2ULL << code;
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	uint64_t now = host_now_ns(), unit = count_ns(l), period = l->initial_count * unit;

	if (!l->timer_zero_ns || !l->initial_count || mode(l) == TIMER_DEADLINE)
		return 0;
	if (now < l->timer_zero_ns)
		return (l->timer_zero_ns - now + unit - 1) / unit;
	if (mode(l) == TIMER_ONE_SHOT)
		return 0;
	return (period - (now - l->timer_zero_ns) % period) / unit;
}

static void arm(struct lapic *l)
{
	if (l->timer_zero_ns)
		loop_timer_set(&l->timer, l->timer_zero_ns);
	else
		loop_timer_cancel(&l->timer);
}

void lapic_timer_stop(struct lapic *l)
{
	l->timer_zero_ns = 0;
	l->deadline = 0;
	loop_timer_cancel(&l->timer);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
	if (mode(l) == TIMER_DEADLINE)
		return;
	l->initial_count = count;
	l->timer_zero_ns = count ? host_now_ns() + count * count_ns(l) : 0;
	arm(l);
}

void lapic_timer_set_divide(struct lapic *l, uint32_t divide)
{
	uint32_t left = lapic_timer_count(l);

	l->divide = divide & 0xb;
	if (!l->timer_zero_ns || !left)
		return;
	l->timer_zero_ns = host_now_ns() + left * count_ns(l);
	arm(l);
}

static void deadline_arm(struct lapic *l)
{
	uint64_t now = l->cfg.guest_tsc ? l->cfg.guest_tsc(l->cfg.tsc_ctx) : 0;
	uint64_t left, hz = l->cfg.tsc_hz ? l->cfg.tsc_hz : NS_PER_S;
	unsigned __int128 ns;

	loop_timer_cancel(&l->timer);
	if (!l->deadline)
		return;
	if (l->deadline <= now) {
		l->deadline = 0;
		lapic_raise_lvt(l, LVT_TIMER);
		return;
	}
	left = l->deadline - now;
	ns = (unsigned __int128)left * NS_PER_S / hz + 1;
	loop_timer_set(&l->timer, host_now_ns() + (ns > MAX_STEP_NS ? MAX_STEP_NS : (uint64_t)ns));
}

static void expired(void *ctx)
{
	struct lapic *l = ctx;
	uint64_t now, period;

	if (mode(l) == TIMER_DEADLINE) {
		deadline_arm(l); /* raises when it is time, goes on waiting otherwise */
		return;
	}
	if (!l->timer_zero_ns)
		return;
	if (mode(l) == TIMER_PERIODIC && l->initial_count) {
		/* Periods that were missed are gone: the interrupt was pending all along. */
		now = host_now_ns();
		period = max_u64(l->initial_count * count_ns(l), MIN_PERIOD_NS);
		if (now < l->timer_zero_ns)
			now = l->timer_zero_ns;
		l->timer_zero_ns += ((now - l->timer_zero_ns) / period + 1) * period;
		arm(l);
	} else {
		l->timer_zero_ns = 0;
	}
	lapic_raise_lvt(l, LVT_TIMER);
}

void lapic_timer_init(struct lapic *l)
{
	loop_timer_init(&l->timer, l->cfg.loop, expired, l);
}

/* Entering or leaving TSC-deadline mode disarms the timer (SDM vol. 3, 11.5.4.1). */
void lapic_timer_set_lvt(struct lapic *l, uint32_t value)
{
	bool was = mode(l) == TIMER_DEADLINE, is = LVT_TIMER_MODE(value) == TIMER_DEADLINE;

	if (was != is)
		lapic_timer_stop(l);
	l->lvt[LVT_TIMER] = value;
}

uint64_t lapic_deadline_get(void *ctx)
{
	return ((struct lapic *)ctx)->deadline;
}

void lapic_deadline_set(void *ctx, uint64_t tsc)
{
	struct lapic *l = ctx;

	if (mode(l) != TIMER_DEADLINE || !lapic_enabled(l))
		return;
	l->deadline = tsc;
	deadline_arm(l);
}

void local_apic_tsc_changed(struct lapic *l)
{
	if (l->deadline)
		deadline_arm(l);
}
