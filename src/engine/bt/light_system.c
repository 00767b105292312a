/* SYSCALL, SYSRET, PUSHF and POPF in line: SDM vol. 2 and AMD APM vol. 3. src/cpu/system.c and flags.c have them whole. */
#include "engine/bt/light.h"

#define STATUS_LOW (FLAG_STATUS & 0xff)

/* vcpu.status has SF ZF AF PF CF in 15..8, OF in 0. */
void emit_rflags(struct emitter *e)
{
	emit_rg(e, OP_MOVZX16, 0, R_11, G(status));
	emit_rr(e, OP_MOV_RM, 0, R_10, R_11);
	emit_shift(e, SHIFT_SHR, 0, R_11, 8);
	emit_shift(e, SHIFT_SHL, 0, R_10, 11);
	emit_alu_ri(e, ALU_AND, 0, R_11, STATUS_LOW);
	emit_alu_ri(e, ALU_AND, 0, R_10, FLAG_OF);
	emit_rr(e, OP_ADD_RM, 0, R_10, R_11);
	emit_alu_ri(e, ALU_ADD, 0, R_10, FLAG_1);
	emit_rg(e, OP_ADD_RM, 0, R_10, G(sys_flags)); /* RF and VM are clear in translated code */
}

void emit_set_status(struct emitter *e)
{
	emit_rr(e, OP_MOV_RM, 0, R_10, R_11);
	emit_alu_ri(e, ALU_AND, 0, R_11, STATUS_LOW);
	emit_shift(e, SHIFT_SHR, 0, R_10, 11);
	emit_shift(e, SHIFT_SHL, 0, R_11, 8);
	emit_alu_ri(e, ALU_AND, 0, R_10, 1);
	emit_rr(e, OP_ADD_RM, 0, R_10, R_11);
	emit_store16_g(e, R_10, G(status));
}

/* Their hidden parts; CS's selector is in register cs, SS's in ss. */
static void emit_flat_segments(struct emitter *e, unsigned cs, unsigned ss, unsigned cpl)
{
	emit_store16_g(e, cs, GSEG(S_CS, sel));
	emit_store16_g(e, ss, GSEG(S_SS, sel));
	emit_mov_gi(e, 0, GSEG(S_CS, attr), (int32_t)(FLAT_CODE | cpl << 5));
	emit_mov_gi(e, 0, GSEG(S_SS, attr), (int32_t)(FLAT_STACK | cpl << 5));
	emit_mov_gi(e, 0, GSEG(S_CS, limit), -1);
	emit_mov_gi(e, 0, GSEG(S_SS, limit), -1);
	emit_mov_gi(e, 1, GSEG(S_CS, base), 0);
	emit_mov_gi(e, 1, GSEG(S_SS, base), 0);
	emit_set_cpl(e, cpl);
}

/* Looks R10 up in the jump table for an MMU mode; R10 = address + key, bt.target = where it leads. Uses R11. */
static void emit_find(struct translation *t, unsigned mode)
{
	struct emitter *e = &t->draft.e;
	unsigned mine = t->mmu_mode;

	t->mmu_mode = mode;
	interp_site(t, emit_lookup(t));
	t->mmu_mode = mine;
	emit_rgb(e, OP_MOV_RM, 1, R_11, R_11, GB(jump) + offsetof(struct jump, host));
	emit_rg(e, OP_MOV_MR, 1, R_11, GB(target));
}

/* From CPL 3. SFMASK must clear the status flags and AC, as every kernel's does; else it is the interpreter's. */
void emit_syscall(struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;

	flags_to_memory(t);
	t->flags = FLAGS_MEMORY;
	emit_test_g8(e, G(efer), EFER_SCE);
	interp_if(t, CC_E);
	emit_rg(e, OP_MOV_RM, 0, R_11, G(sfmask));
	emit_alu_ri(e, ALU_AND, 0, R_11, FLAG_STATUS | FLAG_AC);
	emit_alu_ri(e, ALU_CMP, 0, R_11, FLAG_STATUS | FLAG_AC);
	interp_if(t, CC_NE);
	emit_rg(e, OP_MOV_RM, 1, R_10, G(lstar));
	emit_find(t, MMU_KERNEL);
	/* From here on nothing fails. RCX is free. */
	emit_rflags(e);
	store_guest(e, R_10, R_11);
	emit_rg(e, OP_MOV_RM, 0, R_11, G(sfmask));
	emit_rex_op(e, 0xf7, 0, 0, 0, R_11); /* not r11d */
	emit_modrm(e, 3, 2, R_11);
	emit_rg(e, 0x21, 0, R_11, G(sys_flags)); /* and gs:[sys_flags], r11d */
	emit_mov_g16(e, G(status), 0);
	emit_rg(e, OP_MOV_RM, 0, R_10, G(star) + 4);
	emit_alu_ri(e, ALU_AND, 0, R_10, 0xfffc);
	emit_rm(e, OP_LEA, 0, R_11, R_10, 8);
	emit_flat_segments(e, R_10, R_11, 0);
	emit_code_address(t, R_CX, g->off + g->op.len);
	if (t->bt->verify) {
		emit_rg(e, OP_MOV_RM, 1, R_10, G(lstar));
		emit_rg(e, OP_ADD_RM, 1, R_10, GB(key) + MMU_KERNEL * 8);
	}
	emit_jmp_g(e, GB(target));
}

#define SYSRET_FLAGS (FLAG_STATUS | FLAG_1 | FLAG_IF | FLAG_DF | FLAG_ID) /* others need more than a store */

/* To 64-bit code at CPL 3. */
void emit_sysret(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	t->flags = FLAGS_MEMORY; /* R11's */
	emit_test_g8(e, G(efer), EFER_SCE);
	interp_if(t, CC_E);
	load_guest(e, R_11, R_11);
	emit_test_ri(e, R_11, ~(uint32_t)SYSRET_FLAGS);
	interp_if(t, CC_NE);
	emit_alu_g8(e, ALU_CMP, 0, G(request), 0);
	interp_if(t, CC_NE);
	emit_mov(e, R_10, R_CX);
	emit_find(t, MMU_USER);
	load_guest(e, R_11, R_11);
	emit_rr(e, OP_MOV_RM, 0, R_10, R_11);
	emit_alu_ri(e, ALU_AND, 0, R_10, FLAG_IF | FLAG_DF | FLAG_ID);
	emit_rg(e, OP_MOV_MR, 0, R_10, G(sys_flags));
	emit_set_status(e);
	emit_rg(e, OP_MOVZX16, 0, R_10, G(star) + 6);
	emit_rm(e, OP_LEA, 0, R_11, R_10, 8);
	emit_alu_ri(e, ALU_ADD, 0, R_10, 16);
	emit_alu_ri(e, ALU_OR, 0, R_11, 3);
	emit_alu_ri(e, ALU_OR, 0, R_10, 3);
	emit_flat_segments(e, R_10, R_11, 3);
	emit_mov(e, R_10, R_CX);
	emit_rg(e, OP_ADD_RM, 1, R_10, GB(key) + MMU_USER * 8);
	emit_jmp_g(e, GB(target));
}

void emit_pushf(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	flags_to_memory(t);
	t->flags = FLAGS_MEMORY;
	t->retry = emit_at(e);
	emit_stack_probe(t, -8, true, true);
	emit_rg(e, OP_MOV_MR, 1, R_10, GB(temp));
	emit_rflags(e);
	emit_rg(e, OP_MOV_RM, 1, R_11, GB(temp));
	t->draft.b.mem_flags |= BIT(t->i);
	emit_rm(e, OP_MOV_MR, 1, R_10, R_11, 0);
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, -8);
}

/* What may change here: IF (at CPL 0) and DF. Changes of the rest are the interpreter's. */
void emit_popf(struct translation *t)
{
	struct emitter *e = &t->draft.e;
	uint32_t rare = FLAG_TF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID | (t->user ? (uint32_t)FLAG_IF : 0);
	uint32_t same, masked;

	clobber_flags(t, wanted_before(&t->insn[t->i]));
	t->retry = emit_at(e);
	emit_stack_probe(t, 0, false, true);
	t->draft.b.mem_flags |= BIT(t->i);
	emit_rm(e, OP_MOV_RM, 1, R_11, R_10, 0);
	emit_rg(e, OP_MOV_RM, 0, R_10, G(sys_flags));
	emit_rr(e, OP_XOR_RM, 0, R_10, R_11);
	emit_test_ri(e, R_10, rare);
	interp_if(t, CC_NE);
	emit_alu_ri(e, ALU_AND, 0, R_10, t->user ? FLAG_DF : FLAG_IF | FLAG_DF);
	same = emit_jcc(e, CC_E);
	emit_test_ri(e, R_11, FLAG_IF);
	masked = emit_jcc(e, CC_E);
	emit_alu_g8(e, ALU_CMP, 0, G(request), 0);
	interp_if(t, CC_NE);
	emit_patch(e, masked, emit_at(e));
	emit_rg(e, 0x31, 0, R_10, G(sys_flags)); /* xor gs:[sys_flags], r10d */
	emit_patch(e, same, emit_at(e));
	emit_set_status(e);
	emit_rm(e, OP_LEA, 1, R_SP, R_SP, 8);
	t->flags = FLAGS_MEMORY;
}
