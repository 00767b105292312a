/* Marks of cached code: who learns of a write, when, and what a vCPU that could still write unnoticed is asked (mem/code.h). */
#include "mmu_fixture.h"

#include <sched.h>

#define ROOT MIB(2)
#define PAGE MIB(4)
#define VA 0x400000ULL
#define USERS 3

/* A vCPU as far as code goes: an MMU of its own on shared memory, and a cache that notes what it is told. */
struct user {
	struct mmu *mmu;
	unsigned pokes, wakes, wrote, lost;
	uint64_t gpa, len;
	bool keeps; /* something in the second line of the page */
};

struct world {
	struct fixture *f;
	struct user u[USERS];
};

static uint64_t on_wrote(void *ctx, gpa_t gpa, uint64_t len)
{
	struct user *u = ctx;

	u->wrote++;
	u->gpa = gpa.v;
	u->len = len;
	return u->keeps ? 2 : 0;
}

static void on_lost(void *ctx)
{
	((struct user *)ctx)->lost++;
}

static void on_poke(void *ctx, bool wake)
{
	struct user *u = ctx;

	u->pokes++;
	u->wakes += wake;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->f = fixture_new(0, ROOT);
	map(w->f, ROOT, VA, PAGE | RWU | PTE_A | PTE_D);
	for (unsigned i = 0; i < USERS; i++) {
		struct user *u = &w->u[i];
		struct code_cache c = {.wrote = on_wrote, .lost = on_lost, .ctx = u};

		u->mmu = calloc(1, sizeof(*u->mmu));
		assert_non_null(u->mmu);
		assert_int_equal(mmu_init(u->mmu, w->f->mem, NULL), 0);
		u->mmu->regs = w->f->mmu->regs;
		mmu_flush(u->mmu);
		u->mmu->code.poke = on_poke;
		u->mmu->code.poke_ctx = u;
		assert_int_equal(code_user_add_cache(&u->mmu->code, &c), 0);
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < USERS; i++) {
		mmu_fini(w->u[i].mmu);
		free(w->u[i].mmu);
	}
	fixture_free(w->f);
	free(w);
	return 0;
}

static void put(struct world *w, uint64_t gpa)
{
	assert_int_equal(guest_write(w->f->mem, GPA(gpa), "code", 4), 0);
}

static uint64_t lines(struct world *w)
{
	return guest_code_lines(w->f->mem, GPA(PAGE));
}

static bool has_write_entry(struct user *u)
{
	return u->mmu->write[MMU_USER][tlb_index(VA)].tag == VA;
}

static void fill_write_entry(struct user *u)
{
	struct mmu_result r;

	assert_true(mmu_translate(u->mmu, VA, MMU_WRITE, MMU_USER, &r));
}

/* The writer's own, to the byte and at once; all marks of the page go, but what it marks again. */
static void test_own_write(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0];

	code_user_enter(&u->mmu->code);
	code_user_mark(&u->mmu->code, GPA(PAGE + 60), 72); /* lines 0 to 2 */
	assert_int_equal(lines(w), 7);
	put(w, PAGE + 192);
	assert_int_equal(u->wrote, 0);
	u->keeps = true;
	put(w, PAGE + 130);
	assert_int_equal(u->wrote, 1);
	assert_int_equal(u->gpa, PAGE + 130);
	assert_int_equal(u->len, 4);
	assert_int_equal(lines(w), 2);
	u->keeps = false;
	put(w, PAGE + 64);
	assert_int_equal(u->wrote, 2);
	assert_int_equal(lines(w), 0);
	put(w, PAGE + 64);
	assert_int_equal(u->wrote, 2);
	assert_int_equal(u->pokes, 0);
	code_user_mark(&u->mmu->code, GPA(PAGE + 0xff8), 16); /* into the next page */
	assert_int_equal(guest_code_lines(w->f->mem, GPA(PAGE + 0x1000)), 1);
	assert_int_equal(guest_write(w->f->mem, GPA(PAGE + 0xffe), "code", 4), 0);
	assert_int_equal(u->wrote, 4); /* once for each page */
	assert_int_equal(u->gpa, PAGE + 0x1000);
	assert_int_equal(u->len, 2);
}

/* Another's: a note, read when it catches up; whole lines, and marks of other lines stay. */
static void test_others_write(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *writer = &w->u[1];

	code_user_enter(&writer->mmu->code);
	code_user_mark(&u->mmu->code, GPA(PAGE), 4 * 64);
	code_user_mark(&writer->mmu->code, GPA(PAGE + 64), 1);
	put(w, PAGE + 130);
	assert_int_equal(u->wrote, 0);
	assert_int_equal(u->pokes, 1);
	assert_int_equal(u->wakes, 0);
	assert_int_equal(writer->wrote, 1);
	assert_int_equal(writer->len, 4);
	assert_int_equal(lines(w), 0xb);
	assert_int_equal(w->u[2].pokes, 0);
	put(w, PAGE + 62); /* two lines */
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 2);
	assert_int_equal(u->gpa, PAGE);
	assert_int_equal(u->len, 128);
	assert_int_equal(lines(w), 8); /* what a note names is not kept */
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 2);
}

static void test_more_notes_than_there_is_room_for(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0];

	for (unsigned i = 0; i < CODE_NOTES; i++) {
		code_user_mark(&u->mmu->code, GPA(PAGE), 1);
		put(w, PAGE);
	}
	code_user_mark(&u->mmu->code, GPA(PAGE + 0x3000), 1);
	assert_int_equal(u->wrote, 0);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, CODE_NOTES);
	assert_int_equal(u->lost, 0);
	for (unsigned i = 0; i <= CODE_NOTES; i++) {
		code_user_mark(&u->mmu->code, GPA(PAGE), 1);
		put(w, PAGE);
	}
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->lost, 1);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->lost, 1);
}

/* Who could write unnoticed when the mark came. */
static void test_writer_is_asked(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *other = &w->u[1], *third = &w->u[2];

	fill_write_entry(u);
	fill_write_entry(other);
	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	assert_false(has_write_entry(u));
	assert_true(has_write_entry(other));
	assert_int_equal(other->wakes, 1);
	assert_int_equal(third->pokes, 0);
	/* Asked once; until it has followed, what was read is dropped at each serializing instruction. */
	code_user_mark(&u->mmu->code, GPA(PAGE + 64), 1);
	assert_int_equal(other->wakes, 1);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 0);
	assert_true(code_user_serialize(&u->mmu->code));
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 1);
	assert_int_equal(u->gpa, PAGE);
	assert_int_equal(u->len, GUEST_PAGE_SIZE);
	/* A third finds the page marked, and still has to ask. */
	code_user_mark(&third->mmu->code, GPA(PAGE), 1);
	assert_int_equal(other->wakes, 2);
	/* It follows: no entry any more, no new one, and who waited is told. */
	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	u->pokes = third->pokes = 0;
	code_user_catch_up(&other->mmu->code);
	assert_false(has_write_entry(other));
	fill_write_entry(other);
	assert_false(has_write_entry(other));
	assert_true(u->pokes && third->pokes);
	code_user_catch_up(&u->mmu->code);
	code_user_catch_up(&third->mmu->code);
	assert_int_equal(u->wrote, 2);
	assert_int_equal(third->wrote, 1);
	assert_false(code_user_serialize(&u->mmu->code));
	assert_false(code_user_serialize(&third->mmu->code));
	/* And who marks now is sure at once. */
	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	assert_false(code_user_serialize(&u->mmu->code));
}

static void test_unmarked_again(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *other = &w->u[1];

	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	fill_write_entry(other);
	assert_false(has_write_entry(other));
	assert_false(mmu_refill(other->mmu, VA, MMU_WRITE, MMU_USER));
	put(w, PAGE);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(lines(w), 0);
	assert_true(mmu_refill(other->mmu, VA, MMU_WRITE, MMU_USER));
	assert_true(has_write_entry(other));
}

/* More pages than a user can be unsure of, and more requests than another has room for. */
static void test_many_pages(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *other = &w->u[1];
	unsigned pages = CODE_NOTES + 16;

	for (unsigned i = 0; i < pages; i++) {
		struct mmu_result r;

		map(w->f, ROOT, VA + i * 0x1000, (PAGE + i * 0x1000) | RWU);
		assert_true(mmu_translate(other->mmu, VA + i * 0x1000, MMU_WRITE, MMU_USER, &r));
	}
	for (unsigned i = 0; i < pages; i++)
		code_user_mark(&u->mmu->code, GPA(PAGE + i * 0x1000), 1);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->lost, 1);
	code_user_catch_up(&other->mmu->code);
	for (unsigned i = 0; i < pages; i++) {
		assert_int_not_equal(other->mmu->write[MMU_USER][tlb_index(VA + i * 0x1000)].tag, VA + i * 0x1000);
		code_user_mark(&u->mmu->code, GPA(PAGE + i * 0x1000), 1);
	}
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->lost, 2); /* nor was there room for all that the other had to say */
	assert_false(code_user_serialize(&u->mmu->code));
}

/* A page that nobody had marked for a while gets a new writer while it is unsure. */
static void test_writer_comes_back(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *other = &w->u[1], *third = &w->u[2];

	fill_write_entry(other);
	code_user_mark(&u->mmu->code, GPA(PAGE), 1); /* asks the other */
	put(w, PAGE);                                /* unmarked */
	fill_write_entry(third);
	code_user_mark(&u->mmu->code, GPA(PAGE), 1); /* has to ask the third, too */
	assert_int_equal(third->wakes, 1);
	put(w, PAGE);
	code_user_catch_up(&other->mmu->code);       /* follows, and is back at once */
	fill_write_entry(other);
	assert_true(has_write_entry(other));
	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	other->wakes = 0;
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(other->wakes, 1);           /* asked again */
	code_user_catch_up(&other->mmu->code);
	code_user_catch_up(&third->mmu->code);
	assert_false(has_write_entry(other));
	assert_false(has_write_entry(third));
	code_user_catch_up(&u->mmu->code);
	assert_false(code_user_serialize(&u->mmu->code));
}

/* One that will not run for long. */
static void test_retired(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0], *other = &w->u[1];

	fill_write_entry(other);
	code_user_mark(&u->mmu->code, GPA(PAGE), 1);
	assert_true(code_user_serialize(&u->mmu->code));
	u->pokes = 0;
	code_user_retire(&other->mmu->code);
	assert_false(has_write_entry(other));
	assert_int_equal(u->pokes, 1);
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 1);
	assert_false(code_user_serialize(&u->mmu->code));
	code_user_catch_up(&other->mmu->code); /* comes back, to an old request */
	assert_int_equal(other->wrote, 0);
}

/*
 * The same with threads: one writes a word of code, through the TLB when it can, and says which version it is; others cache the
 * word, and after a serializing instruction never use one that is older than what was said before.
 */
#define READS 3000 /* by each, at least */

struct race {
	struct world *w;
	uint64_t said; /* version that was written before this was */
	bool over;
};

struct racer {
	struct race *race;
	struct user *u;
	pthread_t thread;
	bool cached, poked;
	uint64_t value, stale, reads, fast;
};

static uint64_t forget(void *ctx, gpa_t gpa, uint64_t len)
{
	struct racer *r = ctx;

	if (gpa.v <= PAGE + 8 && PAGE < gpa.v + len)
		r->cached = false;
	return r->cached;
}

static void forget_all(void *ctx)
{
	((struct racer *)ctx)->cached = false;
}

static void race_poke(void *ctx, bool wake)
{
	(void)wake;
	__atomic_store_n(&((struct racer *)ctx)->poked, true, __ATOMIC_SEQ_CST);
}

static void *read_code(void *arg)
{
	struct racer *r = arg;
	struct code_user *c = &r->u->mmu->code;
	const uint64_t *word = guest_ptr(r->race->w->f->mem, GPA(PAGE), 8);

	code_user_enter(c);
	while (!__atomic_load_n(&r->race->over, __ATOMIC_ACQUIRE)) {
		uint64_t said = __atomic_load_n(&r->race->said, __ATOMIC_SEQ_CST);

		if (code_user_serialize(c) || __atomic_exchange_n(&r->poked, false, __ATOMIC_SEQ_CST))
			code_user_catch_up(c);
		if (!r->cached) {
			code_user_mark(c, GPA(PAGE), 8);
			r->value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
			r->cached = true;
			__atomic_fetch_add(&r->reads, 1, __ATOMIC_RELAXED);
		}
		r->stale += r->value < said;
		/* Time for the writer to come by unseen. */
		for (unsigned n = r->reads % 64; r->u == &r->race->w->u[1] && n; n--)
			__builtin_ia32_pause();
		if (r->reads % 8 == 0)
			sched_yield();
	}
	code_user_exit(c);
	return NULL;
}

static void *write_code(void *arg)
{
	struct racer *r = arg;
	struct mmu *m = r->u->mmu;
	uint64_t *word = guest_ptr(m->mem, GPA(PAGE), 8);

	code_user_enter(&m->code);
	for (uint64_t n = 1; __atomic_load_n(&r[1].reads, __ATOMIC_RELAXED) < READS ||
			     __atomic_load_n(&r[2].reads, __ATOMIC_RELAXED) < READS; n++) {
		bool entry = m->write[MMU_USER][tlb_index(VA)].tag == VA;

		r->fast += entry;
		if (!entry)
			fill_write_entry(r->u);
		__atomic_store_n(word, n, __ATOMIC_RELAXED);
		if (!entry)
			guest_mem_wrote(m->mem, GPA(PAGE), 8);
		__atomic_store_n(&r->race->said, n, __ATOMIC_RELEASE);
		/* A safe point, sooner or later. */
		if (n % 32 == 0)
			sched_yield();
		if (n % 16 == 0 && __atomic_exchange_n(&r->poked, false, __ATOMIC_SEQ_CST))
			code_user_catch_up(&m->code);
	}
	code_user_exit(&m->code);
	__atomic_store_n(&r->race->over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void test_race(void **state)
{
	struct race race = {.w = *state};
	struct racer r[USERS] = {0};

	for (unsigned i = 0; i < USERS; i++) {
		struct user *u = &race.w->u[i];
		struct code_cache c = {.wrote = forget, .lost = forget_all, .ctx = &r[i]};

		r[i].race = &race;
		r[i].u = u;
		code_user_remove_cache(&u->mmu->code, u);
		assert_int_equal(code_user_add_cache(&u->mmu->code, &c), 0);
		u->mmu->code.poke = race_poke;
		u->mmu->code.poke_ctx = &r[i];
	}
	for (unsigned i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&r[i].thread, NULL, i ? read_code : write_code, &r[i]), 0);
	for (unsigned i = 0; i < USERS; i++)
		pthread_join(r[i].thread, NULL);
	print_message("%lu writes past the marks' sight; read %lu and %lu times\n", r[0].fast, r[1].reads, r[2].reads);
	assert_int_equal(r[1].stale + r[2].stale, 0);
}

/* A walk that sets A or D in a page of code. */
static void test_walk_writes_code(void **state)
{
	struct world *w = *state;
	struct user *u = &w->u[0];
	uint64_t pte = gpa_of_host(w->f, (uint64_t)pte_of(w->f, ROOT, VA, 1));
	struct mmu_result r;

	map(w->f, ROOT, VA, PAGE | RWU);
	code_user_mark(&u->mmu->code, GPA(pte), 1);
	assert_true(mmu_translate(w->u[1].mmu, VA, MMU_READ, MMU_USER, &r));
	code_user_catch_up(&u->mmu->code);
	assert_int_equal(u->wrote, 1);
	assert_true(pte >= u->gpa && pte < u->gpa + u->len);
}

static void test_sixty_four(void **state)
{
	struct world *w = *state;
	struct code_user *more = calloc(CODE_USERS, sizeof(*more));
	unsigned n = 0;

	assert_non_null(more);
	while (!code_user_join(&more[n], w->f->mem, NULL))
		n++;
	assert_int_equal(n, CODE_USERS - USERS - 1); /* the fixture has one */
	code_user_leave(&more[n - 1]);
	assert_int_equal(code_user_join(&more[n - 1], w->f->mem, NULL), 0);
	while (n--)
		code_user_leave(&more[n]);
	free(more);
}

static void test_copy(void **state)
{
	_Alignas(8) uint8_t from[64], to[64];

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		from[i] = (uint8_t)(i * 7 + 1);
	for (unsigned at = 0; at < 9; at++)
		for (unsigned len = 0; len < 40; len++) {
			memset(to, 0, sizeof(to));
			code_copy(to, from + at, len);
			assert_memory_equal(to, from + at, len);
			assert_int_equal(to[len], 0);
		}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_own_write), T(test_others_write), T(test_more_notes_than_there_is_room_for), T(test_writer_is_asked),
		T(test_unmarked_again), T(test_many_pages), T(test_writer_comes_back), T(test_retired), T(test_walk_writes_code), T(test_sixty_four), T(test_copy), T(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
