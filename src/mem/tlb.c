/*
 * The tables of the two levels: filling, replacing, dropping.
 *
 * Level 1 knows neither address spaces nor pages: it remembers, as two bitmaps, which slots were filled from global
 * translations and which from others since these were last dropped. A switch of address spaces empties just the
 * slots of the second bitmap; the kernel's, mostly global, stay. A slot that is in both goes with either.
 *
 * An entry of a fetch table always has its translation, flagged as fetched, in level 2: see space.c. So has an entry
 * for a fragment of a large page, so that level 2 tells which of them are cached.
 */
#include "mem/tlb.h"

static unsigned slot_number(enum mmu_access access, enum mmu_mode mode, uint64_t va)
{
	return (access * MMU_MODES + mode) * TLB_ENTRIES + tlb_index(va);
}

static void slots_add(struct tlb_slots *s, unsigned slot)
{
	s->word[slot / 64] |= BIT(slot % 64);
	s->summary[slot / 4096] |= BIT(slot / 64 % 64);
}

static void l1_set(struct mmu *m, unsigned slot, uint64_t tag, uint64_t host, bool global)
{
	m->slot[slot].tag = tag;
	m->slot[slot].delta = host - tag;
	slots_add(global ? &m->global : &m->nonglobal, slot);
}

static bool is_watched(const struct mmu *m, uint64_t page)
{
	for (unsigned i = 0; i < ARRAY_SIZE(m->watched); i++)
		if (m->watched[i] == page)
			return true;
	return false;
}

bool l1_fill(struct mmu *m, uint64_t va, uint64_t tr, enum mmu_access access, enum mmu_mode mode)
{
	gpa_t gpa = GPA(tr_page(tr));
	uint64_t page = linear_page(va), host;
	struct code_page *code;
	bool global = tr & TR_GLOBAL;

	if (tr & TR_DEVICE)
		return false;
	if (access == MMU_FETCH) {
		mode = mode == MMU_USER ? MMU_USER : MMU_KERNEL;
		l1_set(m, slot_number(MMU_FETCH, mode, va), page, gpa.v, global);
		return true;
	}
	if (is_watched(m, page))
		return false;
	host = (uint64_t)guest_page_ptr(m->mem, gpa, &code);
	l1_set(m, slot_number(MMU_READ, mode, va), page, host, global); /* who may write may read */
	if (access == MMU_READ)
		return true;
	if (!code_user_may_write(&m->code, code))
		return false;
	l1_set(m, slot_number(MMU_WRITE, mode, va), page, host, global);
	return true;
}

static void drop_stack(struct mmu *m)
{
	for (unsigned mode = 0; mode < MMU_MODES; mode++)
		tlb_clear(&m->stack[mode]);
}

static void drop_slots(struct mmu *m, struct tlb_slots *s)
{
	for (unsigned i = 0; i < ARRAY_SIZE(s->summary); i++) {
		uint64_t words = s->summary[i];

		s->summary[i] = 0;
		for (; words; words &= words - 1) {
			unsigned w = i * 64 + (unsigned)__builtin_ctzll(words);
			uint64_t bits = s->word[w];

			s->word[w] = 0;
			for (; bits; bits &= bits - 1)
				tlb_clear(&m->slot[w * 64 + (unsigned)__builtin_ctzll(bits)]);
		}
	}
}

void l1_drop_nonglobal(struct mmu *m)
{
	drop_slots(m, &m->nonglobal);
	drop_stack(m);
	m->supervisor_fetched_nonglobal = false;
}

void l1_drop_all(struct mmu *m)
{
	drop_slots(m, &m->global);
	l1_drop_nonglobal(m);
}

void l1_drop_data(struct mmu *m)
{
	for (unsigned i = 0; i < slot_number(MMU_FETCH, 0, 0); i++)
		tlb_clear(&m->slot[i]);
	drop_stack(m);
}

void l1_drop_page(struct mmu *m, uint64_t va)
{
	uint64_t page = linear_page(va);

	for (unsigned i = tlb_index(va); i < TLB_SLOTS; i += TLB_ENTRIES)
		if (m->slot[i].tag == page)
			tlb_clear(&m->slot[i]);
	for (unsigned mode = 0; mode < MMU_MODES; mode++)
		if (m->stack[mode].tag == page)
			tlb_clear(&m->stack[mode]);
}

static void drop_write_entries(struct mmu *m, uint64_t host, bool all)
{
	unsigned first = slot_number(MMU_WRITE, 0, 0) / 64, end = slot_number(MMU_WRITE + 1, 0, 0) / 64;

	for (unsigned w = first; w < end; w++)
		for (uint64_t bits = m->nonglobal.word[w] | m->global.word[w]; bits; bits &= bits - 1) {
			struct tlb_entry *e = &m->slot[w * 64 + (unsigned)__builtin_ctzll(bits)];

			if (all || tlb_host(e) == host)
				tlb_clear(e);
		}
	for (unsigned mode = 0; mode < MMU_MODES; mode++)
		if (all || tlb_host(&m->stack[mode]) == host)
			tlb_clear(&m->stack[mode]);
}

void l1_protect(void *ctx, gpa_t page)
{
	struct mmu *m = ctx;

	m->stats.protects++;
	drop_write_entries(m, (uint64_t)guest_ptr(m->mem, page, GUEST_PAGE_SIZE), page.v == ~0ULL);
}

static uint16_t tr_pcid(uint64_t tr)
{
	return tr >> TR_PCID_SHIFT;
}

static uint32_t tag_space(uint64_t tag)
{
	return (uint32_t)(tag >> L2_SPACE_SHIFT);
}

static uint64_t tag_va(uint64_t tag)
{
	return sext_size(tag << (64 - L2_SPACE_SHIFT) >> 16, 6);
}

/* What level 1 must not have without level 2. */
#define TR_INCLUSIVE (TR_FETCHED | TR_LARGE_2M | TR_LARGER)

/* An entry of the set to replace: a dead one, else one that no code rests on, else any; in turn. */
static struct l2_entry *victim(struct mmu *m, struct l2_entry *set)
{
	unsigned at = m->next_victim++;
	struct l2_entry *e = NULL;

	for (unsigned i = L2_WAYS; i--;) {
		struct l2_entry *w = &set[(at + i) % L2_WAYS];

		if (!space_is_live(m, tag_space(w->tag), tr_pcid(w->tr)))
			return w;
		if (!e || !(w->tr & TR_FETCHED))
			e = w;
	}
	if (e->tr & TR_INCLUSIVE) {
		l1_drop_page(m, tag_va(e->tag));
		l2_forget(m, e);
	}
	return e;
}

static void note_large(struct mmu *m, uint64_t va, uint64_t tr)
{
	if (tr & TR_LARGE_2M)
		m->large.size_2m[va >> 63][mmu_large_word(va >> 21)] |= mmu_large_bit(va >> 21);
	else if (tr & TR_LARGER)
		m->large.larger[va >> 63][mmu_large_word(va >> 30)] |= mmu_large_bit(va >> 30);
}

static void replace(struct mmu *m, uint64_t va, struct l2_entry *e)
{
	l1_drop_page(m, va);
	l2_forget(m, e);
}

struct l2_entry *l2_insert(struct mmu *m, uint64_t va, uint64_t tr, struct l2_entry *old)
{
	bool global = tr & TR_GLOBAL;
	uint16_t pcid = global ? 0 : m->pcid;
	uint32_t space = global ? m->global_space : m->space;
	struct l2_entry *same = l2_find_in(m, va, pcid, space);

	tr |= (uint64_t)m->pcid << TR_PCID_SHIFT;
	note_large(m, va, tr);
	if (old && old != same) /* the page became global, or ceased to be */
		replace(m, va, old);
	if (same && !((same->tr ^ tr) & (PTE_ADDR | TR_USER | TR_NX | TR_LARGE_2M | TR_LARGER))) {
		same->tr = tr | (same->tr & TR_FETCHED);
		return same;
	}
	if (same)
		replace(m, va, same);
	else
		same = victim(m, l2_set(m, va, pcid));
	*same = (struct l2_entry){.tag = l2_tag(va, space), .tr = tr};
	return same;
}

void l2_forget(struct mmu *m, struct l2_entry *e)
{
	uint64_t tr = e->tr;
	bool current = tr & TR_GLOBAL || tr_pcid(tr) == m->pcid;

	e->tag = 0;
	if (!(tr & TR_FETCHED))
		return;
	if (tr & TR_FETCHED_USER) {
		if (tr & TR_GLOBAL)
			code_renew_all_users(m);
		else
			code_renew_user(m, tr_pcid(tr));
	}
	if (tr & TR_FETCHED_SUPERVISOR && current)
		code_renew_supervisor(m);
}

void l2_fetched(struct mmu *m, struct l2_entry *e, enum mmu_mode mode)
{
	bool global = e->tr & TR_GLOBAL;

	if (mode == MMU_USER) {
		e->tr |= TR_FETCHED_USER;
		m->l2->pcid[m->pcid].fetched |= !global;
	} else {
		e->tr |= TR_FETCHED_SUPERVISOR;
		m->supervisor_fetched_nonglobal |= !global;
	}
}

void tlb_drop_page(struct mmu *m, uint64_t va)
{
	struct l2_entry *e;

	l1_drop_page(m, va);
	e = l2_find_nonglobal(m, va);
	if (e)
		l2_forget(m, e);
	e = l2_find_global(m, va);
	if (e)
		l2_forget(m, e);
}
