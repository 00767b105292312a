/*
 * translate.c - `ringer translate FILE:FUNCTION`: how the translator translates one function.
 *
 * The translator translates what is executed. To see a whole function, a small guest enters it at its first
 * instruction, and then wherever a block that was seen leads to: each time the first translated block stops the vCPU.
 * With --run another guest calls the function as a program would; what is translated there shows the way it took.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/run.h"
#include "cli/translate.h"

#define SECONDS 10
#define BLOCKS_MAX 100000
#define FILE_MAX GIB(1)

/* ---- what the engine shows ---- */

static bool keep(struct translate *t, const struct engine_block *b)
{
	size_t insns = b->n_insns * sizeof(*b->insn);
	struct kept_block *k;

	if (t->n_blocks == t->room) {
		size_t room = t->room ? 2 * t->room : 64;

		k = reallocarray(t->block, room, sizeof(*k));
		if (!k)
			return false;
		t->block = k;
		t->room = room;
	}
	k = &t->block[t->n_blocks];
	k->copy = malloc(insns + b->n_guest + b->n_host + 1);
	if (!k->copy)
		return false;
	memcpy(k->copy, b->insn, insns);
	memcpy(k->copy + insns, b->guest, b->n_guest);
	memcpy(k->copy + insns + b->n_guest, b->host, b->n_host);
	k->b = *b;
	t->n_blocks++;
	return true;
}

static void on_translated(void *ctx, const struct engine_block *b)
{
	struct translate *t = ctx;

	if (t->n_blocks >= BLOCKS_MAX || !keep(t, b))
		t->lost = true;
	if (t->exploring)
		vcpu_request(flat_vcpu(t->flat), CPU_REQ_STOP);
}

static void drop_blocks(struct translate *t)
{
	for (size_t i = 0; i < t->n_blocks; i++)
		free(t->block[i].copy);
	free(t->block);
	t->block = NULL;
	t->n_blocks = t->room = 0;
}

/* ---- the guest ---- */

static int load(struct translate *t, struct err *err)
{
	struct flat_config c = {.engine = t->engine, .config = &t->config,
				.user = t->call->o.translate.mode == 0};
	int rc = flat_load_size(&t->view, &c.ram, err);

	flat_free(t->flat);
	t->flat = NULL;
	if (!rc)
		rc = flat_new(&t->flat, &c, err);
	if (!rc)
		rc = flat_load(t->flat, &t->view, t->function, &t->fn, err);
	return rc;
}

/* Places to enter at, each once. */
struct worklist {
	uint64_t *rip;
	size_t n, done, room;
};

static void add_work(struct translate *t, struct worklist *w, uint64_t rip)
{
	if (!translate_inside(t, rip))
		return;
	for (size_t i = 0; i < w->n; i++)
		if (w->rip[i] == rip)
			return;
	if (w->n == w->room) {
		size_t room = w->room ? 2 * w->room : 64;
		uint64_t *p = reallocarray(w->rip, room, sizeof(*p));

		if (!p || room > BLOCKS_MAX) {
			t->lost = true;
			if (p)
				w->rip = p;
			return;
		}
		w->rip = p;
		w->room = room;
	}
	w->rip[w->n++] = rip;
}

/* Where the instruction at rip leads to: the target of a jump, and what follows the last one of a block. */
static void add_targets(struct translate *t, struct worklist *w, const struct insn *insn, uint64_t rip, bool last)
{
	uint64_t next = rip + insn->z.length;
	ZydisInstructionCategory kind = insn->z.meta.category;

	if (insn->z.raw.imm[0].is_relative && kind != ZYDIS_CATEGORY_CALL)
		add_work(t, w, next + (uint64_t)insn->z.raw.imm[0].value.s);
	if (last && kind != ZYDIS_CATEGORY_RET && kind != ZYDIS_CATEGORY_UNCOND_BR &&
	    insn->z.mnemonic != ZYDIS_MNEMONIC_UD2)
		add_work(t, w, next);
}

/* A block may go on behind a conditional jump: each of its instructions may lead out of it. */
static void add_successors(struct translate *t, struct worklist *w, const struct kept_block *k)
{
	const struct engine_block_insn *at = (const void *)k->copy;
	struct insn_decoder d;
	struct insn insn;

	insn_decoder_init(&d);
	for (unsigned i = 0; i < k->b.n_insns; i++) {
		unsigned off = at[i].guest_off;

		if (off < k->b.n_guest &&
		    insn_decode(&d, X86_MODE_64, kept_guest(k) + off, k->b.n_guest - off, &insn) == DECODE_OK)
			add_targets(t, w, &insn, k->b.rip + off, i + 1 == k->b.n_insns);
	}
}

/* Enters the function wherever its blocks lead to. */
static void explore(struct translate *t)
{
	struct worklist w = {0};

	t->exploring = true;
	add_work(t, &w, t->fn.addr);
	while (w.done < w.n && !t->lost) {
		size_t seen = t->n_blocks;
		struct flat_result r;

		flat_call(t->flat, w.rip[w.done++], t->arg, t->n_args, SECONDS, &r);
		for (size_t i = seen; i < t->n_blocks; i++)
			if (translate_inside(t, t->block[i].b.rip))
				add_successors(t, &w, &t->block[i]);
	}
	t->exploring = false;
	free(w.rip);
}

/* ---- the command ---- */

static int run_function(struct translate *t, struct err *err)
{
	struct engine_counter before[TRANSLATE_COUNTERS];
	struct flat_result r;
	unsigned n;
	int rc;

	drop_blocks(t);
	rc = load(t, err);
	if (rc)
		return rc;
	n = translate_counters(t, before);
	flat_call(t->flat, t->fn.addr, t->arg, t->n_args, SECONDS, &r);
	fprintf(t->cli->out, "%s(", t->function);
	for (unsigned i = 0; i < t->n_args; i++)
		fprintf(t->cli->out, "%s%s", i ? ", " : "", t->call->args[1 + i]);
	if (r.end != FLAT_RETURNED) {
		fprintf(t->cli->out, ") did not return\n");
		return err_set(err, ECANCELED, "%s: %s%s", t->function, r.reason,
			       r.rip - FLAT_UNRESOLVED_BASE < GUEST_PAGE_SIZE
				       ? ": it called what is not in the file" : "");
	}
	translate_print_result(t, &r);
	translate_print_path(t);
	translate_print_chains(t);
	translate_print_counters(t, before, n);
	return 0;
}

static int parse_integer(const char *text, uint64_t *value, struct err *err)
{
	bool negative = *text == '-';
	char *end;

	errno = 0;
	*value = strtoull(text + negative, &end, 0);
	if (end == text + negative || *end || errno || text[negative] == '-' || text[negative] == '+')
		return err_set(err, EINVAL, "translate: '%.64s' is no integer of 64 bits", text);
	if (negative)
		*value = -*value;
	return 0;
}

int translate_check(const struct cli_call *call, struct err *err)
{
	const char *colon = call->n_args ? strrchr(call->args[0], ':') : NULL;
	uint64_t value;
	int rc = 0;

	if (!call->n_args)
		return err_set(err, EINVAL, "translate: which function? For example: ringer translate prime.o:isPrime");
	if (!colon || colon == call->args[0] || !colon[1])
		return err_set(err, EINVAL, "translate: '%.128s' is not FILE:FUNCTION", call->args[0]);
	if (call->n_args > 1 && !call->o.translate.run)
		return err_set(err, EINVAL, "translate: '%.64s' is an argument of the function, which only --run calls",
			       call->args[1]);
	if (call->n_args - 1 > FLAT_ARGS)
		return err_set(err, EINVAL, "translate: at most %d arguments can be given", FLAT_ARGS);
	for (unsigned i = 1; i < call->n_args && !rc; i++)
		rc = parse_integer(call->args[i], &value, err);
	return rc;
}

/* -EINVAL when the engine has nothing to show. */
static int prepare(struct translate *t, struct err *err)
{
	const struct translate_options *o = &t->call->o.translate;
	const char *colon = strrchr(t->call->args[0], ':');
	struct boot_bytes bytes;
	int rc = engine_options_check(t->call, o->engine, &t->engine, err);

	snprintf(t->function, sizeof(t->function), "%s", colon + 1);
	for (unsigned i = 1; i < t->call->n_args && !rc; i++)
		rc = parse_integer(t->call->args[i], &t->arg[t->n_args++], err);
	if (rc)
		return rc;
	engine_options_fill(&o->bt, &t->config);
	if (t->engine->uses_config) {
		t->config.translated = on_translated;
		t->config.ctx = t;
	} else if (!o->run) {
		return err_set(err, EINVAL, "translate: engine %s does not translate; with --run it calls the function",
			       t->engine->name);
	}
	t->path = strndup(t->call->args[0], (size_t)(colon - t->call->args[0]));
	if (!t->path)
		return err_set(err, ENOMEM, "out of memory");
	rc = boot_file_read(&t->file, t->path, "object", FILE_MAX, err);
	bytes = (struct boot_bytes){t->file.data, t->file.size, t->path, NULL};
	return rc ? rc : elf_view_open(&t->view, &bytes, err);
}

int cmd_translate(struct cli *cli, const struct cli_call *call)
{
	struct translate t = {.cli = cli, .call = call};
	struct err err = {""};
	int rc = prepare(&t, &err);

	if (!rc)
		rc = load(&t, &err);
	if (!rc) {
		translate_print_unresolved(&t);
		translate_print_header(&t);
	}
	if (!rc && t.engine->uses_config) {
		explore(&t);
		translate_print_blocks(&t);
	}
	if (!rc && call->o.translate.run)
		rc = run_function(&t, &err);
	drop_blocks(&t);
	flat_free(t.flat);
	boot_file_free(&t.file);
	free((char *)t.path);
	return rc ? cli_fail(cli, run_setup_status(rc), "%s", err.text) : CLI_OK;
}
