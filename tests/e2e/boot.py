"""The stock kernel boots to a shell, and the shell answers."""
import re

from guest import check

# Messages of warning level or worse that are right on this machine, as regular expressions, each with its reason.
JUSTIFIED = []
# What lockdown=confidentiality (see memory-64m) makes the kernel say: the tracers were switched off on purpose.
LOCKDOWN = [r"Tracing disabled due to lockdown", r"Can not register tracer \w+ due to lockdown",
            r"Could not create tracefs '\w+' entry", r"blktrace: Warning: could not register the block tracer",
            r"lockdown_is_locked_down: \d+ callbacks suppressed"]


def check_dmesg(guest, justified=()):
    """No message of level warning (4) or worse, no oops, no BUG: `dmesg -r` shows each line's priority."""
    log = guest.run("dmesg -r")
    lines = [line for line in log.splitlines() if re.match(r"<\d+>", line)]
    check(len(lines) > 100, f"dmesg shows only {len(lines)} lines")
    bad = []
    for line in lines:
        priority, text = re.match(r"<(\d+)>(?:\[[^]]*\] ?)?(.*)", line).groups()
        serious = int(priority) & 7 <= 4 or re.search(r"\bBUG\b|Call Trace|WARNING|Oops", text)
        if serious and not any(re.search(reason, text) for reason in [*JUSTIFIED, *justified]):
            bad.append(line)
    check(not bad, "dmesg has warnings:\n  " + "\n  ".join(bad))


def check_cpu(guest, cpus=1):
    cpuinfo = guest.run("cat /proc/cpuinfo")
    found = len(re.findall(r"^processor\s*:", cpuinfo, re.M))
    check(found == cpus, f"{found} processors in /proc/cpuinfo, not {cpus}")
    flags = re.search(r"^flags\s*:(.*)", cpuinfo, re.M)
    check(flags, "no flags in /proc/cpuinfo")
    missing = {"lm", "nx", "sse4_2", "popcnt", "syscall", "hypervisor"} - set(flags.group(1).split())
    check(not missing, f"/proc/cpuinfo lacks {missing}")


def check_shell(guest, cpus=1):
    uname = guest.run("uname -a")
    check(re.match(r"Linux guest 6\.\S+ .*x86_64", uname), f"uname -a: {uname!r}")
    check_cpu(guest, cpus)
    check(guest.run("echo $((1234567 * 7654321 % 1000003))").strip() == str(1234567 * 7654321 % 1000003),
          "arithmetic in the shell")
    check(guest.run("awk 'BEGIN { printf \"%.12f\", 355 / 113 }'") == "3.141592920354", "floating point")
    # A megabyte written, read back and summed.
    guest.run("yes 0123456789 | head -c 1048576 >/tmp/file && sync")
    check(guest.run("md5sum </tmp/file").split()[0] == megabyte_md5(), "a file read back differs")
    check(guest.run("for i in 1 2 3; do (exit $i); echo $?; done | tr '\\n' ' '") == "1 2 3 ", "processes")
    check("ttyS0" in guest.run("tty"), "the shell is not on ttyS0")
    # The clock runs, and about as fast as the host's: a wrong TSC frequency would be far off.
    before = float(guest.run("cut -d' ' -f1 /proc/uptime"))
    guest.run("sleep 1")
    check(float(guest.run("cut -d' ' -f1 /proc/uptime")) - before >= 0.95, "sleep 1 takes less than a second")


def megabyte_md5():
    import hashlib
    line = b"0123456789\n"
    return hashlib.md5((line * (1048576 // len(line) + 1))[:1048576]).hexdigest()


def boots(*args, kernel, checks=(check_shell, check_dmesg), append=""):
    def case(bench):
        with bench.linux(*args, kernel=kernel, append=append) as guest:
            guest.shell()
            for one in checks:
                one(guest)
            guest.send("poweroff\r")
            guest.ends_with(0)
            guest.check_restored()
    return case


def check_memory(low, high):
    """MemTotal in MiB lies between: what the kernel keeps for itself is not counted there."""
    def one(guest):
        total = int(re.search(r"MemTotal:\s*(\d+)", guest.run("cat /proc/meminfo")).group(1)) >> 10
        check(low <= total <= high, f"MemTotal is {total} MiB, not within {low}..{high}")
    return one


def fill_memory(guest):
    """Pages above 4 GiB, which the kernel takes first, are written and read back: tmpfs holds them."""
    guest.run("mount -o remount,size=95% /tmp")
    guest.run("dd if=/dev/zero of=/tmp/big bs=1M count=256 2>/dev/null")
    guest.run("echo end >>/tmp/big")
    check(guest.run("tail -c 4 /tmp/big") == "end\n", "the end of a big file")


CASES = {
    "boot-vmlinux": boots("-m", "512M", kernel="vmlinux"),
    "boot-bzimage": boots("-m", "512M", kernel="vmlinuz"),
    "boot-bzimage-original": boots("-m", "512M", "--boot", "original", kernel="vmlinuz",
                                   checks=(check_dmesg,)),
    "boot-pvh": boots("-m", "512M", "--boot", "pvh", kernel="vmlinux", checks=(check_cpu, check_dmesg)),
    # The 6.1 kernel pins 8 MiB of inodes for its trace events, and 64 MiB do not suffice, on any machine, unless it
    # is told to do without them.
    "memory-64m": boots("-m", "64M", kernel="vmlinux", append="lockdown=confidentiality",
                        checks=(check_memory(8, 64), lambda guest: check_dmesg(guest, LOCKDOWN))),
    "memory-4g": boots("-m", "4G", kernel="vmlinux",
                       checks=(check_memory(3700, 4096), check_dmesg, fill_memory)),
}
