/*
 * Which memory accesses of a block share a probe.
 *
 * Two accesses can when their addresses differ by a constant: same base and index register (and scale, segment), whose
 * values between the two have changed by constants only (PUSH, POP, ADD, SUB, INC, DEC, LEA of themselves). Registers
 * have versions here; any other write begins a new one. The first access of a group probes for the hull of all; when that
 * fails, because the hull crosses a page say, the rest of the block is run translated without groups.
 *
 * A hull only asks for what the block will access if it runs to its end: past a conditional jump a group that began with
 * reads is not made one for writing, since the page may be read-only for good reasons.
 */
#include "engine/bt/translate.h"

#define MAX_HULL 256
#define MAX_DISP (INT32_MAX / 4)

struct reg_state {
	uint16_t version[16];
	int64_t delta[16]; /* since the version began */
};

/* Adds a constant to register r? */
static bool constant_change(const struct guest_insn *g, unsigned r, int64_t *by)
{
	const struct cpu_op *op = &g->op;

	switch (g->kind) {
	case KIND_PUSH:
	case KIND_PUSH_MEM:
	case KIND_CALL:
		*by = -8;
		return r == R_SP;
	case KIND_POP:
		*by = 8;
		return r == R_SP && op->rm != R_SP;
	case KIND_LEA:
		*by = op->disp;
		return op->reg == r && op->base == r && op->index == EA_NONE && op->op_size == 8 && op->addr_size == 8;
	case KIND_COPY:
		break;
	default:
		return false;
	}
	if (op->op_size != 8 || op->rm != r || op->map != 0)
		return false;
	switch (op->mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
		*by = (int64_t)op->imm;
		return op->opcode == 0x81 || op->opcode == 0x83;
	case ZYDIS_MNEMONIC_SUB:
		*by = -(int64_t)op->imm;
		return op->opcode == 0x81 || op->opcode == 0x83;
	case ZYDIS_MNEMONIC_INC:
		*by = 1;
		return true;
	case ZYDIS_MNEMONIC_DEC:
		*by = -1;
		return true;
	default:
		return false;
	}
}

static void advance(struct reg_state *s, const struct guest_insn *g)
{
	for (unsigned r = 0; r < 16; r++) {
		int64_t by;

		/* Of what C code executes, the decoder does not name every register that changes (CMPS, SCAS). */
		if (!(g->gpr_written >> r & 1) && g->kind != KIND_LIGHT)
			continue;
		if (constant_change(g, r, &by) && s->delta[r] + by < MAX_DISP && s->delta[r] + by > -MAX_DISP) {
			s->delta[r] += by;
		} else {
			s->version[r]++;
			s->delta[r] = 0;
		}
	}
}

static void take_access(struct guest_insn *g, const struct reg_state *s)
{
	const struct cpu_op *op = &g->op;
	struct access *a = &g->access;

	*a = (struct access){.base = R_SP, .index = EA_NONE, .seg = S_SS, .addr_size = 8, .size = 8};
	switch (g->kind) {
	case KIND_PUSH:
	case KIND_CALL:
		a->used = a->write = true;
		a->disp = -8;
		break;
	case KIND_POP:
	case KIND_RET:
		a->used = true;
		break;
	case KIND_LEAVE:
		a->used = true;
		a->base = R_BP;
		break;
	case KIND_MEM:
		a->used = true;
		a->write = op->flags & OP_WRITE;
		a->base = op->base;
		a->index = op->index;
		a->scale = op->scale;
		a->seg = op->seg >= S_FS ? op->seg : S_SS; /* the others have no base */
		a->addr_size = op->addr_size;
		a->size = op->mem_size;
		a->disp = op->disp + (op->base == EA_RIP ? g->off : 0);
		break;
	default:
		return;
	}
	if (a->addr_size != 8)
		return;
	if (a->base < 16) {
		a->base_version = s->version[a->base];
		a->shift = s->delta[a->base];
	}
	if (a->index < 16) {
		a->index_version = s->version[a->index];
		a->shift += s->delta[a->index] * (1 << a->scale);
	}
	a->disp += a->shift;
}

static bool same_key(const struct access *a, const struct access *b)
{
	return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg &&
	       a->base_version == b->base_version && a->index_version == b->index_version;
}

bool keeps_r10(const struct guest_insn *g)
{
	switch (g->kind) {
	case KIND_COPY:
	case KIND_MEM:
		return !(g->uses_r10 && g->uses_r11);
	case KIND_LEA:
		return g->op.base != R_10 && g->op.index != R_10;
	case KIND_NOTHING:
	case KIND_PUSH:
	case KIND_POP:
	case KIND_JCC:
		return true;
	default:
		return false;
	}
}

static bool crosses_page(const struct translation *t, const struct group *g, int64_t lo, int64_t hi)
{
	uint64_t from = (uint64_t)lo, to = (uint64_t)hi - 1;

	if (g->access.index != EA_NONE || g->access.base < 16 || g->access.seg >= S_FS)
		return false; /* not known */
	if (g->access.base == EA_RIP) {
		from += t->floats ? t->gpa : t->va;
		to += t->floats ? t->gpa : t->va;
	}
	return align_down(from, GUEST_PAGE_SIZE) != align_down(to, GUEST_PAGE_SIZE);
}

static bool join(struct translation *t, struct group *g, struct access *a, unsigned i, bool jumped)
{
	int64_t lo = a->disp < g->lo ? a->disp : g->lo;
	int64_t hi = a->disp + a->size > g->hi ? a->disp + a->size : g->hi;

	if (lo - a->shift != (int32_t)(lo - a->shift) || lo - g->access.shift != (int32_t)(lo - g->access.shift))
		return false;
	if (hi - lo > MAX_HULL || (a->write && !g->access.write && jumped) || crosses_page(t, g, lo, hi))
		return false;
	g->several = true;
	g->lo = lo;
	g->hi = hi;
	g->access.write |= a->write;
	g->last = (uint8_t)i;
	return true;
}

/* Puts instruction i's access in a group: one that it can join, or a new one. */
static void assign(struct translation *t, unsigned i, unsigned first, unsigned jumps, uint8_t *jumps_at)
{
	struct access *a = &t->insn[i].access;
	struct group *g;
	unsigned site;

	for (unsigned k = t->n_groups; k-- > first;) {
		g = &t->group[k];
		if (!same_key(&g->access, a) || g->alone)
			continue;
		if (join(t, g, a, i, jumps != jumps_at[k])) {
			a->group = (uint8_t)(k + 1);
			return;
		}
		break; /* an older group of this key would be as far off */
	}
	if (t->n_groups == MAX_GROUPS)
		return;
	g = &t->group[t->n_groups];
	site = site_of(t->gpa + t->insn[i].off);
	*g = (struct group){.access = *a, .lo = a->disp, .hi = a->disp + a->size, .last = (uint8_t)i,
			    .alone = t->bt->site_alone[site / 8] >> site % 8 & 1};
	jumps_at[t->n_groups] = (uint8_t)jumps;
	a->group = (uint8_t)++t->n_groups;
}

/* Which groups are wanted again after something else has used R10. */
static void find_kept(struct translation *t)
{
	unsigned holds = 0;
	bool probed[MAX_GROUPS] = {false};

	for (unsigned i = 0; i < t->n; i++) {
		const struct guest_insn *g = &t->insn[i];
		unsigned k = g->access.group;

		if (g->access.used) {
			if (k && probed[k - 1] && holds != k)
				t->group[k - 1].kept = true;
			if (k)
				probed[k - 1] = true;
			holds = k;
		} else if (!keeps_r10(g)) {
			holds = 0;
		}
	}
}

void plan_groups(struct translation *t)
{
	bool allowed = !(t->mode & MODE_NO_GROUP) && assist(t->bt, ASSIST_GROUP);
	uint8_t jumps_at[MAX_GROUPS];
	struct reg_state s = {0};
	unsigned jumps = 0, first = 0;

	t->n_groups = 0;
	for (unsigned i = 0; i < t->n; i++) {
		struct guest_insn *g = &t->insn[i];

		take_access(g, &s);
		if (g->access.used && allowed && g->access.addr_size == 8)
			assign(t, i, first, jumps, jumps_at);
		if (g->kind == KIND_LIGHT && light_is_barrier(g))
			first = t->n_groups;
		jumps += g->kind == KIND_JCC || g->kind == KIND_LOOP;
		advance(&s, g);
	}
	find_kept(t);
}
