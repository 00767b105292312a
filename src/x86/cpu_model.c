/*
 * cpu_model.c - building a CPU model: a level, the host's limits, and what the user adds or leaves out.
 *
 * The order matters: first everything the level offers and the host can run, then the user's choices, then
 * whatever has lost what it builds on goes too. An explicit "+feature" that ends up missing is an error;
 * so is a level whose required features the host lacks.
 */
#include "x86/cpuid.h"
#include "x86/feature.h"
#include "x86/x86.h"

#include "base/suggest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { LEVEL_HOST = 5 };

static const struct {
	const char *name, *description;
	uint8_t level;
} models[] = {
	{ "default", "the most this host can do: the same as host", LEVEL_HOST },
	{ "x86-64-v2", "SSE4.2 and POPCNT: runs on any host", 2 },
	{ "x86-64-v3", "AVX2, BMI and FMA: runs on hosts since about 2015", 3 },
	{ "x86-64-v4", "AVX-512: runs on hosts with it", 4 },
	{ "host", "every instruction set of this host that Ringer knows", LEVEL_HOST },
};

/* A feature cannot be had without what it builds on. In order: a row may rely on the rows above it. */
static const uint16_t needs[][2] = {
	{ FEAT_SSSE3, FEAT_SSE3 }, { FEAT_SSE4_1, FEAT_SSSE3 }, { FEAT_SSE4_2, FEAT_SSE4_1 },
	{ FEAT_XSAVEOPT, FEAT_XSAVE }, { FEAT_XSAVEC, FEAT_XSAVE }, { FEAT_XGETBV1, FEAT_XSAVE },
	{ FEAT_AVX, FEAT_XSAVE }, { FEAT_AVX, FEAT_SSE4_2 }, { FEAT_AVX2, FEAT_AVX }, { FEAT_FMA, FEAT_AVX },
	{ FEAT_F16C, FEAT_AVX }, { FEAT_VAES, FEAT_AVX }, { FEAT_VAES, FEAT_AES },
	{ FEAT_VPCLMULQDQ, FEAT_AVX }, { FEAT_VPCLMULQDQ, FEAT_PCLMULQDQ }, { FEAT_AVX_VNNI, FEAT_AVX2 },
	{ FEAT_AVX512F, FEAT_AVX2 }, { FEAT_AVX512F, FEAT_FMA }, { FEAT_AVX512F, FEAT_F16C },
	{ FEAT_AVX512BW, FEAT_AVX512F }, { FEAT_AVX512CD, FEAT_AVX512F }, { FEAT_AVX512DQ, FEAT_AVX512F },
	{ FEAT_AVX512VL, FEAT_AVX512F }, { FEAT_AVX512IFMA, FEAT_AVX512F }, { FEAT_AVX512VBMI, FEAT_AVX512BW },
	{ FEAT_AVX512_VBMI2, FEAT_AVX512BW }, { FEAT_AVX512_VNNI, FEAT_AVX512F },
	{ FEAT_AVX512_BITALG, FEAT_AVX512BW }, { FEAT_AVX512_VPOPCNTDQ, FEAT_AVX512F },
	{ FEAT_AVX512_VP2INTERSECT, FEAT_AVX512F }, { FEAT_AVX512_BF16, FEAT_AVX512BW },
	{ FEAT_AVX512_FP16, FEAT_AVX512BW }, { FEAT_FSRM, FEAT_ERMS },
	{ FEAT_KVM_CLOCK, FEAT_HYPERVISOR }, { FEAT_KVM_CLOCK_STABLE, FEAT_KVM_CLOCK },
	{ FEAT_KVM_NOP_IO_DELAY, FEAT_HYPERVISOR }, { FEAT_KVM_STEAL_TIME, FEAT_HYPERVISOR },
	{ FEAT_KVM_PV_EOI, FEAT_HYPERVISOR }, { FEAT_KVM_PV_UNHALT, FEAT_HYPERVISOR },
	{ FEAT_KVM_PV_IPI, FEAT_HYPERVISOR }, { FEAT_KVM_POLL_CONTROL, FEAT_HYPERVISOR },
	 { FEAT_KVM_PV_TLB_FLUSH, FEAT_KVM_STEAL_TIME },
	{ FEAT_KVM_PV_SCHED_YIELD, FEAT_KVM_STEAL_TIME },
};

const char *cpu_model_name(unsigned i, const char **description)
{
	if (i >= ARRAY_SIZE(models))
		return NULL;
	if (description)
		*description = models[i].description;
	return models[i].name;
}

static void set(struct cpu_model *m, uint16_t f, bool on)
{
	if (on)
		m->features[f / 32] |= 1u << f % 32;
	else
		m->features[f / 32] &= ~(1u << f % 32);
}

static void drop_unsupported(struct cpu_model *m)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if (!cpu_has(m, needs[i][1]))
			set(m, needs[i][0], false);
}

/* Appends " word" while there is room; the text stays terminated. */
static void append(char *text, size_t size, const char *word)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used ? " " : "", word);
}

static int apply_level(struct cpu_model *m, const struct host_cpu *h, unsigned level, struct err *err)
{
	const struct cpuid_feature *f;
	char missing[256] = "";

	for (unsigned i = 0; (f = cpuid_feature_at(i)); i++) {
		if (f->kind == FEATURE_NEVER || f->level > level)
			continue;
		if (f->kind != FEATURE_NATIVE || host_has(h, f->feature))
			set(m, f->feature, true);
	}
	drop_unsupported(m);
	for (unsigned i = 0; (f = cpuid_feature_at(i)); i++) {
		bool required = f->required && f->level <= (level == LEVEL_HOST ? 2 : level);

		if (required && !cpu_has(m, f->feature))
			append(missing, sizeof(missing), f->name);
	}
	if (missing[0])
		return err_set(err, EINVAL, "CPU model %s needs what this host lacks: %s", m->name, missing);
	return 0;
}

static int unknown_feature(const char *name, struct err *err)
{
	const char *names[256];
	const char *near;
	const struct cpuid_feature *f;
	unsigned n = 0;

	for (; n < ARRAY_SIZE(names) && (f = cpuid_feature_at(n)); n++)
		names[n] = f->name;
	near = suggest(name, names, n);
	if (near)
		return err_set(err, EINVAL, "unknown CPU feature \"%s\", did you mean \"%s\"?", name, near);
	return err_set(err, EINVAL, "unknown CPU feature \"%s\"", name);
}

/* One "+name" or "-name". */
static int apply_choice(struct cpu_model *m, const struct host_cpu *h, const char *choice, struct err *err)
{
	bool on = choice[0] == '+';
	const struct cpuid_feature *f;

	if (choice[0] != '+' && choice[0] != '-')
		return err_set(err, EINVAL, "CPU model: \"%s\" is neither +feature nor -feature", choice);
	f = cpuid_feature_find(choice + 1);
	if (!f)
		return unknown_feature(choice + 1, err);
	if (on && f->kind == FEATURE_NEVER)
		return err_set(err, EINVAL, "CPU feature %s cannot be offered: %s", f->name, f->why);
	if (on && f->kind == FEATURE_NATIVE && !host_has(h, f->feature))
		return err_set(err, EINVAL, "CPU feature %s runs on the host CPU, and this one lacks it", f->name);
	if (!on && f->required && f->level == 1)
		return err_set(err, EINVAL, "CPU feature %s belongs to x86-64 and cannot be left out", f->name);
	set(m, f->feature, on);
	return 0;
}

/* Cuts the first word off a list of words between commas: *list is then what follows, NULL at the end. */
static int next_word(const char **list, char *word, size_t size, struct err *err)
{
	size_t len = strcspn(*list, ",");

	if (!len || len >= size)
		return err_set(err, EINVAL, "CPU model: bad feature \"%.*s\"", (int)len, *list);
	memcpy(word, *list, len);
	word[len] = '\0';
	*list = (*list)[len] ? *list + len + 1 : NULL;
	return 0;
}

/* choices: "+a,-b,...", or NULL. */
static int apply_choices(struct cpu_model *m, const struct host_cpu *h, const char *choices, struct err *err)
{
	const char *rest;
	char word[40];
	int ret;

	for (rest = choices; rest;) {
		ret = next_word(&rest, word, sizeof(word), err);
		if (!ret)
			ret = apply_choice(m, h, word, err);
		if (ret)
			return ret;
	}
	drop_unsupported(m);
	for (rest = choices; rest;) {
		const struct cpuid_feature *f;

		ret = next_word(&rest, word, sizeof(word), err);
		if (ret)
			return ret;
		f = cpuid_feature_find(word + 1);
		if (word[0] == '+' && f && !cpu_has(m, f->feature))
			return err_set(err, EINVAL, "CPU feature %s builds on one that is left out", f->name);
	}
	return 0;
}

static void set_xstate(struct cpu_model *m)
{
	m->xstate.xcr0 = XCR0_X87 | XCR0_SSE;
	if (cpu_has(m, FEAT_AVX))
		m->xstate.xcr0 |= XCR0_AVX;
	if (cpu_has(m, FEAT_AVX512F))
		m->xstate.xcr0 |= XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM;
	/* x87 and SSE are in the legacy region, at fixed places (SDM vol. 1, 13.4.1). */
	m->xstate.size[0] = 160;
	m->xstate.offset[1] = 160;
	m->xstate.size[1] = 256;
	for (unsigned n = 2; n < 8; n++)
		if (m->xstate.xcr0 >> n & 1)
			host_xstate(n, &m->xstate.offset[n], &m->xstate.size[n]);
}

static int find_model(struct cpu_model *m, const char *name, size_t len, uint8_t *level, struct err *err)
{
	const char *names[ARRAY_SIZE(models)], *near;
	char word[40];

	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		names[i] = models[i].name;
		if (strlen(names[i]) != len || strncasecmp(name, names[i], len))
			continue;
		*level = models[i].level;
		snprintf(m->name, sizeof(m->name), "%s", *level == LEVEL_HOST ? "host" : names[i]);
		return 0;
	}
	snprintf(word, sizeof(word), "%.*s", (int)(len < 39 ? len : 39), name);
	near = suggest(word, names, ARRAY_SIZE(names));
	return err_set(err, EINVAL, "unknown CPU model \"%s\"%s%s%s", word, near ? ", did you mean \"" : "",
		       near ? near : "", near ? "\"?" : "");
}

int cpu_model_init(struct cpu_model *m, const char *name, struct err *err)
{
	size_t len = strcspn(name, ",");
	struct host_cpu h;
	uint8_t level = 0;
	int ret;

	memset(m, 0, sizeof(*m));
	ret = find_model(m, name, len, &level, err);
	if (ret)
		return ret;
	host_cpu_read(&h);
	ret = apply_level(m, &h, level, err);
	if (ret)
		return ret;
	ret = apply_choices(m, &h, name[len] ? name + len + 1 : NULL, err);
	if (ret)
		return ret;
	/* AMD repeats these bits of leaf 1 in leaf 0x80000001 (APM vol. 3, E.4.2). */
	m->features[CPUID_80000001_EDX] |= m->features[CPUID_1_EDX] & 0x0183f3ffu;
	m->phys_bits = h.phys_bits < 48 ? h.phys_bits : 48;
	set_xstate(m);
	m->tsc_hz = host_tsc_hz();
	return 0;
}
