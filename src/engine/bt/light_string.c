/*
 * String instructions within translated code.
 *
 * In line: forward MOVS and STOS whose operands lie in one page each, which the TLB has: the instruction itself runs
 * on host addresses. All else goes to bt_string(): page by page, or over several pages that follow each other in the
 * host's memory too; what needs more than the TLB (faults, devices, cached code, page-crossing elements, DF) is the
 * interpreter's.
 *
 * While the in-line instruction runs, guest RSI, RDI and RAX (the limit of the probes) are in their places in the
 * vCPU: string_fault() tells the handler of host faults.
 */
#include "engine/bt/translate.h"

#define PAGE_MASK 0xfffULL
#define MAX_SPAN 65536u /* bytes before interrupts are looked for */

enum string_kind { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_SCAS, STRING_CMPS };
enum string_rep { REP_NONE, REP_E, REP_NE };

/* bt_string()'s argument: 5:0 instruction, 7:6 log2 of the size, 10:8 kind, 12:11 repetition */
static uint32_t string_arg(unsigned insn, unsigned shift, enum string_kind kind, enum string_rep rep)
{
	return insn | shift << 6 | kind << 8 | rep << 11;
}

static int string_kind(const struct guest_insn *g)
{
	switch (g->op.opcode & 0xfe) {
	case 0xa4:
		return STRING_MOVS;
	case 0xa6:
		return STRING_CMPS;
	case 0xaa:
		return STRING_STOS;
	case 0xac:
		return STRING_LODS;
	case 0xae:
		return STRING_SCAS;
	default:
		return -1;
	}
}

static bool is_string(const struct guest_insn *g)
{
	switch (g->op.mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
	case ZYDIS_MNEMONIC_SCASB:
	case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD:
	case ZYDIS_MNEMONIC_SCASQ:
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
		return !g->op.map; /* MOVSD and CMPSD are vector instructions too */
	default:
		return false;
	}
}

bool light_string_classify(struct translation *t, struct guest_insn *g)
{
	return assist(t->bt, ASSIST_STRING) && is_string(g) && string_kind(g) >= 0 && g->op.addr_size == 8 &&
	       g->op.seg < S_FS && !(g->op.flags & OP_LOCK);
}

static unsigned size_shift(const struct guest_insn *g)
{
	return g->op.opcode & 1 ? (unsigned)__builtin_ctz(g->op.op_size) : 0;
}

static enum string_rep repetition(const struct guest_insn *g)
{
	return g->op.flags & OP_REPNE ? REP_NE : g->op.flags & OP_REP ? REP_E : REP_NONE;
}

/* What in-line code is made of. */
struct inline_string {
	struct translation *t;
	unsigned shift;
	bool rep;
	unsigned limit;       /* register with the greatest offset in a page; REP only */
	uint32_t early[2];    /* jumps for cases that are not done in line */
	uint32_t slow[3];     /* of failed probes, by how many registers are to be loaded again */
};

static size_t gpr_at(unsigned r)
{
	return G(gpr) + r * 8;
}

/* R10 = host address of [pointer], from the TLB; returns the jump that is taken without a hit. Uses R11. */
static uint32_t emit_string_probe(const struct inline_string *s, unsigned pointer, bool write)
{
	struct emitter *e = &s->t->draft.e;
	size_t table = (write ? G(mmu.write) : G(mmu.read)) + s->t->mmu_mode * sizeof(s->t->bt->v->mmu.read[0]);
	uint32_t miss;

	emit_rr(e, OP_MOV_RM, 0, R_11, pointer);
	emit_rex_op(e, 0xc1, 0, 0, 0, R_11); /* shr r11d, 8 */
	emit_modrm(e, 3, 5, R_11);
	emit8(e, GUEST_PAGE_SHIFT - 4);
	emit_alu_ri(e, ALU_AND, 0, R_11, (TLB_ENTRIES - 1) << 4);
	emit_mov(e, R_10, pointer);
	emit_rgb(e, OP_SUB_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, tag));
	if (s->rep)
		emit_rr(e, OP_CMP_RM, 1, R_10, s->limit);
	else
		emit_alu_ri(e, ALU_CMP, 1, R_10, (int32_t)(GUEST_PAGE_SIZE - (1u << s->shift)));
	miss = emit_jcc(e, CC_A);
	emit_rgb(e, OP_MOV_RM, 1, R_10, R_11, table + offsetof(struct tlb_entry, delta));
	emit_rr(e, OP_ADD_RM, 1, R_10, pointer);
	return miss;
}

/* The limit register: 4096 - bytes; and what cannot be done in line at all. */
static void emit_string_limit(struct inline_string *s, unsigned limit)
{
	struct emitter *e = &s->t->draft.e;

	s->limit = limit;
	emit_rg(e, OP_MOV_MR, 1, limit, gpr_at(limit));
	if (!s->rep)
		return;
	emit_rr(e, OP_MOV_RM, 0, limit, R_CX);
	emit_rex_op(e, 0xc1, 0, 0, 0, limit); /* shl limit, shift */
	emit_modrm(e, 3, 4, limit);
	emit8(e, s->shift);
	emit_rex_op(e, 0xf7, 0, 0, 0, limit); /* neg limit */
	emit_modrm(e, 3, 3, limit);
	emit_alu_ri(e, ALU_ADD, 0, limit, GUEST_PAGE_SIZE);
}

static void emit_string_opcode(const struct inline_string *s, unsigned opcode)
{
	struct emitter *e = &s->t->draft.e;

	if (s->rep)
		emit8(e, 0xf3);
	if (s->shift == 1)
		emit8(e, 0x66);
	if (s->shift == 3)
		emit8(e, 0x48);
	emit8(e, opcode | (s->shift ? 1 : 0));
}

/* pointer = its guest value, past what was done; R10 holds the count of a repetition in bytes. */
static void emit_string_advance(const struct inline_string *s, unsigned pointer)
{
	struct emitter *e = &s->t->draft.e;

	emit_rg(e, OP_MOV_RM, 1, pointer, gpr_at(pointer));
	if (s->rep)
		emit_rr(e, OP_ADD_RM, 1, pointer, R_10);
	else
		emit_rm(e, OP_LEA, 1, pointer, pointer, 1 << s->shift);
}

static void emit_string_count(const struct inline_string *s)
{
	if (s->rep)
		emit_mov(&s->t->draft.e, R_10, R_CX);
}

static void emit_string_bytes(const struct inline_string *s)
{
	struct emitter *e = &s->t->draft.e;

	if (!s->rep || !s->shift)
		return;
	emit_rex_op(e, 0xc1, 1, 0, 0, R_10); /* shl r10, shift */
	emit_modrm(e, 3, 4, R_10);
	emit8(e, s->shift);
}

static void redirect(const struct inline_string *s, unsigned pointer)
{
	struct emitter *e = &s->t->draft.e;

	emit_rg(e, OP_MOV_MR, 1, pointer, gpr_at(pointer));
	emit_mov(e, pointer, R_10);
}

static void emit_movs(struct inline_string *s)
{
	struct emitter *e = &s->t->draft.e;

	emit_string_limit(s, R_AX);
	s->slow[1] = emit_string_probe(s, R_SI, false);
	redirect(s, R_SI);
	s->slow[2] = emit_string_probe(s, R_DI, true);
	redirect(s, R_DI);
	emit_string_count(s);
	emit_string_opcode(s, 0xa4);
	emit_string_bytes(s);
	emit_string_advance(s, R_SI);
	emit_string_advance(s, R_DI);
	emit_rg(e, OP_MOV_RM, 1, R_AX, gpr_at(R_AX));
}

static void emit_stos(struct inline_string *s)
{
	struct emitter *e = &s->t->draft.e;

	emit_string_limit(s, R_SI);
	s->slow[1] = emit_string_probe(s, R_DI, true);
	redirect(s, R_DI);
	emit_string_count(s);
	emit_string_opcode(s, 0xaa);
	emit_string_bytes(s);
	emit_string_advance(s, R_DI);
	emit_rg(e, OP_MOV_RM, 1, R_SI, gpr_at(R_SI));
}

/* Out of line: registers as before, and to bt_string(). */
static void emit_string_slow(struct inline_string *s, enum string_kind kind, enum string_rep rep)
{
	struct translation *t = s->t;
	struct emitter *e = &t->draft.e;
	uint32_t over = emit_jmp(e);

	if (s->slow[2]) {
		emit_patch(e, s->slow[2], emit_at(e));
		emit_rg(e, OP_MOV_RM, 1, R_SI, gpr_at(R_SI));
	}
	if (s->slow[1]) {
		emit_patch(e, s->slow[1], emit_at(e));
		emit_rg(e, OP_MOV_RM, 1, s->limit, gpr_at(s->limit));
	}
	for (unsigned i = 0; i < 2; i++)
		if (s->early[i])
			emit_patch(e, s->early[i], emit_at(e));
	emit_stub_call(t, t->bt->stub_string, string_arg(t->i, s->shift, kind, rep));
	emit_patch(e, over, emit_at(e));
}

void emit_light_string(struct translation *t)
{
	const struct guest_insn *g = &t->insn[t->i];
	struct emitter *e = &t->draft.e;
	struct inline_string s = {.t = t, .shift = size_shift(g)};
	enum string_kind kind = (enum string_kind)string_kind(g);
	enum string_rep rep = repetition(g);

	clobber_flags(t, true);
	t->draft.b.mem_flags |= BIT(t->i);
	if ((kind != STRING_MOVS && kind != STRING_STOS) || !assist(t->bt, ASSIST_TLB) ||
	    t->bt->config->stress.slow_memory) {
		emit_stub_call(t, t->bt->stub_string, string_arg(t->i, s.shift, kind, rep));
		return;
	}
	s.rep = rep != REP_NONE;
	emit8(e, 0x65), emit8(e, 0xf6), emit8(e, 0x04), emit8(e, 0x25); /* test byte gs:[sys_flags + 1], DF */
	emit32(e, G(sys_flags) + 1);
	emit8(e, FLAG_DF >> 8);
	s.early[0] = emit_jcc(e, CC_NE);
	if (s.rep) {
		emit_alu_ri(e, ALU_CMP, 1, R_CX, (int32_t)(GUEST_PAGE_SIZE >> s.shift));
		s.early[1] = emit_jcc(e, CC_A);
	}
	if (kind == STRING_MOVS)
		emit_movs(&s);
	else
		emit_stos(&s);
	emit_string_slow(&s, kind, rep);
}

/*
 * A host fault at `code`: which guest registers are in the vCPU and not in the host's registers, a bit for each.
 * No fault comes after the first element.
 */
uint16_t string_fault(const uint8_t *code)
{
	while (*code == 0xf3 || *code == 0x66 || *code == 0x48)
		code++;
	switch (*code & 0xfe) {
	case 0xa4:
		return BIT(R_SI) | BIT(R_DI) | BIT(R_AX);
	case 0xaa:
		return BIT(R_DI) | BIT(R_SI);
	default:
		return 0;
	}
}

/* What bt_string() works on. */
struct string {
	struct vcpu *v;
	unsigned shift;
	enum string_kind kind;
	enum string_rep rep;
	uint16_t status;   /* of SCAS and CMPS, once something was compared */
};

static uint64_t host_page(struct vcpu *v, uint64_t lin, enum mmu_access access, enum mmu_mode mode, bool walk)
{
	const struct tlb_entry *e = (access == MMU_WRITE ? v->mmu.write : v->mmu.read)[mode] + tlb_index(lin);
	struct mmu_result r;

	if (likely(e->tag == (lin & ~PAGE_MASK)))
		return tlb_host(e);
	if (!canonical(lin))
		return 0;
	if (!mmu_refill(&v->mmu, lin, access, mode) && walk)
		mmu_translate(&v->mmu, lin, access, mode, &r); /* a fault is raised by who does it again */
	return e->tag == (lin & ~PAGE_MASK) ? tlb_host(e) : 0;
}

uint8_t *light_span(struct vcpu *v, uint64_t lin, enum mmu_access access, uint64_t *len)
{
	uint64_t page = host_page(v, lin, access, v->mmu_mode, true);
	uint64_t room = GUEST_PAGE_SIZE - (lin & PAGE_MASK), next = page;

	if (!page)
		return NULL;
	while (room < *len) {
		next += GUEST_PAGE_SIZE;
		if (host_page(v, lin + room, access, v->mmu_mode, false) != next)
			break;
		room += GUEST_PAGE_SIZE;
	}
	*len = min_u64(*len, room);
	return (uint8_t *)(page + (lin & PAGE_MASK));
}


/* `insn` with the suffix of the size */
#define SIZED(shift, insn, ...)                                                                            \
	do {                                                                                               \
		if ((shift) == 0)                                                                          \
			asm volatile(insn "b\n\tlahf\n\tseto %%al" __VA_ARGS__);                           \
		else if ((shift) == 1)                                                                     \
			asm volatile(insn "w\n\tlahf\n\tseto %%al" __VA_ARGS__);                           \
		else if ((shift) == 2)                                                                     \
			asm volatile(insn "l\n\tlahf\n\tseto %%al" __VA_ARGS__);                           \
		else                                                                                       \
			asm volatile(insn "q\n\tlahf\n\tseto %%al" __VA_ARGS__);                           \
	} while (0)

/* Runs it on up to n elements (one at least); returns how many were done. */
static uint64_t run_string(struct string *s, const uint8_t *src, uint8_t *dst, uint64_t n)
{
	uint64_t a = s->v->gpr[R_AX], left = n;

	switch (s->kind) {
	case STRING_MOVS:
		SIZED(s->shift, "rep movs", : "+S"(src), "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
		return n;
	case STRING_STOS:
		SIZED(s->shift, "rep stos", : "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
		return n;
	case STRING_LODS:
		cpu_set_reg(s->v, R_AX, 1u << s->shift, false, load_once(src, 1u << s->shift));
		return n;
	case STRING_SCAS:
		if (s->rep == REP_NE)
			SIZED(s->shift, "repne scas", : "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
		else
			SIZED(s->shift, "repe scas", : "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
		break;
	default:
		if (s->rep == REP_NE)
			SIZED(s->shift, "repne cmps", : "+S"(src), "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
		else
			SIZED(s->shift, "repe cmps", : "+S"(src), "+D"(dst), "+c"(left), "+a"(a) : : "memory", "cc");
	}
	s->status = a & 0xd501;
	return n - left;
}

static bool uses_source(const struct string *s)
{
	return s->kind == STRING_MOVS || s->kind == STRING_LODS || s->kind == STRING_CMPS;
}

/* As much of it as lies together in host memory; 0: the next element is the interpreter's. */
static uint64_t next_part(struct string *s, uint64_t count)
{
	struct vcpu *v = s->v;
	uint64_t len = min_u64(count, MAX_SPAN >> s->shift) << s->shift, n;
	uint8_t *src = NULL, *dst = NULL;

	if (uses_source(s)) {
		src = light_span(v, v->gpr[R_SI], MMU_READ, &len);
		if (!src)
			return 0;
	}
	if (s->kind != STRING_LODS) {
		dst = light_span(v, v->gpr[R_DI],
				 s->kind == STRING_MOVS || s->kind == STRING_STOS ? MMU_WRITE : MMU_READ, &len);
		if (!dst)
			return 0;
	}
	n = len >> s->shift;
	if (!n)
		return 0;
	n = run_string(s, src, dst, n);
	if (src)
		v->gpr[R_SI] += n << s->shift;
	if (dst)
		v->gpr[R_DI] += n << s->shift;
	return n;
}

/* SCAS and CMPS with REP: whether the last comparison ends it. */
static bool string_ended(const struct string *s)
{
	if (s->kind != STRING_SCAS && s->kind != STRING_CMPS)
		return false;
	return !(s->status & FLAG_ZF << 8) == (s->rep == REP_E);
}

static bool interpreters(const struct bt *bt, const struct string *s)
{
	return bt->v->sys_flags & FLAG_DF || bt->config->stress.slow_memory || !assist(bt, ASSIST_TLB) ||
	       (s->kind == STRING_LODS && s->rep != REP_NONE);
}

enum string_result string_run(struct vcpu *v, uint32_t arg)
{
	struct string s = {.v = v, .shift = arg >> 6 & 3, .kind = arg >> 8 & 7,
			   .rep = arg >> 11 & 3, .status = v->status};
	uint64_t n;

	if (interpreters(bt_of(v), &s))
		return STRING_INTERP;
	if (s.rep == REP_NONE) {
		if (!next_part(&s, 1))
			return STRING_INTERP;
		v->status = s.status;
		return STRING_DONE;
	}
	while (v->gpr[R_CX]) {
		n = next_part(&s, v->gpr[R_CX]);
		if (!n)
			return STRING_INTERP; /* with the flags from before: a fault must show those */
		v->gpr[R_CX] -= n;
		if (string_ended(&s))
			break;
		if (unlikely(v->poll) && v->gpr[R_CX]) {
			v->status = s.status;
			return STRING_INTERRUPTED;
		}
	}
	v->status = s.status;
	return STRING_DONE;
}
