#!/usr/bin/env python3
"""Runs the benchmark guest natively, in Ringer, in QEMU's TCG and in User Mode Linux, in turn, and prints tables.

    bench/run [OPTION]...       installs, builds and makes the images first, then does this

Everything measured and every console line is kept in a folder of its own under build/bench/results.
"""
import argparse
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import measure
import monitors
from report import Report
from rows import GROUPS, select


def options(argv):
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", default="", metavar="NAME,...",
        help=f"these rows: names, groups ({', '.join(GROUPS)}) or patterns ('int.*'); default all")
    add("--runs", type=int, default=3, help="how often each runs; default 3")
    add("--seconds", type=float, default=1.0, help="least time of each micro-benchmark; default 1")
    add("--engines", default="default", metavar="NAME,...",
        help="Ringer's engines, one column each; 'default' is what it chooses, 'none' leaves Ringer out")
    add("--peers", default="native,qemu,uml", metavar="NAME,...", help="others: native, qemu, uml, uml-pinned (to one processor), or none; default native,qemu,uml")
    add("--boots", type=int, metavar="N", help="boots of the small image; default as many as runs, 0 for none")
    add("--quiet", type=float, metavar="PART",
        help="wait for a quiet machine before a run, and repeat one, at most twice, in which others took more than this "
        "part of a processor, as 0.1")
    add("--timeout", type=float, default=1800, help="seconds that one run may take; default 1800")
    add("--json", metavar="FILE", help="write the data here too")
    add("--table", metavar="FILE", help="print the tables of a suite.json again, and run nothing")
    add("--list", action="store_true", help="print the groups and their rows")
    add("--ringer", default="build/src/cli/ringer", metavar="PROGRAM", help="measure this one, and build none")
    add("--ringer-args", default="", metavar="TEXT", help="more options for ringer run")
    add("--qemu", default="qemu-system-x86_64", metavar="PROGRAM")
    add("--uml", default="linux.uml", metavar="PROGRAM")
    add("--images", default="build/bench/img", help="bench.cpio, boot.cpio.gz, root/")
    add("--kernels", default="build/img", help="vmlinuz and vmlinux")
    args = parser.parse_args(argv)
    if args.runs < 1 or args.seconds <= 0:
        parser.error("--runs and --seconds must be positive")
    try:
        args.rows = select(args.only)
    except ValueError as error:
        parser.error(str(error))
    args.boots = args.runs if args.boots is None else args.boots
    return args


def say(text):
    print(text, file=sys.stderr, flush=True)


def columns(args):
    """The monitors asked for, the bare host first and then Ringer; of the others, those that are here."""
    kernels, images, found = Path(args.kernels), Path(args.images), []
    make = {
        "native": lambda: monitors.Native(images, args.seconds),
        "qemu": lambda: monitors.Qemu(args.qemu, kernels / "vmlinuz", images, args.seconds),
        "uml": lambda: monitors.Uml(args.uml, False, images, args.seconds),
        "uml-pinned": lambda: monitors.Uml(args.uml, True, images, args.seconds),
    }
    peers = [] if args.peers == "none" else args.peers.split(",")
    engines = [] if args.engines == "none" else args.engines.split(",")
    for name in peers:
        if name not in make:
            raise SystemExit(f"bench: no peer '{name}': {', '.join(make)} or none")
    for name in sorted(peers, key=list(make).index):
        try:
            found.append(make[name]())
        except monitors.Unavailable as error:
            say(f"{name} is left out: {error}")
    ringers = [monitors.Ringer(args.ringer, engine, shlex.split(args.ringer_args), kernels / "vmlinux", images,
                               args.seconds) for engine in engines]
    place = 1 if found and found[0].name == "native" else 0
    return found[:place] + ringers + found[place:]


def progress(what):
    """A line that says what runs, on a terminal; without one, now and then."""
    last = [time.monotonic()]

    def show(seconds, text):
        if sys.stderr.isatty():
            print(f"\r\033[K{what}, {seconds:.0f} s  {text[:60]}", end="", file=sys.stderr, flush=True)
        elif text.startswith("BENCH") and time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            say(f"{what}, {seconds:.0f} s: {text[:60]}")
    return show


def run_one(monitor, image, rows, args, log, what):
    guest_bytes = monitors.MEMORY_MIB << 20 if monitor.boots else 0
    show = progress(what)
    with open(log, "w", encoding="utf-8", buffering=1) as console:
        def line(seconds, text):
            print(f"{seconds:10.4f} {text}", file=console)
            show(seconds, text)

        result = measure.run(monitor.command(image, rows), monitor.env, args.timeout, guest_bytes, line)
        print(f"{result['seconds']:10.4f} EXIT {result['status']}", file=console)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return measure.parse(result)


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown CPU")


def measure_all(args, found, folder):
    data = {"meta": {"cpu": cpu_model(), "cpus": os.cpu_count(), "host": f"Linux {platform.release()}",
                     "when": time.strftime("%Y-%m-%d %H:%M"), "memory_mib": monitors.MEMORY_MIB, "runs": args.runs,
                     "seconds": args.seconds, "boots": args.boots}, "rows": args.rows, "columns": {}}
    for m in found:
        rows = m.rows(args.rows)
        data["columns"][m.name] = {"version": m.version(), "note": m.note, "rows": rows, "runs": [], "boots": [],
                                   "command": m.command("bench.cpio" if m.boots else "", rows)}

    def one(m, kind, number, image, rows):
        what = f"{m.name}, {kind} {number + 1}"
        for _ in range(3):
            if args.quiet is not None and not measure.wait_quiet():
                say(f"{what}: this machine does not become quiet; goes on")
            result = run_one(m, image, rows, args, folder / f"{m.name}.{kind}{number + 1}.log", what)
            if args.quiet is None or result["others"] <= args.quiet:
                break
            say(f"{what}: others used {result['others']:.2f} of a processor meanwhile")
        data["columns"][m.name][kind + "s"].append(result)
        said = f", user space after {result['userspace_s']:.2f} s" if "userspace_s" in result else ""
        good = sum("value" in row for row in result["rows"].values())
        say(f"{what}: {result['seconds']:.1f} s{said}" + (f", {good} of {len(rows)} rows" if rows else ""))
        (folder / "suite.json").write_text(json.dumps(data, indent=1) + "\n")

    # In turn, so that what else happens on this machine meets all alike.
    for number in range(max(args.boots, args.runs)):
        for m in found:
            if m.boots and number < args.boots:
                one(m, "boot", number, "boot.cpio.gz", [])
        for m in found:
            if number < args.runs:
                one(m, "run", number, "bench.cpio", m.rows(args.rows))
    return data


def main():
    args = options(sys.argv[1:])
    if args.list:
        for key, (title, _, rows) in GROUPS.items():
            print(f"{key:5} {title}: {' '.join(rows)}")
        return 0
    if args.table:
        print(Report(json.loads(Path(args.table).read_text())).text(), end="")
        return 0
    try:
        found = columns(args)
    except monitors.Unavailable as error:
        raise SystemExit(f"bench: {error}") from None
    if not found:
        raise SystemExit("bench: nothing to measure")
    folder = Path("build/bench/results", time.strftime("%Y%m%d-%H%M%S"))
    folder.mkdir(parents=True)
    data = measure_all(args, found, folder)
    report = Report(data)
    (folder / "table.md").write_text(report.text())
    if args.json:
        Path(args.json).write_text(json.dumps(data, indent=1) + "\n")
    print(report.text(), end="")
    say(f"Kept in {folder}: suite.json, table.md and every console's log.")
    return 1 if report.failed() else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
