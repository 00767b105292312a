/*
 * Stubs: generated once per vCPU, at the cache's beginning. Translated code jumps to them with its argument in R11 (and
 * an address in R10); they store the guest's registers in the vCPU, call a C function on the host stack, load the
 * registers again, maybe changed, and go where it says.
 */
#include "engine/bt/internal.h"

typedef uint64_t (*stub_fn)(struct vcpu *v, uint64_t arg, uint64_t va);

static bool is_scratch(unsigned r)
{
	return r == R_10 || r == R_11;
}

/* Status flags, then registers, from the vCPU; on to bt.target. */
static void emit_resume(struct emitter *e)
{
	emit_rg(e, OP_MOVZX16, 0, R_AX, G(status));
	emit8(e, 0x04), emit8(e, 0x7f);
	emit8(e, 0x9e);
	for (unsigned r = 0; r < 16; r++)
		if (!is_scratch(r))
			emit_rg(e, OP_MOV_RM, 1, r, G(gpr) + r * 8);
	emit_rg(e, OP_MOV_RM, 1, R_10, GB(enter_r10));
	emit_jmp_g(e, GB(target));
}

static void emit_save(struct emitter *e, bool flags)
{
	emit_rg(e, OP_MOV_MR, 1, R_AX, G(gpr));
	if (flags) {
		emit8(e, 0x9f);
		emit8(e, 0x0f), emit8(e, 0x90), emit8(e, 0xc0);
		emit8(e, 0x65), emit8(e, 0x66), emit8(e, 0x89), emit8(e, 0x04), emit8(e, 0x25);
		emit32(e, G(status));
	}
	for (unsigned r = 1; r < 16; r++)
		if (!is_scratch(r))
			emit_rg(e, OP_MOV_MR, 1, r, G(gpr) + r * 8);
}

static uint64_t where(const struct bt *bt, const struct emitter *e)
{
	return cache_exec(bt, emit_at(e));
}

static uint64_t make_call(struct bt *bt, struct emitter *e, stub_fn fn, bool registers, bool flags)
{
	uint64_t at = where(bt, e);

	if (registers)
		emit_save(e, flags);
	emit_rg(e, OP_MOV_RM, 1, R_SP, GB(host_rsp));
	emit_mov_ri(e, R_DI, (uint64_t)bt->v);
	emit_mov(e, R_SI, R_11);
	emit_mov(e, R_DX, R_10);
	emit_mov_ri(e, R_AX, (uint64_t)fn);
	emit8(e, 0xff), emit8(e, 0xd0); /* call rax */
	emit_rg(e, OP_MOV_MR, 1, R_AX, GB(target));
	emit_resume(e);
	return at;
}

/*
 * A failed probe: first the C function that refills the TLB, with only the registers saved that C may change (the guest's
 * flags are in vcpu.status already). It returns where to retry, or 0: on to the whole stub.
 */
static uint64_t make_refill(struct bt *bt, struct emitter *e, stub_fn refill, uint64_t full)
{
	static const uint8_t caller_saved[] = {R_AX, R_CX, R_DX, R_SI, R_DI, R_8, R_9, R_SP};
	uint64_t at = where(bt, e);
	uint32_t failed;

	for (unsigned i = 0; i < ARRAY_SIZE(caller_saved); i++)
		emit_rg(e, OP_MOV_MR, 1, caller_saved[i], G(gpr) + caller_saved[i] * 8);
	emit_rg(e, OP_MOV_MR, 1, R_10, GB(refill_va));
	emit_rg(e, OP_MOV_MR, 1, R_11, GB(refill_arg));
	emit_rg(e, OP_MOV_RM, 1, R_SP, GB(host_rsp));
	emit_mov_ri(e, R_DI, (uint64_t)bt->v);
	emit_mov(e, R_SI, R_11);
	emit_mov(e, R_DX, R_10);
	emit_mov_ri(e, R_AX, (uint64_t)refill);
	emit8(e, 0xff), emit8(e, 0xd0); /* call rax */
	emit_rg(e, OP_MOV_MR, 1, R_AX, GB(target));
	emit_rr(e, 0x85, 1, R_AX, R_AX); /* test rax, rax */
	for (unsigned i = 0; i < ARRAY_SIZE(caller_saved); i++)
		emit_rg(e, OP_MOV_RM, 1, caller_saved[i], G(gpr) + caller_saved[i] * 8);
	failed = emit_jcc(e, CC_E);
	emit_jmp_g(e, GB(target));
	emit_patch(e, failed, emit_at(e));
	emit_rg(e, OP_MOV_RM, 1, R_10, GB(refill_va));
	emit_rg(e, OP_MOV_RM, 1, R_11, GB(refill_arg));
	emit_patch(e, emit_jmp(e), (uint32_t)(emit_at(e) - (where(bt, e) - full)));
	return at;
}

/*
 * The jump-table probe of direct jumps whose guard has failed. R10: linear address, R11: the exit, for who links it: after a
 * miss, and once in a while, so that those are chained that come here often.
 */
static uint64_t make_lookup(struct bt *bt, struct emitter *e, unsigned mmu_mode)
{
	uint64_t at = where(bt, e);
	uint32_t found, relink;

	emit_rg(e, 0xff, 0, 1, GB(relink_in)); /* dec dword */
	relink = emit_jcc(e, CC_E);
	emit_rg(e, OP_MOV_MR, 1, R_11, GB(temp));
	emit_rr(e, OP_MOV_RM, 0, R_11, R_10);
	emit_rr(e, OP_ADD_RM, 0, R_11, R_11);
	emit_alu_ri(e, ALU_AND, 0, R_11, (int32_t)((JUMP_SLOTS - 1) * sizeof(struct jump)));
	emit_rg(e, OP_ADD_RM, 1, R_10, GB(key) + mmu_mode * 8);
	emit_rgb(e, OP_CMP_RM, 1, R_10, R_11, GB(jump) + offsetof(struct jump, key));
	found = emit_jcc(e, CC_E);
	emit_alu_ri(e, ALU_ADD, 0, R_11, JUMP_SLOTS * sizeof(struct jump));
	emit_rgb(e, OP_CMP_RM, 1, R_10, R_11, GB(jump) + offsetof(struct jump, key));
	emit_patch(e, found, emit_at(e) + 6); /* over the next jump */
	found = emit_jcc(e, CC_NE);
	emit_jmp_gb(e, R_11, GB(jump) + offsetof(struct jump, host));
	emit_patch(e, found, emit_at(e));
	emit_rg(e, OP_MOV_RM, 1, R_11, GB(temp));
	emit_patch(e, relink, emit_at(e));
	emit_patch(e, emit_jmp(e), (uint32_t)(emit_at(e) - (where(bt, e) - bt->stub_link_memory)));
	return at;
}

static const uint8_t saved[] = {R_BX, R_BP, R_12, R_13, R_14, R_15};

static void emit_push_reg(struct emitter *e, unsigned r)
{
	emit_rex_op(e, 0x50 | (r & 7), 0, 0, 0, r);
}

static void emit_pop_reg(struct emitter *e, unsigned r)
{
	emit_rex_op(e, 0x58 | (r & 7), 0, 0, 0, r);
}

/* void enter(uint64_t host): from C into translated code; returns when something goes to stub_leave. */
static void make_enter_leave(struct bt *bt, struct emitter *e)
{
	bt->stub_enter = where(bt, e);
	for (unsigned i = 0; i < ARRAY_SIZE(saved); i++)
		emit_push_reg(e, saved[i]);
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, -8);
	emit_rg(e, OP_MOV_MR, 1, R_SP, GB(host_rsp));
	emit_rg(e, OP_MOV_MR, 1, R_DI, GB(target));
	emit_resume(e);

	bt->stub_leave = where(bt, e);
	emit_rg(e, OP_MOV_RM, 1, R_SP, GB(host_rsp));
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, 8);
	for (unsigned i = ARRAY_SIZE(saved); i-- > 0;)
		emit_pop_reg(e, saved[i]);
	emit8(e, 0xc3);
}

void stubs_make(struct bt *bt)
{
	struct emitter e;

	cache_stub_room(bt, &e);
	make_enter_leave(bt, &e);
	bt->stub_link = make_call(bt, &e, bt_link, true, true);
	bt->stub_link_memory = make_call(bt, &e, bt_link, true, false);
	bt->stub_poll = make_call(bt, &e, bt_poll, true, false);
	bt->stub_slow = make_call(bt, &e, bt_slow, true, false);
	bt->stub_slow = make_refill(bt, &e, bt_refill, bt->stub_slow);
	bt->stub_verify = make_call(bt, &e, bt_verify_jump, true, false);
	bt->stub_string = make_call(bt, &e, bt_string, true, false);
	bt->stub_interp = make_call(bt, &e, bt_interp, true, false);
	bt->stub_light = make_call(bt, &e, bt_light, true, false);
	for (unsigned mode = 0; mode < MMU_MODES; mode++)
		bt->stub_lookup[mode] = make_lookup(bt, &e, mode);
	bt->stub_store_done = make_call(bt, &e, bt_store_done, true, false);
	bt->stub_store_done_flags = make_call(bt, &e, bt_store_done, true, true);
	bt->stub_fault = make_call(bt, &e, bt_host_fault, false, false);
}
