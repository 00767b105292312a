/* block.c - 2 to 24 instructions in a row, forward skips aside; state is compared once, at the end.
 */
#include "emit.h"

static unsigned instructions(const struct gen *g, const struct diff_case *c)
{
	unsigned n = 0;
	struct insn in;

	for (size_t at = 0; at < c->code_len; at += in.z.length, n++)
		if (insn_decode(&g->dec, X86_MODE_64, c->code + at, c->code_len - at, &in) !=
		    DECODE_OK)
			break;
	return n;
}

void block_case(const struct gen *g, struct rng *r, struct diff_case *c)
{
	struct seq q = {g, r, c, chance(r, 85) ? BIT(R_SP) : 0};
	unsigned want = 2 + (unsigned)rnd_below(r, 23);

	c->mnemonic = ZYDIS_MNEMONIC_INVALID;
	c->warm = chance(r, 50);
	if (chance(r, 95))
		calm(c);
	c->rflags &= ~(uint64_t)FLAG_AC;
	if (chance(r, 80))
		c->rflags &= ~(uint64_t)FLAG_DF;
	for (unsigned t = 0; t < 24 && instructions(g, c) < want; t++)
		put_unit(&q);
}
