/*
 * ringer_para.h - Ringer's own paravirtual interface: model-specific registers 52494e00h ("RIN") and up. Each vCPU has its
 * own. RDMSR raises #GP where there is no such interface. docs/scheduling.md
 */
#ifndef RINGER_ABI_RINGER_PARA_H
#define RINGER_ABI_RINGER_PARA_H

/*
 * Guest-physical address, 4-byte aligned, of a 32-bit word, with RINGER_MSR_ENABLED. While the word has any bit of the
 * mask set, the vCPU holds a lock that others may wait for: under `--sched hint` it keeps its processor, for a
 * millisecond at most. 0 at reset and INIT.
 */
#define MSR_RINGER_LOCK_WORD 0x52494e00u
/* The mask, 32 bits. FFFFFFFFh at reset and INIT. */
#define MSR_RINGER_LOCK_MASK 0x52494e01u

#define RINGER_MSR_ENABLED 1u

#endif
