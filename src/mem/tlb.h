/*
 * tlb.h - private to src/mem: what a translation is, the page walk that finds one, and the TLB's two levels.
 *
 * A translation is one 64-bit value: the guest-physical page in bits 51:12, flags (below) in bits 11:0, and in
 * bits 63:52 the PCID under which it was cached.
 */
#ifndef RINGER_MEM_TLB_H
#define RINGER_MEM_TLB_H

#include "mem/mmu.h"
#include "x86/x86.h"

enum {
	TR_USER = 1 << 0,    /* U/S, R/W and XD combined over all levels of the walk */
	TR_WRITE = 1 << 1,
	TR_NX = 1 << 2,
	TR_DIRTY = 1 << 3,   /* D is set in the last entry: a write needs no walk */
	TR_LARGE_2M = 1 << 4, /* a fragment of a 2 MiB page */
	TR_LARGER = 1 << 5,  /* of a 4 MiB or 1 GiB page */
	TR_GLOBAL = 1 << 6,
	TR_DEVICE = 1 << 7,  /* not RAM */
	TR_FETCHED_USER = 1 << 8, /* given to a fetch: code_space depends on it */
	TR_FETCHED_SUPERVISOR = 1 << 9,
};
#define TR_FETCHED (TR_FETCHED_USER | TR_FETCHED_SUPERVISOR)
#define TR_PCID_SHIFT 52

static inline uint64_t tr_page(uint64_t tr)
{
	return tr & PTE_ADDR;
}

/* walk.c. Page-fault error code, or -1 with the translation in *tr. update: set A and D bits. */
int mmu_walk(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode, bool update,
	     uint64_t *tr);

/* The access rights of SDM vol. 3, 4.6.1, for each access and mode; from regs. */
void mmu_update_rules(struct mmu *m);

static inline bool tr_allows(const struct mmu *m, uint64_t tr, enum mmu_access access, enum mmu_mode mode)
{
	const struct mmu_rule *r = &m->rule[mode][access];

	return (tr & r->need) == r->need && !(tr & r->deny);
}

/*
 * Level 2: sets of four entries, one cache line each. An entry's tag is its linear page number (36 bits) below
 * the number of its address space (28 bits). Spaces are numbered anew at each flush, so a flush touches no
 * entry; those of dead spaces are the first to be replaced. Global translations have a space of their own.
 */
#define L2_WAYS 4
#define L2_SET_BITS 14
#define L2_SETS (1u << L2_SET_BITS)
#define L2_SPACE_SHIFT 36
#define L2_SPACE_MAX ((1u << 28) - 1)
#define PCID_COUNT 4096

struct l2_entry {
	uint64_t tag; /* 0 when empty: there is no space 0 */
	uint64_t tr;
};

/* What is cached under one PCID. */
struct pcid_space {
	uint64_t epoch;      /* void when older than mmu.pcid_epoch */
	uint64_t code;       /* its user code_space number; 0: none yet */
	uint64_t code_epoch; /* code is void when this is older than mmu.code_epoch */
	uint32_t space;      /* 0: nothing cached */
	bool fetched;        /* code from non-global pages ran in user mode under it */
};

struct mmu_level2 {
	_Alignas(64) struct l2_entry set[L2_SETS][L2_WAYS];
	struct pcid_space pcid[PCID_COUNT];
};

static inline uint64_t linear_page(uint64_t va)
{
	return align_down(va, GUEST_PAGE_SIZE);
}

/* The PCID that regs select. */
static inline uint16_t regs_pcid(const struct mmu_regs *r)
{
	return r->cr4 & CR4_PCIDE ? r->cr3 & 0xfff : 0;
}

static inline uint64_t l2_tag(uint64_t va, uint32_t space)
{
	return (va >> GUEST_PAGE_SHIFT & BITS(35, 0)) | (uint64_t)space << L2_SPACE_SHIFT;
}

/*
 * Two neighbouring pages share a set, so that a large working set needs fewer cache lines, and pairs lie one after the
 * other; the PCID keeps equal addresses of processes apart.
 */
static inline struct l2_entry *l2_set(const struct mmu *m, uint64_t va, uint16_t pcid)
{
	uint64_t pair = va >> (GUEST_PAGE_SHIFT + 1);

	return m->l2->set[(pair ^ pair >> L2_SET_BITS ^ pcid * 2731u) & (L2_SETS - 1)];
}

static inline struct l2_entry *l2_find_in(const struct mmu *m, uint64_t va, uint16_t pcid, uint32_t space)
{
	struct l2_entry *set = l2_set(m, va, pcid);
	uint64_t tag = l2_tag(va, space);

	for (unsigned i = 0; i < L2_WAYS; i++)
		if (set[i].tag == tag)
			return &set[i];
	return NULL;
}

static inline struct l2_entry *l2_find_nonglobal(const struct mmu *m, uint64_t va)
{
	return l2_find_in(m, va, m->pcid, m->space);
}

static inline struct l2_entry *l2_find_global(const struct mmu *m, uint64_t va)
{
	return l2_find_in(m, va, 0, m->global_space);
}

/* The translation of va in the current address space, looked for first where systems have it. */
static inline struct l2_entry *l2_find(const struct mmu *m, uint64_t va)
{
	struct l2_entry *e;

	if (unlikely(!canonical(va))) /* tags do not hold the upper bits */
		return NULL;
	if (va >> 63) {
		e = l2_find_global(m, va);
		return e ? e : l2_find_nonglobal(m, va);
	}
	e = l2_find_nonglobal(m, va);
	return e ? e : l2_find_global(m, va);
}

/* tlb.c */
/* Puts a walk's result in place of old, the entry that l2_find() gave (or NULL); returns the entry. */
struct l2_entry *l2_insert(struct mmu *m, uint64_t va, uint64_t tr, struct l2_entry *old);
/* Removes an entry that level 1 is rid of, and renews the numbers of code_space that rest on it. */
void l2_forget(struct mmu *m, struct l2_entry *e);
/* Notes that a fetch is given this translation. */
void l2_fetched(struct mmu *m, struct l2_entry *e, enum mmu_mode mode);
/* Fills level 1 for the access (which tr allows); false when it gets no entry. */
bool l1_fill(struct mmu *m, uint64_t va, uint64_t tr, enum mmu_access access, enum mmu_mode mode);
/* Drops write entries that map the 4 KiB page at gpa, which now holds cached code; ~0: all. ctx: the mmu. */
void l1_protect(void *ctx, gpa_t page);
void l1_drop_nonglobal(struct mmu *m);
void l1_drop_all(struct mmu *m);
void l1_drop_data(struct mmu *m); /* reads, writes and stack */
void l1_drop_page(struct mmu *m, uint64_t va);
/* Drops the cached translation of va, as a page fault at va does (SDM vol. 3, 4.10.4.1). */
void tlb_drop_page(struct mmu *m, uint64_t va);

/* space.c */
struct pcid_space *space_of(const struct mmu *m, uint16_t pcid); /* valid, perhaps with space 0 */
bool space_is_live(const struct mmu *m, uint32_t space, uint16_t pcid);
void space_enter(struct mmu *m, uint16_t pcid); /* makes pcid the current one */
void space_renew(struct mmu *m, uint16_t pcid); /* drops pcid's non-global translations */
void space_renew_all_nonglobal(struct mmu *m);
void space_renew_all(struct mmu *m);
void code_renew_user(struct mmu *m, uint16_t pcid);
void code_renew_all_users(struct mmu *m);
void code_renew_supervisor(struct mmu *m);

#endif
