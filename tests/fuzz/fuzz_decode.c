/*
 * Any bytes, in any mode: insn_decode() neither reads past them nor calls an instruction whole that is not,
 * and its answer does not depend on what follows the instruction.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "x86/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Zydis is a library without coverage: what it decoded is told to libFuzzer here instead, so that an input with
 * a new mnemonic counts as progress.
 */
__attribute__((section("__libfuzzer_extra_counters")))
static uint8_t decoded[3][ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* A property that does not hold ends the run, and libFuzzer keeps the input. */
static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_whole(const struct insn_decoder *d, enum x86_mode mode, const uint8_t *bytes,
			const struct insn *insn)
{
	unsigned len = insn->z.length;
	struct insn again;

	require(len >= 1 && len <= X86_INSN_MAX);
	require(memcmp(insn->bytes, bytes, len) == 0);
	require(insn_decode(d, mode, bytes, len, &again) == DECODE_OK);
	require(again.z.mnemonic == insn->z.mnemonic && again.z.length == len);
	/* Cut anywhere, it is short, never another instruction: a fetch across a page depends on that. */
	for (unsigned cut = 0; cut < len; cut++)
		require(insn_decode(d, mode, bytes, cut, &again) == DECODE_SHORT);
	require(insn_info(insn->z.mnemonic) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct insn_decoder decoder;

	insn_decoder_init(&decoder);
	for (int mode = X86_MODE_16; mode <= X86_MODE_64; mode++) {
		/* A copy of exactly the size, so that the address sanitizer sees one byte too many. */
		uint8_t *bytes = malloc(size ? size : 1);
		struct insn insn;

		if (!bytes)
			return 0;
		if (size)
			memcpy(bytes, data, size);
		switch (insn_decode(&decoder, (enum x86_mode)mode, bytes, size, &insn)) {
		case DECODE_OK:
			require(insn.z.length <= size);
			decoded[mode][insn.z.mnemonic] = 1;
			check_whole(&decoder, (enum x86_mode)mode, bytes, &insn);
			break;
		case DECODE_SHORT:
			require(size < X86_INSN_MAX);
			break;
		case DECODE_TOO_LONG:
			require(size >= X86_INSN_MAX);
			break;
		case DECODE_INVALID:
			break;
		default:
			abort();
		}
		free(bytes);
	}
	return 0;
}
