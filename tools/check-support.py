#!/usr/bin/env python3
"""Checks docs/support.md against the tests that exist.

    check-support.py SOURCE_DIR BUILD_DIR

A row is `| capability | supported, preview or missing | test, test |`. Every test named must be one that
Meson knows; a supported capability names at least one; a missing one names none.
"""
import json
import re
import shlex
import subprocess
import sys
from os import environ
from pathlib import Path

STATUS = ("supported", "preview", "missing")


def rows(text):
    """(line number, cells) of each table row that is not a header or a rule."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("|") or re.fullmatch(r"[|\s:-]+", line):
            continue
        if number < len(lines) and re.fullmatch(r"[|\s:-]+", lines[number]):
            continue  # the header above a rule
        yield number, [cell.strip() for cell in line.strip().strip("|").split("|")]


def tests_of(build):
    meson = shlex.split(environ.get("MESONINTROSPECT", "meson introspect"))
    out = subprocess.run([*meson, "--tests", build], check=True, capture_output=True, text=True)
    return {test["name"] for test in json.loads(out.stdout)}


def check(text, known):
    count, faults = 0, []
    for number, cells in rows(text):
        where = f"docs/support.md:{number}"
        if len(cells) != 3:
            faults.append(f"{where}: {len(cells)} cells instead of 3")
            continue
        count += 1
        capability, status, named = cells[0], cells[1], re.findall(r"`([^`]+)`", cells[2])
        if status not in STATUS:
            faults.append(f"{where}: status '{status}' is none of {', '.join(STATUS)}")
        if status == "supported" and not named:
            faults.append(f"{where}: '{capability}' is called supported but names no test")
        if status == "missing" and named:
            faults.append(f"{where}: '{capability}' is called missing but names a test")
        faults += [f"{where}: there is no test '{name}'" for name in named if name not in known]
    return count, faults


def main():
    source, build = sys.argv[1:3]
    count, faults = check((Path(source) / "docs/support.md").read_text(), tests_of(build))
    for fault in faults:
        print(fault)
    print(f"{count} rows, {len(faults)} faults")
    sys.exit(1 if faults or count == 0 else 0)


if __name__ == "__main__":
    main()
