/*
 * A heap-ordered tree of any arity. A node's children are a list from `child` along `sibling`;
 * `prev` is the left sibling, or the parent for the leftmost child, so that any node can be cut out
 * at once.
 */
#include "host/timer_heap.h"

/* Joins two roots (either may be NULL). On equal deadlines a stays on top. */
static struct loop_timer *meld(struct loop_timer *a, struct loop_timer *b)
{
	struct loop_timer *t;

	if (!a)
		return b;
	if (!b)
		return a;
	if (b->deadline_ns < a->deadline_ns) {
		t = a;
		a = b;
		b = t;
	}
	b->sibling = a->child;
	if (a->child)
		a->child->prev = b;
	b->prev = a;
	a->child = b;
	return a;
}

/* Makes one tree of a list of siblings: pairs first, then the pairs from last to first. */
static struct loop_timer *meld_all(struct loop_timer *first)
{
	struct loop_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct loop_timer *a = first, *b = a->sibling;

		first = b ? b->sibling : NULL;
		a->sibling = NULL;
		if (b)
			b->sibling = NULL;
		a = meld(a, b);
		a->sibling = pairs;
		pairs = a;
	}
	while (pairs) {
		struct loop_timer *next = pairs->sibling;

		pairs->sibling = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	if (root)
		root->prev = NULL;
	return root;
}

void timer_heap_add(struct timer_heap *h, struct loop_timer *t)
{
	t->child = t->sibling = t->prev = NULL;
	h->root = meld(h->root, t);
}

void timer_heap_remove(struct timer_heap *h, struct loop_timer *t)
{
	struct loop_timer *children = meld_all(t->child);

	if (t == h->root) {
		h->root = children;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->sibling;
		else
			t->prev->sibling = t->sibling;
		if (t->sibling)
			t->sibling->prev = t->prev;
		h->root = meld(h->root, children);
	}
	t->child = t->sibling = t->prev = NULL;
}
