/*
 * cpuid.h - CPU models: what CPUID says to a guest, and which instructions that allows it.
 *
 * A model is a set of feature bits over an AMD identity (docs/decisions/ says why AMD). What the host CPU
 * lacks is never offered. A finished model is immutable and may be shared between vCPUs.
 */
#ifndef RINGER_X86_CPUID_H
#define RINGER_X86_CPUID_H

#include "base/base.h"
#include "base/err.h"
#include "x86/insn.h"

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

/* Feature words, in the order of cpu_model.features. Bit numbers are CPUID's own. */
enum cpuid_word {
	CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX, CPUID_7_ECX, CPUID_7_EDX, CPUID_7_1_EAX,
	CPUID_D_1_EAX, CPUID_80000001_ECX, CPUID_80000001_EDX, CPUID_80000007_EDX, CPUID_80000008_EBX,
	CPUID_80000021_EAX, CPUID_80000021_ECX, CPUID_KVM_EAX /* 0x40000001 */, CPUID_WORDS
};
/* A feature: word * 32 + bit. */
#define CPUID_FEATURE(word, bit) ((uint16_t)((word) * 32 + (bit)))

/* What a feature's place in a model depends on. */
enum cpuid_feature_kind {
	FEATURE_NATIVE,   /* instructions that run on the host CPU: offered only if the host has it */
	FEATURE_EMULATED, /* Ringer's own work, whatever the host has */
	FEATURE_CLAIM,    /* a property of this virtual machine that lets a guest leave something out */
	FEATURE_NEVER,    /* no model offers it */
};

/* Names are those of /proc/cpuinfo where Linux has one, QEMU's for the paravirtual ones. */
struct cpuid_feature {
	const char *name;
	uint16_t feature; /* CPUID_FEATURE(word, bit) */
	uint8_t kind;     /* enum cpuid_feature_kind */
	uint8_t level;    /* lowest of x86-64-v1..v4 with it; 5: "host" only; 0 when never offered */
	bool required;    /* the psABI's level includes it: the host must have it */
	const char *why;  /* of a feature never offered; NULL otherwise */
};

/* i-th feature known; NULL past the last. For listings: each bit appears once. */
const struct cpuid_feature *cpuid_feature_at(unsigned i);
/* NULL when there is no such name; letter case is ignored. */
const struct cpuid_feature *cpuid_feature_find(const char *name);
/* "native", "emulated", "claim", "never" */
const char *cpuid_feature_kind_name(enum cpuid_feature_kind k);

/*
 * The host CPU as a program sees it: what the host's kernel has not enabled in XCR0 is not there. CPUID is
 * executed anew each time.
 */
struct host_cpu {
	char vendor[13], brand[49];
	uint32_t family, model, stepping;
	uint32_t features[CPUID_WORDS];
	uint8_t phys_bits;
};
void host_cpu_read(struct host_cpu *h);
/* Where the host's XSAVE puts a state component (standard format) and its size; 0, 0: not there. */
void host_xstate(unsigned component, uint32_t *offset, uint32_t *size);

static inline bool host_has(const struct host_cpu *h, uint16_t feature)
{
	return h->features[feature / 32] >> (feature % 32) & 1;
}

struct xstate_layout {
	uint64_t xcr0;               /* components the guest may enable: x87, SSE, AVX, opmask, ZMM_Hi256, Hi16_ZMM */
	uint32_t offset[8], size[8]; /* of component n in the standard format, as the host has them */
};

struct cpu_model {
	char name[32];
	uint32_t features[CPUID_WORDS];
	uint8_t phys_bits; /* MAXPHYADDR */
	uint64_t tsc_hz;
	struct xstate_layout xstate;
};

/*
 * Builds a model from "NAME[,+feature|,-feature]...", NAME being "x86-64-v2", "-v3", "-v4", "host" or "default"
 * (= the most the host can). -EINVAL with a reason when a name is unknown, the host lacks a feature that is
 * required or asked for, or a feature cannot be had or left out.
 */
int cpu_model_init(struct cpu_model *m, const char *name, struct err *err) must_check;
/* i-th model's name and one-line description; NULL past the last. */
const char *cpu_model_name(unsigned i, const char **description);

/* The local APIC's timer clock, as leaf 0x40000010 tells it: one count a nanosecond. */
#define X86_APIC_BUS_HZ 1000000000u

static inline bool cpu_has(const struct cpu_model *m, uint16_t feature)
{
	return m->features[feature / 32] >> (feature % 32) & 1;
}

/* What of the vCPU's state shows through CPUID. */
struct cpuid_state {
	uint64_t cr4, xcr0, apic_base;
	uint32_t apic_id, cpu_count;
};
/* Executes CPUID: every leaf and subleaf has an answer, KVM's 0x40000000 leaves included. */
struct cpuid_regs cpuid_execute(const struct cpu_model *m, const struct cpuid_state *s, uint32_t leaf,
				uint32_t subleaf);

/* Whether the model offers the instruction; one that it does not raises #UD. */
bool cpu_model_allows(const struct cpu_model *m, const ZydisDecodedInstruction *z);

/* TSC frequency of this host in Hz: from CPUID 15h, the hypervisor's leaf, or measured over 20 ms. */
uint64_t host_tsc_hz(void);

#endif
