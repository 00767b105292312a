#!/usr/bin/env python3
"""Runs one end-to-end case.

    run.py RINGER IMAGE_DIR CASE [ENGINE]        run.py --list

Exits 0 when it holds, 1 when not, 77 (skipped) when the guest's files are not there: ../../test fetches them.
"""
import signal
import sys
import traceback
from pathlib import Path

import badfile
import boot
import control
import life
import observe
import paravirt
import policies
import smp
import smp_stress
import stress
import terminal
from guest import Failure, Guest

CASES = {**boot.CASES, **control.CASES, **life.CASES, **observe.CASES, **terminal.CASES, **badfile.CASES, **stress.CASES, **smp.CASES,
         **smp_stress.CASES, **paravirt.CASES, **policies.CASES}


class Bench:
    """What a case is given: the command under test and the guest's files."""

    def __init__(self, ringer, images, engine):
        command, *options = ringer.split()
        if "/" in command:  # some cases have a working directory of their own
            command = str(Path(command).resolve())
        self.command = [command, *options]
        self.images, self.engine, self.last = Path(images), engine, None

    def image(self, name):
        path = self.images / name
        if not path.exists():
            print(f"{path} is not there: run ./test, or tools/fetch-guest.sh and tools/mkinitramfs.sh")
            sys.exit(77)
        return str(path)

    def start(self, *args, **options):
        """`ringer ARGS`; the caller ends it, by `with`."""
        self.last = Guest([*self.command, *args], **options)
        return self.last

    def linux(self, *args, kernel="vmlinux", append="", initrd=None, **options):
        append = f"console=ttyS0 {append}".strip()
        if self.engine and "--engine" not in args:
            args = ("--engine", self.engine, *args)
        return self.start("run", "--kernel", self.image(kernel), "--initrd", initrd or self.image("initrd"),
                          "--append", append, *args, **options)


def main():
    # A shell's background jobs ignore these, and so would what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return 0
    ringer, images, name = sys.argv[1:4]
    bench = Bench(ringer, images, sys.argv[4] if len(sys.argv) > 4 else None)
    try:
        CASES[name](bench)
    except Failure as failure:
        print(f"FAILED: {failure}")
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()
    else:
        return 0
    if bench.last:
        bench.last.report()
    return 1


if __name__ == "__main__":
    sys.exit(main())
