/* test_cpuid.c - CPU models: what CPUID answers, and which instructions follow from it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "x86/cpuid.h"
#include "x86/feature.h"
#include "x86/x86.h"

static const struct cpuid_state running = {
	.cr4 = CR4_OSXSAVE, .xcr0 = XCR0_X87 | XCR0_SSE, .apic_base = 0xfee00900, .apic_id = 2, .cpu_count = 4,
};

/* True when the model can be built here; a level the host lacks is no failure of the code. */
static bool model(struct cpu_model *m, const char *name)
{
	struct err err;

	if (!cpu_model_init(m, name, &err))
		return true;
	assert_non_null(strstr(err.text, "needs what this host lacks"));
	return false;
}

static struct cpuid_regs ask(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf)
{
	return cpuid_execute(m, &running, leaf, subleaf);
}

static void identity(void **state)
{
	static const uint32_t vendor_leaves[] = { 0, 0x80000000u };
	struct cpu_model m;
	struct cpuid_regs r;
	char text[49] = "";

	assert_true(model(&m, "default"));
	for (size_t i = 0; i < ARRAY_SIZE(vendor_leaves); i++) {
		r = ask(&m, vendor_leaves[i], 0);
		assert_memory_equal(&r.ebx, "Auth", 4);
		assert_memory_equal(&r.edx, "enti", 4);
		assert_memory_equal(&r.ecx, "cAMD", 4);
	}
	assert_int_equal(ask(&m, 0, 0).eax, 0xd);
	assert_int_equal(ask(&m, 0x80000000u, 0).eax, 0x80000021u);
	r = ask(&m, 1, 0);
	assert_int_equal((r.eax >> 8 & 15) + (r.eax >> 20 & 0xff), 0x19);
	assert_int_equal(r.ebx >> 24, 2);
	assert_int_equal(r.ebx >> 16 & 0xff, 4);
	for (unsigned i = 0; i < 3; i++) {
		r = ask(&m, 0x80000002u + i, 0);
		memcpy(text + i * 16, &r, 16);
	}
	assert_string_equal(text, "Ringer Virtual CPU (host)");
	assert_int_equal(ask(&m, 0x80000001u, 0).eax, ask(&m, 1, 0).eax);
}

static void hypervisor_leaves(void **state)
{
	struct cpu_model m;
	struct cpuid_regs r;

	assert_true(model(&m, "default"));
	r = ask(&m, 0x40000000u, 0);
	assert_int_equal(r.eax, 0x40000010u);
	assert_memory_equal(&r.ebx, "KVMKVMKVM\0\0\0", 12);
	r = ask(&m, 0x40000001u, 0);
	/* both clocks, steal time, EOI, unhalt, TLB flush, IPI, polling, yield; nothing about page faults */
	assert_int_equal(r.eax, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13 |
					1 << 24);
	assert_int_equal(r.edx, 0); /* no REALTIME hint */
	r = ask(&m, 0x40000010u, 0);
	assert_int_equal(r.eax, (m.tsc_hz + 500) / 1000);
	assert_int_equal(r.ebx, 1000000);
	assert_true(model(&m, "default,-kvm-steal-time,-kvmclock"));
	assert_int_equal(ask(&m, 0x40000001u, 0).eax, 1 << 1 | 1 << 6 | 1 << 7 | 1 << 11 | 1 << 12);
	assert_true(model(&m, "default,-hypervisor"));
	assert_int_equal(ask(&m, 0x40000000u, 0).eax, 0);
	assert_false(cpu_has(&m, FEAT_KVM_CLOCK_STABLE));
	assert_false(cpu_has(&m, FEAT_KVM_PV_TLB_FLUSH));
	assert_false(ask(&m, 1, 0).ecx >> 31);
}

static void never_and_native(void **state)
{
	static const char *const names[] = { "x86-64-v2", "x86-64-v3", "x86-64-v4", "host", "default" };
	const struct cpuid_feature *f;
	struct host_cpu host;
	struct cpu_model m;

	host_cpu_read(&host);
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		uint32_t known[CPUID_WORDS] = { 0 };

		if (!model(&m, names[n]))
			continue;
		for (unsigned i = 0; (f = cpuid_feature_at(i)); i++) {
			bool has = cpu_has(&m, f->feature);

			known[f->feature / 32] |= 1u << f->feature % 32;
			if (f->kind == FEATURE_NEVER && has)
				fail_msg("%s offers %s", names[n], f->name);
			if (f->kind == FEATURE_NATIVE && has && !host_has(&host, f->feature))
				fail_msg("%s offers %s, which this host lacks", names[n], f->name);
			if (f->level == 1 && f->kind != FEATURE_NATIVE && !has)
				fail_msg("%s lacks %s", names[n], f->name);
		}
		known[CPUID_80000001_EDX] |= 0x0183f3ffu; /* repeats of leaf 1 */
		for (unsigned w = 0; w < CPUID_WORDS; w++)
			assert_int_equal(m.features[w] & ~known[w], 0);
	}
}

static void feature_table(void **state)
{
	const struct cpuid_feature *f, *g;

	for (unsigned i = 0; (f = cpuid_feature_at(i)); i++) {
		assert_ptr_equal(cpuid_feature_find(f->name), f);
		assert_true(f->feature < CPUID_WORDS * 32);
		assert_int_equal(f->kind == FEATURE_NEVER, f->why != NULL);
		assert_int_equal(f->kind == FEATURE_NEVER, f->level == 0);
		assert_string_not_equal(cpuid_feature_kind_name(f->kind), "unknown");
		for (unsigned k = 0; k < i; k++) {
			g = cpuid_feature_at(k);
			if (g->feature == f->feature)
				fail_msg("%s and %s are the same bit", g->name, f->name);
		}
	}
	assert_null(cpuid_feature_find("nosuch"));
	assert_ptr_equal(cpuid_feature_find("LZCNT"), cpuid_feature_find("abm"));
}

/* What keeps Linux from retpolines, page-table isolation and return thunks. */
static void cheap_mitigations(void **state)
{
	static const uint16_t want[] = {
		FEAT_AUTOIBRS, FEAT_SRSO_NO, FEAT_TSA_SQ_NO, FEAT_TSA_L1_NO, FEAT_BTC_NO, FEAT_SSB_NO,
		FEAT_NULL_SEL_CLR_BASE, FEAT_LFENCE_RDTSC, FEAT_PCID, FEAT_INVPCID, FEAT_SMEP, FEAT_SMAP, FEAT_UMIP,
		FEAT_FSGSBASE, FEAT_ERMS, FEAT_FSRM, FEAT_X2APIC, FEAT_TSC_DEADLINE, FEAT_TSC_ADJUST,
		FEAT_INVARIANT_TSC, FEAT_PDPE1GB, FEAT_RDTSCP, FEAT_NX, FEAT_LM, FEAT_HYPERVISOR,
	};
	struct cpu_model m;

	assert_true(model(&m, "x86-64-v2"));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_true(cpu_has(&m, want[i]));
	assert_int_equal(ask(&m, 0x80000021u, 0).eax & (1u << 8 | 1u << 29), 1u << 8 | 1u << 29);
	assert_int_equal(ask(&m, 0x80000021u, 0).ecx, 6);
	assert_int_equal(ask(&m, 0x80000007u, 0).edx, 1 << 8);
	assert_int_equal(ask(&m, 6, 0).eax & 4, 4);
	assert_int_equal(ask(&m, 5, 0).ecx, 0);
}

static void levels(void **state)
{
	struct cpu_model m;

	assert_true(model(&m, "x86-64-v2"));
	assert_false(cpu_has(&m, FEAT_AVX));
	assert_false(cpu_has(&m, FEAT_XSAVE));
	assert_true(cpu_has(&m, FEAT_SSE4_2));
	assert_int_equal(m.xstate.xcr0, XCR0_X87 | XCR0_SSE);
	assert_int_equal(ask(&m, 0xd, 0).eax, 0);
	if (model(&m, "x86-64-v3")) {
		assert_true(cpu_has(&m, FEAT_AVX2));
		assert_false(cpu_has(&m, FEAT_AVX512F));
		assert_int_equal(m.xstate.xcr0, XCR0_X87 | XCR0_SSE | XCR0_AVX);
	}
	if (model(&m, "x86-64-v4")) {
		assert_true(cpu_has(&m, FEAT_AVX512VL));
		assert_int_equal(m.xstate.xcr0, 0xe7);
	}
}

static void refused(const char *name, const char *says)
{
	struct cpu_model m;
	struct err err = { "" };

	if (!cpu_model_init(&m, name, &err))
		fail_msg("%s is accepted", name);
	if (!strstr(err.text, says))
		fail_msg("%s: \"%s\" does not say \"%s\"", name, err.text, says);
}

static void choices(void **state)
{
	struct cpu_model m;
	const char *description;

	assert_true(model(&m, "x86-64-v2,-pcid,-smap"));
	assert_false(cpu_has(&m, FEAT_PCID));
	assert_false(cpu_has(&m, FEAT_SMAP));
	assert_true(cpu_has(&m, FEAT_SMEP));
	assert_false(ask(&m, 1, 0).ecx >> 17 & 1);
	assert_true(model(&m, "x86-64-v2,-ssse3"));
	assert_false(cpu_has(&m, FEAT_SSE4_2)); /* goes with what it builds on */
	if (model(&m, "x86-64-v3,-avx")) {
		assert_false(cpu_has(&m, FEAT_AVX2));
		assert_int_equal(m.xstate.xcr0, XCR0_X87 | XCR0_SSE);
	}
	refused("", "unknown CPU model");
	refused("x86-64-v9", "did you mean");
	refused("x86-64-v2,pcid", "neither");
	refused("x86-64-v2,", "bad feature");
	refused("x86-64-v2,,+pcid", "bad feature");
	refused("x86-64-v2,+", "unknown CPU feature");
	refused("x86-64-v2,+pcdi", "did you mean \"pcid\"");
	refused("x86-64-v2,+vmx", "nested");
	refused("x86-64-v2,-lm", "cannot be left out");
	refused("x86-64-v2,-erms,+fsrm", "builds on");
	refused("x86-64-v2,+aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bad feature");
	assert_int_not_equal(cpu_model_init(&m, "nosuch", NULL), 0);
	for (unsigned i = 0; cpu_model_name(i, &description); i++)
		assert_true(strlen(description) > 10);
	assert_null(cpu_model_name(1000, NULL));
}

static void state_shows(void **state)
{
	struct cpuid_state s = running;
	struct cpu_model m;

	assert_true(model(&m, "default"));
	assert_true(cpuid_execute(&m, &s, 1, 0).ecx >> 27 & 1);
	assert_true(cpuid_execute(&m, &s, 1, 0).edx >> 9 & 1);
	s.cr4 = 0;
	s.apic_base = 0;
	s.cpu_count = 1;
	assert_false(cpuid_execute(&m, &s, 1, 0).ecx >> 27 & 1);
	assert_false(cpuid_execute(&m, &s, 1, 0).edx >> 9 & 1);
	assert_false(cpuid_execute(&m, &s, 1, 0).edx >> 28 & 1);
	assert_int_equal(cpuid_execute(&m, &s, 0xb, 1).eax, 0);
	assert_int_equal(cpuid_execute(&m, &s, 0x80000008u, 0).ecx, 0);
}

static void topology(void **state)
{
	struct cpu_model m;
	struct cpuid_regs r;

	assert_true(model(&m, "x86-64-v2"));
	r = ask(&m, 0xb, 0);
	assert_int_equal(r.ebx, 1);
	assert_int_equal(r.ecx, 0x100);
	assert_int_equal(r.edx, 2);
	r = ask(&m, 0xb, 1);
	assert_int_equal(r.eax, 2);
	assert_int_equal(r.ebx, 4);
	assert_int_equal(r.ecx, 0x201);
	assert_int_equal(ask(&m, 0xb, 2).ebx, 0);
	assert_int_equal(ask(&m, 0x80000008u, 0).ecx, 2 << 12 | 3);
	assert_int_equal(ask(&m, 0x8000001eu, 0).eax, 2);
	/* 32 MiB shared by all four: ways * lines * sets */
	r = ask(&m, 0x8000001du, 3);
	assert_int_equal(((r.ebx >> 22) + 1) * 64 * (r.ecx + 1), 32 << 20);
	assert_int_equal(r.eax >> 14 & 0xfff, 3);
	assert_int_equal(ask(&m, 0x8000001du, 4).eax & 31, 0);
}

static void xsave_area(void **state)
{
	struct cpuid_state s = running;
	struct cpu_model m;
	struct cpuid_regs r;
	uint32_t end = 576;

	if (!model(&m, "default") || !cpu_has(&m, FEAT_AVX))
		skip();
	r = cpuid_execute(&m, &s, 0xd, 0);
	assert_int_equal(r.eax, m.xstate.xcr0);
	assert_int_equal(r.ebx, 576);
	for (unsigned n = 2; n < 8; n++) {
		struct cpuid_regs c = ask(&m, 0xd, n);

		if (!(m.xstate.xcr0 >> n & 1)) {
			assert_int_equal(c.eax, 0);
			continue;
		}
		assert_true(c.eax > 0 && c.ebx >= 576);
		if (c.ebx + c.eax > end)
			end = c.ebx + c.eax;
	}
	assert_int_equal(r.ecx, end);
	s.xcr0 = m.xstate.xcr0;
	assert_int_equal(cpuid_execute(&m, &s, 0xd, 0).ebx, end);
	assert_int_equal(ask(&m, 0xd, 1).eax & 8, 0); /* no XSAVES */
	assert_int_equal(ask(&m, 0xd, 11).eax, 0);
}

/* No leaf reads out of bounds (ASan) and none past the last says anything. */
static void every_leaf_answers(void **state)
{
	static const uint32_t bases[] = { 0, 0x40000000u, 0x40000100u, 0x80000000u, 0x8fffff00u, 0xc0000000u,
					  0xffffff00u };
	struct cpu_model m;

	assert_true(model(&m, "default"));
	for (size_t b = 0; b < ARRAY_SIZE(bases); b++)
		for (uint32_t leaf = 0; leaf < 256; leaf++)
			for (uint32_t sub = 0; sub < 70; sub++)
				ask(&m, bases[b] + leaf, sub == 69 ? UINT32_MAX : sub);
	assert_int_equal(ask(&m, 0xe, 0).eax | ask(&m, 0x80000022u, 0).eax | ask(&m, 0xc0000000u, 0).eax, 0);
	assert_int_equal(ask(&m, 0x15, 0).eax | ask(&m, 0x16, 0).eax, 0);
	assert_int_equal(ask(&m, 7, 2).edx | ask(&m, 7, 2).eax, 0);
}

static bool allows(const struct cpu_model *m, const uint8_t *bytes, size_t len)
{
	struct insn_decoder dec;
	struct insn i;

	insn_decoder_init(&dec);
	assert_int_equal(insn_decode(&dec, X86_MODE_64, bytes, len, &i), DECODE_OK);
	return cpu_model_allows(m, &i.z);
}

static void instructions_follow(void **state)
{
	static const struct {
		uint8_t bytes[8];
		const char *name;
		uint16_t need[2]; /* features; FEAT_FPU where none */
		bool never;
	} rows[] = {
		{ { 0x48, 0x01, 0xc0 }, "add", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0x0f, 0x58, 0xc1 }, "addps", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0xd9, 0xe8 }, "fld1", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0x0f, 0x44, 0xc1 }, "cmovz", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0x0f, 0xa2 }, "cpuid", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0x0f, 0x01, 0xd9 }, "vmmcall", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0x0f, 0x0d, 0x08 }, "prefetchw", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0xf3, 0x0f, 0xbc, 0xc1 }, "tzcnt (rep bsf)", { FEAT_FPU, FEAT_FPU }, false },
		{ { 0xf3, 0x0f, 0xb8, 0xc1 }, "popcnt", { FEAT_POPCNT, FEAT_FPU }, false },
		{ { 0x66, 0x0f, 0x38, 0x00, 0xc1 }, "pshufb", { FEAT_SSSE3, FEAT_FPU }, false },
		{ { 0xc5, 0xf8, 0x58, 0xc1 }, "vaddps xmm", { FEAT_AVX, FEAT_FPU }, false },
		{ { 0xc5, 0xfd, 0xfe, 0xc1 }, "vpaddd ymm", { FEAT_AVX2, FEAT_FPU }, false },
		{ { 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1 }, "vaddps zmm", { FEAT_AVX512F, FEAT_FPU }, false },
		{ { 0x62, 0xf1, 0x7c, 0x0a, 0x58, 0xc1 }, "vaddps xmm{k}", { FEAT_AVX512F, FEAT_AVX512VL }, false },
		{ { 0x62, 0xf1, 0x7d, 0x2a, 0xfc, 0xc1 }, "vpaddb ymm{k}", { FEAT_AVX512BW, FEAT_AVX512VL }, false },
		{ { 0xc5, 0xf8, 0x92, 0xc8 }, "kmovw", { FEAT_AVX512F, FEAT_FPU }, false },
		{ { 0x0f, 0xae, 0x27 }, "xsave", { FEAT_XSAVE, FEAT_FPU }, false },
		{ { 0x0f, 0xc7, 0x27 }, "xsavec", { FEAT_XSAVEC, FEAT_FPU }, false },
		{ { 0x66, 0x0f, 0x38, 0x82, 0x07 }, "invpcid", { FEAT_INVPCID, FEAT_FPU }, false },
		{ { 0xf3, 0x0f, 0xc7, 0xf8 }, "rdpid", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0xc7, 0x2f }, "xsaves", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0x78, 0xc0 }, "vmread", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0x01, 0xd8 }, "vmrun", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0x01, 0xc8 }, "monitor", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0x01, 0xee }, "rdpkru", { FEAT_FPU, FEAT_FPU }, true },
		{ { 0x0f, 0x01, 0xd5 }, "xend", { FEAT_FPU, FEAT_FPU }, true },
	};
	static const char *const names[] = { "x86-64-v2", "x86-64-v3", "x86-64-v4", "host" };
	struct cpu_model m;

	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		if (!model(&m, names[n]))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			bool want = !rows[i].never && cpu_has(&m, rows[i].need[0]) &&
				    cpu_has(&m, rows[i].need[1]);

			if (allows(&m, rows[i].bytes, sizeof(rows[i].bytes)) != want)
				fail_msg("%s %s %s", names[n], want ? "lacks" : "allows", rows[i].name);
		}
	}
}

static void host_facts(void **state)
{
	struct host_cpu h;
	uint64_t hz = host_tsc_hz();

	host_cpu_read(&h);
	assert_int_equal(strlen(h.vendor), 12);
	assert_true(host_has(&h, FEAT_SSE2) && host_has(&h, FEAT_LM));
	assert_in_range(h.phys_bits, 32, 57);
	/* Any TSC there is; two readings agree. */
	assert_in_range(hz, 400000000, 10000000000);
	assert_in_range(host_tsc_hz(), hz - hz / 100, hz + hz / 100);
}

/* Whatever the number, the leaves that tell it agree, and every APIC ID has room below the package's number. */
static void topology_of_any_size(void **state)
{
	struct cpu_model m;

	assert_true(model(&m, "x86-64-v2"));
	for (uint32_t n = 1; n <= 64; n++) {
		struct cpuid_state s = running;
		struct cpuid_regs r;
		uint32_t bits;

		s.cpu_count = n;
		s.apic_id = n - 1;
		r = cpuid_execute(&m, &s, 0xb, 1);
		bits = r.eax;
		assert_int_equal(r.ebx, n);
		assert_int_equal(r.edx, n - 1);
		assert_true(n <= 1u << bits && (n == 1 || n > 1u << (bits - 1)));
		assert_int_equal(cpuid_execute(&m, &s, 0xb, 2).ebx, 0); /* no further level */
		r = cpuid_execute(&m, &s, 0x80000008, 0);
		assert_int_equal(r.ecx & 0xff, n - 1);
		assert_int_equal(r.ecx >> 12 & 0xf, bits);
		r = cpuid_execute(&m, &s, 1, 0);
		assert_int_equal(r.ebx >> 24, n - 1);
		assert_int_equal(r.ebx >> 16 & 0xff, n);
		assert_int_equal(r.edx >> 28 & 1, n > 1);
		assert_int_equal(cpuid_execute(&m, &s, 0x80000001, 0).ecx >> 1 & 1, n > 1);
		assert_int_equal(cpuid_execute(&m, &s, 0x8000001e, 0).eax, n - 1);
		for (uint32_t c = 0; c < 4; c++)
			assert_int_equal((cpuid_execute(&m, &s, 0x8000001d, c).eax >> 14 & 0xfff) + 1,
					 c == 3 ? n : 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity), cmocka_unit_test(hypervisor_leaves),
		cmocka_unit_test(never_and_native), cmocka_unit_test(feature_table),
		cmocka_unit_test(cheap_mitigations), cmocka_unit_test(levels), cmocka_unit_test(choices),
		cmocka_unit_test(state_shows), cmocka_unit_test(topology), cmocka_unit_test(topology_of_any_size), cmocka_unit_test(xsave_area),
		cmocka_unit_test(every_leaf_answers), cmocka_unit_test(instructions_follow),
		cmocka_unit_test(host_facts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
