/*
 * engine.h - the engine contract: how guest instructions get executed.
 *
 * An engine is a folder behind these functions. All of a vCPU's architectural state is in struct vcpu
 * whenever run() is not running: engines can be switched at any instruction boundary.
 */
#ifndef RINGER_CPU_ENGINE_H
#define RINGER_CPU_ENGINE_H

#include "cpu/cpu.h"

/*
 * VM assists: system events that the translator handles inside translated code or in a light call, with the guest's
 * vector state left in the hardware. With its assist off, the event takes the general way: out of translated code,
 * state spilled, one instruction by the interpreter. See assist.c for what each replaces.
 */
enum engine_assist {
	ASSIST_SYSCALL,   /* SYSCALL and SYSRET */
	ASSIST_IRET,
	ASSIST_EXCEPTION, /* delivery of exceptions */
	ASSIST_INTERRUPT, /* delivery of interrupts */
	ASSIST_IF,        /* CLI, STI, PUSHF, POPF */
	ASSIST_SWAPGS,    /* SWAPGS, RDFSBASE and its kin */
	ASSIST_SMAP,      /* STAC, CLAC */
	ASSIST_CR3,       /* MOV to and from control registers */
	ASSIST_INVLPG,    /* INVLPG, INVPCID */
	ASSIST_MSR,       /* RDMSR, WRMSR */
	ASSIST_IO,        /* IN, OUT */
	ASSIST_STRING,    /* string instructions */
	ASSIST_TSC,       /* RDTSC, RDTSCP */
	ASSIST_XSAVE,     /* XSAVE, XRSTOR and their kin */
	ASSIST_CHAIN,     /* blocks jump to each other directly */
	ASSIST_LOOKUP,    /* indirect jumps, calls and returns find their block in translated code */
	ASSIST_TLB,       /* the TLB is probed in translated code */
	ASSIST_GROUP,     /* one TLB probe for several accesses */
	ASSIST_COUNT
};

struct engine_assist_info {
	const char *name;     /* as --assist takes it */
	const char *what;     /* what it handles */
	const char *replaces; /* what happens without it */
};
extern const struct engine_assist_info engine_assists[ASSIST_COUNT];

/* Switches that make rare paths common, for tests. */
struct engine_stress {
	bool one_insn;          /* a block holds one instruction */
	bool slow_memory;       /* every memory access takes the slow path */
	bool poll;              /* every poll leaves translated code */
	uint32_t flush_blocks;  /* flush the TLB every so many dispatched blocks; 0: never */
};

struct engine_block;

/* What a user may set. The machine owns it; constant while its vCPUs exist. */
struct engine_config {
	uint64_t cache_bytes;  /* of translated code, per vCPU: ENGINE_CACHE_MIN..MAX */
	uint64_t assists_off;  /* BIT(enum engine_assist) */
	struct engine_stress stress;
	bool verify;           /* lock-step against the interpreter */
	/*
	 * Called on the vCPU's thread for every translated block when not NULL, with the vector state spilled.
	 * guest: the bytes at linear address rip (n_guest of them); host: the code that was made.
	 */
	void (*translated)(void *ctx, const struct engine_block *b);
	void *ctx;
	/*
	 * verify: called on the vCPU's thread for the first difference (run() then returns RUN_ERROR), when not NULL. text:
	 * lines about both states; b: the block.
	 */
	void (*report)(void *ctx, const struct engine_block *b, const char *text);
	void *report_ctx;
	unsigned sabotage;     /* a test of verify: this mnemonic (ZydisMnemonic) is translated wrong; 0: none */
};

/*
 * A translated block, for --trace, --perf and `ringer translate`. Pointers are good during the call only; but host can
 * be read until vcpu_fini(), to see how its jumps were chained.
 */
struct engine_block {
	uint64_t rip, gpa;
	unsigned cpl, n_insns;
	const uint8_t *guest, *host; /* host is where it runs */
	uint32_t n_guest, n_host;
	/* For instruction i: where it begins in guest and in host. */
	const struct engine_block_insn {
		uint16_t guest_off, host_off;
	} *insn;
};

#define ENGINE_CACHE_MIN MIB(1)
#define ENGINE_CACHE_MAX GIB(1)
#define ENGINE_CACHE_DEFAULT MIB(64)

/* One figure of an engine, for --stats and --json. */
struct engine_counter {
	const char *name; /* json_style */
	const char *text; /* for people */
	const char *unit; /* "", "bytes", "tsc" (time-stamp cycles: report as seconds) */
	uint64_t value;
};

enum run_exit {
	RUN_HALT,     /* HLT with nothing pending: wait for a request, then run again */
	RUN_STOP,     /* CPU_REQ_STOP, or CPU_REQ_USER at CPL 3, was seen (and cleared) */
	RUN_BUDGET,   /* max_insns instructions are done */
	RUN_SHUTDOWN, /* triple fault: stop_reason says where */
	RUN_ERROR,    /* the engine cannot go on: stop_reason says why */
};

struct engine_ops {
	const char *name;
	const char *description; /* one line for `ringer doctor` */
	/* Whether it can work on this host; a reason for people either way. */
	bool (*usable)(struct err *why);
	int (*vcpu_init)(struct vcpu *v, struct err *err);
	void (*vcpu_fini)(struct vcpu *v);
	/*
	 * Runs until one of the above. max_insns: 0 means no limit; otherwise an instruction that faults counts
	 * as one (with the delivery of its exception), and so does each iteration after which a repeated string
	 * instruction is interrupted.
	 */
	enum run_exit (*run)(struct vcpu *v, uint64_t max_insns);
	/* Fills at most max counters; returns how many there are. May be NULL. Any thread: the figures may be a little old. */
	unsigned (*counters)(const struct vcpu *v, struct engine_counter *out, unsigned max);
	bool uses_config; /* whether struct engine_config means anything to it */
};

#endif
