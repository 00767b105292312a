/*
 * system.h - what src/cpu/'s files offer each other and the engines: modes, segments, transfers, events.
 */
#ifndef RINGER_CPU_SYSTEM_H
#define RINGER_CPU_SYSTEM_H

#include "cpu/access.h"

static inline bool cpu_protected(const struct vcpu *v) /* PE and not virtual-8086 */
{
	return (v->cr0 & CR0_PE) && !(v->sys_flags & FLAG_VM);
}
static inline bool cpu_v86(const struct vcpu *v)
{
	return v->sys_flags & FLAG_VM;
}
static inline bool cpu_long(const struct vcpu *v)
{
	return v->efer & EFER_LMA;
}
static inline unsigned cpu_iopl(const struct vcpu *v)
{
	return (v->sys_flags & FLAG_IOPL) >> 12;
}

/* #GP(0) unless the instruction is at CPL 0; unless UMIP lets this CPL look at system registers. */
static inline void require_cpl0(struct vcpu *v)
{
	if (v->cpl)
		cpu_gp(v);
}
static inline void check_umip(struct vcpu *v)
{
	if (v->cpl && (v->cr4 & CR4_UMIP))
		cpu_gp(v);
}

/* Follow-up of changes: CS or EFER.LMA (mode), CPL or AC (privilege of accesses), CR0/CR3/CR4/EFER (MMU). */
void cpu_update_mode(struct vcpu *v);
void cpu_update_privilege(struct vcpu *v);
void cpu_update_mmu(struct vcpu *v);
void cpu_update_breakpoints(struct vcpu *v);
static inline void cpu_set_cpl(struct vcpu *v, unsigned cpl)
{
	v->cpl = (uint8_t)cpl;
	cpu_update_privilege(v);
}
/* Changes the flags in `mask` to those of `value`. */
void cpu_load_flags(struct vcpu *v, uint64_t value, uint64_t mask);

/* A descriptor as fetched, and where from. High half only for 16-byte system descriptors. */
struct descriptor {
	uint64_t raw, high;
	uint64_t addr; /* linear */
};
uint64_t desc_base(const struct descriptor *d);
uint32_t desc_limit(const struct descriptor *d); /* in bytes */
uint32_t desc_attr(const struct descriptor *d);
/* Fetches sel's descriptor; false when sel is null or outside its table. Page faults are raised. */
bool desc_fetch(struct vcpu *v, uint16_t sel, struct descriptor *d);
/* The same, raising `vector`(sel) instead of false. */
void desc_fetch_or(struct vcpu *v, uint16_t sel, unsigned vector, struct descriptor *d);
/* Reads the upper half of a 16-byte descriptor in long mode. */
void desc_fetch_high(struct vcpu *v, uint16_t sel, unsigned vector, struct descriptor *d);
void desc_set_accessed(struct vcpu *v, struct descriptor *d);
void desc_to_segment(struct segment *s, uint16_t sel, const struct descriptor *d);

/* Loads a segment register as MOV, POP and LDS do, by the mode's rules. Not CS. */
void cpu_load_sreg(struct vcpu *v, unsigned s, uint16_t sel);
/* A stack segment for privilege cpl, checked (faults: vector(sel)); the caller installs it. */
void cpu_check_stack(struct vcpu *v, uint16_t sel, unsigned cpl, unsigned vector, struct segment *ss);
void cpu_set_null_ss(struct vcpu *v, unsigned rpl);
/* Installs CS with CPL, and the mode that follows. */
void cpu_set_cs(struct vcpu *v, const struct segment *cs, unsigned cpl);
void cpu_set_real_segment(struct vcpu *v, unsigned s, uint16_t sel);
/* After a return to lower privilege: data segments that the new CPL may not use become null. */
void cpu_drop_data_segments(struct vcpu *v);
/* RIP of a transfer in code segment cs: canonical, within the limit; else #GP(0). */
void cpu_check_rip(struct vcpu *v, const struct segment *cs, bool long_code, uint64_t rip);
/* Whether this code segment descriptor runs 64-bit code now. */
static inline bool cpu_long_cs(const struct vcpu *v, const struct segment *cs)
{
	return cpu_long(v) && (cs->attr & SEG_L);
}

/* The stack pointer (and selector) for privilege level pl from the TSS; faults as #TS. */
void cpu_tss_stack(struct vcpu *v, unsigned pl, uint16_t *ss, uint64_t *sp);
uint64_t cpu_tss_ist(struct vcpu *v, unsigned n); /* n: 1..7; long mode */

/* TASK_GATE: an exception or external interrupt, whose faults carry EXT; TASK_SOFT_GATE: INT n and its like. */
enum task_source { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE, TASK_SOFT_GATE };
/* Hardware task switch (32- and 16-bit TSS), legacy modes only. error: pushed on the new stack when has_error. */
void cpu_task_switch(struct vcpu *v, uint16_t tss_sel, enum task_source source, uint64_t next_rip,
		     bool has_error, uint32_t error);

/*
 * Delivers an event, through nested faults up to the triple one. RIP is the one to save. Returns false for
 * shutdown. Must not be called from inside an instruction.
 */
bool cpu_deliver(struct vcpu *v, const struct cpu_event *event);
/*
 * Takes what is pending at an instruction boundary, in the order of SDM vol. 3, table 6-2: debug traps, NMI,
 * interrupts; INIT and SIPI too. Returns false for shutdown. *stop is set when CPU_REQ_STOP (or _USER) was seen.
 */
bool cpu_take_pending(struct vcpu *v, bool *stop);
/* Whether a code breakpoint matches the next instruction: *db gets the DR6 bits. */
bool cpu_code_breakpoint(struct vcpu *v, uint64_t lin);
/* The state that INIT leaves; RESET changes more. */
void cpu_init_state(struct vcpu *v);
/* Records data and I/O breakpoints that an access hits. */
void cpu_data_breakpoint(struct vcpu *v, uint64_t lin, unsigned len, bool write);
void cpu_io_breakpoint(struct vcpu *v, uint16_t port, unsigned len);

/* Raises #UD/#NM unless the guest has enabled the state. */
void cpu_require_fpu(struct vcpu *v, enum fpu_need need);
/* The same, and then v->fpu is up to date: before an instruction that uses the state. */
void cpu_check_fpu(struct vcpu *v, enum fpu_need need);
/* Executes INT n/INT3/INTO/INT1 on behalf of an instruction of length len. */
void cpu_software_interrupt(struct vcpu *v, const struct cpu_op *op, unsigned vector, bool check_dpl);

int cpu_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val) must_check;  /* -EINVAL: #GP(0) */
int cpu_msr_write(struct vcpu *v, uint32_t msr, uint64_t val) must_check;
void cpu_set_cr0(struct vcpu *v, uint64_t val); /* with all checks, raising #GP(0) */
void cpu_set_cr3(struct vcpu *v, uint64_t val);
void cpu_set_cr4(struct vcpu *v, uint64_t val);
void cpu_set_efer(struct vcpu *v, uint64_t val);

/* The far forms of JMP, CALL and RET, which share a mnemonic with the near ones. */
cpu_op_fn cpu_far_fn(ZydisMnemonic mnemonic);
/* MOV to and from control and debug registers (0F 20..23). */
cpu_op_fn cpu_mov_crdr_fn(void);
cpu_op_fn cpu_msr_fn(bool write);
/* MOV to and from segment registers (8C, 8E). */
cpu_op_fn cpu_mov_sreg_fn(void);
/* The flags that POPF and IRET may change at this CPL with this operand size. */
uint64_t cpu_popped_flags(const struct vcpu *v, unsigned size);

/* Port access with permission checks (IOPL, I/O bitmap); and without. size 1, 2, 4. */
void cpu_check_io(struct vcpu *v, uint16_t port, unsigned size);
uint64_t cpu_in(struct vcpu *v, uint16_t port, unsigned size);
void cpu_out(struct vcpu *v, uint16_t port, unsigned size, uint64_t val);

/*
 * Brings v->fpu up to date and leaves the vector registers to whoever wants them: libc, Zydis, devices. The code
 * of the light libraries (src/meson.build) may run without.
 */
static inline void cpu_fpu_spill(struct vcpu *v)
{
	if (unlikely(v->fpu_live))
		v->fpu_spill(v);
}

/*
 * By each serializing instruction (SDM vol. 3, 9.3) and MOV to CR3, which kernels take for one: the stores before it are
 * visible to all, and code that others have written before is read anew.
 */
static inline void cpu_serialize(struct vcpu *v)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (unlikely(code_user_serialize(&v->mmu.code))) {
		v->request |= CPU_REQ_CODE;
		v->poll = 1;
	}
}

/* At a safe point, on the vCPU's thread: CPU_REQ_CODE. */
static inline void cpu_catch_up(struct vcpu *v)
{
	if (unlikely(v->request & CPU_REQ_CODE)) {
		v->request &= ~(uint32_t)CPU_REQ_CODE;
		if (v->mmu.code.n_unsure)
			cpu_fpu_spill(v); /* it may wake others */
		code_user_catch_up(&v->mmu.code);
	}
}

/* Devices are ordinary code, which may use vector registers. */
static inline void cpu_lock(struct vcpu *v)
{
	cpu_fpu_spill(v);
	v->lock_tsc = __builtin_ia32_rdtsc();
	if (v->lock)
		v->lock(v->lock_ctx);
}
static inline void cpu_unlock(struct vcpu *v)
{
	if (v->unlock)
		v->unlock(v->lock_ctx);
	v->device_cycles += __builtin_ia32_rdtsc() - v->lock_tsc;
	v->lock_tsc = 0;
}

/* Tables of emulated instructions, one per file; joined in emulate.c. */
struct cpu_emulation {
	uint16_t mnemonic;
	cpu_op_fn fn;
};
extern const struct cpu_emulation cpu_flow_insns[], cpu_stack_insns[], cpu_flag_insns[], cpu_segment_insns[],
	cpu_control_insns[], cpu_system_insns[], cpu_io_insns[], cpu_xsave_insns[], cpu_string_insns[],
	cpu_legacy_insns[];

#endif
