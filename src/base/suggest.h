/* suggest.h - "did you mean ...?": the known name nearest to a mistyped word. No state. */
#ifndef RINGER_BASE_SUGGEST_H
#define RINGER_BASE_SUGGEST_H

#include "base/base.h"

/*
 * The one of n names that differs least from word (letter case ignored), the first of equals; NULL when none
 * is near enough for a typing mistake. NULL entries in names are skipped.
 */
const char *suggest(const char *word, const char *const *names, size_t n);

/* Edits (insert, delete, replace, swap of neighbours) between a and b; limit + 1 when there are more. */
unsigned edit_distance(const char *a, const char *b, unsigned limit);

#endif
