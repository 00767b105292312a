/* Lock-step verification: silent about right translations, and it finds one that was made wrong on purpose. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

#include "base/light.h"
#include "engine/bt/bt.h"
#include "vm/flat.h"

/* A loop with memory, flags, a call, SSE and x87: rax = sum of 1..rdi, through a variable on the stack. */
static const uint8_t code[] = {
	/* 00 */ 0x31, 0xc0,                         /* xor eax, eax */
	/* 02 */ 0xdb, 0xe3, 0xd9, 0xe8,             /* fninit; fld1 */
	/* 06 */ 0x48, 0x89, 0x44, 0x24, 0xf0,       /* mov [rsp - 16], rax */
	/* 0b */ 0x48, 0x01, 0x7c, 0x24, 0xf0,       /* again: add [rsp - 16], rdi */
	/* 10 */ 0x48, 0x8b, 0x44, 0x24, 0xf0,       /* mov rax, [rsp - 16] */
	/* 15 */ 0x66, 0x48, 0x0f, 0x6e, 0xc0,       /* movq xmm0, rax */
	/* 1a */ 0x49, 0x87, 0xc2,                   /* xchg r10, rax */
	/* 1d */ 0xe8, 0x0b, 0x00, 0x00, 0x00,       /* call 2d */
	/* 22 */ 0x66, 0x48, 0x0f, 0x7e, 0xc0,       /* movq rax, xmm0 */
	/* 27 */ 0x48, 0xff, 0xcf,                   /* dec rdi */
	/* 2a */ 0x75, 0xdf,                         /* jnz again */
	/* 2c */ 0xc3,                               /* ret */
	/* 2d */ 0xd9, 0x5c, 0x24, 0xe8,             /* fstp dword [rsp - 24] */
	/* 31 */ 0xd9, 0x44, 0x24, 0xe8,             /* fld dword [rsp - 24] */
	/* 35 */ 0x48, 0x89, 0xc2,                   /* mov rdx, rax */
	/* 38 */ 0x49, 0xbb, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /* mov r11, 0x0807060504030201 */
	/* 42 */ 0x4c, 0x89, 0x5c, 0x24, 0xe0,       /* mov [rsp - 32], r11 */
	/* 47 */ 0xc3,                               /* ret */
};

struct seen {
	unsigned reports, n_insns;
	uint64_t rip;
	char text[4096];
};

static void report(void *ctx, const struct engine_block *b, const char *text)
{
	struct seen *s = ctx;

	s->reports++;
	s->rip = b->rip;
	s->n_insns = b->n_insns;
	snprintf(s->text, sizeof(s->text), "%s", text);
}

static struct flat_result call(struct seen *seen, unsigned sabotage, bool user)
{
	struct engine_config config = {.cache_bytes = ENGINE_CACHE_MIN, .verify = true, .sabotage = sabotage,
				       .report = report, .report_ctx = seen};
	struct flat_config c = {.engine = &bt_engine, .config = &config, .user = user, .ram = MIB(1)};
	uint64_t n = 100;
	struct flat_result r;
	struct flat *f;
	struct err err;

	memset(seen, 0, sizeof(*seen));
	assert_int_equal(flat_new(&f, &c, &err), 0);
	assert_int_equal(flat_put(f, FLAT_BASE, code, sizeof(code), &err), 0);
	flat_call(f, FLAT_BASE, &n, 1, 20, &r);
	flat_free(f);
	return r;
}

static void test_agrees(void **state)
{
	struct seen seen;

	(void)state;
	for (unsigned user = 0; user < 2; user++) {
		struct flat_result r = call(&seen, 0, user);

		if (seen.reports)
			fprintf(stderr, "%s", seen.text); /* print_message() cuts it */
		assert_int_equal(seen.reports, 0);
		if (r.end != FLAT_RETURNED)
			print_message("%s\n", r.reason);
		assert_int_equal(r.end, FLAT_RETURNED);
		assert_int_equal(r.rax, 5050);
	}
}

/* The translation of these adds 1 to RAX: found in the block, with both values. */
static void test_finds(void **state)
{
	static const unsigned wrong[] = {ZYDIS_MNEMONIC_MOVQ, ZYDIS_MNEMONIC_DEC, ZYDIS_MNEMONIC_XOR};
	struct seen seen;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct flat_result r = call(&seen, wrong[i], i & 1);

		assert_int_equal(r.end, FLAT_ERROR);
		assert_int_equal(seen.reports, 1);
		assert_in_range(seen.rip, FLAT_BASE, FLAT_BASE + sizeof(code) - 1);
		assert_true(seen.n_insns > 0);
		assert_non_null(strstr(seen.text, "differs from the interpreter in r"));
		assert_non_null(strstr(seen.text, "<-"));
		assert_non_null(strstr(r.reason, "verification"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees), cmocka_unit_test(test_finds)};

	if (!light_code)
		return 77; /* a sanitizer uses the registers that hold guest state */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
