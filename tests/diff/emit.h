/*
 * emit.h - an assembler for the few instructions that blocks and loops are built around, and the
 * units they are made of.
 *
 * A unit is a run of instructions that may be entered at its start from anywhere: it sets up what
 * it needs. Units leave alone the registers in keep (RSP holds a good stack pointer when it is
 * kept; a loop's counter).
 */
#ifndef RINGER_DIFF_EMIT_H
#define RINGER_DIFF_EMIT_H

#include "gen.h"

struct seq {
	const struct gen *g;
	struct rng *r;
	struct diff_case *c;
	uint64_t keep;
};

/* A memory operand: [base + index * scale + disp]; NO_REG where there is none. */
enum { NO_REG = 16 };
struct mem {
	unsigned base, index, scale;
	int32_t disp;
};

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* Whether n more bytes fit. */
bool room(const struct diff_case *c, size_t n);
uint64_t here(const struct diff_case *c);
void put(struct diff_case *c, const void *bytes, size_t len);
/* As put(), for what the shrinker must leave: without it the case would not end. */
void put_pinned(struct diff_case *c, const void *bytes, size_t len);
void put_mov(struct diff_case *c, unsigned reg, uint64_t value);
/* op: one opcode byte, or two as 0x0fXX, or three as 0x0f38XX; width 1, 2, 4 or 8 bytes. */
void put_rr(struct diff_case *c, unsigned width, unsigned op, unsigned reg, unsigned rm);
void put_rm(struct diff_case *c, unsigned width, unsigned op, unsigned reg, const struct mem *m);
/* Mandatory prefix (0, 0x66, 0xf2, 0xf3) before the opcode. */
void put_sse(struct diff_case *c, unsigned prefix, unsigned op, unsigned reg, const struct mem *m);
/* ALU operation of a register and a sign-extended byte. */
void put_alu_imm(struct diff_case *c, unsigned width, unsigned alu, unsigned reg, int8_t imm);
void put_push(struct diff_case *c, unsigned reg);
void put_pop(struct diff_case *c, unsigned reg);
/* A jump with a 32-bit displacement: cc 0..15, or CC_JMP, or CC_CALL. Returns where the
 * displacement lies. */
enum { CC_JMP = 16, CC_CALL };
unsigned put_jump(struct diff_case *c, unsigned cc);
void set_target(struct diff_case *c, unsigned at, unsigned target);

/* A register that may be written; mostly any, often one that translators steal. */
unsigned pick_reg(const struct seq *q, uint64_t avoid);
unsigned pick_width(const struct seq *q);

/* seq.c */
void put_insn(const struct seq *q);
/* Exceptions masked, so that most sequences get to their end. */
void calm(struct diff_case *c);

/* unit.c: one of them, of the kind that chance says. */
void put_unit(struct seq *q);
/* Instructions that set flags; that neither read nor write them; that read them. */
void unit_producer(struct seq *q);
void unit_neutral(struct seq *q);
void unit_consumer(struct seq *q);

/* Kinds of case. */
void sequence_case(const struct gen *g, struct rng *r, struct diff_case *c);
void block_case(const struct gen *g, struct rng *r, struct diff_case *c);
void loop_case(const struct gen *g, struct rng *r, struct diff_case *c);

#endif
