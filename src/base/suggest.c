/*
 * suggest.c - edit distance with swaps of neighbours (optimal string alignment).
 *
 * Three rows of the usual table are enough: a swap looks two rows back. Words longer than WORD_MAX are no
 * typing mistakes of any name we have, so the rows have a fixed size.
 */
#include "base/suggest.h"

#include <ctype.h>
#include <string.h>

#define WORD_MAX 63

static unsigned min_u(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

unsigned edit_distance(const char *a, const char *b, unsigned limit)
{
	unsigned rows[3][WORD_MAX + 1], *before = rows[0], *prev = rows[1], *row = rows[2];
	size_t la = strnlen(a, WORD_MAX + 1), lb = strnlen(b, WORD_MAX + 1);

	if (la > WORD_MAX || lb > WORD_MAX)
		return limit + 1;
	for (size_t j = 0; j <= lb; j++)
		before[j] = prev[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			row[j] = prev[j - 1] + !same(a[i - 1], b[j - 1]);
			row[j] = min_u(row[j], min_u(prev[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				row[j] = min_u(row[j], before[j - 2] + 1);
		}
		before = prev;
		prev = row;
		row = spare;
	}
	return prev[lb] > limit ? limit + 1 : prev[lb];
}

const char *suggest(const char *word, const char *const *names, size_t n)
{
	size_t len = strnlen(word, WORD_MAX + 1);
	/* One mistake in a short word, two in a longer one, three in a long one. */
	unsigned limit = len < 4 ? 1 : len < 8 ? 2 : 3;
	const char *best = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned d = names[i] ? edit_distance(word, names[i], limit) : limit + 1;

		if (d <= limit) {
			best = names[i];
			if (!d)
				break;
			limit = d - 1;
		}
	}
	return best;
}
