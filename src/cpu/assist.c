/* The translator's VM assists: their names, what each handles, and what happens without it. */
#include "cpu/engine.h"

#define GENERAL "the state is spilled and the interpreter runs it"

const struct engine_assist_info engine_assists[ASSIST_COUNT] = {
	[ASSIST_SYSCALL] = {"syscall", "SYSCALL and SYSRET", GENERAL},
	[ASSIST_IRET] = {"iret", "IRETQ", GENERAL},
	[ASSIST_EXCEPTION] = {"exception", "delivery of exceptions to the guest", "the state is spilled first"},
	[ASSIST_INTERRUPT] = {"interrupt", "delivery of interrupts to the guest", "the state is spilled first"},
	[ASSIST_IF] = {"if", "CLI, STI, PUSHF, POPF", GENERAL},
	[ASSIST_SWAPGS] = {"swapgs", "SWAPGS, RDFSBASE, WRFSBASE, RDGSBASE, WRGSBASE", GENERAL},
	[ASSIST_SMAP] = {"smap", "STAC and CLAC", GENERAL},
	[ASSIST_CR3] = {"cr", "MOV to and from control registers", GENERAL},
	[ASSIST_INVLPG] = {"invlpg", "INVLPG and INVPCID", GENERAL},
	[ASSIST_MSR] = {"msr", "RDMSR and WRMSR", GENERAL},
	[ASSIST_IO] = {"io", "IN and OUT", GENERAL},
	[ASSIST_STRING] = {"string", "string instructions, by the host's own REP within a page", GENERAL},
	[ASSIST_TSC] = {"tsc", "RDTSC and RDTSCP", GENERAL},
	[ASSIST_XSAVE] = {"xsave", "FXSAVE, XSAVE, XRSTOR and their kin", GENERAL},
	[ASSIST_CHAIN] = {"chain", "direct jumps from block to block", "each goes through the dispatcher"},
	[ASSIST_LOOKUP] = {"lookup", "indirect jumps, calls and returns", "each goes through the dispatcher"},
	[ASSIST_TLB] = {"tlb", "TLB probes in translated code", "each access calls the soft MMU"},
	[ASSIST_GROUP] = {"group", "one TLB probe for neighbouring accesses", "each access has a probe of its own"},
};
