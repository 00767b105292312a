/*
 * Addresses that an empty TLB entry lets pass: engines that compare an address with a page's in one subtraction need a tag
 * that no page has, and these are the addresses around it. They are not canonical: the access must fault as any such,
 * with every register as it was before the instruction, and the status flags, which are wanted afterwards.
 */
#include "rt/rt.h"

#define HOLE 0x8000000000000000ul
#define STATUS 0x8d5ul
#define FLAGS 0x8c0ul /* OF, SF, ZF */

/* RBX, RBP, RDI and R12 to R15 hold the address; RSP too when stack is set, for a user: exceptions have a stack then. */
static void faults(const char *name, const void *code, word at, bool stack, int vec)
{
	struct ctx c;

	ctx_init(&c, stack ? U64 : K64, code);
	for (unsigned i = 0; i < NREGS; i++)
		if (i != 4)
			c.r[i] = i >= 12 || i == 3 || i == 5 || i == 7 ? at : 0x1111111111111111ul * i;
	c.cx = 0;
	c.flags |= FLAGS;
	c.r[8] = c.ip;
	if (stack)
		c.sp = at;
	flush();
	casef("%s at %lx", name, at);
	run(&c);
	check_trap(&c, vec, 0);
	for (unsigned i = 0; i < NREGS; i++)
		check_eq("register", trap.r.r[i], c.r[i]);
	check_eq("status flags", trap.r.flags & STATUS, FLAGS);
}

static void one_address(word at)
{
	faults("load", CODE("mov rax, [rbx]"), at, false, GP);
	faults("load with index", CODE("mov rax, [rbx+rcx*8]"), at, false, GP);
	faults("load off RBP", CODE("mov rax, [rbp]"), at, false, SS);
	faults("load off RBP with index", CODE("mov rax, [rbp+rcx]"), at, false, SS);
	faults("load off R12", CODE("mov rax, [r12]"), at, false, GP);
	faults("load off R13", CODE("mov r10, [r13+8]"), at, false, GP);
	faults("store", CODE("mov [rbx], rax"), at, false, GP);
	faults("high byte load", CODE("mov ah, [rbx]"), at, false, GP);
	faults("high byte store", CODE("mov [rbx], ah"), at, false, GP);
	faults("high byte exchange", CODE("xchg [rbx], dh"), at, false, GP);
	faults("high byte off RBP", CODE("mov [rbp], ch"), at, false, SS);
	faults("two off one", CODE("mov rax, [rbx]; mov rcx, [rbx+16]"), at, false, GP);
	faults("x87", CODE("fld qword ptr [rbx]"), at, false, GP);
	faults("leave", CODE("leave"), at, false, SS);
	faults("push", CODE("push rax"), at, true, SS);
	faults("push memory", CODE("push qword ptr [rbx]"), at, false, GP);
	faults("pop", CODE("pop rax"), at, true, SS);
	faults("pop rsp", CODE("pop rsp"), at, true, SS);
	faults("ret", CODE("ret"), at, true, SS);
	faults("ret n", CODE("ret 16"), at, true, SS);
	faults("call", CODE("call .+5"), at, true, SS);
	faults("call register", CODE("call r8"), at, true, SS);
	faults("pushf", CODE("pushf"), at, true, SS);
	faults("popf", CODE("popf"), at, true, SS);
	faults("jmp memory", CODE("jmp [rbx]"), at, false, GP);
	faults("bts", CODE("bts [rbx], rcx"), at, false, GP);
	faults("stos", CODE("stosq"), at, false, GP);
	faults("movs", CODE("movsb"), at, false, GP);
}

void guest_main(void)
{
	static const word off[] = {0x7f8, 0x800, 0x808, 0x810, 0x900, 0x1000, 0x17e0, 0x17f0, 0x1800};

	for (unsigned i = 0; i < sizeof(off) / sizeof(off[0]); i++)
		one_address(HOLE + off[i]);
}
