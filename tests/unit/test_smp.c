/*
 * Several vCPUs, a thread each, on one guest memory: atomic operations, memory order, code that one writes and another runs,
 * page tables that all walk. The guests are pieces of smp_code.S at CPL 0 of 64-bit mode; they end by HLT, and by a triple
 * fault when they find something wrong.
 *	test_smp interp|bt [SCALE]
 * SCALE multiplies how often things are done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/light.h"
#include "cpu/engine.h"
#include "engine/bt/bt.h"
#include "engine/interp/engine.h"
#include "x86/x86.h"

#define RAM MIB(16)
#define MAX_CPUS 4
#define GDT 0x6000
#define IDT 0x7000
#define CODE 0x10000
#define STACKS 0x80000
#define SHARED MIB(2)          /* the barrier's word; small variables behind it */
#define VARS (SHARED + 0x1000)
#define RESULTS MIB(3)
#define CELLS MIB(4)
#define PAGES MIB(6)           /* for code that is written */
#define SMALL MIB(16)          /* linear: 2 MiB in 4 KiB pages, to MIB(8) on, every second pair exchanged */
#define PT 0x4000

extern const uint8_t smp_inc[], smp_xadd[], smp_cmpxchg[], smp_cmpxchg8b[], smp_cmpxchg16b[], smp_xchg[], smp_bts[], smp_store[],
	smp_store2[], smp_load2[], smp_sb[], smp_sb_mfence[], smp_sb_lock[], smp_sb_xchg[], smp_sb_cr3[], smp_lb[], smp_patcher[],
	smp_patched[], smp_int3[], smp_writer[], smp_runner[], smp_rewriter[], smp_waiter[], smp_pte[], smp_remap[], smp_end[];

struct cpu {
	struct vcpu *v;
	pthread_t thread;
	enum run_exit exit;
};

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct cpu cpu[MAX_CPUS];
	uint8_t *ram;
	bool over;
	pthread_t disturber;
};

static const struct engine_ops *engine;
static unsigned scale = 1;

static uint64_t *word(struct machine *m, uint64_t gpa)
{
	return (uint64_t *)(m->ram + gpa);
}

static uint64_t at(const uint8_t *piece)
{
	return CODE + (uint64_t)(piece - smp_inc);
}

/* All memory one to one in 2 MiB pages; SMALL in 4 KiB pages whose neighbours lie apart. */
static void page_tables(struct machine *m)
{
	*word(m, 0x1000) = 0x2000 | PTE_P | PTE_W;
	*word(m, 0x2000) = 0x3000 | PTE_P | PTE_W;
	for (unsigned i = 0; i < RAM / MIB(2); i++)
		*word(m, 0x3000 + i * 8) = MIB(2) * i | PTE_P | PTE_W | PTE_PS;
	*word(m, 0x3000 + SMALL / MIB(2) * 8) = PT | PTE_P | PTE_W;
	for (unsigned i = 0; i < 512; i++)
		*word(m, PT + i * 8) = (MIB(8) + (i ^ (i & 2) >> 1) * 0x1000) | PTE_P | PTE_W;
}

static void tables(struct machine *m)
{
	uint64_t handler = at(smp_int3);

	*word(m, GDT + 8) = 0x00209b0000000000;  /* 64-bit code */
	*word(m, GDT + 16) = 0x0000930000000000; /* data */
	*word(m, IDT + EXC_BP * 16) = (handler & 0xffff) | 8 << 16 | 0x8e00ULL << 32 | (handler >> 16 & 0xffff) << 48;
	*word(m, IDT + EXC_BP * 16 + 8) = handler >> 32;
}

static uint64_t no_value(void *ctx, uint64_t off, unsigned size)
{
	(void)ctx;
	(void)off;
	(void)size;
	return 0;
}

static void give_way(void *ctx, uint64_t off, unsigned size, uint64_t val)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)val;
	sched_yield();
}

static const struct bus_ops yield = {.read = no_value, .write = give_way};

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err;

	assert_non_null(m);
	assert_int_equal(guest_mem_new(&m->mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(m->mem, GPA(0), RAM, &err), 0);
	assert_int_equal(bus_new(&m->bus, NULL, &err), 0);
	assert_int_equal(bus_claim(m->bus, BUS_PIO, 0x80, 1, &yield, m, "yield", &err), 0);
	assert_int_equal(cpu_model_init(&m->model, "default", &err), 0);
	m->ram = guest_ptr(m->mem, GPA(0), RAM);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		assert_int_equal(vcpu_new(&m->cpu[i].v, i, &m->model, m->mem, m->bus, &err), 0);
		m->cpu[i].v->engine = engine;
		assert_int_equal(engine->vcpu_init(m->cpu[i].v, &err), 0);
	}
	page_tables(m);
	tables(m);
	memcpy(m->ram + CODE, smp_inc, (size_t)(smp_end - smp_inc));
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < MAX_CPUS; i++)
		vcpu_free(m->cpu[i].v);
	bus_free(m->bus);
	guest_mem_free(m->mem);
	free(m);
	return 0;
}

/* vCPU i of n at a piece; registers beyond the common ones are the caller's. */
static uint64_t *prepare(struct machine *m, unsigned i, unsigned n, const uint8_t *piece)
{
	struct vcpu *v = m->cpu[i].v;
	const uint32_t attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED;

	vcpu_reset(v);
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	v->cr3 = 0x1000;
	v->efer = EFER_LME | EFER_LMA;
	for (unsigned s = 0; s <= S_GS; s++)
		cpu_set_segment(v, s, 16, 0, 0xffffffff, attr);
	cpu_set_segment(v, S_CS, 8, 0, 0xffffffff, attr | SEG_CODE | SEG_L);
	v->gdt_base = GDT;
	v->gdt_limit = 0xff;
	v->idt_base = IDT;
	v->idt_limit = 0xfff;
	v->rip = at(piece);
	cpu_state_changed(v);
	v->gpr[R_SP] = STACKS + (i + 1) * 0x4000;
	v->gpr[R_DI] = SHARED;
	v->gpr[R_9] = n;
	v->gpr[R_BP] = i;
	return v->gpr;
}

static void *run_cpu(void *arg)
{
	struct cpu *c = arg;

	do
		c->exit = engine->run(c->v, 0);
	while (c->exit == RUN_STOP);
	return NULL;
}

/* Runs what was prepared until all have halted. */
static void start(struct machine *m, unsigned n)
{
	*word(m, SHARED) = 0;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_create(&m->cpu[i].thread, NULL, run_cpu, &m->cpu[i]), 0);
}

static void finish(struct machine *m, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pthread_join(m->cpu[i].thread, NULL);
	for (unsigned i = 0; i < n; i++)
		if (m->cpu[i].exit != RUN_HALT) {
			const struct vcpu *v = m->cpu[i].v;

			fail_msg("vCPU %u: exit %u, rip piece+%#lx, rax %#lx rbx %#lx rcx %#lx rdx %#lx: %s", i, m->cpu[i].exit,
				 v->rip - CODE, v->gpr[R_AX], v->gpr[R_BX], v->gpr[R_CX], v->gpr[R_DX], v->stop_reason);
		}
}

static void run(struct machine *m, unsigned n)
{
	start(m, n);
	finish(m, n);
}

/* Atomics */

struct operand {
	const char *name;
	uint64_t lin;
	bool split;
};

static const struct operand operands[] = {
	{"aligned", VARS + 0x100, false},
	{"across a line", VARS + 0x13c, true},
	{"across a page", VARS + 0xffc, true},
	{"across pages that lie apart", SMALL + 0x1ffd, true},
};

static uint64_t load(struct machine *m, const struct operand *o)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < 8; i++) {
		uint64_t lin = o->lin + i;
		uint64_t gpa = lin < SMALL ? lin : (*word(m, PT + (lin - SMALL) / 4096 * 8) & PTE_ADDR) | (lin & 0xfff);

		val |= (uint64_t)m->ram[gpa] << i * 8;
	}
	return val;
}

static void clear(struct machine *m)
{
	memset(m->ram + VARS, 0, 0x2000);
	memset(m->ram + MIB(8), 0, 0x10000);
}

static void count_with(struct machine *m, const uint8_t *piece, const struct operand *o, bool lock, const char *name)
{
	/* Hosts make locked operations across lines slow on purpose. */
	uint64_t rounds = (o->split ? 100 : 4000) * scale, sum;

	clear(m);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		uint64_t *r = prepare(m, i, MAX_CPUS, piece);

		r[R_8] = o->lin;
		r[R_12] = VARS + 0x800;
		r[R_CX] = rounds;
	}
	run(m, MAX_CPUS);
	sum = lock ? *word(m, VARS + 0x800) : load(m, o);
	if (sum != rounds * MAX_CPUS)
		fail_msg("%s %s: %lu, not %lu", name, o->name, sum, rounds * MAX_CPUS);
	if (lock)
		assert_int_equal(load(m, o), 0);
}

static void test_atomics(void **state)
{
	static const struct {
		const uint8_t *piece;
		const char *name;
		bool lock, aligned;
	} op[] = {
		{smp_inc, "inc", false, false},		    {smp_xadd, "xadd", false, false},
		{smp_cmpxchg, "cmpxchg", false, false},	    {smp_cmpxchg8b, "cmpxchg8b", false, false},
		{smp_cmpxchg16b, "cmpxchg16b", false, true}, {smp_xchg, "xchg", true, false},
		{smp_bts, "bts", true, false},
	};
	struct machine *m = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(op); i++)
		for (unsigned o = 0; o < ARRAY_SIZE(operands); o++)
			if (!op[i].aligned || !operands[o].split)
				count_with(m, op[i].piece, &operands[o], op[i].lock, op[i].name);
}

/* Litmus tests */

#define N_CELLS 4096u

struct litmus_thread {
	const uint8_t *piece;
	uint32_t first, second; /* offsets in a cell */
};

struct litmus {
	const char *name;
	unsigned n;
	struct litmus_thread t[MAX_CPUS];
	/* Whether x86 forbids these results: two of each thread. */
	bool (*forbidden)(uint32_t r[MAX_CPUS][2]);
	bool may_see; /* "forbidden" is what store buffers show, and is counted only */
};

#define X 0
#define Y 64

static bool both_zero(uint32_t r[MAX_CPUS][2])
{
	return !r[0][0] && !r[1][0];
}

static bool both_one(uint32_t r[MAX_CPUS][2])
{
	return r[0][0] && r[1][0];
}

static bool flag_without_data(uint32_t r[MAX_CPUS][2])
{
	return r[1][0] && !r[1][1];
}

static bool two_orders(uint32_t r[MAX_CPUS][2])
{
	return r[2][0] && !r[2][1] && r[3][0] && !r[3][1];
}

static const struct litmus litmus_tests[] = {
	{"SB", 2, {{smp_sb, X, Y}, {smp_sb, Y, X}}, both_zero, true},
	{"SB+mfence", 2, {{smp_sb_mfence, X, Y}, {smp_sb_mfence, Y, X}}, both_zero, false},
	{"SB+lock", 2, {{smp_sb_lock, X, Y}, {smp_sb_lock, Y, X}}, both_zero, false},
	{"SB+xchg", 2, {{smp_sb_xchg, X, Y}, {smp_sb_xchg, Y, X}}, both_zero, false},
	{"SB+cr3", 2, {{smp_sb_cr3, X, Y}, {smp_sb_cr3, Y, X}}, both_zero, false},
	{"SB+mfence+xchg", 2, {{smp_sb_mfence, X, Y}, {smp_sb_xchg, Y, X}}, both_zero, false},
	{"MP", 2, {{smp_store2, X, Y}, {smp_load2, Y, X}}, flag_without_data, false},
	{"LB", 2, {{smp_lb, X, Y}, {smp_lb, Y, X}}, both_one, false},
	{"IRIW", 4, {{smp_store, X, 0}, {smp_store, Y, 0}, {smp_load2, X, Y}, {smp_load2, Y, X}}, two_orders, false},
};

/* How often what is (not) allowed was seen. */
static unsigned run_litmus(struct machine *m, const struct litmus *l)
{
	unsigned seen = 0;

	memset(m->ram + CELLS, 0, N_CELLS * 128);
	memset(m->ram + RESULTS, 0, N_CELLS * 8 * MAX_CPUS);
	for (unsigned i = 0; i < l->n; i++) {
		uint64_t *r = prepare(m, i, l->n, l->t[i].piece);

		r[R_DX] = CELLS;
		r[R_SI] = RESULTS + i * N_CELLS * 8;
		r[R_10] = l->t[i].first;
		r[R_11] = l->t[i].second;
		r[R_CX] = N_CELLS;
	}
	run(m, l->n);
	for (unsigned c = 0; c < N_CELLS; c++) {
		uint32_t r[MAX_CPUS][2];

		for (unsigned i = 0; i < l->n; i++)
			memcpy(r[i], m->ram + RESULTS + (i * N_CELLS + c) * 8, 8);
		seen += l->forbidden(r);
	}
	return seen;
}

static void test_litmus(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(litmus_tests); i++) {
		const struct litmus *l = &litmus_tests[i];
		unsigned seen = 0, rounds = 2 * scale;

		for (unsigned n = 0; n < rounds; n++)
			seen += run_litmus(m, l);
		print_message("%-16s %u of %u\n", l->name, seen, rounds * N_CELLS);
		if (seen && !l->may_see)
			fail_msg("%s: what x86 forbids was seen %u times", l->name, seen);
	}
}

/* Code */

static void test_int3_protocol(void **state)
{
	struct machine *m = *state;

	memset(m->ram + VARS, 0, 0x1000);
	memcpy(m->ram + PAGES + 0xff0, "\xb8\0\0\0\0\xc3", 6);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		uint64_t *r = prepare(m, i, MAX_CPUS, i ? smp_patched : smp_patcher);

		r[R_8] = VARS;
		r[R_12] = r[R_13] = PAGES + 0xff0;
		r[R_CX] = 500 * scale;
	}
	run(m, MAX_CPUS);
}

static void test_written_as_data(void **state)
{
	struct machine *m = *state;

	memset(m->ram + VARS, 0, 0x1000);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		uint64_t *r = prepare(m, i, MAX_CPUS, i ? smp_runner : smp_writer);

		r[R_8] = VARS;
		r[R_12] = PAGES;
		r[R_CX] = 1000 * scale;
	}
	run(m, MAX_CPUS);
}

static void test_seen_without_serializing(void **state)
{
	struct machine *m = *state;

	memset(m->ram + VARS, 0, 0x1000);
	memcpy(m->ram + PAGES, "\xb8\0\0\0\0\xc3", 6);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		uint64_t *r = prepare(m, i, MAX_CPUS, i ? smp_waiter : smp_rewriter);

		r[R_8] = VARS;
		r[R_12] = PAGES;
		r[R_CX] = 500 * scale;
	}
	run(m, MAX_CPUS);
}

/* Page tables */

static void test_accessed_and_dirty(void **state)
{
	struct machine *m = *state;
	uint64_t rounds = 4000 * scale;

	clear(m);
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		uint64_t *r = prepare(m, i, MAX_CPUS, smp_pte);

		r[R_8] = PT + 8 * 8;
		r[R_10] = SMALL + 0x8000;
		r[R_CX] = rounds;
	}
	run(m, MAX_CPUS);
	assert_int_equal(*word(m, PT + 8 * 8) & (BITS(62, 52) | PTE_A), PTE_A);
	for (unsigned i = 0; i < MAX_CPUS; i++)
		assert_int_equal(*word(m, MIB(8) + 0x8000 + i * 8), rounds / 2);
}

/* Another thread changes a mapping, and asks for the TLB to be dropped. */
static void test_flush_request(void **state)
{
	struct machine *m = *state;

	for (unsigned round = 0; round < 20 * scale; round++) {
		uint64_t *count = word(m, VARS);

		*word(m, MIB(8) + 0x10000) = 1;
		*word(m, MIB(8) + 0x20000) = 2;
		*word(m, PT + 16 * 8) = (MIB(8) + 0x10000) | PTE_P | PTE_W;
		memset(count, 0, 64);
		for (unsigned i = 0; i < MAX_CPUS; i++) {
			uint64_t *r = prepare(m, i, MAX_CPUS, smp_remap);

			r[R_8] = VARS;
			r[R_10] = SMALL + 0x10000;
			r[R_BX] = 1;
			r[R_CX] = 2;
		}
		start(m, MAX_CPUS);
		for (unsigned i = 0; i < MAX_CPUS; i++)
			while (!__atomic_load_n(&count[i], __ATOMIC_ACQUIRE))
				sched_yield();
		__atomic_store_n(word(m, PT + 16 * 8), (MIB(8) + 0x20000) | PTE_P | PTE_W, __ATOMIC_SEQ_CST);
		for (unsigned i = 0; i < MAX_CPUS; i++)
			vcpu_request(m->cpu[i].v, CPU_REQ_FLUSH);
		finish(m, MAX_CPUS);
	}
}

/* Everything once more while another thread asks for this and that. */
static void *disturb(void *arg)
{
	static const uint32_t ask[] = {CPU_REQ_FLUSH, CPU_REQ_CODE, CPU_REQ_STOP};
	struct machine *m = arg;
	unsigned n = 0;

	while (!__atomic_load_n(&m->over, __ATOMIC_ACQUIRE)) {
		vcpu_request(m->cpu[n % MAX_CPUS].v, ask[n / MAX_CPUS % ARRAY_SIZE(ask)]);
		n++;
		sched_yield();
	}
	return NULL;
}

static void test_disturbed(void **state)
{
	struct machine *m = *state;

	assert_int_equal(pthread_create(&m->disturber, NULL, disturb, m), 0);
	test_int3_protocol(state);
	test_written_as_data(state);
	test_accessed_and_dirty(state);
	test_litmus(state);
	__atomic_store_n(&m->over, true, __ATOMIC_RELEASE);
	pthread_join(m->disturber, NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_atomics), T(test_litmus), T(test_int3_protocol), T(test_written_as_data), T(test_seen_without_serializing),
		T(test_accessed_and_dirty), T(test_flush_request), T(test_disturbed),
	};

	engine = argc > 1 && !strcmp(argv[1], "bt") ? &bt_engine : &interp_engine;
	scale = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	if (engine == &bt_engine && !light_code)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
