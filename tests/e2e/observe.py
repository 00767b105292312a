"""What Ringer says about its work: figures, traces, names for perf, a function translated."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from guest import LIMIT, check


@contextmanager
def scratch():
    """A working directory of its own."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def stats(bench):
    """A table on SIGUSR1, which disturbs nothing, and one at the end; a guest that sleeps shows as idle."""
    with bench.linux("-m", "256M", "--stats", append="ringer.run=sleep_1", terminal=False) as guest:
        guest.expect(r"Linux version", "the kernel's first line")
        guest.signal(signal.SIGUSR1)
        guest.close_input()
        guest.ends_with(0)
        errors = guest.errors.decode()
        check(errors.count("time of the virtual processors") == 2, f"not two tables: {errors}")
        for line in ("guest code", "devices", "idle", "peak memory", "first serial output"):
            check(len(re.findall(rf"^  {line} +[0-9]", errors, re.MULTILINE)) == 2, f"no '{line}' in {errors}")
        if bench.engine != "interp":
            for line in ("blocks translated", "guest code translated", "translated code", "jumps chained"):
                check(re.search(rf"^  {line} +[1-9]", errors, re.MULTILINE), f"no '{line}' in {errors}")
        idle = re.findall(r"^  idle +([0-9.]+) s", errors, re.MULTILINE)
        check(float(idle[1]) > 0, "a guest that sleeps is never idle")


def stats_json(bench):
    """The same as JSON: one line while it runs, part of the result at the end."""
    with scratch() as here:
        with bench.linux("-m", "256M", "--stats", "--json", "--serial", f"file:{here}/serial",
                         append="ringer.run=true", terminal=False) as guest:
            deadline = time.monotonic() + LIMIT
            while not ((here / "serial").exists() and b"Linux version" in (here / "serial").read_bytes()):
                check(time.monotonic() < deadline and guest.process.poll() is None, "the guest says nothing")
                time.sleep(0.05)
            guest.signal(signal.SIGUSR1)
            guest.close_input()
            guest.ends_with(0)
            live = guest.errors.decode().splitlines()
            check(len(live) == 1, f"not one line: {live}")
            for figures in (json.loads(live[0])["stats"], json.loads(guest.text())["stats"]):
                check(figures["first_output_seconds"] is not None, f"no first output in {figures}")
                check({"guest_code", "devices", "idle"} <= set(figures["time"]), f"parts of the time: {figures}")
                check(bench.engine == "interp" or figures["engine"]["blocks"] > 0, f"no blocks in {figures}")
                check(figures["interrupts"] >= 0 and figures["peak_memory_bytes"] > 0, f"{figures}")


def trace(bench):
    """Blocks as text, and the two files by which perf names them."""
    with scratch() as here:
        (here / "System.map").write_text("ffffffff81000000 T everything\nffffffff810ffff0 T more\n")
        with bench.linux("-m", "256M", "--engine", "bt", "--trace", "bt=trace", "--perf", "both", "--symbols",
                         "System.map", append="quiet ringer.run=true", terminal=False) as guest:
            guest.close_input()
            guest.ends_with(0)
            pid = guest.process.pid
        names = Path(f"/tmp/perf-{pid}.map")
        text = names.read_text()
        names.unlink()
        for name in ("guest:ffffffff81", "everything+0x", "guest-user:"):
            check(name in text, f"no {name} in the perf map")
        check(all(re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ guest(-user)?:[0-9a-f]+( \S+)?", line)
                  for line in text.splitlines()), "a line of the perf map has another form")
        check(Path(f"jit-{pid}.dump").read_bytes()[:4] == b"DTiJ", "no jitdump file")
        with open("trace", encoding="ascii") as file:
            blocks = sum(line.startswith("block ") for line in file)
        check(blocks == len(text.splitlines()), f"{blocks} blocks traced, {len(text.splitlines())} in the map")


def translate(bench):
    """A compiled function: shown by the translator, and run by each engine."""
    if not shutil.which("cc"):
        print("no C compiler")
        sys.exit(77)
    with scratch() as here:
        (here / "prime.c").write_text("int isPrime(int n)\n{\n\tif (n < 2)\n\t\treturn 0;\n"
                                      "\tfor (int i = 2; i * i <= n; i++)\n\t\tif (n % i == 0)\n"
                                      "\t\t\treturn 0;\n\treturn 1;\n}\n")
        subprocess.run(["cc", "-O1", "-c", "prime.c"], check=True)
        for engine in ("interp", "bt"):
            for n, prime in ((97, 1), (91, 0), (-7, 0), (1000003, 1)):
                with bench.start("translate", "--engine", engine, "prime.o:isPrime", "--run", str(n),
                                 terminal=False) as ringer:
                    ringer.ends_with(0)
                    text = ringer.text()
                    check(f"isPrime({n}) = {prime} " in text, f"{n} on {engine}: {text}")
        check(re.search(r"^block 400000 isPrime, user", text, re.MULTILINE), f"no first block in {text}")
        check(len(re.findall(r"^block ", text, re.MULTILINE)) >= 3, f"the loop has no block: {text}")
        check("idiv" in text and "blocks translated" in text, f"no division, or no counters: {text}")


CASES = {
    "stats": stats,
    "stats-json": stats_json,
    "trace": trace,
    "translate": translate,
}
