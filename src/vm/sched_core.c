/* sched_core.c - who waits for a slot, who has one, and for how long. See sched_core.h. */
#include "vm/sched_core.h"

#include <string.h>

static unsigned count(uint64_t set)
{
	return (unsigned)__builtin_popcountll(set);
}

void sched_core_init(struct sched_core *c, const struct sched_policy *p, unsigned slots)
{
	memset(c, 0, sizeof(*c));
	c->policy = p;
	c->slots = p->slots && slots ? slots : SCHED_VCPUS_MAX;
	c->slice_ns = SCHED_SLICE_NS;
	c->grace_ns = SCHED_GRACE_NS;
}

unsigned sched_core_least(const struct sched_core *c, uint64_t set)
{
	unsigned best = (unsigned)__builtin_ctzll(set);

	for (uint64_t rest = set; rest; rest &= rest - 1) {
		unsigned i = (unsigned)__builtin_ctzll(rest);

		if (c->vcpu[i].run_ns < c->vcpu[best].run_ns)
			best = i;
	}
	return best;
}

/* Not one who has been forced off just now, unless there is no other. */
static uint64_t candidates(const struct sched_core *c, uint64_t now)
{
	uint64_t set = c->waiting;

	for (uint64_t rest = c->waiting & c->unsafe; rest; rest &= rest - 1)
		if (c->vcpu[__builtin_ctzll(rest)].since == now)
			set &= ~(rest & -rest);
	return set ? set : c->waiting;
}

int sched_core_unsafe_first(struct sched_core *c, uint64_t now)
{
	uint64_t set = candidates(c, now);
	unsigned least = sched_core_least(c, set);
	int first = -1;

	for (uint64_t rest = set & c->unsafe; rest; rest &= rest - 1) {
		int i = __builtin_ctzll(rest);

		if (c->vcpu[i].run_ns < c->vcpu[least].run_ns + 2 * c->slice_ns &&
		    (first < 0 || c->vcpu[i].since < c->vcpu[first].since))
			first = i;
	}
	return first < 0 ? (int)least : first;
}

static void ask(struct sched_core *c, unsigned i, enum sched_ask how, uint64_t grace, uint64_t now)
{
	c->asked |= BIT(i);
	c->vcpu[i].force_at = now + grace;
	if (how == SCHED_ASK_SAFE) {
		c->asked_safe |= BIT(i);
		c->stop_safe |= BIT(i);
	} else {
		c->stop |= BIT(i);
	}
}

static void ask_by_policy(struct sched_core *c, unsigned i, uint64_t now)
{
	ask(c, i, c->policy->over ? c->policy->over(c, i) : SCHED_ASK_NOW, c->grace_ns, now);
}

/* Whether short turns have kept i from its share: then it gets a whole slice. */
static bool lags(const struct sched_core *c, unsigned i)
{
	uint64_t others = (c->waiting | c->running) & ~BIT(i);

	return others && c->vcpu[i].run_ns + 2 * c->slice_ns < c->vcpu[sched_core_least(c, others)].run_ns;
}

static void start(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];

	c->waiting &= ~BIT(i);
	c->running |= BIT(i);
	c->granted |= BIT(i);
	v->n.slices++;
	v->n.wait_ns += now - v->since;
	v->since = now;
	v->slice_end = c->policy->gang ? c->gang_end : now + c->slice_ns;
	sched_cap_more(&c->cap, count(c->running), now);
	if (c->unsafe & BIT(i) && c->waiting && !lags(c, i)) {
		c->short_turn |= BIT(i);
		ask(c, i, SCHED_ASK_SAFE, c->grace_ns / SCHED_UNSAFE_TURNS, now);
	}
}

void sched_core_started(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];

	if (!(c->running & BIT(i)) || now <= v->since)
		return;
	if (c->asked_safe & BIT(i))
		v->force_at += now - v->since;
	if (!c->policy->gang)
		v->slice_end += now - v->since;
	v->n.wait_ns += now - v->since;
	v->since = now;
}

/* Free slots to those that wait. */
static void fill(struct sched_core *c, uint64_t now)
{
	while (c->waiting && count(c->running) < c->slots && !c->cap.exhausted) {
		int i = c->policy->next(c, now);

		if (i < 0)
			break;
		start(c, (unsigned)i, now);
	}
}

static void stop_running(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];

	v->run_ns += now - v->since;
	v->since = now;
	c->running &= ~BIT(i);
	c->asked &= ~BIT(i);
	c->asked_safe &= ~BIT(i);
	c->short_turn &= ~BIT(i);
	c->granted &= ~BIT(i);
	c->stop &= ~BIT(i);
	c->stop_safe &= ~BIT(i);
}

void sched_core_wait(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];
	uint64_t others = (c->waiting | c->running) & ~BIT(i);

	if ((c->waiting | c->running) & BIT(i))
		return;
	/* Who has slept comes before the others, but not for longer than a slice. */
	if (others) {
		uint64_t least = c->vcpu[sched_core_least(c, others)].run_ns;

		v->run_ns = max_u64(v->run_ns, least - min_u64(least, c->slice_ns));
	}
	v->since = now;
	c->waiting |= BIT(i);
	fill(c, now);
}

void sched_core_leave(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];

	if (c->waiting & BIT(i)) {
		v->n.wait_ns += now - v->since;
		c->waiting &= ~BIT(i);
	} else if (c->running & BIT(i)) {
		c->unsafe &= ~BIT(i);
		stop_running(c, i, now);
		fill(c, now);
	}
}

void sched_core_preempt(struct sched_core *c, unsigned i, uint64_t now)
{
	struct sched_vcpu *v = &c->vcpu[i];

	if (!(c->running & BIT(i)))
		return;
	v->n.preemptions++;
	if (c->asked_safe & BIT(i)) {
		v->n.safe++;
		c->unsafe &= ~BIT(i);
	}
	stop_running(c, i, now);
	c->waiting |= BIT(i);
	fill(c, now);
}

bool sched_core_stays(struct sched_core *c, unsigned i, uint64_t now)
{
	if (!(c->running & BIT(i)))
		return false;
	if (!(c->asked & BIT(i)))
		return true;
	/* It was at a safe point when it was asked, or when somebody looked, and is not any more. */
	if (c->policy->safe && !c->policy->safe(c, i) && now < c->vcpu[i].force_at) {
		c->asked_safe |= BIT(i);
		return true;
	}
	return false;
}

bool sched_core_yield(struct sched_core *c, unsigned i, unsigned to, uint64_t now)
{
	if (to >= SCHED_VCPUS_MAX || !(c->running & BIT(i)) || !(c->waiting & BIT(to)) || c->cap.exhausted)
		return false;
	c->vcpu[i].n.yields++;
	stop_running(c, i, now);
	start(c, to, now);
	return true;
}

/* Of those running and not asked to leave, the one whose slice ended first; -1: none has ended. */
static int first_over(const struct sched_core *c, uint64_t now)
{
	int first = -1;

	for (uint64_t rest = c->running & ~c->asked; rest; rest &= rest - 1) {
		int i = __builtin_ctzll(rest);

		if (c->vcpu[i].slice_end <= now && (first < 0 || c->vcpu[i].slice_end < c->vcpu[first].slice_end))
			first = i;
	}
	return first;
}

/*
 * Whether somebody waits for whom nobody has been asked to leave yet. Short turns do not count: if they did, they would follow
 * each other in one slot, and nobody else's slice would ever end.
 */
static bool in_demand(const struct sched_core *c)
{
	return c->policy->gang ? c->waiting != 0 : count(c->waiting) > count(c->asked & ~c->short_turn);
}

static void end_slices(struct sched_core *c, uint64_t now)
{
	int i;

	while (in_demand(c) && (i = first_over(c, now)) >= 0)
		ask_by_policy(c, (unsigned)i, now);
}

/* Those that were asked to leave at a safe point. */
static void hurry(struct sched_core *c, uint64_t now)
{
	for (uint64_t rest = c->asked & c->asked_safe; rest; rest &= rest - 1) {
		unsigned i = (unsigned)__builtin_ctzll(rest);

		if (now >= c->vcpu[i].force_at) {
			c->vcpu[i].n.forced++;
			c->unsafe |= BIT(i);
			c->asked_safe &= ~BIT(i);
			c->stop |= BIT(i);
		} else if (c->policy->safe && c->policy->safe(c, i)) {
			c->stop |= BIT(i);
		}
	}
}

void sched_core_tick(struct sched_core *c, uint64_t now)
{
	c->looked = now;
	fill(c, now);
	if (c->cap.exhausted)
		for (uint64_t rest = c->running & ~c->asked; rest; rest &= rest - 1)
			ask_by_policy(c, (unsigned)__builtin_ctzll(rest), now);
	else
		end_slices(c, now);
	hurry(c, now);
}

uint64_t sched_core_deadline(const struct sched_core *c)
{
	uint64_t d = c->cap.percent && (c->running || c->waiting) ? c->cap.look_at : UINT64_MAX;

	if (!c->cap.exhausted && in_demand(c))
		for (uint64_t rest = c->running & ~c->asked; rest; rest &= rest - 1)
			d = min_u64(d, c->vcpu[__builtin_ctzll(rest)].slice_end);
	for (uint64_t rest = c->asked & c->asked_safe; rest; rest &= rest - 1) {
		const struct sched_vcpu *v = &c->vcpu[__builtin_ctzll(rest)];

		d = min_u64(d, c->policy->safe ? min_u64(v->force_at, c->looked + SCHED_LOOK_NS) : v->force_at);
	}
	return d;
}
