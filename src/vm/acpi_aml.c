/* acpi_aml.c - see acpi_aml.h. Opcodes and encodings: ACPI 6.5, sections 20.2 and 6.4. */
#include "vm/acpi_aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	EXT_DEVICE = 0x82,
};

/* Package lengths always take this form: 4 + 8 + 8 bits, lead byte 10xxnnnn (20.2.4). */
#define PKG_LENGTH 3
#define PKG_LENGTH_MAX 0xfffff

void aml_init(struct aml *a, uint8_t *buf, size_t cap)
{
	*a = (struct aml){.buf = buf, .cap = cap};
}

void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (a->failed || len > a->cap - a->len) {
		a->failed = true;
		return;
	}
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

static void byte(struct aml *a, uint8_t v)
{
	aml_bytes(a, &v, 1);
}

static void le(struct aml *a, uint64_t v, unsigned size)
{
	aml_bytes(a, &v, size);
}

/* NameSeg: padded with underscores; p ends at a dot or the string's end. */
static const char *segment(struct aml *a, const char *p)
{
	char seg[4] = {'_', '_', '_', '_'};
	unsigned n = 0;

	for (; *p && *p != '.'; p++) {
		if (n < sizeof(seg))
			seg[n++] = *p;
		else
			a->failed = true;
	}
	aml_bytes(a, seg, sizeof(seg));
	return *p ? p + 1 : p;
}

void aml_path(struct aml *a, const char *p)
{
	unsigned count = 1;

	if (*p == '\\')
		byte(a, (uint8_t)*p++);
	if (!*p) { /* NullName */
		byte(a, 0);
		return;
	}
	for (const char *q = p; *q; q++)
		count += *q == '.';
	if (count == 2)
		byte(a, OP_DUAL_NAME);
	if (count > 2) {
		byte(a, OP_MULTI_NAME);
		byte(a, (uint8_t)count);
	}
	while (*p)
		p = segment(a, p);
}

void aml_open(struct aml *a)
{
	if (a->depth == AML_DEPTH) {
		a->failed = true;
		return;
	}
	a->open[a->depth].buffer = 0;
	a->open[a->depth++].start = a->len;
	aml_bytes(a, "\0\0\0", PKG_LENGTH);
}

void aml_end(struct aml *a)
{
	size_t len;
	uint8_t *p;

	if (a->failed || a->depth == 0) {
		a->failed = true;
		return;
	}
	p = a->buf + a->open[--a->depth].start;
	len = (size_t)(a->buf + a->len - p); /* counts itself */
	if (len > PKG_LENGTH_MAX)
		a->failed = true;
	p[0] = (uint8_t)(0x80 | (len & 0xf));
	p[1] = (uint8_t)(len >> 4);
	p[2] = (uint8_t)(len >> 12);
}

void aml_scope(struct aml *a, const char *path)
{
	byte(a, OP_SCOPE);
	aml_open(a);
	aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
	byte(a, OP_EXT);
	byte(a, EXT_DEVICE);
	aml_open(a);
	aml_path(a, name);
}

void aml_package(struct aml *a, unsigned count)
{
	if (count > 255)
		a->failed = true;
	byte(a, OP_PACKAGE);
	aml_open(a);
	byte(a, (uint8_t)count);
}

void aml_name(struct aml *a, const char *path)
{
	byte(a, OP_NAME);
	aml_path(a, path);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		byte(a, OP_BYTE);
		le(a, v, 1);
	} else if (v <= UINT16_MAX) {
		byte(a, OP_WORD);
		le(a, v, 2);
	} else if (v <= UINT32_MAX) {
		byte(a, OP_DWORD);
		le(a, v, 4);
	} else {
		byte(a, OP_QWORD);
		le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	byte(a, OP_STRING);
	aml_bytes(a, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of 5 bits and four hexadecimal digits, most significant byte first. */
void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = 0;

	if (strlen(id) != 7) {
		a->failed = true;
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	byte(a, OP_DWORD);
	le(a, __builtin_bswap32(v), 4);
}

void aml_buffer(struct aml *a, const void *data, uint8_t len)
{
	byte(a, OP_BUFFER);
	aml_open(a);
	aml_int(a, len);
	aml_bytes(a, data, len);
	aml_end(a);
}

void aml_resources(struct aml *a, const char *path)
{
	aml_name(a, path);
	byte(a, OP_BUFFER);
	aml_open(a);
	byte(a, OP_WORD);
	if (a->depth)
		a->open[a->depth - 1].buffer = a->len;
	le(a, 0, 2);
}

void aml_end_resources(struct aml *a)
{
	size_t at;
	uint16_t size;

	le(a, 0x0079, 2); /* end tag; checksum 0: not checked */
	if (a->failed || a->depth == 0)
		return;
	at = a->open[a->depth - 1].buffer;
	size = (uint16_t)(a->len - at - 2);
	memcpy(a->buf + at, &size, 2);
	aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	le(a, 0x0147, 2); /* I/O port descriptor, decodes 16 bits */
	le(a, base, 2);
	le(a, base, 2);
	byte(a, 1);
	byte(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
	byte(a, 0x22); /* edge-triggered, active high */
	le(a, 1U << irq, 2);
}

void aml_res_memory(struct aml *a, uint32_t base, uint32_t len)
{
	byte(a, 0x86);
	le(a, 9, 2);
	byte(a, 1); /* writable */
	le(a, base, 4);
	le(a, len, 4);
}

/* Address space descriptors (6.4.3.5): `word` bytes per number; first and last are fixed. */
static void window(struct aml *a, unsigned word, uint8_t type, uint8_t type_flags, uint64_t first,
		   uint64_t last)
{
	byte(a, word == 2 ? 0x88 : word == 4 ? 0x87 : 0x8a);
	le(a, 3 + 5 * word, 2);
	byte(a, type);
	byte(a, 0x0c); /* minimum and maximum fixed, positively decoded, produced for children */
	byte(a, type_flags);
	le(a, 0, word); /* granularity */
	le(a, first, word);
	le(a, last, word);
	le(a, 0, word); /* translation */
	le(a, last - first + 1, word);
}

void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 2, 2, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 2, 1, 3, first, last); /* entire range */
}

void aml_res_memory_window(struct aml *a, uint32_t first, uint32_t last)
{
	window(a, 4, 0, 1, first, last); /* read-write, not cacheable */
}

void aml_res_memory64_window(struct aml *a, uint64_t first, uint64_t last)
{
	window(a, 8, 0, 1, first, last);
}
