/* system_ports.c - ports 0x80-8f and 0x92. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/ports.h"
#include "dev/chipset/system_ports.h"

#define PORT_A_FAST_RESET BIT(0)
#define PORT_A_A20 BIT(1)

struct system_ports {
	uint8_t page[16]; /* 0x80-8f: scratch; some are DMA page registers on a PC with a DMA
			     controller */
	uint8_t port_a;

	struct dev_signal reset;
	struct bus *bus;
	struct port_range ranges[2];
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct system_ports, page, 0),
	SNAP_U(struct system_ports, port_a, PORT_A_A20),
};

const struct snap_desc system_ports_snap = {"system-ports", 1, fields, ARRAY_SIZE(fields)};

static uint64_t page_read(void *dev, uint64_t off, unsigned size)
{
	return ((struct system_ports *)dev)->page[off & 15];
}

static void page_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	((struct system_ports *)dev)->page[off & 15] = value;
}

static uint64_t port_a_read(void *dev, uint64_t off, unsigned size)
{
	return ((struct system_ports *)dev)->port_a;
}

static void port_a_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct system_ports *s = dev;
	bool reset = (value & PORT_A_FAST_RESET) && !(s->port_a & PORT_A_FAST_RESET);

	s->port_a = value;
	if (reset)
		dev_signal_send(&s->reset);
}

static const struct bus_ops page_ops = {page_read, page_write, 1, 1};
static const struct bus_ops port_a_ops = {port_a_read, port_a_write, 1, 1};

void system_ports_reset(struct system_ports *s)
{
	snap_reset(&system_ports_snap, s, false);
}

int system_ports_new(struct system_ports **out, struct bus *bus, struct dev_signal reset,
		     struct err *err)
{
	struct system_ports *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(err, ENOMEM, "system ports: out of memory");
	s->bus = bus;
	s->reset = reset;
	s->ranges[0] = (struct port_range){0x80, 16, &page_ops, s, "POST code and DMA pages"};
	s->ranges[1] = (struct port_range){0x92, 1, &port_a_ops, s, "system control port A"};
	ret = ports_claim(bus, s->ranges, ARRAY_SIZE(s->ranges), err);
	if (ret) {
		free(s);
		return ret;
	}
	system_ports_reset(s);
	*out = s;
	return 0;
}

void system_ports_free(struct system_ports *s)
{
	if (!s)
		return;
	ports_release(s->bus, s->ranges, ARRAY_SIZE(s->ranges));
	free(s);
}

uint8_t system_ports_post_code(const struct system_ports *s)
{
	return s->page[0];
}
