"""A `ringer` process on a terminal or on pipes: type, wait for an answer, see how it ends.

Only the standard library. Waiting is bounded by LIMIT, which guards against a hang and says nothing about speed.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

LIMIT = float(os.environ.get("RINGER_TEST_LIMIT", "900"))
# What busybox's line editor adds around the text it echoes.
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
CUT_ESCAPE = re.compile(rb"\x1b(\[[0-9;?]*)?$")  # the rest comes with the next read


class Failure(Exception):
    """A check that did not hold; the text says which."""


def check(holds, text):
    if not holds:
        raise Failure(text)


class Guest:
    """One run of a command. On a terminal, standard error goes there too; on pipes it is kept apart."""

    def __init__(self, argv, terminal=True, size=(24, 80)):
        self.output = b""  # all of it, for the report, without escape sequences
        self.cut = b""     # the start of an escape sequence that is not all there yet
        self.seen = 0      # how far expect() has got
        self.errors = b""
        self.terminal = terminal
        self.status = None
        if terminal:
            self.fd, self.slave = pty.openpty()
            self.resize(*size)
            self.mode_before = termios.tcgetattr(self.slave)
            self.process = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                            start_new_session=True, preexec_fn=self._own_terminal)
            self.input = self.fd
        else:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE)
            self.fd, self.input = self.process.stdout.fileno(), self.process.stdin.fileno()
        self.open = {self.fd} if terminal else {self.fd, self.process.stderr.fileno()}

    def _own_terminal(self):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self, seconds):
        """Takes what is there; False when nothing came in that time or everything is closed."""
        if not self.open:
            return False
        ready, _, _ = select.select(list(self.open), [], [], seconds)
        for fd in ready:
            try:
                data = os.read(fd, 65536)
            except OSError:  # a terminal whose other side is gone
                data = b""
            if not data:
                self.open.discard(fd)
            elif fd == self.fd:
                data = ESCAPE.sub(b"", self.cut + data)
                cut = CUT_ESCAPE.search(data)
                self.cut = cut.group() if cut else b""
                self.output += data[:len(data) - len(self.cut)]
            else:
                self.errors += data
        return bool(ready)

    def text(self):
        return self.output.decode(errors="replace").replace("\r", "")

    def expect(self, pattern, what=None, limit=LIMIT):
        """Waits for the pattern in what has not been matched yet; returns the match."""
        deadline = time.monotonic() + limit
        regex = re.compile(pattern.encode(), re.MULTILINE)
        while True:
            match = regex.search(self.output, self.seen)
            if match:
                self.seen = match.end()
                return match
            if time.monotonic() > deadline:
                raise Failure(f"no {what or pattern!r} within {limit:.0f} s")
            ended = self.process.poll() is not None
            if not self._read(0.2) and ended:
                raise Failure(f"ended with {self.process.returncode} before {what or pattern!r}")

    def send(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.input, data):]

    def close_input(self):
        self.process.stdin.close()

    def shell(self):
        """Waits for the guest's first prompt."""
        self.expect(r"^\S+ # ", "a shell prompt")

    def run(self, command, limit=LIMIT):
        """Types a command at the guest's shell; returns its output, and raises when its status is not 0."""
        status, output = self.try_run(command, limit)
        check(status == 0, f"guest: {command!r} ended with {status}: {output!r}")
        return output

    def try_run(self, command, limit=LIMIT):
        # The echo of the line holds $?, the answer a number.
        self.send(f"echo @@begin@@; {command}; echo @@end=$?@@\r")
        self.expect(r"^@@begin@@\r*\n", f"the start of {command!r}", limit)
        start = self.seen
        match = self.expect(r"@@end=(\d+)@@", f"the end of {command!r}", limit)
        output = self.output[start:match.start()].decode(errors="replace").replace("\r", "")
        return int(match.group(1)), output

    def wait(self, limit=LIMIT):
        """Waits for the process to end; returns its status, negative for a signal."""
        deadline = time.monotonic() + limit
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise Failure(f"still running after {limit:.0f} s")
            self._read(0.05)
        while self._read(0.05):
            pass
        self.status = self.process.returncode
        return self.status

    def ends_with(self, status, limit=LIMIT):
        got = self.wait(limit)
        check(got == status, f"ended with {got}, not {status}")

    def signal(self, number):
        self.process.send_signal(number)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def check_restored(self):
        check(termios.tcgetattr(self.slave) == self.mode_before, "the terminal was left in another mode")

    def report(self):
        lines = self.text().splitlines()
        print(f"--- the last of {len(lines)} lines:")
        print("\n".join(lines[-60:]))
        if self.errors:
            print("--- standard error:")
            print(self.errors.decode(errors="replace")[-4000:])
        sys.stdout.flush()


SIGNALS = {"TERM": signal.SIGTERM, "HUP": signal.SIGHUP, "INT": signal.SIGINT, "QUIT": signal.SIGQUIT}
