/* shrink.c - see shrink.h. */
#include <string.h>

#include "shrink.h"

enum { MAX_STUCK = 8, MAX_INSNS = DIFF_CASE_CODE };

struct pieces {
	uint16_t at[MAX_INSNS + 1];
	unsigned n;
	bool pinned; /* those may go, too */
};

static bool is_pinned(const struct diff_case *c, unsigned at)
{
	return c->pinned[at / 8] >> at % 8 & 1;
}

/* Starts of instructions as they follow each other; bytes that are none stand alone. */
static void split(const struct diff_case *c, struct pieces *p)
{
	struct insn_decoder dec;
	struct insn in;
	unsigned at = 0;

	insn_decoder_init(&dec);
	p->n = 0;
	while (at < c->code_len && p->n < MAX_INSNS) {
		bool ok = insn_decode(&dec, c->mode, c->code + at, c->code_len - at, &in) ==
			  DECODE_OK;

		p->at[p->n++] = (uint16_t)at;
		at += ok ? in.z.length : 1;
	}
	p->at[p->n] = c->code_len;
}

static bool is_nop(const struct diff_case *c, const struct pieces *p, unsigned i)
{
	return p->at[i + 1] - p->at[i] == 1 && c->code[p->at[i]] == 0x90;
}

unsigned shrink_size(const struct diff_case *c)
{
	struct pieces p;
	unsigned n = 0;

	split(c, &p);
	for (unsigned i = 0; i < p.n; i++)
		n += !is_nop(c, &p, i);
	return n;
}

static bool shows(struct trial *t, const struct diff_case *c)
{
	return t->count++ < SHRINK_TRIALS && t->shows(t->ctx, c);
}

/* Tries the case without `n` pieces from `first`. */
static bool drop(struct trial *t, struct diff_case *c, const struct pieces *p, unsigned first,
		 unsigned n)
{
	struct diff_case less = *c;
	bool any = false;

	for (unsigned i = first; i < first + n && i < p->n; i++) {
		if ((!p->pinned && is_pinned(c, p->at[i])) || is_nop(c, p, i))
			continue;
		memset(less.code + p->at[i], 0x90, p->at[i + 1] - p->at[i]);
		any = true;
	}
	if (!any || (p->pinned && t->stuck > MAX_STUCK) || !shows(t, &less))
		return false;
	*c = less;
	return true;
}

static void drop_code(struct trial *t, struct diff_case *c, bool pinned)
{
	struct pieces p = {.pinned = pinned};
	bool again = true;

	split(c, &p);
	for (unsigned chunk = (p.n + 1) / 2; chunk > 1; chunk /= 2)
		for (unsigned i = 0; i < p.n; i += chunk)
			drop(t, c, &p, i, chunk);
	for (unsigned round = 0; again && round < 4; round++) {
		again = false;
		split(c, &p);
		for (unsigned i = p.n; i-- > 0;)
			again |= drop(t, c, &p, i, 1);
	}
}

/* NOPs at the end go, so that the exit comes right after the last instruction. */
static void cut_tail(struct trial *t, struct diff_case *c)
{
	struct diff_case less = *c;

	while (less.code_len && less.code[less.code_len - 1] == 0x90)
		less.code_len--;
	if (less.code_len != c->code_len && shows(t, &less))
		*c = less;
}

static void try_state(struct trial *t, struct diff_case *c, const struct diff_case *less)
{
	if (memcmp(less, c, sizeof(*c)) && shows(t, less))
		*c = *less;
}

static void empty_state(struct trial *t, struct diff_case *c)
{
	struct diff_case less;

	for (unsigned i = 0; i < 16; i++) {
		less = *c;
		less.gpr[i] = 0;
		if (i != R_SP)
			try_state(t, c, &less);
	}
	less = *c;
	less.rflags = FLAG_1 | FLAG_IF;
	try_state(t, c, &less);
	less = *c;
	memset(less.fpu.zmm, 0, sizeof(less.fpu.zmm));
	memset(less.fpu.k, 0, sizeof(less.fpu.k));
	try_state(t, c, &less);
	less = *c;
	less.warm = false;
	try_state(t, c, &less);
	for (unsigned i = c->npokes; i-- > 0;) {
		less = *c;
		less.poke[i] = less.poke[--less.npokes];
		try_state(t, c, &less);
	}
}

void shrink(struct trial *t, struct diff_case *c)
{
	if (!c->with_exit || c->kind < DIFF_SEQUENCE)
		return;
	drop_code(t, c, false);
	drop_code(t, c, true);
	empty_state(t, c);
	drop_code(t, c, true);
	cut_tail(t, c);
}

unsigned shrink_first(struct trial *t, const struct diff_case *c)
{
	struct pieces p;

	split(c, &p);
	if (c->kind != DIFF_BLOCK || !c->with_exit)
		return c->code_len;
	for (unsigned i = 0; i < p.n; i++) {
		struct diff_case less = *c;

		less.code_len = p.at[i + 1];
		if (!is_nop(c, &p, i) && shows(t, &less))
			return p.at[i];
	}
	return c->code_len;
}
