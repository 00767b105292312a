/* integer.c - integer compute kernels: matrix, linked list, CRC, state machine, sort. */
#include <string.h>
#include "bench.h"

/* 32x32 integer matrix product */

enum { N = 32 };

uint64_t k_int_matrix(uint64_t units)
{
	static int32_t a[N][N], b[N][N], c[N][N];
	uint64_t h = 0;

	while (units--) {
		uint32_t s = 12345;

		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				a[i][j] = (int32_t)(xorshift32(&s) & 0xfff) - 2048;
				b[i][j] = (int32_t)(xorshift32(&s) & 0xfff) - 2048;
			}
		h = 0;
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				int32_t t = 0;

				for (int k = 0; k < N; k++)
					t += (a[i][k] * b[k][j]) >> 3;
				c[i][j] = t;
				h = h * 31 + (uint32_t)c[i][j];
			}
	}
	return h;
}

/* Linked list: build shuffled, merge sort, reverse, search */

struct node {
	struct node *next;
	uint32_t key;
	uint32_t tag;
};

static struct node *merge(struct node *x, struct node *y)
{
	struct node head, *t = &head;

	while (x && y) {
		if (x->key <= y->key) {
			t->next = x;
			x = x->next;
		} else {
			t->next = y;
			y = y->next;
		}
		t = t->next;
	}
	t->next = x ? x : y;
	return head.next;
}

static struct node *sort_list(struct node *l)
{
	struct node *slow = l, *fast;

	if (!l || !l->next)
		return l;
	for (fast = l->next; fast && fast->next; fast = fast->next->next)
		slow = slow->next;
	fast = slow->next;
	slow->next = NULL;
	return merge(sort_list(l), sort_list(fast));
}

uint64_t k_int_list(uint64_t units)
{
	enum { NODES = 512, LOOKUPS = 64 };
	static struct node pool[NODES];
	uint64_t h = 0;

	while (units--) {
		struct node *l = NULL, *r = NULL, *n;
		uint32_t s = 777;

		for (int i = 0; i < NODES; i++) {
			n = &pool[(i * 37) % NODES];
			n->key = xorshift32(&s) & 0xffff;
			n->tag = (uint32_t)i;
			n->next = l;
			l = n;
		}
		l = sort_list(l);
		while (l) {
			n = l->next;
			l->next = r;
			r = l;
			l = n;
		}
		h = 0;
		for (int i = 0; i < LOOKUPS; i++) {
			uint32_t want = xorshift32(&s) & 0xffff;

			for (n = r; n && n->key > want; n = n->next)
				;
			h = h * 131 + (n ? n->tag : 0);
		}
	}
	return h;
}

/* CRC-32, table driven, byte at a time */

static uint32_t crc_table[256];

static void crc_init(void)
{
	if (crc_table[1])
		return;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? (c >> 1) ^ 0xedb88320u : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc32(const uint8_t *p, size_t n)
{
	uint32_t c = ~0u;

	while (n--)
		c = crc_table[(c ^ *p++) & 0xff] ^ (c >> 8);
	return ~c;
}

uint64_t k_int_crc(uint64_t units)
{
	static uint8_t buf[16384];
	uint32_t s = 99, c = 0;

	crc_init();
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (uint8_t)xorshift32(&s);
	while (units--) {
		asm volatile("" : : "r"(buf) : "memory");
		c = crc32(buf, sizeof buf);
	}
	return c;
}

/* State machine: classify number tokens in a byte stream */

enum st { START, SIGN, INT, DOT, FRAC, EXP, ESIGN, EDIG, BAD, NSTATES };

static enum st step(enum st s, uint8_t ch)
{
	switch (s) {
	case START:
		if (ch >= '0' && ch <= '9')
			return INT;
		if (ch == '+' || ch == '-')
			return SIGN;
		return ch == '.' ? DOT : BAD;
	case SIGN:
		if (ch >= '0' && ch <= '9')
			return INT;
		return ch == '.' ? DOT : BAD;
	case INT:
		if (ch >= '0' && ch <= '9')
			return INT;
		if (ch == '.')
			return FRAC;
		return ch == 'e' ? EXP : BAD;
	case DOT:
		return ch >= '0' && ch <= '9' ? FRAC : BAD;
	case FRAC:
		if (ch >= '0' && ch <= '9')
			return FRAC;
		return ch == 'e' ? EXP : BAD;
	case EXP:
		if (ch == '+' || ch == '-')
			return ESIGN;
		return ch >= '0' && ch <= '9' ? EDIG : BAD;
	case ESIGN:
	case EDIG:
		return ch >= '0' && ch <= '9' ? EDIG : BAD;
	default:
		return BAD;
	}
}

uint64_t k_int_state(uint64_t units)
{
	static const char alphabet[] = "0123456789012345+-.e,,,x";
	static uint8_t text[8192];
	uint32_t s = 4242;
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)alphabet[xorshift32(&s) % (sizeof alphabet - 1)];
	while (units--) {
		uint32_t count[NSTATES] = {0};
		enum st q = START;

		asm volatile("" : : "r"(text) : "memory");
		for (size_t i = 0; i < sizeof text; i++) {
			if (text[i] == ',') {
				count[q]++;
				q = START;
			} else {
				q = step(q, text[i]);
			}
		}
		h = 0;
		for (int i = 0; i < NSTATES; i++)
			h = h * 1009 + count[i];
	}
	return h;
}

/* The four together, in fixed proportion */

uint64_t k_int_mix(uint64_t units)
{
	uint64_t h = 0;

	while (units--) {
		h = mix64(0, k_int_matrix(1));
		h = mix64(h, k_int_list(1));
		h = mix64(h, k_int_crc(1));
		h = mix64(h, k_int_state(2));
	}
	return h;
}

/* In-place quicksort of 4096 ints */

static void quicksort(int32_t *v, long lo, long hi)
{
	while (lo < hi) {
		int32_t p = v[(lo + hi) / 2];
		long i = lo, j = hi;

		while (i <= j) {
			while (v[i] < p)
				i++;
			while (v[j] > p)
				j--;
			if (i <= j) {
				int32_t t = v[i];

				v[i++] = v[j];
				v[j--] = t;
			}
		}
		if (j - lo < hi - i) {
			quicksort(v, lo, j);
			lo = i;
		} else {
			quicksort(v, i, hi);
			hi = j;
		}
	}
}

uint64_t k_int_sort(uint64_t units)
{
	enum { COUNT = 4096 };
	static int32_t v[COUNT];
	uint64_t h = 0;

	while (units--) {
		uint32_t s = 31337;

		for (int i = 0; i < COUNT; i++)
			v[i] = (int32_t)xorshift32(&s);
		quicksort(v, 0, COUNT - 1);
		h = 0;
		for (int i = 0; i < COUNT; i += 64)
			h = mix64(h, (uint32_t)v[i]);
	}
	return h;
}
