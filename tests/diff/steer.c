/*
 * steer.c - gives the operands of an instruction sensible values: effective addresses that mostly
 * lie in the test's pages (sometimes across their edges, read-only, unmapped or not canonical),
 * small repeat counts, branch targets with something to stop at, selectors that the host's GDT and
 * the guest's share.
 */
#include <string.h>

#include "gen.h"

static unsigned reg_number(ZydisRegister reg)
{
	ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return (unsigned)ZydisRegisterGetId(full) & 15;
}

static bool is_gpr(ZydisRegister reg)
{
	ZydisRegisterClass c = ZydisRegisterGetClass(reg);

	return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
	       c == ZYDIS_REGCLASS_GPR64;
}

static uint64_t reg_value(const struct steer *s, unsigned n)
{
	for (unsigned i = s->nsets; i-- > 0;)
		if (s->set[i].reg == n)
			return s->set[i].value;
	return s->c->gpr[n];
}

static void set_gpr(struct steer *s, unsigned n, uint64_t value)
{
	if (s->assigned >> n & 1)
		return;
	s->assigned |= BIT(n);
	if (s->c->mode != X86_MODE_64)
		value &= 0xffffffff;
	if (!s->sequence) {
		s->c->gpr[n] = value;
	} else if (s->nsets < ARRAY_SIZE(s->set)) {
		s->set[s->nsets].reg = (uint8_t)n;
		s->set[s->nsets++].value = value;
	}
}

/* Sets the low `width` bits of the register, leaving the rest. */
static void set_reg(struct steer *s, ZydisRegister reg, uint64_t value, unsigned width)
{
	unsigned n = reg_number(reg);
	uint64_t mask = width >= 64 ? ~0ULL : BIT(width) - 1;

	set_gpr(s, n, (reg_value(s, n) & ~mask) | (value & mask));
}

static void poke(struct steer *s, uint64_t addr, uint64_t value, unsigned len)
{
	struct diff_case *c = s->c;

	if (c->npokes < ARRAY_SIZE(c->poke))
		c->poke[c->npokes++] = (struct diff_poke){addr, value, len};
}

/* What the case's template holds at addr; 0 off the arena. */
static uint64_t template_value(const struct steer *s, uint64_t addr)
{
	const uint8_t *t = s->g->sh->template[s->c->template];
	uint64_t v = 0;

	for (unsigned i = 0; i < ARENA_PAGES; i++)
		if (range_within(addr - arena_page[i].va, 8, DIFF_PAGE))
			memcpy(&v, t + i * DIFF_PAGE + (addr - arena_page[i].va), 8);
	return v;
}

static uint64_t edge_target(struct steer *s, uint64_t size, bool low)
{
	uint64_t back = rnd_below(s->r, size + 1);

	switch (rnd_below(s->r, low ? 8 : 14)) {
	case 0:
	case 1:
		return DIFF_DATA + 0x1000 - back; /* two writable pages */
	case 2:
		return DIFF_DATA + 0x2000 - back; /* into a read-only page */
	case 3:
		return DIFF_DATA + 0x3000 - back; /* out of a read-only page */
	case 4:
		return DIFF_DATA - back;
	case 5:
		return DIFF_DATA + 0x2000 + rnd_below(s->r, 0x1000 - size % 0x1000);
	case 6:
		return DIFF_DATA + 0x4000 + rnd_below(s->r, 0x1000);
	case 7:
		return DIFF_STACK + 0x2000 - back;
	case 8:
		return DIFF_HIGH + rnd_below(s->r, 0x1000);
	case 9:
		return DIFF_HIGH + 0x1000 - back;
	case 10:
		return 0x800000000000ULL - back;
	case 11:
		return 0xffff800000000000ULL - back;
	case 12:
		return rnd(s->r) | 0x0001000000000000ULL;
	default:
		return DIFF_HIGH + 0x2000 - back;
	}
}

static uint64_t pick_target(struct steer *s, uint64_t size, bool low)
{
	uint64_t room = size < 0x1fc0 ? 0x2000 - size : 0x40, off;

	/* Whether #AC or #PF comes first for the second half of an access is up to the
	 * implementation. */
	if (!(s->c->rflags & FLAG_AC) && chance(s->r, s->sequence ? 4 : 22))
		return edge_target(s, size, low);
	off = rnd_below(s->r, room);
	if (chance(s->r, 60))
		off &= ~63ULL;
	return DIFF_DATA + off;
}

static uint64_t pick_stack(struct steer *s)
{
	if (!s->sequence && chance(s->r, 10))
		return pick_target(s, 8, s->c->mode != X86_MODE_64);
	return DIFF_STACK + 0x400 + (rnd_below(s->r, 0x1800) & ~7ULL);
}

static uint64_t segment_base(const struct steer *s, ZydisRegister seg)
{
	if (seg == ZYDIS_REGISTER_FS)
		return s->c->fs_base;
	return seg == ZYDIS_REGISTER_GS ? s->c->gs_base : 0;
}

static bool hidden_stack(const ZydisDecodedOperand *op)
{
	return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && is_gpr(op->mem.base) &&
	       reg_number(op->mem.base) == R_SP;
}

/* How much memory an instruction touches, where the decoder does not say. */
static uint64_t operand_bytes(const struct insn *in, const ZydisDecodedOperand *op)
{
	const char *name = ZydisMnemonicGetString(in->z.mnemonic);

	if (!strncmp(name, "xsave", 5) || !strncmp(name, "xrstor", 6))
		return DIFF_IMAGE_SIZE;
	if (!strncmp(name, "fxsave", 6) || !strncmp(name, "fxrstor", 7))
		return 512;
	return op->size ? op->size / 8 : 1;
}

static void steer_vsib(struct steer *s, const struct insn *in, const ZydisDecodedOperand *op,
		       uint64_t want)
{
	unsigned n = (unsigned)ZydisRegisterGetId(op->mem.index) & 31,
		 scale = op->mem.scale ? op->mem.scale : 1;
	const char *name = ZydisMnemonicGetString(in->z.mnemonic);
	/* The letter before the element type tells the index size: gatherDpd, scatterQps,
	 * pgatherQd. */
	const char *end = name + strlen(name);
	bool q = name[1] == 'p' ? end[-2] == 'q' : end[-3] == 'q';
	uint64_t range = 0x1800 / scale;

	set_reg(s, op->mem.base, want - (uint64_t)op->mem.disp.value, in->z.address_width);
	if (s->sequence)
		return;
	for (unsigned i = 0; i < (q ? 8 : 16); i++) {
		int64_t v = (int64_t)rnd_below(s->r, range) -
			    (chance(s->r, 10) ? (int64_t)range / 2 : 0);
		int32_t v32 = (int32_t)v;

		if (chance(s->r, 2))
			v = (int64_t)random_value(s->r);
		if (q)
			memcpy(s->c->fpu.zmm[n] + 8 * i, &v, 8);
		else
			memcpy(s->c->fpu.zmm[n] + 4 * i, &v32, 4);
	}
}

static uint64_t stay_low(const struct steer *s, const struct insn *in)
{
	return in->z.address_width < 64 || s->c->mode != X86_MODE_64;
}

static uint64_t operand_target(struct steer *s, const struct insn *in,
			       const ZydisDecodedOperand *op)
{
	uint64_t size = operand_bytes(in, op);

	if (hidden_stack(op))
		return pick_stack(s);
	if (size >= 512)
		return chance(s->r, 90) ? DIFF_DATA + 64 * rnd_below(s->r, (0x2000 - size) / 64)
					: pick_target(s, size, stay_low(s, in));
	if (s->c->gpr[R_DI] && in->z.meta.category == ZYDIS_CATEGORY_STRINGOP && chance(s->r, 70))
		return DIFF_DATA + 0x800 + rnd_below(s->r, 0x1000);
	return pick_target(s, size, stay_low(s, in));
}

/* Chooses the registers of one memory operand so that it lands on the target. */
static void steer_memory(struct steer *s, const struct insn *in, const ZydisDecodedOperand *op)
{
	const ZydisDecodedOperandMem *m = &op->mem;
	unsigned width = in->z.address_width;
	uint64_t target = operand_target(s, in, op), want, idx = 0;

	if (hidden_stack(op)) {
		if (s->stack)
			return;
		width = s->c->mode == X86_MODE_64 ? 64 : 32;
		target -= m->disp.has_displacement ? (uint64_t)m->disp.value : 0;
		set_reg(s, m->base, target, width);
		return;
	}
	want = target - segment_base(s, m->segment);
	if (m->type == ZYDIS_MEMOP_TYPE_VSIB) {
		if (is_gpr(m->base))
			steer_vsib(s, in, op, want);
		return;
	}
	if (!is_gpr(m->base))
		return; /* displacement, RIP-relative or index alone: steer_patch() */
	want -= (uint64_t)m->disp.value;
	if (m->index != ZYDIS_REGISTER_NONE && reg_number(m->index) == reg_number(m->base)) {
		set_reg(s, m->base, want / (1u + m->scale), width);
		return;
	}
	if (m->index != ZYDIS_REGISTER_NONE) {
		unsigned iw = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, m->index);

		idx = chance(s->r, 70) ? rnd_below(s->r, 256) : random_value(s->r);
		set_reg(s, m->index, idx, iw < width ? iw : width);
		idx = trunc_size(reg_value(s, reg_number(m->index)), iw / 8);
		want -= idx * (m->scale ? m->scale : 1);
	}
	set_reg(s, m->base, want, width);
}

static const ZydisDecodedOperand *explicit_memory(const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    in->op[i].mem.type == ZYDIS_MEMOP_TYPE_MEM && !hidden_stack(&in->op[i]))
			return &in->op[i];
	return NULL;
}

/* Linear address of the operand with the registers as chosen, when no patch is still to come. */
static uint64_t linear(const struct steer *s, const struct insn *in, const ZydisDecodedOperand *op)
{
	const ZydisDecodedOperandMem *m = &op->mem;
	uint64_t ea = (uint64_t)m->disp.value;

	if (!is_gpr(m->base))
		return 0;
	ea += reg_value(s, reg_number(m->base));
	if (m->index != ZYDIS_REGISTER_NONE) {
		uint64_t idx = reg_value(s, reg_number(m->index));

		ea += trunc_size(idx,
				 ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, m->index) / 8u) *
		      (m->scale ? m->scale : 1);
	}
	ea = trunc_size(ea, in->z.address_width / 8u) + segment_base(s, m->segment);
	return s->c->mode == X86_MODE_64 ? ea : ea & 0xffffffff;
}

static uint16_t pick_selector(struct rng *r)
{
	/* 0x78 is the host's per-CPU segment; beyond the GDT everything is #GP. */
	static const uint16_t known[] = {0,    1,    3,    DIFF_SS, DIFF_CS32, DIFF_CS64, DIFF_SS,
					 0x28, 0x2a, 0x10, 0x18,    0x33,      DIFF_FS32, DIFF_GS32,
					 0x0b, 0x43, 0x57, 0x83,    0x84,      0x1234,    0xfff8};

	return known[rnd_below(r, ARRAY_SIZE(known))];
}

static uint64_t branch_target(struct steer *s, uint64_t next)
{
	uint64_t start = DIFF_CODE + s->c->code_off;

	switch (rnd_below(s->r, 12)) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
		return next;
	case 5:
	case 6:
		return next + 24 + rnd_below(s->r, 90); /* int3, past the exit jump */
	case 7:
		return start - 2 - rnd_below(s->r, 90);
	case 8:
		return DIFF_CODE + rnd_below(s->r, 0x100);
	case 9:
		return DIFF_DATA + rnd_below(s->r, 0x100); /* not executable */
	case 10:
		return DIFF_CODE + DIFF_CODE_SIZE + rnd_below(s->r, 0x100); /* not mapped */
	default:
		return s->c->mode == X86_MODE_64 && chance(s->r, 50) ? rnd(s->r) | BIT(50) : next;
	}
}

/* Indirect and far branches and returns: the target lies in a register or in memory. */
static void steer_branch(struct steer *s, const struct insn *in)
{
	const struct diff_case *c = s->c;
	uint64_t target = branch_target(s, DIFF_CODE + c->code_off + in->z.length), at = 0;
	bool iret = in->z.mnemonic == ZYDIS_MNEMONIC_IRET ||
		    in->z.mnemonic == ZYDIS_MNEMONIC_IRETD ||
		    in->z.mnemonic == ZYDIS_MNEMONIC_IRETQ;
	bool far = iret || in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	unsigned width = in->z.operand_width / 8u;
	const ZydisDecodedOperand *mem = explicit_memory(in);

	if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && in->z.operand_count_visible == 1) {
		set_reg(s, in->op[0].reg.value, target, in->op[0].size);
		return;
	}
	if (mem)
		at = linear(s, in, mem);
	else if (in->z.meta.category == ZYDIS_CATEGORY_RET)
		at = reg_value(s, R_SP);
	if (!at)
		return;
	poke(s, at, target, width);
	if (far) {
		uint16_t sel = chance(s->r, 60) ? (c->mode == X86_MODE_64 ? DIFF_CS64 : DIFF_CS32)
						: pick_selector(s->r);

		poke(s, at + width, sel, 2);
	}
	if (iret) {
		poke(s, at + 2 * width, c->rflags ^ (rnd(s->r) & FLAG_STATUS), width);
		poke(s, at + 3 * width, DIFF_STACK + 0x800 + (rnd(s->r) & 0x7f8), width);
		poke(s, at + 4 * width, chance(s->r, 70) ? DIFF_SS : pick_selector(s->r), width);
	}
}

static bool looks_up(const struct insn *in)
{
	return in->z.mnemonic == ZYDIS_MNEMONIC_LAR || in->z.mnemonic == ZYDIS_MNEMONIC_LSL ||
	       in->z.mnemonic == ZYDIS_MNEMONIC_VERR || in->z.mnemonic == ZYDIS_MNEMONIC_VERW;
}

/* A segment register is loaded, or a selector looked up: from a register, memory or the stack. */
static void steer_selector(struct steer *s, const struct insn *in)
{
	const ZydisDecodedOperand *mem = explicit_memory(in),
				  *src = &in->op[in->z.operand_count_visible - 1];
	bool plain = in->z.mnemonic == ZYDIS_MNEMONIC_MOV || looks_up(in);
	uint16_t sel = pick_selector(s->r);

	if (plain && !mem)
		set_reg(s, src->reg.value, sel, 16);
	else if (mem) /* a far pointer has the selector last */
		poke(s, linear(s, in, mem) + (plain ? 0 : in->z.operand_width / 8u), sel, 2);
	else
		poke(s, reg_value(s, R_SP), sel, 2);
}

static bool loads_segment(const struct insn *in)
{
	for (unsigned i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	return false;
}

static void steer_extended(struct steer *s, const struct insn *in, const char *name)
{
	const ZydisDecodedOperand *mem = explicit_memory(in);
	uint64_t at = mem ? linear(s, in, mem) : 0;

	s->c->flags |= CASE_IMAGE;
	s->c->rflags &= ~(uint64_t)FLAG_AC; /* #AC instead of #GP is allowed (SDM vol. 1, 13.7) */
	if (strstr(name, "rstor") && mem && strcmp(name, "frstor")) {
		s->c->image = (uint32_t)rnd_below(s->r, DIFF_IMAGES);
		s->c->image_addr = at;
	}
	if (name[0] == 'x') {
		set_gpr(s, R_AX, chance(s->r, 60) ? 0xff : rnd(s->r) & 0xff);
		set_gpr(s, R_DX, 0);
	}
	if (!strncmp(name, "xsave", 5)) {
		s->c->flags |= CASE_XSAVE;
		s->c->image_addr = at;
		if (at)
			poke(s, at + 512, rnd(s->r) & 0xe7, 8);
	}
}

static void steer_bit_offset(struct steer *s, const struct insn *in)
{
	if (in->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	set_reg(s, in->op[1].reg.value,
		chance(s->r, 80) ? rnd_below(s->r, 0x2000) - 0x1000 : random_value(s->r),
		in->op[1].size);
}

static void steer_compare_exchange(struct steer *s, const struct insn *in)
{
	const ZydisDecodedOperand *mem = explicit_memory(in);
	uint64_t at = mem ? linear(s, in, mem) : 0, lo, hi;

	if (!at || chance(s->r, 50))
		return;
	lo = template_value(s, at);
	hi = template_value(s, at + 8);
	if (in->z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B)
		hi = lo >> 32;
	set_gpr(s, R_AX, lo);
	if (in->z.mnemonic != ZYDIS_MNEMONIC_CMPXCHG)
		set_gpr(s, R_DX, hi);
}

static void steer_divide(struct steer *s, const struct insn *in)
{
	if (chance(s->r, 60))
		set_gpr(s, R_DX, rnd_below(s->r, 4));
	if (chance(s->r, 50) && in->op[0].size == 8)
		set_reg(s, ZYDIS_REGISTER_AX, rnd_below(s->r, 0x200), 16);
}

static void steer_frame(struct steer *s, const struct insn *in)
{
	set_gpr(s, R_BP, pick_stack(s));
	if (in->z.mnemonic == ZYDIS_MNEMONIC_ENTER)
		set_gpr(s, R_SP, pick_stack(s));
}

static void steer_special(struct steer *s, const struct insn *in)
{
	const char *name = ZydisMnemonicGetString(in->z.mnemonic);
	const ZydisDecodedOperand *mem = explicit_memory(in);

	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		steer_bit_offset(s, in);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		steer_compare_exchange(s, in);
		break;
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		steer_divide(s, in);
		break;
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_LEAVE:
		steer_frame(s, in);
		break;
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
		if (mem && chance(s->r, 80))
			poke(s, linear(s, in, mem), 0x1f80 ^ (rnd(s->r) & 0xe07f), 4);
		break;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		if (chance(s->r, 90))
			poke(s, reg_value(s, R_SP), rnd(s->r) & ~(uint64_t)FLAG_TF,
			     in->z.operand_width / 8u);
		break;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		if (chance(s->r, 70))
			set_reg(s, ZYDIS_REGISTER_RCX, rnd_below(s->r, 3), in->z.address_width);
		break;
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_CALL:
		s->c->flags |= CASE_IMAGE;
		break;
	default:
		if (strstr(name, "xsave") || strstr(name, "xrstor"))
			steer_extended(s, in, name);
	}
}

void steer_registers(struct steer *s, const struct insn *in)
{
	s->assigned = 0;
	s->nsets = 0;
	if ((in->z.attributes &
	     (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) &&
	    (s->sequence || chance(s->r, 92)))
		set_reg(s, ZYDIS_REGISTER_RCX, rnd_below(s->r, chance(s->r, 80) ? 20 : 700),
			in->z.address_width);
	for (unsigned i = 0; i < in->z.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    in->op[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			steer_memory(s, in, &in->op[i]);
	steer_special(s, in);
	if (in->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
	    in->z.meta.category == ZYDIS_CATEGORY_RET)
		steer_branch(s, in);
	else if (loads_segment(in) || looks_up(in))
		steer_selector(s, in);
}

static void patch(uint8_t *bytes, unsigned offset, unsigned bits, uint64_t value)
{
	memcpy(bytes + offset, &value, bits / 8);
}

static void patch_displacement(struct steer *s, const struct insn *in, uint8_t *bytes, uint64_t ip)
{
	const ZydisDecodedOperand *mem = explicit_memory(in);
	uint64_t want, scaled;

	if (!mem || is_gpr(mem->mem.base) || in->z.raw.disp.size < 32)
		return;
	want = operand_target(s, in, mem);
	if (want > 0x7fffffff && in->z.raw.disp.size == 32)
		want = DIFF_DATA + rnd_below(s->r, 0x1f00);
	want -= segment_base(s, mem->mem.segment);
	if (mem->mem.base == ZYDIS_REGISTER_RIP || mem->mem.base == ZYDIS_REGISTER_EIP)
		want -= ip + in->z.length;
	if (mem->mem.index != ZYDIS_REGISTER_NONE) {
		scaled = reg_value(s, reg_number(mem->mem.index)) * mem->mem.scale;
		want -= scaled;
	}
	patch(bytes, in->z.raw.disp.offset, in->z.raw.disp.size, want);
}

static void patch_branch(struct steer *s, const struct insn *in, uint8_t *bytes, uint64_t ip)
{
	uint64_t next = ip + in->z.length, rel = branch_target(s, next) - next;
	unsigned bits = in->z.raw.imm[0].size;

	if (bits == 8 && (rel + 128) > 255)
		rel = 0;
	patch(bytes, in->z.raw.imm[0].offset, bits, rel);
}

static void patch_far_pointer(struct steer *s, const struct insn *in, uint8_t *bytes, uint64_t ip)
{
	unsigned bits = in->z.raw.imm[0].size;

	patch(bytes, in->z.raw.imm[0].offset, bits, branch_target(s, ip + in->z.length));
	patch(bytes, in->z.raw.imm[0].offset + bits / 8u, 16,
	      chance(s->r, 60) ? DIFF_CS32 : pick_selector(s->r));
}

void steer_patch(struct steer *s, const struct insn *in, uint8_t *bytes, uint64_t ip)
{
	patch_displacement(s, in, bytes, ip);
	if (in->z.raw.imm[0].is_relative)
		patch_branch(s, in, bytes, ip);
	else if (in->op[0].type == ZYDIS_OPERAND_TYPE_POINTER)
		patch_far_pointer(s, in, bytes, ip);
	if (in->z.mnemonic == ZYDIS_MNEMONIC_ENTER && chance(s->r, 70))
		patch(bytes, in->z.raw.imm[0].offset, 16, rnd_below(s->r, 0x400));
}
