"""Machines with several processors."""
import os
import re
import subprocess
import tempfile
import time

from boot import check_dmesg, check_shell
from guest import LIMIT, Failure, check

# More vCPUs run than the host has processors, so a vCPU may be off its processor inside a timer interrupt.
LATE = [r"hrtimer: interrupt took \d+ ns"]


def fields(guest, name):
    """The values of a field of /proc/cpuinfo, one per processor."""
    return re.findall(rf"^{name}\s*:\s*(\S+)", guest.run("cat /proc/cpuinfo"), re.M)


def check_topology(guest, cpus):
    """One thread a core, all cores in one package, as CPUID's leaves say in several ways."""
    numbers = [str(i) for i in range(cpus)]
    check(fields(guest, "apicid") == numbers, "APIC IDs")
    check(fields(guest, "core id") == numbers, "core IDs")
    check(fields(guest, "physical id") == ["0"] * cpus, "package IDs")
    check(fields(guest, "siblings") == [str(cpus)] * cpus, "siblings")
    check(fields(guest, "cpu cores") == [str(cpus)] * cpus, "cores")
    cpu = "/sys/devices/system/cpu/cpu1"
    check(guest.run(f"cat {cpu}/topology/thread_siblings_list").strip() == "1", "threads of core 1")
    shared = guest.run(f"cat {cpu}/cache/index[0-3]/shared_cpu_list").split()
    check(shared == ["1", "1", "1", f"0-{cpus - 1}"], f"caches of core 1 are shared by {shared}")


def check_everywhere(guest, cpus):
    """A process runs on each processor, and each takes its timer interrupts."""
    for i in range(cpus):
        mask = f"{1 << i:x}"
        check(guest.run(f"taskset {mask} cut -d' ' -f39 /proc/self/stat").strip() == str(i), f"not on processor {i}")
    timer = guest.run("grep LOC: /proc/interrupts").split()[1:1 + cpus]
    check(all(int(n) > 0 for n in timer), f"timer interrupts: {timer}")


def check_clock(guest):
    """The time-stamp counters agree: the kernel's own check of them found nothing."""
    check(guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip() == "tsc",
          "the clock source is not the TSC")


def boots(cpus, load=True):
    def case(bench):
        with bench.linux("-m", "512M", "--cpus", str(cpus)) as guest:
            guest.shell()
            if load:
                check_shell(guest, cpus)
            check_topology(guest, cpus)
            check_everywhere(guest, cpus)
            check_clock(guest)
            check_dmesg(guest, LATE)
            guest.send("poweroff\r")
            guest.ends_with(0)
            guest.check_restored()
    return case


def in_guest(guest, command, pattern):
    """The guest does it in its own time: asks again until the answer is right."""
    for _ in range(300):
        answer = guest.try_run(command)[1].strip()
        if re.fullmatch(pattern, answer):
            return
        time.sleep(0.2)
    raise Failure(f"{command!r} stays {answer!r}, not {pattern!r}")


def hotplug(bench):
    """Processors are given, used, and asked back; those of a reset are those asked for last."""
    online, present = "cat /sys/devices/system/cpu/online", "cat /sys/devices/system/cpu/present"

    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory

        def cpus(*args):
            return subprocess.run([*bench.command, "cpus", "hotplug", *args], capture_output=True, text=True, timeout=LIMIT)

        with bench.linux("-m", "512M", "--cpus", "2", "--max-cpus", "4", "--name", "hotplug") as guest:
            guest.shell()
            guest.run("dmesg -n 1")  # no messages between answers
            check("2 processors of at most 4" in cpus().stdout, "`ringer cpus`")
            check(cpus("5").returncode == 2, "5 processors of at most 4 were taken")
            for _ in range(3):
                check(cpus("4").returncode == 0, "`ringer cpus hotplug 4`")
                in_guest(guest, present, "0-3")
                # What a hot-plug helper does, without one.
                for cpu in (2, 3):
                    guest.run(f"echo 1 >/sys/devices/system/cpu/cpu{cpu}/online")
                check(guest.run(online).strip() == "0-3", "not every processor came online")
                check_topology(guest, 4)
                check_everywhere(guest, 4)
                check(cpus("2").returncode == 0, "`ringer cpus hotplug 2`")
                in_guest(guest, present, "0-1")
                check(guest.run(online).strip() == "0-1", "processors that have gone are online")
                check("2 processors of at most 4" in cpus().stdout, "`ringer cpus` after processors went")
            # Unasked: the guest lets one go.
            guest.run("echo 1 >/sys/bus/acpi/devices/ACPI0007:01/eject")
            in_guest(guest, present, "0")
            check("1 processor of at most 4" in cpus().stdout, "`ringer cpus` after one was ejected")
            check(cpus("3").returncode == 0, "`ringer cpus hotplug 3`")
            in_guest(guest, present, "0-2")
            check_clock(guest)
            check_dmesg(guest, LATE)
            guest.send("reboot\r")
            guest.expect("Linux version", "the start after a reboot")
            guest.shell()
            check(guest.run(online).strip() == "0-2", "processors after a reboot")
            check_clock(guest)
            check_dmesg(guest, LATE)
            guest.send("poweroff\r")
            guest.ends_with(0)


def hotplug_storm(bench):
    """Processors come and go under load, faster than the guest's tables settle; at the end all is as asked for last."""
    online, present = "cat /sys/devices/system/cpu/online", "cat /sys/devices/system/cpu/present"

    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory

        def cpus(number):
            done = subprocess.run([*bench.command, "cpus", "storm", str(number)], capture_output=True, text=True,
                                  timeout=LIMIT)
            check(done.returncode == 0, f"`ringer cpus storm {number}`: {done.stderr}")

        with bench.linux("-m", "512M", "--cpus", "4", "--max-cpus", "8", "--name", "storm") as guest:
            guest.shell()
            guest.run("dmesg -n 1")
            # Work on every processor, and whoever comes is put to work at once.
            guest.run("for i in 1 2 3 4; do (while :; do :; done) & done 2>/dev/null")
            guest.run("(while :; do for f in /sys/devices/system/cpu/cpu*/online; do "
                      "[ \"$(cat $f)\" = 1 ] || echo 1 >$f; done; done) >/dev/null 2>&1 & true")
            for number in [8, 1, 5, 2, 7, 1, 8, 3, 6, 4] * 3:
                cpus(number)
                time.sleep(0.1)
            cpus(8)
            in_guest(guest, present, "0-7")
            in_guest(guest, online, "0-7")
            guest.run("kill $(jobs -p)")
            for _ in range(20):  # a guest that was asked while it was busy may have said no
                cpus(2)
                if guest.run(present).strip() == "0-1":
                    break
                time.sleep(1)
            in_guest(guest, online, "0-1")
            check_clock(guest)
            check_dmesg(guest, LATE)
            guest.send("poweroff\r")
            guest.ends_with(0)


def pinned(bench):
    """vCPUs run where --pin says, with the priority that --nice says; the other threads as they were."""
    allowed = sorted(os.sched_getaffinity(0))
    pins = [allowed[-1], allowed[0]]

    with bench.linux("-m", "512M", "--cpus", "3", "--pin", ",".join(map(str, pins)), "--nice", "2") as guest:
        guest.shell()
        before, found = os.getpriority(os.PRIO_PROCESS, guest.process.pid), {}
        for task in os.listdir(f"/proc/{guest.process.pid}/task"):
            with open(f"/proc/{guest.process.pid}/task/{task}/comm", encoding="ascii") as comm:
                found[comm.read().strip()] = int(task)
        for i in range(3):
            task = found[f"vcpu{i}"]
            check(os.sched_getaffinity(task) == {pins[i % 2]}, f"vCPU {i} runs on {os.sched_getaffinity(task)}")
            check(os.getpriority(os.PRIO_PROCESS, task) == min(before + 2, 19), f"the priority of vCPU {i}")
        check(os.getpriority(os.PRIO_PROCESS, found["ringer-loop"]) == before, "the event loop's priority")
        guest.send("poweroff\r")
        guest.ends_with(0)


CASES = {
    "cpu-pinning": pinned,
    "cpu-hotplug-storm": hotplug_storm,
    "cpu-hotplug": hotplug,
    "cpus-2": boots(2),
    "cpus-4": boots(4),
    "cpus-16": boots(16, load=False),
    "cpus-64": boots(64, load=False),
}
