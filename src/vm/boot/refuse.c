/* refuse.c - telling people what the file they gave as a kernel really is. */
#include "vm/boot/internal.h"

#include <errno.h>

struct known_file {
	uint32_t off;
	uint8_t len;
	char magic[12];
	const char *is; /* follows "NAME: " */
};

/* The first match counts: the specific before the general. */
static const struct known_file known[] = {
	{0x38, 4, "ARM\x64", "is an arm64 Image: an x86-64 kernel is needed"},
	{0x38, 4, "RSC\x05", "is a RISC-V Image: an x86-64 kernel is needed"},
	{0x24, 4, "\x18\x28\x6f\x01", "is a 32-bit ARM zImage: an x86-64 kernel is needed"},
	{0, 4, "\x27\x05\x19\x56", "is a U-Boot uImage: an x86-64 bzImage or vmlinux is needed"},
	{0, 2, "MZ",
	 "a PE/EFI image without a Linux boot header: a bzImage or vmlinux is needed (EFI "
	 "programs need firmware)"},
	{0, 2, "\x1f\x8b",
	 "is a gzip-compressed file: unpack it first (gunzip), or give it with --initrd if "
	 "it is an initramfs"},
	{0, 6, "\xfd\x37zXZ",
	 "is an xz-compressed file: unpack it first (unxz)"},
	{0, 4, "\x28\xb5\x2f\xfd", "is a zstd-compressed file: unpack it first (unzstd)"},
	{0, 3, "BZh", "is a bzip2-compressed file: unpack it first (bunzip2)"},
	{0, 4, "\x02\x21\x4c\x18", "is an lz4-compressed file: unpack it first (unlz4)"},
	{0, 6, "070701",
	 "is a cpio archive (an initramfs): give it with --initrd, and a kernel with --kernel"},
	{0, 6, "070702",
	 "is a cpio archive (an initramfs): give it with --initrd, and a kernel with --kernel"},
	{0, 4, "QFI\xfb", "is a qcow2 disk image, not a kernel"},
	{0, 4, "KDMV", "is a VMDK disk image, not a kernel"},
	{0, 8, "!<arch>\n",
	 "is a Debian package or ar archive: take the kernel out of it (dpkg -x)"},
	{0, 4, "\xed\xab\xee\xdb", "is an RPM package: take the kernel out of it"},
	{0, 2, "#!", "is a script, not a kernel"},
	{257, 5, "ustar", "is a tar archive: take the kernel out of it"},
	{0x8001, 5, "CD001", "is a CD image (ISO 9660): take the kernel out of it"},
	{510, 2, "\x55\xaa",
	 "has a boot sector but no Linux boot header: a disk image or a very old kernel"},
};

int boot_refuse(const struct boot_bytes *b, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		const struct known_file *k = &known[i];

		if (bytes_have(b, k->off, k->len) && !memcmp(b->data + k->off, k->magic, k->len))
			return err_set(err, ENOEXEC, "%s: %s", b->name, k->is);
	}
	if (b->size < 0x268)
		return err_set(err, ENOEXEC, "%s: truncated or no kernel: only %llu bytes", b->name,
			       (unsigned long long)b->size);
	return err_set(err, ENOEXEC, "%s: not a kernel: no bzImage, ELF or multiboot header",
		       b->name);
}
