/*
 * The translator: emits host code for a block of guest instructions. internal.h has the theory.
 *
 * Scratch registers: R10 holds an address, R11 everything else. Between instructions R11 is free, and R10 may hold the
 * host address of the current group. Everything that may destroy the host's flags is preceded by clobber_flags().
 */
#include <errno.h>
#include <sys/mman.h>

#include "engine/bt/translate.h"

#define PAGE_MASK 0xfffULL

void fixup(struct translation *t, uint32_t field, uint64_t host)
{
	struct draft *d = &t->draft;

	if (d->n_fixups < MAX_FIXUPS)
		d->fixup[d->n_fixups++] = (struct fixup){.field = field, .host = host};
	else
		d->e.p = d->e.end; /* full */
}

static void jmp_stub(struct translation *t, uint64_t stub)
{
	fixup(t, emit_jmp(&t->draft.e), stub);
}

/* Flags */

/*
 * AH and OF go to memory each by itself, and come back so: to put them together in AX first would cost a merge, for which
 * the CPU issues nothing else, and a load of both at once could not be forwarded from the two stores.
 */
void save_flags(struct emitter *e)
{
	emit_mov(e, R_11, R_AX);
	emit8(e, 0x9f); /* lahf */
	emit8(e, 0x65), emit8(e, 0x88), emit8(e, 0x24), emit8(e, 0x25);
	emit32(e, G(status) + 1); /* mov gs:[status + 1], ah */
	emit8(e, 0x65), emit8(e, 0x0f), emit8(e, 0x90), emit8(e, 0x04), emit8(e, 0x25);
	emit32(e, G(status)); /* seto gs:[status] */
	emit_mov(e, R_AX, R_11);
}

void load_flags(struct emitter *e)
{
	emit_mov(e, R_11, R_AX);
	emit_rg(e, OP_MOVZX8, 0, R_AX, G(status));
	emit8(e, 0x65), emit8(e, 0x8a), emit8(e, 0x24), emit8(e, 0x25);
	emit32(e, G(status) + 1);       /* mov ah, gs:[status + 1] */
	emit8(e, 0x04), emit8(e, 0x7f); /* add al, 7f: OF from bit 0 */
	emit8(e, 0x9e);                 /* sahf */
	emit_mov(e, R_AX, R_11);
}

/* The host's flags are about to be destroyed. Uses R11. */
void clobber_flags(struct translation *t, bool live)
{
	if (live && t->flags == FLAGS_HOST)
		save_flags(&t->draft.e);
	t->flags = FLAGS_MEMORY;
}

void flags_to_memory(struct translation *t)
{
	if (t->flags == FLAGS_HOST) {
		save_flags(&t->draft.e);
		t->flags = FLAGS_BOTH;
	}
}

void flags_to_host(struct translation *t)
{
	if (t->flags == FLAGS_MEMORY) {
		load_flags(&t->draft.e);
		t->flags = FLAGS_BOTH;
	}
}

/* What is wanted of the flags before instruction g: what it reads and what passes it by. */
bool wanted_before(const struct guest_insn *g)
{
	return ((g->live & ~g->writes) | g->reads) || g->kind == KIND_INTERP ||
	       (g->kind == KIND_LIGHT && !g->flags_unseen);
}

/* Addresses */

/* Distance of the instruction's page offset, plus add, from the page that the block is in. */
int64_t page_offset(const struct translation *t, int64_t add)
{
	return (int64_t)(t->gpa & PAGE_MASK) + add;
}

/* dst = linear address of the block's first byte plus `off` */
void emit_code_address(struct translation *t, unsigned dst, int64_t off)
{
	struct emitter *e = &t->draft.e;

	if (!t->floats) {
		emit_mov_ri(e, dst, t->va + (uint64_t)off);
		return;
	}
	emit_rg(e, OP_MOV_RM, 1, dst, GB(page_va));
	emit_rm(e, OP_LEA, 1, dst, dst, (int32_t)page_offset(t, off));
}

/* What follows a probe's failure, a lookup's miss, an instruction for the interpreter: arg and stub. */
void emit_stub_call(struct translation *t, uint64_t stub, uint64_t low)
{
	struct emitter *e = &t->draft.e;

	emit_rex_op(e, 0xb8 | (R_11 & 7), 1, 0, 0, R_11);
	emit32(e, (uint32_t)low);
	/* Above it the block's id, which cache_commit() gives. */
	if (t->draft.n_ids < MAX_FIXUPS)
		t->draft.id_field[t->draft.n_ids++] = emit_at(e);
	else
		e->p = e->end;
	emit32(e, 0);
	jmp_stub(t, stub);
}

/* The same for stubs that take a short_arg(). */
void emit_short_call(struct translation *t, uint64_t stub, unsigned i)
{
	struct emitter *e = &t->draft.e;

	emit_rex_op(e, 0xb8 | (R_11 & 7), 0, 0, 0, R_11);
	if (t->draft.n_shorts < MAX_FIXUPS)
		t->draft.short_field[t->draft.n_shorts++] = emit_at(e);
	else
		e->p = e->end;
	emit32(e, i);
	jmp_stub(t, stub);
}

void emit_interp(struct translation *t)
{
	flags_to_memory(t);
	emit_short_call(t, t->bt->stub_interp, t->i);
}

/* Instructions */

void load_guest(struct emitter *e, unsigned host, unsigned guest)
{
	emit_rg(e, OP_MOV_RM, 1, host, G(gpr) + guest * 8);
}

void store_guest(struct emitter *e, unsigned host, unsigned guest)
{
	emit_rg(e, OP_MOV_MR, 1, host, G(gpr) + guest * 8);
}

void note_flags(struct translation *t)
{
	if (t->flags == FLAGS_MEMORY)
		t->draft.b.mem_flags |= BIT(t->i);
}

/* Flags into the host's if the instruction needs them there, before it runs; and what it makes of them. */
void flags_before(struct translation *t, const struct guest_insn *g)
{
	if (g->reads || (g->changes_flags && (g->live & ~g->writes)))
		flags_to_host(t);
}

static void flags_after(struct translation *t, const struct guest_insn *g)
{
	if (g->changes_flags)
		t->flags = FLAGS_HOST;
}

/* Control instructions leave the last instruction's pointers alone (SDM vol. 1, 8.1.8). */
static bool sets_x87_pointers(const struct guest_insn *g)
{
	switch (g->op.mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
		return false;
	default:
		return g->op.fpu == FPU_X87;
	}
}

/* FIP will need the page, which the last x87 instruction ran in, once in a user block. After it: R11 is free. */
static void note_x87(struct translation *t, const struct guest_insn *g)
{
	struct emitter *e = &t->draft.e;

	if (!t->floats || t->x87_noted || !sets_x87_pointers(g))
		return;
	t->x87_noted = true;
	emit_rg(e, OP_MOV_RM, 1, R_11, GB(page_va));
	emit_rg(e, OP_MOV_MR, 1, R_11, GB(x87_page_va));
}

static void emit_plain(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	bool both = g->uses_r10 && g->uses_r11;

	flags_before(t, g);
	note_flags(t);
	if (both) {
		t->holds = 0;
		load_guest(e, R_10, R_10);
	}
	if (g->uses_r10 && !both)
		load_guest(e, R_11, R_10);
	if (g->uses_r11)
		load_guest(e, R_11, R_11);
	emit_copy(e, g, NULL, g->uses_r10 && !both);
	if (unlikely(t->bt->config->sabotage && t->bt->config->sabotage == g->op.mnemonic))
		emit_rm(e, OP_LEA, 1, R_AX, R_AX, 1);
	if (g->op.mnemonic == ZYDIS_MNEMONIC_FNINIT) { /* clears FIP and FDP: see fpu_hide_pointers() */
		emit_mov_gi(e, 1, GB(kept_fip), 0);
		emit_mov_gi(e, 1, GB(kept_fdp), 0);
	}
	if (g->writes_r10)
		store_guest(e, both ? R_10 : R_11, R_10);
	if (g->writes_r11)
		store_guest(e, R_11, R_11);
	note_x87(t, g);
	flags_after(t, g);
}

static bool names_high_byte(const struct guest_insn *g)
{
	for (unsigned i = 0; i < g->insn.z.operand_count; i++)
		if (g->insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && g->insn.op[i].reg.value >= ZYDIS_REGISTER_AH &&
		    g->insn.op[i].reg.value <= ZYDIS_REGISTER_BH)
			return true;
	return false;
}

/* AH..BH cannot be named beside R10: a low register lends its place for the address. */
static void emit_high_byte(struct translation *t, const struct guest_insn *g, const struct host_operand *m)
{
	static const uint8_t lenders[] = {R_SI, R_DI, R_BX, R_DX};
	struct emitter *e = &t->draft.e;
	struct host_operand low = {.index = NO_INDEX};
	uint16_t named = g->gpr_written;
	unsigned r = R_SI;

	for (unsigned i = 0; i < g->insn.z.operand_count; i++)
		if (g->insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			named |= (uint16_t)(1u << (ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(
				ZYDIS_MACHINE_MODE_LONG_64, g->insn.op[i].reg.value)) & 15));
	for (unsigned i = 0; i < ARRAY_SIZE(lenders); i++)
		if (!(named >> lenders[i] & 1)) {
			r = lenders[i];
			break;
		}
	low.base = (uint8_t)r;
	/* An address that is not canonical must fault before that. */
	emit_rop(e, OP_MOVZX8, 0, R_11, m);
	emit_mov(e, R_11, r);
	emit_rop(e, OP_LEA, 1, r, m);
	emit_copy(e, g, &low, false);
	emit_mov(e, r, R_11);
}

static void emit_with_memory(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct host_operand m = emit_access(t);

	/* Not what is locked: in the bounce buffer it would be atomic to nobody. */
	if (operand_stands_alone(t) && !cpu_op_is_locked(&g->op) && !(g->op.flags & OP_MASKED && g->op.flags & OP_WRITE) &&
	    (t->draft.operand_r10[t->i] != R10_HOST || m.disp == 0) && emit_at(e) < BIT(15))
		t->draft.operand_off[t->i] = (uint16_t)(emit_at(e) | (g->changes_flags ? BIT(15) : 0));
	flags_before(t, g);
	note_flags(t);
	if (g->uses_r10)
		load_guest(e, R_11, R_10);
	if (g->uses_r11)
		load_guest(e, R_11, R_11);
	if (names_high_byte(g))
		emit_high_byte(t, g, &m);
	else
		emit_copy(e, g, &m, g->uses_r10);
	if (g->writes_r10)
		store_guest(e, R_11, R_10);
	if (g->writes_r11)
		store_guest(e, R_11, R_11);
	note_x87(t, g);
	flags_after(t, g);
}

static void emit_lea_insn(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	const struct cpu_op *op = &g->op;
	bool scratch = op->reg == R_10 || op->reg == R_11;
	unsigned dst = scratch ? R_11 : op->reg, base = op->base, index = op->index;

	if (op->op_size == 2) {
		emit_interp(t);
		return;
	}
	if (base == EA_RIP) {
		/* A 32-bit destination takes the low half. */
		emit_code_address(t, dst, g->off + op->disp);
		if (op->op_size == 4)
			emit_rr(e, OP_MOV_RM, 0, dst, dst);
	} else {
		if (base == R_10 || index == R_10)
			t->holds = 0;
		if (base < 16)
			address_register(e, base);
		if (index < 16 && index != base)
			address_register(e, index);
		emit_lea(e, op->op_size == 8 && op->addr_size == 8, dst, base, index, op->scale, (int32_t)op->disp);
	}
	if (scratch)
		store_guest(e, R_11, op->reg);
}

/* mov [m], what a PUSH stores */
static void emit_push_value(struct translation *t, const struct guest_insn *g, const struct host_operand *m)
{
	struct emitter *e = &t->draft.e;
	unsigned r = g->op.rm;

	if (g->op.opcode == 0x68 || g->op.opcode == 0x6a) {
		emit_rop(e, 0xc7, 1, 0, m);
		emit32(e, (uint32_t)g->op.imm);
		return;
	}
	if (r == R_10 || r == R_11) {
		load_guest(e, R_11, r);
		r = R_11;
	}
	emit_rop(e, OP_MOV_MR, 1, r, m);
}

/*
 * RSP moves once for PUSHes that follow each other, and POPs. Those behind the first have no probe, since they share its, and
 * would not be the first to fault: nobody sees RSP in between. Who pushes or pops RSP itself begins, or ends, by itself.
 */
static bool stack_run_goes_on(const struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i], *next = g + 1;

	return t->i + 1 < t->n && next->kind == g->kind && g->access.group && next->access.group == g->access.group &&
	       next->op.rm != R_SP && g->op.rm != R_SP;
}

static void move_rsp(struct translation *t, int32_t by)
{
	t->rsp_behind += by;
	if (stack_run_goes_on(t))
		return;
	emit_rm(&t->draft.e, OP_LEA, 1, R_SP, R_SP, t->rsp_behind);
	t->rsp_behind = 0;
}

static void emit_push(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct host_operand m = emit_access(t);

	m.disp += t->rsp_behind;
	note_flags(t);
	emit_push_value(t, g, &m);
	move_rsp(t, -8);
}

static void emit_pop(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct host_operand m = emit_access(t);
	unsigned r = g->op.rm;

	m.disp += t->rsp_behind;
	note_flags(t);
	if (r == R_10 || r == R_11) {
		emit_rop(e, OP_MOV_RM, 1, R_11, &m);
		store_guest(e, R_11, r);
	} else {
		emit_rop(e, OP_MOV_RM, 1, r, &m);
	}
	if (r != R_SP)
		move_rsp(t, 8);
}

static void emit_leave(struct translation *t)
{
	struct emitter *e = &t->draft.e;
	struct host_operand m = emit_access(t);

	note_flags(t);
	emit_rop(e, OP_MOV_RM, 1, R_11, &m); /* RSP is as it was if this faults in the host */
	emit_rm(e, OP_LEA, 1, R_SP, R_BP, 8);
	emit_mov(e, R_BP, R_11);
	t->holds = 0;
}

static void emit_push_mem(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct access a = operand_access(g);

	emit_single(t, &a);
	emit_rm(e, OP_MOV_RM, 1, R_11, R_10, 0);
	emit_stack_probe(t, -8, true, true);
	note_flags(t);
	emit_rm(e, OP_MOV_MR, 1, R_11, R_10, 0);
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, -8);
}

static void emit_insn(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];

	switch (g->kind) {
	case KIND_COPY:
		emit_plain(t);
		break;
	case KIND_MEM:
		emit_with_memory(t);
		break;
	case KIND_LEA:
		emit_lea_insn(t);
		break;
	case KIND_NOTHING:
		break;
	case KIND_PUSH:
		emit_push(t);
		break;
	case KIND_PUSH_MEM:
		emit_push_mem(t);
		break;
	case KIND_POP:
		emit_pop(t);
		break;
	case KIND_LEAVE:
		emit_leave(t);
		break;
	case KIND_CALL:
		emit_call(t);
		break;
	case KIND_CALL_INDIRECT:
		emit_call_indirect(t);
		break;
	case KIND_RET:
		emit_ret(t);
		break;
	case KIND_JMP:
		emit_direct(t, branch_target(g));
		break;
	case KIND_JMP_INDIRECT:
		emit_jmp_indirect(t);
		break;
	case KIND_JCC:
		emit_jcc_insn(t);
		break;
	case KIND_LOOP:
		emit_loop(t);
		break;
	case KIND_LIGHT:
		emit_light(t);
		break;
	default:
		emit_interp(t);
	}
}

/* Entries (internal.h): all in front of the body but the one from backward jumps of blocks that read flags. */
static void emit_entries(struct translation *t, enum flags_in in, uint32_t *poll)
{
	struct emitter *e = &t->draft.e;
	struct block *b = &t->draft.b;

	b->flags_in = (uint8_t)in;
	b->entry[ENTRY_TABLE] = (uint16_t)emit_at(e);
	if (t->floats) {
		emit_rg(e, OP_SUB_RM, 1, R_10, GB(key) + t->mmu_mode * 8);
		emit_rm(e, OP_LEA, 1, R_10, R_10, -(int32_t)page_offset(t, 0));
		emit_rg(e, OP_MOV_MR, 1, R_10, GB(page_va));
	}
	b->entry[ENTRY_POLL] = (uint16_t)emit_at(e);
	emit_alu_g8(e, ALU_CMP, 0, G(poll), 0);
	*poll = emit_jcc(e, t->bt->config->stress.poll ? CC_AE : CC_NE);
	b->entry[ENTRY_FLAGS] = (uint16_t)emit_at(e);
	if (in == FLAGS_IN_HOST)
		load_flags(e);
	b->entry[ENTRY_BODY] = (uint16_t)emit_at(e);
	t->judge = 0;
	if (b->stage != STAGE_JUDGED) {
		unsigned counter = t->bt->next_counter++ % COUNTERS;

		t->bt->runs_left[counter] = b->stage == STAGE_COLD ? COLD_RUNS : TRIAL_RUNS;
		emit8(e, 0x65), emit8(e, 0x66), emit8(e, 0xff), emit8(e, 0x0c), emit8(e, 0x25);
		emit32(e, GB(runs_left) + counter * 2); /* dec word */
		t->judge = emit_jcc(e, CC_E);
	}
	b->entry[ENTRY_BACK] = b->entry[ENTRY_POLL];
}

/* The entry that saves the flags first, out of line. */
static void emit_saving_entries(struct translation *t)
{
	struct emitter *e = &t->draft.e;
	struct block *b = &t->draft.b;

	if (b->flags_in == FLAGS_IN_NONE)
		return;
	b->entry[ENTRY_BACK] = (uint16_t)emit_at(e);
	save_flags(e);
	emit_patch(e, emit_jmp(e), b->entry[ENTRY_POLL]);
	if (b->flags_in == FLAGS_IN_MEMORY)
		b->entry[ENTRY_BODY] = b->entry[ENTRY_BACK]; /* a poll more than needed */
}

static void emit_stubs(struct translation *t, uint32_t poll)
{
	struct draft *d = &t->draft;
	struct emitter *e = &d->e;
	const struct bt *bt = t->bt;

	/* Side exits that leave the page come first: they may add exits. */
	for (unsigned i = 0; i < d->n_far; i++) {
		emit_patch(e, d->far[i].field, emit_at(e));
		t->flags = d->far[i].flags;
		t->i = d->far[i].insn;
		emit_leave_page(t, d->far[i].target);
	}
	emit_second_ways(t);
	emit_slow_sites(t);
	emit_light_sites(t);
	if (d->miss) {
		emit_patch(e, field_of(t, d->miss_field), emit_at(e));
		emit_short_call(t, bt->stub_interp, t->n - 1);
	}
	for (unsigned i = 0; i < d->b.n_exits; i++) {
		struct block_exit *x = &d->exit[i];

		if (x->guard)
			continue;
		x->stub = emit_at(e);
		x->field = field_of(t, x->field);
		emit_patch(e, x->field, x->stub);
		emit_short_call(t, x->entry == ENTRY_BODY ? bt->stub_link : bt->stub_link_memory, i);
	}
	if (t->judge)
		emit_patch(e, t->judge, emit_at(e));
	emit_patch(e, poll, emit_at(e));
	emit_short_call(t, bt->stub_poll, 0);
	emit_saving_entries(t);
}

/*
 * Where the block wants the flags that it is entered with: in the host's flags if an instruction needs them there before
 * anything else would have saved them; in memory if they only pass by.
 */
static enum flags_in flags_wanted(const struct translation *t)
{
	if (!wanted_before(&t->insn[0]))
		return FLAGS_IN_NONE;
	for (unsigned i = 0; i < t->n; i++) {
		const struct guest_insn *g = &t->insn[i];

		if (g->reads || g->kind == KIND_JCC || g->kind == KIND_LOOP || (g->changes_flags && (g->live & ~g->writes)))
			return FLAGS_IN_HOST;
		if (g->access.used || g->kind == KIND_INTERP || g->kind == KIND_LIGHT || g->kind == KIND_PUSH_MEM ||
		    g->kind == KIND_CALL || g->kind == KIND_CALL_INDIRECT || g->kind == KIND_RET ||
		    g->kind == KIND_JMP_INDIRECT)
			return FLAGS_IN_MEMORY;
		if (g->changes_flags)
			return FLAGS_IN_HOST; /* some of them, after all */
	}
	return FLAGS_IN_HOST;
}

/* No counting where the flags that it would destroy are wanted, nor where no probe is. */
static enum stage stage_for(const struct translation *t, enum flags_in in)
{
	bool any = false;

	for (unsigned i = 0; i < t->n; i++)
		any |= t->insn[i].access.used;
	if (!any || in == FLAGS_IN_HOST || t->bt->verify || t->mode & (MODE_SINGLE | MODE_NO_GROUP) ||
	    t->bt->config->stress.slow_memory)
		return STAGE_JUDGED;
	return t->bt->block_stage[site_of(t->gpa)];
}

static void emit_block(struct translation *t)
{
	struct draft *d = &t->draft;
	enum flags_in in = flags_wanted(t);
	uint32_t poll;

	d->b.stage = (uint8_t)stage_for(t, in);
	emit_entries(t, in, &poll);
	t->flags = in == FLAGS_IN_HOST ? FLAGS_HOST : FLAGS_MEMORY;
	t->holds = 0;
	for (t->i = 0; t->i < t->n; t->i++) {
		d->insn[t->i] = (struct block_insn){t->insn[t->i].off, (uint16_t)emit_at(&d->e)};
		if (!t->insn[t->i].access.used && !keeps_r10(&t->insn[t->i]))
			t->holds = 0;
		emit_insn(t);
	}
	d->insn[t->n] = (struct block_insn){(uint16_t)t->len, (uint16_t)emit_at(&d->e)};
	t->i = t->n - 1;
	if (t->falls_through && t->straddles)
		emit_leave_page(t, t->len);
	else if (t->falls_through)
		emit_direct(t, t->len);
	t->straddles = false; /* other exits do not lead there, or by the dispatcher */
	emit_stubs(t, poll);
}

struct block *translate(struct bt *bt, uint64_t va, uint64_t gpa, uint64_t gpa2, const uint8_t *bytes, uint32_t mode)
{
	struct translation *t = bt->translation;
	struct draft *d = &t->draft;
	uint64_t start = __builtin_ia32_rdtsc();
	struct mmu_result r;
	struct block *b;

	t->bt = bt;
	t->va = va;
	t->gpa = gpa;
	t->mode = mode;
	t->mmu_mode = mode & MODE_MMU;
	t->user = t->mmu_mode == MMU_USER;
	t->floats = block_floats(mode);
	t->bytes = bytes;
	t->gpa2 = gpa2;
	memset(d->operand_off, 0, sizeof(d->operand_off));
	memset(d->slot, 0xff, sizeof(d->slot));
	/*
	 * Through another linear address code is modified with a serializing instruction in between (SDM vol. 3,
	 * 11.6), at which a block ends. A page that becomes writable later does so by a change of its mapping.
	 */
	t->writable = mmu_probe(&bt->v->mmu, bt->v->rip, MMU_WRITE, t->mmu_mode, &r);
	t->n_slow = t->n_interp = t->n_calls = t->n_lookups = 0;
	t->x87_noted = false;
	t->rsp_behind = 0;
	memset(&d->b, 0, sizeof(d->b));
	d->n_fixups = d->n_ids = d->n_shorts = d->n_far = 0;
	d->miss = false;
	d->e = (struct emitter){.base = d->code, .p = d->code, .end = d->code + sizeof(d->code)};
	analyse(t);
	emit_block(t);
	if (emit_full(&d->e))
		return NULL;
	d->b.gpa = gpa;
	d->b.gpa2 = gpa2;
	d->b.va = va;
	d->b.mode = mode;
	d->b.writable = t->writable;
	d->b.len = (uint16_t)t->len;
	d->b.n_insns = (uint16_t)t->n;
	b = cache_commit(bt, d);
	if (b && bt->verify)
		verify_translated(bt, b);
	bt->stat[STAT_BLOCKS]++;
	bt->stat[STAT_INSNS] += t->n;
	bt->stat[STAT_BYTES_IN] += t->len;
	bt->stat[STAT_BYTES_OUT] += emit_at(&d->e);
	bt->stat[STAT_TRANSLATION] += __builtin_ia32_rdtsc() - start;
	return b;
}

int translation_new(struct bt *bt, struct err *err)
{
	struct translation *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (t == MAP_FAILED)
		return err_set(err, ENOMEM, "out of host memory");
	insn_decoder_init(&t->decoder);
	bt->translation = t;
	return 0;
}

void translation_free(struct bt *bt)
{
	if (bt->translation)
		munmap(bt->translation, sizeof(*bt->translation));
	bt->translation = NULL;
}

const struct insn_decoder *translation_decoder(const struct bt *bt)
{
	return &bt->translation->decoder;
}
