/*
 * mmu.h - the soft MMU: page walks with the architecture's permissions, and the two-level TLB that caches them.
 *
 * Level 1 is what engines probe in line: one small direct-mapped table for each kind of access and privilege
 * mode, untagged, so that SMAP, U/S, W, the dirty bit and the address space need no check at a hit. Its layout
 * is a contract with generated code. Level 2 is large, holds every translation once and knows its PCID; a miss
 * in level 1 is answered from there (mmu_refill) without a walk. Device memory, pages with data breakpoints, and
 * pages that hold cached code (for writes) never get an entry in level 1: the slow path handles them.
 *
 * Apart from mmu_init() and mmu_fini(), nothing here allocates, calls the host, or touches a vector register:
 * a guest's may be live.
 */
#ifndef RINGER_MEM_MMU_H
#define RINGER_MEM_MMU_H

#include "mem/code.h"

enum mmu_mode { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_MODES };
enum mmu_access { MMU_READ, MMU_WRITE, MMU_FETCH, MMU_ACCESSES };

#define MMU_WATCHED 4
#define TLB_ENTRIES 8192 /* of each level-1 table; a power of two */

struct tlb_entry {
	uint64_t tag;   /* linear page address; TLB_EMPTY when empty */
	uint64_t delta; /* from linear addresses of that 4 KiB page to host addresses; in fetch tables to guest-physical ones */
};

/*
 * Generated code takes `address - tag <= 4096 - size` for a hit, so some address hits an empty entry too. It is not
 * canonical, and the host address that comes of it is the same: the access faults in the host, and the guest gets its
 * #GP. No page-aligned address equals this tag.
 */
#define TLB_EMPTY (BIT(63) | 0x800)

static inline void tlb_clear(struct tlb_entry *e)
{
	e->tag = TLB_EMPTY;
	e->delta = 0;
}

/* Host address of the entry's page; of an empty entry none that is anything's. */
static inline uint64_t tlb_host(const struct tlb_entry *e)
{
	return e->tag + e->delta;
}

static inline unsigned tlb_index(uint64_t va)
{
	return va >> GUEST_PAGE_SHIFT & (TLB_ENTRIES - 1);
}

#define TLB_SLOTS (MMU_ACCESSES * MMU_MODES * TLB_ENTRIES)
#define TLB_SLOT_WORDS (TLB_SLOTS / 64)

/* A set of level-1 slots, with a summary of its non-zero words: walking it costs what is in it. */
struct tlb_slots {
	uint64_t word[TLB_SLOT_WORDS];
	uint64_t summary[(TLB_SLOT_WORDS + 63) / 64];
};

/* What a translation depends on: set by mmu_set_cr3() and mmu_set_controls(), or by hand before mmu_flush(). */
struct mmu_regs {
	uint64_t cr0, cr3, cr4, efer;
	uint8_t phys_bits;
};

/* Permission bits that an access must find, and must not, in a translation. */
struct mmu_rule {
	uint16_t need, deny;
};

/* Hashed sets of 2 MiB and of larger regions (by linear address) of which fragments may be cached. */
#define MMU_LARGE_BITS 4096
struct mmu_large {
	uint64_t size_2m[2][MMU_LARGE_BITS / 64]; /* [0]: the lower half of the address space, [1]: the upper */
	uint64_t larger[2][MMU_LARGE_BITS / 64];
};

/* For page frame numbers of either size. Folded: regions that are in use together seldom collide. */
static inline unsigned mmu_large_word(uint64_t frame)
{
	return (frame ^ frame >> 12) >> 6 & (MMU_LARGE_BITS / 64 - 1);
}

static inline uint64_t mmu_large_bit(uint64_t frame)
{
	return BIT((frame ^ frame >> 12) & 63);
}

struct mmu_stats {
	uint64_t refills;      /* mmu_refill(): level-1 misses of engines that call it */
	uint64_t translations; /* mmu_translate() */
	uint64_t l2_hits;      /* of both */
	uint64_t walks;
	uint64_t flush_all, flush_nonglobal, flush_pcid, flush_page;
	uint64_t flush_page_large; /* of flush_page: a large page's fragments had to be looked for */
	uint64_t cr3_loads, cr3_noflush;
	uint64_t protects;
	uint64_t code_space_events[2]; /* new numbers given out */
};

struct mmu_level2;

struct mmu {
	/* Level 1. The tables are also one array of slots, in this order. MMU_KERNEL_AC fetches use MMU_KERNEL's. */
	union {
		struct {
			struct tlb_entry read[MMU_MODES][TLB_ENTRIES];
			struct tlb_entry write[MMU_MODES][TLB_ENTRIES];
			struct tlb_entry fetch[MMU_MODES][TLB_ENTRIES];
		};
		struct tlb_entry slot[TLB_SLOTS];
	};
	/*
	 * One write entry per mode for accesses relative to RSP. A copy, dropped whenever an entry of the write
	 * table would be.
	 */
	struct tlb_entry stack[MMU_MODES];
	/*
	 * Numbers for caches of "this linear address runs that code" ([0]: user, [1]: supervisor). While a number
	 * is unchanged, every fetch translation that mmu_translate(), mmu_refill() or the fetch tables gave
	 * under it holds, with its permissions. Numbers are not reused; a return to a PCID whose fetch
	 * translations all hold brings back its user number. A CR3 load leaves the supervisor's number alone
	 * unless non-global pages were fetched.
	 */
	uint64_t code_space[2];

	struct mmu_regs regs;
	struct guest_mem *mem;
	uint64_t watched[MMU_WATCHED]; /* linear pages with data breakpoints; ~0 when unused: mmu_set_watched() */
	struct code_user code; /* of mem */
	uint64_t flushes;    /* goes up whenever a code_space number changes, back to an older one too */
	struct mmu_stats stats;

	/* Private to src/mem. */
	struct mmu_level2 *l2;
	struct mmu_rule rule[MMU_MODES][MMU_ACCESSES];
	struct tlb_slots nonglobal, global; /* slots filled since they were last flushed */
	struct mmu_large large;
	uint64_t next_code;  /* the last code space number given out */
	uint64_t code_epoch; /* saved user numbers of an older epoch are void */
	uint64_t pcid_epoch; /* spaces of PCIDs of an older epoch are void */
	uint32_t next_space; /* the last level-2 address space number given out */
	uint32_t space, global_space; /* of the current PCID's entries, and of global ones */
	uint32_t next_victim; /* where replacement in a level-2 set starts to look */
	uint16_t pcid;        /* current; 0 without CR4.PCIDE */
	bool supervisor_fetched_nonglobal; /* since level 1 was last rid of non-global entries */
};

struct mmu_result {
	gpa_t gpa;          /* of the accessed byte; its 4 KiB page is mapped whole */
	uint32_t error;     /* page-fault error code when the walk failed */
	bool writable_now;  /* a later write in the same mode needs no walk: permitted and already dirty */
	bool device;        /* not RAM */
	bool large;         /* from a page larger than 4 KiB */
};

/* The structure is large (level 1). mem outlives it. */
int mmu_init(struct mmu *m, struct guest_mem *mem, struct err *err) must_check;
void mmu_fini(struct mmu *m);

/*
 * Translates one byte at linear address va (canonical in long mode): from level 2, or by a walk that sets A and
 * D bits as hardware does. Fills both levels. Returns false for a page fault.
 */
bool mmu_translate(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
		   struct mmu_result *r);
/*
 * After a miss in level 1, for any va: true when level 1 now has the entry. False: mmu_translate() is needed, or
 * va is not canonical, or such pages get no entry (see above).
 */
bool mmu_refill(struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode);
/* Copies va's write entry to stack[mode]; false when there is none. */
bool mmu_fill_stack(struct mmu *m, uint64_t va, enum mmu_mode mode);
/* Walks without setting A/D and without looking at the TLB or filling it: for debuggers and tests. */
bool mmu_probe(const struct mmu *m, uint64_t va, enum mmu_access access, enum mmu_mode mode,
	       struct mmu_result *r);

/* MOV to CR3. noflush is bit 63 of the source with CR4.PCIDE; cr3 comes without that bit. */
void mmu_set_cr3(struct mmu *m, uint64_t cr3, bool noflush);
/* MOV to CR0, MOV to CR4, WRMSR of EFER: drops what the change of these requires (SDM vol. 3, 4.10.4.1). */
void mmu_set_controls(struct mmu *m, uint64_t cr0, uint64_t cr4, uint64_t efer);

/* Pages that never get an entry for reads and writes in level 1. */
void mmu_set_watched(struct mmu *m, const uint64_t page[MMU_WATCHED]);

/* Everything, and what is derived from regs: after regs were set by hand. */
void mmu_flush(struct mmu *m);
void mmu_flush_all(struct mmu *m);       /* all PCIDs, global pages too (INVPCID type 2) */
void mmu_flush_nonglobal(struct mmu *m); /* all PCIDs, but global pages stay (INVPCID type 3) */
void mmu_flush_pcid(struct mmu *m, uint16_t pcid); /* but global pages stay (INVPCID type 1) */
void mmu_flush_page(struct mmu *m, uint64_t va);   /* INVLPG: of the current PCID, and global */
void mmu_flush_page_pcid(struct mmu *m, uint16_t pcid, uint64_t va); /* INVPCID type 0 */

#endif
