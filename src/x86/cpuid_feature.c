/*
 * cpuid_feature.c - every CPUID feature Ringer has an opinion on, in one table.
 *
 * A model offers a feature when the model's level reaches the feature's, and, if the feature's instructions
 * run on the host CPU, the host has it. Levels 1 to 4 are those of the x86-64 psABI; what the psABI does not
 * name sits at the first level all of whose common CPUs have it, so that a level means much the same on any
 * host. A bit that is not in this table is never shown to a guest.
 */
#include "x86/cpuid.h"
#include "x86/feature.h"

#include <strings.h>

#define NATIVE(name, f, level) { name, FEAT_##f, FEATURE_NATIVE, level, false, NULL }
#define NATIVE_REQ(name, f, level) { name, FEAT_##f, FEATURE_NATIVE, level, true, NULL }
#define EMULATED(name, f, level) { name, FEAT_##f, FEATURE_EMULATED, level, false, NULL }
#define EMULATED_REQ(name, f, level) { name, FEAT_##f, FEATURE_EMULATED, level, true, NULL }
#define CLAIM(name, f) { name, FEAT_##f, FEATURE_CLAIM, 1, false, NULL }
#define NEVER(name, f, why) { name, FEAT_##f, FEATURE_NEVER, 0, false, why }

static const struct cpuid_feature features[] = {
	/* x86-64 itself. */
	NATIVE_REQ("fpu", FPU, 1), EMULATED_REQ("de", DE, 1), EMULATED_REQ("pse", PSE, 1),
	EMULATED_REQ("tsc", TSC, 1), EMULATED_REQ("msr", MSR, 1), EMULATED_REQ("pae", PAE, 1),
	EMULATED_REQ("mce", MCE, 1), NATIVE_REQ("cx8", CX8, 1), EMULATED_REQ("apic", APIC, 1),
	EMULATED_REQ("sep", SEP, 1), EMULATED_REQ("mtrr", MTRR, 1), EMULATED_REQ("pge", PGE, 1),
	EMULATED_REQ("mca", MCA, 1), NATIVE_REQ("cmov", CMOV, 1), EMULATED_REQ("pat", PAT, 1),
	EMULATED_REQ("pse36", PSE36, 1), NATIVE_REQ("clflush", CLFLUSH, 1), NATIVE_REQ("mmx", MMX, 1),
	EMULATED_REQ("fxsr", FXSR, 1), NATIVE_REQ("sse", SSE, 1), NATIVE_REQ("sse2", SSE2, 1),
	EMULATED_REQ("syscall", SYSCALL, 1), EMULATED_REQ("nx", NX, 1), EMULATED_REQ("lm", LM, 1),
	EMULATED_REQ("mmxext", MMXEXT, 1),

	/* What the levels of the psABI add. */
	NATIVE_REQ("cx16", CX16, 2), EMULATED_REQ("lahf_lm", LAHF_LM, 2), NATIVE_REQ("popcnt", POPCNT, 2),
	NATIVE_REQ("pni", SSE3, 2), NATIVE_REQ("ssse3", SSSE3, 2), NATIVE_REQ("sse4_1", SSE4_1, 2),
	NATIVE_REQ("sse4_2", SSE4_2, 2),
	NATIVE_REQ("avx", AVX, 3), NATIVE_REQ("avx2", AVX2, 3), NATIVE_REQ("bmi1", BMI1, 3),
	NATIVE_REQ("bmi2", BMI2, 3), NATIVE_REQ("f16c", F16C, 3), NATIVE_REQ("fma", FMA, 3),
	NATIVE_REQ("abm", ABM, 3), NATIVE_REQ("movbe", MOVBE, 3), EMULATED_REQ("xsave", XSAVE, 3),
	NATIVE_REQ("avx512f", AVX512F, 4), NATIVE_REQ("avx512bw", AVX512BW, 4),
	NATIVE_REQ("avx512cd", AVX512CD, 4), NATIVE_REQ("avx512dq", AVX512DQ, 4),
	NATIVE_REQ("avx512vl", AVX512VL, 4),

	/* Instructions of the host. */
	NATIVE("3dnowprefetch", 3DNOWPREFETCH, 2), NATIVE("aes", AES, 3), NATIVE("pclmulqdq", PCLMULQDQ, 3),
	NATIVE("rdrand", RDRAND, 3), NATIVE("rdseed", RDSEED, 4), NATIVE("adx", ADX, 4),
	NATIVE("clflushopt", CLFLUSHOPT, 4), NATIVE("clwb", CLWB, 4), NATIVE("sha_ni", SHA_NI, 5),
	NATIVE("gfni", GFNI, 5), NATIVE("vaes", VAES, 5), NATIVE("vpclmulqdq", VPCLMULQDQ, 5),
	NATIVE("sse4a", SSE4A, 5), NATIVE("misalignsse", MISALIGNSSE, 5), NATIVE("avx_vnni", AVX_VNNI, 5),
	NATIVE("avx512ifma", AVX512IFMA, 5), NATIVE("avx512vbmi", AVX512VBMI, 5),
	NATIVE("avx512_vbmi2", AVX512_VBMI2, 5), NATIVE("avx512_vnni", AVX512_VNNI, 5),
	NATIVE("avx512_bitalg", AVX512_BITALG, 5), NATIVE("avx512_vpopcntdq", AVX512_VPOPCNTDQ, 5),
	NATIVE("avx512_vp2intersect", AVX512_VP2INTERSECT, 5), NATIVE("avx512_bf16", AVX512_BF16, 5),
	NATIVE("avx512_fp16", AVX512_FP16, 5),
	/* How the host's x87 reports its pointers: not a choice. */
	NATIVE("fdp_excptn_only", FDP_EXCPTN_ONLY, 1), NATIVE("zero_fcs_fds", ZERO_FCS_FDS, 1),

	/* Ringer's own. */
	EMULATED("pcid", PCID, 1), EMULATED("invpcid", INVPCID, 1), EMULATED("x2apic", X2APIC, 1),
	EMULATED("tsc_deadline_timer", TSC_DEADLINE, 1), EMULATED("tsc_adjust", TSC_ADJUST, 1),
	EMULATED("fsgsbase", FSGSBASE, 1), EMULATED("smep", SMEP, 1), EMULATED("smap", SMAP, 1),
	EMULATED("umip", UMIP, 1), EMULATED("erms", ERMS, 1), EMULATED("fsrm", FSRM, 1),
	EMULATED("pdpe1gb", PDPE1GB, 1), EMULATED("rdtscp", RDTSCP, 1), EMULATED("topoext", TOPOEXT, 1),
	EMULATED("invariant_tsc", INVARIANT_TSC, 1), EMULATED("hypervisor", HYPERVISOR, 1),
	EMULATED("xsaveopt", XSAVEOPT, 3), EMULATED("xsavec", XSAVEC, 3), EMULATED("xgetbv1", XGETBV1, 3),
	EMULATED("nullsel_clr_base", NULL_SEL_CLR_BASE, 1), EMULATED("xsaveerptr", XSAVEERPTR, 1),

	/* The KVM paravirtual interface (docs/paravirt.md). */
	EMULATED("kvmclock", KVM_CLOCK, 1), EMULATED("kvmclock-stable-bit", KVM_CLOCK_STABLE, 1),
	EMULATED("kvm-nopiodelay", KVM_NOP_IO_DELAY, 1), EMULATED("kvm-steal-time", KVM_STEAL_TIME, 1),
	EMULATED("kvm-pv-eoi", KVM_PV_EOI, 1), EMULATED("kvm-pv-unhalt", KVM_PV_UNHALT, 1),
	EMULATED("kvm-pv-tlb-flush", KVM_PV_TLB_FLUSH, 1), EMULATED("kvm-pv-ipi", KVM_PV_IPI, 1),
	EMULATED("kvm-pv-sched-yield", KVM_PV_SCHED_YIELD, 1), EMULATED("kvm-poll-control", KVM_POLL_CONTROL, 1),
	NEVER("kvm-asyncpf", KVM_ASYNC_PF, "the monitor does not page guest memory out"),
	NEVER("kvm-asyncpf-int", KVM_ASYNC_PF_INT, "the monitor does not page guest memory out"),

	/*
	 * Claims that keep a guest from working around flaws it cannot see or mend from inside: retpolines,
	 * return thunks, page-table isolation, buffer clearing. The host remains as vulnerable as it is, and
	 * Ringer's isolation rests on none of them.
	 */
	CLAIM("autoibrs", AUTOIBRS), CLAIM("ibpb", IBPB), CLAIM("ssb_no", SSB_NO), CLAIM("btc_no", BTC_NO),
	CLAIM("srso_no", SRSO_NO), CLAIM("tsa_sq_no", TSA_SQ_NO), CLAIM("tsa_l1_no", TSA_L1_NO),
	CLAIM("lfence_rdtsc", LFENCE_RDTSC), CLAIM("no_nested_data_bp", NO_NESTED_DATA_BP),
	CLAIM("no_smm_ctl_msr", NO_SMM_CTL_MSR),

	/* Follow the machine's state or shape, not a choice: cpuid.c adds them. */
	NEVER("osxsave", OSXSAVE, "mirrors CR4.OSXSAVE"), NEVER("ht", HT, "follows the number of CPUs"),
	NEVER("cmp_legacy", CMP_LEGACY, "follows the number of CPUs"),

	NEVER("vmx", VMX, "no nested virtualization"), NEVER("svm", SVM, "no nested virtualization"),
	NEVER("monitor", MONITOR, "HLT lets go of the host CPU, MWAIT would not"),
	NEVER("mwaitx", MWAITX, "HLT lets go of the host CPU, MWAITX would not"),
	NEVER("waitpkg", WAITPKG, "HLT lets go of the host CPU, UMWAIT would not"),
	NEVER("vme", VME, "virtual-8086 mode works without it"),
	NEVER("hle", HLE, "a transaction cannot span the monitor"),
	NEVER("rtm", RTM, "a transaction cannot span the monitor"),
	NEVER("tsxldtrk", TSXLDTRK, "a transaction cannot span the monitor"),
	NEVER("sgx", SGX, "enclaves need the host's kernel"), NEVER("mpx", MPX, "withdrawn from current CPUs"),
	NEVER("cqm", CQM, "needs the host's MSRs"), NEVER("rdt_a", RDT_A, "needs the host's MSRs"),
	NEVER("intel_pt", INTEL_PT, "needs the host's MSRs"), NEVER("arch_lbr", ARCH_LBR, "needs the host's MSRs"),
	NEVER("ibs", IBS, "needs the host's MSRs"), NEVER("perfctr_core", PERFCTR_CORE, "needs the host's MSRs"),
	NEVER("avx512pf", AVX512PF, "Knights Landing only"), NEVER("avx512er", AVX512ER, "Knights Landing only"),
	NEVER("pku", PKU, "not modelled: protection keys"), NEVER("pks", PKS, "not modelled: protection keys"),
	NEVER("shstk", SHSTK, "not modelled: shadow stacks"), NEVER("ibt", IBT, "not modelled: branch tracking"),
	NEVER("tme", TME, "needs the host's MSRs"), NEVER("pconfig", PCONFIG, "needs the host's MSRs"),
	NEVER("la57", LA57, "page tables have four levels"), NEVER("lam", LAM, "not modelled: address masking"),
	NEVER("rdpid", RDPID, "would show the host's TSC_AUX"),
	NEVER("rdpru", RDPRU, "would show the host's counters"),
	NEVER("keylocker", KEYLOCKER, "the key would be the host's"),
	NEVER("bus_lock_detect", BUS_LOCK_DETECT, "not modelled"), NEVER("fred", FRED, "not modelled"),
	NEVER("cldemote", CLDEMOTE, "not an AMD instruction"), NEVER("serialize", SERIALIZE, "not an AMD instruction"),
	NEVER("movdiri", MOVDIRI, "not modelled: direct stores"),
	NEVER("movdir64b", MOVDIR64B, "not modelled: direct stores"),
	NEVER("enqcmd", ENQCMD, "needs a device of the host"), NEVER("uintr", UINTR, "needs the host's MSRs"),
	NEVER("md_clear", MD_CLEAR, "an AMD CPU has no such flaw"),
	NEVER("spec_ctrl", SPEC_CTRL, "the AMD bits say it"), NEVER("ssbd", AMD_SSBD, "ssb_no makes it needless"),
	NEVER("arch_capabilities", ARCH_CAPABILITIES, "not an AMD register"),
	NEVER("amx_tile", AMX_TILE, "not modelled: tiles"), NEVER("amx_int8", AMX_INT8, "not modelled: tiles"),
	NEVER("amx_bf16", AMX_BF16, "not modelled: tiles"),
	NEVER("xsaves", XSAVES, "saves supervisor state, which only the host's kernel can"),
	NEVER("xfd", XFD, "not modelled: tiles"),
	NEVER("cr8_legacy", CR8_LEGACY, "not modelled"), NEVER("osvw", OSVW, "not modelled"),
	NEVER("xop", XOP, "gone from current CPUs"), NEVER("lwp", LWP, "gone from current CPUs"),
	NEVER("fma4", FMA4, "gone from current CPUs"), NEVER("tbm", TBM, "gone from current CPUs"),
	NEVER("3dnow", 3DNOW, "gone from current CPUs"), NEVER("3dnowext", 3DNOWEXT, "gone from current CPUs"),
	NEVER("fxsr_opt", FXSR_OPT, "not modelled"), NEVER("clzero", CLZERO, "not modelled"),
	NEVER("invlpgb", INVLPGB, "not modelled"), NEVER("wbnoinvd", WBNOINVD, "not modelled"),
	NEVER("cppc", CPPC, "needs the host's MSRs"),
};

const struct cpuid_feature *cpuid_feature_at(unsigned i)
{
	return i < ARRAY_SIZE(features) ? &features[i] : NULL;
}

const struct cpuid_feature *cpuid_feature_find(const char *name)
{
	if (!strcasecmp(name, "sse3"))
		name = "pni"; /* /proc/cpuinfo's name is not what anybody types */
	if (!strcasecmp(name, "lzcnt"))
		name = "abm";
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (!strcasecmp(name, features[i].name))
			return &features[i];
	return NULL;
}

const char *cpuid_feature_kind_name(enum cpuid_feature_kind k)
{
	static const char *const names[] = {
		[FEATURE_NATIVE] = "native", [FEATURE_EMULATED] = "emulated",
		[FEATURE_CLAIM] = "claim", [FEATURE_NEVER] = "never",
	};

	return (size_t)k < ARRAY_SIZE(names) ? names[k] : "unknown";
}
