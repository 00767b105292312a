/*
 * Slow paths of guest memory access. Everything that a TLB hit cannot answer comes here: the first touch of a
 * page, accesses across a page end, devices, code pages, breakpoints, alignment checks, and faults.
 *
 * An access is cut at the page end into at most two parts, and both are translated before any byte moves, so
 * that a fault on the second page leaves the first untouched (SDM vol. 3, 6.15, #PF: the access is restarted).
 */
#include "cpu/access.h"

#include "cpu/system.h"

_Noreturn void cpu_raise(struct vcpu *v, unsigned vector)
{
	v->event = (struct cpu_event){.vector = (uint8_t)vector};
	_longjmp(v->fault_jmp, 1);
}

_Noreturn void cpu_raise_error(struct vcpu *v, unsigned vector, uint32_t error)
{
	v->event = (struct cpu_event){.vector = (uint8_t)vector, .has_error = true, .error = error};
	_longjmp(v->fault_jmp, 1);
}

_Noreturn void cpu_raise_page_fault(struct vcpu *v, uint64_t va, uint32_t error)
{
	v->cr2 = va;
	cpu_raise_error(v, EXC_PF, error);
}

static _Noreturn void raise_segment(struct vcpu *v, unsigned seg)
{
	cpu_raise_error(v, seg == S_SS ? EXC_SS : EXC_GP, 0);
}

uint64_t cpu_linear_checked(struct vcpu *v, unsigned seg, uint64_t off, unsigned size, bool write)
{
	const struct segment *s = &v->seg[seg];
	uint64_t last = off + size - 1;

	if (cpu_protected(v)) {
		bool code = s->attr & SEG_CODE;

		if (s->attr & SEG_UNUSABLE)
			raise_segment(v, seg);
		if (write ? code || !(s->attr & SEG_RW) : code && !(s->attr & SEG_RW))
			raise_segment(v, seg);
	}
	if ((s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN) {
		uint64_t top = s->attr & SEG_DB ? 0xffffffff : 0xffff;

		if (off <= s->limit || last > top)
			raise_segment(v, seg);
	} else if (last > s->limit) {
		raise_segment(v, seg);
	}
	return (s->base + off) & 0xffffffff;
}

/* What alignment checking asks of an operand by its length: SDM vol. 3, table 6-7. */
static unsigned checked_alignment(unsigned len)
{
	switch (len) {
	case 1:
	case 2:
	case 4:
	case 8:
		return len;
	case 10: /* x87 extended precision and packed decimal */
		return 8;
	case 14: /* x87 environment and state, in 16-bit... */
	case 94:
		return 2;
	case 28: /* ... and 32-bit format */
	case 108:
		return 4;
	default: /* vectors have rules of their own: struct cpu_op's align */
		return 1;
	}
}

static void check_alignment(struct vcpu *v, uint64_t lin, unsigned len)
{
	if (v->align_check && (lin & (checked_alignment(len) - 1)))
		cpu_raise_error(v, EXC_AC, 0);
}

/* Translates the one or two pages of an access; returns the bytes in the first. Raises faults. */
static unsigned translate(struct vcpu *v, unsigned seg, uint64_t lin, unsigned len, enum mmu_access access,
			  unsigned mode, struct mmu_result r[2])
{
	unsigned first = (unsigned)min_u64(len, GUEST_PAGE_SIZE - (lin & 0xfff));
	uint64_t second = lin + first;

	if (!canonical(lin) || !canonical(lin + len - 1))
		raise_segment(v, seg);
	/* Not for what is done on the system's behalf (descriptors, an inner stack), nor for parts of a vector. */
	if (mode == MMU_USER && seg != S_COUNT)
		check_alignment(v, lin, len);
	if (!cpu_long(v))
		second &= 0xffffffff;
	if (!mmu_translate(&v->mmu, lin, access, mode, &r[0]))
		cpu_raise_page_fault(v, lin, r[0].error);
	if (first < len && !mmu_translate(&v->mmu, second, access, mode, &r[1]))
		cpu_raise_page_fault(v, second, r[1].error);
	return first;
}

static void device_read(struct vcpu *v, uint64_t gpa, uint8_t *buf, unsigned len)
{
	cpu_lock(v);
	while (len) {
		unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
		uint64_t val = bus_read(v->bus, BUS_MMIO, gpa, n);

		memcpy(buf, &val, n);
		buf += n, gpa += n, len -= n;
	}
	cpu_unlock(v);
}

static void device_write(struct vcpu *v, uint64_t gpa, const uint8_t *buf, unsigned len)
{
	cpu_lock(v);
	while (len) {
		unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
		uint64_t val = 0;

		memcpy(&val, buf, n);
		bus_write(v->bus, BUS_MMIO, gpa, n, val);
		buf += n, gpa += n, len -= n;
	}
	cpu_unlock(v);
}

/* Within one page. Small aligned accesses stay single accesses, as other vCPUs may watch. */
static bool is_scalar(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

static void physical_read(struct vcpu *v, const struct mmu_result *r, void *buf, unsigned len)
{
	const void *host = r->device ? NULL : guest_ptr(v->mem, r->gpa, len);

	if (!host)
		device_read(v, r->gpa.v, buf, len);
	else if (is_scalar(len))
		store_once(buf, len, load_once(host, len));
	else
		memcpy(buf, host, len);
}

static void physical_write(struct vcpu *v, const struct mmu_result *r, const void *buf, unsigned len)
{
	void *host = r->device ? NULL : guest_ptr(v->mem, r->gpa, len);

	if (!host) {
		device_write(v, r->gpa.v, buf, len);
		return;
	}
	if (is_scalar(len))
		store_once(host, len, load_once(buf, len));
	else
		memcpy(host, buf, len);
	guest_mem_wrote(v->mem, r->gpa, len);
}

static void note_access(struct vcpu *v, uint64_t lin, unsigned len, bool write)
{
	if (unlikely(v->dr7 & 0xff))
		cpu_data_breakpoint(v, lin, len, write);
}

void cpu_read_slow(struct vcpu *v, unsigned seg, uint64_t lin, void *buf, unsigned len, unsigned mode)
{
	struct mmu_result r[2];
	unsigned first;

	first = translate(v, seg, lin, len, MMU_READ, mode, r);
	physical_read(v, &r[0], buf, first);
	if (first < len)
		physical_read(v, &r[1], (uint8_t *)buf + first, len - first);
	note_access(v, lin, len, false);
}

void cpu_write_slow(struct vcpu *v, unsigned seg, uint64_t lin, const void *buf, unsigned len, unsigned mode)
{
	struct mmu_result r[2];
	unsigned first;

	first = translate(v, seg, lin, len, MMU_WRITE, mode, r);
	physical_write(v, &r[0], buf, first);
	if (first < len)
		physical_write(v, &r[1], (const uint8_t *)buf + first, len - first);
	note_access(v, lin, len, true);
}

void cpu_probe(struct vcpu *v, unsigned seg, uint64_t lin, unsigned len, bool write, unsigned mode)
{
	struct mmu_result r[2];

	translate(v, seg, lin, len, write ? MMU_WRITE : MMU_READ, mode, r);
}

uint8_t cpu_update_sys(struct vcpu *v, uint64_t lin, uint8_t set, uint8_t clear)
{
	struct mmu_result r[2];
	uint8_t old, *host;

	translate(v, S_COUNT, lin, 1, MMU_WRITE, MMU_KERNEL, r);
	host = r[0].device ? NULL : guest_ptr(v->mem, r[0].gpa, 1);
	if (host) {
		old = __atomic_load_n(host, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(host, &old, (old | set) & ~clear, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
		guest_mem_wrote(v->mem, r[0].gpa, 1);
	} else {
		uint8_t new;

		device_read(v, r[0].gpa.v, &old, 1);
		new = (old | set) & ~clear;
		device_write(v, r[0].gpa.v, &new, 1);
	}
	note_access(v, lin, 1, true);
	return old;
}

/* Host address of the operand, of which all or p->first bytes are in the first page; NULL: it is not in one piece of RAM. */
static uint8_t *in_place(struct vcpu *v, const struct cpu_pin *p, const struct mmu_result r[2])
{
	bool side_by_side = p->first == p->len || (!r[1].device && r[1].gpa.v == r[0].gpa.v + p->first);

	return side_by_side && !r[0].device ? guest_ptr(v->mem, r[0].gpa, p->len) : NULL;
}

void cpu_pin(struct vcpu *v, struct cpu_pin *p, const struct cpu_op *op, uint64_t lin)
{
	struct mmu_result r[2];
	unsigned len = op->mem_size;

	p->write = op->flags & OP_WRITE;
	p->first = translate(v, op->seg, lin, len, p->write ? MMU_WRITE : MMU_READ, v->mmu_mode, r);
	p->lin = lin;
	p->len = len;
	p->gpa[0] = r[0].gpa;
	p->gpa[1] = p->first < len ? r[1].gpa : r[0].gpa;
	p->host = in_place(v, p, r);
	p->direct = p->host;
	p->locked = false;
	if (p->direct)
		return;
	p->host = v->bounce + (lin & 63);
	if (!(op->flags & OP_READ)) {
		memset(p->host, 0, len);
		return;
	}
	p->locked = p->first < len && len <= sizeof(p->old) && cpu_op_is_locked(op) && !r[0].device && !r[1].device;
	if (p->locked) {
		p->host = v->bounce; /* in one line: hosts make locked operations across two very slow */
		guest_mem_split_lock(v->mem);
	}
	physical_read(v, &r[0], p->host, p->first);
	if (p->first < len)
		physical_read(v, &r[1], p->host + p->first, len - p->first);
	if (p->locked)
		memcpy(p->old, p->host, len);
}

void cpu_pin_done(struct vcpu *v, struct cpu_pin *p)
{
	note_access(v, p->lin, p->len, p->write);
	if (!p->write)
		return;
	if (p->direct) {
		guest_mem_wrote(v->mem, p->gpa[0], p->len);
		return;
	}
	for (unsigned i = 0, at = 0; i < 2 && at < p->len; i++) {
		unsigned n = i ? p->len - p->first : p->first;
		struct mmu_result r = {.gpa = p->gpa[i], .device = !guest_ptr(v->mem, p->gpa[i], n)};

		if (!p->locked || memcmp(p->old + at, p->host + at, n))
			physical_write(v, &r, p->host + at, n);
		at += n;
	}
	if (p->locked)
		guest_mem_split_unlock(v->mem);
}
