/*
 * acpi_pm.h - ACPI fixed hardware: PM1a event and control blocks, PM timer and GPE0
 * (ACPI 6.5, 4.8). There is no SMI: the machine is always in ACPI mode (FADT SMI_CMD = 0, SCI_EN
 * reads 1).
 */
#ifndef RINGER_DEV_CHIPSET_ACPI_PM_H
#define RINGER_DEV_CHIPSET_ACPI_PM_H

#include "base/base.h"
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/chipset/signal.h"
#include "host/loop.h"
#include "snap/snap.h"

/* Offsets in the block, for the FADT. */
#define ACPI_PM_SIZE 0x20
#define ACPI_PM1_EVT 0x00 /* 4 bytes: status, enable */
#define ACPI_PM1_CNT 0x04 /* 2 bytes */
#define ACPI_PM_TMR 0x08  /* 4 bytes, counts all 32 bits: FADT flag TMR_VAL_EXT */
#define ACPI_GPE0 0x10    /* 4 bytes: 16 status bits, 16 enable bits; FADT GPE0_BLK_LEN 4 */
#define ACPI_GPE0_LEN 4
#define ACPI_PM_TIMER_HZ 3579545ULL

/* SLP_TYP values for the DSDT's \_S5 package (and S0). */
#define ACPI_SLP_TYP_S0 0
#define ACPI_SLP_TYP_S5 5

/* FADT RESET_REG, 8 bits, and RESET_VALUE. The port lies in CONFIG_ADDRESS: the PCI core implements
 * it. */
#define ACPI_RESET_PORT 0xcf9
#define ACPI_RESET_VALUE 0x06

struct acpi_pm;

struct acpi_pm_config {
	struct bus *bus;
	uint16_t base; /* of the block of ACPI_PM_SIZE ports */
	struct loop *loop;
	struct irq_line sci;         /* level */
	struct dev_signal power_off; /* S5 */
};

int acpi_pm_new(struct acpi_pm **out, const struct acpi_pm_config *cfg, struct err *err) must_check;
void acpi_pm_reset(struct acpi_pm *a);
void acpi_pm_free(struct acpi_pm *a);

void acpi_pm_power_button(struct acpi_pm *a);
/* Raises general-purpose event n (0..15): hot-plug and the like. */
void acpi_pm_gpe(struct acpi_pm *a, unsigned n);

extern const struct snap_desc acpi_pm_snap;

#endif
