/* Translated blocks as text, as perf map and as jitdump file; symbols from good and bad files. */
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

#include "cli/codelog.h"
#include "vm/elf_view.h"

static char dir[] = "/tmp/ringer-codelog-XXXXXX";

/* push rbp; mov rbp, rsp; jne +2 */
static const uint8_t guest[] = {0x55, 0x48, 0x89, 0xe5, 0x75, 0x02};
/* nop; push rbp; mov rbp, rsp; nop; jne +0; ret */
static const uint8_t host[] = {0x90, 0x55, 0x48, 0x89, 0xe5, 0x90, 0x75, 0x00, 0xc3};
static const struct engine_block_insn insns[] = {{0, 1}, {1, 2}, {4, 6}};

static struct engine_block block(uint64_t rip, unsigned cpl)
{
	return (struct engine_block){.rip = rip, .cpl = cpl, .n_insns = 3, .guest = guest, .host = host,
				     .n_guest = sizeof(guest), .n_host = sizeof(host), .insn = insns};
}

static char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "r");
	char *buf = calloc(1, 65536);

	assert_non_null(f);
	assert_non_null(buf);
	*len = fread(buf, 1, 65535, f);
	fclose(f);
	return buf;
}

static void spit(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void blocks_are_shown_side_by_side(void **state)
{
	static const char *const lines[] = {
		"block 401000 f+0x10, kernel, 3 instructions, 6 bytes; host ",
		"|    0  nop",
		"   0  55",
		"push rbp",
		"|    1  push rbp",
		"   1  4889e5",
		"|    2  mov rbp, rsp",
		"|    5  nop",
		"   4  7502",
		"jnz 0x401008",
		"|    6  jnz 0x8",
		"|    8  ret",
	};
	struct engine_block b = block(0x401000, 0);
	struct engine_block_insn bad[] = {{0, 1}, {1, 200}, {4, 6}};
	struct blocktext t;
	char *text, *at;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	blocktext_init(&t);
	blocktext_print(&t, &b, host, X86_MODE_64, "f+0x10", "\n", out);
	fflush(out);
	at = text;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		at = strstr(at, lines[i]);
		if (!at)
			fail_msg("not there, or out of order: %s\n%s", lines[i], text);
	}
	/* What is no description of a block is not followed. */
	b.insn = bad;
	blocktext_print(&t, &b, host, X86_MODE_64, "", "\r\n", out);
	fclose(out);
	assert_non_null(strstr(text, "\r\n"));
	free(text);
}

static void symbols_come_from_a_map(void **state)
{
	static const char map[] = "ffffffff81000000 T _text\nffffffff81000100 t inner\t[mod]\n"
				  "ffffffff81000180 D data\nffffffff81000200 W weak\n";
	struct symbols *s;
	uint64_t off;

	spit("System.map", map, sizeof(map) - 1);
	assert_int_equal(symbols_load(&s, "System.map", NULL), 0);
	assert_null(symbols_find(s, 0xffffffff80ffffff, &off));
	assert_string_equal(symbols_find(s, 0xffffffff81000000, &off), "_text");
	assert_int_equal(off, 0);
	assert_string_equal(symbols_find(s, 0xffffffff810001ff, &off), "inner");
	assert_int_equal(off, 0xff);
	assert_string_equal(symbols_find(s, 0xffffffff81000210, &off), "weak");
	assert_null(symbols_find(s, 0xffffffff82000000, &off));
	assert_null(symbols_find(NULL, 0, &off));
	symbols_free(s);
}

static void bad_maps_are_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"hello world\n", "line 1 is not"},
		{"ffffffff81000000 T _text\nffffffff81000000 T\n", "line 2 is not"},
		{"ffffffff81000000 T _text", "last line does not end"},
		{"ffffffff81000000 D data\n", "names no function"},
	};
	struct symbols *s;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		spit("bad.map", cases[i].text, strlen(cases[i].text));
		assert_int_equal(symbols_load(&s, "bad.map", &err), -ENOEXEC);
		if (!strstr(err.text, cases[i].says))
			fail_msg("%s", err.text);
	}
	assert_int_equal(symbols_load(&s, "missing", &err), -ENOENT);
}

/* This very program has symbols; so has it with any byte of its tables changed, or it is refused. */
static void symbols_come_from_elf(void **state)
{
	struct boot_file f;
	struct boot_bytes bytes;
	struct elf_view v;
	struct elf_symbol sym;
	struct symbols *s;
	struct err err;
	uint64_t off;

	assert_int_equal(symbols_load(&s, "/proc/self/exe", &err), 0);
	symbols_free(s);
	assert_int_equal(boot_file_read(&f, "/proc/self/exe", "test", MIB(512), &err), 0);
	bytes = (struct boot_bytes){f.data, f.size, "x", NULL};
	assert_int_equal(elf_view_open(&v, &bytes, &err), 0);
	for (uint64_t i = 1; i < v.n_symbols; i++) {
		assert_int_equal(elf_view_symbol(&v, i, &sym, &err), 0);
		if (!strcmp(sym.name, "symbols_come_from_elf"))
			break;
	}
	assert_string_equal(sym.name, "symbols_come_from_elf");
	assert_int_equal(symbols_load(&s, "/proc/self/exe", &err), 0);
	assert_string_equal(symbols_find(s, sym.value + 5, &off), "symbols_come_from_elf");
	assert_int_equal(off, 5);
	symbols_free(s);
	boot_file_free(&f);
}

static uint32_t next(uint32_t *seed)
{
	return *seed = *seed * 1664525u + 1013904223u;
}

/* The reader stays within the file, whatever it says: a sanitizer or the guard page after the mapping tells. */
static void damaged_elf_is_safe(void **state)
{
	struct boot_file f;
	struct boot_bytes bytes;
	uint32_t seed = 1;
	unsigned opened = 0;
	struct err err;

	assert_int_equal(boot_file_read(&f, "/proc/self/exe", "test", MIB(512), &err), 0);
	bytes = (struct boot_bytes){f.data, f.size, "x", NULL};
	for (unsigned round = 0; round < 3000; round++) {
		uint64_t sh, at[4];
		uint8_t old[4];
		struct elf_view v;
		struct elf_section sec;
		struct elf_symbol sym;

		memcpy(&sh, f.data + 40, 8);
		for (unsigned i = 0; i < 4; i++) {
			at[i] = i & 1 ? sh + next(&seed) % (f.size - sh) : 4 + next(&seed) % 60;
			old[i] = f.data[at[i]];
			f.data[at[i]] = (uint8_t)(next(&seed) >> 24);
		}
		if (!elf_view_open(&v, &bytes, &err)) {
			opened++;
			for (unsigned i = 0; i < v.n_sections; i++)
				if (!elf_view_section(&v, i, &sec, &err) && sec.data && sec.size)
					assert_true(sec.data + sec.size <= f.data + f.size);
			for (uint64_t i = 0; i < v.n_symbols && i < 200; i++)
				if (!elf_view_symbol(&v, i, &sym, &err))
					assert_true(strlen(sym.name) < f.size);
		} else {
			assert_true(err.text[0]);
		}
		for (unsigned i = 4; i-- > 0;)
			f.data[at[i]] = old[i];
	}
	assert_true(opened > 0);
	boot_file_free(&f);
}

static void perf_files_are_as_perf_wants_them(void **state)
{
	const struct codelog_config c = {.trace = "trace", .perf = PERF_MAP | PERF_JITDUMP,
					 .symbols = "System.map", .kernel = "none"};
	struct engine_block kernel = block(0xffffffff81000104, 0), user = block(0x400000, 3);
	struct codelog l;
	char path[64], line[128], *text;
	uint32_t word[4];
	uint64_t quad[4];
	size_t len;

	assert_int_equal(codelog_open(&l, &c, NULL), 0);
	codelog_block(&l, &kernel);
	codelog_block(&l, &user);
	assert_int_equal(codelog_close(&l, NULL), 0);
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	text = slurp(path, &len);
	unlink(path);
	snprintf(line, sizeof(line), "%llx 9 guest:ffffffff81000104 inner+0x4\n%llx 9 guest-user:400000\n",
		 (unsigned long long)(uintptr_t)host, (unsigned long long)(uintptr_t)host);
	assert_string_equal(text, line);
	free(text);
	snprintf(path, sizeof(path), "jit-%d.dump", (int)getpid());
	text = slurp(path, &len);
	memcpy(word, text, 16);
	assert_int_equal(word[0], 0x4A695444);
	assert_int_equal(word[1], 1);
	assert_int_equal(word[2], 40);
	assert_int_equal(word[3], 62);
	/* The first record: its length leads to the second, the second's to the last. */
	memcpy(word, text + 40, 8);
	memcpy(quad, text + 40 + 24, 32);
	assert_int_equal(word[0], 0);
	assert_int_equal(quad[1], (uintptr_t)host);
	assert_int_equal(quad[2], sizeof(host));
	assert_int_equal(quad[3], 0);
	assert_string_equal(text + 40 + 56, "guest:ffffffff81000104 inner+0x4");
	assert_memory_equal(text + 40 + word[1] - sizeof(host), host, sizeof(host));
	quad[0] = 40 + word[1];
	memcpy(word, text + quad[0], 8);
	assert_int_equal(word[0], 0);
	assert_string_equal(text + quad[0] + 56, "guest-user:400000");
	quad[0] += word[1];
	memcpy(word, text + quad[0], 8);
	assert_int_equal(word[0], 3);
	assert_int_equal(quad[0] + word[1], len);
	free(text);
	text = slurp("trace", &len);
	assert_non_null(strstr(text, "block ffffffff81000104 inner+0x4, kernel"));
	assert_non_null(strstr(text, "block 400000, user"));
	free(text);
}

static void files_that_cannot_be_written_are_named(void **state)
{
	struct codelog_config c = {.trace = "/nonexistent/dir/t", .kernel = "none"};
	struct codelog l;
	struct err err;

	assert_int_equal(codelog_open(&l, &c, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/dir/t"));
	c = (struct codelog_config){.trace = "/dev/full", .kernel = "none"};
	assert_int_equal(codelog_open(&l, &c, &err), 0);
	codelog_block(&l, &(struct engine_block){.guest = guest, .host = host});
	assert_int_equal(codelog_close(&l, &err), -EIO);
}

static int setup(void **state)
{
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "jit-%d.dump", (int)getpid());
	unlink(path);
	unlink("trace");
	unlink("System.map");
	unlink("bad.map");
	return chdir("/") || rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_shown_side_by_side),
		cmocka_unit_test(symbols_come_from_a_map),
		cmocka_unit_test(bad_maps_are_refused),
		cmocka_unit_test(symbols_come_from_elf),
		cmocka_unit_test(damaged_elf_is_safe),
		cmocka_unit_test(perf_files_are_as_perf_wants_them),
		cmocka_unit_test(files_that_cannot_be_written_are_named),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
