/* print.c - cases and results for people: first of all for whoever debugs a mismatch. */
#include <inttypes.h>
#include <string.h>

#include "case.h"

/* Whether a direct branch, or a jump table, goes to each byte of the code. */
static void find_targets(const struct diff_case *c, bool *target)
{
	uint64_t start = DIFF_CODE + c->code_off;
	struct insn_decoder dec;
	struct insn in;
	size_t len;

	insn_decoder_init(&dec);
	for (size_t at = 0; at < c->code_len; at += len) {
		bool ok = insn_decode(&dec, c->mode, c->code + at, c->code_len - at, &in) ==
			  DECODE_OK;
		uint64_t to;

		len = ok ? in.z.length : 1;
		if (!ok || !in.z.raw.imm[0].is_relative)
			continue;
		to = at + len + in.z.raw.imm[0].value.u;
		if (to < c->code_len)
			target[to] = true;
	}
	for (unsigned i = 0; i < c->npokes; i++)
		if (c->poke[i].value - start < c->code_len)
			target[c->poke[i].value - start] = true;
}

void case_disassemble(const struct diff_case *c, bool shrunk, FILE *out)
{
	ZydisMachineMode mode =
		c->mode == X86_MODE_64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32;
	uint64_t ip = DIFF_CODE + c->code_off;
	bool target[DIFF_CASE_CODE] = {0}, gap = false;
	ZydisDisassembledInstruction d;
	size_t len;

	find_targets(c, target);
	for (size_t at = 0; at < c->code_len; at += len) {
		bool ok = ZYAN_SUCCESS(
			ZydisDisassembleIntel(mode, ip + at, c->code + at, c->code_len - at, &d));

		len = ok ? d.info.length : 1;
		if (shrunk && c->code[at] == 0x90 && !target[at]) {
			gap = true;
			continue;
		}
		fprintf(out, "  %08" PRIx64 "%c%c ", ip + at, target[at] ? '>' : ' ',
			gap ? '~' : ' ');
		gap = false;
		for (size_t i = 0; i < len; i++)
			fprintf(out, "%02x", c->code[at + i]);
		fprintf(out, "%*s  %s\n", len > 11 ? 1 : (int)(22 - 2 * len), "",
			ok ? d.text : "(bad)");
	}
}

static const char *flag_names(uint64_t rflags, char buf[32])
{
	static const struct {
		uint64_t bit;
		const char *name;
	} row[] = {{FLAG_OF, "O"}, {FLAG_DF, "D"}, {FLAG_SF, "S"},  {FLAG_ZF, "Z"}, {FLAG_AF, "A"},
		   {FLAG_PF, "P"}, {FLAG_CF, "C"}, {FLAG_AC, "ac"}, {FLAG_TF, "tf"}};

	buf[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++)
		strcat(buf, rflags & row[i].bit ? row[i].name : "-");
	return buf;
}

static void print_row(const char *name, uint64_t s, uint64_t a, uint64_t b, FILE *out)
{
	fprintf(out, "  %-4s %16" PRIx64 " %16" PRIx64 " ", name, s, a);
	if (a == b)
		fprintf(out, "%16s\n", "=");
	else
		fprintf(out, "%16" PRIx64 "  <-\n", b);
}

void results_print(const struct diff_case *c, const struct diff_result *a,
		   const struct diff_result *b, FILE *out)
{
	char f[3][32];

	fprintf(out, "  %-4s %16s %16s %16s\n", "", "start", "native", "engine");
	for (unsigned i = 0; i < (c->mode == X86_MODE_64 ? 16 : 8); i++)
		if (c->gpr[i] || a->gpr[i] || b->gpr[i])
			print_row(gpr_name[i], c->gpr[i], a->gpr[i], b->gpr[i], out);
	print_row("rip", DIFF_CODE + c->code_off, a->rip, b->rip, out);
	print_row("rfl", c->rflags, a->rflags & ~(uint64_t)FLAG_RF, b->rflags & ~(uint64_t)FLAG_RF,
		  out);
	fprintf(out, "  %-4s %16s %16s %16s\n", "", flag_names(c->rflags, f[0]),
		flag_names(a->rflags, f[1]), flag_names(b->rflags, f[2]));
	if (a->outcome == OUT_FAULT || b->outcome == OUT_FAULT) {
		print_row("vec", 0, a->vector, b->vector, out);
		print_row("err", 0, a->error, b->error, out);
		print_row("cr2", 0, a->cr2, b->cr2, out);
	}
	fprintf(out, "  fs_base %" PRIx64 " gs_base %" PRIx64 " template %u%s%s\n", c->fs_base,
		c->gs_base, c->template, c->warm ? ", second run" : "",
		c->smc ? ", writes its code" : "");
	for (unsigned i = 0; i < c->npokes; i++)
		fprintf(out, "%s[%" PRIx64 "]=%" PRIx64 "%s", i % 4 ? " " : "  ", c->poke[i].addr,
			c->poke[i].value, i % 4 == 3 || i + 1 == c->npokes ? "\n" : "");
}

static void print_regs(const uint64_t *gpr, FILE *out)
{
	for (unsigned i = 0; i < 16; i++)
		fprintf(out, "  %-3s %016" PRIx64 "%s", gpr_name[i], gpr[i],
			i % 4 == 3 ? "\n" : "");
}

static void print_fpu(const struct diff_fpu *f, FILE *out)
{
	fprintf(out,
		"  fcw %04" PRIx64 " fsw %04" PRIx64 " ftw %02x fop %03" PRIx64 " fip %" PRIx64
		" fdp %" PRIx64 " mxcsr %" PRIx64 "\n",
		fpu_field(f->fx, 0, 2), fpu_field(f->fx, 2, 2), f->fx[4], fpu_field(f->fx, 6, 2),
		fpu_field(f->fx, 8, 8), fpu_field(f->fx, 16, 8), fpu_field(f->fx, 24, 4));
	for (unsigned i = 0; i < 8; i++)
		fprintf(out, "  st%u %04" PRIx64 ":%016" PRIx64 "  k%u %016" PRIx64 "\n", i,
			fpu_field(f->fx, 40 + 16 * i, 2), fpu_field(f->fx, 32 + 16 * i, 8), i,
			f->k[i]);
	for (unsigned i = 0; i < 32; i++) {
		fprintf(out, "  zmm%-2u", i);
		for (unsigned j = 8; j-- > 0;)
			fprintf(out, " %016" PRIx64, fpu_field(f->zmm[i], 8 * j, 8));
		fprintf(out, "\n");
	}
}

void case_print(const struct diff_case *c, FILE *out)
{
	static const char *const kind[] = {"form", "mutated", "sequence", "block", "loop"};

	fprintf(out, "case %" PRIu64 " (%s, %s-bit mode), code at %x:\n", c->number, kind[c->kind],
		c->mode == X86_MODE_64 ? "64" : "32", DIFF_CODE + c->code_off);
	case_disassemble(c, false, out);
	fprintf(out, "start:\n");
	print_regs(c->gpr, out);
	fprintf(out,
		"  rflags %" PRIx64 "  fs_base %" PRIx64 "  gs_base %" PRIx64 "  template %u\n",
		c->rflags, c->fs_base, c->gs_base, c->template);
	for (unsigned i = 0; i < c->npokes; i++)
		fprintf(out, "  [%" PRIx64 "] = %" PRIx64 " (%u bytes)\n", c->poke[i].addr,
			c->poke[i].value, c->poke[i].len);
	if (c->image < DIFF_IMAGES)
		fprintf(out, "  [%" PRIx64 "] = XSAVE image %u\n", c->image_addr, c->image);
	print_fpu(&c->fpu, out);
}

void result_print(const struct diff_result *r, const char *who, FILE *out)
{
	static const char *const outcome[] = {"did not run", "exit", "fault", "timeout", "broken"};

	fprintf(out, "%s: %s", who, outcome[r->outcome]);
	if (r->outcome == OUT_FAULT)
		fprintf(out, " vector %u error %x cr2 %" PRIx64, r->vector, r->error, r->cr2);
	fprintf(out, " %s\n", r->outcome == OUT_BROKEN ? r->why : "");
	if (r->outcome != OUT_EXIT && r->outcome != OUT_FAULT)
		return;
	print_regs(r->gpr, out);
	fprintf(out, "  rip %" PRIx64 "  rflags %" PRIx64 "  cs %x ss %x ds %x es %x fs %x gs %x",
		r->rip, r->rflags, r->cs, r->ss, r->ds, r->es, r->fs, r->gs);
	fprintf(out, "  fs_base %" PRIx64 "  gs_base %" PRIx64 "\n", r->fs_base, r->gs_base);
	print_fpu(&r->fpu, out);
	for (uint32_t i = 0; i < r->ndirty && i < DIFF_DIRTY_MAX; i++) {
		fprintf(out, "  [%" PRIx64 "]", line_va(r->dirty[i].index));
		for (unsigned j = 8; j-- > 0;)
			fprintf(out, " %016" PRIx64, fpu_field(r->dirty[i].data, 8 * j, 8));
		fprintf(out, "\n");
	}
}
