#!/bin/sh
# Fetches Debian's stock cloud kernel and a static busybox into a folder, installing neither.
#	fetch-guest.sh DIR	makes DIR/vmlinuz, DIR/busybox, DIR/modules/ and DIR/versions
# Of the kernel's modules it keeps those by which a guest hears of its power button.
# Needs apt's package lists, no privilege.
set -eu
mkdir -p "$1"
cd "$1"
work=$(mktemp -d "$PWD/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
cd "$work"

kernel=$(apt-cache depends --important linux-image-cloud-amd64 |
	sed -n 's/^ *|\{0,1\}Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo 'apt knows no linux-image-cloud-amd64 (run apt-get update?)' >&2; exit 1; }
echo "Downloading $kernel and busybox-static"
apt-get download "$kernel" busybox-static
echo "Unpacking"
dpkg-deb -x linux-image-*.deb kernel
dpkg-deb -x busybox-static_*.deb busybox
for deb in *.deb; do
	dpkg-deb -W "$deb"
done >versions
mv busybox/bin/busybox ../busybox
mv kernel/boot/vmlinuz-* ../vmlinuz
mkdir -p ../modules
for module in acpi/button input/evdev; do
	mv kernel/lib/modules/*/kernel/drivers/$module.ko ../modules/
done
mv versions ../versions
