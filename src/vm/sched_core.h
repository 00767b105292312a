/*
 * sched_core.h - scheduling of a machine's vCPUs when there are more of them than processors: who may run now.
 *
 * Theory of operation. A machine has so many *slots*, by default as many as it has host CPUs. A vCPU runs guest code only
 * while it has a slot; one that has none waits; one that is halted wants none. Three parts:
 *
 *   struct sched_core (sched_core.c) knows who waits, who runs and since when. It has no thread, no lock and no clock: it is
 *   told what happens and what time it is, and says whom to let run and whom to ask to leave. Tests run it in
 *   simulated time.
 *   struct sched_policy (sched_fair.c, ...) makes the core's choices: who gets a free slot, and what is done about a vCPU
 *   whose time slice is over.
 *   struct sched (sched_slots.c) carries them out: it is a vcpu_sched, whose calls come from the vCPUs' threads, and has a
 *   timer thread for ends of slices. A thread without a slot sleeps on its wake_seq. To have a vCPU leave, it
 *   requests CPU_REQ_STOP or CPU_REQ_USER.
 *
 * Nothing ticks while nobody waits for a slot and no cap is set.
 */
#ifndef RINGER_VM_SCHED_CORE_H
#define RINGER_VM_SCHED_CORE_H

#include "base/base.h"
#include "base/err.h"

#define SCHED_VCPUS_MAX 64
#define SCHED_SLICE_NS (4 * 1000000ull)     /* how long a vCPU may run while others wait */
#define SCHED_GRACE_NS (1000000ull)         /* how long after that it may go on to a safe point */
#define SCHED_UNSAFE_TURNS 4                /* turns of who was forced off are that much shorter than the grace */
#define SCHED_LOOK_NS (100 * 1000ull)       /* how often a policy looks whether it is at one, if nobody tells */
#define SCHED_CAP_PERIOD_NS (100 * 1000000ull)

struct sched_core;

/* What is done about a vCPU that is to leave. */
enum sched_ask {
	SCHED_ASK_NOW,  /* it leaves between two instructions */
	SCHED_ASK_SAFE, /* at a safe point; when the grace is over, as with NOW */
};

struct sched_policy {
	const char *name, *text; /* text: for help */
	bool slots;              /* false: there is one for everybody */
	bool gang;               /* all slices end together */
	/* Who of those that wait gets a free slot; -1: nobody for now. */
	int (*next)(struct sched_core *c, uint64_t now);
	/* i's slice is over. NULL: SCHED_ASK_NOW. */
	enum sched_ask (*over)(const struct sched_core *c, unsigned i);
	/* Whether i, asked to leave at a safe point, is at one; looked at every SCHED_LOOK_NS. NULL: it will tell itself. */
	bool (*safe)(const struct sched_core *c, unsigned i);
	bool user_is_safe; /* user mode is a safe point: CPU_REQ_USER finds it */
};
extern const struct sched_policy sched_fair, sched_cosched, sched_lhp, sched_hint;
/* All, NULL-terminated; the first is the default. */
extern const struct sched_policy *const sched_policies[];
const struct sched_policy *sched_find(const char *name);

/* Counted for each vCPU. */
struct sched_counters {
	uint64_t slices;      /* times it got a slot */
	uint64_t wait_ns;     /* ready, without one */
	uint64_t preemptions; /* left because it was asked to */
	uint64_t safe;        /* of these: at a safe point that it was waited for */
	uint64_t forced;      /* and: without one, after the grace */
	uint64_t yields;      /* gave its slot to a vCPU that it named */
};

struct sched_vcpu {
	uint64_t since;     /* it waits or runs, ns */
	uint64_t slice_end; /* while it runs */
	uint64_t force_at;  /* end of grace, while it is asked to leave */
	uint64_t run_ns;    /* how long it has run, raised to what keeps a sleeper from catching up */
	struct sched_counters n;
};

/* Bounds the processor time of all vCPUs together. */
struct sched_cap {
	unsigned percent;    /* of one processor; 0: none */
	bool exhausted;      /* nobody runs before `period_end` */
	uint64_t period_end; /* ns; 0: not begun */
	uint64_t base;       /* time used when the period began */
	int64_t budget;      /* of the period: less after one that went over it. ns */
	uint64_t look_at;    /* when to look next */
	uint64_t left;       /* of the budget, when it was looked last; ns */
	uint64_t exhaustions;
};

/* Sets of vCPUs have bit i for vCPU i. */
struct sched_core {
	const struct sched_policy *policy;
	unsigned slots;
	uint64_t slice_ns, grace_ns;
	uint64_t waiting, running;
	uint64_t asked;      /* of those running: to leave */
	uint64_t asked_safe; /* of those asked: at a safe point */
	uint64_t short_turn; /* of those asked: from the first, as they were forced off before */
	uint64_t unsafe;     /* were forced off, and have been at no safe point since */
	uint64_t looked;     /* the last tick; ns */
	struct sched_vcpu vcpu[SCHED_VCPUS_MAX];
	struct sched_cap cap;
	/* Gangs: when the slice of those running ends, and whom to begin with next. */
	uint64_t gang_end;
	unsigned gang_next;
	/* Whether vCPU i says that it holds a lock. Set up by the owner; NULL: never. */
	bool (*locked)(void *ctx, unsigned i);
	void *ctx;
	/* What is to be done, for the owner to take: who got a slot, who is to leave at once, or at a safe point. */
	uint64_t granted, stop, stop_safe;
};

void sched_core_init(struct sched_core *c, const struct sched_policy *p, unsigned slots);
/* vCPU i wants to run. */
void sched_core_wait(struct sched_core *c, unsigned i, uint64_t now);
/* It has a slot, and now its thread has a processor, too: its slice begins only now, if it is not a gang's. */
void sched_core_started(struct sched_core *c, unsigned i, uint64_t now);
/* It runs or waits no more. */
void sched_core_leave(struct sched_core *c, unsigned i, uint64_t now);
/* It has left as it was asked to, and waits. */
void sched_core_preempt(struct sched_core *c, unsigned i, uint64_t now);
/* It came out of its engine, perhaps because it was asked to: whether it goes on, in its slot. */
bool sched_core_stays(struct sched_core *c, unsigned i, uint64_t now);
/* i gives its slot to `to`, if that waits, and has none from then on. */
bool sched_core_yield(struct sched_core *c, unsigned i, unsigned to, uint64_t now);
/* Does what is due by now. */
void sched_core_tick(struct sched_core *c, uint64_t now);
/* When sched_core_tick() must be called next; UINT64_MAX: when something else has happened. */
uint64_t sched_core_deadline(const struct sched_core *c);
/* Of the vCPUs of `set`, which is not empty, the one that has run least. */
unsigned sched_core_least(const struct sched_core *c, uint64_t set);
/*
 * Of those waiting: who was forced off goes first, as others may spin until it has been at a safe point. It is asked to
 * leave there as soon as it runs, or else those who queue for a lock would, one by one, take a whole slice
 * each and queue again. Bounded: it does not get two slices more than the one that has run least.
 */
int sched_core_unsafe_first(struct sched_core *c, uint64_t now);

/* sched_cap.c. The vCPUs have used so much processor time since they were made, ns. True: looked, `exhausted` may be new. */
bool sched_cap_update(struct sched_cap *cap, uint64_t used, unsigned running, uint64_t now);

/* So many run now: looks earlier if need be. */
void sched_cap_more(struct sched_cap *cap, unsigned running, uint64_t now);

/* sched_slots.c */
struct sched;
struct vcpu_sched;

struct sched_config {
	const struct sched_policy *policy;
	unsigned slots;
	uint64_t slice_ns; /* 0: SCHED_SLICE_NS */
	unsigned cap_percent;
};
int sched_new(struct sched **out, const struct sched_config *config, struct err *err) must_check;
void sched_free(struct sched *s);
struct vcpu_sched *sched_vcpu_sched(struct sched *s);
/* The timer thread; while vCPUs' threads run. */
int sched_start(struct sched *s, struct err *err) must_check;
void sched_stop(struct sched *s);
/* Any thread. */
void sched_get_counters(struct sched *s, unsigned i, struct sched_counters *out);
/* slots: 0 when the policy has none. */
void sched_describe(struct sched *s, unsigned *slots, unsigned *cap_percent, uint64_t *exhaustions);

#endif
