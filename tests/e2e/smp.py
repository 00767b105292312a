"""Machines with several processors."""
import re

from boot import check_dmesg, check_shell
from guest import check

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


CASES = {
    "cpus-2": boots(2),
    "cpus-4": boots(4),
    "cpus-16": boots(16, load=False),
    "cpus-64": boots(64, load=False),
}
