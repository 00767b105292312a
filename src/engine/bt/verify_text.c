/* What verification tells when the translation and the interpreter differ. */
#include <stdarg.h>
#include <stdio.h>

#include "engine/bt/verify.h"

#define FIELD(name, f) {name, offsetof(struct vcpu, f), sizeof(((struct vcpu *)0)->f)}
#define GPR(name, i) {name, offsetof(struct vcpu, gpr) + (i) * 8, 8}
#define SEGMENT(name, s) FIELD(name, seg[s].sel), FIELD(name " attributes", seg[s].attr), \
	FIELD(name " limit", seg[s].limit), FIELD(name " base", seg[s].base)

const struct verify_field verify_fields[] = {
	GPR("rax", R_AX), GPR("rcx", R_CX), GPR("rdx", R_DX), GPR("rbx", R_BX),
	GPR("rsp", R_SP), GPR("rbp", R_BP), GPR("rsi", R_SI), GPR("rdi", R_DI),
	GPR("r8", 8), GPR("r9", 9), GPR("r10", 10), GPR("r11", 11),
	GPR("r12", 12), GPR("r13", 13), GPR("r14", 14), GPR("r15", 15),
	FIELD("rip", rip), FIELD("system flags", sys_flags), FIELD("cpl", cpl), FIELD("mode", mode),
	FIELD("mmu mode", mmu_mode), FIELD("alignment check", align_check), FIELD("cr0", cr0), FIELD("cr2", cr2),
	FIELD("cr3", cr3), FIELD("cr4", cr4), FIELD("efer", efer), FIELD("kernel gs base", kernel_gs_base),
	FIELD("debug traps", pending_db), FIELD("tsc aux", tsc_aux),
	SEGMENT("es", S_ES), SEGMENT("cs", S_CS), SEGMENT("ss", S_SS), SEGMENT("ds", S_DS), SEGMENT("fs", S_FS),
	SEGMENT("gs", S_GS),
};
const unsigned verify_field_count = ARRAY_SIZE(verify_fields);

struct text {
	char *p, *end;
};

static void printf_like(2, 3) put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p, (size_t)(t->end - t->p), fmt, ap);
	va_end(ap);
	t->p += n < 0 ? 0 : n >= t->end - t->p ? t->end - t->p - 1 : n;
}

static void put_values(struct text *t, const char *name, uint64_t start, uint64_t mine, uint64_t theirs)
{
	put(t, "%-16s %16llx %16llx ", name, (unsigned long long)start, (unsigned long long)mine);
	if (mine == theirs)
		put(t, "%16s\n", "=");
	else
		put(t, "%16llx  <-\n", (unsigned long long)theirs);
}

static uint64_t value(const uint8_t *p, unsigned at, unsigned size)
{
	uint64_t x = 0;

	memcpy(&x, p + at, size < 8 ? size : 8);
	return x;
}

static void put_registers(struct text *t, const struct verify *y)
{
	unsigned status = offsetof(struct vcpu, status);

	for (unsigned i = 0; i < verify_field_count; i++) {
		const struct verify_field *f = &verify_fields[i];

		if (i < 17 || value(y->mine.regs, f->at, f->size) != value(y->theirs.regs, f->at, f->size))
			put_values(t, f->name, value(y->start.regs, f->at, f->size),
				   value(y->mine.regs, f->at, f->size), value(y->theirs.regs, f->at, f->size));
	}
	put_values(t, "status (sf.cf:of)", value(y->start.regs, status, 2), value(y->mine.regs, status, 2),
		   value(y->theirs.regs, status, 2));
}

static void put_fpu(struct text *t, const struct verify *y)
{
	const uint8_t *s = (const uint8_t *)&y->start.fpu, *m = (const uint8_t *)&y->mine.fpu;
	const uint8_t *o = (const uint8_t *)&y->theirs.fpu;
	char name[32];

	for (unsigned i = 0; i < sizeof(struct fpu_state); i += 8) {
		unsigned zmm = i - (unsigned)offsetof(struct fpu_state, zmm);

		if (value(m, i, 8) == value(o, i, 8))
			continue;
		if (i < offsetof(struct fpu_state, zmm))
			snprintf(name, sizeof(name), "fxsave+%u", i);
		else if (i < offsetof(struct fpu_state, k))
			snprintf(name, sizeof(name), "zmm%u+%u", zmm / 64, zmm % 64);
		else
			snprintf(name, sizeof(name), "k%u", (i - (unsigned)offsetof(struct fpu_state, k)) / 8);
		put_values(t, name, value(s, i, 8), value(m, i, 8), value(o, i, 8));
	}
	put_values(t, "mxcsr", y->start.mxcsr, y->mine.mxcsr, y->theirs.mxcsr);
}

static void put_memory(struct text *t, const struct verify *y)
{
	char name[32];

	for (unsigned i = 0; i < y->n_spans; i++) {
		const struct verify_span *s = &y->span[i];

		for (unsigned off = 0; off < s->len; off += 8) {
			unsigned n = (unsigned)min_u64(8, s->len - off);

			if (!memcmp(y->my_bytes + s->at + off, y->their_bytes + s->at + off, n))
				continue;
			snprintf(name, sizeof(name), "[%llx]", (unsigned long long)s->gpa + off);
			put_values(t, name, value(y->old, s->at + off, n), value(y->my_bytes, s->at + off, n),
				   value(y->their_bytes, s->at + off, n));
		}
	}
}

void verify_report(struct bt *bt, const struct block *b, unsigned done, const char *what)
{
	static const char *const ends[] = {"", ", then left the block", "", ", then a fault", ", then a device", ""};
	struct verify *y = bt->verify;
	struct vcpu *v = bt->v;
	struct text t = {y->text, y->text + sizeof(y->text)};
	uint64_t rip = value(y->start.regs, offsetof(struct vcpu, rip), 8);
	const uint8_t *bytes = guest_ptr(v->mem, GPA(b->gpa), b->len);
	struct engine_block e = {.rip = rip - b->insn[y->from].guest_off, .gpa = b->gpa, .cpl = v->cpl,
				 .n_insns = b->n_insns, .guest = bytes, .n_guest = b->len,
				 .host = (const uint8_t *)cache_exec(bt, b->code), .n_host = b->code_len,
				 .insn = b->insn};

	cpu_fpu_spill(v);
	put(&t, "the translation of the block at %llx differs from the interpreter in %s\n", (unsigned long long)e.rip,
	    what);
	put(&t, "from instruction %u at %llx on: interpreter %u instruction%s%s, translation %u\n", y->from,
	    (unsigned long long)rip, y->done, y->done == 1 ? "" : "s", ends[y->end], done);
	put(&t, "%-16s %16s %16s %16s\n", "", "start", "interpreter", "translation");
	put_registers(&t, y);
	if (y->block[b->id]->fpu)
		put_fpu(&t, y);
	put_memory(&t, y);
	snprintf(v->stop_reason, sizeof(v->stop_reason),
		 "verification: the translation of the block at %llx differs from the interpreter in %s",
		 (unsigned long long)e.rip, what);
	bt->failed = true;
	if (bt->config->report && bytes)
		bt->config->report(bt->config->report_ctx, &e, y->text);
}
