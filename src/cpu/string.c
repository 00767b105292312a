/*
 * String instructions: MOVS, CMPS, SCAS, LODS, STOS, INS, OUTS.
 *
 * One element is a complete restartable step: after it RSI, RDI and RCX are architectural. A repeated one runs up
 * to a page end or BATCH elements at once, then leaves RIP at itself (vcpu.in_rep) so that interrupts get in.
 * MOVS and STOS within pages that have host pointers use the host's own moves.
 */
#include "cpu/system.h"

#define BATCH 65536u

static uint64_t addr_mask(const struct cpu_op *op)
{
	return op->addr_size == 8 ? ~0ULL : op->addr_size == 4 ? 0xffffffff : 0xffff;
}

static int64_t step(const struct vcpu *v, unsigned size)
{
	return v->sys_flags & FLAG_DF ? -(int64_t)size : (int64_t)size;
}

static void advance(struct vcpu *v, const struct cpu_op *op, unsigned r, int64_t by)
{
	cpu_set_reg(v, r, op->addr_size, false, v->gpr[r] + (uint64_t)by);
}

static uint64_t source(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	return cpu_linear(v, op->seg, v->gpr[R_SI] & addr_mask(op), size, false);
}

static uint64_t destination(struct vcpu *v, const struct cpu_op *op, unsigned size, bool write)
{
	return cpu_linear(v, S_ES, v->gpr[R_DI] & addr_mask(op), size, write);
}

/* SUB's flags, by the host: what CMPS and SCAS leave. */
static void compare(struct vcpu *v, uint64_t a, uint64_t b, unsigned size)
{
	uint16_t status;

	a <<= 64 - size * 8;
	b <<= 64 - size * 8;
	asm volatile("cmp %2, %1\n\tlahf\n\tseto %%al" : "=&a"(status) : "r"(a), "r"(b) : "cc");
	/* AF and PF depend on low bits: redo those unshifted. */
	a >>= 64 - size * 8;
	b >>= 64 - size * 8;
	{
		uint16_t low;

		asm volatile("cmpb %b2, %b1\n\tlahf\n\tseto %%al" : "=&a"(low) : "q"(a), "q"(b) : "cc");
		status = (uint16_t)((status & ~((FLAG_AF | FLAG_PF) << 8)) | (low & ((FLAG_AF | FLAG_PF) << 8)));
	}
	v->status = status & 0xd501;
}

static void movs(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	uint64_t src = source(v, op, size);
	uint64_t val = cpu_load(v, op->seg, src, size);

	cpu_store(v, S_ES, destination(v, op, size, true), size, val);
	advance(v, op, R_SI, step(v, size));
	advance(v, op, R_DI, step(v, size));
}

static void stos(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	cpu_store(v, S_ES, destination(v, op, size, true), size, v->gpr[R_AX]);
	advance(v, op, R_DI, step(v, size));
}

static void lods(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	cpu_set_reg(v, R_AX, size, false, cpu_load(v, op->seg, source(v, op, size), size));
	advance(v, op, R_SI, step(v, size));
}

static void cmps(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	uint64_t b = cpu_load(v, S_ES, destination(v, op, size, false), size); /* the order that faults show */
	uint64_t a = cpu_load(v, op->seg, source(v, op, size), size);

	compare(v, a, b, size);
	advance(v, op, R_SI, step(v, size));
	advance(v, op, R_DI, step(v, size));
}

static void scas(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	uint64_t b = cpu_load(v, S_ES, destination(v, op, size, false), size);

	compare(v, trunc_size(v->gpr[R_AX], size), b, size);
	advance(v, op, R_DI, step(v, size));
}

static void ins(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	uint16_t port = (uint16_t)v->gpr[R_DX];
	uint64_t lin;

	cpu_check_io(v, port, size);
	lin = destination(v, op, size, true);
	cpu_probe(v, S_ES, lin, size, true, v->mmu_mode);
	cpu_store(v, S_ES, lin, size, cpu_in(v, port, size));
	advance(v, op, R_DI, step(v, size));
}

static void outs(struct vcpu *v, const struct cpu_op *op, unsigned size)
{
	uint16_t port = (uint16_t)v->gpr[R_DX];

	cpu_check_io(v, port, size);
	cpu_out(v, port, size, cpu_load(v, op->seg, source(v, op, size), size));
	advance(v, op, R_SI, step(v, size));
}

/* Elements that forward MOVS or STOS can do at once without leaving a page or the segment; 0: one by one. */
static uint64_t run_length(const struct cpu_op *op, unsigned size, uint64_t off, uint64_t lin, uint64_t count)
{
	uint64_t room = (GUEST_PAGE_SIZE - (lin & 0xfff)) / size;
	uint64_t mask = addr_mask(op);

	if (mask != ~0ULL)
		room = min_u64(room, (mask - off) / size);
	return min_u64(room, count);
}

static uint64_t bulk_stos(struct vcpu *v, const struct cpu_op *op, unsigned size, uint64_t count)
{
	uint64_t off = v->gpr[R_DI] & addr_mask(op), lin, n, left;
	uint8_t *dst;

	if (v->mode != X86_MODE_64)
		return 0;
	lin = destination(v, op, size, true);
	n = run_length(op, size, off, lin, count);
	dst = n > 1 ? cpu_write_ptr(v, lin, (unsigned)(n * size)) : NULL;
	if (!dst)
		return 0;
	left = n;
	switch (size) {
	case 1:
		asm volatile("rep stosb" : "+D"(dst), "+c"(left) : "a"(v->gpr[R_AX]) : "memory");
		break;
	case 2:
		asm volatile("rep stosw" : "+D"(dst), "+c"(left) : "a"(v->gpr[R_AX]) : "memory");
		break;
	case 4:
		asm volatile("rep stosl" : "+D"(dst), "+c"(left) : "a"(v->gpr[R_AX]) : "memory");
		break;
	default:
		asm volatile("rep stosq" : "+D"(dst), "+c"(left) : "a"(v->gpr[R_AX]) : "memory");
	}
	advance(v, op, R_DI, (int64_t)(n * size));
	return n;
}

static uint64_t bulk_movs(struct vcpu *v, const struct cpu_op *op, unsigned size, uint64_t count)
{
	uint64_t soff = v->gpr[R_SI] & addr_mask(op), doff = v->gpr[R_DI] & addr_mask(op), src, dst, n;
	uint8_t *to;
	const uint8_t *from;

	if (v->mode != X86_MODE_64)
		return 0;
	src = source(v, op, size);
	dst = destination(v, op, size, true);
	n = run_length(op, size, soff, src, run_length(op, size, doff, dst, count));
	if (n <= 1)
		return 0;
	from = cpu_read_ptr(v, src, (unsigned)(n * size));
	to = cpu_write_ptr(v, dst, (unsigned)(n * size));
	if (!from || !to)
		return 0;
	{
		void *d = to;
		const void *s = from;
		uint64_t c = n * size;

		/* Overlapping moves replicate forward, element by element: bytes would only differ for size > 1. */
		if (size == 1 || to + size <= from || from + c <= to) {
			asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
		} else if (size == 8) {
			c = n;
			asm volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
		} else {
			return 0;
		}
	}
	advance(v, op, R_SI, (int64_t)(n * size));
	advance(v, op, R_DI, (int64_t)(n * size));
	return n;
}

typedef void (*element_fn)(struct vcpu *v, const struct cpu_op *op, unsigned size);
typedef uint64_t (*bulk_fn)(struct vcpu *v, const struct cpu_op *op, unsigned size, uint64_t count);

static uint64_t count_reg(const struct vcpu *v, const struct cpu_op *op)
{
	return v->gpr[R_CX] & addr_mask(op);
}

static void set_count(struct vcpu *v, const struct cpu_op *op, uint64_t n)
{
	cpu_set_reg(v, R_CX, op->addr_size, false, n);
}

/*
 * REP: to the end, or to BATCH elements. In single-step and breakpoint modes each element is a step. CMPS and SCAS
 * show their flags only when they stop: a fault leaves those from before the instruction (SDM vol. 2, REP).
 */
static void repeat(struct vcpu *v, const struct cpu_op *op, unsigned size, element_fn fn, bulk_fn bulk, bool test_zf)
{
	uint64_t done = 0, want = op->flags & OP_REP ? FLAG_ZF << 8 : 0;
	bool one = (v->sys_flags & FLAG_TF) || (v->dr7 & 0xff);
	uint16_t before = v->status, after = before;

	while (count_reg(v, op)) {
		uint64_t n = 0;

		if (bulk && !one && !(v->sys_flags & FLAG_DF))
			n = bulk(v, op, size, min_u64(count_reg(v, op), BATCH));
		if (!n) {
			fn(v, op, size);
			n = 1;
		}
		set_count(v, op, count_reg(v, op) - n);
		after = v->status;
		v->status = before;
		if (test_zf && (after & (FLAG_ZF << 8)) != want)
			break;
		done += n;
		if (count_reg(v, op) && (one || done >= BATCH || v->request)) {
			v->status = after;
			v->in_rep = true;
			return;
		}
	}
	v->status = after;
	v->in_rep = false;
	cpu_next(v, op);
}

static bool is_movs(const struct cpu_op *op)
{
	return (op->opcode & 0xfe) == 0xa4;
}

static bool is_stos(const struct cpu_op *op)
{
	return (op->opcode & 0xfe) == 0xaa;
}

static void string_op(struct vcpu *v, const struct cpu_op *op, element_fn fn, bulk_fn bulk, bool test_zf)
{
	unsigned size = op->opcode & 1 ? op->op_size : 1;

	if (op->flags & (OP_REP | OP_REPNE)) {
		/*
		 * 32-bit registers are written, and so their upper halves cleared, also when there is nothing to do or
		 * the first element faults: ECX always, the pointers where CPUs have fast strings.
		 */
		set_count(v, op, count_reg(v, op));
		if (is_movs(op))
			advance(v, op, R_SI, 0);
		if (is_movs(op) || is_stos(op))
			advance(v, op, R_DI, 0);
		repeat(v, op, size, fn, bulk, test_zf);
	} else {
		fn(v, op, size);
		cpu_next(v, op);
	}
}

static void exec_movs(struct vcpu *v, const struct cpu_op *op)
{
	string_op(v, op, movs, bulk_movs, false);
}

static void exec_stos(struct vcpu *v, const struct cpu_op *op)
{
	string_op(v, op, stos, bulk_stos, false);
}

static void exec_lods(struct vcpu *v, const struct cpu_op *op)
{
	string_op(v, op, lods, NULL, false);
}

static void exec_cmps(struct vcpu *v, const struct cpu_op *op)
{
	string_op(v, op, cmps, NULL, true);
}

static void exec_scas(struct vcpu *v, const struct cpu_op *op)
{
	string_op(v, op, scas, NULL, true);
}

static void io_op(struct vcpu *v, const struct cpu_op *op, element_fn fn)
{
	unsigned size = op->opcode & 1 ? (op->op_size == 2 ? 2 : 4) : 1;

	if (op->flags & (OP_REP | OP_REPNE)) {
		cpu_check_io(v, (uint16_t)v->gpr[R_DX], size); /* also when nothing is left to do */
		repeat(v, op, size, fn, NULL, false);
	} else {
		fn(v, op, size);
		cpu_next(v, op);
	}
}

static void exec_ins(struct vcpu *v, const struct cpu_op *op)
{
	io_op(v, op, ins);
}

static void exec_outs(struct vcpu *v, const struct cpu_op *op)
{
	io_op(v, op, outs);
}

#define STRING(name, fn)                                                                                   \
	{ZYDIS_MNEMONIC_##name##B, fn}, {ZYDIS_MNEMONIC_##name##W, fn}, {ZYDIS_MNEMONIC_##name##D, fn}

const struct cpu_emulation cpu_string_insns[] = {
	STRING(MOVS, exec_movs), {ZYDIS_MNEMONIC_MOVSQ, exec_movs},
	STRING(STOS, exec_stos), {ZYDIS_MNEMONIC_STOSQ, exec_stos},
	STRING(LODS, exec_lods), {ZYDIS_MNEMONIC_LODSQ, exec_lods},
	STRING(CMPS, exec_cmps), {ZYDIS_MNEMONIC_CMPSQ, exec_cmps},
	STRING(SCAS, exec_scas), {ZYDIS_MNEMONIC_SCASQ, exec_scas},
	STRING(INS, exec_ins),   STRING(OUTS, exec_outs),
	{0, NULL},
};
