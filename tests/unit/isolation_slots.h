/*
 * isolation_slots.h - test_isolation.c's guests: their layout, and the kinds of code they are made of. Code comes in slots, so
 * that the guest can go on after each fault.
 */
#ifndef TESTS_UNIT_ISOLATION_SLOTS_H
#define TESTS_UNIT_ISOLATION_SLOTS_H

#include <stdatomic.h>
#include <string.h>

#include "cpu/engine.h"
#include "x86/gpr.h"
#include "x86/insn.h"

#define RAM MIB(2)
#define ROUNDS 100
#define SLOTS 256
#define SLOT_SIZE 128
#define CANARY 0xb7a3d15f6e92c84bULL /* eight bytes that differ: REP STOS makes any one a row */
#define CANARY_SIZE 16384

/* Guest-physical layout; linear addresses of the first 2 MiB are the same. */
enum {
	P_PML4 = 0x1000,
	P_PDPT = 0x2000,
	P_PD = 0x3000,
	P_GDT = 0x4000,
	P_IDT = 0x5000,
	P_TSS = 0x6000,
	P_HANDLER = 0x7000,
	P_SLOT = 0x7ff8, /* where to go on after a fault */
	P_STACK = 0xa000,
	P_CODE = 0x10000,
};
enum { SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UDATA = 0x1b, SEL_UCODE = 0x23, SEL_TSS = 0x28 };

/* Wild addresses; addresses that change after the access that was checked; operands about the end of memory. */
enum slots { SLOTS_WILD, SLOTS_MOVING, SLOTS_EDGE };

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v;
	uint8_t *ram;
	uint64_t *canary[24];
	unsigned canaries;
	uint64_t seed;
	bool user;
	enum slots slots;
	struct insn_decoder decoder;
	uint32_t at; /* where code is put */
	_Atomic uint64_t round;
	_Atomic bool quit;
};

static inline uint64_t rnd(struct machine *m)
{
	m->seed ^= m->seed << 13;
	m->seed ^= m->seed >> 7;
	m->seed ^= m->seed << 17;
	return m->seed;
}

static inline uint64_t wild(struct machine *m)
{
	uint64_t off = rnd(m) % 128 - 64;

	switch (rnd(m) % 12) {
	case 0:
		return rnd(m) % RAM;
	case 1:
		return RAM + off;
	case 2:
	case 3:
		return (uint64_t)m->canary[rnd(m) % m->canaries] + rnd(m) % CANARY_SIZE;
	case 4:
		return (uint64_t)m->canary[rnd(m) % m->canaries] + (rnd(m) % 2 ? CANARY_SIZE : 0) +
		       off;
	case 5:
		return (uint64_t)m->v + rnd(m) % sizeof(*m->v);
	case 6:
		return (uint64_t)m->ram + rnd(m) % RAM;
	case 7:
		return 0x800000000000 + off;
	case 8:
		return 0xffff800000000000 + off;
	case 9:
		return off;
	case 10:
		return (uint64_t)__builtin_frame_address(0) + off;
	default:
		return rnd(m) >> rnd(m) % 48;
	}
}

static inline void put(struct machine *m, const void *bytes, unsigned n)
{
	memcpy(m->ram + m->at, bytes, n);
	m->at += n;
}

static inline void put_mov(struct machine *m, unsigned reg, uint64_t value)
{
	uint8_t b[2] = {(uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7))};

	put(m, b, 2);
	put(m, &value, 8);
}

/* A slot says first where to go on after a fault, and ends with a jump there: to the next. */
static inline void begin_slot(struct machine *m, unsigned n)
{
	uint32_t start = P_CODE + n * SLOT_SIZE, next = start + SLOT_SIZE, here = P_SLOT;
	static const uint8_t store[] = {0xc7, 0x04, 0x25}; /* mov dword [P_SLOT], next */

	memset(m->ram + start, 0x90, SLOT_SIZE);
	m->at = start;
	put(m, store, sizeof(store));
	put(m, &here, 4);
	put(m, &next, 4);
}

static inline void end_slot(struct machine *m, unsigned n)
{
	uint32_t start = P_CODE + n * SLOT_SIZE, rel = start + SLOT_SIZE - m->at - 5;
	static const uint8_t jmp = 0xe9;

	if (m->at + 5 > start + SLOT_SIZE) { /* no room */
		memset(m->ram + start, 0x90, SLOT_SIZE);
		return;
	}
	put(m, &jmp, 1);
	put(m, &rel, 4);
}

/* Opcodes with a ModRM byte (legacy, with prefixes; VEX and EVEX whole), then those without. */
struct opcode {
	uint8_t bytes[7], len, imm;
};
static const struct opcode with_modrm[] = {
	{{0x88}, 1, 0}, /* mov, both ways and widths */
	{{0x89}, 1, 0},
	{{0x8a}, 1, 0},
	{{0x8b}, 1, 0},
	{{0x66, 0x8b}, 2, 0},
	{{0x01}, 1, 0}, /* alu */
	{{0x03}, 1, 0},
	{{0x31}, 1, 0},
	{{0x39}, 1, 0},
	{{0x80}, 1, 1},
	{{0x81}, 1, 4},
	{{0x85}, 1, 0},
	{{0x86}, 1, 0}, /* xchg */
	{{0x87}, 1, 0},
	{{0x8f}, 1, 0}, /* pop */
	{{0xc6}, 1, 1},
	{{0xc7}, 1, 4},
	{{0xd1}, 1, 0},
	{{0xf7}, 1, 4},
	{{0xfe}, 1, 0},
	{{0xff}, 1, 0},       /* inc, dec, call, jmp, push */
	{{0x64, 0x8b}, 2, 0}, /* fs:, gs: */
	{{0x65, 0x89}, 2, 0},
	{{0x67, 0x8b}, 2, 0}, /* 32-bit addresses */
	{{0x67, 0x65, 0x89}, 3, 0},
	{{0xf0, 0x0f, 0xb1}, 3, 0}, /* lock cmpxchg, xadd, bts */
	{{0xf0, 0x0f, 0xc1}, 3, 0},
	{{0xf0, 0x0f, 0xab}, 3, 0},
	{{0x0f, 0xa3}, 2, 0}, /* bt, btc, bts with far offsets */
	{{0x0f, 0xbb}, 2, 0},
	{{0x48, 0x0f, 0xab}, 3, 0},
	{{0x48, 0x0f, 0xc7}, 3, 0}, /* cmpxchg16b and its group */
	{{0x0f, 0xb6}, 2, 0},
	{{0x0f, 0x45}, 2, 0},
	{{0x0f, 0x95}, 2, 0},
	{{0x0f, 0xc3}, 2, 0}, /* movnti */
	{{0x0f, 0xae}, 2, 0}, /* fxsave, xsave, ldmxcsr, clflush... */
	{{0x48, 0x0f, 0xae}, 3, 0},
	{{0x0f, 0xc7}, 2, 0}, /* xsavec, ... */
	{{0x0f, 0x18}, 2, 0}, /* prefetch */
	{{0x0f, 0x10}, 2, 0}, /* SSE */
	{{0x0f, 0x11}, 2, 0},
	{{0x0f, 0x29}, 2, 0},
	{{0x66, 0x0f, 0xd6}, 3, 0},
	{{0xf3, 0x0f, 0x7f}, 3, 0},
	{{0xd8}, 1, 0}, /* x87 */
	{{0xd9}, 1, 0},
	{{0xdb}, 1, 0},
	{{0xdd}, 1, 0},
	{{0xdf}, 1, 0},
	{{0xc5, 0xfc, 0x10}, 3, 0}, /* vmovups */
	{{0xc5, 0xfc, 0x11}, 3, 0},
	{{0xc4, 0xe2, 0x75, 0x2c}, 4, 0}, /* vmaskmovps, vmaskmovpd store, vpmaskmovd */
	{{0xc4, 0xe2, 0x75, 0x2f}, 4, 0},
	{{0xc4, 0xe2, 0x75, 0x8e}, 4, 0},
	{{0xc4, 0xe2, 0x75, 0x92}, 4, 0}, /* gathers (with a SIB byte) */
	{{0xc4, 0xe2, 0xf5, 0x91}, 4, 0},
	{{0x62, 0xf1, 0x7c, 0x49, 0x11}, 5, 0}, /* vmovups with mask */
	{{0x62, 0xf1, 0x7e, 0x49, 0x6f}, 5, 0},
	{{0x62, 0xf2, 0x7d, 0x49, 0x92}, 5, 0}, /* gather, scatters */
	{{0x62, 0xf2, 0x7d, 0x49, 0xa2}, 5, 0},
	{{0x62, 0xf2, 0xfd, 0x49, 0xa1}, 5, 0},
	{{0x62, 0xf2, 0x7d, 0x49, 0x8a}, 5, 0}, /* compress */
};
static const struct opcode plain[] = {
	{{0x50}, 1, 0},
	{{0x58}, 1, 0},
	{{0x9c}, 1, 0},
	{{0x9d}, 1, 0},
	{{0xc3}, 1, 0},
	{{0xc2}, 1, 2},
	{{0xc9}, 1, 0},
	{{0xc8}, 1, 3},
	{{0xe8}, 1, 4},
	{{0xe9}, 1, 4},
	{{0xa4}, 1, 0},
	{{0x48, 0xa5}, 2, 0},
	{{0xaa}, 1, 0},
	{{0x48, 0xab}, 2, 0},
	{{0xac}, 1, 0},
	{{0xae}, 1, 0},
	{{0xa6}, 1, 0},
	{{0xf3, 0xa4}, 2, 0},
	{{0xf3, 0xaa}, 2, 0},
	{{0xf3, 0x48, 0xab}, 3, 0},
	{{0xf2, 0xae}, 2, 0},
	{{0xf3, 0xa6}, 2, 0},
	{{0xa0}, 1, 8},
	{{0x48, 0xa1}, 2, 8},
	{{0x48, 0xa3}, 2, 8},
	{{0xd7}, 1, 0},
	{{0x6a}, 1, 1},
	{{0x48, 0xcf}, 2, 0},
	{{0x67, 0xaa}, 2, 0},
	{{0x65, 0xa4}, 2, 0},
	{{0x66, 0x0f, 0xf7, 0xc8}, 4, 0},
	{{0xf3, 0x0f, 0xae, 0xd0}, 4, 0}, /* wrfsbase eax, wrgsbase rbx */
	{{0xf3, 0x48, 0x0f, 0xae, 0xdb}, 5, 0},
};

static inline void put_wild_modrm(struct machine *m, bool sib)
{
	uint8_t b[6] = {(uint8_t)rnd(m), (uint8_t)rnd(m)};
	uint32_t disp = (uint32_t)(rnd(m) >> rnd(m) % 32);
	unsigned n = 1, mod = (unsigned)(rnd(m) % 3);

	b[0] = (uint8_t)((b[0] & 0x3f) | mod << 6);
	if (sib)
		b[0] = (uint8_t)((b[0] & ~7) | 4);
	if ((b[0] & 7) == 4)
		n = 2;
	put(m, b, n);
	if (mod == 1)
		put(m, &disp, 1);
	else if (mod == 2 || (b[0] & 7) == 5 || (n == 2 && (b[1] & 7) == 5))
		put(m, &disp, 4);
}

static inline void put_access(struct machine *m)
{
	const struct opcode *o = &with_modrm[rnd(m) % ARRAY_SIZE(with_modrm)];
	bool legacy = o->bytes[0] != 0xc4 && o->bytes[0] != 0xc5 && o->bytes[0] != 0x62,
	     modrm = rnd(m) % 4;
	uint8_t rex = (uint8_t)(0x40 | rnd(m) % 16);
	uint64_t imm = rnd(m) % 2 ? wild(m) : rnd(m);

	if (!modrm)
		o = &plain[rnd(m) % ARRAY_SIZE(plain)];
	if (modrm && legacy && rnd(m) % 2 && o->len == 1)
		put(m, &rex, 1);
	put(m, o->bytes, o->len);
	if (modrm)
		put_wild_modrm(m, !legacy && rnd(m) % 2);
	put(m, &imm, o->imm);
}

/* Registers, of which four to eight are wild, and one or two accesses; then on to the next slot. */
static inline void put_slot(struct machine *m, unsigned n)
{
	uint32_t start = P_CODE + n * SLOT_SIZE, next = start + SLOT_SIZE, here = P_SLOT;
	uint8_t store[4] = {0xc7, 0x04, 0x25}, jmp = 0xe9;

	memset(m->ram + start, 0x90, SLOT_SIZE);
	m->at = start;
	put(m, store, 3); /* mov dword [P_SLOT], next */
	put(m, &here, 4);
	put(m, &next, 4);
	for (unsigned i = 4 + (unsigned)(rnd(m) % 3); i--;)
		put_mov(m, (unsigned)(rnd(m) % 16), wild(m));
	put_access(m);
	if (rnd(m) % 2)
		put_access(m);
	if (m->at > next - 5)
		return;
	next -= m->at + 5;
	put(m, &jmp, 1);
	put(m, &next, 4);
}

/* Room for an instruction behind prefixes: any but those of control flow and those that concern the machine. */
static inline bool is_harmless(const struct machine *m, const struct insn *insn)
{
	const struct insn_info *info = insn_form_info(insn);

	return info->cls == INSN_INNOCUOUS && info->interp != INSN_CONTROL &&
	       cpu_model_allows(&m->model, &insn->z);
}

/* What it names among the general registers, a bit for each. */
static inline unsigned registers_of(const struct insn *insn)
{
	unsigned set = 0;

	for (unsigned i = 0; i < insn->z.operand_count; i++) {
		unsigned r = insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ?
				     x86_gpr(insn->op[i].reg.value) : X86_NO_GPR;

		if (r != X86_NO_GPR)
			set |= 1u << r;
	}
	return set;
}

/* Bytes that may be an instruction, of registers for the most part. */
static inline void random_bytes(struct machine *m, uint8_t b[X86_INSN_MAX])
{
	static const uint8_t prefix[] = {0x66, 0xf2, 0xf3};
	unsigned n = 0, map = (unsigned)(rnd(m) % 4), form = (unsigned)(rnd(m) % 6);

	for (unsigned i = 0; i < X86_INSN_MAX; i++)
		b[i] = (uint8_t)(rnd(m) >> 17);
	if (form == 0) { /* VEX, EVEX */
		b[n++] = 0xc4;
		b[n] = (uint8_t)((b[n] & 0xe0) | (1 + rnd(m) % 3));
		n += 3;
	} else if (form == 1) {
		b[n++] = 0x62;
		b[n] = (uint8_t)((b[n] & 0xf0) | (1 + rnd(m) % 3));
		b[n + 1] |= 4;
		n += 4;
	} else {
		if (rnd(m) % 3 == 0)
			b[n++] = prefix[rnd(m) % 3];
		if (rnd(m) % 2)
			b[n++] = (uint8_t)(0x40 | rnd(m) % 16);
		if (map)
			b[n++] = 0x0f;
		if (map > 1)
			b[n++] = map == 2 ? 0x38 : 0x3a;
		n++;
	}
	if (rnd(m) % 4)
		b[n] |= 0xc0;
}

/* Something that changes registers, perhaps; which ones it names. */
static inline unsigned put_change(struct machine *m)
{
	struct insn insn;

	for (;;) {
		uint8_t b[X86_INSN_MAX];
		unsigned set;

		random_bytes(m, b);
		if (insn_decode(&m->decoder, X86_MODE_64, b, sizeof(b), &insn) != DECODE_OK || !is_harmless(m, &insn))
			continue;
		set = registers_of(&insn);
		if (!set && rnd(m) % 16)
			continue;
		put(m, b, insn.z.length);
		return set;
	}
}

/* A load or store at [base + disp8], or [base + index + disp8]. */
static inline void put_access_at(struct machine *m, unsigned base, unsigned index)
{
	static const uint8_t opcode[] = {0x8b, 0x89, 0x8a, 0x88, 0x03, 0x87};
	unsigned reg = (unsigned)(rnd(m) % 16);
	uint8_t b[5] = {(uint8_t)(0x40 | rnd(m) % 2 << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3),
			opcode[rnd(m) % ARRAY_SIZE(opcode)], (uint8_t)(0x44 | (reg & 7) << 3),
			(uint8_t)((index & 7) << 3 | (base & 7)), (uint8_t)(rnd(m) % 64 - 32)};

	put(m, b, sizeof(b));
}

static inline void put_push_or_pop(struct machine *m)
{
	uint8_t b[2] = {(uint8_t)(0x40 | rnd(m) % 2), (uint8_t)((rnd(m) % 2 ? 0x50 : 0x58) | rnd(m) % 8)};

	put(m, b, 2);
}

/*
 * Accesses off one base, in guest memory at first, with instructions in between that may change it to what leads to a
 * canary: if that were not seen, by the distance from linear to host addresses that was found for the first.
 */
static inline void put_moving_slot(struct machine *m, unsigned n)
{
	unsigned base = (unsigned)(rnd(m) % 16), index = 4, set; /* none */
	uint64_t canary = (uint64_t)m->canary[rnd(m) % m->canaries] + CANARY_SIZE / 2;
	uint8_t change[2 * X86_INSN_MAX];
	uint32_t len;

	m->at = P_CODE + n * SLOT_SIZE;
	set = put_change(m);
	if (rnd(m) % 4 == 0)
		set |= put_change(m);
	len = m->at - (P_CODE + n * SLOT_SIZE);
	memcpy(change, m->ram + P_CODE + n * SLOT_SIZE, len);
	for (unsigned r = 0; set && rnd(m) % 8 && !(set >> base & 1) && r < 64; r++)
		base = (unsigned)(rnd(m) % 16);
	begin_slot(m, n);
	for (unsigned i = 2 + (unsigned)(rnd(m) % 2); i--;)
		put_mov(m, (unsigned)(rnd(m) % 16), rnd(m) % 2 ? canary - (uint64_t)m->ram : wild(m));
	if (rnd(m) % 4 == 0) {
		index = (unsigned)(rnd(m) % 16);
		put_mov(m, index, rnd(m) % 64);
	}
	put_mov(m, base, rnd(m) % 4 ? RAM / 2 + rnd(m) % (RAM / 2 - 128) + 32 : RAM - 40);
	put_access_at(m, base, index);
	if (base == R_SP && rnd(m) % 2)
		put_push_or_pop(m);
	put(m, change, len);
	put_access_at(m, base, rnd(m) % 2 ? index : 4);
	if (base == R_SP && rnd(m) % 2)
		put_push_or_pop(m);
	put_access_at(m, base, 4);
	end_slot(m, n);
}

/* An instruction with memory at [base]. */
static inline void put_memory_insn(struct machine *m, unsigned base)
{
	struct insn insn;

	for (;;) {
		uint8_t b[X86_INSN_MAX];
		bool found = false;

		random_bytes(m, b);
		if (insn_decode(&m->decoder, X86_MODE_64, b, sizeof(b), &insn) != DECODE_OK ||
		    !(insn.z.attributes & ZYDIS_ATTRIB_HAS_MODRM))
			continue;
		b[insn.z.raw.modrm.offset] = (uint8_t)((b[insn.z.raw.modrm.offset] & 0x38) | base);
		if (insn_decode(&m->decoder, X86_MODE_64, b, sizeof(b), &insn) != DECODE_OK || !is_harmless(m, &insn))
			continue;
		for (unsigned i = 0; i < insn.z.operand_count; i++)
			found |= insn.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
				 insn.op[i].mem.base == ZYDIS_REGISTER_RAX + base;
		if (!found)
			continue;
		put(m, b, insn.z.length);
		return;
	}
}

/* Operands of every size about the end of guest memory. */
static inline void put_edge_slot(struct machine *m, unsigned n)
{
	static const uint8_t bases[] = {R_BX, R_SI, R_DI, R_CX};
	unsigned base = bases[rnd(m) % ARRAY_SIZE(bases)];

	begin_slot(m, n);
	put_mov(m, base, RAM - 1 - rnd(m) % (rnd(m) % 2 ? 16 : 72));
	put_memory_insn(m, base);
	if (rnd(m) % 3 == 0)
		put_memory_insn(m, base);
	end_slot(m, n);
}

#endif
