/*
 * What a translator may get wrong by knowing too much: accesses that it takes for neighbours of one
 * another although a base has changed between them (a segment's, or a register that an instruction
 * changes without naming it), displacements at the end of their reach, operands in registers that
 * the translator uses itself.
 */
#include "rt/rt.h"

void guest_main(void)
{
	uint64_t *a = (uint64_t *)page_a, *b = (uint64_t *)page_b;
	a[0] = 0x11;
	a[1] = 0x12;
	a[2] = 0x13;
	b[0] = 0x22;
	for (int k = 0; k < 3; k++)
		row("swapgs",
		    CODE("mov ecx, 0xc0000101; mov rax, rsi; xor edx, edx; wrmsr; mov ecx, "
			 "0xc0000102; mov rax, rdi; wrmsr;"
			 "mov rbx, gs:[0]; swapgs; mov rax, gs:[0]; swapgs"),
		    .env = K64, .si = (word)a, .di = (word)b, .vec = DONE, .check_ax = true,
		    .want_ax = 0x22);
	__asm__ volatile("mov %%cr4, %%rax; or $0x10000, %%eax; mov %%rax, %%cr4" : : : "rax");
	row("wrfsbase", CODE("wrfsbase rsi; mov rbx, fs:[0]; wrfsbase rdi; mov rax, fs:[0]"),
	    .env = K64, .si = (word)a, .di = (word)b, .vec = DONE, .check_ax = true,
	    .want_ax = 0x22);
	row("wrgsbase", CODE("wrgsbase rsi; mov rbx, gs:[0]; wrgsbase rdi; mov rax, gs:[0]"),
	    .env = K64, .si = (word)a, .di = (word)b, .vec = DONE, .check_ax = true,
	    .want_ax = 0x22);
	a[4] = 0;
	row("div byte 0", CODE("div byte ptr [rdi+32]"), .env = K64, .si = 0x1234, .di = (word)a,
	    .vec = DE, .check_ax = true, .want_ax = 0);
	check_eq("rsi after div", trap.r.si, 0x1234);
	check_eq("rdi after div", trap.r.di, (word)a);
	check_eq("rbx after div", trap.r.bx, 0);
	check_eq("rdx after div", trap.r.dx, 0);
	row("idiv byte 0", CODE("idiv byte ptr [rdi+32]"), .env = K64, .si = 0x1234, .di = (word)a,
	    .vec = DE, .check_ax = true, .want_ax = 0);
	check_eq("rsi after idiv", trap.r.si, 0x1234);
	/* disp overflow */
	{
		volatile uint64_t *pdpt = (volatile uint64_t *)pdpt0,
				  *pd = (volatile uint64_t *)table_a,
				  *pd2 = (volatile uint64_t *)table_b;
		zero(table_a, 4096);
		zero(table_b, 4096);
		for (int i = 0; i < 4; i++)
			pd[i] = (0x800000ul + i * 0x200000ul) | P | W | PS;
		pdpt[4] = (word)pd | P | W | U;
		for (int i = 0; i < 4; i++)
			pd2[i] = (i * 0x200000ul) | P | W | U | PS;
		pdpt[5] = (word)pd2 | P | W | U;
		__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
		*(volatile uint64_t *)((word)a + 0x800000) = 0xbad;
		*(volatile uint64_t *)((word)a + 0x800008) = 0xbad1;
		for (int k = 0; k < 3; k++)
			row("disp",
			    CODE("mov rax, [rbx-0x80000000]; sub rbx, 8; mov rcx, "
				 "[rbx-0x80000000]; shl rax, 8; add rax, rcx"),
			    .env = K64, .bx = (word)a + 8 + 0x80000000ul, .vec = DONE,
			    .check_ax = true, .want_ax = 0x1211);
		const char *c = CODE(".skip 0x400, 0x90; lea rax, [rip+0x7fffffff]");
		word at = ((word)c + 0x400);
		struct ctx x;
		ctx_init(&x, U64, c);
		x.ip = 0x140000000ul + at;
		run(&x);
		check_eq("vec", trap.vec, DONE);
		check_eq("lea rip", trap.r.ax, x.ip + 7 + 0x7fffffff);
		const char *j = CODE(".skip 0x400, 0x90; .byte 0xe9, 0xff, 0xff, 0xff, 0x7f");
		at = ((word)j + 0x400);
		ctx_init(&x, U64, j);
		x.ip = 0x140000000ul + at;
		run(&x);
		check_eq("jmp vec", trap.vec, PF);
		check_eq("jmp target", trap.cr2, x.ip + 5 + 0x7fffffff);
		check_eq("jmp rip", trap.r.ip, x.ip + 5 + 0x7fffffff);
	}
	a[0] = 0x11;
	a[1] = 0x12;
	a[2] = 0x13;
	row("movsq", CODE("mov rbx,[rsi]; movsq; mov rax,[rsi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	b[0] = 1;
	b[1] = 2;
	b[2] = 3;
	row("movsq di", CODE("mov rbx,[rdi]; movsq; mov rax,[rdi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 2);
	row("stosq", CODE("mov rbx,[rdi]; stosq; mov rax,[rdi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 2);
	row("lodsq", CODE("mov rbx,[rsi]; lodsq; mov rax,[rsi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	row("cmpsq", CODE("mov rbx,[rsi]; cmpsq; mov rax,[rsi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	row("scasq", CODE("mov rbx,[rdi]; scasq; mov rax,[rdi]"), .env = K64, .si = (word)a,
	    .di = (word)b, .vec = DONE, .check_ax = true, .want_ax = 2);
	row("repmovs",
	    CODE("mov ecx,2; mov rbx,[rsi]; mov rdx,[rcx+rdi]; rep movsq; mov rax,[rsi]"),
	    .env = K64, .si = (word)a, .di = (word)b, .vec = DONE, .check_ax = true,
	    .want_ax = 0x13);
	row("rex ignored",
	    CODE("xor eax,eax; mov r8d, 5; .byte 0x4c,0x66,0x8b,0x07; shl rax,8; or rax, r8"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x1105);
	row("leave",
	    CODE("mov rbp, rdi; mov rbx,[rbp]; mov rbx,[rsp-8]; mov rdx, rsp; leave; mov "
		 "rax,[rsp]; mov rsp, rdx"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	row("loop", CODE("mov ecx,16; mov rbx,[rcx+rdi]; loop 1f; 1: mov rax,[rcx+rdi-15+8]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	row("xadd",
	    CODE("mov ecx,8; mov rdx, 16; mov rbx,[rcx+rdi]; xchg rcx,rdx; mov rax,[rcx+rdi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x13);
	row("mul", CODE("mov eax,8; mov ecx, 2; mov rbx,[rax+rdi]; mul ecx; mov rax,[rax+rdi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x13);
	row("cl32",
	    CODE("mov rcx,0x100000008; mov ebx, ecx; mov rdx,[rbx+rdi]; add ebx, 8; mov "
		 "rax,[rbx+rdi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x13);
	row("rdtsc", CODE("mov edx,8; mov rbx,[rdx+rdi]; rdtsc; and edx, 0; mov rax,[rdx+rdi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x11);
	row("rdtsc2", CODE("mov rbp,rdi;mov edx,8; mov rbx,[rdx+rdi]; rdtsc; mov rax,[rbp+0]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x11);
	row("from cr",
	    CODE("mov rbx,[rdi]; mov r12, rdi; mov rdi, cr3; mov rsi, r12; lea rsi,[rsi+8]; mov "
		 "rax,[rsi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x12);
	row("rdfsbase",
	    CODE("lea rsi,[rdi+8]; wrfsbase rsi; mov rbx,[rdi]; rdfsbase rdi; mov rax,[rdi]"),
	    .env = K64, .di = (word)a, .vec = DONE, .check_ax = true, .want_ax = 0x12);

	/* The target lies where the call pushes; a call that faults stores nothing. */
	for (int k = 0; k < 3; k++) {
		row("call [rsp-8]",
		    CODE("lea rcx, [rip+1f]; mov [rsp-8], rcx; xor eax,eax; call [rsp-8]; jmp 2f;"
			 "1: mov eax, 7; ret; 2: add eax, 1"),
		    .env = K64, .vec = DONE, .check_ax = true, .want_ax = 8);
		row("call [rsp-8] U",
		    CODE("lea rcx, [rip+1f]; mov [rsp-8], rcx; xor eax,eax; call [rsp-8]; jmp 2f;"
			 "1: mov eax, 7; ret; 2: add eax, 1"),
		    .env = U64, .vec = DONE, .check_ax = true, .want_ax = 8);
	}
	a[0] = 0x1234;
	row("call noncanonical",
	    CODE("mov rbx, rsp; mov rsp, rdi; mov rax, 0x8000000000000000; call rax"), .env = K64,
	    .di = (word)a + 8, .vec = GP, .off = 16);
	check_eq("nothing stored", a[0], 0x1234);
}
