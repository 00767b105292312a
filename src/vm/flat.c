#include "vm/flat.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/cpu.h"

/* What the guest needs for itself is high up, where no program is linked to. */
#define MONITOR FLAT_OWN
enum { M_GDT = 0x0000, M_IDT = 0x1000, M_TSS = 0x2000, M_HANDLERS = 0x3000, M_RETURN = 0x4000, M_STACK = 0x5000,
       M_END = 0x6000 };
#define STACK_TOP 0x7fff00000000ULL
#define STACK_SIZE MIB(1)
#define OWN_RAM MIB(4) /* stack, tables, the monitor's pages */

enum { SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UDATA = 0x1b, SEL_UCODE = 0x23, SEL_TSS = 0x28 };
enum { ATTR_CODE64 = 0xa09b, ATTR_DATA = 0xc093, ATTR_USER = 0x60, ATTR_TSS = 0x8b };

struct flat {
	struct flat_config cfg;
	struct engine_config defaults;
	struct guest_mem *mem;
	struct bus *bus;
	struct cpu_model model;
	struct vcpu *v;
	uint8_t *ram;
	uint64_t ram_size, used; /* [0, used) is given out; page 0 is the top table */
};

/* ---- memory ---- */

static int new_page(struct flat *f, uint64_t *gpa, struct err *err)
{
	if (f->used + GUEST_PAGE_SIZE > f->ram_size)
		return err_set(err, EFBIG, "the guest's %llu MiB of memory are used up",
			       (unsigned long long)f->ram_size >> 20);
	*gpa = f->used;
	f->used += GUEST_PAGE_SIZE;
	return 0;
}

static uint64_t *table_entry(const struct flat *f, uint64_t table, uint64_t va, unsigned shift)
{
	return (uint64_t *)(f->ram + table) + (va >> shift & 511);
}

/* Guest-physical address of the page around va, or ~0. */
static uint64_t find_page(const struct flat *f, uint64_t va)
{
	uint64_t table = 0;

	for (unsigned shift = 39;; shift -= 9) {
		uint64_t entry = *table_entry(f, table, va, shift);

		if (!(entry & PTE_P))
			return ~0ULL;
		if (shift == 12)
			return entry & PTE_ADDR;
		table = entry & PTE_ADDR;
	}
}

static int make_page(struct flat *f, uint64_t va, uint64_t *gpa, struct err *err)
{
	uint64_t flags = PTE_P | PTE_W | (f->cfg.user ? PTE_U : 0), table = 0;

	for (unsigned shift = 39;; shift -= 9) {
		uint64_t *entry = table_entry(f, table, va, shift), page = 0;

		if (!(*entry & PTE_P)) {
			int ret = new_page(f, &page, err);

			if (ret)
				return ret;
			*entry = page | flags;
		}
		table = *entry & PTE_ADDR;
		if (shift == 12)
			break;
	}
	*gpa = table;
	return 0;
}

int flat_put(struct flat *f, uint64_t va, const void *data, uint64_t len, struct err *err)
{
	const uint8_t *from = data;

	if (len && (add_overflows(va, len - 1) || !canonical(va) || !canonical(va + len - 1)))
		return err_set(err, EINVAL, "%#llx is not an address of x86-64", (unsigned long long)va);
	while (len) {
		uint64_t off = va & (GUEST_PAGE_SIZE - 1), gpa;
		uint64_t n = min_u64(len, GUEST_PAGE_SIZE - off);
		int ret = make_page(f, va, &gpa, err);

		if (ret)
			return ret;
		if (from) {
			memcpy(f->ram + gpa + off, from, n);
			from += n;
		} else {
			memset(f->ram + gpa + off, 0, n);
		}
		guest_mem_wrote(f->mem, GPA(gpa + off), n);
		va += n;
		len -= n;
	}
	return 0;
}

int flat_get(const struct flat *f, uint64_t va, void *data, uint64_t len)
{
	uint8_t *to = data;

	while (len) {
		uint64_t off = va & (GUEST_PAGE_SIZE - 1), gpa = find_page(f, va);
		uint64_t n = min_u64(len, GUEST_PAGE_SIZE - off);

		if (gpa == ~0ULL || !canonical(va))
			return -EFAULT;
		memcpy(to, f->ram + gpa + off, n);
		to += n;
		va += n;
		len -= n;
	}
	return 0;
}

/* ---- the machine ---- */

static uint64_t descriptor(uint32_t attr)
{
	return 0xf00000000ffffULL | (uint64_t)(attr & 0xf0ff) << 40;
}

/* Flat segments; every vector's handler is a HLT, on the stack of IST 1 (SDM vol. 3, 6.14.5). */
static int build(struct flat *f, struct err *err)
{
	uint64_t gdt[7] = {0}, idt[64], tss[13] = {0}, base = MONITOR + M_TSS;
	uint8_t handlers[32 * 16];
	int ret;

	gdt[SEL_KCODE / 8] = descriptor(ATTR_CODE64);
	gdt[SEL_KDATA / 8] = descriptor(ATTR_DATA);
	gdt[SEL_UDATA / 8] = descriptor(ATTR_DATA | ATTR_USER);
	gdt[SEL_UCODE / 8] = descriptor(ATTR_CODE64 | ATTR_USER);
	gdt[5] = 0x67 | (base & 0xffffff) << 16 | (uint64_t)ATTR_TSS << 40 | (base >> 24 & 0xff) << 56;
	gdt[6] = base >> 32;
	for (uint64_t v = 0; v < 32; v++) {
		uint64_t h = MONITOR + M_HANDLERS + v * 16;

		idt[2 * v] = (h & 0xffff) | SEL_KCODE << 16 | 0x8e01ULL << 32 | (h >> 16 & 0xffff) << 48;
		idt[2 * v + 1] = h >> 32;
	}
	memset(handlers, 0xf4, sizeof(handlers));
	/* IST 1 is at offset 36 of the TSS; the I/O map at 102 is beyond the limit. */
	base = MONITOR + M_STACK + GUEST_PAGE_SIZE;
	memcpy((uint8_t *)tss + 4, &base, 8);
	memcpy((uint8_t *)tss + 36, &base, 8);
	((uint8_t *)tss)[102] = 0x68;
	ret = flat_put(f, MONITOR, NULL, M_END, err);
	if (!ret)
		ret = flat_put(f, MONITOR + M_GDT, gdt, sizeof(gdt), err);
	if (!ret)
		ret = flat_put(f, MONITOR + M_IDT, idt, sizeof(idt), err);
	if (!ret)
		ret = flat_put(f, MONITOR + M_TSS, tss, sizeof(tss), err);
	if (!ret)
		ret = flat_put(f, MONITOR + M_HANDLERS, handlers, sizeof(handlers), err);
	if (!ret)
		ret = flat_put(f, MONITOR + M_RETURN, "\xf4", 1, err);
	if (!ret)
		ret = flat_put(f, STACK_TOP - STACK_SIZE, NULL, STACK_SIZE, err);
	return ret;
}

static int new_memory(struct flat *f, struct err *err)
{
	int ret = guest_mem_new(&f->mem, err);

	if (!ret)
		ret = guest_mem_add_ram(f->mem, GPA(0), f->ram_size, err);
	if (ret)
		return ret;
	f->ram = guest_ptr(f->mem, GPA(0), f->ram_size);
	f->used = GUEST_PAGE_SIZE;
	return f->ram ? bus_new(&f->bus, NULL, err) : err_set(err, ENOMEM, "no guest memory");
}

static int new_vcpu(struct flat *f, struct err *err)
{
	int ret = cpu_model_init(&f->model, "host", err);

	if (!ret)
		ret = vcpu_new(&f->v, 0, &f->model, f->mem, f->bus, err);
	if (ret)
		return ret;
	f->v->cpu_count = 1;
	f->v->config = f->cfg.config;
	f->v->engine = f->cfg.engine;
	ret = f->cfg.engine->vcpu_init ? f->cfg.engine->vcpu_init(f->v, err) : 0;
	if (ret)
		f->v->engine = NULL;
	return ret;
}

int flat_new(struct flat **out, const struct flat_config *c, struct err *err)
{
	struct flat *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return err_set(err, ENOMEM, "no memory for a guest");
	f->cfg = *c;
	f->defaults.cache_bytes = ENGINE_CACHE_DEFAULT;
	if (!f->cfg.config)
		f->cfg.config = &f->defaults;
	/* Each 512th page is a table more; so are the three above the first of them. */
	f->ram_size = align_up(OWN_RAM + c->ram + c->ram / 256, MIB(2));
	ret = new_memory(f, err);
	if (!ret)
		ret = build(f, err);
	if (!ret)
		ret = new_vcpu(f, err);
	if (ret) {
		flat_free(f);
		return ret;
	}
	*out = f;
	return 0;
}

void flat_free(struct flat *f)
{
	if (!f)
		return;
	if (f->v && f->v->engine && f->v->engine->vcpu_fini)
		f->v->engine->vcpu_fini(f->v);
	if (f->v)
		f->v->engine = NULL;
	vcpu_free(f->v);
	bus_free(f->bus);
	guest_mem_free(f->mem);
	free(f);
}

struct vcpu *flat_vcpu(struct flat *f)
{
	return f->v;
}

/* ---- calls ---- */

static void reset(struct flat *f)
{
	struct vcpu *v = f->v;
	uint32_t user = f->cfg.user ? ATTR_USER : 0;

	vcpu_reset(v);
	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	v->cr3 = 0;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = f->model.xstate.xcr0;
	v->gdt_base = MONITOR + M_GDT;
	v->gdt_limit = 7 * 8 - 1;
	v->idt_base = MONITOR + M_IDT;
	v->idt_limit = 32 * 16 - 1;
	cpu_set_segment(v, S_CS, user ? SEL_UCODE : SEL_KCODE, 0, 0xffffffff, ATTR_CODE64 | user);
	cpu_set_segment(v, S_SS, user ? SEL_UDATA : SEL_KDATA, 0, 0xffffffff, ATTR_DATA | user);
	for (unsigned s = 0; s <= S_GS; s++)
		if (s != S_CS && s != S_SS)
			cpu_set_segment(v, s, 0, 0, 0, SEG_UNUSABLE);
	cpu_set_segment(v, S_LDTR, 0, 0, 0, SEG_UNUSABLE);
	cpu_set_segment(v, S_TR, SEL_TSS, MONITOR + M_TSS, 0x67, ATTR_TSS);
	cpu_set_rflags(v, FLAG_1);
	cpu_state_changed(v);
}

/* Registers and stack as a CALL leaves them (System V ABI, AMD64, 3.2.3): RSP + 8 is a multiple of 16. */
static void set_arguments(struct flat *f, const uint64_t *args, unsigned n)
{
	static const uint8_t in_register[6] = {R_DI, R_SI, R_DX, R_CX, 8, 9};
	uint64_t frame[1 + FLAT_ARGS] = {MONITOR + M_RETURN};
	unsigned on_stack = 0;
	struct err ignored;

	for (unsigned i = 0; i < n && i < FLAT_ARGS; i++) {
		if (i < ARRAY_SIZE(in_register))
			f->v->gpr[in_register[i]] = args[i];
		else
			frame[1 + on_stack++] = args[i];
	}
	f->v->gpr[R_SP] = align_down(STACK_TOP - KIB(64) - 8ULL * on_stack, 16) - 8;
	/* The stack is there: this cannot fail. */
	(void)!flat_put(f, f->v->gpr[R_SP], frame, 8 * (1 + on_stack), &ignored);
}

struct watchdog {
	struct flat *flat;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct timespec until;
	bool done, expired;
};

static void *watch(void *ctx)
{
	struct watchdog *w = ctx;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	while (!w->done && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&w->cond, &w->lock, &w->until);
	w->expired = !w->done;
	if (w->expired)
		vcpu_request(w->flat->v, CPU_REQ_STOP);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* run() with a limit of time; *expired when that ended it. */
static enum run_exit run_for(struct flat *f, unsigned seconds, bool *expired)
{
	struct watchdog w = {.flat = f, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	enum run_exit why;
	pthread_t thread;
	bool watched;

	clock_gettime(CLOCK_REALTIME, &w.until);
	w.until.tv_sec += seconds;
	watched = pthread_create(&thread, NULL, watch, &w) == 0;
	why = f->cfg.engine->run(f->v, 0);
	pthread_mutex_lock(&w.lock);
	w.done = true;
	pthread_cond_signal(&w.cond);
	pthread_mutex_unlock(&w.lock);
	if (watched)
		pthread_join(thread, NULL);
	*expired = w.expired;
	return why;
}

static bool has_error(unsigned vector)
{
	return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static void describe_fault(struct flat *f, unsigned vector, struct flat_result *r)
{
	static const char *const names[32] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF",
					      NULL,  "#TS", "#NP", "#SS", "#GP", "#PF", NULL,  "#MF", "#AC",
					      "#MC", "#XM", "#VE", "#CP"};
	uint64_t frame[2] = {0};
	char name[16], at[64] = "";

	if (flat_get(f, f->v->gpr[R_SP], frame, sizeof(frame)) < 0)
		frame[0] = frame[1] = 0;
	r->rip = frame[has_error(vector)];
	if (f->cfg.user && vector == EXC_GP && r->rip == MONITOR + M_RETURN) {
		r->end = FLAT_RETURNED;
		return;
	}
	snprintf(name, sizeof(name), "exception %u", vector);
	if (vector == EXC_PF)
		snprintf(at, sizeof(at), ", address %#llx", (unsigned long long)f->v->cr2);
	snprintf(r->reason, sizeof(r->reason), "%s at %#llx%s", names[vector] ? names[vector] : name,
		 (unsigned long long)r->rip, at);
}

/* The vCPU is halted, its RIP behind the HLT. */
static void describe_halt(struct flat *f, struct flat_result *r)
{
	uint64_t at = f->v->rip - 1, handler = at - (MONITOR + M_HANDLERS);

	r->end = FLAT_FAULT;
	r->rip = at;
	if (at == MONITOR + M_RETURN)
		r->end = FLAT_RETURNED;
	else if (handler < 32 * 16)
		describe_fault(f, (unsigned)handler / 16, r);
	else
		snprintf(r->reason, sizeof(r->reason), "HLT at %#llx", (unsigned long long)at);
}

void flat_call(struct flat *f, uint64_t va, const uint64_t *args, unsigned n_args, unsigned seconds,
	       struct flat_result *r)
{
	uint64_t before = f->v->insns;
	enum run_exit why;
	bool expired;

	memset(r, 0, sizeof(*r));
	reset(f);
	set_arguments(f, args, n_args);
	f->v->rip = va;
	why = run_for(f, seconds, &expired);
	r->rax = f->v->gpr[R_AX];
	r->insns = f->v->insns - before;
	if (why == RUN_HALT) {
		describe_halt(f, r);
	} else if (expired) {
		r->end = FLAT_TIMEOUT;
		snprintf(r->reason, sizeof(r->reason), "it did not return within %u seconds", seconds);
	} else {
		r->end = why == RUN_STOP ? FLAT_STOPPED : FLAT_ERROR;
		snprintf(r->reason, sizeof(r->reason), "%s",
			 why == RUN_STOP ? "stopped" : f->v->stop_reason);
	}
	/* A stop that came too late is not for the next call. */
	atomic_fetch_and(&f->v->request, ~(uint32_t)CPU_REQ_STOP);
}
