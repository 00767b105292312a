/*
 * cpuid.c - what CPUID answers: the leaves of an AMD processor of family 19h (Zen 4), and KVM's.
 *
 * AMD, because such a CPU has no Meltdown and, with AutoIBRS, needs no retpolines: the guest's own code gets
 * simpler and faster. As on AMD, a leaf past the last answers zero. Leaf numbers and fields: APM vol. 3,
 * appendix E, and SDM vol. 2, CPUID.
 */
#include "x86/cpuid.h"
#include "x86/feature.h"
#include "x86/x86.h"

#include <string.h>

#define MAX_BASIC 0xdu
#define MAX_HYPERVISOR 0x40000010u
#define MAX_EXTENDED 0x80000021u
#define SIGNATURE 0x00a10f11u /* family 19h, model 11h, stepping 1 */
#define APIC_BASE_ENABLED BIT(11)
#define XSAVE_LEGACY 576u /* 512-byte legacy region and header */
#define XSTATE_COMPONENTS 8

static uint32_t fourcc(const char *s)
{
	uint32_t v;

	memcpy(&v, s, 4);
	return v;
}

/* Bits of an APIC ID that tell CPUs of this machine apart. */
static uint32_t id_bits(uint32_t cpu_count)
{
	uint32_t n = 0;

	while (n < 31 && (1u << n) < cpu_count)
		n++;
	return n;
}

static struct cpuid_regs vendor(uint32_t max)
{
	return (struct cpuid_regs){ max, fourcc("Auth"), fourcc("cAMD"), fourcc("enti") };
}

static struct cpuid_regs leaf_1(const struct cpu_model *m, const struct cpuid_state *s)
{
	uint32_t count = s->cpu_count < 255 ? s->cpu_count : 255;
	struct cpuid_regs r = {
		.eax = SIGNATURE,
		.ebx = (s->apic_id & 0xff) << 24 | count << 16 | 8 << 8, /* CLFLUSH: 8 quadwords */
		.ecx = m->features[CPUID_1_ECX],
		.edx = m->features[CPUID_1_EDX],
	};

	if (s->cr4 & CR4_OSXSAVE)
		r.ecx |= 1u << FEAT_OSXSAVE % 32;
	if (!(s->apic_base & APIC_BASE_ENABLED))
		r.edx &= ~(1u << FEAT_APIC % 32);
	if (s->cpu_count > 1)
		r.edx |= 1u << FEAT_HT % 32;
	return r;
}

static struct cpuid_regs leaf_7(const struct cpu_model *m, uint32_t subleaf)
{
	if (subleaf == 0)
		return (struct cpuid_regs){ 1, m->features[CPUID_7_EBX], m->features[CPUID_7_ECX],
					    m->features[CPUID_7_EDX] };
	if (subleaf == 1)
		return (struct cpuid_regs){ .eax = m->features[CPUID_7_1_EAX] };
	return (struct cpuid_regs){ 0 };
}

/* Extended topology: one thread a core, all cores in one package. */
static struct cpuid_regs leaf_b(const struct cpuid_state *s, uint32_t subleaf)
{
	struct cpuid_regs r = { .ecx = subleaf & 0xff, .edx = s->apic_id };

	if (subleaf == 0) {
		r.ebx = 1;
		r.ecx |= 1 << 8; /* SMT */
	} else if (subleaf == 1) {
		r.eax = id_bits(s->cpu_count);
		r.ebx = s->cpu_count & 0xffff;
		r.ecx |= 2 << 8; /* core */
	}
	return r;
}

static uint32_t standard_size(const struct xstate_layout *x, uint64_t xcr0)
{
	uint32_t size = XSAVE_LEGACY;

	for (unsigned n = 2; n < XSTATE_COMPONENTS; n++)
		if ((xcr0 & x->xcr0) >> n & 1 && x->offset[n] + x->size[n] > size)
			size = x->offset[n] + x->size[n];
	return size;
}

/* None of the components we know asks for alignment in the compacted format. */
static uint32_t compacted_size(const struct xstate_layout *x, uint64_t xcr0)
{
	uint32_t size = XSAVE_LEGACY;

	for (unsigned n = 2; n < XSTATE_COMPONENTS; n++)
		if ((xcr0 & x->xcr0) >> n & 1)
			size += x->size[n];
	return size;
}

static struct cpuid_regs leaf_d(const struct cpu_model *m, const struct cpuid_state *s, uint32_t subleaf)
{
	const struct xstate_layout *x = &m->xstate;

	if (!cpu_has(m, FEAT_XSAVE))
		return (struct cpuid_regs){ 0 };
	if (subleaf == 0)
		return (struct cpuid_regs){ (uint32_t)x->xcr0, standard_size(x, s->xcr0),
					    standard_size(x, x->xcr0), (uint32_t)(x->xcr0 >> 32) };
	if (subleaf == 1)
		return (struct cpuid_regs){ .eax = m->features[CPUID_D_1_EAX],
					    .ebx = compacted_size(x, s->xcr0) };
	if (subleaf < XSTATE_COMPONENTS && x->xcr0 >> subleaf & 1)
		return (struct cpuid_regs){ .eax = x->size[subleaf], .ebx = x->offset[subleaf] };
	return (struct cpuid_regs){ 0 };
}

static struct cpuid_regs basic_leaf(const struct cpu_model *m, const struct cpuid_state *s, uint32_t leaf,
				    uint32_t subleaf)
{
	switch (leaf) {
	case 0:
		return vendor(MAX_BASIC);
	case 1:
		return leaf_1(m, s);
	case 6:
		return (struct cpuid_regs){ .eax = 1 << 2 }; /* ARAT: the APIC timer never stops */
	case 7:
		return leaf_7(m, subleaf);
	case 0xb:
		return leaf_b(s, subleaf);
	case 0xd:
		return leaf_d(m, s, subleaf);
	default:
		return (struct cpuid_regs){ 0 };
	}
}

/* The clock's old MSRs are there with the new ones. */
static struct cpuid_regs kvm_features(const struct cpu_model *m)
{
	struct cpuid_regs r = { .eax = m->features[CPUID_KVM_EAX] };

	if (cpu_has(m, FEAT_KVM_CLOCK))
		r.eax |= 1u << KVM_FEATURE_CLOCKSOURCE;
	return r;
}

/* abi/kvm_para.h. 0x40000010 is the leaf other hypervisors tell clocks in. */
static struct cpuid_regs hypervisor_leaf(const struct cpu_model *m, uint32_t leaf)
{
	if (!cpu_has(m, FEAT_HYPERVISOR))
		return (struct cpuid_regs){ 0 };
	switch (leaf) {
	case KVM_CPUID_SIGNATURE:
		return (struct cpuid_regs){ MAX_HYPERVISOR, fourcc("KVMK"), fourcc("VMKV"), fourcc("M\0\0") };
	case KVM_CPUID_FEATURES:
		return kvm_features(m);
	case 0x40000010u:
		return (struct cpuid_regs){ (uint32_t)((m->tsc_hz + 500) / 1000), X86_APIC_BUS_HZ / 1000, 0, 0 };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

static struct cpuid_regs brand_leaf(const struct cpu_model *m, uint32_t part)
{
	char brand[48] = "Ringer Virtual CPU (", *end = brand + 20;
	struct cpuid_regs r;

	/* By hand: printf() is not light (base/light.h), and a guest's CPUID comes here. */
	for (unsigned i = 0; i < 24 && m->name[i]; i++)
		*end++ = m->name[i];
	*end = ')';
	memcpy(&r, brand + part * sizeof(r), sizeof(r));
	return r;
}

static struct cpuid_regs leaf_80000001(const struct cpu_model *m, const struct cpuid_state *s)
{
	struct cpuid_regs r = {
		.eax = SIGNATURE,
		.ecx = m->features[CPUID_80000001_ECX],
		.edx = m->features[CPUID_80000001_EDX],
	};

	if (s->cpu_count > 1)
		r.ecx |= 1u << FEAT_CMP_LEGACY % 32;
	if (!(s->apic_base & APIC_BASE_ENABLED))
		r.edx &= ~(1u << FEAT_APIC % 32);
	return r;
}

static struct cpuid_regs leaf_80000008(const struct cpu_model *m, const struct cpuid_state *s)
{
	uint32_t cores = s->cpu_count ? s->cpu_count - 1 : 0;

	return (struct cpuid_regs){
		.eax = 48u << 8 | m->phys_bits, /* linear, physical address bits */
		.ebx = m->features[CPUID_80000008_EBX],
		.ecx = id_bits(s->cpu_count) << 12 | (cores & 0xff),
	};
}

/* Caches of a Zen 4 core: type (1 data, 2 code, 3 both), level, ways, sets of 64-byte lines, shared by all. */
static struct cpuid_regs leaf_8000001d(const struct cpuid_state *s, uint32_t subleaf)
{
	static const struct {
		uint8_t type, level, ways;
		bool shared;
		uint32_t sets;
	} cache[] = {
		{ 1, 1, 8, false, 64 }, { 2, 1, 8, false, 64 }, { 3, 2, 8, false, 2048 }, { 3, 3, 16, true, 32768 },
	};
	uint32_t sharing;

	if (subleaf >= ARRAY_SIZE(cache))
		return (struct cpuid_regs){ 0 };
	sharing = cache[subleaf].shared && s->cpu_count ? (s->cpu_count - 1) & 0xfff : 0;
	return (struct cpuid_regs){
		.eax = cache[subleaf].type | cache[subleaf].level << 5 | 1 << 8 | sharing << 14,
		.ebx = 63 | (cache[subleaf].ways - 1u) << 22,
		.ecx = cache[subleaf].sets - 1,
		.edx = cache[subleaf].level == 2 ? 2 : cache[subleaf].level == 3 ? 1 : 0,
	};
}

static struct cpuid_regs extended_leaf(const struct cpu_model *m, const struct cpuid_state *s, uint32_t leaf,
				       uint32_t subleaf)
{
	switch (leaf) {
	case 0x80000000u:
		return vendor(MAX_EXTENDED);
	case 0x80000001u:
		return leaf_80000001(m, s);
	case 0x80000002u:
	case 0x80000003u:
	case 0x80000004u:
		return brand_leaf(m, leaf - 0x80000002u);
	case 0x80000005u: /* first-level TLBs, 32 KiB 8-way caches of 64-byte lines */
		return (struct cpuid_regs){ 0xff48ff40u, 0xff48ff40u, 0x20080140u, 0x20080140u };
	case 0x80000006u: /* second-level TLBs, 1 MiB L2, 32 MiB L3 (associativity: leaf 0x8000001d) */
		return (struct cpuid_regs){ 0x5c002200u, 0x6c004200u, 0x04006140u, 0x01009140u };
	case 0x80000007u:
		return (struct cpuid_regs){ .edx = m->features[CPUID_80000007_EDX] };
	case 0x80000008u:
		return leaf_80000008(m, s);
	case 0x80000019u: /* 64 entries for 1 GiB pages, fully associative */
		return (struct cpuid_regs){ 0xf040f040u, 0xf0400000u, 0, 0 };
	case 0x8000001au: /* 256-bit data paths, unaligned SSE moves at full speed */
		return (struct cpuid_regs){ .eax = 6 };
	case 0x8000001du:
		return leaf_8000001d(s, subleaf);
	case 0x8000001eu: /* one thread a core; core ID; one node */
		return (struct cpuid_regs){ s->apic_id, s->apic_id & 0xff, 0, 0 };
	case 0x80000021u:
		return (struct cpuid_regs){ .eax = m->features[CPUID_80000021_EAX],
					    .ecx = m->features[CPUID_80000021_ECX] };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

struct cpuid_regs cpuid_execute(const struct cpu_model *m, const struct cpuid_state *s, uint32_t leaf,
				uint32_t subleaf)
{
	if (leaf <= MAX_BASIC)
		return basic_leaf(m, s, leaf, subleaf);
	if (leaf >= 0x40000000u && leaf <= MAX_HYPERVISOR)
		return hypervisor_leaf(m, leaf);
	if (leaf >= 0x80000000u && leaf <= MAX_EXTENDED)
		return extended_leaf(m, s, leaf, subleaf);
	return (struct cpuid_regs){ 0 };
}
