/*
 * fpu64.c - which control bits make which x87, SSE and AVX instructions fault, and alignment checks.
 * SDM vol. 3, 2.5, 13.1 and tables 2-2, 2-3; APM vol. 2, 3.1 and 8.2.
 */
#include "rt/rt.h"

static word cr0, cr4;

static void state(word set0, word set4)
{
	write_cr4((cr4 & ~(word)(CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE)) | set4);
	write_cr0((cr0 & ~(word)(CR0_TS | CR0_EM | CR0_MP | CR0_NE)) | CR0_NE | set0);
}

static const void *x87, *fwait, *mmx, *sse, *fxsave, *ldmxcsr, *sfence, *movnti, *emms, *fninit;

/* TS, EM and MP in every combination. */
static void device_not_available(void)
{
	unsigned i, user;

	for (i = 0; i < 16; i++) {
		bool ts = i & 1, em = i & 2, mp = i & 4;
		word osfxsr = i & 8 ? CR4_OSFXSR : 0;

		for (user = 0; user < 2; user++) {
			struct row r = { .env = user ? U64 : K64, .di = USER(page_a) };

			state((ts ? CR0_TS : 0) | (em ? CR0_EM : 0) | (mp ? CR0_MP : 0), osfxsr);
			r.vec = ts || em ? NM : DONE;
			run_row("x87", x87, &r);
			run_row("fninit", fninit, &r);
			r.vec = ts && mp ? NM : DONE;
			run_row("fwait", fwait, &r);
			r.vec = em ? UD : ts ? NM : DONE;
			run_row("mmx", mmx, &r);
			run_row("emms", emms, &r);
			r.vec = em || !osfxsr ? UD : ts ? NM : DONE;
			run_row("sse", sse, &r);
			run_row("ldmxcsr", ldmxcsr, &r);
			/* FXSAVE does not look at OSFXSR. */
			r.vec = em ? UD : ts ? NM : DONE;
			run_row("fxsave", fxsave, &r);
			r.vec = DONE;
			run_row("sfence", sfence, &r);
			run_row("movnti", movnti, &r);
		}
	}
	state(0, CR4_OSFXSR);
	row("clts ends it", CODE("mov rax, cr0; or eax, 8; mov cr0, rax; clts; movaps xmm0, xmm1"), .vec = DONE);
}

static void avx(void)
{
	const void *v = CODE("vxorps ymm0, ymm0, ymm0"), *v128 = CODE("vpaddd xmm1, xmm2, xmm3");

	if (!HAS_AVX) {
		skip("AVX");
		return;
	}
	state(0, CR4_OSFXSR);
	row("AVX without OSXSAVE", v, .vec = UD);
	state(0, CR4_OSFXSR | CR4_OSXSAVE);
	row("XCR0 = 1", CODE("xsetbv"), .ax = 1, .vec = DONE);
	row("AVX with XCR0 = 1", v, .vec = UD);
	row("SSE does not look at XCR0", sse, .vec = DONE);
	row("XCR0 = 3", CODE("xsetbv"), .ax = 3, .vec = DONE);
	row("AVX with XCR0 = 3", v, .vec = UD);
	row("AVX-128 with XCR0 = 3", v128, .env = U64, .vec = UD);
	row("XCR0 = 7", CODE("xsetbv"), .ax = 7, .vec = DONE);
	row("AVX with XCR0 = 7", v, .env = U64, .vec = DONE);
	state(CR0_TS, CR4_OSFXSR | CR4_OSXSAVE);
	row("AVX with TS", v, .env = U64, .vec = NM);
	row("xsave with TS", CODE("xsave [rdi]"), .di = (word)page_a, .vec = NM);
	row("xgetbv with TS", CODE("xor ecx, ecx; xgetbv"), .vec = DONE);
	/* CR0.EM does not matter to VEX instructions (SDM vol. 2, table 2-21). */
	state(CR0_EM, CR4_OSFXSR | CR4_OSXSAVE);
	row("AVX with EM", v, .vec = DONE);
	state(0, CR4_OSXSAVE);
	row("AVX without OSFXSR", v, .vec = DONE);
	state(0, CR4_OSFXSR | CR4_OSXSAVE);
	row("VEX with a 66 prefix", CODE(".byte 0x66, 0xc5, 0xfc, 0x57, 0xc0"), .vec = UD);
	row("VEX with REX", CODE(".byte 0x48, 0xc5, 0xfc, 0x57, 0xc0"), .vec = UD);
	row("VEX with LOCK", CODE(".byte 0xf0, 0xc5, 0xfc, 0x57, 0xc0"), .vec = UD);
	row("VEX.vvvv must be 1111", CODE(".byte 0xc5, 0xf4, 0x10, 0x07"), .di = (word)page_a, .vec = UD);
	row("vmovaps, not aligned", CODE("vmovaps ymm0, [rdi]"), .di = (word)page_a + 16, .vec = GP);
	row("vmovups, not aligned", CODE("vmovups ymm0, [rdi]"), .di = (word)page_a + 1, .vec = DONE);
	row("vaddps, not aligned", CODE("vaddps xmm0, xmm1, [rdi]"), .di = (word)page_a + 1, .vec = DONE);
	state(0, CR4_OSFXSR);
}

static void numeric(void)
{
	static const uint32_t unmask_all = 0x1f80 & ~0x1f80;

	/* x87: the error waits for the next waiting instruction. */
	state(0, CR4_OSFXSR | CR4_OSXMMEXCPT);
	*(volatile uint16_t *)page_a = 0x037f & ~4; /* zero divide unmasked */
	row("#MF at the next waiting instruction", CODE("fninit; fldcw [rdi]; fldz; fld1; fdivrp; fnop"),
	    .di = (word)page_a, .off = 10, .vec = MF);
	row("#MF at fwait, CPL 3", CODE("fninit; fldcw [rdi]; fld1; fldz; fdivp; fwait"), .env = U64, .di = USER(page_a),
	    .off = 10, .vec = MF);
	row("fnstsw does not wait", CODE("fninit; fldcw [rdi]; fld1; fldz; fdivp; fnstsw ax; fnclex; and eax, 0x84"),
	    .di = (word)page_a, .vec = DONE, .check_ax = true, .want_ax = 0x84);
	row("mmx waits too", CODE("fninit; fldcw [rdi]; fld1; fldz; fdivp; emms"), .di = (word)page_a, .off = 10, .vec = MF);
	row("fninit clears", CODE("fninit; fwait"), .vec = DONE);
	/* SSE: #XM with OSXMMEXCPT, #UD without. */
	*(volatile uint32_t *)page_a = unmask_all;
	row("#XM", CODE("ldmxcsr [rdi]; xorps xmm0, xmm0; divps xmm0, xmm0"), .di = (word)page_a, .off = 6, .vec = XM);
	row("#XM at CPL 3", CODE("ldmxcsr [rdi]; xorps xmm0, xmm0; divps xmm0, xmm0"), .env = U64, .di = USER(page_a),
	    .off = 6, .vec = XM);
	state(0, CR4_OSFXSR);
	row("#UD without OSXMMEXCPT", CODE("ldmxcsr [rdi]; xorps xmm0, xmm0; divps xmm0, xmm0"), .di = (word)page_a,
	    .off = 6, .vec = UD);
	row("and not #XM in vector terms only: cvt", CODE("ldmxcsr [rdi]; mov eax, -1; cvtsi2ss xmm0, eax; sqrtss xmm0, xmm0"),
	    .di = (word)page_a, .off = 12, .vec = UD);
	*(volatile uint32_t *)page_a = 0x1f80;
	row("masked", CODE("ldmxcsr [rdi]; xorps xmm0, xmm0; divps xmm0, xmm0"), .di = (word)page_a, .vec = DONE);
	*(volatile uint32_t *)page_a = 0x10000;
	row("ldmxcsr of reserved bits", CODE("ldmxcsr [rdi]"), .di = (word)page_a, .vec = GP);
	*(volatile uint32_t *)page_a = 0;
}

static void alignment(void)
{
	word p = USER(page_a);

	row("movaps, not aligned", CODE("movaps xmm0, [rdi]"), .di = (word)page_a + 8, .vec = GP);
	row("movaps through rbp, not aligned", CODE("movaps xmm0, [rbp]"), .bp = (word)page_a + 8, .vec = GP);
	row("movups, not aligned", CODE("movups xmm0, [rdi]"), .di = (word)page_a + 1, .vec = DONE);
	row("paddd, not aligned", CODE("paddd xmm0, [rdi]"), .di = (word)page_a + 4, .vec = GP);
	row("fxsave, not aligned", CODE("fxsave [rdi]"), .di = (word)page_a + 8, .vec = GP);
	row("fxrstor, not aligned", CODE("fxrstor [rdi]"), .di = (word)page_a + 8, .vec = GP);
	row("cmpxchg16b, not aligned", CODE("cmpxchg16b [rdi]"), .di = (word)page_a + 8, .vec = GP);
	row("AC without AM", CODE("mov eax, [rdi]"), .env = U64, .di = p + 1, .flags = F_AC, .vec = DONE);
	write_cr0(read_cr0() | CR0_AM);
	row("AM without AC", CODE("mov eax, [rdi]"), .env = U64, .di = p + 1, .vec = DONE);
	row("#AC: dword", CODE("mov eax, [rdi]"), .env = U64, .di = p + 1, .flags = F_AC, .vec = AC);
	row("#AC: dword at 2", CODE("mov eax, [rdi]"), .env = U64, .di = p + 2, .flags = F_AC, .vec = AC);
	row("#AC: word", CODE("mov ax, [rdi]"), .env = U64, .di = p + 1, .flags = F_AC, .vec = AC);
	row("#AC: qword at 4", CODE("mov rax, [rdi]"), .env = U64, .di = p + 4, .flags = F_AC, .vec = AC);
	row("#AC: store", CODE("mov [rdi], ax"), .env = U64, .di = p + 3, .flags = F_AC, .vec = AC);
	row("#AC: push", CODE("push rax"), .env = U64, .sp = p + 1025, .flags = F_AC, .vec = AC);
	row("#AC in compat", CODE32("mov eax, [edi]"), .env = U32, .di = p + 1, .flags = F_AC, .vec = AC);
	row("byte", CODE("mov al, [rdi]"), .env = U64, .di = p + 1, .flags = F_AC, .vec = DONE);
	row("aligned", CODE("mov rax, [rdi]"), .env = U64, .di = p + 8, .flags = F_AC, .vec = DONE);
	row("CPL 0", CODE("mov rax, [rdi]"), .di = (word)page_a + 1, .flags = F_AC, .vec = DONE);
	row("movups", CODE("movups xmm0, [rdi]"), .env = U64, .di = p + 16, .flags = F_AC, .vec = DONE);
	row("popf sets AC: the next access", CODE("push 0x40002; popfq; mov eax, [rdi]"), .env = U64, .di = p + 1, .off = 6,
	    .vec = AC);
	write_cr0(read_cr0() & ~(word)CR0_AM);
}

static void snippets(void)
{
	x87 = CODE("fldz");
	fninit = CODE("fninit");
	fwait = CODE("fwait");
	mmx = CODE("pxor mm0, mm0");
	emms = CODE("emms");
	sse = CODE("xorps xmm0, xmm0");
	ldmxcsr = CODE("stmxcsr [rdi + 1024]");
	fxsave = CODE("fxsave [rdi]");
	sfence = CODE("sfence; lfence; mfence; prefetcht0 [rdi]");
	movnti = CODE("movnti [rdi + 1024], eax");
}

void guest_main(void)
{
	snippets();
	cr0 = read_cr0();
	cr4 = read_cr4();
	device_not_available();
	avx();
	numeric();
	alignment();
}
