/*
 * A guest reaches nothing of the monitor. Canary pages lie around guest memory and at host
 * addresses that the guest uses as addresses of its own; a guest in long mode then makes thousands
 * of accesses of every form with wild addresses, going on after each fault. Afterwards no canary
 * was written, no canary's bytes are anywhere in the guest's state, and no host fault came but
 * those that engines use (#GP and #AC for alignment, #DE, #UD): in a process of its own for each
 * engine and privilege, so that a crash is a finding too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/engine.h"
#include "engine/bt/bt.h"
#include "engine/interp/engine.h"
#include "x86/gpr.h"
#include "x86/insn.h"

static const struct engine_ops *const engines[] = {&interp_engine, &bt_engine};

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
	bool moving; /* slots are put_moving_slot()'s */
	struct insn_decoder decoder;
	uint32_t at; /* where code is put */
	_Atomic uint64_t round;
	_Atomic bool quit;
};

static uint64_t rnd(struct machine *m)
{
	m->seed ^= m->seed << 13;
	m->seed ^= m->seed >> 7;
	m->seed ^= m->seed << 17;
	return m->seed;
}

/* Host faults at addresses: each would be an access that no check stopped. Signal handlers get no
 * argument. */
static struct {
	struct sigaction handler[65]; /* of whoever asked: an engine */
	volatile unsigned faults;
	volatile uint64_t address;
} watch;

static bool is_stray(int sig, const siginfo_t *info)
{
	if (sig == SIGSEGV)
		return info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR;
	return sig == SIGBUS && info->si_code != BUS_ADRALN && info->si_code > 0;
}

static void observe(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *sa = &watch.handler[sig];

	if (is_stray(sig, info)) {
		watch.faults++;
		watch.address = (uint64_t)info->si_addr;
	}
	if (sa->sa_flags & SA_SIGINFO)
		sa->sa_sigaction(sig, info, context);
	else
		_exit(100 + sig);
}

/* Stands in front of the C library's: an engine's handlers are called by observe(). */
int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction own = {.sa_sigaction = observe};

	if (sig != SIGSEGV && sig != SIGBUS)
		return __sigaction(sig, act, old);
	if (old)
		*old = watch.handler[sig];
	if (!act)
		return 0;
	watch.handler[sig] = *act;
	own.sa_flags = act->sa_flags | SA_SIGINFO;
	own.sa_mask = act->sa_mask;
	return __sigaction(sig, &own, NULL);
}

/* A canary between two absent pages, at an address or anywhere. What is taken stays as it is. */
static void add_canary(struct machine *m, uint64_t at)
{
	int fixed = at ? MAP_FIXED_NOREPLACE : 0;
	uint8_t *p = mmap((void *)at, CANARY_SIZE + 2 * GUEST_PAGE_SIZE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
	uint64_t *page = (uint64_t *)(p + GUEST_PAGE_SIZE);

	if (p == MAP_FAILED || m->canaries == ARRAY_SIZE(m->canary))
		return;
	if (mprotect(page, CANARY_SIZE, PROT_READ | PROT_WRITE))
		return;
	for (unsigned i = 0; i < CANARY_SIZE / 8; i++)
		page[i] = CANARY;
	m->canary[m->canaries++] = page;
}

/* As close to guest memory as it goes. */
static void add_neighbours(struct machine *m)
{
	uint64_t ram = (uint64_t)m->ram, size = CANARY_SIZE + 2 * GUEST_PAGE_SIZE;

	for (uint64_t gap = 0; gap < 0x100000; gap = gap ? gap * 2 : GUEST_PAGE_SIZE) {
		unsigned before = m->canaries;

		add_canary(m, ram + RAM + gap);
		if (m->canaries > before)
			break;
	}
	for (uint64_t gap = 0; gap < 0x100000; gap = gap ? gap * 2 : GUEST_PAGE_SIZE) {
		unsigned before = m->canaries;

		add_canary(m, ram - size - gap);
		if (m->canaries > before)
			break;
	}
}

static void add_canaries(struct machine *m)
{
	/* Addresses that guests use; the first 2 MiB are mapped in this one, the rest is absent in
	 * it. */
	static const uint64_t at[] = {
		0x10000,        0x20000,        0x100000,    0x180000,       0x400000,
		0x7ff00000,     0x80000000,     0xfff00000,  0x100000000,    0x10000000000,
		0x7e0000000000, 0x600000000000, 0x7ffe00000, 0x400000000000, 0x123456789000,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		add_canary(m, at[i]);
	for (unsigned i = 0; i < 3; i++)
		add_canary(m, 0);
	add_neighbours(m);
}

static bool canaries_whole(const struct machine *m)
{
	for (unsigned c = 0; c < m->canaries; c++)
		for (unsigned i = 0; i < CANARY_SIZE / 8; i++)
			if (m->canary[c][i] != CANARY) {
				printf("canary %p: word %u is %llx\n", (void *)m->canary[c], i,
				       (unsigned long long)m->canary[c][i]);
				return false;
			}
	return true;
}

/* `bytes` of the canary in a row, from any of its first `turns` bytes on. */
static bool holds(const char *what, const void *p, size_t size, unsigned bytes, unsigned turns)
{
	uint64_t twice[2] = {CANARY, CANARY};

	for (unsigned i = 0; i < turns; i++) {
		const uint8_t *at = memmem(p, size, (uint8_t *)twice + i, bytes);

		if (!at)
			continue;
		printf("the guest has read a canary: %s + %#tx\n", what, at - (const uint8_t *)p);
		return true;
	}
	return false;
}

/* Nor has the guest read one: into registers, or copied it to memory. */
static bool nothing_read(const struct machine *m)
{
	const struct vcpu *v = m->v;

	return !holds("registers", v->gpr, sizeof(v->gpr), 4, 8) &&
	       !holds("vectors", &v->fpu, sizeof(v->fpu), 6, 8) &&
	       !holds("memory", m->ram, RAM, 8, 1);
}

static uint64_t wild(struct machine *m)
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

static void put(struct machine *m, const void *bytes, unsigned n)
{
	memcpy(m->ram + m->at, bytes, n);
	m->at += n;
}

static void put_mov(struct machine *m, unsigned reg, uint64_t value)
{
	uint8_t b[2] = {(uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7))};

	put(m, b, 2);
	put(m, &value, 8);
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

static void put_wild_modrm(struct machine *m, bool sib)
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

static void put_access(struct machine *m)
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
static void put_slot(struct machine *m, unsigned n)
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
static bool is_harmless(const struct machine *m, const struct insn *insn)
{
	const struct insn_info *info = insn_form_info(insn);

	return info->cls == INSN_INNOCUOUS && info->interp != INSN_CONTROL &&
	       cpu_model_allows(&m->model, &insn->z);
}

/* What it names among the general registers, a bit for each. */
static unsigned registers_of(const struct insn *insn)
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
static void random_bytes(struct machine *m, uint8_t b[X86_INSN_MAX])
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
static unsigned put_change(struct machine *m)
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
static void put_access_at(struct machine *m, unsigned base, unsigned index)
{
	static const uint8_t opcode[] = {0x8b, 0x89, 0x8a, 0x88, 0x03, 0x87};
	unsigned reg = (unsigned)(rnd(m) % 16);
	uint8_t b[5] = {(uint8_t)(0x40 | rnd(m) % 2 << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3),
			opcode[rnd(m) % ARRAY_SIZE(opcode)], (uint8_t)(0x44 | (reg & 7) << 3),
			(uint8_t)((index & 7) << 3 | (base & 7)), (uint8_t)(rnd(m) % 64 - 32)};

	put(m, b, sizeof(b));
}

static void put_push_or_pop(struct machine *m)
{
	uint8_t b[2] = {(uint8_t)(0x40 | rnd(m) % 2), (uint8_t)((rnd(m) % 2 ? 0x50 : 0x58) | rnd(m) % 8)};

	put(m, b, 2);
}

/*
 * Accesses off one base, in guest memory at first, with instructions in between that may change it to what leads to a
 * canary: if that were not seen, by the distance from linear to host addresses that was found for the first.
 */
static void put_moving_slot(struct machine *m, unsigned n)
{
	uint32_t start = P_CODE + n * SLOT_SIZE, next = start + SLOT_SIZE, here = P_SLOT;
	uint8_t store[4] = {0xc7, 0x04, 0x25}, jmp = 0xe9;
	unsigned base = (unsigned)(rnd(m) % 16), index = 4, set; /* none */
	uint64_t canary = (uint64_t)m->canary[rnd(m) % m->canaries] + CANARY_SIZE / 2;
	uint8_t change[2 * X86_INSN_MAX];
	uint32_t len;

	m->at = start;
	set = put_change(m);
	if (rnd(m) % 4 == 0)
		set |= put_change(m);
	len = m->at - start;
	memcpy(change, m->ram + start, len);
	memset(m->ram + start, 0x90, SLOT_SIZE);
	m->at = start;
	for (unsigned r = 0; set && rnd(m) % 8 && !(set >> base & 1) && r < 64; r++)
		base = (unsigned)(rnd(m) % 16);
	put(m, store, 3);
	put(m, &here, 4);
	put(m, &next, 4);
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
	if (m->at > next - 5) {
		memset(m->ram + start, 0x90, SLOT_SIZE);
		return;
	}
	next -= m->at + 5;
	put(m, &jmp, 1);
	put(m, &next, 4);
}

static void put_handler(struct machine *m)
{
	/* mov esp, P_STACK; mov ecx, [P_SLOT]; then to ecx at the privilege of the round */
	static const uint8_t head[] = {0xbc, 0,    P_STACK >> 8,  0,           0, 0x8b,
				       0x0c, 0x25, P_SLOT & 0xff, P_SLOT >> 8, 0, 0};
	static const uint8_t kernel[] = {0xff, 0xe1};
	/* push SEL_UDATA; push 0x8000; push 2; push SEL_UCODE; push rcx; iretq */
	static const uint8_t user[] = {0x6a, SEL_UDATA, 0x68, 0,         0x80, 0,    0,
				       0x6a, 2,         0x6a, SEL_UCODE, 0x51, 0x48, 0xcf};

	m->at = P_HANDLER;
	put(m, head, sizeof(head));
	if (m->user)
		put(m, user, sizeof(user));
	else
		put(m, kernel, sizeof(kernel));
}

static void build_tables(struct machine *m)
{
	uint64_t *pml4 = (uint64_t *)(m->ram + P_PML4), *pdpt = (uint64_t *)(m->ram + P_PDPT),
		 *pd = (uint64_t *)(m->ram + P_PD);

	pml4[0] = P_PDPT | 7;
	pdpt[0] = P_PD | 7;
	pd[0] = 0x87;
	/* What points nowhere, or anywhere. */
	for (unsigned i = 0; i < rnd(m) % 4; i++)
		pml4[1 + rnd(m) % 511] = rnd(m) % 2 ? wild(m) | 7 : (rnd(m) % RAM & ~0xfffULL) | 7;
	for (unsigned i = 0; i < rnd(m) % 4; i++)
		pd[1 + rnd(m) % 511] = (wild(m) & 0xfffffffe00000ULL) | 0x87;
	if (rnd(m) % 3 == 0)
		pml4[256 + rnd(m) % 256] = P_PML4 | 7; /* itself */
}

static void build_descriptors(struct machine *m)
{
	uint64_t *gdt = (uint64_t *)(m->ram + P_GDT), *idt = (uint64_t *)(m->ram + P_IDT);
	uint64_t stack = P_STACK;

	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	gdt[3] = 0x00cff3000000ffff;
	gdt[4] = 0x00affb000000ffff;
	gdt[5] = 0x67 | (uint64_t)P_TSS << 16 | 0x8bULL << 40;
	for (unsigned i = 0; i < 7; i++) /* IST1..7, and RSP0..2 below */
		memcpy(m->ram + P_TSS + 0x24 + 8 * i, &stack, 8);
	memcpy(m->ram + P_TSS + 4, &stack, 8);
	for (unsigned v = 0; v < 256; v++)
		idt[2 * v] = (P_HANDLER & 0xffff) | SEL_KCODE << 16 | 0x8e01ULL << 32;
}

static void enter_long_mode(struct machine *m)
{
	struct vcpu *v = m->v;
	uint32_t attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | (m->user ? 3u << 5 : 0);

	vcpu_reset(v);
	v->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_PG | (rnd(m) % 2 ? CR0_WP : 0);
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
	v->xcr0 = m->model.xstate.xcr0;
	v->cr3 = P_PML4;
	v->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	v->gdt_base = P_GDT;
	v->gdt_limit = 0x37;
	v->idt_base = P_IDT;
	v->idt_limit = 4095;
	cpu_set_segment(v, S_TR, SEL_TSS, P_TSS, 0x67, 0x8b);
	for (unsigned s = 0; s <= S_GS; s++)
		cpu_set_segment(v, s, m->user ? SEL_UDATA : SEL_KDATA, 0, 0xffffffff,
				attr | SEG_DB | SEG_G);
	cpu_set_segment(v, S_CS, m->user ? SEL_UCODE : SEL_KCODE, 0, 0xffffffff,
			attr | SEG_CODE | SEG_L | SEG_G);
	cpu_set_rflags(v, FLAG_1);
	v->seg[S_FS].base = wild(m);
	v->seg[S_GS].base = wild(m);
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = wild(m);
	for (size_t i = 0; i < sizeof(v->fpu.zmm) / 8; i++)
		((uint64_t *)v->fpu.zmm)[i] = rnd(m) % 4 ? wild(m) : rnd(m);
	for (unsigned i = 0; i < 8; i++)
		v->fpu.k[i] = rnd(m);
	v->rip = P_CODE;
	cpu_state_changed(v);
}

static void build_round(struct machine *m, unsigned round)
{
	static const uint8_t end[] = {0xfa, 0xf4, 0xeb, 0xfc}; /* cli; hlt */

	m->seed = 0x9e3779b97f4a7c15ULL * (round + 1);
	memset(m->ram, 0, RAM);
	build_tables(m);
	build_descriptors(m);
	put_handler(m);
	for (unsigned i = 0; i < SLOTS; i++)
		if (m->moving)
			put_moving_slot(m, i);
		else
			put_slot(m, i);
	memcpy(m->ram + P_CODE + SLOTS * SLOT_SIZE, end, sizeof(end));
	guest_mem_wrote(m->mem, GPA(0), RAM);
	enter_long_mode(m);
	mmu_flush_all(&m->v->mmu);
}

/* A guest that goes round in circles has to be stopped: two looks at the same round. */
static void *patrol(void *arg)
{
	struct machine *m = arg;
	uint64_t last = 0;

	while (!m->quit) {
		usleep(20000);
		if (m->round == last)
			vcpu_request(m->v, CPU_REQ_STOP);
		last = m->round;
	}
	return NULL;
}

/* How far a round got: slots begun. */
static unsigned slots_begun(const struct machine *m)
{
	uint32_t next;

	memcpy(&next, m->ram + P_SLOT, 4);
	next = (next - P_CODE) / SLOT_SIZE;
	return next <= SLOTS ? next : SLOTS;
}

static bool run_rounds(struct machine *m)
{
	uint64_t begun = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		enum run_exit exit;

		build_round(m, round);
		m->round++;
		exit = m->v->engine->run(m->v, round % 8 == 7 ? 5000 : 0);
		if (exit > RUN_SHUTDOWN || !canaries_whole(m) || !nothing_read(m) || watch.faults) {
			printf("%s, %s, round %u: exit %d, %u host faults, the last at %llx %s\n",
			       m->v->engine->name, m->user ? "user" : "kernel", round, exit,
			       watch.faults, (unsigned long long)watch.address, m->v->stop_reason);
			return false;
		}
		begun += slots_begun(m);
	}
	printf("%s, %s: %u canaries, %llu of %u attempts begun\n", m->v->engine->name,
	       m->user ? "user" : "kernel", m->canaries, (unsigned long long)begun, ROUNDS * SLOTS);
	/* Else nothing was tried, or the engine's handlers were not seen. */
	return begun > ROUNDS * SLOTS / 4 && watch.handler[SIGSEGV].sa_flags & SA_SIGINFO;
}

static int attack(const struct engine_ops *ops, bool user, bool moving)
{
	struct machine *m = calloc(1, sizeof(*m));
	pthread_t thread;
	struct err err;
	bool ok;

	if (!m || guest_mem_new(&m->mem, &err) || guest_mem_add_ram(m->mem, GPA(0), RAM, &err) ||
	    bus_new(&m->bus, NULL, &err) || cpu_model_init(&m->model, "default", &err) ||
	    vcpu_new(&m->v, 0, &m->model, m->mem, m->bus, &err))
		return 2;
	m->user = user;
	m->moving = moving;
	insn_decoder_init(&m->decoder);
	m->v->engine = ops;
	m->ram = guest_ptr(m->mem, GPA(0), RAM);
	if (ops->vcpu_init && ops->vcpu_init(m->v, &err))
		return 2;
	add_canaries(m);
	if (pthread_create(&thread, NULL, patrol, m))
		return 2;
	ok = run_rounds(m);
	m->quit = true;
	pthread_join(thread, NULL);
	return ok ? 0 : 1;
}

static void run_attack(const struct engine_ops *ops, bool user, bool moving)
{
	struct err why = {0};
	int status = 0;
	pid_t pid;

	if (ops->usable && !ops->usable(&why)) {
		print_message("%s: not usable here: %s\n", ops->name, why.text);
		return;
	}
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int r = attack(ops, user, moving);

		fflush(stdout);
		_exit(r);
	}
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	if (WIFSIGNALED(status))
		fail_msg("%s, %s: died of %s", ops->name, user ? "user" : "kernel",
			 strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		fail_msg("%s, %s: status %d", ops->name, user ? "user" : "kernel",
			 WEXITSTATUS(status));
}

static void test_kernel(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		run_attack(engines[i], false, false);
}

static void test_user(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		run_attack(engines[i], true, false);
}

/* Addresses that change after the access that was checked: groups of accesses (engine/bt/group.c). */
static void test_moving(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		for (unsigned user = 0; user < 2; user++)
			run_attack(engines[i], user, true);
}

static void leave_with_faults(int sig, siginfo_t *info, void *context)
{
	_exit((int)watch.faults);
}

/* The watch itself: an access to the page beside a canary is a host fault that it counts. */
static void test_watch(void **state)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct sigaction sa = {.sa_sigaction = leave_with_faults, .sa_flags = SA_SIGINFO};
		struct machine m = {0};

		add_canary(&m, 0);
		sigaction(SIGSEGV, &sa, NULL);
		*(volatile uint8_t *)((uint8_t *)m.canary[0] + CANARY_SIZE) = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_moving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
