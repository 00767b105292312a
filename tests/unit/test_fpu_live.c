/*
 * The extended state in the hardware (vcpu.fpu_live): which instructions ask for it with fpu_spill(), and that those
 * which need none leave it alone. Also interp_enter(), interp_one() and interp_faulted() as another engine uses them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/system.h"
#include "interp/interp.h"

#define CODE 0x1000
#define DATA 0x8000 /* in EBX */
#define STACK 0x20000
#define XMM1_LOW 0x12345678

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v;
	struct interp *it;
	struct fpu_state live; /* what the hardware would hold */
	unsigned spills;
};

static void spill(struct vcpu *v)
{
	struct machine *m = v->owner;

	assert_true(v->fpu_live);
	v->fpu = m->live;
	v->fpu_live = false;
	m->spills++;
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err;

	assert_non_null(m);
	assert_int_equal(guest_mem_new(&m->mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(m->mem, GPA(0), MIB(1), &err), 0);
	assert_int_equal(bus_new(&m->bus, NULL, &err), 0);
	assert_int_equal(cpu_model_init(&m->model, "default", &err), 0);
	assert_int_equal(vcpu_new(&m->v, 0, &m->model, m->mem, m->bus, &err), 0);
	assert_int_equal(interp_new(&m->it, m->v, &err), 0);
	m->v->owner = m;
	m->v->fpu_spill = spill;
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	interp_free(m->it);
	vcpu_free(m->v);
	bus_free(m->bus);
	guest_mem_free(m->mem);
	free(m);
	return 0;
}

/* 32-bit code at CPL 0 without paging, all state enabled, at `code`; the x87 state as after FNINIT. */
static void prepare(struct machine *m, const uint8_t *code, unsigned len)
{
	const uint32_t attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | SEG_DB;
	const uint32_t xmm1 = XMM1_LOW, mxcsr = 0x1f80;
	struct vcpu *v = m->v;

	vcpu_reset(v);
	for (unsigned s = 0; s <= S_GS; s++)
		cpu_set_segment(v, s, 0x10, 0, 0xffffffff, attr);
	cpu_set_segment(v, S_CS, 0x08, 0, 0xffffffff, attr | SEG_CODE);
	v->cr0 = CR0_PE | CR0_ET | CR0_NE;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->xcr0 = m->model.xstate.xcr0;
	cpu_state_changed(v);
	v->fpu.fx[0] = 0x7f;
	v->fpu.fx[1] = 0x03;
	v->fpu.fx[4] = 0;
	m->live = v->fpu;
	memcpy(m->live.zmm[1], &xmm1, 4);
	memset(v->fpu.zmm[1], 0xee, 64); /* stale */
	memset(v->fpu.k, 0, sizeof(v->fpu.k));
	v->gpr[R_AX] = 7;
	v->gpr[R_DX] = 0;
	v->gpr[R_BX] = v->gpr[R_DI] = DATA;
	v->gpr[R_SP] = STACK;
	v->rip = CODE;
	assert_int_equal(guest_write(m->mem, GPA(CODE), code, len), 0);
	memset(guest_ptr(m->mem, GPA(DATA), 4096), 0, 4096);
	memcpy(guest_ptr(m->mem, GPA(DATA + 24), 4), &mxcsr, 4);
	assert_int_equal(guest_write(m->mem, GPA(DATA), &mxcsr, 4), 0);
}

/* One instruction; the vector of the fault that it raised, or -1. */
static int one(struct machine *m)
{
	volatile int vector = -1;

	assert_int_equal(interp_enter(m->it), 0);
	if (!_setjmp(m->v->fault_jmp))
		interp_one(m->it);
	else
		vector = m->v->event.vector;
	interp_leave(m->it);
	return vector;
}

/* The same with the state live, when the code has been decoded already, and the number of spills until it is done. */
static int one_live(struct machine *m, unsigned *spills)
{
	volatile int vector = -1;

	m->spills = 0;
	assert_int_equal(interp_enter(m->it), 0);
	m->v->fpu_live = true;
	if (!_setjmp(m->v->fault_jmp))
		interp_one(m->it);
	else
		vector = m->v->event.vector;
	*spills = m->spills;
	interp_leave(m->it); /* spills what still is live */
	assert_false(m->v->fpu_live);
	return vector;
}

enum host { ANY, AVX, AVX2, AVX512 };

static bool supported(enum host h)
{
	switch (h) {
	case AVX:
		return __builtin_cpu_supports("avx");
	case AVX2:
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
	case AVX512:
		return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
	default:
		return true;
	}
}

static const struct insn_case {
	const char *text;
	unsigned spills;
	enum host needs;
	uint8_t code[10];
} cases[] = {
	{"add eax, ebx", 0, ANY, {0x01, 0xd8}},
	{"add [ebx], eax", 0, ANY, {0x01, 0x03}},
	{"push eax", 0, ANY, {0x50}},
	{"jmp +0", 0, ANY, {0xeb, 0x00}},
	{"bt [ebx], eax", 0, ANY, {0x0f, 0xa3, 0x03}},
	{"cpuid", 0, ANY, {0x0f, 0xa2}},
	{"rdtsc", 0, ANY, {0x0f, 0x31}},
	{"movnti [ebx], eax", 0, ANY, {0x0f, 0xc3, 0x03}},
	{"stosd", 0, ANY, {0xab}},
	{"andn eax, eax, ebx", 0, AVX2, {0xc4, 0xe2, 0x78, 0xf2, 0xc3}},
	{"fld1", 1, ANY, {0xd9, 0xe8}},
	{"fwait", 1, ANY, {0x9b}},
	{"fninit", 1, ANY, {0xdb, 0xe3}},
	{"fnstcw [ebx]", 1, ANY, {0xd9, 0x3b}},
	{"fnstenv [ebx]", 1, ANY, {0xd9, 0x33}},
	{"fnsave [ebx]", 1, ANY, {0xdd, 0x33}},
	{"fldenv [ebx]", 1, ANY, {0xd9, 0x23}},
	{"fst dword [ebx]", 1, ANY, {0xd9, 0x13}},
	{"emms", 1, ANY, {0x0f, 0x77}},
	{"paddd mm0, mm1", 1, ANY, {0x0f, 0xfe, 0xc1}},
	{"maskmovq mm0, mm1", 1, ANY, {0x0f, 0xf7, 0xc1}},
	{"movd eax, xmm1", 1, ANY, {0x66, 0x0f, 0x7e, 0xc8}},
	{"movups [ebx], xmm1", 1, ANY, {0x0f, 0x11, 0x0b}},
	{"cvttss2si eax, [ebx]", 1, ANY, {0xf3, 0x0f, 0x2c, 0x03}},
	{"ldmxcsr [ebx]", 1, ANY, {0x0f, 0xae, 0x13}},
	{"stmxcsr [ebx]", 1, ANY, {0x0f, 0xae, 0x1b}},
	{"maskmovdqu xmm0, xmm1", 1, ANY, {0x66, 0x0f, 0xf7, 0xc1}},
	{"fxsave [ebx]", 1, ANY, {0x0f, 0xae, 0x03}},
	{"fxrstor [ebx]", 1, ANY, {0x0f, 0xae, 0x0b}},
	{"xsave [ebx]", 1, AVX, {0x0f, 0xae, 0x23}},
	{"xrstor [ebx]", 1, AVX, {0x0f, 0xae, 0x2b}},
	{"vzeroupper", 1, AVX, {0xc5, 0xf8, 0x77}},
	{"vzeroall", 1, AVX, {0xc5, 0xfc, 0x77}},
	{"vstmxcsr [ebx]", 1, AVX, {0xc5, 0xf8, 0xae, 0x1b}},
	{"vmovd eax, xmm1", 1, AVX, {0xc5, 0xf9, 0x7e, 0xc8}},
	{"vmaskmovps xmm0, xmm1, [ebx]", 1, AVX, {0xc4, 0xe2, 0x71, 0x2c, 0x03}},
	{"vmaskmovps [ebx], xmm1, xmm0", 1, AVX, {0xc4, 0xe2, 0x71, 0x2e, 0x03}},
	{"vpgatherdd xmm0, [ebx+xmm2*4], xmm1", 1, AVX2, {0xc4, 0xe2, 0x71, 0x90, 0x04, 0x93}},
	{"kmovd eax, k1", 1, AVX512, {0xc5, 0xfb, 0x93, 0xc1}},
	{"vmovdqu32 xmm0{k1}, [ebx]", 1, AVX512, {0x62, 0xf1, 0x7e, 0x09, 0x6f, 0x03}},
	{"vmovdqu32 [ebx]{k1}, xmm0", 1, AVX512, {0x62, 0xf1, 0x7e, 0x09, 0x7f, 0x03}},
	{"vpscatterdd [ebx+xmm2*4]{k1}, xmm0", 1, AVX512, {0x62, 0xf2, 0x7d, 0x09, 0xa0, 0x04, 0x93}},
};

static void test_who_spills(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct insn_case *c = &cases[i];
		unsigned spills;

		if (!supported(c->needs))
			continue;
		prepare(m, c->code, sizeof(c->code));
		if (one(m) != -1)
			fail_msg("%s: faults", c->text);
		prepare(m, c->code, sizeof(c->code));
		/* Its own write dropped it, or prepare()'s: decode again, with nothing live. */
		assert_int_equal(one(m), -1);
		m->v->rip = CODE;
		if (one_live(m, &spills) != -1)
			fail_msg("%s: faults with live state", c->text);
		if (spills != c->spills)
			fail_msg("%s: %u spills, not %u", c->text, spills, c->spills);
	}
}

/* What is read is what was live. */
static void test_values(void **state)
{
	static const uint8_t movd[] = {0x66, 0x0f, 0x7e, 0xc8}; /* movd eax, xmm1 */
	static const uint8_t movups[] = {0x0f, 0x11, 0x0b};	/* movups [ebx], xmm1 */
	struct machine *m = *state;
	unsigned spills;
	uint32_t val;

	prepare(m, movd, sizeof(movd));
	assert_int_equal(one(m), -1);
	m->v->rip = CODE;
	assert_int_equal(one_live(m, &spills), -1);
	assert_int_equal(m->v->gpr[R_AX], XMM1_LOW);
	prepare(m, movups, sizeof(movups));
	assert_int_equal(one(m), -1);
	m->v->rip = CODE;
	assert_int_equal(one_live(m, &spills), -1);
	assert_int_equal(guest_read(m->mem, GPA(DATA), &val, 4), 0);
	assert_int_equal(val, XMM1_LOW);
}

/* Faults: of the host CPU in a thunk, and of a guest that may not use the state, which so stays where it is. */
static void test_faults(void **state)
{
	static const uint8_t div[] = {0xf7, 0xf1};		/* div ecx, which is 0 */
	static const uint8_t movd[] = {0x66, 0x0f, 0x7e, 0xc8}; /* movd eax, xmm1 */
	struct machine *m = *state;
	unsigned spills;

	prepare(m, div, sizeof(div));
	assert_int_equal(one(m), EXC_DE);
	assert_int_equal(one_live(m, &spills), EXC_DE);
	assert_int_equal(spills, 0);
	assert_int_equal(m->v->rip, CODE);
	prepare(m, movd, sizeof(movd));
	m->v->cr0 |= CR0_TS;
	assert_int_equal(one(m), EXC_NM);
	assert_int_equal(one_live(m, &spills), EXC_NM);
	assert_int_equal(spills, 0);
}

/* Decoding, dropping blocks and devices may use vector registers. */
static void test_heavy_code(void **state)
{
	static const uint8_t add[] = {0x01, 0xd8}, in[] = {0xec}; /* add eax, ebx; in al, dx */
	struct machine *m = *state;
	unsigned spills;

	prepare(m, add, sizeof(add));
	assert_int_equal(one_live(m, &spills), -1);
	assert_int_equal(spills, 1);
	prepare(m, in, sizeof(in));
	assert_int_equal(one(m), -1);
	m->v->rip = CODE;
	assert_int_equal(one_live(m, &spills), -1);
	assert_int_equal(spills, 1);
}

/* Another engine's single step: TF leaves a debug trap pending; a fault takes back what the instruction had hit. */
static void test_one(void **state)
{
	static const uint8_t code[] = {0x89, 0x03, 0x90}; /* mov [ebx], eax; nop */
	static const uint8_t push[] = {0xff, 0x33};	  /* push dword [ebx] */
	struct machine *m = *state;

	prepare(m, code, sizeof(code));
	m->v->sys_flags |= FLAG_TF;
	assert_int_equal(one(m), -1);
	assert_int_equal(m->v->rip, CODE + 2);
	assert_int_equal(m->v->pending_db, BIT(14));
	m->v->pending_db = 0;
	m->v->sys_flags = 0;
	assert_int_equal(one(m), -1);
	assert_int_equal(m->v->rip, CODE + 3);
	assert_int_equal(m->v->pending_db, 0);
	/* Reads the watched word, and then its stack is beyond the segment. */
	prepare(m, push, sizeof(push));
	m->v->dr[0] = DATA;
	m->v->dr7 = 0x400 | 1 | 0xf << 16; /* 4 bytes, reads and writes */
	cpu_update_breakpoints(m->v);
	cpu_set_segment(m->v, S_SS, 0x10, 0, 0xfff, SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_DB);
	assert_int_equal(one(m), EXC_SS);
	assert_int_equal(m->v->pending_db, 1);
	interp_faulted(m->it, &m->v->event);
	assert_int_equal(m->v->pending_db, 0);
	assert_false(interp_failed(m->it));
}

static bool hook(void *ctx, int sig, siginfo_t *info, void *ucontext)
{
	(*(unsigned *)ctx)++;
	return false; /* the interpreter's own */
}

static void test_fault_hook(void **state)
{
	static const uint8_t div[] = {0xf7, 0xf1};
	struct machine *m = *state;
	unsigned asked = 0;

	interp_set_fault_hook(m->it, hook, &asked);
	prepare(m, div, sizeof(div));
	assert_int_equal(one(m), EXC_DE);
	assert_int_equal(asked, 1);
	interp_set_fault_hook(m->it, NULL, NULL);
	assert_int_equal(one(m), EXC_DE);
	assert_int_equal(asked, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_who_spills), T(test_values), T(test_faults), T(test_heavy_code), T(test_one), T(test_fault_hook),
	};

	__builtin_cpu_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
