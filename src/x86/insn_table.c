/*
 * insn_table.c - the instruction table: what no decoder knows about each instruction.
 *
 * One row per mnemonic that has something to say; a mnemonic without a row is innocuous and runs natively,
 * which is what an all-zero row means. Where the forms of one mnemonic differ (MOV to a control register is
 * not MOV between registers), its row speaks for the common form and insn_form.c has rows for the others.
 *
 * The classes follow Popek and Goldberg (1974) and, for the unprivileged sensitive instructions, the analysis
 * of Robin and Irvine (USENIX Security 2000), checked against SDM vol. 2 and APM vol. 3. "Privileged" here
 * includes what traps unless CPL <= IOPL: a monitor sets IOPL to 0 and sees every one of them.
 */
#include "x86/insn.h"

#define M(m) ZYDIS_MNEMONIC_##m
#define ROW(m, c, in, tr, why) [M(m)] = { M(m), INSN_##c, INSN_##in, INSN_##tr, why }
/* The engines treat it alike, as they do most. */
#define BOTH(m, c, t, why) ROW(m, c, t, t, why)
#define PRIV(m, why) BOTH(m, PRIVILEGED, EMULATE, why)
#define BEHAVE(m, why) BOTH(m, BEHAVIOUR_SENSITIVE, EMULATE, why)
#define CTRL(m, why) BOTH(m, CONTROL_SENSITIVE, EMULATE, why)
#define JUMP(m) BOTH(m, INNOCUOUS, CONTROL, NULL)
#define STACK(m) BOTH(m, INNOCUOUS, STACK, NULL)
#define STRING(m) BOTH(m, INNOCUOUS, STRING, NULL)
#define VMEM(m) BOTH(m, INNOCUOUS, VECTOR_MEM, NULL)
#define LEGACY(m) BOTH(m, INNOCUOUS, EMULATE, LEGACY_WHY)
#define NEVER(m, c, why) BOTH(m, c, UD, why)

#define LEGACY_WHY "Touches no machine state, but 64-bit mode cannot encode it, so it cannot run natively"
#define PORT "Reaches a device; traps when CPL is above IOPL, unless the TSS I/O bitmap grants the port"
#define PUSHF_WHY "Shows the real IF and IOPL without trapping, so a guest kernel run in user mode sees them"
#define POPF_WHY                                                                                             \
	"Silently leaves IF alone when CPL is above IOPL, and IOPL unless CPL is 0, where it would have to trap"
#define IRET_WHY "Loads CS, SS and RFLAGS at once; what it may change depends on CPL, and it need not trap"
#define DESC_REG                                                                                             \
	"Shows the monitor's descriptor-table register instead of the guest's, and traps only under CR4.UMIP"
#define DESC_LOOK "Looks a selector up in the monitor's descriptor tables and judges it by the real CPL"
#define SREG_LOAD "Loads a descriptor from the monitor's tables and checks it against the real CPL"
#define INT_WHY "Enters the monitor's interrupt gate, possibly at another privilege level"
#define TSC_WHY "Shows the host's time-stamp counter, and traps only if CR4.TSD is set"
#define FSGS                                                                                                 \
	"Reaches the base the hardware holds now, which may be the monitor's; traps without CR4.FSGSBASE"
#define XSTATE "Which components it moves, and where to, depends on the real XCR0"
#define FXSTATE "What it moves depends on CR4.OSFXSR, EFER.FFXSR and the privilege level"
#define DTR_LOAD "Replaces a descriptor-table register, on which every segment and interrupt depends"
#define CACHE "Acts on the caches of the whole machine"
#define TLB "Drops translations the monitor may rely on or must itself drop"

#define VMX "Hardware virtualization (VMX); no CPU model offers it"
#define SVM "Hardware virtualization (SVM); no CPU model offers it"
#define SNP "Reverse-map table of SEV-SNP; no CPU model offers it"
#define TDX "Trust domains (TDX); no CPU model offers it"
#define SGX "Enclaves (SGX); no CPU model offers them"
#define TSX "Transactional memory (TSX): whether it commits is up to the real CPU; no CPU model offers it"
#define CET "Shadow stacks (CET); no CPU model offers them"
#define AMX "Tiles (AMX); no CPU model offers them"
#define UINTR "User interrupts; no CPU model offers them"
#define KEYL "Key Locker: the result depends on a key inside the CPU; no CPU model offers it"
#define PKU "Protection keys for user pages: reaches access rights without trapping; no CPU model offers them"
#define MWAIT_WHY "Waits in the hardware for a memory write; no CPU model offers it"
#define WAITPKG "User-level waiting; the outcome depends on the host's timing; no CPU model offers it"
#define LWP "Lightweight profiling, gone from current CPUs; no CPU model offers it"
#define PADLOCK "VIA PadLock; no CPU model offers it"
#define KNC "Knights Corner only; no CPU model offers it"
#define AVX512PF "Knights Landing only; no CPU model offers it"
#define STORE64 "Direct stores (MOVDIRI, MOVDIR64B, ENQCMD); no CPU model offers them"
#define UNDEF "Defined to raise #UD"

static const struct insn_info table[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	/* Control flow within a privilege level. */
	BOTH(JMP, INNOCUOUS, CONTROL, "The near forms; a far jump loads CS and has a row of its own"),
	BOTH(CALL, INNOCUOUS, CONTROL, "The near forms; a far call loads CS and has a row of its own"),
	BOTH(RET, INNOCUOUS, CONTROL, "The near form; a far return loads CS and has a row of its own"),
	JUMP(JB), JUMP(JBE), JUMP(JL), JUMP(JLE), JUMP(JNB), JUMP(JNBE), JUMP(JNL), JUMP(JNLE), JUMP(JNO),
	JUMP(JNP), JUMP(JNS), JUMP(JNZ), JUMP(JO), JUMP(JP), JUMP(JS), JUMP(JZ), JUMP(JCXZ), JUMP(JECXZ),
	JUMP(JRCXZ), JUMP(LOOP), JUMP(LOOPE), JUMP(LOOPNE),

	/* The stack. */
	BOTH(PUSH, INNOCUOUS, STACK, "Pushing a segment register shows its selector: a row of its own"),
	BOTH(POP, INNOCUOUS, STACK, "Popping into a segment register loads a descriptor: a row of its own"),
	STACK(ENTER), STACK(LEAVE), STACK(PUSHA), STACK(PUSHAD), STACK(POPA), STACK(POPAD),
	BEHAVE(PUSHF, PUSHF_WHY), BEHAVE(PUSHFD, PUSHF_WHY), BEHAVE(PUSHFQ, PUSHF_WHY),
	BEHAVE(POPF, POPF_WHY), BEHAVE(POPFD, POPF_WHY), BEHAVE(POPFQ, POPF_WHY),

	/* Strings: each element is a checked access, and an interrupt or fault between two must be resumable. */
	STRING(MOVSB), STRING(MOVSW), STRING(MOVSQ), STRING(CMPSB), STRING(CMPSW), STRING(CMPSQ),
	BOTH(MOVSD, INNOCUOUS, STRING, "The string form; the SSE2 scalar move of the same name runs natively"),
	BOTH(CMPSD, INNOCUOUS, STRING, "The string form; the SSE2 compare of the same name runs natively"),
	STRING(SCASB), STRING(SCASW), STRING(SCASD), STRING(SCASQ), STRING(LODSB), STRING(LODSW),
	STRING(LODSD), STRING(LODSQ), STRING(STOSB), STRING(STOSW), STRING(STOSD), STRING(STOSQ),
	BOTH(INSB, PRIVILEGED, STRING, PORT), BOTH(INSW, PRIVILEGED, STRING, PORT),
	BOTH(INSD, PRIVILEGED, STRING, PORT), BOTH(OUTSB, PRIVILEGED, STRING, PORT),
	BOTH(OUTSW, PRIVILEGED, STRING, PORT), BOTH(OUTSD, PRIVILEGED, STRING, PORT),

	/* Flags. The interpreter keeps them in memory. */
	ROW(LAHF, INNOCUOUS, EMULATE, NATIVE, NULL), ROW(SAHF, INNOCUOUS, EMULATE, NATIVE, NULL),
	BOTH(CLD, INNOCUOUS, EMULATE, "Innocuous; DF is kept in memory, since host code runs with it clear"),
	BOTH(STD, INNOCUOUS, EMULATE, "Innocuous; DF is kept in memory, since host code runs with it clear"),
	PRIV(CLI, "Masks interrupts for the whole machine; traps when CPL is above IOPL"),
	PRIV(STI, "Unmasks interrupts for the whole machine; traps when CPL is above IOPL"),
	PRIV(CLAC, "Changes what supervisor code may reach under SMAP; traps unless CPL is 0"),
	PRIV(STAC, "Changes what supervisor code may reach under SMAP; traps unless CPL is 0"),

	/* Ports. */
	PRIV(IN, PORT), PRIV(OUT, PORT),

	/* Crossing privilege levels. */
	CTRL(INT, INT_WHY), CTRL(INT3, INT_WHY), CTRL(INTO, INT_WHY), CTRL(INT1, INT_WHY),
	CTRL(IRET, IRET_WHY), CTRL(IRETD, IRET_WHY), CTRL(IRETQ, IRET_WHY),
	CTRL(SYSCALL, "Enters privilege level 0 at the address in the monitor's LSTAR, trapping nowhere"),
	CTRL(SYSENTER, "Enters privilege level 0 at the monitor's SYSENTER address, trapping nowhere"),
	PRIV(SYSRET, "Leaves for privilege level 3; traps unless CPL is 0"),
	PRIV(SYSEXIT, "Leaves for privilege level 3; traps unless CPL is 0"),
	PRIV(VMCALL, "Calls the monitor, and raises #UD where there is none; every engine answers it"),
	PRIV(VMMCALL, "Calls the monitor, and raises #UD where there is none; every engine answers it"),

	/* Segments and descriptors. */
	PRIV(LGDT, DTR_LOAD), PRIV(LIDT, DTR_LOAD), PRIV(LLDT, DTR_LOAD), PRIV(LTR, DTR_LOAD),
	BEHAVE(SGDT, DESC_REG), BEHAVE(SIDT, DESC_REG), BEHAVE(SLDT, DESC_REG), BEHAVE(STR, DESC_REG),
	BEHAVE(LAR, DESC_LOOK), BEHAVE(LSL, DESC_LOOK), BEHAVE(VERR, DESC_LOOK), BEHAVE(VERW, DESC_LOOK),
	BEHAVE(LDS, SREG_LOAD), BEHAVE(LES, SREG_LOAD), BEHAVE(LFS, SREG_LOAD), BEHAVE(LGS, SREG_LOAD),
	BEHAVE(LSS, SREG_LOAD),
	BOTH(ARPL, INNOCUOUS, EMULATE, "Only compares two RPL fields, but 64-bit mode cannot encode it"),
	PRIV(SWAPGS, "Exchanges the GS base with an MSR; traps unless CPL is 0"),
	BEHAVE(RDFSBASE, FSGS), BEHAVE(RDGSBASE, FSGS), BEHAVE(WRFSBASE, FSGS), BEHAVE(WRGSBASE, FSGS),

	/* Control registers, MSRs, the machine as a whole. */
	PRIV(HLT, "Stops the processor until an interrupt; traps unless CPL is 0"),
	PRIV(CLTS, "Clears CR0.TS; traps unless CPL is 0"),
	PRIV(LMSW, "Loads the low bits of CR0; traps unless CPL is 0"),
	BEHAVE(SMSW, "Shows the real CR0, and traps only under CR4.UMIP"),
	PRIV(RDMSR, "Reads a model-specific register; traps unless CPL is 0"),
	PRIV(WRMSR, "Writes a model-specific register; traps unless CPL is 0"),
	PRIV(INVLPG, TLB), PRIV(INVPCID, TLB),
	PRIV(INVD, CACHE), PRIV(WBINVD, CACHE),
	PRIV(XSETBV, "Chooses which extended states exist; traps unless CPL is 0"),
	BEHAVE(XGETBV, "Shows the real XCR0 without trapping"),
	BEHAVE(CPUID, "Describes the real processor without trapping (unless the host can fault it)"),
	BEHAVE(RDTSC, TSC_WHY), BEHAVE(RDTSCP, TSC_WHY),
	BEHAVE(RDPMC, "Shows the host's performance counters when CR4.PCE is set, and traps otherwise"),

	/* Extended state. */
	BEHAVE(XSAVE, XSTATE), BEHAVE(XSAVE64, XSTATE), BEHAVE(XSAVEC, XSTATE), BEHAVE(XSAVEC64, XSTATE),
	BEHAVE(XSAVEOPT, XSTATE), BEHAVE(XSAVEOPT64, XSTATE), BEHAVE(XRSTOR, XSTATE),
	BEHAVE(XRSTOR64, XSTATE), BEHAVE(FXSAVE, FXSTATE), BEHAVE(FXSAVE64, FXSTATE),
	BEHAVE(FXRSTOR, FXSTATE), BEHAVE(FXRSTOR64, FXSTATE),
	NEVER(XSAVES, PRIVILEGED, "Saves supervisor state too; no CPU model offers it"),
	NEVER(XSAVES64, PRIVILEGED, "Saves supervisor state too; no CPU model offers it"),
	NEVER(XRSTORS, PRIVILEGED, "Restores supervisor state too; no CPU model offers it"),
	NEVER(XRSTORS64, PRIVILEGED, "Restores supervisor state too; no CPU model offers it"),

	/* Data instructions that cannot run natively as they are. */
	LEGACY(AAA), LEGACY(AAS), LEGACY(AAD), LEGACY(AAM), LEGACY(DAA), LEGACY(DAS), LEGACY(SALC),
	LEGACY(BOUND),
	BOTH(XLAT, INNOCUOUS, EMULATE, "Reads one byte at [rBX + AL]; its only operand is implicit memory"),
	BOTH(BT, INNOCUOUS, NATIVE, "With memory and a register, the bit offset reaches beyond the operand"),
	BOTH(BTS, INNOCUOUS, NATIVE, "With memory and a register, the bit offset reaches beyond the operand"),
	BOTH(BTR, INNOCUOUS, NATIVE, "With memory and a register, the bit offset reaches beyond the operand"),
	BOTH(BTC, INNOCUOUS, NATIVE, "With memory and a register, the bit offset reaches beyond the operand"),

	/* Vector instructions whose memory is touched element by element. */
	VMEM(VGATHERDPD), VMEM(VGATHERDPS), VMEM(VGATHERQPD), VMEM(VGATHERQPS), VMEM(VPGATHERDD),
	VMEM(VPGATHERDQ), VMEM(VPGATHERQD), VMEM(VPGATHERQQ), VMEM(VSCATTERDPD), VMEM(VSCATTERDPS),
	VMEM(VSCATTERQPD), VMEM(VSCATTERQPS), VMEM(VPSCATTERDD), VMEM(VPSCATTERDQ), VMEM(VPSCATTERQD),
	VMEM(VPSCATTERQQ), VMEM(VMASKMOVPS), VMEM(VMASKMOVPD), VMEM(VPMASKMOVD), VMEM(VPMASKMOVQ),
	VMEM(MASKMOVQ), VMEM(MASKMOVDQU), VMEM(VMASKMOVDQU), VMEM(VCOMPRESSPS), VMEM(VCOMPRESSPD),
	VMEM(VPCOMPRESSB), VMEM(VPCOMPRESSW), VMEM(VPCOMPRESSD), VMEM(VPCOMPRESSQ), VMEM(VEXPANDPS),
	VMEM(VEXPANDPD), VMEM(VPEXPANDB), VMEM(VPEXPANDW), VMEM(VPEXPANDD), VMEM(VPEXPANDQ),

	/* Undefined on purpose, or outside system management mode. */
	NEVER(UD0, INNOCUOUS, UNDEF), NEVER(UD1, INNOCUOUS, UNDEF), NEVER(UD2, INNOCUOUS, UNDEF),
	NEVER(RSM, PRIVILEGED, "Leaves system management mode; anywhere else it raises #UD"),

	/* What no CPU model offers. */
	NEVER(VMCLEAR, PRIVILEGED, VMX), NEVER(VMLAUNCH, PRIVILEGED, VMX), NEVER(VMPTRLD, PRIVILEGED, VMX),
	NEVER(VMPTRST, PRIVILEGED, VMX), NEVER(VMREAD, PRIVILEGED, VMX), NEVER(VMRESUME, PRIVILEGED, VMX),
	NEVER(VMWRITE, PRIVILEGED, VMX), NEVER(VMXOFF, PRIVILEGED, VMX), NEVER(VMXON, PRIVILEGED, VMX),
	NEVER(INVEPT, PRIVILEGED, VMX), NEVER(INVVPID, PRIVILEGED, VMX),
	NEVER(VMFUNC, CONTROL_SENSITIVE, VMX),
	NEVER(VMRUN, PRIVILEGED, SVM), NEVER(VMLOAD, PRIVILEGED, SVM), NEVER(VMSAVE, PRIVILEGED, SVM),
	NEVER(STGI, PRIVILEGED, SVM), NEVER(CLGI, PRIVILEGED, SVM), NEVER(SKINIT, PRIVILEGED, SVM),
	NEVER(INVLPGA, PRIVILEGED, SVM),
	NEVER(PSMASH, PRIVILEGED, SNP), NEVER(PVALIDATE, PRIVILEGED, SNP), NEVER(RMPADJUST, PRIVILEGED, SNP),
	NEVER(RMPUPDATE, PRIVILEGED, SNP),
	NEVER(SEAMCALL, PRIVILEGED, TDX), NEVER(SEAMOPS, PRIVILEGED, TDX), NEVER(SEAMRET, PRIVILEGED, TDX),
	NEVER(TDCALL, PRIVILEGED, TDX),
	NEVER(ENCLS, PRIVILEGED, SGX), NEVER(ENCLV, PRIVILEGED, SGX), NEVER(ENCLU, CONTROL_SENSITIVE, SGX),
	NEVER(XBEGIN, BEHAVIOUR_SENSITIVE, TSX), NEVER(XEND, BEHAVIOUR_SENSITIVE, TSX),
	NEVER(XABORT, BEHAVIOUR_SENSITIVE, TSX), NEVER(XTEST, BEHAVIOUR_SENSITIVE, TSX),
	NEVER(XSUSLDTRK, BEHAVIOUR_SENSITIVE, TSX), NEVER(XRESLDTRK, BEHAVIOUR_SENSITIVE, TSX),
	NEVER(GETSEC, CONTROL_SENSITIVE, "Measured launch (SMX); no CPU model offers it"),
	NEVER(CLRSSBSY, PRIVILEGED, CET), NEVER(SETSSBSY, PRIVILEGED, CET), NEVER(WRUSSD, PRIVILEGED, CET),
	NEVER(WRUSSQ, PRIVILEGED, CET), NEVER(WRSSD, CONTROL_SENSITIVE, CET),
	NEVER(WRSSQ, CONTROL_SENSITIVE, CET), NEVER(INCSSPD, CONTROL_SENSITIVE, CET),
	NEVER(INCSSPQ, CONTROL_SENSITIVE, CET), NEVER(RSTORSSP, CONTROL_SENSITIVE, CET),
	NEVER(SAVEPREVSSP, CONTROL_SENSITIVE, CET), NEVER(RDSSPD, BEHAVIOUR_SENSITIVE, CET),
	NEVER(RDSSPQ, BEHAVIOUR_SENSITIVE, CET),
	NEVER(LDTILECFG, INNOCUOUS, AMX), NEVER(STTILECFG, INNOCUOUS, AMX), NEVER(TILELOADD, INNOCUOUS, AMX),
	NEVER(TILELOADDT1, INNOCUOUS, AMX), NEVER(TILESTORED, INNOCUOUS, AMX),
	NEVER(TILERELEASE, INNOCUOUS, AMX), NEVER(TILEZERO, INNOCUOUS, AMX), NEVER(TDPBF16PS, INNOCUOUS, AMX),
	NEVER(TDPBSSD, INNOCUOUS, AMX), NEVER(TDPBSUD, INNOCUOUS, AMX), NEVER(TDPBUSD, INNOCUOUS, AMX),
	NEVER(TDPBUUD, INNOCUOUS, AMX),
	NEVER(CLUI, CONTROL_SENSITIVE, UINTR), NEVER(STUI, CONTROL_SENSITIVE, UINTR),
	NEVER(UIRET, CONTROL_SENSITIVE, UINTR), NEVER(SENDUIPI, CONTROL_SENSITIVE, UINTR),
	NEVER(TESTUI, BEHAVIOUR_SENSITIVE, UINTR),
	NEVER(LOADIWKEY, PRIVILEGED, KEYL), NEVER(ENCODEKEY128, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(ENCODEKEY256, BEHAVIOUR_SENSITIVE, KEYL), NEVER(AESENC128KL, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(AESENC256KL, BEHAVIOUR_SENSITIVE, KEYL), NEVER(AESDEC128KL, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(AESDEC256KL, BEHAVIOUR_SENSITIVE, KEYL), NEVER(AESENCWIDE128KL, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(AESENCWIDE256KL, BEHAVIOUR_SENSITIVE, KEYL), NEVER(AESDECWIDE128KL, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(AESDECWIDE256KL, BEHAVIOUR_SENSITIVE, KEYL),
	NEVER(RDPKRU, BEHAVIOUR_SENSITIVE, PKU), NEVER(WRPKRU, CONTROL_SENSITIVE, PKU),
	NEVER(MONITOR, PRIVILEGED, MWAIT_WHY), NEVER(MWAIT, PRIVILEGED, MWAIT_WHY),
	NEVER(MONITORX, BEHAVIOUR_SENSITIVE, MWAIT_WHY), NEVER(MWAITX, BEHAVIOUR_SENSITIVE, MWAIT_WHY),
	NEVER(TPAUSE, BEHAVIOUR_SENSITIVE, WAITPKG), NEVER(UMONITOR, BEHAVIOUR_SENSITIVE, WAITPKG),
	NEVER(UMWAIT, BEHAVIOUR_SENSITIVE, WAITPKG),
	NEVER(RDPID, BEHAVIOUR_SENSITIVE,
	      "Shows the host's TSC_AUX and cannot be made to trap; no CPU model offers it"),
	NEVER(RDPRU, BEHAVIOUR_SENSITIVE, "Shows the host's MPERF and APERF; no CPU model offers it"),
	NEVER(MCOMMIT, INNOCUOUS, "Waits for stores to commit and reports errors; no CPU model offers it"),
	NEVER(CLZERO, INNOCUOUS, "Zeroes the cache line at [rAX]; no CPU model offers it"),
	NEVER(INVLPGB, PRIVILEGED, TLB), NEVER(TLBSYNC, PRIVILEGED, TLB),
	NEVER(PCONFIG, PRIVILEGED, "Programs memory-encryption keys; no CPU model offers it"),
	NEVER(HRESET, PRIVILEGED, "Resets prediction history; no CPU model offers it"),
	NEVER(SERIALIZE, INNOCUOUS, "Serializes the processor; AMD CPUs lack it and no CPU model offers it"),
	NEVER(PTWRITE, BEHAVIOUR_SENSITIVE, "Writes into the host's processor trace; no CPU model offers it"),
	NEVER(CLDEMOTE, INNOCUOUS, "Decoded as the NOP it is without the feature; no CPU model offers it"),
	NEVER(MOVDIRI, INNOCUOUS, STORE64), NEVER(MOVDIR64B, INNOCUOUS, STORE64),
	NEVER(ENQCMD, CONTROL_SENSITIVE, STORE64), NEVER(ENQCMDS, PRIVILEGED, STORE64),
	NEVER(LLWPCB, CONTROL_SENSITIVE, LWP), NEVER(SLWPCB, BEHAVIOUR_SENSITIVE, LWP),
	NEVER(LWPINS, BEHAVIOUR_SENSITIVE, LWP), NEVER(LWPVAL, BEHAVIOUR_SENSITIVE, LWP),
	NEVER(XCRYPT_CBC, INNOCUOUS, PADLOCK), NEVER(XCRYPT_CFB, INNOCUOUS, PADLOCK),
	NEVER(XCRYPT_CTR, INNOCUOUS, PADLOCK), NEVER(XCRYPT_ECB, INNOCUOUS, PADLOCK),
	NEVER(XCRYPT_OFB, INNOCUOUS, PADLOCK), NEVER(XSHA1, INNOCUOUS, PADLOCK),
	NEVER(XSHA256, INNOCUOUS, PADLOCK), NEVER(XSTORE, INNOCUOUS, PADLOCK),
	NEVER(MONTMUL, INNOCUOUS, PADLOCK),
	NEVER(CLEVICT0, INNOCUOUS, KNC), NEVER(CLEVICT1, INNOCUOUS, KNC), NEVER(DELAY, INNOCUOUS, KNC),
	NEVER(SPFLT, INNOCUOUS, KNC), NEVER(TZCNTI, INNOCUOUS, KNC), NEVER(JKZD, INNOCUOUS, KNC),
	NEVER(JKNZD, INNOCUOUS, KNC), NEVER(KAND, INNOCUOUS, KNC), NEVER(KANDN, INNOCUOUS, KNC),
	NEVER(KANDNR, INNOCUOUS, KNC), NEVER(KCONCATH, INNOCUOUS, KNC), NEVER(KCONCATL, INNOCUOUS, KNC),
	NEVER(KEXTRACT, INNOCUOUS, KNC), NEVER(KMERGE2L1H, INNOCUOUS, KNC), NEVER(KMERGE2L1L, INNOCUOUS, KNC),
	NEVER(KMOV, INNOCUOUS, KNC), NEVER(KNOT, INNOCUOUS, KNC), NEVER(KOR, INNOCUOUS, KNC),
	NEVER(KORTEST, INNOCUOUS, KNC), NEVER(KXNOR, INNOCUOUS, KNC), NEVER(KXOR, INNOCUOUS, KNC),
	NEVER(VGATHERPF0DPD, INNOCUOUS, AVX512PF), NEVER(VGATHERPF0DPS, INNOCUOUS, AVX512PF),
	NEVER(VGATHERPF0QPD, INNOCUOUS, AVX512PF), NEVER(VGATHERPF0QPS, INNOCUOUS, AVX512PF),
	NEVER(VGATHERPF1DPD, INNOCUOUS, AVX512PF), NEVER(VGATHERPF1DPS, INNOCUOUS, AVX512PF),
	NEVER(VGATHERPF1QPD, INNOCUOUS, AVX512PF), NEVER(VGATHERPF1QPS, INNOCUOUS, AVX512PF),
	NEVER(VSCATTERPF0DPD, INNOCUOUS, AVX512PF), NEVER(VSCATTERPF0DPS, INNOCUOUS, AVX512PF),
	NEVER(VSCATTERPF0QPD, INNOCUOUS, AVX512PF), NEVER(VSCATTERPF0QPS, INNOCUOUS, AVX512PF),
	NEVER(VSCATTERPF1DPD, INNOCUOUS, AVX512PF), NEVER(VSCATTERPF1DPS, INNOCUOUS, AVX512PF),
	NEVER(VSCATTERPF1QPD, INNOCUOUS, AVX512PF), NEVER(VSCATTERPF1QPS, INNOCUOUS, AVX512PF),
};

const struct insn_info *insn_info(ZydisMnemonic mnemonic)
{
	return &table[(unsigned)mnemonic <= ZYDIS_MNEMONIC_MAX_VALUE ? mnemonic : 0];
}

const char *insn_class_name(enum insn_class c)
{
	static const char *const names[] = {
		[INSN_INNOCUOUS] = "innocuous",
		[INSN_PRIVILEGED] = "privileged",
		[INSN_CONTROL_SENSITIVE] = "control-sensitive",
		[INSN_BEHAVIOUR_SENSITIVE] = "behaviour-sensitive",
	};

	return (size_t)c < ARRAY_SIZE(names) ? names[c] : "unknown";
}

const char *insn_treatment_name(enum insn_treatment t)
{
	static const char *const names[] = {
		[INSN_NATIVE] = "native", [INSN_CONTROL] = "control", [INSN_STACK] = "stack",
		[INSN_STRING] = "string", [INSN_VECTOR_MEM] = "vector-mem", [INSN_EMULATE] = "emulate",
		[INSN_UD] = "undefined",
	};

	return (size_t)t < ARRAY_SIZE(names) ? names[t] : "unknown";
}
