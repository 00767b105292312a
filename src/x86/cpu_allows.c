/*
 * cpu_allows.c - which instructions a CPU model has: the decoder's instruction sets, mapped to features.
 *
 * A set without a row is one that no model offers (VMX, AMX, Knights Corner, ...), so that an instruction set
 * the decoder learns later raises #UD until somebody has thought about it.
 *
 * Not judged here: what depends on the machine's state (CR4, XCR0, privilege, mode), and instructions of an
 * offered set that raise #UD all the same (INSN_UD of the instruction table).
 */
#include "x86/cpuid.h"
#include "x86/feature.h"

#define S(set) [ZYDIS_ISA_SET_##set]
#define ALWAYS { true, { 0 } }
/* Up to three features, all needed. Feature number 0 (SSE3) in an unused place would be wrong: 1 is added. */
#define F1(a) { true, { FEAT_##a + 1 } }
#define F2(a, b) { true, { FEAT_##a + 1, FEAT_##b + 1 } }
#define F3(a, b, c) { true, { FEAT_##a + 1, FEAT_##b + 1, FEAT_##c + 1 } }
/* The three vector lengths of an AVX-512 set: the short ones need AVX512VL too. */
#define EVEX(set, f)                                                                                         \
	S(set##_128) = F3(AVX512F, f, AVX512VL), S(set##_256) = F3(AVX512F, f, AVX512VL),                    \
	S(set##_512) = F2(AVX512F, f)

static const struct {
	bool known;
	uint16_t features[3];
} sets[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	S(I86) = ALWAYS, S(I186) = ALWAYS, S(I286REAL) = ALWAYS, S(I286PROTECTED) = ALWAYS, S(I386) = ALWAYS,
	S(I486) = ALWAYS, S(I486REAL) = ALWAYS, S(PENTIUMREAL) = ALWAYS, S(PPRO) = ALWAYS, S(AMD) = ALWAYS,
	S(LONGMODE) = ALWAYS, S(CMOV) = ALWAYS, S(FCMOV) = ALWAYS, S(X87) = ALWAYS, S(PENTIUMMMX) = ALWAYS,
	S(SSE) = ALWAYS, S(SSE2) = ALWAYS, S(SSE2MMX) = ALWAYS, S(SSEMXCSR) = ALWAYS, S(FXSAVE) = ALWAYS,
	S(FXSAVE64) = ALWAYS, S(CLFSH) = ALWAYS, S(RDPMC) = ALWAYS, S(PAUSE) = ALWAYS,
	/* Hints: CPUs without them execute a NOP. */
	S(FAT_NOP) = ALWAYS, S(SSE_PREFETCH) = ALWAYS, S(PREFETCH_NOP) = ALWAYS, S(PREFETCHWT1) = ALWAYS,
	/* REP BSR and REP BSF to CPUs without them, and compilers use the latter freely: they run as on the host. */
	S(LZCNT) = ALWAYS,
	S(BMI1) = F1(BMI1),

	S(LAHF) = ALWAYS, S(CMPXCHG16B) = F1(CX16), S(POPCNT) = F1(POPCNT), S(SSE3) = F1(SSE3),
	S(SSE3X87) = F1(SSE3), S(SSSE3) = F1(SSSE3), S(SSSE3MMX) = F1(SSSE3), S(SSE4) = F1(SSE4_1),
	S(SSE42) = F1(SSE4_2), S(SSE4A) = F1(SSE4A),
	S(AES) = F1(AES), S(PCLMULQDQ) = F1(PCLMULQDQ), S(SHA) = F1(SHA_NI), S(GFNI) = F1(GFNI),
	S(MOVBE) = F1(MOVBE), S(BMI2) = F1(BMI2), S(ADOX_ADCX) = F1(ADX), S(RDRAND) = F1(RDRAND),
	S(RDSEED) = F1(RDSEED), S(CLFLUSHOPT) = F1(CLFLUSHOPT), S(CLWB) = F1(CLWB),
	S(RDTSCP) = F1(RDTSCP), S(RDWRFSGS) = F1(FSGSBASE), S(INVPCID) = F1(INVPCID), S(SMAP) = F1(SMAP),
	S(XSAVE) = F1(XSAVE), S(XSAVEOPT) = F1(XSAVEOPT), S(XSAVEC) = F1(XSAVEC), S(XSAVES) = F1(XSAVES),
	S(RDPID) = F1(RDPID), S(CLZERO) = F1(CLZERO), S(SERIALIZE) = F1(SERIALIZE), S(MOVDIR) = F1(MOVDIR64B),
	S(MONITOR) = F1(MONITOR), S(MONITORX) = F1(MWAITX), S(XOP) = F1(XOP), S(TBM) = F1(TBM),
	S(FMA4) = F1(FMA4), S(AMD3DNOW) = F1(3DNOW), S(RDPRU) = F1(RDPRU),

	S(AVX) = F1(AVX), S(AVX2) = F1(AVX2), S(AVX2GATHER) = F1(AVX2), S(F16C) = F1(F16C), S(FMA) = F1(FMA),
	S(AVXAES) = F2(AVX, AES), S(AVX_GFNI) = F2(AVX, GFNI), S(VAES) = F2(AVX, VAES),
	S(VPCLMULQDQ) = F2(AVX, VPCLMULQDQ), S(AVX_VNNI) = F1(AVX_VNNI),

	EVEX(AVX512F, AVX512F), S(AVX512F_128N) = F1(AVX512F), S(AVX512F_SCALAR) = F1(AVX512F),
	S(AVX512F_KOP) = F1(AVX512F),
	EVEX(AVX512BW, AVX512BW), S(AVX512BW_128N) = F1(AVX512BW), S(AVX512BW_KOP) = F1(AVX512BW),
	EVEX(AVX512DQ, AVX512DQ), S(AVX512DQ_128N) = F1(AVX512DQ), S(AVX512DQ_SCALAR) = F1(AVX512DQ),
	S(AVX512DQ_KOP) = F1(AVX512DQ),
	EVEX(AVX512_FP16, AVX512_FP16), S(AVX512_FP16_128N) = F1(AVX512_FP16),
	S(AVX512_FP16_SCALAR) = F1(AVX512_FP16),
	EVEX(AVX512CD, AVX512CD), EVEX(AVX512_BF16, AVX512_BF16), EVEX(AVX512_BITALG, AVX512_BITALG),
	EVEX(AVX512_GFNI, GFNI), EVEX(AVX512_IFMA, AVX512IFMA), EVEX(AVX512_VAES, VAES),
	EVEX(AVX512_VBMI, AVX512VBMI), EVEX(AVX512_VBMI2, AVX512_VBMI2), EVEX(AVX512_VNNI, AVX512_VNNI),
	EVEX(AVX512_VP2INTERSECT, AVX512_VP2INTERSECT), EVEX(AVX512_VPCLMULQDQ, VPCLMULQDQ),
	EVEX(AVX512_VPOPCNTDQ, AVX512_VPOPCNTDQ),
};

/* Single instructions that do not share the fate of their set. */
static bool always(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_VMCALL:  /* the paravirtual interface's hypercalls */
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_TZCNT: /* REP BSF, see above */
		return true;
	default:
		return false;
	}
}

bool cpu_model_allows(const struct cpu_model *m, const ZydisDecodedInstruction *z)
{
	unsigned set = z->meta.isa_set;

	if (always(z->mnemonic))
		return true;
	if (set > ZYDIS_ISA_SET_MAX_VALUE || !sets[set].known)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(sets[set].features); i++)
		if (sets[set].features[i] && !cpu_has(m, sets[set].features[i] - 1))
			return false;
	return true;
}
