#!/usr/bin/env python3
"""Unpacks the ELF kernel out of a bzImage, with the host's own unpackers.

    extract-vmlinux.py BZIMAGE OUTPUT

The setup header (Documentation/arch/x86/boot.rst) says where the payload lies: payload_offset, from the start of
the protected-mode code, and payload_length, which counts the unpacked size that the kernel's build appends.
"""
import struct
import subprocess
import sys

UNPACKERS = {
    b"\xfd7zXZ\0": ["xz", "-dc", "--single-stream"],
    b"\x02\x21\x4c\x18": ["lz4", "-dc"],
    b"\x28\xb5\x2f\xfd": ["zstd", "-dc"],
    b"\x1f\x8b": ["gzip", "-dc"],
}


def fail(text):
    sys.exit(f"{sys.argv[0]}: {text}")


def payload_of(image):
    """The compressed payload without the appended size, and that size."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start:start + length]
    return payload[:-4], struct.unpack("<I", payload[-4:])[0]


def main():
    source, target = sys.argv[1:3]
    with open(source, "rb") as f:
        image = f.read()
    if image[0x202:0x206] != b"HdrS":
        fail(f"{source}: no bzImage")
    payload, size = payload_of(image)
    command = next((c for magic, c in UNPACKERS.items() if payload.startswith(magic)), None)
    if command is None:
        fail(f"{source}: unknown compression, starts with {payload[:6].hex()}")
    unpacked = subprocess.run(command, input=payload, check=True, capture_output=True).stdout
    if unpacked[:4] != b"\x7fELF" or len(unpacked) != size:
        fail(f"{source}: the payload does not unpack to an ELF file of {size} bytes")
    with open(target, "wb") as f:
        f.write(unpacked)


if __name__ == "__main__":
    main()
