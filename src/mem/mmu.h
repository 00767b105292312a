/*
 * mmu.h - the soft MMU: page walks with the architecture's permissions, and the TLB that caches them.
 *
 * Lookups are per privilege mode: user, supervisor with EFLAGS.AC=0 and with AC=1 have tables of their own,
 * and so have reads and writes, so that SMAP, U/S, W and the dirty bit need no check at a hit. A hit's
 * `addend` turns a guest linear address into a host pointer. Device memory, and pages that hold cached
 * code (for writes), never get an entry: the slow path handles them.
 */
#ifndef RINGER_MEM_MMU_H
#define RINGER_MEM_MMU_H

#include "mem/mem.h"

enum mmu_mode { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_MODES };
enum mmu_access { MMU_READ, MMU_WRITE, MMU_FETCH };

#define TLB_ENTRIES 512 /* of each data table */
#define TLB_FETCH_ENTRIES 256

struct tlb_entry {
	uint64_t tag;    /* linear page address; ~0 when empty */
	uint64_t addend; /* host address (data) or guest-physical address (fetch) = linear address + addend */
};

static inline unsigned tlb_index(uint64_t va)
{
	return va >> GUEST_PAGE_SHIFT & (TLB_ENTRIES - 1);
}

static inline unsigned tlb_fetch_index(uint64_t va)
{
	return va >> GUEST_PAGE_SHIFT & (TLB_FETCH_ENTRIES - 1);
}

/* What a walk depends on. The owner updates it and flushes. */
struct mmu_regs {
	uint64_t cr0, cr3, cr4, efer;
	uint8_t phys_bits;
};

struct mmu {
	struct tlb_entry read[MMU_MODES][TLB_ENTRIES];
	struct tlb_entry write[MMU_MODES][TLB_ENTRIES];
	struct tlb_entry fetch[MMU_MODES][TLB_FETCH_ENTRIES]; /* MMU_KERNEL_AC is not used */
	struct mmu_regs regs;
	struct guest_mem *mem;
	uint64_t watched[4]; /* linear pages with data breakpoints: never cached; ~0 when unused */
	bool large; /* a fragment of a page larger than 4 KiB may be cached */
	uint64_t walks, flushes;
};

struct mmu_result {
	gpa_t gpa;          /* of the accessed byte; its 4 KiB page is mapped whole */
	uint32_t error;     /* page-fault error code when the walk failed */
	bool writable_now;  /* a later write in the same mode needs no walk: permitted and already dirty */
	bool device;        /* not RAM */
	bool large;         /* from a page larger than 4 KiB */
};

void mmu_init(struct mmu *m, struct guest_mem *mem);
/*
 * Walks the page tables for one byte at linear address va (canonical in long mode), sets A and D bits as
 * hardware does, and fills the TLB. Returns false for a page fault.
 */
bool mmu_translate(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		   struct mmu_result *r);
/* The same without setting A/D and without filling: for debuggers and tests. */
bool mmu_probe(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
	       struct mmu_result *r);
void mmu_flush(struct mmu *m);
void mmu_flush_page(struct mmu *m, uint64_t va);
/* Drops write entries that map the 4 KiB page at gpa: it now holds cached code. */
void mmu_protect_code(struct mmu *m, gpa_t page);

#endif
