/*
 * From a decoded instruction to the function that executes it. Plain moves of data between registers, memory and
 * the stack are done here; arithmetic and everything on flags and vectors goes to a thunk on the host.
 */
#include <errno.h>
#include <stdio.h>

#include "cpu/vector.h"
#include "interp/internal.h"

#define FX_FOP 6
#define FX_FIP 8
#define FX_FDP 16
#define X87_SIZE 160 /* of an FXSAVE image's x87 part */
#define FSW_IE 0x01
#define FSW_OE 0x08
#define FSW_UE 0x10
#define FSW_ES 0x80

static _Noreturn void raise_native(struct vcpu *v, const struct cpu_op *op)
{
	const struct native_fault *f = native_last_fault();
	struct interp *it = interp_of(v);

	it->native_faults++;
	switch (f->vector) {
	case EXC_XM:
		/* MXCSR has the exception flags already. */
		if (!(v->cr4 & CR4_OSXMMEXCPT))
			cpu_ud(v);
		cpu_raise(v, EXC_XM);
	case EXC_DE:
	case EXC_MF:
	case EXC_UD:
		cpu_raise(v, f->vector);
	case EXC_GP:
		cpu_gp(v);
	case EXC_AC:
		cpu_raise_error(v, EXC_AC, 0);
	default:
		cpu_fpu_spill(v);
		/* Not the guest's doing: its memory could not be touched (a host out of memory, say). */
		snprintf(v->stop_reason, sizeof(v->stop_reason), "host exception %u at %#lx while running %s", f->vector,
			 f->addr, ZydisMnemonicGetString(op->mnemonic));
		it->failed = true;
		cpu_ud(v);
	}
}

static inline void run_native(struct vcpu *v, const struct cpu_op *op, void *mem)
{
	if (unlikely(native_call(v, mem, op->native)))
		raise_native(v, op);
}

/* The x87 pointers show where the thunk ran: put the guest's own instruction and operand there. */
static void fix_x87_pointers(struct vcpu *v, const struct cpu_op *op, uint64_t host_operand, uint16_t old_fop)
{
	uint64_t ip, dp;
	uint16_t fop, fsw;

	memcpy(&ip, v->fpu.fx + FX_FIP, 8);
	memcpy(&dp, v->fpu.fx + FX_FDP, 8);
	if (!thunks_contain(interp_of(v)->thunks, ip))
		return;
	memcpy(v->fpu.fx + FX_FIP, &v->rip, 8);
	/* FOP holds ModRM, whose mod and rm the thunk changed. Some CPUs record it only with an unmasked exception. */
	memcpy(&fop, v->fpu.fx + FX_FOP, 2);
	memcpy(&fsw, v->fpu.fx + 2, 2);
	if (host_operand && op->fpu == FPU_X87 && (fop != old_fop || (fsw & FSW_ES))) {
		fop = (uint16_t)((op->opcode & 7) << 8 | op->imm2);
		memcpy(v->fpu.fx + FX_FOP, &fop, 2);
	}
	if (host_operand && dp == host_operand) {
		uint64_t ea = cpu_ea(v, op);

		memcpy(v->fpu.fx + FX_FDP, &ea, 8);
	}
}

static void op_native(struct vcpu *v, const struct cpu_op *op)
{
	run_native(v, op, NULL);
	cpu_next(v, op);
}

static void op_native_fpu(struct vcpu *v, const struct cpu_op *op)
{
	cpu_check_fpu(v, op->fpu);
	run_native(v, op, NULL);
	if (op->fpu >= FPU_X87 && op->fpu <= FPU_MMX)
		fix_x87_pointers(v, op, 0, 0);
	cpu_next(v, op);
}

/* With a memory operand of op->mem_size bytes at lin, wherever that is. */
static void native_at(struct vcpu *v, const struct cpu_op *op, uint64_t lin)
{
	bool write = op->flags & OP_WRITE;
	struct cpu_pin pin;
	void *p = write ? cpu_write_ptr(v, lin, op->mem_size) : cpu_read_ptr(v, lin, op->mem_size);
	uint16_t old_fop = (uint16_t)(v->fpu.fx[FX_FOP] | v->fpu.fx[FX_FOP + 1] << 8);

	if (likely(p)) {
		run_native(v, op, p);
	} else {
		cpu_pin(v, &pin, op, lin);
		p = pin.host;
		run_native(v, op, p);
		cpu_pin_done(v, &pin);
	}
	if (op->fpu >= FPU_X87 && op->fpu <= FPU_MMX)
		fix_x87_pointers(v, op, (uint64_t)p, old_fop);
}

static inline uint64_t operand_linear(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = cpu_linear(v, op->seg, cpu_ea(v, op), op->mem_size, op->flags & OP_WRITE);

	if (unlikely(lin & (op->align - 1u)))
		cpu_raise_error(v, EXC_GP, 0);
	return lin;
}

static void op_native_mem(struct vcpu *v, const struct cpu_op *op)
{
	native_at(v, op, operand_linear(v, op));
	cpu_next(v, op);
}

/* p - off as the CPU reckons addresses: the result lies outside of what p points into, and may wrap. */
static uint8_t *address_before(uint8_t *p, int64_t off)
{
	return (uint8_t *)((uintptr_t)p - (uintptr_t)off);
}

/*
 * BT and its kin with a register bit offset address memory beyond the operand. The word that will be accessed is
 * made available, and the thunk gets the address from which the instruction itself finds that word.
 */
static void op_native_bit(struct vcpu *v, const struct cpu_op *op)
{
	int64_t bit = (int64_t)sext_size(v->gpr[op->reg], op->op_size);
	int64_t off = (bit >> (op->op_size == 8 ? 6 : op->op_size == 4 ? 5 : 4)) * op->op_size;
	uint64_t ea = (cpu_ea(v, op) + (uint64_t)off) & op->addr_mask;
	bool write = op->flags & OP_WRITE;
	uint64_t lin = cpu_linear(v, op->seg, ea, op->mem_size, write);
	uint8_t *p = write ? cpu_write_ptr(v, lin, op->mem_size) : cpu_read_ptr(v, lin, op->mem_size);
	struct cpu_pin pin;

	if (p) {
		run_native(v, op, address_before(p, off));
	} else {
		cpu_pin(v, &pin, op, lin);
		run_native(v, op, address_before(pin.host, off));
		cpu_pin_done(v, &pin);
	}
	cpu_next(v, op);
}

/* Elements of a masked operand that are accessed, as a bit mask. */
static uint64_t active_elements(const struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lanes = op->elem_count >= 64 ? ~0ULL : BIT(op->elem_count) - 1;
	uint64_t k = v->fpu.k[op->mask];

	if (op->flags & OP_PACKED) {
		unsigned n = (unsigned)__builtin_popcountll(k & lanes);

		return n >= 64 ? ~0ULL : BIT(n) - 1;
	}
	/* A broadcast operand's elements (imm2 lanes) each serve several lanes. */
	for (unsigned i = op->elem_count; i < op->imm2; i++)
		k |= (k >> i & 1) << i % op->elem_count;
	return k & lanes;
}

static uint64_t masked_linear(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = cpu_ea(v, op) + (op->seg >= S_FS || v->mode != X86_MODE_64 ? v->seg[op->seg].base : 0);

	return v->mode == X86_MODE_64 ? lin : lin & 0xffffffff;
}

/* Segmentation, canonical form and alignment concern active elements alone, and come before any page fault. */
static void check_masked(struct vcpu *v, const struct cpu_op *op, uint64_t lin, uint64_t active)
{
	bool write = op->flags & OP_WRITE;

	if (active && unlikely(lin & (op->align - 1u)))
		cpu_raise_error(v, EXC_GP, 0);
	for (unsigned i = 0; i < op->elem_count; i++) {
		uint64_t at = i * op->elem_size;

		if (!(active >> i & 1))
			continue;
		if (v->mode != X86_MODE_64)
			cpu_linear(v, op->seg, cpu_ea(v, op) + at, op->elem_size, write);
		else if (!canonical(lin + at) || !canonical(lin + at + op->elem_size - 1))
			cpu_raise_error(v, op->seg == S_SS ? EXC_SS : EXC_GP, 0);
	}
}

/* Alignment checking is for operands of up to 8 bytes; S_COUNT asks for none. */
static unsigned element_seg(const struct cpu_op *op)
{
	return op->mem_size > 8 ? S_COUNT : op->seg;
}

static void masked_load(struct vcpu *v, const struct cpu_op *op, uint64_t lin, uint64_t active)
{
	uint8_t *p;

	check_masked(v, op, lin, active);
	p = cpu_read_ptr(v, lin, op->mem_size);
	if (likely(p)) {
		run_native(v, op, p);
		return;
	}
	p = v->bounce + (lin & 63);
	memset(p, 0, op->mem_size);
	for (unsigned i = 0; i < op->elem_count; i++)
		if (active >> i & 1)
			cpu_read_slow(v, element_seg(op), lin + i * op->elem_size, p + i * op->elem_size,
				      op->elem_size, v->mmu_mode);
	run_native(v, op, p);
}

/* The value comes first, with the SIMD exceptions of a conversion. Then no element is stored when one faults. */
static void masked_store(struct vcpu *v, const struct cpu_op *op, uint64_t lin, uint64_t active)
{
	uint8_t *p = v->mode == X86_MODE_64 ? cpu_write_ptr(v, lin, op->mem_size) : NULL;

	if (likely(p && !(lin & (op->align - 1u)))) {
		run_native(v, op, p);
		return;
	}
	p = v->bounce + (lin & 63);
	memset(p, 0, op->mem_size);
	run_native(v, op, p);
	check_masked(v, op, lin, active);
	for (unsigned i = 0; i < op->elem_count; i++)
		if (active >> i & 1)
			cpu_probe(v, element_seg(op), lin + i * op->elem_size, op->elem_size, true, v->mmu_mode);
	for (unsigned i = 0; i < op->elem_count; i++)
		if (active >> i & 1)
			cpu_write_slow(v, element_seg(op), lin + i * op->elem_size, p + i * op->elem_size,
				       op->elem_size, v->mmu_mode);
}

/* EVEX masking: only active elements are accessed. One by one when the whole operand is not plain RAM. */
static void op_native_masked(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = masked_linear(v, op), active;

	cpu_check_fpu(v, op->fpu);
	active = active_elements(v, op);
	if (op->flags & OP_WRITE)
		masked_store(v, op, lin, active);
	else
		masked_load(v, op, lin, active);
	cpu_next(v, op);
}

/* A waiting x87 (or MMX) instruction reports an earlier one's exception before it looks at its operand. */
static void check_pending_x87(struct vcpu *v, const struct cpu_op *op)
{
	if (op->fpu >= FPU_X87 && op->fpu <= FPU_MMX && !(op->flags & OP_CTRL) && (v->fpu.fx[2] & FSW_ES))
		cpu_raise(v, EXC_MF);
}

static void op_native_fpu_mem(struct vcpu *v, const struct cpu_op *op)
{
	cpu_check_fpu(v, op->fpu);
	check_pending_x87(v, op);
	op_native_mem(v, op);
}

/* An unmasked exception that leaves the destination as it was (SDM vol. 1, 8.5): not the inexact result's. */
static bool x87_store_suppressed(const struct vcpu *v)
{
	unsigned unmasked = v->fpu.fx[2] & ~v->fpu.fx[0];

	return unmasked & (FSW_IE | FSW_OE | FSW_UE);
}

/*
 * A store of a converted value: the conversion's exceptions come before any fault of the access, and x87's leave
 * memory alone. What the conversion does to the x87 state must wait for the access; MXCSR's flags do not.
 */
static void op_native_convert(struct vcpu *v, const struct cpu_op *op)
{
	uint8_t before[X87_SIZE], after[X87_SIZE], value[64] = {0};
	uint16_t old_fop;

	cpu_check_fpu(v, op->fpu);
	check_pending_x87(v, op);
	old_fop = (uint16_t)(v->fpu.fx[FX_FOP] | v->fpu.fx[FX_FOP + 1] << 8);
	memcpy(before, v->fpu.fx, X87_SIZE);
	run_native(v, op, value);
	if (op->fpu == FPU_X87)
		fix_x87_pointers(v, op, (uint64_t)value, old_fop);
	if (op->fpu != FPU_X87 || !x87_store_suppressed(v)) {
		memcpy(after, v->fpu.fx, X87_SIZE);
		if (op->fpu == FPU_X87)
			memcpy(v->fpu.fx, before, X87_SIZE);
		cpu_write_slow(v, op->seg, operand_linear(v, op), value, op->mem_size, v->mmu_mode);
		memcpy(v->fpu.fx, after, X87_SIZE);
	}
	cpu_next(v, op);
}

/* The same when the operand is known to be plain RAM, where nothing else can happen. */
static void op_native_convert64(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = cpu_linear(v, op->seg, cpu_ea(v, op), op->mem_size, true);

	if (likely(cpu_write_ptr(v, lin, op->mem_size)))
		op_native_fpu_mem(v, op);
	else
		op_native_convert(v, op);
}

static void op_nop(struct vcpu *v, const struct cpu_op *op)
{
	cpu_next(v, op);
}

static void op_fence(struct vcpu *v, const struct cpu_op *op)
{
	asm volatile("mfence" : : : "memory");
	cpu_next(v, op);
}

/* CLFLUSH and CLWB: caches are coherent here, but the operand is checked like a load. */
static void op_touch(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t lin = cpu_linear(v, op->seg, cpu_ea(v, op), 1, false);

	cpu_probe(v, op->seg, lin, 1, false, v->mmu_mode);
	cpu_next(v, op);
}

static void op_lea(struct vcpu *v, const struct cpu_op *op)
{
	cpu_set_reg(v, op->reg, op->op_size, false, cpu_ea(v, op));
	cpu_next(v, op);
}

static void op_mov_load(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = cpu_load_seg(v, op->seg, cpu_ea(v, op), op->op_size);

	cpu_set_reg(v, op->reg, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_REG, val);
	cpu_next(v, op);
}

static void op_mov_load64(struct vcpu *v, const struct cpu_op *op)
{
	v->gpr[op->reg] = cpu_load_seg(v, op->seg, cpu_ea(v, op), 8);
	v->rip += op->len;
}

static void op_mov_store(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = cpu_reg(v, op->reg, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_REG);

	cpu_store_seg(v, op->seg, cpu_ea(v, op), op->op_size, val);
	cpu_next(v, op);
}

static void op_mov_store64(struct vcpu *v, const struct cpu_op *op)
{
	cpu_store_seg(v, op->seg, cpu_ea(v, op), 8, v->gpr[op->reg]);
	v->rip += op->len;
}

static void op_mov_imm(struct vcpu *v, const struct cpu_op *op)
{
	cpu_write_rm(v, op, op->op_size, op->imm);
	cpu_next(v, op);
}

/* dst and src register numbers in rm and reg (88, 89) */
static void op_mov_reg(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = cpu_reg(v, op->reg, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_REG);

	cpu_set_reg(v, op->rm, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_RM, val);
	cpu_next(v, op);
}

static void op_mov_reg64(struct vcpu *v, const struct cpu_op *op)
{
	v->gpr[op->rm] = v->gpr[op->reg];
	v->rip += op->len;
}

static void op_mov_reg_back(struct vcpu *v, const struct cpu_op *op) /* 8A, 8B */
{
	uint64_t val = cpu_reg(v, op->rm, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_RM);

	cpu_set_reg(v, op->reg, op->op_size, op->op_size == 1 && op->flags & OP_HIGH_REG, val);
	cpu_next(v, op);
}

static void op_push64(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t sp = v->gpr[R_SP] - 8;

	cpu_store(v, S_SS, sp, 8, v->gpr[op->rm]);
	v->gpr[R_SP] = sp;
	v->rip += op->len;
}

static void op_pop64(struct vcpu *v, const struct cpu_op *op)
{
	uint64_t val = cpu_load(v, S_SS, v->gpr[R_SP], 8);

	v->gpr[R_SP] += 8;
	v->gpr[op->rm] = val;
	v->rip += op->len;
}

static void op_movzx_load(struct vcpu *v, const struct cpu_op *op)
{
	cpu_set_reg(v, op->reg, op->op_size, false, cpu_load_seg(v, op->seg, cpu_ea(v, op), op->mem_size));
	cpu_next(v, op);
}

static void op_vzero(struct vcpu *v, const struct cpu_op *op)
{
	unsigned n = v->mode == X86_MODE_64 ? 16 : 8;
	unsigned keep = op->mnemonic == ZYDIS_MNEMONIC_VZEROALL ? 0 : 16;

	cpu_check_fpu(v, FPU_AVX);
	for (unsigned i = 0; i < n; i++)
		memset(v->fpu.zmm[i] + keep, 0, 64 - keep);
	cpu_next(v, op);
}

static void op_ud(struct vcpu *v, const struct cpu_op *op)
{
	(void)op;
	cpu_ud(v);
}

static void op_gp(struct vcpu *v, const struct cpu_op *op)
{
	(void)op;
	cpu_gp(v);
}

void op_select_fault(struct cpu_op *op, enum decode_result result)
{
	memset(op, 0, sizeof(*op));
	op->flags = OP_END;
	op->fn = result == DECODE_TOO_LONG ? op_gp : op_ud;
}

/* MOV: opcodes say the direction; control, debug and segment registers have functions in src/cpu. */
static cpu_op_fn select_mov(struct cpu_op *op, enum x86_mode mode)
{
	bool wide = mode == X86_MODE_64 && op->op_size == 8;

	if (op->map == 1 && op->opcode >= 0x20 && op->opcode <= 0x23) {
		op->flags |= OP_END;
		return cpu_mov_crdr_fn();
	}
	switch (op->opcode) {
	case 0x88:
	case 0x89:
		if (op->flags & OP_MEM)
			return wide ? op_mov_store64 : op_mov_store;
		return wide ? op_mov_reg64 : op_mov_reg;
	case 0x8a:
	case 0x8b:
		if (op->flags & OP_MEM)
			return wide ? op_mov_load64 : op_mov_load;
		return op_mov_reg_back;
	case 0x8c:
	case 0x8e:
		op->flags |= OP_END; /* MOV SS holds interrupts off after it */
		return cpu_mov_sreg_fn();
	case 0xa0:
	case 0xa1:
		op->reg = R_AX;
		return op_mov_load;
	case 0xa2:
	case 0xa3:
		op->reg = R_AX;
		op->flags &= (uint16_t)~OP_HIGH_REG;
		return op_mov_store;
	default:
		return op_mov_imm;
	}
}

/* Instructions with simple functions of their own; NULL: a thunk. */
static cpu_op_fn select_simple(struct cpu_op *op, enum x86_mode mode)
{
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return select_mov(op, mode);
	case ZYDIS_MNEMONIC_LEA:
		return op_lea;
	case ZYDIS_MNEMONIC_MOVZX:
		return op->flags & OP_MEM ? op_movzx_load : NULL;
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
		return op_vzero;
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		return op_touch;
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_PAUSE:
		return op_nop;
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_SFENCE: /* after non-temporal stores, which are native, it is more than its own store order */
		return op_fence;
	default:
		return op->flags & OP_NO_ACCESS || op->mnemonic == ZYDIS_MNEMONIC_NOP ? op_nop : NULL;
	}
}

static uint16_t broadcast_lanes(ZydisBroadcastMode mode)
{
	switch (mode) {
	case ZYDIS_BROADCAST_MODE_1_TO_2:
		return 2;
	case ZYDIS_BROADCAST_MODE_1_TO_4:
	case ZYDIS_BROADCAST_MODE_2_TO_4:
		return 4;
	case ZYDIS_BROADCAST_MODE_1_TO_8:
	case ZYDIS_BROADCAST_MODE_2_TO_8:
	case ZYDIS_BROADCAST_MODE_4_TO_8:
		return 8;
	case ZYDIS_BROADCAST_MODE_1_TO_16:
	case ZYDIS_BROADCAST_MODE_2_TO_16:
	case ZYDIS_BROADCAST_MODE_4_TO_16:
	case ZYDIS_BROADCAST_MODE_8_TO_16:
		return 16;
	case ZYDIS_BROADCAST_MODE_1_TO_32:
		return 32;
	case ZYDIS_BROADCAST_MODE_1_TO_64:
		return 64;
	default:
		return 0;
	}
}

static bool stores_converted(const struct cpu_op *op)
{
	if ((op->flags & (OP_WRITE | OP_READ | OP_CTRL)) != OP_WRITE)
		return false;
	return op->fpu == FPU_X87 || op->mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
}

static int select_thunk(struct interp *it, struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	if (insn_has_hidden_memory(insn)) {
		op_select_fault(op, DECODE_INVALID);
		return 0;
	}
	op->native = thunk_get(it->thunks, op, insn, mode);
	if (!op->native)
		return -ENOSPC;
	if (op->fpu == FPU_X87)
		op->imm2 = insn->bytes[insn->z.raw.modrm.offset];
	if (op->flags & OP_MASKED) {
		op->imm2 = broadcast_lanes(insn->z.avx.broadcast.mode);
		op->fn = op_native_masked;
	} else if (cpu_op_is_bit_string(op)) {
		op->fn = op_native_bit;
	} else if (stores_converted(op)) {
		op->fn = mode == X86_MODE_64 ? op_native_convert64 : op_native_convert;
	} else if (op->flags & OP_MEM) {
		op->fn = op->fpu ? op_native_fpu_mem : op_native_mem;
	} else {
		op->fn = op->fpu ? op_native_fpu : op_native;
	}
	return 0;
}

/* Emulated instructions that leave decoding, privilege and the flow of instructions alone need not end a block. */
static bool stays_in_block(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_LEAVE:
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_CLAC:
		return true;
	default:
		return false;
	}
}

/* FXSAVE, XRSTOR and their kin find MXCSR in the vCPU, and may change it there. */
static void op_with_mxcsr(struct vcpu *v, const struct cpu_op *op)
{
	store_mxcsr(v->fpu.fx + FX_MXCSR);
	cpu_emulate_fn(op->mnemonic)(v, op);
	load_mxcsr(v->fpu.fx + FX_MXCSR);
}

static bool moves_mxcsr(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		return true;
	default:
		return false;
	}
}

static cpu_op_fn select_emulated(struct cpu_op *op, enum x86_mode mode)
{
	bool plain_reg = op->map == 0 && op->opcode >= 0x50 && op->opcode <= 0x5f;

	if (mode == X86_MODE_64 && op->op_size == 8 && plain_reg)
		return op->opcode < 0x58 ? op_push64 : op_pop64;
	if (!stays_in_block(op->mnemonic))
		op->flags |= OP_END;
	if (moves_mxcsr(op->mnemonic))
		return op_with_mxcsr;
	return cpu_emulate_fn(op->mnemonic);
}

int op_select(struct interp *it, struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	if (op->treatment == INSN_UD) {
		op_select_fault(op, DECODE_INVALID);
		return 0;
	}
	op->fn = flow_select(op, insn);
	if (op->fn) {
		op->flags |= OP_END;
		return 0;
	}
	op->fn = select_simple(op, mode);
	if (op->fn)
		return 0;
	if (op->treatment == INSN_VECTOR_MEM && cpu_vector_op_init(op, insn))
		return 0;
	if (op->treatment != INSN_NATIVE && op->treatment != INSN_VECTOR_MEM) {
		op->fn = select_emulated(op, mode);
		if (op->fn)
			return 0;
		op_select_fault(op, DECODE_INVALID);
		return 0;
	}
	return select_thunk(it, op, insn, mode);
}
