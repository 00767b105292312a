/*
 * irq.h - interrupt lines, message-signalled interrupts, and what a CPU asks of its interrupt controllers.
 *
 * A line is a value that is handed to a device; the device raises and lowers it and knows nothing else.
 * All calls with the device lock held, except where stated.
 */
#ifndef RINGER_BUS_IRQ_H
#define RINGER_BUS_IRQ_H

#include "base/base.h"

struct irq_line {
	void (*set)(void *ctx, unsigned n, bool level);
	void *ctx;
	unsigned n;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
	if (l->set)
		l->set(l->ctx, l->n, level);
}

/* Where an MSI write goes: address and data as in Intel SDM vol. 3, 11.11 (message signalled interrupts). */
struct msi_sink {
	void (*send)(void *ctx, uint64_t address, uint32_t data);
	void *ctx;
};

/*
 * The interrupt inputs of one logical processor, as its local APIC sees them. The CPU side implements
 * cpu_pins and is told when a pin changes; the APIC side implements local_apic and is asked at delivery.
 */
struct cpu_pins {
	/* Any thread. INTR: a vector may be deliverable now. NMI, SMI-less. INIT and SIPI as named. */
	void (*intr)(void *ctx, bool asserted);
	void (*nmi)(void *ctx);
	void (*init)(void *ctx);
	void (*sipi)(void *ctx, uint8_t vector);
	void *ctx;
	/*
	 * PV EOI; either both or none; on the CPU's own thread. offer: the guest may end the interrupt that it is about
	 * to take without telling the APIC; false: it cannot. withdraw: it no longer may; true: it has.
	 */
	bool (*eoi_offer)(void *ctx);
	bool (*eoi_withdraw)(void *ctx);
};

struct local_apic {
	/* Highest-priority deliverable vector, moved from IRR to ISR; -1 when there is none any more. */
	int (*ack)(void *ctx);
	uint8_t (*get_tpr)(void *ctx);              /* CR8: bits 7:4 of the TPR, as a number 0..15 */
	void (*set_tpr)(void *ctx, uint8_t cr8);
	uint64_t (*get_base)(void *ctx);            /* IA32_APIC_BASE */
	int (*set_base)(void *ctx, uint64_t value); /* -EINVAL: the write raises #GP(0) */
	/* x2APIC MSRs 0x800..0x8ff; -EINVAL: the access raises #GP(0). */
	int (*msr_read)(void *ctx, uint32_t msr, uint64_t *value);
	int (*msr_write)(void *ctx, uint32_t msr, uint64_t value);
	/* IA32_TSC_DEADLINE. The value is in guest TSC ticks. */
	uint64_t (*get_deadline)(void *ctx);
	void (*set_deadline)(void *ctx, uint64_t tsc);
	void (*tsc_changed)(void *ctx); /* the guest moved its TSC; may be NULL */
	/* As a write of icr to the ICR's lower half with a physical destination. */
	void (*send)(void *ctx, uint32_t icr, uint32_t dest);
	void *ctx;
};

#endif
