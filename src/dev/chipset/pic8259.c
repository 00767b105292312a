/*
 * pic8259.c - the two 8259As (Intel 8259A data sheet, order 231468).
 *
 * State is kept per chip in arrays: index 0 is the master, 1 the slave, whose INT output is the
 * master's IR2. As on the chip, a request that goes away before it is acknowledged makes the
 * acknowledge cycle return the vector of IR7 with no bit in service: the spurious interrupt that
 * drivers know about.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/pic8259.h"
#include "dev/chipset/ports.h"

#define CASCADE 2
#define SPURIOUS 7

struct pic_port {
	struct pic8259 *pic;
	unsigned chip;
};

struct pic8259 {
	uint8_t irr[2], isr[2], imr[2];
	uint8_t line[2];   /* input levels; not reset, the devices drive them */
	uint8_t elcr[2];   /* 1: level-triggered, by input */
	uint8_t base[2];   /* ICW2: vector of IR0 */
	uint8_t lowest[2]; /* input with the lowest priority: 7 unless rotated */
	uint8_t icw[2];    /* initialization word expected next: 2, 3, 4; 0: none */
	uint8_t icw1[2], icw4[2];
	uint8_t read_isr[2], poll[2], special_mask[2], rotate_aeoi[2];

	struct irq_line intr;
	struct bus *bus;
	struct pic_port port[2];
	struct port_range ranges[3];
};

#define ICW1_NEED_ICW4 BIT(0)
#define ICW1_SINGLE BIT(1)
#define ICW1_LEVEL BIT(3)
#define ICW1_INIT BIT(4)
#define ICW4_AEOI BIT(1)
#define ICW4_SFNM BIT(4)

#define A(field, reset_value) SNAP_ARRAY(struct pic8259, field, reset_value)

static const struct snap_field fields[] = {
	A(irr, 0),          A(isr, 0),
	A(imr, 0xff),       {"line", offsetof(struct pic8259, line), 1, 2, SNAP_UINT, 0, true},
	A(elcr, 0),         A(base, 0),
	A(lowest, 7),       A(icw, 0),
	A(icw1, 0),         A(icw4, 0),
	A(read_isr, 0),     A(poll, 0),
	A(special_mask, 0), A(rotate_aeoi, 0),
};

const struct snap_desc pic8259_snap = {"pic8259", 1, fields, ARRAY_SIZE(fields)};

static uint8_t level_inputs(const struct pic8259 *p, unsigned c)
{
	return p->icw1[c] & ICW1_LEVEL ? 0xff : p->elcr[c];
}

/* Position of the highest-priority bit of set, counted from the top priority; 8 for none. */
static unsigned priority(const struct pic8259 *p, unsigned c, uint8_t set)
{
	for (unsigned i = 0; i < 8; i++)
		if (set >> ((p->lowest[c] + 1 + i) & 7) & 1)
			return i;
	return 8;
}

/* The input that the chip's INT output stands for, or -1. */
static int requesting(const struct pic8259 *p, unsigned c)
{
	uint8_t serving = p->isr[c];
	unsigned want = priority(p, c, p->irr[c] & ~p->imr[c]);

	if (p->special_mask[c])
		serving &= ~p->imr[c];
	/* The slave may interrupt itself with a higher priority only in special fully nested mode.
	 */
	if (c == 0 && (p->icw4[0] & ICW4_SFNM))
		serving &= ~(1u << CASCADE);
	if (want == 8 || want >= priority(p, c, serving))
		return -1;
	return (p->lowest[c] + 1 + want) & 7;
}

static void input(struct pic8259 *p, unsigned c, unsigned n, bool level)
{
	uint8_t bit = 1u << n;

	if (!level)
		p->irr[c] &= ~bit;
	else if ((level_inputs(p, c) & bit) || !(p->line[c] & bit))
		p->irr[c] |= bit;
	p->line[c] = level ? p->line[c] | bit : p->line[c] & ~bit;
}

static void update(struct pic8259 *p)
{
	input(p, 0, CASCADE, requesting(p, 1) >= 0);
	irq_set(&p->intr, requesting(p, 0) >= 0);
}

void pic8259_set_irq(struct pic8259 *p, unsigned irq, bool level)
{
	if (irq > 15 || irq == CASCADE)
		return;
	input(p, irq >> 3, irq & 7, level);
	update(p);
}

static void rotate_after(struct pic8259 *p, unsigned c, unsigned n)
{
	p->lowest[c] = n & 7;
}

static void take(struct pic8259 *p, unsigned c, unsigned n)
{
	uint8_t bit = 1u << n;

	if (!(level_inputs(p, c) & bit))
		p->irr[c] &= ~bit;
	if (!(p->icw4[c] & ICW4_AEOI))
		p->isr[c] |= bit;
	else if (p->rotate_aeoi[c])
		rotate_after(p, c, n);
}

int pic8259_ack(struct pic8259 *p)
{
	int n = requesting(p, 0), vector;

	if (n < 0) {
		vector = p->base[0] + SPURIOUS;
	} else if (n == CASCADE) {
		int s = requesting(p, 1);

		take(p, 0, CASCADE);
		if (s >= 0)
			take(p, 1, s);
		vector = p->base[1] + (s >= 0 ? s : SPURIOUS);
		/* IR2 is edge-triggered: the slave's INT drops during the cycle, and rises for the
		 * next. */
		input(p, 0, CASCADE, false);
	} else {
		take(p, 0, n);
		vector = p->base[0] + n;
	}
	update(p);
	return vector & 0xff;
}

static void icw1_write(struct pic8259 *p, unsigned c, uint8_t value)
{
	p->icw1[c] = value;
	p->icw4[c] = 0;
	p->icw[c] = 2;
	p->imr[c] = p->isr[c] = 0;
	p->lowest[c] = 7;
	p->read_isr[c] = p->poll[c] = p->special_mask[c] = p->rotate_aeoi[c] = 0;
	/* The edge detector starts anew: only a level still counts. */
	p->irr[c] = p->line[c] & level_inputs(p, c);
}

static void eoi(struct pic8259 *p, unsigned c, bool rotate)
{
	uint8_t serving = p->isr[c];
	unsigned i, n;

	if (p->special_mask[c])
		serving &= ~p->imr[c];
	i = priority(p, c, serving);
	if (i == 8)
		return;
	n = (p->lowest[c] + 1 + i) & 7;
	p->isr[c] &= ~(1u << n);
	if (rotate)
		rotate_after(p, c, n);
}

static void ocw2_write(struct pic8259 *p, unsigned c, uint8_t value)
{
	unsigned n = value & 7;

	switch (value >> 5) {
	case 0:
	case 4:
		p->rotate_aeoi[c] = value >> 7;
		break;
	case 1:
	case 5:
		eoi(p, c, value >> 7);
		break;
	case 3:
		p->isr[c] &= ~(1u << n);
		break;
	case 6:
		rotate_after(p, c, n);
		break;
	case 7:
		p->isr[c] &= ~(1u << n);
		rotate_after(p, c, n);
		break;
	}
}

static void ocw3_write(struct pic8259 *p, unsigned c, uint8_t value)
{
	if (value & BIT(2))
		p->poll[c] = 1;
	else if (value & BIT(1))
		p->read_isr[c] = value & 1;
	if (value & BIT(6))
		p->special_mask[c] = value >> 5 & 1;
}

static void data_write(struct pic8259 *p, unsigned c, uint8_t value)
{
	switch (p->icw[c]) {
	case 2:
		p->base[c] = value & 0xf8;
		p->icw[c] = !(p->icw1[c] & ICW1_SINGLE) ? 3 : p->icw1[c] & ICW1_NEED_ICW4 ? 4 : 0;
		break;
	case 3: /* how the chips are wired: as the board has it, whatever is written */
		p->icw[c] = p->icw1[c] & ICW1_NEED_ICW4 ? 4 : 0;
		break;
	case 4:
		p->icw4[c] = value;
		p->icw[c] = 0;
		break;
	default:
		p->imr[c] = value;
		break;
	}
}

static void pic_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct pic_port *port = dev;
	struct pic8259 *p = port->pic;
	unsigned c = port->chip;

	if (off)
		data_write(p, c, value);
	else if (value & ICW1_INIT)
		icw1_write(p, c, value);
	else if (value & BIT(3))
		ocw3_write(p, c, value);
	else
		ocw2_write(p, c, value);
	update(p);
}

/* Poll command: the next read is the acknowledge cycle of this chip alone. */
static uint8_t poll_read(struct pic8259 *p, unsigned c)
{
	int n = requesting(p, c);

	p->poll[c] = 0;
	if (n < 0)
		return 0;
	take(p, c, n);
	update(p);
	return 0x80 | n;
}

static uint64_t pic_read(void *dev, uint64_t off, unsigned size)
{
	struct pic_port *port = dev;
	struct pic8259 *p = port->pic;
	unsigned c = port->chip;

	if (p->poll[c])
		return poll_read(p, c);
	if (off)
		return p->imr[c];
	return p->read_isr[c] ? p->isr[c] : p->irr[c];
}

static uint64_t elcr_read(void *dev, uint64_t off, unsigned size)
{
	return ((struct pic8259 *)dev)->elcr[off & 1];
}

/* The timer, keyboard, cascade, RTC and coprocessor inputs are always edge-triggered. */
static void elcr_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct pic8259 *p = dev;
	unsigned c = off & 1;
	uint8_t was = p->elcr[c], now = value & (c ? 0xde : 0xf8);

	p->elcr[c] = now;
	p->irr[c] |= p->line[c] & now & ~was;
	update(p);
}

static const struct bus_ops pic_ops = {pic_read, pic_write, 1, 1};
static const struct bus_ops elcr_ops = {elcr_read, elcr_write, 1, 1};

void pic8259_reset(struct pic8259 *p)
{
	snap_reset(&pic8259_snap, p, false);
	update(p);
}

int pic8259_new(struct pic8259 **out, struct bus *bus, struct irq_line intr, struct err *err)
{
	struct pic8259 *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return err_set(err, ENOMEM, "8259: out of memory");
	p->bus = bus;
	p->intr = intr;
	for (unsigned c = 0; c < 2; c++)
		p->port[c] = (struct pic_port){p, c};
	p->ranges[0] = (struct port_range){0x20, 2, &pic_ops, &p->port[0], "8259 master"};
	p->ranges[1] = (struct port_range){0xa0, 2, &pic_ops, &p->port[1], "8259 slave"};
	p->ranges[2] = (struct port_range){0x4d0, 2, &elcr_ops, p, "8259 edge/level"};
	ret = ports_claim(bus, p->ranges, ARRAY_SIZE(p->ranges), err);
	if (ret) {
		free(p);
		return ret;
	}
	pic8259_reset(p);
	*out = p;
	return 0;
}

void pic8259_free(struct pic8259 *p)
{
	if (!p)
		return;
	ports_release(p->bus, p->ranges, ARRAY_SIZE(p->ranges));
	free(p);
}
