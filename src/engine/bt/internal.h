/*
 * internal.h - the binary translator's own: blocks, the code cache, the translator, its stubs.
 *
 * Theory of operation
 *
 * Guest code of 64-bit mode is translated block by block into host code that is mostly the same instructions
 * (IDENT). While it runs,
 *   - guest general registers are in the host registers of the same name, except R10 and R11, which the translator
 *     uses itself; theirs are in the vCPU. RSP holds the guest's RSP: translated code never uses the host stack.
 *   - GS:0 is the struct vcpu, so everything has a fixed displacement.
 *   - guest status flags are in the host's flags, or in vcpu.status when translated code needs the flags itself
 *     (see flags below). DF, IF, AC, TF and the rest are in vcpu.sys_flags; the host runs with DF clear.
 *   - x87, SSE, AVX and AVX-512 state is in the hardware (vcpu.fpu_live). C code called from here is compiled
 *     for general registers only; what needs the state in memory calls cpu_fpu_spill(), and resume() reloads it.
 *
 * Memory. Each access computes its linear address into R10, and probes the soft TLB of the block's privilege mode. By then
 * R10 is the distance from linear to host addresses, in the access's page, and the access goes to its own address plus R10
 * (or, where that cannot be encoded, R10 is the host address). So a load waits for its address alone and not for the probe,
 * whose outcome is predicted. The probe admits an address only when its whole access lies in the page of
 * the entry, so no value that a guest can compute reaches other host memory. What fails goes to a stub that calls
 * slow_memory(): it refills the TLB and retries, or has the interpreter execute the instruction. Accesses off one
 * base register that follow each other share a probe for the hull of their displacements (struct group).
 *
 * Flags. A probe destroys the host's flags. Where the guest's are still wanted, they are first saved to vcpu.status
 * (LAHF, SETO), and loaded again before an instruction that reads them. Between blocks: a direct jump within a page
 * has them in the host's flags; calls, returns, indirect and page-crossing jumps have them in vcpu.status; a block
 * that needs them loads them at that entry. In the RFLAGS that a fault or an interrupt saves, status flags that the
 * program overwrites before it reads them are unspecified.
 *
 * Blocks are keyed by guest-physical address, mode flags (struct bt.flags), and for the supervisor and for programs
 * linked at fixed addresses (below 2 GiB) also by linear address. Other user blocks *float*: they run at any linear
 * address, bt.page_va says at which page they are now, so shared libraries are translated once. A block never leaves
 * its page; an instruction that runs into the next page is a block of its own, found by both pages. Conditional jumps
 * within a block are side exits.
 *
 * Entries of a block:   table:  set bt.page_va, if it floats            from the jump table, with R10 = address + key
 *                       poll:   leave if vcpu.poll is set         from backward ones, flags in memory
 *                       flags:  load flags, if an instruction reads them     from forward calls
 *                       body:                                     from forward jumps in the page, flags in the host's
 *                       back:   save flags, go to poll            from backward jumps in the page
 * Where flags only pass by a block, its body has them in memory, and the entry named body saves them first.
 *
 * Jump table. Indirect jumps, and direct ones that leave the page in user mode, look their target up in bt.jump by linear
 * address plus a key that stands for the code space (mmu.h) and mode flags; changed mappings get a new key. Where user code
 * does not float, a direct jump that leaves the page is chained as well, under a guard: it compares the present key with the
 * one it was chained under, and goes by the table when that is another. The supervisor's are chained without, and undone
 * when its mappings change.
 *
 * Sites. A probe that computes its TLB slot from the address adds that to the latency of every load. Since most
 * instructions stay on one page for long, a probe can use the TLB entry that it used last (cache_slot()); the computation
 * comes out of line, when that one fails. That is more code and more data, and a mispredicted branch: for hot code only, and
 * only where it is rare. A block counts its executions in each of its stages: *cold*, with the computation in line; on
 * *trial*, with remembered entries; *judged*, with the computation again where more than one probe in sixteen failed
 * (bt.site_wild). Sites that fail often later follow.
 *
 * Nothing here runs on two threads: each vCPU has a code cache of its own. Other threads only set vcpu.poll; what they write
 * to code comes as notes (mem/code.h), which the run loop reads while no block is running.
 */
#ifndef RINGER_ENGINE_BT_INTERNAL_H
#define RINGER_ENGINE_BT_INTERNAL_H

#include "cpu/engine.h"
#include "cpu/system.h"
#include "engine/bt/emit.h"
#include "interp/interp.h"

#define MAX_INSNS 62       /* of guest code in a block */
#define MAX_BLOCK_BYTES (MAX_INSNS * 15u) /* X86_INSN_MAX */
#define MAX_EXITS 24
#define SITES 32768u
#define SLOTS 16384u       /* of each table of the TLB: probes share one when there are more */
#define SLOT_TABLES (2u * MMU_MODES)
#define NO_SLOT (~0u)
#define COLD_RUNS 60000u   /* executions of a block before its trial, and on trial */
#define TRIAL_RUNS 1000u
#define COUNTERS 32768u
#define RELINK_EVERY 16u
#define JUMP_SHIFT 3       /* bits 18:3 of the linear address choose a slot: neighbours share cache lines */
#define JUMP_SLOTS 65536u
#define VICTIM_SLOTS 4096u
#define HASH_SLOTS 65536u
#define PAGE_SLOTS 8192u
#define MAX_GROUPS 20u     /* of accesses that share a probe, in a block */
#define NO_BLOCK 0u
#define NO_PAGE (~0ULL)
#define COPY_SLOTS 64u     /* instructions that are run out of their block: see crossing.c */

/* Mode flags: what translation depends on. */
enum {
	MODE_MMU = 3,            /* enum mmu_mode */
	MODE_X87 = 1 << 2,       /* x87 and MMX usable: neither CR0.EM nor TS */
	MODE_SSE = 1 << 3,
	MODE_AVX = 1 << 4,
	MODE_AVX512 = 1 << 5,
	MODE_WAIT = 1 << 6,      /* FWAIT usable */
	MODE_SINGLE = 1 << 7,    /* one instruction a block, never chained */
	MODE_NO_GROUP = 1 << 8,  /* the first access has failed as part of a group: none in this block */
	MODE_TSC = 1 << 9,       /* RDTSC allowed */
	MODE_FSGSBASE = 1 << 10,
	MODE_FIXED = 1 << 11,    /* user code at a linear address below 2 GiB: keyed by it like the supervisor's */
};

/* Where a block's body expects the flags that were there before it. */
enum flags_in { FLAGS_IN_NONE, FLAGS_IN_HOST, FLAGS_IN_MEMORY };

/* See "Sites". A block that cannot count its executions is made as one that has been judged. */
enum stage { STAGE_COLD, STAGE_TRIAL, STAGE_JUDGED };

enum block_entry { ENTRY_BODY, ENTRY_FLAGS, ENTRY_POLL, ENTRY_BACK, ENTRY_TABLE, ENTRY_COUNT };

/* A direct jump out of a block that can be chained. */
struct block_exit {
	uint32_t field;     /* code offset of its rel32 */
	uint32_t stub;      /* code offset of the stub it leads to while unchained */
	uint64_t va;        /* target: linear address (supervisor), or offset from the block's page (user) */
	uint32_t to;        /* block it is chained to, or NO_BLOCK */
	uint32_t next, prev; /* in the target's list of incoming exits: block id * MAX_EXITS + index + 1; 0: none */
	uint8_t insn;       /* whose jump it is */
	uint8_t entry;      /* enum block_entry of the target, decided when chained; flags in memory: ENTRY_FLAGS */
	bool in_page;
	bool lookup;        /* goes by the jump table, never chained */
	uint16_t guard;     /* chained under a guard: code offset, from the block's, of the key that it compares; 0: not */
};

/*
 * What R10 is to an operand: its host address; the distance from linear to host addresses (the guest's base register is
 * the operand's base); below 16: that and the guest register of this number.
 */
enum { R10_HOST = 0xff, R10_DELTA = 0xfe };

/* Where instruction i begins: offsets from the block's first guest byte and first host byte. */
#define block_insn engine_block_insn

/*
 * Kept small: there are a hundred thousand of them. Behind it are its arrays: exits, instructions, slots, operands.
 */
struct block {
	uint64_t gpa2;             /* page that its one instruction runs into, or NO_PAGE */
	uint64_t gpa, va;          /* va: page of the supervisor's linear address + offset; user: the offset alone */
	uint64_t mem_flags;        /* bit i: at instruction i the guest's flags are in vcpu.status (or dead) */
	struct block_insn *insn;   /* n_insns + 1 */
	uint32_t id;
	uint32_t next;             /* in its hash bucket */
	uint32_t page_next;        /* blocks of the same page */
	uint32_t page2_next;       /* blocks whose instruction runs into the same page */
	uint32_t incoming;         /* first exit chained to it */
	uint32_t code;             /* offset of its code in the cache */
	uint32_t list_next, list_prev; /* cache.c: dead, of one size; or chained across pages */
	uint16_t mode;
	uint16_t code_len;
	uint16_t code_room, meta_room; /* of its allocations */
	uint16_t entry[ENTRY_COUNT]; /* offsets from code */
	uint16_t len;              /* guest bytes */
	uint8_t n_insns, n_exits;
	bool dead;                 /* its guest bytes were written: still there because it may be running */
	uint8_t flags_in;          /* enum flags_in */
	uint8_t stage;             /* enum stage it was made for */
	bool on_remap;             /* cache.c: chained across pages */
	bool writable;             /* by the code itself when it was translated: made for that */
};

/* n_exits. */
static inline struct block_exit *block_exits(const struct block *b)
{
	return (struct block_exit *)(uintptr_t)(b + 1);
}

/* n_insns: of its (first) probe, or NO_SLOT. */
static inline uint32_t *block_slots(const struct block *b)
{
	return (uint32_t *)(b->insn + b->n_insns + 1);
}

/*
 * n_insns: code offset at which instruction i goes on with its operand found; bit 15: it defines the flags. 0: cannot be
 * entered there.
 */
static inline uint16_t *block_operands(const struct block *b)
{
	return (uint16_t *)(block_slots(b) + b->n_insns);
}

/* n_insns: what R10 must be then. */
static inline uint8_t *block_operand_r10(const struct block *b)
{
	return (uint8_t *)(block_operands(b) + b->n_insns);
}

/* A jump from a block's code to somewhere else in the cache: filled in when its place is known. */
struct fixup {
	uint32_t field;
	uint64_t host;
};

#define MAX_FIXUPS 1024
#define MAX_CODE 32768u
_Static_assert(MAX_INSNS <= UINT8_MAX && MAX_EXITS <= UINT8_MAX && MAX_CODE < UINT16_MAX - 64, "fields of struct block");

/* A block in the making: its code is position-independent but for the fixups. */
struct draft {
	struct emitter e;
	struct block b;
	struct block_exit exit[MAX_EXITS];
	struct block_insn insn[MAX_INSNS + 1];
	uint16_t operand_off[MAX_INSNS];
	uint8_t operand_r10[MAX_INSNS];
	uint32_t slot[MAX_INSNS];
	struct fixup fixup[MAX_FIXUPS];
	unsigned n_fixups;
	/* Where the block's id goes: four bytes for it, or for short_arg() of it and what stands there now. */
	uint32_t id_field[MAX_FIXUPS], short_field[MAX_FIXUPS];
	unsigned n_ids, n_shorts;
	/* Conditional jumps that leave the page: their code comes at the end. */
	struct {
		uint32_t field;
		int flags;      /* enum flag_place */
		unsigned insn;
		int64_t target; /* from the block's first byte */
	} far[MAX_EXITS];
	unsigned n_far;
	uint32_t miss_field;   /* the lookup's jump on a miss */
	bool miss;
	uint8_t code[MAX_CODE];
};

/*
 * Keys are multiples of 8 (1 << JUMP_SHIFT) below 1 << 19. A slot holds addresses that are equal in bits 18:3, so two
 * that differ do so by less than 8 or by 1 << 19 at least: the sum of address and key says which both are, whatever address
 * a guest comes up with.
 */
struct jump {
	uint64_t key;  /* linear address + key of the code space */
	uint64_t host;
};

/* Keys given out lately, so that a return to an address space finds its jumps again. */
#define KEY_SLOTS 64u
struct key_slot {
	uint64_t space;
	uint32_t flags;
	uint8_t mmu_mode;
	uint16_t key; /* 0: none */
};

enum { STAT_BLOCKS, STAT_INSNS, STAT_BYTES_IN, STAT_BYTES_OUT, STAT_LINKS, STAT_LINK_EXITS, STAT_DISPATCHES,
       STAT_SLOW, STAT_SLOW_INTERP, STAT_CROSSING, STAT_CROSSED, STAT_INTERP, STAT_LIGHT, STAT_POLLS, STAT_FAULTS, STAT_HOST_FAULTS,
       STAT_INVALIDATED, STAT_EVICTED, STAT_SPILLS, STAT_TRANSLATION, STAT_NEW_KEYS, STAT_WILD, STAT_JUDGED, STAT_VERIFIED, STAT_EVICTION, STAT_COUNT };

/* In vcpu.engine_area: what translated code reaches comes first. */
struct bt {
	uint64_t host_rsp;
	uint64_t target;           /* where a stub jumps to */
	uint64_t page_va;          /* linear address of the page that a user block runs in */
	uint64_t x87_page_va;      /* page_va when a user block last ran an x87 instruction */
	uint64_t key[MMU_MODES];
	uint64_t temp;
	uint32_t relink_in;        /* guards to fail until one is chained anew: RELINK_EVERY */
	uint64_t probe_r11;
	uint64_t enter_r10;        /* what R10 holds when a stub enters a block: for ENTRY_TABLE */
	uint64_t kept_fip, kept_fdp; /* see fpu_hide_pointers() */
	uint64_t refill_va, refill_arg; /* R10 and R11 during a stub's call */
	uint64_t retried_va, retried_arg; /* what bt_refill() and bt_slow() answered last, and how often in a row */
	unsigned retries;
	uint64_t group_r10[MAX_GROUPS];
	struct jump jump[2 * JUMP_SLOTS]; /* two ways: what the first must give up goes to the second */
	uint16_t slot_misses[SLOT_TABLES * SLOTS]; /* by probe: see cache_slot() */
	uint16_t runs_left[COUNTERS]; /* of counted blocks, in the order they were made in: in time they are neighbours too */
	uint32_t next_counter;

	uint8_t site_wild[SITES / 8];
	uint8_t block_stage[SITES];         /* enum stage, by the first instruction's site */
	uint8_t site_alone[SITES / 8];      /* begins no group: it failed too often */
	uint8_t site_group_misses[SITES];
	struct copy_slot {
		uint64_t host, changes;     /* what is copied there, and when: see crossing.c */
	} copy[COPY_SLOTS];
	struct crossing {                   /* a store that is being run on the bounce buffer */
		uint64_t va;
		uint32_t block;
		unsigned insn;
		uint64_t gpa[2];
		uint32_t first, size;
		uint8_t *buf;
	} crossing;
	struct vcpu *v;
	struct interp *interp;
	const struct engine_config *config;
	struct cache *cache;
	uint64_t budget;           /* instructions left; ~0: no limit */
	enum run_exit exit;
	bool single;               /* blocks of one instruction now */
	bool failed;
	uint32_t flush_countdown;
	uint64_t flags_basis[4];   /* control registers that mode_flags was computed from */
	uint32_t mode_flags;
	uint64_t space_of_key[MMU_MODES];
	uint32_t flags_of_key[MMU_MODES];
	uint64_t chained_space;    /* code_space[1] under which supervisor blocks were chained across pages */
	struct key_slot keys[KEY_SLOTS];
	uint16_t last_key;
	/* Host addresses of stubs, in the cache's first bytes. */
	uint64_t stub_lookup[MMU_MODES];
	uint64_t stub_store_done, stub_store_done_flags;
	uint64_t stub_enter, stub_leave, stub_link, stub_poll, stub_slow;
	uint64_t stub_interp, stub_light, stub_fault, stub_link_memory, stub_string;
	uint32_t fault_block;      /* of a host fault, and its instruction */
	unsigned fault_insn;
	bool fault_in_memory;      /* guest flags are in vcpu.status */
	uint8_t *xsave;            /* an XSAVE area, when spilling */
	uint32_t xsave_size;
	uint64_t xsave_mask;
	uint32_t xsave_at[8];      /* offsets of components 0..7 */
	uint32_t mxcsr_mask;       /* the host's */
	bool has_xinuse;           /* XGETBV with ECX = 1 */
	bool bmi2;
	bool records_fop;          /* with every x87 instruction: others do it with an unmasked exception */
	uint64_t stat[STAT_COUNT];
	struct translation *translation;
	struct verify *verify;     /* NULL: does not */
	uint64_t stub_verify;      /* where the jump table leads then */
};

static inline struct bt *bt_of(const struct vcpu *v)
{
	return (struct bt *)(uintptr_t)v->engine_area;
}

/* The site of the instruction at a guest-physical address. Collisions only cost time. */
static inline unsigned site_of(uint64_t gpa)
{
	return (unsigned)(gpa * 0x9e3779b97f4a7c15ULL >> 40) & (SITES - 1);
}

static inline bool block_floats(uint32_t mode)
{
	return (mode & MODE_MMU) == MMU_USER && !(mode & MODE_FIXED);
}

static inline unsigned jump_slot(uint64_t va)
{
	return va >> JUMP_SHIFT & (JUMP_SLOTS - 1);
}

/* No address of slot i plus any key is this: it would need key 0, which is not given out. */
static inline void jump_clear(struct bt *bt, unsigned i)
{
	bt->jump[i] = (struct jump){.key = (uint64_t)(i & (JUMP_SLOTS - 1)) << JUMP_SHIFT};
}

/* Displacements from GS:0. */
#define G(field) offsetof(struct vcpu, field)
#define GB(field) (offsetof(struct vcpu, engine_area) + offsetof(struct bt, field))

static inline bool assist(const struct bt *bt, enum engine_assist a)
{
	return !(bt->config->assists_off >> a & 1);
}

/* cache.c */
int cache_new(struct bt *bt, struct err *err) must_check;
void cache_free(struct bt *bt);
struct block *cache_block(const struct bt *bt, uint32_t id);
uint64_t cache_exec(const struct bt *bt, uint32_t code_off); /* where the code at this offset runs */
const uint8_t *cache_write_ptr(const struct bt *bt, uint32_t code_off); /* where it can be read as data */
bool cache_contains(const struct bt *bt, uint64_t host);
/*
 * Where a probe keeps the address of the TLB entry that it used last: read-write memory within reach of RIP-relative code.
 * Slots of one number are of one table of the TLB (access and mode) for ever, since a probe trusts what another left there.
 */
uint32_t cache_new_slot(struct bt *bt, unsigned mmu_mode, bool write);
uint64_t cache_slot(const struct bt *bt, uint32_t slot);
/* Where the address of a slot's table is. */
uint64_t cache_slot_table(const struct bt *bt, uint32_t slot);
/* Room for the stubs, at the cache's beginning, never evicted. */
void cache_stub_room(struct bt *bt, struct emitter *e);
/* Makes a block of a draft; evicts what is in the way. NULL: it is larger than any room. */
struct block *cache_commit(struct bt *bt, const struct draft *d);
struct block *cache_find(struct bt *bt, uint64_t gpa, uint64_t va, uint32_t mode);
/* The same for an instruction that runs into the page gpa2. */
struct block *cache_find_crossing(struct bt *bt, uint64_t gpa, uint64_t gpa2, uint64_t va, uint32_t mode);
uint8_t *cache_copy_slot(const struct bt *bt, unsigned slot, uint64_t *exec); /* COPY_SLOT_BYTES to write; where they run */
/* The block whose code a host address lies in, and its instruction; NULL: none. */
struct block *cache_block_at(struct bt *bt, uint64_t host, unsigned *insn);
void cache_chain(struct bt *bt, struct block *b, unsigned exit, struct block *to, enum block_entry entry);
/* Within one page; returns its lines that other blocks have. */
uint64_t cache_wrote(struct bt *bt, uint64_t gpa, uint64_t len);
void cache_drop_all(struct bt *bt);
void cache_kill(struct bt *bt, struct block *b); /* to be translated anew */
/* The supervisor's mappings of code changed: other code may be next door. */
void cache_supervisor_remapped(struct bt *bt);
/* Keys begin anew: chains under a guard, which compares them, are undone. */
void cache_keys_reused(struct bt *bt);

/* translate.c */
int translation_new(struct bt *bt, struct err *err) must_check;
void translation_free(struct bt *bt);
const struct insn_decoder *translation_decoder(const struct bt *bt);
struct block *translate(struct bt *bt, uint64_t va, uint64_t gpa, uint64_t gpa2, const uint8_t *bytes, uint32_t mode);

/* stubs.c */
void stubs_make(struct bt *bt);

/*
 * crossing.c: an operand of instruction i of b that crosses a page end, both pages being RAM. Returns where to go on, or 0:
 * the interpreter must do it.
 */
#define COPY_SLOT_BYTES 128u
uint64_t crossing_access(struct bt *bt, struct block *b, unsigned i, uint64_t va, unsigned size, bool write, unsigned mode);
uint64_t bt_store_done(struct vcpu *v, uint64_t unused, uint64_t unused2);

/* fpu.c */
int fpu_init(struct bt *bt, struct err *err) must_check;
void fpu_fini(struct bt *bt);
void fpu_spill(struct vcpu *v);
void fpu_load(struct bt *bt);
/* FIP, FDP and FOP of an FXSAVE64 image taken from the hardware, as the guest must see them. For light calls too. */
void fpu_fix_pointers(struct bt *bt, uint8_t *fx);
/* FIP and FDP of an image on its way to the hardware: kept here, zero there. */
void fpu_hide_pointers(struct bt *bt, uint8_t *fx);

/* A stub's argument in 32 bits: the block and an index below 64. */
static inline uint32_t short_arg(uint32_t id, unsigned i)
{
	return id << 6 | i;
}

static inline struct block *bt_block_of_short(struct bt *bt, uint64_t arg, unsigned *i)
{
	*i = arg & 63;
	return cache_block(bt, (uint32_t)arg >> 6);
}

/*
 * run.c: what stubs call, with all guest state in the vCPU. arg: short_arg() of an exit (link), an instruction (interp) or
 * 0 (poll); for the others the block's id in the upper half, and what translate.c says. Each returns the host address to go
 * on at.
 */
uint64_t bt_link(struct vcpu *v, uint64_t arg, uint64_t unused);
uint64_t bt_poll(struct vcpu *v, uint64_t arg, uint64_t unused);
uint64_t bt_refill(struct vcpu *v, uint64_t arg, uint64_t va);
uint64_t bt_slow(struct vcpu *v, uint64_t arg, uint64_t va);
uint64_t bt_interp(struct vcpu *v, uint64_t arg, uint64_t unused);
uint64_t bt_light(struct vcpu *v, uint64_t arg, uint64_t unused);
uint64_t bt_host_fault(struct vcpu *v, uint64_t unused, uint64_t unused2);
uint64_t bt_verify_jump(struct vcpu *v, uint64_t unused, uint64_t va_key);

/*
 * verify.c, for run.c: bt->verify is not NULL. The guest's state is in the vCPU. begin: instructions `from` on of b are
 * about to run; stop: they came back before instruction i; jumped: by the jump table; faulted: in C code, at RIP; abandon:
 * somewhere within an instruction.
 */
int verify_new(struct bt *bt, struct err *err) must_check;
void verify_free(struct bt *bt);
void verify_translated(struct bt *bt, const struct block *b);
void verify_begin(struct bt *bt, const struct block *b, unsigned from);
void verify_stop(struct bt *bt, const struct block *b, unsigned i);
void verify_jumped(struct bt *bt, uint64_t va);
void verify_faulted(struct bt *bt, const struct cpu_event *fault);
void verify_abandon(struct bt *bt);
uint64_t bt_string(struct vcpu *v, uint64_t arg, uint64_t unused);

/* light_string.c: a string instruction with the TLB's host addresses; what is left to do. */
enum string_result { STRING_DONE, STRING_INTERRUPTED, STRING_INTERP };
enum string_result string_run(struct vcpu *v, uint32_t arg);
/*
 * Host address of lin for explicit accesses, with in *len how much of what was asked for follows there; NULL: none. Faults
 * are left to who executes the instruction then.
 */
uint8_t *light_span(struct vcpu *v, uint64_t lin, enum mmu_access access, uint64_t *len);
/* A host fault at `code`: which guest registers are in the vCPU and not in the host's registers, a bit for each. */
uint16_t string_fault(const uint8_t *code);

/*
 * run.c, for the others here. dispatch: where to go on for RIP, with the guest's status flags in vcpu.status; dispatch_to()
 * also says which block (NULL: none, leave), takes more mode flags, and by_table enters it as the jump table does. resume:
 * what must hold before translated code goes on at host. interpret: one instruction. run_with_faults: all of run() but
 * its beginning and end. on_host_fault: interp.h's hook.
 */
#define NO_BUDGET (~0ULL)
void bt_set_rip(struct vcpu *v, const struct block *b, unsigned guest_off);
uint64_t bt_resume(struct bt *bt, uint64_t host);
uint64_t bt_dispatch_to(struct bt *bt, struct block **found, uint32_t extra_mode, bool by_table);
uint64_t bt_dispatch(struct bt *bt);
uint64_t bt_dispatch_at(struct bt *bt, const struct block *b, unsigned i);
void bt_interpret(struct bt *bt);
enum run_exit bt_run_with_faults(struct bt *bt);
bool bt_on_host_fault(void *ctx, int sig, siginfo_t *info, void *ucontext);

static inline struct block *bt_block_of(struct bt *bt, uint64_t arg)
{
	return cache_block(bt, (uint32_t)(arg >> 32));
}

static inline void bt_set_bit(uint8_t *bits, unsigned i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

#endif
