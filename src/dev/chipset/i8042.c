/*
 * i8042.c - keyboard controller without keyboard and mouse.
 *
 * A byte for a device that is not there comes back as 0xfe (resend) with the time-out bit of the
 * status register, as the controller answers when nobody clocks the byte in; drivers then give up
 * at once instead of waiting. The auxiliary port's test reports an error and its loop-back does not
 * mark the byte as the mouse's, so that drivers take the port for absent.
 */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/i8042.h"
#include "dev/chipset/ports.h"

#define STATUS_OUTPUT_FULL BIT(0)
#define STATUS_SYSTEM BIT(2)
#define STATUS_COMMAND BIT(3)
#define STATUS_UNLOCKED BIT(4)
#define STATUS_AUX BIT(5)
#define STATUS_TIMEOUT BIT(6)

#define CONFIG_IRQ1 BIT(0)
#define CONFIG_SYSTEM BIT(2)
#define CONFIG_KBD_OFF BIT(4)
#define CONFIG_AUX_OFF BIT(5)

#define OUTPUT_NOT_RESET BIT(0)
#define OUTPUT_A20 BIT(1)

#define ANSWER_RESEND 0xfe

struct i8042 {
	uint8_t ram[32]; /* [0] is the configuration ("command") byte */
	uint8_t status;  /* without CONFIG_SYSTEM's copy */
	uint8_t data;    /* output buffer, valid with STATUS_OUTPUT_FULL */
	uint8_t command; /* waiting for its parameter at 0x60; 0: none */
	uint8_t output_port;

	struct irq_line irq1;
	struct dev_signal reset;
	struct bus *bus;
	struct port_range ranges[2];
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct i8042, ram, 0),
	SNAP_U(struct i8042, status, STATUS_UNLOCKED),
	SNAP_U(struct i8042, data, 0),
	SNAP_U(struct i8042, command, 0),
	SNAP_U(struct i8042, output_port, OUTPUT_NOT_RESET | OUTPUT_A20),
};

const struct snap_desc i8042_snap = {"i8042", 1, fields, ARRAY_SIZE(fields)};

static void update_irq(struct i8042 *k)
{
	bool full = (k->status & STATUS_OUTPUT_FULL) && !(k->status & STATUS_AUX);

	irq_set(&k->irq1, full && (k->ram[0] & CONFIG_IRQ1));
}

static void answer(struct i8042 *k, uint8_t value, uint8_t flags)
{
	k->data = value;
	k->status &= ~(STATUS_AUX | STATUS_TIMEOUT);
	k->status |= STATUS_OUTPUT_FULL | flags;
	update_irq(k);
}

static void output_port_write(struct i8042 *k, uint8_t value)
{
	k->output_port = value | OUTPUT_NOT_RESET;
	if (!(value & OUTPUT_NOT_RESET))
		dev_signal_send(&k->reset);
}

static void command_write(struct i8042 *k, uint8_t cmd)
{
	k->status |= STATUS_COMMAND;
	k->command = 0;
	if (cmd >= 0xf0) { /* pulses the low output lines whose bit is 0 */
		if (!(cmd & OUTPUT_NOT_RESET))
			dev_signal_send(&k->reset);
		return;
	}
	if (cmd >= 0x20 && cmd < 0x40) {
		answer(k, k->ram[cmd & 0x1f], 0);
		return;
	}
	switch (cmd) {
	case 0x60 ... 0x7f: /* write RAM */
	case 0xd1:          /* write output port */
	case 0xd2:          /* as if from the keyboard */
	case 0xd3:          /* as if from the mouse */
	case 0xd4:          /* to the mouse */
		k->command = cmd;
		break;
	case 0xa7:
		k->ram[0] |= CONFIG_AUX_OFF;
		break;
	case 0xa8:
		k->ram[0] &= ~CONFIG_AUX_OFF;
		break;
	case 0xa9:
		answer(k, 0x01, 0);
		break; /* auxiliary port: clock line stuck low */
	case 0xaa:     /* self-test */
		k->ram[0] |= CONFIG_SYSTEM;
		answer(k, 0x55, 0);
		break;
	case 0xab:
		answer(k, 0x00, 0);
		break; /* keyboard port: no error */
	case 0xad:
		k->ram[0] |= CONFIG_KBD_OFF;
		break;
	case 0xae:
		k->ram[0] &= ~CONFIG_KBD_OFF;
		break;
	case 0xc0:
		answer(k, 0xa0, 0);
		break; /* input port: keyboard unlocked, colour display */
	case 0xd0:
		answer(k, k->output_port, 0);
		break;
	case 0xdd:
		k->output_port &= ~OUTPUT_A20;
		break;
	case 0xdf:
		k->output_port |= OUTPUT_A20;
		break;
	}
}

static void data_write(struct i8042 *k, uint8_t value)
{
	uint8_t cmd = k->command;

	k->status &= ~STATUS_COMMAND;
	k->command = 0;
	switch (cmd) {
	case 0x60 ... 0x7f:
		k->ram[cmd & 0x1f] = value;
		update_irq(k);
		break;
	case 0xd1:
		output_port_write(k, value);
		break;
	case 0xd2:
	case 0xd3:
		answer(k, value, 0);
		break;
	case 0xd4:
		answer(k, ANSWER_RESEND, STATUS_AUX | STATUS_TIMEOUT);
		break;
	default:
		answer(k, ANSWER_RESEND, STATUS_TIMEOUT);
		break;
	}
}

static uint64_t data_port_read(void *dev, uint64_t off, unsigned size)
{
	struct i8042 *k = dev;

	k->status &= ~(STATUS_OUTPUT_FULL | STATUS_AUX | STATUS_TIMEOUT);
	update_irq(k);
	return k->data;
}

static void data_port_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	data_write(dev, value);
}

static uint64_t command_port_read(void *dev, uint64_t off, unsigned size)
{
	struct i8042 *k = dev;

	return k->status | (k->ram[0] & CONFIG_SYSTEM ? STATUS_SYSTEM : 0);
}

static void command_port_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	command_write(dev, value);
}

static const struct bus_ops data_ops = {data_port_read, data_port_write, 1, 1};
static const struct bus_ops command_ops = {command_port_read, command_port_write, 1, 1};

void i8042_reset(struct i8042 *k)
{
	snap_reset(&i8042_snap, k, false);
	/* As firmware leaves it: tested, both ports off. */
	k->ram[0] = CONFIG_SYSTEM | CONFIG_KBD_OFF | CONFIG_AUX_OFF;
	update_irq(k);
}

int i8042_new(struct i8042 **out, struct bus *bus, struct irq_line irq1, struct dev_signal reset,
	      struct err *err)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	int ret;

	if (!k)
		return err_set(err, ENOMEM, "i8042: out of memory");
	k->bus = bus;
	k->irq1 = irq1;
	k->reset = reset;
	k->ranges[0] = (struct port_range){0x60, 1, &data_ops, k, "i8042 data"};
	k->ranges[1] = (struct port_range){0x64, 1, &command_ops, k, "i8042 command"};
	ret = ports_claim(bus, k->ranges, ARRAY_SIZE(k->ranges), err);
	if (ret) {
		free(k);
		return ret;
	}
	i8042_reset(k);
	*out = k;
	return 0;
}

void i8042_free(struct i8042 *k)
{
	if (!k)
		return;
	ports_release(k->bus, k->ranges, ARRAY_SIZE(k->ranges));
	free(k);
}
