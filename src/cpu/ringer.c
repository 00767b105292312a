#include "cpu/ringer.h"

#include <errno.h>

#include "ringer_para.h"

void cpu_ringer_reset(struct vcpu *v)
{
	v->lock_word = 0;
	v->lock_mask = UINT32_MAX;
}

int cpu_ringer_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	switch (msr) {
	case MSR_RINGER_LOCK_WORD:
		*val = v->lock_word;
		return 0;
	case MSR_RINGER_LOCK_MASK:
		*val = v->lock_mask;
		return 0;
	default:
		return -ENOENT;
	}
}

int cpu_ringer_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	switch (msr) {
	case MSR_RINGER_LOCK_WORD:
		if (val & 2)
			return -EINVAL;
		v->lock_word = val;
		return 0;
	case MSR_RINGER_LOCK_MASK:
		if (val >> 32)
			return -EINVAL;
		v->lock_mask = (uint32_t)val;
		return 0;
	default:
		return -ENOENT;
	}
}

/* The address is the guest's: where it is no RAM, no lock is held. */
bool cpu_lock_hint(const struct vcpu *v)
{
	uint64_t at = v->lock_word;
	const _Atomic uint32_t *word;

	if (!(at & RINGER_MSR_ENABLED))
		return false;
	word = guest_ptr(v->mem, GPA(at & ~3ULL), sizeof(*word));
	return word && (*word & v->lock_mask);
}
