/* Scheduling policies in simulated time: what sched_core decides, without threads or clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "vm/sched_core.h"

#define MS 1000000ull

/* A host that does what the core says: vCPUs that are asked to leave do so, and want to run again. */
struct sim {
	struct sched_core c;
	uint64_t now;
	uint64_t kernel; /* bit i: vCPU i is not at a safe point */
	uint64_t locked; /* bit i: its word says that it holds a lock */
	unsigned most;   /* that ran at a time */
	uint64_t ran[SCHED_VCPUS_MAX];
};

static bool locked(void *ctx, unsigned i)
{
	const struct sim *s = ctx;

	return s->locked >> i & 1;
}

static struct sim *sim_new(const struct sched_policy *p, unsigned slots)
{
	struct sim *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	sched_core_init(&s->c, p, slots);
	s->c.locked = locked;
	s->c.ctx = s;
	s->now = 1000 * MS;
	return s;
}

static unsigned bits(uint64_t set)
{
	return (unsigned)__builtin_popcountll(set);
}

/* Whoever was told to leave leaves, and waits again. */
static void obey(struct sim *s)
{
	if (!s->c.policy->user_is_safe)
		s->c.stop_safe = 0;
	for (unsigned n = 0; s->c.stop | (s->c.stop_safe & ~s->kernel); n++) {
		unsigned i = (unsigned)__builtin_ctzll(s->c.stop | (s->c.stop_safe & ~s->kernel));

		assert_true(n < 1000);
		s->c.stop &= ~BIT(i);
		s->c.stop_safe &= ~BIT(i);
		if (sched_core_stays(&s->c, i, s->now))
			continue;
		sched_core_preempt(&s->c, i, s->now);
		sched_core_wait(&s->c, i, s->now);
	}
	s->c.granted = 0;
	assert_int_equal(s->c.running & s->c.waiting, 0);
	assert_true(bits(s->c.running) <= s->c.slots);
}

/* Time passes, in steps of no more than 50 us; what is due is done. */
static void run(struct sim *s, uint64_t ns)
{
	for (uint64_t end = s->now + ns; s->now < end;) {
		uint64_t step = min_u64(50000, end - s->now);

		for (uint64_t rest = s->c.running; rest; rest &= rest - 1)
			s->ran[__builtin_ctzll(rest)] += step;
		s->most = (unsigned)max_u64(s->most, bits(s->c.running));
		s->now += step;
		if (sched_core_deadline(&s->c) <= s->now)
			sched_core_tick(&s->c, s->now);
		obey(s);
	}
}

static void all_wait(struct sim *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sched_core_wait(&s->c, i, s->now);
	obey(s);
}

static void test_fair_runs_all(void **state)
{
	struct sim *s = sim_new(&sched_fair, 2);

	all_wait(s, 8);
	run(s, 20 * MS);
	assert_int_equal(s->c.running, 0xff);
	assert_int_equal(s->c.vcpu[0].n.preemptions, 0);
	assert_true(sched_core_deadline(&s->c) == UINT64_MAX);
	free(s);
}

/* Nobody waits: nothing is due, and nobody is ever asked to leave. */
static void test_enough_slots(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++) {
		struct sim *s = sim_new(sched_policies[p], 4);

		all_wait(s, 4);
		assert_true(sched_core_deadline(&s->c) == UINT64_MAX);
		run(s, 100 * MS);
		assert_int_equal(s->c.running, 0xf);
		assert_int_equal(s->c.vcpu[3].n.preemptions, 0);
		free(s);
	}
}

/* Every policy with slots fills them always, and shares the time out evenly. */
static void test_shares(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++)
		for (unsigned n = 3; n <= 8; n++) {
			struct sim *s = sim_new(sched_policies[p], 2);
			uint64_t sum = 0, share = 2 * 960 * MS / n;

			if (!sched_policies[p]->slots) {
				free(s);
				continue;
			}
			all_wait(s, n);
			run(s, 960 * MS);
			assert_int_equal(s->most, 2);
			for (unsigned i = 0; i < n; i++) {
				sum += s->ran[i];
				assert_in_range(s->ran[i], share - 20 * MS, share + 20 * MS);
			}
			assert_true(sum == 2 * 960 * MS);
			free(s);
		}
}

/* So they do when no vCPU is ever at a safe point, or some are not. */
static void test_shares_unsafe(void **state)
{
	const struct sched_policy *const bounded[] = {&sched_lhp, &sched_hint};

	for (unsigned p = 0; p < ARRAY_SIZE(bounded); p++)
		for (unsigned n = 4; n <= 8; n++)
			for (unsigned k = 0; k < 6; k++) {
				struct sim *s = sim_new(bounded[p], 1 + k % 3);
				uint64_t share = s->c.slots * 3000 * MS / n;

				s->kernel = s->locked = k < 3 ? ~0ULL : 0x11;
				all_wait(s, n);
				run(s, 3000 * MS);
				for (unsigned i = 0; i < n; i++)
					assert_in_range(s->ran[i], share * 8 / 10, share * 12 / 10);
				free(s);
			}
}

/* A slot that a halted vCPU leaves is another's at once; who comes back gets a free one at once. */
static void test_halt(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++) {
		struct sim *s = sim_new(sched_policies[p], 2);
		unsigned i;

		if (!sched_policies[p]->slots) {
			free(s);
			continue;
		}
		all_wait(s, 4);
		run(s, 1 * MS);
		i = (unsigned)__builtin_ctzll(s->c.running);
		sched_core_leave(&s->c, i, s->now);
		assert_int_equal(bits(s->c.running), 2);
		assert_int_equal(s->c.vcpu[i].n.preemptions, 0);
		while (s->c.running | s->c.waiting)
			sched_core_leave(&s->c, (unsigned)__builtin_ctzll(s->c.running | s->c.waiting), s->now);
		s->now += 500 * MS;
		sched_core_wait(&s->c, i, s->now);
		assert_int_equal(s->c.running, BIT(i));
		free(s);
	}
}

/* A long sleep is no credit for more than a slice. */
static void test_sleeper(void **state)
{
	struct sim *s = sim_new(&sched_lhp, 1);

	sched_core_wait(&s->c, 0, s->now);
	sched_core_wait(&s->c, 1, s->now);
	obey(s);
	run(s, 400 * MS);
	sched_core_wait(&s->c, 2, s->now);
	memset(s->ran, 0, sizeof(s->ran));
	run(s, 30 * MS);
	assert_in_range(s->ran[2], 8 * MS, 20 * MS);
	free(s);
}

static void test_gangs(void **state)
{
	struct sim *s = sim_new(&sched_cosched, 2);
	uint64_t seen[4] = {0};

	all_wait(s, 8);
	for (unsigned n = 0; n < 4; n++) {
		seen[n] = s->c.running;
		run(s, s->c.slice_ns);
	}
	assert_int_equal(seen[0], 0x03);
	assert_int_equal(seen[1], 0x0c);
	assert_int_equal(seen[2], 0x30);
	assert_int_equal(seen[3], 0xc0);
	assert_int_equal(s->c.running, 0x03);
	/* Who is halted takes no place: 2 of the next gang, 5 and 6 of the others. */
	run(s, MS);
	sched_core_leave(&s->c, 2, s->now);
	sched_core_leave(&s->c, 5, s->now);
	run(s, s->c.slice_ns);
	assert_int_equal(s->c.running, 0x18);
	run(s, s->c.slice_ns);
	assert_int_equal(s->c.running, 0xc0);
	free(s);
}

/* A gang's slices end together, also that of one who came in the middle; nobody of the next comes before. */
static void test_gang_ends_together(void **state)
{
	struct sim *s = sim_new(&sched_cosched, 2);
	uint64_t end;

	all_wait(s, 4);
	end = s->c.vcpu[0].slice_end;
	run(s, 2 * MS);
	sched_core_leave(&s->c, 1, s->now);
	obey(s);
	assert_int_equal(s->c.running, 0x05);
	assert_true(s->c.vcpu[2].slice_end == end);
	s->now = end;
	sched_core_tick(&s->c, s->now);
	assert_int_equal(s->c.stop, 0x05);
	s->c.stop = 0;
	sched_core_preempt(&s->c, 0, s->now);
	assert_int_equal(s->c.running, 0x04);
	sched_core_preempt(&s->c, 2, s->now);
	assert_int_equal(s->c.running, 0x09);
	free(s);
}

static void test_lhp_waits_for_user_mode(void **state)
{
	struct sim *s = sim_new(&sched_lhp, 1);

	s->kernel = 1;
	all_wait(s, 2);
	assert_int_equal(s->c.running, 1);
	run(s, s->c.slice_ns + s->c.grace_ns / 2);
	assert_int_equal(s->c.running, 1);
	s->kernel = 0;
	run(s, 50000);
	assert_int_equal(s->c.running, 2);
	assert_int_equal(s->c.vcpu[0].n.preemptions, 1);
	assert_int_equal(s->c.vcpu[0].n.safe, 1);
	assert_int_equal(s->c.vcpu[0].n.forced, 0);
	free(s);
}

/* ... or goes when the grace is over, and not before. */
static void test_bounded(void **state)
{
	const struct sched_policy *const bounded[] = {&sched_lhp, &sched_hint};

	for (unsigned p = 0; p < ARRAY_SIZE(bounded); p++) {
		struct sim *s = sim_new(bounded[p], 1);

		s->kernel = s->locked = ~0ULL;
		all_wait(s, 2);
		run(s, s->c.slice_ns + s->c.grace_ns - 100000);
		assert_int_equal(s->c.running, 1);
		run(s, 200000);
		assert_int_equal(s->c.running, 2);
		assert_int_equal(s->c.vcpu[0].n.forced, 1);
		assert_int_equal(s->c.vcpu[0].n.safe, 0);
		free(s);
	}
}

static void test_hint(void **state)
{
	struct sim *s = sim_new(&sched_hint, 1);

	/* No lock: kernel or not, it goes. */
	s->kernel = ~0ULL;
	all_wait(s, 2);
	run(s, s->c.slice_ns);
	assert_int_equal(s->c.running, 2);
	/* A lock: it stays until that is released. */
	s->locked = 2;
	run(s, s->c.slice_ns + 300000);
	assert_int_equal(s->c.running, 2);
	s->locked = 0;
	run(s, 2 * SCHED_LOOK_NS);
	assert_int_equal(s->c.running, 1);
	assert_int_equal(s->c.vcpu[1].n.safe, 1);
	free(s);
}

/* Between the look and the vCPU's leaving, it has taken a lock: it stays, no longer than the grace. */
static void test_hint_taken_late(void **state)
{
	struct sim *s = sim_new(&sched_hint, 1);

	all_wait(s, 2);
	s->now += s->c.slice_ns;
	sched_core_tick(&s->c, s->now);
	assert_int_equal(s->c.stop, 1);
	s->locked = 1;
	assert_true(sched_core_stays(&s->c, 0, s->now));
	assert_true(sched_core_stays(&s->c, 0, s->now + s->c.grace_ns - 1));
	assert_false(sched_core_stays(&s->c, 0, s->now + s->c.grace_ns));
	s->locked = 0;
	assert_false(sched_core_stays(&s->c, 0, s->now));
	free(s);
}

static void test_yield(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++) {
		struct sim *s = sim_new(sched_policies[p], 2);

		if (!sched_policies[p]->slots) {
			free(s);
			continue;
		}
		all_wait(s, 8);
		assert_true(sched_core_yield(&s->c, 0, 7, s->now));
		assert_int_equal(s->c.running, 0x82);
		assert_int_equal(s->c.granted, 0x80);
		assert_int_equal(s->c.vcpu[0].n.yields, 1);
		/* To one who runs, who is halted, who does not exist; by one without a slot. */
		assert_false(sched_core_yield(&s->c, 1, 7, s->now));
		sched_core_leave(&s->c, 5, s->now);
		assert_false(sched_core_yield(&s->c, 1, 5, s->now));
		assert_false(sched_core_yield(&s->c, 1, 64, s->now));
		assert_false(sched_core_yield(&s->c, 1, 0xffffffff, s->now));
		assert_false(sched_core_yield(&s->c, 4, 3, s->now));
		free(s);
	}
}

/* The cap's figures are those of processor time, whatever the policy. */
static uint64_t used(const struct sim *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SCHED_VCPUS_MAX; i++)
		sum += s->ran[i];
	return sum;
}

static void run_capped(struct sim *s, uint64_t ns)
{
	for (uint64_t end = s->now + ns; s->now < end;) {
		sched_cap_update(&s->c.cap, used(s), bits(s->c.running), s->now);
		sched_core_tick(&s->c, s->now);
		obey(s);
		run(s, 100000);
	}
}

static void test_cap(void **state)
{
	for (unsigned p = 0; sched_policies[p]; p++) {
		struct sim *s = sim_new(sched_policies[p], 4);

		s->kernel = 2;
		s->c.cap.percent = 150;
		all_wait(s, 4);
		run_capped(s, 2000 * MS);
		assert_in_range(used(s), 2900 * MS, 3100 * MS);
		assert_in_range(s->c.cap.exhaustions, 18, 21);
		free(s);
	}
}

/* What was not used is not saved up. */
static void test_cap_idle(void **state)
{
	struct sim *s = sim_new(&sched_fair, 4);

	s->c.cap.percent = 50;
	run_capped(s, 3000 * MS);
	assert_int_equal(used(s), 0);
	all_wait(s, 4);
	run_capped(s, 1000 * MS);
	assert_in_range(used(s), 450 * MS, 600 * MS);
	free(s);
}

/* Whatever happens in whatever order, slots are neither lost nor given twice, and nobody waits for ever. */
static void test_random(void **state)
{
	for (unsigned seed = 0; seed < 200; seed++) {
		struct sim *s = sim_new(sched_policies[seed % 4], 1 + seed % 3);

		srand(seed);
		if (seed % 5 == 0)
			s->c.cap.percent = 70;
		for (unsigned n = 0; n < 2000; n++) {
			unsigned i = (unsigned)rand() % 6;

			s->kernel = (uint64_t)rand();
			s->locked = (uint64_t)rand();
			switch (rand() % 4) {
			case 0:
				sched_core_wait(&s->c, i, s->now);
				break;
			case 1:
				rand() % 2 ? sched_core_leave(&s->c, i, s->now) : sched_core_preempt(&s->c, i, s->now);
				break;
			case 2:
				if (sched_core_yield(&s->c, i, (unsigned)rand() % 7, s->now))
					sched_core_wait(&s->c, i, s->now);
				break;
			default:
				s->now += (uint64_t)rand() % (3 * MS);
				sched_cap_update(&s->c.cap, s->now / 2, 1, s->now);
				sched_core_tick(&s->c, s->now);
			}
			obey(s);
			if (!s->c.cap.exhausted && !s->c.asked)
				assert_true(!s->c.waiting || bits(s->c.running) == s->c.slots);
		}
		s->c.cap.percent = 0;
		s->c.cap.exhausted = false;
		all_wait(s, 6);
		memset(s->ran, 0, sizeof(s->ran));
		run(s, 600 * MS);
		for (unsigned i = 0; i < 6; i++)
			assert_true(s->ran[i] > 0);
		free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fair_runs_all), cmocka_unit_test(test_enough_slots), cmocka_unit_test(test_shares), cmocka_unit_test(test_shares_unsafe),
		cmocka_unit_test(test_halt), cmocka_unit_test(test_sleeper), cmocka_unit_test(test_gangs),
		cmocka_unit_test(test_gang_ends_together), cmocka_unit_test(test_lhp_waits_for_user_mode),
		cmocka_unit_test(test_bounded), cmocka_unit_test(test_hint), cmocka_unit_test(test_hint_taken_late),
		cmocka_unit_test(test_yield), cmocka_unit_test(test_cap), cmocka_unit_test(test_cap_idle),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
