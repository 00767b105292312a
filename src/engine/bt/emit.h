/*
 * emit.h - writing host machine code. Register numbers are the architecture's (enum gpr); `op` is the opcode, with
 * 0x0f00 added for the two-byte map; w is REX.W. Names follow the operand forms: r register, m memory, g memory
 * relative to the GS base (the vCPU), i immediate.
 *
 * Running out of room is not an error here: bytes are dropped, and emit_full() tells the translator afterwards.
 */
#ifndef RINGER_ENGINE_BT_EMIT_H
#define RINGER_ENGINE_BT_EMIT_H

#include <string.h>

#include "base/base.h"
#include "x86/x86.h"

struct emitter {
	uint8_t *base, *p, *end; /* where code is written, not where it runs */
};

enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

/* Opcodes with a register and an r/m operand. */
enum {
	OP_ADD_RM = 0x03, OP_SUB_RM = 0x2b, OP_CMP_RM = 0x3b, OP_XOR_RM = 0x33, OP_MOV_MR = 0x89, OP_MOV_RM = 0x8b,
	OP_LEA = 0x8d, OP_MOVZX8 = 0x0fb6, OP_MOVZX16 = 0x0fb7, OP_MOV8_MR = 0x88,
};

static inline bool emit_full(const struct emitter *e)
{
	return e->p + 32 > e->end;
}

static inline uint32_t emit_at(const struct emitter *e)
{
	return (uint32_t)(e->p - e->base);
}

static inline void emit8(struct emitter *e, unsigned b)
{
	if (e->p < e->end)
		*e->p++ = (uint8_t)b;
}

static inline void emit32(struct emitter *e, uint32_t v)
{
	if (e->p + 4 <= e->end) {
		memcpy(e->p, &v, 4);
		e->p += 4;
	}
}

static inline void emit64(struct emitter *e, uint64_t v)
{
	emit32(e, (uint32_t)v);
	emit32(e, (uint32_t)(v >> 32));
}

static inline void emit_bytes(struct emitter *e, const void *p, unsigned n)
{
	if (e->p + n <= e->end) {
		memcpy(e->p, p, n);
		e->p += n;
	}
}

static inline void emit_rex_op(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned index, unsigned base)
{
	unsigned rex = w << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);

	if (rex)
		emit8(e, 0x40 | rex);
	if (op & 0x0f00)
		emit8(e, 0x0f);
	emit8(e, op & 0xff);
}

static inline void emit_modrm(struct emitter *e, unsigned mod, unsigned reg, unsigned rm)
{
	emit8(e, mod << 6 | (reg & 7) << 3 | (rm & 7));
}

static inline void emit_rr(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned rm)
{
	emit_rex_op(e, op, w, reg, 0, rm);
	emit_modrm(e, 3, reg, rm);
}

/* gs:[disp] */
static inline void emit_rg(struct emitter *e, unsigned op, unsigned w, unsigned reg, size_t disp)
{
	emit8(e, 0x65);
	emit_rex_op(e, op, w, reg, 0, 0);
	emit_modrm(e, 0, reg, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
}

/* gs:[base + disp]; base is not RSP or R12 */
static inline void emit_rgb(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned base, size_t disp)
{
	emit8(e, 0x65);
	emit_rex_op(e, op, w, reg, 0, base);
	emit_modrm(e, 2, reg, base);
	emit32(e, (uint32_t)disp);
}

/* ModRM, SIB and displacement for [base + disp]; any base */
static inline void emit_mem(struct emitter *e, unsigned reg, unsigned base, int32_t disp)
{
	bool sib = (base & 7) == 4, disp8 = disp >= -128 && disp <= 127;

	emit_modrm(e, disp == 0 && (base & 7) != 5 ? 0 : disp8 ? 1 : 2, reg, base);
	if (sib)
		emit8(e, 0x24);
	if (disp == 0 && (base & 7) != 5)
		return;
	if (disp8)
		emit8(e, (uint8_t)disp);
	else
		emit32(e, (uint32_t)disp);
}

static inline void emit_rm(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned base, int32_t disp)
{
	emit_rex_op(e, op, w, reg, 0, base);
	emit_mem(e, reg, base, disp);
}

/* [base + index << scale + disp] in host registers */
#define NO_INDEX 16u
struct host_operand {
	uint8_t base, index, scale; /* index: NO_INDEX for none */
	int32_t disp;
};

/* ModRM, SIB and displacement; disp32: of 32 bits if there is one, for encodings that scale those of 8 */
static inline void emit_operand(struct emitter *e, unsigned reg, const struct host_operand *m, bool disp32)
{
	bool none = m->disp == 0 && (m->base & 7) != 5, disp8 = !disp32 && m->disp >= -128 && m->disp <= 127;
	unsigned mod = none ? 0 : disp8 || m->disp == 0 ? 1 : 2;

	if (m->index == NO_INDEX && !disp32) {
		emit_mem(e, reg, m->base, m->disp);
		return;
	}
	emit_modrm(e, mod, reg, m->index == NO_INDEX && (m->base & 7) != 4 ? m->base : 4);
	if (m->index != NO_INDEX || (m->base & 7) == 4)
		emit8(e, (unsigned)m->scale << 6 | (m->index == NO_INDEX ? 4u : m->index & 7u) << 3 | (m->base & 7));
	if (mod == 1)
		emit8(e, (uint8_t)m->disp);
	else if (mod == 2)
		emit32(e, (uint32_t)m->disp);
}

static inline void emit_rop(struct emitter *e, unsigned op, unsigned w, unsigned reg, const struct host_operand *m)
{
	emit_rex_op(e, op, w, reg, m->index == NO_INDEX ? 0 : m->index, m->base);
	emit_operand(e, reg, m, false);
}

static inline void emit_mov(struct emitter *e, unsigned dst, unsigned src) /* 64-bit */
{
	emit_rr(e, OP_MOV_RM, 1, dst, src);
}

static inline void emit_mov_ri(struct emitter *e, unsigned dst, uint64_t v)
{
	if (v <= 0xffffffff) {
		emit_rex_op(e, 0xb8 | (dst & 7), 0, 0, 0, dst);
		emit32(e, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		emit_rex_op(e, 0xc7, 1, 0, 0, dst);
		emit_modrm(e, 3, 0, dst);
		emit32(e, (uint32_t)v);
	} else {
		emit_rex_op(e, 0xb8 | (dst & 7), 1, 0, 0, dst);
		emit64(e, v);
	}
}

/* ALU group 1 with an immediate: ext 0 ADD, 1 OR, 4 AND, 5 SUB, 7 CMP */
enum { ALU_ADD = 0, ALU_OR = 1, ALU_AND = 4, ALU_SUB = 5, ALU_CMP = 7 };
static inline void emit_alu_ri(struct emitter *e, unsigned ext, unsigned w, unsigned reg, int32_t imm)
{
	bool imm8 = imm >= -128 && imm <= 127;

	emit_rex_op(e, imm8 ? 0x83 : 0x81, w, 0, 0, reg);
	emit_modrm(e, 3, ext, reg);
	if (imm8)
		emit8(e, (uint8_t)imm);
	else
		emit32(e, (uint32_t)imm);
}

/* The same on gs:[disp], with an immediate of 8 bits */
static inline void emit_alu_g8(struct emitter *e, unsigned ext, unsigned w, size_t disp, int8_t imm)
{
	emit8(e, 0x65);
	emit_rex_op(e, 0x83, w, 0, 0, 0);
	emit_modrm(e, 0, ext, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit8(e, (uint8_t)imm);
}

static inline void emit_alu_g32(struct emitter *e, unsigned ext, unsigned w, size_t disp, int32_t imm)
{
	emit8(e, 0x65);
	emit_rex_op(e, 0x81, w, 0, 0, 0);
	emit_modrm(e, 0, ext, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit32(e, (uint32_t)imm);
}

/* test byte gs:[disp], imm */
static inline void emit_test_g8(struct emitter *e, size_t disp, uint8_t imm)
{
	emit8(e, 0x65);
	emit8(e, 0xf6);
	emit_modrm(e, 0, 0, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit8(e, imm);
}

/* mov qword gs:[disp], sign-extended imm */
static inline void emit_mov_gi(struct emitter *e, unsigned w, size_t disp, int32_t imm)
{
	emit8(e, 0x65);
	emit_rex_op(e, 0xc7, w, 0, 0, 0);
	emit_modrm(e, 0, 0, 4);
	emit8(e, 0x25);
	emit32(e, (uint32_t)disp);
	emit32(e, (uint32_t)imm);
}

/* Jumps whose target is not known yet: returns the offset of the rel32 field. */
static inline uint32_t emit_jmp(struct emitter *e)
{
	emit8(e, 0xe9);
	emit32(e, 0);
	return emit_at(e) - 4;
}

static inline uint32_t emit_jcc(struct emitter *e, unsigned cc)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cc);
	emit32(e, 0);
	return emit_at(e) - 4;
}

/* Makes the rel32 at offset `field` lead to offset `to`. */
static inline void emit_patch(struct emitter *e, uint32_t field, uint32_t to)
{
	uint32_t rel = to - (field + 4);

	if (e->base + field + 4 <= e->end)
		memcpy(e->base + field, &rel, 4);
}

/* jmp gs:[disp]; jmp gs:[base + disp] */
static inline void emit_jmp_g(struct emitter *e, size_t disp)
{
	emit_rg(e, 0xff, 0, 4, disp);
}

static inline void emit_jmp_gb(struct emitter *e, unsigned base, size_t disp)
{
	emit_rgb(e, 0xff, 0, 4, base, disp);
}

#endif
