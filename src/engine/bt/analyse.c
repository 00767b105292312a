/* Decoding a block and what can be known of its instructions before any code is made. */
#include "engine/bt/translate.h"
#include "x86/gpr.h"

static uint8_t flag_bits(ZydisAccessedFlagsMask m)
{
	uint8_t f = 0;

	f |= m & ZYDIS_CPUFLAG_CF ? F_CF : 0;
	f |= m & ZYDIS_CPUFLAG_PF ? F_PF : 0;
	f |= m & ZYDIS_CPUFLAG_AF ? F_AF : 0;
	f |= m & ZYDIS_CPUFLAG_ZF ? F_ZF : 0;
	f |= m & ZYDIS_CPUFLAG_SF ? F_SF : 0;
	f |= m & ZYDIS_CPUFLAG_OF ? F_OF : 0;
	return f;
}

/*
 * Flags that the manuals call undefined: whether the CPU computes them from the operands, or may leave what was there.
 * In doubt the old value counts as read.
 */
static bool defines_undefined_flags(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_ANDN:
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_BLSR:
	case ZYDIS_MNEMONIC_BLSI:
	case ZYDIS_MNEMONIC_BLSMSK:
	case ZYDIS_MNEMONIC_BZHI:
	case ZYDIS_MNEMONIC_BEXTR:
		return true;
	default:
		return false;
	}
}

/* A count of 0 leaves all flags alone. */
static bool may_leave_flags(const struct guest_insn *g)
{
	unsigned mask = g->op.op_size == 8 ? 63 : 31;

	switch (g->op.mnemonic) {
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
		if (g->op.opcode == 0xd0 || g->op.opcode == 0xd1)
			return false;
		return (g->op.opcode & 0xfe) != 0xc0 || !(g->op.imm & mask);
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
		return (g->op.opcode & 1) || !(g->op.imm & mask);
	default:
		return false;
	}
}

static void take_flags(struct guest_insn *g)
{
	const ZydisAccessedFlags *f = g->insn.z.cpu_flags;
	uint8_t surely, undefined;

	if (!f)
		return;
	surely = flag_bits(f->modified | f->set_0 | f->set_1);
	undefined = flag_bits(f->undefined);
	g->reads = flag_bits(f->tested);
	g->changes_flags = surely | undefined;
	if (defines_undefined_flags(g->insn.z.mnemonic))
		surely |= undefined;
	else
		surely &= (uint8_t)~undefined;
	g->writes = may_leave_flags(g) ? 0 : surely;
	if (g->insn.z.mnemonic == ZYDIS_MNEMONIC_LAHF)
		g->reads = F_ALL & ~F_OF;
}

static void take_registers(struct guest_insn *g)
{
	for (unsigned i = 0; i < g->insn.z.operand_count; i++) {
		const ZydisDecodedOperand *o = &g->insn.op[i];
		unsigned r = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? x86_gpr(o->reg.value) : X86_NO_GPR;
		bool write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		if (r == X86_NO_GPR)
			continue;
		g->uses_r10 |= r == R_10;
		g->uses_r11 |= r == R_11;
		if (!write)
			continue;
		g->writes_r10 |= r == R_10;
		g->writes_r11 |= r == R_11;
		g->gpr_written |= (uint16_t)(1u << r);
	}
}

/* A gather or a scatter: its operands are as many as its elements, and its index is no general register. */
static bool has_vsib(const struct guest_insn *g)
{
	for (unsigned i = 0; i < g->insn.z.operand_count; i++)
		if (g->insn.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && g->insn.op[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			return true;
	return false;
}

static bool fpu_usable(unsigned need, uint32_t mode)
{
	switch (need) {
	case FPU_NONE:
		return true;
	case FPU_X87:
	case FPU_MMX:
		return mode & MODE_X87;
	case FPU_WAIT:
		return mode & MODE_WAIT;
	case FPU_SSE:
		return mode & MODE_SSE;
	case FPU_VEX:
	case FPU_AVX:
		return mode & MODE_AVX;
	default:
		return mode & MODE_AVX512;
	}
}

/* These would show where the host's copy of an instruction lies, or are too rare to care for. */
static bool left_to_interpreter(const struct guest_insn *g)
{
	switch (g->op.mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNCLEX: /* FOP is taken for the copy's while FSW.ES is set: fpu.c */
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		return true;
	default:
		return cpu_op_is_bit_string(&g->op);
	}
}

static enum kind native_kind(const struct guest_insn *g, uint32_t mode)
{
	const struct cpu_op *op = &g->op;

	if (!fpu_usable(op->fpu, mode) || insn_has_hidden_memory(&g->insn) || has_vsib(g) || left_to_interpreter(g))
		return KIND_INTERP;
	if (op->mnemonic == ZYDIS_MNEMONIC_LEA)
		return op->base == EA_RIP && op->addr_size != 8 ? KIND_INTERP : KIND_LEA;
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
		return KIND_NOTHING;
	default:
		break;
	}
	if (op->flags & OP_NO_ACCESS)
		return KIND_NOTHING;
	if (!(op->flags & OP_MEM))
		return KIND_COPY;
	/* An offset of 64 bits, EIP-relative addresses, and more registers than there are to spare. */
	if (!(g->insn.z.attributes & ZYDIS_ATTRIB_HAS_MODRM) || (op->base == EA_RIP && op->addr_size != 8) ||
	    !op->mem_size || op->mem_size > 128 || (g->uses_r10 && g->uses_r11))
		return KIND_INTERP;
	return KIND_MEM;
}

static bool is_near(const struct guest_insn *g)
{
	return g->insn.z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
}

static enum kind control_kind(const struct translation *t, const struct guest_insn *g)
{
	const struct cpu_op *op = &g->op;
	bool direct = g->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if (!is_near(g) || (op->flags & OP_MEM && op->base == EA_RIP && op->addr_size != 8))
		return KIND_INTERP;
	/* To where no code can be the jump itself faults. (Blocks near there do not float.) */
	if (direct && !t->floats && !canonical(t->va + g->off + op->len + op->imm))
		return KIND_INTERP;
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return op->op_size != 8 ? KIND_INTERP : direct ? KIND_JMP : KIND_JMP_INDIRECT;
	case ZYDIS_MNEMONIC_CALL:
		return op->op_size != 8 ? KIND_INTERP : direct ? KIND_CALL : KIND_CALL_INDIRECT;
	case ZYDIS_MNEMONIC_RET:
		return op->op_size == 8 ? KIND_RET : KIND_INTERP;
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		return op->op_size == 2 ? KIND_INTERP : KIND_LOOP;
	default:
		return op->op_size == 2 ? KIND_INTERP : KIND_JCC;
	}
}

static enum kind stack_kind(const struct guest_insn *g)
{
	const struct cpu_op *op = &g->op;

	if (op->op_size != 8)
		return KIND_INTERP;
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		if (op->flags & OP_MEM)
			return op->base == EA_RIP && op->addr_size != 8 ? KIND_INTERP : KIND_PUSH_MEM;
		return KIND_PUSH;
	case ZYDIS_MNEMONIC_POP:
		return op->flags & OP_MEM ? KIND_INTERP : KIND_POP;
	case ZYDIS_MNEMONIC_LEAVE:
		return KIND_LEAVE;
	default:
		return KIND_INTERP;
	}
}

/* Whether what it refers to by RIP, counted from a floating block's page, is beyond a displacement of 32 bits. */
static bool too_far(const struct translation *t, const struct guest_insn *g)
{
	int64_t disp = 0;

	if (!t->floats)
		return false;
	if (g->op.base == EA_RIP)
		disp = g->op.disp;
	else if (g->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && g->insn.op[0].imm.is_relative)
		disp = (int64_t)g->op.imm;
	return disp > INT32_MAX - 2 * (int64_t)GUEST_PAGE_SIZE;
}

static enum kind classify(struct translation *t, struct guest_insn *g)
{
	const struct insn_info *info = insn_form_info(&g->insn);

	if (!cpu_model_allows(t->bt->v->model, &g->insn.z))
		return KIND_INTERP;
	/* Never twice the same: not to be compared. */
	if (t->bt->verify && (g->op.mnemonic == ZYDIS_MNEMONIC_RDRAND || g->op.mnemonic == ZYDIS_MNEMONIC_RDSEED))
		return KIND_INTERP;
	if (too_far(t, g))
		return KIND_INTERP;
	if (light_classify(t, g))
		return KIND_LIGHT;
	switch (info->bt) {
	case INSN_VECTOR_MEM:
		/* Of masked operands the probe asks for all; what it refuses is looked at element by element. */
		return g->op.flags & OP_MASKED ? native_kind(g, t->mode) : KIND_INTERP;
	case INSN_NATIVE:
		return native_kind(g, t->mode);
	case INSN_CONTROL:
		return control_kind(t, g);
	case INSN_STACK:
		return stack_kind(g);
	default:
		return KIND_INTERP;
	}
}

static bool ends_block(const struct guest_insn *g)
{
	switch (g->kind) {
	case KIND_LIGHT:
		return light_ends_block(g);
	case KIND_CALL:
	case KIND_CALL_INDIRECT:
	case KIND_RET:
	case KIND_JMP:
	case KIND_JMP_INDIRECT:
	case KIND_INTERP:
		return true;
	default:
		return false;
	}
}

static bool stores(const struct guest_insn *g)
{
	return g->access.used ? g->access.write : g->kind == KIND_PUSH_MEM || g->kind == KIND_LIGHT;
}

/* The instruction of this block that a jump leads to; t->n: somewhere else. */
static unsigned target_in_block(const struct translation *t, const struct guest_insn *g)
{
	unsigned i = t->n;

	if (g->kind != KIND_JCC && g->kind != KIND_LOOP && g->kind != KIND_JMP)
		return t->n;
	while (i-- > 0)
		if (t->insn[i].off == branch_target(g))
			return i;
	return t->n;
}

/* What is wanted of the flags after g, given what is wanted before the next instruction and at g's target. */
static uint8_t live_after(const struct translation *t, const struct guest_insn *g, uint8_t next, const uint8_t *before)
{
	unsigned target = before ? target_in_block(t, g) : t->n;

	/* After a store into this block what comes next may be something else, that reads them. */
	if (t->writable && stores(g))
		return F_ALL;
	if (target < t->n)
		return before[target] | (g->kind == KIND_JMP ? 0 : next);
	return ends_block(g) || g->kind == KIND_JCC || g->kind == KIND_LOOP ? F_ALL : next;
}

/* One pass from the end. before: what is wanted before each instruction, where jumps within the block find it, or NULL. */
static bool pass_liveness(struct translation *t, uint8_t *before)
{
	uint8_t live = F_ALL;
	bool changed = false;

	for (unsigned i = t->n; i-- > 0;) {
		struct guest_insn *g = &t->insn[i];

		g->live = live_after(t, g, live, before);
		live = (uint8_t)((g->live & ~g->writes) | g->reads);
		/* What C code does, and what may leave the flags as they were, sees them all. */
		if (g->kind == KIND_INTERP || (g->kind == KIND_LIGHT && !g->flags_unseen) || (g->changes_flags && may_leave_flags(g)))
			live = F_ALL;
		if (before) {
			changed |= before[i] != live;
			before[i] = live;
		}
	}
	return changed;
}

/*
 * Elsewhere nothing is known of what code does with the flags. Of a loop that is this block it is: the least solution, from
 * nothing wanted upwards. Not where every instruction is looked at.
 */
static void take_liveness(struct translation *t)
{
	uint8_t before[MAX_INSNS] = {0};

	if (t->mode & MODE_SINGLE || t->bt->verify)
		pass_liveness(t, NULL);
	else
		while (pass_liveness(t, before))
			;
}

/* false: its bytes go on in the next page. */
static bool decode_one(struct translation *t, struct guest_insn *g, unsigned room)
{
	enum decode_result r = insn_decode(&t->decoder, X86_MODE_64, t->bytes + t->len, min_u64(room, X86_INSN_MAX),
					   &g->insn);

	g->off = (uint16_t)t->len;
	if (r == DECODE_SHORT && t->n)
		return false;
	if (r != DECODE_OK) {
		g->kind = KIND_INTERP;
		g->op.len = (uint8_t)min_u64(room, X86_INSN_MAX);
		return true;
	}
	cpu_op_init(&g->op, &g->insn, X86_MODE_64);
	take_registers(g);
	take_flags(g);
	g->kind = classify(t, g);
	return true;
}

void analyse(struct translation *t)
{
	bool crossing = t->gpa2 != NO_PAGE;
	unsigned room = crossing ? X86_INSN_MAX : (unsigned)(GUEST_PAGE_SIZE - (t->gpa & 0xfff));
	unsigned max = crossing || t->mode & MODE_SINGLE ? 1 : MAX_INSNS, exits = 0;

	t->n = t->len = 0;
	t->falls_through = true;
	t->straddles = false;
	while (t->n < max && t->len < room) {
		struct guest_insn *g = &t->insn[t->n];

		memset(&g->op, 0, sizeof(*g) - offsetof(struct guest_insn, op)); /* insn is filled in, or not looked at */
		if (!decode_one(t, g, room - t->len)) {
			t->straddles = true;
			break;
		}
		t->n++;
		t->len += g->op.len;
		if (ends_block(g)) {
			t->falls_through = false;
			break;
		}
		exits += g->kind == KIND_JCC || g->kind == KIND_LOOP;
		if (exits + 2 >= MAX_EXITS)
			break;
	}
	plan_groups(t);
	take_liveness(t);
}
