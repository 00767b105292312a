/*
 * unpack.c - the compressed streams that Linux kernels are packed with.
 *
 * The caller knows the unpacked size beforehand (Linux appends it to the stream), so output goes to
 * one buffer of that size, and both too little and too much data are errors: no stream can grow
 * without bound.
 */
#include "vm/boot/internal.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#define STEP MIB(1) /* bytes of output between two progress reports */
#define LZ4_LEGACY_BLOCK MIB(8)
#define DECODER_MEMORY MIB(512) /* no kernel's dictionary comes near */

struct stream {
	const uint8_t *src;
	size_t len;
	uint8_t *dst;
	size_t dst_len;
	const struct unpack_progress *progress;
	struct err *err;
};

enum unpack_kind unpack_detect(const uint8_t *p, size_t len)
{
	static const struct {
		enum unpack_kind kind;
		uint8_t len;
		char magic[8];
	} known[] = {
		{UNPACK_GZIP, 3, "\x1f\x8b\x08"},
		{UNPACK_XZ, 6, "\xfd\x37zXZ"},
		{UNPACK_ZSTD, 4, "\x28\xb5\x2f\xfd"},
		{UNPACK_LZ4, 4, "\x02\x21\x4c\x18"},
		{UNPACK_BZIP2, 3, "BZh"},
		{UNPACK_LZO, 4, "\x89LZO"},
		{UNPACK_NONE, 4, "\177ELF"},
		/* lzma "alone": lc/lp/pb of 3/0/2, then a dictionary size, low bytes zero */
		{UNPACK_LZMA, 3, "\x5d\0\0"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (len >= known[i].len && !memcmp(p, known[i].magic, known[i].len))
			return known[i].kind;
	return UNPACK_UNKNOWN;
}

const char *unpack_name(enum unpack_kind kind)
{
	static const char *const names[] = {"unknown", "gzip", "xz", "lzma", "zstd", "lz4", "bzip2",
					    "lzo", "uncompressed"};

	return kind < ARRAY_SIZE(names) ? names[kind] : names[0];
}

bool unpack_supported(enum unpack_kind kind)
{
	return kind != UNPACK_UNKNOWN && kind != UNPACK_BZIP2 && kind != UNPACK_LZO;
}

static void report(const struct stream *s, size_t done)
{
	if (s->progress && s->progress->fn)
		s->progress->fn(s->progress->ctx, s->progress->what,
				s->dst_len ? (double)done / (double)s->dst_len : 1.0);
}

static int damaged(const struct stream *s, const char *kind, size_t in, size_t out, const char *why)
{
	return err_set(s->err, ENOEXEC,
		       "damaged: the %s payload cannot be unpacked: %s at byte %zu of %zu (%zu of "
		       "%zu bytes "
		       "were unpacked)",
		       kind, why, in, s->len, out, s->dst_len);
}

static int unpack_gzip(const struct stream *s)
{
	z_stream z = {.next_in = (uint8_t *)s->src};
	size_t in_left = s->len, out = 0;
	int ret;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return err_set(s->err, ENOMEM, "no memory to unpack the kernel");
	do {
		size_t room = min_u64(STEP, s->dst_len - out);

		if (z.avail_in == 0) {
			z.avail_in = (uInt)min_u64(in_left, MIB(512));
			in_left -= z.avail_in;
		}
		z.next_out = s->dst + out;
		z.avail_out = (uInt)room;
		ret = inflate(&z, Z_NO_FLUSH);
		out += room - z.avail_out;
		report(s, out);
		/* With a full buffer only the end of the stream may follow. */
		if (ret == Z_OK && out == s->dst_len && room == 0)
			ret = Z_BUF_ERROR;
	} while (ret == Z_OK);
	in_left = (size_t)(z.next_in - s->src);
	inflateEnd(&z);
	if (ret != Z_STREAM_END || out != s->dst_len)
		return damaged(s, "gzip", in_left, out,
			       ret == Z_STREAM_END  ? "the stream ends early"
			       : ret == Z_BUF_ERROR ? "the stream and its size differ"
						    : "bad data");
	return 0;
}

static const char *lzma_reason(lzma_ret ret)
{
	switch (ret) {
	case LZMA_STREAM_END:
		return "the stream ends early";
	case LZMA_MEM_ERROR:
	case LZMA_MEMLIMIT_ERROR:
		return "the dictionary is too large";
	case LZMA_BUF_ERROR:
	case LZMA_OK:
		return "the stream and its size differ";
	default:
		return "bad data";
	}
}

static int unpack_lzma(const struct stream *s, bool xz)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret ret = xz ? lzma_stream_decoder(&z, DECODER_MEMORY, 0) :
			    lzma_alone_decoder(&z, DECODER_MEMORY);
	size_t out = 0;

	if (ret != LZMA_OK)
		return err_set(s->err, ENOMEM, "no memory to unpack the kernel");
	z.next_in = s->src;
	z.avail_in = s->len;
	do {
		size_t room = min_u64(STEP, s->dst_len - out);

		z.next_out = s->dst + out;
		z.avail_out = room;
		/* liblzma reports LZMA_BUF_ERROR the second time it gets nowhere: this ends. */
		ret = lzma_code(&z, LZMA_RUN);
		out += room - z.avail_out;
		report(s, out);
	} while (ret == LZMA_OK);
	if (ret != LZMA_STREAM_END || out != s->dst_len) {
		size_t in = s->len - z.avail_in;

		lzma_end(&z);
		return damaged(s, xz ? "xz" : "lzma", in, out, lzma_reason(ret));
	}
	lzma_end(&z);
	return 0;
}

static int unpack_zstd(const struct stream *s)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = {s->src, s->len, 0};
	size_t out = 0, ret = 1;
	const char *why = NULL;

	if (!z)
		return err_set(s->err, ENOMEM, "no memory to unpack the kernel");
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 28);
	while (ret != 0 && !why) {
		size_t room = min_u64(STEP, s->dst_len - out), before = in.pos;
		ZSTD_outBuffer o = {s->dst + out, room, 0};

		ret = ZSTD_decompressStream(z, &o, &in);
		if (ZSTD_isError(ret))
			why = ZSTD_getErrorName(ret);
		else if (ret != 0 && o.pos == 0 && in.pos == before)
			why = "the stream and its size differ";
		out += o.pos;
		report(s, out);
	}
	ZSTD_freeDStream(z);
	if (!why && out != s->dst_len)
		why = "the stream ends early";
	return why ? damaged(s, "zstd", in.pos, out, why) : 0;
}

/* The legacy frame: a magic, then blocks of at most 8 MiB unpacked, each after its packed size. */
static int unpack_lz4(const struct stream *s)
{
	size_t pos = 4, out = 0;

	while (out < s->dst_len) {
		uint32_t block;
		size_t room = min_u64(LZ4_LEGACY_BLOCK, s->dst_len - out);
		int n;

		if (!range_within(pos, 4, s->len))
			return damaged(s, "lz4", pos, out, "the stream ends early");
		block = get_le32(s->src + pos);
		pos += 4;
		if (block == 0x184c2102) /* concatenated frames are allowed */
			continue;
		if (!range_within(pos, block, s->len) || block > INT32_MAX)
			return damaged(s, "lz4", pos, out, "a block is larger than the stream");
		n = LZ4_decompress_safe((const char *)s->src + pos, (char *)s->dst + out,
					(int)block, (int)room);
		if (n <= 0)
			return damaged(s, "lz4", pos, out, "bad data");
		pos += block;
		out += (size_t)n;
		report(s, out);
	}
	return 0;
}

static int unpack_none(const struct stream *s)
{
	if (s->dst_len > s->len)
		return damaged(s, "uncompressed", 0, 0, "the payload is shorter than its size");
	memcpy(s->dst, s->src, s->dst_len);
	return 0;
}

int unpack(enum unpack_kind kind, const uint8_t *src, size_t len, uint8_t *dst, size_t dst_len,
	   const struct unpack_progress *progress, struct err *err)
{
	const struct stream s = {src, len, dst, dst_len, progress, err};

	switch (kind) {
	case UNPACK_GZIP:
		return unpack_gzip(&s);
	case UNPACK_XZ:
	case UNPACK_LZMA:
		return unpack_lzma(&s, kind == UNPACK_XZ);
	case UNPACK_ZSTD:
		return unpack_zstd(&s);
	case UNPACK_LZ4:
		return unpack_lz4(&s);
	case UNPACK_NONE:
		return unpack_none(&s);
	default:
		return err_set(err, ENOTSUP, "%s compression is not supported", unpack_name(kind));
	}
}
