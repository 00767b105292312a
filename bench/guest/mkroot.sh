#!/bin/sh
# Makes the benchmark guest's files from Debian 12's packages (downloaded and unpacked, not installed) and the programs
# here, as a tree for chroot and as two initramfs images.
#	mkroot.sh BUSYBOX DIR	makes DIR/root, DIR/bench.cpio and DIR/boot.cpio.gz; DIR/debs keeps the packages
# Needs apt's package lists, gcc, libc6-dev and cpio; no privilege.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
busybox=$(realpath "$1")
mkdir -p "$2/debs"
out=$(cd "$2" && pwd)

packages='coreutils libc6 libselinux1 libacl1 libattr1 libgmp10 libpcre2-8-0
	openssl libssl3 xz-utils liblzma5 zstd libzstd1 liblz4-1 zlib1g libgcc-s1 libstdc++6
	perl-base libcrypt1 python3.11-minimal libpython3.11-minimal libexpat1
	gcc-12 cpp-12 binutils-x86-64-linux-gnu libbinutils libctf0 libctf-nobfd0 libjansson4
	libmpfr6 libmpc3 libisl23'

archive() {
	find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0
}

cd "$out/debs"
for package in $packages; do
	set -- "$package"_*.deb
	[ -s "$1" ] && continue
	echo "Downloading $package"
	apt-get -q download "$package" || { echo "no $package: this is written for Debian 12" >&2; exit 1; }
done

# Built beside, and moved into place when whole.
new=$out/root.new
rm -rf "$new"
mkdir "$new"
trap 'rm -rf "$new" "$out/boot.new"' EXIT
trap 'exit 130' INT TERM HUP
cd "$new"
for package in $packages; do
	echo "Unpacking $package"
	dpkg-deb -x "$out/debs/$package"_*.deb .
done

# Debian 12 has /bin, /lib, ... as links into /usr: what was unpacked into them moves there.
for dir in bin sbin lib lib64; do
	mkdir -p "usr/$dir"
	if [ -d "$dir" ] && [ ! -L "$dir" ]; then
		cp -a "$dir/." "usr/$dir/"
		rm -rf "$dir"
	fi
	ln -s "usr/$dir" "$dir"
done

echo "Leaving out what no row needs"
gcc_lib=usr/lib/gcc/x86_64-linux-gnu/12
libs=usr/lib/x86_64-linux-gnu
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug usr/share/zsh \
	usr/share/bash-completion usr/share/gcc usr/share/gdb usr/include var/cache $libs/gprofng $libs/gconv \
	$gcc_lib/plugin
rm -f $gcc_lib/lto1 $gcc_lib/lto-wrapper $gcc_lib/g++-mapper-server usr/bin/*-lto-dump-* usr/bin/lto-dump-* \
	usr/bin/x86_64-linux-gnu-gprof* usr/bin/x86_64-linux-gnu-dwp usr/bin/x86_64-linux-gnu-ld.gold \
	usr/bin/x86_64-linux-gnu-gold $libs/libasan* $libs/libtsan*
ln -sf x86_64-linux-gnu-gcc-12 usr/bin/gcc
ln -sf x86_64-linux-gnu-as usr/bin/as
mkdir -p proc sys dev tmp etc root usr/include

echo "Compiling the micro-benchmarks"
mkdir -p "$out/mb"
for source in "$here"/*.c; do
	name=$(basename "$source" .c)
	set --
	# Calls are what this one measures.
	[ "$name" != control ] || set -- -fno-inline-functions -fno-optimize-sibling-calls
	gcc -std=gnu11 -O2 -Wall -Wextra -fno-tree-vectorize "$@" -c "$source" -o "$out/mb/$name.o"
done
gcc -static -pthread "$out"/mb/*.o -lm -o usr/bin/mb
cp "$busybox" usr/bin/busybox
cp "$here/init" init
cp "$here/bench.sh" bench.sh
cp "$here/work.pl" "$here/work.py" root/
chmod 755 init bench.sh usr/bin/busybox

echo "Making the images"
archive >"$out/bench.cpio.new"
rm -rf "$out/root" "$out/boot.new"
mv "$new" "$out/root"

mkdir -p "$out/boot.new/bin" "$out/boot.new/dev" "$out/boot.new/proc"
cd "$out/boot.new"
cp "$busybox" bin/busybox
cp "$here/init.boot" init
chmod 755 init bin/busybox
archive | gzip -9n >"$out/boot.cpio.gz"
# Last: it says that all is there.
mv "$out/bench.cpio.new" "$out/bench.cpio"
