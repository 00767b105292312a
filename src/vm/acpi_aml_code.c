/* acpi_aml_code.c - methods and what they are made of: see acpi_aml.h. Opcodes: ACPI 6.5, section 20.2.5. */
#include "vm/acpi_aml.h"

enum {
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_ARG0 = 0x68,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_NOTIFY = 0x86,
	OP_LEQUAL = 0x93,
	OP_IF = 0xa0,
	OP_WHILE = 0xa2,
	OP_RETURN = 0xa4,
	OP_BREAK = 0xa5,
	EXT_MUTEX = 0x01,
	EXT_ACQUIRE = 0x23,
	EXT_RELEASE = 0x27,
	EXT_REGION = 0x80,
	EXT_FIELD = 0x81,
	SPACE_IO = 1,
};

static void byte(struct aml *a, unsigned v)
{
	uint8_t b = (uint8_t)v;

	aml_bytes(a, &b, 1);
}

static void ext(struct aml *a, unsigned op)
{
	byte(a, OP_EXT);
	byte(a, op);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	byte(a, OP_METHOD);
	aml_open(a);
	aml_path(a, name);
	byte(a, args & 7); /* not serialized */
}

void aml_io_region(struct aml *a, const char *name, uint16_t base, uint8_t len)
{
	ext(a, EXT_REGION);
	aml_path(a, name);
	byte(a, SPACE_IO);
	aml_int(a, base);
	aml_int(a, len);
}

void aml_fields(struct aml *a, const char *region, enum aml_access access)
{
	ext(a, EXT_FIELD);
	aml_open(a);
	aml_path(a, region);
	byte(a, access | 2u << 5); /* no lock; bits not named are written as zeros */
}

/* A package length without a package: one byte up to 63 bits, else two. */
static void bit_length(struct aml *a, unsigned bits)
{
	if (bits > 0xfff) {
		a->failed = true;
	} else if (bits <= 63) {
		byte(a, bits);
	} else {
		byte(a, 0x40 | (bits & 0xf));
		byte(a, bits >> 4);
	}
}

void aml_field(struct aml *a, const char *name, unsigned bytes)
{
	aml_path(a, name);
	bit_length(a, bytes * 8);
}

void aml_field_gap(struct aml *a, unsigned bytes)
{
	byte(a, 0);
	bit_length(a, bytes * 8);
}

void aml_mutex(struct aml *a, const char *name)
{
	ext(a, EXT_MUTEX);
	aml_path(a, name);
	byte(a, 0); /* sync level */
}

void aml_acquire(struct aml *a, const char *mutex)
{
	ext(a, EXT_ACQUIRE);
	aml_path(a, mutex);
	aml_bytes(a, "\xff\xff", 2); /* without limit */
}

void aml_release(struct aml *a, const char *mutex)
{
	ext(a, EXT_RELEASE);
	aml_path(a, mutex);
}

void aml_local(struct aml *a, unsigned n)
{
	byte(a, OP_LOCAL0 + n);
}

void aml_arg(struct aml *a, unsigned n)
{
	byte(a, OP_ARG0 + n);
}

void aml_store(struct aml *a)
{
	byte(a, OP_STORE);
}

void aml_and(struct aml *a)
{
	byte(a, OP_AND);
}

void aml_equal(struct aml *a)
{
	byte(a, OP_LEQUAL);
}

void aml_no_target(struct aml *a)
{
	byte(a, 0);
}

void aml_notify(struct aml *a)
{
	byte(a, OP_NOTIFY);
}

void aml_return(struct aml *a)
{
	byte(a, OP_RETURN);
}

void aml_return_arg(struct aml *a, unsigned arg)
{
	aml_return(a);
	aml_arg(a, arg);
}

void aml_if(struct aml *a)
{
	byte(a, OP_IF);
	aml_open(a);
}

void aml_while(struct aml *a)
{
	byte(a, OP_WHILE);
	aml_open(a);
}

void aml_break(struct aml *a)
{
	byte(a, OP_BREAK);
}
