/*
 * Lock-step verification: every piece of translated code that runs is compared with the interpreter.
 *
 * Before a block runs (verify_begin()) the interpreter executes its instructions from the present state, and the state
 * that it comes to is kept, with all memory that it wrote; then both are put back. The block runs; wherever it comes back
 * to C code (verify_stop()) it has executed a known number of its instructions, and its state and memory must be the
 * interpreter's after as many. Blocks are not chained, and the jump table leads to a stub, so each comes back.
 *
 * Instructions that C code executes for both (the interpreter's own, light calls) are executed once and not compared:
 * they may have effects that cannot be taken back. The interpreter stops before them, as before an instruction that
 * accesses a device: the device lock tells.
 *
 * What the interpreter writes is known beforehand from the instruction's operands: old bytes are kept by guest-physical
 * address. Other vCPUs and devices may write the same memory meanwhile; a difference counts if it is still there
 * when the interpreter has tried again. Blocks that have run some thousand times are sampled from then on. Status flags that the block overwrites before it reads them are not compared.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/bt/verify.h"

#define PAGE_MASK 0xfffULL

static void *map(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int verify_new(struct bt *bt, struct err *err)
{
	struct verify *y = map(sizeof(*y));

	if (!y)
		return err_set(err, ENOMEM, "out of host memory");
	bt->verify = y;
	y->n_ids = bt->config->cache_bytes / 64 + 2;
	y->block = map(y->n_ids * sizeof(*y->block));
	return y->block ? 0 : err_set(err, ENOMEM, "out of host memory");
}

void verify_free(struct bt *bt)
{
	struct verify *y = bt->verify;

	if (!y)
		return;
	for (uint64_t i = 0; y->block && i < y->n_ids; i++)
		free(y->block[i]);
	if (y->block)
		munmap(y->block, y->n_ids * sizeof(*y->block));
	munmap(y, sizeof(*y));
	bt->verify = NULL;
}

/* Blocks */

static enum verify_write write_of(const struct guest_insn *g)
{
	switch (g->kind) {
	case KIND_PUSH:
	case KIND_PUSH_MEM:
	case KIND_CALL:
	case KIND_CALL_INDIRECT:
		return WRITES_STACK;
	case KIND_LIGHT:
		switch (g->op.mnemonic) {
		case ZYDIS_MNEMONIC_PUSHFQ:
			return WRITES_STACK;
		case ZYDIS_MNEMONIC_BTS:
		case ZYDIS_MNEMONIC_BTR:
		case ZYDIS_MNEMONIC_BTC:
			return WRITES_BITS;
		default:
			return g->op.flags & OP_MEM ? WRITES_NOTHING : WRITES_STRING;
		}
	default:
		return g->op.flags & OP_MEM && g->op.flags & OP_WRITE ? WRITES_OPERAND : WRITES_NOTHING;
	}
}

static bool is_string_write(uint16_t m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return true;
	default:
		return false;
	}
}

/* A block was translated. The extended state is spilled. Without memory for it, it is not verified. */
void verify_translated(struct bt *bt, const struct block *b)
{
	const struct translation *t = bt->translation;
	struct verify *y = bt->verify;
	struct verify_block *k = malloc(sizeof(*k) + t->n * sizeof(k->insn[0]));

	free(y->block[b->id]);
	y->block[b->id] = k;
	if (!k)
		return;
	k->n = t->n;
	k->runs = 0;
	k->fpu = false;
	for (unsigned i = 0; i < t->n; i++) {
		const struct guest_insn *g = &t->insn[i];
		struct verify_insn *v = &k->insn[i];

		v->op = g->op;
		v->live = g->kind == KIND_INTERP || (g->kind == KIND_LIGHT && !g->flags_unseen) ?
			F_ALL : (uint8_t)((g->live & ~g->writes) | g->reads);
		v->special = g->kind == KIND_INTERP || (g->kind == KIND_LIGHT && light_is_call(g));
		v->write = write_of(g);
		if (v->write == WRITES_STRING && !is_string_write(g->op.mnemonic))
			v->write = WRITES_NOTHING;
		k->fpu |= g->op.fpu != FPU_NONE && !v->special;
	}
}

/* State */

static void save_regs(const struct vcpu *v, struct verify_image *m)
{
	memcpy(m->regs, v, VERIFY_REGS);
}

/* All but what other threads set. */
static void restore_regs(struct vcpu *v, const struct verify_image *m)
{
	size_t before = offsetof(struct vcpu, request), after = offsetof(struct vcpu, inhibit_debug);

	memcpy(v, m->regs, before);
	memcpy((uint8_t *)v + after, m->regs + after, VERIFY_REGS - after);
}

/* MXCSR is the guest's all the time. Not inline: tools/check-light.py knows these two by name. */
static __attribute__((noinline)) void verify_get_mxcsr(uint32_t *m)
{
	asm volatile("stmxcsr %0" : "=m"(*m));
}

static __attribute__((noinline)) void verify_set_mxcsr(const uint32_t *m)
{
	asm volatile("ldmxcsr %0" : : "m"(*m));
}

static void save(struct bt *bt, struct verify_image *m, bool fpu)
{
	save_regs(bt->v, m);
	if (!fpu)
		return;
	cpu_fpu_spill(bt->v);
	memcpy(&m->fpu, &bt->v->fpu, sizeof(m->fpu));
	verify_get_mxcsr(&m->mxcsr);
}

static void restore(struct bt *bt, const struct verify_image *m, bool fpu)
{
	restore_regs(bt->v, m);
	if (!fpu)
		return;
	memcpy(&bt->v->fpu, &m->fpu, sizeof(m->fpu));
	verify_set_mxcsr(&m->mxcsr);
}

/* Memory */

/* Keeps what is at a linear address. false: stop before this instruction, for y->end's reason. */
static bool keep(struct bt *bt, uint64_t va, uint64_t len)
{
	struct verify *y = bt->verify;
	struct vcpu *v = bt->v;

	while (len) {
		uint64_t part = min_u64(len, GUEST_PAGE_SIZE - (va & PAGE_MASK)), lines;
		unsigned first = (va & PAGE_MASK) >> 6, last;
		struct mmu_result r;
		void *p;

		if (!canonical(va) || !mmu_probe(&v->mmu, va, MMU_WRITE, v->mmu_mode, &r))
			return true; /* it will fault */
		p = guest_ptr(v->mem, r.gpa, part);
		if (!p)
			return true; /* a device, which the lock shows */
		last = (unsigned)((va + part - 1) & PAGE_MASK) >> 6;
		lines = guest_code_lines(v->mem, GPA(align_down(r.gpa.v, GUEST_PAGE_SIZE)));
		if (lines >> first & (~0ULL >> (63 - (last - first)))) {
			y->end = END_SPECIAL;
			return false;
		}
		if (y->n_spans == VERIFY_SPANS || part > VERIFY_BYTES - y->n_bytes) {
			y->end = END_FULL;
			return false;
		}
		y->span[y->n_spans++] = (struct verify_span){r.gpa.v, (uint32_t)part, y->n_bytes};
		memcpy(y->old + y->n_bytes, p, part);
		y->n_bytes += (uint32_t)part;
		va += part;
		len -= part;
	}
	return true;
}

static uint64_t operand(const struct vcpu *v, const struct cpu_op *op)
{
	return cpu_ea(v, op) + (op->seg >= S_FS ? v->seg[op->seg].base : 0);
}

static bool keep_string(struct bt *bt, const struct cpu_op *op)
{
	const struct vcpu *v = bt->v;
	uint64_t size = op->op_size, mask = op->addr_size == 4 ? 0xffffffff : ~0ULL, n = 1;
	uint64_t at = v->gpr[R_DI] & mask;

	if (op->flags & (OP_REP | OP_REPNE))
		n = min_u64(v->gpr[R_CX] & mask, VERIFY_BYTES);
	if (!n)
		return true;
	return keep(bt, v->sys_flags & FLAG_DF ? at - (n - 1) * size : at, n * size);
}

static bool keep_writes(struct bt *bt, const struct verify_insn *i)
{
	const struct vcpu *v = bt->v;
	const struct cpu_op *op = &i->op;
	int64_t bit;

	switch (i->write) {
	case WRITES_OPERAND:
		return keep(bt, operand(v, op), op->mem_size);
	case WRITES_BITS:
		bit = (int64_t)v->gpr[op->reg];
		bit = op->op_size == 8 ? bit >> 6 : op->op_size == 4 ? (int32_t)bit >> 5 : (int16_t)bit >> 4;
		return keep(bt, operand(v, op) + (uint64_t)(bit * op->op_size), op->op_size);
	case WRITES_STACK:
		return keep(bt, v->gpr[R_SP] - 8, 8);
	case WRITES_STRING:
		return keep_string(bt, op);
	default:
		return true;
	}
}

static void copy_spans(struct bt *bt, uint8_t *to)
{
	struct verify *y = bt->verify;

	for (unsigned i = 0; i < y->n_spans; i++)
		memcpy(to + y->span[i].at, guest_ptr(bt->v->mem, GPA(y->span[i].gpa), y->span[i].len), y->span[i].len);
}

/* Backwards, since spans may overlap. */
static void put_back(struct bt *bt)
{
	struct verify *y = bt->verify;

	for (unsigned i = y->n_spans; i-- > 0;)
		memcpy(guest_ptr(bt->v->mem, GPA(y->span[i].gpa), y->span[i].len), y->old + y->span[i].at,
		       y->span[i].len);
}

/* The interpreter's part */

static void lock_is_taken(void *ctx)
{
	struct bt *bt = ctx;

	bt->verify->end = END_DEVICE;
	_longjmp(bt->v->fault_jmp, 1);
}

static uint64_t insn_rip(const struct bt *bt, const struct block *b, unsigned i)
{
	return b->insn[i].guest_off + (block_floats(b->mode) ? bt->page_va + (b->gpa & PAGE_MASK) : b->va);
}

/* One instruction, with all its iterations. */
static void step(struct bt *bt, const struct verify_insn *i)
{
	struct vcpu *v = bt->v;
	bool rep = i->op.flags & (OP_REP | OP_REPNE);

	do
		interp_one(bt->interp);
	while (rep && v->in_rep);
}

static void run_steps(struct bt *bt, const struct block *b, unsigned limit, bool keeps)
{
	struct verify *y = bt->verify;
	const struct verify_block *k = y->block[b->id];

	while (y->from + y->done < limit) {
		unsigned i = y->from + y->done;

		if (bt->v->rip != insn_rip(bt, b, i)) {
			y->end = END_LEFT;
			return;
		}
		y->end = END_SPECIAL;
		if (k->insn[i].special || (keeps && !keep_writes(bt, &k->insn[i])))
			return;
		y->end = END_FAULT;
		step(bt, &k->insn[i]);
		y->done++;
	}
	y->end = END_LIMIT;
}

/* Executes instructions from->limit of the block from the present state, with faults caught and devices out of reach. */
static void interpret_block(struct bt *bt, const struct block *b, unsigned limit, bool keeps)
{
	struct verify *y = bt->verify;
	struct vcpu *v = bt->v;
	void (*lock)(void *) = v->lock;
	void *lock_ctx = v->lock_ctx;
	uint64_t insns = v->insns, cycles = v->device_cycles, lock_tsc = v->lock_tsc;
	jmp_buf outer;

	memcpy(&outer, &v->fault_jmp, sizeof(outer));
	v->lock = lock_is_taken;
	v->lock_ctx = bt;
	y->done = 0;
	if (!_setjmp(v->fault_jmp))
		run_steps(bt, b, limit, keeps);
	else if (y->end == END_FAULT)
		y->event = v->event;
	memcpy(&v->fault_jmp, &outer, sizeof(outer));
	v->lock = lock;
	v->lock_ctx = lock_ctx;
	v->lock_tsc = lock_tsc;
	v->device_cycles = cycles;
	v->insns = insns;
}

void verify_begin(struct bt *bt, const struct block *b, unsigned from)
{
	struct verify *y = bt->verify;
	struct verify_block *k = y->block[b->id];

	y->active = false;
	if (!k || from >= k->n || k->insn[from].special)
		return;
	if (k->runs++ > VERIFY_OFTEN && k->runs % VERIFY_SAMPLE)
		return;
	y->id = b->id;
	y->from = from;
	y->n_spans = y->n_bytes = 0;
	save(bt, &y->start, k->fpu);
	interpret_block(bt, b, k->n, true);
	save(bt, &y->mine, k->fpu);
	copy_spans(bt, y->my_bytes);
	put_back(bt);
	restore(bt, &y->start, k->fpu);
	y->active = y->end != END_FULL;
	bt->stat[STAT_VERIFIED] += y->active;
}

/* Comparison */

static const char *differing_register(const struct verify *y)
{
	for (unsigned i = 0; i < verify_field_count; i++)
		if (memcmp(y->mine.regs + verify_fields[i].at, y->theirs.regs + verify_fields[i].at,
			   verify_fields[i].size))
			return verify_fields[i].name;
	return NULL;
}

static uint16_t status_mask(uint8_t live)
{
	uint16_t m = live & F_OF ? 1 : 0;

	m |= live & F_CF ? FLAG_CF << 8 : 0;
	m |= live & F_PF ? FLAG_PF << 8 : 0;
	m |= live & F_AF ? FLAG_AF << 8 : 0;
	m |= live & F_ZF ? FLAG_ZF << 8 : 0;
	m |= live & F_SF ? FLAG_SF << 8 : 0;
	return m;
}

static uint16_t status_of(const struct verify_image *m)
{
	uint16_t s;

	memcpy(&s, m->regs + offsetof(struct vcpu, status), 2);
	return s;
}

/* The image's MXCSR and its mask are stale: MXCSR is in the hardware. */
static bool fpu_differs(const struct fpu_state *a, const struct fpu_state *b)
{
	const unsigned mxcsr = 24, after = 32;

	return memcmp(a->fx, b->fx, mxcsr) ||
	       memcmp((const uint8_t *)a + after, (const uint8_t *)b + after, sizeof(*a) - after);
}

static const char *difference(const struct verify *y, const struct verify_block *k, unsigned done)
{
	unsigned next = y->from + done;
	uint16_t mask = status_mask(next < k->n ? k->insn[next].live : F_ALL);
	const char *reg = differing_register(y);

	/* At a jump all flags are wanted, wherever it goes. */
	if (y->end == END_LEFT && done == y->done)
		mask = status_mask(F_ALL);
	if (reg)
		return reg;
	if ((status_of(&y->mine) ^ status_of(&y->theirs)) & mask)
		return "status flags";
	if (k->fpu && fpu_differs(&y->mine.fpu, &y->theirs.fpu))
		return "x87 or vector state";
	if (k->fpu && y->mine.mxcsr != y->theirs.mxcsr)
		return "MXCSR";
	if (memcmp(y->my_bytes, y->their_bytes, y->n_bytes))
		return "memory";
	return NULL;
}

/* The interpreter once more, from the start, for just so many instructions. What it comes to stays. */
static void try_again(struct bt *bt, const struct block *b, const struct verify_block *k, unsigned done)
{
	struct verify *y = bt->verify;

	put_back(bt);
	restore(bt, &y->start, k->fpu);
	interpret_block(bt, b, y->from + done, false);
	save(bt, &y->mine, k->fpu);
	copy_spans(bt, y->my_bytes);
}

static void compare(struct bt *bt, unsigned done, const struct cpu_event *fault)
{
	struct verify *y = bt->verify;
	const struct block *b = cache_block(bt, y->id);
	const struct verify_block *k = y->block[y->id];
	bool faulted = fault && y->end == END_FAULT && y->done == done, first = y->done == done;
	const char *what = NULL;

	y->active = false;
	if (!b || !k)
		return;
	save(bt, &y->theirs, k->fpu);
	copy_spans(bt, y->their_bytes);
	if (fault && !(faulted && fault->vector == y->event.vector && fault->error == y->event.error))
		what = "the fault";
	if (!fault && (y->end == END_FAULT || y->end == END_DEVICE))
		first = false; /* the interpreter's state may be one inside the next instruction */
	if (first && !what)
		what = difference(y, k, done);
	if (first && !what)
		return;
	if (fault) {
		verify_report(bt, b, done, what);
		return;
	}
	try_again(bt, b, k, done);
	what = y->done != done ? "how far it runs" : difference(y, k, done);
	if (what)
		verify_report(bt, b, done, what);
}

/* Translated code has come back before instruction i of block b (or, i being their number, after its last). */
void verify_stop(struct bt *bt, const struct block *b, unsigned i)
{
	struct verify *y = bt->verify;

	if (y->active && y->id == b->id && i >= y->from)
		compare(bt, i - y->from, NULL);
	y->active = false;
}

/* The same by the jump table: va is where it goes. */
void verify_jumped(struct bt *bt, uint64_t va)
{
	struct verify *y = bt->verify;

	bt->v->rip = va;
	/* By which of its exits is not known: by the interpreter's, or it is wrong. */
	if (y->active)
		compare(bt, y->end == END_LEFT ? y->done : y->block[y->id]->n - y->from, NULL);
	y->active = false;
}

/* C code that translated code had called raised a fault of the instruction at RIP. */
void verify_faulted(struct bt *bt, const struct cpu_event *fault)
{
	struct verify *y = bt->verify;
	const struct block *b = y->active ? cache_block(bt, y->id) : NULL;

	for (unsigned i = y->from; b && i < y->block[y->id]->n; i++)
		if (insn_rip(bt, b, i) == bt->v->rip) {
			compare(bt, i - y->from, fault);
			break;
		}
	y->active = false;
}

void verify_abandon(struct bt *bt)
{
	bt->verify->active = false;
}
