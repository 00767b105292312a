#!/bin/sh
# Makes a small initramfs around a static busybox.
#	mkinitramfs.sh BUSYBOX OUTPUT [MODULES]	modules of the guest's kernel, from a folder
set -eu
busybox=$1 output=$2 modules=${3-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d "${TMPDIR:-/tmp}/initramfs.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM HUP

chmod 755 "$root"
for dir in bin sbin dev proc sys tmp root etc; do
	mkdir "$root/$dir"
done
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
	case $applet in
	busybox) continue ;;
	esac
	ln -s busybox "$root/bin/$applet"
done
if [ -n "$modules" ]; then
	mkdir -p "$root/lib/modules"
	cp "$modules"/*.ko "$root/lib/modules/"
	chmod 644 "$root"/lib/modules/*
fi
# What busybox's acpid does when the power button is pressed.
mkdir -p "$root/etc/acpi/PWRF"
printf '#!/bin/sh\n/bin/poweroff\n' >"$root/etc/acpi/PWRF/00000080"
chmod 755 "$root/etc/acpi/PWRF/00000080"
cp "$here/guest-init" "$root/init"
chmod 755 "$root/init"
# No device nodes, which only root could make: the kernel's own built-in archive has /dev/console.
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$output.new"
mv "$output.new" "$output"
