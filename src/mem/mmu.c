/*
 * Translating: from level 2 where it knows and allows the access, else by a walk, whose result both levels keep.
 *
 * An entry that denies an access never causes a fault by itself: the tables are read again, as hardware does. After a
 * fault the page has no cached translation, which is also hardware's way.
 */
#include "mem/mmu.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "mem/tlb.h"

static bool cached_allows(const struct mmu *m, uint64_t tr, enum mmu_access access, enum mmu_mode mode)
{
	return tr_allows(m, tr, access, mode) && (access != MMU_WRITE || (tr & TR_DIRTY));
}

static void set_result(const struct mmu *m, uint64_t va, uint64_t tr, enum mmu_mode mode, struct mmu_result *r)
{
	r->gpa = GPA(tr_page(tr) | (va & (GUEST_PAGE_SIZE - 1)));
	r->error = 0;
	r->writable_now = cached_allows(m, tr, MMU_WRITE, mode);
	r->device = tr & TR_DEVICE;
	r->large = tr & (TR_LARGE_2M | TR_LARGER);
}

bool mmu_translate(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		   struct mmu_result *r)
{
	struct l2_entry *e = l2_find(m, va);
	uint64_t tr;
	int error;

	m->stats.translations++;
	if (e && cached_allows(m, e->tr, access, mode)) {
		m->stats.l2_hits++;
	} else {
		m->stats.walks++;
		error = mmu_walk(m, va, access, mode, true, &tr);
		if (error >= 0) {
			*r = (struct mmu_result){.error = (uint32_t)error};
			tlb_drop_page(m, va);
			return false;
		}
		e = l2_insert(m, va, tr, e);
	}
	if (access == MMU_FETCH)
		l2_fetched(m, e, mode);
	set_result(m, va, e->tr, mode, r);
	l1_fill(m, va, e->tr, access, mode);
	return true;
}

bool mmu_refill(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode)
{
	struct l2_entry *e = l2_find(m, va);

	m->stats.refills++;
	if (!e || !cached_allows(m, e->tr, access, mode))
		return false;
	m->stats.l2_hits++;
	if (access == MMU_FETCH)
		l2_fetched(m, e, mode);
	return l1_fill(m, va, e->tr, access, mode);
}

bool mmu_fill_stack(struct mmu *m, uint64_t va, enum mmu_mode mode)
{
	const struct tlb_entry *e = &m->write[mode][tlb_index(va)];

	if (e->tag != linear_page(va))
		return false;
	m->stack[mode] = *e;
	return true;
}

bool mmu_probe(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
	       struct mmu_result *r)
{
	uint64_t tr;
	int error = mmu_walk(m, va, access, mode, false, &tr);

	*r = (struct mmu_result){.error = error < 0 ? 0 : (uint32_t)error};
	if (error >= 0)
		return false;
	set_result(m, va, tr, mode, r);
	return true;
}

int mmu_init(struct mmu *m, struct guest_mem *mem, struct err *err)
{
	/* Zero pages until entries are stored. A miss costs a host TLB miss too, but for huge pages. */
	void *l2 = mem_map_tables(sizeof(struct mmu_level2));

	if (!l2)
		return err_set(err, ENOMEM, "the host cannot map memory for a TLB");
	memset(m, 0, sizeof(*m));
	m->l2 = l2;
	m->mem = mem;
	if (code_user_join(&m->code, mem, err)) {
		mmu_fini(m);
		return -ENOSPC;
	}
	m->code.protect = l1_protect;
	m->code.protect_ctx = m;
	m->regs.phys_bits = 40;
	for (unsigned i = 0; i < ARRAY_SIZE(m->watched); i++)
		m->watched[i] = ~0ULL;
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		tlb_clear(&m->slot[i]);
	mmu_flush(m);
	return 0;
}

void mmu_fini(struct mmu *m)
{
	code_user_leave(&m->code);
	if (m->l2)
		munmap(m->l2, sizeof(*m->l2));
	m->l2 = NULL;
}
