/*
 * op.h - one decoded guest instruction, in the compact form that engines cache and src/cpu/ executes.
 */
#ifndef RINGER_CPU_OP_H
#define RINGER_CPU_OP_H

#include "cpu/cpu.h"
#include "x86/insn.h"

enum {
	EA_RIP = 16,  /* index in vcpu.ea_reg: the address of the instruction itself */
	EA_NONE = 17, /* adds nothing */
};

/* Which state an instruction needs the guest to have enabled (SDM vol. 2, 2.4 and vol. 3, 13.1). */
enum fpu_need { FPU_NONE, FPU_VEX, FPU_X87, FPU_WAIT, FPU_MMX, FPU_SSE, FPU_AVX, FPU_AVX512 };

enum {
	OP_MEM = 1 << 0,   /* the ModRM (or moffs) operand is memory */
	OP_READ = 1 << 1,  /* ... and is read */
	OP_WRITE = 1 << 2, /* ... and is written */
	OP_LOCK = 1 << 3,
	OP_REP = 1 << 4,   /* F3 */
	OP_REPNE = 1 << 5, /* F2 */
	OP_HIGH_REG = 1 << 6, /* reg names AH..BH (4..7 without REX) */
	OP_HIGH_RM = 1 << 7,
	OP_END = 1 << 8,      /* ends a block: control flow, or state changes that decoding depends on */
	OP_CTRL = 1 << 10,    /* x87 control instruction that does not wait: FNSTCW and its like */
	OP_MASKED = 1 << 11,  /* memory elements are accessed under mask register `mask`; others cannot fault */
	OP_PACKED = 1 << 12,  /* ... and lie packed together (compress, expand) */
	OP_NO_ACCESS = 1 << 13, /* names memory but does not access it: multi-byte NOP, PREFETCH */
	OP_REX = 1 << 14,
};

struct cpu_op;
typedef void (*cpu_op_fn)(struct vcpu *v, const struct cpu_op *op);

/*
 * Effective address = (ea_reg[base] + (ea_reg[index] << scale) + disp) & addr_mask, in segment seg.
 * For a RIP-relative operand base is EA_RIP and disp includes the instruction's length.
 */
struct cpu_op {
	cpu_op_fn fn;
	void *native;      /* the engine's own: what runs this instruction on the host */
	uint64_t imm;      /* first immediate, sign-extended as the instruction does; branch displacement */
	int64_t disp;
	uint64_t addr_mask;
	uint16_t mnemonic; /* ZydisMnemonic */
	uint16_t flags;    /* OP_... */
	uint16_t imm2;     /* second immediate: ENTER's level, far pointers' selector */
	uint16_t mem_size; /* bytes of the memory operand */
	uint16_t align;    /* alignment that the memory operand must have, else #GP; 1: none */
	uint8_t len;
	uint8_t op_size;   /* bytes: 1, 2, 4, 8 */
	uint8_t addr_size; /* bytes: 2, 4, 8 */
	uint8_t seg, base, index, scale;
	uint8_t reg, rm;   /* ModRM fields with REX, or the opcode's register in rm */
	uint8_t opcode, map;
	uint8_t fpu;       /* enum fpu_need */
	uint8_t mask, elem_size, elem_count; /* of a masked memory operand; elem_size in bytes */
	uint8_t treatment; /* enum insn_treatment */
};

/* Moves RIP past the instruction. */
static inline void cpu_next(struct vcpu *v, const struct cpu_op *op)
{
	v->rip += op->len;
	if (v->mode != X86_MODE_64)
		v->rip &= 0xffffffff;
}

static inline uint64_t cpu_ea(const struct vcpu *v, const struct cpu_op *op)
{
	return (v->ea_reg[op->base] + (v->ea_reg[op->index] << op->scale) + (uint64_t)op->disp) &
	       op->addr_mask;
}

/* BT, BTS, BTR or BTC of memory with the bit's offset in a register: it may lie far beyond the operand. */
bool cpu_op_is_bit_string(const struct cpu_op *op);

/* LOCK, or XCHG with memory, which needs none. */
bool cpu_op_is_locked(const struct cpu_op *op);

/* Fills op from a decoded instruction: everything but fn and native. mode is the mode it was decoded in. */
void cpu_op_init(struct cpu_op *op, const struct insn *insn, enum x86_mode mode);

/*
 * What executes an instruction whose treatment is not NATIVE: one function for all engines. It is called with
 * RIP at the instruction, leaves it at the next one (or at the target), and raises faults with cpu_raise().
 * NULL when src/cpu/ has none: the instruction then is not offered and raises #UD.
 */
cpu_op_fn cpu_emulate_fn(ZydisMnemonic mnemonic);

#endif
