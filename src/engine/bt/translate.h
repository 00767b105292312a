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
	uint8_t group;   /* + 1; 0: none, a probe of its own */
	int64_t disp;    /* from the registers' values when their versions began: changes by constants are followed */
	int64_t shift;   /* what such changes have added to the address since */
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
	struct access access;            /* KIND_MEM's, or the stack's */
	uint8_t emulation;               /* KIND_LIGHT: enum light */
	bool light_ends;                 /* ... ends the block */
	bool flags_unseen;               /* ... neither reads the status flags nor shows them */
};

enum flag_place { FLAGS_HOST, FLAGS_BOTH, FLAGS_MEMORY };

/*
 * Accesses with one key, near each other: the first probes for all of them. While others use R10 the first's R10 waits
 * in bt.group_r10, if it is wanted again.
 */
struct group {
	struct access access; /* its first; write: any of them */
	int64_t lo, hi;       /* displacements covered */
	uint8_t last;         /* instruction with the last access */
	bool several;         /* more than the first's own range and kind */
	bool kept;            /* in bt.group_r10 */
	bool probed;          /* by now */
	bool alone;           /* bt.site_alone */
	int64_t base;         /* once probed, for PROBE_HOST: displacement of the host address that R10 is */
};

/* A lookup in the jump table. Whoever wants its miss has LOOKUP_FIELD | index for the field of a jump: field_of(). */
#define LOOKUP_FIELD BIT(31)
struct lookup {
	uint32_t first, missed; /* rel32 fields: to the second way, and to what a miss goes to */
	uint32_t found;         /* where it goes on */
};

struct slow_site {
	uint32_t field;     /* rel32 of the probe's jump */
	uint64_t arg;
	enum { SLOW_GENERAL, SLOW_SITE, SLOW_ADDRESS, SLOW_CONST } how; /* what R10 and R11 hold then */
	bool write;
	uint8_t mmu_mode;
	uint32_t slot;      /* SLOW_SITE: cache_slot() */
	uint32_t check;     /* SLOW_SITE: where the check begins */
	uint64_t address;   /* SLOW_CONST: the linear address */
};

#define MAX_SLOW_SITES (MAX_INSNS * 3)

struct translation {
	struct bt *bt;
	uint64_t va, gpa;
	uint32_t mode;
	unsigned mmu_mode;
	bool user, floats;      /* floats: block_floats() */
	bool writable;          /* the block could write to itself */
	const uint8_t *bytes;
	uint64_t gpa2;          /* see struct block */
	uint8_t crossing_bytes[2 * X86_INSN_MAX];
	bool straddles;         /* the next instruction runs into the next page: a block of its own */
	unsigned n;
	unsigned i;             /* instruction being emitted */
	unsigned len;           /* guest bytes */
	bool x87_noted;         /* bt.x87_page_va is set in this block */
	bool falls_through;     /* the last instruction goes on to the next address */
	enum flag_place flags;
	int32_t rsp_behind;     /* what RSP has still to be moved by: between PUSHes, or POPs */
	struct group group[MAX_GROUPS];
	unsigned n_groups, n_kept;
	unsigned holds;         /* group whose host address R10 holds, + 1; 0: none */
	uint32_t judge;         /* rel32 field of the jump when a counted block has run often enough */
	uint32_t retry;         /* code offset where instruction i begins */
	struct slow_site slow[MAX_SLOW_SITES];
	unsigned n_slow;
	/* light.c's: jumps to the interpreter, and calls whose struct cpu_op comes at the end */
	struct {
		uint32_t field;
		unsigned insn;
	} interp[MAX_INSNS * 3], call[MAX_INSNS];
	struct lookup lookup[MAX_EXITS + 2];
	unsigned n_interp, n_calls, n_lookups;
	struct draft draft;
	struct guest_insn insn[MAX_INSNS];
	struct insn_decoder decoder;
};

/* group.c: which accesses share a probe. After analyse()'s other work. */
void plan_groups(struct translation *t);
/* Whether the instruction leaves R10 alone but for its access. */
bool keeps_r10(const struct guest_insn *g);

/*
 * probe.c. emit_access(): the operand that is the current instruction's access in host memory, with R10 as its base or its
 * index, by a probe unless its group has been probed. emit_single(): makes R10 the host address of another operand, described
 * by an access without group. emit_stack_probe(): the same for 8 bytes at RSP + disp. All save wanted flags first and destroy the host's.
 * emit_slow_sites(): what the probes' failures go to, out of line. emit_lea(): lea dst, [base + index << scale + disp].
 */
struct host_operand emit_access(struct translation *t);
void emit_single(struct translation *t, const struct access *a);
/* Whether nothing but the current instruction uses the host address that emit_access() has made. */
bool operand_stands_alone(const struct translation *t);
void emit_stack_probe(struct translation *t, int32_t disp, bool write, bool keep_r11);
void emit_slow_sites(struct translation *t);
void emit_linear(struct translation *t, const struct access *a, int64_t at);
/* What a probe makes of the linear address in R10: the host address, or its distance from the linear one. */
enum probe_result { PROBE_HOST, PROBE_DELTA };
void emit_probe(struct translation *t, unsigned size, bool write, bool second, bool group, enum probe_result result);
void emit_lea(struct emitter *e, unsigned w, unsigned dst, unsigned base, unsigned index, unsigned scale, int32_t disp);
unsigned address_register(struct emitter *e, unsigned r);

/* analyse.c: decodes and classifies up to the block's end, and works out flag liveness and register versions. */
void analyse(struct translation *t);

/* copy.c: the instruction itself, with m for its memory operand (NULL: none), and guest R10 taken for host R11 when
 * r10_to_r11. */
void emit_copy(struct emitter *e, const struct guest_insn *g, const struct host_operand *m, bool r10_to_r11);

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
void emit_short_call(struct translation *t, uint64_t stub, unsigned i);
void emit_interp(struct translation *t);
/* A rel32 field that leads to a host address, from code that may still move. */
void fixup(struct translation *t, uint32_t field, uint64_t host);
void load_guest(struct emitter *e, unsigned host, unsigned guest);
void store_guest(struct emitter *e, unsigned host, unsigned guest);
void emit_direct(struct translation *t, int64_t target_off);
bool wanted_before(const struct guest_insn *g);
void note_flags(struct translation *t);
void flags_before(struct translation *t, const struct guest_insn *g);
uint32_t emit_lookup(struct translation *t);
uint32_t field_of(const struct translation *t, uint32_t field);

/*
 * flow.c. Targets are offsets from the block's first byte. leave_page: with the flags in memory. second_ways: of lookups,
 * out of line, before what a miss goes to. operand_access: of an operand of 8 bytes that is read by itself.
 */
int64_t page_offset(const struct translation *t, int64_t add); /* of the block's first byte + add, from its page */
int64_t branch_target(const struct guest_insn *g);
void emit_leave_page(struct translation *t, int64_t target_off);
void emit_second_ways(struct translation *t);
struct access operand_access(const struct guest_insn *g);
void emit_call(struct translation *t);
void emit_call_indirect(struct translation *t);
void emit_ret(struct translation *t);
void emit_jmp_indirect(struct translation *t);
void emit_jcc_insn(struct translation *t);
void emit_loop(struct translation *t);

/*
 * light.c: sensitive instructions that need not leave translated code for the interpreter. Whether this one is, with its
 * assist on; and its code. When it ends the block it leaves by itself.
 */
bool light_classify(struct translation *t, struct guest_insn *g);
bool light_ends_block(const struct guest_insn *g);
void emit_light(struct translation *t);
/* Whether it is C code that executes it, the same that the interpreter calls. */
bool light_is_call(const struct guest_insn *g);
void emit_light_sites(struct translation *t); /* out of line */
/* Whether host addresses from probes before it must not be used after it. */
bool light_is_barrier(const struct guest_insn *g);

/* light_string.c: the same for string instructions. */
bool light_string_classify(struct translation *t, struct guest_insn *g);
void emit_light_string(struct translation *t);

#endif
