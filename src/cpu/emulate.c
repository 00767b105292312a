/* Joins the tables of emulated instructions. A linear search: it runs once for each decoded instruction. */
#include "cpu/system.h"

static const struct cpu_emulation *const tables[] = {
	cpu_flow_insns, cpu_stack_insns, cpu_flag_insns, cpu_control_insns, cpu_system_insns,
	cpu_io_insns, cpu_xsave_insns, cpu_string_insns, cpu_legacy_insns,
};

cpu_op_fn cpu_emulate_fn(ZydisMnemonic mnemonic)
{
	for (unsigned t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct cpu_emulation *e = tables[t]; e->fn; e++)
			if (e->mnemonic == mnemonic)
				return e->fn;
	return NULL;
}
