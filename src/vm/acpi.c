/* acpi.c - see acpi.h. Offsets are those of the tables' definitions in ACPI 6.5, chapter 5.2. */
#include "vm/acpi.h"

#include <errno.h>
#include <string.h>

#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/local_apic.h"
#include "dev/chipset/rtc.h"
#include "vm/acpi_aml.h"
#include "vm/boot/boot.h"

enum { HEADER = 36, RSDP_SIZE = 36, FADT_SIZE = 276, FACS_SIZE = 64, MCFG_SIZE = 60 };

/* Tables are appended to buf, whose first byte will be at guest-physical base. */
struct builder {
	uint8_t *buf;
	size_t len, cap;
	uint64_t base;
	bool failed;
};

static void put(uint8_t *p, uint64_t v, unsigned size)
{
	memcpy(p, &v, size);
}

/* Zeroed room; offset 0 (where the RSDP lies) when there is none left. */
static size_t take(struct builder *b, size_t len, size_t align)
{
	size_t at = align_up(b->len, align);

	if (b->failed || at > b->cap || len > b->cap - at) {
		b->failed = true;
		return 0;
	}
	memset(b->buf + b->len, 0, at + len - b->len);
	b->len = at + len;
	return at;
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* Fills the common header (5.2.6) and the checksum; the rest of the table must be final. */
static void finish_table(struct builder *b, size_t at, size_t len, const char *signature,
			 uint8_t revision)
{
	uint8_t *p = b->buf + at;

	if (b->failed)
		return;
	memcpy(p, signature, 4);
	put(p + 4, len, 4);
	p[8] = revision;
	p[9] = 0;
	memcpy(p + 10, "RINGER", 6);
	memcpy(p + 16, "RINGERPC", 8);
	put(p + 24, 1, 4);
	memcpy(p + 28, "RNGR", 4);
	put(p + 32, 1, 4);
	p[9] = checksum(p, len);
}

static size_t build_dsdt(struct builder *b, const struct acpi_config *c)
{
	size_t at = take(b, HEADER, 8);
	struct aml a;

	if (b->failed)
		return 0;
	aml_init(&a, b->buf + b->len, b->cap - b->len);
	acpi_dsdt_body(&a, c);
	b->failed = a.failed || a.depth;
	b->len += a.len;
	finish_table(b, at, HEADER + a.len, "DSDT", 2);
	return at;
}

static size_t build_facs(struct builder *b)
{
	size_t at = take(b, FACS_SIZE, 64);

	if (b->failed)
		return 0;
	memcpy(b->buf + at, "FACS", 4);
	put(b->buf + at + 4, FACS_SIZE, 4);
	b->buf[at + 32] = 2; /* version */
	return at;
}

/* Generic address structure (5.2.3.2) of ports. */
static void put_gas(uint8_t *p, uint16_t port, uint8_t bits, uint8_t access)
{
	p[0] = 1; /* system I/O */
	p[1] = bits;
	p[2] = 0;
	p[3] = access;
	put(p + 4, port, 8);
}

/* 5.2.9, tables 5.10 and 5.11. */
enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_SLP_BUTTON = 1 << 5,
	FADT_FIX_RTC = 1 << 6,
	FADT_TMR_VAL_EXT = 1 << 8,
	FADT_RESET_REG_SUP = 1 << 10,
	BOOT_ARCH_LEGACY = 1 << 0,
	BOOT_ARCH_NO_VGA = 1 << 2,
	BOOT_ARCH_NO_ASPM = 1 << 4,
};

static void fill_fadt_blocks(uint8_t *p, uint16_t pm)
{
	put(p + 56, pm + ACPI_PM1_EVT, 4);
	put(p + 64, pm + ACPI_PM1_CNT, 4);
	put(p + 76, pm + ACPI_PM_TMR, 4);
	put(p + 80, pm + ACPI_GPE0, 4);
	p[88] = 4; /* PM1_EVT_LEN, PM1_CNT_LEN, PM_TMR_LEN, GPE0_BLK_LEN */
	p[89] = 2;
	p[91] = 4;
	p[92] = ACPI_GPE0_LEN;
	put_gas(p + 148, pm + ACPI_PM1_EVT, 32, 2);
	put_gas(p + 172, pm + ACPI_PM1_CNT, 16, 2);
	put_gas(p + 208, pm + ACPI_PM_TMR, 32, 3);
	put_gas(p + 220, pm + ACPI_GPE0, 8 * ACPI_GPE0_LEN, 1);
}

/*
 * The 8042 flag stays clear: the controller is there to reset the machine and has no keyboard, and
 * a kernel told of it waits for one.
 */
static size_t build_fadt(struct builder *b, const struct acpi_config *c, size_t facs, size_t dsdt)
{
	size_t at = take(b, FADT_SIZE, 8);
	uint8_t *p = b->buf + at;

	if (b->failed)
		return 0;
	put(p + 36, b->base + facs, 4);
	put(p + 40, b->base + dsdt, 4);
	put(p + 46, ACPI_SCI_IRQ, 2);
	fill_fadt_blocks(p, c->pm_base);
	put(p + 96, 0xffff, 2); /* no C2, no C3 */
	put(p + 98, 0xffff, 2);
	p[108] = RTC_CENTURY;
	put(p + 109, BOOT_ARCH_LEGACY | BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM, 2);
	put(p + 112,
	    FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
		    FADT_RESET_REG_SUP,
	    4);
	put_gas(p + 116, ACPI_RESET_PORT, 8, 1);
	p[128] = ACPI_RESET_VALUE;
	p[131] = 5; /* minor version: 6.5 */
	/* X_FIRMWARE_CTRL stays 0: a FACS given twice is taken for two. */
	put(p + 140, b->base + dsdt, 8);
	finish_table(b, at, FADT_SIZE, "FACP", 6);
	return at;
}

/* 5.2.12: appends one interrupt controller structure. */
static uint8_t *madt_entry(struct builder *b, uint8_t type, uint8_t len)
{
	size_t at = take(b, len, 1);

	if (b->failed)
		return NULL;
	b->buf[at] = type;
	b->buf[at + 1] = len;
	return b->buf + at;
}

/* Flags (table 5.47): one that is not there may come. */
enum { MADT_CPU_ENABLED = 1 << 0, MADT_CPU_ONLINE_CAPABLE = 1 << 1 };

static void madt_cpu(struct builder *b, uint32_t id, bool present)
{
	uint32_t flags = present ? MADT_CPU_ENABLED : MADT_CPU_ONLINE_CAPABLE;
	bool wide = id >= 255; /* such an id needs x2APIC */
	uint8_t *p = madt_entry(b, wide ? 9 : 0, wide ? 16 : 8);

	if (!p)
		return;
	if (wide) {
		put(p + 4, id, 4);
		put(p + 8, flags, 4);
		put(p + 12, id, 4);
	} else {
		p[2] = (uint8_t)id;
		p[3] = (uint8_t)id;
		put(p + 4, flags, 4);
	}
}

static void madt_override(struct builder *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	uint8_t *p = madt_entry(b, 2, 10);

	if (p) {
		p[3] = irq;
		put(p + 4, gsi, 4);
		put(p + 8, flags, 2);
	}
}

static size_t build_madt(struct builder *b, const struct acpi_config *c)
{
	size_t at = take(b, HEADER + 8, 8);
	uint8_t *p;

	if (b->failed)
		return 0;
	put(b->buf + at + 36, LOCAL_APIC_DEFAULT_BASE, 4);
	put(b->buf + at + 40, 1, 4); /* PCAT_COMPAT: 8259s are there too */
	for (unsigned i = 0; i < c->cpus; i++)
		madt_cpu(b, i, !c->present || *c->present >> i & 1);
	p = madt_entry(b, 1, 12);
	if (p)
		put(p + 4, IOAPIC_DEFAULT_BASE, 4);
	madt_override(b, 0, 2, 0);
	madt_override(b, ACPI_SCI_IRQ, ACPI_SCI_IRQ, 0xd); /* level-triggered, active high */
	p = madt_entry(b, 4, 6);
	if (p) {
		p[2] = 0xff; /* every processor */
		p[5] = 1;    /* LINT1 is NMI */
	}
	finish_table(b, at, b->len - at, "APIC", 6);
	return at;
}

static size_t build_mcfg(struct builder *b)
{
	size_t at = take(b, MCFG_SIZE, 8);

	if (b->failed)
		return 0;
	put(b->buf + at + 44, BOOT_ECAM_BASE, 8);
	b->buf[at + 54] = 0; /* first and last bus */
	b->buf[at + 55] = 0;
	finish_table(b, at, MCFG_SIZE, "MCFG", 1);
	return at;
}

static void fill_rsdp(struct builder *b, size_t xsdt)
{
	uint8_t *p = b->buf;

	if (b->failed)
		return;
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "RINGER", 6);
	p[15] = 2;
	put(p + 20, RSDP_SIZE, 4);
	put(p + 24, b->base + xsdt, 8);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_SIZE);
}

int acpi_build(const struct acpi_config *c, uint64_t base, uint8_t *buf, size_t size,
	       struct err *err)
{
	struct builder b = {.buf = buf, .cap = size, .base = base};
	size_t table[3], xsdt, facs, dsdt;

	take(&b, RSDP_SIZE, 1);
	facs = build_facs(&b);
	dsdt = build_dsdt(&b, c);
	table[0] = build_fadt(&b, c, facs, dsdt);
	table[1] = build_madt(&b, c);
	table[2] = build_mcfg(&b);
	xsdt = take(&b, HEADER + 8 * ARRAY_SIZE(table), 8);
	for (unsigned i = 0; i < ARRAY_SIZE(table) && !b.failed; i++)
		put(buf + xsdt + HEADER + 8 * i, base + table[i], 8);
	finish_table(&b, xsdt, HEADER + 8 * ARRAY_SIZE(table), "XSDT", 1);
	fill_rsdp(&b, xsdt);
	if (b.failed)
		return err_set(err, ENOSPC,
			       "the ACPI tables for %u processors do not fit in %zu bytes", c->cpus,
			       size);
	return (int)b.len;
}
