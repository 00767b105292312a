"""Broken images and command lines: one clear line on standard error, exit status 2, nothing on standard output."""
import os
import tempfile
from pathlib import Path

from guest import Failure, check
from images import PAGE, bzimage, elf

def synthetic():
    """name: bytes of files that no loader may take."""
    lz4 = b"\x02\x21\x4c\x18"
    return {
        "empty": b"",
        "one-byte": b"M",
        "text": b"this is not a kernel\n" * 100,
        "zeros": bytes(65536),
        "gzip": b"\x1f\x8b\x08\0" + bytes(1000),
        "windows": b"MZ" + bytes(1000),
        "bzimage-no-magic": bzimage(magic=b"XXXX"),
        "bzimage-no-boot-flag": bzimage(boot_flag=0),
        "bzimage-old-protocol": bzimage(protocol=0x0204),
        "bzimage-not-64-bit": bzimage(xloadflags=0),
        "bzimage-header-alone": bzimage()[:0x260],
        "bzimage-cut-setup": bzimage(setup_sectors=64)[:4096],
        "bzimage-no-payload": bzimage(),
        "bzimage-unknown-payload": bzimage(payload=b"\xde\xad\xbe\xef" * 64),
        "bzimage-broken-lz4": bzimage(payload=lz4 + b"\xff" * 4096),
        "bzimage-broken-xz": bzimage(payload=b"\xfd7zXZ\0" + b"\xff" * 4096),
        "bzimage-broken-zstd": bzimage(payload=b"\x28\xb5\x2f\xfd" + b"\xff" * 4096),
        "bzimage-broken-gzip": bzimage(payload=b"\x1f\x8b\x08\0" + b"\xff" * 4096),
        "bzimage-payload-outside": bzimage(payload=lz4 + bytes(64), offset=0xFFFFFF00),
        "bzimage-payload-too-long": bzimage(payload=lz4 + bytes(64), length=0xFFFFFFFF),
        "elf-header-alone": elf()[:40],
        "elf-32-bit-foreign": elf(machine=3),
        "elf-arm64": elf(machine=183),
        "elf-big-endian": elf(data=2),
        "elf-relocatable": elf(kind=1),
        "elf-no-segments": elf(phnum=0),
        "elf-segments-outside": elf(phoff=1 << 40),
        "elf-odd-segment-size": elf(phentsize=3),
        "elf-cut-segment": elf(segment=(PAGE, 0x1000000, 1 << 20, 1 << 20)),
        "elf-wrapping-segment": elf(segment=(2**64 - 16, 0x1000000, 64, 64)),
        "elf-above-memory": elf(segment=(PAGE, 1 << 45, 64, 64)),
        "elf-larger-than-memory": elf(segment=(PAGE, 0x1000000, 64, 1 << 40)),
        "elf-memory-wraps": elf(segment=(PAGE, 2**64 - 4096, 64, 8192)),
        "elf-file-beyond-memory-size": elf(segment=(PAGE, 0x1000000, 64, 8)),
    }


def refuses(bench, *args, word=None):
    """One line, no more, status 2, nothing on standard output."""
    with bench.start(*args, terminal=False) as run:
        run.close_input()
        run.ends_with(2, limit=120)
        errors = run.errors.decode(errors="replace")
        lines = errors.splitlines()
        check(len(lines) == 1 and errors.endswith("\n"), f"{len(lines)} lines of error: {errors[:500]!r}")
        check(len(lines[0]) < 300 and lines[0].startswith("ringer: "), f"not a clear line: {lines[0]!r}")
        check(not run.output, f"standard output: {run.output[:200]!r}")
        check(word is None or word in lines[0], f"{word!r} is not in {lines[0]!r}")
        return lines[0]


def each(cases):
    """Runs all of them and reports all that fail."""
    failures = []
    for name, run in cases:
        try:
            print(f"{name}: {run()}")
        except Failure as failure:
            failures.append(f"{name}: {failure}")
    check(not failures, "\n  ".join(["", *failures]))


def images(bench):
    with tempfile.TemporaryDirectory() as folder:
        def file(name, data):
            path = Path(folder) / name
            path.write_bytes(data)
            return str(path)

        cases = [(name, lambda p=file(name, data), n=name: refuses(bench, "run", "--kernel", p, word=n))
                 for name, data in synthetic().items()]
        cases.append(("folder", lambda: refuses(bench, "run", "--kernel", folder)))
        cases.append(("absent", lambda: refuses(bench, "run", "--kernel", folder + "/absent", word="absent")))
        os.mkfifo(folder + "/fifo")
        cases.append(("fifo", lambda: refuses(bench, "run", "--kernel", folder + "/fifo")))
        cases.append(("device", lambda: refuses(bench, "run", "--kernel", "/dev/null")))
        each(cases)


def real_images(bench):
    """The stock kernel, damaged: cut anywhere it is refused, and so is too little memory, or too much initrd."""
    with open(bench.image("vmlinuz"), "rb") as f:
        kernel = f.read()
    with tempfile.TemporaryDirectory() as folder:
        def cut(size):
            path = Path(folder) / f"cut-{size}"
            path.write_bytes(kernel[:size])
            return str(path)

        cases = [(f"cut to {size}", lambda p=cut(size): refuses(bench, "run", "--kernel", p))
                 for size in (511, 600, 20000, len(kernel) // 2, len(kernel) - 500000)]
        damaged = Path(folder) / "damaged"
        middle = len(kernel) // 2
        damaged.write_bytes(kernel[:middle] + b"\xff" * 65536 + kernel[middle + 65536:])
        cases.append(("damaged payload", lambda: refuses(bench, "run", "--kernel", str(damaged))))
        cases.append(("too little memory", lambda: refuses(bench, "run", "--kernel", bench.image("vmlinuz"),
                                                           "-m", "16M")))
        big = Path(folder) / "initrd"
        with open(big, "wb") as f:
            f.truncate(1 << 30)
        cases.append(("initrd larger than memory", lambda: refuses(
            bench, "run", "--kernel", bench.image("vmlinux"), "--initrd", str(big), "-m", "256M")))
        cases.append(("command line too long", lambda: refuses(
            bench, "run", "--kernel", bench.image("vmlinux"), "--append", "x" * 5000)))
        each(cases)


def command_lines(bench):
    kernel = ("--kernel", "/dev/null")
    each([(" ".join(args), lambda a=args, w=word: refuses(bench, *a, word=w)) for args, word in (
        (("rum",), "run"),
        (("run",), "--kernel"),
        (("run", "--kernle", "x"), "--kernel"),
        (("run", *kernel, "-m", "lots"), "lots"),
        (("run", *kernel, "-m", "1"), None),
        (("run", *kernel, "-m", "999999999999G"), None),
        (("run", *kernel, "-m"), "-m"),
        (("run", *kernel, "--engine", "warp"), "warp"),
        (("run", *kernel, "--cpu", "z80"), "z80"),
        (("run", *kernel, "--serial", "file:"), None),
        (("run", *kernel, "--json"), None),
        (("run", *kernel, "stray"), "stray"),
        (("insn", "--hex", "zz"), "zz"),
        (("insn", "nosuchinsn"), "nosuchinsn"),
        (("help", "rum"), "run"),
    )])


CASES = {
    "bad-images": images,
    "bad-stock-images": real_images,
    "bad-command-lines": command_lines,
}
