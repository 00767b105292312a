/*
 * test_acpi.c - the ACPI tables: walked as a kernel does, and handed to iasl (when it is
 * installed), which disassembles and compiles the DSDT again and must find nothing wrong.
 */
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

#include "vm/acpi.h"
#include "vm/acpi_aml.h"

#define BASE 0xe0000ULL

static uint8_t buf[0x20000];

/* present NULL: no hot-plug. */
static int build_with(unsigned cpus, const uint64_t *present)
{
	const struct acpi_config c = {.cpus = cpus,
				      .present = present,
				      .cpu_hotplug_base = present ? 0x640 : 0,
				      .ram_top = GIB(5),
				      .phys_bits = 40,
				      .pm_base = 0x600};
	struct err err = {""};
	int n;

	memset(buf, 0xa5, sizeof(buf));
	n = acpi_build(&c, BASE, buf, sizeof(buf), &err);
	assert_true(n > 0);
	assert_true((size_t)n <= sizeof(buf));
	return n;
}

static int build(unsigned cpus)
{
	return build_with(cpus, NULL);
}

static uint64_t get(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static unsigned sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* The table at a guest-physical address, checked as far as every table goes. */
static const uint8_t *table(uint64_t gpa, const char *signature, int total)
{
	const uint8_t *t;

	assert_in_range(gpa, BASE, BASE + (uint64_t)total - 36);
	t = buf + (gpa - BASE);
	assert_memory_equal(t, signature, 4);
	assert_true(gpa + get(t + 4, 4) <= BASE + (uint64_t)total);
	if (strcmp(signature, "FACS"))
		assert_int_equal(sum(t, get(t + 4, 4)), 0);
	return t;
}

static const uint8_t *from_xsdt(unsigned i, const char *signature, int total)
{
	const uint8_t *xsdt = table(get(buf + 24, 8), "XSDT", total);

	assert_true(36 + 8 * i + 8 <= get(xsdt + 4, 4));
	return table(get(xsdt + 36 + 8 * i, 8), signature, total);
}

static void test_tables(void **state)
{
	int n = build(1);
	const uint8_t *fadt;

	assert_memory_equal(buf, "RSD PTR ", 8);
	assert_int_equal(sum(buf, 20), 0);
	assert_int_equal(sum(buf, 36), 0);
	fadt = from_xsdt(0, "FACP", n);
	assert_int_equal(get(fadt + 4, 4), 276);
	assert_int_equal(get(fadt + 46, 2), 9);
	assert_int_equal(get(fadt + 64, 4), 0x604);
	assert_int_equal(get(fadt + 120, 8), 0xcf9);
	assert_int_equal(get(fadt + 112, 4) >> 20 & 1, 0); /* not hardware-reduced */
	table(get(fadt + 140, 8), "DSDT", n);
	table(get(fadt + 36, 4), "FACS", n);
	assert_int_equal(get(fadt + 36, 4) % 64, 0);
	assert_int_equal(get(fadt + 132, 8), 0);
	assert_int_equal(get(from_xsdt(2, "MCFG", n) + 44, 8), 0xe0000000);
}

static void test_madt(void **state)
{
	int n = build(256);
	const uint8_t *m = from_xsdt(1, "APIC", n);
	unsigned len = (unsigned)get(m + 4, 4), count[16] = {0};

	for (unsigned at = 44; at < len; at += m[at + 1]) {
		assert_true(m[at] < 16 && m[at + 1] >= 6);
		if (m[at] == 9)
			assert_int_equal(get(m + at + 4, 4), 255);
		count[m[at]]++;
	}
	assert_int_equal(count[0], 255); /* ids 0..254 */
	assert_int_equal(count[9], 1);   /* id 255 needs x2APIC */
	assert_int_equal(count[1], 1);
	assert_int_equal(count[2], 2);
	assert_int_equal(count[4], 1);
}

/* Who is not there yet is online capable, so that a kernel keeps room for it. */
static void test_madt_hotplug(void **state)
{
	const uint64_t present = 0x8000000000000005;
	int n = build_with(64, &present), all = build_with(64, &(uint64_t){~0ULL});
	const uint8_t *m;
	unsigned seen = 0;

	assert_int_equal(n, all); /* the same length, whoever is there */
	build_with(64, &present);
	m = from_xsdt(1, "APIC", n);
	for (unsigned at = 44; at < get(m + 4, 4); at += m[at + 1]) {
		if (m[at] != 0)
			continue;
		assert_int_equal(m[at + 2], m[at + 3]);
		assert_int_equal(get(m + at + 4, 4), present >> m[at + 3] & 1 ? 1 : 2);
		seen++;
	}
	assert_int_equal(seen, 64);
}

static void test_too_small(void **state)
{
	const struct acpi_config c = {
		.cpus = 4, .ram_top = GIB(1), .phys_bits = 40, .pm_base = 0x600};
	struct err err;
	int full = acpi_build(&c, BASE, buf, sizeof(buf), &err);

	assert_true(full > 0);
	for (int n = 0; n < full; n++) {
		uint8_t *small = malloc((size_t)n + 1);

		assert_non_null(small);
		small[n] = 0x5a;
		assert_int_equal(acpi_build(&c, BASE, small, (size_t)n, &err), -ENOSPC);
		assert_int_equal(small[n], 0x5a);
		free(small);
	}
}

static void test_aml_encoding(void **state)
{
	/* Hand-assembled from ACPI 6.5, chapter 20. */
	static const uint8_t want[] = {
		0x10, 0x8a, 0x02, 0x00, '\\', '_',  'S',  'B',  '_', /* Scope (\_SB) */
		0x08, '_',  'H',  'I',  'D',  0x0c, 0x41, 0xd0, 0x0a,
		0x08,                                           /* Name (_HID, EisaId) */
		0x08, 'B',  'A',  'R',  '_',  0x0b, 0x34, 0x12, /* Name (BAR, 0x1234) */
		0x14, 0x8a, 0x00, 0x00, 'M',  'E',  'T',  'H',  0x04,
		0xa4, 0x6b, /* Method (METH, 4) */
	};
	uint8_t out[64];
	struct aml a;

	aml_init(&a, out, sizeof(out));
	aml_scope(&a, "\\_SB");
	aml_name(&a, "_HID");
	aml_eisaid(&a, "PNP0A08");
	aml_name_int(&a, "BAR", 0x1234);
	aml_method(&a, "METH", 4);
	aml_return_arg(&a, 3);
	aml_end(&a);
	aml_end(&a);
	assert_false(a.failed);
	assert_int_equal(a.len, sizeof(want));
	/* The scope's length is that of everything after its opcode. */
	assert_int_equal(out[1] & 0xf, (sizeof(want) - 1) & 0xf);
	assert_int_equal(out[2], (sizeof(want) - 1) >> 4);
	assert_memory_equal(out + 4, want + 4, sizeof(want) - 4);
	aml_end(&a);
	assert_true(a.failed);
}

static int run(const char *dir, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd '%s' && %s >>log 2>&1", dir, command);
	return system(line);
}

static void dump_log(const char *dir)
{
	char line[128];

	snprintf(line, sizeof(line), "cat '%s/log' >&2", dir);
	if (system(line))
		fputs("(no log)\n", stderr);
}

static void write_table(const char *dir, const char *name, const uint8_t *t)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(t, get(t + 4, 4), 1, f), 1);
	assert_int_equal(fclose(f), 0);
}

static void check_with_iasl(const uint64_t *present)
{
	static const char *const names[] = {"facp", "apic", "mcfg"}, *const sigs[] = {"FACP",
										      "APIC",
										      "MCFG"};
	char dir[] = "/tmp/ringer-acpi-XXXXXX", line[128];
	int n, bad = 0;

	assert_non_null(mkdtemp(dir));
	n = build_with(3, present);
	for (unsigned i = 0; i < 3; i++) {
		write_table(dir, names[i], from_xsdt(i, sigs[i], n));
		snprintf(line, sizeof(line), "iasl -d %s.aml && ! grep -i 'invalid\\|error' %s.dsl",
			 names[i], names[i]);
		bad |= run(dir, line);
	}
	write_table(dir, "dsdt", table(get(from_xsdt(0, "FACP", n) + 140, 8), "DSDT", n));
	bad |= run(dir, "iasl -d dsdt.aml && iasl -p again dsdt.dsl");
	/* Disassembled and compiled again: no error, no warning. */
	bad |= run(dir,
		   "grep -q ' 0 Errors, 0 Warnings' log && ! grep -i 'error .*[0-9][0-9]* -' log");
	if (bad)
		dump_log(dir);
	snprintf(line, sizeof(line), "rm -rf '%s'", dir);
	assert_int_equal(system(line), 0);
	assert_int_equal(bad, 0);
}

static void test_iasl(void **state)
{
	const uint64_t present = 3;

	if (system("command -v iasl >/dev/null 2>&1"))
		skip();
	check_with_iasl(NULL);
	check_with_iasl(&present);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables), cmocka_unit_test(test_madt), cmocka_unit_test(test_madt_hotplug),
		cmocka_unit_test(test_too_small), cmocka_unit_test(test_aml_encoding),
		cmocka_unit_test(test_iasl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
