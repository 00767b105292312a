"""The terminal: raw while the guest has it, as it was on every way out; pipes and window size."""
from guest import SIGNALS, check


def early(bench, **options):
    """A guest that has begun to print; how far it has booted does not matter."""
    guest = bench.linux("-m", "256M", append="earlyprintk=serial,ttyS0,115200 ringer.run=sleep_100000",
                        **options)
    guest.expect(r"Linux version", "the kernel's first line")
    return guest


def ctrl_a_x(bench):
    with early(bench) as guest:
        check(guest.is_raw(), "the terminal is not raw while the guest runs")
        guest.send("\x01h")
        guest.expect(r"Ctrl-A x", "help on the keys")
        guest.send("\x01x")
        guest.ends_with(0)
        guest.check_restored()


def killed(bench):
    """Each signal that ends Ringer ends it by that signal, the terminal restored."""
    for name in ("TERM", "HUP", "INT", "QUIT"):
        with early(bench) as guest:
            guest.signal(SIGNALS[name])
            guest.ends_with(-SIGNALS[name])
            guest.check_restored()


def bad_start(bench):
    """An error after the terminal is known leaves it alone."""
    with bench.start("run", "--kernel", "/nonexistent/kernel") as guest:
        guest.ends_with(2)
        guest.check_restored()


def ctrl_c(bench):
    """Ctrl-C goes to the guest: it ends the program there, not the machine."""
    with bench.linux("-m", "256M") as guest:
        guest.shell()
        # The child says so itself: until it has taken over the terminal, Ctrl-C would go astray in the shell.
        guest.send("sh -c 'echo started; exec sleep 100000'\r")
        guest.expect(r"^started\r*\n")
        guest.send("\x03")
        guest.expect(r"^\S+ # ", "a prompt after Ctrl-C")
        check(guest.run("echo alive").strip() == "alive", "the shell after Ctrl-C")
        guest.send("\x01\x01")  # Ctrl-A twice sends one: the editor's "start of line"
        guest.send("poweroff\r")
        guest.ends_with(0)


def pipes(bench):
    """Input from a pipe, typed before anyone listens, arrives whole; output goes to a pipe as the guest wrote it."""
    lines = "".join(f"echo line-$(({n} * 1001))\n" for n in range(1, 41))
    with bench.linux("-m", "256M", append="quiet", terminal=False) as guest:
        guest.send(lines + "poweroff\n")
        guest.close_input()
        guest.ends_with(0)
        text = guest.text()
        missing = [n for n in range(1, 41) if f"\nline-{n * 1001}\n" not in text]
        check(not missing, f"answers lost: {missing}")


def closed_output(bench):
    """Who reads the output goes away: the machine ends with an error, or runs on; it is not killed by SIGPIPE."""
    with bench.linux("-m", "256M", append="ringer.run=true", terminal=False) as guest:
        guest.expect(r"Linux version")
        guest.process.stdout.close()
        guest.open.discard(guest.fd)
        status = guest.wait()
        check(status in (0, 1), f"ended with {status}")


CASES = {
    "terminal-ctrl-a-x": ctrl_a_x,
    "terminal-killed": killed,
    "terminal-bad-start": bad_start,
    "terminal-ctrl-c": ctrl_c,
    "terminal-pipes": pipes,
    "terminal-closed-output": closed_output,
}
