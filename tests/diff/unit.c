/*
 * unit.c - what compilers write and translators optimize: several accesses off one base, runs of
 * pushes and pops with accesses between them, flags that live across memory accesses.
 */
#include <string.h>

#include "emit.h"

static unsigned below(const struct seq *q, unsigned n)
{
	return (unsigned)rnd_below(q->r, n);
}

/* A 2-, 4- or 8-byte width's opcode, or that of the byte form before it. */
static unsigned sized(unsigned op, unsigned width)
{
	return width == 1 ? op : op | 1;
}

static unsigned random_alu(const struct seq *q)
{
	return below(q, 8);
}

/* Where a group of accesses goes: inside a page, or across an edge. */
static uint64_t group_address(const struct seq *q)
{
	unsigned span = below(q, 160);

	switch (below(q, 32)) {
	case 0:
	case 1:
	case 2:
	case 3:
		return DIFF_DATA + 0x1000 - span; /* two writable pages */
	case 4:
		return DIFF_DATA + 0x2000 - span; /* into a read-only one */
	case 5:
		return DIFF_DATA + 0x3000 - span; /* and out of it */
	case 6:
		return DIFF_DATA - span;
	case 7:
		return DIFF_HIGH + 0x1000 - span;
	case 8:
		return chance(q->r, 30) ? 0x800000000000ULL - span : DIFF_HIGH + 0x200 + span;
	default:
		return DIFF_DATA + 0x200 + below(q, 0x1a00);
	}
}

/* One access by a general register, or a vector register, or an immediate. reads: leaves registers
 * as they are. */
static void put_access(const struct seq *q, const struct mem *m, unsigned data)
{
	struct diff_case *c = q->c;
	unsigned w = pick_width(q), alu = random_alu(q);

	switch (below(q, 22)) {
	case 0:
	case 1:
	case 2:
	case 3:
		put_rm(c, w, sized(0x88, w), data, m); /* mov m, r */
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		put_rm(c, w, sized(0x8a, w), data, m); /* mov r, m */
		break;
	case 8:
	case 9:
		put_rm(c, w, sized(alu << 3, w), data, m);
		break;
	case 10:
	case 11:
		put_rm(c, w, sized(alu << 3 | 2, w), data, m);
		break;
	case 12:
		put_rm(c, chance(q->r, 50) ? 8 : 4, 0x0fb6 + 8 * below(q, 2) + below(q, 2), data,
		       m);
		break;
	case 13:
		put_rm(c, w, sized(0xfe, w), below(q, 2), m); /* inc, dec */
		break;
	case 14:
		put_rm(c, w, sized(0xf6, w), 2 + below(q, 2), m); /* not, neg */
		break;
	case 15:
		put_rm(c, w, sized(0x84, w), data, m); /* test */
		break;
	case 16:
		put_rm(c, w, sized(0x86, w), data, m); /* xchg */
		break;
	case 17:
		put_rm(c, w, sized(below(q, 2) ? 0x0fc0 : 0x0fb0, w), data, m); /* xadd, cmpxchg */
		break;
	case 18:
		put_rm(c, w == 1 ? 4 : w, 0x0f40 | below(q, 16), data, m); /* cmovcc */
		break;
	case 19:
		put_rm(c, 1, 0x0f90 | below(q, 16), 0, m); /* setcc */
		break;
	default: /* movups, movdqu, movq: both ways */
		put_sse(c, below(q, 2) ? 0 : 0xf3, below(q, 2) ? 0x0f10 : 0x0f11, below(q, 16), m);
	}
}

/* Something between two accesses. */
static void put_between(const struct seq *q, unsigned base)
{
	struct diff_case *c = q->c;
	uint64_t avoid = BIT(base);
	unsigned a = pick_reg(q, avoid), b = pick_reg(q, 0), w = pick_width(q);

	switch (below(q, 8)) {
	case 0:
	case 1:
		if (!(q->keep >> base & 1))
			put_alu_imm(c, 8, below(q, 2) ? ALU_ADD : ALU_SUB, base,
				    (int8_t)(below(q, 33) - 16));
		break;
	case 2:
		if (!(q->keep >> base & 1)) {
			struct mem m = {base, NO_REG, 1, (int32_t)below(q, 64) - 32};

			put_rm(c, 8, 0x8d, base, &m);
		}
		break;
	case 3:
		unit_consumer((struct seq *)q);
		break;
	default:
		put_rr(c, w, sized(random_alu(q) << 3, w), b, a);
	}
}

static int32_t displacement(const struct seq *q)
{
	static const uint8_t step[] = {1, 2, 4, 8, 8, 8, 16};
	int32_t d = (int32_t)(below(q, 17) * step[below(q, ARRAY_SIZE(step))]);

	return chance(q->r, 25) ? -d : d;
}

/* Two to seven accesses off one base. */
static void unit_group(struct seq *q)
{
	struct diff_case *c = q->c;
	unsigned base = pick_reg(q, 0), index = NO_REG, n = 2 + below(q, 6);
	int32_t far = chance(q->r, 15) ? (int32_t)below(q, 0x10000) - 0x8000 : 0;
	uint64_t avoid;

	put_mov(c, base, group_address(q) - (uint64_t)(int64_t)far);
	if (chance(q->r, 30)) {
		index = pick_reg(q, BIT(base));
		put_mov(c, index, below(q, 12));
	}
	avoid = BIT(base) | (index == NO_REG ? 0 : BIT(index));
	while (n--) {
		struct mem m = {base, chance(q->r, 50) ? index : NO_REG, 1u << below(q, 4),
				far + displacement(q)};

		put_access(q, &m, pick_reg(q, avoid));
		if (chance(q->r, 22))
			put_between(q, base);
	}
}

static void put_pushf_popf(const struct seq *q)
{
	static const uint8_t pushf[] = {0x9c}, popf[] = {0x9d};
	uint32_t flags = FLAG_1 | FLAG_IF | (uint32_t)(rnd(q->r) & FLAG_STATUS);
	uint8_t push[5] = {0x68};

	memcpy(push + 1, &flags, 4);
	if (chance(q->r, 50))
		put(q->c, pushf, 1);
	else
		put(q->c, push, 5);
	if (chance(q->r, 50)) { /* an access below and above before it is popped */
		struct mem m = {R_SP, NO_REG, 1,
				8 * (int32_t)(1 + below(q, 4)) * (below(q, 2) ? 1 : -1)};

		put_access(q, &m, pick_reg(q, 0));
	}
	put(q->c, popf, 1);
}

static void put_push_imm(const struct seq *q)
{
	uint8_t imm8[2] = {0x6a, (uint8_t)rnd(q->r)}, imm32[5] = {0x68};
	uint32_t v = (uint32_t)rnd(q->r);

	memcpy(imm32 + 1, &v, 4);
	if (chance(q->r, 50))
		put(q->c, imm8, 2);
	else
		put(q->c, imm32, 5);
}

/* ENTER with a small frame, and LEAVE. */
static void put_frame(const struct seq *q)
{
	uint8_t enter[4] = {0xc8, (uint8_t)(8 * below(q, 8))}, leave = 0xc9;

	if (q->keep >> R_BP & 1)
		return;
	if (chance(q->r, 40)) {
		put(q->c, enter, 4);
	} else {
		put_push(q->c, R_BP);
		put_rr(q->c, 8, 0x89, R_SP, R_BP);
		put_alu_imm(q->c, 8, ALU_SUB, R_SP, (int8_t)(8 * below(q, 8)));
	}
	if (chance(q->r, 60)) {
		struct mem m = {R_BP, NO_REG, 1, -(int32_t)below(q, 32)};

		put_access(q, &m, pick_reg(q, BIT(R_BP)));
	}
	put(q->c, &leave, 1);
}

/* One step of a stack run; depth: 8-byte words pushed and not popped. */
static int stack_step(struct seq *q, int depth)
{
	struct diff_case *c = q->c;
	struct mem m = {R_SP, NO_REG, 1, 8 * (int32_t)below(q, 9) - 8};
	unsigned reg = pick_reg(q, 0), words;

	if (chance(q->r, 10))
		m.disp += (int32_t)below(q, 8); /* misaligned */
	switch (below(q, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		put_push(c, chance(q->r, 6) ? R_SP : chance(q->r, 80) ? reg : below(q, 16));
		return depth + 1;
	case 4:
	case 5:
	case 6:
		if (!depth)
			return depth;
		put_pop(c, reg);
		return depth - 1;
	case 7:
		put_push_imm(q);
		return depth + 1;
	case 8:
		put_rm(c, 4, 0xff, 6, &m); /* push m */
		return depth + 1;
	case 9:
		if (!depth)
			return depth;
		m.disp = 8 * (int32_t)below(q, (unsigned)depth);
		put_rm(c, 4, 0x8f, 0, &m); /* pop m: the address is that after the pop */
		return depth - 1;
	case 10:
		words = below(q, 6);
		put_alu_imm(c, 8, ALU_SUB, R_SP, (int8_t)(8 * words));
		return depth + (int)words;
	case 11:
		if (!depth)
			return depth;
		m.disp = 8;
		put_rm(c, 8, 0x8d, R_SP, &m); /* lea rsp, [rsp + 8] */
		return depth - 1;
	case 12:
		put_pushf_popf(q);
		return depth;
	case 13:
		put_frame(q);
		return depth;
	default:
		if (m.disp >= 8 * depth && q->keep >> R_SP & 1)
			m.disp = depth ? 8 * (int32_t)below(q, (unsigned)depth) : -8;
		put_access(q, &m, reg);
		return depth;
	}
}

static uint64_t stack_edge(const struct seq *q)
{
	static const uint64_t edge[] = {DIFF_STACK + 0x1000, DIFF_STACK + 0x1000,
					DIFF_STACK + 0x1000, DIFF_STACK,
					DIFF_STACK + 0x2000, DIFF_DATA + 0x3000};

	return edge[below(q, ARRAY_SIZE(edge))] + 8 * below(q, 8) - 32 +
	       (chance(q->r, 25) ? below(q, 8) : 0);
}

/* Pushes and pops in a row; what is kept of the stack is as before at the end. */
static void unit_stack(struct seq *q)
{
	struct diff_case *c = q->c;
	bool kept = q->keep >> R_SP & 1;
	struct mem m = {R_SP, NO_REG, 1, 0};
	int depth = 0;

	if (!kept)
		put_mov(c, R_SP,
			chance(q->r, 40) ? stack_edge(q)
					 : DIFF_STACK + 0x400 + 8 * below(q, 0x300));
	for (unsigned n = 2 + below(q, 9); n--;)
		depth = stack_step(q, depth);
	if (!kept)
		return;
	if (chance(q->r, 50)) {
		while (depth-- > 0)
			put_pop(c, pick_reg(q, 0));
		return;
	}
	m.disp = 8 * depth;
	if (depth)
		put_rm(c, 8, 0x8d, R_SP, &m);
}

void unit_producer(struct seq *q)
{
	static const uint8_t onebyte[] = {0xf8, 0xf9, 0xf5, 0x9e}; /* clc, stc, cmc, sahf */
	struct diff_case *c = q->c;
	unsigned a = pick_reg(q, 0), b = pick_reg(q, 0), w = pick_width(q);

	switch (below(q, 10)) {
	case 0:
	case 1:
		put_rr(c, w, sized(ALU_CMP << 3, w), a, b);
		break;
	case 2:
		put_rr(c, w, sized(0x84, w), a, b); /* test */
		break;
	case 3:
		put_rr(c, w, sized(0xfe, w), below(q, 2), a); /* inc, dec: CF stays */
		break;
	case 4:
		put_alu_imm(c, w, random_alu(q), a, (int8_t)rnd(q->r));
		break;
	case 5:
		put(c, &onebyte[below(q, ARRAY_SIZE(onebyte))], 1);
		break;
	case 6:
		put_rr(c, w, sized(0xd0, w), 4 + below(q, 2), a); /* shl, shr by 1 */
		break;
	case 7:
		put_rr(c, w == 1 ? 4 : w, below(q, 2) ? 0x0fa3 : 0x0fab, a, b); /* bt, bts */
		break;
	default:
		put_rr(c, w, sized(random_alu(q) << 3, w), a, b);
	}
}

/* Keeps flags: a move, an address, an access that a translator must check without spoiling them. */
void unit_neutral(struct seq *q)
{
	struct diff_case *c = q->c;
	unsigned base = pick_reg(q, 0), data = pick_reg(q, BIT(base)), w = pick_width(q);
	struct mem m = {base, NO_REG, 1, displacement(q)};

	switch (below(q, 8)) {
	case 0:
		put_rr(c, w, sized(0x88, w), data, base);
		break;
	case 1:
		m.disp = (int32_t)rnd(q->r);
		put_rm(c, w == 1 ? 4 : w, 0x8d, data, &m);
		break;
	case 2:
		put_push(c, data);
		put_pop(c, base);
		break;
	case 3:
		put_mov(c, base, group_address(q));
		put_sse(c, 0, below(q, 2) ? 0x0f10 : 0x0f11, below(q, 16), &m);
		break;
	default:
		put_mov(c, base, group_address(q));
		put_rm(c, w, sized(below(q, 2) ? 0x88 : 0x8a, w), data, &m);
		if (chance(q->r, 50)) {
			m.disp += 8;
			put_rm(c, w, sized(below(q, 2) ? 0x88 : 0x8a, w), data, &m);
		}
	}
}

void unit_consumer(struct seq *q)
{
	static const uint8_t lahf = 0x9f, pushf = 0x9c;
	struct diff_case *c = q->c;
	unsigned a = pick_reg(q, 0), b = pick_reg(q, 0), w = pick_width(q), cc = below(q, 16);
	bool rax = !(q->keep & BIT(R_AX));

	switch (below(q, 9)) {
	case 0:
	case 1:
		put_rr(c, 1, 0x0f90 | cc, 0, a);
		break;
	case 2:
	case 3:
		put_rr(c, w == 1 ? 4 : w, 0x0f40 | cc, a, b);
		break;
	case 4:
		put_rr(c, w, sized((below(q, 2) ? ALU_ADC : ALU_SBB) << 3, w), a, b);
		break;
	case 5:
		put_rr(c, w, sized(0xd0, w), 2 + below(q, 2), a); /* rcl, rcr by 1 */
		break;
	case 6:
		if (rax)
			put(c, &lahf, 1);
		break;
	case 7:
		put(c, &pushf, 1);
		put_pop(c, a);
		break;
	default: { /* a skip over one instruction */
		uint8_t jcc[2] = {(uint8_t)(0x70 | cc)};
		unsigned at = c->code_len + 2u;

		put(c, jcc, 2);
		if (c->code_len != at)
			break;
		put_rr(c, w, sized(random_alu(q) << 3, w), a, b);
		c->code[at - 1] = (uint8_t)(c->code_len - at);
	}
	}
}

/* Flags made, carried over something, used. */
static void unit_flags(struct seq *q)
{
	unit_producer(q);
	for (unsigned n = below(q, 4); n--;)
		unit_neutral(q);
	for (unsigned n = 1 + below(q, 2); n--;)
		unit_consumer(q);
}

/*
 * The bytes of an immediate are instructions too: a jump into them, or not, and both ways meet
 * after it. jcc 1f; add eax, imm32 (05 imm32) with 1: at its second byte.
 */
static void unit_overlap(struct seq *q)
{
	static const uint8_t two[][2] = {{0x31, 0xd8}, {0x11, 0xd0}, {0x01, 0xc3}, {0x87, 0xda},
					 {0xd1, 0xd0}, {0xff, 0xc0}, {0x89, 0xc2}, {0x0c, 0x55}};
	uint8_t b[7] = {(uint8_t)(0x70 | below(q, 16)), 1, 0x05};

	if (q->keep & (BIT(R_AX) | BIT(R_DX) | BIT(R_BX)))
		return;
	memcpy(b + 3, two[below(q, ARRAY_SIZE(two))], 2);
	memcpy(b + 5, two[below(q, ARRAY_SIZE(two))], 2);
	put(q->c, b, sizeof(b));
}

void put_unit(struct seq *q)
{
	bool integer = q->g->weights.n[CLASS_MEM];

	if (!room(q->c, 300))
		return;
	switch (integer ? below(q, 20) : 19) {
	case 0:
	case 1:
	case 2:
		unit_group(q);
		break;
	case 3:
	case 4:
		unit_stack(q);
		break;
	case 5:
	case 6:
	case 7:
		unit_flags(q);
		break;
	case 8:
		unit_overlap(q);
		break;
	default:
		put_insn(q);
	}
}
