/*
 * The run loop, the dispatcher, and what stubs call.
 *
 * run() enters translated code, which returns only when something other than running the next block is to be done: a
 * request, a mode that is not translated, single-stepping. Between blocks that are not chained, stubs call the dispatcher
 * here, on the host stack below run()'s frame. A guest fault unwinds to run() (fault_jmp), wherever it was raised.
 */
#include <ucontext.h>

#include "engine/bt/internal.h"

#define NO_RIP (~0ULL)
#define PAGE_MASK 0xfffULL

/* Where a block is now, and its instruction at guest_off. */
void bt_set_rip(struct vcpu *v, const struct block *b, unsigned guest_off)
{
	struct bt *bt = bt_of(v);

	if (block_floats(b->mode))
		v->rip = bt->page_va + (b->gpa & PAGE_MASK) + guest_off;
	else
		v->rip = b->va + guest_off;
}

/* What translation depends on besides the code: struct bt.mode_flags, without the MMU mode. */
static uint32_t control_flags(const struct vcpu *v)
{
	uint32_t f = 0;

	if (!(v->cr0 & (CR0_EM | CR0_TS)))
		f |= MODE_X87;
	if (!(v->cr0 & CR0_TS) || !(v->cr0 & CR0_MP))
		f |= MODE_WAIT;
	if (!(v->cr0 & (CR0_EM | CR0_TS)) && (v->cr4 & CR4_OSFXSR))
		f |= MODE_SSE;
	if (!(v->cr0 & CR0_TS) && (v->cr4 & CR4_OSXSAVE) && (v->xcr0 & XCR0_AVX))
		f |= MODE_AVX;
	if ((f & MODE_AVX) && (v->xcr0 & XCR0_OPMASK) && (v->xcr0 & XCR0_ZMM_HI256) && (v->xcr0 & XCR0_HI16_ZMM))
		f |= MODE_AVX512;
	if (!(v->cr4 & CR4_TSD))
		f |= MODE_TSC;
	if (v->cr4 & CR4_FSGSBASE)
		f |= MODE_FSGSBASE;
	return f;
}

static void update_flags(struct bt *bt)
{
	const struct vcpu *v = bt->v;
	uint64_t basis[3] = {v->cr0, v->cr4, v->xcr0};

	if (bt->flags_basis[0] == basis[0] && bt->flags_basis[1] == basis[1] && bt->flags_basis[2] == basis[2])
		return;
	memcpy(bt->flags_basis, basis, sizeof(basis));
	bt->mode_flags = control_flags(v) | (bt->single ? MODE_SINGLE : 0);
}

/* A key for jump-table entries of this code space and these flags; true: all keys had been given out, and are void. */
static bool new_key(struct bt *bt, unsigned mmu_mode, uint64_t space)
{
	bool wrapped = false;
	struct key_slot *s = &bt->keys[(space * 3 + mmu_mode + bt->mode_flags) % KEY_SLOTS];

	if (s->space != space || s->mmu_mode != mmu_mode || s->flags != bt->mode_flags || !s->key) {
		if (++bt->last_key == 0) {
			/* All have been used: old entries must not come to life again. */
			for (unsigned i = 0; i < 2 * JUMP_SLOTS; i++)
				jump_clear(bt, i);
			memset(bt->keys, 0, sizeof(bt->keys));
			memset(bt->key, 0, sizeof(bt->key));
			memset(bt->space_of_key, 0xff, sizeof(bt->space_of_key));
			bt->last_key = 1;
			cache_keys_reused(bt);
			wrapped = true;
		}
		*s = (struct key_slot){.space = space, .flags = bt->mode_flags, .mmu_mode = (uint8_t)mmu_mode,
				       .key = bt->last_key};
		bt->stat[STAT_NEW_KEYS]++;
	}
	bt->key[mmu_mode] = (uint64_t)s->key << JUMP_SHIFT;
	bt->space_of_key[mmu_mode] = space;
	bt->flags_of_key[mmu_mode] = bt->mode_flags;
	return wrapped;
}

/* Before translated code runs: the keys of all modes, since it changes modes by itself. */
static void update_keys(struct bt *bt)
{
	const struct mmu *m = &bt->v->mmu;

	if (unlikely(m->code_space[1] != bt->chained_space)) {
		cache_supervisor_remapped(bt);
		bt->chained_space = m->code_space[1];
	}
	for (unsigned mode = 0; mode < MMU_MODES; mode++) {
		uint64_t space = m->code_space[mode != MMU_USER];

		if (likely(bt->space_of_key[mode] == space && bt->flags_of_key[mode] == bt->mode_flags))
			continue;
		if (new_key(bt, mode, space))
			mode = ~0u; /* the others' have gone: from the first again */
	}
}

/* All that must hold before translated code goes on. */
uint64_t bt_resume(struct bt *bt, uint64_t host)
{
	if (unlikely(!bt->v->fpu_live))
		fpu_load(bt);
	update_flags(bt);
	update_keys(bt);
	return host;
}

static bool must_step(const struct bt *bt)
{
	const struct vcpu *v = bt->v;

	return (v->sys_flags & FLAG_TF) || (v->dr7 & 0xff) || v->align_check || v->cpl == 1 || v->cpl == 2;
}

/* Requests that can be met now. */
static uint32_t open_requests(const struct vcpu *v)
{
	uint32_t masked = (v->sys_flags & FLAG_IF ? 0 : CPU_REQ_INTR) | (v->nmi_blocked ? CPU_REQ_NMI : 0) |
			  (v->cpl == 3 ? 0 : CPU_REQ_USER);

	return v->request & ~masked;
}

/* Whether run() must have a look before the next instruction. */
static bool needs_attention(struct bt *bt)
{
	struct vcpu *v = bt->v;

	if (unlikely(v->poll)) {
		v->poll = 0;
		if (v->request)
			return true;
	}
	return v->pending_db || v->halted || v->wait_sipi || v->mode != X86_MODE_64 || must_step(bt) || bt->failed ||
	       open_requests(v);
}

/* Guest-physical address of the code at linear address lin. Raises the faults of fetching. */
static uint64_t fetch_gpa(struct vcpu *v, uint64_t lin)
{
	unsigned mode = v->cpl == 3 ? MMU_USER : MMU_KERNEL;
	const struct tlb_entry *e = &v->mmu.fetch[mode][tlb_index(lin)];
	struct mmu_result r;

	if (likely(e->tag == (lin & ~PAGE_MASK)))
		return lin + e->delta;
	if (!canonical(lin))
		cpu_gp(v);
	if (!mmu_translate(&v->mmu, lin, MMU_FETCH, mode, &r))
		cpu_raise_page_fault(v, lin, r.error);
	return r.gpa.v;
}

/* Bytes that a block at gpa can have. */
static unsigned room_at(uint64_t gpa)
{
	return (unsigned)min_u64(GUEST_PAGE_SIZE - (gpa & PAGE_MASK), MAX_BLOCK_BYTES);
}

/* Marks what may be translated at gpa, before its bytes are read. */
static void mark(struct bt *bt, uint64_t gpa)
{
	code_user_mark(&bt->v->mmu.code, GPA(gpa), room_at(gpa));
}

static void trace(struct bt *bt, const struct block *b, const uint8_t *bytes)
{
	struct engine_block e = {.rip = bt->v->rip, .gpa = b->gpa, .cpl = bt->v->cpl, .n_insns = b->n_insns,
				 .guest = bytes, .n_guest = b->len,
				 .host = (const uint8_t *)cache_exec(bt, b->code), .n_host = b->code_len,
				 .insn = b->insn};

	bt->config->translated(bt->config->ctx, &e);
}

/* A kernel's code is writable until it has patched itself: after that there are better translations. */
static bool still_writable(const struct vcpu *v)
{
	struct mmu_result r;

	return mmu_probe(&v->mmu, v->rip, MMU_WRITE, v->mmu_mode, &r);
}

/* The page after RIP's, where the instruction there goes on. */
static uint64_t next_page(struct vcpu *v)
{
	return fetch_gpa(v, (v->rip | PAGE_MASK) + 1);
}

/* Whether the instruction at gpa runs into the next page; room bytes are left in this one. */
static bool runs_over(struct bt *bt, const uint8_t *code, unsigned room)
{
	uint8_t bytes[X86_INSN_MAX];
	struct insn insn;

	if (room >= X86_INSN_MAX)
		return false;
	code_copy(bytes, code, room);
	return insn_decode(translation_decoder(bt), X86_MODE_64, bytes, room, &insn) == DECODE_SHORT;
}

/*
 * Other vCPUs may be writing to the code: it is copied once, and only the copy is looked at. The pages are marked first, and
 * after the second was looked for, since a page walk can write to pages of code. NULL: code in device memory, which is the
 * interpreter's.
 */
static struct block *new_block(struct bt *bt, uint64_t va, uint64_t gpa, uint32_t mode)
{
	struct vcpu *v = bt->v;
	unsigned room = room_at(gpa);
	const uint8_t *code = guest_ptr(v->mem, GPA(gpa), 1), *more = NULL;
	uint8_t bytes[MAX_BLOCK_BYTES + X86_INSN_MAX];
	uint64_t gpa2 = NO_PAGE;
	struct block *b;

	if (!code)
		return NULL;
	cpu_fpu_spill(v);
	if (runs_over(bt, code, room)) {
		gpa2 = next_page(v);
		more = guest_ptr(v->mem, GPA(gpa2), 1);
		if (!more)
			return NULL;
	}
	mark(bt, gpa);
	if (more)
		mark(bt, gpa2);
	code_copy(bytes, code, room);
	if (more)
		code_copy(bytes + room, more, X86_INSN_MAX);
	b = translate(bt, va, gpa, gpa2, bytes, mode);
	if (b && bt->config->translated)
		trace(bt, b, bytes);
	return b;
}

static struct block *find_block(struct bt *bt, uint32_t extra_mode)
{
	struct vcpu *v = bt->v;
	uint64_t gpa = fetch_gpa(v, v->rip);
	uint32_t mode = bt->mode_flags | v->mmu_mode | extra_mode;
	uint64_t va = v->rip;
	struct block *b;

	if (v->mmu_mode == MMU_USER) {
		/* Or so high that a direct jump can leave the user's half. */
		if (v->rip < BIT(31) - GUEST_PAGE_SIZE || v->rip >= BIT(47) - GIB(3))
			mode |= MODE_FIXED;
		else
			va = gpa & PAGE_MASK;
	}
	b = cache_find(bt, gpa, va, mode);
	if (b && unlikely(b->gpa2 != NO_PAGE))
		b = cache_find_crossing(bt, gpa, next_page(v), va, mode);
	if (likely(b) && likely(b->writable == still_writable(v)))
		return b;
	if (b)
		cache_kill(bt, b);
	return new_block(bt, va, gpa, mode);
}

/* The interpreter executes one instruction. */
void bt_interpret(struct bt *bt)
{
	bt->stat[STAT_INTERP]++;
	interp_one(bt->interp);
	if (unlikely(interp_failed(bt->interp)))
		bt->failed = true;
}

static bool flush_for_stress(struct bt *bt)
{
	uint32_t every = bt->config->stress.flush_blocks;

	return every && bt->flush_countdown-- == 0 && (bt->flush_countdown = every - 1, true);
}

/* The jump table's entry for RIP, which is found faster than a block; 0: it has none. */
static uint64_t known_jump(struct bt *bt)
{
	const struct vcpu *v = bt->v;
	const struct jump *j = &bt->jump[jump_slot(v->rip)];

	/* Entered by its poll: with every poll leaving, nothing would ever run. */
	if (bt->mode_flags & MODE_SINGLE || bt->verify || bt->config->stress.poll || !assist(bt, ASSIST_LOOKUP))
		return 0;
	update_keys(bt);
	if (j->key != v->rip + bt->key[v->mmu_mode])
		j += JUMP_SLOTS;
	if (j->key != v->rip + bt->key[v->mmu_mode])
		return 0;
	bt->enter_r10 = j->key;
	return bt_resume(bt, j->host);
}

/*
 * Where to go on for RIP: a block's body, or stub_leave. *found: the block. The guest's status flags are in vcpu.status.
 */
uint64_t bt_dispatch_to(struct bt *bt, struct block **found, uint32_t extra_mode, bool by_table)
{
	struct vcpu *v = bt->v;
	struct block *b;
	uint64_t host;

	*found = NULL;
	for (;;) {
		if (unlikely(needs_attention(bt)))
			return bt->stub_leave;
		if (unlikely(bt->budget != NO_BUDGET)) {
			if (!bt->budget)
				return bt->stub_leave;
			bt->budget--;
		}
		if (unlikely(flush_for_stress(bt)))
			mmu_flush_all(&v->mmu);
		v->sys_flags &= ~(uint32_t)FLAG_RF;
		v->inhibit_rip = NO_RIP;
		v->in_rep = false;
		update_flags(bt);
		bt->stat[STAT_DISPATCHES]++;
		host = by_table ? known_jump(bt) : 0;
		if (host)
			return host;
		b = find_block(bt, extra_mode);
		if (likely(b))
			break;
		bt_interpret(bt);
	}
	bt->page_va = v->rip & ~PAGE_MASK;
	*found = b;
	if (unlikely(bt->verify))
		verify_begin(bt, b, 0);
	return bt_resume(bt, cache_exec(bt, b->code + b->entry[ENTRY_FLAGS]));
}

uint64_t bt_dispatch(struct bt *bt)
{
	struct block *b;

	return bt_dispatch_to(bt, &b, 0, true);
}

/*
 * The same after an indirect jump (or one that leaves the page): later ones find the block in the jump table. by_table: what is
 * there is enough, and the block then not found.
 */
static uint64_t dispatch_jump_to(struct bt *bt, struct block **found, bool by_table)
{
	uint64_t va = bt->v->rip, host = bt_dispatch_to(bt, found, 0, by_table);
	struct block *b = *found;

	if (b && bt->v->rip == va && !(b->mode & MODE_SINGLE)) {
		uint64_t key = va + bt->key[b->mode & MODE_MMU];
		struct jump *j = &bt->jump[jump_slot(va)];

		if (j->key != key)
			j[JUMP_SLOTS] = *j;
		*j = (struct jump){.key = key, .host = bt->verify ? bt->stub_verify :
				   cache_exec(bt, b->code + b->entry[ENTRY_TABLE])};
	}
	return host;
}

static uint64_t dispatch_jump(struct bt *bt)
{
	struct block *b;

	return dispatch_jump_to(bt, &b, true);
}

/* Chained or not, an exit of a page in user mode goes by the jump table. */
static bool may_chain(const struct bt *bt, const struct block *b, const struct block_exit *x)
{
	if (!assist(bt, ASSIST_CHAIN) || (b->mode & MODE_SINGLE) || bt->verify || x->lookup)
		return false;
	return x->in_page || x->guard || (b->mode & MODE_MMU) != MMU_USER;
}

/* Backward jumps go by the target's poll, so that no loop runs without one. */
static enum block_entry entry_for(const struct block_exit *x, bool backward)
{
	if (x->entry == ENTRY_FLAGS)
		return backward ? ENTRY_POLL : ENTRY_FLAGS;
	return backward ? ENTRY_BACK : ENTRY_BODY;
}

/*
 * What runs into the next page is only valid with this page's successor: for the supervisor, whose chains that depend on
 * mappings are undone when these change, it becomes such a chain.
 */
static bool may_chain_to(const struct block *b, struct block_exit *x, const struct block *to)
{
	if (x->guard && block_floats(to->mode)) /* it is entered by the table only, which tells it where it is */
		return false;
	if (to->gpa2 == NO_PAGE)
		return true;
	if ((b->mode & MODE_MMU) == MMU_USER)
		return false;
	x->in_page = false;
	return true;
}

/* A direct jump that is not chained, and not in the jump table if it goes by that. */
uint64_t bt_link(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	unsigned exit;
	struct block *b = bt_block_of_short(bt, arg, &exit), *to;
	struct block_exit *x = &block_exits(b)[exit];
	uint64_t changes = bt->stat[STAT_EVICTED] + bt->stat[STAT_INVALIDATED];
	uint64_t base = block_floats(b->mode) ? bt->page_va : 0, host;
	uint64_t from = block_floats(b->mode) ? base + (b->gpa & PAGE_MASK) : b->va;

	(void)unused;
	bt->stat[STAT_LINK_EXITS]++;
	v->rip = base + x->va;
	if (unlikely(bt->verify))
		verify_stop(bt, b, x->insn + 1u);
	/* A dead block's place may be taken by the target's. (It runs on when a page walk for it has written to it.) */
	if (b->dead || !may_chain(bt, b, x))
		return dispatch_jump(bt);
	to = NULL;
	bt->relink_in = RELINK_EVERY;
	host = x->guard ? dispatch_jump_to(bt, &to, false) : bt_dispatch_to(bt, &to, 0, false);
	if (to && may_chain_to(b, x, to) && changes == bt->stat[STAT_EVICTED] + bt->stat[STAT_INVALIDATED] && !b->dead &&
	    v->rip == base + x->va)
		cache_chain(bt, b, exit, to, entry_for(x, v->rip <= from + b->len));
	return host;
}

/* A counted block has run often enough: on to the next stage, for which it is translated anew. */
static void next_stage(struct bt *bt, struct block *b)
{
	for (unsigned i = 0; i < b->n_insns; i++) {
		unsigned site = site_of(b->gpa + b->insn[i].guest_off);

		if (block_slots(b)[i] != NO_SLOT && bt->slot_misses[block_slots(b)[i]] * 64u > TRIAL_RUNS)
			bt_set_bit(bt->site_wild, site);
	}
	bt->block_stage[site_of(b->gpa)] = b->stage + 1;
	bt->stat[STAT_JUDGED]++;
	cache_kill(bt, b);
}

/* A poll found something, or a block has been counted down. */
uint64_t bt_poll(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	unsigned i;
	struct block *b = bt_block_of_short(bt, arg, &i);

	(void)unused;
	bt_set_rip(v, b, 0);
	if (b->stage != STAGE_JUDGED && !v->poll && !bt->config->stress.poll)
		next_stage(bt, b);
	else
		bt->stat[STAT_POLLS]++;
	return bt_dispatch(bt);
}

/* An instruction that is not translated, or an indirect jump whose target is not in the table. */
uint64_t bt_interp(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	unsigned i;
	struct block *b = bt_block_of_short(bt, arg, &i);

	(void)unused;
	bt_set_rip(v, b, b->insn[i].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, b, i);
	bt_interpret(bt);
	return dispatch_jump(bt);
}

/*
 * An instruction by its function of src/cpu. On in the block, unless it was control flow or has changed what the rest
 * was made for. arg: 5:0 instruction, 31:6 where its struct cpu_op lies, from the block's code
 */
uint64_t bt_light(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = bt_block_of(bt, arg);
	const struct cpu_op *op = (const struct cpu_op *)cache_exec(bt, b->code + ((uint32_t)arg >> 6));
	uint64_t next, space = v->mmu.code_space[1];
	unsigned i = arg & 63, mode = v->mmu_mode;

	(void)unused;
	bt_set_rip(v, b, b->insn[i].guest_off);
	next = v->rip + op->len;
	bt->stat[STAT_LIGHT]++;
	if (unlikely(bt->verify))
		verify_stop(bt, b, i);
	op->fn(v, op);
	if (op->flags & OP_END || v->rip != next || b->dead || v->mmu_mode != mode || v->mmu.code_space[1] != space ||
	    v->cr0 != bt->flags_basis[0] || v->cr4 != bt->flags_basis[1] || v->xcr0 != bt->flags_basis[2] ||
	    needs_attention(bt))
		return dispatch_jump(bt);
	if (unlikely(bt->verify))
		verify_begin(bt, b, i + 1);
	return bt_resume(bt, cache_exec(bt, b->code + b->insn[i + 1].host_off));
}

/* A string instruction that is not done in line. arg: block id, and string_arg() */
uint64_t bt_string(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = bt_block_of(bt, arg);
	unsigned i = arg & 0x3f;
	enum string_result r = string_run(v, (uint32_t)arg);

	(void)unused;
	bt->stat[STAT_LIGHT]++;
	if (likely(r == STRING_DONE))
		return cache_exec(bt, b->code + b->insn[i + 1].host_off);
	bt_set_rip(v, b, b->insn[i].guest_off);
	if (unlikely(bt->verify))
		verify_abandon(bt);
	if (r == STRING_INTERP)
		bt_interpret(bt);
	else
		v->in_rep = true;
	return bt_dispatch(bt);
}

/* A jump by the jump table, when all come back here. */
uint64_t bt_verify_jump(struct vcpu *v, uint64_t unused, uint64_t va_key)
{
	struct bt *bt = bt_of(v);

	(void)unused;
	verify_jumped(bt, va_key - bt->key[v->mmu_mode]);
	return dispatch_jump(bt);
}

uint64_t bt_dispatch_at(struct bt *bt, const struct block *b, unsigned i)
{
	bt_set_rip(bt->v, b, b->insn[i].guest_off);
	return bt_dispatch(bt);
}

/* After a host fault: the interpreter executes the instruction, and raises what the guest must see. */
uint64_t bt_host_fault(struct vcpu *v, uint64_t unused, uint64_t unused2)
{
	struct bt *bt = bt_of(v);
	struct block *b = cache_block(bt, bt->fault_block);

	(void)unused;
	(void)unused2;
	bt->stat[STAT_HOST_FAULTS]++;
	bt_set_rip(v, b, b->insn[bt->fault_insn].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, b, bt->fault_insn);
	bt_interpret(bt);
	return bt_dispatch(bt);
}

/* interp.h's hook: a host fault signal in translated code. Runs on the alternate signal stack. */
bool bt_on_host_fault(void *ctx, int sig, siginfo_t *info, void *ucontext)
{
	static const uint8_t reg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					   REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
	struct bt *bt = ctx;
	struct vcpu *v = bt->v;
	greg_t *r = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
	const struct block *b;
	uint64_t in_memory;

	(void)sig;
	(void)info;
	if (!cache_contains(bt, (uint64_t)r[REG_RIP]))
		return false;
	b = cache_block_at(bt, (uint64_t)r[REG_RIP], &bt->fault_insn);
	if (!b)
		return false;
	bt->fault_block = b->id;
	in_memory = BIT(R_10) | BIT(R_11) | string_fault((const uint8_t *)r[REG_RIP]);
	for (unsigned i = 0; i < 16; i++)
		if (!(in_memory >> i & 1))
			v->gpr[i] = (uint64_t)r[reg_of[i]];
	if (!(b->mem_flags >> bt->fault_insn & 1)) {
		uint64_t f = (uint64_t)r[REG_EFL];

		v->status = (uint16_t)((f & (FLAG_STATUS & 0xff)) << 8 | (f >> 11 & 1));
	}
	r[REG_EFL] &= ~(greg_t)(FLAG_DF | FLAG_AC | FLAG_TF);
	r[REG_RIP] = (greg_t)bt->stub_fault;
	return true;
}

/* Attention: what needs_attention() saw. false: leave run() with *exit. */
static bool attend(struct bt *bt, enum run_exit *exit)
{
	struct vcpu *v = bt->v;
	bool stop = false;

	cpu_catch_up(v);
	if (bt->failed) {
		*exit = RUN_ERROR;
		return false;
	}
	if (!bt->budget) {
		*exit = RUN_BUDGET;
		return false;
	}
	if (!v->request && !v->pending_db && !v->halted && !v->wait_sipi)
		return true;
	v->poll = 0;
	if (!assist(bt, ASSIST_INTERRUPT))
		cpu_fpu_spill(v);
	if (!cpu_take_pending(v, &stop)) {
		*exit = RUN_SHUTDOWN;
		return false;
	}
	if (stop || v->halted || v->wait_sipi) {
		*exit = stop ? RUN_STOP : RUN_HALT;
		return false;
	}
	return true;
}

static enum run_exit loop(struct bt *bt)
{
	struct vcpu *v = bt->v;
	void (*enter)(uint64_t host) = (void (*)(uint64_t))(uintptr_t)bt->stub_enter;
	enum run_exit exit = RUN_STOP;
	uint64_t host;

	while (attend(bt, &exit)) {
		/* What could not be taken now, an NMI while they are blocked, say: by the interpreter until it can. */
		bool held = (v->request && v->rip == v->inhibit_rip) || needs_attention(bt);

		if (held) {
			if (!bt->budget)
				return RUN_BUDGET;
			if (bt->budget != NO_BUDGET)
				bt->budget--;
			bt_interpret(bt);
			continue;
		}
		host = dispatch_jump(bt); /* after an event: its handler is found faster the next time */
		if (host != bt->stub_leave)
			enter(host);
		else if (!bt->budget)
			return RUN_BUDGET;
	}
	return exit;
}

/* Apart from run(): a function that sets a jump target must not hold variables that it changes. */
enum run_exit bt_run_with_faults(struct bt *bt)
{
	struct vcpu *v = bt->v;

	if (_setjmp(v->fault_jmp)) {
		struct cpu_event e = v->event;

		bt->stat[STAT_FAULTS]++;
		if (unlikely(bt->verify))
			verify_faulted(bt, &e);
		if (must_step(bt))
			interp_faulted(bt->interp, &e);
		if (!assist(bt, ASSIST_EXCEPTION))
			cpu_fpu_spill(v);
		if (!cpu_deliver(v, &e))
			return RUN_SHUTDOWN;
	}
	return loop(bt);
}
