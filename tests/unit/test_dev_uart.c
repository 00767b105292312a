/* test_dev_uart.c - the 16550A, from its data sheet and from how Linux probes it. */
#include "dev_fakes.h"

#include <string.h>

#include "dev/chipset/uart16550.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define COM UART_COM1

static struct bus *bus;
static struct uart16550 *uart;
static struct fake_line irq;

/* A backend that keeps output, and delivers queued input when there is room, from within set_room
 * too. */
static struct {
	struct chr chr;
	char out[256];
	size_t n_out;
	uint8_t in[256];
	size_t n_in, room;
	bool busy;
} be;

static void be_write(struct chr *c, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		be.out[be.n_out++ % sizeof(be.out)] = data[i];
}

static void be_deliver(void)
{
	while (!be.busy && be.room && be.n_in) {
		size_t n = min_u64(be.room, be.n_in);
		uint8_t copy[256];

		memcpy(copy, be.in, n);
		memmove(be.in, be.in + n, be.n_in - n);
		be.n_in -= n;
		be.room -= n;
		be.busy = true;
		be.chr.receive(be.chr.receive_ctx, copy, n);
		be.busy = false;
	}
}

static void be_room(struct chr *c, size_t room)
{
	assert_in_range(room, 0, 16);
	be.room = room;
	be_deliver();
}

static void type(const char *s)
{
	memcpy(be.in + be.n_in, s, strlen(s));
	be.n_in += strlen(s);
	be_deliver();
}

static const struct chr_ops be_ops = {be_write, be_room, NULL};

static int setup(void **state)
{
	bus = new_bus();
	memset(&be, 0, sizeof(be));
	be.chr.ops = &be_ops;
	assert_int_equal(uart16550_new(&uart, bus, COM, NULL, fake_line(&irq), &be.chr, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	uart16550_free(uart);
	assert_null(be.chr.receive);
	assert_int_equal(fake.n, 0);
	bus_free(bus);
	return 0;
}

static uint8_t get(unsigned r)
{
	return inb(bus, COM + r);
}

static void put(unsigned r, uint8_t v)
{
	outb(bus, COM + r, v);
}

static void test_transmit(void **state)
{
	put(RBR, 'h');
	put(RBR, 'i');
	assert_int_equal(get(LSR), 0x60);
	assert_int_equal(be.n_out, 2);
	assert_memory_equal(be.out, "hi", 2);
}

/* The sequence of Linux's 8250 autoconfiguration, whose result must be "16550A". */
static void test_linux_probe(void **state)
{
	put(IER, 0);
	assert_int_equal(get(IER) & 0xf, 0);
	put(IER, 0xff);
	assert_int_equal(get(IER), 0xf);
	put(IER, 0);
	put(MCR, 0x1a);
	assert_int_equal(get(MSR) & 0xf0, 0x90);
	put(MCR, 0);
	put(LCR, 0xbf);
	put(IIR, 0);
	put(LCR, 0);
	put(IIR, 1);
	assert_int_equal(get(IIR) >> 6, 3);
	put(IIR, 0x21); /* no 64-byte FIFO */
	assert_int_equal(get(IIR) >> 5, 6);
	put(LCR, 0x80);
	put(IIR, 0x21);
	assert_int_equal(get(IIR) >> 5, 6);
	put(LCR, 0);
	put(SCR, 0xa5);
	assert_int_equal(get(SCR), 0xa5);
	/* THRE must interrupt again each time it is enabled (else: backup timers). */
	for (int i = 0; i < 2; i++) {
		put(IER, 2);
		assert_int_equal(get(IIR) & 0xf, 2);
		put(IER, 0);
	}
}

static void test_divisor_latch(void **state)
{
	put(LCR, 0x83);
	put(RBR, 1);
	put(IER, 2);
	assert_int_equal(get(RBR), 1);
	assert_int_equal(get(IER), 2);
	put(LCR, 3);
	assert_int_equal(get(IER), 0);
	assert_int_equal(be.n_out, 0);
	assert_int_equal(get(LCR), 3);
}

static void test_transmit_interrupt(void **state)
{
	put(MCR, 8);
	put(IER, 2);
	assert_true(irq.level);
	assert_int_equal(get(IIR), 2);
	assert_false(irq.level);
	assert_int_equal(get(IIR), 1);
	put(RBR, 'x');
	assert_true(irq.level);
	assert_int_equal(irq.rises, 2);
	put(MCR, 0); /* OUT2 off: the line is cut */
	assert_false(irq.level);
}

static void test_receive_single(void **state)
{
	put(MCR, 8);
	put(IER, 1);
	fake_run(10 * MS);
	type("abc"); /* without FIFO: one at a time, the rest waits in the backend */
	assert_int_equal(be.n_in, 2);
	for (const char *p = "abc"; *p; p++) {
		assert_true(irq.level);
		assert_int_equal(get(IIR), 4);
		assert_int_equal(get(LSR), 0x61);
		assert_int_equal(get(RBR), *p);
	}
	assert_int_equal(get(LSR), 0x60);
	assert_false(irq.level);
}

static void test_receive_fifo_and_timeout(void **state)
{
	put(MCR, 8);
	put(LCR, 3);
	put(IIR, 0x81); /* FIFO, trigger at 8 */
	put(IER, 1);
	type("1234567");
	assert_false(irq.level);
	assert_int_equal(get(IIR), 0xc1);
	fake_run(40 * MS);
	assert_true(irq.level);
	assert_int_equal(get(IIR), 0xcc);
	assert_int_equal(get(RBR), '1');
	assert_false(irq.level); /* reading restarts the time-out */
	type("89");
	assert_true(irq.level);
	assert_int_equal(get(IIR), 0xc4);
	for (const char *p = "23456789"; *p; p++)
		assert_int_equal(get(RBR), *p);
	assert_false(irq.level);
	fake_run(SEC);
	assert_false(irq.level);
}

static void test_receive_flow(void **state)
{
	put(IIR, 1);
	put(IER, 1);
	fake_run(10 * MS);
	type("0123456789abcdefghijklmnopqrstuvwxyz");
	assert_int_equal(be.n_in, 20);
	for (const char *p = "0123456789abcdefghijklmnopqrstuvwxyz"; *p; p++)
		assert_int_equal(get(RBR), *p);
	assert_int_equal(get(LSR), 0x60); /* never an overrun */
}

static void test_fifo_clear(void **state)
{
	put(IIR, 1);
	put(IER, 1);
	fake_run(10 * MS);
	type("xyz");
	put(IIR, 3);
	assert_int_equal(get(LSR), 0x60);
	type("q");
	assert_int_equal(get(RBR), 'q');
	type("r");
	put(IIR, 0); /* switching the FIFO off empties it */
	assert_int_equal(get(LSR), 0x60);
	assert_int_equal(get(IIR), 1);
}

/* What is typed before a driver listens waits: a driver that starts by clearing the FIFO loses nothing. */
static void test_waits_for_listener(void **state)
{
	type("early");
	put(IIR, 7);
	assert_int_equal(get(LSR), 0x60);
	put(IER, 5);
	get(RBR); /* Linux reads all registers once more "for luck" */
	fake_run(10 * MS);
	for (const char *p = "early"; *p; p++)
		assert_int_equal(get(RBR), *p);
}

static void test_listens_by_polling(void **state)
{
	int polls = 0;

	type("p");
	for (int i = 0; i < 100; i++) { /* a transmitter looks at the LSR before each byte */
		get(LSR);
		put(RBR, 'x');
	}
	while (!(get(LSR) & 1))
		assert_in_range(++polls, 1, 100);
	assert_int_equal(get(RBR), 'p');
}

static void test_loopback(void **state)
{
	put(IIR, 1);
	put(IER, 1);
	fake_run(10 * MS);
	put(MCR, 0x10);
	type("no");
	assert_int_equal(get(LSR), 0x60);
	for (int i = 0; i < 17; i++)
		put(RBR, 'A' + i);
	assert_int_equal(be.n_out, 0);
	assert_int_equal(get(LSR), 0x63); /* the 17th overran */
	assert_int_equal(get(LSR), 0x61);
	for (int i = 0; i < 16; i++)
		assert_int_equal(get(RBR), 'A' + i);
	put(MCR, 0);
	assert_int_equal(get(RBR), 'n');
}

static void test_modem_status(void **state)
{
	assert_int_equal(get(MSR), 0xb0);
	put(MCR, 0x18);
	put(IER, 8);
	get(MSR);
	put(MCR, 0x1f);
	assert_int_equal(get(IIR), 0);
	assert_int_equal(get(MSR), 0xf3);
	assert_int_equal(get(MSR), 0xf0);
	put(MCR, 0x1b); /* RI's trailing edge */
	assert_int_equal(get(MSR), 0xb4);
	assert_int_equal(get(IIR), 1);
}

static void test_interrupt_priority(void **state)
{
	put(MCR, 0x18);
	put(IER, 0xf);
	put(RBR, 'a');
	put(RBR, 'b'); /* overrun, data, THRE and modem changes all pending */
	assert_int_equal(get(IIR), 6);
	get(LSR);
	assert_int_equal(get(IIR), 4);
	assert_int_equal(get(RBR), 'b');
	assert_int_equal(get(IIR), 2);
	assert_int_equal(get(IIR), 0);
	get(MSR);
	assert_int_equal(get(IIR), 1);
}

static void test_without_backend(void **state)
{
	struct uart16550 *u;

	assert_int_equal(uart16550_new(&u, bus, UART_COM2, NULL, fake_line(&irq), NULL, NULL), 0);
	outb(bus, UART_COM2, 'x');
	assert_int_equal(inb(bus, UART_COM2 + LSR), 0x60);
	uart16550_free(u);
	/* The ports are taken: the second one at COM1 fails. */
	assert_true(uart16550_new(&u, bus, COM, NULL, fake_line(&irq), NULL, NULL) < 0);
}

static void test_hostile(void **state)
{
	for (unsigned i = 0; i < 500; i++) {
		fuzz_range(bus, BUS_PIO, COM, 8, 3 + i, 100);
		if (be.n_in < 100)
			type("hostile input");
	}
	uart16550_reset(uart);
	put(LCR, 0);
	be.n_out = 0;
	put(RBR, '!');
	assert_int_equal(be.out[0], '!');
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_transmit),
		T(test_linux_probe),
		T(test_divisor_latch),
		T(test_transmit_interrupt),
		T(test_receive_single),
		T(test_receive_fifo_and_timeout),
		T(test_receive_flow),
		T(test_fifo_clear),
		T(test_waits_for_listener),
		T(test_listens_by_polling),
		T(test_loopback),
		T(test_modem_status),
		T(test_interrupt_priority),
		T(test_without_backend),
		T(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
