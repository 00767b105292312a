/*
 * shrink.h - makes a case that shows a fault smaller while it still does.
 */
#ifndef RINGER_DIFF_SHRINK_H
#define RINGER_DIFF_SHRINK_H

#include "case.h"

/* How often a case is tried at most. */
enum { SHRINK_TRIALS = 1500 };

/* Whether the case still shows it. */
struct trial {
	bool (*shows)(void *ctx, const struct diff_case *c);
	void *ctx;
	unsigned count; /* of calls so far */
	unsigned stuck; /* calls that ran into a time limit: counted by shows() */
};

/* Instructions of the case that are not NOPs. */
unsigned shrink_size(const struct diff_case *c);
/*
 * Instructions become NOPs of one byte each, so that nothing moves and a jump to anywhere finds
 * NOPs; those that are pinned go last, as long as few of the cases that come of it run for ever.
 * And the starting state is emptied as far as it goes.
 */
void shrink(struct trial *t, struct diff_case *c);
/* Of a straight block: the offset of the instruction after which the fault first shows; code_len
 * when it is not straight or shows only as a whole. */
unsigned shrink_first(struct trial *t, const struct diff_case *c);

#endif
