/* acpi_pm.c - ACPI fixed hardware registers (ACPI 6.5, 4.8.3 to 4.8.4). */
#include <errno.h>
#include <stdlib.h>

#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/ports.h"
#include "dev/chipset/ticks.h"

/* PM1 status and enable bits. */
#define PM1_TMR BIT(0)
#define PM1_GBL BIT(5)
#define PM1_PWRBTN BIT(8)
#define PM1_SLPBTN BIT(9)
#define PM1_RTC BIT(10)
#define PM1_WAK BIT(15)
#define PM1_STATUS_BITS (PM1_TMR | BIT(4) | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

#define CNT_SCI_EN BIT(0)
#define CNT_SLP_EN BIT(13)
#define CNT_SLP_TYP(v) ((v) >> 10 & 7)
#define CNT_KEPT (BIT(1) | BITS(12, 10)) /* BM_RLD, SLP_TYP; GBL_RLS and SLP_EN read as 0 */

struct acpi_pm {
	uint16_t pm1_status, pm1_enable, pm1_control;
	uint16_t gpe_status, gpe_enable;
	uint64_t timer_base_ns;  /* host time at which the timer was 0 */
	uint64_t timer_msb_seen; /* toggles of its bit 31 that were reported */

	struct loop_timer msb_timer;
	struct acpi_pm_config cfg;
	struct port_range ranges[1];
};

#define F(field, reset_value) SNAP_U(struct acpi_pm, field, reset_value)

static const struct snap_field fields[] = {
	F(pm1_status, 0), F(pm1_enable, 0),    F(pm1_control, CNT_SCI_EN), F(gpe_status, 0),
	F(gpe_enable, 0), F(timer_base_ns, 0), F(timer_msb_seen, 0),
};

const struct snap_desc acpi_pm_snap = {"acpi-pm", 1, fields, ARRAY_SIZE(fields)};

static uint64_t timer_ticks(const struct acpi_pm *a)
{
	return ns_to_ticks(host_now_ns() - a->timer_base_ns, ACPI_PM_TIMER_HZ);
}

static void update_sci(struct acpi_pm *a)
{
	irq_set(&a->cfg.sci, (a->pm1_status & a->pm1_enable & PM1_ENABLE_BITS) ||
				     (a->gpe_status & a->gpe_enable));
}

/* Bit 31 toggles every 600 s; the timer's status bit says that it did. Found out when somebody
 * looks. */
static void update_timer(struct acpi_pm *a)
{
	uint64_t toggles = timer_ticks(a) >> 31;

	if (toggles != a->timer_msb_seen)
		a->pm1_status |= PM1_TMR;
	a->timer_msb_seen = toggles;
	if ((a->pm1_enable & PM1_TMR) && !(a->pm1_status & PM1_TMR))
		loop_timer_set(&a->msb_timer, a->timer_base_ns + ticks_to_ns((toggles + 1) << 31,
									     ACPI_PM_TIMER_HZ));
	else
		loop_timer_cancel(&a->msb_timer);
	update_sci(a);
}

static void msb_toggled(void *ctx)
{
	update_timer(ctx);
}

/* The whole block as it reads now; a multi-byte read is one instant of the timer. */
static void snapshot(struct acpi_pm *a, uint8_t regs[ACPI_PM_SIZE])
{
	uint16_t half[ACPI_PM_SIZE / 2] = {0};
	uint32_t ticks;

	update_timer(a);
	ticks = timer_ticks(a);
	half[ACPI_PM1_EVT / 2] = a->pm1_status;
	half[ACPI_PM1_EVT / 2 + 1] = a->pm1_enable;
	half[ACPI_PM1_CNT / 2] = a->pm1_control;
	half[ACPI_PM_TMR / 2] = ticks;
	half[ACPI_PM_TMR / 2 + 1] = ticks >> 16;
	half[ACPI_GPE0 / 2] = a->gpe_status;
	half[ACPI_GPE0 / 2 + 1] = a->gpe_enable;
	for (unsigned i = 0; i < ACPI_PM_SIZE; i++)
		regs[i] = half[i / 2] >> (i & 1) * 8;
}

static uint64_t pm_read(void *dev, uint64_t off, unsigned size)
{
	uint8_t regs[ACPI_PM_SIZE];
	uint64_t value = 0;

	snapshot(dev, regs);
	for (unsigned i = 0; i < size && off + i < ACPI_PM_SIZE; i++)
		value |= (uint64_t)regs[off + i] << i * 8;
	return value;
}

static void control_write(struct acpi_pm *a, uint16_t value)
{
	a->pm1_control = CNT_SCI_EN | (value & CNT_KEPT);
	/* Only S5 exists: the DSDT names no other sleeping state. */
	if ((value & CNT_SLP_EN) && CNT_SLP_TYP(value) == ACPI_SLP_TYP_S5)
		dev_signal_send(&a->cfg.power_off);
}

/* One byte of a 16-bit register. */
static uint16_t merge(uint16_t old, uint64_t off, uint8_t value)
{
	return off & 1 ? (old & 0xff) | value << 8 : (old & 0xff00) | value;
}

static void byte_write(struct acpi_pm *a, uint64_t off, uint8_t value)
{
	switch (off & ~1ULL) {
	case ACPI_PM1_EVT: /* writing 1 clears */
		a->pm1_status &= ~(merge(0, off, value) & PM1_STATUS_BITS);
		break;
	case ACPI_PM1_EVT + 2:
		a->pm1_enable = merge(a->pm1_enable, off, value) & PM1_ENABLE_BITS;
		break;
	case ACPI_PM1_CNT:
		control_write(a, merge(a->pm1_control, off, value));
		break;
	case ACPI_GPE0:
		a->gpe_status &= ~merge(0, off, value);
		break;
	case ACPI_GPE0 + 2:
		a->gpe_enable = merge(a->gpe_enable, off, value);
		break;
	}
}

static void pm_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct acpi_pm *a = dev;

	update_timer(a);
	for (unsigned i = 0; i < size; i++)
		byte_write(a, off + i, value >> i * 8);
	update_timer(a);
}

static const struct bus_ops pm_ops = {pm_read, pm_write, 1, 4};

void acpi_pm_power_button(struct acpi_pm *a)
{
	a->pm1_status |= PM1_PWRBTN;
	update_sci(a);
}

void acpi_pm_gpe(struct acpi_pm *a, unsigned n)
{
	if (n >= ACPI_GPE0_LEN / 2 * 8)
		return;
	a->gpe_status |= BIT(n);
	update_sci(a);
}

void acpi_pm_reset(struct acpi_pm *a)
{
	loop_timer_cancel(&a->msb_timer);
	snap_reset(&acpi_pm_snap, a, false);
	a->timer_base_ns = host_now_ns();
	update_sci(a);
}

int acpi_pm_new(struct acpi_pm **out, const struct acpi_pm_config *cfg, struct err *err)
{
	struct acpi_pm *a = calloc(1, sizeof(*a));
	int ret;

	if (!a)
		return err_set(err, ENOMEM, "ACPI registers: out of memory");
	a->cfg = *cfg;
	a->ranges[0] = (struct port_range){cfg->base, ACPI_PM_SIZE, &pm_ops, a, "ACPI registers"};
	ret = ports_claim(cfg->bus, a->ranges, ARRAY_SIZE(a->ranges), err);
	if (ret) {
		free(a);
		return ret;
	}
	loop_timer_init(&a->msb_timer, cfg->loop, msb_toggled, a);
	acpi_pm_reset(a);
	*out = a;
	return 0;
}

void acpi_pm_free(struct acpi_pm *a)
{
	if (!a)
		return;
	loop_timer_cancel(&a->msb_timer);
	ports_release(a->cfg.bus, a->ranges, ARRAY_SIZE(a->ranges));
	free(a);
}
