/*
 * test_boot.c - the loaders on images made here: each kind that must load, and each way a file can
 * be wrong. Messages are checked for the words that tell a user what to do.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <lz4hc.h>
#include <lzma.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "vm/boot/internal.h"

#define RAM MIB(64)

struct image {
	uint8_t data[0x20000];
	size_t len;
};

static struct image *image_new(void)
{
	struct image *i = calloc(1, sizeof(*i));

	assert_non_null(i);
	return i;
}

static int plan_ram(struct boot_plan *plan, const struct image *i, enum vm_boot how, uint64_t ram,
		    struct err *err)
{
	const struct boot_request req = {.kernel = {i->data, i->len, "image", NULL}, .cmdline = "a b",
					 .ram = ram, .how = how};

	err->text[0] = '\0';
	return boot_plan_make(plan, &req, err);
}

static int plan(struct boot_plan *p, const struct image *i, enum vm_boot how, struct err *err)
{
	return plan_ram(p, i, how, RAM, err);
}

/* The image is refused with `code`, and every word of `words` (separated by '|') is in the message.
 */
static void refused(const struct image *i, enum vm_boot how, int code, const char *words)
{
	struct boot_plan p;
	struct err err;
	char copy[200], *save, *w;

	assert_int_equal(plan(&p, i, how, &err), -code);
	assert_memory_equal(err.text, "image: ", 7);
	assert_null(strchr(err.text, '\n'));
	snprintf(copy, sizeof(copy), "%s", words);
	for (w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
		if (!strstr(err.text, w))
			fail_msg("\"%s\" not in \"%s\"", w, err.text);
	assert_int_equal(p.n_pieces, 0);
	assert_int_equal(p.n_buffers, 0);
}

static const struct boot_piece *piece(const struct boot_plan *p, const char *what)
{
	for (unsigned i = 0; i < p->n_pieces; i++)
		if (!strcmp(p->piece[i].what, what))
			return &p->piece[i];
	fail_msg("no piece \"%s\"", what);
	return NULL;
}

/* An ELF64 kernel: one segment of 0x1000 bytes at file offset 0x1000, physical 16 MiB, 0x3000 in
 * memory. */
static struct image *elf64_new(void)
{
	struct image *i = image_new();
	uint8_t *e = i->data, *p = e + 64;

	memcpy(e, "\177ELF\2\1\1", 7);
	put_le16(e + 16, 2);
	put_le16(e + 18, ELF_EM_X86_64);
	put_le64(e + 24, MIB(16) + 0x10);
	put_le64(e + 32, 64);
	put_le16(e + 54, 56);
	put_le16(e + 56, 1);
	put_le32(p, ELF_PT_LOAD);
	put_le64(p + 8, 0x1000);
	put_le64(p + 16, 0xffffffff81000000);
	put_le64(p + 24, MIB(16));
	put_le64(p + 32, 0x1000);
	put_le64(p + 40, 0x3000);
	for (unsigned n = 0; n < 0x1000; n++)
		e[0x1000 + n] = (uint8_t)(n * 7 + n / 256);
	i->len = 0x2000;
	return i;
}

/* Adds a PT_NOTE with one Xen note of a 4-byte descriptor. */
static void add_note(struct image *i, uint32_t type, const void *desc, uint32_t desc_len)
{
	uint8_t *p = i->data + 64 + 56, *n = i->data + 0x800;

	put_le16(i->data + 56, 2);
	put_le32(p, ELF_PT_NOTE);
	put_le64(p + 8, 0x800);
	put_le64(p + 32, 16 + align_up(desc_len, 4));
	put_le32(n, 4);
	put_le32(n + 4, desc_len);
	put_le32(n + 8, type);
	memcpy(n + 12, "Xen", 4);
	memcpy(n + 16, desc, desc_len);
}

/* A bzImage around `payload`: one setup sector, 0x1000 bytes of decompressor, the payload. */
static struct image *bzimage_new(const uint8_t *payload, size_t len)
{
	struct image *i = image_new();
	uint8_t *h = i->data;

	assert_true(len < 0x18000);
	h[0x1f1] = 1;
	put_le16(h + 0x1fe, 0xaa55);
	h[0x200] = 0xeb;
	h[0x201] = 0x6a;
	memcpy(h + 0x202, "HdrS", 4);
	put_le16(h + 0x206, 0x20f);
	h[0x211] = 1;
	put_le32(h + 0x22c, 0x7fffffff);
	put_le32(h + 0x230, 0x200000);
	h[0x234] = 1;
	put_le16(h + 0x236, 3);
	put_le32(h + 0x238, 2047);
	put_le32(h + 0x248, 0x1000);
	put_le32(h + 0x24c, (uint32_t)len);
	put_le64(h + 0x258, MIB(16));
	put_le32(h + 0x260, 0x20000);
	memcpy(h + 1024 + 0x1000, payload, len);
	i->len = 1024 + 0x1000 + len;
	return i;
}

/* Packs as Linux's build does: the stream, then (but for gzip) the unpacked size. */
static size_t pack(enum unpack_kind kind, const struct image *in, uint8_t *out, size_t room)
{
	size_t n = 0;

	if (kind == UNPACK_GZIP) {
		z_stream z = {.next_in = (uint8_t *)in->data,
			      .avail_in = (uInt)in->len,
			      .next_out = out,
			      .avail_out = (uInt)room};

		assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 9, 0), Z_OK);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		n = z.total_out;
		deflateEnd(&z);
		return n;
	}
	if (kind == UNPACK_XZ) {
		assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in->data,
							 in->len, out, &n, room),
				 LZMA_OK);
	} else if (kind == UNPACK_LZMA) {
		lzma_stream z = LZMA_STREAM_INIT;
		lzma_options_lzma opt;

		assert_false(lzma_lzma_preset(&opt, 6));
		assert_int_equal(lzma_alone_encoder(&z, &opt), LZMA_OK);
		z.next_in = in->data;
		z.avail_in = in->len;
		z.next_out = out;
		z.avail_out = room;
		assert_int_equal(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
		n = (size_t)z.total_out;
		lzma_end(&z);
	} else if (kind == UNPACK_ZSTD) {
		n = ZSTD_compress(out, room, in->data, in->len, 19);
		assert_false(ZSTD_isError(n));
	} else if (kind == UNPACK_LZ4) {
		int len = LZ4_compress_HC((const char *)in->data, (char *)out + 8, (int)in->len,
					  (int)room - 8, 9);

		assert_true(len > 0);
		put_le32(out, 0x184c2102);
		put_le32(out + 4, (uint32_t)len);
		n = (size_t)len + 8;
	} else {
		memcpy(out, in->data, in->len);
		n = in->len;
	}
	put_le32(out + n, (uint32_t)in->len);
	return n + 4;
}

static struct image *packed_bzimage(enum unpack_kind kind)
{
	static uint8_t buf[0x18000];
	struct image *elf = elf64_new(), *i;
	size_t n = pack(kind, elf, buf, sizeof(buf) - 4);

	i = bzimage_new(buf, n);
	free(elf);
	return i;
}

static void test_vmlinux(void **state)
{
	struct image *i = elf64_new();
	const struct boot_piece *k, *bp;
	struct boot_plan p;
	struct err err;

	assert_int_equal(plan(&p, i, VM_BOOT_AUTO, &err), 0);
	assert_int_equal(p.mode, BOOT_CPU_LONG);
	assert_int_equal(p.entry, MIB(16) + 0x10);
	k = piece(&p, "kernel segment");
	assert_int_equal(k->gpa, MIB(16));
	assert_int_equal(k->len, 0x1000);
	assert_int_equal(k->mem_len, 0x3000);
	assert_memory_equal(k->data, i->data + 0x1000, 0x1000);
	bp = piece(&p, "boot parameters");
	assert_int_equal(bp->gpa, p.rsi);
	assert_int_equal(get_le16(bp->data + 0x1fe), 0xaa55);
	assert_int_equal(get_le64(bp->data + 0x70), BOOT_ACPI_BASE);
	assert_int_equal(get_le32(bp->data + 0x228), piece(&p, "command line")->gpa);
	assert_string_equal((const char *)piece(&p, "command line")->data, "a b");
	assert_int_equal(bp->data[0x1e8], 5);
	boot_plan_free(&p);
	free(i);
}

static void test_bzimage_payloads(void **state)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_XZ, UNPACK_LZMA, UNPACK_ZSTD,
						 UNPACK_LZ4, UNPACK_NONE};
	struct image *elf = elf64_new();

	for (unsigned n = 0; n < ARRAY_SIZE(kinds); n++) {
		struct image *i = packed_bzimage(kinds[n]);
		const struct boot_piece *k;
		struct boot_plan p;
		struct err err;

		assert_int_equal(plan(&p, i, VM_BOOT_AUTO, &err), 0);
		k = piece(&p, "kernel segment");
		assert_int_equal(k->gpa, MIB(16));
		assert_memory_equal(k->data, elf->data + 0x1000, 0x1000);
		assert_int_equal(p.entry, MIB(16) + 0x10);
		boot_plan_free(&p);
		free(i);
	}
	free(elf);
}

static void test_bzimage_original(void **state)
{
	struct image *i = packed_bzimage(UNPACK_GZIP);
	struct boot_plan p;
	struct err err;

	assert_int_equal(plan(&p, i, VM_BOOT_LINUX_ORIGINAL, &err), 0);
	assert_int_equal(p.entry, MIB(16) + 0x200);
	assert_int_equal(piece(&p, "kernel")->mem_len, 0x20000);
	assert_int_equal(get_le32(piece(&p, "boot parameters")->data + 0x214), MIB(16));
	boot_plan_free(&p);
	/* What the host cannot unpack goes the original way by itself. */
	memcpy(i->data + 1024 + 0x1000, "BZh9", 4);
	assert_int_equal(plan(&p, i, VM_BOOT_AUTO, &err), 0);
	assert_int_equal(p.entry, MIB(16) + 0x200);
	boot_plan_free(&p);
	free(i);
}

static void test_payload_damaged(void **state)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_XZ, UNPACK_LZMA, UNPACK_ZSTD,
						 UNPACK_LZ4};

	for (unsigned n = 0; n < ARRAY_SIZE(kinds); n++) {
		struct image *i = packed_bzimage(kinds[n]);
		uint8_t *last = i->data + i->len - 4;
		uint32_t size = get_le32(last);

		/* A size that is not the stream's, either way. */
		put_le32(last, size - 1000);
		if (kinds[n] !=
		    UNPACK_LZ4) /* whose last block simply is cut at the size or fails */
			refused(i, VM_BOOT_AUTO, ENOEXEC, "damaged");
		put_le32(last, size + 1000);
		refused(i, VM_BOOT_AUTO, ENOEXEC, "damaged");
		put_le32(last, 0xfffffff0);
		refused(i, VM_BOOT_AUTO, EFBIG, "does not fit|-m");
		put_le32(last, size);
		/* The formats with a checksum (lz4's legacy frame and lzma have none) notice one
		 * bad bit. */
		i->data[1024 + 0x1000 + 200] ^= 1;
		if (kinds[n] == UNPACK_GZIP || kinds[n] == UNPACK_XZ)
			refused(i, VM_BOOT_AUTO, ENOEXEC, "damaged");
		free(i);
	}
}

static void test_bzimage_header(void **state)
{
	struct image *i = packed_bzimage(UNPACK_GZIP);
	size_t len = i->len;

	put_le16(i->data + 0x206, 0x20a);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "2.10|too old");
	put_le16(i->data + 0x206, 0x20f);
	put_le16(i->data + 0x236, 0);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "32-bit kernel");
	put_le16(i->data + 0x236, 1);
	i->data[0x211] = 0;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "zImage");
	i->data[0x211] = 1;
	i->len = len - 100;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|payload");
	i->len = 0x250;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|header");
	i->len = 1024;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|1024");
	i->len = len;
	put_le32(i->data + 0x248, 0xffffffff);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|payload");
	put_le32(i->data + 0x248, 0x1000);
	put_le64(i->data + 0x258, ~0ULL - 0x1000);
	refused(i, VM_BOOT_LINUX_ORIGINAL, EFBIG, "does not fit|-m");
	put_le64(i->data + 0x258, 0x1000);
	refused(i, VM_BOOT_LINUX_ORIGINAL, ENOEXEC, "below 1 MiB");
	put_le64(i->data + 0x258, MIB(16));
	put_le32(i->data + 0x260, 0xffffffff);
	refused(i, VM_BOOT_LINUX_ORIGINAL, EFBIG, "does not fit|64 MiB");
	refused(i, VM_BOOT_PVH, ENOEXEC, "no PVH");
	put_le16(i->data + 0x1fe, 0);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "damaged|signature");
	free(i);
}

static void test_elf_damaged(void **state)
{
	struct image *i = elf64_new();
	uint8_t *e = i->data, *ph = e + 64;

	i->len = 0x1fff;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|segment 0");
	i->len = 40;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|ELF header");
	i->len = 100;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|program headers");
	i->len = 0x2000;
	put_le64(e + 32, ~0ULL - 8);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|program headers");
	put_le64(e + 32, 64);
	put_le16(e + 18, 183);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "arm64");
	put_le16(e + 18, 62);
	put_le16(e + 16, 1);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "object file");
	put_le16(e + 16, 2);
	e[5] = 2;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "big-endian");
	e[5] = 1;
	put_le32(ph, ELF_PT_INTERP);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "ordinary program");
	put_le32(ph, ELF_PT_LOAD);
	put_le64(ph + 40, ~0ULL - MIB(15));
	refused(i, VM_BOOT_AUTO, ENOEXEC, "wraps");
	put_le64(ph + 40, MIB(100));
	refused(i, VM_BOOT_AUTO, EFBIG, "not RAM|64 MiB|-m");
	put_le64(ph + 40, 0x10);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "larger in the file");
	put_le64(ph + 40, 0x3000);
	put_le64(ph + 24, LOW_BOOT_PARAMS);
	put_le64(e + 24, LOW_BOOT_PARAMS);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "overlaps");
	put_le64(ph + 24, 0xa0000);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "entry point");
	put_le64(e + 24, 0xa0000);
	refused(i, VM_BOOT_AUTO, EFBIG, "not RAM");
	refused(i, VM_BOOT_PVH, ENOEXEC, "no PVH");
	refused(i, VM_BOOT_MULTIBOOT, ENOEXEC, "no multiboot");
	refused(i, VM_BOOT_LINUX_ORIGINAL, ENOEXEC, "no decompressor");
	free(i);
}

static void test_pvh(void **state)
{
	struct image *i = elf64_new();
	uint32_t entry = (uint32_t)MIB(16) + 0x20;
	const struct boot_piece *info;
	struct boot_plan p;
	struct err err;

	add_note(i, XEN_NOTE_PHYS32_ENTRY, &entry, 4);
	assert_int_equal(plan(&p, i, VM_BOOT_AUTO, &err), 0);
	assert_int_equal(p.mode, BOOT_CPU_PROTECTED);
	assert_int_equal(p.entry, entry);
	info = piece(&p, "start info");
	assert_int_equal(p.rbx, info->gpa);
	assert_int_equal(get_le32(info->data), 0x336ec578);
	assert_int_equal(get_le64(info->data + 32), BOOT_ACPI_BASE);
	assert_int_equal(get_le32(info->data + 48), 5);
	boot_plan_free(&p);
	/* Asked for, Linux's own entry is used instead. */
	assert_int_equal(plan(&p, i, VM_BOOT_LINUX, &err), 0);
	assert_int_equal(p.mode, BOOT_CPU_LONG);
	boot_plan_free(&p);
	entry = 0x1234;
	add_note(i, XEN_NOTE_PHYS32_ENTRY, &entry, 4);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "PVH entry point|outside");
	add_note(i, XEN_NOTE_PHYS32_ENTRY, "abc", 3);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "3 bytes");
	/* A note that runs out of its segment is no note. */
	put_le32(i->data + 0x804, 0xfffffffc);
	refused(i, VM_BOOT_PVH, ENOEXEC, "no PVH");
	free(i);
}

/* The layout that kvm-unit-tests and most hobby kernels have: ELF32, header in the first page. */
static struct image *multiboot_elf32(void)
{
	struct image *i = image_new();
	uint8_t *e = i->data, *p = e + 52, *h = e + 0x1000;

	memcpy(e, "\177ELF\1\1\1", 7);
	put_le16(e + 16, 2);
	put_le16(e + 18, ELF_EM_386);
	put_le32(e + 24, 0x40000c);
	put_le32(e + 28, 52);
	put_le16(e + 42, 32);
	put_le16(e + 44, 1);
	put_le32(p, ELF_PT_LOAD);
	put_le32(p + 4, 0x1000);
	put_le32(p + 8, 0x400000);
	put_le32(p + 12, 0x400000);
	put_le32(p + 16, 0x200);
	put_le32(p + 20, 0x8000);
	put_le32(h, 0x1badb002);
	put_le32(h + 8, -0x1badb002u);
	i->len = 0x1200;
	return i;
}

static void test_multiboot_elf(void **state)
{
	struct image *i = multiboot_elf32();
	struct boot_request req = {.kernel = {i->data, i->len, "/x/image", NULL},
				   .cmdline = "a b",
				   .ram = RAM,
				   .initrd = {(const uint8_t *)"module", 6, "/y/mod", NULL}};
	const struct boot_piece *info, *mod;
	struct boot_plan p;
	struct err err;

	assert_int_equal(boot_plan_make(&p, &req, &err), 0);
	assert_int_equal(p.mode, BOOT_CPU_PROTECTED);
	assert_int_equal(p.entry, 0x40000c);
	assert_int_equal(p.rax, 0x2badb002);
	info = piece(&p, "multiboot information");
	assert_int_equal(p.rbx, info->gpa);
	assert_int_equal(get_le32(info->data + 4), 639);
	assert_int_equal(get_le32(info->data + 8), 63 * 1024);
	assert_string_equal((const char *)piece(&p, "command line")->data, "image a b");
	mod = piece(&p, "initrd");
	assert_int_equal(mod->gpa % 4096, 0);
	assert_true(mod->gpa + mod->len <= RAM && mod->gpa > RAM - MIB(1));
	assert_int_equal(get_le32(info->data + 20), 1);
	assert_int_equal(get_le32(info->data + (get_le32(info->data + 24) - p.rbx)), mod->gpa);
	boot_plan_free(&p);
	i->len = 0x1100;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated");
	free(i);
}

static void test_multiboot_kludge(void **state)
{
	struct image *i = image_new();
	uint8_t *h = i->data + 0x40;
	struct boot_plan p;
	struct err err;

	put_le32(h, 0x1badb002);
	put_le32(h + 4, 0x10003);
	put_le32(h + 8, -(0x1badb002u + 0x10003u));
	put_le32(h + 12, 0x100040);
	put_le32(h + 16, 0x100000);
	put_le32(h + 20, 0x100400);
	put_le32(h + 24, 0x102000);
	put_le32(h + 28, 0x100080);
	i->len = 0x400;
	assert_int_equal(plan(&p, i, VM_BOOT_AUTO, &err), 0);
	assert_int_equal(p.entry, 0x100080);
	assert_int_equal(piece(&p, "multiboot image")->gpa, 0x100000);
	assert_int_equal(piece(&p, "multiboot image")->mem_len, 0x2000);
	boot_plan_free(&p);
	refused(i, VM_BOOT_LINUX, ENOEXEC, "multiboot image");
	i->len = 0x3ff;
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated|1024");
	i->len = 0x400;
	put_le32(h + 28, 0x100400);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "entry point");
	put_le32(h + 16, 0x200000);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "load address");
	put_le32(h + 16, 0);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "load address");
	put_le32(h + 16, 0x100000);
	put_le32(h + 20, 0xf0000);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "truncated");
	put_le32(h + 20, 0x100400);
	put_le32(h + 24, 0x100200);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "bss");
	put_le32(h + 4, 0x10008);
	put_le32(h + 8, -(0x1badb002u + 0x10008u));
	refused(i, VM_BOOT_AUTO, ENOEXEC, "requires features");
	put_le32(h + 4, 0);
	put_le32(h + 8, -0x1badb002u);
	refused(i, VM_BOOT_AUTO, ENOEXEC, "neither ELF");
	free(i);
}

static void test_foreign(void **state)
{
	static const struct {
		unsigned off, len;
		const char *bytes, *words;
	} files[] = {
		{0, 2, "MZ", "PE/EFI|without a Linux boot header"},
		{0x38, 4, "ARM\x64", "arm64 Image"},
		{0x38, 4, "RSC\5", "RISC-V"},
		{0, 3, "\x1f\x8b\x08", "gzip|gunzip"},
		{0, 6, "070701", "cpio|--initrd"},
		{0, 4, "QFI\xfb", "qcow2"},
		{0, 3, "#!/", "script"},
		{0, 8, "!<arch>\n", "Debian package"},
		{510, 2, "\x55\xaa", "boot sector"},
		{0x8001, 5, "CD001", "CD image"},
		{0, 1, "x", "not a kernel"},
	};

	for (unsigned n = 0; n < ARRAY_SIZE(files); n++) {
		struct image *i = image_new();

		memcpy(i->data + files[n].off, files[n].bytes, files[n].len);
		i->len = 0x9000;
		refused(i, VM_BOOT_AUTO, ENOEXEC, files[n].words);
		free(i);
	}
}

/* Every prefix of every good image, and every single byte of the headers set to extremes: no crash,
 * and what is refused is refused with a message. Sanitizers give this its teeth. */
static void test_mutations(void **state)
{
	struct image *good[] = {elf64_new(), packed_bzimage(UNPACK_GZIP),
				packed_bzimage(UNPACK_LZ4), multiboot_elf32()};
	static const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff};

	for (unsigned n = 0; n < ARRAY_SIZE(good); n++) {
		struct image *i = good[n];
		size_t len = i->len;
		struct boot_plan p;
		struct err err;

		for (i->len = 0; i->len < len; i->len += i->len < 0x300 ? 1 : 97) {
			if (plan(&p, i, VM_BOOT_AUTO, &err) == 0)
				boot_plan_free(&p);
			else
				assert_true(err.text[0]);
		}
		i->len = len;
		for (size_t at = 0; at < 0x1020 && at < len; at++) {
			for (unsigned x = 0; x < ARRAY_SIZE(extremes); x++) {
				uint8_t old = i->data[at];

				i->data[at] = extremes[x];
				if (plan(&p, i, VM_BOOT_AUTO, &err) == 0)
					boot_plan_free(&p);
				else
					assert_true(err.text[0]);
				i->data[at] = old;
			}
		}
		free(i);
	}
}

static void test_initrd(void **state)
{
	struct image *i = elf64_new();
	uint8_t *big = calloc(1, MIB(48));
	struct boot_request req = {.kernel = {i->data, i->len, "image", NULL}, .ram = RAM,
				   .initrd = {big, 5000, "initrd.img", NULL}};
	const struct boot_piece *r;
	struct boot_plan p;
	struct err err;

	assert_non_null(big);
	assert_int_equal(boot_plan_make(&p, &req, &err), 0);
	r = piece(&p, "initrd");
	assert_int_equal(r->gpa, RAM - 8192);
	assert_int_equal(get_le32(piece(&p, "boot parameters")->data + 0x218), r->gpa);
	assert_int_equal(get_le32(piece(&p, "boot parameters")->data + 0x21c), 5000);
	boot_plan_free(&p);
	/* Above the limit that the kernel states, RAM is not used: 2 GiB here. */
	req.ram = GIB(4);
	assert_int_equal(boot_plan_make(&p, &req, &err), 0);
	assert_int_equal(piece(&p, "initrd")->gpa, 0x80000000 - 8192);
	boot_plan_free(&p);
	/* 47.9 MiB fit neither above the kernel at 16 MiB nor below it. */
	req.ram = RAM;
	req.initrd.size = MIB(48) - 0x2000;
	assert_int_equal(boot_plan_make(&p, &req, &err), -EFBIG);
	assert_non_null(strstr(err.text, "initrd.img: "));
	assert_non_null(strstr(err.text, "-m"));
	/* 14 MiB do not fit above a kernel that ends at 60 MiB, but below it. */
	put_le64(i->data + 64 + 40, MIB(44));
	req.initrd.size = MIB(14);
	assert_int_equal(boot_plan_make(&p, &req, &err), 0);
	assert_int_equal(piece(&p, "initrd")->gpa, MIB(2));
	boot_plan_free(&p);
	free(big);
	free(i);
}

static void test_cmdline_limit(void **state)
{
	struct image *i = elf64_new();
	char *text = calloc(1, 5000);
	struct boot_request req = {
		.kernel = {i->data, i->len, "image", NULL}, .ram = RAM, .cmdline = text};
	struct boot_plan p;
	struct err err;

	assert_non_null(text);
	memset(text, 'x', 2047);
	assert_int_equal(boot_plan_make(&p, &req, &err), 0);
	boot_plan_free(&p);
	text[2047] = 'x';
	assert_int_equal(boot_plan_make(&p, &req, &err), -EINVAL);
	assert_non_null(strstr(err.text, "2048 bytes"));
	free(text);
	free(i);
}

static void test_memory_map(void **state)
{
	static const uint64_t sizes[] = {MIB(2), MIB(64), GIB(3), GIB(3) + 4096, GIB(64)};

	for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
		struct boot_range ram[3], map[BOOT_MAP_MAX];
		unsigned nr = boot_ram_layout(sizes[n], ram), nm = boot_memory_map(sizes[n], map);
		uint64_t end = 0;

		assert_int_equal(nr, sizes[n] > GIB(3) ? 3 : 2);
		for (unsigned i = 0; i < nm; i++) {
			bool backed = map[i].type != E820_RAM;

			assert_true(map[i].base >= end && map[i].size > 0);
			end = map[i].base + map[i].size;
			/* What is called RAM is RAM. */
			for (unsigned r = 0; r < nr; r++)
				if (map[i].base >= ram[r].base &&
				    range_within(map[i].base - ram[r].base, map[i].size,
						 ram[r].size))
					backed = true;
			assert_true(backed);
		}
		assert_int_equal(ram[nr - 1].base + ram[nr - 1].size,
				 sizes[n] > GIB(3) ? GIB(4) + sizes[n] - GIB(3) : sizes[n]);
	}
}

static void *write_later(void *arg)
{
	int fd = *(int *)arg;

	usleep(10000);
	if (write(fd, "56789", 5) != 5)
		perror("write");
	close(fd);
	return NULL;
}

static void test_files(void **state)
{
	pthread_t writer;
	int pipe_fd[2];
	char path[] = "/tmp/ringer-test-XXXXXX";
	int fd = mkstemp(path);
	struct boot_file f;
	struct err err;

	assert_true(fd >= 0);
	assert_int_equal(boot_file_read(&f, path, "kernel", 100, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is empty"));
	assert_int_equal(write(fd, "0123456789", 10), 10);
	assert_int_equal(boot_file_read(&f, path, "kernel", 10, &err), 0);
	assert_int_equal(f.size, 10);
	assert_memory_equal(f.data, "0123456789", 10);
	boot_file_free(&f);
	assert_int_equal(boot_file_read(&f, path, "kernel", 9, &err), -EFBIG);
	assert_int_equal(boot_file_read(&f, "/tmp", "kernel", 9, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is a directory"));
	assert_int_equal(boot_file_read(&f, "/nonexistent/k", "initrd", 9, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/k: cannot open the initrd"));
	assert_int_equal(boot_file_read(&f, "/dev/zero", "kernel", 100, &err), -EFBIG);
	close(fd);
	unlink(path);
	/* A pipe with a writer is read to its end; one without does not hang the reader. */
	assert_int_equal(pipe(pipe_fd), 0);
	snprintf(path, sizeof(path), "/dev/fd/%d", pipe_fd[0]);
	assert_int_equal(write(pipe_fd[1], "01234", 5), 5);
	assert_int_equal(pthread_create(&writer, NULL, write_later, &pipe_fd[1]), 0);
	assert_int_equal(boot_file_read(&f, path, "kernel", 100, &err), 0);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(f.size, 10);
	assert_memory_equal(f.data, "0123456789", 10);
	boot_file_free(&f);
	assert_int_equal(boot_file_read(&f, path, "kernel", 100, &err), -EINVAL);
	close(pipe_fd[0]);
}

/* A regular file stays open: its bytes are read when wanted, and not from a file that changed since. */
static void test_open_file(void **state)
{
	char path[] = "/tmp/ringer-test-XXXXXX", to[4];
	int fd = mkstemp(path);
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct boot_file f;
	struct err err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	assert_int_equal(boot_file_open(&f, path, "kernel", 9, &err), -EFBIG);
	assert_int_equal(boot_file_open(&f, path, "kernel", 10, &err), 0);
	assert_true(f.open);
	assert_int_equal(f.size, 10);
	assert_memory_equal(f.data, "\0\0\0", 3);
	assert_int_equal(boot_file_get(&f, 1, 2, &err), 0);
	assert_memory_equal(f.data, "\00012\0", 4);
	boot_file_forget(&f);
	assert_null(f.data);
	assert_int_equal(boot_file_load(&f, 6, to, 4, &err), 0);
	assert_memory_equal(to, "6789", 4);
	assert_int_equal(futimens(fd, times), 0);
	assert_int_equal(boot_file_load(&f, 6, to, 4, &err), -ESTALE);
	assert_non_null(strstr(err.text, "was written to"));
	assert_int_equal(ftruncate(fd, 8), 0);
	assert_int_equal(boot_file_load(&f, 6, to, 4, &err), -ESTALE);
	assert_non_null(strstr(err.text, "was cut short"));
	boot_file_free(&f);
	close(fd);
	unlink(path);
}

/* An image as kernel and as initrd in an open file loads what it loads from memory, and needs no memory meanwhile. */
static void loads_from_file(const struct image *i, bool kernel_stays)
{
	char path[] = "/tmp/ringer-test-XXXXXX";
	int fd = mkstemp(path);
	struct boot_request req = {.cmdline = "x", .ram = RAM, .kernel = {i->data, i->len, path, NULL},
				   .initrd = {i->data, i->len, path, NULL}};
	struct boot_plan from_memory, from_file;
	struct guest_mem *mem;
	unsigned from_kernel = 0;
	struct boot_file f, g;
	struct err err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, i->data, i->len), i->len);
	assert_int_equal(boot_plan_make(&from_memory, &req, &err), 0);
	assert_int_equal(boot_file_open(&f, path, "kernel", GIB(1), &err), 0);
	assert_int_equal(boot_file_open(&g, path, "initrd", GIB(1), &err), 0);
	req.kernel = (struct boot_bytes){f.data, f.size, path, &f};
	req.initrd = (struct boot_bytes){g.data, g.size, path, &g};
	assert_int_equal(boot_plan_make(&from_file, &req, &err), 0);
	boot_file_forget(&f);
	boot_file_forget(&g);
	assert_int_equal(guest_mem_new(&mem, &err), 0);
	assert_int_equal(guest_mem_add_ram(mem, GPA(0), RAM, &err), 0);
	assert_int_equal(boot_plan_load(&from_file, mem, &err), 0);
	assert_int_equal(from_file.n_pieces, from_memory.n_pieces);
	assert_int_equal(from_file.entry, from_memory.entry);
	for (unsigned n = 0; n < from_file.n_pieces; n++) {
		const struct boot_piece *p = &from_memory.piece[n];

		assert_int_equal(from_file.piece[n].gpa, p->gpa);
		assert_memory_equal(guest_ptr(mem, GPA(p->gpa), p->len), p->data, p->len);
		from_kernel += from_file.piece[n].file == &f;
	}
	assert_int_equal(from_kernel, kernel_stays);
	assert_ptr_equal(piece(&from_file, "initrd")->file, &g);
	assert_int_equal(ftruncate(fd, (off_t)i->len - 1), 0);
	assert_int_equal(boot_plan_load(&from_file, mem, &err), -ESTALE);
	guest_mem_free(mem);
	boot_plan_free(&from_file);
	boot_plan_free(&from_memory);
	boot_file_free(&f);
	boot_file_free(&g);
	close(fd);
	unlink(path);
}

static void test_plan_of_open_files(void **state)
{
	struct image *i = elf64_new();
	uint32_t entry = MIB(16) + 0x20;

	/* Everything but the ELF header beyond what is read at once. */
	add_note(i, XEN_NOTE_PHYS32_ENTRY, &entry, sizeof(entry));
	memcpy(i->data + 0x1f000, i->data + 64, 2 * 56);
	memcpy(i->data + 0x1e000, i->data + 0x800, 0x40);
	memcpy(i->data + 0x18000, i->data + 0x1000, 0x1000);
	memset(i->data + 64, 0, 0x2000 - 64);
	put_le64(i->data + 32, 0x1f000);
	put_le64(i->data + 0x1f000 + 8, 0x18000);
	put_le64(i->data + 0x1f000 + 56 + 8, 0x1e000);
	i->len = sizeof(i->data);
	loads_from_file(i, true);
	free(i);
	i = packed_bzimage(UNPACK_GZIP);
	loads_from_file(i, false);
	free(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vmlinux), cmocka_unit_test(test_bzimage_payloads),
		cmocka_unit_test(test_bzimage_original), cmocka_unit_test(test_payload_damaged),
		cmocka_unit_test(test_bzimage_header), cmocka_unit_test(test_elf_damaged),
		cmocka_unit_test(test_pvh), cmocka_unit_test(test_multiboot_elf),
		cmocka_unit_test(test_multiboot_kludge), cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_mutations), cmocka_unit_test(test_initrd),
		cmocka_unit_test(test_cmdline_limit), cmocka_unit_test(test_memory_map),
		cmocka_unit_test(test_files), cmocka_unit_test(test_open_file),
		cmocka_unit_test(test_plan_of_open_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
