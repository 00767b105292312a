"""The KVM paravirtual interface, as the stock kernel finds and uses it."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from boot import check_dmesg
from guest import Failure, check

LINES = ["Hypervisor detected: KVM", "kvm-clock: Using msrs 4b564d01 and 4b564d00"]
SMP_LINES = ["kvm-guest: KVM setup pv remote TLB flush", "kvm-guest: setup PV sched yield", "kvm-guest: setup PV IPIs",
             "kvm-guest: PV spinlocks enabled", "PV qspinlock hash table entries"]
LATE = [r"hrtimer: interrupt took \d+ ns"]  # see smp.py
CLOCK = "/sys/devices/system/clocksource/clocksource0"


def check_lines(guest, present, absent=()):
    log = guest.run("dmesg")
    for line in present:
        check(line in log, f"dmesg has no '{line}'")
    for line in absent:
        check(line not in log, f"dmesg has '{line}'")


def check_clock(guest):
    """The TSC by default; kvm-clock when it is chosen, and time goes on without a jump."""
    check(guest.run(f"cat {CLOCK}/current_clocksource").strip() == "tsc", "the clock source is not the TSC")
    before = int(guest.run("date +%s"))
    guest.run(f"echo kvm-clock >{CLOCK}/current_clocksource")
    check(guest.run(f"cat {CLOCK}/current_clocksource").strip() == "kvm-clock", "kvm-clock cannot be chosen")
    guest.run("sleep 1")
    after, now = int(guest.run("date +%s")), time.time()
    check(after > before, "the wall clock stands still")
    # A clock that is not ours is wrong by years; the bound is for slow machines.
    check(abs(after - now) < 3600, f"the guest's wall clock is {after}, the host's {now:.0f}")


def load(guest, cpus, rounds):
    """Processes that fork, exec, map and unmap on every processor: IPIs, TLB flushes, contended locks."""
    script = f"for i in $(seq {rounds}); do ls -lR /sys/kernel >/dev/null; done"
    guest.run(" & ".join(f"({script})" for _ in range(2 * cpus)) + " & wait")
    # Memory that other processors have seen, and that are idle now, changes hands.
    guest.run(f"for i in $(seq 100); do taskset -p $(printf %x $((1 << i % {cpus}))) $$ >/dev/null; true | true; done")
    guest.run(f"taskset -p {(1 << cpus) - 1:x} $$ >/dev/null")


def figure(guest, name):
    match = re.search(rf"^  {name} +(\d+)", guest.errors.decode(), re.MULTILINE)
    check(match, f"no '{name}' in {guest.errors.decode()}")
    return int(match.group(1))


def smp(*args, cpus, features="", present=(), absent=(), counted=(), not_counted=()):
    """A machine with several processors, under load; then what the monitor counted."""
    def case(bench):
        cpu = ("--cpu", "default" + features) if features else ()
        with bench.linux("-m", "512M", "--cpus", str(cpus), "--stats", *cpu, *args, terminal=False) as guest:
            guest.shell()
            check_lines(guest, present, absent)
            load(guest, cpus, 1 if bench.engine == "interp" else 12)
            if not absent:
                check_clock(guest)
            check_dmesg(guest, LATE)
            guest.send("poweroff\n")
            guest.ends_with(0)
            for name in counted:
                check(figure(guest, name) > 0, f"'{name}' is 0")
            for name in not_counted:
                check(figure(guest, name) == 0, f"'{name}' is not 0")
    return case


class Busy:
    """Processes that do nothing but use one processor of the host."""

    def __init__(self, processor, count):
        code = f"import os\nos.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"
        self.all = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.all:
            process.kill()
            process.wait()


def host_delay(pid):
    """Seconds that the machine's vCPU threads have been ready without a processor, as the host counts; None: it does not."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if not (task / "comm").read_text().startswith("vcpu"):
            continue
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            return None
    return total / 1e9


def guest_times(guest):
    """User, system and steal time of all processors, in seconds."""
    fields = guest.run("head -1 /proc/stat").split()
    return (int(fields[1]) + int(fields[3])) / 100, int(fields[8]) / 100


def steal(bench):
    """A busy guest that shares a processor sees as stolen what the host's scheduler says it kept from it."""
    processor = min(os.sched_getaffinity(0))
    with bench.linux("-m", "256M", "--stats", terminal=False) as guest:
        guest.shell()
        pid = guest.process.pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {processor})
        with Busy(processor, 2):
            used, stolen = guest_times(guest)
            host = host_delay(pid)
            guest.run("timeout -s KILL 3 sh -c 'while :; do :; done'; true")
            used2, stolen2 = guest_times(guest)
            host2 = host_delay(pid)
        used, stolen = used2 - used, stolen2 - stolen
        print(f"used {used:.2f} s, stolen {stolen:.2f} s")
        check(stolen > 0, "no time was stolen")
        if host is not None and host2 is not None:
            host = host2 - host
            print(f"the host says {host:.2f} s")
            check(host > 0.2, f"the host kept nothing from the guest ({host:.2f} s)")
            # Both are counts of the same; the guest's in ticks, and read a little sooner or later.
            check(abs(stolen - host) < 0.1 + host * 0.2, f"stolen {stolen:.2f} s, and {host:.2f} s as the host says")
        guest.send("poweroff\n")
        guest.ends_with(0)
        check(figure(guest, "stolen time, as told") > 0, "nothing was stolen, as the statistics say")


def stopped(bench):
    """SIGSTOP for longer than the guest's watchdog waits: it says nothing, and the wall clock has gone on."""
    with bench.linux("-m", "256M", terminal=False) as guest:
        guest.shell()
        guest.run("echo 1 >/proc/sys/kernel/watchdog_thresh")  # a soft lock-up is 2 s
        guest.run("(while :; do :; done) & true")
        before = int(guest.run("date +%s"))
        for _ in range(2):
            guest.signal(signal.SIGSTOP)
            time.sleep(6)
            guest.signal(signal.SIGCONT)
            guest.run("sleep 2")
        after = int(guest.run("date +%s"))
        check(after - before >= 14, f"16 seconds are {after - before} in the guest")
        log = guest.run("dmesg")
        check("soft lockup" not in log and "stall" not in log, "the guest takes the stop for a hang")
        guest.send("poweroff\n")
        guest.ends_with(0)


# Flushes are left to vCPUs that are held back, which none need be here: the guest pvsmp64 is about these.
COUNTED = ["interrupts sent by hypercall", "interrupts ended in memory", "kicks out of HLT"]
CASES = {
    "paravirt": smp(cpus=4, present=LINES + SMP_LINES, counted=COUNTED),
    "paravirt-off": smp(cpus=2, features=",-kvm-steal-time,-kvm-pv-eoi,-kvm-pv-unhalt,-kvm-pv-ipi",
                        present=["kvm-guest: PV spinlocks disabled, no host support"],
                        absent=["KVM setup pv remote TLB flush", "setup PV IPIs"],
                        not_counted=[*COUNTED, "TLB flushes left to a vCPU", "yields", "stolen time, as told"]),
    "steal-time": steal,
    "stopped-process": stopped,
}
