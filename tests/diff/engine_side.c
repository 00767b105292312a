/*
 * engine_side.c - runs cases on an engine, in a guest that looks to user code like the host
 * process.
 *
 * The guest is one vCPU in long mode with page tables built by hand. User pages lie where the
 * native side has them. Kernel pages, at KERN in the high half, hold the tables and one handler per
 * vector: a HLT, at which run() returns, with the interrupted state in the registers and in the
 * exception frame. A case is entered by IRETQ from level 0, so that nothing but registers and guest
 * memory changes between cases and the TLB stays warm. Its end is a HLT in user code at DIFF_STUB:
 * #GP there means that the case is done.
 *
 * The GDT has Linux's layout, so that selectors mean the same on both sides.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "case.h"
#include "cpu/engine.h"
#include "engine/bt/bt.h"
#include "engine/interp/engine.h"
#include "mem/mem.h"

#define KERN 0xffff800000000000ULL
#define RAM_SIZE MIB(2)
#define BUDGET 50000
#define WATCHDOG_US 200000
#define HANG_US (10 * WATCHDOG_US)

/* Guest-physical layout. */
enum {
	P_TABLES = 0x1000, /* page tables, taken in order */
	P_TABLES_END = 0x20000,
	P_GDT = 0x20000,
	P_IDT = 0x21000,
	P_TSS = 0x22000,
	P_HANDLERS = 0x23000, /* 32 handlers of 16 bytes; then the entry's IRETQ */
	P_STACK = 0x24000,    /* the kernel's, one page */
	P_STUB = 0x26000,
	P_CODE = 0x28000,
	P_ARENA = 0x30000,
};
#define ENTRY (KERN + P_HANDLERS + 0x800)

enum { SEL_KCODE = 0x10, SEL_KDATA = 0x18, SEL_TSS = 0x40 };

struct engine_side {
	const struct diff_shared *sh;
	const struct engine_ops *ops;
	struct guest_mem *mem;
	struct vcpu *v;
	struct log log;
	uint8_t *ram, *pages[ARENA_PAGES];
	uint32_t next_table;
	pthread_t watchdog;
	clockid_t clock;
	bool watched;
	_Atomic uint64_t started; /* cases */
	_Atomic bool running, quit;
};

/* The translator joins here; it can run the same cases as single instructions, blocks and loops. */
static const struct engine_ops *const engines[] = {&interp_engine, &bt_engine};

static uint64_t *table_entry(struct engine_side *e, uint64_t table, uint64_t va, unsigned shift)
{
	return (uint64_t *)(e->ram + table) + (va >> shift & 511);
}

static void map_page(struct engine_side *e, uint64_t va, uint64_t pa, uint64_t flags)
{
	uint64_t table = P_TABLES;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *p = table_entry(e, table, va, shift);

		if (!*p) {
			*p = e->next_table | PTE_P | PTE_W | PTE_U;
			e->next_table += 0x1000;
		}
		table = *p & PTE_ADDR;
	}
	*table_entry(e, table, va, 12) = pa | flags | PTE_P;
}

static void build_tables(struct engine_side *e)
{
	e->next_table = P_TABLES + 0x1000;
	for (uint64_t pa = 0; pa < RAM_SIZE; pa += DIFF_PAGE)
		map_page(e, KERN + pa, pa, PTE_W);
	for (uint64_t off = 0; off < DIFF_CODE_SIZE; off += DIFF_PAGE)
		map_page(e, DIFF_CODE + off, P_CODE + off, PTE_U | PTE_W);
	map_page(e, DIFF_STUB, P_STUB, PTE_U);
	for (unsigned i = 0; i < ARENA_PAGES; i++)
		map_page(e, arena_page[i].va, P_ARENA + i * DIFF_PAGE,
			 PTE_U | PTE_NX | (arena_page[i].ro ? 0 : PTE_W));
}

static uint64_t flat_descriptor(uint64_t base, uint32_t attr)
{
	return 0xf00000000ffffULL | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56 |
	       (uint64_t)(attr & 0xf0ff) << 40;
}

enum {
	ATTR_CODE64 = 0xa09b,
	ATTR_DATA = 0xc093,
	ATTR_CODE32 = 0xc09b,
	ATTR_USER = 0x60,
};

static void build_descriptors(struct engine_side *e)
{
	uint64_t *gdt = (uint64_t *)(e->ram + P_GDT), *idt = (uint64_t *)(e->ram + P_IDT);
	uint64_t tss = KERN + P_TSS, rsp0 = KERN + P_STACK + DIFF_PAGE;
	uint16_t no_io_bitmap = 0x68; /* past the limit */

	gdt[1] = flat_descriptor(0, ATTR_CODE32);
	gdt[2] = flat_descriptor(0, ATTR_CODE64);
	gdt[3] = flat_descriptor(0, ATTR_DATA);
	gdt[4] = flat_descriptor(0, ATTR_CODE32 | ATTR_USER);
	gdt[5] = flat_descriptor(0, ATTR_DATA | ATTR_USER);
	gdt[6] = flat_descriptor(0, ATTR_CODE64 | ATTR_USER);
	gdt[8] = 0x67 | (tss & 0xffffff) << 16 | 0x8bULL << 40 | (tss >> 24 & 0xff) << 56;
	gdt[9] = tss >> 32;
	gdt[12] = flat_descriptor(DIFF_FS32_BASE, ATTR_DATA | ATTR_USER | SEG_AVL);
	gdt[13] = flat_descriptor(DIFF_GS32_BASE, ATTR_DATA | ATTR_USER | SEG_AVL);
	memcpy(e->ram + P_TSS + 4, &rsp0, 8);
	memcpy(e->ram + P_TSS + 102, &no_io_bitmap, 2);
	for (unsigned v = 0; v < 32; v++) {
		uint64_t h = KERN + P_HANDLERS + v * 16;
		uint64_t dpl = v == EXC_BP || v == EXC_OF ? 3 : 0;

		idt[2 * v] = (h & 0xffff) | SEL_KCODE << 16 | (0x8e00 | dpl << 13) << 32 |
			     (h >> 16 & 0xffff) << 48;
		idt[2 * v + 1] = h >> 32;
		e->ram[P_HANDLERS + v * 16] = 0xf4;
	}
	memcpy(e->ram + P_HANDLERS + 0x800, "\x48\xcf", 2);
	e->ram[P_STUB] = 0xf4;
}

static void reset_vcpu(struct engine_side *e)
{
	struct vcpu *v = e->v;

	vcpu_reset(v);
	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	v->cr3 = P_TABLES;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE |
		 CR4_OSXSAVE | CR4_SMEP | CR4_SMAP;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = e->sh->model.xstate.xcr0;
	v->gdt_base = KERN + P_GDT;
	v->gdt_limit = 127;
	v->idt_base = KERN + P_IDT;
	v->idt_limit = 32 * 16 - 1;
	cpu_set_segment(v, S_CS, SEL_KCODE, 0, 0xffffffff, ATTR_CODE64);
	cpu_set_segment(v, S_SS, SEL_KDATA, 0, 0xffffffff, ATTR_DATA);
	for (unsigned s = S_DS; s <= S_GS; s++)
		cpu_set_segment(v, s, 0, 0, 0, SEG_UNUSABLE);
	cpu_set_segment(v, S_ES, 0, 0, 0, SEG_UNUSABLE);
	cpu_set_segment(v, S_LDTR, 0, 0, 0, SEG_UNUSABLE);
	cpu_set_segment(v, S_TR, SEL_TSS, KERN + P_TSS, 0x67, 0x8b);
	cpu_set_rflags(v, FLAG_1);
	cpu_state_changed(v);
}

static int build(struct engine_side *e, struct err *err)
{
	int r = guest_mem_new(&e->mem, err);

	if (r)
		return r;
	r = guest_mem_add_ram(e->mem, GPA(0), RAM_SIZE, err);
	if (r)
		return r;
	e->ram = guest_ptr(e->mem, GPA(0), RAM_SIZE);
	if (!e->ram)
		return err_set(err, ENOMEM, "no guest memory");
	build_tables(e);
	build_descriptors(e);
	memset(e->ram + P_CODE, 0xcc, DIFF_CODE_SIZE);
	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		e->pages[i] = e->ram + P_ARENA + i * DIFF_PAGE;
		memcpy(e->pages[i], e->sh->template[0] + i * DIFF_PAGE, DIFF_PAGE);
	}
	r = vcpu_new(&e->v, 0, &e->sh->model, e->mem, NULL, err);
	if (r)
		return r;
	e->v->engine = e->ops;
	e->v->log = &e->log;
	return e->ops->vcpu_init ? e->ops->vcpu_init(e->v, err) : 0;
}

/* Processor time of the thread that runs the engine. */
static uint64_t cpu_time_us(const struct engine_side *e)
{
	struct timespec ts = {0};

	clock_gettime(e->clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/*
 * Stops a case that has used more than a tick of processor time: on a busy machine the clock on the
 * wall says nothing. An engine that does not stop then is ended by SIGXCPU, with the process.
 */
static void *watch(void *arg)
{
	struct engine_side *e = arg;
	uint64_t used = 0;
	uint64_t last = 0;

	while (!e->quit) {
		usleep(WATCHDOG_US);
		if (e->started != last)
			used = cpu_time_us(e);
		else if (e->running && cpu_time_us(e) - used > WATCHDOG_US)
			vcpu_request(e->v, CPU_REQ_STOP);
		if (e->started == last && e->running && cpu_time_us(e) - used > HANG_US)
			kill(getpid(), SIGXCPU);
		last = e->started;
	}
	return NULL;
}

int engine_side_new(struct engine_side **out, const char *engine, const struct diff_shared *sh,
		    struct err *err)
{
	struct engine_side *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_set(err, ENOMEM, "out of memory");
	e->sh = sh;
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		if (!strcmp(engines[i]->name, engine))
			e->ops = engines[i];
	if (!e->ops) {
		free(e);
		return err_set(err, EINVAL, "no engine called '%s'", engine);
	}
	r = build(e, err);
	if (r) {
		engine_side_free(e);
		return r;
	}
	reset_vcpu(e);
	e->watched = !pthread_getcpuclockid(pthread_self(), &e->clock) &&
		     !pthread_create(&e->watchdog, NULL, watch, e);
	*out = e;
	return 0;
}

void engine_side_free(struct engine_side *e)
{
	if (!e)
		return;
	e->quit = true;
	if (e->watched)
		pthread_join(e->watchdog, NULL);
	vcpu_free(e->v);
	guest_mem_free(e->mem);
	free(e);
}

/* Read-only pages too: an engine may be wrong. */
static void load_memory(struct engine_side *e, const struct diff_case *c)
{
	for (unsigned i = 0; i < ARENA_PAGES; i++)
		memcpy(e->pages[i], e->sh->template[c->template] + i * DIFF_PAGE, DIFF_PAGE);
	case_poke(e->sh, c, e->pages);
}

/* The code pages of a case: int3 wherever there is no code. */
static void code_image(const struct diff_case *c, uint8_t image[DIFF_CODE_SIZE])
{
	uint8_t buf[DIFF_CODE_MAX];
	size_t len = case_code(c, buf);

	memset(image, 0xcc, DIFF_CODE_SIZE);
	memcpy(image + c->code_off, buf, len);
}

/* Writes what differs, by cache lines, so that an engine may keep what it knows of the rest. */
static void load_code(struct engine_side *e, const struct diff_case *c)
{
	uint8_t image[DIFF_CODE_SIZE], *code = e->ram + P_CODE;

	code_image(c, image);
	for (uint32_t i = 0; i < DIFF_CODE_SIZE; i += 64) {
		if (!memcmp(code + i, image + i, 64))
			continue;
		memcpy(code + i, image + i, 64);
		guest_mem_wrote(e->mem, GPA(P_CODE + i), 64);
	}
}

static void load_segments(struct engine_side *e, const struct diff_case *c)
{
	struct vcpu *v = e->v;
	bool compat = c->mode != X86_MODE_64;
	uint32_t attr = compat ? ATTR_DATA | ATTR_USER : SEG_UNUSABLE;

	cpu_set_segment(v, S_DS, compat ? DIFF_SS : 0, 0, compat ? 0xffffffff : 0, attr);
	cpu_set_segment(v, S_ES, compat ? DIFF_SS : 0, 0, compat ? 0xffffffff : 0, attr);
	cpu_set_segment(v, S_FS, compat ? DIFF_FS32 : 0, c->fs_base, compat ? 0xffffffff : 0, attr);
	cpu_set_segment(v, S_GS, compat ? DIFF_GS32 : 0, c->gs_base, compat ? 0xffffffff : 0, attr);
}

static void load_state(struct engine_side *e, const struct diff_case *c)
{
	struct vcpu *v = e->v;
	uint64_t *frame = (uint64_t *)(e->ram + P_STACK + 0x800);

	_Static_assert(sizeof(struct diff_fpu) == sizeof(struct fpu_state), "same layout");
	frame[0] = DIFF_CODE + c->code_off;
	frame[1] = c->mode == X86_MODE_64 ? DIFF_CS64 : DIFF_CS32;
	frame[2] = c->rflags;
	frame[3] = c->gpr[R_SP];
	frame[4] = DIFF_SS;
	memcpy(v->gpr, c->gpr, sizeof(v->gpr));
	v->gpr[R_SP] = KERN + P_STACK + 0x800;
	v->rip = ENTRY;
	v->halted = false;
	v->dr6 = 0xffff0ff0;
	memcpy(&v->fpu, &c->fpu, sizeof(v->fpu));
	load_segments(e, c);
}

static bool has_error(unsigned vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

/* run() stopped at a handler: the interrupted state is in the registers and the frame. */
static void read_frame(const struct engine_side *e, struct diff_result *r)
{
	const struct vcpu *v = e->v;
	const uint64_t *frame = (const uint64_t *)(e->ram + (v->gpr[R_SP] - KERN));

	r->vector = (uint8_t)((v->rip - 1 - (KERN + P_HANDLERS)) / 16);
	if (has_error(r->vector))
		r->error = (uint32_t)*frame++;
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->rip = frame[0];
	r->cs = (uint16_t)frame[1];
	r->rflags = frame[2];
	r->gpr[R_SP] = frame[3];
	r->ss = (uint16_t)frame[4];
	r->cr2 = v->cr2;
	r->outcome = r->vector == EXC_GP && r->rip == DIFF_STUB ? OUT_EXIT : OUT_FAULT;
	r->ds = v->seg[S_DS].sel;
	r->es = v->seg[S_ES].sel;
	r->fs = v->seg[S_FS].sel;
	r->gs = v->seg[S_GS].sel;
	r->fs_base = v->seg[S_FS].base;
	r->gs_base = v->seg[S_GS].base;
	memcpy(&r->fpu, &v->fpu, sizeof(r->fpu));
}

static bool at_handler(const struct vcpu *v)
{
	return v->cpl == 0 && v->rip - 1 - (KERN + P_HANDLERS) < 32 * 16 &&
	       v->gpr[R_SP] - (KERN + P_STACK) <= DIFF_PAGE - 40;
}

static void broken(struct engine_side *e, struct diff_result *r, const char *what)
{
	r->outcome = OUT_BROKEN;
	snprintf(r->why, sizeof(r->why), "%.30s at rip %llx cpl %u: %.80s", what,
		 (unsigned long long)e->v->rip, e->v->cpl, e->v->stop_reason);
	reset_vcpu(e);
}

/* With a budget engines go one instruction at a time; without, they run blocks. */
static uint64_t budget(const struct diff_case *c)
{
	if (c->kind >= DIFF_BLOCK)
		return c->number / 4 % 16 ? 0 : BUDGET;
	return c->number % 3 ? 0 : BUDGET;
}

static bool code_intact(const struct engine_side *e, const struct diff_case *c)
{
	uint8_t image[DIFF_CODE_SIZE];

	code_image(c, image);
	return !memcmp(e->ram + P_CODE, image, DIFF_CODE_SIZE);
}

static enum run_exit enter(struct engine_side *e, const struct diff_case *c)
{
	enum run_exit exit;

	load_state(e, c);
	e->v->stop_reason[0] = 0;
	e->started++;
	e->running = true;
	exit = e->ops->run(e->v, budget(c));
	e->running = false;
	return exit;
}

void engine_side_run(struct engine_side *e, const struct diff_case *c, struct diff_result *r)
{
	enum run_exit exit;

	load_code(e, c);
	load_memory(e, c);
	memset(r, 0, offsetof(struct diff_result, fpu));
	r->why[0] = 0;
	exit = enter(e, c);
	/* Again, with all of the code known to the engine; not when a stray store changed it. */
	if (c->warm && exit == RUN_HALT && at_handler(e->v) && code_intact(e, c)) {
		load_memory(e, c);
		exit = enter(e, c);
	}
	if (exit == RUN_HALT && at_handler(e->v)) {
		read_frame(e, r);
	} else if (exit == RUN_BUDGET || exit == RUN_STOP) {
		r->outcome = OUT_TIMEOUT;
		reset_vcpu(e);
	} else {
		broken(e, r,
		       exit == RUN_SHUTDOWN ? "shutdown"
		       : exit == RUN_ERROR  ? "error"
					    : "stopped elsewhere");
	}
	case_collect(e->sh, c, e->pages, r);
}
