"""Kernel images made up byte by byte, for tests and for the fuzzers' seeds: they would load, not run."""
import struct
import subprocess

PAGE = 4096


def bzimage(setup_sectors=4, protocol=0x020F, loadflags=1, xloadflags=3, payload=b"", length=None, offset=None,
            magic=b"HdrS", boot_flag=0xAA55, code=PAGE, init_size=1 << 24):
    """A bzImage's header over nothing that would run; see Documentation/arch/x86/boot.rst for the fields."""
    image = bytearray((setup_sectors + 1) * 512 + code)
    struct.pack_into("<BHI", image, 0x1F1, setup_sectors, 0, (code + len(payload)) // 16)
    struct.pack_into("<H", image, 0x1FE, boot_flag)
    struct.pack_into("<H", image, 0x200, 0x66EB)
    image[0x202:0x206] = magic
    struct.pack_into("<H", image, 0x206, protocol)
    image[0x211] = loadflags
    struct.pack_into("<I", image, 0x214, 0x100000)
    struct.pack_into("<I", image, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<IBBH", image, 0x230, 0x200000, 1, 21, xloadflags)
    struct.pack_into("<I", image, 0x238, 2047)
    struct.pack_into("<II", image, 0x248, code if offset is None else offset,
                     len(payload) if length is None else length)
    struct.pack_into("<QI", image, 0x258, 0x1000000, init_size)
    return bytes(image) + payload


def elf(machine=62, bits=2, data=1, kind=2, phoff=64, phentsize=56, phnum=1, segment=None, body=b"\x90" * 64):
    """An ELF file with one loadable segment at 16 MiB."""
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", bits, data, 1, 0, kind, machine, 1, 0x1000000, phoff,
                         0, 0, 64, phentsize, phnum, 0, 0, 0)
    offset, address, filesz, memsz = segment or (PAGE, 0x1000000, len(body), len(body))
    program = struct.pack("<IIQQQQQQ", 1, 5, offset, address, address, filesz, memsz, PAGE)
    return (header + program).ljust(PAGE, b"\0") + body


def packed(data, how):
    """data as a bzImage's payload: compressed as the kernel's build does it, its size appended."""
    command = {"xz": ["xz", "-c", "--check=crc32"], "lz4": ["lz4", "-l", "-c"], "zstd": ["zstd", "-c"],
               "gzip": ["gzip", "-nc"]}[how]
    done = subprocess.run(command, input=data, check=True, capture_output=True)
    return done.stdout + struct.pack("<I", len(data))


def multiboot(flags=0x10003):
    """A flat multiboot 1 image with the address fields."""
    header = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    return (header + struct.pack("<IIIII", 0x100000, 0x100000, 0, 0, 0x100020)).ljust(256, b"\xf4")
