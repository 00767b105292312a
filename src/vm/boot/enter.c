/* enter.c - carrying a plan out: memory contents and the state of the boot processor. */
#include "vm/boot/internal.h"

#include <errno.h>

static int load_from_file(const struct boot_piece *p, struct guest_mem *mem, struct err *err)
{
	void *to = guest_ptr(mem, GPA(p->gpa), p->len);
	int ret = to ? boot_file_load(p->file, p->off, to, p->len, err) : -EFAULT;

	if (ret == 0)
		guest_mem_wrote(mem, GPA(p->gpa), p->len);
	return ret;
}

int boot_plan_load(const struct boot_plan *plan, struct guest_mem *mem, struct err *err)
{
	for (unsigned i = 0; i < plan->n_pieces; i++) {
		const struct boot_piece *p = &plan->piece[i];
		int ret = 0;

		if (p->file)
			ret = load_from_file(p, mem, err);
		else if (p->len)
			ret = guest_write(mem, GPA(p->gpa), p->data, p->len);
		if (ret == -EFAULT)
			return err_set(err, EFAULT, "the %s at %#llx does not lie in RAM", p->what,
				       (unsigned long long)p->gpa);
		if (ret < 0)
			return ret;
	}
	return 0;
}

#define DATA_ATTR (SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_DB | SEG_G)
#define CODE_ATTR (SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED | SEG_G)

enum { MTRR_ENABLE = 1 << 11, MTRR_WRITE_BACK = 6 }; /* IA32_MTRR_DEF_TYPE */
#define HWCR_TSC_FREQ_SEL BIT(24) /* the TSC counts at P0's frequency (AMD PPR, HWCR) */

void boot_plan_enter(const struct boot_plan *plan, struct vcpu *v)
{
	bool is_long = plan->mode == BOOT_CPU_LONG;

	for (int s = S_ES; s <= S_GS; s++)
		cpu_set_segment(v, s, 0x18, 0, 0xffffffff, DATA_ATTR);
	cpu_set_segment(v, S_CS, is_long ? 0x10 : 0x08, 0, 0xffffffff,
			CODE_ATTR | (is_long ? SEG_L : SEG_DB));
	cpu_set_segment(v, S_TR, 0x20, 0, 0x67, SEG_P | DESC_TSS_BUSY);
	cpu_set_segment(v, S_LDTR, 0, 0, 0xffff, SEG_UNUSABLE);
	v->gdt_base = LOW_GDT;
	v->gdt_limit = 6 * 8 - 1;
	v->idt_base = 0;
	v->idt_limit = is_long ? 0 : 0xffff;
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[R_AX] = plan->rax;
	v->gpr[R_BX] = plan->rbx;
	v->gpr[R_SI] = plan->rsi;
	if (is_long)
		v->gpr[R_SP] = v->gpr[R_BP] = LOW_STACK_TOP;
	v->rip = plan->entry;
	cpu_set_rflags(v, FLAG_1);
	v->cr0 = CR0_PE | CR0_ET;
	v->cr3 = v->cr4 = v->efer = 0;
	if (is_long) {
		v->cr0 |= CR0_PG;
		v->cr3 = LOW_PAGE_TABLES;
		v->cr4 = CR4_PAE;
		v->efer = EFER_LME | EFER_LMA;
	}
	/* Firmware's part that kernels count on: MTRRs enabled, all memory write-back; a steady TSC. */
	v->mtrr_def_type = MTRR_ENABLE | MTRR_WRITE_BACK;
	v->hwcr |= HWCR_TSC_FREQ_SEL;
	cpu_state_changed(v);
}
