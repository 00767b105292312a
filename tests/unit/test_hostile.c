/*
 * Random code at every privilege and in every mode, on a machine that is nothing but a vCPU, memory and an empty bus: the
 * engine must come back each time with a lawful answer, and pages of the monitor that lie around it must stay as they are.
 * One argument: interp, or bt, which runs with an instruction budget, block by block, and freely until it is stopped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/light.h"
#include "cpu/engine.h"
#include "engine/bt/bt.h"
#include "engine/interp/engine.h"

#define RAM MIB(1)
#define ROUNDS 1500
#define INSNS 400
#define CANARY 0xc5

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v;
	uint8_t *ram, *canary[2];
	pthread_t stopper;
	atomic_bool running, over;
};

static const struct engine_ops *engine;
static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint8_t *canary_page(void)
{
	uint8_t *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	memset(p, CANARY, 65536);
	return p;
}

/* Ends what runs without a budget. */
static void *stop_now_and_then(void *arg)
{
	struct machine *m = arg;

	while (!m->over) {
		usleep(200);
		if (m->running)
			vcpu_request(m->v, CPU_REQ_STOP);
	}
	return NULL;
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err;

	assert_non_null(m);
	m->canary[0] = canary_page();
	assert_int_equal(guest_mem_new(&m->mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(m->mem, GPA(0), RAM, &err), 0);
	m->canary[1] = canary_page();
	assert_int_equal(bus_new(&m->bus, NULL, &err), 0);
	assert_int_equal(cpu_model_init(&m->model, "default", &err), 0);
	assert_int_equal(vcpu_new(&m->v, 0, &m->model, m->mem, m->bus, &err), 0);
	m->v->engine = engine;
	assert_int_equal(engine->vcpu_init(m->v, &err), 0);
	m->ram = guest_ptr(m->mem, GPA(0), RAM);
	assert_int_equal(pthread_create(&m->stopper, NULL, stop_now_and_then, m), 0);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	m->over = true;
	pthread_join(m->stopper, NULL);
	vcpu_free(m->v);
	bus_free(m->bus);
	guest_mem_free(m->mem);
	free(m);
	return 0;
}

/* An address near memory, near its end, near zero, in the monitor, or anywhere. */
static uint64_t wild(const struct machine *m)
{
	switch (rnd() % 8) {
	case 0:
		return rnd() % RAM;
	case 1:
		return RAM - rnd() % 64;
	case 2:
		return (uint64_t)m->canary[rnd() % 2] + rnd() % 65536;
	case 3:
		return (uint64_t)m->v + rnd() % sizeof(*m->v);
	case 4:
		return 0x7fffffffffff - rnd() % 64;
	case 5:
		return 0xffff800000000000 + rnd() % 64;
	case 6:
		return -(rnd() % 128);
	default:
		return rnd();
	}
}

/* Page tables at 0x1000: the first 2 MiB mapped one to one; sometimes with random bits thrown in. */
static void page_tables(struct machine *m)
{
	uint64_t *pml4 = (uint64_t *)(m->ram + 0x1000), *pdpt = (uint64_t *)(m->ram + 0x2000),
		 *pd = (uint64_t *)(m->ram + 0x3000);

	memset(pml4, 0, 0x3000);
	pml4[0] = 0x2000 | 7;
	pdpt[0] = 0x3000 | 7;
	pd[0] = 0x87;
	if (rnd() % 4 == 0)
		pml4[rnd() % 512] = rnd();
	if (rnd() % 4 == 0)
		pdpt[rnd() % 512] = rnd();
	if (rnd() % 4 == 0)
		pd[1 + rnd() % 511] = rnd();
}

enum { REAL, PROT16, PROT32, LONG, COMPAT, V86, KINDS };

static void enter_mode(struct machine *m, unsigned kind)
{
	struct vcpu *v = m->v;
	unsigned cpl = kind == V86 || rnd() % 2 ? 3 : 0;
	uint32_t attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | cpl << 5;

	vcpu_reset(v);
	if (kind == REAL) {
		cpu_set_segment(v, S_CS, 0x100, 0x1000, 0xffff, SEG_P | SEG_S | SEG_RW);
		v->rip = 0x8000;
		cpu_state_changed(v);
		return;
	}
	v->cr0 = CR0_PE | CR0_ET | CR0_NE | (rnd() % 2 ? CR0_WP : 0) | (rnd() % 4 ? 0 : CR0_AM);
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | (rnd() % 2 ? CR4_FSGSBASE : 0);
	v->xcr0 = m->model.xstate.xcr0;
	for (unsigned s = 0; s <= S_GS; s++)
		cpu_set_segment(v, s, 8 | cpl, kind == LONG ? 0 : rnd() % 4096, 0xfffff, attr | SEG_DB);
	v->seg[S_CS].attr |= SEG_CODE;
	v->seg[S_CS].base = 0;
	if (kind == PROT16)
		v->seg[S_CS].attr &= ~(uint32_t)SEG_DB;
	if (kind == LONG || kind == COMPAT) {
		page_tables(m);
		v->cr0 |= CR0_PG;
		v->cr4 |= CR4_PAE;
		v->cr3 = 0x1000;
		v->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	}
	if (kind == LONG)
		v->seg[S_CS].attr = (v->seg[S_CS].attr & ~(uint32_t)SEG_DB) | SEG_L;
	if (kind == V86) {
		cpu_set_rflags(v, FLAG_VM | (rnd() % 2 ? FLAG_IOPL : 0));
		for (unsigned s = 0; s <= S_GS; s++)
			cpu_set_segment(v, s, 0x100, 0x1000, 0xffff, attr);
	}
	v->rip = 0x9000;
	v->gdt_base = wild(m);
	v->idt_base = rnd() % 2 ? 0x4000 : wild(m);
	cpu_state_changed(v);
}

static void random_state(struct machine *m)
{
	struct vcpu *v = m->v;

	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = wild(m);
	for (size_t i = 0; i < sizeof(v->fpu.zmm) / 8; i++)
		((uint64_t *)v->fpu.zmm)[i] = rnd();
	for (unsigned i = 0; i < 8; i++)
		v->fpu.k[i] = rnd();
	if (v->mode == X86_MODE_64) {
		v->seg[S_FS].base = wild(m);
		v->seg[S_GS].base = wild(m);
	}
	if (rnd() % 8 == 0)
		v->sys_flags |= FLAG_TF;
	if (rnd() % 8 == 0)
		v->dr7 = rnd() & 0xffff03ff;
	v->dr[rnd() % 4] = wild(m);
}

static void check(const struct machine *m, enum run_exit exit)
{
	assert_in_range(exit, RUN_HALT, RUN_SHUTDOWN); /* not RUN_ERROR: nothing here is the host's fault */
	for (unsigned c = 0; c < 2; c++)
		for (unsigned i = 0; i < 65536; i++)
			if (m->canary[c][i] != CANARY)
				fail_msg("a page of the monitor was written at %u", i);
}

static void run_kind(void **state, unsigned kind)
{
	struct machine *m = *state;

	for (unsigned round = 0; round < ROUNDS; round++) {
		enum run_exit exit;

		seed = 0x9e3779b97f4a7c15ULL * (round + 1) + kind;
		for (size_t i = 0; i < RAM / 8; i += 1 + rnd() % 7)
			((uint64_t *)m->ram)[i] = rnd();
		guest_mem_wrote(m->mem, GPA(0), RAM);
		enter_mode(m, kind);
		random_state(m);
		m->running = engine == &bt_engine && round % 2;
		exit = engine->run(m->v, m->running ? 0 : INSNS);
		m->running = false;
		if (exit == RUN_ERROR)
			print_message("kind %u round %u: %s\n", kind, round, m->v->stop_reason);
		check(m, exit);
	}
}

static void test_real(void **state)
{
	run_kind(state, REAL);
}

static void test_protected16(void **state)
{
	run_kind(state, PROT16);
}

static void test_protected32(void **state)
{
	run_kind(state, PROT32);
}

static void test_long(void **state)
{
	run_kind(state, LONG);
}

static void test_compatibility(void **state)
{
	run_kind(state, COMPAT);
}

static void test_v86(void **state)
{
	run_kind(state, V86);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_real), T(test_protected16), T(test_protected32),
		T(test_long), T(test_compatibility), T(test_v86),
	};

	engine = argc > 1 && !strcmp(argv[1], "bt") ? &bt_engine : &interp_engine;
	if (engine == &bt_engine && !light_code)
		return 77; /* a sanitizer uses the registers that hold guest state */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
