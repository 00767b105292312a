/*
 * Sensitive instructions that need not leave translated code for the interpreter (VM assists): a few host instructions
 * where that is all there is to do, else a light call, C code that runs with the guest's vector state in the hardware.
 */
#include "engine/bt/translate.h"

bool light_classify(struct translation *t, struct guest_insn *g)
{
	return light_string_classify(t, g);
}

bool light_ends_block(const struct guest_insn *g)
{
	(void)g;
	return false;
}

void emit_light(struct translation *t)
{
	emit_light_string(t);
}
