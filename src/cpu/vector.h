/* vector.h - vector instructions that access memory element by element (treatment INSN_VECTOR_MEM). */
#ifndef RINGER_CPU_VECTOR_H
#define RINGER_CPU_VECTOR_H

#include "cpu/op.h"

/*
 * Completes op (already through cpu_op_init) with what these instructions need, and sets its fn. False when the
 * instruction is none of them: then its memory operand is an ordinary or an EVEX-masked one.
 */
bool cpu_vector_op_init(struct cpu_op *op, const struct insn *insn);

#endif
