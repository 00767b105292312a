#!/usr/bin/env python3
"""Checks that light code (src/base/light.h) leaves the vector and x87 registers alone.

    check-light.py LIBRARY...

Each LIBRARY is a static one. No function may use an x87, MMX, vector or mask register, nor name the state as a
whole, but those in USES; and no object may call what is outside the light libraries but what CALLS or ANYWHERE
lists. Each line there has its reason. Calls of functions that want the state spilled first are listed by file: a new
one is looked at, and gets cpu_fpu_spill() before it.
"""
import re
import subprocess
import sys
from pathlib import Path

STATE = re.compile(r"%[xyz]mm\d+|%k[0-7]\b|%mm[0-7]\b|%st\b")
# x87, and what moves state without naming a register.
MNEMONIC = re.compile(r"^(f[a-z0-9]+|v[a-z0-9]+|emms|k(mov|or|and|xor|not|add|shift|unpck|test)[a-z]+|ldmxcsr|stmxcsr|"
                      r"x(save|rstor)[a-z0-9]*)$")
NOT_STATE = {"verr", "verw", "vmcall", "vmmcall"}

# Functions that do use the state, and why they may.
USES = {
    "native_leave": "FNINIT after cpu_fpu_spill(), and MXCSR, which is the guest's from enter to leave",
    "native_enter": "MXCSR, which is the guest's from enter to leave",
    "records_fop": "while a vCPU is made: nothing is live",
    "fpu_init": "the same, where it is inlined",
    "mxcsr_mask": "while a vCPU is made: nothing is live",
    "fpu_spill": "its purpose",
    "fpu_load": "its purpose",
    "light_fxsave": "the guest's own FXSAVE",
    "light_fxrstor": "the guest's own FXRSTOR",
    "light_xsave": "the guest's own XSAVE, XSAVEC and XSAVEOPT",
    "save_image": "the guest's own XSAVE, XSAVEC and XSAVEOPT",
    "light_xrstor": "the guest's own XRSTOR",
    "verify_get_mxcsr": "MXCSR, which is the guest's from enter to leave",
    "verify_set_mxcsr": "the same, between two runs of one block",
    "op_with_mxcsr": "MXCSR, around FXSAVE and its kin",
}

# Symbols from outside that any light file may call.
ANYWHERE = {
    "_setjmp": "glibc: assembly on general registers",
    "_longjmp": "glibc: assembly on general registers, and a look at the thread's cleanup list",
    "__errno_location": "glibc: one load",
    "pthread_self": "glibc: one load",
    "__tls_get_addr": "relaxed by the linker: not called in an executable",
    "_GLOBAL_OFFSET_TABLE_": "no function",
    "__divti3": "libgcc: general registers",
    "__udivti3": "libgcc: general registers",
    "__umodti3": "libgcc: general registers",
    "__popcountdi2": "libgcc: general registers",
    "__cpu_model": "libgcc: data",
    "__stack_chk_fail": "never returns",
    "__stack_chk_guard": "data",
}

BUILDING = "while a machine is put together or taken apart: nothing is live"
BUS = "on the bus: every access comes by cpu_lock(), which spills"
TRANSLATING = "translating: find_block() has spilled"
DECODING = "decoding: decode_block() has spilled"
SPILLED = "right after cpu_fpu_spill()"
FORMATTING = "called by no engine"

# LIBRARY/FILE: {symbols: reason}; a name that ends in * is a prefix.
CALLS = {
    "bt/analyse.c": {"ZydisRegister*": TRANSLATING},
    "bt/cache.c": {"err_set madvise mmap* mprotect mremap munmap": BUILDING},
    "bt/copy.c": {"ZydisRegister*": TRANSLATING},
    "bt/fpu.c": {"mmap* munmap err_set": BUILDING},
    "bt/engine.c": {"err_set": BUILDING, "syscall": "run(), before anything is live"},
    "bt/verify.c": {"mmap* munmap err_set": BUILDING, "malloc free": TRANSLATING},
    "bt/verify_text.c": {"snprintf vsnprintf": SPILLED},
    "bt/translate.c": {"ZydisRegister*": TRANSLATING, "mmap* munmap err_set": BUILDING},
    "mem/code.c": {"err_set": BUILDING},
    "mem/mem.c": {"calloc free mmap* munmap madvise err_set": BUILDING},
    "mem/mmu.c": {"calloc free mmap* munmap madvise err_set": BUILDING},
    "bus/bus.c": {"calloc free realloc malloc err_*": BUILDING, "log_msg": BUS},
    "bus/pci.c": {"calloc free malloc err_*": BUILDING, "log_msg": BUS},
    "bus/msix.c": {"malloc free err_*": BUILDING},
    "cpu/cpu.c": {"mmap* munmap err_set": BUILDING, "snprintf": "cpu_dump(), while run() is not running"},
    "cpu/deliver.c": {"snprintf": SPILLED},
    "cpu/kvm_clock.c": {"clock_gettime": SPILLED},
    "cpu/msr.c": {"log_msg": SPILLED},
    "cpu/op.c": {"ZydisRegister*": DECODING},
    "cpu/vector.c": {"ZydisRegister*": DECODING},
    "interp/block.c": {"calloc free": SPILLED, "snprintf": DECODING},
    "interp/interp.c": {"calloc free err_set": BUILDING, "snprintf": "interp_run(), before anything is live"},
    "interp/native.c": {
        "mmap* munmap err_set": BUILDING,
        "sigaltstack sigaction sigemptyset pthread_mutex_*": "native_enter() and native_leave(): nothing is live",
        "signal": "in a signal handler, whose return restores the state",
    },
    "interp/ops.c": {"snprintf ZydisMnemonicGetString": SPILLED},
    "interp/thunk.c": {
        "calloc free mmap* munmap memfd_create ftruncate* close err_set __cpu_indicator_init": BUILDING,
        "ZydisRegister*": DECODING,
    },
    "x86/decode.c": {"Zydis*": DECODING},
    "x86/cpu_allows.c": {"Zydis*": DECODING},
    "x86/insn_form.c": {"Zydis* str* snprintf err_*": FORMATTING},
    "x86/insn_table.c": {"Zydis* str* snprintf err_*": DECODING},
    "x86/insn_parse.c": {"Zydis* str* snprintf err_* __ctype_* __errno_location suggest*": FORMATTING},
    "x86/insn_describe.c": {"Zydis* str* snprintf err_* __ctype_*": FORMATTING},
    "x86/cpu_model.c": {"Zydis* str* snprintf err_* suggest*": BUILDING},
    "x86/cpuid_feature.c": {"Zydis* str* snprintf err_* suggest*": BUILDING},
    "x86/host_cpu.c": {"clock_gettime nanosleep str* snprintf": BUILDING},
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def library_of(path):
    return Path(path).parent.name


def file_of(line):
    """'block.c' for .../libinterp.a.p/block.c.o or libinterp.a[block.c.o]."""
    return re.sub(r"\.(o|obj)$", "", re.split(r"[/\[]", line.rstrip(":]"))[-1])


def check_code(library, faults):
    function, functions = None, 0
    for line in run("objdump", "-d", "--no-show-raw-insn", library).splitlines():
        head = re.match(r"^[0-9a-f]+ <([^>]+)>:$", line)
        if head:
            function = re.sub(r"\.(cold|part|isra|constprop).*", "", head.group(1))
            functions += 1
            continue
        insn = re.match(r"^\s+[0-9a-f]+:\s+(.*)$", line)
        if not insn or not function or function in USES:
            continue
        words = [w for w in insn.group(1).split("#")[0].split() if w not in ("rep", "lock", "notrack", "bnd")]
        if not words:
            continue
        if STATE.search(insn.group(1)) or (MNEMONIC.match(words[0]) and words[0] not in NOT_STATE):
            faults.append(f"{library_of(library)}: {function}() uses the vector or x87 state: {insn.group(1)}")
    return functions


def undefined(library):
    """(file, symbol) of every undefined symbol."""
    for line in run("nm", "-A", "-u", library).splitlines():
        where, symbol = re.match(r"^(.*?):\s+[Uwv] (\S+)$", line).groups()
        yield file_of(where.split(":")[-1]), symbol.split("@")[0]


def defined(library):
    for line in run("nm", "--defined-only", library).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1].isupper():
            yield parts[2]


def allowed(key, symbol):
    if symbol in ANYWHERE:
        return True
    for names in CALLS.get(key, {}):
        for name in names.split():
            if symbol == name or (name.endswith("*") and symbol.startswith(name[:-1])):
                return True
    return False


def main():
    libraries = sys.argv[1:]
    faults, functions, own = [], 0, set()
    for library in libraries:
        own.update(defined(library))
    for library in libraries:
        functions += check_code(library, faults)
        for file, symbol in sorted(set(undefined(library))):
            key = f"{library_of(library)}/{file}"
            if symbol not in own and not allowed(key, symbol):
                faults.append(f"{key} calls {symbol}(), which is not light: spill before, and list it with its reason")
    for fault in faults:
        print(fault)
    print(f"{functions} functions in {len(libraries)} libraries, {len(faults)} faults")
    sys.exit(1 if faults or not functions else 0)


if __name__ == "__main__":
    main()
