#!/usr/bin/env python3
"""What a second processor brings: a guest with one vCPU and one with two, beside the host with one job and with two.

    scale.py --ringer RINGER --kernel VMLINUX --images DIR --build BUILD [--files 24] [--secs 2] [--runs 3] [--json FILE]

DIR is what bench/run makes, build/bench/img; VMLINUX build/img/vmlinux; BUILD is a build directory of this tree, whose
compile_commands.json says how its sources are compiled. Rows: `compute`, two threads of integer work (mt.int1 and
mt.int2 of bench/guest/mb), and `compile`, that many of this project's source files, preprocessed, compiled one after
the other or two at a time. Every configuration runs once in each round; ratios are those of medians.
"""
import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox mount -t tmpfs tmp /tmp
export PATH=/usr/bin:/bin HOME=/root BENCH_SECS=%(secs)s
mb run mt.int1
mb run mt.int2
/bin/busybox cut -d' ' -f1 /proc/uptime >/tmp/begin
/bin/busybox find /files -name '*.i' | /bin/busybox sort | /bin/busybox xargs -P %(jobs)d -n 1 \\
	gcc -O1 -w -fpreprocessed -c -o /dev/null && echo "COMPILED $(/bin/busybox cat /tmp/begin) $(/bin/busybox cut -d' ' -f1 /proc/uptime)"
exec /bin/busybox poweroff -f
"""


def preprocess(build, files, out):
    """Writes `files` preprocessed sources, the largest, to the directory out."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = [c for c in json.load(file) if "/src/" in os.path.join(c["directory"], c["file"])]
    commands.sort(key=lambda c: -os.path.getsize(os.path.join(c["directory"], c["file"])))
    for number, c in enumerate(commands[:files]):
        words = shlex.split(c["command"])
        drop = {words.index(o) + n for o in ("-o", "-MF", "-MQ") if o in words for n in (0, 1)}
        words = [w for i, w in enumerate(words) if i not in drop and w not in ("-MD", "-c")]
        subprocess.run(words + ["-E", "-P", "-o", f"{out}/{number:02}.i"], cwd=c["directory"], check=True)


def make_initrd(images, files, secs, jobs, path):
    """The benchmark image with the files and an init on top: the kernel unpacks one archive after the other."""
    with tempfile.TemporaryDirectory() as top:
        shutil.copytree(files, f"{top}/files")
        with open(f"{top}/init", "w", encoding="utf-8") as file:
            file.write(INIT % {"secs": secs, "jobs": jobs})
        os.chmod(f"{top}/init", 0o755)
        names = subprocess.run(["find", "."], cwd=top, check=True, stdout=subprocess.PIPE).stdout
        with open(path, "wb") as out:
            with open(f"{images}/bench.cpio", "rb") as base:
                shutil.copyfileobj(base, out)
            out.write(b"\0" * (-out.tell() % 512))
            out.flush()
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=top, input=names, stdout=out, check=True)


def guest(args, initrd, cpus):
    command = [args.ringer, "run", "--cpus", str(cpus), "-m", "1G", "--kernel", args.kernel, "--initrd", initrd,
               "--append", "console=ttyS0 quiet panic=-1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900,
                          check=False)
    figures = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        words = line.split()
        if line.startswith(f"BENCH mt.int{cpus} "):
            figures["compute"] = float(words[2])
        elif line.startswith("COMPILED "):
            figures["compile"] = 1 / (float(words[2]) - float(words[1]))
    if len(figures) != 2:
        sys.exit(f"{cpus} vCPUs: the guest did not finish:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return figures


def native(args, files, cpus):
    mb = subprocess.run([f"{args.images}/root/usr/bin/mb", "run", f"mt.int{cpus}"],
                        env={**os.environ, "BENCH_SECS": str(args.secs)}, stdout=subprocess.PIPE, check=True).stdout
    names = sorted(os.path.join(files, f) for f in os.listdir(files))
    begin = time.monotonic()
    subprocess.run(["xargs", "-P", str(cpus), "-n", "1", "gcc", "-O1", "-w", "-fpreprocessed", "-c", "-o", "/dev/null"],
                   input="\n".join(names).encode(), check=True)
    return {"compute": float(mb.split(b"BENCH ")[1].split()[1]), "compile": 1 / (time.monotonic() - begin)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ringer", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--secs", type=float, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as work:
        files = f"{work}/files"
        os.mkdir(files)
        preprocess(args.build, args.files, files)
        for cpus in (1, 2):
            make_initrd(args.images, files, args.secs, cpus, f"{work}/initrd{cpus}")
        for number in range(args.runs):
            for cpus in (1, 2):
                for who, figures in (("native", native(args, files, cpus)), ("ringer", guest(args, f"{work}/initrd{cpus}", cpus))):
                    print(f"round {number + 1}: {who}, {cpus}: {figures}", file=sys.stderr)
                    for row, value in figures.items():
                        results.setdefault(row, {}).setdefault(who, {}).setdefault(cpus, []).append(value)
    print("| row | native, two to one | Ringer, two vCPUs to one | Ringer to native, one | two |\n| --- | ---: | ---: | ---: | ---: |")
    for row, by in results.items():
        m = {who: {c: statistics.median(v) for c, v in by[who].items()} for who in by}
        print(f"| {row} | {m['native'][2] / m['native'][1]:.2f} | {m['ringer'][2] / m['ringer'][1]:.2f} | "
              f"{m['native'][1] / m['ringer'][1]:.2f}x | {m['native'][2] / m['ringer'][2]:.2f}x |")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
