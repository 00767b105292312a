/* gsi.c - interrupt wiring of the board. */
#include "dev/chipset/gsi.h"

#define TIMER_PIN 2 /* the 8254's pin at the I/O APIC, as on every PC since the first MP ones */

static void set(void *ctx, unsigned irq, bool level)
{
	struct gsi_router *r = ctx;

	if (r->pic && irq < 16)
		pic8259_set_irq(r->pic, irq, level);
	if (r->ioapic)
		ioapic_set_pin(r->ioapic, irq ? irq : TIMER_PIN, level);
}

struct irq_line gsi_line(struct gsi_router *r, unsigned irq)
{
	return (struct irq_line){.set = set, .ctx = r, .n = irq};
}
