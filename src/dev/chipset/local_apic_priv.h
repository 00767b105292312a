/* local_apic_priv.h - shared by the files of the local APIC; see local_apic.c for how it works. */
#ifndef RINGER_DEV_CHIPSET_LOCAL_APIC_PRIV_H
#define RINGER_DEV_CHIPSET_LOCAL_APIC_PRIV_H

#include "dev/chipset/local_apic.h"

/* Register offsets in the page; the x2APIC MSR is 0x800 + offset / 16 (SDM vol. 3, table 11-6). */
enum lapic_reg {
	REG_ID = 0x20,
	REG_VERSION = 0x30,
	REG_TPR = 0x80,
	REG_APR = 0x90,
	REG_PPR = 0xa0,
	REG_EOI = 0xb0,
	REG_RRD = 0xc0,
	REG_LDR = 0xd0,
	REG_DFR = 0xe0,
	REG_SVR = 0xf0,
	REG_ISR = 0x100,
	REG_TMR = 0x180,
	REG_IRR = 0x200,
	REG_ESR = 0x280,
	REG_ICR = 0x300,
	REG_ICR_HIGH = 0x310,
	REG_LVT_TIMER = 0x320,
	REG_LVT_THERMAL = 0x330,
	REG_LVT_PERF = 0x340,
	REG_LVT_LINT0 = 0x350,
	REG_LVT_LINT1 = 0x360,
	REG_LVT_ERROR = 0x370,
	REG_INITIAL_COUNT = 0x380,
	REG_CURRENT_COUNT = 0x390,
	REG_DIVIDE = 0x3e0,
	REG_SELF_IPI = 0x3f0,
};

/* In register order: (offset - REG_LVT_TIMER) / 16. */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_MASKED BIT(16)
#define LVT_REMOTE_IRR BIT(14)
#define LVT_LEVEL BIT(15)
#define LVT_DELIVERY(v) ((v) >> 8 & 7)

#define SVR_ENABLED BIT(8)

#define BASE_BSP BIT(8)
#define BASE_X2APIC BIT(10)
#define BASE_ENABLED BIT(11)

/* Error status register bits. */
#define ESR_SEND_ILLEGAL_VECTOR BIT(5)
#define ESR_RECV_ILLEGAL_VECTOR BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

struct lapic {
	/* Architectural state (local_apic_snap). */
	uint64_t base;
	uint32_t tpr, ldr, dfr, svr, esr, icr_low, icr_high, divide, initial_count;
	uint32_t esr_pending; /* errors since the last write to the ESR */
	uint32_t lvt[LVT_COUNT];
	uint32_t irr[8], isr[8], tmr[8]; /* 256 bits each, vector v at word v / 32 */
	uint64_t timer_zero_ns; /* host_now_ns() when the count reaches 0 (next time); 0: stopped */
	uint64_t deadline;      /* IA32_TSC_DEADLINE; 0: disarmed */
	uint8_t lint;           /* levels of LINT0 and LINT1, bits 0 and 1 */
	bool extint_message;    /* an ExtINT arrived as a message and was not acknowledged yet */

	bool eoi_offered; /* PV EOI: the highest vector in service may have been ended, unknown to us */

	bool intr; /* what pins.intr was last told */
	struct loop_timer timer;
	struct local_apic iface;
	struct local_apic_config cfg;
};

static inline bool lapic_enabled(const struct lapic *l)
{
	return l->base & BASE_ENABLED;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
	return l->base & BASE_X2APIC;
}

static inline bool lapic_soft_enabled(const struct lapic *l)
{
	return lapic_enabled(l) && (l->svr & SVR_ENABLED);
}

/* local_apic.c */
void lapic_registers_reset(struct lapic *l);
uint8_t lapic_ppr(const struct lapic *l);
void lapic_update(struct lapic *l);
void lapic_raise(struct lapic *l, uint8_t vector, bool level);
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt which);
void lapic_error(struct lapic *l, uint32_t bits);
void lapic_eoi(struct lapic *l);
/* Before the CPU's own access to anything that depends on ISR: on its thread. */
void lapic_settle_eoi(struct lapic *l);

/* local_apic_icr.c */
void lapic_send(struct lapic *l, uint32_t low, uint32_t dest);

/* local_apic_timer.c */
void lapic_timer_init(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
uint32_t lapic_timer_count(const struct lapic *l);
void lapic_timer_start(struct lapic *l, uint32_t count);
void lapic_timer_set_divide(struct lapic *l, uint32_t divide);
void lapic_timer_set_lvt(struct lapic *l, uint32_t value);
uint64_t lapic_deadline_get(void *ctx);
void lapic_deadline_set(void *ctx, uint64_t tsc);

/* local_apic_regs.c */
int lapic_msr_read(void *ctx, uint32_t msr, uint64_t *value);
int lapic_msr_write(void *ctx, uint32_t msr, uint64_t value);

#endif
