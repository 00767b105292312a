#include "cli/blocktext.h"

#include <string.h>

#define GUEST_BYTES 22 /* columns */
#define GUEST_TEXT 36

void blocktext_init(struct blocktext *t)
{
	insn_decoder_init(&t->decoder);
	ZydisFormatterInit(&t->formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	/* 0x10 rather than 0x0000000000000010. */
	ZydisFormatterSetProperty(&t->formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&t->formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&t->formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&t->formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
}

unsigned blocktext_insn(const struct blocktext *t, enum x86_mode mode, const uint8_t *bytes, size_t len,
			uint64_t addr, char *text, size_t text_len)
{
	struct insn insn;

	snprintf(text, text_len, "(bad)");
	if (insn_decode(&t->decoder, mode, bytes, len, &insn) != DECODE_OK)
		return 1;
	ZydisFormatterFormatInstruction(&t->formatter, &insn.z, insn.op, insn.z.operand_count_visible, text,
					text_len, addr, ZYAN_NULL);
	return insn.z.length;
}

/* The left column; NULL text leaves it empty. */
static void guest_column(FILE *out, unsigned off, const uint8_t *bytes, unsigned n, const char *text)
{
	char hex[3 * X86_INSN_MAX + 1] = "";

	if (!text) {
		fprintf(out, "%*s| ", 6 + GUEST_BYTES + 1 + GUEST_TEXT, "");
		return;
	}
	for (unsigned i = 0; i < n && i < X86_INSN_MAX; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	fprintf(out, "%4x  %-*s %-*s | ", off, GUEST_BYTES, hex, GUEST_TEXT - 1, text);
}

/* Jumps within the block have its offsets as targets, as the lines have; all others have addresses. */
static unsigned host_insn(const struct blocktext *t, const struct engine_block *b, const uint8_t *code,
			  unsigned from, unsigned to, char *text, size_t text_len)
{
	uint64_t base = (uint64_t)(uintptr_t)b->host;
	struct insn insn;

	if (insn_decode(&t->decoder, X86_MODE_64, code + from, to - from, &insn) == DECODE_OK &&
	    insn.z.raw.imm[0].is_relative &&
	    from + insn.z.length + (uint64_t)insn.z.raw.imm[0].value.s < b->n_host)
		base = 0;
	return blocktext_insn(t, X86_MODE_64, code + from, to - from, base + from, text, text_len);
}

/* Host code from..to beside one guest instruction (n_guest bytes; 0: beside none). */
static void print_rows(const struct blocktext *t, const struct engine_block *b, const uint8_t *code,
		       enum x86_mode mode, unsigned guest, unsigned n_guest, unsigned from, unsigned to, const char *eol,
		       FILE *out)
{
	char text[160];
	bool first = n_guest > 0;

	if (first)
		blocktext_insn(t, mode, b->guest + guest, n_guest, b->rip + guest, text, sizeof(text));
	while (first || from < to) {
		guest_column(out, guest, b->guest + guest, n_guest, first ? text : NULL);
		first = false;
		if (from < to) {
			unsigned n = host_insn(t, b, code, from, to, text, sizeof(text));

			fprintf(out, "%4x  %s", from, text);
			from += n;
		}
		fputs(eol, out);
	}
}

void blocktext_print(const struct blocktext *t, const struct engine_block *b, const uint8_t *code,
		     enum x86_mode mode, const char *name, const char *eol, FILE *out)
{
	fprintf(out, "block %llx%s%s, %s, %u instruction%s, %u bytes; host %llx, %u bytes%s",
		(unsigned long long)b->rip, *name ? " " : "", name, b->cpl == 3 ? "user" : "kernel",
		b->n_insns, b->n_insns == 1 ? "" : "s", b->n_guest,
		(unsigned long long)(uintptr_t)b->host, b->n_host, eol);
	if (b->n_insns && b->insn[0].host_off)
		print_rows(t, b, code, mode, 0, 0, 0,
			   (unsigned)min_u64(b->insn[0].host_off, b->n_host), eol, out);
	for (unsigned i = 0; i < b->n_insns; i++) {
		bool last = i + 1 == b->n_insns;
		unsigned guest = b->insn[i].guest_off, host = b->insn[i].host_off;
		unsigned guest_end = last ? b->n_guest : b->insn[i + 1].guest_off;
		unsigned host_end = last ? b->n_host : b->insn[i + 1].host_off;

		if (guest >= guest_end || guest_end > b->n_guest || host_end > b->n_host)
			break; /* not a description of a block */
		print_rows(t, b, code, mode, guest, guest_end - guest, host, host_end, eol, out);
	}
	fputs(eol, out);
}
