"""Broken images and command lines: one clear line on standard error, exit status 2, nothing on standard output."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from guest import Failure, check

CORPUS = Path(__file__).resolve().parent.parent / "corpus" / "images.py"

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
        subprocess.run([sys.executable, str(CORPUS), folder], check=True)
        cases = []
        for line in (Path(folder) / "expected.tsv").read_text().splitlines():
            name, words = line.split("\t")
            cases.append((name, lambda n=name, w=words: refuses(bench, "run", "--kernel", f"{folder}/{n}", word=w)))
        check(len(cases) >= 40, f"only {len(cases)} broken images")
        os.mkfifo(folder + "/fifo")
        for name, path in (("folder", folder), ("absent", folder + "/absent"), ("fifo", folder + "/fifo"),
                           ("device", "/dev/null")):
            cases.append((name, lambda p=path: refuses(bench, "run", "--kernel", p)))
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
