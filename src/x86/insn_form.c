/*
 * insn_form.c - rows of the instruction table for the forms of a mnemonic that differ from its common one.
 *
 * The decoder gives one mnemonic to instructions that have nothing but their name in common (MOV to CR3,
 * MOV between registers; MOVSD the string instruction, MOVSD of SSE2). Here the operands decide.
 */
#include "x86/gpr.h"
#include "x86/insn.h"

#define FORM(name, m, c, t, why)                                                                             \
	static const struct insn_info name = { ZYDIS_MNEMONIC_##m, INSN_##c, INSN_##t, INSN_##t, why }

FORM(mov_cr, MOV, PRIVILEGED, EMULATE,
     "Reads or writes a control register, on which paging and protection rest; traps unless CPL is 0");
FORM(mov_dr, MOV, PRIVILEGED, EMULATE,
     "Reads or writes a debug register, which stops any code at any address; traps unless CPL is 0");
FORM(mov_to_sreg, MOV, BEHAVIOUR_SENSITIVE, EMULATE,
     "Loads a descriptor from the monitor's tables and checks it against the real CPL");
FORM(mov_from_sreg, MOV, BEHAVIOUR_SENSITIVE, EMULATE,
     "Shows the selector the hardware holds, whose RPL gives away the real CPL, without trapping");
FORM(push_sreg, PUSH, BEHAVIOUR_SENSITIVE, EMULATE,
     "Shows the selector the hardware holds, whose RPL gives away the real CPL, without trapping");
FORM(pop_sreg, POP, BEHAVIOUR_SENSITIVE, EMULATE,
     "Loads a descriptor from the monitor's tables and checks it against the real CPL");
FORM(far_jmp, JMP, BEHAVIOUR_SENSITIVE, EMULATE,
     "Loads CS through the monitor's descriptor tables, or switches tasks; the real CPL decides");
FORM(far_call, CALL, BEHAVIOUR_SENSITIVE, EMULATE,
     "Loads CS through the monitor's descriptor tables, call gates included, and pushes the real CPL");
FORM(far_ret, RET, BEHAVIOUR_SENSITIVE, EMULATE,
     "Loads CS through the monitor's descriptor tables; the real CPL decides what it may change");
FORM(gone, INVALID, INNOCUOUS, UD,
     "Of an instruction set that current CPUs have dropped; no CPU model offers it");
FORM(native, INVALID, INNOCUOUS, NATIVE, NULL);
FORM(masked_mem, INVALID, INNOCUOUS, VECTOR_MEM,
     "A masked-off element must not be read, written or faulted on, so memory is touched by element");

/* cls: not of general registers, which are told by themselves since they are the most of all. */
static bool is_reg(const struct insn *i, unsigned n, ZydisRegisterClass cls)
{
	return n < i->z.operand_count && i->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       x86_gpr(i->op[n].reg.value) == X86_NO_GPR && ZydisRegisterGetClass(i->op[n].reg.value) == cls;
}

static bool has_mem(const struct insn *i)
{
	for (unsigned n = 0; n < i->z.operand_count_visible; n++)
		if (i->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY && i->op[n].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			return true;
	return false;
}

static const struct insn_info *mov_form(const struct insn *i)
{
	if (is_reg(i, 0, ZYDIS_REGCLASS_SEGMENT))
		return &mov_to_sreg;
	if (is_reg(i, 1, ZYDIS_REGCLASS_SEGMENT))
		return &mov_from_sreg;
	if (is_reg(i, 0, ZYDIS_REGCLASS_CONTROL) || is_reg(i, 1, ZYDIS_REGCLASS_CONTROL))
		return &mov_cr;
	if (is_reg(i, 0, ZYDIS_REGCLASS_DEBUG) || is_reg(i, 1, ZYDIS_REGCLASS_DEBUG))
		return &mov_dr;
	return NULL;
}

static const struct insn_info *far_form(const struct insn *i)
{
	if (i->z.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
		return NULL;
	return i->z.mnemonic == ZYDIS_MNEMONIC_JMP ? &far_jmp :
	       i->z.mnemonic == ZYDIS_MNEMONIC_CALL ? &far_call : &far_ret;
}

/* Exception classes of SDM vol. 2, 2.8 whose name ends in NF read the whole operand whatever the mask. */
static bool suppresses_faults(ZydisExceptionClass c)
{
	switch (c) {
	case ZYDIS_EXCEPTION_CLASS_E1NF:
	case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF:
	case ZYDIS_EXCEPTION_CLASS_E6NF:
	case ZYDIS_EXCEPTION_CLASS_E9NF:
	case ZYDIS_EXCEPTION_CLASS_E10NF:
		return false;
	default:
		return true;
	}
}

static bool masked(const ZydisDecodedInstruction *z)
{
	return z->avx.mask.mode > ZYDIS_MASK_MODE_DISABLED && z->avx.mask.reg != ZYDIS_REGISTER_NONE &&
	       z->avx.mask.reg != ZYDIS_REGISTER_K0;
}

static const struct insn_info *vector_form(const struct insn *i, const struct insn_info *info)
{
	bool mem = has_mem(i);

	if (info->interp == INSN_VECTOR_MEM)
		/* Compress and expand between registers. The others' implicit memory is not visible. */
		return mem || i->z.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX ? info : &native;
	if (info->interp == INSN_NATIVE && mem && i->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
	    masked(&i->z) && suppresses_faults(i->z.meta.exception_class))
		return &masked_mem;
	return info;
}

/* Whole instruction sets that no model offers and that hold nothing sensitive. */
static bool gone_set(ZydisISASet set)
{
	switch (set) {
	case ZYDIS_ISA_SET_AMD3DNOW:
	case ZYDIS_ISA_SET_XOP:
	case ZYDIS_ISA_SET_TBM:
	case ZYDIS_ISA_SET_FMA4:
	case ZYDIS_ISA_SET_AVX512ER_512:
	case ZYDIS_ISA_SET_AVX512ER_SCALAR:
	case ZYDIS_ISA_SET_AVX512PF_512:
	case ZYDIS_ISA_SET_AVX512_4FMAPS_512:
	case ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR:
	case ZYDIS_ISA_SET_AVX512_4VNNIW_512:
	case ZYDIS_ISA_SET_KNCE:
	case ZYDIS_ISA_SET_KNCJKBR:
	case ZYDIS_ISA_SET_KNCSTREAM:
	case ZYDIS_ISA_SET_KNCV:
	case ZYDIS_ISA_SET_KNC_MISC:
	case ZYDIS_ISA_SET_KNC_PF_HINT:
		return true;
	default:
		return false;
	}
}

const struct insn_info *insn_form_info(const struct insn *i)
{
	const struct insn_info *info = insn_info(i->z.mnemonic), *form = NULL;

	if (gone_set(i->z.meta.isa_set))
		return &gone;
	switch (i->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		form = mov_form(i);
		break;
	case ZYDIS_MNEMONIC_PUSH:
		form = is_reg(i, 0, ZYDIS_REGCLASS_SEGMENT) ? &push_sreg : NULL;
		break;
	case ZYDIS_MNEMONIC_POP:
		form = is_reg(i, 0, ZYDIS_REGCLASS_SEGMENT) ? &pop_sreg : NULL;
		break;
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_RET:
		form = far_form(i);
		break;
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_CMPSD:
		form = i->z.meta.category == ZYDIS_CATEGORY_STRINGOP ? NULL : &native;
		break;
	default:
		return vector_form(i, info);
	}
	return form ? form : info;
}
