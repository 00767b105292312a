/* Control flow: direct jumps that are chained, lookups in the jump table, calls, returns, conditional jumps. */
#include "engine/bt/translate.h"

#define PAGE_MASK 0xfffULL

/* Leads to the stub of a direct jump that is not chained yet. Returns the exit's index. */
static unsigned add_exit(struct translation *t, int64_t target_off, bool in_page)
{
	struct block_exit *x = &t->draft.exit[t->draft.b.n_exits];

	/* Linear address, or for user blocks the offset from the page. */
	x->va = t->floats ? (uint64_t)page_offset(t, target_off) : t->va + (uint64_t)target_off;
	x->in_page = in_page;
	x->lookup = false;
	x->guard = 0;
	x->insn = (uint8_t)t->i;
	x->entry = t->flags == FLAGS_MEMORY ? ENTRY_FLAGS : ENTRY_BODY;
	return t->draft.b.n_exits++;
}

static bool looks_up(const struct translation *t)
{
	return assist(t->bt, ASSIST_LOOKUP) && !(t->mode & MODE_SINGLE);
}

static bool target_in_page(const struct translation *t, int64_t target_off)
{
	int64_t off = page_offset(t, target_off);

	return off >= 0 && off < (int64_t)GUEST_PAGE_SIZE;
}

/* The jump-table probe. R10: linear address. Destroys R11 and flags; goes on with R10 + key, R11 = the slot's offset. */
uint32_t emit_lookup(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	/* Sixteen bytes for each slot of eight addresses: the address doubled, in place */
	_Static_assert(sizeof(struct jump) == 2 << JUMP_SHIFT, "emit_lookup() doubles the address");
	emit_lea(e, 0, R_11, R_10, R_10, 0, 0);
	emit_alu_ri(e, ALU_AND, 0, R_11, (int32_t)((JUMP_SLOTS - 1) * sizeof(struct jump)));
	emit_rg(e, OP_ADD_RM, 1, R_10, GB(key) + t->mmu_mode * 8);
	emit_rgb(e, OP_CMP_RM, 1, R_10, R_11, GB(jump) + offsetof(struct jump, key));
	if (t->n_lookups == ARRAY_SIZE(t->lookup)) {
		e->p = e->end;
		return 0;
	}
	t->lookup[t->n_lookups].first = emit_jcc(e, CC_NE);
	t->lookup[t->n_lookups].found = emit_at(e);
	return LOOKUP_FIELD | t->n_lookups++;
}

/* Out of line, what the first way does not have may be in the second: then the lookup goes on with R11 there. */
void emit_second_ways(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	for (unsigned i = 0; i < t->n_lookups; i++) {
		struct lookup *l = &t->lookup[i];

		emit_patch(e, l->first, emit_at(e));
		emit_alu_ri(e, ALU_ADD, 0, R_11, JUMP_SLOTS * sizeof(struct jump));
		emit_rgb(e, OP_CMP_RM, 1, R_10, R_11, GB(jump) + offsetof(struct jump, key));
		emit_patch(e, emit_jcc(e, CC_E), l->found);
		l->missed = emit_jmp(e);
	}
}

/* The jump that a field stands for: emit_lookup()'s are made by emit_second_ways(). */
uint32_t field_of(const struct translation *t, uint32_t field)
{
	return field & LOOKUP_FIELD ? t->lookup[field & ~LOOKUP_FIELD].missed : field;
}

/*
 * Exit i of user code at a fixed address: chained while the key is the guard's, by the jump table otherwise. At the end
 * of a block or out of line, so the jump that is taken, once it is chained, may be the conditional one.
 */
static void emit_guarded(struct translation *t, unsigned i, int64_t target_off)
{
	struct emitter *e = &t->draft.e;
	struct block_exit *x = &t->draft.exit[i];

	emit_alu_g32(e, ALU_CMP, 0, GB(key) + t->mmu_mode * 8, 0); /* is no key */
	x->guard = (uint16_t)(emit_at(e) - 4);
	x->field = emit_jcc(e, CC_E);
	x->stub = emit_at(e);
	emit_patch(e, x->field, x->stub);
	emit_code_address(t, R_10, target_off);
	emit_short_call(t, t->bt->stub_lookup[t->mmu_mode], i);
}

static bool guards(const struct translation *t)
{
	return t->user && !t->floats && !t->straddles && assist(t->bt, ASSIST_CHAIN);
}

/* Out of line, or at the block's end: leaves for target_off with the flags in memory. */
void emit_leave_page(struct translation *t, int64_t target_off)
{
	struct emitter *e = &t->draft.e;
	unsigned x;
	uint32_t miss;

	flags_to_memory(t);
	t->flags = FLAGS_MEMORY;
	x = add_exit(t, target_off, false);
	if (!t->user && !t->straddles) {
		t->draft.exit[x].field = emit_jmp(e);
		return;
	}
	if (!looks_up(t)) {
		t->draft.exit[x].field = emit_jmp(e);
		return;
	}
	if (guards(t)) {
		emit_guarded(t, x, target_off);
		return;
	}
	emit_code_address(t, R_10, target_off);
	miss = emit_lookup(t);
	emit_jmp_gb(e, R_11, GB(jump) + offsetof(struct jump, host));
	t->draft.exit[x].field = miss;
	t->draft.exit[x].lookup = true;
}

/* An unconditional direct jump. */
void emit_direct(struct translation *t, int64_t target_off)
{
	if (target_in_page(t, target_off)) {
		unsigned x = add_exit(t, target_off, true);

		t->draft.exit[x].field = emit_jmp(&t->draft.e);
	} else {
		emit_leave_page(t, target_off);
	}
}

/* The 8-byte memory operand of PUSH, JMP or CALL, by itself. */
struct access operand_access(const struct guest_insn *g)
{
	struct access a = {.used = true, .base = g->op.base, .index = g->op.index, .scale = g->op.scale,
			   .seg = g->op.seg >= S_FS ? g->op.seg : S_SS, .addr_size = g->op.addr_size, .size = 8,
			   .disp = g->op.disp};

	if (a.base == EA_RIP)
		a.disp += g->off;
	return a;
}

/* Stores the return address at m and moves RSP. */
static void emit_push_return(struct translation *t, const struct host_operand *m)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	uint64_t ret = t->va + g->off + g->op.len;

	if (!t->floats && (int64_t)ret == (int32_t)ret) {
		emit_rop(e, 0xc7, 1, 0, m);
		emit32(e, (uint32_t)ret);
	} else {
		emit_code_address(t, R_11, g->off + g->op.len);
		emit_rop(e, OP_MOV_MR, 1, R_11, m);
	}
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, -8);
}

int64_t branch_target(const struct guest_insn *g)
{
	return (int64_t)(g->off + g->op.len + g->op.imm);
}

void emit_call(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];

	struct host_operand m = emit_access(t);

	flags_to_memory(t);
	t->flags = FLAGS_MEMORY;
	note_flags(t);
	emit_push_return(t, &m);
	emit_direct(t, branch_target(g));
}

/* R10 = where an indirect jump or call goes. */
static void emit_target(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct access a = operand_access(g);

	t->holds = 0;
	clobber_flags(t, true);
	note_flags(t);
	t->retry = emit_at(e);
	if (!(g->op.flags & OP_MEM)) {
		if (g->op.rm == R_10 || g->op.rm == R_11)
			load_guest(e, R_10, g->op.rm);
		else
			emit_mov(e, R_10, g->op.rm);
		return;
	}
	emit_single(t, &a);
	emit_rm(e, OP_MOV_RM, 1, R_10, R_10, 0);
}

/* A miss: the interpreter executes the jump, and the dispatcher fills the table in. */
static void miss_site(struct translation *t, uint32_t field)
{
	t->draft.miss_field = field;
	t->draft.miss = true;
}

void emit_jmp_indirect(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	if (!looks_up(t)) {
		emit_interp(t);
		return;
	}
	emit_target(t);
	miss_site(t, emit_lookup(t));
	emit_jmp_gb(e, R_11, GB(jump) + offsetof(struct jump, host));
}

/* The lookup comes first: on a miss nothing has changed, and the interpreter executes the call from its beginning. */
void emit_call_indirect(struct translation *t)
{
	struct emitter *e = &t->draft.e;
	bool wants_r10 = t->user || t->bt->verify;

	if (!looks_up(t)) {
		emit_interp(t);
		return;
	}
	emit_target(t);
	miss_site(t, emit_lookup(t));
	emit_rgb(e, OP_MOV_RM, 1, R_11, R_11, GB(jump) + offsetof(struct jump, host));
	emit_rg(e, OP_MOV_MR, 1, R_11, GB(target));
	if (wants_r10) /* the target may float (ENTRY_TABLE), or it is verified */
		emit_rg(e, OP_MOV_MR, 1, R_10, GB(temp));
	emit_stack_probe(t, -8, true, false);
	emit_push_return(t, &(struct host_operand){.base = R_10, .index = NO_INDEX});
	if (wants_r10)
		emit_rg(e, OP_MOV_RM, 1, R_10, GB(temp));
	emit_jmp_g(e, GB(target));
}

void emit_ret(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct host_operand m;

	if (!looks_up(t)) {
		emit_interp(t);
		return;
	}
	m = emit_access(t);
	flags_to_memory(t);
	t->flags = FLAGS_MEMORY;
	note_flags(t);
	emit_rop(e, OP_MOV_RM, 1, R_10, &m);
	miss_site(t, emit_lookup(t));
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, 8 + (int32_t)(g->op.imm & 0xffff));
	emit_jmp_gb(e, R_11, GB(jump) + offsetof(struct jump, host));
}

/* Conditional jumps out of line: the exit leaves the page, and does it there. */
static void side_exit(struct translation *t, uint32_t field, int64_t target)
{
	struct draft *d = &t->draft;

	if (target_in_page(t, target)) {
		unsigned x = add_exit(t, target, true);

		d->exit[x].field = field;
		return;
	}
	d->far[d->n_far].field = field;
	d->far[d->n_far].target = target;
	d->far[d->n_far].insn = t->i;
	d->far[d->n_far++].flags = t->flags;
}

/* A condition that is one flag, or CF or ZF, can be looked up where the flags are in memory: which byte, and bits. */
static bool condition_in_memory(unsigned cc, size_t *at, uint8_t *bits)
{
	static const uint8_t mask[] = {1, FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_SF, FLAG_PF};

	if (cc / 2 >= ARRAY_SIZE(mask))
		return false;
	*bits = mask[cc / 2];
	*at = G(status) + (cc / 2 == CC_O / 2 ? 0 : 1);
	return true;
}

void emit_jcc_insn(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	unsigned cc = g->op.opcode & 0xf;
	uint8_t bits;
	size_t at;

	if (t->flags == FLAGS_MEMORY && condition_in_memory(cc, &at, &bits)) {
		emit_test_g8(&t->draft.e, at, bits);
		cc = cc & 1 ? CC_E : CC_NE;
	} else {
		flags_to_host(t);
	}
	side_exit(t, emit_jcc(&t->draft.e, cc), branch_target(g));
}

/* JRCXZ and LOOP: kept as they are, around a jump that reaches farther. */
void emit_loop(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;

	flags_to_host(t);
	if (g->op.addr_size == 4)
		emit8(e, 0x67);
	emit8(e, g->op.opcode);
	emit8(e, 2);
	emit8(e, 0xeb); /* not taken: over the jump */
	emit8(e, 5);
	side_exit(t, emit_jmp(e), branch_target(g));
}
