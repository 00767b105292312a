#include "cpu/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "cpu/engine.h"
#include "cpu/kvm.h"
#include "cpu/ringer.h"
#include "cpu/system.h"

#define NO_RIP (~0ULL)

/* mem/code.h: on any thread, and without a wake in the middle of translated code. */
static void ask_to_catch_up(void *ctx, bool wake)
{
	struct vcpu *v = ctx;

	v->request |= CPU_REQ_CODE;
	v->poll = 1;
	if (wake && v->wake)
		v->wake(v);
}

int vcpu_new(struct vcpu **out, uint32_t id, const struct cpu_model *model, struct guest_mem *mem,
	     struct bus *bus, struct err *err)
{
	struct vcpu *v = mem_map_tables(sizeof(*v));

	if (!v)
		return err_set(err, ENOMEM, "out of host memory");
	v->id = id;
	v->cpu_count = 1;
	v->model = model;
	v->mem = mem;
	v->bus = bus;
	if (mmu_init(&v->mmu, mem, err)) {
		munmap(v, sizeof(*v));
		return -ENOMEM;
	}
	v->mmu.code.poke = ask_to_catch_up;
	v->mmu.code.poke_ctx = v;
	vcpu_reset(v);
	*out = v;
	return 0;
}

void vcpu_free(struct vcpu *v)
{
	if (v && v->engine && v->engine->vcpu_fini)
		v->engine->vcpu_fini(v);
	if (v) {
		mmu_fini(&v->mmu);
		munmap(v, sizeof(*v));
	}
}

static void reset_fpu(struct vcpu *v)
{
	cpu_fpu_spill(v);
	memset(&v->fpu, 0, sizeof(v->fpu));
	*(uint16_t *)&v->fpu.fx[0] = 0x40;   /* FCW at reset; FNINIT makes it 0x37f */
	v->fpu.fx[4] = 0xff;                 /* abridged tag word: all registers hold 0.0 */
	*(uint32_t *)&v->fpu.fx[24] = 0x1f80; /* MXCSR */
}

static void reset_msrs(struct vcpu *v)
{
	v->star = v->lstar = v->cstar = v->sfmask = v->kernel_gs_base = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->tsc_aux = v->spec_ctrl = v->debugctl = 0;
	v->pat = 0x0007040600070406;
	v->misc_enable = 1; /* fast strings */
	v->mtrr_def_type = 0;
	memset(v->mtrr_fixed, 0, sizeof(v->mtrr_fixed));
	memset(v->mtrr_var, 0, sizeof(v->mtrr_var));
	v->mcg_status = v->mcg_ctl = 0;
	v->syscfg = v->hwcr = 0;
	v->de_cfg = 2; /* LFENCE is serializing */
}

/*
 * What RESET# and INIT# have in common (SDM vol. 3, table 9-1): not the FPU, XCR0, or any MSR but EFER; and KVM's, lest
 * the monitor write to memory that the next kernel uses for something else.
 */
void cpu_init_state(struct vcpu *v)
{
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[R_DX] = 0x00a10f10; /* family, model, stepping */
	v->rip = 0xfff0;
	v->zero = 0;
	v->status = 0;
	v->sys_flags = 0;
	v->inhibit_rip = NO_RIP;
	v->inhibit_debug = v->halted = v->nmi_blocked = v->in_rep = false;
	v->wait_sipi = v->soft_int_pending = false;
	v->ext = 0;
	v->pending_db = 0;
	for (unsigned s = 0; s < S_COUNT; s++)
		cpu_set_segment(v, s, 0, 0, 0xffff, SEG_P | SEG_S | SEG_RW | SEG_ACCESSED);
	cpu_set_segment(v, S_CS, 0xf000, 0xffff0000, 0xffff,
			SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED);
	cpu_set_segment(v, S_LDTR, 0, 0, 0xffff, SEG_P | DESC_LDT);
	cpu_set_segment(v, S_TR, 0, 0, 0xffff, SEG_P | DESC_TSS_BUSY);
	v->gdt_base = v->idt_base = 0;
	v->gdt_limit = v->idt_limit = 0xffff;
	v->cr0 = CR0_CD | CR0_NW | CR0_ET;
	v->cr2 = v->cr3 = v->cr4 = 0;
	v->efer = 0;
	memset(v->dr, 0, sizeof(v->dr));
	v->dr6 = 0xffff0ff0;
	v->dr7 = 0x400;
	cpu_update_breakpoints(v);
	cpu_kvm_reset(v);
	cpu_ringer_reset(v);
	cpu_state_changed(v);
}

void vcpu_reset(struct vcpu *v)
{
	v->request &= CPU_REQ_STOP | CPU_REQ_CODE;
	v->xcr0 = XCR0_X87;
	reset_msrs(v);
	reset_fpu(v);
	cpu_init_state(v);
}

void vcpu_request(struct vcpu *v, uint32_t bits)
{
	v->request |= bits;
	v->poll = 1;
	if (v->wake)
		v->wake(v);
}

uint64_t cpu_rflags(const struct vcpu *v)
{
	return v->sys_flags | FLAG_1 | (v->status >> 8 & (FLAG_STATUS & 0xff)) | (v->status & 1) << 11;
}

#define SYS_FLAGS                                                                                          \
	(FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF |       \
	 FLAG_VIP | FLAG_ID)

void cpu_set_rflags(struct vcpu *v, uint64_t rflags)
{
	v->sys_flags = (uint32_t)(rflags & SYS_FLAGS);
	v->status = (uint16_t)((rflags & (FLAG_STATUS & 0xff)) << 8 | (rflags >> 11 & 1));
	cpu_update_privilege(v);
}

void cpu_load_flags(struct vcpu *v, uint64_t value, uint64_t mask)
{
	cpu_set_rflags(v, (cpu_rflags(v) & ~mask) | (value & mask));
}

void cpu_set_segment(struct vcpu *v, enum sreg s, uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr)
{
	v->seg[s] = (struct segment){.sel = sel, .base = base, .limit = limit, .attr = attr};
}

void cpu_update_mode(struct vcpu *v)
{
	const struct segment *cs = &v->seg[S_CS];

	if (cpu_long_cs(v, cs))
		v->mode = X86_MODE_64;
	else if (cpu_protected(v) || (!(v->cr0 & CR0_PE) && (cs->attr & SEG_DB)))
		v->mode = cs->attr & SEG_DB ? X86_MODE_32 : X86_MODE_16;
	else
		v->mode = X86_MODE_16;
}

void cpu_update_privilege(struct vcpu *v)
{
	v->mmu_mode = v->cpl == 3 ? MMU_USER : v->sys_flags & FLAG_AC ? MMU_KERNEL_AC : MMU_KERNEL;
	v->align_check = v->cpl == 3 && (v->cr0 & CR0_AM) && (v->sys_flags & FLAG_AC);
}

void cpu_update_mmu(struct vcpu *v)
{
	mmu_set_controls(&v->mmu, v->cr0, v->cr4, v->efer);
	cpu_update_privilege(v);
}

void cpu_state_changed(struct vcpu *v)
{
	if (!(v->cr0 & CR0_PE))
		v->cpl = 0;
	else
		v->cpl = v->sys_flags & FLAG_VM ? 3 : v->seg[S_CS].sel & 3;
	cpu_update_mode(v);
	cpu_update_privilege(v);
	cpu_update_breakpoints(v);
	v->mmu.regs = (struct mmu_regs){.cr0 = v->cr0, .cr3 = v->cr3, .cr4 = v->cr4, .efer = v->efer,
					.phys_bits = v->model->phys_bits};
	mmu_flush(&v->mmu);
}

uint64_t cpu_tsc(const struct vcpu *v)
{
	return __rdtsc() + (uint64_t)v->tsc_offset;
}

static void dump_segment(const struct vcpu *v, unsigned s, const char *name, char *buf, size_t len, size_t *at)
{
	const struct segment *g = &v->seg[s];
	int n = snprintf(buf + *at, len - *at, "%-4s %04x base %016lx limit %08x attr %05x\n", name, g->sel,
			 g->base, g->limit, g->attr);

	*at = min_u64(*at + (size_t)n, len - 1);
}

void cpu_dump(const struct vcpu *v, char *buf, size_t len)
{
	static const char *const gpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const sreg[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	static const char *const mode[] = {"16-bit", "32-bit", "64-bit"};
	size_t at = 0;

	if (!len)
		return;
	buf[0] = '\0';
	for (unsigned i = 0; i < 16; i++)
		at = min_u64(at + (size_t)snprintf(buf + at, len - at, "%-3s %016lx%s", gpr[i], v->gpr[i],
						   i % 4 == 3 ? "\n" : "  "),
			     len - 1);
	at = min_u64(at + (size_t)snprintf(buf + at, len - at, "rip %016lx  rflags %08lx  cpl %u  %s%s%s\n",
					   v->rip, cpu_rflags(v), v->cpl, mode[v->mode],
					   cpu_v86(v) ? " (virtual-8086)" : "", v->halted ? ", halted" : ""),
		     len - 1);
	for (unsigned s = 0; s < S_COUNT; s++)
		dump_segment(v, s, sreg[s], buf, len, &at);
	at = min_u64(at + (size_t)snprintf(buf + at, len - at,
					   "gdt  base %016lx limit %04x  idt base %016lx limit %04x\n"
					   "cr0 %016lx  cr2 %016lx  cr3 %016lx  cr4 %016lx\n"
					   "efer %016lx  dr6 %016lx  dr7 %016lx\n",
					   v->gdt_base, v->gdt_limit, v->idt_base, v->idt_limit, v->cr0,
					   v->cr2, v->cr3, v->cr4, v->efer, v->dr6, v->dr7),
		     len - 1);
}
