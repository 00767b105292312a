"""Scheduling policies: a guest with more processors than run at a time, disturbed from outside."""
import json
import re
import subprocess
import sys
import tempfile
import xml.dom.minidom
from pathlib import Path

from boot import check_dmesg, check_shell
from control import ringer, runtime_dir, wait_state
from guest import check
from smp import LATE, check_everywhere, check_topology, in_guest

ROOT = Path(__file__).resolve().parents[2]
BUSY = "for i in 1 2 3 4 5 6; do (while :; do :; done) & done"  # more than it has processors
CALM = "kill $(jobs -p)"


def counted(text, column):
    """A sum over all vCPUs from the table of --stats."""
    columns = ["slices", "waited", "preemptions", "safe", "forced", "yields"]
    row = re.search(r"^  all +(.*)$", text, re.M)
    check(row, f"no table of the scheduler in {text}")
    return float(row.group(1).split()[columns.index(column)])


def policy(name):
    """Boots with one slot for two vCPUs, is paused, resumed and given processors under load, and works afterwards."""
    def case(bench):
        with runtime_dir():
            with bench.linux("-m", "512M", "--cpus", "4", "--max-cpus", "6", "--sched", name, "--sched-slots", "2", "--stats",
                             "--name", "sched") as guest:
                guest.shell()
                check_shell(guest, 4)
                check_topology(guest, 4)
                check_everywhere(guest, 4)
                guest.run("dmesg -n 1")
                guest.run(BUSY)
                for _ in range(10):
                    ringer(bench, "pause", "sched")
                    wait_state(bench, "sched", "paused")
                    ringer(bench, "resume", "sched")
                    wait_state(bench, "sched", "running")
                for _ in range(2):
                    ringer(bench, "cpus", "sched", "6")
                    in_guest(guest, "cat /sys/devices/system/cpu/present", "0-5")
                    for cpu in (4, 5):
                        guest.run(f"echo 1 >/sys/devices/system/cpu/cpu{cpu}/online")
                    ringer(bench, "cpus", "sched", "4", "--timeout", "60")
                    in_guest(guest, "cat /sys/devices/system/cpu/present", "0-3")
                guest.run(CALM)
                check_everywhere(guest, 4)
                check_dmesg(guest, LATE)
                guest.send("poweroff\r")
                guest.ends_with(0)
                text = guest.text()
            check(f"scheduling: {name}, 2 at a time" in text, f"no line on the scheduler in {text}")
            check(counted(text, "preemptions") > 0, "nobody was ever preempted")
            if name == "lhp":
                check(counted(text, "safe") > 0, "nobody ever left at a safe point")
    return case


def cap(bench):
    """A busy guest runs into its bound, an idle one does not; it ends all the same."""
    with bench.linux("-m", "512M", "--cpus", "2", "--cpu-cap", "30%", "--stats") as guest:
        guest.shell()
        guest.run(BUSY)
        guest.run("sleep 1")
        guest.run(CALM)
        guest.send("poweroff\r")
        guest.ends_with(0)
        found = re.search(r"scheduling: fair, at most 30 %: stopped in (\d+) periods", guest.text())
        check(found and int(found.group(1)) > 0, "the bound was never reached")


def trace(bench):
    """A row for each vCPU, made of known slices that do not overlap; and a picture of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with bench.linux("-m", "512M", "--cpus", "3", "--sched", "cosched", "--sched-slots", "1", "--trace",
                         f"sched={path}") as guest:
            guest.shell()
            guest.run(BUSY)
            guest.run("sleep 1")
            guest.send("poweroff\r")
            guest.ends_with(0)
        events = json.loads(path.read_text())["traceEvents"]
        rows = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
        check(rows == {i: f"vCPU {i}" for i in range(3)}, f"rows: {rows}")
        names = {e["name"] for e in events if e["ph"] == "X"}
        check({"user", "kernel", "slot"} <= names <= {"user", "kernel", "device", "halted", "slot", "host"}, f"slices: {names}")
        end = dict.fromkeys(rows, 0)
        for e in (e for e in events if e["ph"] == "X"):
            check(e["dur"] > 0 and e["ts"] >= end[e["tid"]] - 0.2, f"{e} begins before {end[e['tid']]}")
            end[e["tid"]] = e["ts"] + e["dur"]
        done = subprocess.run([sys.executable, ROOT / "tools/trace-svg.py", path, "--title", "a < b"], capture_output=True,
                              text=True, check=True)
        xml.dom.minidom.parseString(done.stdout)
        check("vCPU 2" in done.stdout, "the picture lacks a row")


CASES = {
    "sched-cosched": policy("cosched"),
    "sched-lhp": policy("lhp"),
    "sched-hint": policy("hint"),
    "cpu-cap": cap,
    "trace-sched": trace,
}
