#!/usr/bin/env python3
"""images.py DIR: writes tiny kernel images, whole ones and broken ones, into DIR.

DIR/expected.tsv lists each broken file with words that the refusal must contain, so that a test can give
every file to the command. With --seeds the files are fuzzer inputs instead: the harness's control byte
goes in front, and there is no list. Nothing here is random: the same files come out every time.
"""
import gzip
import lzma
import os
import struct
import sys


def elf64(entry=0x1000010, paddr=0x1000000, filesz=0x200, memsz=0x3000, machine=62, etype=2, phnum=1,
          ptype=1, offset=0x1000):
    header = struct.pack('<4sBBB9xHHIQQQIHHHHHH', b'\x7fELF', 2, 1, 1, etype, machine, 1, entry, 64, 0, 0,
                         64, 56, phnum, 0, 0, 0)
    segment = struct.pack('<IIQQQQQQ', ptype, 7, offset, 0xffffffff81000000, paddr, filesz, memsz, 0x1000)
    code = b'\xf4\xeb\xfd' + bytes(i * 7 & 255 for i in range(0x200 - 3))
    return (header + segment).ljust(0x1000, b'\0') + code


def pvh_elf(entry=0x1000020):
    image = bytearray(elf64(phnum=2))
    image[120:176] = struct.pack('<IIQQQQQQ', 4, 4, 0x800, 0, 0, 20, 20, 4)
    image[0x800:0x814] = struct.pack('<III4sI', 4, 4, 18, b'Xen\0', entry)
    return bytes(image)


def bzimage(payload, version=0x20f, loadflags=1, xloadflags=3, boot_flag=0xaa55, payload_offset=0x400,
            payload_length=None, pref=0x1000000, init_size=0x20000):
    setup = bytearray(1024)
    setup[0x1f1] = 1
    struct.pack_into('<H', setup, 0x1fe, boot_flag)
    setup[0x200:0x202] = b'\xeb\x6a'
    setup[0x202:0x206] = b'HdrS'
    struct.pack_into('<H', setup, 0x206, version)
    setup[0x211] = loadflags
    struct.pack_into('<I', setup, 0x22c, 0x7fffffff)
    struct.pack_into('<IBxH', setup, 0x230, 0x200000, 1, xloadflags)
    setup[0x234] = 1
    struct.pack_into('<H', setup, 0x236, xloadflags)
    struct.pack_into('<I', setup, 0x238, 2047)
    struct.pack_into('<II', setup, 0x248, payload_offset,
                     len(payload) if payload_length is None else payload_length)
    struct.pack_into('<QI', setup, 0x258, pref, init_size)
    return bytes(setup) + b'\xf4' * 0x400 + payload


def multiboot(flags=0x10000, load=0x100000, entry=0x100020, load_end=0, bss_end=0, magic=0x1badb002):
    check = -(magic + flags) & 0xffffffff
    return struct.pack('<8I', magic, flags, check, load, load, load_end, bss_end, entry) + b'\xf4\xeb\xfd' * 8


def multiboot_elf32():
    header = struct.pack('<4sBBB9xHHIIIIIHHHHHH', b'\x7fELF', 1, 1, 1, 2, 3, 1, 0x40000c, 52, 0, 0, 52, 32,
                         1, 0, 0, 0)
    segment = struct.pack('<8I', 1, 0x100, 0x400000, 0x400000, 0x40, 0x8000, 7, 0x1000)
    return (header + segment).ljust(0x100, b'\0') + struct.pack('<III', 0x1badb002, 0, 0xe4524ffe) + \
        b'\xf4\xeb\xfd'.ljust(0x34, b'\x90')


def with_size(stream, data):
    return stream + struct.pack('<I', len(data))


def payloads():
    elf = elf64()
    return {
        'gzip': gzip.compress(elf, 9, mtime=0),
        'xz': with_size(lzma.compress(elf, check=lzma.CHECK_CRC32), elf),
        'lzma': with_size(lzma.compress(elf, format=lzma.FORMAT_ALONE), elf),
        'none': with_size(elf, elf),
        'bzip2': with_size(b'BZh91AY&SY', elf),
    }


def good():
    files = {'bzimage-' + k: bzimage(v) for k, v in payloads().items()}
    files.update({'vmlinux': elf64(), 'pvh': pvh_elf(), 'multiboot': multiboot(),
                  'multiboot-elf32': multiboot_elf32()})
    return files


def broken():
    gz = payloads()['gzip']
    xz = payloads()['xz']
    whole = bzimage(gz)
    bad_xz = bytearray(xz)
    bad_xz[len(xz) // 2] ^= 0x55
    return {
        'empty': (b'', 'is empty'),
        'one-byte': (b'x', 'truncated or no kernel'),
        'text': (b'not a kernel\n' * 100, 'not a kernel'),
        'zeros': (bytes(4096), 'not a kernel'),
        'script': (b'#!/bin/sh\n'.ljust(4096, b' '), 'script'),
        'gzip-file': (gzip.compress(elf64(), mtime=0), 'gunzip'),
        'cpio': (b'070701'.ljust(4096, b'0'), '--initrd'),
        'arm64': (b'MZ'.ljust(0x38, b'\0') + b'ARM\x64'.ljust(4096, b'\0'), 'arm64'),
        'efi': (b'MZ'.ljust(4096, b'\0'), 'without a Linux boot header'),
        'qcow2': (b'QFI\xfb'.ljust(4096, b'\0'), 'qcow2'),
        'boot-sector': (bytes(510) + b'\x55\xaa' + bytes(4096), 'boot sector'),
        'bz-truncated-header': (whole[:0x240], 'truncated'),
        'bz-truncated-setup': (whole[:1000], 'truncated'),
        'bz-truncated-payload': (whole[:-40], 'truncated'),
        'bz-payload-beyond': (bzimage(gz, payload_offset=0xfffffff0), 'truncated'),
        'bz-payload-tiny': (bzimage(gz, payload_length=4), 'damaged'),
        'bz-payload-damaged': (bzimage(bytes(bad_xz)), 'damaged'),
        'bz-payload-no-elf': (bzimage(gzip.compress(b'x' * 5000, mtime=0)), 'does not hold an ELF'),
        'bz-payload-bomb': (bzimage(gz[:-4] + b'\xff\xff\xff\x7f'), 'does not fit'),
        'bz-size-lies': (bzimage(gz[:-4] + struct.pack('<I', len(elf64()) + 1)), 'damaged'),
        'bz-old': (bzimage(gz, version=0x204), 'too old'),
        'bz-32bit': (bzimage(gz, xloadflags=0), '32-bit kernel'),
        'bz-zimage': (bzimage(gz, loadflags=0), 'zImage'),
        'bz-signature': (bzimage(gz, boot_flag=0x1234), 'signature'),
        'bz-huge': (bzimage(payloads()['bzip2'], init_size=0xfffff000), 'does not fit'),
        'bz-low': (bzimage(payloads()['bzip2'], pref=0x1000), 'below 1 MiB'),
        'elf-truncated-header': (elf64()[:50], 'truncated'),
        'elf-truncated-segment': (elf64()[:-1], 'truncated'),
        'elf-no-segments': (elf64(phnum=0), 'program headers'),
        'elf-many-segments': (elf64(phnum=0xffff), 'program headers'),
        'elf-arm64': (elf64(machine=183), 'arm64'),
        'elf-object': (elf64(etype=1), 'object file'),
        'elf-core': (elf64(etype=4), 'core dump'),
        'elf-program': (elf64(ptype=3), 'ordinary program'),
        'elf-entry': (elf64(entry=0x100), 'entry point'),
        'elf-wraps': (elf64(memsz=0xffffffffffffff00), 'wraps'),
        'elf-huge': (elf64(memsz=0x70000000), 'not RAM'),
        'elf-hole': (elf64(entry=0xa0010, paddr=0xa0000), 'not RAM'),
        'elf-overlap': (elf64(entry=0x7010, paddr=0x7000), 'overlaps'),
        'elf-memsz': (elf64(memsz=0x10), 'larger in the file'),
        'pvh-entry': (pvh_elf(entry=0x10), 'PVH entry point'),
        'mb-features': (multiboot(flags=0x10010), 'requires features'),
        'mb-no-addresses': (multiboot(flags=0), 'neither ELF'),
        'mb-truncated': (multiboot(load_end=0x200000), 'truncated'),
        'mb-entry': (multiboot(entry=0x300000), 'entry point'),
        'mb-bss': (multiboot(bss_end=0x100001), 'bss'),
        'mb-hole': (multiboot(load=0xa0000, entry=0xa0020), 'not RAM'),
    }


def main():
    args = [a for a in sys.argv[1:] if a != '--seeds']
    seeds = '--seeds' in sys.argv
    if len(args) != 1:
        sys.exit(__doc__)
    os.makedirs(args[0], exist_ok=True)
    files = dict(good())
    files.update({k: v[0] for k, v in broken().items()})
    for name, data in files.items():
        with open(os.path.join(args[0], name), 'wb') as f:
            f.write((b'\0' if seeds else b'') + data)
    if not seeds:
        with open(os.path.join(args[0], 'expected.tsv'), 'w') as f:
            for name, (_, words) in broken().items():
                f.write('%s\t%s\n' % (name, words))


main()
