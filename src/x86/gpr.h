/* gpr.h - which general register one of Zydis' registers is a part of. For the decoder's users, who ask for each operand. */
#ifndef RINGER_X86_GPR_H
#define RINGER_X86_GPR_H

#include <Zydis/Zydis.h>

#define X86_NO_GPR 16u

/* 0 to 15: RAX to R15, of any width, AH to BH being parts of RAX to RBX; X86_NO_GPR: another register. */
static inline unsigned x86_gpr(ZydisRegister r)
{
	/* In Zydis' order: AL..BL, AH..BH, SPL..R15B, AX..R15W, EAX..R15D, RAX..R15. */
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15)
		return (unsigned)(r - ZYDIS_REGISTER_AX) % 16;
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BH)
		return (unsigned)(r - ZYDIS_REGISTER_AL) % 4;
	return X86_NO_GPR;
}

#endif
