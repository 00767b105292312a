"""Four processors, more than the host may have, under load: memory, code that changes, and starts without end."""
import os
import re
import sys
import tempfile

from boot import check_dmesg
from guest import check
from smp import LATE

CPUS = 4
BOOTS = 30
# What a machine whose processors do not get on says.
SICK = re.compile(r"\bstall(s|ed)?\b|lockup|BUG:|WARNING:|Call Trace|Oops|segfault|general protection|not responding")


def cpio_entry(name, mode, data):
    """One file of a "newc" archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
    head += "\0" * (-len(head) % 4)
    return head.encode() + data + b"\0" * (-len(data) % 4)


def initrd_with_program(bench, directory):
    """The initramfs with smp_guest.c's program as /bin/smp_guest: the kernel unpacks archives that follow each other."""
    program = os.environ.get("SMP_GUEST")
    if not program:
        print("SMP_GUEST does not say where the guest's program is")
        sys.exit(77)
    path = os.path.join(directory, "initrd")
    with open(bench.image("initrd"), "rb") as standard, open(program, "rb") as binary, open(path, "wb") as out:
        data = standard.read()
        out.write(data + b"\0" * (-len(data) % 4))
        out.write(cpio_entry("bin/smp_guest", 0o100755, binary.read()))
        out.write(cpio_entry("TRAILER!!!", 0, b""))
    return path


def healthy(guest):
    check_dmesg(guest, LATE)
    check(not SICK.search(guest.run("dmesg | grep -v 'Command line'")), "the kernel's log shows trouble")
    guest.send("poweroff\r")
    guest.ends_with(0)


def program(bench):
    """Atomics, memory order, just-in-time compiled code, TLB shoot-down and processes, in the guest's user mode."""
    with tempfile.TemporaryDirectory() as directory:
        with bench.linux("-m", "512M", "--cpus", str(CPUS), initrd=initrd_with_program(bench, directory)) as guest:
            guest.shell()
            guest.run("dmesg -n 1")
            output = guest.run("smp_guest 1")
            check("all is well" in output, f"smp_guest: {output}")
            healthy(guest)


def patching(bench):
    """The kernel rewrites its own code on a running system: tracing of all functions, static keys, modules."""
    tracing = "/sys/kernel/tracing"
    with tempfile.TemporaryDirectory() as directory:
        with bench.linux("-m", "512M", "--cpus", str(CPUS), initrd=initrd_with_program(bench, directory)) as guest:
            guest.shell()
            guest.run("dmesg -n 1")
            guest.run(f"mount -t tracefs tracefs {tracing}; echo 64 >{tracing}/buffer_size_kb; "
                      "(while [ ! -e /tmp/over ]; do smp_guest 0.1 >/tmp/result || cp /tmp/result /tmp/failed; done; touch /tmp/done) & true")
            for _ in range(3):
                guest.run(f"echo function >{tracing}/current_tracer")
                check(int(guest.run(f"wc -l <{tracing}/enabled_functions")) > 1000, "functions are not traced")
                guest.run(f"echo nop >{tracing}/current_tracer")
                for _ in range(3):
                    guest.run(f"echo 1 >{tracing}/events/timer/enable; echo 0 >{tracing}/events/timer/enable; "
                              f"echo 1 >{tracing}/events/syscalls/enable; echo 0 >{tracing}/events/syscalls/enable")
                    guest.run("echo 1 >/proc/sys/kernel/sched_schedstats; echo 0 >/proc/sys/kernel/sched_schedstats")
                    guest.run("for m in /lib/modules/*.ko; do [ -e $m ] || break; n=$(basename $m .ko); "
                              "grep -q \"^$n \" /proc/modules && { rmmod $n && insmod $m; } || true; done")
            guest.run("touch /tmp/over; while [ ! -e /tmp/done ]; do sleep 1; done")
            check(not guest.try_run("cat /tmp/failed 2>/dev/null")[1], "smp_guest failed")
            healthy(guest)


def boots(bench):
    """None of many starts hangs."""
    for i in range(BOOTS):
        with bench.linux("-m", "256M", "--cpus", str(CPUS), append="ringer.run=nproc", terminal=False) as guest:
            guest.process.stdin.close()
            guest.ends_with(0, limit=300)
            text = guest.text()
            check(re.search(rf"^{CPUS}$", text, re.M), f"start {i}: not {CPUS} processors")
            check(not SICK.search(text), f"start {i}: {SICK.search(text)}")


CASES = {
    "cpus-4-program": program,
    "cpus-4-patching": patching,
    "cpus-4-boots": boots,
}
