/* Marks of cached code, and the notes between those who write it and those who have it cached: see code.h. */
#include "mem/code.h"

#include <errno.h>

#include "mem/region.h"

#define CODE_LINE_SHIFT 6
#define PAGE_MASK (GUEST_PAGE_SIZE - 1)

/* Low bits of code_note.page. */
enum { NOTE_VALID = 1, NOTE_PROTECT = 2, NOTE_DONE = 4 };

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

/* Each cache of a user, on its thread. */
static void tell(struct code_user *u, struct code_page *c, uint64_t gpa, uint64_t len)
{
	bool any = false;

	for (unsigned i = 0; i < u->n_caches; i++)
		any |= u->cache[i].wrote(u->cache[i].ctx, GPA(gpa), len);
	if (!any)
		c->users &= ~u->bit;
}

/* Lines of the page touched by [from, to), offsets in the page. */
static uint64_t line_mask(uint64_t from, uint64_t to)
{
	return BITS((to - 1) >> CODE_LINE_SHIFT, from >> CODE_LINE_SHIFT);
}

static bool is_own(const struct code_user *u)
{
	return pthread_equal(u->thread, pthread_self());
}

/* [gpa, gpa + len), which lies in c's page, was written, and hit marked lines. */
static void wrote_marked(struct guest_mem *m, struct code_page *c, uint64_t gpa, uint64_t len, uint64_t hit)
{
	uint64_t page = align_down(gpa, GUEST_PAGE_SIZE), users = c->users;
	bool alone = users && !(users & (users - 1));
	struct code_user *u = alone ? m->user[__builtin_ctzll(users)] : NULL;
	/*
	 * A user that is alone, and writes itself, marks again what it keeps, to the byte. Marks of a user that comes
	 * meanwhile go too; but that one is seen below.
	 */
	uint64_t clear = !users || (u && is_own(u)) ? ~0ULL : hit, cleared;

	cleared = atomic_fetch_and(&c->lines, ~clear) & clear;
	for (users = c->users; users; users &= users - 1) {
		u = m->user[__builtin_ctzll(users)];
		if (!u)
			c->users &= ~(users & -users);
		else if (is_own(u))
			tell(u, c, gpa, len);
		else
			post_wrote(u, page, cleared);
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
			hit &= line_mask(at & PAGE_MASK, (stop - 1) % GUEST_PAGE_SIZE + 1);
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

static bool is_unsure(const struct code_user *u, uint64_t page)
{
	for (unsigned i = 0; i < u->n_unsure; i++)
		if (u->unsure[i] == page)
			return true;
	return false;
}

/* Others may have write entries for a page that has just been marked. */
static void ask_writers(struct code_user *u, struct code_page *c, uint64_t page)
{
	uint64_t writers = c->writers;

	if (writers & u->bit) {
		u->protect(u->protect_ctx, GPA(page));
		writers = atomic_fetch_and(&c->writers, ~u->bit) & ~u->bit;
	}
	if (likely(!writers) || is_unsure(u, page))
		return;
	for (uint64_t w = writers; w; w &= w - 1) {
		struct code_user *other = u->mem->user[__builtin_ctzll(w)];

		if (other)
			post_protect(other, page);
		else
			c->writers &= ~(w & -w);
	}
	if (u->n_unsure < CODE_UNSURE)
		u->unsure[u->n_unsure++] = page;
	else
		u->unsure_lost = true;
}

static void mark_lines(struct code_user *u, struct code_page *c, uint64_t lines)
{
	if (!(c->users & u->bit))
		c->users |= u->bit;
	if ((c->lines & lines) != lines)
		c->lines |= lines;
}

void code_user_mark_again(struct code_user *u, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? guest_region(u->mem, gpa, len) : NULL;
	uint64_t at = gpa.v, end = gpa.v + len;

	while (r && at < end) {
		uint64_t stop = min_u64(end, align_down(at, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE);

		mark_lines(u, &r->code[(at - r->base) >> GUEST_PAGE_SHIFT],
			   line_mask(at & PAGE_MASK, (stop - 1) % GUEST_PAGE_SIZE + 1));
		at = stop;
	}
}

void code_user_mark(struct code_user *u, gpa_t gpa, uint64_t len)
{
	const struct region *r = len ? guest_region(u->mem, gpa, len) : NULL;
	uint64_t page = align_down(gpa.v, GUEST_PAGE_SIZE);

	if (!r)
		return;
	code_user_mark_again(u, gpa, len);
	for (; page < gpa.v + len; page += GUEST_PAGE_SIZE)
		ask_writers(u, &r->code[(page - r->base) >> GUEST_PAGE_SHIFT], page);
}

static struct code_page *code_of(const struct code_user *u, uint64_t page)
{
	const struct region *r = guest_region(u->mem, GPA(page), 1);

	return &r->code[(page - r->base) >> GUEST_PAGE_SHIFT];
}

/* Write entries for a page are gone: those who have marked it wait for that. */
static void no_writer(struct code_user *u, struct code_page *c)
{
	c->writers &= ~u->bit;
	for (uint64_t users = c->users & ~u->bit; users; users &= users - 1) {
		struct code_user *other = u->mem->user[__builtin_ctzll(users)];

		if (other)
			poke(other, false);
	}
}

static void no_writer_at_all(struct code_user *u)
{
	struct guest_mem *m = u->mem;

	u->protect(u->protect_ctx, GPA(~0ULL));
	for (unsigned i = 0; i < m->n_regions; i++)
		for (uint64_t p = 0; p < m->region[i].size / GUEST_PAGE_SIZE; p++)
			if (m->region[i].code[p].writers & u->bit)
				no_writer(u, &m->region[i].code[p]);
}

void code_user_retire(struct code_user *u)
{
	no_writer_at_all(u);
}

static void read_note(struct code_user *u, uint64_t note, uint64_t lines)
{
	uint64_t page = align_down(note, GUEST_PAGE_SIZE);
	struct code_page *c = code_of(u, page);

	if (note & NOTE_PROTECT) {
		u->protect(u->protect_ctx, GPA(page));
		no_writer(u, c);
		return;
	}
	while (lines) {
		unsigned first = (unsigned)__builtin_ctzll(lines);
		uint64_t rest = ~(lines >> first);
		unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : 64;

		n = n > 64 - first ? 64 - first : n;
		tell(u, c, page + ((uint64_t)first << CODE_LINE_SHIFT), (uint64_t)n << CODE_LINE_SHIFT);
		lines &= n + first == 64 ? 0 : ~0ULL << (first + n);
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
		uint64_t page = u->unsure[i];
		struct code_page *c = code_of(u, page);
		bool sure = !(c->writers & ~u->bit);

		if (sure || u->recheck)
			tell(u, c, page, GUEST_PAGE_SIZE);
		if (!sure)
			u->unsure[kept++] = page;
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
	}
	read_notes(u);
	settle_unsure(u);
}
