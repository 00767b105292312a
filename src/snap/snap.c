/*
 * The stream, all numbers little-endian:
 *
 *   object: u8 name length, name, u16 version, u16 number of fields, fields
 *   field:  u8 name length, name, u8 kind, u16 size, u16 count, count elements of size bytes
 *
 * Reading takes two passes over the same bytes: the first compares everything with the table and
 * looks at no more than the stream has; only when all of it fits does the second store values.
 */
#include "snap/snap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void snap_stream_free(struct snap_stream *s)
{
	free(s->data);
	*s = (struct snap_stream){ 0 };
}

static uint64_t load(const void *p, unsigned size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void store(void *p, unsigned size, uint64_t v)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)v;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)v;
		break;
	default:
		*(uint64_t *)p = v;
		break;
	}
}

void snap_reset(const struct snap_desc *d, void *obj, bool power_on)
{
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct snap_field *f = &d->fields[i];
		char *p = (char *)obj + f->offset;

		if (f->keep_on_reset && !power_on)
			continue;
		for (unsigned k = 0; k < f->count; k++, p += f->size) {
			if (f->kind == SNAP_BYTES)
				memset(p, (uint8_t)f->reset, f->size);
			else if (f->kind == SNAP_BOOL)
				*(bool *)p = f->reset != 0;
			else
				store(p, f->size, f->reset);
		}
	}
}

/* Writing */

static int append(struct snap_stream *s, const void *data, size_t len)
{
	size_t cap = s->cap ? s->cap : 256;
	uint8_t *p;

	if (len > s->cap - s->len) {
		while (cap - s->len < len)
			cap *= 2;
		p = realloc(s->data, cap);
		if (!p)
			return -ENOMEM;
		s->data = p;
		s->cap = cap;
	}
	if (len)
		memcpy(s->data + s->len, data, len);
	s->len += len;
	return 0;
}

static int append_number(struct snap_stream *s, uint64_t v, unsigned size)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	return append(s, bytes, size);
}

static int append_name(struct snap_stream *s, const char *name)
{
	size_t len = strlen(name);
	int r;

	if (len > 255)
		return -EINVAL;
	r = append_number(s, len, 1);
	return r < 0 ? r : append(s, name, len);
}

static int write_field(const struct snap_field *f, const void *obj, struct snap_stream *s)
{
	const char *p = (const char *)obj + f->offset;
	int r = append_name(s, f->name);

	if (r == 0)
		r = append_number(s, f->kind, 1);
	if (r == 0)
		r = append_number(s, f->size, 2);
	if (r == 0)
		r = append_number(s, f->count, 2);
	for (unsigned k = 0; r == 0 && k < f->count; k++, p += f->size)
		r = f->kind == SNAP_BYTES ? append(s, p, f->size)
					  : append_number(s, load(p, f->size), f->size);
	return r;
}

int snap_write(const struct snap_desc *d, const void *obj, struct snap_stream *s)
{
	size_t start = s->len;
	int r = append_name(s, d->name);

	if (r == 0)
		r = append_number(s, d->version, 2);
	if (r == 0)
		r = append_number(s, d->n_fields, 2);
	for (size_t i = 0; r == 0 && i < d->n_fields; i++)
		r = write_field(&d->fields[i], obj, s);
	if (r < 0)
		s->len = start;
	return r;
}

/* Reading */

/* The next len bytes, or NULL when the stream ends before. */
static const uint8_t *take(struct snap_stream *s, size_t len)
{
	const uint8_t *p;

	if (!range_within(s->pos, len, s->len))
		return NULL;
	p = s->data + s->pos;
	s->pos += len;
	return p;
}

static uint64_t number_at(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static bool take_number(struct snap_stream *s, unsigned size, uint64_t *v)
{
	const uint8_t *p = take(s, size);

	if (!p)
		return false;
	*v = number_at(p, size);
	return true;
}

static bool take_name(struct snap_stream *s, const char *name)
{
	const uint8_t *p;
	uint64_t len;

	if (!take_number(s, 1, &len) || len != strlen(name))
		return false;
	p = take(s, len);
	return p && memcmp(p, name, len) == 0;
}

static int check_field(const struct snap_desc *d, const struct snap_field *f, struct snap_stream *s,
		       struct err *err)
{
	uint64_t kind, size, count;
	const uint8_t *data;

	if (!take_name(s, f->name))
		return err_set(err, EINVAL, "state of %s: field %s is missing", d->name, f->name);
	if (!take_number(s, 1, &kind) || !take_number(s, 2, &size) || !take_number(s, 2, &count) ||
	    kind != f->kind || size != f->size || count != f->count)
		return err_set(err, EINVAL, "state of %s: field %s has another type", d->name,
			       f->name);
	data = take(s, size * count);
	if (!data)
		return err_set(err, EINVAL, "state of %s: cut off within field %s", d->name,
			       f->name);
	for (uint64_t k = 0; f->kind == SNAP_BOOL && k < count; k++)
		if (data[k] > 1)
			return err_set(err, EINVAL, "state of %s: field %s is neither 0 nor 1",
				       d->name, f->name);
	return 0;
}

static int check_object(const struct snap_desc *d, struct snap_stream *s, struct err *err)
{
	uint64_t version, n_fields;
	int r = 0;

	if (!take_name(s, d->name))
		return err_set(err, EINVAL, "state of %s expected, something else found", d->name);
	if (!take_number(s, 2, &version) || version != d->version)
		return err_set(err, EINVAL, "state of %s is not of version %u", d->name,
			       d->version);
	if (!take_number(s, 2, &n_fields) || n_fields != d->n_fields)
		return err_set(err, EINVAL, "state of %s does not have %zu fields", d->name,
			       d->n_fields);
	for (size_t i = 0; r == 0 && i < d->n_fields; i++)
		r = check_field(d, &d->fields[i], s, err);
	return r;
}

/* The field's bytes in a stream that has been checked. */
static void store_field(const struct snap_field *f, void *obj, const uint8_t *data)
{
	char *p = (char *)obj + f->offset;

	for (unsigned k = 0; k < f->count; k++, p += f->size, data += f->size) {
		if (f->kind == SNAP_BYTES)
			memcpy(p, data, f->size);
		else if (f->kind == SNAP_BOOL)
			*(bool *)p = data[0];
		else
			store(p, f->size, number_at(data, f->size));
	}
}

int snap_read(const struct snap_desc *d, void *obj, struct snap_stream *s, struct err *err)
{
	size_t start = s->pos, pos;
	int r = check_object(d, s, err);

	if (r < 0) {
		s->pos = start;
		return r;
	}
	pos = start + 1 + strlen(d->name) + 2 + 2;
	for (size_t i = 0; i < d->n_fields; i++) {
		const struct snap_field *f = &d->fields[i];

		pos += 1 + strlen(f->name) + 1 + 2 + 2;
		store_field(f, obj, s->data + pos);
		pos += (size_t)f->size * f->count;
	}
	return 0;
}
