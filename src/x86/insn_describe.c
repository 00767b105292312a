/* insn_describe.c - one instruction explained, from the decoder and the instruction table. */
#include "x86/insn_describe.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "x86/insn_parse.h"

static void append(char *text, size_t size, const char *word)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used ? " " : "", word);
}

static void flag_names(char *text, size_t size, uint32_t mask)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{ ZYDIS_CPUFLAG_CF, "CF" }, { ZYDIS_CPUFLAG_PF, "PF" }, { ZYDIS_CPUFLAG_AF, "AF" },
		{ ZYDIS_CPUFLAG_ZF, "ZF" }, { ZYDIS_CPUFLAG_SF, "SF" }, { ZYDIS_CPUFLAG_TF, "TF" },
		{ ZYDIS_CPUFLAG_IF, "IF" }, { ZYDIS_CPUFLAG_DF, "DF" }, { ZYDIS_CPUFLAG_OF, "OF" },
		{ ZYDIS_CPUFLAG_IOPL, "IOPL" }, { ZYDIS_CPUFLAG_NT, "NT" }, { ZYDIS_CPUFLAG_RF, "RF" },
		{ ZYDIS_CPUFLAG_VM, "VM" }, { ZYDIS_CPUFLAG_AC, "AC" }, { ZYDIS_CPUFLAG_VIF, "VIF" },
		{ ZYDIS_CPUFLAG_VIP, "VIP" }, { ZYDIS_CPUFLAG_ID, "ID" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (mask & names[i].bit)
			append(text, size, names[i].name);
}

static void describe_flags(struct insn_description *d)
{
	const ZydisAccessedFlags *f = d->insn.z.cpu_flags;

	if (!f)
		return;
	flag_names(d->flags_read, sizeof(d->flags_read), f->tested);
	flag_names(d->flags_written, sizeof(d->flags_written), f->modified);
	flag_names(d->flags_cleared, sizeof(d->flags_cleared), f->set_0);
	flag_names(d->flags_set, sizeof(d->flags_set), f->set_1);
	flag_names(d->flags_undefined, sizeof(d->flags_undefined), f->undefined);
}

static const char *encoding_name(ZydisInstructionEncoding e)
{
	switch (e) {
	case ZYDIS_INSTRUCTION_ENCODING_3DNOW:
		return "3DNow!";
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		return "XOP";
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		return "VEX";
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		return "EVEX";
	case ZYDIS_INSTRUCTION_ENCODING_MVEX:
		return "MVEX";
	default:
		return "legacy";
	}
}

static const char *map_name(ZydisOpcodeMap map)
{
	static const char *const names[] = {
		[ZYDIS_OPCODE_MAP_DEFAULT] = "one-byte", [ZYDIS_OPCODE_MAP_0F] = "0F",
		[ZYDIS_OPCODE_MAP_0F38] = "0F38", [ZYDIS_OPCODE_MAP_0F3A] = "0F3A",
		[ZYDIS_OPCODE_MAP_MAP4] = "MAP4", [ZYDIS_OPCODE_MAP_MAP5] = "MAP5",
		[ZYDIS_OPCODE_MAP_MAP6] = "MAP6", [ZYDIS_OPCODE_MAP_MAP7] = "MAP7",
		[ZYDIS_OPCODE_MAP_0F0F] = "0F0F", [ZYDIS_OPCODE_MAP_XOP8] = "XOP8",
		[ZYDIS_OPCODE_MAP_XOP9] = "XOP9", [ZYDIS_OPCODE_MAP_XOPA] = "XOPA",
	};

	return (size_t)map < ARRAY_SIZE(names) && names[map] ? names[map] : "?";
}

static const char *access_name(ZydisOperandActions a)
{
	bool r = a & ZYDIS_OPERAND_ACTION_READ, w = a & ZYDIS_OPERAND_ACTION_WRITE;
	bool cr = a & ZYDIS_OPERAND_ACTION_CONDREAD, cw = a & ZYDIS_OPERAND_ACTION_CONDWRITE;

	if (r)
		return w ? "read, write" : cw ? "read, may write" : "read";
	if (cr)
		return w ? "may read, write" : cw ? "may read, may write" : "may read";
	return w ? "write" : cw ? "may write" : "none";
}

static const char *operand_type(const ZydisDecodedOperand *op)
{
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		return "register";
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ? "address" : "memory";
	case ZYDIS_OPERAND_TYPE_POINTER:
		return "pointer";
	default:
		return "immediate";
	}
}

static void describe_operand(struct insn_description *d, const ZydisFormatter *fmt, unsigned i)
{
	struct insn_operand_description *o = &d->operand[i];
	const ZydisDecodedOperand *op = &d->insn.op[i];

	if (!ZYAN_SUCCESS(ZydisFormatterFormatOperand(fmt, &d->insn.z, op, o->text, sizeof(o->text),
						      ZYDIS_RUNTIME_ADDRESS_NONE, NULL)))
		snprintf(o->text, sizeof(o->text), "?");
	o->type = operand_type(op);
	o->access = access_name(op->actions);
	o->bits = op->size;
	o->implicit = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
}

static void describe_text(struct insn_description *d)
{
	ZydisFormatter fmt;

	(void)ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
	if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&fmt, &d->insn.z, d->insn.op,
							  d->insn.z.operand_count_visible, d->text,
							  sizeof(d->text), ZYDIS_RUNTIME_ADDRESS_NONE, NULL)))
		snprintf(d->text, sizeof(d->text), "%s", d->mnemonic);
	d->operand_count = d->insn.z.operand_count;
	for (unsigned i = 0; i < d->operand_count; i++)
		describe_operand(d, &fmt, i);
	for (unsigned i = 0; i < d->length; i++) {
		char byte[4];

		snprintf(byte, sizeof(byte), "%02x", d->insn.bytes[i]);
		append(d->hex, sizeof(d->hex), byte);
	}
}

/* UD never runs as itself, so what its class would ask for does not matter. */
static const char *by_trapping(const struct insn_info *info)
{
	if (info->interp == INSN_UD)
		return "Yes: the virtual CPU does not have it, and it raises #UD.";
	switch (info->cls) {
	case INSN_INNOCUOUS:
		return "No trap is needed: it does the same in any mode and at any privilege level.";
	case INSN_PRIVILEGED:
		return "Yes: run without privilege it traps, and a monitor can step in.";
	case INSN_CONTROL_SENSITIVE:
		return "No: it changes privilege or control state by itself, where a monitor would have to decide.";
	case INSN_BEHAVIOUR_SENSITIVE:
		return "No: run without privilege it does not trap, and its result shows the real machine's state.";
	}
	return "";
}

static const char *interp_text(enum insn_treatment t)
{
	switch (t) {
	case INSN_NATIVE:
		return "Runs on the host CPU, on copies of its operands.";
	case INSN_CONTROL:
		return "Computes the target and goes on there.";
	case INSN_STACK:
		return "Does the stack access itself, checked as the guest's page tables say.";
	case INSN_STRING:
		return "Repeats it element by element, so that a fault or interrupt can fall between any two.";
	case INSN_VECTOR_MEM:
		return "Touches memory element by element, as the mask says.";
	case INSN_EMULATE:
		return "Emulates it on the virtual CPU's state.";
	case INSN_UD:
		return "Raises #UD.";
	}
	return "";
}

static const char *bt_text(enum insn_treatment t)
{
	switch (t) {
	case INSN_NATIVE:
		return "Copies it as it is; a memory operand goes through the soft TLB.";
	case INSN_CONTROL:
		return "Replaces it by a jump to the translated target.";
	case INSN_STACK:
		return "Rewrites it to a checked store or load and an adjusted stack pointer.";
	case INSN_STRING:
		return "Replaces it by a loop or a call that moves what lies within a page at once.";
	case INSN_VECTOR_MEM:
		return "Calls out of line: memory is touched element by element, as the mask says.";
	case INSN_EMULATE:
		return "Replaces it by code or a call that acts on the virtual CPU's state.";
	case INSN_UD:
		return "Replaces it by a call that raises #UD.";
	}
	return "";
}

/* What leaves guest mode under KVM on both VMX and SVM, as KVM sets them up. */
static const char *kvm_text(const struct insn_description *d)
{
	const ZydisMnemonic m = d->insn.z.mnemonic;
	static const ZydisMnemonic exits[] = {
		ZYDIS_MNEMONIC_CPUID, ZYDIS_MNEMONIC_HLT, ZYDIS_MNEMONIC_IN, ZYDIS_MNEMONIC_OUT,
		ZYDIS_MNEMONIC_INSB, ZYDIS_MNEMONIC_INSW, ZYDIS_MNEMONIC_INSD, ZYDIS_MNEMONIC_OUTSB,
		ZYDIS_MNEMONIC_OUTSW, ZYDIS_MNEMONIC_OUTSD, ZYDIS_MNEMONIC_RDMSR, ZYDIS_MNEMONIC_WRMSR,
		ZYDIS_MNEMONIC_RDPMC, ZYDIS_MNEMONIC_INVD, ZYDIS_MNEMONIC_WBINVD, ZYDIS_MNEMONIC_XSETBV,
		ZYDIS_MNEMONIC_VMCALL, ZYDIS_MNEMONIC_VMMCALL, ZYDIS_MNEMONIC_RSM,
	};

	if (m == ZYDIS_MNEMONIC_MOV && d->info->cls == INSN_PRIVILEGED)
		return "Runs in guest mode or leaves it for KVM, depending on the register.";
	for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
		if (m == exits[i])
			return "Leaves guest mode for KVM, which does it or hands it to Ringer.";
	if (d->info->interp == INSN_UD)
		return "Raises #UD, or what the hardware makes of it: CPUID says the guest lacks it.";
	return "Runs in guest mode, without Ringer.";
}

static void describe_treatment(struct insn_description *d)
{
	d->info = insn_form_info(&d->insn);
	d->class_name = insn_class_name(d->info->cls);
	d->note = d->info->note ? d->info->note : "";
	d->by_trapping = by_trapping(d->info);
	d->interp = interp_text(d->info->interp);
	d->bt = bt_text(d->info->bt);
	d->kvm = kvm_text(d);
}

static int describe_bytes(struct insn_description *d, const uint8_t *bytes, size_t len, struct err *err)
{
	struct insn_decoder dec;
	struct insn other;

	insn_decoder_init(&dec);
	switch (insn_decode(&dec, d->mode, bytes, len, &d->insn)) {
	case DECODE_OK:
		break;
	case DECODE_SHORT:
		return err_set(err, EINVAL, "the bytes end within the instruction");
	case DECODE_TOO_LONG:
		return err_set(err, EINVAL, "longer than 15 bytes: #GP");
	case DECODE_INVALID:
		return err_set(err, EINVAL, "not an instruction: #UD");
	}
	d->length = d->insn.z.length;
	if (len > d->length)
		return err_set(err, EINVAL, "%zu bytes are left over behind the first instruction",
			       len - d->length);
	snprintf(d->mnemonic, sizeof(d->mnemonic), "%s", ZydisMnemonicGetString(d->insn.z.mnemonic));
	d->encoding = encoding_name(d->insn.z.encoding);
	d->map = map_name(d->insn.z.opcode_map);
	d->opcode = d->insn.z.opcode;
	d->category = ZydisCategoryGetString(d->insn.z.meta.category);
	d->isa_set = ZydisISASetGetString(d->insn.z.meta.isa_set);
	d->isa_ext = ZydisISAExtGetString(d->insn.z.meta.isa_ext);
	for (unsigned m = 0; m < ARRAY_SIZE(d->valid_in); m++)
		d->valid_in[m] = insn_decode(&dec, (enum x86_mode)m, bytes, len, &other) == DECODE_OK &&
				 other.z.length == d->length && other.z.mnemonic == d->insn.z.mnemonic;
	describe_text(d);
	describe_flags(d);
	describe_treatment(d);
	return 0;
}

int insn_describe(struct insn_description *d, const char *text, enum x86_mode mode, struct err *err)
{
	uint8_t bytes[X86_INSN_MAX];
	size_t len = 0;
	int ret;

	memset(d, 0, sizeof(*d));
	d->mode = mode;
	ret = insn_parse(text, mode, bytes, &len, &d->example, err);
	/* What 64-bit mode has lost (AAA, PUSHA, LDS) is explained where it lives. */
	for (int m = X86_MODE_32; ret && mode == X86_MODE_64 && m >= X86_MODE_16; m--) {
		ret = insn_parse(text, (enum x86_mode)m, bytes, &len, &d->example, NULL);
		d->mode = (enum x86_mode)m;
	}
	if (ret)
		return ret;
	return describe_bytes(d, bytes, len, err);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int insn_describe_hex(struct insn_description *d, const char *hex, enum x86_mode mode, struct err *err)
{
	uint8_t bytes[32];
	size_t len = 0;

	memset(d, 0, sizeof(*d));
	d->mode = mode;
	for (const char *p = hex; *p;) {
		int hi, lo;

		if (isspace((unsigned char)*p) || *p == ',') {
			p++;
			continue;
		}
		if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
			p += 2;
			continue;
		}
		hi = hex_digit(p[0]);
		lo = hi < 0 ? -1 : hex_digit(p[1]);
		if (lo < 0)
			return err_set(err, EINVAL, "not pairs of hex digits at \"%.16s\"", p);
		if (len == sizeof(bytes))
			return err_set(err, EINVAL, "more bytes than one instruction has (15)");
		bytes[len++] = (uint8_t)(hi << 4 | lo);
		p += 2;
	}
	if (!len)
		return err_set(err, EINVAL, "no bytes");
	return describe_bytes(d, bytes, len, err);
}
