#!/usr/bin/env python3
"""Speed of the interpreter beside Bochs, on the same guests in the same run.

    bench/interp.py [--ringer build/src/cli/ringer] [--images build/img] [--runs 3] [--json FILE] [NAME...]

Flat guests (bench/flat/work.c) do a fixed piece of work between two marks on the serial port; `boot` is the stock
kernel, from its first line to the shell of its initramfs. Everything is timed by the host's clock from the marks, so
firmware and boot loaders do not count. Both monitors retire the same instructions on a flat guest: their number is
Ringer's count, and the rates follow. A table on standard output has medians over the runs, taken in turn.

Needs Debian's gcc, binutils, bochs, bochsbios, vgabios; for `boot` isolinux, syslinux-common, xorriso, and the guest's
files from ./test or ./demo. Debian builds Bochs with its debugger, which costs it speed; `-rc` only starts it here.
"""
import argparse
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# name: WORK of work.c, rounds (some seconds each at 100 million instructions a second)
FLAT = {
    "int": ("WORK_INT", 50_000_000),
    "branch": ("WORK_BRANCH", 12_000_000),
    "call": ("WORK_CALL", 6_000),
    "memory": ("WORK_MEMORY", 25),
    "string": ("WORK_STRING", 400_000),
    "sse": ("WORK_SSE", 20_000),
    "x87": ("WORK_X87", 20_000_000),
}
CFLAGS = """-m64 -O2 -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none -mno-red-zone -mno-avx
    -fno-tree-vectorize -fno-asynchronous-unwind-tables -nostdlib -static -no-pie -Wl,--build-id=none
    -Wl,--no-warn-rwx-segments""".split()
BOCHSRC = """config_interface: textconfig
display_library: rfb, options="timeout=0"
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model=corei7_skylake_x, ips=50000000, reset_on_triple_fault=0
memory: guest=512, host=512
clock: sync=none
com1: enabled=1, mode=file, dev={serial}
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
{disk}
"""
FIRST_LINE = rb"Linux version"


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, **options)


class Marks:
    """Reads a guest's serial output and notes when two patterns appear."""

    def __init__(self, fd, first, last):
        self.fd, self.patterns, self.times, self.data = fd, [first, last], [], b""

    def wait(self, limit):
        deadline = time.monotonic() + limit
        while len(self.times) < 2:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no end within {limit} s: {self.data[-200:]!r}")
            if not select.select([self.fd], [], [], 1)[0]:
                continue
            data = os.read(self.fd, 65536)
            if not data:
                raise RuntimeError(f"ended early: {self.data[-200:]!r}")
            self.data += data.replace(b"\r", b"")
            while len(self.times) < 2 and re.search(self.patterns[len(self.times)], self.data, re.M):
                self.times.append(time.monotonic())
        return self.times[1] - self.times[0]


class Ringer:
    name = "ringer"

    def __init__(self, command, _folder):
        self.command = command

    def measure(self, guest, limit):
        argv = [self.command, "run", "--engine", "interp", "--stats", "--debug-exit", "-m", "512M", *guest["ringer"]]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        marks = Marks(process.stdout.fileno(), *guest["marks"])
        try:
            seconds = marks.wait(limit)
            if guest["stop"]:
                process.terminate()
            errors = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
        count = re.search(r"^instructions\s+(\d+)", errors, re.M)
        return seconds, int(count.group(1)) if count else None, answer(marks)


class Bochs:
    name = "bochs"

    def __init__(self, _command, folder):
        self.folder = folder

    def measure(self, guest, limit):
        fifo = self.folder / "serial"
        if fifo.exists():
            fifo.unlink()
        os.mkfifo(fifo)
        for lock in self.folder.glob("*.lock"):  # left by a run that was stopped
            lock.unlink()
        (self.folder / "bochsrc").write_text(BOCHSRC.format(serial=fifo, disk=guest["bochs"]))
        (self.folder / "go").write_text("c\n")
        fd = os.open(fifo, os.O_RDWR)
        process = subprocess.Popen(["bochs", "-q", "-f", "bochsrc", "-rc", "go"], cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            marks = Marks(fd, *guest["marks"])
            return marks.wait(limit), None, answer(marks)
        finally:
            process.kill()
            process.wait()
            os.close(fd)


def answer(marks):
    match = re.search(rb"^E ([0-9a-f]{16})", marks.data, re.M)
    return match.group(1).decode() if match else None


def flat_guest(name, folder):
    work, rounds = FLAT[name]
    elf, flat, image, disk = (folder / f"{name}.{suffix}" for suffix in ("elf", "bin", "mb", "img"))
    run("gcc", *CFLAGS, f"-Wl,-T,{HERE}/flat/guest.ld", f"-DWORK={work}", f"-DROUNDS={rounds}u",
        HERE / "flat/start.S", HERE / "flat/work.c", "-o", elf)
    run("objcopy", "-O", "binary", elf, flat)
    run("objcopy", "-O", "elf32-i386", elf, image)
    data = flat.read_bytes()
    sectors = (len(data) + 511) // 512
    run("gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0x7c00",
        "-Wl,-e,0x7c00", "-Wl,--oformat=binary", f"-DSECTORS={sectors}", HERE / "flat/disk.S", "-o", disk)
    cylinder = 16 * 63 * 512
    disk.write_bytes((disk.read_bytes()[:512] + data).ljust(20 * cylinder, b"\0"))
    return {"name": name, "marks": (rb"^S$", rb"^E [0-9a-f]{16}$"), "stop": False,
            "ringer": ["--boot", "multiboot", "--kernel", str(image)],
            "bochs": f"boot: disk\nata0-master: type=disk, path={disk}, mode=flat, cylinders=20, heads=16, spt=63"}


def boot_guest(images, folder):
    kernel, initrd = images / "vmlinuz", images / "initrd"
    append = "console=ttyS0 ringer.run=echo_SHELL_#_"
    tree, iso = folder / "iso", folder / "boot.iso"
    tree.mkdir()
    for source in (kernel, initrd, "/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(source, tree)
    (tree / "isolinux.cfg").write_text(f"default k\nlabel k\nkernel vmlinuz\ninitrd initrd\nappend {append}\n")
    run("xorriso", "-as", "mkisofs", "-quiet", "-o", iso, "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
        "-boot-load-size", "4", "-boot-info-table", tree, stderr=subprocess.DEVNULL)
    return {"name": "boot", "marks": (FIRST_LINE, rb"^SHELL #"), "stop": True,
            "ringer": ["--kernel", str(kernel), "--initrd", str(initrd), "--append", append],
            "bochs": f"boot: cdrom\nata0-master: type=cdrom, path={iso}, status=inserted"}


def measure_all(guests, monitors, runs, limit):
    """{guest: {monitor: [(seconds, instructions)]}}; the monitors take turns, so that a drift hits both."""
    results = {guest["name"]: {m.name: [] for m in monitors} for guest in guests}
    for number in range(runs):
        for guest in guests:
            answers = {}
            for monitor in monitors:
                seconds, count, result = monitor.measure(guest, limit)
                results[guest["name"]][monitor.name].append((seconds, count))
                answers[monitor.name] = result
                print(f"run {number + 1} of {runs}: {guest['name']} {monitor.name} {seconds:.2f} s",
                      file=sys.stderr)
            if len(set(answers.values())) != 1:
                raise RuntimeError(f"{guest['name']}: different answers: {answers}")
    return results


def summary(results):
    table = {}
    for name, by in results.items():
        row = {monitor: statistics.median(s for s, _ in values) for monitor, values in by.items()}
        row["spread"] = max(max(s for s, _ in v) / min(s for s, _ in v) - 1 for v in by.values())
        counts = [count for _, count in by["ringer"] if count]
        if counts:
            row["instructions"] = statistics.median(counts)
        table[name] = row
    return table


def print_table(table):
    print("| guest | Ringer s | M insn/s | Bochs s | M insn/s | Ringer is faster by | spread |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, row in table.items():
        def rate(monitor):
            # A boot differs from one monitor to the next in what it executes: no rate for the other.
            if "instructions" not in row or monitor not in row or (name == "boot" and monitor != "ringer"):
                return ""
            return f"{row['instructions'] / row[monitor] / 1e6:.0f}"
        bochs = f"{row['bochs']:.2f}" if "bochs" in row else ""
        ratio = f"{row['bochs'] / row['ringer']:.2f}x" if "bochs" in row else ""
        print(f"| {name} | {row['ringer']:.2f} | {rate('ringer')} | {bochs} | {rate('bochs')} | {ratio} | "
              f"{row['spread']:.0%} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ringer", default="build/src/cli/ringer")
    parser.add_argument("--images", default="build/img")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900, help="seconds that one run may take")
    parser.add_argument("--json", help="write all figures here too")
    parser.add_argument("--no-bochs", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join([*FLAT, "boot"]))
    args = parser.parse_args()
    names = args.names or [*FLAT, "boot"]
    with tempfile.TemporaryDirectory(prefix="ringer-bench.") as folder:
        folder = Path(folder)
        monitors = [kind(args.ringer, folder) for kind in ([Ringer] if args.no_bochs else [Ringer, Bochs])]
        guests = [boot_guest(Path(args.images), folder) if name == "boot" else flat_guest(name, folder)
                  for name in names]
        results = measure_all(guests, monitors, args.runs, args.limit)
    table = summary(results)
    print_table(table)
    if args.json:
        Path(args.json).write_text(json.dumps({"runs": results, "medians": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
