/*
 * cpu.h - one virtual CPU: its architectural state, and what every engine and the machine may do with it.
 *
 * A vCPU belongs to one thread at a time (its vCPU thread while the machine runs); only the functions
 * marked "any thread" may be called from others. Layout: what engines touch on every instruction is first.
 */
#ifndef RINGER_CPU_CPU_H
#define RINGER_CPU_CPU_H

#include <setjmp.h>
#include <stdatomic.h>

#include "base/base.h"
#include "base/err.h"
#include "base/log.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "mem/mem.h"
#include "mem/mmu.h"
#include "x86/cpuid.h"
#include "x86/x86.h"

/* x87, SSE, AVX and AVX-512 state. fx is an FXSAVE64 image whose XMM part is unused: zmm holds those. */
struct fpu_state {
	_Alignas(64) uint8_t fx[512];
	_Alignas(64) uint8_t zmm[32][64]; /* XMM and YMM are the low parts */
	uint64_t k[8];
};

/* An exception or interrupt on its way in. */
struct cpu_event {
	uint8_t vector;
	bool has_error;
	bool external; /* an interrupt from the APIC or the 8259, whatever its vector */
	bool software; /* INT n, INT3, INTO: saved RIP is after the instruction, gate DPL is checked */
	uint32_t error;
};

/* Reasons for the engine to leave straight-line execution; bits of vcpu.request. Any thread may set. */
enum cpu_request {
	CPU_REQ_INTR = 1 << 0,  /* the local APIC (or the 8259) has a vector to offer */
	CPU_REQ_NMI = 1 << 1,
	CPU_REQ_INIT = 1 << 2,
	CPU_REQ_SIPI = 1 << 3,
	CPU_REQ_STOP = 1 << 4,  /* the machine wants this vCPU out of the engine */
	CPU_REQ_FLUSH = 1 << 5, /* drop the TLB */
	CPU_REQ_CODE = 1 << 6,  /* others wrote code, or will cache some: code_user_catch_up() */
	CPU_REQ_KICK = 1 << 7,  /* kvm.kicked or kvm.stood_still was set */
	CPU_REQ_USER = 1 << 8,  /* like STOP, but once the guest is in user mode */
};

/* The KVM paravirtual interface (cpu/kvm.h). */
struct kvm_vcpu {
	uint64_t system_time, wall_clock, steal_time, pv_eoi, poll_control; /* MSRs as written */
	uint64_t eoi_offered;  /* where PV EOI's bit was set, with bit 0; 0: nowhere */
	uint64_t held_ns;      /* kept from running by the monitor itself */
	uint64_t steal_seen;   /* of held_ns and run_delay(): what the guest has been told, ns */
	uint64_t looked_tsc;   /* when that was asked last; host TSC */
	uint64_t ran_ns;       /* and what the thread had run then */
	_Atomic bool kicked;   /* any thread sets it: the next HLT ends at once */
	_Atomic bool stood_still; /* any thread sets it: the guest is to be told */
	/* For cpu_kvm_counters(). */
	uint64_t stolen_ns, flushes, eois, kicks, yields, ipis;
};

struct engine_ops;
struct engine_config;

#define CPU_ENGINE_AREA MIB(4)

struct vcpu {
	union {
		struct {
			uint64_t gpr[16];
			uint64_t rip;
			uint64_t zero; /* always 0 */
		};
		uint64_t ea_reg[18]; /* what an effective address may add up: gpr, rip, nothing */
	};
	/* Status flags as LAHF/SETO leave them in AX: OF in bit 0, SF ZF AF PF CF in bits 15..8. */
	uint16_t status;
	uint8_t cpl;
	uint8_t mode;        /* enum x86_mode of the running code */
	uint8_t mmu_mode;    /* enum mmu_mode of explicit accesses: follows CPL and AC */
	bool align_check;    /* CPL 3, CR0.AM and EFLAGS.AC: misaligned data accesses raise #AC */
	uint32_t sys_flags;  /* RFLAGS without the status flags; bit 1 not kept */
	uint64_t inhibit_rip; /* interrupts are held off at this RIP: STI and MOV SS shadow; ~0 when none */
	_Atomic uint32_t request; /* enum cpu_request */
	_Atomic uint32_t poll;    /* set with request: what an engine looks at often, and clears when it has seen it */
	bool inhibit_debug;  /* the shadow is MOV SS's: also holds off #DB */
	bool halted;         /* in HLT, woken by INTR (if IF), NMI, INIT */
	bool wait_sipi;      /* after INIT, until SIPI */
	bool nmi_blocked;    /* until IRET */
	uint8_t sipi_vector;
	bool in_rep;         /* between two iterations of a repeated string instruction */
	uint64_t soft_int_rip; /* of the INT n being delivered: where a fault of its delivery is reported */
	bool soft_int_pending; /* its delivery has not reached another task yet */
	uint8_t ext;           /* EXT in error codes: 1 while an event is delivered that no instruction asked for */
	uint64_t pending_db; /* DR6 bits of debug traps to deliver after the current instruction */

	struct segment seg[S_COUNT];
	uint64_t gdt_base, idt_base;
	uint16_t gdt_limit, idt_limit;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
	uint64_t dr[4], dr6, dr7;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t tsc_aux, tsc_adjust, pat, misc_enable, spec_ctrl, debugctl;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t mcg_status, mcg_ctl;
	uint64_t syscfg, hwcr, de_cfg;
	struct kvm_vcpu kvm;
	_Atomic uint64_t lock_word; /* Ringer's paravirtual MSRs (cpu/ringer.h) as written; any thread reads */
	_Atomic uint32_t lock_mask;
	int64_t tsc_offset; /* guest TSC = host TSC + this */

	/*
	 * An engine may keep the extended state in the hardware while it runs (all but MXCSR, which is there in any
	 * engine): then fpu_live says that fpu is stale, and fpu_spill() saves it there and clears fpu_live. Who needs
	 * fpu, or calls what may use vector registers, goes by cpu_fpu_spill(). False whenever run() is not running.
	 */
	bool fpu_live;
	void (*fpu_spill)(struct vcpu *v);
	struct fpu_state fpu;
	struct mmu mmu;

	/* Set up by the machine before the first run; constant afterwards. */
	const struct cpu_model *model;
	struct guest_mem *mem;
	struct bus *bus;
	/* The device lock, taken around bus and APIC calls; NULL fns in tests without devices. */
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	void *lock_ctx;
	const struct local_apic *apic; /* NULL: none */
	const struct log *log;
	uint32_t id, cpu_count;
	void (*wake)(struct vcpu *v); /* a request was set while the vCPU may be halted; any thread */
	void *owner;                  /* the machine's own */
	struct vcpu *(*peer)(struct vcpu *v, uint32_t apic_id); /* that vCPU of the same machine, or NULL; NULL: alone */
	/* ns that v's thread, the caller, was ready but did not run; and that it ran. NULL: not known */
	uint64_t (*run_delay)(struct vcpu *v, uint64_t *ran_ns);
	void (*yield_to)(struct vcpu *v, uint32_t apic_id); /* lets that vCPU run rather than v, the caller; may be NULL */

	const struct engine_ops *engine;
	void *engine_state;     /* the engine's own */
	struct interp *interp;  /* the interpreter that the engine has, or NULL */
	const struct engine_config *config; /* NULL: defaults */

	/* Why run() returned RUN_ERROR or RUN_SHUTDOWN, for people; and a counter for everything. */
	char stop_reason[160];
	uint64_t insns; /* instructions retired by run() */
	uint64_t exceptions[32], interrupts, unknown_msr_reads, unknown_msr_writes;

	uint64_t native_rsp; /* for engines that run guest instructions on the host: their stack while they do */
	_Alignas(64) uint8_t bounce[4096 + 128]; /* for accesses that no host pointer can serve */
	uint64_t device_cycles, lock_tsc; /* time-stamp cycles spent in devices: between lock() and unlock(); when it began, or 0 */
	/* Where cpu_raise() goes, set with _setjmp() by the running engine. (clang's builtin loses the base register.) */
	jmp_buf fault_jmp;
	struct cpu_event event; /* what cpu_raise() raised */
	/* The engine's own per-vCPU state that generated code reaches at a fixed distance; zeroed, touched lazily. */
	_Alignas(4096) uint8_t engine_area[CPU_ENGINE_AREA];
};

/* A vCPU is large (TLBs) and cache-line aligned. mem, bus, model outlive it. */
int vcpu_new(struct vcpu **out, uint32_t id, const struct cpu_model *model, struct guest_mem *mem,
	     struct bus *bus, struct err *err) must_check;
void vcpu_free(struct vcpu *v);
/* Power-on or RESET# state: real mode at F000:FFF0 (SDM vol. 3, table 9-1). */
void vcpu_reset(struct vcpu *v);
/* Sets request bits and wakes the vCPU. Any thread. */
void vcpu_request(struct vcpu *v, uint32_t bits);

uint64_t cpu_rflags(const struct vcpu *v);
/* Loads all of RFLAGS as given (no privilege rules): bit 1 and reserved bits are ignored. */
void cpu_set_rflags(struct vcpu *v, uint64_t rflags);

/*
 * Setting state from outside (boot, tests, snapshots). Values are taken as they are: no #GP checks.
 * Call cpu_state_changed() when done: derived state (mode, CPL, MMU) follows and TLBs are dropped.
 */
void cpu_set_segment(struct vcpu *v, enum sreg s, uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr);
void cpu_state_changed(struct vcpu *v);

/* Guest TSC now. */
uint64_t cpu_tsc(const struct vcpu *v);

/* Register dump, several lines, newline-terminated; at most len-1 bytes. For stops and `info`. */
void cpu_dump(const struct vcpu *v, char *buf, size_t len);

#endif
