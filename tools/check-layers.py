#!/usr/bin/env python3
"""Holds the includes under src/ to the order of the layers.

    check-layers.py SOURCE_DIR

base < {x86, host} < snap < mem < bus < cpu < interp < {engine/*, dev, net} < vm < control < cli: a file includes from its own
folder and from layers strictly below, never upward, never sideways within braces. On top of that a device
never sees a cpu, only src/engine/kvm/ names KVM, and abi/ depends on nothing but <stdint.h>.
"""
import re
import sys
from pathlib import Path

# Lowest first; folders of one set do not see each other.
ORDER = [
    {"base"},
    {"x86", "host"},
    {"snap"},
    {"mem"},
    {"bus"},
    {"cpu"},
    {"interp"},
    {"engine/interp", "engine/bt", "engine/kvm", "dev", "net"},
    {"vm"},
    {"control"},
    {"cli"},
]
RANK = {folder: rank for rank, folders in enumerate(ORDER) for folder in folders}

# What a folder may not see although it is below, and why.
FORBIDDEN = {(own, cpu): "a device never sees a cpu" for own in ("dev", "net") for cpu in ("cpu", "interp")}
# The only headers of src/host/ that a device may include: the loop and the backends' interfaces.
DEV_HOST = {"host/loop.h", "host/chr.h", "host/blk.h", "host/net.h", "host/clock.h"}
# System headers that belong to one folder alone.
SYSTEM_ONLY_IN = {"linux/kvm.h": "engine/kvm"}
ABI_ALLOWED = {"stdint.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def folder_of(path):
    """'engine/interp' for engine/interp/x.c, 'dev' for dev/chipset/x.c, None for a stray file."""
    parts = path.split("/")
    if len(parts) < 2:
        return None
    if parts[0] == "engine":
        return "/".join(parts[:2]) if len(parts) > 2 else "engine"
    return parts[0]


def check_quoted(own, target, src, root):
    if (root / "abi" / target).is_file():
        return None
    if not (src / target).is_file():
        return f'"{target}" is not a file under src/ or abi/ (includes are written from src/)'
    theirs = folder_of(target)
    if theirs == "engine":  # engine/common.h and the like: no such layer
        return f'"{target}" is in no layer: shared contracts of engines are in src/cpu/'
    if theirs not in RANK:
        return f'"{target}": folder {theirs} is in no layer; add it to ORDER in tools/check-layers.py'
    if theirs == own:
        return None
    if (own, theirs) in FORBIDDEN:
        return f'"{target}": {FORBIDDEN[own, theirs]}'
    if own == "dev" and theirs == "host" and target not in DEV_HOST:
        return f'"{target}": a device sees only the loop and the backend interfaces of src/host/'
    if RANK[theirs] > RANK[own]:
        return f'"{target}" is above {own}'
    if RANK[theirs] == RANK[own]:
        return f'"{target}" is beside {own}: layers of one level do not see each other'
    return None


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        m = INCLUDE.match(line)
        if m:
            yield number, m.group(1), m.group(2)


def check(root):
    src = root / "src"
    faults, files = [], 0
    for path in sorted(p for p in src.rglob("*") if p.suffix in {".c", ".h", ".S"}):
        files += 1
        own = folder_of(str(path.relative_to(src)))
        where = path.relative_to(root)
        if own not in RANK:
            faults.append(f"{where}: folder {own} is in no layer; add it to ORDER in tools/check-layers.py")
            continue
        for number, quoted, system in includes(path):
            fault = None
            if quoted:
                fault = check_quoted(own, quoted, src, root)
            elif SYSTEM_ONLY_IN.get(system, own) != own:
                fault = f"<{system}> belongs to src/{SYSTEM_ONLY_IN[system]}/ alone"
            if fault:
                faults.append(f"{where}:{number}: {fault}")
    for path in sorted((root / "abi").rglob("*.h")):
        files += 1
        for number, quoted, system in includes(path):
            if quoted or system not in ABI_ALLOWED:
                faults.append(f"{path.relative_to(root)}:{number}: abi/ includes <stdint.h> alone")
    return files, faults


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    files, faults = check(root)
    for fault in faults:
        print(fault)
    print(f"{files} files, {len(faults)} violations")
    if files == 0:
        print("no files found: wrong directory?")
    sys.exit(1 if faults or files == 0 else 0)


if __name__ == "__main__":
    main()
