/*
 * internal.h - the interpreter's own: blocks of decoded instructions, and thunks that run one on the host.
 *
 * Theory of operation
 *
 * Guest code is decoded once into blocks: straight runs of struct cpu_op that end at control flow, at an
 * instruction that changes what decoding depends on, or at a page end. A block is keyed by guest-physical
 * address and code size, so it survives address-space switches. The run loop calls each op's fn in turn.
 *
 * An innocuous instruction is not re-implemented: its fn calls a thunk, a few host instructions generated for it
 * that load the guest registers it names, run the very instruction with its memory operand redirected to
 * [scratch register], and store what it wrote. The scratch register points at the guest's RAM itself when the
 * TLB has it, else at a bounce buffer. Host faults inside a thunk (#DE, #XM, #GP...) arrive as signals and become
 * a return value; as nothing has been stored yet, the guest's state is that of a fault. Equal thunks are shared.
 *
 * Writes to bytes that blocks were decoded from reach interp_wrote() (mem/code.h), which unhooks those
 * blocks at once; they are freed when the loop is at its top again, since one of them may be running.
 *
 * Ops point into the thunk arena. It is emptied only together with all blocks, while none runs: before a block is
 * decoded, or at the loop's top.
 */
#ifndef RINGER_INTERP_INTERNAL_H
#define RINGER_INTERP_INTERNAL_H

#include <signal.h>

#include "cpu/engine.h"
#include "cpu/system.h"
#include "interp/interp.h"

#define BLOCK_MAX_OPS 32
#define BLOCK_BUCKETS 16384u
#define JUMP_CACHE 4096u
#define BLOCK_BYTES_MAX MIB(128) /* a guest may enter code at every byte: beyond this all blocks go */

struct block {
	uint64_t gpa;           /* of the first byte */
	struct block *next;     /* in its bucket, or in the graveyard */
	struct block *page_next; /* blocks that start in the same page */
	uint16_t n_ops, len;    /* len: bytes decoded */
	uint8_t mode;           /* enum x86_mode */
	bool crosses;           /* its one instruction runs into the next page: verified by bytes, not by marks */
	uint8_t bytes[X86_INSN_MAX];
	struct cpu_op op[];
};

struct jump_entry {
	uint64_t lin;
	uint64_t key; /* generation, mode and privilege */
	struct block *block;
};

struct block_page {
	uint64_t page;          /* guest-physical page address */
	struct block *blocks;
	struct block_page *next;
};

struct thunks;

struct interp {
	struct vcpu *v;
	struct insn_decoder decoder;
	struct thunks *thunks;
	struct block *bucket[BLOCK_BUCKETS];
	struct block_page *pages[BLOCK_BUCKETS];
	struct jump_entry jump[JUMP_CACHE];
	struct block *graveyard;
	uint64_t block_bytes;   /* of hooked blocks */
	uint64_t generation;    /* raised when a block disappears */
	bool stale;             /* a block disappeared: stop running the current one */
	bool failed;            /* the host failed: v->stop_reason says how */
	uint64_t budget;        /* instructions left; ~0: no limit */
	uint64_t pending_before; /* vcpu.pending_db before the instruction that is being stepped */
	uint64_t blocks_decoded, blocks_dropped, native_faults;
	interp_fault_fn fault_hook; /* another engine's, or NULL */
	void *fault_ctx;
	void *signal_stack;
	stack_t outer_stack;    /* the thread's own, while run() has ours in its place */
};

static inline struct interp *interp_of(const struct vcpu *v)
{
	return v->interp;
}

/* block.c */
/* The block at linear address lin (RIP), decoded if need be; NULL: out of memory. Raises the faults of fetching. */
struct block *block_find(struct interp *it, uint64_t lin);
void block_drop_all(struct interp *it);
/* The same, and all thunks. */
void block_reset_all(struct interp *it);
void block_free_dropped(struct interp *it);
/* Within one page; returns its lines that other blocks have. */
uint64_t block_wrote(struct interp *it, uint64_t gpa, uint64_t len);

/* What a jump-cache entry depends on: blocks that disappear, TLB flushes, code size and privilege. */
static inline uint64_t jump_key(const struct interp *it)
{
	const struct vcpu *v = it->v;

	return (it->generation + v->mmu.flushes) << 8 | (uint64_t)v->mode << 1 | (v->cpl == 3);
}

static inline struct jump_entry *jump_slot(struct interp *it, uint64_t lin)
{
	return &it->jump[(lin ^ lin >> 12) & (JUMP_CACHE - 1)];
}

/* The block at CS:RIP. Raises #GP(0) beyond the code segment's limit, and the faults of fetching. */
static inline struct block *block_lookup(struct interp *it)
{
	struct vcpu *v = it->v;
	uint64_t lin = v->rip;
	const struct jump_entry *j;

	if (unlikely(v->mode != X86_MODE_64)) {
		if (lin > v->seg[S_CS].limit)
			cpu_gp(v);
		lin = (v->seg[S_CS].base + lin) & 0xffffffff;
	}
	j = jump_slot(it, lin);
	if (likely(j->lin == lin && j->key == jump_key(it) && j->block))
		return j->block;
	return block_find(it, lin);
}

/* ops.c: chooses fn (and the thunk) for a decoded instruction. -ENOSPC: thunk memory is full. */
int op_select(struct interp *it, struct cpu_op *op, const struct insn *insn, enum x86_mode mode) must_check;
void op_select_fault(struct cpu_op *op, enum decode_result result);
/* flow.c: near jumps, calls and returns; NULL when it is none. */
cpu_op_fn flow_select(const struct cpu_op *op, const struct insn *insn);

/* thunk.c */
int thunks_new(struct thunks **out, struct err *err) must_check;
void thunks_free(struct thunks *t);
/* Empties the arena; no block may refer to it any more. */
void thunks_reset(struct thunks *t);
void *thunk_get(struct thunks *t, const struct cpu_op *op, const struct insn *insn, enum x86_mode mode);
bool thunks_contain(const struct thunks *t, uint64_t addr);

/* native.c */
struct native_fault {
	unsigned vector;
	uint32_t error;
	uint64_t addr;
};
int native_init(struct interp *it, struct err *err) must_check;
void native_fini(struct interp *it);
#define FX_MXCSR 24 /* in struct fpu_state's image, which is up to date outside run() only */

static inline void load_mxcsr(const void *p)
{
	asm volatile("ldmxcsr %0" : : "m"(*(const uint32_t *)p));
}

static inline void store_mxcsr(void *p)
{
	asm volatile("stmxcsr %0" : "=m"(*(uint32_t *)p));
}

/* At the beginning and end of run(), on its thread: handlers and signal stack in place, and back. */
int native_enter(struct interp *it);
void native_leave(struct interp *it);
/* Runs a thunk: 0, or -1 after a host fault, described in *native_last_fault(). */
int native_call_asm(struct vcpu *v, void *mem, void *thunk, uint64_t *rsp);
static inline int native_call(struct vcpu *v, void *mem, void *thunk)
{
	return native_call_asm(v, mem, thunk, &v->native_rsp);
}
const struct native_fault *native_last_fault(void);

#endif
