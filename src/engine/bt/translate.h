/* translate.h - between the translator's files: what is known of the instructions of a block in the making. */
#ifndef RINGER_ENGINE_BT_TRANSLATE_H
#define RINGER_ENGINE_BT_TRANSLATE_H

#include "engine/bt/internal.h"

/* How an instruction is translated. */
enum kind {
	KIND_COPY,     /* no memory operand */
	KIND_MEM,      /* copied, its memory operand redirected */
	KIND_LEA,
	KIND_NOTHING,  /* NOP, PREFETCH */
	KIND_PUSH, KIND_PUSH_MEM, KIND_POP, KIND_LEAVE,
	KIND_CALL, KIND_CALL_INDIRECT, KIND_RET, KIND_JMP, KIND_JMP_INDIRECT, KIND_JCC, KIND_LOOP,
	KIND_LIGHT,    /* C code or a few host instructions, then on with the next one */
	KIND_INTERP,   /* by the interpreter; ends the block */
};

/* The status flags, as bits of a byte. */
enum { F_CF = 1, F_PF = 2, F_AF = 4, F_ZF = 8, F_SF = 16, F_OF = 32, F_ALL = 63 };

/* One memory access, as far as probes may be shared: equal keys differ by their displacements alone. */
struct access {
	bool used, write;
	uint8_t base, index, scale, seg, addr_size; /* as in struct cpu_op */
	uint16_t base_version, index_version;       /* of the registers' values */
	uint16_t size;
	int64_t disp;
};

struct guest_insn {
	struct insn insn;
	struct cpu_op op;
	enum kind kind;
	uint16_t off;                    /* from the block's first byte */
	uint8_t reads, writes, live;     /* status flags: read, surely written, wanted afterwards */
	bool changes_flags;
	bool uses_r10, uses_r11;         /* names them, other than in the address */
	bool writes_r10, writes_r11;
	uint16_t gpr_written;            /* bit per register */
	int64_t rsp_change;              /* by this instruction, when known */
	bool rsp_known;
	int64_t rsp_at;                  /* RSP before it, from the value when RSP's version began */
	struct access access;            /* KIND_MEM's, or the stack's */
	uint8_t emulation;               /* KIND_LIGHT: enum light */
};

enum flag_place { FLAGS_HOST, FLAGS_BOTH, FLAGS_MEMORY };

/* What R10 holds: the host address for `access`'s displacement lo; good up to hi. */
struct group {
	bool valid;
	struct access access;
	int64_t lo, hi;
};

struct slow_site {
	uint32_t field;     /* rel32 of the probe's jump */
	uint64_t arg;
	enum { SLOW_GENERAL, SLOW_STACK, SLOW_SITE, SLOW_ADDRESS } how; /* what R10 and R11 hold then */
	bool write;
	unsigned site;
	uint32_t check;     /* SLOW_SITE: where the check begins */
};

#define MAX_SLOW_SITES (MAX_INSNS * 3)

struct translation {
	struct bt *bt;
	uint64_t va, gpa;
	uint32_t mode;
	unsigned mmu_mode;
	bool user, floats;      /* floats: block_floats() */
	const uint8_t *bytes;
	unsigned n;
	unsigned i;             /* instruction being emitted */
	unsigned len;           /* guest bytes */
	bool x87_noted;         /* bt.x87_page_va is set in this block */
	bool falls_through;     /* the last instruction goes on to the next address */
	enum flag_place flags;
	struct group group;
	uint32_t retry;         /* code offset where instruction i begins */
	struct slow_site slow[MAX_SLOW_SITES];
	unsigned n_slow;
	struct draft draft;
	struct guest_insn insn[MAX_INSNS];
	struct insn_decoder decoder;
};

/* analyse.c: decodes and classifies up to the block's end, and works out flag liveness and register versions. */
void analyse(struct translation *t);

/* copy.c: the instruction itself, with memory operand [base + disp] (base: R10 or one of the low eight; -1: none)
 * and guest R10 taken for host R11 when r10_to_r11. */
void emit_copy(struct emitter *e, const struct guest_insn *g, int base, int32_t disp, bool r10_to_r11);

/*
 * translate.c: for the files that emit. Flags: where the guest's are is t->flags; clobber_flags() before anything that
 * destroys the host's (live: they are wanted later), flags_to_memory() before C code may see them, flags_to_host() before
 * an instruction that reads them. All use R11 when they emit something.
 */
void save_flags(struct emitter *e);
void load_flags(struct emitter *e);
void clobber_flags(struct translation *t, bool live);
void flags_to_memory(struct translation *t);
void flags_to_host(struct translation *t);
void emit_code_address(struct translation *t, unsigned dst, int64_t off);
void emit_stub_call(struct translation *t, uint64_t stub, uint64_t low);
void emit_interp(struct translation *t);
void load_guest(struct emitter *e, unsigned host, unsigned guest);
void store_guest(struct emitter *e, unsigned host, unsigned guest);
void emit_direct(struct translation *t, int64_t target_off);
void emit_stack_probe(struct translation *t, int32_t disp, bool write);
uint32_t emit_lookup(struct translation *t);

/*
 * light.c: sensitive instructions that need not leave translated code for the interpreter. Whether this one is, with its
 * assist on; and its code. When it ends the block it leaves by itself.
 */
bool light_classify(struct translation *t, struct guest_insn *g);
bool light_ends_block(const struct guest_insn *g);
void emit_light(struct translation *t);

#endif
