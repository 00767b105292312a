/* test_dev_apic.c - local APICs, I/O APIC, MSI and the board's wiring, from SDM vol. 3, chapter 11.
 */
#include "dev_fakes.h"

#include <string.h>

#include "dev/chipset/gsi.h"
#include "dev/chipset/local_apic.h"

#define CPUS 3
#define TSC_HZ 2500000000ULL

enum {
	ID = 0x20,
	VERSION = 0x30,
	TPR = 0x80,
	PPR = 0xa0,
	EOI = 0xb0,
	LDR = 0xd0,
	DFR = 0xe0,
	SVR = 0xf0,
	ISR = 0x100,
	TMR = 0x180,
	IRR = 0x200,
	ESR = 0x280,
	ICR = 0x300,
	ICR2 = 0x310,
	TIMER = 0x320,
	LINT0 = 0x350,
	LINT1 = 0x360,
	ERROR = 0x370,
	COUNT = 0x380,
	CURRENT = 0x390,
	DIVIDE = 0x3e0,
};

struct cpu {
	bool intr;
	unsigned nmis, inits, sipis;
	uint8_t sipi_vector;
	struct lapic *apic;
	const struct local_apic *ops;
	int64_t tsc_offset;
	bool pv_eoi, eoi_bit; /* whether the guest has a word for PV EOI, and its bit */
	unsigned offers, withdrawals;
};

static struct cpu cpu[CPUS];
static struct bus *bus;
static struct apic_bus *apics;
static struct ioapic *ioapic;
static struct pic8259 *pic;
static struct gsi_router router;

static void pin_intr(void *ctx, bool asserted)
{
	((struct cpu *)ctx)->intr = asserted;
}

static void pin_nmi(void *ctx)
{
	((struct cpu *)ctx)->nmis++;
}

static void pin_init(void *ctx)
{
	((struct cpu *)ctx)->inits++;
}

static void pin_sipi(void *ctx, uint8_t vector)
{
	((struct cpu *)ctx)->sipis++;
	((struct cpu *)ctx)->sipi_vector = vector;
}

static bool pin_eoi_offer(void *ctx)
{
	struct cpu *c = ctx;

	c->eoi_bit |= c->pv_eoi;
	c->offers += c->pv_eoi;
	return c->pv_eoi;
}

static bool pin_eoi_withdraw(void *ctx)
{
	struct cpu *c = ctx;
	bool used = !c->eoi_bit;

	c->eoi_bit = false;
	c->withdrawals++;
	return used;
}

static uint64_t guest_tsc(void *ctx)
{
	return fake.now / 2 * 5 + ((struct cpu *)ctx)->tsc_offset;
}

static int pic_ack(void *ctx)
{
	return pic8259_ack(pic);
}

static uint32_t get(unsigned c, uint32_t reg)
{
	return local_apic_mmio_read(cpu[c].apic, reg, 4);
}

static void put(unsigned c, uint32_t reg, uint32_t v)
{
	local_apic_mmio_write(cpu[c].apic, reg, 4, v);
}

static int ack(unsigned c)
{
	return cpu[c].ops->ack(cpu[c].ops->ctx);
}

static int setup(void **state)
{
	bus = new_bus();
	memset(cpu, 0, sizeof(cpu));
	assert_int_equal(apic_bus_new(&apics, NULL), 0);
	for (unsigned i = 0; i < CPUS; i++) {
		struct local_apic_config cfg = {
			.id = i,
			.bsp = i == 0,
			.phys_bits = 40,
			.bus = apics,
			.pins = {pin_intr, pin_nmi, pin_init, pin_sipi, &cpu[i], pin_eoi_offer,
				 pin_eoi_withdraw},
			.tsc_hz = TSC_HZ,
			.guest_tsc = guest_tsc,
			.tsc_ctx = &cpu[i],
		};

		assert_int_equal(local_apic_new(&cpu[i].apic, &cfg, NULL), 0);
		cpu[i].ops = local_apic_iface(cpu[i].apic);
		put(i, SVR, 0x1ff);
		put(i, LDR, 1u << (24 + i));
	}
	assert_int_equal(ioapic_new(&ioapic, bus, IOAPIC_DEFAULT_BASE, apics, 5, NULL), 0);
	assert_int_equal(pic8259_new(&pic, bus, apic_bus_lint0(apics), NULL), 0);
	apic_bus_on_extint_ack(apics, pic_ack, NULL);
	router = (struct gsi_router){pic, ioapic};
	return 0;
}

static int teardown(void **state)
{
	pic8259_free(pic);
	ioapic_free(ioapic);
	for (unsigned i = 0; i < CPUS; i++)
		local_apic_free(cpu[i].apic);
	apic_bus_free(apics);
	assert_int_equal(fake.n, 0);
	bus_free(bus);
	return 0;
}

static void msi(uint32_t address, uint32_t data)
{
	const struct msi_sink *s = apic_bus_msi(apics);

	s->send(s->ctx, address, data);
}

static uint32_t io_get(uint8_t index)
{
	bus_write(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE, 4, index);
	return bus_read(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE + 0x10, 4);
}

static void io_put(uint8_t index, uint32_t v)
{
	bus_write(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE, 4, index);
	bus_write(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE + 0x10, 4, v);
}

static void route(unsigned pin, uint32_t low, uint8_t dest)
{
	io_put(0x11 + 2 * pin, (uint32_t)dest << 24);
	io_put(0x10 + 2 * pin, low);
}

static void test_power_up_state(void **state)
{
	struct cpu *c = &cpu[0];

	local_apic_reset(c->apic);
	assert_int_equal(get(0, SVR), 0xff);
	assert_int_equal(get(1, ID), 1 << 24);
	assert_int_equal(get(0, VERSION), 0x50014);
	assert_int_equal(get(0, DFR), 0xffffffff);
	assert_int_equal(get(0, TIMER), 0x10000);
	assert_true(c->ops->get_base(c->ops->ctx) == 0xfee00900);
	assert_true(cpu[1].ops->get_base(cpu[1].ops->ctx) == 0xfee00800);
	put(0, LINT0, 0x700); /* masked while software-disabled */
	assert_int_equal(get(0, LINT0), 0x10700);
	local_apic_set_virtual_wire(c->apic);
	assert_int_equal(get(0, LINT0), 0x700);
	assert_int_equal(get(0, LINT1), 0x400);
}

static void test_priorities(void **state)
{
	msi(0xfee00000, 0x41);
	assert_true(cpu[0].intr);
	assert_int_equal(get(0, IRR + 0x20), 1 << 1);
	msi(0xfee00000, 0x62);
	msi(0xfee00000, 0x45);
	assert_int_equal(ack(0), 0x62);
	assert_int_equal(get(0, PPR), 0x60);
	assert_int_equal(get(0, ISR + 0x30), 1 << 2);
	assert_false(cpu[0].intr);
	msi(0xfee00000, 0x69); /* the same class waits */
	assert_int_equal(ack(0), -1);
	msi(0xfee00000, 0x70);
	assert_int_equal(ack(0), 0x70);
	put(0, EOI, 0);
	assert_int_equal(ack(0), -1);
	put(0, EOI, 0);
	assert_int_equal(ack(0), 0x69);
	put(0, EOI, 0);
	assert_int_equal(ack(0), 0x45);
	put(0, EOI, 0);
	assert_int_equal(ack(0), 0x41);
	put(0, EOI, 0);
	put(0, EOI, 0);
	assert_int_equal(ack(0), -1);
	assert_int_equal(get(0, PPR), 0);
	assert_false(cpu[1].intr);
}

/* The guest ends interrupts in its memory; the APIC follows when it is used the next time. */
static void test_pv_eoi(void **state)
{
	struct cpu *c = &cpu[0];

	c->pv_eoi = true;
	msi(0xfee00000, 0x41);
	assert_int_equal(ack(0), 0x41);
	assert_true(c->eoi_bit);
	c->eoi_bit = false; /* the guest's EOI */
	c->intr = false;
	msi(0xfee00000, 0x31); /* lower: deliverable only because the other has ended, which the sender cannot know */
	assert_true(c->intr);
	assert_int_equal(ack(0), 0x31);
	assert_int_equal(get(0, ISR + 0x20), 0);
	assert_int_equal(get(0, ISR + 0x10), 1u << 17);
	/* Looked at before the guest was done: it has to write the register. */
	assert_false(c->eoi_bit);
	put(0, EOI, 0);
	assert_int_equal(get(0, ISR + 0x10), 0);
	assert_int_equal(c->offers, 2);
	assert_int_equal(c->withdrawals, 2);
}

/* Not offered while something waits, since its delivery depends on the EOI; nor for level-triggered vectors. */
static void test_pv_eoi_not_now(void **state)
{
	struct cpu *c = &cpu[0];

	c->pv_eoi = true;
	msi(0xfee00000, 0x41);
	msi(0xfee00000, 0x61);
	assert_int_equal(ack(0), 0x61);
	assert_false(c->eoi_bit);
	put(0, EOI, 0);
	assert_int_equal(ack(0), 0x41);
	assert_true(c->eoi_bit);
	msi(0xfee00000, 0x51); /* while the handler runs */
	assert_true(c->intr);
	assert_int_equal(ack(0), 0x51 /* a higher class nests */);
	assert_true(c->eoi_bit); /* this one's */
	c->eoi_bit = false;
	put(0, EOI, 0); /* 0x51 has ended in memory, 0x41 ends now */
	assert_int_equal(get(0, ISR + 0x20), 0);
	assert_int_equal(c->offers, 2);
	msi(0xfee00000, 0xc000 | 0x71);
	assert_int_equal(ack(0), 0x71);
	assert_false(c->eoi_bit);
	assert_int_equal(c->offers, 2);
}

/* A TPR raised and lowered again, INIT: what was offered before does not outlive them. */
static void test_pv_eoi_settled(void **state)
{
	struct cpu *c = &cpu[0];

	c->pv_eoi = true;
	msi(0xfee00000, 0x41);
	assert_int_equal(ack(0), 0x41);
	c->eoi_bit = false;
	assert_int_equal(get(0, PPR), 0);
	msi(0xfee00000, 0x41);
	assert_int_equal(ack(0), 0x41);
	assert_true(c->eoi_bit);
	local_apic_reset(c->apic);
	put(0, SVR, 0x1ff);
	c->eoi_bit = false;
	msi(0xfee00000, 0x42);
	assert_int_equal(ack(0), 0x42);
	assert_int_equal(get(0, ISR + 0x20), 1 << 2);
	put(0, EOI, 0);
	assert_int_equal(get(0, ISR + 0x20), 0);
}

/* What a paravirtual IPI is made of. */
static void test_send(void **state)
{
	const struct local_apic *from = cpu[0].ops;

	from->send(from->ctx, 0x55, 2);
	assert_int_equal(ack(2), 0x55);
	assert_int_equal(ack(1), -1);
	from->send(from->ctx, 4 << 8, 1);
	assert_int_equal(cpu[1].nmis, 1);
	from->send(from->ctx, 0x55, 77);
}

static void test_task_priority(void **state)
{
	const struct local_apic *o = cpu[0].ops;

	o->set_tpr(o->ctx, 5);
	assert_int_equal(get(0, TPR), 0x50);
	msi(0xfee00000, 0x5f);
	assert_false(cpu[0].intr);
	assert_int_equal(ack(0), -1);
	put(0, TPR, 0x4c);
	assert_int_equal(o->get_tpr(o->ctx), 4);
	assert_int_equal(get(0, PPR), 0x4c);
	assert_true(cpu[0].intr);
	put(0, TPR, 0xff);
	assert_false(cpu[0].intr);
	o->set_tpr(o->ctx, 0);
	assert_int_equal(ack(0), 0x5f);
}

static void test_software_disable(void **state)
{
	msi(0xfee00000, 0x33);
	put(0, SVR, 0xff);
	assert_false(cpu[0].intr);
	msi(0xfee00000, 0x44); /* not accepted */
	put(0, SVR, 0x1ff);
	assert_int_equal(ack(0), 0x33);
	put(0, EOI, 0);
	assert_int_equal(ack(0), -1);
	assert_int_equal(get(0, TIMER) & 0x10000, 0x10000);
}

static void test_ipi_physical(void **state)
{
	put(0, ICR2, 2 << 24);
	put(0, ICR, 0x4040);
	assert_int_equal(ack(2), 0x40);
	assert_int_equal(ack(1), -1);
	put(0, ICR2, 0xffu << 24); /* broadcast */
	put(0, ICR, 0x4041);
	for (int i = 0; i < CPUS; i++)
		assert_int_equal(get(i, IRR + 0x20) & 2, 2);
	put(0, ICR, 0x44042); /* self */
	assert_int_equal(get(0, IRR + 0x20), 6);
	put(1, ICR, 0xc4043); /* all but self */
	assert_int_equal(get(0, IRR + 0x20), 0xe);
	assert_int_equal(get(1, IRR + 0x20), 2);
	put(1, ICR, 0x84044); /* all */
	assert_int_equal(get(1, IRR + 0x20), 0x12);
	assert_int_equal(get(1, ICR), 0x84044);
	put(0, ICR2, 9 << 24); /* nobody */
	put(0, ICR, 0x4050);
	put(0, ICR2, 1 << 24);
	put(0, ICR, 0x4400);
	assert_int_equal(cpu[1].nmis, 1);
}

static void test_ipi_logical(void **state)
{
	put(0, ICR2, 6u << 24);
	put(0, ICR, 0x4840);
	assert_int_equal(ack(0), -1);
	assert_int_equal(ack(1), 0x40);
	assert_int_equal(ack(2), 0x40);
	for (unsigned i = 0; i < CPUS; i++) { /* cluster model: cluster 1, bits 0..2 */
		put(i, EOI, 0);
		put(i, DFR, 0);
		put(i, LDR, (0x10u | 1u << i) << 24);
	}
	put(0, ICR2, 0x15u << 24);
	put(0, ICR, 0x4841);
	assert_int_equal(ack(0), 0x41);
	assert_int_equal(ack(1), -1);
	assert_int_equal(ack(2), 0x41);
	put(0, ICR2, 0x27u << 24); /* another cluster */
	put(0, ICR, 0x4852);
	put(0, ICR2, 0xffu << 24); /* all clusters */
	put(0, ICR, 0x4851);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(ack(i), 0x51);
}

static void test_init_sipi(void **state)
{
	put(1, TPR, 0x20);
	put(0, ICR2, 1 << 24);
	put(0, ICR, 0xc500);
	assert_int_equal(cpu[1].inits, 1);
	assert_int_equal(get(1, TPR), 0);
	assert_int_equal(get(1, SVR), 0xff);
	put(0, ICR, 0x8500); /* level de-assert */
	assert_int_equal(cpu[1].inits, 1);
	put(0, ICR, 0x4608);
	assert_int_equal(cpu[1].sipis, 1);
	assert_int_equal(cpu[1].sipi_vector, 8);
	put(0, ICR, 0xc4500); /* all but self */
	assert_int_equal(cpu[0].inits, 0);
	assert_int_equal(cpu[1].inits, 2);
	assert_int_equal(cpu[2].inits, 1);
}

static void test_lowest_priority(void **state)
{
	unsigned hits[CPUS] = {0};

	put(0, TPR, 0x20);
	for (int i = 0; i < 10; i++) { /* ties between 1 and 2 take turns */
		msi(0xfee07004, 0x150);
		for (unsigned c = 0; c < CPUS; c++)
			if (ack(c) == 0x50) {
				hits[c]++;
				put(c, EOI, 0);
			}
	}
	assert_int_equal(hits[0], 0);
	assert_int_equal(hits[1], 5);
	assert_int_equal(hits[2], 5);
	msi(0xfee0100c, 0x51); /* redirection hint, one candidate */
	assert_int_equal(get(0, IRR + 0x20), 1 << 17);
}

static void test_errors(void **state)
{
	put(0, ERROR, 0xfe);
	put(0, ICR, 0x400f); /* illegal vector */
	assert_int_equal(get(0, ESR), 0);
	assert_int_equal(ack(0), 0xfe);
	put(0, EOI, 0);
	put(0, ESR, 0);
	assert_int_equal(get(0, ESR), 0x20);
	msi(0xfee00000, 5);
	get(0, 0x3f0);
	put(0, ESR, 0);
	assert_int_equal(get(0, ESR), 0xc0);
	put(0, ESR, 0);
	assert_int_equal(get(0, ESR), 0);
	put(0, ERROR, 3); /* an illegal vector for the error interrupt itself */
	put(0, 0x40, 1);
	put(0, ESR, 0);
	assert_int_equal(get(0, ESR), 0xc0);
}

static void test_timer_one_shot(void **state)
{
	put(0, TIMER, 0x30);
	put(0, DIVIDE, 0xb); /* by 1: nanoseconds */
	put(0, COUNT, 1000000);
	assert_int_equal(get(0, CURRENT), 1000000);
	fake_run(400000);
	assert_int_equal(get(0, CURRENT), 600000);
	put(0, DIVIDE, 0x0); /* by 2: what is left takes twice as long */
	assert_int_equal(get(0, CURRENT), 600000);
	fake_run(1200000 - 2);
	assert_int_equal(ack(0), -1);
	fake_run(2);
	assert_int_equal(ack(0), 0x30);
	assert_int_equal(get(0, CURRENT), 0);
	put(0, EOI, 0);
	fake_run(SEC);
	assert_int_equal(ack(0), -1);
	put(0, COUNT, 100);
	put(0, COUNT, 0); /* stops */
	fake_run(SEC);
	assert_int_equal(ack(0), -1);
}

static void test_timer_divisors(void **state)
{
	static const uint8_t code[8] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};

	for (unsigned i = 0; i < 8; i++) {
		put(0, DIVIDE, code[i]);
		put(0, COUNT, 1000);
		fake_run(100u << i);
		assert_int_equal(get(0, CURRENT), 900);
	}
}

static void test_timer_periodic(void **state)
{
	unsigned n = 0;

	put(0, TIMER, 0x20031);
	put(0, DIVIDE, 0xb);
	put(0, COUNT, 1000000);
	for (int i = 0; i < 1000; i++) {
		fake_run(100000);
		if (ack(0) == 0x31) {
			n++;
			put(0, EOI, 0);
		}
		assert_in_range(get(0, CURRENT), 1, 1000000);
	}
	assert_int_equal(n, 100);
	put(0, TIMER, 0x30031); /* masked: it counts on in silence */
	fake_run(10 * MS);
	assert_int_equal(ack(0), -1);
	put(0, TIMER, 0x20031);
	put(0, COUNT, 1);
	assert_in_range(fake_run(SEC), 1000, 60000); /* bounded cost */
}

static void test_tsc_deadline(void **state)
{
	const struct local_apic *o = cpu[1].ops;
	uint64_t tsc = guest_tsc(&cpu[1]);

	o->set_deadline(o->ctx, tsc + 1000); /* not in that mode: ignored */
	assert_true(o->get_deadline(o->ctx) == 0);
	put(1, TIMER, 0x40032);
	o->set_deadline(o->ctx, tsc + TSC_HZ);
	assert_true(o->get_deadline(o->ctx) == tsc + TSC_HZ);
	put(1, COUNT, 100); /* no effect in this mode */
	assert_int_equal(get(1, CURRENT), 0);
	fake_run(SEC - 10);
	assert_false(cpu[1].intr);
	fake_run(20);
	assert_int_equal(ack(1), 0x32);
	put(1, EOI, 0);
	assert_true(o->get_deadline(o->ctx) == 0);
	o->set_deadline(o->ctx, 5); /* in the past: at once */
	assert_int_equal(ack(1), 0x32);
	put(1, EOI, 0);
	o->set_deadline(o->ctx, guest_tsc(&cpu[1]) + TSC_HZ);
	o->set_deadline(o->ctx, 0); /* disarms */
	fake_run(2 * SEC);
	assert_false(cpu[1].intr);
	o->set_deadline(o->ctx, ~0ULL);
	fake_run(86400 * SEC);
	assert_false(cpu[1].intr);
	cpu[1].tsc_offset = TSC_HZ * 3; /* the guest moves its TSC */
	o->set_deadline(o->ctx, guest_tsc(&cpu[1]) + TSC_HZ);
	cpu[1].tsc_offset += TSC_HZ;
	local_apic_tsc_changed(cpu[1].apic);
	assert_true(cpu[1].intr);
	ack(1);
	put(1, EOI, 0);
	o->set_deadline(o->ctx, guest_tsc(&cpu[1]) + TSC_HZ);
	put(1, TIMER, 0x32); /* leaving the mode disarms */
	fake_run(2 * SEC);
	assert_false(cpu[1].intr);
	assert_true(o->get_deadline(o->ctx) == 0);
}

static int rd(unsigned c, uint32_t msr, uint64_t *v)
{
	return cpu[c].ops->msr_read(cpu[c].ops->ctx, msr, v);
}

static int wr(unsigned c, uint32_t msr, uint64_t v)
{
	return cpu[c].ops->msr_write(cpu[c].ops->ctx, msr, v);
}

static int base(unsigned c, uint64_t v)
{
	return cpu[c].ops->set_base(cpu[c].ops->ctx, v);
}

static void test_base_transitions(void **state)
{
	uint64_t v;

	assert_true(rd(0, 0x802, &v) < 0);
	assert_true(base(0, 0xfee00901) < 0);
	assert_true(base(0, BIT(40) | 0xfee00900) < 0);
	assert_true(base(0, 0xfee00500) < 0); /* x2APIC without enable */
	assert_int_equal(base(0, 0xfee00d00), 0);
	assert_int_equal(get(0, ID), 0xffffffff);
	assert_true(base(0, 0xfee00900) < 0); /* back to xAPIC only through disabled */
	assert_int_equal(base(0, 0xfee00100), 0);
	assert_true(base(0, 0xfee00d00) < 0);
	assert_int_equal(base(0, 0xfee00900), 0);
	assert_int_equal(get(0, SVR), 0xff);
	assert_true(cpu[0].ops->get_base(cpu[0].ops->ctx) == 0xfee00900);
}

static void test_x2apic(void **state)
{
	uint64_t v;

	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(base(i, 0xfee00c00), 0);
	assert_int_equal(rd(2, 0x802, &v), 0);
	assert_true(v == 2);
	assert_int_equal(rd(2, 0x80d, &v), 0);
	assert_true(v == 4);
	assert_int_equal(rd(0, 0x80f, &v), 0);
	assert_true(v == 0x1ff); /* kept from xAPIC mode */
	assert_int_equal(wr(0, 0x830, 1ULL << 32 | 0x60), 0);
	assert_int_equal(ack(1), 0x60);
	assert_int_equal(wr(1, 0x80b, 0), 0);
	assert_int_equal(wr(0, 0x830, 0x5ULL << 32 | 0x861),
			 0); /* logical: cluster 0, bits 0 and 2 */
	assert_int_equal(ack(0), 0x61);
	assert_int_equal(ack(1), -1);
	assert_int_equal(ack(2), 0x61);
	assert_int_equal(wr(0, 0x830, 0xffffffffULL << 32 | 0x72), 0);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(ack(i), 0x72);
	assert_int_equal(wr(0, 0x83f, 0x83), 0);
	assert_int_equal(ack(0), 0x83);
	assert_int_equal(wr(0, 0x832, 0x40033), 0);
	assert_int_equal(wr(0, 0x808, 0x20), 0);
	assert_int_equal(rd(0, 0x808, &v), 0);
	assert_true(v == 0x20);
}

static void test_x2apic_general_protection(void **state)
{
	static const uint32_t unreadable[] = {0x800, 0x801, 0x80b, 0x80e, 0x831,
					      0x83f, 0x82f, 0x840, 0x8ff};
	static const struct {
		uint32_t msr;
		uint64_t value;
	} bad[] = {
		{0x802, 0},       {0x803, 0},       {0x808, 0x100},   {0x80a, 0},
		{0x80b, 1},       {0x80d, 0},       {0x80f, 0x10000}, {0x810, 0},
		{0x820, 0},       {0x828, 1},       {0x830, 0x10000}, {0x831, 0},
		{0x832, 0x80000}, {0x835, BIT(32)}, {0x838, BIT(32)}, {0x839, 0},
		{0x83e, 4},       {0x83f, 0x100},   {0x840, 0},
	};
	uint64_t v;

	assert_int_equal(base(0, 0xfee00d00), 0);
	for (size_t i = 0; i < ARRAY_SIZE(unreadable); i++)
		assert_true(rd(0, unreadable[i], &v) < 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(wr(0, bad[i].msr, bad[i].value) < 0);
}

static void test_msi_filter(void **state)
{
	msi(0xfed00000, 0x40);
	msi(0xfee00000, 0x8040); /* level, de-assert */
	assert_int_equal(ack(0), -1);
	msi(0xfee00000, 0x400); /* NMI */
	assert_int_equal(cpu[0].nmis, 1);
	msi(0xfeeff000, 0x41);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(ack(i), 0x41);
}

static void test_extint_through_lint0(void **state)
{
	struct irq_line irq5 = gsi_line(&router, 5);

	local_apic_set_virtual_wire(cpu[0].apic);
	outb(bus, 0x20, 0x11);
	outb(bus, 0x21, 0x30);
	outb(bus, 0x21, 4);
	outb(bus, 0x21, 1);
	outb(bus, 0x21, 0);
	irq_set(&irq5, true);
	assert_true(cpu[0].intr);
	assert_false(cpu[1].intr);
	assert_int_equal(ack(0), 0x35);
	assert_false(cpu[0].intr);
	assert_int_equal(get(0, ISR + 0x10), 0); /* the 8259 keeps the book */
	outb(bus, 0x20, 0x20);
	irq_set(&irq5, false);
	put(0, LINT0, 0x10700);
	irq_set(&irq5, true);
	assert_false(cpu[0].intr);
	assert_int_equal(ack(0), -1);
	assert_int_equal(base(0, 0xfee00100), 0); /* no APIC: the wire is the processor's INTR */
	assert_true(cpu[0].intr);
	assert_int_equal(ack(0), 0x35);
}

static void test_lint1_nmi(void **state)
{
	struct irq_line nmi = apic_bus_lint1(apics);

	put(0, LINT1, 0x400);
	irq_set(&nmi, true);
	irq_set(&nmi, true);
	assert_int_equal(cpu[0].nmis, 1);
	assert_int_equal(cpu[1].nmis, 0);
}

static void test_ioapic_registers(void **state)
{
	assert_int_equal(io_get(0), 5 << 24);
	assert_int_equal(io_get(1), 0x170020);
	io_put(0, 0x0a000000);
	assert_int_equal(io_get(0), 0x0a000000);
	assert_int_equal(io_get(0x10), 0x10000);
	io_put(0x10, 0xffffffff);
	assert_int_equal(io_get(0x10),
			 0x0001afff); /* delivery status and remote IRR are read-only */
	io_put(0x11, 0xffffffff);
	assert_int_equal(io_get(0x11), 0xff000000);
	assert_int_equal(io_get(0x40), 0);
	ioapic_reset(ioapic);
	assert_int_equal(io_get(0), 5 << 24);
	assert_int_equal(io_get(0x10), 0x10000);
}

static void test_ioapic_edge(void **state)
{
	struct irq_line l = gsi_line(&router, 4);

	irq_set(&l, true);
	route(4, 0x44, 1);
	assert_int_equal(ack(1), -1); /* the masked edge is lost */
	irq_set(&l, false);
	irq_set(&l, true);
	assert_int_equal(ack(1), 0x44);
	put(1, EOI, 0);
	assert_int_equal(ack(1), -1);
	l = gsi_line(&router, 0);
	route(2, 0x45, 1); /* the timer is at pin 2 */
	irq_set(&l, true);
	assert_int_equal(ack(1), 0x45);
}

static void test_ioapic_level(void **state)
{
	struct irq_line l = gsi_line(&router, 18);

	route(18, 0x1a055, 0); /* level, active low, masked? no: 0x1xxxx masks */
	irq_set(&l, true);
	assert_false(cpu[0].intr);
	io_put(0x10 + 36, 0xa055);
	assert_int_equal(ack(0), 0x55);
	assert_int_equal(get(0, TMR + 0x20), 1 << 21);
	assert_int_equal(io_get(0x10 + 36) & 0x4000, 0x4000);
	put(0, EOI, 0); /* still asserted: again */
	assert_int_equal(ack(0), 0x55);
	irq_set(&l, false);
	irq_set(&l, true);
	put(0, EOI, 0);
	assert_int_equal(ack(0), 0x55);
	irq_set(&l, false);
	put(0, EOI, 0);
	assert_int_equal(io_get(0x10 + 36) & 0x4000, 0);
	assert_int_equal(ack(0), -1);
	irq_set(&l, true); /* the EOI register, without the local APIC's EOI */
	ack(0);
	irq_set(&l, false);
	bus_write(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE + 0x40, 4, 0x55);
	assert_int_equal(io_get(0x10 + 36) & 0x4000, 0);
	put(0, EOI, 0);
	irq_set(&l, true);
	ack(0);
	io_put(0x10 + 36, 0x12055); /* to edge and back clears remote IRR */
	assert_int_equal(io_get(0x10 + 36) & 0x4000, 0);
}

/* An edge vector's EOI is not broadcast, so it cannot release a level pin. */
static void test_eoi_of_edge_is_silent(void **state)
{
	struct irq_line l = gsi_line(&router, 18);

	route(18, 0xa055, 0);
	irq_set(&l, true);
	assert_int_equal(ack(0), 0x55);
	put(1, ICR2, 1 << 24);
	put(1, ICR, 0x4055);
	assert_int_equal(ack(1), 0x55);
	put(1, EOI, 0);
	assert_int_equal(io_get(0x10 + 36) & 0x4000, 0x4000);
}

static void test_reset_keeps_wires(void **state)
{
	struct irq_line l = gsi_line(&router, 19);

	irq_set(&l, true);
	ioapic_reset(ioapic);
	route(19, 0x8056, 0);
	assert_int_equal(ack(0), 0x56);
}

static void fuzz_apics(uint64_t seed, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t r = fuzz_next(&seed), v = fuzz_next(&seed);
		struct cpu *c = &cpu[(r >> 8) % CPUS];
		struct irq_line l = gsi_line(&router, (r >> 32) & 31);

		switch (r % 9) {
		case 0:
		case 1:
			local_apic_mmio_write(c->apic, r >> 20 & 0xff0, 4, v);
			break;
		case 2:
			local_apic_mmio_read(c->apic, r >> 20 & 0xfff, 1 << (v & 3));
			break;
		case 3:
			wr(c - cpu, 0x800 + (r >> 20 & 0xff), v & (v >> 8 & 1 ? 0xff : ~0ULL));
			break;
		case 4:
			rd(c - cpu, 0x800 + (r >> 20 & 0xff), &v);
			break;
		case 5:
			base(c - cpu, 0xfee00000 | (v & 0xc00));
			break;
		case 6:
			irq_set(&l, v & 1);
			break;
		case 7:
			msi(0xfee00000 | (v & 0xff00c), v >> 32 & 0xc7ff);
			break;
		case 8:
			c->ops->set_deadline(c->ops->ctx, guest_tsc(c) + (v & 0xffffff));
			break;
		}
		if (r & BIT(40))
			assert_in_range(ack(c - cpu) + 1, 0, 256);
		if ((r >> 41 & 7) == 0)
			fake_run(v & 0x3ffff);
	}
}

static void test_hostile(void **state)
{
	for (unsigned i = 0; i < 100; i++) {
		fuzz_apics(31 + i, 2000);
		fuzz_range(bus, BUS_MMIO, IOAPIC_DEFAULT_BASE, 0x48, 131 + i, 500);
	}
	for (unsigned i = 0; i < CPUS; i++) {
		local_apic_reset(cpu[i].apic);
		put(i, SVR, 0x1ff);
	}
	test_priorities(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_power_up_state),
		T(test_priorities),
		T(test_pv_eoi),
		T(test_pv_eoi_not_now),
		T(test_pv_eoi_settled),
		T(test_send),
		T(test_task_priority),
		T(test_software_disable),
		T(test_ipi_physical),
		T(test_ipi_logical),
		T(test_init_sipi),
		T(test_lowest_priority),
		T(test_errors),
		T(test_timer_one_shot),
		T(test_timer_divisors),
		T(test_timer_periodic),
		T(test_tsc_deadline),
		T(test_base_transitions),
		T(test_x2apic),
		T(test_x2apic_general_protection),
		T(test_msi_filter),
		T(test_extint_through_lint0),
		T(test_lint1_nmi),
		T(test_ioapic_registers),
		T(test_ioapic_edge),
		T(test_ioapic_level),
		T(test_eoi_of_edge_is_silent),
		T(test_reset_keeps_wires),
		T(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
