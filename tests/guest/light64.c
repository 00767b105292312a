/*
 * light64.c - what engines like to do fast, at its edges: jumps to addresses that are equal to good ones in their low bits,
 * bit strings, PUSHF and POPF, segment bases. SDM vol. 2 and vol. 3, chapters 3.3 and 5.
 */
#include "rt/rt.h"

static const char *leaf; /* a function, of both privileges */

/* Runs it often, so that an engine has it at hand; at CPL 0 and, where users see it, at CPL 3. */
static void warm(void)
{
	row("calls at CPL 0", CODE("mov ecx, 200; 1: call rax; dec ecx; jnz 1b; mov eax, edx"), .env = K64,
	    .ax = (word)leaf, .vec = DONE, .check_ax = true, .want_ax = 7);
	row("calls at CPL 3", CODE("mov ecx, 200; 1: call rax; dec ecx; jnz 1b; mov eax, edx"), .env = U64,
	    .ax = USER(leaf), .vec = DONE, .check_ax = true, .want_ax = 7);
}

/* Not canonical, whatever an engine adds to or takes from an address to look it up. */
static void jumps(void)
{
	const void *jump = CODE("jmp rax"), *call = CODE("call rax"), *ret = CODE("push rax; ret");

	leaf = CODE("mov edx, 7; ret");
	warm();
	for (unsigned n = 1; n <= 128; n++) {
		word high = (word)(n <= 64 ? n : 0x10000 - (n - 64)) << 48;
		word at[] = {(word)leaf + high, USER(leaf) + high};

		if (high >> 48 == 0xffff)
			continue;
		for (unsigned i = 0; i < 2; i++) {
			run_row("JMP to a non-canonical address", jump,
				&(struct row){.env = U64, .ax = at[i], .vec = GP});
			run_row("CALL of a non-canonical address", call,
				&(struct row){.env = K64, .ax = at[i], .vec = GP});
			run_row("RET to a non-canonical address", ret,
				&(struct row){.env = U64, .ax = at[i], .vec = GP, .off = 1});
		}
	}
}

/* [rdi] with bit number rax: what the whole string holds says where it went. */
static void bits(void)
{
	uint64_t *words = (uint64_t *)page_a;

	for (int n = -200; n <= 200; n++) {
		word at = 256 + (word)((n - ((n % 64 + 64) % 64)) / 64), bit = 1ul << (n & 63);

		zero(page_a, 4096);
		casef("bit %d", n);
		row("BTS", CODE("bts [rdi], rax; setc al; movzx eax, al"), .ax = (word)n, .di = (word)&words[256],
		    .vec = DONE, .check_ax = true, .want_ax = 0);
		check_eq("BTS sets it", words[at], bit);
		row("LOCK BTC", CODE("lock btc dword ptr [rdi], eax; setc al; movzx eax, al"), .ax = (word)n,
		    .di = (word)&words[256], .vec = DONE, .check_ax = true, .want_ax = 1);
		check_eq("BTC clears it", words[at], 0);
		words[at] = ~bit;
		row("BT", CODE("mov r11, rax; bt [rdi], r11; setc al; movzx eax, al"), .ax = (word)n,
		    .di = (word)&words[256], .vec = DONE, .check_ax = true, .want_ax = 0);
		row("BTR keeps ZF", CODE("cmp eax, eax; btr [rdi + 8], rax; setz al; movzx eax, al"),
		    .ax = (word)(n - 64), .di = (word)&words[256], .vec = DONE, .check_ax = true, .want_ax = 1);
		check_eq("BTR", words[at], ~bit);
	}
	zero(page_a, 4096);
}

/* The image that PUSHF pushes after an instruction, for all status flags; and back. */
static void flags(void)
{
	static const word status[] = {0, 1, 4, 0x10, 0x40, 0x80, 0x800, 0x8d5};

	for (unsigned i = 0; i < sizeof(status) / sizeof(*status); i++) {
		casef("status flags %lx", status[i]);
		row("POPF, PUSHF at CPL 0", CODE("push rax; popfq; pushfq; pop rax"), .ax = status[i] | 2, .vec = DONE,
		    .check_ax = true, .want_ax = status[i] | 2);
		row("POPF leaves IF alone at CPL 3", CODE("push rax; popfq; pushfq; pop rax"), .env = U64,
		    .ax = status[i] | 0x402, .vec = DONE, .check_ax = true, .want_ax = status[i] | 0x402);
		row("CLI keeps them", CODE("push rax; popfq; cli; cld; pushfq; pop rax"), .ax = status[i] | 2, .vec = DONE,
		    .check_ax = true, .want_ax = status[i] | 2);
	}
}

void guest_main(void)
{
	jumps();
	bits();
	flags();
}
