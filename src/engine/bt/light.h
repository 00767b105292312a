/*
 * light.h - between the files that translate sensitive instructions (light*.c).
 *
 * Code that is emitted here makes every check that can fail before it changes anything: what fails goes to the
 * interpreter, which executes the instruction from its beginning.
 */
#ifndef RINGER_ENGINE_BT_LIGHT_H
#define RINGER_ENGINE_BT_LIGHT_H

#include "engine/bt/translate.h"

/* Displacement of a field of segment register s. */
#define GSEG(s, field) (G(seg) + (s) * sizeof(struct segment) + offsetof(struct segment, field))

/* Hidden parts of the flat segments that SYSCALL and SYSRET install. */
#define FLAT_CODE (SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED | SEG_G | SEG_L)
#define FLAT_STACK (SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | SEG_DB)

enum { SHIFT_SHL = 4, SHIFT_SHR = 5, SHIFT_SAR = 7 };

static inline void emit_shift(struct emitter *e, unsigned ext, unsigned w, unsigned reg, unsigned count)
{
	emit_rex_op(e, 0xc1, w, 0, 0, reg);
	emit_modrm(e, 3, ext, reg);
	emit8(e, count);
}

static inline void emit_test_ri(struct emitter *e, unsigned reg, uint32_t imm) /* 32-bit */
{
	emit_rex_op(e, 0xf7, 0, 0, 0, reg);
	emit_modrm(e, 3, 0, reg);
	emit32(e, imm);
}

/* mov word gs:[disp], reg */
static inline void emit_store16_g(struct emitter *e, unsigned reg, size_t disp)
{
	emit8(e, 0x66);
	emit_rg(e, OP_MOV_MR, 0, reg, disp);
}

/* mov byte gs:[disp], imm */
static inline void emit_mov_g8(struct emitter *e, size_t disp, uint8_t imm)
{
	emit8(e, 0x65);
	emit8(e, 0xc6);
	emit_modrm(e, 0, 0, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit8(e, imm);
}

/* mov word gs:[disp], imm */
static inline void emit_mov_g16(struct emitter *e, size_t disp, uint16_t imm)
{
	emit8(e, 0x65);
	emit8(e, 0x66);
	emit8(e, 0xc7);
	emit_modrm(e, 0, 0, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit8(e, imm & 0xff);
	emit8(e, imm >> 8);
}

/* On condition cc the interpreter executes the current instruction. The flags are in memory, or not wanted. */
void interp_if(struct translation *t, unsigned cc);
/* The same for a jump that is there already. */
void interp_site(struct translation *t, uint32_t field);
/* A call of C code; what it needs of the instruction is kept with the block. */
void emit_light_call(struct translation *t);

/* R10 = RFLAGS of the guest, without RF and VM. Its status flags are in memory. Destroys R11 and the flags. */
void emit_rflags(struct emitter *e);
/* vcpu.status from the flags image in R11. Destroys R10, R11 and the flags. */
void emit_set_status(struct emitter *e);
/* CPL, mode and mmu_mode; no alignment check. */
void emit_set_cpl(struct emitter *e, unsigned cpl);

void emit_syscall(struct translation *t);
void emit_sysret(struct translation *t);
void emit_pushf(struct translation *t);
void emit_popf(struct translation *t);

/* light_fpu.c: what executes FXSAVE and its kin with the state in the hardware; NULL: no such instruction. */
cpu_op_fn light_fpu_fn(const struct cpu_op *op);

bool bit_string_usable(const struct guest_insn *g);
void emit_bit_string(struct translation *t);

#endif
