/*
 * Probes of the soft TLB in translated code.
 */
#include "engine/bt/translate.h"

#define PAGE_MASK 0xfffULL

unsigned address_register(struct emitter *e, unsigned r)
{
	if (r == R_10 || r == R_11)
		emit_rg(e, OP_MOV_RM, 1, r, G(gpr) + r * 8);
	return r;
}

/* lea dst, [base + index << scale + disp]; with 32-bit truncation when !w */
void emit_lea(struct emitter *e, unsigned w, unsigned dst, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	bool has_index = index < 16;

	if (base >= 16 && !has_index) {
		emit_mov_ri(e, dst, w ? (uint64_t)(int64_t)disp : (uint32_t)disp);
		return;
	}
	if (!has_index && !disp) {
		emit_rr(e, OP_MOV_RM, w, dst, base);
		return;
	}
	if (!has_index) {
		emit_rm(e, OP_LEA, w, dst, base, disp);
		return;
	}
	if (base < 16) {
		emit_rop(e, OP_LEA, w, dst, &(struct host_operand){(uint8_t)base, (uint8_t)index, (uint8_t)scale, disp});
		return;
	}
	emit_rex_op(e, OP_LEA, w, dst, index, 0);
	emit_modrm(e, 0, dst, 4);
	emit8(e, scale << 6 | (index & 7) << 3 | 5);
	emit32(e, (uint32_t)disp);
}

/* R10 = linear address of an operand with displacement `at` (as struct access counts it). Keeps flags; uses R11. */
void emit_linear(struct translation *t, const struct access *a, int64_t at)
{
	struct emitter *e = &t->draft.e;
	int32_t disp = (int32_t)(at - a->shift);

	if (a->base == EA_RIP) {
		emit_code_address(t, R_10, at);
	} else {
		unsigned base = a->base, index = a->index;

		if (base < 16)
			address_register(e, base);
		if (index < 16 && index != base)
			address_register(e, index);
		if (a->seg >= S_FS && base >= 16 && index >= 16 && a->addr_size == 8) {
			emit_rg(e, OP_MOV_RM, 1, R_10, G(seg) + a->seg * sizeof(struct segment) +
				offsetof(struct segment, base));
			if (disp)
				emit_rm(e, OP_LEA, 1, R_10, R_10, disp);
			return;
		}
		emit_lea(e, a->addr_size == 8, R_10, base, index, a->scale, disp);
	}
	if (a->seg < S_FS)
		return;
	emit_rg(e, OP_MOV_RM, 1, R_11, G(seg) + a->seg * sizeof(struct segment) + offsetof(struct segment, base));
	emit_lea(e, 1, R_10, R_10, R_11, 0, 0);
}

/* Probes */

static struct slow_site *slow_site(struct translation *t, uint32_t field, int how, bool write, bool group, unsigned size)
{
	struct slow_site *s = &t->slow[t->n_slow];

	if (t->n_slow == MAX_SLOW_SITES) {
		t->draft.e.p = t->draft.e.end;
		return &t->slow[0];
	}
	t->n_slow++;
	/* 31:16 where to retry, 15:10 instruction, 9:2 size - 1, 1 group, 0 write */
	s->arg = t->retry << 16 | t->i << 10 | (size - 1) << 2 | (unsigned)group << 1 | write;
	s->field = field;
	s->how = how;
	s->write = write;
	s->mmu_mode = (uint8_t)t->mmu_mode;
	return s;
}

static size_t table_of(const struct translation *t, bool write)
{
	return (write ? G(mmu.write) : G(mmu.read)) + t->mmu_mode * sizeof(t->bt->v->mmu.read[0]);
}

/* R11 = the TLB slot (byte offset) of the linear address in R10. Destroys flags. */
static void emit_slot(struct emitter *e, bool bmi2)
{
	static const uint8_t rorx[] = {0xc4, 0x43, 0x7b, 0xf0, 0xda, GUEST_PAGE_SHIFT - 4}; /* rorx r11d, r10d, 8 */

	if (bmi2) {
		emit_bytes(e, rorx, sizeof(rorx));
	} else {
		emit_rr(e, OP_MOV_RM, 0, R_11, R_10);
		emit_rex_op(e, 0xc1, 0, 0, 0, R_11); /* shr r11d, 8 */
		emit_modrm(e, 3, 5, R_11);
		emit8(e, GUEST_PAGE_SHIFT - 4);
	}
	emit_alu_ri(e, ALU_AND, 0, R_11, (TLB_ENTRIES - 1) << 4);
}

/* As emit_rgb(), without the GS base */
static void emit_rm_at(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned base, size_t disp)
{
	emit_rm(e, op, w, reg, base, (int32_t)disp);
}

static bool probes_in_line(const struct translation *t)
{
	return assist(t->bt, ASSIST_TLB) && !t->bt->config->stress.slow_memory;
}

/* R11 and a probe's slot, RIP-relative */
static void emit_slot_op(struct translation *t, unsigned op, uint64_t address)
{
	struct emitter *e = &t->draft.e;

	emit_rex_op(e, op, 1, R_11, 0, 0);
	emit_modrm(e, 0, R_11, 5);
	emit32(e, 0);
	fixup(t, emit_at(e) - 4, address);
}

/* Behind a check that has left R10 = the offset in the page, and R11 (gs: + table) at the TLB's entry. */
static void emit_result(struct emitter *e, enum probe_result result, bool general, size_t table)
{
	void (*emit)(struct emitter *e, unsigned op, unsigned w, unsigned reg, unsigned base, size_t disp) =
		general ? emit_rgb : emit_rm_at;

	if (result == PROBE_DELTA) {
		emit(e, OP_MOV_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, delta));
		return;
	}
	emit(e, OP_ADD_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, tag));
	emit(e, OP_ADD_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, delta));
}

/* R10: linear address, becomes the result. Destroys flags and R11. second: the instruction's second probe. */
void emit_probe(struct translation *t, unsigned size, bool write, bool second, bool group, enum probe_result result)
{
	struct emitter *e = &t->draft.e;
	size_t table = table_of(t, write);
	unsigned site = site_of(t->gpa + t->insn[t->i].off);
	uint32_t slot;
	struct slow_site *s;
	uint32_t check;

	if (!probes_in_line(t)) {
		slow_site(t, emit_jmp(e), SLOW_ADDRESS, write, group, size);
		return;
	}
	if (t->draft.b.stage == STAGE_COLD || t->mode & MODE_NO_GROUP || t->bt->site_wild[site / 8] >> site % 8 & 1) {
		emit_slot(e, t->bt->bmi2);
		emit_rgb(e, OP_SUB_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, tag));
		emit_alu_ri(e, ALU_CMP, 1, R_10, (int32_t)(GUEST_PAGE_SIZE - size));
		slow_site(t, emit_jcc(e, CC_A), SLOW_GENERAL, write, group, size);
	} else {
		slot = cache_new_slot(t->bt, t->mmu_mode, write);
		t->bt->slot_misses[slot] = 0;
		if (!second)
			t->draft.slot[t->i] = slot;
		check = emit_at(e);
		emit_slot_op(t, OP_MOV_RM, cache_slot(t->bt, slot));
		emit_rm(e, OP_SUB_RM, 1, R_10, R_11, offsetof(struct tlb_entry, tag));
		emit_alu_ri(e, ALU_CMP, 1, R_10, (int32_t)(GUEST_PAGE_SIZE - size));
		s = slow_site(t, emit_jcc(e, CC_A), SLOW_SITE, write, group, size);
		s->slot = slot;
		s->check = check;
		emit_result(e, result, false, 0);
		return;
	}
	emit_result(e, result, true, table);
}

/* Out of line: what failed may have been no more than the site's slot. Ends with R10 = the linear address. */
static void emit_slow_site(struct translation *t, const struct slow_site *s)
{
	struct emitter *e = &t->draft.e;
	size_t table;
	uint32_t miss;

	t->mmu_mode = s->mmu_mode;
	table = table_of(t, s->write);
	emit_patch(e, s->field, emit_at(e));
	switch (s->how) {
	case SLOW_GENERAL:
		emit_rgb(e, OP_ADD_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, tag));
		break;
	case SLOW_SITE:
		emit_rm(e, OP_ADD_RM, 1, R_10, R_11, offsetof(struct tlb_entry, tag));
		emit_slot(e, t->bt->bmi2);
		emit_slot_op(t, OP_ADD_RM, cache_slot_table(t->bt, s->slot));
		emit_slot_op(t, OP_CMP_RM, cache_slot(t->bt, s->slot));
		miss = emit_jcc(e, CC_E);
		emit_slot_op(t, OP_MOV_MR, cache_slot(t->bt, s->slot));
		emit8(e, 0x65), emit8(e, 0x66), emit8(e, 0xff), emit8(e, 0x04), emit8(e, 0x25);
		emit32(e, GB(slot_misses) + s->slot * 2); /* inc word */
		emit_patch(e, emit_jcc(e, CC_NE), s->check);
		emit_patch(e, miss, emit_at(e));
		break;
	case SLOW_CONST:
		emit_mov_ri(e, R_10, s->address);
		break;
	default:
		break;
	}
	emit_stub_call(t, t->bt->stub_slow, s->arg);
}


/* Whether an access's linear address is known now. */
static bool constant_address(const struct translation *t, const struct access *a, int64_t at, uint64_t *va)
{
	if (a->index != EA_NONE || a->seg >= S_FS || a->addr_size != 8 || t->floats)
		return false;
	if (a->base == EA_RIP)
		*va = t->va + (uint64_t)at;
	else if (a->base == EA_NONE)
		*va = (uint64_t)at;
	else
		return false;
	return (int64_t)*va == (int32_t)*va;
}

/* R10 = the distance from linear to host addresses for a constant linear address. The TLB's slot is known too. */
static void emit_constant_probe(struct translation *t, uint64_t va, unsigned size, bool write, bool group)
{
	struct emitter *e = &t->draft.e;
	size_t entry = table_of(t, write) + tlb_index(va) * sizeof(struct tlb_entry);
	struct slow_site *s;

	emit_alu_g32(e, ALU_CMP, 1, entry + offsetof(struct tlb_entry, tag), (int32_t)(va & ~PAGE_MASK));
	s = slow_site(t, emit_jcc(e, CC_NE), SLOW_CONST, write, group, size);
	s->address = va;
	emit_rg(e, OP_MOV_RM, 1, R_10, entry + offsetof(struct tlb_entry, delta));
}

/*
 * Probes for [lo, lo + size) of the access's displacements. R10 becomes the distance from linear to host addresses where that
 * is asked for, or else a host address: the returned displacement's.
 */
static int64_t emit_range(struct translation *t, const struct access *a, int64_t lo, unsigned size, bool write, bool group,
			  enum probe_result result)
{
	uint64_t va;

	clobber_flags(t, wanted_before(&t->insn[t->i]));
	t->retry = emit_at(&t->draft.e);
	if (probes_in_line(t) && constant_address(t, a, lo, &va) && (va & PAGE_MASK) + size <= GUEST_PAGE_SIZE) {
		emit_constant_probe(t, va, size, write, group);
		return lo - (int64_t)va; /* linear address 0's, so to speak */
	}
	emit_linear(t, a, lo);
	emit_probe(t, size, write, false, group, result);
	return lo;
}

static bool is_free(unsigned r)
{
	return r != R_10 && r != R_11;
}

/* Whether the operand can be the guest's own with R10 beside the base register, or in its place for an index register. */
static bool takes_delta(const struct access *a, bool several)
{
	if (a->seg >= S_FS || a->addr_size != 8 || !is_free(a->base) || !is_free(a->index))
		return false;
	return a->index == EA_NONE ? a->base < 16 : a->index < 16 && a->base != EA_RIP && !several;
}

static struct host_operand operand_with_delta(struct translation *t, const struct access *a)
{
	struct host_operand m = {.base = a->base, .index = R_10, .disp = (int32_t)(a->disp - a->shift)};

	t->draft.operand_r10[t->i] = R10_DELTA;
	if (a->index == EA_NONE)
		return m;
	if (a->base < 16) {
		emit_rr(&t->draft.e, OP_ADD_RM, 1, R_10, a->base);
		t->draft.operand_r10[t->i] = a->base;
	}
	m.base = R_10;
	m.index = a->index;
	m.scale = a->scale;
	return m;
}

struct host_operand emit_access(struct translation *t)
{
	const struct access *a = &t->insn[t->i].access;
	struct emitter *e = &t->draft.e;
	struct group *g = a->group ? &t->group[a->group - 1] : NULL;
	bool delta = takes_delta(a, g && g->several);
	enum probe_result result = delta ? PROBE_DELTA : PROBE_HOST;
	int64_t base = 0;

	if (!g) {
		base = emit_range(t, a, a->disp, a->size, a->write, false, result);
	} else if (!g->probed) {
		struct access first = *a;

		g->probed = true;
		g->base = emit_range(t, &first, g->lo, (unsigned)(g->hi - g->lo), g->access.write, g->several, result);
		if (g->kept)
			emit_rg(e, OP_MOV_MR, 1, R_10, GB(group_r10) + (a->group - 1u) * 8);
	} else if (t->holds != a->group) {
		emit_rg(e, OP_MOV_RM, 1, R_10, GB(group_r10) + (a->group - 1u) * 8);
	}
	if (g)
		base = g->base;
	t->holds = a->group;
	if (delta)
		return operand_with_delta(t, a);
	t->draft.operand_r10[t->i] = R10_HOST;
	return (struct host_operand){.base = R_10, .index = NO_INDEX, .disp = (int32_t)(a->disp - base)};
}

bool operand_stands_alone(const struct translation *t)
{
	const struct access *a = &t->insn[t->i].access;

	return !a->group || (!t->group[a->group - 1].several && t->group[a->group - 1].last == t->i);
}

void emit_single(struct translation *t, const struct access *a)
{
	int64_t at;

	t->holds = 0;
	at = emit_range(t, a, a->disp, a->size, a->write, false, PROBE_HOST);
	if (at != a->disp)
		emit_rm(&t->draft.e, OP_LEA, 1, R_10, R_10, (int32_t)(a->disp - at));
}

/* An access that is not the instruction's first. A retry begins at the first. */
void emit_stack_probe(struct translation *t, int32_t disp, bool write, bool keep_r11)
{
	struct emitter *e = &t->draft.e;

	t->holds = 0;
	if (keep_r11)
		emit_rg(e, OP_MOV_MR, 1, R_11, GB(probe_r11));
	emit_rm(e, OP_LEA, 1, R_10, R_SP, disp);
	emit_probe(t, 8, write, true, false, PROBE_HOST);
	if (keep_r11)
		emit_rg(e, OP_MOV_RM, 1, R_11, GB(probe_r11));
}

void emit_slow_sites(struct translation *t)
{
	for (unsigned i = 0; i < t->n_slow; i++)
		emit_slow_site(t, &t->slow[i]);
}
