/*
 * The guest's x87, SSE, AVX and AVX-512 state: kept in the hardware while translated and light C code run, moved to
 * vcpu.fpu and back for everything else. XSAVE and XRSTOR are used for their memory of components that are in
 * their initial state: loading zeros instead would leave upper halves in use, and cost every legacy SSE instruction of
 * the guest dearly.
 */
#include <cpuid.h>
#include <errno.h>
#include <sys/mman.h>

#include "engine/bt/internal.h"

#define FX_FSW 2
#define FSW_ES 0x80
#define FX_FOP 6
#define FX_FIP 8
#define FX_FDP 16
#define XSAVE_HEADER 512 /* XSTATE_BV */
#define XSAVE_XMM 160
#define FX_XMM_SIZE 256

enum { COMP_X87, COMP_SSE, COMP_AVX, COMP_OPMASK = 5, COMP_ZMM_HI256, COMP_HI16_ZMM, COMP_COUNT };

static uint64_t xgetbv(void)
{
	uint32_t lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static bool records_fop(void)
{
	_Alignas(16) uint8_t fx[512];

	asm volatile("fninit; fld1; fxsave64 %0; fninit" : "=m"(fx));
	return fx[FX_FOP] | fx[FX_FOP + 1];
}

static uint32_t mxcsr_mask(void)
{
	_Alignas(16) uint8_t fx[512];
	uint32_t mask;

	asm volatile("fxsave64 %0" : "=m"(fx));
	memcpy(&mask, fx + 28, 4);
	return mask;
}

int fpu_init(struct bt *bt, struct err *err)
{
	unsigned a, b, c, d, size = 0;

	if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return err_set(err, ENOTSUP, "the host CPU has no XSAVE, or its kernel does not enable it");
	bt->xsave_mask = xgetbv() & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM);
	for (unsigned i = COMP_AVX; i < COMP_COUNT; i++) {
		if (!(bt->xsave_mask >> i & 1) || !__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			continue;
		bt->xsave_at[i] = b;
		size = (unsigned)max_u64(size, b + a);
	}
	bt->records_fop = records_fop();
	bt->mxcsr_mask = mxcsr_mask();
	bt->has_xinuse = __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && (a & BIT(2));
	bt->xsave_size = (uint32_t)align_up(max_u64(size, 576), 4096);
	bt->xsave = mmap(NULL, bt->xsave_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bt->xsave == MAP_FAILED) {
		bt->xsave = NULL;
		return err_set(err, ENOMEM, "out of host memory");
	}
	return 0;
}

void fpu_fini(struct bt *bt)
{
	if (bt->xsave)
		munmap(bt->xsave, bt->xsave_size);
	bt->xsave = NULL;
}

static bool in_use(uint64_t bv, unsigned component)
{
	return bv >> component & 1;
}

/* One part of all vector registers, between the XSAVE area and the register file. */
static void move_part(struct bt *bt, unsigned component, unsigned first, unsigned at, unsigned len, bool to_area)
{
	struct fpu_state *f = &bt->v->fpu;
	uint8_t *area = bt->xsave + (component == COMP_SSE ? XSAVE_XMM : bt->xsave_at[component]);

	for (unsigned i = 0; i < 16; i++) {
		uint64_t *a = (uint64_t *)(area + i * len), *z = (uint64_t *)(f->zmm[first + i] + at);

		/* In words: REP MOVSB, which memcpy() is here, takes longer to begin than this to end. */
		for (unsigned n = len / 8; n--; a++, z++) {
			if (to_area)
				*a = *z;
			else
				*z = *a;
		}
	}
}

static const struct {
	uint8_t component, first, at, len;
} parts[] = {
	{COMP_SSE, 0, 0, 16},
	{COMP_AVX, 0, 16, 16},
	{COMP_ZMM_HI256, 0, 32, 32},
	{COMP_HI16_ZMM, 16, 0, 64},
};

/* Linear address that level 1 maps to this host address in a mode; 0: it does not, or no longer. */
static uint64_t linear_of(const struct bt *bt, unsigned mode, uint64_t host)
{
	const struct mmu *m = &bt->v->mmu;
	uint64_t page = align_down(host, GUEST_PAGE_SIZE);

	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		if (tlb_host(&m->read[mode][i]) == page)
			return m->read[mode][i].tag + (host - page);
		if (tlb_host(&m->write[mode][i]) == page)
			return m->write[mode][i].tag + (host - page);
	}
	return 0;
}

static bool is_guest_ram(const struct guest_mem *m, uint64_t host)
{
	uint64_t size;
	gpa_t base;

	for (unsigned i = 0; guest_mem_region(m, i, &base, &size); i++)
		if (host - (uint64_t)guest_ptr(m, base, size) < size)
			return true;
	return false;
}

/* An x87 instruction's opcode and ModRM, and its segment when that has a base. Not with Zydis: vector state is live. */
struct x87_insn {
	uint16_t fop;
	uint8_t modrm;
	int seg;
};

static struct x87_insn parse_x87(const uint8_t *p, unsigned len)
{
	struct x87_insn x = {.seg = -1};

	for (unsigned i = 0; i + 1 < len; i++) {
		if (p[i] >= 0xd8 && p[i] <= 0xdf) {
			x.modrm = p[i + 1];
			x.fop = (uint16_t)((p[i] & 7) << 8 | x.modrm);
			break;
		}
		if (p[i] == 0x64 || p[i] == 0x65)
			x.seg = p[i] == 0x64 ? S_FS : S_GS;
	}
	return x;
}

static void set_fx(uint8_t *fx, unsigned at, uint64_t value, size_t size)
{
	memcpy(fx + at, &value, size);
}

/* Where operands across a page end are put together. */
static bool is_bounce(const struct bt *bt, uint64_t host)
{
	return host - (uint64_t)bt->v->bounce < sizeof(bt->v->bounce);
}

static uint64_t guest_data_pointer(const struct bt *bt, unsigned mode, const struct x87_insn *x, uint64_t host)
{
	uint64_t va = is_bounce(bt, host) ? (host == (uint64_t)bt->crossing.buf ? bt->crossing.va : 0) :
		linear_of(bt, mode, host);

	/* FDP is an offset into the segment; the instruction is the one that accessed it when it has an operand. */
	return va && x->seg >= 0 && x->modrm < 0xc0 ? va - bt->v->seg[x->seg].base : va;
}

/*
 * The guest's own FIP and FDP never get into the hardware: what comes back from there is then either 0, when no x87
 * instruction has run since, or a host address. (A guest could otherwise try addresses, and see which are translated.)
 */
void fpu_hide_pointers(struct bt *bt, uint8_t *fx)
{
	memcpy(&bt->kept_fip, fx + FX_FIP, 8);
	memcpy(&bt->kept_fdp, fx + FX_FDP, 8);
	set_fx(fx, FX_FIP, 0, 8);
	set_fx(fx, FX_FDP, 0, 8);
}

/*
 * The last x87 instruction ran as a copy in the cache: where the guest has it, and its operand, comes in place of host
 * addresses, which no guest must see. 0 where that is not known any more, as after eviction.
 */
void fpu_fix_pointers(struct bt *bt, uint8_t *fx)
{
	struct guest_mem *mem = bt->v->mem;
	struct x87_insn guest = {.seg = -1}, host;
	uint64_t ip, dp, rip = 0;
	unsigned i, len, mode = MMU_KERNEL;
	const struct block *b;
	const uint8_t *bytes;
	uint16_t fop;

	memcpy(&ip, fx + FX_FIP, 8);
	memcpy(&dp, fx + FX_FDP, 8);
	memcpy(&fop, fx + FX_FOP, 2);
	if (!cache_contains(bt, ip)) {
		set_fx(fx, FX_FIP, bt->kept_fip, 8);
		set_fx(fx, FX_FDP, bt->kept_fdp, 8);
		return;
	}
	b = cache_block_at(bt, ip, &i);
	if (b) {
		mode = b->mode & MODE_MMU;
		rip = b->insn[i].guest_off + (block_floats(b->mode) ? bt->x87_page_va + (b->gpa & 0xfff) : b->va);
		len = (unsigned)b->insn[i + 1].guest_off - b->insn[i].guest_off;
		bytes = guest_ptr(mem, GPA(b->gpa + b->insn[i].guest_off), len);
		guest = parse_x87(bytes, bytes ? len : 0);
		host = parse_x87((const uint8_t *)ip, X86_INSN_MAX);
		if (guest.fop && fop == host.fop && (bt->records_fop || (fx[FX_FSW] & FSW_ES)))
			set_fx(fx, FX_FOP, guest.fop, 2);
	}
	set_fx(fx, FX_FIP, rip, 8);
	if (!dp)
		dp = bt->kept_fdp;
	else
		dp = is_guest_ram(mem, dp) || is_bounce(bt, dp) ? guest_data_pointer(bt, mode, &guest, dp) : 0;
	set_fx(fx, FX_FDP, dp, 8);
}

void fpu_spill(struct vcpu *v)
{
	struct bt *bt = bt_of(v);
	uint64_t bv;

	/* XSAVE writes components in use only; the legacy part must say so for the others. */
	asm volatile("xsave64 %0" : "=m"(*(uint8_t(*)[4096])bt->xsave) : "a"((uint32_t)bt->xsave_mask), "d"(0));
	memcpy(&bv, bt->xsave + XSAVE_HEADER, 8);
	memcpy(v->fpu.fx, bt->xsave, XSAVE_XMM);
	if (!in_use(bv, COMP_X87)) { /* FNINIT's state */
		uint16_t fcw = 0x37f;

		memset(v->fpu.fx, 0, 24);
		memset(v->fpu.fx + 32, 0, 128);
		memcpy(v->fpu.fx, &fcw, 2);
	}
	fpu_fix_pointers(bt, v->fpu.fx);
	memset(v->fpu.zmm, 0, sizeof(v->fpu.zmm));
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (in_use(bv, parts[i].component))
			move_part(bt, parts[i].component, parts[i].first, parts[i].at, parts[i].len, false);
	memset(v->fpu.k, 0, sizeof(v->fpu.k));
	if (in_use(bv, COMP_OPMASK))
		memcpy(v->fpu.k, bt->xsave + bt->xsave_at[COMP_OPMASK], sizeof(v->fpu.k));
	v->fpu_live = false;
	bt->stat[STAT_SPILLS]++;
}

static bool part_in_use(const struct vcpu *v, unsigned first, unsigned at, unsigned len)
{
	uint64_t any = 0;

	for (unsigned r = 0; r < 16; r++)
		for (unsigned i = 0; i < len; i += 8)
			any |= *(const uint64_t *)(v->fpu.zmm[first + r] + at + i);
	return any;
}

void fpu_load(struct bt *bt)
{
	struct vcpu *v = bt->v;
	uint64_t bv = XCR0_X87;
	uint64_t any = 0;

	memcpy(bt->xsave, v->fpu.fx, XSAVE_XMM);
	fpu_hide_pointers(bt, bt->xsave);
	asm volatile("stmxcsr %0" : "=m"(*(uint32_t *)(bt->xsave + 24))); /* the hardware's is the guest's */
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!in_use(bt->xsave_mask, parts[i].component) ||
		    !part_in_use(v, parts[i].first, parts[i].at, parts[i].len))
			continue;
		bv |= BIT(parts[i].component);
		move_part(bt, parts[i].component, parts[i].first, parts[i].at, parts[i].len, true);
	}
	for (unsigned i = 0; i < 8; i++)
		any |= v->fpu.k[i];
	if (any && in_use(bt->xsave_mask, COMP_OPMASK)) {
		bv |= XCR0_OPMASK;
		memcpy(bt->xsave + bt->xsave_at[COMP_OPMASK], v->fpu.k, sizeof(v->fpu.k));
	}
	memset(bt->xsave + XSAVE_HEADER, 0, 64);
	memcpy(bt->xsave + XSAVE_HEADER, &bv, 8);
	asm volatile("xrstor64 %0" : : "m"(*(uint8_t(*)[4096])bt->xsave), "a"((uint32_t)bt->xsave_mask), "d"(0));
	v->fpu_live = true;
}
