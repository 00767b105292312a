/*
 * Address spaces: what makes flushes of level 2 cheap, and the numbers that caches of code are valid under.
 *
 * Every PCID has a space number while something may be cached under it, and every level-2 entry carries the number
 * of its space. To flush a PCID is to give it another number; to flush all of them is to start another epoch, in
 * which no PCID has a number yet. Numbers run out after 2^28 flushes: then the table is wiped once.
 *
 * A code_space number stands for fetch translations. Each of these has an entry in level 2 with its TR_FETCHED flags
 * for as long as its number lives: whatever removes the entry renews the number. So INVLPG of data, which Linux does
 * all the time, leaves the numbers alone. A user number belongs to a PCID and comes back with it.
 */
#include "mem/tlb.h"

static uint64_t new_code(struct mmu *m, unsigned kind)
{
	m->stats.code_space_events[kind]++;
	return ++m->next_code;
}

struct pcid_space *space_of(const struct mmu *m, uint16_t pcid)
{
	struct pcid_space *p = &m->l2->pcid[pcid];

	if (p->epoch != m->pcid_epoch)
		*p = (struct pcid_space){.epoch = m->pcid_epoch};
	return p;
}

bool space_is_live(const struct mmu *m, uint32_t space, uint16_t pcid)
{
	const struct pcid_space *p = &m->l2->pcid[pcid];

	return space && (space == m->global_space || (p->space == space && p->epoch == m->pcid_epoch));
}

/* Numbers that were given out before are about to be given out again. */
static void wipe(struct mmu *m)
{
	struct l2_entry *e = &m->l2->set[0][0];

	for (unsigned i = 0; i < L2_SETS * L2_WAYS; i++)
		*(volatile uint64_t *)&e[i].tag = 0; /* volatile: must not become a call of memset */
	m->next_space = 0;
	m->pcid_epoch++;
	m->code_epoch++;
	l1_drop_all(m);
	m->global_space = ++m->next_space;
	code_renew_supervisor(m);
}

/* May wipe: the caller re-enters the current PCID afterwards. */
static uint32_t new_space(struct mmu *m)
{
	if (unlikely(m->next_space >= L2_SPACE_MAX))
		wipe(m);
	return ++m->next_space;
}

static void set_user_code(struct mmu *m, uint64_t code)
{
	if (m->code_space[0] == code)
		return;
	m->code_space[0] = code;
	m->flushes++;
}

static void enter_code(struct mmu *m, struct pcid_space *p)
{
	if (!p->code || p->code_epoch != m->code_epoch) {
		p->code = new_code(m, 0);
		p->code_epoch = m->code_epoch;
	}
	set_user_code(m, p->code);
}

void space_enter(struct mmu *m, uint16_t pcid)
{
	struct pcid_space *p = space_of(m, pcid);

	if (!p->space) {
		uint32_t space = new_space(m);

		p = space_of(m, pcid); /* a wipe made it void */
		p->space = space;
	}
	m->pcid = pcid;
	m->space = p->space;
	enter_code(m, p);
}

void space_renew(struct mmu *m, uint16_t pcid)
{
	struct pcid_space *p = space_of(m, pcid);

	p->space = 0;
	if (p->fetched)
		p->code = 0;
	p->fetched = false;
	if (pcid == m->pcid)
		space_enter(m, pcid);
}

void space_renew_all_nonglobal(struct mmu *m)
{
	m->pcid_epoch++;
	space_enter(m, m->pcid);
}

void space_renew_all(struct mmu *m)
{
	m->pcid_epoch++;
	m->global_space = new_space(m);
	code_renew_supervisor(m);
	space_enter(m, m->pcid);
}

void code_renew_user(struct mmu *m, uint16_t pcid)
{
	struct pcid_space *p = space_of(m, pcid);

	p->code = 0;
	if (pcid == m->pcid)
		enter_code(m, p);
}

void code_renew_all_users(struct mmu *m)
{
	m->code_epoch++;
	enter_code(m, space_of(m, m->pcid));
}

void code_renew_supervisor(struct mmu *m)
{
	m->code_space[1] = new_code(m, 1);
	m->flushes++;
}
