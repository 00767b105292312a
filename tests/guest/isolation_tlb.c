/*
 * isolation_tlb.c - rights that were taken away and flushed are gone, for data and for code, whatever the flush and
 * whoever used the page before: each attempt is made hot first, so that a translator has it in every cache it keeps.
 */
#include "isolation.h"

const struct mapping space[] = {
	{ WIN, filled[0], P | W | U },
	{ WIN + 0x1000, filled[1], P | W | U },
};
const unsigned space_size = sizeof(space) / sizeof(*space);

#define HOT 40 /* runs of an attempt before and between changes */
#define VA (WIN + 0x8000)

static uint64_t code_page[2][512] __attribute__((aligned(4096)));
static uint64_t root[2][512] __attribute__((aligned(4096)));
static volatile uint64_t *pte;
static word cr0, cr3, cr4, efer;

struct desc128 {
	uint64_t pcid, address;
};

static void invpcid(unsigned type, uint64_t pcid, uint64_t address)
{
	struct desc128 d = { pcid, address };

	__asm__ volatile("invpcid %1, %0" : : "r"((word)type), "m"(d) : "memory");
}

/* Ways to flush. In all of them CR3 is root 0, with PCID 1 where there are PCIDs, before and after. */
static void by_cr3(void)
{
	write_cr3(read_cr3());
}
static void by_invlpg(void)
{
	invlpg(VA);
}
static void by_invlpg_end(void)
{
	invlpg(VA + 4095);
}
static void by_pge(void)
{
	write_cr4(read_cr4() ^ CR4_PGE);
	write_cr4(read_cr4() ^ CR4_PGE);
}
static void by_invpcid0(void)
{
	invpcid(0, read_cr3() & 0xfff, VA);
}
static void by_invpcid1(void)
{
	invpcid(1, read_cr3() & 0xfff, 0);
}
static void by_invpcid2(void)
{
	invpcid(2, 0, 0);
}
static void by_invpcid3(void)
{
	invpcid(3, 0, 0);
}
/* Another space without a flush, the change is flushed on the way back. */
static void by_switch(void)
{
	word back = read_cr3();

	write_cr3((word)root[1] | (read_cr4() & CR4_PCIDE ? 2 | 1ul << 63 : 0));
	write_cr3(back);
}
/* From another space, by INVPCID of this one's identifier; back with no flush. */
static void by_invpcid_away(void)
{
	word back = read_cr3();

	write_cr3((word)root[1] | 2 | 1ul << 63);
	invpcid(0, back & 0xfff, VA);
	write_cr3(back | 1ul << 63);
}
/* Clearing CR4.PCIDE flushes everything. */
static void by_pcide(void)
{
	word c4 = read_cr4(), c3 = read_cr3();

	if (c4 & CR4_PCIDE) {
		write_cr4(c4 & ~(word)CR4_PCIDE);
		write_cr3(c3 & ~0xffful);
		write_cr4(c4);
		write_cr3(c3);
	} else {
		write_cr3(c3);
	}
}
static void by_smep(void)
{
	write_cr4(read_cr4() | CR4_SMEP); /* 0 to 1 flushes */
	write_cr4(read_cr4() & ~(word)CR4_SMEP);
}
static void by_wp(void)
{
	write_cr0(read_cr0() ^ CR0_WP);
	write_cr0(read_cr0() ^ CR0_WP);
	write_cr3(read_cr3());
}

static const struct way {
	const char *name;
	void (*flush)(void);
	bool needs_pcid, needs_invpcid, keeps_global;
} ways[] = {
	{ .name = "mov cr3", .flush = by_cr3, .keeps_global = true },
	{ .name = "invlpg", .flush = by_invlpg, .needs_pcid = false },
	{ .name = "invlpg, last byte", .flush = by_invlpg_end, .needs_pcid = false },
	{ .name = "CR4.PGE twice", .flush = by_pge, .needs_pcid = false },
	{ .name = "invpcid 0", .flush = by_invpcid0, .needs_invpcid = true, .keeps_global = true },
	{ .name = "invpcid 1", .flush = by_invpcid1, .needs_invpcid = true, .keeps_global = true },
	{ .name = "invpcid 2", .flush = by_invpcid2, .needs_invpcid = true },
	{ .name = "invpcid 3", .flush = by_invpcid3, .needs_invpcid = true, .keeps_global = true },
	{ .name = "another space and back", .flush = by_switch, .keeps_global = true },
	{ .name = "invpcid 0 from another space", .flush = by_invpcid_away, .needs_invpcid = true, .needs_pcid = true, .keeps_global = true },
	{ .name = "CR4.PCIDE off and on", .flush = by_pcide, .keeps_global = true },
	{ .name = "CR4.SMEP", .flush = by_smep, .needs_pcid = false },
	{ .name = "CR0.WP twice, then mov cr3", .flush = by_wp, .keeps_global = true },
};

/* A use of the page at VA: data by an instruction in the image, or code on the page itself. */
static const struct use {
	const char *name;
	unsigned access; /* FETCH: goes to VA + 16, where each code page has mov eax, 1 or 2; int 0xfe */
} uses[] = {
	{ "read", READ },
	{ "write", WRITE },
	{ "fetch", FETCH },
};
static const void *use_code[3];

/* Before and after: entries at VA. */
static const struct change {
	const char *name;
	uint64_t before, after; /* bits; the page is code_page[0], after: [1] when remap */
	bool remap;
} changes[] = {
	{ "unmapped", P | W | U, 0, false },
	{ "remapped", P | W | U, P | W | U, true },
	{ "remapped, a supervisor's", P | W, P | W, true },
	{ "read-only", P | W | U, P | U, false },
	{ "taken from the user", P | W | U, P | W, false },
	{ "not executable", P | W | U, P | W | U | NX, false },
	{ "remapped, not executable", P | W | U, P | W | U | NX, true },
	{ "remapped, read-only", P | W | U, P | U, true },
};

static void put_code(unsigned page, uint8_t value)
{
	const uint8_t code[] = { 0xb8, value, 0, 0, 0, 0xcd, 0xfe };

	copy((uint8_t *)code_page[page] + 16, code, sizeof(code));
	code_page[page][0] = value;
}

/* What the use must give with these bits; AX is the page's number when it is done. */
static struct outcome expect_use(const struct use *u, uint64_t bits, bool user)
{
	word at = VA + (u->access & FETCH ? 16 : u->access & WRITE ? 8 : 0);

	return fault_of(at, u->access, user, bits, bits & P);
}

static bool use_page(const struct use *u, const void *code, bool user, uint64_t bits, unsigned page)
{
	struct outcome o = expect_use(u, bits, user);
	struct ctx c;

	ctx_init(&c, user ? U64 : K64, code);
	if (u->access & FETCH)
		c.ip = VA + 16;
	c.di = VA;
	c.ax = page + 1;
	run(&c);
	if (!check_outcome(&c, &o))
		return false;
	if (o.vec != DONE)
		return true;
	return u->access & WRITE ? check_eq("written", code_page[page][1], page + 1)
				 : check_eq("AX", trap.r.ax & 0xff, page + 1);
}

static void heat(const struct use *u, const void *code, bool user, uint64_t bits, unsigned page)
{
	unsigned i;

	for (i = 0; i < HOT; i++)
		if (!use_page(u, code, user, bits, page))
			return;
}

static void one(const struct way *w, const struct use *u, const struct change *ch, bool user, uint64_t global)
{
	const void *code = use_code[u - uses];
	unsigned to = ch->remap;

	casef("%s after %s, %s%s: hot", u->name, w->name, user ? "user" : "kernel", global ? ", global" : "");
	code_page[0][1] = code_page[1][1] = 0;
	*pte = (word)code_page[0] | ch->before | global;
	invlpg(VA);
	heat(u, code, user, ch->before, 0);
	*pte = ch->after ? (word)code_page[to] | ch->after | global : 0;
	w->flush();
	casef("%s after %s, %s%s: %s", u->name, w->name, user ? "user" : "kernel", global ? ", global" : "", ch->name);
	heat(u, code, user, ch->after, to);
	/* And back: what was refused must not stick. */
	*pte = (word)code_page[0] | ch->before | global;
	w->flush();
	casef("%s after %s, %s%s: %s, given back", u->name, w->name, user ? "user" : "kernel", global ? ", global" : "",
	      ch->name);
	heat(u, code, user, ch->before, 0);
	*pte = 0;
	invlpg(VA);
}

static void all_changes(void)
{
	bool pcid = read_cr4() & CR4_PCIDE, pge = read_cr4() & CR4_PGE;
	unsigned w, u, c;

	for (w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
		if ((ways[w].needs_pcid && !pcid) || (ways[w].needs_invpcid && !HAS_INVPCID))
			continue;
		for (u = 0; u < sizeof(uses) / sizeof(*uses); u++)
			for (c = 0; c < sizeof(changes) / sizeof(*changes); c++) {
				one(&ways[w], &uses[u], &changes[c], false, 0);
				one(&ways[w], &uses[u], &changes[c], true, 0);
				if (pge && !ways[w].keeps_global)
					one(&ways[w], &uses[u], &changes[c], true, G);
			}
	}
}

/* The same address in two spaces that keep their identifiers: each sees its own page, without a flush between. */
static void two_spaces(word noflush)
{
	word c0 = (word)pml4 | (noflush ? 1 : 0), c1 = (word)root[1] | (noflush ? 2 : 0);
	unsigned i, k;

	copy(root[1], pml4, 4096);
	root[1][VA >> 39 & 511] = 0;
	*pte_in(root[1], VA) = (word)code_page[1] | P | W | U;
	*pte = (word)code_page[0] | P | W | U;
	write_cr3(c0);
	write_cr3(c1);
	for (i = 0; i < HOT; i++)
		for (k = 0; k < 2; k++) {
			write_cr3((k ? c1 : c0) | noflush);
			casef("two spaces%s, round %d, space %d", noflush ? " that are kept" : "", i, k);
			use_page(&uses[2], use_code[2], i & 1, P | W | U, k);
			use_page(&uses[0], use_code[0], i & 2, P | W | U, k);
		}
	write_cr3(c0);
	*pte = 0;
	invlpg(VA);
}

/* CR0.WP, CR4.SMEP, CR4.SMAP with EFLAGS.AC, EFER.NXE: they change rights with no entry changed. */
static void wp(void)
{
	unsigned i;

	*pte = (word)code_page[0] | P;
	invlpg(VA);
	for (i = 0; i < HOT; i++) {
		casef("CR0.WP = 1, round %d", i);
		use_page(&uses[1], use_code[1], false, P, 0);
		write_cr0(cr0 & ~(word)CR0_WP);
		casef("CR0.WP = 0, round %d", i);
		use_page(&uses[1], use_code[1], false, P | W, 0);
		use_page(&uses[1], use_code[1], true, P, 0);
		write_cr0(cr0);
	}
}

static void smep(void)
{
	struct outcome no = { PF, E_P | E_I, VA + 16 }, yes = { DONE, 0, 0 };
	struct ctx c;
	unsigned i;

	*pte = (word)code_page[0] | P | W | U;
	invlpg(VA);
	for (i = 0; i < 2 * HOT; i++) {
		write_cr4(i & 1 ? cr4 | CR4_SMEP : cr4);
		casef("CR4.SMEP = %d, round %d", i & 1, i);
		ctx_init(&c, K64, use_code[2]);
		c.ip = VA + 16;
		run(&c);
		check_outcome(&c, i & 1 ? &no : &yes);
		use_page(&uses[2], use_code[2], true, P | W | U, 0);
	}
	write_cr4(cr4);
}

/* The same instruction with AC set and clear, in one run and in many. */
static void smap(void)
{
	struct outcome no = { PF, E_P, VA }, nowrite = { PF, E_P | E_W, VA + 8 }, yes = { DONE, 0, 0 };
	const void *toggling = CODE("stac; mov al, [rdi]; clac; stac; mov [rdi + 8], eax; clac; dec ecx; jnz 771b");
	const void *sneaky = CODE("stac; call 1f; clac; call 1f; int 0xfe; 1: mov al, [rdi]; ret");
	struct ctx c;
	unsigned i;

	*pte = (word)code_page[0] | P | W | U;
	invlpg(VA);
	write_cr4(cr4 | CR4_SMAP);
	for (i = 0; i < 2 * HOT; i++) {
		casef("SMAP, AC = %d, round %d", i & 1, i);
		ctx_init(&c, K64, use_code[i >> 1 & 1]);
		c.di = VA;
		c.flags |= i & 1 ? F_AC : 0;
		run(&c);
		check_outcome(&c, i & 1 ? &yes : i >> 1 & 1 ? &nowrite : &no);
		use_page(&uses[0], use_code[0], true, P | W | U, code_page[0][0] - 1);
	}
	row("stac and clac around accesses", toggling, .di = VA, .cx = 2000, .vec = DONE);
	for (i = 0; i < HOT; i++)
		row("one function with AC and without", sneaky, .di = VA, .vec = PF, .err = E_P, .cr2 = VA, .any_ip = true);
	write_cr4(cr4);
	for (i = 0; i < 4; i++)
		row("SMAP off again", sneaky, .di = VA, .vec = DONE);
}

static void nxe(void)
{
	struct outcome reserved = { PF, E_P | E_R | E_U, VA };
	struct ctx c;
	unsigned i;

	*pte = (word)code_page[0] | P | W | U | NX;
	invlpg(VA);
	for (i = 0; i < HOT; i++) {
		wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_NXE);
		flush();
		casef("NX is a reserved bit, round %d", i);
		ctx_init(&c, U64, use_code[0]);
		c.di = VA;
		run(&c);
		check_outcome(&c, &reserved);
		wrmsr(MSR_EFER, efer);
		flush();
		casef("NX is NX, round %d", i);
		use_page(&uses[0], use_code[0], true, P | W | U | NX, 0);
		use_page(&uses[2], use_code[2], true, P | W | U | NX, 0);
	}
}

/* A change at a higher level, flushed by INVLPG of one address below it. */
static void upper(void)
{
	volatile uint64_t *pd = (uint64_t *)(*(volatile uint64_t *)(*(volatile uint64_t *)&pml4[VA >> 39 & 511] &
								    0xffffffffff000ul) &
					     0xffffffffff000ul);
	uint64_t was = pd[VA >> 21 & 511];
	unsigned u, i;

	*pte = (word)code_page[0] | P | W | U;
	invlpg(VA);
	for (i = 0; i < 4; i++)
		for (u = 0; u < 3; u++) {
			heat(&uses[u], use_code[u], true, P | W | U, 0);
			pd[VA >> 21 & 511] = i == 0 ? 0 : i == 1 ? was & ~U : i == 2 ? was & ~W : was | NX;
			invlpg(VA + 0x1000);
			by_cr3();
			casef("%s with PDE bits %d", uses[u].name, i);
			heat(&uses[u], use_code[u], true,
			     i == 0 ? 0 : i == 1 ? P | W : i == 2 ? P | U : P | W | U | NX, 0);
			pd[VA >> 21 & 511] = was;
			by_cr3();
		}
}

void guest_main(void)
{
	use_code[0] = CODE("mov al, [rdi]; movzx eax, al");
	use_code[1] = CODE("mov [rdi + 8], rax");
	use_code[2] = CODE("nop");
	safe_stacks();
	cr0 = read_cr0();
	cr3 = read_cr3();
	cr4 = read_cr4();
	efer = rdmsr(MSR_EFER);
	fill();
	map_space();
	put_code(0, 1);
	put_code(1, 2);
	pte = pte_of(VA);
	copy(root[1], pml4, 4096);
	all_changes();
	two_spaces(0);
	write_cr4(cr4 |= CR4_PGE);
	all_changes();
	wp();
	if (HAS_SMEP)
		smep();
	else
		skip("SMEP");
	if (HAS_SMAP)
		smap();
	else
		skip("SMAP");
	nxe();
	upper();
	if (!HAS_PCID) {
		skip("PCID");
		return;
	}
	write_cr4(cr4 |= CR4_PCIDE);
	write_cr3(cr3 | 1);
	all_changes();
	two_spaces(1ul << 63);
	write_cr3(cr3);
	write_cr4(cr4 & ~(word)CR4_PCIDE);
}
