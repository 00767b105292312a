"""The command lines of those compared: the bare host, Ringer's engines, QEMU's TCG and User Mode Linux."""
import os
import shutil
import subprocess
from pathlib import Path

MEMORY_MIB = 1024
CONSOLE = "console=ttyS0 quiet panic=-1"

# The same programs in the same tree on the host. $0 is the tree, $1 bench.sh's argument. The mounts are in a namespace of
# their own and go with it.
CHROOT = """for dir in proc sys dev; do mount --rbind /$dir "$0/$dir" || exit 1; done
mount -t tmpfs tmp "$0/tmp" || exit 1
exec env -i PATH=/usr/bin:/bin HOME=/root BENCH_SECS="$BENCH_SECS" "$(command -v chroot || echo /usr/sbin/chroot)" \\
    "$0" /bin/busybox sh /bench.sh "$1\""""
# Without chroot the tree's static programs run where they are; the others would find the host's libraries.
STATIC_PATTERNS = ("int.", "call.", "ind.", "jit.", "mem.", "fp.", "sys.", "mt.", "sh.")
STATIC = """mkdir -p "$0/../native-tmp" && exec env -i PATH=/usr/bin:/bin BENCH_SECS="$BENCH_SECS" BENCH_ROOT="$0" \\
    BENCH_TMP="$0/../native-tmp" "$0/bin/busybox" sh "$0/bench.sh" "$1\""""


class Monitor:
    """One column. A subclass makes the command for a run; what cannot run here raises Unavailable."""
    boots = True        # has a start to measure
    note = ""

    def __init__(self, name):
        self.name = name
        self.env = dict(os.environ)

    def rows(self, rows):
        return rows


class Unavailable(Exception):
    pass


class Native(Monitor):
    boots = False

    def __init__(self, images, seconds):
        super().__init__("native")
        self.root, self.env["BENCH_SECS"] = str(Path(images, "root").resolve()), str(seconds)
        self.static = False
        for self.prefix in (["unshare", "-m"], ["unshare", "-r", "-m"]):
            probe = [*self.prefix, "sh", "-c", CHROOT.replace('"$0" /bin/busybox sh /bench.sh "$1"',
                                                              '"$0" /bin/busybox true'), self.root]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                break
        else:
            self.static, self.prefix = True, []
            self.note = "no chroot possible here (neither root nor user namespaces): static programs only"

    def rows(self, rows):
        return [r for r in rows if not self.static or r.startswith(STATIC_PATTERNS)]

    def command(self, _image, rows):
        return [*self.prefix, "sh", "-c", STATIC if self.static else CHROOT, self.root, ",".join(rows)]

    def version(self):
        return f"Linux {os.uname().release}"


class Machine(Monitor):
    """Whatever boots an image: {image: path}, the kernel's command line ends with what to run."""

    def __init__(self, name, program, images, seconds):
        super().__init__(name)
        if not shutil.which(program):
            raise Unavailable(f"no {program}")
        self.program, self.images, self.seconds = program, Path(images), seconds

    def append(self, rows):
        return f" bench={','.join(rows)} bsecs={self.seconds}" if rows else ""

    def first_line(self, *argv):
        out = subprocess.run([self.program, *argv], capture_output=True, text=True, check=False).stdout
        return out.partition("\n")[0].strip()


class Ringer(Machine):
    def __init__(self, program, engine, extra, kernel, images, seconds):
        super().__init__("ringer" if engine == "default" else f"ringer-{engine}", program, images, seconds)
        self.kernel, self.extra = kernel, [*([] if engine == "default" else ["--engine", engine]), *extra]

    def command(self, image, rows):
        return [self.program, "run", "--kernel", str(self.kernel), "--initrd", str(self.images / image),
                "-m", f"{MEMORY_MIB}M", "--append", CONSOLE + self.append(rows), *self.extra]

    def version(self):
        return self.first_line("version")


class Qemu(Machine):
    def __init__(self, program, kernel, images, seconds):
        super().__init__("qemu", program, images, seconds)
        self.kernel = kernel

    def command(self, image, rows):
        return [self.program, "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(MEMORY_MIB),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
                "-kernel", str(self.kernel), "-initrd", str(self.images / image),
                "-append", CONSOLE + self.append(rows)]

    def version(self):
        return self.first_line("--version") + ", TCG"


class Uml(Machine):
    """pinned: all its processes on one processor. A guest's system call is a switch from one process to another, which
    costs several times more when they sit on two, as they do when the host has processors to spare."""

    def __init__(self, program, pinned, images, seconds):
        super().__init__("uml-pinned" if pinned else "uml", program, images, seconds)
        self.env["TMPDIR"] = "/dev/shm"     # where its memory is a file
        self.pin = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if pinned else []

    def command(self, image, rows):
        return [*self.pin, self.program, f"mem={MEMORY_MIB}M", f"initrd={self.images / image}", "con0=null,fd:1", "con=null",
                "ssl=null", "quiet", *self.append(rows).split()]

    def version(self):
        return "User Mode Linux " + self.first_line("--version")
