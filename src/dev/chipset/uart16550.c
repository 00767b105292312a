/*
 * uart16550.c - 16550A (National Semiconductor PC16550D data sheet).
 *
 * Transmission is immediate: the transmitter is always empty, and its interrupt follows at once
 * when it is enabled or a byte was written. Reception is paced by the backend, which is told the
 * room in the FIFO. There is none until a driver listens (it enables the receive interrupt, or
 * polls for a byte): drivers clear the FIFO when they start, and read the receiver once or twice
 * "for luck" right after, and what was typed or piped before would be lost, where on a real line
 * nobody had been typing yet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/chipset/ports.h"
#include "dev/chipset/uart16550.h"

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define FIFO_SIZE 16
#define LISTEN_NS 5000000 /* from enabling the receive interrupt to the first byte */
#define POLLS_LISTEN 16 /* a transmitter polls the LSR once a byte, a receiver again and again */
#define UART_CLOCK_HZ 1843200ULL

#define IER_RX BIT(0)
#define IER_THRE BIT(1)
#define IER_LINE BIT(2)
#define IER_MODEM BIT(3)

#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THRE 0x02
#define IIR_RX 0x04
#define IIR_LINE 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO_ON 0xc0

#define FCR_ENABLE BIT(0)
#define FCR_CLEAR_RX BIT(1)
#define FCR_KEPT 0xc9

#define LCR_DLAB BIT(7)

#define MCR_DTR BIT(0)
#define MCR_RTS BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3) /* on a PC, lets the interrupt out to the line */
#define MCR_LOOP BIT(4)

#define LSR_READY BIT(0)
#define LSR_OVERRUN BIT(1)
#define LSR_ERRORS 0x1e
#define LSR_TX_EMPTY 0x60 /* THRE and TEMT */

#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI BIT(6)
#define MSR_DCD BIT(7)
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

struct uart16550 {
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t lsr_errors; /* LSR_OVERRUN until the LSR is read */
	uint8_t msr;        /* lines in 7:4, changes since the last read in 3:0 */
	uint8_t thre;       /* the transmitter-empty interrupt is pending */
	uint8_t timeout;    /* the character-timeout interrupt is pending */
	uint8_t polls;      /* LSR reads without a byte sent or received; POLLS_LISTEN: listening */
	uint16_t divisor;
	uint8_t fifo[FIFO_SIZE];
	uint8_t head, count;

	struct irq_line irq;
	struct chr *chr;
	struct loop_timer timer; /* the character timeout */
	struct loop_timer listen; /* LISTEN_NS after IER_RX rose */
	struct bus *bus;
	struct port_range ranges[1];
};

#define F(field, reset_value) SNAP_U(struct uart16550, field, reset_value)

static const struct snap_field fields[] = {
	F(ier, 0),
	F(fcr, 0),
	F(lcr, 0),
	F(mcr, 0),
	F(scr, 0),
	F(lsr_errors, 0),
	F(msr, MSR_CONNECTED),
	F(thre, 0),
	F(timeout, 0),
	F(polls, 0),
	F(divisor, 12),
	SNAP_ARRAY(struct uart16550, fifo, 0),
	F(head, 0),
	F(count, 0),
};

const struct snap_desc uart16550_snap = {"uart16550", 1, fields, ARRAY_SIZE(fields)};

static unsigned capacity(const struct uart16550 *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger(const struct uart16550 *u)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* The highest-priority pending interrupt, as the IIR shows it. */
static uint8_t pending(const struct uart16550 *u)
{
	if ((u->ier & IER_LINE) && u->lsr_errors)
		return IIR_LINE;
	if ((u->ier & IER_RX) && u->count >= trigger(u))
		return IIR_RX;
	if ((u->ier & IER_RX) && u->timeout)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thre)
		return IIR_THRE;
	if ((u->ier & IER_MODEM) && (u->msr & 0xf))
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct uart16550 *u)
{
	bool out = (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP);

	irq_set(&u->irq, out && pending(u) != IIR_NONE);
}

/* Four character times without a byte read or received (PC16550D, 8.4.1). */
static void restart_timeout(struct uart16550 *u)
{
	unsigned bits = 1 + 5 + (u->lcr & 3) + 1 + (u->lcr >> 2 & 1) + (u->lcr >> 3 & 1);
	uint64_t divisor = u->divisor ? u->divisor : 0x10000;

	u->timeout = 0;
	if (u->count && (u->fcr & FCR_ENABLE) && (u->ier & IER_RX) && u->count < trigger(u))
		loop_timer_set(&u->timer, host_now_ns() + 4 * bits * 16 * divisor * 1000000000 /
								  UART_CLOCK_HZ);
	else
		loop_timer_cancel(&u->timer);
}

static void timed_out(void *ctx)
{
	struct uart16550 *u = ctx;

	u->timeout = u->count != 0;
	update_irq(u);
}

/* The last thing a register access does: the backend may deliver from within. */
static void announce_room(struct uart16550 *u)
{
	bool listening = ((u->ier & IER_RX) && !loop_timer_armed(&u->listen)) || u->polls == POLLS_LISTEN;

	if (u->chr)
		chr_set_room(u->chr, (u->mcr & MCR_LOOP) || !listening ? 0 : capacity(u) - u->count);
}

static void listen_now(void *ctx)
{
	announce_room(ctx);
}

static void push(struct uart16550 *u, uint8_t byte)
{
	if (u->count >= capacity(u)) {
		u->lsr_errors |= LSR_OVERRUN;
		if (capacity(u) == 1)
			u->fifo[u->head] = byte; /* the new byte replaces the unread one */
		return;
	}
	u->fifo[(u->head + u->count++) % FIFO_SIZE] = byte;
}

static void receive(void *ctx, const uint8_t *data, size_t len)
{
	struct uart16550 *u = ctx;

	for (size_t i = 0; i < len; i++)
		push(u, data[i]);
	restart_timeout(u);
	update_irq(u);
}

static uint8_t pop(struct uart16550 *u)
{
	uint8_t byte = u->fifo[u->head];

	if (!u->count)
		return 0;
	u->head = (u->head + 1) % FIFO_SIZE;
	u->count--;
	restart_timeout(u);
	update_irq(u);
	announce_room(u);
	return byte;
}

static void clear_fifo(struct uart16550 *u)
{
	u->head = u->count = u->lsr_errors = 0;
}

static void transmit(struct uart16550 *u, uint8_t byte)
{
	if (u->polls < POLLS_LISTEN)
		u->polls = 0;
	if (u->mcr & MCR_LOOP) {
		push(u, byte);
		restart_timeout(u);
	} else if (u->chr) {
		chr_write(u->chr, &byte, 1);
	}
	u->thre = 1;
	update_irq(u);
}

/* Modem inputs: a null modem with its peer ready, or in loop-back our own outputs. */
static void update_modem(struct uart16550 *u)
{
	uint8_t lines = MSR_CONNECTED, was = u->msr & 0xf0, changed;

	if (u->mcr & MCR_LOOP)
		lines = (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
			(u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
	changed = lines ^ was;
	if (lines & MSR_RI)
		changed &= ~MSR_RI; /* of the ring indicator only the trailing edge counts */
	u->msr = lines | (u->msr & 0xf) | changed >> 4;
}

static void ier_write(struct uart16550 *u, uint8_t value)
{
	uint8_t rose = value & ~u->ier;

	u->ier = value & 0xf;
	if (rose & IER_RX)
		loop_timer_set(&u->listen, host_now_ns() + LISTEN_NS);
	if (rose & IER_THRE)
		u->thre = 1; /* the transmitter is empty when the interrupt gets enabled */
	restart_timeout(u);
	update_irq(u);
	announce_room(u);
}

static void fcr_write(struct uart16550 *u, uint8_t value)
{
	bool toggled = (value ^ u->fcr) & FCR_ENABLE;

	u->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	if (toggled || (value & FCR_CLEAR_RX))
		clear_fifo(u);
	restart_timeout(u);
	update_irq(u);
	announce_room(u);
}

static uint8_t iir_read(struct uart16550 *u)
{
	uint8_t id = pending(u);

	if (id == IIR_THRE) {
		u->thre = 0; /* reading its source clears it */
		update_irq(u);
	}
	return id | (u->fcr & FCR_ENABLE ? IIR_FIFO_ON : 0);
}

static uint8_t lsr_read(struct uart16550 *u)
{
	uint8_t value = LSR_TX_EMPTY | (u->count ? LSR_READY : 0) | u->lsr_errors;

	u->lsr_errors = 0;
	update_irq(u);
	if (u->polls < POLLS_LISTEN && ++u->polls == POLLS_LISTEN)
		announce_room(u);
	return value;
}

static uint8_t msr_read(struct uart16550 *u)
{
	uint8_t value = u->msr;

	u->msr &= 0xf0;
	update_irq(u);
	return value;
}

static uint64_t uart_read(void *dev, uint64_t off, unsigned size)
{
	struct uart16550 *u = dev;
	bool dlab = u->lcr & LCR_DLAB;

	switch (off) {
	case RBR_THR:
		return dlab ? u->divisor & 0xff : pop(u);
	case IER:
		return dlab ? u->divisor >> 8 : u->ier;
	case IIR_FCR:
		return iir_read(u);
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		return lsr_read(u);
	case MSR:
		return msr_read(u);
	default:
		return u->scr;
	}
}

static void divisor_write(struct uart16550 *u, uint64_t off, uint8_t value)
{
	u->divisor = off ? (u->divisor & 0xff) | value << 8 : (u->divisor & 0xff00) | value;
}

static void uart_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct uart16550 *u = dev;

	if (off <= IER && (u->lcr & LCR_DLAB)) {
		divisor_write(u, off, value);
		return;
	}
	switch (off) {
	case RBR_THR:
		transmit(u, value);
		break;
	case IER:
		ier_write(u, value);
		break;
	case IIR_FCR:
		fcr_write(u, value);
		break;
	case LCR:
		u->lcr = value;
		break;
	case MCR:
		u->mcr = value & 0x1f;
		update_modem(u);
		update_irq(u);
		announce_room(u);
		break;
	case SCR:
		u->scr = value;
		break;
	default:
		break; /* the status registers are read-only, but for factory tests */
	}
}

static const struct bus_ops ops = {uart_read, uart_write, 1, 1};

void uart16550_reset(struct uart16550 *u)
{
	loop_timer_cancel(&u->timer);
	loop_timer_cancel(&u->listen);
	snap_reset(&uart16550_snap, u, false);
	update_irq(u);
	announce_room(u);
}

int uart16550_new(struct uart16550 **out, struct bus *bus, uint16_t base, struct loop *loop,
		  struct irq_line irq, struct chr *chr, struct err *err)
{
	struct uart16550 *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return err_set(err, ENOMEM, "UART: out of memory");
	u->bus = bus;
	u->irq = irq;
	u->chr = chr;
	u->ranges[0] = (struct port_range){base, UART_PORTS, &ops, u, "16550A"};
	ret = ports_claim(bus, u->ranges, ARRAY_SIZE(u->ranges), err);
	if (ret) {
		free(u);
		return ret;
	}
	loop_timer_init(&u->timer, loop, timed_out, u);
	loop_timer_init(&u->listen, loop, listen_now, u);
	if (chr) {
		chr->receive = receive;
		chr->receive_ctx = u;
	}
	uart16550_reset(u);
	*out = u;
	return 0;
}

void uart16550_free(struct uart16550 *u)
{
	if (!u)
		return;
	if (u->chr) {
		chr_set_room(u->chr, 0);
		u->chr->receive = NULL;
	}
	loop_timer_cancel(&u->timer);
	loop_timer_cancel(&u->listen);
	ports_release(u->bus, u->ranges, ARRAY_SIZE(u->ranges));
	free(u);
}
