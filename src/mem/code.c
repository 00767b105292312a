/* Marks of cached code, and the notes between those who write it and those who have it cached: see code.h. */
#include "mem/code.h"

#include <errno.h>

#include "mem/region.h"

/* Low bits of code_note.page. FOLLOWED: lines is the bit of the user that has dropped its write entries. */
enum { NOTE_VALID = 1, NOTE_PROTECT = 2, NOTE_FOLLOWED = 4, NOTE_DONE = 8 };

int code_user_join(struct code_user *u, struct guest_mem *m, struct err *err)
{
	for (unsigned i = 0; i < CODE_USERS; i++) {
		struct code_user *none = NULL;

		if (!atomic_compare_exchange_strong(&m->user[i], &none, u))
			continue;
		u->mem = m;
		u->id = i;
		u->bit = BIT(i);
		return 0;
	}
	return err_set(err, ENOSPC, "more than %u vCPUs on one guest memory", CODE_USERS);
}

/* Marks stay: they are perhaps another's too, and those that are nobody's go with the first write. */
void code_user_leave(struct code_user *u)
{
	if (u->mem)
		u->mem->user[u->id] = NULL;
	u->mem = NULL;
}

int code_user_add_cache(struct code_user *u, const struct code_cache *c)
{
	if (u->n_caches == CODE_CACHES)
		return -ENOSPC;
	u->cache[u->n_caches++] = *c;
	return 0;
}

void code_user_remove_cache(struct code_user *u, const void *ctx)
{
	for (unsigned i = 0; i < u->n_caches; i++)
		if (u->cache[i].ctx == ctx) {
			u->cache[i] = u->cache[--u->n_caches];
			return;
		}
}

static void poke(const struct code_user *u, bool wake)
{
	if (u->poke)
		u->poke(u->poke_ctx, wake);
}

/* false: no room. */
static bool post(struct code_user *u, uint64_t page, uint64_t lines)
{
	uint32_t at = u->tail;
	struct code_note *n;

	do {
		if (at - u->head >= CODE_NOTES)
			return false;
	} while (!atomic_compare_exchange_weak(&u->tail, &at, at + 1));
	n = &u->note[at % CODE_NOTES];
	n->lines = lines;
	n->page = page | NOTE_VALID;
	return true;
}

static void post_wrote(struct code_user *u, uint64_t page, uint64_t lines)
{
	if (!post(u, page, lines))
		u->lost = true;
	poke(u, false);
}

static void post_protect(struct code_user *u, uint64_t page)
{
	if (!post(u, page | NOTE_PROTECT, 0))
		u->protect_lost = true;
	poke(u, true);
}

/* Each cache of a user, on its thread. Returns the lines that they still have something of. */
static uint64_t tell(struct code_user *u, struct code_page *c, uint64_t gpa, uint64_t len)
{
	uint64_t keep = 0;

	for (unsigned i = 0; i < u->n_caches; i++)
		keep |= u->cache[i].wrote(u->cache[i].ctx, GPA(gpa), len);
	if (!keep)
		c->users &= ~u->bit;
	return keep;
}

static bool is_own(const struct code_user *u)
{
	return pthread_equal(u->thread, pthread_self());
}

/* Bits of users whose thread this is. */
static uint64_t own_of(struct guest_mem *m, uint64_t users)
{
	uint64_t own = 0;

	for (; users; users &= users - 1) {
		const struct code_user *u = m->user[__builtin_ctzll(users)];

		if (u && is_own(u))
			own |= u->bit;
	}
	return own;
}

/* [gpa, gpa + len), which lies in c's page, was written, and hit marked lines. */
static void wrote_marked(struct guest_mem *m, struct code_page *c, uint64_t gpa, uint64_t len, uint64_t hit)
{
	uint64_t users = c->users, own = own_of(m, users), keep = 0, clear;

	for (uint64_t o = own; o; o &= o - 1)
		keep |= tell(m->user[__builtin_ctzll(o)], c, gpa, len);
	/* Marks that are nobody's go, too, unless others may have set them. Those of a user that comes just now: see below. */
	clear = (users & ~own ? hit : ~0ULL) & ~keep;
	hit |= atomic_fetch_and(&c->lines, ~clear) & clear;
	for (users = c->users & ~own; users; users &= users - 1) {
		struct code_user *u = m->user[__builtin_ctzll(users)];

		if (u)
			post_wrote(u, align_down(gpa, GUEST_PAGE_SIZE), hit);
		else
			c->users &= ~(users & -users);
	}
}

void guest_mem_wrote(struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? guest_region(m, gpa, len) : NULL;
	uint64_t at = gpa.v, end = gpa.v + len;

	if (!r)
		return;
	atomic_thread_fence(memory_order_seq_cst); /* the store before the look at the marks */
	while (at < end) {
		uint64_t stop = min_u64(end, align_down(at, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE);
		struct code_page *c = &r->code[(at - r->base) >> GUEST_PAGE_SHIFT];
		uint64_t hit = c->lines;

		if (unlikely(hit))
			hit &= code_lines_of(at, stop - at);
		if (unlikely(hit))
			wrote_marked(m, c, at, stop - at, hit);
		at = stop;
	}
}

uint64_t guest_code_lines(const struct guest_mem *m, gpa_t page)
{
	const struct region *r = guest_region(m, page, 1);

	return r ? r->code[(page.v - r->base) >> GUEST_PAGE_SHIFT].lines : 0;
}

/* Requests to others to drop their write entries for a page, unless they have one that they have not followed. */
static void ask(struct code_user *u, struct code_page *c, struct code_unsure *un, uint64_t writers)
{
	for (uint64_t w = writers & ~un->asked; w; w &= w - 1) {
		struct code_user *other = u->mem->user[__builtin_ctzll(w)];

		if (other)
			post_protect(other, un->page);
		else
			c->writers &= ~(w & -w);
	}
	un->asked |= writers;
}

static struct code_unsure *find_unsure(struct code_user *u, uint64_t page)
{
	for (unsigned i = 0; i < u->n_unsure; i++)
		if (u->unsure[i].page == page)
			return &u->unsure[i];
	return NULL;
}

/* Others may have write entries for a page that is marked now. */
static void ask_writers(struct code_user *u, struct code_page *c, uint64_t page)
{
	uint64_t writers = c->writers;
	struct code_unsure *un, none = {.page = page};

	if (writers & u->bit) {
		u->protect(u->protect_ctx, GPA(page));
		writers = atomic_fetch_and(&c->writers, ~u->bit) & ~u->bit;
	}
	if (likely(!writers))
		return;
	un = find_unsure(u, page);
	if (!un && u->n_unsure < CODE_UNSURE) {
		un = &u->unsure[u->n_unsure++];
		*un = none;
	}
	u->unsure_lost |= !un;
	ask(u, c, un ? un : &none, writers);
}

static void mark_lines(struct code_user *u, struct code_page *c, uint64_t lines)
{
	if (!(c->users & u->bit))
		c->users |= u->bit;
	if ((c->lines & lines) != lines)
		c->lines |= lines;
}

void code_user_mark(struct code_user *u, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? guest_region(u->mem, gpa, len) : NULL;
	uint64_t at = gpa.v, end = gpa.v + len;

	while (r && at < end) {
		uint64_t page = align_down(at, GUEST_PAGE_SIZE), stop = min_u64(end, page + GUEST_PAGE_SIZE);
		struct code_page *c = &r->code[(page - r->base) >> GUEST_PAGE_SHIFT];

		mark_lines(u, c, code_lines_of(at, stop - at));
		ask_writers(u, c, page);
		at = stop;
	}
}

static struct code_page *code_of(const struct code_user *u, uint64_t page)
{
	const struct region *r = guest_region(u->mem, GPA(page), 1);

	return &r->code[(page - r->base) >> GUEST_PAGE_SHIFT];
}

/* Write entries for a page are gone: those who have marked it wait for that. */
static void no_writer(struct code_user *u, struct code_page *c, uint64_t page)
{
	c->writers &= ~u->bit;
	for (uint64_t users = c->users & ~u->bit; users; users &= users - 1) {
		struct code_user *other = u->mem->user[__builtin_ctzll(users)];

		if (!other)
			continue;
		if (!post(other, page | NOTE_FOLLOWED, u->bit))
			other->lost = true;
		poke(other, false);
	}
}

static void no_writer_at_all(struct code_user *u)
{
	u->protect(u->protect_ctx, GPA(~0ULL));
	for (unsigned i = 0; i < u->mem->n_regions; i++) {
		const struct region *r = &u->mem->region[i];

		for (uint64_t at = 0; at < r->size; at += GUEST_PAGE_SIZE)
			if (r->code[at >> GUEST_PAGE_SHIFT].writers & u->bit)
				no_writer(u, &r->code[at >> GUEST_PAGE_SHIFT], r->base + at);
	}
}

void code_user_retire(struct code_user *u)
{
	no_writer_at_all(u);
}

/* Runs of lines that were written. */
static void tell_lines(struct code_user *u, struct code_page *c, uint64_t page, uint64_t lines)
{
	while (lines) {
		unsigned first = (unsigned)__builtin_ctzll(lines), n = 1;

		while (first + n < 64 && lines >> (first + n) & 1)
			n++;
		tell(u, c, page + first * CODE_LINE, n * CODE_LINE);
		lines &= ~BITS(first + n - 1, first);
	}
}

static void read_note(struct code_user *u, uint64_t note, uint64_t lines)
{
	uint64_t page = align_down(note, GUEST_PAGE_SIZE);
	struct code_page *c = code_of(u, page);

	if (note & NOTE_PROTECT) {
		u->protect(u->protect_ctx, GPA(page));
		no_writer(u, c, page);
	} else if (note & NOTE_FOLLOWED) {
		struct code_unsure *un = find_unsure(u, page);

		if (un)
			un->asked &= ~lines;
	} else {
		tell_lines(u, c, page, lines);
	}
}

/* A note whose writer has reserved its place and not written it yet is left: that store is not over. */
static void read_notes(struct code_user *u)
{
	uint32_t end = u->tail;

	for (uint32_t i = u->head; i != end; i++) {
		struct code_note *n = &u->note[i % CODE_NOTES];
		uint64_t page = n->page;

		if (!(page & NOTE_VALID))
			continue;
		read_note(u, page, n->lines);
		n->page = NOTE_DONE;
	}
	while (u->head != end && u->note[u->head % CODE_NOTES].page == NOTE_DONE) {
		u->note[u->head % CODE_NOTES].page = 0;
		u->head++;
	}
}

static void drop_everything(struct code_user *u)
{
	for (unsigned i = 0; i < u->n_caches; i++)
		u->cache[i].lost(u->cache[i].ctx);
}

/* Pages that others might still have written unnoticed: once more when they cannot, and after serializing. */
static void settle_unsure(struct code_user *u)
{
	unsigned kept = 0;

	if (unlikely(u->unsure_lost)) {
		drop_everything(u);
		u->unsure_lost = false;
	}
	for (unsigned i = 0; i < u->n_unsure; i++) {
		struct code_unsure un = u->unsure[i];
		struct code_page *c = code_of(u, un.page);
		uint64_t writers = c->writers & ~u->bit;

		if (!writers || u->recheck)
			tell(u, c, un.page, GUEST_PAGE_SIZE);
		if (!writers)
			continue;
		ask(u, c, &un, writers); /* who has a write entry once more, since no line was marked for a while */
		u->unsure[kept++] = un;
	}
	u->n_unsure = kept;
	u->recheck = false;
}

void code_user_catch_up(struct code_user *u)
{
	if (unlikely(u->protect_lost)) {
		u->protect_lost = false;
		no_writer_at_all(u);
	}
	if (unlikely(u->lost)) {
		u->lost = false;
		drop_everything(u);
		for (unsigned i = 0; i < u->n_unsure; i++)
			u->unsure[i].asked = 0;
	}
	read_notes(u);
	settle_unsure(u);
}
