/* uart16550.h - a 16550A serial port over a character backend. */
#ifndef RINGER_DEV_CHIPSET_UART16550_H
#define RINGER_DEV_CHIPSET_UART16550_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "host/chr.h"
#include "host/loop.h"
#include "snap/snap.h"

#define UART_COM1 0x3f8 /* IRQ 4 */
#define UART_COM2 0x2f8 /* IRQ 3 */
#define UART_PORTS 8

struct uart16550;

/*
 * Claims [base, base+8) in port space. chr stays the caller's, outlives the UART, and has its
 * receive callback set here (cleared by free); NULL: nothing connected, output is dropped.
 */
int uart16550_new(struct uart16550 **out, struct bus *bus, uint16_t base, struct loop *loop,
		  struct irq_line irq, struct chr *chr, struct err *err) must_check;
void uart16550_reset(struct uart16550 *u);
void uart16550_free(struct uart16550 *u);

extern const struct snap_desc uart16550_snap;

#endif
