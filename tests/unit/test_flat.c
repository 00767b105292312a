/* The flat guest, and what loads functions of good and bad ELF files into it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/interp/engine.h"
#include "vm/flat.h"

/* What the object has: */
static const uint8_t text[] = {
	/* 00 twice: */ 0x8d, 0x04, 0x3f,             /* lea eax, [rdi + rdi] */
	/* 03 */        0xc3,
	/* 04 load: */  0x8b, 0x05, 0, 0, 0, 0,       /* mov eax, [rip + value] */
	/* 0a */        0xc3,
	/* 0b call: */  0xe8, 0, 0, 0, 0,             /* call twice */
	/* 10 */        0xff, 0xc0,                   /* inc eax */
	/* 12 */        0xc3,
	/* 13 lost: */  0xe9, 0, 0, 0, 0,             /* jmp elsewhere */
	/* 18 got: */   0x48, 0x8b, 0x05, 0, 0, 0, 0, /* mov rax, [rip + value@GOT] */
	/* 1f */        0x8b, 0x00,                   /* mov eax, [rax] */
	/* 21 */        0xc3,
	/* 22 ever: */  0xeb, 0xfe,
	/* 24 crash: */ 0x48, 0x8b, 0x07, 0xc3,       /* mov rax, [rdi] */
	/* 28 many: */  0x48, 0x8b, 0x44, 0x24, 0x08, /* mov rax, [rsp + 8]: the seventh argument */
	/* 2d */        0x48, 0x29, 0xf8, 0xc3,       /* sub rax, rdi */
	/* 31 ring: */  0x66, 0x8c, 0xc8, 0x0f, 0xb7, 0xc0, 0xc3, /* mov ax, cs; movzx eax, ax */
	/* 38 halt: */  0xf4, 0xc3,
};
static const uint32_t data[] = {42};
static const char strings[] = "\0twice\0load\0call\0lost\0got\0ever\0crash\0many\0ring\0halt\0value\0elsewhere";

enum { S_TEXT = 1, S_DATA, S_RELA, S_SYMTAB, S_STRTAB, SECTIONS };

struct object {
	uint8_t bytes[4096];
	uint64_t size, shoff, sym, rela;
};

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

static uint64_t append(struct object *o, const void *bytes, uint64_t n)
{
	uint64_t at = o->size;

	memcpy(o->bytes + at, bytes, n);
	o->size += (n + 7) & ~7ULL;
	return at;
}

static uint32_t name_at(const char *name)
{
	for (size_t i = 1; i < sizeof(strings); i += strlen(strings + i) + 1)
		if (!strcmp(strings + i, name))
			return (uint32_t)i;
	fail_msg("%s", name);
	return 0;
}

static void symbol(struct object *o, unsigned i, const char *name, uint8_t type, uint16_t section, uint64_t value,
		   uint64_t size)
{
	uint8_t *p = o->bytes + o->sym + i * 24ULL;

	put32(p, name_at(name));
	p[4] = (uint8_t)(0x10 | type);
	put16(p + 6, section);
	put64(p + 8, value);
	put64(p + 16, size);
}

static void rela(struct object *o, unsigned i, uint64_t offset, uint32_t type, uint32_t sym, int64_t addend)
{
	uint8_t *p = o->bytes + o->rela + i * 24ULL;

	put64(p, offset);
	put64(p + 8, (uint64_t)sym << 32 | type);
	put64(p + 16, (uint64_t)addend);
}

static void section(struct object *o, unsigned i, uint32_t type, uint64_t flags, uint64_t off, uint64_t size,
		    uint32_t link, uint32_t info)
{
	uint8_t *p = o->bytes + o->shoff + i * 64ULL;

	put32(p + 4, type);
	put64(p + 8, flags);
	put64(p + 24, off);
	put64(p + 32, size);
	put32(p + 40, link);
	put32(p + 44, info);
	put64(p + 48, 16);
}

static void make_object(struct object *o)
{
	static const struct {
		const char *name;
		uint64_t at, size;
	} fn[] = {{"twice", 0, 4},    {"load", 4, 7},       {"call", 0xb, 8},  {"lost", 0x13, 5}, {"got", 0x18, 10},
		  {"ever", 0x22, 2},  {"crash", 0x24, 4},   {"many", 0x28, 9}, {"ring", 0x31, 7}, {"halt", 0x38, 2}};
	uint8_t zero[24 * 16] = {0};
	uint64_t at_text, at_data, at_strings;

	memset(o, 0, sizeof(*o));
	memcpy(o->bytes, "\177ELF\2\1\1", 7);
	put16(o->bytes + 16, 1);
	put16(o->bytes + 18, 62);
	put16(o->bytes + 58, 64);
	put16(o->bytes + 60, SECTIONS);
	o->size = 64;
	at_text = append(o, text, sizeof(text));
	at_data = append(o, data, sizeof(data));
	at_strings = append(o, strings, sizeof(strings));
	o->rela = append(o, zero, 24 * 4);
	o->sym = append(o, zero, 24 * 13);
	o->shoff = append(o, zero, 64 * SECTIONS);
	put64(o->bytes + 40, o->shoff);
	for (unsigned i = 0; i < ARRAY_SIZE(fn); i++)
		symbol(o, i + 1, fn[i].name, 2, S_TEXT, fn[i].at, fn[i].size);
	symbol(o, 11, "value", 1, S_DATA, 0, 4);
	symbol(o, 12, "elsewhere", 0, 0, 0, 0);
	rela(o, 0, 6, 2, 11, -4);
	rela(o, 1, 0xc, 4, 1, -4);
	rela(o, 2, 0x14, 4, 12, -4);
	rela(o, 3, 0x1b, 42, 11, -4);
	section(o, S_TEXT, 1, 6, at_text, sizeof(text), 0, 0);
	section(o, S_DATA, 1, 3, at_data, sizeof(data), 0, 0);
	section(o, S_RELA, 4, 0, o->rela, 24 * 4, S_SYMTAB, S_TEXT);
	section(o, S_SYMTAB, 2, 0, o->sym, 24 * 13, S_STRTAB, 0);
	section(o, S_STRTAB, 3, 0, at_strings, sizeof(strings), 0, 0);
}

static int load(struct flat **f, struct flat_function *fn, const struct object *o, const char *name, bool user,
		struct err *err)
{
	const struct boot_bytes bytes = {o->bytes, o->size, "x.o", NULL};
	struct flat_config c = {.engine = &interp_engine, .user = user};
	struct elf_view v;
	int rc = elf_view_open(&v, &bytes, err);

	*f = NULL;
	if (!rc)
		rc = flat_load_size(&v, &c.ram, err);
	if (!rc)
		rc = flat_new(f, &c, err);
	return rc ? rc : flat_load(*f, &v, name, fn, err);
}

static void call(const char *name, bool user, unsigned seconds, struct flat_result *r)
{
	static const uint64_t args[] = {21, 2, 3, 4, 5, 6, 100};
	struct flat_function fn;
	struct object o;
	struct flat *f;
	struct err err = {""};

	make_object(&o);
	if (load(&f, &fn, &o, name, user, &err))
		fail_msg("%s: %s", name, err.text);
	assert_int_equal(fn.n_unresolved, 1);
	assert_string_equal(fn.unresolved[0], "elsewhere");
	flat_call(f, fn.addr, args, ARRAY_SIZE(args), seconds, r);
	flat_free(f);
}

static void functions_return(void **state)
{
	static const struct {
		const char *name;
		uint64_t rax;
	} cases[] = {{"twice", 42}, {"load", 42}, {"call", 43}, {"got", 42}, {"many", 79}};
	struct flat_result r;

	for (unsigned user = 0; user < 2; user++) {
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			call(cases[i].name, user, 60, &r);
			if (r.end != FLAT_RETURNED || r.rax != cases[i].rax || r.reason[0] || !r.insns)
				fail_msg("%s: %d, %llu, %s", cases[i].name, r.end, (unsigned long long)r.rax,
					 r.reason);
		}
		call("ring", user, 60, &r);
		assert_int_equal(r.rax & 3, user ? 3 : 0);
	}
}

static void functions_that_do_not_return(void **state)
{
	static const struct {
		const char *name, *kernel, *user;
	} cases[] = {{"lost", "HLT at 0x3ff000", "#GP at 0x3ff000"},
		     {"crash", "#PF at 0x400024, address 0x15", "#PF at 0x400024, address 0x15"},
		     {"halt", "HLT at 0x400038", "#GP at 0x400038"}};
	struct flat_result r;

	for (unsigned user = 0; user < 2; user++) {
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			call(cases[i].name, user, 60, &r);
			assert_int_equal(r.end, FLAT_FAULT);
			assert_string_equal(r.reason, user ? cases[i].user : cases[i].kernel);
		}
	}
	call("ever", true, 1, &r);
	assert_int_equal(r.end, FLAT_TIMEOUT);
}

static void one_guest_is_called_again(void **state)
{
	uint64_t arg = 5;
	struct flat_function fn;
	struct flat_result r;
	struct object o;
	struct flat *f;

	make_object(&o);
	assert_int_equal(load(&f, &fn, &o, "ever", true, NULL), 0);
	flat_call(f, fn.addr, NULL, 0, 0, &r);
	assert_int_equal(r.end, FLAT_TIMEOUT);
	flat_call(f, fn.addr - 0x22, &arg, 1, 60, &r);
	assert_int_equal(r.end, FLAT_RETURNED);
	assert_int_equal(r.rax, 10);
	flat_free(f);
}

static void bad_objects_are_refused(void **state)
{
	static const struct {
		const char *what, *says;
		const char *function;
		uint64_t section; /* header to change, or */
		uint64_t at;      /* in the file, when section is 0 */
		unsigned bytes;
		uint64_t value;
	} cases[] = {
		{"case", "did you mean 'twice'?", "twise", 0, 7, 1, 0},
		{"none", "'nm x.o' lists", "qqqqqqqqqq", 0, 7, 1, 0},
		{"a datum", "there is no function 'value'", "value", 0, 7, 1, 0},
		{"magic", "not an ELF file", "twice", 0, 0, 1, 0},
		{"class", "not an ELF file for x86-64", "twice", 0, 4, 1, 1},
		{"type", "neither an object nor", "twice", 0, 16, 1, 4},
		{"headers", "section headers", "twice", 0, 40, 8, ~0ULL},
		{"text size", "truncated: section 1", "twice", S_TEXT, 32, 8, 1 << 20},
		{"text offset", "truncated: section 1", "twice", S_TEXT, 24, 8, ~0ULL - 4},
		{"alignment", "aligned", "twice", S_TEXT, 48, 8, 3},
		{"large alignment", "wants to be aligned", "twice", S_TEXT, 48, 8, 1ULL << 40},
		{"huge bss", "more than 512 MiB", "twice", S_DATA, 0, 16, 8},
		{"symbols", "truncated: section 4", "twice", S_SYMTAB, 32, 8, 1 << 20},
		{"short text", "lies outside of its section", "halt", S_TEXT, 32, 8, 0x30},
		{"shorter text", "outside of section 1", "load", S_TEXT, 32, 8, 8},
	};
	struct flat_function fn;
	struct object o;
	struct flat *f;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {""};
		uint64_t at = cases[i].at, value = cases[i].value;
		int rc;

		make_object(&o);
		if (cases[i].section)
			at += o.shoff + cases[i].section * 64;
		if (cases[i].bytes == 16) { /* NOBITS, and its size */
			put32(o.bytes + at + 4, (uint32_t)value);
			put64(o.bytes + at + 32, GIB(1));
		} else {
			memcpy(o.bytes + at, &value, cases[i].bytes);
		}
		rc = load(&f, &fn, &o, cases[i].function, true, &err);
		flat_free(f);
		if (!rc || !strstr(err.text, cases[i].says))
			fail_msg("%s: %d: %s", cases[i].what, rc, err.text);
	}
}

static uint32_t next(uint32_t *seed)
{
	return *seed = *seed * 1664525u + 1013904223u;
}

/* Whatever a byte is changed to, it loads or says why not. */
static void damaged_objects_are_safe(void **state)
{
	unsigned loaded = 0;
	uint32_t seed = 7;

	for (unsigned round = 0; round < 150; round++) {
		struct flat_function fn;
		struct err err = {""};
		struct object o;
		struct flat *f;

		make_object(&o);
		for (unsigned i = 0; i < 1 + round % 3; i++)
			o.bytes[next(&seed) % o.size] = (uint8_t)(next(&seed) >> 24);
		if (load(&f, &fn, &o, "call", true, &err))
			assert_true(err.text[0]);
		else
			loaded++;
		flat_free(f);
	}
	assert_true(loaded > 0);
}

/* This program is linked, and perhaps moved: its functions run as well. */
uint64_t flat_sample(uint64_t a, uint64_t b);
uint64_t flat_sample(uint64_t a, uint64_t b)
{
	uint64_t sum = 0;

	while (a--)
		sum += b ^ a;
	return sum;
}

static void linked_programs_can_be_used(void **state)
{
	const uint64_t args[] = {1000, 12345};
	struct flat_config c = {.engine = &interp_engine, .user = true};
	struct boot_file file;
	struct boot_bytes bytes;
	struct flat_function fn;
	struct flat_result r;
	struct elf_view v;
	struct flat *f;
	struct err err = {""};
	int rc;

	assert_int_equal(boot_file_read(&file, "/proc/self/exe", "program", MIB(512), NULL), 0);
	bytes = (struct boot_bytes){file.data, file.size, "x", NULL};
	assert_int_equal(elf_view_open(&v, &bytes, NULL), 0);
	assert_int_equal(flat_load_size(&v, &c.ram, NULL), 0);
	assert_int_equal(flat_new(&f, &c, NULL), 0);
	rc = flat_load(f, &v, "flat_sample", &fn, &err);
	if (rc)
		fail_msg("%s", err.text);
	flat_call(f, fn.addr, args, 2, 60, &r);
	/* Under a sanitizer the function calls what needs its library. */
	if (r.end == FLAT_RETURNED)
		assert_int_equal(r.rax, flat_sample(args[0], args[1]));
	flat_free(f);
	boot_file_free(&file);
}

static void memory_is_checked(void **state)
{
	struct flat_config c = {.engine = &interp_engine, .ram = MIB(1)};
	uint8_t byte = 1, got[2];
	struct flat *f;
	struct err err;

	assert_int_equal(flat_new(&f, &c, NULL), 0);
	assert_int_equal(flat_put(f, 0x800000000000, &byte, 1, &err), -EINVAL);
	assert_int_equal(flat_put(f, 0x7fffffffffff, got, 2, &err), -EINVAL);
	assert_int_equal(flat_put(f, ~0ULL, got, 2, &err), -EINVAL);
	assert_int_equal(flat_put(f, ~0ULL, &byte, 1, &err), 0);
	assert_int_equal(flat_put(f, 0x10000, NULL, GIB(1), &err), -EFBIG);
	assert_int_equal(flat_get(f, 0x900000000, got, 2), -EFAULT);
	assert_int_equal(flat_get(f, ~0ULL, got, 1), 0);
	assert_int_equal(got[0], 1);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(functions_return),
		cmocka_unit_test(functions_that_do_not_return),
		cmocka_unit_test(one_guest_is_called_again),
		cmocka_unit_test(bad_objects_are_refused),
		cmocka_unit_test(damaged_objects_are_safe),
		cmocka_unit_test(linked_programs_can_be_used),
		cmocka_unit_test(memory_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
