"""The translator under switches that make rare paths common, and in lock-step with the interpreter: boots all the same."""
import re

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


CASES = {
    "stress-one-insn": boots("--stress", "one-insn"),
    "stress-slow-memory": boots("--stress", "slow-memory", says="accesses by the interpreter"),
    "stress-poll": boots("--stress", "poll", says="exits: poll"),
    "stress-flush": boots("--stress", "flush=200"),
    "stress-small-cache": boots("--bt-cache", "1M", says="blocks evicted"),
    "assist-none": boots("--assist", "none"),
    "verify": boots("--verify", says="pieces of blocks verified"),
}
