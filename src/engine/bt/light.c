/*
 * Sensitive instructions that need not leave translated code for the interpreter (VM assists): a few host instructions
 * where that is all there is to do, else a light call, C code that runs with the guest's vector state in the hardware.
 *
 * Interrupts. Translated code looks for requests at polls; an instruction that sets IF must also find those that came while
 * it was clear, so with a request pending it is the interpreter's, whose way back is by way of run()'s loop.
 *
 * AC. STAC and CLAC change which TLB an access uses from one instruction to the next: translation.mmu_mode follows them
 * within the block, and vcpu.mmu_mode is what C code goes by.
 */
#include "engine/bt/light.h"

enum light {
	LIGHT_STRING, /* light_string.c's */
	LIGHT_CALL,
	LIGHT_CLI, LIGHT_STI, LIGHT_CLD, LIGHT_STD, LIGHT_STAC, LIGHT_CLAC, LIGHT_PUSHF, LIGHT_POPF,
	LIGHT_SYSCALL, LIGHT_SYSRET, LIGHT_SWAPGS, LIGHT_RDBASE, LIGHT_WRBASE, LIGHT_RDTSC, LIGHT_RDTSCP,
	LIGHT_BITS, LIGHT_FROM_CR,
};

enum who { ANYONE = 1, SUPERVISOR = 2, ENDS = 4 };
#define NO_ASSIST 255

static const struct {
	uint16_t mnemonic;
	uint8_t light, assist, flags;
} table[] = {
	{ZYDIS_MNEMONIC_CLI, LIGHT_CLI, ASSIST_IF, SUPERVISOR},
	{ZYDIS_MNEMONIC_STI, LIGHT_STI, ASSIST_IF, SUPERVISOR},
	{ZYDIS_MNEMONIC_CLD, LIGHT_CLD, ASSIST_IF, ANYONE},
	{ZYDIS_MNEMONIC_STD, LIGHT_STD, ASSIST_IF, ANYONE},
	{ZYDIS_MNEMONIC_PUSHFQ, LIGHT_PUSHF, ASSIST_IF, ANYONE},
	{ZYDIS_MNEMONIC_POPFQ, LIGHT_POPF, ASSIST_IF, ANYONE},
	{ZYDIS_MNEMONIC_STAC, LIGHT_STAC, ASSIST_SMAP, SUPERVISOR},
	{ZYDIS_MNEMONIC_CLAC, LIGHT_CLAC, ASSIST_SMAP, SUPERVISOR},
	{ZYDIS_MNEMONIC_SYSCALL, LIGHT_SYSCALL, ASSIST_SYSCALL, ANYONE | ENDS},
	{ZYDIS_MNEMONIC_SYSRET, LIGHT_SYSRET, ASSIST_SYSCALL, SUPERVISOR | ENDS},
	{ZYDIS_MNEMONIC_IRETQ, LIGHT_CALL, ASSIST_IRET, ANYONE | ENDS},
	{ZYDIS_MNEMONIC_SWAPGS, LIGHT_SWAPGS, ASSIST_SWAPGS, SUPERVISOR},
	{ZYDIS_MNEMONIC_RDFSBASE, LIGHT_RDBASE, ASSIST_SWAPGS, ANYONE},
	{ZYDIS_MNEMONIC_RDGSBASE, LIGHT_RDBASE, ASSIST_SWAPGS, ANYONE},
	{ZYDIS_MNEMONIC_WRFSBASE, LIGHT_WRBASE, ASSIST_SWAPGS, ANYONE},
	{ZYDIS_MNEMONIC_WRGSBASE, LIGHT_WRBASE, ASSIST_SWAPGS, ANYONE},
	{ZYDIS_MNEMONIC_RDTSC, LIGHT_RDTSC, ASSIST_TSC, ANYONE},
	{ZYDIS_MNEMONIC_RDTSCP, LIGHT_RDTSCP, ASSIST_TSC, ANYONE},
	{ZYDIS_MNEMONIC_RDMSR, LIGHT_CALL, ASSIST_MSR, SUPERVISOR},
	{ZYDIS_MNEMONIC_WRMSR, LIGHT_CALL, ASSIST_MSR, SUPERVISOR},
	{ZYDIS_MNEMONIC_CLTS, LIGHT_CALL, ASSIST_CR3, SUPERVISOR},
	{ZYDIS_MNEMONIC_SMSW, LIGHT_CALL, ASSIST_CR3, SUPERVISOR},
	{ZYDIS_MNEMONIC_INVLPG, LIGHT_CALL, ASSIST_INVLPG, SUPERVISOR},
	{ZYDIS_MNEMONIC_INVPCID, LIGHT_CALL, ASSIST_INVLPG, SUPERVISOR},
	{ZYDIS_MNEMONIC_IN, LIGHT_CALL, ASSIST_IO, SUPERVISOR},
	{ZYDIS_MNEMONIC_OUT, LIGHT_CALL, ASSIST_IO, SUPERVISOR},
	{ZYDIS_MNEMONIC_FXSAVE64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_FXRSTOR64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_XSAVE64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_XSAVEOPT64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_XSAVEC64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_XRSTOR64, LIGHT_CALL, ASSIST_XSAVE, ANYONE},
	{ZYDIS_MNEMONIC_CPUID, LIGHT_CALL, NO_ASSIST, ANYONE},
	{ZYDIS_MNEMONIC_XGETBV, LIGHT_CALL, NO_ASSIST, ANYONE},
};

static bool allowed(const struct translation *t, unsigned a)
{
	return a == NO_ASSIST || assist(t->bt, a);
}

/* MOV shares its mnemonic with everything: to and from control, debug and segment registers. */
static int mov_light(const struct translation *t, const struct guest_insn *g)
{
	const struct cpu_op *op = &g->op;

	if (op->map == 1 && op->opcode >= 0x20 && op->opcode <= 0x23) {
		bool plain = op->opcode == 0x20 && !(op->flags & OP_LOCK) &&
			     (op->reg == 0 || op->reg == 2 || op->reg == 3 || op->reg == 4);

		if (t->user || !allowed(t, ASSIST_CR3))
			return -1;
		return plain && op->rm != R_SP ? LIGHT_FROM_CR : LIGHT_CALL;
	}
	if (op->map || (op->opcode != 0x8c && op->opcode != 0x8e) || !allowed(t, ASSIST_SWAPGS))
		return -1;
	/* MOV SS holds interrupts off after it: the interpreter knows how. */
	return op->opcode == 0x8e && (op->reg & 7) == S_SS ? -1 : LIGHT_CALL;
}

static int light_of(const struct translation *t, const struct guest_insn *g, unsigned *flags)
{
	*flags = ANYONE;
	if (g->op.mnemonic == ZYDIS_MNEMONIC_MOV)
		return mov_light(t, g);
	if (cpu_op_is_bit_string(&g->op))
		return bit_string_usable(g) ? LIGHT_BITS : -1;
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].mnemonic != g->op.mnemonic)
			continue;
		*flags = table[i].flags;
		if (!allowed(t, table[i].assist) || (t->user && *flags & SUPERVISOR))
			return -1;
		return table[i].light;
	}
	return -1;
}

/* What cannot be done in line is called, or left to the interpreter. */
static int usable_light(const struct translation *t, const struct guest_insn *g, int light)
{
	bool jumps = assist(t->bt, ASSIST_LOOKUP) && !(t->mode & MODE_SINGLE);

	switch (light) {
	case LIGHT_SYSCALL:
		return jumps && t->user ? light : LIGHT_CALL;
	case LIGHT_SYSRET:
		return jumps && g->op.op_size == 8 ? light : LIGHT_CALL;
	case LIGHT_RDBASE:
	case LIGHT_WRBASE:
		return t->mode & MODE_FSGSBASE && g->op.rm != R_SP ? light : LIGHT_CALL;
	case LIGHT_RDTSC:
	case LIGHT_RDTSCP:
		/* Never twice the same: not to be compared. */
		return (t->mode & MODE_TSC || !t->user) && !t->bt->verify ? light : LIGHT_CALL;
	case LIGHT_PUSHF:
	case LIGHT_POPF:
		return g->op.op_size == 8 ? light : LIGHT_CALL;
	default:
		return light;
	}
}

bool light_classify(struct translation *t, struct guest_insn *g)
{
	unsigned flags;
	int light;

	g->emulation = LIGHT_STRING;
	if (light_string_classify(t, g))
		return true;
	light = light_of(t, g, &flags);
	if (light < 0)
		return false;
	light = usable_light(t, g, light);
	g->emulation = (uint8_t)light;
	g->light_ends = flags & ENDS;
	g->flags_unseen = light != LIGHT_PUSHF && light != LIGHT_SYSCALL && g->op.mnemonic != ZYDIS_MNEMONIC_SYSCALL;
	return true;
}

bool light_ends_block(const struct guest_insn *g)
{
	return g->light_ends;
}

bool light_is_call(const struct guest_insn *g)
{
	return g->emulation == LIGHT_CALL;
}

bool light_is_barrier(const struct guest_insn *g)
{
	/* All but those that surely change neither mappings, modes, segment bases nor what is decoded as unchanged. */
	return g->emulation != LIGHT_CLI && g->emulation != LIGHT_STI && g->emulation != LIGHT_CLD &&
	       g->emulation != LIGHT_STD;
}

/* Out of line */

void interp_site(struct translation *t, uint32_t field)
{
	if (t->n_interp == ARRAY_SIZE(t->interp)) {
		t->draft.e.p = t->draft.e.end;
		return;
	}
	t->interp[t->n_interp].field = field;
	t->interp[t->n_interp++].insn = t->i;
}

void interp_if(struct translation *t, unsigned cc)
{
	interp_site(t, emit_jcc(&t->draft.e, cc));
}

void emit_light_sites(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	for (unsigned i = 0; i < t->n_interp;) {
		unsigned insn = t->interp[i].insn;

		for (; i < t->n_interp && t->interp[i].insn == insn; i++)
			emit_patch(e, field_of(t, t->interp[i].field), emit_at(e));
		emit_short_call(t, t->bt->stub_interp, insn);
	}
	for (unsigned i = 0; i < t->n_calls; i++) {
		const struct guest_insn *g = &t->insn[t->call[i].insn];
		uint32_t arg;

		while (emit_at(e) & 7 && !emit_full(e))
			emit8(e, 0xcc);
		arg = emit_at(e) << 6 | t->call[i].insn;
		emit_bytes(e, &g->op, sizeof(g->op));
		if (!emit_full(e))
			memcpy(e->base + t->call[i].field, &arg, 4);
	}
}

/* C code that executes it: bt_light()'s argument is the instruction (5:0), and where its struct cpu_op lies. */
static cpu_op_fn function_of(const struct guest_insn *g)
{
	cpu_op_fn fpu = light_fpu_fn(&g->op);

	if (fpu)
		return fpu;
	if (g->op.mnemonic != ZYDIS_MNEMONIC_MOV)
		return cpu_emulate_fn(g->op.mnemonic);
	return g->op.map == 1 ? cpu_mov_crdr_fn() : cpu_mov_sreg_fn();
}

void emit_light_call(struct translation *t)
{
	struct guest_insn *g = &t->insn[t->i];

	g->op.fn = function_of(g);
	if (g->light_ends)
		g->op.flags |= OP_END;
	if (!g->op.fn || t->n_calls == ARRAY_SIZE(t->call)) {
		t->draft.e.p = t->draft.e.end;
		return;
	}
	flags_to_memory(t);
	t->call[t->n_calls].insn = t->i;
	t->call[t->n_calls++].field = emit_at(&t->draft.e) + 2;
	emit_stub_call(t, t->bt->stub_light, 0);
	t->flags = FLAGS_BOTH; /* the stub loads them */
}

/* Parts */

void emit_set_cpl(struct emitter *e, unsigned cpl)
{
	uint32_t word = cpl | X86_MODE_64 << 8 | (cpl ? MMU_USER : MMU_KERNEL) << 16;

	_Static_assert(offsetof(struct vcpu, mode) == offsetof(struct vcpu, cpl) + 1 &&
		       offsetof(struct vcpu, mmu_mode) == offsetof(struct vcpu, cpl) + 2 &&
		       offsetof(struct vcpu, align_check) == offsetof(struct vcpu, cpl) + 3, "one store");
	emit_mov_gi(e, 0, G(cpl), (int32_t)word);
}

static void emit_sys_flag(struct translation *t, unsigned alu, uint32_t mask)
{
	struct emitter *e = &t->draft.e;

	clobber_flags(t, wanted_before(&t->insn[t->i]));
	emit_alu_g32(e, alu, 0, G(sys_flags), (int32_t)mask);
}

static void emit_sti(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	/*
	 * No interrupt between STI and the next instruction: there is no poll, unless the block ends here; and the
	 * dispatcher, where the next one's probe may get to, is told.
	 */
	if (t->i == t->n - 1) {
		flags_to_memory(t);
		interp_site(t, emit_jmp(e));
		return;
	}
	clobber_flags(t, wanted_before(&t->insn[t->i]));
	emit_alu_g8(e, ALU_CMP, 0, G(request), 0);
	interp_if(t, CC_NE);
	emit_alu_g32(e, ALU_OR, 0, G(sys_flags), FLAG_IF);
	emit_code_address(t, R_11, t->insn[t->i].off + t->insn[t->i].op.len);
	emit_rg(e, OP_MOV_MR, 1, R_11, G(inhibit_rip));
	emit_mov_g8(e, G(inhibit_debug), 0);
}

static void emit_ac(struct translation *t, bool set)
{
	t->holds = 0;
	emit_sys_flag(t, set ? ALU_OR : ALU_AND, set ? FLAG_AC : ~(uint32_t)FLAG_AC);
	t->mmu_mode = set ? MMU_KERNEL_AC : MMU_KERNEL;
	emit_mov_g8(&t->draft.e, G(mmu_mode), (uint8_t)t->mmu_mode);
}

static void emit_swapgs(struct translation *t)
{
	struct emitter *e = &t->draft.e;

	emit_rg(e, OP_MOV_RM, 1, R_10, GSEG(S_GS, base));
	emit_rg(e, OP_MOV_RM, 1, R_11, G(kernel_gs_base));
	emit_rg(e, OP_MOV_MR, 1, R_10, G(kernel_gs_base));
	emit_rg(e, OP_MOV_MR, 1, R_11, GSEG(S_GS, base));
}

/* To a guest register, from R11. */
static void set_guest(struct translation *t, unsigned r)
{
	if (r == R_10 || r == R_11)
		store_guest(&t->draft.e, R_11, r);
	else
		emit_mov(&t->draft.e, r, R_11);
}

static unsigned base_segment(const struct guest_insn *g)
{
	return g->op.mnemonic == ZYDIS_MNEMONIC_RDGSBASE || g->op.mnemonic == ZYDIS_MNEMONIC_WRGSBASE ? S_GS : S_FS;
}

static void emit_rdbase(struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i];

	emit_rg(&t->draft.e, OP_MOV_RM, g->op.op_size == 8, R_11, GSEG(base_segment(g), base));
	set_guest(t, g->op.rm);
}

static void emit_wrbase(struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	bool wide = g->op.op_size == 8;
	unsigned r = g->op.rm;

	clobber_flags(t, wanted_before(g));
	if (r == R_10 || r == R_11)
		load_guest(e, R_10, r);
	else
		emit_rr(e, OP_MOV_RM, wide, R_10, r);
	if (!wide) {
		emit_rr(e, OP_MOV_RM, 0, R_10, R_10);
	} else { /* canonical: bits 63..47 are equal */
		emit_mov(e, R_11, R_10);
		emit_shift(e, SHIFT_SAR, 1, R_11, 47);
		emit_alu_ri(e, ALU_ADD, 0, R_11, 1);
		emit_alu_ri(e, ALU_CMP, 0, R_11, 1);
		interp_if(t, CC_A);
	}
	emit_rg(e, OP_MOV_MR, 1, R_10, GSEG(base_segment(g), base));
}

static void emit_rdtsc(struct translation *t, bool aux)
{
	struct emitter *e = &t->draft.e;

	clobber_flags(t, wanted_before(&t->insn[t->i]));
	emit8(e, 0x0f), emit8(e, aux ? 0x01 : 0x31);
	if (aux)
		emit8(e, 0xf9);
	emit_shift(e, SHIFT_SHL, 1, R_DX, 32);
	emit_rr(e, OP_ADD_RM, 1, R_AX, R_DX);
	emit_rg(e, OP_ADD_RM, 1, R_AX, G(tsc_offset));
	emit_mov(e, R_DX, R_AX);
	emit_shift(e, SHIFT_SHR, 1, R_DX, 32);
	emit_rr(e, OP_MOV_RM, 0, R_AX, R_AX);
	if (aux)
		emit_rg(e, OP_MOV_RM, 0, R_CX, G(tsc_aux));
}

static void emit_from_cr(struct translation *t)
{
	static const size_t at[] = {[0] = G(cr0), [2] = G(cr2), [3] = G(cr3), [4] = G(cr4)};
	const struct guest_insn *g = &t->insn[t->i];

	emit_rg(&t->draft.e, OP_MOV_RM, 1, R_11, at[g->op.reg]);
	set_guest(t, g->op.rm);
}

void emit_light(struct translation *t)
{
	switch (t->insn[t->i].emulation) {
	case LIGHT_CLI:
		emit_sys_flag(t, ALU_AND, ~(uint32_t)FLAG_IF);
		break;
	case LIGHT_STI:
		emit_sti(t);
		break;
	case LIGHT_CLD:
		emit_sys_flag(t, ALU_AND, ~(uint32_t)FLAG_DF);
		break;
	case LIGHT_STD:
		emit_sys_flag(t, ALU_OR, FLAG_DF);
		break;
	case LIGHT_STAC:
		emit_ac(t, true);
		break;
	case LIGHT_CLAC:
		emit_ac(t, false);
		break;
	case LIGHT_PUSHF:
		emit_pushf(t);
		break;
	case LIGHT_POPF:
		emit_popf(t);
		break;
	case LIGHT_SYSCALL:
		emit_syscall(t);
		break;
	case LIGHT_SYSRET:
		emit_sysret(t);
		break;
	case LIGHT_SWAPGS:
		emit_swapgs(t);
		break;
	case LIGHT_RDBASE:
		emit_rdbase(t);
		break;
	case LIGHT_WRBASE:
		emit_wrbase(t);
		break;
	case LIGHT_RDTSC:
		emit_rdtsc(t, false);
		break;
	case LIGHT_RDTSCP:
		emit_rdtsc(t, true);
		break;
	case LIGHT_BITS:
		emit_bit_string(t);
		break;
	case LIGHT_FROM_CR:
		emit_from_cr(t);
		break;
	case LIGHT_STRING:
		emit_light_string(t);
		break;
	default:
		emit_light_call(t);
	}
}
