/*
 * compare.c - whether two results of a case agree.
 *
 * Left out, with the reason (and in excuse.c what faulting instructions may do as they like):
 * - RF in saved RFLAGS: which faults set it differs between vendors, and Linux shows its own.
 * - Bits 63..32 of registers after 32-bit code: undefined by the architecture.
 * - The P bit of a page fault beyond user space: Linux always reports it set, to hide its mappings.
 * - CR2 within the operand, and what was already stored, when an instruction faults that moves a
 * whole state image (FXSAVE, FNSAVE, XRSTOR, ...) or a stack frame (IRET, CALL): the order of its
 * accesses is the implementation's.
 * - Error codes of vectors that have none, and of #AC, where it is always 0.
 * - XSAVE images: XSTATE_BV says which components the CPU tracked as in use, which is its own
 * business. Two images agree when they restore the same state.
 * - Invalid bytes that are too long as well: #GP(0) comes before #UD on the CPU, but what is
 * invalid has no length to the decoder. Flags that the architecture leaves undefined are compared
 * too, but reported apart.
 */
#include <inttypes.h>
#include <string.h>

#include "case.h"

#define LINUX_TASK_SIZE 0x7ffffffff000ULL

struct cmp {
	const struct diff_shared *sh;
	const struct diff_case *c;
	FILE *out;
	struct diff_verdict v;
};

static void note(struct cmp *m, const char *field)
{
	if (!m->v.mismatch && !m->v.undefined)
		snprintf(m->v.field, sizeof(m->v.field), "%s", field);
	m->v.mismatch = true;
}

static void differ(struct cmp *m, const char *field, uint64_t a, uint64_t b)
{
	note(m, field);
	if (m->out)
		fprintf(m->out, "  %-10s native %016" PRIx64 "  engine %016" PRIx64 "\n", field, a,
			b);
}

static void check(struct cmp *m, const char *field, uint64_t a, uint64_t b)
{
	if (a != b)
		differ(m, field, a, b);
}

static void check_bytes(struct cmp *m, const char *field, const uint8_t *a, const uint8_t *b,
			size_t len)
{
	if (!memcmp(a, b, len))
		return;
	note(m, field);
	if (m->out)
		fprintf(m->out, "  %s\n", field);
	for (unsigned side = 0; m->out && side < 2; side++) {
		fprintf(m->out, "    %s", side ? "engine " : "native ");
		for (size_t i = len; i-- > 0;)
			fprintf(m->out, "%02x%s", (side ? b : a)[i], i && i % 8 == 0 ? "_" : "");
		fprintf(m->out, "\n");
	}
}

const char *const gpr_name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
				  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/*
 * At a fault a translator may leave status flags wrong that the program would have overwritten
 * before it reads them: its own checks spoil them where they are dead. What faults is restarted, or
 * never goes on there.
 */
static void compare_flags(struct cmp *m, const struct diff_result *a, const struct diff_result *b)
{
	uint64_t diff = (a->rflags ^ b->rflags) & ~(uint64_t)FLAG_RF;
	uint32_t dead = 0;

	if (diff && a->outcome == OUT_FAULT && a->rip == b->rip && a->vector == b->vector)
		dead = dead_flags(m->c, a->rip);
	if (diff & ~(uint64_t)(m->c->undefined | dead))
		differ(m, "rflags", a->rflags, b->rflags);
	else if (diff & dead)
		m->v.dead_flags = true;
	else if (diff)
		m->v.undefined = true;
}

static void compare_integer(struct cmp *m, const struct diff_result *a, const struct diff_result *b)
{
	bool wide = m->c->mode == X86_MODE_64;
	uint64_t mask = wide ? ~0ULL : 0xffffffff;

	for (unsigned i = 0; i < (wide ? 16 : 8); i++)
		check(m, gpr_name[i], a->gpr[i] & mask, b->gpr[i] & mask);
	check(m, "rip", a->rip, b->rip);
	compare_flags(m, a, b);
	check(m, "cs", a->cs, b->cs);
	check(m, "ss", a->ss, b->ss);
	check(m, "ds", a->ds, b->ds);
	check(m, "es", a->es, b->es);
	check(m, "fs", a->fs, b->fs);
	check(m, "gs", a->gs, b->gs);
	check(m, "fs_base", a->fs_base, b->fs_base);
	check(m, "gs_base", a->gs_base, b->gs_base);
}

static bool has_error(uint8_t vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF);
}

/* Within one operand, which wraps at 64 KiB with 16-bit addressing. */
static bool same_image(const struct diff_case *c, uint64_t a, uint64_t b)
{
	uint64_t distance = a - b + DIFF_IMAGE_SIZE;

	if (c->mode != X86_MODE_64)
		distance &= 0xffff;
	return distance <= 2 * DIFF_IMAGE_SIZE;
}

static void compare_fault(struct cmp *m, const struct diff_result *a, const struct diff_result *b)
{
	uint32_t mask = ~0u;

	check(m, "vector", a->vector, b->vector);
	if (a->vector != b->vector)
		return;
	if (a->vector == EXC_PF) {
		if (!(m->c->flags & CASE_IMAGE) || !same_image(m->c, a->cr2, b->cr2))
			check(m, "cr2", a->cr2, b->cr2);
		if (a->cr2 >= LINUX_TASK_SIZE)
			mask = ~(uint32_t)PF_P;
	}
	if (has_error(a->vector))
		check(m, "error", a->error & mask, b->error & mask);
}

uint64_t fpu_field(const uint8_t *fx, unsigned at, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, fx + at, len);
	return v;
}

static void compare_fpu(struct cmp *m, const struct diff_fpu *a, const struct diff_fpu *b)
{
	static const struct {
		const char *name;
		uint8_t at, len;
	} head[] = {{"fcw", 0, 2}, {"fsw", 2, 2},  {"ftw", 4, 1},   {"fop", 6, 2},
		    {"fip", 8, 8}, {"fdp", 16, 8}, {"mxcsr", 24, 4}};
	char name[16];

	for (unsigned i = 0; i < ARRAY_SIZE(head); i++) {
		unsigned len = m->c->mode == X86_MODE_64 || head[i].len < 8 ? head[i].len : 4;

		if (m->sh->x87_pointers && head[i].name[2] == 'p')
			m->v.x87_pointers |=
				memcmp(a->fx + head[i].at, b->fx + head[i].at, len) != 0;
		else
			check(m, head[i].name, fpu_field(a->fx, head[i].at, len),
			      fpu_field(b->fx, head[i].at, len));
	}
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "st%u", i);
		check_bytes(m, name, a->fx + 32 + 16 * i, b->fx + 32 + 16 * i, 10);
	}
	for (unsigned i = 0; i < 32; i++) {
		snprintf(name, sizeof(name), "zmm%u", i);
		check_bytes(m, name, a->zmm[i], b->zmm[i], 64);
	}
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "k%u", i);
		check(m, name, a->k[i], b->k[i]);
	}
}

uint64_t line_va(uint32_t index)
{
	return arena_page[index / 64].va + (uint64_t)(index % 64) * 64;
}

static void compare_memory(struct cmp *m, const struct diff_result *a, const struct diff_result *b)
{
	uint32_t n = a->ndirty < b->ndirty ? a->ndirty : b->ndirty;
	char name[32];

	for (uint32_t i = 0; i < n && i < DIFF_DIRTY_MAX; i++) {
		if (a->dirty[i].index != b->dirty[i].index) {
			differ(m, "memory", line_va(a->dirty[i].index), line_va(b->dirty[i].index));
			return;
		}
		snprintf(name, sizeof(name), "[%" PRIx64 "]", line_va(a->dirty[i].index));
		check_bytes(m, name, a->dirty[i].data, b->dirty[i].data, 64);
	}
	check(m, "lines", a->ndirty, b->ndirty);
}

/* What the pages hold after a case: the template and the dirty lines. */
static void rebuild(const struct diff_shared *sh, const struct diff_case *c,
		    const struct diff_result *r, uint8_t *arena)
{
	memcpy(arena, sh->template[c->template], ARENA_SIZE);
	for (uint32_t i = 0; i < r->ndirty && i < DIFF_DIRTY_MAX; i++)
		memcpy(arena + (size_t)r->dirty[i].index * 64, r->dirty[i].data, 64);
}

/* An XSAVE image as it was written, reduced to what it restores. */
static void normal_image(const struct diff_shared *sh, const uint8_t *img, uint8_t *out)
{
	const struct xstate_layout *x = &sh->model.xstate;
	uint8_t standard[DIFF_IMAGE_SIZE];
	uint64_t bv, comp;
	unsigned at = 576;

	memcpy(&bv, img + 512, 8);
	memcpy(&comp, img + 520, 8);
	memcpy(standard, img, DIFF_IMAGE_SIZE);
	if (comp >> 63) {
		memset(standard + 576, 0, DIFF_IMAGE_SIZE - 576);
		for (unsigned i = 2; i < 8; i++) {
			if (!(comp >> i & 1) || !x->size[i])
				continue;
			if (bv >> i & 1)
				memcpy(standard + x->offset[i], img + at, x->size[i]);
			at += x->size[i];
		}
	}
	fpu_from_xsave(x, standard, bv, (struct diff_fpu *)out);
}

static bool xsave_agrees(const struct diff_shared *sh, const struct diff_case *c,
			 const struct diff_result *a, const struct diff_result *b)
{
	static _Thread_local uint8_t ma[ARENA_SIZE], mb[ARENA_SIZE];
	static _Thread_local _Alignas(64) uint8_t ia[sizeof(struct diff_fpu)],
		ib[sizeof(struct diff_fpu)];
	uint64_t off = c->image_addr - DIFF_DATA;

	if (off > 0x2000 - DIFF_IMAGE_SIZE)
		return false;
	rebuild(sh, c, a, ma);
	rebuild(sh, c, b, mb);
	normal_image(sh, ma + off, ia);
	normal_image(sh, mb + off, ib);
	if (memcmp(ia, ib, sizeof(ia)) || memcmp(ma + off + 520, mb + off + 520, 56))
		return false;
	memcpy(mb + off, ma + off, DIFF_IMAGE_SIZE);
	return !memcmp(ma, mb, ARENA_SIZE);
}

/* Memory but for the bytes that may hold anything. */
static bool rest_agrees(const struct diff_shared *sh, const struct diff_case *c,
			const struct diff_result *a, const struct diff_result *b,
			const struct diff_excuse *x)
{
	static _Thread_local uint8_t ma[ARENA_SIZE], mb[ARENA_SIZE];

	rebuild(sh, c, a, ma);
	rebuild(sh, c, b, mb);
	for (unsigned i = 0; i < ARENA_SIZE; i++)
		if (ma[i] != mb[i] && line_va(i / 64) + i % 64 - x->free_at >= x->free_len)
			return false;
	return true;
}

/*
 * Outside 64-bit code EVEX.W is ignored where it would choose a 64-bit general register, but Zydis
 * calls some conversions invalid: to and from half precision, and those with rounding.
 */
static bool valid_after_all(const struct diff_case *c, const struct diff_result *b)
{
	static const uint8_t opcode[] = {0x2a, 0x2c, 0x2d, 0x78, 0x79, 0x7b};
	uint64_t at = b->rip - DIFF_CODE - c->code_off;

	if (c->mode == X86_MODE_64 || b->outcome != OUT_FAULT || b->vector != EXC_UD)
		return false;
	while (at < c->code_len && c->code[at] != 0x62) /* prefixes */
		at++;
	if (at + 5 > c->code_len || (c->code[at + 1] & 3) != 1 || (c->code[at + 2] & 0x82) != 0x82)
		return false;
	return memchr(opcode, c->code[at + 4], sizeof(opcode));
}

static bool invalid_too_long(const struct diff_case *c, const struct diff_result *a,
			     const struct diff_result *b)
{
	return c->flags & CASE_INVALID && a->outcome == OUT_FAULT && a->vector == EXC_GP &&
	       !a->error && b->vector == EXC_UD && a->rip == b->rip &&
	       a->rip == DIFF_CODE + c->code_off;
}

static struct diff_verdict compare(const struct diff_shared *sh, const struct diff_case *c,
				   const struct diff_result *a, const struct diff_result *b,
				   const struct diff_excuse *x, FILE *out)
{
	struct cmp m = {.sh = sh, .c = c, .out = out};

	if (c->flags & CASE_INVALID && valid_after_all(c, b))
		return m.v;
	check(&m, "outcome", a->outcome, b->outcome);
	if (a->outcome != b->outcome || a->outcome == OUT_TIMEOUT || a->outcome == OUT_BROKEN)
		return m.v;
	if (invalid_too_long(c, a, b))
		return m.v;
	if (a->outcome == OUT_FAULT)
		compare_fault(&m, a, b);
	compare_integer(&m, a, b);
	compare_fpu(&m, &a->fpu, &b->fpu);
	if (c->flags & CASE_IMAGE && a->outcome == OUT_FAULT)
		return m.v;
	if (c->flags & CASE_XSAVE && xsave_agrees(sh, c, a, b))
		return m.v;
	if (!x || !x->free_len || !rest_agrees(sh, c, a, b, x))
		compare_memory(&m, a, b);
	return m.v;
}

struct diff_verdict case_compare(const struct diff_shared *sh, const struct diff_case *c,
				 const struct diff_result *a, const struct diff_result *b,
				 FILE *out)
{
	struct diff_verdict v = compare(sh, c, a, b, NULL, NULL);
	struct diff_result eased;
	struct diff_excuse x;

	if (!v.mismatch)
		return v;
	eased = *b;
	x = case_excuse(c, a, &eased);
	if (x.whole)
		return (struct diff_verdict){.excused = true};
	v = compare(sh, c, a, &eased, &x, out);
	v.mnemonic = x.mnemonic;
	v.excused = !v.mismatch;
	return v;
}
