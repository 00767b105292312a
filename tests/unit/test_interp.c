/*
 * The interpreter and the CPU under it, where the guests of tests/guest cannot reach or cannot see: the block cache and
 * the thunk arena when they are full, INIT and interrupts without a machine around the vCPU, deliveries that fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "engine/interp/engine.h"
#include "interp/internal.h"

#define RAM MIB(16)

/* Where things are in guest memory. */
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, TSS = 0x4000, NEW_TSS = 0x4100, GDT = 0x5000, IDT = 0x6000,
       HANDLERS = 0x8000, STACK0 = 0x20000, STACK = 0x30000, CODE = 0x100000, PAGE = 0x200000 };
#define DEVICE_VA 0x2800000 /* 2 MiB of nothing on the bus, in long mode */

enum { CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x1b, DATA3 = 0x23, SEL_TSS = 0x28, SEL_NEW_TSS = 0x30 };

struct machine {
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v;
	struct interp *it;
	uint8_t *ram;
};

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err;

	assert_non_null(m);
	assert_int_equal(guest_mem_new(&m->mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(m->mem, GPA(0), RAM, &err), 0);
	assert_int_equal(bus_new(&m->bus, NULL, &err), 0);
	assert_int_equal(cpu_model_init(&m->model, "default", &err), 0);
	assert_int_equal(vcpu_new(&m->v, 0, &m->model, m->mem, m->bus, &err), 0);
	m->v->engine = &interp_engine;
	assert_int_equal(interp_engine.vcpu_init(m->v, &err), 0);
	m->it = interp_of(m->v);
	m->ram = guest_ptr(m->mem, GPA(0), RAM);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	vcpu_free(m->v);
	bus_free(m->bus);
	guest_mem_free(m->mem);
	free(m);
	return 0;
}

static void put(struct machine *m, uint64_t gpa, const void *bytes, unsigned len)
{
	assert_int_equal(guest_write(m->mem, GPA(gpa), bytes, len), 0);
}

static void put64(struct machine *m, uint64_t gpa, uint64_t val)
{
	put(m, gpa, &val, 8);
}

static void put32(struct machine *m, uint64_t gpa, uint32_t val)
{
	put(m, gpa, &val, 4);
}

static uint32_t get32(const struct machine *m, uint64_t gpa)
{
	uint32_t val;

	memcpy(&val, m->ram + gpa, 4);
	return val;
}

static uint64_t handler(unsigned vector)
{
	return HANDLERS + vector * 16;
}

static void gate64(struct machine *m, unsigned vector)
{
	put64(m, IDT + vector * 16, handler(vector) | CODE0 << 16 | 0x8eULL << 40);
	put64(m, IDT + vector * 16 + 8, 0);
}

static void gate32(struct machine *m, unsigned vector, unsigned sel)
{
	put64(m, IDT + vector * 8, handler(vector) | (uint64_t)sel << 16 | 0xeeULL << 40);
}

static void flat_segments(struct vcpu *v, unsigned cs, unsigned ds, uint32_t cs_attr)
{
	uint32_t attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | (ds & 3) << 5;

	for (unsigned s = 0; s <= S_GS; s++)
		cpu_set_segment(v, s, (uint16_t)ds, 0, 0xffffffff, attr | SEG_DB);
	cpu_set_segment(v, S_CS, (uint16_t)cs, 0, 0xffffffff, attr | SEG_CODE | cs_attr);
}

/* What both modes have: flat segments, a TSS, a handler for each exception that is HLT. */
static void tables(struct machine *m)
{
	const uint8_t hlt = 0xf4;

	vcpu_reset(m->v);
	m->v->id = 0;
	put64(m, GDT + CODE0, 0x00cf9b000000ffff);
	put64(m, GDT + DATA0, 0x00cf93000000ffff);
	put64(m, GDT + (CODE3 & ~7), 0x00cffb000000ffff);
	put64(m, GDT + (DATA3 & ~7), 0x00cff3000000ffff);
	put64(m, GDT + SEL_TSS, 0x00008b0000000067 | TSS << 16);
	put64(m, GDT + SEL_NEW_TSS, 0x0000890000000067 | NEW_TSS << 16);
	m->v->gdt_base = GDT;
	m->v->gdt_limit = 0x37;
	m->v->idt_base = IDT;
	for (unsigned i = 0; i < 32; i++)
		put(m, handler(i), &hlt, 1);
	m->v->gpr[R_SP] = STACK;
	m->v->rip = CODE;
}

/* 64-bit code at CPL 0; the first 16 MiB are mapped one to one by 2 MiB pages. */
static void enter_long(struct machine *m)
{
	struct vcpu *v = m->v;

	tables(m);
	put64(m, GDT + CODE0, 0x00af9b000000ffff);
	put64(m, PML4, PDPT | PTE_P | PTE_W | PTE_U);
	put64(m, PDPT, PD | PTE_P | PTE_W | PTE_U);
	for (unsigned i = 0; i < 8; i++)
		put64(m, PD + i * 8, i * MIB(2) | PTE_P | PTE_W | PTE_PS);
	put64(m, PD + (DEVICE_VA >> 21) * 8, 0xf0000000 | PTE_P | PTE_W | PTE_PS);
	for (unsigned i = 0; i < 32; i++)
		gate64(m, i);
	v->idt_limit = 0x1ff;
	v->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG | CR0_WP;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE;
	v->cr3 = PML4;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = m->model.xstate.xcr0;
	flat_segments(v, CODE0, DATA0, SEG_L);
	cpu_state_changed(v);
}

/* 32-bit code without paging at CPL 0 or 3; each gate leads to CPL 0. */
static void enter_protected(struct machine *m, unsigned cpl)
{
	struct vcpu *v = m->v;

	tables(m);
	for (unsigned i = 0; i < 32; i++)
		gate32(m, i, CODE0);
	v->idt_limit = 0xff;
	v->cr0 = CR0_PE | CR0_ET | CR0_NE;
	put32(m, TSS + 4, STACK0);
	put32(m, TSS + 8, DATA0);
	flat_segments(v, cpl ? CODE3 : CODE0, cpl ? DATA3 : DATA0, SEG_DB);
	cpu_set_segment(v, S_TR, SEL_TSS, TSS, 0x67, SEG_P | DESC_TSS_BUSY);
	cpu_state_changed(v);
}

static enum run_exit run_at(struct machine *m, uint64_t rip, uint64_t max_insns)
{
	m->v->rip = rip;
	m->v->halted = false;
	return m->v->engine->run(m->v, max_insns);
}

/* Puts code at CODE and runs it to its HLT, or to a handler's. */
#define RUN_CODE(m, ...)                                                                                               \
	({                                                                                                             \
		static const uint8_t code_[] = {__VA_ARGS__};                                                          \
		put(m, CODE, code_, sizeof(code_));                                                                    \
		run_at(m, CODE, 0);                                                                                    \
	})

static void check_in_handler(const struct machine *m, unsigned vector)
{
	assert_true(m->v->halted);
	assert_int_equal(m->v->rip, handler(vector) + 1);
}

static uint64_t hooked(const struct machine *m, uint64_t *bytes)
{
	uint64_t n = 0;

	*bytes = 0;
	for (unsigned i = 0; i < BLOCK_BUCKETS; i++) {
		for (const struct block *b = m->it->bucket[i]; b; b = b->next) {
			n++;
			*bytes += sizeof(*b) + b->n_ops * sizeof(struct cpu_op);
		}
	}
	return n;
}

static const struct block *block_at(const struct machine *m, uint64_t gpa)
{
	for (unsigned i = 0; i < BLOCK_BUCKETS; i++)
		for (const struct block *b = m->it->bucket[i]; b; b = b->next)
			if (b->gpa == gpa)
				return b;
	return NULL;
}

#define ADDS (BLOCK_MAX_OPS - 1) /* and a HLT: one block */

/* A block of ADD EAX, imm32, no two of which, in any two rounds, are the same thunk. */
static uint32_t put_adds(struct machine *m, uint64_t gpa, uint32_t round)
{
	uint8_t code[ADDS * 5 + 1];
	uint32_t sum = 0;

	for (uint32_t i = 0; i < ADDS; i++) {
		uint32_t imm = 0x1000000 + round * ADDS + i;

		code[i * 5] = 0x05;
		memcpy(code + i * 5 + 1, &imm, 4);
		sum += imm;
	}
	code[ADDS * 5] = 0xf4;
	put(m, gpa, code, sizeof(code));
	return sum;
}

static bool thunk_below(const struct cpu_op *a, const struct cpu_op *b)
{
	return (uintptr_t)a->native < (uintptr_t)b->native;
}

/*
 * Rewrites the block at gpa, runs it from entry, until the arena was emptied: new thunks are below older ones then. All
 * thunks of a block are made in ascending order and must be of the same filling. Each result must be the new code's.
 */
static void fill_arena(struct machine *m, uint64_t entry, uint64_t gpa)
{
	struct cpu_op last = {0};

	for (uint32_t round = 0; round < 100000; round++) {
		uint32_t sum = put_adds(m, gpa, round);
		const struct block *b;
		unsigned n;

		m->v->gpr[R_AX] = 0;
		assert_int_equal(run_at(m, entry, 0), RUN_HALT);
		assert_int_equal(m->v->gpr[R_AX], sum);
		b = block_at(m, gpa);
		assert_non_null(b);
		n = (unsigned)min_u64(b->n_ops, ADDS);
		for (unsigned i = 1; i < n; i++)
			assert_true(thunk_below(&b->op[i - 1], &b->op[i]));
		if (thunk_below(&b->op[n - 1], &last)) {
			/* Still watched: a write to its first immediate is seen. */
			put32(m, gpa + 1, get32(m, gpa + 1) + 1);
			m->v->gpr[R_AX] = 0;
			assert_int_equal(run_at(m, entry, 0), RUN_HALT);
			assert_int_equal(m->v->gpr[R_AX], sum + 1);
			return;
		}
		last = b->op[n - 1];
	}
	fail_msg("the arena was never full");
}

static void test_arena_full_no_other_block(void **state)
{
	struct machine *m = *state;

	enter_long(m);
	fill_arena(m, PAGE, PAGE);
}

/*
 * The page has another block, whose disappearance must not take the new block's marks along. The first ADD is alone in
 * its 64 bytes, which a block that began with the second would not watch.
 */
static void test_arena_full_page_in_use(void **state)
{
	static const uint8_t jump[] = {0xe9, 0x36, 0x04, 0, 0}; /* jmp PAGE + 0x43b */
	struct machine *m = *state;

	enter_long(m);
	put(m, PAGE, jump, sizeof(jump));
	fill_arena(m, PAGE, PAGE + 0x43b);
}

static void test_block_memory_bounded(void **state)
{
	const uint64_t room = sizeof(struct block) + BLOCK_MAX_OPS * sizeof(struct cpu_op);
	const uint64_t n = BLOCK_BYTES_MAX / room * 5 / 4; /* blocks, were they all kept */
	struct machine *m = *state;
	uint64_t bytes;

	enter_long(m);
	assert_in_range(n, 1, RAM - PAGE - 64);
	memset(m->ram + PAGE, 0x90, n + 64);
	guest_mem_wrote(m->mem, GPA(PAGE), n + 64);
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(run_at(m, PAGE + i, 1), RUN_BUDGET);
		assert_in_range(m->it->block_bytes, 1, BLOCK_BYTES_MAX + room);
		if (i % 4096 == 0) {
			hooked(m, &bytes);
			assert_int_equal(bytes, m->it->block_bytes);
		}
	}
	hooked(m, &bytes);
	assert_in_range(bytes, 1, BLOCK_BYTES_MAX + room);
	assert_in_range(m->it->blocks_dropped, 1, n);
}

/* All ones at the last byte of a page are #UD; the handler jumps back. */
static void test_code_in_device_memory(void **state)
{
	static const uint8_t again[] = {0x48, 0x83, 0xc4, 40, 0xff, 0xe7}; /* add rsp, 40; jmp rdi */
	struct machine *m = *state;
	uint64_t bytes;

	enter_long(m);
	put(m, handler(EXC_UD), again, sizeof(again));
	m->v->gpr[R_DI] = DEVICE_VA + 0xfff;
	assert_int_equal(run_at(m, DEVICE_VA + 0xfff, 300000), RUN_BUDGET);
	assert_int_equal(m->v->exceptions[EXC_UD], 100000);
	assert_in_range(hooked(m, &bytes), 1, 8); /* the handler's */
}

/* An instruction that runs into the next page is no reason to watch the page for ever. */
static void test_crossing_marks(void **state)
{
	static const uint8_t cross[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf4}; /* mov rax, imm64; hlt */
	static const uint8_t zero[GUEST_PAGE_SIZE];
	struct machine *m = *state;

	enter_long(m);
	put(m, PAGE + 0xffb, cross, sizeof(cross));
	assert_int_equal(run_at(m, PAGE + 0xffb, 0), RUN_HALT);
	assert_int_equal(m->v->gpr[R_AX], 0x0807060504030201);
	assert_int_not_equal(guest_code_lines(m->mem, GPA(PAGE)), 0);
	put(m, PAGE, zero, sizeof(zero));
	assert_int_equal(guest_code_lines(m->mem, GPA(PAGE)), 0); /* written while nobody ran */
	/* What is in the next page counts, marked or not. */
	put(m, PAGE + 0xffb, cross, sizeof(cross));
	assert_int_equal(run_at(m, PAGE + 0xffb, 0), RUN_HALT);
	m->ram[PAGE + 0x1000] = 0xff;
	guest_mem_wrote(m->mem, GPA(PAGE + 0x1000), 1);
	assert_int_equal(run_at(m, PAGE + 0xffb, 0), RUN_HALT);
	assert_int_equal(m->v->gpr[R_AX], 0x08070605ff030201);
}

static void alignment_checks(struct machine *m)
{
	enter_protected(m, 3);
	m->v->cr0 |= CR0_AM;
	cpu_set_rflags(m->v, FLAG_AC);
	cpu_state_changed(m->v);
}

/* An inner stack is the system's: pushes to it are not the user's accesses. */
static void test_misaligned_inner_stack(void **state)
{
	struct machine *m = *state;

	alignment_checks(m);
	put32(m, TSS + 4, STACK0 + 1);
	assert_int_equal(RUN_CODE(m, 0xcd, 0x03), RUN_HALT); /* int 3 */
	check_in_handler(m, EXC_BP);
	assert_int_equal(m->v->exceptions[EXC_AC], 0);
	assert_int_equal(m->v->gpr[R_SP], STACK0 + 1 - 20);
}

/* #AC whose handler is the user's, on the user's misaligned stack: another #AC for ever, which must not hang us. */
static void test_endless_delivery(void **state)
{
	struct machine *m = *state;

	alignment_checks(m);
	gate32(m, EXC_AC, CODE3);
	m->v->gpr[R_SP] = STACK + 1;
	assert_int_equal(RUN_CODE(m, 0x50), RUN_SHUTDOWN); /* push eax */
	assert_in_range(m->v->exceptions[EXC_AC], 2, 1000);
}

/* MOVSQ reads what is watched, then faults at its destination: it will be restarted, the trap comes then. */
static void test_data_breakpoint_and_fault(void **state)
{
	struct machine *m = *state;

	enter_long(m);
	m->v->dr[0] = 0x410000;
	m->v->dr7 = 0x400 | 1 | 3 << 16 | 2 << 18; /* 8 bytes, reads and writes */
	cpu_update_breakpoints(m->v);
	m->v->gpr[R_SI] = 0x410000;
	m->v->gpr[R_DI] = 0x7000000;
	assert_int_equal(RUN_CODE(m, 0x48, 0xa5, 0xf4), RUN_HALT);
	check_in_handler(m, EXC_PF);
	assert_int_equal(m->v->exceptions[EXC_DB], 0);
	assert_int_equal(m->v->dr6 & 0xf, 0);
	/* With a destination it does. */
	m->v->gpr[R_DI] = 0x420000;
	assert_int_equal(run_at(m, CODE, 0), RUN_HALT);
	check_in_handler(m, EXC_DB);
	assert_int_equal(m->v->dr6 & 0xf, 1);
}

static void test_init_then_sipi(void **state)
{
	static const uint8_t hlt = 0xf4;
	struct machine *m = *state;

	enter_long(m);
	put(m, 0x40000, &hlt, 1);
	m->v->id = 1;
	m->v->sipi_vector = 0x40;
	vcpu_request(m->v, CPU_REQ_INIT | CPU_REQ_SIPI);
	assert_int_equal(run_at(m, CODE, 0), RUN_HALT);
	assert_false(m->v->wait_sipi);
	assert_true(m->v->halted);
	assert_int_equal(m->v->seg[S_CS].sel, 0x4000);
	assert_int_equal(m->v->rip, 1);
}

/* SDM vol. 3, table 9-1; APM vol. 2, table 14-1. */
static void test_init_keeps_msrs(void **state)
{
	struct machine *m = *state;
	struct vcpu *v = m->v;

	enter_long(m);
	v->id = 1;
	v->star = 0x11;
	v->lstar = 0x22;
	v->tsc_aux = 0x33;
	v->pat = 0x0606060606060606;
	v->mtrr_def_type = 0xc06;
	v->mtrr_fixed[3] = 0x0505050505050505;
	v->mtrr_var[2] = 0x80000006;
	vcpu_request(v, CPU_REQ_INIT);
	assert_int_equal(run_at(m, CODE, 0), RUN_HALT);
	assert_true(v->wait_sipi);
	assert_int_equal(v->star, 0x11);
	assert_int_equal(v->lstar, 0x22);
	assert_int_equal(v->tsc_aux, 0x33);
	assert_int_equal(v->pat, 0x0606060606060606);
	assert_int_equal(v->mtrr_def_type, 0xc06);
	assert_int_equal(v->mtrr_fixed[3], 0x0505050505050505);
	assert_int_equal(v->mtrr_var[2], 0x80000006);
	assert_int_equal(v->efer, 0);
	assert_int_equal(v->cr0 & (CR0_PE | CR0_PG), 0);
	assert_int_equal(v->gpr[R_SP], 0);
}

static int ack(void *ctx)
{
	int *vector = ctx, r = *vector;

	*vector = -1;
	return r;
}

/* NOPs at CPL 0 with IF, and an interrupt waiting: what an 8259 of a PC's first days would send. */
static void interrupt(struct machine *m, int vector)
{
	const struct local_apic apic = {.ack = ack, .ctx = &vector};

	m->v->apic = &apic;
	m->v->sys_flags |= FLAG_IF;
	vcpu_request(m->v, CPU_REQ_INTR);
	assert_int_equal(RUN_CODE(m, 0x90, 0x90, 0xf4), RUN_HALT);
	m->v->apic = NULL;
}

static void test_interrupt_8_is_no_double_fault(void **state)
{
	struct machine *m = *state;

	enter_protected(m, 0);
	put64(m, IDT + 8 * 8, 0);
	interrupt(m, 8);
	check_in_handler(m, EXC_GP);
	assert_int_equal(get32(m, m->v->gpr[R_SP]), 8 * 8 + 3); /* IDT, EXT */
	assert_int_equal(m->v->exceptions[EXC_DF], 0);
}

static void test_interrupt_14_is_no_fault(void **state)
{
	struct machine *m = *state;

	enter_protected(m, 0);
	interrupt(m, 14);
	check_in_handler(m, 14);
	assert_int_equal(m->v->gpr[R_SP], STACK - 12); /* no error code */
	assert_int_equal(get32(m, STACK - 12), CODE);
	assert_int_equal(get32(m, STACK - 4) & FLAG_RF, 0);
	assert_int_equal(m->v->exceptions[EXC_PF], 0);
	assert_int_equal(m->v->interrupts, 1);
}

/* INT n switches tasks, then the new task's DS is found bad: it is the new task that faults. */
static void test_int_to_bad_task(void **state)
{
	struct machine *m = *state;

	enter_protected(m, 0);
	put64(m, IDT + 3 * 8, SEL_NEW_TSS << 16 | 0xe5ULL << 40);
	put32(m, NEW_TSS + 0x20, 0x123456); /* EIP */
	put32(m, NEW_TSS + 0x24, 2);
	put32(m, NEW_TSS + 0x38, STACK0); /* ESP */
	put32(m, NEW_TSS + 0x48, DATA0);
	put32(m, NEW_TSS + 0x4c, CODE0);
	put32(m, NEW_TSS + 0x50, DATA0);
	put32(m, NEW_TSS + 0x54, 0xff8); /* DS beyond the GDT */
	assert_int_equal(RUN_CODE(m, 0xcd, 0x03), RUN_HALT);
	check_in_handler(m, EXC_TS);
	assert_int_equal(m->v->seg[S_TR].sel, SEL_NEW_TSS);
	assert_int_equal(get32(m, m->v->gpr[R_SP]) & ~1u, 0xff8);
	assert_int_equal(get32(m, m->v->gpr[R_SP] + 4), 0x123456);
	assert_int_equal(get32(m, TSS + 0x20), CODE + 2); /* the old task goes on after INT */
}

/* A fault of INT n's delivery before any task switch is reported at the INT. */
static void test_int_to_missing_gate(void **state)
{
	struct machine *m = *state;

	enter_protected(m, 0);
	put64(m, IDT + 3 * 8, 0);
	assert_int_equal(RUN_CODE(m, 0xcd, 0x03), RUN_HALT);
	check_in_handler(m, EXC_GP);
	assert_int_equal(get32(m, m->v->gpr[R_SP]), 3 * 8 + 2);
	assert_int_equal(get32(m, m->v->gpr[R_SP] + 4), CODE);
}

/* SS0 is bad; #TS itself is handled at CPL 3, where no stack is switched. */
static uint32_t bad_stack_error(struct machine *m, const uint8_t insn[2])
{
	enter_protected(m, 3);
	put32(m, TSS + 8, DATA3 & ~3);
	gate32(m, EXC_TS, CODE3);
	put(m, CODE, insn, 2);
	put(m, handler(EXC_TS), (const uint8_t[]){0xeb, 0xfe}, 2);
	assert_int_equal(run_at(m, CODE, 2), RUN_BUDGET);
	assert_int_equal(m->v->rip, handler(EXC_TS));
	assert_int_equal(get32(m, m->v->gpr[R_SP] + 4), CODE);
	return get32(m, m->v->gpr[R_SP]);
}

static void test_ext_in_stack_faults(void **state)
{
	static const uint8_t ud2[] = {0x0f, 0x0b}, int3[] = {0xcd, 0x03};

	assert_int_equal(bad_stack_error(*state, ud2), (DATA3 & ~3) | 1);
	assert_int_equal(bad_stack_error(*state, int3), DATA3 & ~3);
}

static void step_branches(struct machine *m)
{
	enter_long(m);
	m->v->debugctl = DEBUGCTL_BTF;
	cpu_set_rflags(m->v, FLAG_TF);
	memset(m->v->exceptions, 0, sizeof(m->v->exceptions));
}

static void test_branch_trap(void **state)
{
	struct machine *m = *state;

	step_branches(m);
	assert_int_equal(RUN_CODE(m, 0x90, 0x90, 0xf4), RUN_HALT);
	assert_int_equal(m->v->rip, CODE + 3);
	assert_int_equal(m->v->exceptions[EXC_DB], 0);
	step_branches(m);
	assert_int_equal(RUN_CODE(m, 0x90, 0xeb, 0x01, 0xf4, 0xf4), RUN_HALT); /* nop; jmp to the second hlt */
	check_in_handler(m, EXC_DB);
	assert_int_equal(get32(m, m->v->gpr[R_SP]), CODE + 4);
	assert_int_equal(m->v->debugctl & DEBUGCTL_BTF, 0);
	assert_int_equal(m->v->dr6 & BIT(14), BIT(14));
}

/* MOV SS holds its data breakpoint back for an instruction; the handler's own fault must not bring it up again. */
static void test_shadow_pending(void **state)
{
	struct machine *m = *state;
	const uint64_t nowhere = 0x7000000; /* a handler on a page that is not present */

	enter_long(m);
	put64(m, IDT + EXC_DB * 16, (nowhere & 0xffff) | (uint64_t)CODE0 << 16 | 0x8eULL << 40 | (nowhere >> 16) << 48);
	put64(m, 0x410000, DATA0);
	m->v->dr[0] = 0x410000;
	m->v->dr7 = 0x400 | 1 | 3 << 16 | 1 << 18; /* 2 bytes, reads and writes */
	cpu_update_breakpoints(m->v);
	put(m, CODE, (const uint8_t[]){0x8e, 0x14, 0x25, 0, 0, 0x41, 0, 0x90, 0x90, 0xf4}, 10); /* mov ss, [410000h] */
	assert_int_equal(run_at(m, CODE, 200), RUN_HALT);
	assert_int_equal(m->v->exceptions[EXC_DB], 1);
	assert_int_equal(m->v->exceptions[EXC_PF], 1);
}

static void test_branch_step_rep(void **state)
{
	struct machine *m = *state;

	step_branches(m);
	m->v->gpr[R_SI] = 0x410000;
	m->v->gpr[R_DI] = 0x420000;
	m->v->gpr[R_CX] = 3;
	assert_int_equal(RUN_CODE(m, 0xf3, 0xa4, 0xf4), RUN_HALT); /* rep movsb: no branch */
	assert_int_equal(m->v->exceptions[EXC_DB], 0);
}

static void test_breakpoint_clears_btf(void **state)
{
	struct machine *m = *state;

	enter_protected(m, 0);
	m->v->dr[0] = CODE + 1;
	m->v->dr7 = 0x401;
	cpu_update_breakpoints(m->v);
	m->v->debugctl = DEBUGCTL_BTF;
	assert_int_equal(RUN_CODE(m, 0x90, 0x90, 0xf4), RUN_HALT);
	assert_int_equal(m->v->exceptions[EXC_DB], 1);
	assert_int_equal(m->v->debugctl, 0);
}

static void test_vex_in_real_mode(void **state)
{
	static const uint8_t hlt = 0xf4;
	struct machine *m = *state;

	vcpu_reset(m->v);
	cpu_set_segment(m->v, S_CS, 0xa00, 0xa000, 0xffff, SEG_P | SEG_S | SEG_RW);
	cpu_state_changed(m->v);
	put32(m, EXC_UD * 4, HANDLERS);
	put(m, HANDLERS, &hlt, 1);
	m->v->gpr[R_SP] = 0x7000;
	put(m, 0xa000, (const uint8_t[]){0xc4, 0xe2, 0x78, 0xf2, 0xc3, 0xf4}, 6); /* andn eax, eax, ebx */
	assert_int_equal(run_at(m, 0, 0), RUN_HALT);
	assert_int_equal(m->v->seg[S_CS].base + m->v->rip, HANDLERS + 1);
	assert_int_equal(m->v->exceptions[EXC_UD], 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_arena_full_no_other_block), T(test_arena_full_page_in_use), T(test_block_memory_bounded),
		T(test_code_in_device_memory), T(test_crossing_marks), T(test_misaligned_inner_stack),
		T(test_endless_delivery), T(test_data_breakpoint_and_fault), T(test_init_then_sipi),
		T(test_init_keeps_msrs), T(test_interrupt_8_is_no_double_fault), T(test_interrupt_14_is_no_fault),
		T(test_int_to_bad_task), T(test_int_to_missing_gate), T(test_ext_in_stack_faults), T(test_branch_trap),
		T(test_shadow_pending), T(test_branch_step_rep), T(test_breakpoint_clears_btf),
		T(test_vex_in_real_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
