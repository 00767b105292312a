/*
 * Delivery of exceptions and interrupts (SDM vol. 3, chapter 6), and what is pending between instructions.
 *
 * cpu_deliver() runs with a fault_jmp of its own: a fault during delivery comes back to it, is combined with
 * the first by table 6-5 (a second contributory one makes #DF, one during #DF shuts the CPU down), and the
 * result is delivered in turn. State is changed only after the last check of an attempt, so a failed attempt
 * leaves nothing behind but writes to the new stack.
 */
#include <stdio.h>

#include "cpu/kvm.h"
#include "cpu/system.h"

#define NO_RIP (~0ULL)
#define MAX_NESTED 16 /* benign exceptions may nest; hardware would go on for ever */

struct gate {
	uint16_t sel;
	uint64_t off;
	unsigned type, dpl, ist;
	bool present, system;
};

/* Error code that names an IDT entry: EXT is set for events that no instruction asked for. */
static uint32_t idt_error(const struct cpu_event *e)
{
	return (uint32_t)e->vector << 3 | 2 | (e->software ? 0 : 1);
}

static struct gate read_gate(struct vcpu *v, const struct cpu_event *e)
{
	unsigned size = cpu_long(v) ? 16 : 8;
	uint64_t at = v->idt_base + e->vector * size;
	struct gate g;
	uint64_t raw;

	if (e->vector * size + size - 1 > v->idt_limit)
		cpu_raise_error(v, EXC_GP, idt_error(e));
	raw = cpu_load_sys(v, at, 8);
	g.sel = raw >> 16 & 0xffff;
	g.off = (raw & 0xffff) | (raw >> 32 & 0xffff0000);
	g.type = raw >> 40 & 0xf;
	g.system = !(raw & BIT(44));
	g.dpl = raw >> 45 & 3;
	g.present = raw & BIT(47);
	g.ist = 0;
	if (size == 16) {
		g.ist = raw >> 32 & 7;
		g.off |= cpu_load_sys(v, at + 8, 8) << 32;
	} else if (g.type < DESC_CALL) {
		g.off &= 0xffff; /* 16-bit gate */
	}
	return g;
}

static void check_gate(struct vcpu *v, const struct cpu_event *e, const struct gate *g)
{
	bool ok = g->system && (g->type == DESC_INT || g->type == DESC_TRAP);

	if (!cpu_long(v))
		ok |= g->system && (g->type == DESC_INT16 || g->type == DESC_TRAP16 || g->type == DESC_TASK_GATE);
	if (!ok)
		cpu_raise_error(v, EXC_GP, idt_error(e));
	if (e->software && g->dpl < v->cpl)
		cpu_raise_error(v, EXC_GP, idt_error(e));
	if (!g->present)
		cpu_raise_error(v, EXC_NP, idt_error(e));
}

/* RFLAGS as pushed: RF is set for faults (not for instruction breakpoints) and between REP iterations. */
static uint64_t pushed_flags(const struct vcpu *v, const struct cpu_event *e)
{
	uint64_t flags = cpu_rflags(v);
	bool fault = !e->software && !e->external && e->vector < 32 && e->vector != EXC_NMI && e->vector != EXC_DB &&
		     e->vector != EXC_BP && e->vector != EXC_OF && e->vector != EXC_DF && e->vector != EXC_MC;

	if (fault || v->in_rep)
		flags |= FLAG_RF;
	return flags;
}

static void enter_flags(struct vcpu *v, bool interrupt_gate)
{
	v->sys_flags &= ~(uint32_t)(FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT | (interrupt_gate ? FLAG_IF : 0));
	cpu_update_privilege(v);
}

static void deliver_real(struct vcpu *v, const struct cpu_event *e)
{
	uint64_t at = v->idt_base + e->vector * 4u;
	uint16_t sp = (uint16_t)v->gpr[R_SP];
	uint64_t stack = v->seg[S_SS].base;
	uint32_t entry;

	if (e->vector * 4u + 3 > v->idt_limit)
		cpu_raise_error(v, EXC_GP, 0);
	entry = (uint32_t)cpu_load_sys(v, at, 4);
	if ((uint16_t)(sp - 1) > v->seg[S_SS].limit)
		cpu_raise_error(v, EXC_SS, 0);
	cpu_probe(v, S_SS, stack + (uint16_t)(sp - 6), 2, true, v->mmu_mode);
	cpu_store(v, S_SS, stack + (uint16_t)(sp - 2), 2, pushed_flags(v, e));
	cpu_store(v, S_SS, stack + (uint16_t)(sp - 4), 2, v->seg[S_CS].sel);
	cpu_store(v, S_SS, stack + (uint16_t)(sp - 6), 2, v->rip);
	cpu_set_reg(v, R_SP, 2, false, sp - 6u);
	v->sys_flags &= ~(uint32_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
	cpu_update_privilege(v);
	cpu_set_real_segment(v, S_CS, entry >> 16);
	v->rip = entry & 0xffff;
	cpu_update_mode(v);
}

/* The handler's code segment: fetched and checked; returns the new CPL. */
static unsigned check_target(struct vcpu *v, const struct cpu_event *e, const struct gate *g,
			     struct descriptor *d)
{
	uint32_t ext = e->software ? 0 : 1;
	uint32_t attr;

	if (!desc_fetch(v, g->sel, d))
		cpu_raise_error(v, EXC_GP, (g->sel & ~3u) | ext);
	attr = desc_attr(d);
	if (!(attr & SEG_S) || !(attr & SEG_CODE) || seg_dpl(attr) > v->cpl)
		cpu_raise_error(v, EXC_GP, (g->sel & ~3u) | ext);
	if (cpu_long(v) && (!(attr & SEG_L) || (attr & SEG_DB)))
		cpu_raise_error(v, EXC_GP, (g->sel & ~3u) | ext);
	if (!(attr & SEG_P))
		cpu_raise_error(v, EXC_NP, (g->sel & ~3u) | ext);
	if (attr & SEG_CONFORMING) {
		if (cpu_v86(v))
			cpu_raise_error(v, EXC_GP, (g->sel & ~3u) | ext);
		return v->cpl;
	}
	if (cpu_v86(v) && seg_dpl(attr) != 0)
		cpu_raise_error(v, EXC_GP, (g->sel & ~3u) | ext);
	return seg_dpl(attr);
}

/* The frame's n words at sp; frame[0] goes lowest. */
static void push_frame(struct vcpu *v, uint64_t sp, const uint64_t *frame, unsigned n, unsigned mode)
{
	uint64_t *p = tlb_hit(v->mmu.write[mode], sp, n * 8);

	if (likely(p)) {
		for (unsigned i = 0; i < n; i++)
			store_once(&p[i], 8, frame[i]);
		return;
	}
	for (unsigned i = n; i-- > 0;) /* from the top, as pushes: CR2 of a fault shows it */
		cpu_write_slow(v, S_SS, sp + i * 8, &frame[i], 8, mode);
}

static void deliver_long(struct vcpu *v, const struct cpu_event *e, const struct gate *g)
{
	struct descriptor d;
	struct segment cs;
	unsigned cpl = check_target(v, e, g, &d);
	uint64_t sp = v->gpr[R_SP], frame[6];
	unsigned n = 0, mode = cpl == 3 ? MMU_USER : MMU_KERNEL;
	uint16_t ignored;

	if (g->ist)
		sp = cpu_tss_ist(v, g->ist);
	else if (cpl < v->cpl)
		cpu_tss_stack(v, cpl, &ignored, &sp);
	sp &= ~15ULL;
	if (e->has_error)
		frame[n++] = e->error;
	frame[n++] = v->rip;
	frame[n++] = v->seg[S_CS].sel;
	frame[n++] = pushed_flags(v, e);
	frame[n++] = v->gpr[R_SP];
	frame[n++] = v->seg[S_SS].sel;
	sp -= n * 8;
	if (!canonical(sp) || !canonical(sp + n * 8 - 1))
		cpu_raise_error(v, EXC_SS, e->software ? 0 : 1);
	if (!canonical(g->off))
		cpu_raise_error(v, EXC_GP, e->software ? 0 : 1);
	/* SMAP: these are supervisor accesses; with AC clear by the time of the push or set, it is the old AC. */
	if (mode == MMU_KERNEL && v->cpl != 3 && (v->sys_flags & FLAG_AC))
		mode = MMU_KERNEL_AC;
	push_frame(v, sp, frame, n, mode);
	desc_set_accessed(v, &d);
	desc_to_segment(&cs, g->sel, &d);
	if (cpl < v->cpl)
		cpu_set_null_ss(v, cpl);
	v->gpr[R_SP] = sp;
	enter_flags(v, g->type == DESC_INT);
	cpu_set_cs(v, &cs, cpl);
	v->rip = g->off;
}

/* Protected mode's frame on a stack that may be 16 or 32 bits wide. */
struct frame {
	const struct segment *ss;
	uint64_t sp;
	unsigned size, mode; /* bytes an element; privilege of the accesses */
	uint32_t ext;
};

static void frame_push(struct vcpu *v, struct frame *f, uint64_t val)
{
	uint64_t mask = f->ss->attr & SEG_DB ? 0xffffffff : 0xffff;
	uint64_t off = (f->sp - f->size) & mask;
	bool down = (f->ss->attr & SEG_EXPAND_DOWN) && !(f->ss->attr & SEG_CODE);

	if (down ? off <= f->ss->limit || off + f->size - 1 > mask : off + f->size - 1 > f->ss->limit)
		cpu_raise_error(v, EXC_SS, f->ss == &v->seg[S_SS] ? f->ext : (f->ss->sel & ~3u) | f->ext);
	cpu_write_slow(v, S_SS, (f->ss->base + off) & 0xffffffff, &val, f->size, f->mode);
	f->sp = (f->sp & ~mask) | off;
}

static void deliver_protected(struct vcpu *v, const struct cpu_event *e, const struct gate *g)
{
	struct descriptor d;
	struct segment cs, ss = v->seg[S_SS];
	unsigned cpl = check_target(v, e, g, &d);
	bool inner = cpl < v->cpl, from_v86 = cpu_v86(v);
	struct frame f = {.ss = &v->seg[S_SS], .sp = v->gpr[R_SP], .size = g->type >= DESC_CALL ? 4 : 2,
			  .mode = cpl == 3 ? MMU_USER : MMU_KERNEL, .ext = e->software ? 0 : 1};

	if (inner) {
		uint16_t sel;
		uint64_t sp;

		cpu_tss_stack(v, cpl, &sel, &sp);
		if (!(sel & ~3))
			cpu_raise_error(v, EXC_TS, (sel & ~3u) | f.ext);
		cpu_check_stack(v, sel, cpl, EXC_TS, &ss);
		f.ss = &ss;
		f.sp = sp;
		if (from_v86) {
			frame_push(v, &f, v->seg[S_GS].sel);
			frame_push(v, &f, v->seg[S_FS].sel);
			frame_push(v, &f, v->seg[S_DS].sel);
			frame_push(v, &f, v->seg[S_ES].sel);
		}
		frame_push(v, &f, v->seg[S_SS].sel);
		frame_push(v, &f, v->gpr[R_SP]);
	}
	frame_push(v, &f, pushed_flags(v, e));
	frame_push(v, &f, v->seg[S_CS].sel);
	frame_push(v, &f, v->rip);
	if (e->has_error)
		frame_push(v, &f, e->error);
	desc_set_accessed(v, &d);
	desc_to_segment(&cs, g->sel, &d);
	if (g->off > cs.limit)
		cpu_raise_error(v, EXC_GP, f.ext);
	if (from_v86)
		for (unsigned s = 0; s <= S_GS; s++)
			if (s != S_CS && s != S_SS)
				v->seg[s] = (struct segment){.attr = SEG_UNUSABLE};
	v->seg[S_SS] = ss;
	enter_flags(v, g->type == DESC_INT || g->type == DESC_INT16);
	cpu_set_cs(v, &cs, cpl);
	if (ss.attr & SEG_DB)
		v->gpr[R_SP] = (uint32_t)f.sp;
	else
		cpu_set_reg(v, R_SP, 2, false, f.sp);
	v->rip = g->off;
}

static void deliver_once(struct vcpu *v, const struct cpu_event *e)
{
	struct gate g;

	if (!(v->cr0 & CR0_PE)) {
		deliver_real(v, e);
		return;
	}
	g = read_gate(v, e);
	check_gate(v, e, &g);
	if (g.type == DESC_TASK_GATE) {
		v->sys_flags |= (uint32_t)pushed_flags(v, e) & FLAG_RF; /* into the old task's image */
		cpu_task_switch(v, g.sel, e->software ? TASK_SOFT_GATE : TASK_GATE, v->rip, e->has_error, e->error);
	} else if (cpu_long(v)) {
		deliver_long(v, e, &g);
	} else {
		deliver_protected(v, e, &g);
	}
}

static bool contributory(unsigned vector)
{
	return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

/* Table 6-5: what a second exception during the delivery of a first one becomes; false for shutdown. */
static bool combine(struct vcpu *v, const struct cpu_event *first, struct cpu_event *second)
{
	bool hard = !first->software && !first->external && first->vector < 32;

	if (hard && first->vector == EXC_DF)
		return false;
	if (hard && ((contributory(first->vector) && contributory(second->vector)) ||
		     (first->vector == EXC_PF && (contributory(second->vector) || second->vector == EXC_PF))))
		*second = (struct cpu_event){.vector = EXC_DF, .has_error = true};
	return true;
}

static void describe_shutdown(struct vcpu *v)
{
	cpu_fpu_spill(v);
	snprintf(v->stop_reason, sizeof(v->stop_reason),
		 "exception %u (error %#x) while delivering a double fault, at %04x:%#lx", v->event.vector,
		 v->event.error, v->seg[S_CS].sel, v->rip);
}

bool cpu_deliver(struct vcpu *v, const struct cpu_event *event)
{
	jmp_buf saved;
	volatile bool done = false;
	volatile unsigned rounds = 0;
	struct cpu_event e = *event;
	struct cpu_event *volatile cur = &e;

	memcpy(saved, v->fault_jmp, sizeof(saved));
	if (e.vector < 32 && !e.external)
		v->exceptions[e.vector]++;
	else
		v->interrupts++;
	if (e.vector == EXC_DB && !e.software && !e.external)
		v->debugctl &= ~DEBUGCTL_BTF;
	if (_setjmp(v->fault_jmp)) {
		struct cpu_event second = v->event;

		v->ext = 0;
		/* A handler whose own delivery always faults would loop here for ever. */
		if (!combine(v, cur, &second) || ++rounds > MAX_NESTED) {
			describe_shutdown(v);
			memcpy(v->fault_jmp, saved, sizeof(saved));
			return false;
		}
		if (cur->software && v->soft_int_pending)
			v->rip = v->soft_int_rip;
		*cur = second;
		v->exceptions[second.vector & 31]++;
	}
	if (!done) {
		if (!(v->cr0 & CR0_PE))
			cur->has_error = false; /* real mode pushes none */
		v->ext = !cur->software;
		deliver_once(v, cur);
		v->ext = 0;
		v->in_rep = false;
		v->inhibit_rip = NO_RIP;
		v->inhibit_debug = false;
		v->halted = false;
		done = true;
	}
	memcpy(v->fault_jmp, saved, sizeof(saved));
	return true;
}

static bool take_debug_trap(struct vcpu *v)
{
	struct cpu_event e = {.vector = EXC_DB};

	/* DR6: BS, BD and the condition bits are set; B0..B3 of this event only are meaningful. */
	v->dr6 = (v->dr6 & ~0xfULL) | v->pending_db;
	v->dr7 &= ~BIT(13); /* GD */
	v->pending_db = 0;
	return cpu_deliver(v, &e);
}

static void take_init(struct vcpu *v)
{
	uint64_t cr0_cache = v->cr0 & (CR0_CD | CR0_NW);

	cpu_init_state(v);
	v->cr0 = cr0_cache | CR0_ET;
	v->wait_sipi = v->id != 0;
	cpu_state_changed(v);
}

static void take_sipi(struct vcpu *v)
{
	v->request &= ~(uint32_t)CPU_REQ_SIPI;
	if (!v->wait_sipi)
		return;
	v->wait_sipi = false;
	cpu_set_segment(v, S_CS, (uint16_t)(v->sipi_vector << 8), (uint64_t)v->sipi_vector << 12, 0xffff,
			SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED);
	v->rip = 0;
	cpu_state_changed(v);
}

static bool take_nmi(struct vcpu *v)
{
	struct cpu_event e = {.vector = EXC_NMI};

	v->request &= ~(uint32_t)CPU_REQ_NMI;
	v->nmi_blocked = true;
	return cpu_deliver(v, &e);
}

static bool take_interrupt(struct vcpu *v)
{
	struct cpu_event e = {.external = true};
	int vector;

	cpu_lock(v);
	/* Cleared before asking: the APIC sets it again when it still has, or gets, something to offer. */
	v->request &= ~(uint32_t)CPU_REQ_INTR;
	vector = v->apic ? v->apic->ack(v->apic->ctx) : -1;
	cpu_unlock(v);
	cpu_kvm_tick(v); /* what the guest's timer tick reads */
	if (vector < 0)
		return true;
	e.vector = (uint8_t)vector;
	v->halted = false;
	return cpu_deliver(v, &e);
}

bool cpu_take_pending(struct vcpu *v, bool *stop)
{
	uint32_t stops = CPU_REQ_STOP | (v->cpl == 3 ? CPU_REQ_USER : 0);
	bool shadow = v->rip == v->inhibit_rip;

	*stop = false;
	if (v->request & stops) {
		v->request &= ~stops;
		*stop = true;
		return true;
	}
	if (v->request & CPU_REQ_FLUSH) {
		v->request &= ~(uint32_t)CPU_REQ_FLUSH;
		mmu_flush(&v->mmu);
	}
	if (v->request & CPU_REQ_INIT) {
		v->request &= ~(uint32_t)CPU_REQ_INIT;
		take_init(v);
	}
	if (v->request & CPU_REQ_SIPI)
		take_sipi(v);
	if (v->request & CPU_REQ_KICK) {
		v->request &= ~(uint32_t)CPU_REQ_KICK;
		cpu_kvm_kicked(v);
	}
	if (v->wait_sipi)
		return true;
	if (v->halted && cpu_kvm_take_kick(v))
		v->halted = false;
	if (v->pending_db && !(shadow && v->inhibit_debug))
		return take_debug_trap(v);
	if ((v->request & CPU_REQ_NMI) && !v->nmi_blocked && !shadow)
		return take_nmi(v);
	if ((v->request & CPU_REQ_INTR) && (v->sys_flags & FLAG_IF) && !shadow)
		return take_interrupt(v);
	return true;
}

/* Length in bytes of breakpoint n, from DR7.LENn. */
static unsigned breakpoint_len(const struct vcpu *v, unsigned n)
{
	static const uint8_t len[] = {1, 2, 8, 4};

	return len[v->dr7 >> (18 + n * 4) & 3];
}

enum { BREAK_EXEC, BREAK_WRITE, BREAK_IO, BREAK_RW };

static unsigned breakpoint_kind(const struct vcpu *v, unsigned n)
{
	return v->dr7 >> (16 + n * 4) & 3;
}

static bool breakpoint_enabled(const struct vcpu *v, unsigned n)
{
	return v->dr7 >> (n * 2) & 3;
}

void cpu_update_breakpoints(struct vcpu *v)
{
	uint64_t page[MMU_WATCHED];

	for (unsigned n = 0; n < MMU_WATCHED; n++) {
		bool data = breakpoint_enabled(v, n) && (breakpoint_kind(v, n) & 1);

		page[n] = data ? align_down(v->dr[n], GUEST_PAGE_SIZE) : ~0ULL;
	}
	mmu_set_watched(&v->mmu, page);
}

bool cpu_code_breakpoint(struct vcpu *v, uint64_t lin)
{
	uint64_t hit = 0;

	if (v->sys_flags & FLAG_RF)
		return false;
	for (unsigned n = 0; n < 4; n++)
		if (breakpoint_enabled(v, n) && breakpoint_kind(v, n) == BREAK_EXEC && v->dr[n] == lin)
			hit |= BIT(n);
	if (!hit)
		return false;
	v->dr6 = (v->dr6 & ~0xfULL) | hit;
	return true;
}

static void match(struct vcpu *v, uint64_t at, unsigned len, unsigned kinds)
{
	uint64_t hit = 0;
	bool enabled = false;

	for (unsigned n = 0; n < 4; n++) {
		unsigned blen = breakpoint_len(v, n);
		uint64_t start = align_down(v->dr[n], blen);

		if (!(kinds >> breakpoint_kind(v, n) & 1) || at + len <= start || at >= start + blen)
			continue;
		/* B bits are set for disabled breakpoints too, once an enabled one matches. */
		hit |= BIT(n);
		enabled |= breakpoint_enabled(v, n);
	}
	if (enabled)
		v->pending_db |= hit;
}

void cpu_data_breakpoint(struct vcpu *v, uint64_t lin, unsigned len, bool write)
{
	match(v, lin, len, write ? 1 << BREAK_WRITE | 1 << BREAK_RW : 1 << BREAK_RW);
}

void cpu_io_breakpoint(struct vcpu *v, uint16_t port, unsigned len)
{
	if ((v->dr7 & 0xff) && (v->cr4 & CR4_DE))
		match(v, port, len, 1 << BREAK_IO);
}
