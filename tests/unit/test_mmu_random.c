/*
 * The soft MMU against a model: random changes of tables, flushes, switches and accesses. The model knows which
 * translations may still be cached: those that were current at some access since they were last invalidated. An
 * access may see one of these or the current one, nothing else; and while a number of code_space is unchanged, so
 * may every fetch that was made under it.
 *
 * A translation is named by its physical page, which no two use for the same address and flags: so a set of
 * translations is a bit mask. Numbers 0..15 are 4 KiB pages, 16..19 fragments of 2 MiB pages.
 */
#include "mmu_fixture.h"

#define ROOT MIB(2)
#define SPACES 3       /* page tables */
#define PCIDS 4
#define REGIONS 3      /* of 2 MiB, the last in the upper half */
#define PAGES 4        /* in use in each */
#define SMALL_AT MIB(16)
#define LARGE_AT MIB(32)
#define NUMBERS 20
#define FETCHES 64

struct model {
	struct fixture *f;
	uint32_t cached[PCIDS][REGIONS][PAGES]; /* non-global translations */
	uint32_t cached_global[REGIONS][PAGES];
	unsigned number[SPACES][REGIONS][PAGES]; /* what tables say; NUMBERS: not present */
	unsigned root, pcid;
	uint64_t seed;
	struct {
		uint64_t code_space;
		unsigned kind, region, page, number;
	} fetch[FETCHES];
	unsigned n_fetches;
};

static unsigned pick(struct model *m, unsigned n)
{
	m->seed = m->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(m->seed >> 33) % n;
}

static uint64_t region_va(unsigned region)
{
	return region == REGIONS - 1 ? 0xffffffff80000000ULL : (region + 1) * GIB(600);
}

/* Neighbours, the far end of a large page. */
static uint64_t page_va(unsigned region, unsigned page)
{
	static const unsigned at[PAGES] = {0, 1, 77, 511};

	return region_va(region) + at[page] * GUEST_PAGE_SIZE;
}

/* Bit 0: global; bit 1: read-only; bit 2: no-execute; bit 3 and the rest tell apart. Large: bit 0 too. */
static bool is_global(unsigned number)
{
	return number & 1;
}

static uint64_t flags_of(unsigned number)
{
	uint64_t e = PTE_P | PTE_U;

	if (is_global(number))
		e |= PTE_G;
	if (number >= 16 || !(number & 2))
		e |= PTE_W;
	if (number < 16 && (number & 4))
		e |= PTE_NX;
	return e;
}

static uint64_t page_of(unsigned number, unsigned region, unsigned page)
{
	if (number >= 16)
		return LARGE_AT + (number - 16) * MIB(2) + (page_va(region, page) & (MIB(2) - 1));
	return SMALL_AT + number * GUEST_PAGE_SIZE;
}

static uint64_t root_of(unsigned space)
{
	return ROOT + space * GUEST_PAGE_SIZE;
}

static void change_table(struct model *m)
{
	unsigned space = pick(m, SPACES), region = pick(m, REGIONS), page = pick(m, PAGES);
	unsigned number = pick(m, NUMBERS + 1);
	uint64_t *pde = pte_of(m->f, root_of(space), page_va(region, page), 2);
	bool was_large = *pde & PTE_PS;

	if (number >= 16 && number < NUMBERS) {
		if (pick(m, 4))
			return;
		*pde = (LARGE_AT + (number - 16) * MIB(2)) | flags_of(number) | PTE_PS;
		for (unsigned i = 0; i < PAGES; i++)
			m->number[space][region][i] = number;
		return;
	}
	if (was_large)
		for (unsigned i = 0; i < PAGES; i++) {
			map(m->f, root_of(space), page_va(region, i), 0);
			m->number[space][region][i] = NUMBERS;
		}
	map(m->f, root_of(space), page_va(region, page),
	    number == NUMBERS ? 0 : (SMALL_AT + number * GUEST_PAGE_SIZE) | flags_of(number));
	m->number[space][region][page] = number;
}

static uint32_t may_be_cached(const struct model *m, unsigned region, unsigned page)
{
	return m->cached[m->pcid][region][page] | m->cached_global[region][page];
}

static void forget_pcid(struct model *m, unsigned pcid)
{
	memset(m->cached[pcid], 0, sizeof(m->cached[pcid]));
}

/* What the invalidation of one address takes: of 4 KiB pages that page, of 2 MiB pages every fragment. */
static void forget_address(uint32_t mask[PAGES], unsigned page)
{
	mask[page] = 0;
	for (unsigned i = 0; i < PAGES; i++)
		mask[i] &= 0xffff;
}

static void flush(struct model *m)
{
	unsigned region = pick(m, REGIONS), page = pick(m, PAGES), pcid = pick(m, PCIDS);
	uint64_t va = page_va(region, page) + pick(m, 4096);
	struct mmu *mmu = m->f->mmu;

	switch (pick(m, 16)) {
	case 0:
		mmu_flush_all(mmu);
		memset(m->cached_global, 0, sizeof(m->cached_global));
		memset(m->cached, 0, sizeof(m->cached));
		break;
	case 1:
		mmu_flush_nonglobal(mmu);
		memset(m->cached, 0, sizeof(m->cached));
		break;
	case 2:
	case 3:
		mmu_flush_pcid(mmu, (uint16_t)pcid);
		forget_pcid(m, pcid);
		break;
	case 4:
	case 5:
	case 6:
		mmu_flush_page_pcid(mmu, (uint16_t)pcid, va);
		forget_address(m->cached[pcid][region], page);
		break;
	case 7: /* numbers of spaces run out now and then */
		mmu->next_space = max_u64(mmu->next_space, L2_SPACE_MAX - 20);
		break;
	default:
		mmu_flush_page(mmu, va);
		forget_address(m->cached[m->pcid][region], page);
		forget_address(m->cached_global[region], page);
	}
}

static void switch_space(struct model *m)
{
	bool noflush = pick(m, 4);

	m->pcid = pick(m, PCIDS);
	m->root = pick(m, SPACES);
	mmu_set_cr3(m->f->mmu, root_of(m->root) | m->pcid, noflush);
	if (!noflush)
		forget_pcid(m, m->pcid);
}

static unsigned number_of(uint64_t gpa, unsigned region, unsigned page)
{
	unsigned number = 0;

	while (number < NUMBERS && page_of(number, region, page) != gpa)
		number++;
	return number;
}

static bool number_allows(unsigned number, enum mmu_access access, enum mmu_mode mode)
{
	uint64_t flags = number < NUMBERS ? flags_of(number) : 0;

	if (access == MMU_WRITE)
		return flags & PTE_W;
	return access == MMU_READ ? flags & PTE_P : flags && !(flags & PTE_NX);
}

static void remember_fetch(struct model *m, unsigned kind, unsigned region, unsigned page, unsigned number)
{
	unsigned i = m->n_fetches++ % FETCHES;

	m->fetch[i].code_space = m->f->mmu->code_space[kind];
	m->fetch[i].kind = kind;
	m->fetch[i].region = region;
	m->fetch[i].page = page;
	m->fetch[i].number = number;
}

static void access_page(struct model *m)
{
	unsigned region = pick(m, REGIONS), page = pick(m, PAGES);
	unsigned access = pick(m, MMU_ACCESSES), mode = pick(m, MMU_MODES);
	unsigned current = m->number[m->root][region][page];
	uint64_t gpa = reach(m->f, page_va(region, page), access, mode);

	if (gpa == FAULT) { /* never from a cached translation */
		assert_false(number_allows(current, access, mode));
		m->cached[m->pcid][region][page] = m->cached_global[region][page] = 0;
	} else {
		unsigned number = number_of(gpa, region, page);

		assert_true(number < NUMBERS);
		assert_true(number_allows(number, access, mode));
		assert_true(number == current || may_be_cached(m, region, page) & BIT(number));
		if (is_global(number))
			m->cached_global[region][page] |= (uint32_t)BIT(number);
		else
			m->cached[m->pcid][region][page] |= (uint32_t)BIT(number);
		if (access == MMU_FETCH)
			remember_fetch(m, mode != MMU_USER, region, page, number);
	}
}

/* Fetches made under numbers that are in force now are all still right. */
static void check_code_spaces(struct model *m)
{
	for (unsigned i = 0; i < m->n_fetches && i < FETCHES; i++) {
		unsigned region = m->fetch[i].region, page = m->fetch[i].page;

		if (m->fetch[i].code_space != m->f->mmu->code_space[m->fetch[i].kind])
			continue;
		assert_true(may_be_cached(m, region, page) & BIT(m->fetch[i].number) ||
			    m->number[m->root][region][page] == m->fetch[i].number);
	}
}

static void run(uint64_t seed, unsigned steps)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->seed = seed;
	m->f = fixture_new(CR4_PGE | CR4_PCIDE, ROOT);
	for (unsigned s = 0; s < SPACES; s++)
		for (unsigned r = 0; r < REGIONS; r++)
			for (unsigned p = 0; p < PAGES; p++)
				m->number[s][r][p] = NUMBERS;
	for (unsigned i = 0; i < steps; i++) {
		unsigned what = pick(m, 16);

		if (what < 3)
			change_table(m);
		else if (what < 5)
			flush(m);
		else if (what < 7)
			switch_space(m);
		else
			access_page(m);
		check_code_spaces(m);
	}
	assert_true(m->f->mmu->stats.l2_hits > steps / 50); /* it did not just flush all the time */
	fixture_free(m->f);
	free(m);
}

static void test_random(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		print_message("seed %lu\n", seed);
		run(seed, 20000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
