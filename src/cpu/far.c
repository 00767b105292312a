/*
 * Far transfers: JMP, CALL and RET between segments, call gates, IRET in all its forms, INT n.
 * SDM vol. 2 (the instructions) and vol. 3, chapters 5.8 and 6.12; AMD APM vol. 3 where AMD differs.
 */
#include "cpu/system.h"

struct far_ptr {
	uint16_t sel;
	uint64_t off;
};

/* m16:16, m16:32 or m16:64, or the immediate of the direct forms. */
static struct far_ptr far_operand(struct vcpu *v, const struct cpu_op *op)
{
	struct far_ptr p = {.sel = op->imm2, .off = trunc_size(op->imm, op->op_size)};
	uint64_t ea, lin;

	if (!(op->flags & OP_MEM))
		return p;
	ea = cpu_ea(v, op);
	lin = cpu_linear(v, op->seg, ea, op->op_size + 2, false);
	p.off = cpu_load(v, op->seg, lin, op->op_size);
	p.sel = (uint16_t)cpu_load(v, op->seg, lin + op->op_size, 2);
	return p;
}

/* Whether the code descriptor has an illegal L and D combination: reserved in long mode. */
static void check_code_bits(struct vcpu *v, uint16_t sel, uint32_t attr)
{
	if (cpu_long(v) && (attr & SEG_L) && (attr & SEG_DB))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
}

/* A direct far JMP or CALL to a code segment: stays at this CPL. */
static void check_direct_code(struct vcpu *v, uint16_t sel, uint32_t attr)
{
	bool ok = attr & SEG_CONFORMING ? seg_dpl(attr) <= v->cpl :
					  (sel & 3u) <= v->cpl && seg_dpl(attr) == v->cpl;

	if (!ok)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	check_code_bits(v, sel, attr);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
}

struct call_gate {
	uint16_t sel;
	uint64_t off;
	unsigned size;   /* of pushes */
	unsigned params; /* stack elements to copy */
	struct descriptor code;
};

static void read_call_gate(struct vcpu *v, uint16_t sel, struct descriptor *d, struct call_gate *g)
{
	uint32_t attr = desc_attr(d), code;
	unsigned type = attr & SEG_TYPE;

	if (seg_dpl(attr) < v->cpl || seg_dpl(attr) < (sel & 3u))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
	desc_fetch_high(v, sel, EXC_GP, d);
	g->sel = d->raw >> 16 & 0xffff;
	g->off = (d->raw & 0xffff) | (type == DESC_CALL16 ? 0 : d->raw >> 32 & 0xffff0000) | d->high << 32;
	g->size = cpu_long(v) ? 8 : type == DESC_CALL16 ? 2 : 4;
	g->params = cpu_long(v) ? 0 : d->raw >> 32 & 0x1f;
	if (!(g->sel & ~3))
		cpu_gp(v);
	desc_fetch_or(v, g->sel, EXC_GP, &g->code);
	code = desc_attr(&g->code);
	if (!(code & SEG_S) || !(code & SEG_CODE) || seg_dpl(code) > v->cpl)
		cpu_raise_error(v, EXC_GP, g->sel & ~3u);
	if (cpu_long(v) && (!(code & SEG_L) || (code & SEG_DB)))
		cpu_raise_error(v, EXC_GP, g->sel & ~3u);
	if (!(code & SEG_P))
		cpu_raise_error(v, EXC_NP, g->sel & ~3u);
}

static void enter_code(struct vcpu *v, uint16_t sel, struct descriptor *d, uint64_t rip, unsigned cpl)
{
	struct segment cs;

	desc_set_accessed(v, d);
	desc_to_segment(&cs, sel, d);
	cpu_set_cs(v, &cs, cpl);
	v->rip = rip;
}

static void check_target(struct vcpu *v, uint16_t sel, const struct descriptor *d, uint64_t rip)
{
	struct segment cs;

	desc_to_segment(&cs, sel, d);
	cpu_check_rip(v, &cs, cpu_long_cs(v, &cs), rip);
}

static void jmp_gate(struct vcpu *v, uint16_t sel, struct descriptor *d)
{
	struct call_gate g;
	uint32_t attr;

	read_call_gate(v, sel, d, &g);
	attr = desc_attr(&g.code);
	if (!(attr & SEG_CONFORMING) && seg_dpl(attr) != v->cpl)
		cpu_raise_error(v, EXC_GP, g.sel & ~3u);
	check_target(v, g.sel, &g.code, g.off);
	enter_code(v, g.sel, &g.code, g.off, v->cpl);
}

/* JMP and CALL to a TSS or a task gate; legacy modes only. */
static void jump_task(struct vcpu *v, const struct cpu_op *op, uint16_t sel, struct descriptor *d, bool call)
{
	uint32_t attr = desc_attr(d);
	uint16_t tss = sel;

	if (cpu_long(v) || seg_dpl(attr) < v->cpl || seg_dpl(attr) < (sel & 3u))
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if ((attr & SEG_TYPE) == DESC_TASK_GATE) {
		if (!(attr & SEG_P))
			cpu_raise_error(v, EXC_NP, sel & ~3u);
		tss = d->raw >> 16 & 0xffff;
	}
	cpu_task_switch(v, tss, call ? TASK_CALL : TASK_JMP, (v->rip + op->len) & 0xffffffff, false, 0);
}

static bool is_call_gate(const struct vcpu *v, uint32_t attr)
{
	unsigned type = attr & SEG_TYPE;

	return type == DESC_CALL || (type == DESC_CALL16 && !cpu_long(v));
}

static void real_check_ip(struct vcpu *v, uint64_t off)
{
	if (off > v->seg[S_CS].limit)
		cpu_gp(v);
}

/* Pushes CS and the return address with the current stack; checks both before storing either. */
static void push_return(struct vcpu *v, unsigned size, uint64_t ret)
{
	uint16_t cs = v->seg[S_CS].sel;
	uint64_t first = cpu_sp_add(v, -(int64_t)size), second = cpu_sp_add(v, -2 * (int64_t)size);

	cpu_probe(v, S_SS, cpu_linear(v, S_SS, second, size, true), size, true, v->mmu_mode);
	cpu_store_seg(v, S_SS, first, size, cs);
	cpu_store_seg(v, S_SS, second, size, ret);
	cpu_set_sp(v, second);
}

/* The stack of the privilege that a call gate leads to, while its frame is built. */
struct inner_stack {
	struct segment ss;
	uint64_t sp, mask; /* mask: the width of the stack pointer */
	unsigned size;     /* bytes a push */
};

static bool stack_holds(const struct inner_stack *s, uint64_t at)
{
	uint64_t last = at + s->size - 1;

	if (s->ss.attr & SEG_EXPAND_DOWN)
		return at > s->ss.limit && last <= s->mask;
	return last <= s->ss.limit;
}

static void inner_push(struct vcpu *v, struct inner_stack *s, uint64_t val)
{
	uint64_t at = (s->sp - s->size) & s->mask, lin = at;

	if (!cpu_long(v)) {
		if (!stack_holds(s, at))
			cpu_raise_error(v, EXC_SS, s->ss.sel & ~3u);
		lin = (s->ss.base + at) & 0xffffffff;
	}
	cpu_write_slow(v, S_SS, lin, &val, s->size, MMU_KERNEL);
	s->sp = at;
}

static void inner_stack_init(struct vcpu *v, struct inner_stack *s, unsigned cpl, unsigned size)
{
	uint16_t sel;

	cpu_tss_stack(v, cpl, &sel, &s->sp);
	s->size = size;
	if (cpu_long(v)) {
		s->ss = (struct segment){.sel = (uint16_t)cpl, .attr = SEG_UNUSABLE | SEG_P | SEG_S | SEG_RW | cpl << 5};
		s->mask = ~0ULL;
		return;
	}
	if (!(sel & ~3))
		cpu_raise_error(v, EXC_TS, sel & ~3u);
	cpu_check_stack(v, sel, cpl, EXC_TS, &s->ss);
	s->mask = s->ss.attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* A call gate to more privilege: a new stack from the TSS, parameters copied. */
static void call_inner(struct vcpu *v, const struct call_gate *g, uint64_t ret)
{
	unsigned cpl = seg_dpl(desc_attr(&g->code));
	struct descriptor code = g->code;
	struct inner_stack s;
	uint64_t params[32];

	inner_stack_init(v, &s, cpl, g->size);
	for (unsigned i = 0; i < g->params; i++)
		params[i] = cpu_peek(v, i * g->size, g->size);
	check_target(v, g->sel, &code, g->off);
	inner_push(v, &s, v->seg[S_SS].sel);
	inner_push(v, &s, v->gpr[R_SP]);
	for (unsigned i = g->params; i-- > 0;)
		inner_push(v, &s, params[i]);
	inner_push(v, &s, v->seg[S_CS].sel);
	inner_push(v, &s, ret);
	v->seg[S_SS] = s.ss;
	enter_code(v, g->sel, &code, g->off, cpl);
	if (s.mask == 0xffff)
		cpu_set_reg(v, R_SP, 2, false, s.sp);
	else
		v->gpr[R_SP] = s.sp;
}

static void call_gate(struct vcpu *v, uint16_t sel, struct descriptor *d, uint64_t ret)
{
	struct call_gate g;
	uint32_t attr;

	read_call_gate(v, sel, d, &g);
	attr = desc_attr(&g.code);
	if (!(attr & SEG_CONFORMING) && seg_dpl(attr) < v->cpl) {
		call_inner(v, &g, ret);
		return;
	}
	check_target(v, g.sel, &g.code, g.off);
	push_return(v, g.size, ret);
	enter_code(v, g.sel, &g.code, g.off, v->cpl);
}

/* To a gate or a task. */
static void transfer_system(struct vcpu *v, const struct cpu_op *op, uint16_t sel, struct descriptor *d, bool call)
{
	uint32_t attr = desc_attr(d);
	unsigned type = attr & SEG_TYPE;

	if (is_call_gate(v, attr)) {
		if (call)
			call_gate(v, sel, d, v->rip + op->len);
		else
			jmp_gate(v, sel, d);
	} else if (type == DESC_TSS || type == DESC_TSS16 || type == DESC_TASK_GATE) {
		jump_task(v, op, sel, d, call);
	} else {
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	}
}

static void transfer(struct vcpu *v, const struct cpu_op *op, bool call)
{
	struct far_ptr p = far_operand(v, op);
	uint64_t ret = v->rip + op->len;
	struct descriptor d;

	if (!cpu_protected(v)) {
		real_check_ip(v, p.off);
		if (call)
			push_return(v, op->op_size, ret);
		cpu_set_real_segment(v, S_CS, p.sel);
		v->rip = p.off;
		return;
	}
	if (!(p.sel & ~3))
		cpu_gp(v);
	desc_fetch_or(v, p.sel, EXC_GP, &d);
	if (!(desc_attr(&d) & SEG_S)) {
		transfer_system(v, op, p.sel, &d, call);
		return;
	}
	if (!(desc_attr(&d) & SEG_CODE))
		cpu_raise_error(v, EXC_GP, p.sel & ~3u);
	check_direct_code(v, p.sel, desc_attr(&d));
	check_target(v, p.sel, &d, p.off);
	if (call)
		push_return(v, op->op_size, ret);
	enter_code(v, p.sel, &d, p.off, v->cpl);
}

static void exec_jmp_far(struct vcpu *v, const struct cpu_op *op)
{
	transfer(v, op, false);
}

static void exec_call_far(struct vcpu *v, const struct cpu_op *op)
{
	transfer(v, op, true);
}

/* The code segment that a return (RET far, IRET) names: checks of SDM vol. 2, "RET". */
static void check_return_code(struct vcpu *v, uint16_t sel, struct descriptor *d)
{
	uint32_t attr;
	unsigned rpl = sel & 3;

	if (!(sel & ~3))
		cpu_gp(v);
	desc_fetch_or(v, sel, EXC_GP, d);
	attr = desc_attr(d);
	if (!(attr & SEG_S) || !(attr & SEG_CODE) || rpl < v->cpl)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	if (attr & SEG_CONFORMING ? seg_dpl(attr) > rpl : seg_dpl(attr) != rpl)
		cpu_raise_error(v, EXC_GP, sel & ~3u);
	check_code_bits(v, sel, attr);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, sel & ~3u);
}

/* The stack segment that a return to privilege rpl names. Null is allowed towards 64-bit code below CPL 3. */
static void check_return_stack(struct vcpu *v, uint16_t sel, unsigned rpl, bool long_code, struct segment *ss)
{
	if (!(sel & ~3)) {
		if (!long_code || rpl == 3 || (sel & 3) != rpl)
			cpu_gp(v);
		*ss = (struct segment){.sel = sel, .attr = SEG_UNUSABLE | SEG_P | SEG_S | SEG_RW | rpl << 5};
		return;
	}
	cpu_check_stack(v, sel, rpl, EXC_GP, ss);
}

/* Installs SS:SP in the width of the new stack; 64-bit code uses all of RSP. */
static void set_stack(struct vcpu *v, const struct segment *ss, uint64_t sp, bool long_code, unsigned size)
{
	v->seg[S_SS] = *ss;
	if (long_code)
		v->gpr[R_SP] = sp;
	else if (ss->attr & SEG_DB)
		v->gpr[R_SP] = (uint32_t)sp;
	else
		cpu_set_reg(v, R_SP, 2, false, sp);
	(void)size;
}

static void exec_ret_far(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = op->op_size, release = (unsigned)(op->imm & 0xffff);
	uint16_t sel = (uint16_t)cpu_peek(v, size, 2); /* first, and no more of its slot */
	uint64_t rip = cpu_peek(v, 0, size);
	struct descriptor d;
	struct segment ss, cs;
	unsigned rpl = sel & 3;
	uint64_t sp;

	if (!cpu_protected(v)) {
		real_check_ip(v, rip);
		cpu_set_sp(v, cpu_sp_add(v, 2 * size + release));
		cpu_set_real_segment(v, S_CS, sel);
		v->rip = rip;
		return;
	}
	check_return_code(v, sel, &d);
	desc_to_segment(&cs, sel, &d);
	if (rpl == v->cpl) {
		cpu_check_rip(v, &cs, cpu_long_cs(v, &cs), rip);
		cpu_set_sp(v, cpu_sp_add(v, 2 * size + release));
		enter_code(v, sel, &d, rip, rpl);
		return;
	}
	sp = cpu_peek(v, 2 * size + release, size);
	check_return_stack(v, (uint16_t)cpu_peek(v, 3 * size + release, size), rpl, cpu_long_cs(v, &cs), &ss);
	cpu_check_rip(v, &cs, cpu_long_cs(v, &cs), rip);
	enter_code(v, sel, &d, rip, rpl);
	set_stack(v, &ss, sp, v->mode == X86_MODE_64, size);
	cpu_set_sp(v, cpu_sp_add(v, release));
	cpu_drop_data_segments(v);
}

/* The flags that IRET and POPF may change at this CPL, with this operand size. */
uint64_t cpu_popped_flags(const struct vcpu *v, unsigned size)
{
	uint64_t mask = FLAG_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;

	if (size > 2)
		mask |= FLAG_RF | FLAG_AC | FLAG_ID;
	if (v->cpl <= cpu_iopl(v))
		mask |= FLAG_IF;
	if (v->cpl == 0) {
		mask |= FLAG_IOPL;
		if (size > 2)
			mask |= FLAG_VIF | FLAG_VIP;
	}
	return mask;
}

static void iret_real(struct vcpu *v, unsigned size)
{
	uint64_t ip = cpu_peek(v, 0, size), flags = cpu_peek(v, 2 * size, size);
	uint16_t sel = (uint16_t)cpu_peek(v, size, size);
	uint64_t mask = FLAG_STATUS | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT;

	if (cpu_v86(v) && cpu_iopl(v) < 3)
		cpu_gp(v);
	if (!cpu_v86(v))
		mask |= FLAG_IOPL;
	if (size == 4)
		mask |= FLAG_RF | FLAG_AC | FLAG_ID;
	real_check_ip(v, ip);
	cpu_set_sp(v, cpu_sp_add(v, 3 * size));
	cpu_set_real_segment(v, S_CS, sel);
	v->rip = ip;
	cpu_load_flags(v, flags, mask);
}

static void iret_to_v86(struct vcpu *v, uint64_t ip, uint16_t cs, uint64_t flags)
{
	static const uint8_t order[] = {S_ES, S_DS, S_FS, S_GS};
	uint16_t sel[4], ss = (uint16_t)cpu_peek(v, 16, 4);
	uint64_t sp = cpu_peek(v, 12, 4);

	for (unsigned i = 0; i < 4; i++)
		sel[i] = (uint16_t)cpu_peek(v, 20 + i * 4, 4);
	if (ip > 0xffff)
		cpu_gp(v);
	cpu_set_rflags(v, flags);
	cpu_set_real_segment(v, S_CS, cs);
	cpu_set_real_segment(v, S_SS, ss);
	for (unsigned i = 0; i < 4; i++)
		cpu_set_real_segment(v, order[i], sel[i]);
	v->gpr[R_SP] = sp;
	v->rip = ip;
	cpu_update_mode(v);
	cpu_set_cpl(v, 3);
}

static void iret_protected(struct vcpu *v, unsigned size)
{
	uint64_t rip = cpu_peek(v, 0, size), flags = cpu_peek(v, 2 * size, size), sp = 0;
	uint16_t sel = (uint16_t)cpu_peek(v, size, size);
	uint64_t mask = cpu_popped_flags(v, size);
	bool outer, from64 = v->mode == X86_MODE_64, with_stack;
	struct descriptor d;
	struct segment cs, ss;

	if (!cpu_long(v) && (flags & FLAG_VM) && size == 4 && v->cpl == 0) {
		iret_to_v86(v, rip, sel, flags);
		return;
	}
	check_return_code(v, sel, &d);
	desc_to_segment(&cs, sel, &d);
	outer = (sel & 3u) > v->cpl;
	with_stack = outer || from64;
	if (with_stack) {
		sp = cpu_peek(v, 3 * size, size);
		check_return_stack(v, (uint16_t)cpu_peek(v, 4 * size, size), sel & 3, cpu_long_cs(v, &cs), &ss);
	}
	cpu_check_rip(v, &cs, cpu_long_cs(v, &cs), rip);
	if (!with_stack)
		cpu_set_sp(v, cpu_sp_add(v, 3 * size));
	/* The flags are those the old CPL may change. */
	enter_code(v, sel, &d, rip, sel & 3);
	cpu_load_flags(v, flags, mask);
	if (with_stack)
		set_stack(v, &ss, sp, v->mode == X86_MODE_64, size);
	if (outer)
		cpu_drop_data_segments(v);
}

static void exec_iret(struct vcpu *v, const struct cpu_op *op)
{
	cpu_serialize(v);
	if (!cpu_protected(v)) {
		iret_real(v, op->op_size);
	} else if (v->sys_flags & FLAG_NT) {
		if (cpu_long(v))
			cpu_gp(v);
		cpu_task_switch(v, (uint16_t)cpu_load_sys(v, v->seg[S_TR].base, 2), TASK_IRET,
				v->rip + op->len, false, 0);
	} else {
		iret_protected(v, op->op_size);
	}
	v->nmi_blocked = false;
}

void cpu_software_interrupt(struct vcpu *v, const struct cpu_op *op, unsigned vector, bool check_dpl)
{
	struct cpu_event e = {.vector = (uint8_t)vector, .software = check_dpl};
	uint64_t start = v->rip;

	/*
	 * Delivered like any event, with RIP after the instruction. A fault during delivery is reported at the
	 * instruction itself, so that its handler can restart it.
	 */
	v->event = e;
	v->rip = start + op->len;
	if (v->mode != X86_MODE_64)
		v->rip &= 0xffffffff;
	v->soft_int_rip = start;
	v->soft_int_pending = true;
	_longjmp(v->fault_jmp, 1);
}

static void exec_int(struct vcpu *v, const struct cpu_op *op)
{
	if (cpu_v86(v) && cpu_iopl(v) < 3)
		cpu_gp(v);
	cpu_software_interrupt(v, op, op->imm & 0xff, true);
}

static void exec_int3(struct vcpu *v, const struct cpu_op *op)
{
	cpu_software_interrupt(v, op, EXC_BP, true);
}

static void exec_into(struct vcpu *v, const struct cpu_op *op)
{
	if (v->status & 1)
		cpu_software_interrupt(v, op, EXC_OF, true);
	cpu_next(v, op);
}

static void exec_int1(struct vcpu *v, const struct cpu_op *op)
{
	cpu_software_interrupt(v, op, EXC_DB, false);
}

const struct cpu_emulation cpu_flow_insns[] = {
	{ZYDIS_MNEMONIC_IRET, exec_iret},   {ZYDIS_MNEMONIC_IRETD, exec_iret},
	{ZYDIS_MNEMONIC_IRETQ, exec_iret},  {ZYDIS_MNEMONIC_INT, exec_int},
	{ZYDIS_MNEMONIC_INT3, exec_int3},   {ZYDIS_MNEMONIC_INTO, exec_into},
	{ZYDIS_MNEMONIC_INT1, exec_int1},
	{0, NULL},
};

/* JMP, CALL and RET have near forms under the same mnemonics: flow.c asks for these. */
cpu_op_fn cpu_far_fn(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return exec_jmp_far;
	case ZYDIS_MNEMONIC_CALL:
		return exec_call_far;
	default:
		return exec_ret_far;
	}
}
