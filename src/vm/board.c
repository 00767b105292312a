/* board.c - see board.h. Devices are wired to what exists already, and freed in reverse. */
#include "vm/board.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/kvm.h"
#include "dev/chipset/acpi_pm.h"
#include "dev/chipset/apic_bus.h"
#include "dev/chipset/cpu_hotplug.h"
#include "dev/chipset/debug_exit.h"
#include "dev/chipset/debugcon.h"
#include "dev/chipset/host_bridge.h"
#include "dev/chipset/i8042.h"
#include "dev/chipset/ioapic.h"
#include "dev/chipset/local_apic.h"
#include "dev/chipset/pic8259.h"
#include "dev/chipset/pit8254.h"
#include "dev/chipset/rtc.h"
#include "dev/chipset/system_ports.h"
#include "dev/chipset/uart16550.h"
#include "vm/acpi.h"
#include "vm/boot/boot.h"

enum { IRQ_PIT = 0, IRQ_KEYBOARD = 1, IRQ_COM1 = 4, IRQ_RTC = 8 };

/* The register page: the accessing CPU's APIC answers. */
static uint64_t lapic_page_read(void *dev, uint64_t off, unsigned size)
{
	struct board *b = dev;

	return b->current ? local_apic_mmio_read(b->current->lapic, off, size) : ~0ULL;
}

static void lapic_page_write(void *dev, uint64_t off, unsigned size, uint64_t value)
{
	struct board *b = dev;

	if (b->current)
		local_apic_mmio_write(b->current->lapic, off, size, value);
}

static const struct bus_ops lapic_page_ops = {.read = lapic_page_read, .write = lapic_page_write};

static int extint_ack(void *ctx)
{
	struct board *b = ctx;

	return pic8259_ack(b->gsi.pic);
}

static void reset_button(void *ctx)
{
	struct board *b = ctx;

	dev_signal_send(&b->cfg.reset);
}

static int new_memory(struct board *b, struct err *err)
{
	struct boot_range ram[3];
	unsigned n = boot_ram_layout(b->cfg.ram, ram);
	int ret = guest_mem_new(&b->mem, err);

	for (unsigned i = 0; i < n && ret == 0; i++)
		ret = guest_mem_add_ram(b->mem, GPA(ram[i].base), ram[i].size, err);
	return ret;
}

static int new_interrupts(struct board *b, struct err *err)
{
	int ret = apic_bus_new(&b->apics, err);

	if (ret == 0)
		ret = bus_claim(b->bus, BUS_MMIO, LOCAL_APIC_DEFAULT_BASE, LOCAL_APIC_SIZE,
				&lapic_page_ops, b, "local APIC", err);
	if (ret == 0)
		ret = pic8259_new(&b->gsi.pic, b->bus, apic_bus_lint0(b->apics), err);
	if (ret == 0)
		ret = ioapic_new(&b->gsi.ioapic, b->bus, IOAPIC_DEFAULT_BASE, b->apics, 0, err);
	if (ret == 0)
		apic_bus_on_extint_ack(b->apics, extint_ack, b);
	return ret;
}

static int new_pci(struct board *b, struct err *err)
{
	struct irq_line intx[4];
	int ret;

	for (unsigned i = 0; i < 4; i++)
		intx[i] = gsi_line(&b->gsi, ACPI_PCI_GSI + i);
	ret = pci_bus_new(&b->pci, b->bus, BOOT_ECAM_BASE, intx, err);
	if (ret < 0)
		return ret;
	pci_bus_on_reset(b->pci, reset_button, b);
	return host_bridge_new(&b->host_bridge, b->pci, err);
}

static int new_timers(struct board *b, struct err *err)
{
	const struct rtc_config rtc = {.bus = b->bus, .loop = b->cfg.loop,
				       .irq8 = gsi_line(&b->gsi, IRQ_RTC)};
	const struct acpi_pm_config pm = {
		.bus = b->bus, .base = BOARD_PM_BASE, .loop = b->cfg.loop,
		.sci = gsi_line(&b->gsi, ACPI_SCI_IRQ), .power_off = b->cfg.power_off,
	};
	uint64_t low = boot_low_ram_end(b->cfg.ram);
	int ret = pit8254_new(&b->pit, b->bus, b->cfg.loop, gsi_line(&b->gsi, IRQ_PIT), err);

	if (ret == 0)
		ret = rtc_new(&b->rtc, &rtc, err);
	if (ret == 0)
		ret = acpi_pm_new(&b->pm, &pm, err);
	if (ret == 0)
		rtc_set_memory_size(b->rtc, low, b->cfg.ram - low);
	return ret;
}

static int new_ports(struct board *b, struct err *err)
{
	const struct board_config *c = &b->cfg;
	int ret = uart16550_new(&b->com1, b->bus, UART_COM1, c->loop, gsi_line(&b->gsi, IRQ_COM1),
				c->serial, err);

	if (ret == 0)
		ret = i8042_new(&b->i8042, b->bus, gsi_line(&b->gsi, IRQ_KEYBOARD), c->reset, err);
	if (ret == 0)
		ret = system_ports_new(&b->ports, b->bus, c->reset, err);
	if (ret == 0)
		ret = debugcon_new(&b->debugcon, b->bus, c->debugcon, err);
	if (ret == 0 && c->debug_exit)
		ret = debug_exit_new(&b->debug_exit, b->bus, c->debug_exit, c->debug_exit_ctx, err);
	return ret;
}

static void hotplug_notify(void *ctx)
{
	struct board *b = ctx;

	acpi_pm_gpe(b->pm, ACPI_CPU_GPE);
}

static void hotplug_eject(void *ctx, unsigned cpu)
{
	struct board *b = ctx;

	b->cfg.eject(b->cfg.eject_ctx, cpu);
}

static int new_hotplug(struct board *b, struct err *err)
{
	const struct cpu_hotplug_config cfg = {
		.bus = b->bus, .base = BOARD_CPU_HOTPLUG_BASE,
		.notify = hotplug_notify, .eject = hotplug_eject, .ctx = b,
	};

	return b->cfg.eject ? cpu_hotplug_new(&b->hotplug, &cfg, err) : 0;
}

int board_new(struct board **out, const struct board_config *cfg, struct err *err)
{
	struct board *b = calloc(1, sizeof(*b));
	int ret;

	if (!b)
		return err_set(err, ENOMEM, "no memory for a machine");
	b->cfg = *cfg;
	loop_lock(cfg->loop);
	ret = new_memory(b, err);
	if (ret == 0)
		ret = bus_new(&b->bus, cfg->log, err);
	if (ret == 0)
		ret = new_interrupts(b, err);
	if (ret == 0)
		ret = new_pci(b, err);
	if (ret == 0)
		ret = new_timers(b, err);
	if (ret == 0)
		ret = new_ports(b, err);
	if (ret == 0)
		ret = new_hotplug(b, err);
	loop_unlock(cfg->loop);
	if (ret < 0) {
		board_free(b, NULL, NULL);
		return ret;
	}
	*out = b;
	return 0;
}

static void cpu_lock(void *ctx)
{
	struct board_cpu *c = ctx;

	loop_lock(c->board->cfg.loop);
	c->board->current = c;
}

static void cpu_unlock(void *ctx)
{
	struct board_cpu *c = ctx;

	c->board->current = NULL;
	loop_unlock(c->board->cfg.loop);
}

static void pin_intr(void *ctx, bool asserted)
{
	/* Lowering needs no word to the CPU: it finds no vector when it asks. */
	if (asserted)
		vcpu_request(ctx, CPU_REQ_INTR);
}

static void pin_nmi(void *ctx)
{
	vcpu_request(ctx, CPU_REQ_NMI);
}

/* A start-up IPI from before the INIT has lost its meaning. */
static void pin_init(void *ctx)
{
	struct vcpu *v = ctx;

	v->request &= ~(uint32_t)CPU_REQ_SIPI;
	vcpu_request(v, CPU_REQ_INIT);
}

static void pin_sipi(void *ctx, uint8_t vector)
{
	struct vcpu *v = ctx;

	v->sipi_vector = vector;
	vcpu_request(v, CPU_REQ_SIPI);
}

static bool pin_eoi_offer(void *ctx)
{
	return cpu_kvm_eoi_offer(ctx);
}

static bool pin_eoi_withdraw(void *ctx)
{
	return cpu_kvm_eoi_withdraw(ctx);
}

static uint64_t guest_tsc(void *ctx)
{
	return cpu_tsc(ctx);
}

int board_plug_cpu(struct board *b, struct vcpu *v, struct err *err)
{
	struct board_cpu *c = &b->cpu[b->n_cpus];
	const struct local_apic_config cfg = {
		.id = v->id,
		.bsp = b->n_cpus == 0,
		.phys_bits = v->model->phys_bits,
		.loop = b->cfg.loop,
		.bus = b->apics,
		.pins = {pin_intr, pin_nmi, pin_init, pin_sipi, v, pin_eoi_offer, pin_eoi_withdraw},
		.tsc_hz = v->model->tsc_hz,
		.guest_tsc = guest_tsc,
		.tsc_ctx = v,
	};
	int ret;

	if (b->n_cpus == BOARD_CPUS)
		return err_set(err, EINVAL, "more than %d processors", BOARD_CPUS);
	loop_lock(b->cfg.loop);
	ret = local_apic_new(&c->lapic, &cfg, err);
	loop_unlock(b->cfg.loop);
	if (ret < 0)
		return ret;
	c->board = b;
	c->vcpu = v;
	b->n_cpus++;
	v->apic = local_apic_iface(c->lapic);
	v->lock = cpu_lock;
	v->unlock = cpu_unlock;
	v->lock_ctx = c;
	return 0;
}

void board_unplug_cpu(struct board *b)
{
	struct board_cpu *c = &b->cpu[--b->n_cpus];

	loop_lock(b->cfg.loop);
	local_apic_free(c->lapic);
	loop_unlock(b->cfg.loop);
	*c = (struct board_cpu){0};
}

void board_reset_cpu(struct board *b, unsigned n)
{
	loop_lock(b->cfg.loop);
	local_apic_reset(b->cpu[n].lapic);
	loop_unlock(b->cfg.loop);
}

void board_cpu_comes(struct board *b, unsigned n)
{
	loop_lock(b->cfg.loop);
	cpu_hotplug_insert(b->hotplug, n);
	loop_unlock(b->cfg.loop);
}

void board_cpu_should_go(struct board *b, unsigned n)
{
	loop_lock(b->cfg.loop);
	cpu_hotplug_ask_to_leave(b->hotplug, n);
	loop_unlock(b->cfg.loop);
}

void board_reset(struct board *b, uint64_t present)
{
	loop_lock(b->cfg.loop);
	for (unsigned i = 0; i < b->n_cpus; i++)
		local_apic_reset(b->cpu[i].lapic);
	pic8259_reset(b->gsi.pic);
	ioapic_reset(b->gsi.ioapic);
	pci_bus_reset(b->pci);
	pit8254_reset(b->pit);
	rtc_reset(b->rtc);
	acpi_pm_reset(b->pm);
	uart16550_reset(b->com1);
	i8042_reset(b->i8042);
	system_ports_reset(b->ports);
	if (b->hotplug)
		cpu_hotplug_reset(b->hotplug, present);
	/* There is no firmware to do this: interrupts of the 8259s reach the boot processor. */
	if (b->n_cpus)
		local_apic_set_virtual_wire(b->cpu[0].lapic);
	loop_unlock(b->cfg.loop);
}

void board_power_button(struct board *b)
{
	loop_lock(b->cfg.loop);
	acpi_pm_power_button(b->pm);
	loop_unlock(b->cfg.loop);
}

/* The loop's lock is held. */
static void free_devices(struct board *b)
{
	cpu_hotplug_free(b->hotplug);
	debug_exit_free(b->debug_exit);
	debugcon_free(b->debugcon);
	system_ports_free(b->ports);
	i8042_free(b->i8042);
	uart16550_free(b->com1);
	acpi_pm_free(b->pm);
	rtc_free(b->rtc);
	pit8254_free(b->pit);
	pci_bus_free(b->pci);
	host_bridge_free(b->host_bridge);
	ioapic_free(b->gsi.ioapic);
	pic8259_free(b->gsi.pic);
	for (unsigned i = b->n_cpus; i-- > 0;)
		local_apic_free(b->cpu[i].lapic);
	apic_bus_free(b->apics);
}

void board_free(struct board *b, void (*free_cpus)(void *ctx), void *ctx)
{
	if (!b)
		return;
	loop_lock(b->cfg.loop);
	free_devices(b);
	if (free_cpus)
		free_cpus(ctx);
	bus_free(b->bus);
	guest_mem_free(b->mem);
	loop_unlock(b->cfg.loop);
	free(b);
}
