#include <stdlib.h>
#include <string.h>

#include "cli/blocktext.h"
#include "cli/translate.h"

static int by_rip(const void *a, const void *b)
{
	const struct kept_block *x = a, *y = b;

	return x->b.rip < y->b.rip ? -1 : x->b.rip > y->b.rip;
}

void translate_print_blocks(struct translate *t)
{
	struct blocktext text;
	unsigned guest = 0, host = 0;
	char name[320];

	blocktext_init(&text);
	qsort(t->block, t->n_blocks, sizeof(*t->block), by_rip);
	for (size_t i = 0; i < t->n_blocks; i++) {
		struct engine_block b = t->block[i].b;
		uint64_t off = b.rip - t->fn.addr;

		if (!translate_inside(t, b.rip) || (i && t->block[i - 1].b.rip == b.rip))
			continue;
		/* The host code is shown as where it ran, from the copy: its own bytes may have changed by linking. */
		b.insn = (const void *)t->block[i].copy;
		b.guest = kept_guest(&t->block[i]);
		snprintf(name, sizeof(name), off ? "%.200s+%#llx" : "%.200s", t->function,
			 (unsigned long long)off);
		blocktext_print(&text, &b, b.guest + b.n_guest, X86_MODE_64, name, "\n", t->cli->out);
		guest += b.n_guest;
		host += b.n_host;
	}
	fprintf(t->cli->out, "%u bytes of guest code (blocks may share some), %u bytes of host code\n", guest,
		host);
	if (t->lost)
		fprintf(t->cli->out, "not all blocks are shown: there are too many\n");
}

/* What is not there matters only to a function that uses it. */
void translate_print_unresolved(struct translate *t)
{
	if (t->fn.n_dynamic)
		fprintf(t->cli->err, "ringer: translate: %u places of the file need a dynamic linker, and got none\n",
			t->fn.n_dynamic);
	if (!t->fn.n_unresolved)
		return;
	fprintf(t->cli->err, "ringer: translate: not in the file, and a HLT at %#llx instead:",
		FLAT_UNRESOLVED_BASE);
	for (unsigned i = 0; i < t->fn.n_unresolved; i++)
		fprintf(t->cli->err, " %s", t->fn.unresolved[i]);
	fprintf(t->cli->err, "%s\n", t->fn.n_unresolved == FLAT_UNRESOLVED ? " ..." : "");
}

void translate_print_header(struct translate *t)
{
	fprintf(t->cli->out, "%s of %s: %llu bytes at %#llx, %s mode, engine %s\n\n", t->function, t->path,
		(unsigned long long)t->fn.size, (unsigned long long)t->fn.addr,
		t->call->o.translate.mode == 0 ? "user" : "kernel", t->engine->name);
}

unsigned translate_counters(struct translate *t, struct engine_counter *c)
{
	unsigned n = t->engine->counters ? t->engine->counters(flat_vcpu(t->flat), c, TRANSLATE_COUNTERS) : 0;

	return (unsigned)min_u64(n, TRANSLATE_COUNTERS);
}

/* How often each of the engine's counters went up during the run. */
void translate_print_counters(struct translate *t, const struct engine_counter *before, unsigned n_before)
{
	struct engine_counter after[TRANSLATE_COUNTERS];
	unsigned n = translate_counters(t, after);

	if (n)
		fputs("counted by the engine, with the HLT at the end:\n", t->cli->out);
	for (unsigned i = 0; i < n && i < n_before; i++)
		if (after[i].value > before[i].value && strcmp(after[i].unit, "tsc"))
			fprintf(t->cli->out, "  %-28s %llu%s%s\n", after[i].text,
				(unsigned long long)(after[i].value - before[i].value),
				*after[i].unit ? " " : "", after[i].unit);
}

/* But for the guest's own code, to which the function returns. */
void translate_print_path(struct translate *t)
{
	unsigned n = 0;

	for (size_t i = 0; i < t->n_blocks; i++) {
		uint64_t rip = t->block[i].b.rip;

		if (rip >= FLAT_OWN)
			continue;
		fprintf(t->cli->out, n++ ? ", " : "translated, in this order: ");
		if (translate_inside(t, rip))
			fprintf(t->cli->out, "+%#llx", (unsigned long long)(rip - t->fn.addr));
		else
			fprintf(t->cli->out, "%#llx", (unsigned long long)rip);
	}
	if (n)
		fputc('\n', t->cli->out);
}

/* Where host code from..to of a block jumps out of it now, and to which block: chained, or NULL. */
static const struct kept_block *jump_target(const struct translate *t, const struct kept_block *k,
					    const struct insn *insn, unsigned off)
{
	uint64_t host = (uint64_t)(uintptr_t)k->b.host;
	uint64_t to = host + off + insn->z.length + (uint64_t)insn->z.raw.imm[0].value.s;

	if (!insn->z.raw.imm[0].is_relative || to - host < k->b.n_host)
		return NULL;
	for (size_t i = 0; i < t->n_blocks; i++)
		if (to - (uint64_t)(uintptr_t)t->block[i].b.host < t->block[i].b.n_host)
			return &t->block[i];
	return NULL;
}

/* A jump back to one of the block's own entries, before its first instruction, stays within it. */
static bool loops(const struct kept_block *k, const struct insn *insn, unsigned off)
{
	uint64_t to = off + insn->z.length + (uint64_t)insn->z.raw.imm[0].value.s;

	return insn->z.raw.imm[0].is_relative && insn->z.meta.category == ZYDIS_CATEGORY_COND_BR &&
	       to < k->b.insn[0].host_off;
}

static void print_chains_of(struct translate *t, const struct insn_decoder *d, const struct kept_block *k)
{
	struct insn insn;

	for (unsigned off = 0; off < k->b.n_host; off += insn.z.length) {
		const struct kept_block *to;

		if (insn_decode(d, X86_MODE_64, k->b.host + off, k->b.n_host - off, &insn) != DECODE_OK)
			return; /* data */
		to = loops(k, &insn, off) ? k : jump_target(t, k, &insn, off);
		if (to && to->b.rip < FLAT_OWN)
			fprintf(t->cli->out, "chained: +%#llx to +%#llx, by the %s at %x of its host code\n",
				(unsigned long long)(k->b.rip - t->fn.addr),
				(unsigned long long)(to->b.rip - t->fn.addr),
				ZydisMnemonicGetString(insn.z.mnemonic), off);
	}
}

void translate_print_chains(struct translate *t)
{
	struct insn_decoder d;

	insn_decoder_init(&d);
	for (size_t i = 0; i < t->n_blocks && i < 1000; i++)
		if (translate_inside(t, t->block[i].b.rip))
			print_chains_of(t, &d, &t->block[i]);
}

void translate_print_result(struct translate *t, const struct flat_result *r)
{
	fprintf(t->cli->out, ") = %lld (%#llx)", (long long)r->rax, (unsigned long long)r->rax);
	if (!t->engine->uses_config)
		fprintf(t->cli->out, ", %llu instructions", (unsigned long long)r->insns);
	fputc('\n', t->cli->out);
}
