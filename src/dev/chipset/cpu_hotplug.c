/* cpu_hotplug.c - see cpu_hotplug.h. */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/cpu_hotplug.h"

#define NONE 0xffffffffu

struct cpu_hotplug {
	uint32_t select;
	uint64_t present, inserted, leave; /* bit n: processor n */
	struct cpu_hotplug_config cfg;
};

#define F(field) SNAP_U(struct cpu_hotplug, field, 0)

static const struct snap_field fields[] = {F(select), F(present), F(inserted), F(leave)};

const struct snap_desc cpu_hotplug_snap = {"cpu-hotplug", 1, fields, ARRAY_SIZE(fields)};

/* The selected processor's bit; 0: there is no such processor. */
static uint64_t selected(const struct cpu_hotplug *h)
{
	return h->select < CPU_HOTPLUG_MAX ? BIT(h->select) : 0;
}

static uint32_t status(const struct cpu_hotplug *h)
{
	uint64_t cpu = selected(h);

	return (h->present & cpu ? CPU_HOTPLUG_PRESENT : 0) |
	       (h->inserted & cpu ? CPU_HOTPLUG_INSERTED : 0) |
	       (h->leave & cpu ? CPU_HOTPLUG_LEAVE : 0);
}

static uint32_t next(struct cpu_hotplug *h)
{
	uint64_t news = h->inserted | h->leave;

	if (!news)
		return NONE;
	h->select = (uint32_t)__builtin_ctzll(news);
	return h->select;
}

static uint64_t hotplug_read(void *dev, uint64_t off, unsigned size)
{
	struct cpu_hotplug *h = dev;

	switch (off) {
	case CPU_HOTPLUG_SELECT:
		return trunc_size(h->select, size);
	case CPU_HOTPLUG_STATUS:
		return status(h);
	case CPU_HOTPLUG_NEXT:
		return trunc_size(next(h), size);
	}
	return 0;
}

static void eject(struct cpu_hotplug *h, uint64_t cpu)
{
	if (!(h->present & cpu) || cpu == BIT(0))
		return;
	h->present &= ~cpu;
	h->inserted &= ~cpu;
	h->leave &= ~cpu;
	h->cfg.eject(h->cfg.ctx, h->select);
}

static void command(struct cpu_hotplug *h, uint64_t what)
{
	uint64_t cpu = selected(h);

	switch (what & 0xff) {
	case CPU_HOTPLUG_TOLD_INSERTED:
		h->inserted &= ~cpu;
		break;
	case CPU_HOTPLUG_TOLD_LEAVE:
		h->leave &= ~cpu;
		break;
	case CPU_HOTPLUG_EJECT:
		eject(h, cpu);
		break;
	}
}

static void hotplug_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct cpu_hotplug *h = dev;

	if (off == CPU_HOTPLUG_SELECT && size == 4)
		h->select = (uint32_t)value;
	else if (off == CPU_HOTPLUG_COMMAND)
		command(h, value);
}

static const struct bus_ops ops = {hotplug_read, hotplug_write, 1, 4};

void cpu_hotplug_reset(struct cpu_hotplug *h, uint64_t present)
{
	snap_reset(&cpu_hotplug_snap, h, false);
	h->present = present;
}

void cpu_hotplug_insert(struct cpu_hotplug *h, unsigned cpu)
{
	h->present |= BIT(cpu);
	h->inserted |= BIT(cpu);
	h->cfg.notify(h->cfg.ctx);
}

void cpu_hotplug_ask_to_leave(struct cpu_hotplug *h, unsigned cpu)
{
	h->leave |= h->present & BIT(cpu);
	h->cfg.notify(h->cfg.ctx);
}

int cpu_hotplug_new(struct cpu_hotplug **out, const struct cpu_hotplug_config *cfg, struct err *err)
{
	struct cpu_hotplug *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return err_set(err, ENOMEM, "CPU hot-plug: out of memory");
	h->cfg = *cfg;
	ret = bus_claim(cfg->bus, BUS_PIO, cfg->base, CPU_HOTPLUG_SIZE, &ops, h, "CPU hot-plug", err);
	if (ret) {
		free(h);
		return ret;
	}
	*out = h;
	return 0;
}

void cpu_hotplug_free(struct cpu_hotplug *h)
{
	if (!h)
		return;
	bus_release(h->cfg.bus, BUS_PIO, h->cfg.base);
	free(h);
}
