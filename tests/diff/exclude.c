/*
 * exclude.c - the instructions that cannot be compared with the host CPU from user mode, and why.
 */
#include "gen.h"

struct exclusion {
	uint16_t mnemonic;
	const char *reason;
};

#define X(m, why)                                                                                  \
	{                                                                                          \
		ZYDIS_MNEMONIC_##m, why                                                            \
	}
static const struct exclusion exclusions[] = {
	X(RDTSC, "a clock"),
	X(RDTSCP, "a clock"),
	X(RDPMC, "a counter"),
	X(RDPRU, "a counter"),
	X(RDRAND, "random"),
	X(RDSEED, "random"),
	X(RDPID, "which CPU runs"),
	X(CPUID, "the CPU model differs"),
	X(SYSCALL, "enters the host kernel"),
	X(SYSENTER, "enters the host kernel"),
	X(INT, "enters the host kernel"),
	X(SYSRET, "needs the host kernel's MSRs"),
	X(SYSEXIT, "needs the host kernel's MSRs"),
	X(SGDT, "the host kernel answers for UMIP"),
	X(SIDT, "the host kernel answers for UMIP"),
	X(SLDT, "the host kernel answers for UMIP"),
	X(STR, "the host kernel answers for UMIP"),
	X(SMSW, "the host kernel answers for UMIP"),
	X(VMCALL, "calls a hypervisor below the host"),
	X(VMMCALL, "calls a hypervisor below the host"),
	X(XGETBV, "XCR0 and XINUSE are the host's"),
};

const char *exclude_mnemonic(unsigned mnemonic)
{
	for (unsigned i = 0; i < ARRAY_SIZE(exclusions); i++)
		if (exclusions[i].mnemonic == mnemonic)
			return exclusions[i].reason;
	return NULL;
}

const char *exclude_reason(const ZydisDecodedInstruction *z)
{
	return exclude_mnemonic(z->mnemonic);
}
