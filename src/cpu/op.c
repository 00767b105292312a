/* From Zydis' full description to struct cpu_op. */
#include "cpu/op.h"

#include "cpu/system.h"
#include "x86/gpr.h"

static uint8_t ea_register(ZydisRegister r)
{
	unsigned n;

	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP || r == ZYDIS_REGISTER_IP)
		return EA_RIP;
	n = x86_gpr(r);
	return n == X86_NO_GPR ? EA_NONE : (uint8_t)n;
}

static uint8_t segment_number(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES:
		return S_ES;
	case ZYDIS_REGISTER_CS:
		return S_CS;
	case ZYDIS_REGISTER_SS:
		return S_SS;
	case ZYDIS_REGISTER_FS:
		return S_FS;
	case ZYDIS_REGISTER_GS:
		return S_GS;
	default:
		return S_DS;
	}
}

/* The operand that effective-address fields describe: an explicit one, else the string source or XLAT's table. */
static const ZydisDecodedOperand *memory_operand(const struct insn *insn)
{
	const ZydisDecodedOperand *best = NULL;

	for (unsigned i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->op[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			return o;
		/* ES:rDI is fixed; the other string operand and XLAT's take overrides. */
		if (!best || o->mem.segment != ZYDIS_REGISTER_ES)
			best = o;
	}
	return best;
}

static void take_immediates(struct cpu_op *op, const struct insn *insn)
{
	unsigned n = 0;

	for (unsigned i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->op[i];

		if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
			op->imm = o->ptr.offset;
			op->imm2 = o->ptr.segment;
		} else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			if (n++)
				op->imm2 = (uint16_t)o->imm.value.u;
			else
				op->imm = o->imm.value.u;
		}
	}
}

/* A bit for each class of register that is an operand; general registers, the most of all, left out. */
static uint32_t register_classes(const struct insn *insn)
{
	uint32_t classes = 0;

	for (unsigned i = 0; i < insn->z.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && x86_gpr(insn->op[i].reg.value) == X86_NO_GPR)
			classes |= 1u << ZydisRegisterGetClass(insn->op[i].reg.value);
	return classes;
}

/* SSE instructions whose memory forms name no vector register. */
static bool converts_from_memory(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CVTSD2SI:
	case ZYDIS_MNEMONIC_CVTTSD2SI:
	case ZYDIS_MNEMONIC_CVTSS2SI:
	case ZYDIS_MNEMONIC_CVTTSS2SI:
	case ZYDIS_MNEMONIC_VCVTSD2SI:
	case ZYDIS_MNEMONIC_VCVTTSD2SI:
	case ZYDIS_MNEMONIC_VCVTSS2SI:
	case ZYDIS_MNEMONIC_VCVTTSS2SI:
		return true;
	default:
		return false;
	}
}

static enum fpu_need fpu_need(const struct insn *insn)
{
	const ZydisDecodedInstruction *z = &insn->z;
	uint32_t classes = register_classes(insn);
	bool vector = classes & (1u << ZYDIS_REGCLASS_XMM | 1u << ZYDIS_REGCLASS_YMM) || converts_from_memory(z->mnemonic);

	if (z->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return FPU_WAIT;
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return FPU_AVX512;
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		if (classes & 1u << ZYDIS_REGCLASS_MASK)
			return FPU_AVX512;
		return vector || z->mnemonic == ZYDIS_MNEMONIC_VZEROALL || z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ||
				       z->mnemonic == ZYDIS_MNEMONIC_VLDMXCSR || z->mnemonic == ZYDIS_MNEMONIC_VSTMXCSR ?
			       FPU_AVX : FPU_VEX;
	}
	if (vector || z->mnemonic == ZYDIS_MNEMONIC_LDMXCSR || z->mnemonic == ZYDIS_MNEMONIC_STMXCSR)
		return FPU_SSE;
	if (classes & 1u << ZYDIS_REGCLASS_MMX || z->mnemonic == ZYDIS_MNEMONIC_EMMS)
		return FPU_MMX;
	return z->meta.isa_ext == ZYDIS_ISA_EXT_X87 || (z->opcode_map == 0 && (z->opcode & 0xf8) == 0xd8) ? FPU_X87 :
													     FPU_NONE;
}

static bool allows_misaligned(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return true;
	default:
		return false;
	}
}

/* The alignment that SDM vol. 2, 2.4 (exception classes) asks of the memory operand. */
static uint16_t required_alignment(const struct insn *insn, unsigned mem_size)
{
	const ZydisDecodedInstruction *z = &insn->z;

	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE1:
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE4:
		return mem_size >= 16 && !allows_misaligned(z->mnemonic) ? 16 : 1;
	case ZYDIS_EXCEPTION_CLASS_AVX1:
	case ZYDIS_EXCEPTION_CLASS_E1:
	case ZYDIS_EXCEPTION_CLASS_E1NF:
		return mem_size >= 16 ? (uint16_t)mem_size : 1;
	default:
		switch (z->mnemonic) {
		case ZYDIS_MNEMONIC_CMPXCHG16B:
		case ZYDIS_MNEMONIC_CVTPD2PI:
		case ZYDIS_MNEMONIC_CVTTPD2PI:
			return 16;
		default:
			return 1;
		}
	}
}

static bool suppresses_faults(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_VDBPSADBW: /* classes with NF in the manual; Zydis says E4 */
	case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
		return false;
	default:
		break;
	}
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E1NF:
	case ZYDIS_EXCEPTION_CLASS_E2NF:
	case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF:
	case ZYDIS_EXCEPTION_CLASS_E6NF:
	case ZYDIS_EXCEPTION_CLASS_E9NF:
	case ZYDIS_EXCEPTION_CLASS_E10NF:
	case ZYDIS_EXCEPTION_CLASS_E11NF:
		return false;
	default:
		return true;
	}
}

static bool is_packed(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_VCOMPRESSPS:
	case ZYDIS_MNEMONIC_VCOMPRESSPD:
	case ZYDIS_MNEMONIC_VPCOMPRESSB:
	case ZYDIS_MNEMONIC_VPCOMPRESSW:
	case ZYDIS_MNEMONIC_VPCOMPRESSD:
	case ZYDIS_MNEMONIC_VPCOMPRESSQ:
	case ZYDIS_MNEMONIC_VEXPANDPS:
	case ZYDIS_MNEMONIC_VEXPANDPD:
	case ZYDIS_MNEMONIC_VPEXPANDB:
	case ZYDIS_MNEMONIC_VPEXPANDW:
	case ZYDIS_MNEMONIC_VPEXPANDD:
	case ZYDIS_MNEMONIC_VPEXPANDQ:
		return true;
	default:
		return false;
	}
}

/* Lanes that the destination mask counts: a broadcast source has one memory element for all of them. */
static void take_mask(struct cpu_op *op, const struct insn *insn, const ZydisDecodedOperand *mem)
{
	const ZydisDecodedInstruction *z = &insn->z;

	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || z->avx.mask.reg == ZYDIS_REGISTER_K0 ||
	    z->avx.mask.reg == ZYDIS_REGISTER_NONE)
		return;
	if (!suppresses_faults(z)) {
		/* All of the operand may fault, but inactive elements of a destination keep what they hold. */
		if (op->flags & OP_WRITE)
			op->flags |= OP_READ;
		return;
	}
	op->mask = (uint8_t)ZydisRegisterGetId(z->avx.mask.reg);
	op->elem_size = (uint8_t)(mem->element_size / 8);
	if (!op->elem_size || op->mem_size % op->elem_size)
		return;
	op->elem_count = (uint8_t)(op->mem_size / op->elem_size);
	op->flags |= OP_MASKED;
	if (is_packed(z->mnemonic))
		op->flags |= OP_PACKED;
}

static bool no_access(const ZydisDecodedInstruction *z)
{
	return z->meta.category == ZYDIS_CATEGORY_NOP || z->meta.category == ZYDIS_CATEGORY_WIDENOP ||
	       z->meta.category == ZYDIS_CATEGORY_PREFETCH || z->meta.category == ZYDIS_CATEGORY_PREFETCHWT1 ||
	       z->mnemonic == ZYDIS_MNEMONIC_NOP || z->mnemonic == ZYDIS_MNEMONIC_CLDEMOTE;
}

static void take_memory(struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	const ZydisDecodedOperand *mem = memory_operand(insn);

	op->base = op->index = EA_NONE;
	op->seg = S_DS;
	op->align = 1;
	op->addr_size = insn->z.address_width / 8;
	op->addr_mask = op->addr_size == 8 ? ~0ULL : op->addr_size == 4 ? 0xffffffff : 0xffff;
	if (!mem)
		return;
	op->seg = segment_number(mem->mem.segment);
	op->base = ea_register(mem->mem.base);
	op->disp = mem->mem.disp.has_displacement ? mem->mem.disp.value : 0;
	if (op->base == EA_RIP)
		op->disp += op->len;
	/* A VSIB index is a vector register: struct cpu_op has no room for it, and its users ask Zydis. */
	op->index = ea_register(mem->mem.index);
	op->scale = mem->mem.scale ? (uint8_t)__builtin_ctz(mem->mem.scale) : 0;
	if (mem->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		op->index = (uint8_t)ZydisRegisterGetId(mem->mem.index);
	op->mem_size = mem->size / 8;
	if (insn->z.mnemonic == ZYDIS_MNEMONIC_MOVSXD && insn->z.operand_width == 16)
		op->mem_size = 2; /* Zydis says 4, which is what AMD's manual has; Intel's has 2 */
	if (mem->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
		return;
	op->flags |= OP_MEM;
	if (mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		op->flags |= OP_READ;
	if (mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		op->flags |= OP_WRITE;
	if (mem->mem.type == ZYDIS_MEMOP_TYPE_AGEN || no_access(&insn->z))
		op->flags |= OP_NO_ACCESS;
	op->align = required_alignment(insn, op->mem_size);
	take_mask(op, insn, mem);
	(void)mode;
}

static void take_registers(struct cpu_op *op, const struct insn *insn)
{
	const ZydisDecodedInstruction *z = &insn->z;
	bool rex = z->attributes & ZYDIS_ATTRIB_HAS_REX;
	unsigned r = rex ? z->raw.rex.R << 3 : 0, b = rex ? z->raw.rex.B << 3 : 0;

	if (rex)
		op->flags |= OP_REX;
	if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		op->reg = (uint8_t)(z->raw.modrm.reg | r);
		op->rm = (uint8_t)(z->raw.modrm.rm | b);
		if (!rex && z->raw.modrm.reg >= 4)
			op->flags |= OP_HIGH_REG;
		if (!rex && z->raw.modrm.rm >= 4 && !(op->flags & OP_MEM))
			op->flags |= OP_HIGH_RM;
	} else {
		op->rm = (uint8_t)((z->opcode & 7) | b);
		if (!rex && (z->opcode & 7) >= 4)
			op->flags |= OP_HIGH_RM;
	}
}

/* Mnemonics whose 64-bit form Zydis names apart but gives no operand width. */
static uint8_t operand_size(const ZydisDecodedInstruction *z)
{
	bool w = (z->attributes & ZYDIS_ATTRIB_HAS_REX) && z->raw.rex.W;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XRSTOR64:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XRSTOR:
		return w ? 8 : 4;
	default:
		return z->operand_width / 8;
	}
}

/* x87 control instructions that do not wait for pending exceptions. */
static bool is_no_wait(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
		return true;
	default:
		return false;
	}
}

void cpu_op_init(struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	const ZydisDecodedInstruction *z = &insn->z;

	memset(op, 0, sizeof(*op));
	op->mnemonic = (uint16_t)z->mnemonic;
	op->len = z->length;
	op->op_size = operand_size(z);
	op->opcode = z->opcode;
	op->map = (uint8_t)z->opcode_map;
	op->treatment = (uint8_t)insn_form_info(insn)->interp;
	if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		op->flags |= OP_LOCK;
	for (unsigned i = 0; i < z->raw.prefix_count; i++) {
		/* The last of F2 and F3 counts. */
		if (z->raw.prefixes[i].value == 0xf3)
			op->flags = (uint16_t)((op->flags & ~OP_REPNE) | OP_REP);
		else if (z->raw.prefixes[i].value == 0xf2)
			op->flags = (uint16_t)((op->flags & ~OP_REP) | OP_REPNE);
		else if (z->raw.prefixes[i].value == 0xf0)
			op->flags |= OP_LOCK;
	}
	take_memory(op, insn, mode);
	take_registers(op, insn);
	take_immediates(op, insn);
	op->fpu = (uint8_t)fpu_need(insn);
	if (op->fpu == FPU_X87 && is_no_wait(z->mnemonic))
		op->flags |= OP_CTRL;
}

bool cpu_op_is_bit_string(const struct cpu_op *op)
{
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return op->opcode != 0xba && (op->flags & OP_MEM);
	default:
		return false;
	}
}

bool cpu_op_is_locked(const struct cpu_op *op)
{
	return op->flags & OP_LOCK || (op->mnemonic == ZYDIS_MNEMONIC_XCHG && op->flags & OP_MEM);
}
