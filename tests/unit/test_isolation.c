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
#include "isolation_slots.h"

static const struct engine_ops *const engines[] = {&interp_engine, &bt_engine};

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
	static void (*const put[])(struct machine *m, unsigned n) = {
		[SLOTS_WILD] = put_slot, [SLOTS_MOVING] = put_moving_slot, [SLOTS_EDGE] = put_edge_slot};

	m->seed = 0x9e3779b97f4a7c15ULL * (round + 1);
	memset(m->ram, 0, RAM);
	build_tables(m);
	build_descriptors(m);
	put_handler(m);
	for (unsigned i = 0; i < SLOTS; i++)
		put[m->slots](m, i);
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

static int attack(const struct engine_ops *ops, bool user, enum slots slots)
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
	m->slots = slots;
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

static void run_attack(const struct engine_ops *ops, bool user, enum slots slots)
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
		int r = attack(ops, user, slots);

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
		run_attack(engines[i], false, SLOTS_WILD);
}

static void test_user(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		run_attack(engines[i], true, SLOTS_WILD);
}

/* Addresses that change after the access that was checked: groups of accesses (engine/bt/group.c). */
static void test_moving(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		for (unsigned user = 0; user < 2; user++)
			run_attack(engines[i], user, SLOTS_MOVING);
}

static void test_edge(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++)
		for (unsigned user = 0; user < 2; user++)
			run_attack(engines[i], user, SLOTS_EDGE);
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
		cmocka_unit_test(test_edge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
