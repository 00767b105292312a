/* memmap.c - the guest-physical layout: where RAM is, and what guests are told about it. */
#include "vm/boot/boot.h"

uint64_t boot_low_ram_end(uint64_t ram)
{
	return min_u64(ram, BOOT_PCI_HOLE);
}

unsigned boot_ram_layout(uint64_t ram, struct boot_range out[3])
{
	uint64_t low = boot_low_ram_end(ram);
	unsigned n = 0;

	/* Nothing answers in the VGA hole, so that a guest probing for a display finds none. */
	out[n++] = (struct boot_range){0, BOOT_LOW_END, E820_RAM};
	out[n++] = (struct boot_range){BOOT_HIGH_BIOS, low - BOOT_HIGH_BIOS, E820_RAM};
	if (ram > low)
		out[n++] = (struct boot_range){GIB(4), ram - low, E820_RAM};
	return n;
}

unsigned boot_memory_map(uint64_t ram, struct boot_range out[BOOT_MAP_MAX])
{
	uint64_t low = boot_low_ram_end(ram);
	unsigned n = 0;

	out[n++] = (struct boot_range){0, BOOT_EBDA, E820_RAM};
	out[n++] = (struct boot_range){BOOT_EBDA, BOOT_LOW_END - BOOT_EBDA, E820_RESERVED};
	out[n++] = (struct boot_range){BOOT_ACPI_BASE, BOOT_ACPI_SIZE, E820_RESERVED};
	out[n++] = (struct boot_range){MIB(1), low - MIB(1), E820_RAM};
	out[n++] = (struct boot_range){BOOT_ECAM_BASE, BOOT_ECAM_SIZE, E820_RESERVED};
	if (ram > low)
		out[n++] = (struct boot_range){GIB(4), ram - low, E820_RAM};
	return n;
}
