/* IN and OUT: permission (SDM vol. 1, 19.5), I/O breakpoints, and the way to the bus. String forms are in string.c. */
#include "cpu/system.h"

void cpu_check_io(struct vcpu *v, uint16_t port, unsigned size)
{
	const struct segment *tr = &v->seg[S_TR];
	uint32_t map, bits;

	if (!(v->cr0 & CR0_PE) || (!cpu_v86(v) && v->cpl <= cpu_iopl(v)))
		return;
	/* Only a 32- or 64-bit TSS has a bitmap; two bytes are read, so a port at a byte's end reaches the next. */
	if ((tr->attr & SEG_TYPE) < DESC_TSS || 0x66 + 1 > tr->limit)
		cpu_gp(v);
	map = (uint32_t)cpu_load_sys(v, tr->base + 0x66, 2) + port / 8;
	if (map + 1 > tr->limit)
		cpu_gp(v);
	bits = (uint32_t)cpu_load_sys(v, tr->base + map, 2);
	if (bits >> (port & 7) & ((1u << size) - 1))
		cpu_gp(v);
}

uint64_t cpu_in(struct vcpu *v, uint16_t port, unsigned size)
{
	uint64_t val;

	cpu_lock(v);
	val = bus_read(v->bus, BUS_PIO, port, size);
	cpu_unlock(v);
	cpu_io_breakpoint(v, port, size);
	return val;
}

void cpu_out(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
	cpu_lock(v);
	bus_write(v->bus, BUS_PIO, port, size, trunc_size(val, size));
	cpu_unlock(v);
	cpu_io_breakpoint(v, port, size);
}

/* E4..E7 take an immediate port, EC..EF DX; even opcodes move a byte. */
static unsigned io_size(const struct cpu_op *op)
{
	return op->opcode & 1 ? (op->op_size == 2 ? 2 : 4) : 1;
}

static uint16_t io_port(const struct vcpu *v, const struct cpu_op *op)
{
	return (uint16_t)(op->opcode & 8 ? v->gpr[R_DX] : op->imm & 0xff);
}

static void exec_in(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = io_size(op);
	uint16_t port = io_port(v, op);

	cpu_check_io(v, port, size);
	cpu_set_reg(v, R_AX, size, false, cpu_in(v, port, size));
	cpu_next(v, op);
}

static void exec_out(struct vcpu *v, const struct cpu_op *op)
{
	unsigned size = io_size(op);
	uint16_t port = io_port(v, op);

	cpu_check_io(v, port, size);
	/* RIP first: what the write does to the machine (a stop, a reset) must see a finished instruction. */
	cpu_next(v, op);
	cpu_out(v, port, size, v->gpr[R_AX]);
}

const struct cpu_emulation cpu_io_insns[] = {
	{ZYDIS_MNEMONIC_IN, exec_in}, {ZYDIS_MNEMONIC_OUT, exec_out}, {0, NULL}};
