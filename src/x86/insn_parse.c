/*
 * insn_parse.c - a small assembler for `ringer insn`: prefixes, mnemonic, operands.
 *
 * The encoder knows which operands a mnemonic takes; this file only reads them. What the text leaves open is
 * found by trying: the size of a memory operand without "dword ptr", the mask register AVX-512 forms carry,
 * and, for a bare mnemonic, every combination of a few typical operands.
 */
#include "x86/insn_parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/suggest.h"

struct parse {
	ZydisEncoderRequest req;
	bool size_open[ZYDIS_ENCODER_MAX_OPERANDS]; /* memory operand of unstated size */
	bool example;
};

/* Names the manuals use that the decoder does not, and those that depend on the mode. */
static const struct alias {
	const char *name;
	const char *means[3]; /* by enum x86_mode */
} aliases[] = {
	{ "popf", { "popf", "popfd", "popfq" } }, { "pushf", { "pushf", "pushfd", "pushfq" } },
	{ "iret", { "iret", "iretd", "iretd" } }, { "retn", { "ret", "ret", "ret" } },
	{ "je", { "jz", "jz", "jz" } }, { "jne", { "jnz", "jnz", "jnz" } }, { "ja", { "jnbe", "jnbe", "jnbe" } },
	{ "jae", { "jnb", "jnb", "jnb" } }, { "jc", { "jb", "jb", "jb" } }, { "jnc", { "jnb", "jnb", "jnb" } },
	{ "jna", { "jbe", "jbe", "jbe" } }, { "jnae", { "jb", "jb", "jb" } }, { "jg", { "jnle", "jnle", "jnle" } },
	{ "jge", { "jnl", "jnl", "jnl" } }, { "jng", { "jle", "jle", "jle" } }, { "jnge", { "jl", "jl", "jl" } },
	{ "jpe", { "jp", "jp", "jp" } }, { "jpo", { "jnp", "jnp", "jnp" } },
	{ "sete", { "setz", "setz", "setz" } }, { "setne", { "setnz", "setnz", "setnz" } },
	{ "seta", { "setnbe", "setnbe", "setnbe" } }, { "setae", { "setnb", "setnb", "setnb" } },
	{ "setc", { "setb", "setb", "setb" } }, { "setnc", { "setnb", "setnb", "setnb" } },
	{ "setg", { "setnle", "setnle", "setnle" } }, { "setge", { "setnl", "setnl", "setnl" } },
	{ "cmove", { "cmovz", "cmovz", "cmovz" } }, { "cmovne", { "cmovnz", "cmovnz", "cmovnz" } },
	{ "cmova", { "cmovnbe", "cmovnbe", "cmovnbe" } }, { "cmovae", { "cmovnb", "cmovnb", "cmovnb" } },
	{ "cmovc", { "cmovb", "cmovb", "cmovb" } }, { "cmovg", { "cmovnle", "cmovnle", "cmovnle" } },
	{ "cmovge", { "cmovnl", "cmovnl", "cmovnl" } }, { "sal", { "shl", "shl", "shl" } },
	{ "loopz", { "loope", "loope", "loope" } }, { "loopnz", { "loopne", "loopne", "loopne" } },
	{ "wait", { "fwait", "fwait", "fwait" } }, { "xlatb", { "xlat", "xlat", "xlat" } },
	{ "icebp", { "int1", "int1", "int1" } }, { "sysretq", { "sysret", "sysret", "sysret" } },
	{ "movabs", { "mov", "mov", "mov" } }, { "sysexitq", { "sysexit", "sysexit", "sysexit" } },
	{ "retf", { "ret", "ret", "ret" } },
};

static const struct {
	const char *name;
	ZydisInstructionAttributes attr;
} prefixes[] = {
	{ "lock", ZYDIS_ATTRIB_HAS_LOCK }, { "rep", ZYDIS_ATTRIB_HAS_REP }, { "repe", ZYDIS_ATTRIB_HAS_REPE },
	{ "repz", ZYDIS_ATTRIB_HAS_REPE }, { "repne", ZYDIS_ATTRIB_HAS_REPNE },
	{ "repnz", ZYDIS_ATTRIB_HAS_REPNE },
};

static const struct {
	const char *name;
	uint16_t bytes;
} sizes[] = {
	{ "byte", 1 }, { "word", 2 }, { "dword", 4 }, { "qword", 8 }, { "tbyte", 10 }, { "xmmword", 16 },
	{ "oword", 16 }, { "ymmword", 32 }, { "zmmword", 64 }, { "fword", 6 },
};

static const char *skip_space(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

/* Reads a word of letters, digits and underscores, lower-cased and cut to size; returns what follows it. */
static const char *take_word(const char *p, char *word, size_t size)
{
	size_t n = 0;

	p = skip_space(p);
	for (; isalnum((unsigned char)*p) || *p == '_'; p++)
		if (n + 1 < size)
			word[n++] = (char)tolower((unsigned char)*p);
	word[n] = '\0';
	return skip_space(p);
}

static ZydisRegister find_register(const char *name)
{
	for (int r = 1; r <= ZYDIS_REGISTER_MAX_VALUE; r++) {
		const char *s = ZydisRegisterGetString((ZydisRegister)r);

		if (s && !strcasecmp(s, name))
			return (ZydisRegister)r;
	}
	return ZYDIS_REGISTER_NONE;
}

static int find_mnemonic(const char *name, enum x86_mode mode, ZydisMnemonic *out, struct err *err)
{
	const char *names[ZYDIS_MNEMONIC_MAX_VALUE + 1 + ARRAY_SIZE(aliases)], *near;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		names[n++] = aliases[i].name;
		if (!strcmp(name, aliases[i].name)) {
			name = aliases[i].means[mode];
			break;
		}
	}
	for (int m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		names[n] = ZydisMnemonicGetString((ZydisMnemonic)m);
		if (names[n] && !strcmp(names[n], name)) {
			*out = (ZydisMnemonic)m;
			return 0;
		}
		n++;
	}
	near = suggest(name, names, n);
	if (near)
		return err_set(err, EINVAL, "unknown instruction \"%s\", did you mean \"%s\"?", name, near);
	return err_set(err, EINVAL, "unknown instruction \"%s\"", name);
}

static bool take_number(const char **p, int64_t *v)
{
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)**p) && **p != '-' && **p != '+')
		return false;
	*v = **p == '-' ? (int64_t)strtoll(*p, &end, 0) : (int64_t)strtoull(*p, &end, 0);
	if (end == *p || errno)
		return false;
	*p = skip_space(end);
	return true;
}

/* One "reg", "reg*scale" or number of an address, with its sign already known. */
static int address_term(struct ZydisEncoderOperandMem_ *mem, const char **p, bool minus, struct err *err)
{
	char word[16];
	ZydisRegister reg;
	int64_t v;

	if (isdigit((unsigned char)**p)) {
		if (!take_number(p, &v))
			return err_set(err, EINVAL, "bad number in an address");
		mem->displacement = (int64_t)((uint64_t)mem->displacement + (minus ? -(uint64_t)v : (uint64_t)v));
		return 0;
	}
	*p = take_word(*p, word, sizeof(word));
	reg = find_register(word);
	if (reg == ZYDIS_REGISTER_NONE || minus)
		return err_set(err, EINVAL, "bad address at \"%s\"", word);
	if (**p == '*') {
		*p = skip_space(*p + 1);
		if (!take_number(p, &v) || mem->index != ZYDIS_REGISTER_NONE)
			return err_set(err, EINVAL, "bad scale in an address");
		mem->index = reg;
		mem->scale = (ZyanU8)v;
	} else if (mem->base == ZYDIS_REGISTER_NONE) {
		mem->base = reg;
	} else if (mem->index == ZYDIS_REGISTER_NONE) {
		mem->index = reg;
		mem->scale = 1;
	} else {
		return err_set(err, EINVAL, "an address has at most two registers");
	}
	return 0;
}

/* *p is behind '['. */
static int parse_address(struct ZydisEncoderOperandMem_ *mem, const char **p, struct err *err)
{
	bool minus = false;
	int ret;

	for (;;) {
		*p = skip_space(*p);
		ret = address_term(mem, p, minus, err);
		if (ret)
			return ret;
		if (**p == ']')
			break;
		if (**p != '+' && **p != '-')
			return err_set(err, EINVAL, "an address wants \"]\" at \"%s\"", *p);
		minus = *(*p)++ == '-';
	}
	*p = skip_space(*p + 1);
	return 0;
}

static uint16_t size_of_name(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (!strcmp(word, sizes[i].name))
			return sizes[i].bytes;
	return 0;
}

/* A register, a number, or "[size ptr] [address]". Segment overrides are not read: "gs:" and its like. */
static int parse_operand(struct parse *s, const char **p, struct err *err)
{
	unsigned n = s->req.operand_count;
	ZydisEncoderOperand *op;
	char word[16];
	int64_t v;

	if (n >= ZYDIS_ENCODER_MAX_OPERANDS)
		return err_set(err, EINVAL, "too many operands");
	op = &s->req.operands[n];
	s->req.operand_count++;
	if (take_number(p, &v)) {
		op->type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		op->imm.s = v;
		return 0;
	}
	if (**p != '[') {
		*p = take_word(*p, word, sizeof(word));
		op->mem.size = size_of_name(word);
		if (!op->mem.size) {
			op->type = ZYDIS_OPERAND_TYPE_REGISTER;
			op->reg.value = find_register(word);
			if (op->reg.value == ZYDIS_REGISTER_NONE)
				return err_set(err, EINVAL, "\"%s\" is not an operand; give the bytes in hex instead",
					       word[0] ? word : *p);
			return 0;
		}
		if (!strncasecmp(*p, "ptr", 3))
			*p = skip_space(*p + 3);
	}
	if (**p != '[')
		return err_set(err, EINVAL, "an address in brackets is wanted at \"%s\"", *p);
	++*p;
	op->type = ZYDIS_OPERAND_TYPE_MEMORY;
	s->size_open[n] = !op->mem.size;
	return parse_address(&op->mem, p, err);
}

/* "{k1}" and "{z}" behind an operand: the encoder wants the mask as the operand after the destination. */
static int parse_decoration(struct parse *s, const char **p, struct err *err)
{
	char word[8];

	*p = take_word(*p + 1, word, sizeof(word));
	if (**p != '}')
		return err_set(err, EINVAL, "\"{%s\" wants \"}\"", word);
	*p = skip_space(*p + 1);
	if (!strcmp(word, "z")) {
		s->req.evex.zeroing_mask = ZYAN_TRUE;
		return 0;
	}
	if (word[0] != 'k' || s->req.operand_count != 1)
		return err_set(err, EINVAL, "\"{%s}\" is not understood; give the bytes in hex instead", word);
	s->req.operands[1].type = ZYDIS_OPERAND_TYPE_REGISTER;
	s->req.operands[1].reg.value = find_register(word);
	s->req.operand_count = 2;
	return 0;
}

static int parse_operands(struct parse *s, const char *p, struct err *err)
{
	int ret;

	while (*p) {
		ret = parse_operand(s, &p, err);
		while (!ret && *p == '{')
			ret = parse_decoration(s, &p, err);
		if (ret)
			return ret;
		if (*p == ',')
			p = skip_space(p + 1);
		else if (*p)
			return err_set(err, EINVAL, "nothing is expected at \"%s\"", p);
	}
	return 0;
}

static bool encode(const ZydisEncoderRequest *req, uint8_t *bytes, size_t *len)
{
	ZyanUSize n = X86_INSN_MAX;

	if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(req, bytes, &n)))
		return false;
	*len = n;
	return true;
}

/* Tries the sizes a memory operand may have; at most one operand is memory. */
static bool encode_sized(struct parse *s, uint8_t *bytes, size_t *len)
{
	static const uint16_t order[] = { 8, 4, 2, 1, 16, 32, 64, 10, 6, 28, 108, 512, 0 };

	for (unsigned n = 0; n < s->req.operand_count; n++) {
		if (!s->size_open[n])
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			s->req.operands[n].mem.size = order[i];
			if (encode(&s->req, bytes, len))
				return true;
		}
		return false;
	}
	return encode(&s->req, bytes, len);
}

/* As given; else with {k0}, which AVX-512 forms carry and nobody writes. */
static bool encode_any(struct parse *s, uint8_t *bytes, size_t *len)
{
	unsigned n = s->req.operand_count;

	if (encode_sized(s, bytes, len))
		return true;
	if (!n || n >= ZYDIS_ENCODER_MAX_OPERANDS)
		return false;
	memmove(&s->req.operands[2], &s->req.operands[1], (n - 1) * sizeof(s->req.operands[0]));
	memmove(&s->size_open[2], &s->size_open[1], (n - 1) * sizeof(s->size_open[0]));
	memset(&s->req.operands[1], 0, sizeof(s->req.operands[1]));
	s->req.operands[1].type = ZYDIS_OPERAND_TYPE_REGISTER;
	s->req.operands[1].reg.value = ZYDIS_REGISTER_K0;
	s->size_open[1] = false;
	s->req.operand_count++;
	return encode_sized(s, bytes, len);
}

/* Typical operands, the likelier first; a register's number grows with its place. */
static const struct kind {
	ZydisOperandType type;
	ZydisRegister reg; /* or the index register of a vector of addresses */
	uint16_t size;
} kinds[] = {
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_RAX, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_EAX, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_XMM0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_YMM0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_ZMM0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_K1, 0 },
	{ ZYDIS_OPERAND_TYPE_IMMEDIATE, ZYDIS_REGISTER_NONE, 0 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 8 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 4 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 16 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_XMM7, 4 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_XMM7, 8 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_YMM7, 4 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_ZMM7, 8 },
	/* From here for one- and two-operand forms only. */
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_AX, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_AL, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_DX, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_MM0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_ST0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_BND0, 0 },
	{ ZYDIS_OPERAND_TYPE_REGISTER, ZYDIS_REGISTER_TMM0, 0 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 2 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 1 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 10 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 6 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 28 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 108 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 32 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 64 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 512 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 576 },
	{ ZYDIS_OPERAND_TYPE_MEMORY, ZYDIS_REGISTER_NONE, 0 },
};
enum { KINDS_COMMON = 14 };

static void fill_kind(ZydisEncoderOperand *op, const struct kind *k, unsigned place, enum x86_mode mode)
{
	bool fixed = k->reg == ZYDIS_REGISTER_DX || k->type != ZYDIS_OPERAND_TYPE_REGISTER;

	memset(op, 0, sizeof(*op));
	op->type = k->type;
	op->reg.value = k->reg + (fixed ? 0 : place);
	op->imm.u = 1;
	op->mem.size = k->size;
	op->mem.base = mode == X86_MODE_64 ? ZYDIS_REGISTER_RDI :
		       mode == X86_MODE_32 ? ZYDIS_REGISTER_EDI : ZYDIS_REGISTER_DI;
	op->mem.index = k->type == ZYDIS_OPERAND_TYPE_MEMORY ? k->reg : ZYDIS_REGISTER_NONE;
	op->mem.scale = op->mem.index != ZYDIS_REGISTER_NONE;
}

/* Every combination of n operands, in order; false when none can be encoded. */
static bool find_example(struct parse *s, unsigned n, enum x86_mode mode, uint8_t *bytes, size_t *len)
{
	unsigned base = n > 2 ? KINDS_COMMON : ARRAY_SIZE(kinds);
	unsigned total = 1;

	for (unsigned i = 0; i < n; i++)
		total *= base;
	s->req.operand_count = (ZyanU8)n;
	for (unsigned c = 0; c < total; c++) {
		unsigned rest = c;

		for (unsigned i = n; i-- > 0; rest /= base)
			fill_kind(&s->req.operands[i], &kinds[rest % base], i, mode);
		if (encode(&s->req, bytes, len))
			return true;
	}
	return false;
}

static ZydisInstructionAttributes prefix_named(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strcmp(word, prefixes[i].name))
			return prefixes[i].attr;
	return 0;
}

/* Leaves the mnemonic in word and returns what follows it. */
static const char *parse_prefixes(struct parse *s, const char *p, char *word, size_t size)
{
	for (;;) {
		ZydisInstructionAttributes attr;

		p = take_word(p, word, size);
		attr = prefix_named(word);
		if (!attr || !*p)
			return p;
		s->req.prefixes |= attr;
	}
}

int insn_parse(const char *text, enum x86_mode mode, uint8_t *bytes, size_t *len, bool *example,
	       struct err *err)
{
	static const ZydisMachineMode machine[] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
						    ZYDIS_MACHINE_MODE_LONG_64 };
	struct parse s = { .req = { .machine_mode = machine[mode] } };
	char word[32];
	const char *p;
	int ret;

	*example = false;
	p = parse_prefixes(&s, text, word, sizeof(word));
	ret = find_mnemonic(word, mode, &s.req.mnemonic, err);
	if (ret)
		return ret;
	if (!strcmp(word, "retf"))
		s.req.branch_type = ZYDIS_BRANCH_TYPE_FAR;
	ret = parse_operands(&s, p, err);
	if (ret)
		return ret;
	if (encode_any(&s, bytes, len))
		return 0;
	if (!*p) {
		*example = true;
		for (unsigned n = 1; n <= 4; n++)
			if (find_example(&s, n, mode, bytes, len))
				return 0;
	}
	return err_set(err, EINVAL, "\"%s\" has no known encoding in %s-bit code; give the bytes in hex", text,
		       mode == X86_MODE_64 ? "64" : mode == X86_MODE_32 ? "32" : "16");
}
