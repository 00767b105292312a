/*
 * native.c - runs cases on the host CPU, in a child process that lives as long as it survives.
 *
 * A case that ends well jumps to DIFF_STUB and from there into native_asm.S, with no system call. A
 * fault comes as a signal on an alternate stack (the case may have put anything into rsp); the
 * handler copies the interrupted state out of the signal frame and goes back without sigreturn.
 * SA_NODEFER keeps the signal mask as it was. A timer catches cases that do not end.
 *
 * The handlers run with the case's FS base, so they put the child's back before anything that may
 * touch thread-local storage; this file is compiled without stack protector. State that handlers
 * need lies in the context page, at a fixed address. A seccomp filter allows the child no more than
 * it needs, for the unlucky case that jumps into a system call.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "case.h"

#define TICK_US 10000
#define STUCK_TICKS 20

struct native_sel {
	uint16_t ds, es, fs, gs, ss, cs;
};

struct native_ctx {
	uint64_t gpr[16], rip, rflags;
	uint32_t far_off;
	uint16_t far_sel, pad0;
	uint64_t fs_base, gs_base;
	uint16_t sel[4];
	void (*tail)(void);
	uint64_t host_rsp, host_fs, host_gs, xcr0;
	uint32_t mxcsr, pad1;
	uint64_t mode32;
	uint8_t pad2[0x100 - 0xe8];
	uint64_t out_gpr[16], out_rflags, out_fs_base, out_gs_base;
	struct native_sel out_sel;
	uint8_t pad3[0x400 - 0x1a4];
	uint8_t in_fpu[0x1c00];
	uint8_t out_fpu[0x1c00];
	uint8_t pad4[0x400];
	/* What signal handlers need. */
	volatile bool running, faulted;
	unsigned stuck;
	struct diff_shared *sh;
	struct diff_result *result;
	uint32_t code_start, code_end; /* of the previous case, from DIFF_CODE */
	uint64_t tick_case, cases;
};
#define CTX ((struct native_ctx *)DIFF_CTX)
_Static_assert(offsetof(struct native_ctx, sel) == CTX_SEL - DIFF_CTX, "sel");
_Static_assert(offsetof(struct native_ctx, mode32) == CTX_MODE32 - DIFF_CTX, "mode32");
_Static_assert(offsetof(struct native_ctx, out_gpr) == CTX_OUT_GPR - DIFF_CTX, "out_gpr");
_Static_assert(offsetof(struct native_ctx, out_sel) == CTX_OUT_SEL - DIFF_CTX, "out_sel");
_Static_assert(offsetof(struct native_ctx, in_fpu) == CTX_IN_FPU - DIFF_CTX, "in_fpu");
_Static_assert(offsetof(struct native_ctx, out_fpu) == CTX_OUT_FPU - DIFF_CTX, "out_fpu");
_Static_assert(sizeof(struct native_ctx) <= DIFF_CTX_SIZE, "context page");

struct native {
	struct diff_shared *sh;
	pid_t pid;
	int to_child, from_child;
	uint64_t crashes;
};

void diff_native_enter(void);
void diff_native_enter32(void);
void diff_native_exit(void);
void diff_native_resume(void);
void diff_native_signal(int, siginfo_t *, void *);
void diff_native_fault(int sig, siginfo_t *si, void *uc);

static void restore_bases(void)
{
	asm volatile("wrfsbase %0; wrgsbase %1" ::"r"(CTX->host_fs), "r"(CTX->host_gs) : "memory");
}

/* The order of ucontext's gregs against ours. */
static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				    REG_R12, REG_R13, REG_R14, REG_R15};

static void copy_frame(struct diff_result *r, const ucontext_t *uc, uint64_t fs_base,
		       uint64_t gs_base)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const uint8_t *fp = (const uint8_t *)uc->uc_mcontext.fpregs;
	struct _fpx_sw_bytes sw;
	uint64_t bv = XCR0_X87 | XCR0_SSE;

	for (unsigned i = 0; i < 16; i++)
		r->gpr[i] = (uint64_t)g[greg_of[i]];
	r->rip = (uint64_t)g[REG_RIP];
	r->rflags = (uint64_t)g[REG_EFL];
	r->vector = (uint8_t)g[REG_TRAPNO];
	r->error = (uint32_t)g[REG_ERR];
	r->cr2 = (uint64_t)g[REG_CR2];
	r->cs = (uint16_t)g[REG_CSGSFS];
	r->ss = (uint16_t)(g[REG_CSGSFS] >> 48);
	r->fs_base = fs_base;
	r->gs_base = gs_base;
	memcpy(&sw, fp + 464, sizeof(sw));
	if (sw.magic1 == FP_XSTATE_MAGIC1)
		memcpy(&bv, fp + 512, 8);
	fpu_from_xsave(&CTX->sh->model.xstate, fp, bv, &r->fpu);
}

/*
 * The timer: lets go of a case only when it has been the same one for STUCK_TICKS. Ticks that pass
 * while the child waits for a processor are one, so a busy machine does not end cases. Not
 * processor time: a case was seen to fault without end in the host of a virtual machine, whose time
 * counts as stolen.
 */
static bool stuck(void)
{
	if (!CTX->running)
		return false;
	if (CTX->tick_case != CTX->cases) {
		CTX->tick_case = CTX->cases;
		CTX->stuck = 0;
		return false;
	}
	return ++CTX->stuck >= STUCK_TICKS;
}

void diff_native_fault(int sig, siginfo_t *si, void *uc)
{
	uint64_t fs_base, gs_base;
	struct diff_result *r = CTX->result;

	if (sig == SIGALRM && !stuck())
		return;
	asm volatile("rdfsbase %0; rdgsbase %1" : "=r"(fs_base), "=r"(gs_base));
	restore_bases();
	if (!CTX->running)
		_exit(3);
	asm volatile("movw %%ds, %0; movw %%es, %1; movw %%fs, %2; movw %%gs, %3"
		     : "=m"(r->ds), "=m"(r->es), "=m"(r->fs), "=m"(r->gs));
	copy_frame(r, uc, fs_base, gs_base);
	r->outcome = sig == SIGALRM ? OUT_TIMEOUT : OUT_FAULT;
	CTX->faulted = true;
	asm volatile("jmp diff_native_resume" ::: "memory");
	__builtin_unreachable();
}

static int map_fixed(uint64_t va, size_t size, int prot)
{
	void *p = mmap((void *)va, size, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);

	return p == (void *)va ? 0 : -1;
}

static int map_arena(const struct diff_shared *sh)
{
	int rw = PROT_READ | PROT_WRITE;

	if (map_fixed(DIFF_CODE, DIFF_CODE_SIZE, rw | PROT_EXEC) ||
	    map_fixed(DIFF_STUB, DIFF_PAGE, rw | PROT_EXEC) ||
	    map_fixed(DIFF_CTX, DIFF_CTX_SIZE, rw))
		return -1;
	memset((void *)DIFF_CODE, 0xcc, DIFF_CODE_SIZE);
	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		void *p = (void *)arena_page[i].va;

		if (map_fixed(arena_page[i].va, DIFF_PAGE, rw))
			return -1;
		memcpy(p, sh->template[0] + i * DIFF_PAGE, DIFF_PAGE);
		if (arena_page[i].ro && mprotect(p, DIFF_PAGE, PROT_READ))
			return -1;
	}
	return 0;
}

static void write_stub(void)
{
	static const uint8_t jmp[8] = {0xff, 0x25,
				       2}; /* jmp *2(%rip): the pointer is aligned, AC may be set */
	void (*to)(void) = diff_native_exit;

	memcpy((void *)DIFF_STUB, jmp, sizeof(jmp));
	memcpy((uint8_t *)DIFF_STUB + sizeof(jmp), &to, 8);
}

static int set_handlers(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
	struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	stack_t st = {.ss_size = 256 * 1024};

	st.ss_sp = mmap(NULL, st.ss_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (st.ss_sp == MAP_FAILED || sigaltstack(&st, NULL))
		return -1;
	sa.sa_sigaction = diff_native_signal;
	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++)
		if (sigaction(sigs[i], &sa, NULL))
			return -1;
	return 0;
}

/* set_thread_area() exists only in the 32-bit system call table. */
static int set_tls(unsigned selector, uint32_t base)
{
	struct user_desc *u = (struct user_desc *)CTX->in_fpu;
	long r = 243;

	memset(u, 0, sizeof(*u));
	u->entry_number = selector >> 3;
	u->base_addr = base;
	u->limit = 0xfffff;
	u->seg_32bit = u->limit_in_pages = u->useable = 1;
	asm volatile("int $0x80" : "+a"(r) : "b"(u) : "memory", "r8", "r9", "r10", "r11");
	return (int)r;
}

static int confine(void)
{
#define ALLOW(nr)                                                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1),                                           \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e /* AUDIT_ARCH_X86_64 */, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_rt_sigreturn),
		ALLOW(SYS_restart_syscall),
		ALLOW(SYS_setitimer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
#undef ALLOW
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int child_setup(struct diff_shared *sh)
{
	struct itimerval it = {.it_interval = {0, TICK_US}, .it_value = {0, TICK_US}};

	if (map_arena(sh))
		return -1;
	write_stub();
	CTX->sh = sh;
	CTX->xcr0 = sh->model.xstate.xcr0;
	CTX->mxcsr = 0x1f80;
	set_tls(DIFF_FS32, DIFF_FS32_BASE);
	set_tls(DIFF_GS32, DIFF_GS32_BASE);
	asm volatile("rdfsbase %0; rdgsbase %1" : "=r"(CTX->host_fs), "=r"(CTX->host_gs));
	if (set_handlers() || setitimer(ITIMER_REAL, &it, NULL))
		return -1;
	return confine();
}

static void load_memory(const struct diff_case *c, uint8_t *pages[ARENA_PAGES])
{
	const struct diff_shared *sh = CTX->sh;
	uint8_t *code = (uint8_t *)DIFF_CODE, buf[DIFF_CODE_MAX];
	size_t len = case_code(c, buf);

	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		pages[i] = (uint8_t *)arena_page[i].va;
		if (!arena_page[i].ro)
			memcpy(pages[i], sh->template[c->template] + i * DIFF_PAGE, DIFF_PAGE);
	}
	case_poke(sh, c, pages);
	memset(code + CTX->code_start, 0xcc, CTX->code_end - CTX->code_start);
	/* A stray store may have hit the rest: all bytes are the same, or are made so. */
	if (code[0] != 0xcc || memcmp(code, code + 1, DIFF_CODE_SIZE - 1) != 0)
		memset(code, 0xcc, DIFF_CODE_SIZE);
	memcpy(code + c->code_off, buf, len);
	CTX->code_start = c->code_off;
	CTX->code_end = c->code_off + (uint32_t)len;
}

static void load_state(const struct diff_case *c)
{
	bool compat = c->mode != X86_MODE_64;

	memcpy(CTX->gpr, c->gpr, sizeof(c->gpr));
	CTX->rip = DIFF_CODE + c->code_off;
	CTX->rflags = c->rflags;
	CTX->far_off = (uint32_t)CTX->rip;
	CTX->far_sel = DIFF_CS32;
	CTX->fs_base = c->fs_base;
	CTX->gs_base = c->gs_base;
	CTX->mode32 = compat;
	CTX->tail = compat ? diff_native_enter32 : (void (*)(void))CTX->rip;
	CTX->sel[0] = CTX->sel[1] = compat ? DIFF_SS : 0;
	CTX->sel[2] = compat ? DIFF_FS32 : 0;
	CTX->sel[3] = compat ? DIFF_GS32 : 0;
	fpu_to_xsave(&CTX->sh->model.xstate, &c->fpu, CTX->in_fpu);
	memset(CTX->out_fpu + 512, 0, 64);
}

static void copy_exit(struct diff_result *r)
{
	uint64_t bv;

	memcpy(r->gpr, CTX->out_gpr, sizeof(r->gpr));
	r->rip = DIFF_STUB;
	r->rflags = CTX->out_rflags;
	r->fs_base = CTX->out_fs_base;
	r->gs_base = CTX->out_gs_base;
	r->ds = CTX->out_sel.ds;
	r->es = CTX->out_sel.es;
	r->fs = CTX->out_sel.fs;
	r->gs = CTX->out_sel.gs;
	r->ss = CTX->out_sel.ss;
	r->cs = CTX->out_sel.cs;
	memcpy(&bv, CTX->out_fpu + 512, 8);
	fpu_from_xsave(&CTX->sh->model.xstate, CTX->out_fpu, bv, &r->fpu);
	r->outcome = OUT_EXIT;
}

static void run_case(const struct diff_case *c, struct diff_result *r)
{
	uint8_t *pages[ARENA_PAGES];

	load_memory(c, pages);
	load_state(c);
	CTX->result = r;
	CTX->faulted = false;
	CTX->cases++;
	CTX->running = true;
	diff_native_enter();
	CTX->running = false;
	if (!CTX->faulted)
		copy_exit(r);
	case_collect(CTX->sh, c, pages, r);
}

static _Noreturn void child_main(struct diff_shared *sh, int in, int out)
{
	char cmd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (child_setup(sh))
		_exit(2);
	for (;;) {
		ssize_t n = read(in, &cmd, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1)
			_exit(0);
		for (uint32_t i = sh->progress; i < sh->count; i++) {
			sh->progress = i;
			run_case(&sh->cases[i], &sh->native[i]);
		}
		while (write(out, &cmd, 1) < 0)
			if (errno != EINTR)
				_exit(0);
	}
}

static int spawn(struct native *n)
{
	int down[2], up[2];

	if (pipe(down) || pipe(up))
		return -errno;
	n->pid = fork();
	if (n->pid < 0)
		return -errno;
	if (!n->pid) {
		close(down[1]);
		close(up[0]);
		child_main(n->sh, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	n->to_child = down[1];
	n->from_child = up[0];
	return 0;
}

int native_start(struct native **out, struct diff_shared *sh)
{
	struct native *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->sh = sh;
	r = spawn(n);
	if (r) {
		free(n);
		return r;
	}
	signal(SIGPIPE, SIG_IGN);
	*out = n;
	return 0;
}

static void reap(struct native *n, int *status)
{
	close(n->to_child);
	close(n->from_child);
	waitpid(n->pid, status, 0);
}

static int poke_child(struct native *n)
{
	char cmd = 'r';

	return write(n->to_child, &cmd, 1) == 1 ? 0 : -EPIPE;
}

int native_submit(struct native *n)
{
	for (uint32_t i = 0; i < n->sh->count; i++)
		n->sh->native[i].outcome = OUT_NONE;
	n->sh->progress = 0;
	poke_child(n); /* a child that is gone shows in native_wait() */
	return 0;
}

int native_wait(struct native *n)
{
	for (;;) {
		struct diff_result *r;
		int status = 0;
		char cmd;
		ssize_t got = read(n->from_child, &cmd, 1);

		if (got == 1)
			return 0;
		if (got < 0 && errno == EINTR)
			continue;
		reap(n, &status);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
			return -ENOSYS;
		r = &n->sh->native[n->sh->progress];
		r->outcome = OUT_BROKEN;
		snprintf(r->why, sizeof(r->why), "the child died (status %#x)", (unsigned)status);
		n->sh->progress++;
		if (++n->crashes > 1000 || spawn(n))
			return -EIO;
		poke_child(n);
	}
}

void native_stop(struct native *n)
{
	int status;

	if (!n)
		return;
	reap(n, &status);
	free(n);
}

uint64_t native_crashes(const struct native *n)
{
	return n->crashes;
}
