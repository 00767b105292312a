/*
 * acpi_aml.h - writing ACPI Machine Language (ACPI 6.5, chapter 20) into a buffer of fixed size.
 *
 * Calls append; aml_end() closes what aml_scope(), aml_device(), ... opened and writes its length.
 * The first thing that does not fit or nest sets `failed`, and nothing is written after that:
 * callers check it once, at the end.
 */
#ifndef RINGER_VM_ACPI_AML_H
#define RINGER_VM_ACPI_AML_H

#include "base/base.h"

#define AML_DEPTH 12

struct aml {
	uint8_t *buf;
	size_t len, cap;
	bool failed;
	struct {
		size_t start;  /* where the package length goes */
		size_t buffer; /* resource template: where its size goes; 0 otherwise */
	} open[AML_DEPTH];
	unsigned depth;
};

void aml_init(struct aml *a, uint8_t *buf, size_t cap);
void aml_bytes(struct aml *a, const void *data, size_t len);
/* A name, defined or referred to: also a method that is called, or a field's value. */
void aml_path(struct aml *a, const char *path);
/* Begins a package of any kind, after its opcode: for acpi_aml_code.c. */
void aml_open(struct aml *a);

/* Each of these is closed by aml_end(). Paths: "\\_SB.PCI0" or "PCI0"; short segments are padded. */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, unsigned count);
void aml_end(struct aml *a);

/* Name (path, ...): followed by one data object. */
void aml_name(struct aml *a, const char *path);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);
/* "PNP0A08" as the 32-bit number that _HID takes (section 6.1.5). */
void aml_eisaid(struct aml *a, const char *id);
void aml_buffer(struct aml *a, const void *data, uint8_t len);

static inline void aml_name_int(struct aml *a, const char *path, uint64_t v)
{
	aml_name(a, path);
	aml_int(a, v);
}

/* Name (path, ResourceTemplate () {...}), closed by aml_end_resources(). Section 6.4. */
void aml_resources(struct aml *a, const char *path);
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq);
void aml_res_memory(struct aml *a, uint32_t base, uint32_t len);
void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_res_memory_window(struct aml *a, uint32_t first, uint32_t last);
void aml_res_memory64_window(struct aml *a, uint64_t first, uint64_t last);
void aml_end_resources(struct aml *a);

/*
 * Code (acpi_aml_code.c), in the order of its encoding: operator, then operands. aml_store(): value, target.
 * aml_and(): two values, target. aml_equal(): two values. aml_notify(): device, value. aml_return(): value. aml_if()
 * and aml_while(): condition, then statements, closed by aml_end(); so is a method.
 */
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_local(struct aml *a, unsigned n);
void aml_arg(struct aml *a, unsigned n);
void aml_store(struct aml *a);
void aml_and(struct aml *a);
void aml_no_target(struct aml *a);
void aml_equal(struct aml *a);
void aml_notify(struct aml *a);
void aml_return(struct aml *a);
void aml_return_arg(struct aml *a, unsigned arg);
void aml_if(struct aml *a);
void aml_while(struct aml *a);
void aml_break(struct aml *a);
void aml_mutex(struct aml *a, const char *name);
void aml_acquire(struct aml *a, const char *mutex);
void aml_release(struct aml *a, const char *mutex);

/* Ports, and registers among them, in ascending order; aml_fields() is closed by aml_end(). */
enum aml_access { AML_BYTE_ACCESS = 1, AML_DWORD_ACCESS = 3 };
void aml_io_region(struct aml *a, const char *name, uint16_t base, uint8_t len);
void aml_fields(struct aml *a, const char *region, enum aml_access access);
void aml_field(struct aml *a, const char *name, unsigned bytes);
void aml_field_gap(struct aml *a, unsigned bytes);

#endif
