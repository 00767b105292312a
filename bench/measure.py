"""One run of a monitor: every console line with the host's clock, and what memory it took."""
import os
import re
import select
import signal
import statistics
import subprocess
import threading
import time

from rows import smaller_is_better

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc")
# A guest's clock may differ from the host's by this part and by so many seconds before a row says so: lines take some
# milliseconds to come, more when the host is busy.
CLOCK_TOLERANCE, CLOCK_SECONDS = 0.03, 0.025


def cpu_seconds():
    """(busy, stolen) processor seconds of this machine since it started."""
    with open("/proc/stat", encoding="ascii") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    hz = os.sysconf("SC_CLK_TCK")
    return (v[0] + v[1] + v[2] + v[5] + v[6]) / hz, v[7] / hz


def wait_quiet(limit=900):
    """Until this machine used less than a sixteenth of a processor for 8 seconds; False when it never does."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = cpu_seconds()[0]
        time.sleep(8)
        if cpu_seconds()[0] - before < 0.5:
            return True
    return False


def session_of(pid):
    with open(f"/proc/{pid}/stat", encoding="latin1") as f:
        return int(f.read().rpartition(")")[2].split()[3])


def mappings(pid):
    """[(address, bytes, permissions, path, proportional resident KiB)] of a process's."""
    head, found = None, []
    with open(f"/proc/{pid}/smaps", encoding="latin1") as f:
        for line in f:
            word = line.split(None, 5)
            if not word[0].endswith(":"):
                start, end = word[0].split("-")
                size, path = int(end, 16) - int(start, 16), word[5].strip() if len(word) > 5 else ""
                head = start, size, word[1], path
            elif word[0] == "Pss:":
                found.append((*head, int(word[1])))
    return found


def files_kib(pid, folder, found):
    """Adds {inode: KiB allocated} of the open files that are, or were, in a folder."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        if os.readlink(path).startswith(folder):
            status = os.stat(path)
            found[status.st_ino] = status.st_blocks // 2


class Memory(threading.Thread):
    """Looks every two seconds at what a session's processes hold, the guest's memory and the rest apart.

    The guest's memory is every mapping of nearly its size (a PC's has holes) that is not executable (which leaves out a
    code cache), and for User Mode Linux its file. Shared pages of the rest count once (PSS). What is beside the guest's
    memory is the most that any look saw, or the process's peak (VmHWM) less the guest's memory if that is more.
    """
    SHM = "/dev/shm/"

    def __init__(self, leader, guest_bytes):
        super().__init__(daemon=True)
        self.leader, self.least, self.done = leader, guest_bytes * 15 // 16, threading.Event()
        self.guest_kib = self.other_kib = self.samples = 0

    def sample(self):
        guest = other = 0
        seen, files = set(), {}
        for name in os.listdir("/proc"):
            try:
                if not name.isdigit() or session_of(name) != self.leader:
                    continue
                space = mappings(name)
                files_kib(name, self.SHM, files)
            except (OSError, ValueError):
                continue        # it is gone
            # Processes that share an address space each show all of it.
            layout = tuple(mapping[:2] for mapping in space)
            if layout in seen:
                continue
            seen.add(layout)
            for _, size, perms, path, pss in space:
                if size >= self.least and "x" not in perms and not path.startswith(self.SHM):
                    guest += pss
                elif not path.startswith(self.SHM):
                    other += pss
        guest += sum(files.values())
        self.guest_kib, self.other_kib = max(self.guest_kib, guest), max(self.other_kib, other)
        self.samples += 1

    def run(self):
        wait = 0.2
        while not self.done.wait(wait):
            self.sample()
            wait = 2


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def read_console(process, deadline, on_line):
    """Calls on_line(time, text) until the output ends; False when the deadline came first."""
    fd, rest = process.stdout.fileno(), b""
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], 0.5)[0]:
            continue
        data = os.read(fd, 65536)
        now = time.monotonic()
        *whole, rest = (rest + data).split(b"\n")
        for raw in whole if data else [rest]:
            on_line(now, ANSI.sub("", raw.decode("latin1")).strip("\r "))
        if not data:
            return True
    return False


def run(argv, env, timeout, guest_bytes, progress):
    """Runs argv to its end or for timeout seconds; {lines: [(seconds, text)], status, ...}. guest_bytes 0: a bare host."""
    lines, (busy, stolen), start = [], cpu_seconds(), time.monotonic()
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    memory = Memory(process.pid, guest_bytes)
    if guest_bytes:
        memory.start()

    def on_line(now, text):
        lines.append((now - start, text))
        progress(now - start, text)
        if guest_bytes and text == "DONE":
            memory.sample()

    try:
        ended = read_console(process, start + timeout, on_line)
        if not ended:
            kill(process)
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    finally:
        kill(process)       # when interrupted; and children that outlived it
        process.wait()
        process.stdout.close()
        memory.done.set()
    seconds = time.monotonic() - start
    now_busy, now_stolen = cpu_seconds()
    cpu = usage.ru_utime + usage.ru_stime
    result = {"lines": lines, "status": process.returncode if ended else "timeout", "seconds": seconds, "cpu_s": cpu,
              "peak_mib": usage.ru_maxrss / 1024, "others": max(0, (now_busy - busy - cpu) / seconds),
              "stolen": (now_stolen - stolen) / seconds}
    if memory.guest_kib:
        result["guest_mib"] = memory.guest_kib / 1024
        result["beside_mib"] = max(memory.other_kib / 1024, result["peak_mib"] - result["guest_mib"])
    return result


def parse(result):
    """Turns a run's lines into its rows: {row: {value, unit, guest_s, host_s, clock} or {fail}}, checks and the rest."""
    started, rows, checks, info, done = {}, {}, {}, [], False
    for now, text in result.pop("lines"):
        word = text.split()
        kind = word[0] if word else ""
        if kind == "USERSPACE":
            result.setdefault("userspace_s", now)
        elif kind == "RUN" and len(word) == 2:
            started[word[1]] = now
        elif kind == "BENCH" and len(word) == 6:
            rows[word[1]] = figure(word, now - started.get(word[1], now))
            if word[5] != "-" and word[5].strip("0"):
                checks[word[1]] = word[5]
        elif kind in ("FAIL", "SKIP") and len(word) >= 2:
            rows[word[1]] = {"fail": " ".join(word[2:]) or kind, "skip": kind == "SKIP"}
        elif kind == "CHECK" and len(word) >= 2:
            checks[word[1]] = " ".join(word[2:])
        elif kind == "INFO":
            info.append(text[5:])
        elif kind == "DONE":
            done = True
    for row in started:
        rows.setdefault(row, {"fail": "began and did not end"})
    return {**result, "rows": rows, "checks": checks, "info": info, "done": done}


def figure(word, host_s):
    try:
        value, guest_s = float(word[2]), float(word[4])
    except ValueError:
        return {"fail": "unreadable: " + " ".join(word)}
    if not 0 < value < float("inf"):
        return {"fail": "no figure: " + " ".join(word)}
    row = {"value": value, "unit": word[3], "guest_s": guest_s, "host_s": host_s}
    if guest_s <= 0:
        return {"fail": "no time passed: " + " ".join(word)}
    if abs(host_s - guest_s) > max(CLOCK_SECONDS, CLOCK_TOLERANCE * guest_s):
        if host_s <= 0:
            return {"fail": f"{guest_s:.3f} s by the guest's clock, none by the host's"}
        row["clock"] = True         # the value is then what it is by the host's clock
        row["value"] *= host_s / guest_s if smaller_is_better(word[3]) else guest_s / host_s
    return row


def median_and_spread(values):
    """(median, half the range in parts of the median)"""
    middle = statistics.median(values)
    return middle, (max(values) - min(values)) / middle / 2 if middle else 0
