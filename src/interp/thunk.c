/*
 * Thunks: host code that runs one guest instruction on copies of its registers.
 *
 *   entry: rdi = vCPU, rsi = memory operand (or nothing)
 *   mov S, rdi / mov M, rsi       when the instruction itself names those registers
 *   stmxcsr, fxrstor64 [S + fx]   x87 and MMX only
 *   vector and mask loads, status flags, general registers
 *   THE INSTRUCTION               memory operand [M]
 *   the same back, for what it writes
 *   xor eax, eax / ret
 *
 * MXCSR is the guest's own all the time that run() runs (native.c); only FXRSTOR needs it in the image.
 *
 * S and M are registers that the instruction does not name. All 64 bits of a general register and all of a vector
 * register are loaded and stored, so partial writes keep what hardware keeps.
 *
 * The arena is one memory file mapped twice: writable here, executable there; never both in one mapping. Thunks
 * with equal bytes are one thunk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "interp/internal.h"

#define ARENA_SIZE MIB(32)
#define THUNK_MAX 512
#define HASH_SIZE (1u << 17) /* slots; the arena holds fewer thunks than that */

struct slot {
	uint32_t hash, off, len; /* len 0: empty */
};

enum vector_width { VEC_SSE, VEC_AVX, VEC_AVX512 };

struct thunks {
	uint8_t *write;
	const uint8_t *exec;
	uint32_t used, count;
	enum vector_width width;
	struct slot slot[HASH_SIZE];
};

int thunks_new(struct thunks **out, struct err *err)
{
	struct thunks *t = calloc(1, sizeof(*t));
	int fd = memfd_create("ringer-thunks", MFD_CLOEXEC);
	int rc = 0;

	if (!t || fd < 0 || ftruncate(fd, ARENA_SIZE)) {
		rc = err_set(err, ENOMEM, "the host gives no memory for thunks");
		goto out;
	}
	t->write = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t->exec = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (t->write == MAP_FAILED || t->exec == MAP_FAILED) {
		rc = err_set(err, EPERM, "the host does not allow executable memory (a security policy?)");
		goto out;
	}
	__builtin_cpu_init();
	t->width = __builtin_cpu_supports("avx512bw") ? VEC_AVX512 : __builtin_cpu_supports("avx") ? VEC_AVX : VEC_SSE;
	*out = t;
out:
	if (fd >= 0)
		close(fd);
	if (rc) {
		if (t && t->write && t->write != MAP_FAILED)
			munmap(t->write, ARENA_SIZE);
		free(t);
	}
	return rc;
}

void thunks_free(struct thunks *t)
{
	if (!t)
		return;
	munmap(t->write, ARENA_SIZE);
	munmap((void *)t->exec, ARENA_SIZE);
	free(t);
}

void thunks_reset(struct thunks *t)
{
	t->used = t->count = 0;
	memset(t->slot, 0, sizeof(t->slot));
}

bool thunks_contain(const struct thunks *t, uint64_t addr)
{
	return addr - (uint64_t)t->exec < ARENA_SIZE;
}

/* What the instruction names. Bits are register numbers. */
struct usage {
	uint32_t gpr_in, gpr_out, vec_in, vec_out;
	uint8_t k_in, k_out;
	bool fx, flags_in, flags_out, mem;
};

static void use_register(struct usage *u, const ZydisDecodedOperand *o)
{
	ZydisRegister r = o->reg.value;
	unsigned id = (unsigned)ZydisRegisterGetId(r);
	bool write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		/* As in 64-bit code, since a needless W makes Zydis name RAX in 32-bit code too. */
		r = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
		id = (unsigned)ZydisRegisterGetId(r);
		u->gpr_in |= 1u << id;
		u->gpr_out |= write ? 1u << id : 0;
		break;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
		u->vec_in |= 1u << id;
		u->vec_out |= write ? 1u << id : 0;
		break;
	case ZYDIS_REGCLASS_MASK:
		u->k_in |= (uint8_t)(1u << id);
		u->k_out |= (uint8_t)(write ? 1u << id : 0);
		break;
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
		u->fx = true;
		break;
	default:
		break;
	}
}

/* These write all six status flags, always. Others may keep some (INC) or all (a shift by 0). */
static bool writes_all_flags(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_NEG:
		return true;
	default:
		return false;
	}
}

static struct usage analyse(const struct cpu_op *op, const struct insn *insn)
{
	const ZydisDecodedInstruction *z = &insn->z;
	struct usage u = {.mem = op->flags & OP_MEM};

	for (unsigned i = 0; i < z->operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			use_register(&u, &insn->op[i]);
	if (z->mnemonic == ZYDIS_MNEMONIC_VP2INTERSECTD || z->mnemonic == ZYDIS_MNEMONIC_VP2INTERSECTQ) {
		/* Writes a pair of mask registers, of which Zydis names one. */
		u.k_in |= (uint8_t)((u.k_in & 0x55) << 1 | (u.k_in & 0xaa) >> 1);
		u.k_out = u.k_in;
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && z->avx.mask.reg > ZYDIS_REGISTER_K0)
		u.k_in |= (uint8_t)(1u << ZydisRegisterGetId(z->avx.mask.reg));
	if (op->fpu == FPU_X87 || op->fpu == FPU_WAIT || op->fpu == FPU_MMX)
		u.fx = true;
	if (z->cpu_flags) {
		u.flags_out = z->cpu_flags->modified | z->cpu_flags->set_0 | z->cpu_flags->set_1 | z->cpu_flags->undefined;
		u.flags_in = z->cpu_flags->tested || (u.flags_out && !writes_all_flags(z->mnemonic));
	}
	return u;
}

struct emitter {
	uint8_t buf[THUNK_MAX];
	unsigned n;
	unsigned s, m; /* registers that hold the vCPU and the memory operand's address */
};

static void emit(struct emitter *e, uint8_t b)
{
	if (e->n < THUNK_MAX)
		e->buf[e->n++] = b;
}

static void emit_bytes(struct emitter *e, const uint8_t *p, unsigned n)
{
	while (n--)
		emit(e, *p++);
}

/* ModRM and disp32 for [S + off]; S is never RSP or R12. */
static void emit_state(struct emitter *e, unsigned reg, size_t off)
{
	uint32_t d = (uint32_t)off;

	emit(e, (uint8_t)(0x80 | (reg & 7) << 3 | (e->s & 7)));
	emit_bytes(e, (const uint8_t *)&d, 4);
}

static uint8_t rex(bool w, unsigned reg, unsigned base)
{
	return (uint8_t)(0x40 | w << 3 | (reg >> 3 & 1) << 2 | (base >> 3 & 1));
}

static void emit_gpr(struct emitter *e, unsigned reg, bool store)
{
	emit(e, rex(true, reg, e->s));
	emit(e, store ? 0x89 : 0x8b);
	emit_state(e, reg, offsetof(struct vcpu, gpr) + reg * 8);
}

/* VMOVDQU64 zmm, VMOVDQU ymm or MOVDQU xmm: as wide as the host has. */
static void emit_vector(struct emitter *e, enum vector_width width, unsigned reg, bool store)
{
	unsigned nr = ~reg, nb = ~e->s;

	switch (width) {
	case VEC_AVX512:
		emit(e, 0x62);
		emit(e, (uint8_t)((nr >> 3 & 1) << 7 | 0x40 | (nb >> 3 & 1) << 5 | (nr >> 4 & 1) << 4 | 1));
		emit(e, 0xfe);
		emit(e, 0x48);
		break;
	case VEC_AVX:
		emit(e, 0xc4);
		emit(e, (uint8_t)((nr >> 3 & 1) << 7 | 0x40 | (nb >> 3 & 1) << 5 | 1));
		emit(e, 0x7e);
		break;
	default:
		emit(e, 0xf3);
		emit(e, rex(false, reg, e->s));
		emit(e, 0x0f);
	}
	emit(e, store ? 0x7f : 0x6f);
	emit_state(e, reg, offsetof(struct vcpu, fpu.zmm) + reg * 64);
}

static void emit_mask(struct emitter *e, unsigned reg, bool store) /* KMOVQ */
{
	emit(e, 0xc4);
	emit(e, (uint8_t)(0xc1 | (~e->s >> 3 & 1) << 5));
	emit(e, 0xf8);
	emit(e, store ? 0x91 : 0x90);
	emit_state(e, reg, offsetof(struct vcpu, fpu.k) + reg * 8);
}

/* FXSAVE64 (0F AE /0), FXRSTOR64 (/1), STMXCSR (/3) of the state */
static void emit_0fae(struct emitter *e, unsigned ext, size_t off)
{
	emit(e, rex(ext <= 1, 0, e->s));
	emit(e, 0x0f);
	emit(e, 0xae);
	emit_state(e, ext, off);
}

static void emit_flags_in(struct emitter *e)
{
	static const uint8_t code[] = {0x04, 0x7f, 0x9e}; /* add al, 7f (sets OF from bit 0); sahf */

	emit(e, 0x66);
	emit(e, rex(false, 0, e->s));
	emit(e, 0x8b);
	emit_state(e, 0, offsetof(struct vcpu, status));
	emit_bytes(e, code, sizeof(code));
}

static void emit_flags_out(struct emitter *e)
{
	static const uint8_t code[] = {0x9f, 0x0f, 0x90, 0xc0}; /* lahf; seto al */

	emit_bytes(e, code, sizeof(code));
	emit(e, 0x66);
	emit(e, rex(false, 0, e->s));
	emit(e, 0x89);
	emit_state(e, 0, offsetof(struct vcpu, status));
}

static void emit_mov(struct emitter *e, unsigned dst, unsigned src) /* 64-bit */
{
	emit(e, rex(true, src, dst));
	emit(e, 0x89);
	emit(e, (uint8_t)(0xc0 | (src & 7) << 3 | (dst & 7)));
}

static bool choose_registers(struct emitter *e, const struct usage *u)
{
	static const uint8_t s_pref[] = {R_DI, R_15, R_14, R_13, R_BP, R_11, R_10};
	/* M needs no REX, so that AH..BH stay encodable, and is not RAX, which carries the flags. */
	static const uint8_t m_pref[] = {R_SI, R_DX, R_CX, R_BX, R_DI};
	uint32_t used = u->gpr_in | u->gpr_out;
	bool ok = false;

	for (unsigned i = 0; i < ARRAY_SIZE(s_pref) && !ok; i++)
		if (!(used >> s_pref[i] & 1)) {
			e->s = s_pref[i];
			ok = true;
		}
	if (!ok || !u->mem)
		return ok;
	for (unsigned i = 0; i < ARRAY_SIZE(m_pref); i++)
		if (!(used >> m_pref[i] & 1) && m_pref[i] != e->s) {
			e->m = m_pref[i];
			return true;
		}
	return false;
}

static void emit_load(struct emitter *e, const struct usage *u, enum vector_width width)
{
	/* M first: S may be RDI or not, but RSI must be read before anything overwrites it. */
	if (u->mem && e->m != R_SI)
		emit_mov(e, e->m, R_SI);
	if (e->s != R_DI)
		emit_mov(e, e->s, R_DI);
	if (u->fx) {
		emit_0fae(e, 3, offsetof(struct vcpu, fpu.fx) + 24);
		emit_0fae(e, 1, offsetof(struct vcpu, fpu.fx));
	}
	for (unsigned i = 0; i < 32; i++)
		if (u->vec_in >> i & 1)
			emit_vector(e, width, i, false);
	for (unsigned i = 0; i < 8; i++)
		if (u->k_in >> i & 1)
			emit_mask(e, i, false);
	if (u->flags_in)
		emit_flags_in(e);
	for (unsigned i = 0; i < 16; i++)
		if (u->gpr_in >> i & 1)
			emit_gpr(e, i, false);
}

static void emit_store(struct emitter *e, const struct usage *u, enum vector_width width)
{
	static const uint8_t vzeroupper[] = {0xc5, 0xf8, 0x77};
	static const uint8_t leave_ok[] = {0x31, 0xc0, 0xc3}, below[] = {0x48, 0x8d, 0x64, 0x24, 0xf8};

	for (unsigned i = 0; i < 16; i++)
		if (u->gpr_out >> i & 1)
			emit_gpr(e, i, true);
	if (u->gpr_in >> R_SP & 1) {
		emit(e, rex(true, R_SP, e->s));
		emit(e, 0x8b);
		emit_state(e, R_SP, offsetof(struct vcpu, native_rsp));
		emit_bytes(e, below, sizeof(below)); /* lea rsp, [rsp - 8]: our return address */
	}
	if (u->flags_out)
		emit_flags_out(e);
	for (unsigned i = 0; i < 32; i++)
		if (u->vec_out >> i & 1)
			emit_vector(e, width, i, true);
	for (unsigned i = 0; i < 8; i++)
		if (u->k_out >> i & 1)
			emit_mask(e, i, true);
	if (u->fx) /* and leaves the guest's x87 state in place: native.c */
		emit_0fae(e, 0, offsetof(struct vcpu, fpu.fx));
	if (u->vec_in && width != VEC_SSE)
		emit_bytes(e, vzeroupper, sizeof(vzeroupper));
	emit_bytes(e, leave_ok, sizeof(leave_ok));
}

/* Prefixes that stay: LOCK, F2, F3, and 66 where it means something in 64-bit code. */
static void emit_prefixes(struct emitter *e, const struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	const ZydisDecodedInstruction *z = &insn->z;
	bool size66 = false, mandatory66 = false;

	for (unsigned i = 0; i < z->raw.prefix_count; i++) {
		uint8_t p = z->raw.prefixes[i].value;

		if (p == 0x66) {
			size66 = true;
			mandatory66 |= z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY;
		} else if (p == 0xf0 || p == 0xf2 || p == 0xf3) {
			emit(e, p);
		}
	}
	/* 16-bit code has the meanings of "66" and "no 66" exchanged, for integer and x87 instructions. */
	if (mode == X86_MODE_16 && !mandatory66 && op->fpu < FPU_MMX && z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		size66 = !size66;
	if (size66 && z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		emit(e, 0x66);
}

/* Whether VEX.W or EVEX.W would choose the width of a general register, or of memory in its place. */
static bool names_gpr(const struct insn *insn)
{
	switch (insn->z.mnemonic) {
	case ZYDIS_MNEMONIC_VPCMPESTRI:
	case ZYDIS_MNEMONIC_VPCMPESTRM:
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VPINSRD:
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTSI2SH:
	case ZYDIS_MNEMONIC_VCVTUSI2SS:
	case ZYDIS_MNEMONIC_VCVTUSI2SD:
	case ZYDIS_MNEMONIC_VCVTUSI2SH:
		return true;
	default:
		break;
	}
	for (unsigned i = 0; i < insn->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &insn->op[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR32)
			return true;
	}
	return false;
}

/* REX (rebuilt), VEX or EVEX with the base and index extensions of a memory operand cleared. */
static void emit_extension(struct emitter *e, const struct insn *insn, enum x86_mode mode, bool mem)
{
	const ZydisDecodedInstruction *z = &insn->z;
	const uint8_t *b = insn->bytes;
	/*
	 * Outside 64-bit code there are eight registers: the bits that extend their numbers (inverted) are ignored;
	 * and so is W where it would choose a 64-bit general register.
	 */
	bool legacy = mode != X86_MODE_64;
	uint8_t w = legacy && names_gpr(insn) ? 0x7f : 0xff;

	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
		if (z->attributes & ZYDIS_ATTRIB_HAS_REX)
			emit(e, (uint8_t)(0x40 | z->raw.rex.W << 3 | z->raw.rex.R << 2 |
					  (mem ? 0 : z->raw.rex.X << 1 | z->raw.rex.B)));
		break;
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		b += z->raw.vex.offset;
		emit(e, b[0]);
		if (b[0] == 0xc5) {
			emit(e, (uint8_t)(b[1] | (legacy ? 0xc0 : 0)));
		} else {
			emit(e, (uint8_t)(b[1] | (mem ? 0x60 : 0) | (legacy ? 0xe0 : 0)));
			emit(e, (uint8_t)((b[2] & w) | (legacy ? 0x40 : 0)));
		}
		break;
	default: /* EVEX */
		b += z->raw.evex.offset;
		emit(e, b[0]);
		emit(e, (uint8_t)(b[1] | (mem ? 0x60 : 0) | (legacy ? 0xf0 : 0)));
		emit(e, (uint8_t)((b[2] & w) | (legacy ? 0x40 : 0)));
		emit(e, (uint8_t)(b[3] | (legacy ? 0x08 : 0)));
	}
}

/* What follows ModRM and the address. A register in imm8[7:4] has three significant bits outside 64-bit code. */
static void emit_immediates(struct emitter *e, const struct insn *insn, unsigned at, enum x86_mode mode)
{
	bool is4 = false;

	for (unsigned i = 0; i < insn->z.operand_count; i++)
		is4 |= insn->op[i].encoding == ZYDIS_OPERAND_ENCODING_IS4;
	if (is4 && mode != X86_MODE_64)
		emit(e, insn->bytes[insn->z.length - 1] & 0x7f);
	else
		emit_bytes(e, insn->bytes + at, insn->z.length - at);
}

static void emit_instruction(struct emitter *e, const struct cpu_op *op, const struct insn *insn, enum x86_mode mode,
			     bool mem)
{
	const ZydisDecodedInstruction *z = &insn->z;
	unsigned at = insn_opcode_offset(z), imm;

	emit_prefixes(e, op, insn, mode);
	if (mode != X86_MODE_64 && z->opcode_map == 0 && z->opcode >= 0x40 && z->opcode <= 0x4f) {
		/* One-byte INC and DEC are REX prefixes in 64-bit code. */
		emit(e, 0xff);
		emit(e, (uint8_t)(0xc0 | (z->opcode & 8) | (z->opcode & 7)));
		return;
	}
	emit_extension(e, insn, mode, mem);
	if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		emit_bytes(e, insn->bytes + at, z->length - at);
		return;
	}
	for (; at < z->raw.modrm.offset; at++)
		/* 82 is 80's alias, gone in 64-bit code */
		emit(e, z->opcode_map == 0 && insn->bytes[at] == 0x82 && z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ?
				0x80 : insn->bytes[at]);
	if (!mem) {
		emit(e, insn->bytes[at++]);
		emit_immediates(e, insn, at, mode);
		return;
	}
	emit(e, (uint8_t)(z->raw.modrm.reg << 3 | e->m));
	imm = z->raw.imm[0].size ? z->raw.imm[0].offset : z->length;
	if (z->raw.imm[0].size == 0 && z->length > z->raw.modrm.offset + 1u) {
		/* A trailing byte that is no immediate to Zydis: a register in imm8[7:4] (is4). */
		unsigned end = z->raw.modrm.offset + 1u + (z->attributes & ZYDIS_ATTRIB_HAS_SIB ? 1u : 0u) +
			       z->raw.disp.size / 8u;

		imm = end;
	}
	emit_immediates(e, insn, imm, mode);
}

static uint32_t hash_bytes(const uint8_t *p, unsigned n)
{
	uint32_t h = 2166136261u;

	while (n--)
		h = (h ^ *p++) * 16777619u;
	return h | 1;
}

static void *intern(struct thunks *t, const struct emitter *e)
{
	uint32_t h = hash_bytes(e->buf, e->n);
	unsigned i = h & (HASH_SIZE - 1);

	for (; t->slot[i].len; i = (i + 1) & (HASH_SIZE - 1))
		if (t->slot[i].hash == h && t->slot[i].len == e->n && !memcmp(t->write + t->slot[i].off, e->buf, e->n))
			return (void *)(t->exec + t->slot[i].off);
	if (t->used + e->n + 16 > ARENA_SIZE || t->count > HASH_SIZE / 2)
		return NULL;
	t->slot[i] = (struct slot){.hash = h, .off = t->used, .len = e->n};
	memcpy(t->write + t->used, e->buf, e->n);
	t->used += (uint32_t)align_up(e->n, 16);
	t->count++;
	return (void *)(t->exec + t->slot[i].off);
}

void *thunk_get(struct thunks *t, const struct cpu_op *op, const struct insn *insn, enum x86_mode mode)
{
	struct usage u = analyse(op, insn);
	struct emitter e = {.n = 0};
	bool mem = u.mem;
	/*
	 * A legacy-encoded instruction touches the low 128 bits only, and costs hundreds of cycles while the rest of
	 * any register is in use: it gets XMM moves, and every other thunk ends with VZEROUPPER.
	 */
	bool legacy = insn->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	enum vector_width width = legacy ? VEC_SSE : t->width;

	if (!choose_registers(&e, &u))
		return NULL;
	emit_load(&e, &u, width);
	emit_instruction(&e, op, insn, mode, mem);
	emit_store(&e, &u, width);
	return e.n < THUNK_MAX ? intern(t, &e) : NULL;
}
