"""The rows of the benchmark, how they are grouped, and what Ringer sets itself as bounds."""
import fnmatch
import math

# key: (title, bound on the geometric mean of times-slower-than-native or None, rows)
GROUPS = {
    "int": ("integer, calls, indirect jumps", 2.0,
            "int.matrix int.list int.crc int.state int.mix int.sort call.fib ind.vm ind.call".split()),
    "fp": ("vector, floating point, crypto", 1.2,
           "fp.nbody fp.daxpy_sse2 fp.daxpy_avx2 fp.x87 ossl.sha256 ossl.md5 ossl.aes128cbc ossl.aes128gcm "
           "ossl.chacha20 ossl.rsa2048sign".split()),
    "mem": ("memory", 1.3, "mem.chase64m mem.memcpy mem.repmovsq mem.sum64".split()),
    "apps": ("perl, python, gcc, xz, zstd, shell", 2.2,
             "sh.loop300k zstd9.16m unzstd.8x16m xz9.4m perl python gcc.O2".split()),
    "sys": ("system calls, faults, signals, processes", None,
            "sys.getppid sys.pipe sys.fault sys.signal sys.forkexec".split()),
    "jit": ("code rewritten all the time", None, ["jit.smc"]),
    "mt": ("two threads", None, "mt.int1 mt.int2 mt.atomic2".split()),
}
# Rows with a bound of their own.
ROW_BOUND = {"sys.getppid": 1.5, "sys.fault": 2.5, "sys.signal": 2.5, "sys.pipe": 2.5, "sys.forkexec": 2.5,
             "jit.smc": 20}
ALL_BOUND = 1.8         # geometric mean of all rows
BOOT_BOUND = 1.0        # seconds from start to the first line of user space, small image
MEMORY_BOUND = 200      # MiB beyond the guest's own, on the whole run

# The order in which they run: the C programs first, then whole programs.
ORDER = [row for key in ("int", "jit", "mem", "fp", "sys", "mt", "apps") for row in GROUPS[key][2]]


def select(wanted):
    """Rows for a comma-separated list of rows, groups and patterns (int.*); raises ValueError."""
    if not wanted:
        return ORDER
    chosen = set()
    for word in wanted.split(","):
        found = GROUPS[word][2] if word in GROUPS else fnmatch.filter(ORDER, word)
        if not found:
            raise ValueError(f"no row or group '{word}'; groups: {' '.join(GROUPS)}; rows: {' '.join(ORDER)}")
        chosen.update(found)
    return [row for row in ORDER if row in chosen]


def smaller_is_better(unit):
    return unit.split("/")[0] in ("ns", "us", "ms", "s")


def slowdown(unit, value, base):
    """How many times slower than base; None when it cannot be said."""
    if not value or not base:
        return None
    return value / base if smaller_is_better(unit) else base / value


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None
