"""A machine that is spoken to while it runs: the commands, the interface, and a guest that was paused."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from guest import LIMIT, Failure, check

ROOT = Path(__file__).resolve().parents[2]
API = "/api/v1"
PAUSE = 30  # seconds: longer than the guest's watchdogs wait (20 for a soft lock-up, 21 for RCU)
# Flat guests at 0x100020. One halts; the other waits for the power button (PM1, as test_vm.c has it) and powers off.
HALT = bytes.fromhex("f4ebfd")
BUTTON = bytes.fromhex("66ba020666b8000166efb062e6e966ba000666ed66a9000174f866ba040666b8003466eff4ebfd")


@contextlib.contextmanager
def runtime_dir():
    """A place of its own for the machines of a case."""
    with tempfile.TemporaryDirectory(prefix="ringer-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        yield Path(folder)


def image(folder, code):
    """A multiboot image of that code."""
    path = folder / f"image-{len(code)}"
    header = struct.pack("<8I", 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0,
                         0x100020)
    path.write_bytes(header + code)
    return str(path)


def flat(bench, folder, code, *args):
    engine = ("--engine", bench.engine) if bench.engine else ()
    return bench.start("run", "--kernel", image(folder, code), "--serial", "null", "-m", "8M", *engine, *args,
                       terminal=False)


def ringer(bench, *args, status=0, says=None):
    """Runs a command to its end; checks its status, and what it says on the stream that belongs to it."""
    done = subprocess.run([*bench.command, *args], capture_output=True, text=True, timeout=LIMIT, check=False)
    text = " ".join(args)
    check(done.returncode == status, f"ringer {text}: status {done.returncode}, not {status}: {done.stderr}")
    said = done.stdout if status == 0 else done.stderr
    check(says is None or says in said, f"ringer {text}: no {says!r} in {said!r}")
    check(status == 0 or (done.stdout == "" and said.count("\n") == 1), f"ringer {text}: not one line: {said!r}")
    return done.stdout


def machines(bench):
    return {row["name"]: row for row in json.loads(ringer(bench, "ps", "--json"))}


def wait_state(bench, name, state):
    deadline = time.monotonic() + LIMIT
    while machines(bench).get(name, {}).get("state") != state:
        if time.monotonic() > deadline:
            raise Failure(f"{name} is not {state}: {machines(bench)}")
        time.sleep(0.05)


class Connection(http.client.HTTPConnection):
    """To a machine's socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def ask(self, method, path, body=None):
        self.request(method, API + path, body=body)
        answer = self.getresponse()
        return answer, answer.read()


def commands(bench):
    """ringer ps, info, pause, resume, cpus, stop: what they do, print and return."""
    with runtime_dir() as folder, flat(bench, folder, BUTTON, "--name", "web", "--cpus", "2") as web, \
            flat(bench, folder, HALT) as other:
        made_up = f"ringer-{other.process.pid}"
        wait_state(bench, "web", "running")
        wait_state(bench, made_up, "running")
        row = machines(bench)["web"]
        check(row["pid"] == web.process.pid and row["cpus"] == 2 and row["memory"] == 8 << 20, f"ps says {row}")
        lines = ringer(bench, "ps", says="NAME ").splitlines()
        check(len(lines) == 3 and re.search(rf"^web +{web.process.pid} +running +2 +8M ", lines[2]), f"ps: {lines}")
        check(ringer(bench, "ps", "--quiet") == f"{made_up}\nweb\n", "ps --quiet")
        ringer(bench, "info", "web", says="processors     2")
        info = json.loads(ringer(bench, "info", "web", "--json", "--counters"))
        check(info["counters"]["vcpus"]["engine_cycles"] > 0, f"info: {info}")
        ringer(bench, "pause", "web", says="web is paused")
        wait_state(bench, "web", "paused")
        ringer(bench, "stop", "web", status=1, says="is paused")
        check(json.loads(ringer(bench, "resume", "web", "--json"))["state"] == "running", "resume --json")
        ringer(bench, "cpus", "web", says="2 processors")
        ringer(bench, "cpus", "web", "65", status=2, says="65 cannot be")
        ringer(bench, "cpus", "web", "-2", status=2, says="0 cannot be")
        # This guest knows nothing of processors that go.
        ringer(bench, "cpus", "web", "1", "--timeout", "1", status=4, says="still has 2 processors")
        ringer(bench, "stop", made_up, "--timeout", "1", status=4, says="has not powered off in 1 s")
        result = json.loads(ringer(bench, "stop", "web", "--json"))
        check(result["end"] == "poweroff", f"stop: {result}")
        web.ends_with(0)
        ringer(bench, "stop", made_up, "--force", says="has ended")
        other.ends_with(0)
        check(not machines(bench) and not os.listdir(folder / "ringer"), "something was left behind")


def errors(bench):
    """A wrong name, a name in use, a machine that was killed, one that hangs: a clear word each."""
    with runtime_dir() as folder, flat(bench, folder, HALT, "--name", "web") as web:
        wait_state(bench, "web", "running")
        ringer(bench, "info", "wbe", status=2, says="did you mean 'web'?")
        ringer(bench, "pause", "nothing", status=2, says="'ringer ps' lists")
        ringer(bench, "stop", "../web", status=2, says="no machine has the name")
        for command in ("info", "pause", "resume", "stop", "cpus"):
            ringer(bench, command, status=2, says="which machine?")
        ringer(bench, "run", "--kernel", image(folder, HALT), "--name", "web", status=2, says="runs already")
        ringer(bench, "run", "--kernel", image(folder, HALT), "--name", "a b", status=2, says="is no name")
        web.signal(signal.SIGSTOP)
        wait_state(bench, "web", "no answer")
        ringer(bench, "info", "web", status=4, says="does not answer")
        web.signal(signal.SIGCONT)
        wait_state(bench, "web", "running")
        web.signal(signal.SIGKILL)
        web.ends_with(-signal.SIGKILL)
        check(len(os.listdir(folder / "ringer")) == 2, "a killed machine leaves its socket and lock")
        ringer(bench, "info", "web", status=2, says="was killed")
        check(not os.listdir(folder / "ringer"), "what a killed machine left is still there")
    with runtime_dir() as folder, flat(bench, folder, HALT, "--name", "web") as web:
        wait_state(bench, "web", "running")
        web.signal(signal.SIGKILL)
        web.wait()
        # The name is free, though the files are there.
        with flat(bench, folder, HALT, "--name", "web") as again:
            wait_state(bench, "web", "running")
            again.signal(signal.SIGSTOP)
            ringer(bench, "stop", "web", "--force", says="was killed")
            again.ends_with(-signal.SIGKILL)
    with runtime_dir() as folder:
        os.environ["XDG_RUNTIME_DIR"] = str(folder / "missing")
        ringer(bench, "ps", status=1, says="missing")
        ringer(bench, "run", "--kernel", image(folder, HALT), "--name", "web", status=2, says="missing")
        with flat(bench, folder, BUTTON, "--debugcon", "stdio") as nameless:
            nameless.expect("b", "a machine without a socket")
            nameless.signal(signal.SIGTERM)
            nameless.ends_with(-signal.SIGTERM)
            check(b"no control socket" in nameless.errors, f"no word of it: {nameless.errors}")


class Schemas:
    """abi/ringer-api.yaml; its schemas are JSON Schema 2020-12, as OpenAPI 3.1 has them."""

    def __init__(self):
        import jsonschema  # pylint: disable=import-outside-toplevel
        import yaml  # pylint: disable=import-outside-toplevel
        self.document = yaml.safe_load((ROOT / "abi/ringer-api.yaml").read_text())
        self.validator = jsonschema.Draft202012Validator
        self.resolver = jsonschema.RefResolver("", self.document)
        for schema in self.document["components"]["schemas"].values():
            self.validator.check_schema(schema)
        self.checked = set()

    def resolve(self, thing):
        while "$ref" in thing:
            thing = self.resolver.resolve(thing["$ref"])[1]
        return thing

    def check_line(self, path, text, kind="application/x-ndjson"):
        schema = self.document["paths"][path]["get"]["responses"]["200"]["content"][kind]["schema"]
        self.check_json(schema, text, path)

    def check_json(self, schema, text, what):
        faults = list(self.validator(schema, resolver=self.resolver).iter_errors(json.loads(text)))
        check(not faults, f"{what}: {text}: {faults[:1]}")

    def check_answer(self, method, path, answer, text):
        """Holds a live answer to the operation, or to `default` where its status is not listed."""
        what = f"{method} {path}: {answer.status}"
        operation = self.document["paths"].get(path, {}).get(method.lower())
        listed = operation["responses"] if operation else {}
        check(operation or answer.status in (404, 405), f"{what}, but it is not described")
        check(str(answer.status) in listed or answer.status >= 400, f"{what} is not described")
        response = self.resolve(listed.get(str(answer.status)) or {"$ref": "#/components/responses/Error"})
        content = response.get("content")
        if not content:
            check(text == b"", f"{what}: a body")
            return
        kind = answer.getheader("Content-Type")
        check(kind in content, f"{what}: {kind}")
        self.check_json(content[kind]["schema"], text, what)
        self.checked.add((method, path, answer.status))


def check_routes(schemas, connection):
    """Every path and method that the server knows is described, and the other way round."""
    rows = re.findall(r'^\t\{"/api/v1(/[^"]+)", "([A-Z]+)", \w+\},$', (ROOT / "src/control/api.c").read_text(),
                      re.MULTILINE)
    described = {(path, method.upper()) for path, item in schemas.document["paths"].items() for method in item}
    check(rows and set(rows) == described, f"described and served differ: {set(rows) ^ described}")
    for path, method in rows:
        for other in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"} - {method}:
            answer, text = connection.ask(other, path)
            schemas.check_answer(other, path, answer, text)
            check(answer.status == 405 and answer.getheader("Allow") == method, f"{other} {path}: {answer.status}")
    for path in ("", "/", "/vm", "/vm.info/", "/VM.INFO", "/vm.create", "/vmm.shutdown", "/%76m.info"):
        answer, text = connection.ask("GET", path)
        schemas.check_answer("GET", path, answer, text)
        check(answer.status == 404, f"GET {path}: {answer.status}")


def api(bench):
    """Live answers are held to abi/ringer-api.yaml: each path, method, status and schema."""
    schemas = Schemas()
    with runtime_dir() as folder, flat(bench, folder, BUTTON, "--name", "web", "--max-cpus", "2") as web:
        wait_state(bench, "web", "running")
        path = folder / "ringer/web.sock"
        check(path.stat().st_mode & 0o777 == 0o600, "the socket's mode")
        connection, listener = Connection(path), Connection(path)
        listener.request("GET", f"{API}/vm.events")
        stream = listener.getresponse()
        lines = [stream.readline()]
        check_routes(schemas, connection)
        for method, name, body, status in (
                ("GET", "/vmm.ping", None, 200), ("GET", "/vm.info", None, 200), ("GET", "/vm.counters", None, 200),
                ("PUT", "/vm.pause", None, 204), ("PUT", "/vm.pause", None, 204), ("GET", "/vm.info", None, 200),
                ("PUT", "/vm.reboot", None, 204), ("PUT", "/vm.resume", None, 204), ("PUT", "/vm.resize", "x", 400),
                ("PUT", "/vm.resize", '{"desired_vcpus": 0}', 400), ("PUT", "/vm.resize", "[" * 3000, 400),
                ("PUT", "/vm.resize", '{"desired_vcpus": 1}', 204),
                ("PUT", "/vm.resize", '{"desired_vcpus": 2}', 204), ("PUT", "/vm.resize", "x" * 5000, 413),
                ("GET", "/vm.info?" + "x" * 200, None, 400), ("GET", "/" + "x" * 300, None, 414),
                ("GET", "/" + "x" * 9000, None, 431), ("GET", "/vmm.ping", None, 200),
                ("PUT", "/vm.power-button", None, 204)):
            answer, text = connection.ask(method, name, body)
            check(answer.status == status, f"{method} {name[:40]}: {answer.status}, not {status}")
            if status not in (414, 431) and "?" not in name:
                schemas.check_answer(method, name, answer, text)
        lines += stream.readlines()
        web.ends_with(0)
        for line in lines:
            schemas.check_line("/vm.events", line)
        events = [json.loads(line) for line in lines]
        check(any(event.get("vcpus") == 2 for event in events), f"no event of a second processor: {events}")
        events = [event["event"] for event in events if event["event"] != "cpus"]
        check(events in (["state", "paused", "reset", "resumed", "ended"],
                         ["state", "booted", "paused", "reset", "resumed", "ended"]), f"events: {events}")
    print(f"{len(schemas.checked)} kinds of answers held to their schemas")


def seconds_since_1970(guest):
    return int(guest.run("date +%s"))


def clocks(bench):
    """A guest's clocks are right after a pause, and its watchdogs say nothing."""
    with runtime_dir(), bench.linux("-m", "256M", "--cpus", "2", "--name", "web", append="watchdog_thresh=10") as guest:
        guest.shell()
        guest.run("dmesg -n 1")  # no messages between answers
        # Both processors at work: the watchdogs of idle ones sleep.
        for sums in ("/tmp/a", "/tmp/b"):
            guest.run(f"while [ ! -e /tmp/enough ]; do md5sum /bin/busybox >>{sums}; done & :")
        before = float(guest.run("cut -d' ' -f1 /proc/uptime"))
        began = time.monotonic()
        for seconds in (1, PAUSE):
            ringer(bench, "pause", "web", says="paused")
            time.sleep(seconds)
            ringer(bench, "resume", "web", says="running")
        # The guest's clock went on meanwhile; what the commands themselves take has no upper bound here.
        gone = float(guest.run("cut -d' ' -f1 /proc/uptime")) - before
        check(PAUSE + 1 <= gone <= time.monotonic() - began + 1, f"{gone} s went by for the guest")
        time.sleep(5)  # for the watchdogs to look
        low, now, high = int(time.time()) - 1, seconds_since_1970(guest), int(time.time()) + 1
        check(low <= now <= high, f"the guest's time of day is {now}, the host's {low + 1}")
        status, _ = guest.try_run("dmesg | grep -E 'soft lockup|rcu.*stall|clocksource.*unstable'")
        check(status == 1, "the guest's watchdogs barked")
        # Stop and go, without a break.
        for _ in range(40):
            ringer(bench, "pause", "web")
            ringer(bench, "resume", "web")
        guest.run("touch /tmp/enough; wait; sort -u /tmp/a /tmp/b | wc -l | grep -qx 1")
        ringer(bench, "stop", "web", says="the guest powered off")
        guest.ends_with(0)
        guest.check_restored()


def reboot_and_stop(bench):
    """vm.reboot starts the guest anew, `ringer stop` lets it power off by itself."""
    with runtime_dir() as folder, bench.linux("-m", "256M", "--name", "web") as guest:
        guest.shell()
        guest.run("echo before >/tmp/mark")
        answer, _ = Connection(folder / "ringer/web.sock").ask("PUT", "/vm.reboot")
        check(answer.status == 204, f"vm.reboot: {answer.status}")
        guest.expect(r"^Linux \S+ on ", "the guest's second start")
        guest.shell()
        status, _ = guest.try_run("test -e /tmp/mark")
        check(status == 1, "a file in memory outlived a reset")
        guest.run("until grep -q 'Power Button' /proc/bus/input/devices && [ -s /tmp/acpid.pid ]; do sleep 0.1; done")
        ringer(bench, "stop", "web", says="the guest powered off")
        guest.expect("reboot: Power down")
        guest.ends_with(0)


CASES = {
    "control-commands": commands,
    "control-errors": errors,
    "control-api": api,
    "control-clocks": clocks,
    "control-stop": reboot_and_stop,
}
