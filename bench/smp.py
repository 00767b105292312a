#!/usr/bin/env python3
"""More vCPUs than host CPUs: scheduling policies and paravirtual spinlocks against `fair`, beside QEMU's translator.

    smp.py --ringer RINGER --images DIR [--cpus 8] [--secs 1] [--runs 3] [--module ringer_lockhint.ko] [--json FILE]

DIR has vmlinux and vmlinuz. Every configuration runs once in each round, so that what else the host does meets all
alike; figures are medians over the rounds, ratios are those of medians. Loads: bench/smp/load.c.

`native`: the guest's own queued spinlocks (nopvspin); `tas`: the test-and-set locks that Linux takes under a hypervisor
without paravirtual ones; `pv`: paravirtual spinlocks.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LOADS = ["sigmask", "dup", "flock", "rename", "ticket", "compute"]
LOCKS = {"native": ([], "nopvspin"), "tas": (["--cpu", "default,-kvm-pv-unhalt"], ""), "pv": ([], "")}
CONFIGS = [("fair", "native"), ("cosched", "native"), ("lhp", "native"), ("hint", "native"), ("fair", "tas"), ("fair", "pv"),
           ("cosched", "pv"), ("lhp", "pv"), ("hint", "pv")]


def cpio_entry(name, mode, data=b""):
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def make_initrd(path, module):
    load = path + ".load"
    subprocess.run(["cc", "-O2", "-s", "-static", "-pthread", "-o", load, f"{HERE}/smp/load.c"], check=True)
    with open(load, "rb") as file:
        data = cpio_entry("init", 0o100755, file.read())
    if module:
        with open(module, "rb") as file:
            data += cpio_entry("lockhint.ko", 0o100644, file.read())
    with open(path, "wb") as file:
        file.write(cpio_entry("tmp", 0o40755) + data + cpio_entry("TRAILER!!!", 0))


def run(command):
    """{load: operations a second}"""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=180, check=False)
        text = done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode(errors="replace")
    lines = [line.split() for line in text.splitlines() if line.startswith("LOAD ")]
    if "HINT" in text and "HINT loaded" not in text:
        print("the module could not be loaded:", text, file=sys.stderr)
    return {w[1]: float(w[2]) for w in lines if len(w) == 6}


def ringer(args, initrd, cpus, policy, locks, loads):
    more, append = LOCKS[locks]
    append = f"console=ttyS0 quiet panic=-1 {append} threads={cpus} secs={args.secs} load={','.join(loads)}"
    if policy == "hint" and args.module:
        append += " hint=1"
    return run([args.ringer, "run", "--cpus", str(cpus), "--sched", policy, *more, "-m", "512M", "--kernel",
                f"{args.images}/vmlinux", "--initrd", initrd, "--append", append])


def qemu(args, initrd, cpus, loads):
    append = f"console=ttyS0 quiet panic=-1 threads={cpus} secs={args.secs} load={','.join(loads)}"
    return run(["qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(cpus), "-m", "512",
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
                f"{args.images}/vmlinuz", "-initrd", initrd, "-append", append])


def measure(args, initrd):
    """{configuration: {load: [figure of each round]}}"""
    results = {}

    def note(name, figures):
        for load, figure in figures.items():
            results.setdefault(name, {}).setdefault(load, []).append(figure)
        print(name, figures, file=sys.stderr)

    for _ in range(args.runs):
        for policy, locks in CONFIGS:
            if policy != "hint" or args.module:
                note(f"{policy} {locks}", ringer(args, initrd, args.cpus, policy, locks, LOADS))
        for cpus in (1, 2):
            note(f"{cpus} vCPU", ringer(args, initrd, cpus, "fair", "pv", ["compute"]))
        if shutil.which("qemu-system-x86_64"):
            note("qemu tcg", qemu(args, initrd, args.cpus, LOADS))
            for cpus in (1, 2):
                note(f"qemu tcg, {cpus} vCPU", qemu(args, initrd, cpus, ["compute"]))
    return results


def table(results):
    base = results.get("fair native", {})
    median = {name: {load: statistics.median(v) for load, v in row.items()} for name, row in results.items()}
    print("| operations a second (times `fair native`) | " + " | ".join(LOADS) + " |")
    print("|---|" + "---|" * len(LOADS))
    for name, row in median.items():
        if "vCPU" in name:
            continue
        cells = []
        for load in LOADS:
            if load not in row:
                cells.append("not done")
            elif base.get(load):
                cells.append(f"{row[load]:.0f} ({row[load] / median['fair native'][load]:.2f})")
            else:
                cells.append(f"{row[load]:.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    for what in ("", "qemu tcg, "):
        one, two = (median.get(f"{what}{n} vCPU", {}).get("compute") for n in (1, 2))
        if one and two:
            print(f"\n{what or 'ringer, '}compute: two vCPUs {two / one:.2f} times one")


def main():
    parser = argparse.ArgumentParser(description="Measures vCPU scheduling.")
    parser.add_argument("--ringer", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--cpus", type=int, default=8)
    parser.add_argument("--secs", default="1")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--module")
    parser.add_argument("--json")
    args = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        initrd = folder + "/initrd"
        make_initrd(initrd, args.module)
        results = measure(args, initrd)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    print(f"{args.cpus} vCPUs on {len(os.sched_getaffinity(0))} host CPUs, {args.runs} rounds of {args.secs} s; the host's "
          f"load before: {before:.1f}\n")
    table(results)


if __name__ == "__main__":
    main()
