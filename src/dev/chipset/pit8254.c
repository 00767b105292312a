/*
 * pit8254.c - the three counters of the 8254 (Intel 8254 data sheet, order 231164) and port 0x61.
 *
 * Nothing counts: a channel keeps the host time at which its count was loaded, and count and output
 * are functions of the time since. A channel whose gate is low keeps the elapsed clocks instead.
 * Only channel 0 has an observer, the interrupt line, for which a timer is set to its output's next
 * edge.
 *
 * Simplification: a new count takes effect when its last byte is written, also in modes 2 and 3,
 * where the chip finishes the current period first.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/pit8254.h"
#include "dev/chipset/ports.h"
#include "dev/chipset/ticks.h"

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

/*
 * Edges of channel 0 closer than this are delivered at this distance: a guest must not keep the
 * loop thread busy. A PC's fastest sensible rate is a few kHz.
 */
#define MIN_EDGE_NS 20000ULL
#define REFRESH_NS 15085 /* half a period of the DRAM refresh toggle in port 0x61 */

struct pit8254 {
	uint8_t mode[3], bcd[3], access[3];
	uint32_t reload[3];   /* 1..65536, or 10000 for a BCD 0; 0: no count written yet */
	uint64_t start_ns[3]; /* gate high: host time of clock 0 */
	uint64_t frozen[3];   /* gate low: clocks elapsed */
	uint8_t gate[3];
	uint8_t triggered[3]; /* modes 1 and 5: the gate has risen since the mode was set */
	uint8_t write_low[3], write_high_next[3], read_high_next[3];
	uint16_t latch[3];
	uint8_t latched[3]; /* bytes of latch still to be read */
	uint8_t status[3], status_latched[3];
	uint8_t port_61;     /* bits 3:0 */
	uint64_t edges_seen; /* channel 0, periodic modes: periods delivered since start_ns */

	struct irq_line irq0;
	struct loop_timer timer;
	struct bus *bus;
	struct port_range ranges[2];
};

#define A(field, reset_value) SNAP_ARRAY(struct pit8254, field, reset_value)

static const struct snap_field fields[] = {
	A(mode, 3),
	A(bcd, 0),
	A(access, ACCESS_BOTH),
	A(reload, 0),
	A(start_ns, 0),
	A(frozen, 0),
	A(gate, 1),
	A(triggered, 0),
	A(write_low, 0),
	A(write_high_next, 0),
	A(read_high_next, 0),
	A(latch, 0),
	A(latched, 0),
	A(status, 0),
	A(status_latched, 0),
	SNAP_U(struct pit8254, port_61, 0),
	SNAP_U(struct pit8254, edges_seen, 0),
};

const struct snap_desc pit8254_snap = {"pit8254", 1, fields, ARRAY_SIZE(fields)};

static bool periodic(const struct pit8254 *p, unsigned c)
{
	return p->mode[c] == 2 || p->mode[c] == 3;
}

static bool gate_triggered(const struct pit8254 *p, unsigned c)
{
	return p->mode[c] == 1 || p->mode[c] == 5;
}

static bool counting(const struct pit8254 *p, unsigned c)
{
	return p->reload[c] && (!gate_triggered(p, c) || p->triggered[c]);
}

/* Clocks since the count was loaded. The gate has no say over a triggered one-shot. */
static uint64_t elapsed(const struct pit8254 *p, unsigned c)
{
	if (!p->gate[c] && !gate_triggered(p, c))
		return p->frozen[c];
	return ns_to_ticks(host_now_ns() - p->start_ns[c], PIT_HZ);
}

static bool output(const struct pit8254 *p, unsigned c)
{
	uint64_t t, n = p->reload[c];

	if (!counting(p, c))
		return p->mode[c] != 0;
	if (periodic(p, c) && !p->gate[c])
		return true;
	t = elapsed(p, c);
	switch (p->mode[c]) {
	case 0:
	case 1:
		return t >= n;
	case 2:
		return t % n != n - 1;
	case 3:
		return t % n < (n + 1) / 2;
	default:
		return t != n; /* 4, 5: low for the one clock of terminal count */
	}
}

static uint16_t to_bcd(uint32_t v)
{
	return v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12;
}

static uint16_t count(const struct pit8254 *p, unsigned c)
{
	uint32_t modulus = p->bcd[c] ? 10000 : 0x10000, n = p->reload[c], left;
	uint64_t t;

	if (!counting(p, c))
		return p->bcd[c] ? to_bcd(n % modulus) : n;
	t = elapsed(p, c);
	switch (p->mode[c]) {
	case 2:
		left = n - t % n;
		break;
	case 3:
		left = (n - 2 * (t % n) % n) & ~1u;
		break; /* counts by two, twice a period */
	default:
		left = n + modulus - t % modulus;
		break;
	}
	left %= modulus;
	return p->bcd[c] ? to_bcd(left) : left;
}

/* Sets the timer to channel 0's next rising edge; all but mode 3 have their falling edge next to
 * one. */
static void schedule(struct pit8254 *p)
{
	uint64_t n = p->reload[0], at, next;

	if (!counting(p, 0) || (!periodic(p, 0) && p->edges_seen)) {
		loop_timer_cancel(&p->timer);
		return;
	}
	at = periodic(p, 0) ? (p->edges_seen + 1) * n : p->mode[0] >= 4 ? n + 1 : n;
	next = p->start_ns[0] + ticks_to_ns(at, PIT_HZ);
	if (periodic(p, 0))
		next = max_u64(next, host_now_ns() + (n * 1000 < MIN_EDGE_NS ? MIN_EDGE_NS : 0));
	loop_timer_set(&p->timer, next);
}

/* The output rose: strobes and periodic modes fell just before. Missed periods are not made up for.
 */
static void channel_0_edge(void *ctx)
{
	struct pit8254 *p = ctx;

	if (!counting(p, 0))
		return;
	p->edges_seen = periodic(p, 0) ? elapsed(p, 0) / p->reload[0] : 1;
	if (p->mode[0] != 0)
		irq_set(&p->irq0, false);
	irq_set(&p->irq0, true);
	schedule(p);
}

static void load(struct pit8254 *p, unsigned c, uint16_t value)
{
	if (p->bcd[c]) {
		value = (value & 0xf) + (value >> 4 & 0xf) * 10 + (value >> 8 & 0xf) * 100 +
			(value >> 12) * 1000;
		p->reload[c] = value ? value : 10000;
	} else {
		p->reload[c] = value ? value : 0x10000;
	}
	p->frozen[c] = 0;
	if (gate_triggered(p, c) && p->triggered[c])
		return; /* the running one-shot ends as it was started */
	p->start_ns[c] = host_now_ns();
	if (c == 0) {
		p->edges_seen = 0;
		irq_set(&p->irq0, p->mode[0] != 0);
		schedule(p);
	}
}

static void set_gate(struct pit8254 *p, unsigned c, bool gate)
{
	uint64_t now = host_now_ns();

	if (gate == p->gate[c])
		return;
	if (!gate)
		p->frozen[c] = p->reload[c] ? elapsed(p, c) : 0;
	p->gate[c] = gate;
	if (!gate)
		return;
	if (gate_triggered(p, c))
		p->triggered[c] = 1;
	if (gate_triggered(p, c) || periodic(p, c))
		p->frozen[c] = 0; /* a rising gate starts these over */
	p->start_ns[c] = now - min_u64(now, ticks_to_ns(p->frozen[c], PIT_HZ));
}

static void latch_count(struct pit8254 *p, unsigned c)
{
	if (p->latched[c])
		return;
	p->latch[c] = count(p, c);
	p->latched[c] = p->access[c] == ACCESS_BOTH ? 2 : 1;
	p->read_high_next[c] = 0;
}

static void latch_status(struct pit8254 *p, unsigned c)
{
	if (p->status_latched[c])
		return;
	p->status[c] = output(p, c) << 7 | (p->reload[c] ? 0 : 1) << 6 | p->access[c] << 4 |
		       p->mode[c] << 1 | p->bcd[c];
	p->status_latched[c] = 1;
}

static void read_back(struct pit8254 *p, uint8_t value)
{
	for (unsigned c = 0; c < 3; c++) {
		if (!(value >> (c + 1) & 1))
			continue;
		if (!(value & BIT(5)))
			latch_count(p, c);
		if (!(value & BIT(4)))
			latch_status(p, c);
	}
}

static void control_write(struct pit8254 *p, uint8_t value)
{
	unsigned c = value >> 6, mode = value >> 1 & 7;

	if (c == 3) {
		read_back(p, value);
		return;
	}
	if ((value >> 4 & 3) == ACCESS_LATCH) {
		latch_count(p, c);
		return;
	}
	p->access[c] = value >> 4 & 3;
	p->mode[c] = mode > 5 ? mode - 4 : mode; /* 6 and 7 are 2 and 3 */
	p->bcd[c] = value & 1;
	p->reload[c] = 0;
	p->frozen[c] = p->triggered[c] = 0;
	p->write_high_next[c] = p->read_high_next[c] = 0;
	p->latched[c] = p->status_latched[c] = 0;
	if (c == 0) {
		irq_set(&p->irq0, p->mode[0] != 0);
		schedule(p);
	}
}

static void count_write(struct pit8254 *p, unsigned c, uint8_t value)
{
	switch (p->access[c]) {
	case ACCESS_LOW:
		load(p, c, value);
		break;
	case ACCESS_HIGH:
		load(p, c, value << 8);
		break;
	default:
		if (p->write_high_next[c])
			load(p, c, value << 8 | p->write_low[c]);
		else
			p->write_low[c] = value;
		p->write_high_next[c] ^= 1;
		break;
	}
}

static uint8_t count_read(struct pit8254 *p, unsigned c)
{
	uint16_t value;
	bool high;

	if (p->status_latched[c]) {
		p->status_latched[c] = 0;
		return p->status[c];
	}
	value = p->latched[c] ? p->latch[c] : count(p, c);
	if (p->latched[c])
		p->latched[c]--;
	high = p->access[c] == ACCESS_HIGH;
	if (p->access[c] == ACCESS_BOTH) {
		high = p->read_high_next[c];
		p->read_high_next[c] ^= 1;
	}
	return high ? value >> 8 : value;
}

static uint64_t pit_read(void *dev, uint64_t off, unsigned size)
{
	return off < 3 ? count_read(dev, off) : 0xff;
}

static void pit_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	if (off < 3)
		count_write(dev, off, value);
	else
		control_write(dev, value);
}

/* System control port B: channel 2's gate and output, the speaker, the refresh toggle; no NMI
 * sources. */
static uint64_t port_61_read(void *dev, uint64_t off, unsigned size)
{
	struct pit8254 *p = dev;

	return p->port_61 | (host_now_ns() / REFRESH_NS & 1) << 4 | output(p, 2) << 5;
}

static void port_61_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct pit8254 *p = dev;

	p->port_61 = value & 0xf;
	set_gate(p, 2, value & 1);
}

static const struct bus_ops pit_ops = {pit_read, pit_write, 1, 1};
static const struct bus_ops port_61_ops = {port_61_read, port_61_write, 1, 1};

void pit8254_reset(struct pit8254 *p)
{
	loop_timer_cancel(&p->timer);
	snap_reset(&pit8254_snap, p, false);
	p->gate[2] = 0;
	irq_set(&p->irq0, false);
}

int pit8254_new(struct pit8254 **out, struct bus *bus, struct loop *loop, struct irq_line irq0,
		struct err *err)
{
	struct pit8254 *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return err_set(err, ENOMEM, "8254: out of memory");
	p->bus = bus;
	p->irq0 = irq0;
	p->ranges[0] = (struct port_range){0x40, 4, &pit_ops, p, "8254"};
	p->ranges[1] = (struct port_range){0x61, 1, &port_61_ops, p, "system control port B"};
	ret = ports_claim(bus, p->ranges, ARRAY_SIZE(p->ranges), err);
	if (ret) {
		free(p);
		return ret;
	}
	loop_timer_init(&p->timer, loop, channel_0_edge, p);
	pit8254_reset(p);
	*out = p;
	return 0;
}

void pit8254_free(struct pit8254 *p)
{
	if (!p)
		return;
	loop_timer_cancel(&p->timer);
	ports_release(p->bus, p->ranges, ARRAY_SIZE(p->ranges));
	free(p);
}
