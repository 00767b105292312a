#!/usr/bin/env python3
"""Writes what the fuzzers start from: DIR/HARNESS/corpus/NAME.

    seeds.py DIR
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from badfile import synthetic  # pylint: disable=wrong-import-position
from images import bzimage, elf, multiboot, packed  # pylint: disable=wrong-import-position

# Instructions of every length and map, with and without memory operands; the fuzzer mixes them.
INSTRUCTIONS = """9d 0f01d0 c3 cb cf f4 0fa2 0f05 0f07 480fae21 f3a4 66f2a7 c8100000 e800000000 0f84 ff2500000000
    c5f877 c5fc58c1 c4e27d92040a 62f17c4858c1 62f27d4992040a 8fe97812c0 0f0fc19e 660f38dcc1 f30fc7f8 640fae5c2408
    48b8112233445566778867 f08304240a 2e2e2e2e2e2e2e2e2e2e2e2e2e2e90 ea00000000000 d9c0 9bdfe0 0f20c0 0f3f"""


def loader_seeds():
    """The first byte says which loader: 0 goes by the file's kind, bit 7 takes the file as an initrd too."""
    kernel = elf()
    good = {f"good-{how}": bzimage(payload=packed(kernel, how)) for how in ("xz", "lz4", "zstd", "gzip")}
    good |= {"good-elf": kernel, "good-multiboot": multiboot()}
    for name, data in (good | synthetic()).items():
        for first in (0, 0x81):
            yield f"{name}-{first:02x}", bytes([first]) + data[:32768]


def decode_seeds():
    for text in INSTRUCTIONS.split():
        data = bytes.fromhex(text[:len(text) // 2 * 2])
        yield data.hex(), data


def main():
    for harness, seeds in (("loader", loader_seeds()), ("decode", decode_seeds())):
        folder = Path(sys.argv[1]) / harness / "corpus"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds:
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
