/* sched_cap.c - a bound on the processor time that a machine uses, period by period. What one uses too much, the next lack. */
#include "vm/sched_core.h"

#define LOOK_MIN_NS (500 * 1000ull) /* looking costs a system call for each vCPU */

static int64_t share(const struct sched_cap *cap)
{
	return (int64_t)(SCHED_CAP_PERIOD_NS / 100 * cap->percent);
}

static void begin_period(struct sched_cap *cap, uint64_t used, uint64_t now)
{
	uint64_t n = 1 + (now - cap->period_end) / SCHED_CAP_PERIOD_NS;
	int64_t left = cap->budget - (int64_t)(used - cap->base) + share(cap) * (int64_t)min_u64(n, 1000);

	cap->budget = left < share(cap) ? left : share(cap);
	cap->base = used;
	cap->period_end += n * SCHED_CAP_PERIOD_NS;
}

void sched_cap_more(struct sched_cap *cap, unsigned running, uint64_t now)
{
	if (cap->percent && !cap->exhausted)
		cap->look_at = min_u64(cap->look_at, now + max_u64(cap->left / max_u64(running, 1), LOOK_MIN_NS));
}

bool sched_cap_update(struct sched_cap *cap, uint64_t used, unsigned running, uint64_t now)
{
	bool was = cap->exhausted;
	int64_t left;

	if (!cap->percent || (now < cap->look_at && cap->period_end))
		return false;
	if (!cap->period_end) {
		cap->period_end = now;
		cap->base = used;
	}
	used = max_u64(used, cap->base);
	if (now >= cap->period_end)
		begin_period(cap, used, now);
	left = cap->budget - (int64_t)(used - cap->base);
	cap->exhausted = left <= 0;
	cap->exhaustions += cap->exhausted && !was;
	cap->look_at = cap->period_end;
	cap->left = left > 0 ? (uint64_t)left : 0;
	sched_cap_more(cap, running, now);
	return true;
}
