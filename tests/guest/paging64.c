/*
 * paging64.c - 4-level paging: permissions in every combination, reserved bits, error codes, CR2, accessed
 * and dirty bits. The oracle is expected(): SDM vol. 3, 4.6 and 4.7; APM vol. 2, 5.6 and 8.4.2.
 */
#include "rt/rt.h"

#define TEST_VA (1ul << 39) /* its own PML4 entry */

enum access { READ, WRITE, FETCH, IMPLICIT, ACCESSES };
static const char *const access_name[] = { "read", "write", "fetch", "implicit read" };
enum who { USER3, KERNEL, KERNEL_AC, USER3_AC, WHOS };
static const char *const who_name[] = { "user", "kernel", "kernel AC=1", "user AC=1" };

/* CPU configuration as bits. */
enum { C_WP = 1, C_SMEP = 2, C_SMAP = 4, C_NXE = 8, CONFIGS = 16 };

struct mapping {
	unsigned levels; /* 4: 4 KiB page, 3: 2 MiB, 2: 1 GiB */
	uint64_t e[4];   /* flag bits of PML4E, PDPTE, PDE, PTE */
};

static const void *snip_read, *snip_write, *snip_fetch, *snip_lldt;
static uint64_t rsvd_phys;

static volatile uint64_t *entry(unsigned level)
{
	static uint64_t *const tables[4] = { pml4 + 1, (uint64_t *)table_a, (uint64_t *)table_b, (uint64_t *)table_c };

	return tables[level];
}

/* Installs the mapping; returns the linear address of page_a's start. */
static word map(const struct mapping *m)
{
	static const word mask[] = { 0, 0, 0x3fffffff, 0x1fffff, 0xfff };
	word next[3] = { (word)table_a, (word)table_b, (word)table_c };
	unsigned i;

	for (i = 0; i + 1 < m->levels; i++)
		*entry(i) = next[i] | m->e[i];
	*entry(i) = ((word)page_a & ~mask[m->levels]) | m->e[i] | (m->levels < 4 ? PS : 0);
	flush();
	return TEST_VA + ((word)page_a & mask[m->levels]);
}

static void configure(unsigned cfg)
{
	word cr4 = read_cr4() & ~(word)(CR4_SMEP | CR4_SMAP);

	write_cr0(cfg & C_WP ? read_cr0() | CR0_WP : read_cr0() & ~(word)CR0_WP);
	write_cr4(cr4 | (cfg & C_SMEP ? CR4_SMEP : 0) | (cfg & C_SMAP ? CR4_SMAP : 0));
	wrmsr(MSR_EFER, cfg & C_NXE ? rdmsr(MSR_EFER) | EFER_NXE : rdmsr(MSR_EFER) & ~(uint64_t)EFER_NXE);
}

/* Page-fault error code, or -1 when the access is allowed. */
static int expected(unsigned cfg, const struct mapping *m, enum who who, enum access acc)
{
	bool user = (who == USER3 || who == USER3_AC) && acc != IMPLICIT;
	uint64_t all = ~0ull, any = 0;
	int err = (acc == WRITE ? E_W : 0) | (user ? E_U : 0) |
		  (acc == FETCH && (cfg & (C_NXE | C_SMEP)) ? E_I : 0);
	bool bad;
	unsigned i;

	for (i = 0; i < m->levels; i++) {
		if (!(m->e[i] & P))
			return err;
		if (((m->e[i] & NX) && !(cfg & C_NXE)) || (m->e[i] & rsvd_phys))
			return err | E_P | E_R;
		all &= m->e[i];
		any |= m->e[i];
	}
	if (user)
		bad = !(all & U) || (acc == WRITE && !(all & W)) || (acc == FETCH && (any & NX));
	else if (acc == FETCH)
		bad = (any & NX) || ((all & U) && (cfg & C_SMEP));
	else /* SMAP: AC lifts it for explicit accesses only */
		bad = (acc == WRITE && !(all & W) && (cfg & C_WP)) ||
		      ((all & U) && (cfg & C_SMAP) && (who != KERNEL_AC || acc == IMPLICIT));
	return bad ? err | E_P : -1;
}

static const void *snippet(enum access acc)
{
	return acc == READ ? snip_read : acc == WRITE ? snip_write : acc == FETCH ? snip_fetch : snip_lldt;
}

static void describe(unsigned cfg, const struct mapping *m, enum who who, enum access acc)
{
	char bits[4][5];
	unsigned i;

	for (i = 0; i < 4; i++) {
		uint64_t e = i < m->levels ? m->e[i] : 0;
		unsigned n = 0;

		if (e & P)
			bits[i][n++] = 'P';
		if (e & W)
			bits[i][n++] = 'W';
		if (e & U)
			bits[i][n++] = 'U';
		if (e & NX)
			bits[i][n++] = 'X';
		bits[i][n] = 0;
	}
	casef("%s%s%s%s%s %s, entries %s/%s/%s/%s", cfg & C_WP ? "WP " : "", cfg & C_SMEP ? "SMEP " : "",
	      cfg & C_SMAP ? "SMAP " : "", cfg & C_NXE ? "NXE " : "", who_name[who], access_name[acc], bits[0],
	      bits[1], bits[2], bits[3]);
}

/*
 * Bits set exactly: accessed at every level after a success, dirty at the leaf after a write and only then.
 * After a fault the leaf is untouched (SDM 4.8: A and D are set when the entry is used for a translation);
 * whether upper entries got A is left to the CPU.
 */
static bool bits_ok(const struct mapping *m, bool success, enum access acc)
{
	unsigned leaf = m->levels - 1, i;
	uint64_t want = success ? A | (acc == WRITE ? D : 0) : 0;

	for (i = 0; i < leaf && success; i++)
		if (!(*entry(i) & A))
			return false;
	return (*entry(leaf) & (A | D)) == want;
}

static void one(unsigned cfg, const struct mapping *m, enum who who, enum access acc)
{
	int want = expected(cfg, m, who, acc);
	word va = map(m);
	bool fault = want >= 0, ok;
	struct ctx c;

	ctx_init(&c, who == USER3 || who == USER3_AC ? U64 : K64, snippet(acc));
	if (who == KERNEL_AC || who == USER3_AC)
		c.flags |= F_AC;
	c.di = va + 16;
	c.ax = 0xcd; /* what is there already */
	if (acc == IMPLICIT) { /* the LDT is on the page: loading DS reads the descriptor at va + 16 */
		set_system_desc(&gdt[SEL_LDT >> 3], va, 0xfff, D_LDT);
		__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
		c.ax = 16 | 4 | 3;
	}
	run(&c);
	ok = trap.count == 1 && trap.vec == (fault ? PF : DONE) && (!fault || trap.err == (word)want) &&
	     (!fault || trap.cr2 == va + 16) &&
	     trap.r.ip == (acc == FETCH ? va + 16 + (fault ? 0 : 2) : c.ip + (fault ? 0 : 6));
	if (ok && bits_ok(m, !fault, acc)) {
		check(true, " ");
		return;
	}
	describe(cfg, m, who, acc);
	check(false, "vector %d error 0x%lx ip 0x%lx cr2 0x%lx leaf 0x%lx; expected %s 0x%x", (int)trap.vec,
	      trap.err, trap.r.ip, trap.cr2, *entry(m->levels - 1), fault ? "#PF" : "success", want);
}

static bool supported(unsigned cfg)
{
	return !((cfg & C_SMEP) && !HAS_SMEP) && !((cfg & C_SMAP) && !HAS_SMAP);
}

static void all_accesses(unsigned cfg, const struct mapping *m)
{
	unsigned who, acc;

	for (who = 0; who < WHOS; who++)
		for (acc = 0; acc < ACCESSES; acc++)
			one(cfg, m, who, acc);
}

static uint64_t leaf_bits(unsigned i)
{
	return (i & 1 ? P : 0) | (i & 2 ? W : 0) | (i & 4 ? U : 0) | (i & 8 ? NX : 0);
}

/* Every leaf, for every page size. */
static void leaves(unsigned cfg)
{
	struct mapping m = { 4, { P | W | U, P | W | U, P | W | U, P | W | U } };
	unsigned i;

	for (m.levels = 4; m.levels >= 2; m.levels--) {
		if (m.levels == 2 && !HAS_1G)
			continue;
		for (i = 0; i < 16; i++) {
			m.e[m.levels - 1] = leaf_bits(i);
			all_accesses(cfg, &m);
		}
		m.e[m.levels - 1] = P | W | U;
	}
}

/* Each upper level takes a right away, from a user and from a supervisor leaf. */
static void uppers(unsigned cfg)
{
	static const uint64_t upper[] = { W | U, P | U, P | W, P | W | U | NX, P };
	struct mapping m = { 4, { P | W | U, P | W | U, P | W | U, P | W | U } };
	unsigned level, i;

	for (level = 0; level < 3; level++) {
		for (i = 0; i < sizeof(upper) / sizeof(*upper); i++) {
			m.e[level] = upper[i];
			m.e[3] = P | W | U;
			all_accesses(cfg, &m);
			m.e[3] = P | W;
			all_accesses(cfg, &m);
		}
		m.e[level] = P | W | U;
	}
}

/* Reserved bits of each level and page size. P = 1 and RSVD = 1 whatever the permissions say. */
static void reserved_one(unsigned levels, unsigned level, uint64_t bit, const char *what)
{
	struct mapping m = { levels, { P | W | U, P | W | U, P | W | U, P | W | U } };
	unsigned acc;

	if (!bit)
		return;
	m.e[level] |= bit;
	rsvd_phys = bit;
	for (acc = 0; acc < IMPLICIT; acc++) {
		one(C_WP | C_NXE, &m, USER3, acc);
		one(C_WP | C_NXE, &m, KERNEL, acc);
	}
	rsvd_phys = 0;
	casef("reserved bit, %s", what);
	check_eq("vector", trap.vec, PF);
}

static void reserved(void)
{
	uint64_t low = phys_bits() < 52 ? 1ull << phys_bits() : 0, high = phys_bits() < 52 ? 1ull << 51 : 0;
	unsigned i;

	configure(C_WP | C_NXE);
	for (i = 0; i < 4; i++) {
		reserved_one(4, i, low, "first above MAXPHYADDR");
		reserved_one(4, i, high, "51");
	}
	reserved_one(3, 2, low, "MAXPHYADDR in a 2M PDE");
	reserved_one(3, 2, 1 << 13, "13 of a 2M PDE");
	reserved_one(3, 2, 1 << 20, "20 of a 2M PDE");
	if (HAS_1G) {
		reserved_one(2, 1, high, "51 in a 1G PDPTE");
		reserved_one(2, 1, 1 << 13, "13 of a 1G PDPTE");
		reserved_one(2, 1, 1 << 29, "29 of a 1G PDPTE");
	}
	reserved_one(4, 0, PS, "7 of a PML4E");
	/* AMD: bit 8 of a PML4E is MBZ (APM vol. 2, 5.3.3); Intel ignores it. */
	if (is_amd())
		reserved_one(4, 0, G, "8 of a PML4E");
}

/* Bits that are not reserved and not permissions change nothing. */
static void ignored(void)
{
	static const uint64_t bits[] = { 1 << 3, 1 << 4, 1 << 9, 1 << 10, 1 << 11, 1ull << 52, 1ull << 58 };
	unsigned level, i, acc;

	for (i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		for (level = 0; level < 4; level++) {
			struct mapping m = { 4, { P | W | U, P | W | U, P | W | U, P | W | U } };

			m.e[level] |= bits[i];
			for (acc = 0; acc < ACCESSES; acc++)
				one(C_WP | C_NXE, &m, USER3, acc);
		}
}

/* A descriptor whose accessed bit is clear is written by the CPU: a supervisor write (D set, WP obeyed). */
static void implicit_write(void)
{
	static const struct {
		uint64_t leaf;
		bool wp;
	} t[] = { { P | W, true }, { P | W | U, true }, { P, false }, { P, true } };
	unsigned i;

	for (i = 0; i < 4; i++) {
		struct mapping m = { 4, { P | W | U, P | W | U, P | W | U, t[i].leaf } };
		bool fault = t[i].wp && !(t[i].leaf & W);
		volatile uint64_t *desc = (uint64_t *)(page_a + 16);
		struct ctx c;
		word va;

		configure(C_NXE | (t[i].wp ? C_WP : 0));
		va = map(&m);
		*desc &= ~(1ull << 40);
		set_system_desc(&gdt[SEL_LDT >> 3], va, 0xfff, D_LDT);
		__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
		ctx_init(&c, U64, snip_lldt);
		c.ax = 16 | 4 | 3;
		run(&c);
		casef("accessed bit of a descriptor, leaf 0x%lx WP %d", t[i].leaf, t[i].wp);
		check_trap(&c, fault ? PF : DONE, E_P | E_W);
		check_eq("descriptor's accessed bit", *desc >> 40 & 1, !fault);
		check_eq("dirty", *entry(3) & D, fault ? 0 : D);
		*desc |= 1ull << 40;
	}
}

void guest_main(void)
{
	unsigned cfg;

	snip_read = CODE("mov al, [rdi]; nop; nop");
	snip_write = CODE("mov [rdi], al; nop; nop");
	snip_fetch = CODE("jmp rdi");
	snip_lldt = CODE("mov ds, eax; nop; nop");
	/* At offset 16 an LDT descriptor (data, DPL 3, accessed) whose first bytes are INT 0xfe. */
	*(volatile uint64_t *)(page_a + 16) = 0x00cff3000000fecd;
	for (cfg = 0; cfg < CONFIGS; cfg++) {
		if (!supported(cfg)) {
			skip("SMEP or SMAP");
			continue;
		}
		configure(cfg);
		leaves(cfg);
		uppers(cfg);
	}
	reserved();
	ignored();
	implicit_write();
}
