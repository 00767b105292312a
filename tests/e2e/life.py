"""How a machine ends: panic, reboot, power off; and what its process says."""
import json
import re

from guest import check


def panic(bench):
    """A panicked kernel says so and stays: the machine still listens, Ctrl-A x ends it."""
    with bench.linux("-m", "256M", append="panic=0") as guest:
        guest.shell()
        guest.send("echo c >/proc/sysrq-trigger\r")
        guest.expect(r"Kernel panic - not syncing: sysrq triggered crash")
        guest.expect(r"end Kernel panic")
        guest.send("\x01x")
        guest.ends_with(0)
        guest.check_restored()


def panic_reboots(bench):
    """panic=1 resets the machine a second later; the same kernel comes up again."""
    with bench.linux("-m", "256M", append="panic=1") as guest:
        guest.shell()
        guest.run("echo before >/tmp/mark")
        guest.send("echo c >/proc/sysrq-trigger\r")
        guest.expect(r"Kernel panic - not syncing: sysrq triggered crash")
        guest.expect(r"Rebooting in 1 seconds")
        guest.shell()
        status, _ = guest.try_run("test -e /tmp/mark")
        check(status == 1, "a file in memory outlived a reset")
        guest.send("poweroff\r")
        guest.ends_with(0)


def reboot(bench, append=""):
    with bench.linux("-m", "256M", append=append) as guest:
        guest.shell()
        guest.run("echo before >/tmp/mark")
        guest.send("reboot\r")
        guest.expect(r"reboot: Restarting system")
        guest.shell()
        status, _ = guest.try_run("test -e /tmp/mark")
        check(status == 1, "a file in memory outlived a reset")
        uptime = float(guest.run("cut -d' ' -f1 /proc/uptime"))
        check(uptime < 600, f"uptime is {uptime} s after a reboot")
        guest.send("poweroff\r")
        guest.ends_with(0)


def no_reboot(bench):
    """--no-reboot: a reset ends the process, whichever of the three ways the guest takes."""
    for how in ("acpi", "kbd", "triple"):
        with bench.linux("-m", "256M", "--no-reboot", append=f"reboot={how[0]} quiet "
                         "ringer.run=busybox_reboot_-f") as guest:
            guest.ends_with(0 if how != "triple" else 3)


def json_result(bench):
    with bench.linux("-m", "256M", "--serial", "null", "--json", append="quiet ringer.run=true",
                     terminal=False) as guest:
        guest.close_input()
        guest.ends_with(0)
        result = json.loads(guest.text())
        text = json.dumps(result)
        check(re.search(r"power", text), f"no power-off in {text}")


CASES = {
    "panic": panic,
    "panic-reboots": panic_reboots,
    "reboot": reboot,
    "no-reboot": no_reboot,
    "json": json_result,
}
