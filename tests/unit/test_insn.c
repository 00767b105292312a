/* test_insn.c - decoding, the instruction table, and explaining an instruction. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "x86/cpuid.h"
#include "x86/gpr.h"
#include "x86/insn.h"
#include "x86/insn_describe.h"

#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })

static struct insn_decoder dec;

static int setup(void **state)
{
	insn_decoder_init(&dec);
	return 0;
}

static enum decode_result decode(enum x86_mode mode, const uint8_t *bytes, size_t len, struct insn *out)
{
	return insn_decode(&dec, mode, bytes, len, out);
}

static void decode_statuses(void **state)
{
	struct insn i;
	uint8_t many[32];

	assert_int_equal(decode(X86_MODE_64, BYTES(0x90), &i), DECODE_OK);
	assert_int_equal(i.z.mnemonic, ZYDIS_MNEMONIC_NOP);
	assert_int_equal(decode(X86_MODE_64, (const uint8_t *)"", 0, &i), DECODE_SHORT);
	assert_int_equal(decode(X86_MODE_64, BYTES(0x48, 0xb8, 1, 2, 3), &i), DECODE_SHORT);
	assert_int_equal(decode(X86_MODE_64, BYTES(0x06), &i), DECODE_INVALID);
	assert_int_equal(decode(X86_MODE_32, BYTES(0x06), &i), DECODE_OK);
	/* LOCK on a register destination */
	assert_int_equal(decode(X86_MODE_64, BYTES(0xf0, 0x01, 0xc0), &i), DECODE_INVALID);

	memset(many, 0x66, sizeof(many));
	assert_int_equal(decode(X86_MODE_64, many, 14, &i), DECODE_SHORT);
	assert_int_equal(decode(X86_MODE_64, many, 15, &i), DECODE_TOO_LONG);
	assert_int_equal(decode(X86_MODE_64, many, sizeof(many), &i), DECODE_TOO_LONG);
	many[14] = 0x90;
	assert_int_equal(decode(X86_MODE_64, many, sizeof(many), &i), DECODE_OK);
	assert_int_equal(i.z.length, 15);
	many[13] = 0x81; /* add r/m, imm: ends past byte 15 */
	many[14] = 0xc0;
	assert_int_equal(decode(X86_MODE_64, many, sizeof(many), &i), DECODE_TOO_LONG);
}

static void decode_keeps_bytes(void **state)
{
	struct insn i;

	memset(&i, 0xff, sizeof(i));
	assert_int_equal(decode(X86_MODE_64, BYTES(0x0f, 0xa2, 0x90), &i), DECODE_OK);
	assert_memory_equal(i.bytes, ((uint8_t[X86_INSN_MAX]){ 0x0f, 0xa2 }), X86_INSN_MAX);
}

static void decode_by_mode(void **state)
{
	struct insn i;

	assert_int_equal(decode(X86_MODE_16, BYTES(0xb8, 1, 2, 3, 4), &i), DECODE_OK);
	assert_int_equal(i.z.length, 3);
	assert_int_equal(decode(X86_MODE_32, BYTES(0xb8, 1, 2, 3, 4), &i), DECODE_OK);
	assert_int_equal(i.z.length, 5);
	assert_int_equal(decode(X86_MODE_64, BYTES(0x48, 0x40, 0x90), &i), DECODE_OK);
	assert_int_equal(i.z.length, 3);
	assert_int_equal(decode(X86_MODE_32, BYTES(0x48, 0x40, 0x90), &i), DECODE_OK);
	assert_int_equal(i.z.mnemonic, ZYDIS_MNEMONIC_DEC);
}

/* Encodings of extensions no model has are the NOPs they were. */
static void extensions_are_nops(void **state)
{
	static const uint8_t code[][5] = {
		{ 0xf3, 0x0f, 0x1e, 0xfa }, /* ENDBR64 */
		{ 0xf3, 0x0f, 0x1e, 0xc8 }, /* RDSSPD */
		{ 0x0f, 0x1c, 0x07 },       /* CLDEMOTE */
		{ 0x66, 0x0f, 0x1a, 0xc1 }, /* BNDMOV */
	};
	struct insn i;

	for (size_t n = 0; n < ARRAY_SIZE(code); n++) {
		assert_int_equal(decode(X86_MODE_64, code[n], 5, &i), DECODE_OK);
		assert_int_equal(i.z.mnemonic, ZYDIS_MNEMONIC_NOP);
	}
	assert_int_equal(decode(X86_MODE_64, BYTES(0xf3, 0x0f, 0xbc, 0xc0), &i), DECODE_OK);
	assert_int_equal(i.z.mnemonic, ZYDIS_MNEMONIC_TZCNT);
	/* data16 rex.W call: the padding of __tls_get_addr calls keeps its 32-bit displacement */
	assert_int_equal(decode(X86_MODE_64, BYTES(0x66, 0x66, 0x48, 0xe8, 1, 2, 3, 4), &i), DECODE_OK);
	assert_int_equal(i.z.length, 8);
}

static void rows_are_sound(void **state)
{
	for (int m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const struct insn_info *info = insn_info((ZydisMnemonic)m);

		assert_non_null(info);
		assert_true(info->mnemonic == (ZydisMnemonic)m || info->mnemonic == 0);
		assert_string_not_equal(insn_class_name(info->cls), "unknown");
		assert_string_not_equal(insn_treatment_name(info->interp), "unknown");
		assert_string_not_equal(insn_treatment_name(info->bt), "unknown");
		assert_int_equal(info->interp == INSN_UD, info->bt == INSN_UD);
		if (info->cls == INSN_INNOCUOUS && info->interp != INSN_UD)
			continue;
		assert_non_null(info->note);
		assert_true(strlen(info->note) > 10);
		/* The sensitive is never left to the host CPU. */
		assert_int_not_equal(info->interp, INSN_NATIVE);
		assert_int_not_equal(info->bt, INSN_NATIVE);
	}
	/* Out of range is answered, not read. */
	assert_non_null(insn_info((ZydisMnemonic)(ZYDIS_MNEMONIC_MAX_VALUE + 1)));
}

static void known_rows(void **state)
{
	static const struct {
		const char *text;
		enum insn_class cls;
		enum insn_treatment interp;
	} rows[] = {
		{ "popf", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "pushf", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "cpuid", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "sgdt", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "rdtsc", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "mov cr3, rax", INSN_PRIVILEGED, INSN_EMULATE },
		{ "mov rax, dr7", INSN_PRIVILEGED, INSN_EMULATE },
		{ "mov ss, ax", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "mov eax, cs", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "mov rax, rcx", INSN_INNOCUOUS, INSN_NATIVE },
		{ "push fs", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "push rax", INSN_INNOCUOUS, INSN_STACK },
		{ "pop gs", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "retf", INSN_BEHAVIOUR_SENSITIVE, INSN_EMULATE },
		{ "ret", INSN_INNOCUOUS, INSN_CONTROL },
		{ "jne", INSN_INNOCUOUS, INSN_CONTROL },
		{ "syscall", INSN_CONTROL_SENSITIVE, INSN_EMULATE },
		{ "iretq", INSN_CONTROL_SENSITIVE, INSN_EMULATE },
		{ "cli", INSN_PRIVILEGED, INSN_EMULATE },
		{ "out dx, al", INSN_PRIVILEGED, INSN_EMULATE },
		{ "insb", INSN_PRIVILEGED, INSN_STRING },
		{ "rep movsb", INSN_INNOCUOUS, INSN_STRING },
		{ "movsd", INSN_INNOCUOUS, INSN_STRING },
		{ "movsd xmm0, qword ptr [rax]", INSN_INNOCUOUS, INSN_NATIVE },
		{ "cmpsd xmm0, xmm1, 2", INSN_INNOCUOUS, INSN_NATIVE },
		{ "add rax, 1", INSN_INNOCUOUS, INSN_NATIVE },
		{ "lock add dword ptr [rdi+8], 1", INSN_INNOCUOUS, INSN_NATIVE },
		{ "vaddps ymm0, ymm1, [rax]", INSN_INNOCUOUS, INSN_NATIVE },
		{ "vaddps zmm0{k1}, zmm1, [rax]", INSN_INNOCUOUS, INSN_VECTOR_MEM },
		{ "vaddps zmm0{k1}, zmm1, zmm2", INSN_INNOCUOUS, INSN_NATIVE },
		{ "vpcompressd zmm0{k1}, zmm1", INSN_INNOCUOUS, INSN_NATIVE },
		{ "vpcompressd [rax]{k1}, zmm1", INSN_INNOCUOUS, INSN_VECTOR_MEM },
		{ "vpmaskmovd xmm0, xmm1, [rax]", INSN_INNOCUOUS, INSN_VECTOR_MEM },
		{ "maskmovdqu xmm0, xmm1", INSN_INNOCUOUS, INSN_VECTOR_MEM },
		{ "vmread", INSN_PRIVILEGED, INSN_UD },
		{ "ud2", INSN_INNOCUOUS, INSN_UD },
		{ "xbegin", INSN_BEHAVIOUR_SENSITIVE, INSN_UD },
		{ "pfadd", INSN_INNOCUOUS, INSN_UD },
		{ "aaa", INSN_INNOCUOUS, INSN_EMULATE },
	};
	struct insn_description d;
	struct err err;

	for (size_t n = 0; n < ARRAY_SIZE(rows); n++) {
		int ret = insn_describe(&d, rows[n].text, X86_MODE_64, &err);

		if (ret)
			fail_msg("%s: %s", rows[n].text, err.text);
		if (d.info->cls != rows[n].cls || d.info->interp != rows[n].interp)
			fail_msg("%s is %s, %s", d.text, d.class_name, insn_treatment_name(d.info->interp));
	}
}

static void describe_tells_all(void **state)
{
	struct insn_description d;
	struct err err;

	assert_int_equal(insn_describe(&d, "POPF", X86_MODE_64, &err), 0);
	assert_string_equal(d.mnemonic, "popfq");
	assert_string_equal(d.hex, "9d");
	assert_string_equal(d.encoding, "legacy");
	assert_string_equal(d.map, "one-byte");
	assert_non_null(strstr(d.flags_written, "IF"));
	assert_non_null(strstr(d.by_trapping, "No:"));
	assert_false(d.example);

	assert_int_equal(insn_describe(&d, "popf", X86_MODE_32, &err), 0);
	assert_string_equal(d.mnemonic, "popfd");

	assert_int_equal(insn_describe(&d, "adc eax, [rbx+rcx*4+16]", X86_MODE_64, &err), 0);
	assert_string_equal(d.text, "adc eax, [rbx+rcx*4+0x10]");
	assert_string_equal(d.flags_read, "CF");
	assert_string_equal(d.operand[0].text, "eax");
	assert_string_equal(d.operand[0].access, "read, write");
	assert_string_equal(d.operand[1].type, "memory");
	assert_string_equal(d.operand[1].access, "read");
	assert_int_equal(d.operand[1].bits, 32);
	assert_true(d.operand[2].implicit);
	assert_string_equal(d.note, "");

	assert_int_equal(insn_describe(&d, "vaddps", X86_MODE_64, &err), 0);
	assert_true(d.example);
	assert_string_equal(d.encoding, "VEX");

	assert_int_equal(insn_describe(&d, "aaa", X86_MODE_64, &err), 0);
	assert_int_equal(d.mode, X86_MODE_32);
	assert_false(d.valid_in[X86_MODE_64]);
	assert_true(d.valid_in[X86_MODE_16]);
}

static void describe_hex(void **state)
{
	struct insn_description d;
	struct err err;

	assert_int_equal(insn_describe_hex(&d, "0x0f 0x20,D8", X86_MODE_64, &err), 0);
	assert_string_equal(d.text, "mov rax, cr3");
	assert_int_not_equal(insn_describe_hex(&d, "", X86_MODE_64, &err), 0);
	assert_int_not_equal(insn_describe_hex(&d, "0", X86_MODE_64, &err), 0);
	assert_int_not_equal(insn_describe_hex(&d, "zz", X86_MODE_64, &err), 0);
	assert_int_not_equal(insn_describe_hex(&d, "0f", X86_MODE_64, &err), 0);
	assert_non_null(strstr(err.text, "end within"));
	assert_int_not_equal(insn_describe_hex(&d, "06", X86_MODE_64, &err), 0);
	assert_non_null(strstr(err.text, "#UD"));
	assert_int_not_equal(insn_describe_hex(&d, "9090", X86_MODE_64, &err), 0);
	assert_int_not_equal(insn_describe_hex(&d, "66666666666666666666666666666690", X86_MODE_64, &err), 0);
	assert_non_null(strstr(err.text, "15"));
}

static void describe_refuses(void **state)
{
	static const char *const bad[] = {
		"", " ", "poff", "mov eax", "mov eax, [", "mov eax, [rax", "mov eax, [rax*]", "mov eax, [rax+rbx+rcx]",
		"mov eax, 99999999999999999999", "mov eax, ebx ecx", "vaddps zmm0{", "vaddps zmm0{k1", "lock", "lock lock",
		"add a, b, c, d, e, f, g", "{", ",", "mov eax, -", "mov eax, [-rax]", "mov [rax], [rbx], 1",
	};
	struct insn_description d;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&err, 0, sizeof(err));
		if (!insn_describe(&d, bad[i], X86_MODE_64, &err))
			fail_msg("\"%s\" is taken as %s", bad[i], d.text);
		assert_true(err.text[0]);
	}
	assert_int_not_equal(insn_describe(&d, "poff", X86_MODE_64, &err), 0);
	assert_non_null(strstr(err.text, "popf"));
}

/* Every name the decoder has is either explained or honestly given up. */
static void describe_every_mnemonic(void **state)
{
	struct insn_description d;
	struct err err;
	unsigned explained = 0, all = 0;

	for (int m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		const char *name = ZydisMnemonicGetString((ZydisMnemonic)m);

		all++;
		if (!insn_describe(&d, name, X86_MODE_64, &err)) {
			explained++;
			assert_true(d.length > 0 && d.length <= X86_INSN_MAX);
			assert_true(d.interp[0] && d.bt[0] && d.kvm[0] && d.by_trapping[0]);
		}
	}
	if (explained * 100 < all * 85)
		fail_msg("only %u of %u mnemonics have an example", explained, all);
}

/* A random instruction-like string: prefixes, an opcode map, and noise. */
static size_t random_bytes(uint8_t *b)
{
	static const uint8_t first[] = { 0x66, 0xf2, 0xf3, 0x48, 0x0f, 0xc4, 0xc5, 0x62, 0x8f, 0xf0, 0x67, 0x2e };
	size_t len = (size_t)random() % 20;

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)random();
	if (len > 1 && random() % 2) {
		b[0] = first[random() % (long)sizeof(first)];
		if (random() % 2)
			b[1] = b[0] == 0xc4 || b[0] == 0x62 ? (uint8_t)((b[1] & 0xf0) | (random() % 6 + 1)) : 0x0f;
	}
	return len;
}

static void fuzz_decode(void **state)
{
	struct cpu_model all = { .name = "all" };
	const struct cpuid_feature *f;
	unsigned ok = 0;

	for (unsigned i = 0; (f = cpuid_feature_at(i)); i++)
		if (f->kind != FEATURE_NEVER)
			all.features[f->feature / 32] |= 1u << f->feature % 32;
	srandom(20);
	for (int n = 0; n < 400000; n++) {
		uint8_t copy[20], *b;
		size_t len = random_bytes(copy);
		struct insn i;

		/* An allocation of just that size, so that ASan sees a read past it. */
		b = malloc(len ? len : 1);
		assert_non_null(b);
		memcpy(b, copy, len);
		if (decode((enum x86_mode)(n % 3), b, len, &i) == DECODE_OK) {
			const struct insn_info *info = insn_form_info(&i);
			bool allowed = cpu_model_allows(&all, &i.z);

			ok++;
			assert_true(i.z.length <= len && i.z.length <= X86_INSN_MAX);
			assert_memory_equal(i.bytes, b, i.z.length);
			/* What no model allows, the table calls undefined: they were written apart. */
			if (!allowed && info->interp != INSN_UD)
				fail_msg("%s: no model allows it, the table says %s",
					 ZydisMnemonicGetString(i.z.mnemonic), insn_treatment_name(info->interp));
		}
		free(b);
	}
	assert_true(ok > 20000);
}

static void suggestions(void **state)
{
	static const char *const names[] = { "kernel", NULL, "initrd", "append", "memory", "cpu", "run" };
	size_t n = ARRAY_SIZE(names);

	assert_string_equal(suggest("kernal", names, n), "kernel");
	assert_string_equal(suggest("KERNEL", names, n), "kernel");
	assert_string_equal(suggest("intird", names, n), "initrd");
	assert_string_equal(suggest("cpus", names, n), "cpu");
	assert_string_equal(suggest("rnu", names, n), "run");
	assert_null(suggest("zzzzzz", names, n));
	assert_null(suggest("", names, n));
	assert_null(suggest("kernel", names, 0));
	assert_int_equal(edit_distance("abc", "abc", 3), 0);
	assert_int_equal(edit_distance("abc", "acb", 3), 1);
	assert_int_equal(edit_distance("kitten", "sitting", 3), 3);
	assert_int_equal(edit_distance("kitten", "sitting", 2), 3);
	assert_int_equal(edit_distance("", "ab", 5), 2);
	assert_int_equal(edit_distance("0123456789012345678901234567890123456789012345678901234567890123456789", "a", 2),
			 3);
}

/* x86_gpr() says of every register what Zydis says. */
static void gpr_numbers(void **state)
{
	for (int r = 0; r <= ZYDIS_REGISTER_MAX_VALUE; r++) {
		ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, (ZydisRegister)r);
		bool gpr = ZydisRegisterGetClass(whole) == ZYDIS_REGCLASS_GPR64;

		assert_int_equal(x86_gpr((ZydisRegister)r), gpr ? (unsigned)ZydisRegisterGetId(whole) : X86_NO_GPR);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gpr_numbers),
		cmocka_unit_test(decode_statuses), cmocka_unit_test(decode_keeps_bytes),
		cmocka_unit_test(decode_by_mode), cmocka_unit_test(extensions_are_nops),
		cmocka_unit_test(rows_are_sound), cmocka_unit_test(known_rows),
		cmocka_unit_test(describe_tells_all), cmocka_unit_test(describe_hex),
		cmocka_unit_test(describe_refuses), cmocka_unit_test(describe_every_mnemonic),
		cmocka_unit_test(fuzz_decode), cmocka_unit_test(suggestions),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
