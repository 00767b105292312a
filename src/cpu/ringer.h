/* ringer.h - Ringer's own paravirtual interface: abi/ringer_para.h. */
#ifndef RINGER_CPU_RINGER_H
#define RINGER_CPU_RINGER_H

#include "cpu/cpu.h"

/* RESET# and INIT. */
void cpu_ringer_reset(struct vcpu *v);
/* -ENOENT: not one of the interface's; -EINVAL: #GP(0). */
int cpu_ringer_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val) must_check;
int cpu_ringer_msr_write(struct vcpu *v, uint32_t msr, uint64_t val) must_check;
/* Whether the guest says that this vCPU holds a lock. Any thread. */
bool cpu_lock_hint(const struct vcpu *v);

#endif
