/*
 * snap.h - declared state: a device says once, in a table, which of its fields are architectural
 * state. Reset, snapshot streams, `info` output and tests all read that table; nothing is dumped
 * raw.
 */
#ifndef RINGER_SNAP_SNAP_H
#define RINGER_SNAP_SNAP_H

#include "base/base.h"
#include "base/err.h"

enum snap_kind { SNAP_BOOL, SNAP_UINT, SNAP_BYTES };

/* One field, or an array of `count` equal ones. Values are stored little-endian in streams. */
struct snap_field {
	const char *name;
	uint32_t offset;
	uint16_t size;         /* bytes of one element: 1, 2, 4, 8 for SNAP_UINT */
	uint16_t count;        /* elements; 1 for a scalar */
	enum snap_kind kind;
	uint64_t reset;        /* value of each element after reset */
	bool keep_on_reset;    /* e.g. battery-backed RAM: only power-on sets it */
};

#define SNAP_U(type, field, reset_value)                                                           \
	{ #field, offsetof(type, field), sizeof(((type *)0)->field), 1, SNAP_UINT, reset_value, false }
#define SNAP_B(type, field, reset_value)                                                           \
	{ #field, offsetof(type, field), sizeof(bool), 1, SNAP_BOOL, reset_value, false }
#define SNAP_ARRAY(type, field, reset_value)                                                       \
	{ #field, offsetof(type, field), sizeof(((type *)0)->field[0]),                             \
	  ARRAY_SIZE(((type *)0)->field), SNAP_UINT, reset_value, false }

struct snap_desc {
	const char *name; /* unique within a machine's device classes, [a-z0-9-] */
	uint16_t version; /* raised when fields change meaning */
	const struct snap_field *fields;
	size_t n_fields;
};

/* Sets every field to its reset value; keep_on_reset fields only when power_on. */
void snap_reset(const struct snap_desc *d, void *obj, bool power_on);

/* Growing byte stream. data is owned by the stream. */
struct snap_stream {
	uint8_t *data;
	size_t len, cap, pos; /* pos: reading position */
};
void snap_stream_free(struct snap_stream *s);
/*
 * Appends one object: name, version, then each field with its name, so that streams explain
 * themselves.
 */
int snap_write(const struct snap_desc *d, const void *obj, struct snap_stream *s) must_check;
/*
 * Reads the next object into obj. The stream is hostile input: any mismatch is an error, obj and pos
 * are then unchanged.
 */
int snap_read(const struct snap_desc *d, void *obj, struct snap_stream *s,
	      struct err *err) must_check;

#endif
