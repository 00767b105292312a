/* emit.c - encodes instructions into a case. */
#include <string.h>

#include "emit.h"

bool room(const struct diff_case *c, size_t n)
{
	return c->code_len + n <= sizeof(c->code);
}

uint64_t here(const struct diff_case *c)
{
	return DIFF_CODE + c->code_off + c->code_len;
}

void put(struct diff_case *c, const void *bytes, size_t len)
{
	if (!room(c, len))
		return;
	memcpy(c->code + c->code_len, bytes, len);
	c->code_len = (uint16_t)(c->code_len + len);
}

void put_pinned(struct diff_case *c, const void *bytes, size_t len)
{
	for (size_t i = c->code_len; i < c->code_len + len && i < sizeof(c->code); i++)
		c->pinned[i / 8] |= (uint8_t)(1u << i % 8);
	put(c, bytes, len);
}

void put_mov(struct diff_case *c, unsigned reg, uint64_t value)
{
	uint8_t b[10] = {(uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7))};
	bool wide = c->mode == X86_MODE_64;

	memcpy(b + 2, &value, 8);
	if (wide)
		put(c, b, 10);
	else
		put(c, b + 1, 5);
}

/* Prefixes and opcode. */
static unsigned head(uint8_t *b, unsigned prefix, unsigned width, unsigned op, unsigned rex)
{
	unsigned n = 0;

	if (prefix)
		b[n++] = (uint8_t)prefix;
	if (width == 2)
		b[n++] = 0x66;
	if (width == 8)
		rex |= 0x48;
	if (rex)
		b[n++] = (uint8_t)(0x40 | rex);
	for (unsigned shift = 16; shift; shift -= 8)
		if (op >> shift)
			b[n++] = (uint8_t)(op >> shift);
	b[n++] = (uint8_t)op;
	return n;
}

void put_rr(struct diff_case *c, unsigned width, unsigned op, unsigned reg, unsigned rm)
{
	unsigned rex = (reg >> 3) << 2 | rm >> 3;
	uint8_t b[8];
	unsigned n;

	if (width == 1 && (reg >= 4 || rm >= 4))
		rex |= 0x40; /* SPL, BPL, SIL, DIL */
	n = head(b, 0, width, op, rex);
	b[n++] = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
	put(c, b, n);
}

static unsigned modrm_mem(uint8_t *b, unsigned reg, const struct mem *m)
{
	unsigned ss = m->scale == 8 ? 3 : m->scale == 4 ? 2 : m->scale == 2 ? 1 : 0, n = 0;
	bool sib = m->base == NO_REG || m->index != NO_REG || (m->base & 7) == R_SP;
	unsigned mod = m->base == NO_REG                   ? 0
		       : !m->disp && (m->base & 7) != R_BP ? 0
		       : m->disp >= -128 && m->disp <= 127 ? 1
							   : 2;
	unsigned base = m->base == NO_REG ? 5 : m->base & 7;
	unsigned index = m->index == NO_REG ? 4 : m->index & 7;

	b[n++] = (uint8_t)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : base));
	if (sib)
		b[n++] = (uint8_t)(ss << 6 | index << 3 | base);
	if (mod == 1) {
		b[n++] = (uint8_t)m->disp;
	} else if (mod == 2 || m->base == NO_REG) {
		memcpy(b + n, &m->disp, 4);
		n += 4;
	}
	return n;
}

static unsigned rex_mem(unsigned reg, const struct mem *m)
{
	unsigned x = m->index == NO_REG ? 0 : m->index >> 3,
		 b = m->base == NO_REG ? 0 : m->base >> 3;

	return (reg >> 3) << 2 | x << 1 | b;
}

void put_rm(struct diff_case *c, unsigned width, unsigned op, unsigned reg, const struct mem *m)
{
	unsigned rex = rex_mem(reg, m), n;
	uint8_t b[16];

	if (width == 1 && reg >= 4)
		rex |= 0x40;
	n = head(b, 0, width, op, rex);
	n += modrm_mem(b + n, reg, m);
	put(c, b, n);
}

void put_sse(struct diff_case *c, unsigned prefix, unsigned op, unsigned reg, const struct mem *m)
{
	uint8_t b[16];
	unsigned n = head(b, prefix, 4, op, rex_mem(reg, m));

	n += modrm_mem(b + n, reg, m);
	put(c, b, n);
}

void put_alu_imm(struct diff_case *c, unsigned width, unsigned alu, unsigned reg, int8_t imm)
{
	uint8_t b[8];
	unsigned rex = reg >> 3 | (width == 1 && reg >= 4 ? 0x40 : 0);
	unsigned n = head(b, 0, width, width == 1 ? 0x80 : 0x83, rex);

	b[n++] = (uint8_t)(0xc0 | alu << 3 | (reg & 7));
	b[n++] = (uint8_t)imm;
	put(c, b, n);
}

static void push_pop(struct diff_case *c, unsigned op, unsigned reg)
{
	uint8_t b[2] = {0x41, (uint8_t)(op | (reg & 7))};

	put(c, reg >= 8 ? b : b + 1, reg >= 8 ? 2 : 1);
}

void put_push(struct diff_case *c, unsigned reg)
{
	push_pop(c, 0x50, reg);
}

void put_pop(struct diff_case *c, unsigned reg)
{
	push_pop(c, 0x58, reg);
}

unsigned put_jump(struct diff_case *c, unsigned cc)
{
	uint8_t b[6] = {0x0f, (uint8_t)(0x80 | cc)};

	if (!room(c, 6))
		return sizeof(c->code);
	if (cc >= CC_JMP)
		b[1] = cc == CC_JMP ? 0xe9 : 0xe8;
	put(c, cc >= CC_JMP ? b + 1 : b, cc >= CC_JMP ? 5 : 6);
	return c->code_len - 4u;
}

void set_target(struct diff_case *c, unsigned at, unsigned target)
{
	uint32_t rel = target - (at + 4);

	if (at + 4 <= c->code_len)
		memcpy(c->code + at, &rel, 4);
}

unsigned pick_reg(const struct seq *q, uint64_t avoid)
{
	avoid |= q->keep | BIT(R_SP);
	for (unsigned t = 0; t < 64; t++) {
		unsigned n = (unsigned)(chance(q->r, 35) ? 10 + rnd_below(q->r, 2)
							 : rnd_below(q->r, 16));

		if (!(avoid >> n & 1))
			return n;
	}
	return R_AX;
}

unsigned pick_width(const struct seq *q)
{
	static const uint8_t width[] = {1, 2, 4, 4, 8, 8, 8};

	return width[rnd_below(q->r, ARRAY_SIZE(width))];
}
