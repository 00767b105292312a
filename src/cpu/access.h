/*
 * access.h - faults, and checked access to guest memory by linear address.
 *
 * cpu_raise() unwinds to the running engine (vcpu.fault_jmp), which delivers the event. So a function that
 * executes an instruction must have made every check and access that can fault before it changes state.
 */
#ifndef RINGER_CPU_ACCESS_H
#define RINGER_CPU_ACCESS_H

#include <string.h>

#include "cpu/op.h"

/* Faults without and with an error code; a page fault also loads CR2. */
_Noreturn void cpu_raise(struct vcpu *v, unsigned vector);
_Noreturn void cpu_raise_error(struct vcpu *v, unsigned vector, uint32_t error);
_Noreturn void cpu_raise_page_fault(struct vcpu *v, uint64_t va, uint32_t error);

/* #GP(0) */
static inline _Noreturn void cpu_gp(struct vcpu *v)
{
	cpu_raise_error(v, EXC_GP, 0);
}

static inline _Noreturn void cpu_ud(struct vcpu *v)
{
	cpu_raise(v, EXC_UD);
}

/*
 * Segmentation: turns seg:offset into a linear address, with the checks of the mode: limits, type and null
 * selectors in 16- and 32-bit code (#GP(0), or #SS(0) for SS). In 64-bit code only FS and GS have bases, and
 * the canonical check is made by the access itself.
 */
uint64_t cpu_linear_checked(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, bool write);

static inline uint64_t cpu_linear(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, bool write)
{
	if (v->mode == X86_MODE_64)
		return seg >= S_FS ? off + v->seg[seg].base : off;
	return cpu_linear_checked(v, seg, off, size, write);
}

/*
 * Slow paths: canonical and alignment checks, page walk, page crossing, devices, breakpoints. S_COUNT for seg:
 * #GP, not #SS, and no alignment check.
 */
void cpu_read_slow(struct vcpu *v, unsigned seg, uint64_t lin, void *buf, unsigned len, unsigned mode);
void cpu_write_slow(struct vcpu *v, unsigned seg, uint64_t lin, const void *buf, unsigned len, unsigned mode);
/* Faults as a read (write) of these bytes would; changes nothing but A and D bits. */
void cpu_probe(struct vcpu *v, unsigned seg, uint64_t lin, unsigned len, bool write, unsigned mode);

static inline void *tlb_hit(const struct tlb_entry *table, uint64_t lin, unsigned len)
{
	const struct tlb_entry *e = &table[tlb_index(lin)];

	/* One compare: same page, and all of it (a crossing access differs in its last byte's page). */
	if (likely(e->tag == (lin & ~0xfffULL)) && likely((lin & 0xfff) + len <= GUEST_PAGE_SIZE))
		return (void *)(lin + e->delta);
	return NULL;
}

/* Host pointer for an explicit access, or NULL: take a slow path. */
static inline void *cpu_read_ptr(struct vcpu *v, uint64_t lin, unsigned len)
{
	if (unlikely(v->align_check))
		return NULL;
	return tlb_hit(v->mmu.read[v->mmu_mode], lin, len);
}

static inline void *cpu_write_ptr(struct vcpu *v, uint64_t lin, unsigned len)
{
	if (unlikely(v->align_check))
		return NULL;
	return tlb_hit(v->mmu.write[v->mmu_mode], lin, len);
}

/* Explicit loads and stores of 1, 2, 4 or 8 bytes at a linear address; seg only chooses #SS over #GP. */
static inline uint64_t cpu_load(struct vcpu *v, unsigned seg, uint64_t lin, unsigned size)
{
	const void *p = cpu_read_ptr(v, lin, size);
	uint64_t val = 0;

	if (likely(p))
		return load_once(p, size);
	cpu_read_slow(v, seg, lin, &val, size, v->mmu_mode);
	return val;
}

static inline void cpu_store(struct vcpu *v, unsigned seg, uint64_t lin, unsigned size, uint64_t val)
{
	void *p = cpu_write_ptr(v, lin, size);

	if (likely(p)) {
		store_once(p, size, val);
		return;
	}
	cpu_write_slow(v, seg, lin, &val, size, v->mmu_mode);
}

/* The same through segmentation. */
static inline uint64_t cpu_load_seg(struct vcpu *v, unsigned seg, uint64_t off, unsigned size)
{
	return cpu_load(v, seg, cpu_linear(v, seg, off, size, false), size);
}

static inline void cpu_store_seg(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, uint64_t val)
{
	cpu_store(v, seg, cpu_linear(v, seg, off, size, true), size, val);
}

/* Implicit supervisor accesses: descriptor tables, TSS, stacks of gates. Made as CPL 0, whatever AC says. */
static inline uint64_t cpu_load_sys(struct vcpu *v, uint64_t lin, unsigned size)
{
	const void *p = tlb_hit(v->mmu.read[MMU_KERNEL], lin, size);
	uint64_t val = 0;

	if (likely(p))
		return load_once(p, size);
	cpu_read_slow(v, S_COUNT, lin, &val, size, MMU_KERNEL);
	return val;
}

static inline void cpu_store_sys(struct vcpu *v, uint64_t lin, unsigned size, uint64_t val)
{
	void *p = tlb_hit(v->mmu.write[MMU_KERNEL], lin, size);

	if (likely(p))
		store_once(p, size, val);
	else
		cpu_write_slow(v, S_COUNT, lin, &val, size, MMU_KERNEL);
}

/*
 * Sets and clears bits of the byte at lin by a locked operation, as processors do it for the accessed and busy bits of
 * descriptors, and returns what was there before. A byte of a device is read and written.
 */
uint8_t cpu_update_sys(struct vcpu *v, uint64_t lin, uint8_t set, uint8_t clear);

/*
 * An instruction's memory operand, at lin, to be used in place. host is where its bytes are: the guest's RAM itself, or
 * v->bounce (at the same offset within 64 bytes, already read when the instruction reads it). cpu_pin_done() writes a bounce
 * buffer back and reports writes to code. All faults are raised by cpu_pin().
 *
 * In RAM, also across a page end if the host has the two pages side by side, the instruction's own LOCK makes it atomic to
 * everybody. Two pages that lie apart are put together in the bounce buffer: then a lock of the guest memory makes it
 * atomic to all others done so. To other accesses of these bytes it is a load and a later store, of what has changed.
 */
struct cpu_pin {
	uint8_t *host;
	uint64_t lin;
	gpa_t gpa[2];      /* of the first byte, and of the first byte in the second page */
	uint32_t len, first; /* bytes in all, and in the first page */
	bool direct, write;
	bool locked;       /* the lock is held until cpu_pin_done() */
	uint8_t old[16];   /* when locked: what was read */
};
void cpu_pin(struct vcpu *v, struct cpu_pin *p, const struct cpu_op *op, uint64_t lin);
void cpu_pin_done(struct vcpu *v, struct cpu_pin *p);

/* Operands: general registers by number and size, with AH..BH as the op says. */
static inline uint64_t cpu_reg(const struct vcpu *v, unsigned r, unsigned size, bool high)
{
	return high ? v->gpr[r - 4] >> 8 & 0xff : trunc_size(v->gpr[r], size);
}

/* Writes a register as instructions do: 32-bit writes clear the upper half, smaller ones keep the rest. */
static inline void cpu_set_reg(struct vcpu *v, unsigned r, unsigned size, bool high, uint64_t val)
{
	if (size == 8)
		v->gpr[r] = val;
	else if (size == 4)
		v->gpr[r] = (uint32_t)val;
	else if (size == 2)
		v->gpr[r] = (v->gpr[r] & ~0xffffULL) | (val & 0xffff);
	else if (high)
		v->gpr[r - 4] = (v->gpr[r - 4] & ~0xff00ULL) | (val & 0xff) << 8;
	else
		v->gpr[r] = (v->gpr[r] & ~0xffULL) | (val & 0xff);
}

/* The r/m operand, register or memory, of `size` bytes. */
static inline uint64_t cpu_read_rm(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	if (op->flags & OP_MEM)
		return cpu_load_seg(v, op->seg, cpu_ea(v, op), size);
	return cpu_reg(v, op->rm, size, op->flags & OP_HIGH_RM && size == 1);
}

static inline void cpu_write_rm(struct vcpu *v, const struct cpu_op *op, unsigned size, uint64_t val)
{
	if (op->flags & OP_MEM)
		cpu_store_seg(v, op->seg, cpu_ea(v, op), size, val);
	else
		cpu_set_reg(v, op->rm, size, op->flags & OP_HIGH_RM && size == 1, val);
}

/* Stack: the width of the stack pointer, and pushes and pops with the current SS (CPL's own privilege). */
static inline unsigned cpu_stack_size(const struct vcpu *v)
{
	if (v->mode == X86_MODE_64)
		return 8;
	return v->seg[S_SS].attr & SEG_DB ? 4 : 2;
}

/* RSP + delta, wrapped to the stack's width; and storing a stack pointer of that width. */
static inline uint64_t cpu_sp_add(const struct vcpu *v, int64_t delta)
{
	return trunc_size(v->gpr[R_SP] + (uint64_t)delta, cpu_stack_size(v));
}

static inline void cpu_set_sp(struct vcpu *v, uint64_t sp)
{
	unsigned size = cpu_stack_size(v);

	cpu_set_reg(v, R_SP, size, false, sp);
}

static inline void cpu_push(struct vcpu *v, unsigned size, uint64_t val)
{
	uint64_t sp = cpu_sp_add(v, -(int64_t)size);

	cpu_store_seg(v, S_SS, sp, size, val);
	cpu_set_sp(v, sp);
}

/* Reads the stack at SP + at without moving SP. */
static inline uint64_t cpu_peek(struct vcpu *v, unsigned at, unsigned size)
{
	return cpu_load_seg(v, S_SS, cpu_sp_add(v, at), size);
}

static inline uint64_t cpu_pop(struct vcpu *v, unsigned size)
{
	uint64_t val = cpu_peek(v, 0, size);

	cpu_set_sp(v, cpu_sp_add(v, size));
	return val;
}

#endif
