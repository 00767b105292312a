#!/usr/bin/env python3
"""Writes what the fuzzers start from: DIR/HARNESS/corpus/NAME.

    seeds.py DIR
"""
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Instructions of every length and map, with and without memory operands; the fuzzer mixes them.
INSTRUCTIONS = """9d 0f01d0 c3 cb cf f4 0fa2 0f05 0f07 480fae21 f3a4 66f2a7 c8100000 e800000000 0f84 ff2500000000
    c5f877 c5fc58c1 c4e27d92040a 62f17c4858c1 62f27d4992040a 8fe97812c0 0f0fc19e 660f38dcc1 f30fc7f8 640fae5c2408
    48b81122334455667788 67f08304240a 2e2e2e2e2e2e2e2e2e2e2e2e2e2e90 ea000000000000 d9c0 9bdfe0 0f20c0 0f3f"""


def main():
    base = Path(sys.argv[1])
    for folder in (HERE / "corpus").iterdir():
        shutil.copytree(folder, base / folder.name / "corpus", dirs_exist_ok=True)
    subprocess.run([sys.executable, str(HERE.parent / "corpus" / "images.py"), "--seeds",
                    str(base / "loader" / "corpus")], check=True)
    decode = base / "decode" / "corpus"
    decode.mkdir(parents=True, exist_ok=True)
    for text in INSTRUCTIONS.split():
        (decode / text).write_bytes(bytes.fromhex(text))


if __name__ == "__main__":
    main()
