/*
 * The run loop, the dispatcher, and what stubs call.
 *
 * run() enters translated code, which returns only when something other than running the next block is to be done: a
 * request, a mode that is not translated, single-stepping. Between blocks that are not chained, stubs call the dispatcher
 * here, on the host stack below run()'s frame. A guest fault unwinds to run() (fault_jmp), wherever it was raised.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/light.h"
#include "engine/bt/bt.h"
#include "engine/bt/internal.h"

#define NO_RIP (~0ULL)
#define NO_BUDGET (~0ULL)
#define PAGE_MASK 0xfffULL

/* Where a block is now, and its instruction at guest_off. */
static void set_rip(struct vcpu *v, const struct block *b, unsigned guest_off)
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

/* A key for jump-table entries of this code space and these flags. */
static void new_key(struct bt *bt, unsigned mmu_mode, uint64_t space)
{
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
		}
		*s = (struct key_slot){.space = space, .flags = bt->mode_flags, .mmu_mode = (uint8_t)mmu_mode,
				       .key = bt->last_key};
		bt->stat[STAT_NEW_KEYS]++;
	}
	bt->key[mmu_mode] = s->key;
	bt->space_of_key[mmu_mode] = space;
	bt->flags_of_key[mmu_mode] = bt->mode_flags;
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

		while (unlikely(bt->space_of_key[mode] != space || bt->flags_of_key[mode] != bt->mode_flags))
			new_key(bt, mode, space);
	}
}

/* All that must hold before translated code goes on. */
static uint64_t resume(struct bt *bt, uint64_t host)
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
	uint32_t masked = (v->sys_flags & FLAG_IF ? 0 : CPU_REQ_INTR) | (v->nmi_blocked ? CPU_REQ_NMI : 0);

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
		return e->host + (lin & PAGE_MASK);
	if (!canonical(lin))
		cpu_gp(v);
	if (!mmu_translate(&v->mmu, lin, MMU_FETCH, mode, &r))
		cpu_raise_page_fault(v, lin, r.error);
	return r.gpa.v;
}

/* Marks what may be translated at gpa, before its bytes are read: see mem.c. */
static void mark(struct bt *bt, uint64_t gpa)
{
	struct guest_mem *m = bt->v->mem;
	uint64_t room = GUEST_PAGE_SIZE - (gpa & PAGE_MASK);
	bool first = !guest_code_lines(m, GPA(gpa));

	guest_code_mark(m, GPA(gpa), min_u64(room, MAX_INSNS * X86_INSN_MAX));
	if (first)
		mmu_protect_code(&bt->v->mmu, GPA(align_down(gpa, GUEST_PAGE_SIZE)));
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
static bool runs_over(struct bt *bt, const uint8_t *bytes, unsigned room)
{
	struct insn insn;

	return room < X86_INSN_MAX &&
	       insn_decode(translation_decoder(bt), X86_MODE_64, bytes, room, &insn) == DECODE_SHORT;
}

/* NULL: code in device memory, which is the interpreter's. */
static struct block *new_block(struct bt *bt, uint64_t va, uint64_t gpa, uint32_t mode)
{
	struct vcpu *v = bt->v;
	unsigned room = (unsigned)(GUEST_PAGE_SIZE - (gpa & PAGE_MASK));
	const uint8_t *bytes = guest_ptr(v->mem, GPA(gpa), 1), *more;
	uint8_t both[2 * X86_INSN_MAX];
	uint64_t gpa2 = NO_PAGE;
	struct block *b;

	if (!bytes)
		return NULL;
	cpu_fpu_spill(v);
	mark(bt, gpa);
	if (runs_over(bt, bytes, room)) {
		gpa2 = next_page(v);
		more = guest_ptr(v->mem, GPA(gpa2), 1);
		if (!more)
			return NULL;
		mark(bt, gpa2);
		memcpy(both, bytes, room);
		memcpy(both + room, more, X86_INSN_MAX);
		bytes = both;
	}
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
	if (likely(b) && likely(!b->writable || still_writable(v)))
		return b;
	if (b)
		cache_kill(bt, b);
	return new_block(bt, va, gpa, mode);
}

/* The interpreter executes one instruction. */
static void interpret(struct bt *bt)
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
	const struct jump *j = &bt->jump[v->rip & (JUMP_SLOTS - 1)];

	/* Entered by its poll: with every poll leaving, nothing would ever run. */
	if (bt->mode_flags & MODE_SINGLE || bt->verify || bt->config->stress.poll || !assist(bt, ASSIST_LOOKUP))
		return 0;
	update_keys(bt);
	if (j->key != v->rip + bt->key[v->mmu_mode])
		j += JUMP_SLOTS;
	if (j->key != v->rip + bt->key[v->mmu_mode])
		return 0;
	bt->enter_r10 = j->key;
	return resume(bt, j->host);
}

/*
 * Where to go on for RIP: a block's body, or stub_leave. *found: the block. The guest's status flags are in vcpu.status.
 */
static uint64_t dispatch_to(struct bt *bt, struct block **found, uint32_t extra_mode, bool by_table)
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
		interpret(bt);
	}
	bt->page_va = v->rip & ~PAGE_MASK;
	*found = b;
	if (unlikely(bt->verify))
		verify_begin(bt, b, 0);
	return resume(bt, cache_exec(bt, b->code + b->entry[ENTRY_FLAGS]));
}

static uint64_t dispatch(struct bt *bt)
{
	struct block *b;

	return dispatch_to(bt, &b, 0, true);
}

/* The same after an indirect jump (or one that leaves the page): later ones find the block in the jump table. */
static uint64_t dispatch_jump(struct bt *bt)
{
	uint64_t va = bt->v->rip, host;
	struct block *b;

	host = dispatch_to(bt, &b, 0, true);
	if (b && bt->v->rip == va && !(b->mode & MODE_SINGLE)) {
		uint64_t key = va + bt->key[b->mode & MODE_MMU];
		struct jump *j = &bt->jump[va & (JUMP_SLOTS - 1)];

		if (j->key != key)
			j[JUMP_SLOTS] = *j;
		*j = (struct jump){.key = key, .host = bt->verify ? bt->stub_verify :
				   cache_exec(bt, b->code + b->entry[ENTRY_TABLE])};
	}
	return host;
}

static struct block *block_of(struct bt *bt, uint64_t arg)
{
	return cache_block(bt, (uint32_t)(arg >> 32));
}

/* Chained or not, an exit of a page in user mode goes by the jump table. */
static bool may_chain(const struct bt *bt, const struct block *b, const struct block_exit *x)
{
	if (!assist(bt, ASSIST_CHAIN) || (b->mode & MODE_SINGLE) || bt->verify || x->lookup)
		return false;
	return x->in_page || (b->mode & MODE_MMU) != MMU_USER;
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
	if (to->gpa2 == NO_PAGE)
		return true;
	if ((b->mode & MODE_MMU) == MMU_USER)
		return false;
	x->in_page = false;
	return true;
}

/* A direct jump that is not chained. arg: exit. */
uint64_t bt_link(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = block_of(bt, arg), *to;
	struct block_exit *x = &b->exit[(uint32_t)arg];
	uint64_t changes = bt->stat[STAT_EVICTED] + bt->stat[STAT_INVALIDATED];
	uint64_t base = block_floats(b->mode) ? bt->page_va : 0, host;
	uint64_t from = block_floats(b->mode) ? base + (b->gpa & PAGE_MASK) : b->va;

	(void)unused;
	bt->stat[STAT_LINK_EXITS]++;
	v->rip = base + x->va;
	if (unlikely(bt->verify))
		verify_stop(bt, b, x->insn + 1u);
	if (!may_chain(bt, b, x))
		return dispatch_jump(bt);
	to = NULL;
	host = dispatch_to(bt, &to, 0, false);
	if (to && may_chain_to(b, x, to) && changes == bt->stat[STAT_EVICTED] + bt->stat[STAT_INVALIDATED] && !b->dead &&
	    v->rip == base + x->va)
		cache_chain(bt, b, (uint32_t)arg, to, entry_for(x, v->rip <= from + b->len));
	return host;
}

static void set_bit(uint8_t *bits, unsigned i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* A counted block has run often enough: its probes are judged, and it is translated anew. */
uint64_t bt_judge(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = block_of(bt, arg);

	(void)unused;
	for (unsigned i = 0; i < b->n_insns; i++) {
		unsigned site = site_of(b->gpa + b->insn[i].guest_off);

		if (b->slot[i] != NO_SLOT && bt->slot_misses[b->slot[i]] * 16u > JUDGED_RUNS)
			set_bit(bt->site_wild, site);
	}
	set_bit(bt->block_judged, site_of(b->gpa));
	bt->stat[STAT_JUDGED]++;
	set_rip(v, b, 0);
	cache_kill(bt, b);
	return dispatch(bt);
}

/* A poll found something. */
uint64_t bt_poll(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);

	(void)unused;
	bt->stat[STAT_POLLS]++;
	set_rip(v, block_of(bt, arg), 0);
	return dispatch(bt);
}

/* An instruction that is not translated, or an indirect jump whose target is not in the table. arg: instruction */
uint64_t bt_interp(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = block_of(bt, arg);

	(void)unused;
	set_rip(v, b, b->insn[(uint32_t)arg].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, b, (uint32_t)arg);
	interpret(bt);
	return dispatch_jump(bt);
}

/*
 * An instruction by its function of src/cpu. On in the block, unless it was control flow or has changed what the rest
 * was made for. arg: 5:0 instruction, 31:6 where its struct cpu_op lies, from the block's code
 */
uint64_t bt_light(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = block_of(bt, arg);
	const struct cpu_op *op = (const struct cpu_op *)cache_exec(bt, b->code + ((uint32_t)arg >> 6));
	uint64_t next, space = v->mmu.code_space[1];
	unsigned i = arg & 63, mode = v->mmu_mode;

	(void)unused;
	set_rip(v, b, b->insn[i].guest_off);
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
	return resume(bt, cache_exec(bt, b->code + b->insn[i + 1].host_off));
}

/* A string instruction that is not done in line. arg: block id, and string_arg() */
uint64_t bt_string(struct vcpu *v, uint64_t arg, uint64_t unused)
{
	struct bt *bt = bt_of(v);
	struct block *b = block_of(bt, arg);
	unsigned i = arg & 0x3f;
	enum string_result r = string_run(v, (uint32_t)arg);

	(void)unused;
	bt->stat[STAT_LIGHT]++;
	if (likely(r == STRING_DONE))
		return cache_exec(bt, b->code + b->insn[i + 1].host_off);
	set_rip(v, b, b->insn[i].guest_off);
	if (unlikely(bt->verify))
		verify_abandon(bt);
	if (r == STRING_INTERP)
		interpret(bt);
	else
		v->in_rep = true;
	return dispatch(bt);
}

/*
 * A probe at a site that has missed its slot 65536 times in all, though the TLB has the page: it gets a computed slot in
 * its next translation.
 */
static bool site_is_wild(struct bt *bt, const struct block *b, unsigned i, bool write, uint64_t va, bool crosses)
{
	unsigned mode = bt->v->mmu_mode, site = site_of(b->gpa + b->insn[i].guest_off);
	const struct tlb_entry *e = write ? &bt->v->mmu.write[mode][tlb_index(va)] : &bt->v->mmu.read[mode][tlb_index(va)];

	if (crosses || b->slot[i] == NO_SLOT || bt->slot_misses[b->slot[i]] || e->tag != (va & ~PAGE_MASK) || !assist(bt, ASSIST_TLB) ||
	    bt->config->stress.slow_memory)
		return false;
	bt->site_wild[site / 8] |= (uint8_t)(1u << site % 8);
	bt->stat[STAT_WILD]++;
	return true;
}

/* A stub's argument of a failed probe: see translate.c, slow_site(). */
struct probe {
	struct block *b;
	unsigned insn, size, mode;
	enum mmu_access access;
	bool group;
	uint64_t retry; /* host address */
};

static struct probe probe_of(struct vcpu *v, uint64_t arg)
{
	struct bt *bt = bt_of(v);
	struct probe p = {.b = block_of(bt, arg), .insn = arg >> 10 & 0x3f, .size = (arg >> 2 & 0xff) + 1,
			  .access = arg & 1 ? MMU_WRITE : MMU_READ, .group = arg & 2};

	p.mode = v->mmu_mode; /* STAC and CLAC are in blocks */
	p.retry = cache_exec(bt, p.b->code + (uint32_t)(arg >> 16 & 0xffff));
	return p;
}

static bool probe_usable(const struct bt *bt, const struct probe *p, uint64_t va)
{
	return (va & PAGE_MASK) + p->size <= GUEST_PAGE_SIZE && !bt->config->stress.slow_memory &&
	       assist(bt, ASSIST_TLB);
}

/* Whatever keeps a probe failing that has been given its page, there is an end to it: the interpreter executes it. */
static bool may_retry(struct bt *bt, uint64_t arg, uint64_t va)
{
	if (bt->retried_arg != arg || bt->retried_va != va)
		bt->retries = 0;
	bt->retried_arg = arg;
	bt->retried_va = va;
	return ++bt->retries < 100;
}

/*
 * What a failed probe mostly wants, with some guest registers still in the host's: the page from the TLB's second level.
 * Returns where to retry; 0: it takes more.
 */
uint64_t bt_refill(struct vcpu *v, uint64_t arg, uint64_t va)
{
	struct bt *bt = bt_of(v);
	struct probe p = probe_of(v, arg);
	const struct tlb_entry *e = &(p.access == MMU_WRITE ? v->mmu.write : v->mmu.read)[p.mode][tlb_index(va)];

	/* In the first level already: site_is_wild()'s case. */
	if (!probe_usable(bt, &p, va) || e->tag == (va & ~PAGE_MASK))
		return 0;
	bt->stat[STAT_SLOW]++;
	return mmu_refill(&v->mmu, va, p.access, p.mode) && may_retry(bt, arg, va) ? p.retry : 0;
}

/* Integer instructions: their operands have no alignment and no mask, so a failed walk is the guest's page fault. */
static bool is_plain(struct bt *bt, const struct probe *p)
{
	unsigned off = p->b->insn[p->insn].guest_off, len = p->b->insn[p->insn + 1].guest_off - off;
	const uint8_t *c = guest_ptr(bt->v->mem, GPA(p->b->gpa + off), len), *end = c + len;

	if (!c)
		return false;
	while (c < end && ((*c & 0xfc) == 0x64 || *c == 0xf0 || *c == 0xf2 || *c == 0xf3 || (*c & 0xe7) == 0x26 ||
			   (*c & 0xf0) == 0x40)) /* legacy prefixes and REX */
		c++;
	if (c + 1 >= end)
		return c < end;
	if (*c == 0x0f) {
		c++;
		return (*c & 0xf0) == 0x40 || (*c & 0xf6) == 0xb6 || *c == 0xaf || (*c & 0xfe) == 0xb0 ||
		       (*c & 0xfe) == 0xc0;
	}
	return *c != 0x62 && *c != 0xc4 && *c != 0xc5 && (*c & 0xf8) != 0xd8;
}

static bool in_level_1(const struct vcpu *v, uint64_t va, enum mmu_access access, unsigned mode)
{
	const struct tlb_entry *table = (access == MMU_WRITE ? v->mmu.write : v->mmu.read)[mode];

	return table[tlb_index(va)].tag == (va & ~PAGE_MASK);
}

/*
 * Walks the page tables for a failed probe; true: level 1 has the page now. Raises the page fault of a plain
 * instruction. A D bit is set only for an instruction that surely writes, which a group's first need not do.
 */
static bool walk_for_probe(struct bt *bt, const struct probe *p, uint64_t va)
{
	struct vcpu *v = bt->v;
	struct mmu_result r;

	if (!canonical(va))
		return false;
	if (p->group || !is_plain(bt, p)) {
		if (!mmu_translate(&v->mmu, va, MMU_READ, p->mode, &r))
			return false;
		return p->access == MMU_READ ? in_level_1(v, va, MMU_READ, p->mode) :
					       mmu_refill(&v->mmu, va, MMU_WRITE, p->mode);
	}
	if (!mmu_translate(&v->mmu, va, p->access, p->mode, &r)) {
		set_rip(v, p->b, p->b->insn[p->insn].guest_off);
		cpu_raise_page_fault(v, va, r.error);
	}
	return in_level_1(v, va, p->access, p->mode);
}

/* A group that crosses a page end each time: its first access gets a probe for itself in the next translation. */
static bool group_fails_often(struct bt *bt, const struct probe *p)
{
	unsigned site = site_of(p->b->gpa + p->b->insn[p->insn].guest_off);

	if (++bt->site_group_misses[site] < 16)
		return false;
	bt->site_group_misses[site] = 0;
	bt->site_alone[site / 8] |= (uint8_t)(1u << site % 8);
	return true;
}

/* A failed probe that bt_refill() had no answer to. */
uint64_t bt_slow(struct vcpu *v, uint64_t arg, uint64_t va)
{
	struct bt *bt = bt_of(v);
	struct probe p = probe_of(v, arg);
	struct block *to;

	if (probe_usable(bt, &p, va)) {
		if (unlikely(site_is_wild(bt, p.b, p.insn, p.access == MMU_WRITE, va, false))) {
			set_rip(v, p.b, p.b->insn[p.insn].guest_off);
			if (unlikely(bt->verify))
				verify_stop(bt, p.b, p.insn);
			cache_kill(bt, p.b);
			return dispatch(bt);
		}
		if (walk_for_probe(bt, &p, va) && may_retry(bt, arg, va))
			return resume(bt, p.retry);
	}
	if (!p.group && !bt->verify && !bt->config->stress.slow_memory && assist(bt, ASSIST_TLB)) {
		uint64_t host = crossing_access(bt, p.b, p.insn, va, p.size, p.access == MMU_WRITE, p.mode);

		if (host)
			return host;
	}
	set_rip(v, p.b, p.b->insn[p.insn].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, p.b, p.insn);
	if (p.group && group_fails_often(bt, &p)) {
		cache_kill(bt, p.b);
		return dispatch(bt);
	}
	if (p.group) { /* each access of the group for itself, from here on in this block */
		bt->stat[STAT_CROSSING]++;
		return dispatch_to(bt, &to, MODE_NO_GROUP, false);
	}
	bt->stat[STAT_SLOW_INTERP]++;
	interpret(bt);
	return dispatch(bt);
}

/* A jump by the jump table, when all come back here. */
uint64_t bt_verify_jump(struct vcpu *v, uint64_t unused, uint64_t va_key)
{
	struct bt *bt = bt_of(v);

	(void)unused;
	verify_jumped(bt, va_key - bt->key[v->mmu_mode]);
	return dispatch_jump(bt);
}

/* An indirect call that has pushed its return address, and whose target is not in the table. arg: instruction */
uint64_t bt_call_miss(struct vcpu *v, uint64_t arg, uint64_t va_key)
{
	struct bt *bt = bt_of(v);

	if (unlikely(bt->verify)) {
		if (canonical(va_key - bt->key[v->mmu_mode]))
			return bt_verify_jump(v, arg, va_key);
		verify_abandon(bt);
	}
	v->gpr[R_SP] += 8;
	return bt_interp(v, arg, va_key);
}

uint64_t bt_resume(struct bt *bt, uint64_t host)
{
	return resume(bt, host);
}

uint64_t bt_dispatch_at(struct bt *bt, const struct block *b, unsigned i)
{
	set_rip(bt->v, b, b->insn[i].guest_off);
	return dispatch(bt);
}

/* After a host fault: the interpreter executes the instruction, and raises what the guest must see. */
uint64_t bt_host_fault(struct vcpu *v, uint64_t unused, uint64_t unused2)
{
	struct bt *bt = bt_of(v);
	struct block *b = cache_block(bt, bt->fault_block);

	(void)unused;
	(void)unused2;
	bt->stat[STAT_HOST_FAULTS]++;
	set_rip(v, b, b->insn[bt->fault_insn].guest_off);
	if (unlikely(bt->verify))
		verify_stop(bt, b, bt->fault_insn);
	interpret(bt);
	return dispatch(bt);
}

/* interp.h's hook: a host fault signal in translated code. Runs on the alternate signal stack. */
static bool on_host_fault(void *ctx, int sig, siginfo_t *info, void *ucontext)
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

	if (bt->drop_all) {
		bt->drop_all = false;
		cache_drop_all(bt);
	}
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
			interpret(bt);
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
static enum run_exit run_with_faults(struct bt *bt)
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

static enum run_exit run(struct vcpu *v, uint64_t max_insns)
{
	struct bt *bt = bt_of(v);
	enum run_exit exit;

	bt->thread = pthread_self();
	bt->budget = max_insns ? max_insns : NO_BUDGET;
	bt->single = max_insns || bt->config->stress.one_insn;
	bt->flags_basis[0] = ~0ULL; /* single may have changed */
	/* The C library has no use for GS. */
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, v) || interp_enter(bt->interp)) {
		snprintf(v->stop_reason, sizeof(v->stop_reason), "the host refuses a GS base or a signal stack");
		return RUN_ERROR;
	}
	exit = run_with_faults(bt);
	cpu_fpu_spill(v);
	interp_leave(bt->interp);
	return exit;
}

static void on_wrote(void *ctx, gpa_t gpa, uint64_t len)
{
	struct bt *bt = ctx;

	if (pthread_equal(pthread_self(), bt->thread)) {
		cache_wrote(bt, gpa.v, len);
		return;
	}
	bt->drop_all = true;
	bt->v->request |= CPU_REQ_FLUSH;
	bt->v->poll = 1;
}

static void vcpu_fini(struct vcpu *v)
{
	struct bt *bt = bt_of(v);

	if (!bt->v)
		return;
	guest_mem_unwatch_code(v->mem, bt);
	interp_free(bt->interp);
	fpu_fini(bt);
	cache_free(bt);
	translation_free(bt);
	verify_free(bt);
	bt->v = NULL;
}

static int start(struct bt *bt, struct err *err)
{
	struct code_watcher w = {.wrote = on_wrote, .ctx = bt};
	int rc = fpu_init(bt, err);

	if (!rc)
		rc = cache_new(bt, err);
	if (!rc)
		rc = translation_new(bt, err);
	if (!rc && bt->config->verify)
		rc = verify_new(bt, err);
	if (!rc)
		rc = interp_new(&bt->interp, bt->v, err);
	if (!rc && guest_mem_watch_code(bt->v->mem, &w))
		rc = err_set(err, ENOSPC, "too many watchers of guest code");
	return rc;
}

static const struct engine_config default_config = {.cache_bytes = ENGINE_CACHE_DEFAULT};

static int vcpu_init(struct vcpu *v, struct err *err)
{
	struct bt *bt = bt_of(v);
	int rc;

	_Static_assert(sizeof(struct bt) <= CPU_ENGINE_AREA, "struct bt must fit its place in struct vcpu");
	bt->v = v;
	bt->config = v->config ? v->config : &default_config;
	memset(bt->space_of_key, 0xff, sizeof(bt->space_of_key));
	for (unsigned i = 0; i < 2 * JUMP_SLOTS; i++)
		jump_clear(bt, i);
	rc = light_code ? start(bt, err) : err_set(err, ENOTSUP, "a build with a sanitizer cannot run the translator");
	if (rc) {
		vcpu_fini(v);
		return rc;
	}
	bt->bmi2 = __builtin_cpu_supports("bmi2");
	stubs_make(bt);
	interp_set_fault_hook(bt->interp, on_host_fault, bt);
	v->fpu_spill = fpu_spill;
	v->engine_state = bt;
	return 0;
}

static bool usable(struct err *why)
{
	if (!interp_usable(why))
		return false;
	if (!light_code) {
		err_set(why, ENOTSUP, "built with a sanitizer, whose code uses the registers that hold guest state");
		return false;
	}
	err_set(why, 0, "translates 64-bit code; needs nothing but executable memory, which this host gives");
	return true;
}

static const struct {
	const char *name, *text, *unit;
} counters_of[STAT_COUNT] = {
	[STAT_BLOCKS] = {"blocks", "blocks translated", ""},
	[STAT_INSNS] = {"block_insns", "instructions translated", ""},
	[STAT_BYTES_IN] = {"bytes_in", "guest code translated", "bytes"},
	[STAT_BYTES_OUT] = {"bytes_out", "translated code", "bytes"},
	[STAT_LINKS] = {"links", "jumps chained", ""},
	[STAT_LINK_EXITS] = {"link_exits", "exits: direct jump not chained", ""},
	[STAT_DISPATCHES] = {"dispatches", "blocks dispatched", ""},
	[STAT_SLOW] = {"slow", "exits: TLB probe failed", ""},
	[STAT_SLOW_INTERP] = {"slow_interp", "accesses by the interpreter", ""},
	[STAT_CROSSING] = {"group_misses", "groups taken apart", ""},
	[STAT_VERIFIED] = {"verified", "pieces of blocks verified", ""},
	[STAT_JUDGED] = {"judged", "blocks translated anew when hot", ""},
	[STAT_WILD] = {"wild_sites", "probes made to compute their slot", ""},
	[STAT_CROSSED] = {"crossings", "operands across two pages", ""},
	[STAT_INTERP] = {"interpreted", "instructions interpreted", ""},
	[STAT_LIGHT] = {"light", "instructions by light calls", ""},
	[STAT_POLLS] = {"polls", "exits: poll", ""},
	[STAT_FAULTS] = {"faults", "guest faults", ""},
	[STAT_HOST_FAULTS] = {"host_faults", "host faults in translated code", ""},
	[STAT_INVALIDATED] = {"invalidated", "blocks invalidated by writes", ""},
	[STAT_EVICTED] = {"evicted", "blocks evicted", ""},
	[STAT_EVICTION] = {"longest_eviction", "longest time in eviction", "tsc"},
	[STAT_SPILLS] = {"fpu_spills", "vector state spilled", ""},
	[STAT_NEW_KEYS] = {"keys", "jump table keys", ""},
	[STAT_TRANSLATION] = {"translation", "time in translation", "tsc"},
};

static unsigned counters(const struct vcpu *v, struct engine_counter *out, unsigned max)
{
	const struct bt *bt = bt_of(v);
	unsigned n = 0;

	for (unsigned i = 0; i < STAT_COUNT; i++) {
		if (!counters_of[i].name)
			continue;
		if (n < max)
			out[n] = (struct engine_counter){counters_of[i].name, counters_of[i].text, counters_of[i].unit,
							 bt->stat[i]};
		n++;
	}
	return n;
}

const struct engine_ops bt_engine = {
	.name = "bt",
	.description = "binary translator: 64-bit code at close to the speed of the hardware",
	.usable = usable,
	.vcpu_init = vcpu_init,
	.vcpu_fini = vcpu_fini,
	.run = run,
	.counters = counters,
	.uses_config = true,
};
