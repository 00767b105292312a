/* rt.c - output, checks, contexts. */
#include "rt/rt.h"

static unsigned long passed, failed;
static char name_buf[160];

static void put(char c)
{
	unsigned spin = 100000;

	outb(0xe9, (uint8_t)c);
	while (!(inb(0x3fd) & 0x20) && --spin)
		;
	outb(0x3f8, (uint8_t)c);
}

struct sink {
	char *buf; /* NULL: the console */
	size_t len, size;
};

static void emit(struct sink *s, char c)
{
	if (!s->buf)
		put(c);
	else if (s->len + 1 < s->size)
		s->buf[s->len++] = c;
}

static void emit_number(struct sink *s, word v, unsigned base, bool negative)
{
	char digits[24];
	unsigned n = 0;

	if (negative)
		emit(s, '-');
	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		emit(s, digits[--n]);
}

/* %s, and %d %u %x with an optional l. */
static void format(struct sink *s, const char *fmt, __builtin_va_list ap)
{
	for (; *fmt; fmt++) {
		bool wide = false;
		word v;

		if (*fmt != '%') {
			emit(s, *fmt);
			continue;
		}
		if (*++fmt == 'l') {
			wide = true;
			fmt++;
		}
		if (*fmt == 's') {
			const char *str = __builtin_va_arg(ap, const char *);

			while (*str)
				emit(s, *str++);
			continue;
		}
		if (*fmt == '%') {
			emit(s, '%');
			continue;
		}
		v = wide ? __builtin_va_arg(ap, word) : __builtin_va_arg(ap, unsigned);
		if (*fmt == 'd' && !wide && (int)v < 0)
			emit_number(s, (word)-(long)(int)v, 10, true);
		else
			emit_number(s, v, *fmt == 'x' ? 16 : 10, false);
	}
}

void print(const char *fmt, ...)
{
	struct sink s = { 0 };
	__builtin_va_list ap;

	__builtin_va_start(ap, fmt);
	format(&s, fmt, ap);
	__builtin_va_end(ap);
}

void casef(const char *fmt, ...)
{
	struct sink s = { name_buf, 0, sizeof(name_buf) };
	__builtin_va_list ap;

	__builtin_va_start(ap, fmt);
	format(&s, fmt, ap);
	__builtin_va_end(ap);
	name_buf[s.len] = 0;
}

bool check(bool ok, const char *fmt, ...)
{
	struct sink s = { 0 };
	__builtin_va_list ap;

	if (ok) {
		passed++;
		return true;
	}
	failed++;
	print("FAIL %s: ", name_buf);
	__builtin_va_start(ap, fmt);
	format(&s, fmt, ap);
	__builtin_va_end(ap);
	print("\n");
	return false;
}

static void print64(uint64_t v)
{
	if (v >> 32)
		print("%x:", (unsigned)(v >> 32));
	print("%x", (unsigned)v);
}

bool check_eq(const char *what, uint64_t got, uint64_t want)
{
	if (got == want) {
		passed++;
		return true;
	}
	failed++;
	print("FAIL %s: %s is 0x", name_buf, what);
	print64(got);
	print(", not 0x");
	print64(want);
	print("\n");
	return false;
}

bool vec_is_fault(int vec)
{
	return vec < 32 && vec != DB && vec != NMI && vec != BP && vec != OF && vec != DF && vec != MC;
}

bool vec_has_error(int vec)
{
	return vec == DF || (vec >= TS && vec <= PF) || vec == AC || vec == 21 || vec == 29 || vec == 30;
}

static bool check_trap_at(int vec, word err, bool check_ip, word ip)
{
	bool has_err = vec_has_error(vec);
	bool ok = trap.count == 1 && trap.vec == (word)vec && trap.err == (has_err ? err : 0) &&
		  trap.has_err == has_err && (!check_ip || trap.r.ip == ip);

	return check(ok, "vector %d error 0x%lx%s ip 0x%lx cr2 0x%lx count %d, not vector %d error 0x%lx ip 0x%lx",
		     (int)trap.vec, trap.err, trap.has_err ? "" : " (none)", trap.r.ip, trap.cr2,
		     (int)trap.count, vec, err, check_ip ? ip : 0);
}

bool check_trap(const struct ctx *c, int vec, word err)
{
	return check_trap_at(vec, err, vec_is_fault(vec), c->ip);
}

void skip(const char *what)
{
	print("skipped: %s\n", what);
}

void run_row(const char *name, const void *code, const struct row *r)
{
	struct ctx c;

	casef("%s", name);
	ctx_init(&c, r->env ? r->env : sizeof(word) == 8 ? K64 : K32, code);
	c.ax = r->ax;
	c.cx = r->cx;
	c.dx = r->dx;
	c.bx = r->bx;
	c.bp = r->bp;
	c.si = r->si;
	c.di = r->di;
	c.sp = r->sp ? r->sp : c.sp;
	c.cs = r->cs ? r->cs : c.cs;
	c.ss = r->ss ? r->ss : c.ss;
	c.ds = r->ds ? r->ds : c.ds;
	c.flags |= r->flags;
	run(&c);
	if (!check_trap_at(r->vec, r->err, (r->off || vec_is_fault(r->vec)) && !r->any_ip, c.ip + (word)r->off))
		return;
	if (r->vec == PF)
		check_eq("CR2", trap.cr2, r->cr2);
	if (r->check_ax)
		check_eq("AX", trap.r.ax, r->want_ax);
}

void guest_start(void)
{
	load_gdt();
	guest_main();
	print("%u passed, %u failed\n", (unsigned)passed, (unsigned)failed);
	/* The debug-exit port ends the machine with status value * 2 + 1. */
	outb(0xf4, failed || !passed ? 1 : 0);
	for (;;)
		__asm__ volatile("cli; hlt");
}
