/*
 * code.h - which pages hold code that an engine has cached, and how each vCPU learns that it was written.
 *
 * Theory of operation
 *
 * A *code user* is a vCPU: whatever its engine keeps of guest code is marked here, in struct code_page, before the bytes
 * are read. All that caches guest code belongs to one vCPU and is touched by its thread alone; so who writes to code cannot
 * drop what others have made of it. The writer, a vCPU or a device, clears the marks of the 64-byte lines that it hit, drops what is
 * its own, and leaves each other user of the page a note. A user reads its notes (code_user_catch_up()) when
 * poke() has asked it to: at a safe point, where it is in the middle of no instruction.
 *
 * Lines and users. A user sets its bit in `users` and only then those of the lines; a writer clears lines and only then
 * reads `users`. So a mark that it clears is one whose user it sees. A writer leaves marked what it still has cached itself,
 * and a reader of a note drops all that touches the note's lines: no mark is ever missing and set again later, which would
 * let somebody come by unseen in between. Only the user itself takes its bit back, when it has nothing of the page any
 * more. Bytes are written before marks are looked at, and read after marks are set: one of the two sees the other (all of
 * this is sequentially consistent; x86 needs a fence or a locked operation in between).
 *
 * Writers. The first-level TLB of a vCPU has no write entry for a marked page: its stores take the slow path, which looks
 * at the marks. When the first mark comes, vCPUs may have such entries: `writers` has the bit of each that may. The user that
 * marks drops its own. It does not wait for others: they may not be running. It posts each a request to drop theirs, notes the page
 * as *unsure*, and goes on. Until the other has followed, a store may have passed unnoticed: it came
 * before the other's safe point. What may be run of the old bytes meanwhile is what the architecture allows: cross-modified
 * code is sure to be seen only after the executing processor has executed a serializing instruction (SDM vol. 3,
 * 9.1.3). So at each of these (code_user_serialize()) whatever was made of an unsure page is dropped, and the bytes
 * are read anew; and once more when the other has said that it followed, for those who wait without serializing.
 * A fill sets the bit in `writers` first and then looks at the lines; a mark comes before the look at `writers`: again one
 * sees the other.
 *
 * Why not wait: the other vCPU's thread may have no processor for milliseconds, or wait for us itself.
 */
#ifndef RINGER_MEM_CODE_H
#define RINGER_MEM_CODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "mem/mem.h"

#define CODE_LINE 64u   /* bytes */
#define CODE_USERS 64   /* of one guest memory */
#define CODE_CACHES 2   /* of one user: an engine's and the interpreter's */
#define CODE_NOTES 1024u
#define CODE_UNSURE 256u

/* Of one page; 32 bytes, so that all lie in one cache line. */
struct code_page {
	_Atomic uint64_t lines;   /* 64-byte lines that somebody may have cached code of */
	_Atomic uint64_t users;   /* that may have, by number */
	_Atomic uint64_t writers; /* users whose first-level TLB may have a write entry for the page */
	uint64_t unused;
};

/* Something that keeps guest code. Called on the user's thread. */
struct code_cache {
	/* Bytes of one page were written: what was made of them goes. Returns the page's lines that it still has something of. */
	uint64_t (*wrote)(void *ctx, gpa_t gpa, uint64_t len);
	/* Notes were lost: everything goes. */
	void (*lost)(void *ctx);
	void *ctx;
};

struct code_note {
	_Atomic uint64_t page; /* with NOTE_ flags: see code.c. 0: empty */
	uint64_t lines;
};

struct code_user {
	struct guest_mem *mem;
	unsigned id;
	uint64_t bit;                /* BIT(id) */
	_Atomic(pthread_t) thread;   /* that is running its code now; 0: none */
	struct code_cache cache[CODE_CACHES];
	unsigned n_caches;
	/* Asks for code_user_catch_up(). Any thread. wake: even if the vCPU is halted. */
	void (*poke)(void *ctx, bool wake);
	void *poke_ctx;
	/* Drops the TLB's write entries for a page; ~0: all. On the user's thread. */
	void (*protect)(void *ctx, gpa_t page);
	void *protect_ctx;
	/* The user's own. */
	struct code_unsure {
		uint64_t page;
		uint64_t asked;      /* users that have a request and have not said that they followed */
	} unsure[CODE_UNSURE];
	unsigned n_unsure;
	bool unsure_lost;            /* more than that */
	bool recheck;                /* a serializing instruction was executed meanwhile */
	/* Written by any thread: a ring of notes. tail - head: those posted and not yet read. */
	_Atomic bool lost, protect_lost;
	_Atomic uint32_t head, tail;
	struct code_note note[CODE_NOTES];
};

/* Gives u a number. -ENOSPC when CODE_USERS are there. u is zeroed; poke may be set later. leave: while no one writes. */
int code_user_join(struct code_user *u, struct guest_mem *m, struct err *err) must_check;
void code_user_leave(struct code_user *u);
int code_user_add_cache(struct code_user *u, const struct code_cache *c) must_check; /* -ENOSPC: CODE_CACHES */
void code_user_remove_cache(struct code_user *u, const void *ctx);

/* From enter to leave the caller's thread is the user's own. */
static inline void code_user_enter(struct code_user *u)
{
	u->thread = pthread_self();
}

static inline void code_user_exit(struct code_user *u)
{
	u->thread = 0;
}

/* What is about to be read of these bytes will be cached. On the user's thread; may wake others: no vector state is live. */
void code_user_mark(struct code_user *u, gpa_t gpa, uint64_t len);
/* Lines of gpa's page that [gpa, gpa + len) has bytes in, as far as it lies in that page; len is not 0. */
static inline uint64_t code_lines_of(uint64_t gpa, uint64_t len)
{
	uint64_t from = gpa % GUEST_PAGE_SIZE, to = min_u64(from + len, GUEST_PAGE_SIZE);

	return BITS((to - 1) / CODE_LINE, from / CODE_LINE);
}

/*
 * Reads the notes. On the user's thread, at a safe point, also before it runs again after a time in which it did not. With
 * unsure pages it may wake others: no vector state is live then.
 */
void code_user_catch_up(struct code_user *u);
/*
 * It will not run for long: nobody need wait for it to follow. While no user of this memory runs. Its notes wait; it catches up
 * when it enters again.
 */
void code_user_retire(struct code_user *u);
/* A serializing instruction is being executed. true: code_user_catch_up() is wanted before the next. */
static inline bool code_user_serialize(struct code_user *u)
{
	u->recheck = u->n_unsure || u->unsure_lost;
	return u->recheck;
}

/*
 * Copies code that others may be writing to: each aligned word at once, so that what they change by one aligned store is seen
 * as a whole, as instruction fetch sees it.
 */
static inline void code_copy(uint8_t *to, const uint8_t *from, uint64_t len)
{
	for (uint64_t n; len; to += n, from += n, len -= n) {
		uint64_t room = 8 - ((uintptr_t)from & 7), word = load_once((const void *)((uintptr_t)from & ~7ULL), 8);

		n = min_u64(len, room);
		word >>= (8 - room) * 8;
		if (n == 8)
			memcpy(to, &word, 8);
		else
			for (uint64_t i = 0; i < n; i++)
				to[i] = (uint8_t)(word >> i * 8);
	}
}

/* Before a write entry for the page goes into the TLB: false, it must not. */
static inline bool code_user_may_write(const struct code_user *u, struct code_page *c)
{
	if (c->lines)
		return false;
	if (likely(c->writers & u->bit))
		return true; /* whoever marks after that look at the lines sees it */
	c->writers |= u->bit;
	return !c->lines;
}

#endif
