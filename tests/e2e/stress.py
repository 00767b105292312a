"""The translator under switches that make rare paths common, and in lock-step with the interpreter: boots all the same."""
import re
from pathlib import Path

from guest import check


def boots(*args, says=None):
    """Boots, runs one command, powers off."""
    def case(bench):
        with bench.linux("-m", "256M", "--engine", "bt", "--stats", *args, append="quiet ringer.run=uname_-a",
                         terminal=False) as guest:
            guest.close_input()
            guest.ends_with(0)
            text = guest.text()
            check(re.search(r"^Linux guest 6\.", text, re.M), "no `uname -a` in the output")
            check(not re.search(r"\bBUG\b|Oops|Call Trace", text), "the kernel complains")
            errors = guest.errors.decode(errors="replace")
            if says:
                found = re.search(says + r"\s+(\d+)", errors)
                check(found and int(found.group(1)) > 0, f"not under stress: no {says!r} in --stats")
    return case


def code_mappings(bench):
    """No mapping can be written and executed, and translated code has the size it was given."""
    with bench.linux("-m", "256M", "--engine", "bt", "--bt-cache", "8M", append="ringer.run=cat", terminal=False) as guest:
        guest.expect(r"Run /init", "the kernel's last line")
        maps = Path(f"/proc/{guest.process.pid}/maps").read_text().splitlines()
        both = [line for line in maps if re.search(r" .?wx", line)]
        check(not both, f"writable and executable: {both}")
        code = [line for line in maps if line.split()[1] == "r-xs" and "ringer-thunks" not in line]
        check(len(code) == 1, f"not one executable view of the code: {code}")
        inode = code[0].split()[4]
        views = [line for line in maps if line.split()[4] == inode]
        check(sorted(line.split()[1] for line in views) == ["r-xs", "rw-s"], f"not two views of the code: {views}")
        for line in views:
            first, end = (int(n, 16) for n in line.split()[0].split("-"))
            check(end - first == 8 << 20, f"not the size that was asked for: {line}")


CASES = {
    "code-mappings": code_mappings,
    "stress-one-insn": boots("--stress", "one-insn"),
    "stress-slow-memory": boots("--stress", "slow-memory", says="accesses by the interpreter"),
    "stress-poll": boots("--stress", "poll", says="exits: poll"),
    "stress-flush": boots("--stress", "flush=200"),
    "stress-small-cache": boots("--bt-cache", "1M", says="blocks evicted"),
    "assist-none": boots("--assist", "none"),
    "verify": boots("--verify", says="pieces of blocks verified"),
}
