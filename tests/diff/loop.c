/*
 * loop.c - blocks that go to each other: conditional jumps forward and backward, jumps into the
 * middle of an earlier block, calls and returns (also ones that go elsewhere), jumps through a
 * table, stores into the code.
 *
 * Layout: a jump to main; functions; main. Each jump back takes one from a counter, so that the
 * case ends: in RCX, another register that nothing else writes, or memory. At zero such a jump
 * falls through; below zero the case ends, so that nowhere else is the counter negative. What
 * counts is pinned against the shrinker.
 */
#include <string.h>

#include "emit.h"

enum { LABELS = 48, OUTS = 24, FUNCS = 4, TARGETS = 4 };

/* Tables that the code reads: jump targets, indices by counter; the counter in memory. */
#define TABLE (DIFF_STACK + 0x1f80)
#define INDICES (DIFF_STACK + 0x1fc0)
#define COUNTER (DIFF_STACK + 0x1ff0)

enum counter { IN_RCX, IN_REG, IN_MEM };

struct loop {
	struct seq q;
	enum counter counter;
	unsigned reg;
	unsigned label[LABELS], labels; /* starts of main's units so far */
	unsigned out[OUTS], outs;       /* displacements of jumps to the end */
	unsigned func[FUNCS], funcs;
	unsigned targets; /* of TABLE that are used */
};

static unsigned below(struct loop *l, unsigned n)
{
	return (unsigned)rnd_below(l->q.r, n);
}

static bool may(struct loop *l, unsigned pct)
{
	return chance(l->q.r, pct);
}

static void add_poke(struct diff_case *c, uint64_t addr, uint64_t value)
{
	if (c->npokes < ARRAY_SIZE(c->poke))
		c->poke[c->npokes++] = (struct diff_poke){addr, value, 8};
}

static struct mem absolute(uint64_t addr, unsigned index, unsigned scale)
{
	return (struct mem){NO_REG, index, scale, (int32_t)addr};
}

static uint64_t address(const struct loop *l, unsigned offset)
{
	return DIFF_CODE + l->q.c->code_off + offset;
}

/* Pins what has been put since. */
static void pin(struct diff_case *c, unsigned from)
{
	for (unsigned i = from; i < c->code_len; i++)
		c->pinned[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Takes one from the counter; ZF and SF are set by it. */
static void count_down(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned from = c->code_len;
	struct mem m = absolute(COUNTER, NO_REG, 1);

	if (l->counter == IN_MEM)
		put_rm(c, 4, 0xff, 1, &m);
	else if (may(l, 50))
		put_rr(c, 8, 0xff, 1, l->reg);
	else
		put_alu_imm(c, 4, ALU_SUB, l->reg, 1);
	pin(c, from);
}

static void jump_out(struct loop *l, unsigned cc)
{
	unsigned from = l->q.c->code_len, at = put_jump(l->q.c, cc);

	pin(l->q.c, from);
	if (l->outs < OUTS)
		l->out[l->outs++] = at;
}

/* Takes one from the counter: out of the case below zero; a jump to be filled in at zero. */
enum { CC_Z = 4, CC_S = 8 };
static unsigned count_or_skip(struct loop *l)
{
	count_down(l);
	jump_out(l, CC_S);
	return put_jump(l->q.c, CC_Z);
}

/* On a condition: of the counter, or of what is put between. */
static void back_counted(struct loop *l, unsigned target)
{
	struct seq *q = &l->q;
	unsigned at;

	if (may(l, 30)) {
		at = count_or_skip(l);
		set_target(q->c, put_jump(q->c, CC_JMP), target);
		set_target(q->c, at, q->c->code_len);
		return;
	}
	count_down(l);
	jump_out(l, CC_S);
	if (may(l, 60)) {
		if (may(l, 40))
			put_unit(q);
		if (may(l, 60))
			unit_producer(q);
		if (may(l, 40))
			unit_neutral(q);
	}
	set_target(q->c, put_jump(q->c, below(l, 16)), target);
}

/* With the counter in RCX a jump back need not touch flags. */
static void back_flags_kept(struct loop *l, unsigned target)
{
	struct diff_case *c = l->q.c;
	uint8_t jcc[2] = {(uint8_t)(0x70 | below(l, 16))}, jrcxz[2] = {0xe3}, loop[2] = {0xe2};
	struct mem less = {R_CX, NO_REG, 1, -1};
	bool near = c->code_len + 6 - target < 120, skip = may(l, 50);

	jcc[1] = near ? 4 : 9 + 2;
	jrcxz[1] = near ? 2 : 9;
	if (skip)
		put(c, jcc, 2);
	put_pinned(c, jrcxz, 2);
	if (near) {
		loop[1] = (uint8_t)(target - (c->code_len + 2u));
		put(c, loop, 2);
	} else {
		unsigned from = c->code_len;

		put_rm(c, 8, 0x8d, R_CX, &less); /* 4 bytes */
		pin(c, from);
		set_target(c, put_jump(c, CC_JMP), target);
	}
}

static unsigned earlier_label(struct loop *l)
{
	return l->label[below(l, l->labels)];
}

static void add_label(struct loop *l)
{
	if (l->labels < LABELS)
		l->label[l->labels++] = l->q.c->code_len;
}

static void jump_back(struct loop *l)
{
	unsigned target = earlier_label(l);

	if (l->counter == IN_RCX && may(l, 50)) {
		back_flags_kept(l, target);
		return;
	}
	back_counted(l, target);
}

static void units(struct loop *l, unsigned n)
{
	while (n--)
		put_unit(&l->q);
}

static void jump_forward(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned at = put_jump(c, may(l, 85) ? below(l, 16) : CC_JMP);

	units(l, 1 + below(l, 2));
	if (may(l, 20))
		add_label(l); /* code that is reached by a jump back alone, perhaps */
	if (may(l, 30))
		unit_consumer(&l->q);
	set_target(c, at, c->code_len);
}

/* A register with an index below 4: from the counter's table, without touching flags, or from a
 * register. */
static unsigned put_index(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned reg = pick_reg(&l->q, 0);
	struct mem m = absolute(INDICES, l->counter == IN_MEM ? NO_REG : l->reg, 1);

	if (may(l, 60)) {
		if (m.index == NO_REG) {
			struct mem n = absolute(COUNTER, NO_REG, 1);

			put_rm(c, 4, 0x8b, reg, &n);
			m.index = reg;
		}
		put_rm(c, 4, 0x0fb6, reg, &m);
	} else {
		put_rr(c, 4, 0x8b, reg, pick_reg(&l->q, 0));
		put_alu_imm(c, 4, ALU_AND, reg, TARGETS - 1);
	}
	return reg;
}

/* A jump or call (2 and 4 of group FF) by the table's entry at index reg: from memory or a
 * register. */
static void put_through(struct loop *l, unsigned table, unsigned reg, unsigned ext)
{
	struct diff_case *c = l->q.c;
	struct mem m = absolute(table, reg, 8);
	unsigned to = pick_reg(&l->q, 0);

	if (may(l, 50)) {
		put_rm(c, 4, 0xff, ext, &m);
	} else {
		put_rm(c, 8, 0x8b, to, &m);
		if (may(l, 40))
			unit_neutral(&(struct seq){l->q.g, l->q.r, c, l->q.keep | BIT(to)});
		put_rr(c, 4, 0xff, ext, to);
	}
}

/* A switch: four ways that come together again. One table serves a case. */
static void put_switch(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned end[TARGETS], ends = 0;

	if (l->targets || c->npokes + TARGETS > ARRAY_SIZE(c->poke)) {
		units(l, 1);
		return;
	}
	l->targets = TARGETS;
	put_through(l, TABLE, put_index(l), 4);
	for (unsigned i = 0; i < TARGETS; i++) {
		add_poke(c, TABLE + 8 * i, address(l, c->code_len));
		if (may(l, 40))
			unit_consumer(&l->q);
		units(l, may(l, 60));
		if (may(l, 70))
			end[ends++] = put_jump(c, CC_JMP);
	}
	while (ends)
		set_target(c, end[--ends], c->code_len);
}

/* A jump to one of four earlier places, by a table of its own. */
static void jump_back_indirect(struct loop *l)
{
	struct diff_case *c = l->q.c;
	uint64_t table = TABLE - 32;
	unsigned at;

	if (c->npokes + TARGETS > ARRAY_SIZE(c->poke) || l->outs >= OUTS) {
		jump_back(l);
		return;
	}
	for (unsigned i = 0; i < c->npokes; i++)
		if (c->poke[i].addr == table) {
			jump_back(l);
			return;
		}
	for (unsigned i = 0; i < TARGETS; i++)
		add_poke(c, table + 8 * i, address(l, earlier_label(l)));
	at = count_or_skip(l);
	put_through(l, table, put_index(l), 4);
	set_target(c, at, c->code_len);
}

/* Calls, now and then one that takes the return address into its own hands. */
static void put_call(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned f = l->func[below(l, l->funcs)], reg = pick_reg(&l->q, 0), at;

	if (may(l, 40))
		unit_producer(&l->q);
	switch (below(l, 6)) {
	case 0:
		put_mov(c, reg, address(l, f));
		put_rr(c, 4, 0xff, 2, reg);
		break;
	case 1: /* the return address by hand */
		put_mov(c, reg, address(l, c->code_len + 10u + (reg >= 8 ? 2u : 1u) + 5u));
		put_push(c, reg);
		set_target(c, put_jump(c, CC_JMP), f);
		break;
	default:
		at = put_jump(c, CC_CALL);
		set_target(c, at, f);
	}
	if (may(l, 50))
		unit_consumer(&l->q);
}

/* push target; ret: forward over a unit. */
static void jump_by_return(struct loop *l)
{
	struct diff_case *c = l->q.c;
	static const uint8_t ret = 0xc3;
	unsigned reg = pick_reg(&l->q, 0), at = c->code_len + 2u;
	uint64_t to;

	put_mov(c, reg, 0);
	put_push(c, reg);
	if (may(l, 30))
		unit_neutral(&(struct seq){l->q.g, l->q.r, c, l->q.keep});
	put(c, &ret, 1);
	units(l, 1);
	to = address(l, c->code_len);
	if (at + 8u <= c->code_len)
		memcpy(c->code + at, &to, 8);
}

static uint8_t modrm_rip(unsigned reg)
{
	return (uint8_t)(5 | reg << 3);
}

/* Changes the operation of an instruction, before or behind, in this block or the one before. */
static void store_code(struct loop *l)
{
	static const uint8_t ops[] = {0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x89};
	struct diff_case *c = l->q.c;
	uint8_t st[7] = {0xc6, modrm_rip(0)};
	unsigned a = pick_reg(&l->q, BIT(0) | 0xff00) & 7, target, at;
	uint8_t victim[2] = {0x01, (uint8_t)(0xc0 | a)};
	int32_t rel;

	if (l->q.keep >> a & 1)
		return;
	c->smc = true;
	at = c->code_len;
	if (may(l, 60)) { /* the victim follows */
		st[6] = ops[below(l, ARRAY_SIZE(ops))];
		put(c, st, 7);
		units(l, below(l, 2));
		target = c->code_len;
		put(c, victim, 2);
	} else {
		target = c->code_len;
		put(c, victim, 2);
		units(l, below(l, 2));
		at = c->code_len;
		st[6] = ops[below(l, ARRAY_SIZE(ops))];
		put(c, st, 7);
	}
	rel = (int32_t)(target - (at + 7));
	if (at + 7 <= c->code_len)
		memcpy(c->code + at + 2, &rel, 4);
}

static void main_unit(struct loop *l)
{
	add_label(l);
	switch (below(l, 24)) {
	case 0:
	case 1:
	case 2:
		jump_back(l);
		break;
	case 3:
		jump_back_indirect(l);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		jump_forward(l);
		break;
	case 8:
	case 9:
	case 10:
		put_call(l);
		break;
	case 11:
	case 12:
		put_switch(l);
		break;
	case 13:
		jump_by_return(l);
		break;
	case 14:
		if (may(l, 40)) {
			store_code(l);
			break;
		}
		__attribute__((fallthrough));
	default:
		units(l, 1);
	}
}

/* A return: plain, popping arguments that it pushes, or by a jump. */
static void put_return(struct loop *l)
{
	struct diff_case *c = l->q.c;
	static const uint8_t ret = 0xc3, ret16[3] = {0xc2, 8, 0};
	struct mem top = {R_SP, NO_REG, 1, 0}, up = {R_SP, NO_REG, 1, 8};
	unsigned reg = pick_reg(&l->q, 0);

	switch (below(l, 8)) {
	case 0: /* copy the return address down, return, drop a word */
		put_rm(c, 8, 0x8b, reg, &top);
		put_push(c, reg);
		put(c, ret16, 3);
		break;
	case 1:
		put_pop(c, reg);
		put_rr(c, 4, 0xff, 4, reg);
		break;
	case 2: /* lea rsp, [rsp + 8]; jmp [rsp - 8] */
		put_rm(c, 8, 0x8d, R_SP, &up);
		top.disp = -8;
		put_rm(c, 4, 0xff, 4, &top);
		break;
	default:
		put(c, &ret, 1);
	}
}

static void put_function(struct loop *l)
{
	struct diff_case *c = l->q.c;
	unsigned at = 0;
	bool early = may(l, 30);

	l->func[l->funcs++] = c->code_len;
	if (may(l, 50))
		unit_consumer(&l->q);
	if (early) {
		at = put_jump(c, below(l, 16));
		put_return(l);
		set_target(c, at, c->code_len);
	}
	units(l, below(l, 3));
	if (l->funcs > 1 &&
	    may(l, 40)) { /* call an earlier one, or go there instead of returning */
		at = put_jump(c, may(l, 60) ? CC_CALL : CC_JMP);
		set_target(c, at, l->func[below(l, l->funcs - 1)]);
	}
	if (may(l, 25) && l->outs < OUTS) { /* recursion */
		at = count_or_skip(l);
		set_target(c, put_jump(c, CC_CALL), l->func[l->funcs - 1]);
		set_target(c, at, c->code_len);
		if (may(l, 50))
			unit_consumer(&l->q);
	}
	if (may(l, 50))
		unit_producer(&l->q);
	put_return(l);
}

static void choose_counter(struct loop *l)
{
	static const uint8_t regs[] = {10, 11, 10, 11, R_BX, 15, R_SI, R_BP};
	struct diff_case *c = l->q.c;
	uint64_t n = 1 + below(l, may(l, 80) ? 12 : 40);

	l->counter = (enum counter)(may(l, 50) ? IN_RCX : may(l, 60) ? IN_REG : IN_MEM);
	l->reg = l->counter == IN_RCX ? R_CX : regs[below(l, ARRAY_SIZE(regs))];
	if (l->counter == IN_MEM) {
		add_poke(c, COUNTER, n);
		return;
	}
	c->gpr[l->reg] = n;
	l->q.keep |= BIT(l->reg);
}

static void add_indices(struct loop *l)
{
	for (unsigned i = 0; i < 6; i++)
		add_poke(l->q.c, INDICES + 8 * i, rnd(l->q.r) & 0x0303030303030303);
}

void loop_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	struct loop l = {.q = {g, r, c, BIT(R_SP)}};
	unsigned want = 2 + (unsigned)rnd_below(r, 9), at;

	c->mnemonic = ZYDIS_MNEMONIC_INVALID;
	calm(c);
	c->rflags &= ~(uint64_t)(FLAG_AC | FLAG_DF);
	c->gpr[R_SP] = DIFF_STACK + 0x1000 + 8 * (rnd_below(r, 0x80) - 0x40);
	choose_counter(&l);
	add_indices(&l);
	at = put_jump(c, CC_JMP);
	for (unsigned n = 1 + below(&l, FUNCS); n--;)
		put_function(&l);
	set_target(c, at, c->code_len);
	while (want-- && room(c, 500))
		main_unit(&l);
	for (unsigned i = 0; i < l.labels % 3; i++)
		if (room(c, 64) && l.labels)
			jump_back(&l);
	for (unsigned i = 0; i < l.outs; i++)
		set_target(c, l.out[i], c->code_len);
	c->warm = !c->smc && chance(r, 60);
}
