/*
 * isolation_vec.c - accesses of many parts: repeated string instructions that fault half-way, gathers, scatters, masked
 * moves, state images. What was done before the fault stays, what was not active is not touched.
 */
#include "isolation.h"

/* A hole on both sides of two pages, the second read-only. */
const struct mapping space[] = {
	{ WIN, filled[0], P | W | U },
	{ WIN + 0x1000, filled[1], P | U },
	{ WIN + 0x3000, filled[2], P | W | U },
	{ WIN + 0x5000, filled[3], P | W },
	{ LOW_END - PAGE_4K, filled[0], P | W | U },
};
const unsigned space_size = sizeof(space) / sizeof(*space);

/* REP with an end it does not reach: registers after the fault say how far it got. */
struct rep {
	const char *name;
	const void *code;
	word si, di, cx, cr2;
	word want_si, want_di, want_cx;
	int vec;
	word err;
	bool backward;
};

static void rep_rows(void)
{
	const void *stosb = CODE("rep stosb"), *stosq = CODE("rep stosq"), *movsb = CODE("rep movsb"),
		   *movsq = CODE("rep movsq"), *lodsd = CODE("rep lodsd"), *scasb = CODE("repne scasb"),
		   *cmpsb = CODE("repe cmpsb");
	const word w = WIN;
	const struct rep t[] = {
		{ "stosb into read-only", stosb, 0, w + 0xff0, 64, w + 0x1000, 0, w + 0x1000, 48, PF, E_P | E_W, false },
		{ "stosq into read-only", stosq, 0, w + 0xff4, 64, w + 0x1000, 0, w + 0xffc, 63, PF, E_P | E_W, false },
		{ "stosb huge", stosb, 0, w + 0x3000, ~0ul, w + 0x4000, 0, w + 0x4000, ~0ul - 0x1000, PF, E_W, false },
		{ "stosq huge, from a hole", stosq, 0, w + 0x2000, 1ul << 60, w + 0x2000, 0, w + 0x2000, 1ul << 60, PF, E_W,
		  false },
		{ "stosb down into a hole", stosb, 0, w + 0x3003, 100, w + 0x2fff, 0, w + 0x2fff, 96, PF, E_W, true },
		{ "stosq down across", stosq, 0, w + 0x3008, 100, w + 0x2ff8, 0, w + 0x2ff8, 98, PF, E_W, true },
		{ "movsb, the source ends", movsb, w + 0x1ffe, w + 0x3000, 9, w + 0x2000, w + 0x2000, w + 0x3002, 7, PF, 0,
		  false },
		{ "movsb, the destination ends", movsb, w, w + 0x3ffe, 9, w + 0x4000, w + 2, w + 0x4000, 7, PF, E_W, false },
		{ "movsq, both at once", movsq, w + 0x1ff8, w + 0x3ff8, 9, w + 0x2000, w + 0x2000, w + 0x4000, 8, PF, 0,
		  false },
		{ "movsb down", movsb, w + 0x3001, w + 0x10, 9, w + 0x2fff, w + 0x2fff, w + 0xe, 7, PF, 0, true },
		{ "lodsd to the end", lodsd, w + 0x1ff4, 0, 50, w + 0x2000, w + 0x2000, 0, 47, PF, 0, false },
		{ "scasb to the end", scasb, 0, w + 0x1ff0, 50, w + 0x2000, 0, w + 0x2000, 34, PF, 0, false },
		{ "cmpsb of itself", cmpsb, w + 0x1ff0, w + 0x1ff0, 50, w + 0x2000, w + 0x2000, w + 0x2000, 34, PF, 0, false },
		{ "stosb over the end of canonical addresses", stosb, 0, LOW_END - 8, 50, 0, 0, LOW_END, 42, GP, 0, false },
		{ "stosq not canonical", stosq, 0, 1ul << 60, 2, 0, 0, 1ul << 60, 2, GP, 0, false },
		{ "movsb from what is not canonical", movsb, 1ul << 63, w, 2, 0, 1ul << 63, w, 2, GP, 0, false },
		{ "no rounds, wild", movsb, 1ul << 63, ~0ul << 47, 0, 0, 1ul << 63, ~0ul << 47, 0, DONE, 0, false },
	};
	unsigned i, k;

	for (k = 0; k < 6; k++)
		for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
			struct ctx c;

			casef("rep %s, %s", t[i].name, k & 1 ? "user" : "kernel");
			ctx_init(&c, k & 1 ? U64 : K64, t[i].code);
			c.si = t[i].si;
			c.di = t[i].di;
			c.cx = t[i].cx;
			c.ax = 0x5a5a5a5a5a5a5a5a;
			c.flags |= t[i].backward ? F_DF : 0;
			run(&c);
			if (!check_trap(&c, t[i].vec, t[i].err | (k & 1 && t[i].vec == PF ? E_U : 0)))
				continue;
			if (t[i].vec == PF)
				check_eq("CR2", trap.cr2, t[i].cr2);
			check_eq("RSI", trap.r.si, t[i].want_si);
			check_eq("RDI", trap.r.di, t[i].want_di);
			check_eq("RCX", trap.r.cx, t[i].want_cx);
			if (t[i].code == stosb && t[i].want_di > t[i].di && t[i].vec != DONE)
				check_eq("last byte", expect_value(t[i].want_di - 1, 1), 0x5a);
			fill();
		}
}

/* 32-bit counts and addresses wrap at 4 GiB, and no further. */
static void rep_a67(void)
{
	struct ctx c;

	ctx_init(&c, U64, CODE("rep stosb [edi]"));
	c.di = 0xdead00000000ul | (UBASE - 2 + 0x400000);
	c.cx = 0xbeef00000005ul;
	casef("rep stosb [edi]");
	run(&c);
	if (check_trap(&c, PF, E_P | E_W | E_U)) {
		check_eq("CR2", trap.cr2, UBASE + 0x400000);
		check_eq("RDI", trap.r.di, UBASE + 0x400000);
		check_eq("RCX", trap.r.cx, 3);
	}
}

static uint8_t vec[16][64] __attribute__((aligned(64)));

static void load_ymm(void)
{
	__asm__ volatile("vmovdqu %0, %%ymm1; vmovdqu %1, %%ymm2; vmovdqu %2, %%ymm3"
			 :
			 : "m"(vec[1]), "m"(vec[2]), "m"(vec[3]));
}

static void store_ymm(void)
{
	__asm__ volatile("vmovdqu %%ymm1, %0; vmovdqu %%ymm2, %1; vmovdqu %%ymm3, %2"
			 : "=m"(vec[1]), "=m"(vec[2]), "=m"(vec[3]));
}

static void set32(unsigned v, unsigned i, uint32_t x)
{
	((volatile uint32_t *)vec[v])[i] = x;
}
static void set64(unsigned v, unsigned i, uint64_t x)
{
	((volatile uint64_t *)vec[v])[i] = x;
}
static uint32_t get32(unsigned v, unsigned i)
{
	return ((volatile uint32_t *)vec[v])[i];
}
static uint64_t get64(unsigned v, unsigned i)
{
	return ((volatile uint64_t *)vec[v])[i];
}

static void clear(void)
{
	zero(vec, sizeof(vec));
}

/* ymm3: mask. Stores and loads at the hole: only active elements fault, none is written when one does. */
static void masked_moves(enum env env)
{
	const void *store = CODE("vmaskmovps [rdi], ymm3, ymm1"), *load = CODE("vmaskmovps ymm1, ymm3, [rdi]"),
		   *pstore = CODE("vpmaskmovq [rdi], ymm3, ymm1");
	word u = env == U64 ? E_U : 0;
	unsigned i;

	for (i = 0; i < 8; i++) {
		struct ctx c;
		word at = WIN + 0x4000 - 16; /* elements 0..3 are there, 4..7 are not */

		clear();
		set32(3, i, 0x80000000);
		set32(1, i, 0x01010101 * (i + 1));
		load_ymm();
		casef("vmaskmovps store, element %d alone", i);
		ctx_init(&c, env, store);
		c.di = at;
		run(&c);
		if (check_trap(&c, i < 4 ? DONE : PF, E_W | u) && i >= 4)
			check(trap.cr2 - (WIN + 0x4000) < 16, "CR2 is 0x%lx", trap.cr2);
		check_eq("words disturbed", disturbed(), i < 4);
		fill();
		casef("vmaskmovps load, element %d alone", i);
		ctx_init(&c, env, load);
		c.di = at;
		run(&c);
		if (check_trap(&c, i < 4 ? DONE : PF, u) && i < 4) {
			store_ymm();
			check_eq("loaded", get32(1, i), expect_value(at + 4 * i, 4));
			check_eq("the next one", get32(1, (i + 1) & 7), 0);
		}
		casef("vmaskmovps at an address that is not canonical, no element");
		clear();
		load_ymm();
		ctx_init(&c, env, store);
		c.di = WIN + 0x4000;
		run(&c);
		check_trap(&c, DONE, 0);
		casef("vpmaskmovq, elements on both sides");
		set64(3, 0, 1ul << 63);
		set64(3, 3, 1ul << 63);
		load_ymm();
		ctx_init(&c, env, pstore);
		c.di = at;
		run(&c);
		check_trap(&c, PF, E_W | u);
		check_eq("words disturbed by a store that faults", disturbed(), 0);
		fill();
	}
}

/* Indices all over the address space; the mask shows which elements are done. */
static void gathers(enum env env)
{
	static const struct {
		word index; /* from WIN */
		int vec;
		word err;
	} t[] = {
		{ 0, DONE, 0 },
		{ 0xffc, DONE, 0 },
		{ 0x1ffc, PF, 0 }, /* across into the hole */
		{ 0x2000, PF, 0 },
		{ -8ul, PF, 0 },
		{ 0x7ffff7dd1000 - WIN, PF, 0 },
		{ LOW_END - WIN, GP, 0 },
		{ LOW_END - 4 - WIN, GP, 0 },
		{ 0x5000, PF, E_P },
		{ HIGH_START - WIN - 1, GP, 0 },
	};
	const void *code = CODE("vpgatherqq ymm1, [rdi + ymm2], ymm3");
	unsigned i, k;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++)
		for (k = 0; k < 4; k++) {
			bool user = env == U64, kernel_page = t[i].index == 0x5000;
			int want = kernel_page && !user ? DONE : t[i].vec;
			struct ctx c;
			unsigned e;

			clear();
			for (e = 0; e < 4; e++) {
				set64(2, e, e == k ? t[i].index : 8 * e + 0x100);
				set64(3, e, ~0ul);
			}
			load_ymm();
			casef("vpgatherqq, element %d at WIN + 0x%lx, %s", k, t[i].index, user ? "user" : "kernel");
			ctx_init(&c, env, code);
			c.di = WIN;
			run(&c);
			if (!check_trap(&c, want, want == PF ? t[i].err | (user ? E_U : 0) : 0))
				continue;
			store_ymm();
			if (want == PF)
				check_eq("CR2", trap.cr2, WIN + (t[i].index == 0x1ffc ? 0x2000 : t[i].index));
			for (e = 0; e < (want == DONE ? 4 : k); e++) {
				check_eq("element", get64(1, e), expect_value(WIN + get64(2, e), 8));
				check_eq("its mask", get64(3, e), 0);
			}
			if (want != DONE)
				check_eq("mask of the one that faults", get64(3, k), ~0ul);
			/* The same with the wild one inactive. */
			clear();
			for (e = 0; e < 4; e++) {
				set64(2, e, e == k ? t[i].index : 8 * e + 0x100);
				set64(3, e, e == k ? 0 : ~0ul);
			}
			load_ymm();
			casef("vpgatherqq, element %d inactive at WIN + 0x%lx", k, t[i].index);
			ctx_init(&c, env, code);
			c.di = WIN;
			run(&c);
			check_trap(&c, DONE, 0);
		}
}

/* k1 from ECX. Scatters and masked stores of AVX-512. */
static void avx512(enum env env)
{
	const void *store = CODE("kmovd k1, ecx; vmovdqu32 [rdi]%{k1%}, zmm1"),
		   *scatter = CODE("kmovd k1, ecx; vpscatterdd [rdi + zmm2 * 4]%{k1%}, zmm1; kmovd eax, k1"),
		   *compress = CODE("kmovd k1, ecx; vpcompressd [rdi]%{k1%}, zmm1");
	word u = env == U64 ? E_U : 0;
	unsigned i;

	for (i = 0; i < 16; i++) {
		struct ctx c;
		unsigned k;

		clear();
		for (k = 0; k < 16; k++) {
			set32(1, k, 0x5a5a5a00 + k);
			set32(2, k, k == i ? 0x400 : k); /* 0x400 * 4: the read-only page */
		}
		__asm__ volatile("vmovdqu32 %0, %%zmm1; vmovdqu32 %1, %%zmm2" : : "m"(vec[1]), "m"(vec[2]));
		casef("masked store, element %d alone", i);
		ctx_init(&c, env, store);
		c.di = WIN + 0x1000 - 32;
		c.cx = 1u << i;
		run(&c);
		c.ip += 4;
		check_trap(&c, i < 8 ? DONE : PF, E_P | E_W | u);
		check_eq("words disturbed", disturbed(), i < 8);
		fill();
		casef("masked store, all elements but those that are there, %d", i);
		ctx_init(&c, env, store);
		c.di = WIN + 0x1000 - 32;
		c.cx = 0xffff & ~(1u << i);
		run(&c);
		c.ip += 4;
		if (check_trap(&c, PF, E_P | E_W | u))
			check_eq("CR2 in the second page", trap.cr2 & ~0x1ful, WIN + 0x1000);
		check_eq("words disturbed by a store that faults", disturbed(), 0);
		casef("scatter, element %d read-only", i);
		ctx_init(&c, env, scatter);
		c.di = WIN;
		c.cx = 0xffff;
		run(&c);
		c.ip += 4;
		if (check_trap(&c, PF, E_P | E_W | u))
			check_eq("CR2", trap.cr2, WIN + 0x1000);
		for (k = 0; k < i; k++)
			check_eq("elements before it", ((volatile uint32_t *)filled[0])[k], 0x5a5a5a00 + k);
		fill();
		casef("scatter, element %d inactive", i);
		ctx_init(&c, env, scatter);
		c.di = WIN;
		c.cx = 0xffff & ~(1u << i);
		run(&c);
		if (check_trap(&c, DONE, 0))
			check_eq("mask", trap.r.ax, 0);
		fill();
		casef("compress of %d elements", i);
		ctx_init(&c, env, compress);
		c.di = WIN + 0x1000 - 16;
		c.cx = 0xffff >> (15 - i);
		run(&c);
		c.ip += 4;
		check_trap(&c, i < 4 ? DONE : PF, E_P | E_W | u);
		fill();
	}
}

/* State images at edges. */
static void images(enum env env)
{
	static const struct {
		const char *name;
		word at;
		bool store_faults, load_faults;
		int vec;
	} t[] = {
		{ "good", WIN + 0x100, false, false, PF },
		{ "misaligned", WIN + 0x108, true, true, GP },
		{ "into read-only", WIN + 0x1000 - 64, true, false, PF },
		{ "absent", WIN + 0x2000, true, true, PF },
		{ "from absent", WIN + 0x3000 - 64, true, true, PF },
		{ "into absent", WIN + 0x4000 - 64, true, true, PF },
		{ "not canonical", LOW_END, true, true, GP },
		{ "into not canonical", LOW_END - 64, true, true, GP },
	};
	unsigned i, k;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++)
		for (k = 0; k < 4; k++) {
			const char *const name[] = { "fxsave", "fxrstor", "xsave", "xrstor" };
			bool load = k & 1, faults = load ? t[i].load_faults : t[i].store_faults;
			struct ctx c;

			if ((k >= 2 && !HAS_XSAVE) || (load && !faults && t[i].at != WIN + 0x100))
				continue;
			casef("%s, %s", name[k], t[i].name);
			if (load && !faults) { /* a clean image */
				zero(&filled[0][32], 1024);
				((volatile uint32_t *)filled[0])[64 + 6] = 0x1f80;
			}
			ctx_init(&c, env,
				 k == 0	  ? CODE("fxsave [rdi]")
				 : k == 1 ? CODE("fxrstor [rdi]")
				 : k == 2 ? CODE("xsave [rdi]")
					  : CODE("xrstor [rdi]"));
			c.di = t[i].at;
			c.ax = 7;
			run(&c);
			check(trap.count == 1 && trap.vec == (word)(faults ? t[i].vec : DONE), "vector %d", (int)trap.vec);
			if (faults) {
				check_eq("IP", trap.r.ip, c.ip);
				if (t[i].vec == PF)
					check_eq("error", trap.err & (E_W | E_U), (load ? 0 : E_W) | (env == U64 ? E_U : 0));
			}
			fill();
		}
}

/* WRFSBASE and WRGSBASE by the user, then accesses. */
static void user_bases(void)
{
	static const struct {
		word base, offset;
		int vec;
		word err, cr2;
	} t[] = {
		{ WIN, 8, DONE, 0, 0 },
		{ ~0ul << 47, WIN + LOW_END + 8, DONE, 0, 0 },
		{ LOW_END - 1, WIN + 8 - LOW_END + 1, DONE, 0, 0 },
		{ ~0ul, WIN + 9, DONE, 0, 0 },
		{ 0x7ffff7dd1000, 0, PF, E_U, 0x7ffff7dd1000 },
		{ LOW_END - 8, 8, GP, 0, 0 },
		{ 0, LOW_END, GP, 0, 0 },
		{ 0, ~0ul << 47, PF, E_U, ~0ul << 47 },
		{ -8ul, 8, PF, E_P | E_U, 0 },
	};
	const void *code = CODE("wrfsbase rsi; wrgsbase rsi; mov rax, fs:[rdi]; mov rbx, gs:[rdi]");
	unsigned i, k;

	write_cr4(read_cr4() | CR4_FSGSBASE);
	for (k = 0; k < 8; k++)
		for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
			struct ctx c;

			casef("wrfsbase 0x%lx, offset 0x%lx", t[i].base, t[i].offset);
			ctx_init(&c, U64, code);
			c.si = t[i].base;
			c.di = t[i].offset;
			run(&c);
			c.ip += 10;
			if (!check_trap(&c, t[i].vec, t[i].err))
				continue;
			if (t[i].vec == PF)
				check_eq("CR2", trap.cr2, t[i].cr2);
			if (t[i].vec != DONE)
				continue;
			check_eq("by FS", trap.r.ax, pattern(0, 1));
			check_eq("by GS", trap.r.bx, pattern(0, 1));
		}
	row("wrfsbase, not canonical", CODE("wrfsbase rsi"), .env = U64, .si = LOW_END, .vec = GP);
}

void guest_main(void)
{
	static const enum env envs[] = { K64, U64 };
	unsigned i;

	safe_stacks();
	enable_vectors();
	__asm__ volatile("fninit");
	fill();
	map_space();
	rep_rows();
	rep_a67();
	for (i = 0; i < 2; i++) {
		if (HAS_AVX)
			masked_moves(envs[i]);
		else
			skip("AVX");
		if (HAS_AVX2)
			gathers(envs[i]);
		else
			skip("AVX2");
		if (HAS_AVX512F)
			avx512(envs[i]);
		images(envs[i]);
	}
	if (HAS_FSGSBASE)
		user_bases();
	else
		skip("FSGSBASE");
}
