/*
 * paging32.c - 32-bit and PAE paging in legacy mode: permissions, page sizes, reserved bits, error codes, CR2,
 * accessed and dirty bits. SDM vol. 3, 4.3, 4.4, 4.6, 4.7; APM vol. 2, 5.2.
 */
#include "rt/rt.h"

#define TEST_VA 0xc0000000ul

static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t pd_low[512] __attribute__((aligned(4096))), pd_test[512] __attribute__((aligned(4096)));
static uint32_t pd32[1024] __attribute__((aligned(4096)));

enum access { READ, WRITE, FETCH, IMPLICIT, ACCESSES };
static const char *const access_name[] = { "read", "write", "fetch", "implicit read" };
enum who { USER3, KERNEL, KERNEL_AC, WHOS };
static const char *const who_name[] = { "user", "kernel", "kernel AC=1" };
enum { C_WP = 1, C_SMEP = 2, C_SMAP = 4, C_NXE = 8, CONFIGS = 16 };

static bool pae;
static unsigned config;
static const void *snippets[ACCESSES];

static uint64_t get_pde(void)
{
	return pae ? *(volatile uint64_t *)pd_test : ((volatile uint32_t *)pd32)[768];
}

static uint64_t get_pte(void)
{
	return pae ? *(volatile uint64_t *)table_a : *(volatile uint32_t *)table_a;
}

/* big: the PDE maps a 4 MiB (PAE: 2 MiB) page. Returns the linear address of page_a. */
static word map(bool big, uint64_t pde, uint64_t pte)
{
	word mask = big ? pae ? 0x1fffff : 0x3fffff : 0xfff;

	pde |= big ? ((word)page_a & ~mask) | PS : (word)table_a;
	pte |= (word)page_a;
	if (pae) {
		*(volatile uint64_t *)pd_test = pde;
		*(volatile uint64_t *)table_a = pte;
	} else {
		((volatile uint32_t *)pd32)[768] = (uint32_t)pde;
		*(volatile uint32_t *)table_a = (uint32_t)pte;
	}
	flush();
	return TEST_VA + ((word)page_a & mask);
}

static void configure(unsigned cfg)
{
	word cr4 = read_cr4() & ~(word)(CR4_SMEP | CR4_SMAP);

	config = cfg;
	write_cr0(cfg & C_WP ? read_cr0() | CR0_WP : read_cr0() & ~(word)CR0_WP);
	write_cr4(cr4 | (cfg & C_SMEP ? CR4_SMEP : 0) | (cfg & C_SMAP ? CR4_SMAP : 0));
	wrmsr(MSR_EFER, cfg & C_NXE ? EFER_NXE : 0);
}

static int expected(bool big, uint64_t pde, uint64_t pte, enum who who, enum access acc, uint64_t rsvd)
{
	bool user = who == USER3 && acc != IMPLICIT, nxe = pae && (config & C_NXE);
	uint64_t all = big ? pde : pde & pte, any = big ? pde : pde | pte;
	int err = (acc == WRITE ? E_W : 0) | (user ? E_U : 0) |
		  (acc == FETCH && (nxe || (config & C_SMEP)) ? E_I : 0);
	bool bad;

	if (!(pde & P))
		return err;
	if ((pde & rsvd) || (pae && (pde & NX) && !nxe))
		return err | E_P | E_R;
	if (!(all & P))
		return err;
	if ((any & rsvd) || (pae && (any & NX) && !nxe))
		return err | E_P | E_R;
	if (user)
		bad = !(all & U) || (acc == WRITE && !(all & W)) || (acc == FETCH && (any & NX));
	else if (acc == FETCH)
		bad = (any & NX) || ((all & U) && (config & C_SMEP));
	else
		bad = (acc == WRITE && !(all & W) && (config & C_WP)) ||
		      ((all & U) && (config & C_SMAP) && (who != KERNEL_AC || acc == IMPLICIT));
	return bad ? err | E_P : -1;
}

static void one(bool big, uint64_t pde, uint64_t pte, enum who who, enum access acc, uint64_t rsvd)
{
	int want = expected(big, pde, pte, who, acc, rsvd);
	word va = map(big, pde, pte);
	uint64_t leaf, bits = want >= 0 ? 0 : A | (acc == WRITE ? D : 0);
	struct ctx c;

	ctx_init(&c, who == USER3 ? U32 : K32, snippets[acc]);
	c.flags |= who == KERNEL_AC ? F_AC : 0;
	c.di = va + 16;
	c.ax = 0xcd;
	if (acc == IMPLICIT) {
		set_system_desc(&gdt[SEL_LDT >> 3], va, 0xfff, D_LDT);
		__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
		c.ax = 16 | 4 | 3;
	}
	run(&c);
	leaf = big ? get_pde() : get_pte();
	if (trap.count == 1 && trap.vec == (want >= 0 ? PF : DONE) && (want < 0 || (trap.err == (word)want && trap.cr2 == va + 16)) &&
	    trap.r.ip == (acc == FETCH ? va + 16 + (want >= 0 ? 0 : 2) : c.ip + (want >= 0 ? 0 : 6)) &&
	    (leaf & (A | D)) == bits && (want >= 0 || big || (get_pde() & A))) {
		check(true, " ");
		return;
	}
	casef("%s %s%s%s%s%s%s, PDE 0x%lx%s PTE 0x%lx%s", pae ? "PAE" : "32-bit", big ? "big " : "", config & C_WP ? "WP " : "",
	      config & C_SMEP ? "SMEP " : "", config & C_SMAP ? "SMAP " : "", config & C_NXE ? "NXE " : "", who_name[who],
	      (word)pde, pde & NX ? " NX" : "", (word)pte, pte & NX ? " NX" : "");
	check(false, "%s: vector %d error 0x%lx ip 0x%lx cr2 0x%lx leaf 0x%lx; expected %s 0x%x", access_name[acc], (int)trap.vec,
	      trap.err, trap.r.ip, trap.cr2, (word)leaf, want >= 0 ? "#PF" : "success", want);
}

static void all(bool big, uint64_t pde, uint64_t pte, uint64_t rsvd)
{
	unsigned who, acc;

	for (who = 0; who < WHOS; who++)
		for (acc = 0; acc < ACCESSES; acc++)
			one(big, pde, pte, who, acc, rsvd);
}

static uint64_t rights(unsigned i)
{
	return (i & 1 ? P : 0) | (i & 2 ? W : 0) | (i & 4 ? U : 0) | (i & 8 ? NX : 0);
}

static void permissions(void)
{
	unsigned i, n = pae ? 16 : 8;

	for (i = 0; i < n; i++) {
		all(false, P | W | U, rights(i), 0);
		all(false, rights(i), P | W | U, 0);
		all(false, rights(i), P | W, 0);
		all(true, rights(i), 0, 0);
	}
}

static void configs(void)
{
	unsigned cfg;

	for (cfg = 0; cfg < CONFIGS; cfg++) {
		if (((cfg & C_SMEP) && !HAS_SMEP) || ((cfg & C_SMAP) && !HAS_SMAP)) {
			skip("SMEP or SMAP");
			continue;
		}
		configure(cfg);
		permissions();
	}
	configure(C_WP);
}

static void common_rows(void)
{
	word va = map(false, P | W | U, P | W | U);

	row("read across into a missing page", CODE("mov eax, [edi]"), .di = va + 4093, .vec = PF, .cr2 = va + 4096);
	row("write across into a missing page", CODE("mov [edi], eax"), .env = U32, .di = va + 4094, .vec = PF,
	    .err = E_W | E_U, .cr2 = va + 4096);
	row("#PF of a push", CODE("push eax"), .env = U32, .sp = va + 4096 + 64, .vec = PF, .err = E_W | E_U,
	    .cr2 = va + 4096 + 60);
	row("CR2 is 32 bits", CODE("mov al, [edi]"), .di = 0xfffffff0, .vec = PF, .cr2 = 0xfffffff0);
	row("segment base wraps in 32 bits", CODE("mov es, eax; mov cl, es:[edi]"), .ax = SEL_FREE, .di = 0x1010, .vec = DONE);
	row("linear address wraps at 4 GiB", CODE("mov es, eax; mov cl, es:[edi]"), .ax = SEL_FREE, .di = 0xff0, .off = 2,
	    .vec = PF, .cr2 = 0xfffffff0);
	row("a hole, user write", CODE("mov [edi], eax"), .env = U32, .di = 0x50000000, .vec = PF, .err = E_W | E_U,
	    .cr2 = 0x50000000);
}

static void start(bool with_pae)
{
	unsigned i;

	pae = with_pae;
	if (pae) {
		pdpt[0] = (word)pd_low | P;
		pdpt[3] = (word)pd_test | P;
		for (i = 0; i < 2; i++) {
			pd_low[i] = i * 0x200000 | PS | W | P;
			pd_low[256 + i] = i * 0x200000 | PS | U | W | P;
		}
		write_cr4(CR4_PAE);
		write_cr3((word)pdpt);
	} else {
		pd32[0] = PS | W | P;
		pd32[128] = PS | U | W | P;
		write_cr4(CR4_PSE);
		write_cr3((word)pd32);
	}
	write_cr0(read_cr0() | CR0_PG);
	ubase = 0x20000000;
}

static void stop(void)
{
	write_cr0(read_cr0() & ~(word)CR0_PG);
	write_cr4(0);
	wrmsr(MSR_EFER, 0);
	ubase = 0;
}

static void legacy_rows(void)
{
	volatile uint32_t *low = (uint32_t *)table_b;
	unsigned i;

	one(true, P | W | U | 1 << 21, 0, USER3, READ, 1 << 21);
	one(true, P | W | U | 1 << 21, 0, KERNEL, WRITE, 1 << 21);
	/* PDE bits that are ignored or attributes. */
	for (i = 9; i < 12; i++)
		one(true, P | W | U | 1u << i, 0, USER3, READ, 0);
	one(false, P | W | U | G, P | W | U | G, USER3, WRITE, 0);
	/* Without PSE, bit 7 of a PDE means nothing: the low 4 MiB need a table then. */
	for (i = 0; i < 1024; i++)
		low[i] = i << 12 | W | P | U;
	((volatile uint32_t *)pd32)[0] = (uint32_t)(word)table_b | W | P;
	((volatile uint32_t *)pd32)[128] = (uint32_t)(word)table_b | W | P | U;
	flush();
	write_cr4(0);
	((volatile uint32_t *)pd32)[768] = (uint32_t)(word)table_a | P | W | U | PS;
	*(volatile uint32_t *)table_a = (uint32_t)(word)page_a | P | W | U;
	flush();
	row("PS without PSE", CODE("mov eax, [edi]"), .di = TEST_VA + 16, .vec = DONE, .check_ax = true,
	    .want_ax = *(volatile uint32_t *)(page_a + 16));
}

static void pae_rows(void)
{
	unsigned bit;
	word cr3 = read_cr3();

	configure(C_WP | C_NXE);
	one(true, P | W | U | 1 << 13, 0, USER3, READ, 1 << 13);
	one(true, P | W | U | 1 << 20, 0, KERNEL, WRITE, 1 << 20);
	one(false, P | W | U | 1ull << 62, P | W | U, USER3, READ, 1ull << 62);
	one(false, P | W | U, P | W | U | 1ull << 52, USER3, WRITE, 1ull << 52);
	if (phys_bits() < 52) {
		one(false, P | W | U, P | W | U | 1ull << 51, USER3, FETCH, 1ull << 51);
		one(false, P | W | U | 1ull << phys_bits(), P | W | U, KERNEL, READ, 1ull << phys_bits());
	}
	/* PDPTEs are checked, and loaded, by MOV to CR3. */
	for (bit = 1; bit <= 8; bit++) {
		if (bit == 3 || bit == 4)
			continue;
		((volatile uint64_t *)pdpt)[3] = (word)pd_test | P | 1u << bit;
		casef("PDPTE bit %d", bit);
		row("PDPTE with a reserved bit", CODE("mov cr3, eax"), .ax = cr3, .vec = GP);
		((volatile uint64_t *)pdpt)[3] = (word)pd_test | 1u << bit;
		row("ignored when not present", CODE("mov cr3, eax"), .ax = cr3, .vec = DONE);
	}
	((volatile uint64_t *)pdpt)[3] = (word)pd_test | P | NX;
	row("PDPTE with bit 63", CODE("mov cr3, eax"), .ax = cr3, .vec = GP);
	((volatile uint64_t *)pdpt)[3] = 0;
	write_cr3(cr3);
	row("PDPTE not present", CODE("mov al, [edi]"), .di = TEST_VA, .vec = PF, .cr2 = TEST_VA);
	row("PDPTE not present, user fetch", CODE("jmp edi"), .env = U32, .di = TEST_VA, .vec = PF, .err = E_U | E_I, .any_ip = true,
	    .cr2 = TEST_VA);
	((volatile uint64_t *)pdpt)[3] = (word)pd_test | P;
	write_cr3(cr3);
	map(false, P | W | U, P | W | U);
	row("PDPTE present again", CODE("mov al, [edi]"), .di = TEST_VA, .vec = DONE);
}

void guest_main(void)
{
	snippets[READ] = CODE("mov al, [edi]; nop; nop");
	snippets[WRITE] = CODE("mov [edi], al; nop; nop");
	snippets[FETCH] = CODE("jmp edi");
	snippets[IMPLICIT] = CODE("mov ds, eax; nop; nop");
	*(volatile uint64_t *)(page_a + 16) = 0x00cff3000000fecd;
	gdt_set(SEL_FREE, seg_desc(0xfffff000, 0xfffff, D_DATA, FL_DB | FL_G));
	start(false);
	configs();
	common_rows();
	legacy_rows();
	stop();
	start(true);
	configs();
	common_rows();
	pae_rows();
	stop();
	row("paging off again", CODE("nop"), .vec = DONE);
}
