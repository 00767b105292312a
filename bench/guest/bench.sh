#!/bin/busybox sh
# shellcheck shell=dash disable=SC2016
# bench.sh ROW,ROW... - runs rows of the benchmark in the guest's tree, the same way in a machine (from init) and on the
# host (under chroot). `bench.sh all` runs every row. Lines of result are those of mb (main.c), and
#	CHECK row value		what the row computed: the same on every machine
# BENCH_ROOT, for a host without chroot, is where the tree is: then only the rows whose programs are static work.
bb=$BENCH_ROOT/bin/busybox
mb=$BENCH_ROOT/usr/bin/mb
cd "${BENCH_TMP:-/tmp}" || exit 1
all="$($mb list) sh.loop300k sys.forkexec
	ossl.sha256 ossl.md5 ossl.aes128cbc ossl.aes128gcm ossl.chacha20 ossl.rsa2048sign
	zstd9.16m unzstd.8x16m xz9.4m perl python gcc.O2"

hash() { $bb sha256sum | $bb cut -c1-16; }

check() { echo "CHECK $1 $2"; }

info() {
	echo "INFO kernel $($bb uname -r) cpus $($bb grep -c '^processor' /proc/cpuinfo)"
	echo "INFO model $($bb grep -m1 'model name' /proc/cpuinfo | $bb cut -d: -f2)"
	echo "INFO clock $($bb cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)"
	echo "INFO flags $($bb grep -m1 '^flags' /proc/cpuinfo | $bb tr ' ' '\n' | $bb grep -E -x \
		'avx|avx2|avx512f|fma|aes|sha_ni|pclmulqdq|bmi2|adx|erms|fsgsbase|vaes|vpclmulqdq|pti' | $bb tr '\n' ' ')"
}

# Hundredths of a second, into $now: without a process of its own, whose start would count.
uptime() {
	read -r now _ </proc/uptime
	now=${now%.*}${now#*.}
}

# ossl ROW ALGORITHM UNIT DIVISOR: openssl's own measurement, two seconds of it.
ossl() {
	uptime
	began=$now
	echo "RUN $1"
	# shellcheck disable=SC2086
	rate=$(openssl speed -elapsed -mr -seconds 2 -bytes 16384 $2 2>/dev/null |
		$bb awk -F: -v d="$4" '/^[+]F/ { x = $4 } END { if (x) printf "%.4g", x / d }')
	uptime
	took=$((now - began))
	if [ -z "$rate" ]; then
		echo "FAIL $1 no rate"
	else
		printf 'BENCH %s %s %s %d.%02d -\n' "$1" "$rate" "$3" $((took / 100)) $((took % 100))
	fi
}

# ossl_check ROW COMMAND...: what an algorithm makes of some data, since `openssl speed` shows no result.
ossl_check() {
	row=$1
	shift
	[ -s plain ] || $mb gen-data plain 1
	check "$row" "$(openssl "$@" <plain | hash)"
}

zeros=00000000000000000000000000000000

need_data() {
	[ -s data ] || $mb gen-data data 16
}

zstd_row() {
	need_data
	$mb time "$1" /dev/null zstd -9 --single-thread -q -f data -o data.zst
	check "$1" "$(hash <data.zst)"
}

# The frame has a hash of its contents, which zstd -t checks.
unzstd_row() {
	need_data
	[ -s data.zst ] || zstd -9 --single-thread -q -f data -o data.zst
	$mb time "$1" /dev/null zstd -t -q data.zst data.zst data.zst data.zst data.zst data.zst data.zst data.zst
	check "$1" "$(zstd -d -q -c data.zst | hash)"
}

xz_row() {
	need_data
	$bb head -c 4194304 data >small
	$mb time "$1" /dev/null xz -9 -T1 -k -f small
	check "$1" "$(hash <small.xz)"
}

gcc_row() {
	$mb gen-source s.c 150
	$mb time "$1" /dev/null gcc -O2 -c s.c -o s.o
	check "$1" "$(hash <s.o)"
}

printed_row() {
	printed=$1
	shift
	$mb time "$printed" printed "$@"
	check "$printed" "$($bb tr ' ' _ <printed)"
}

run_row() {
	case $1 in
	sh.loop300k) $mb time "$1" /dev/null "$bb" ash -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' ;;
	sys.forkexec) $mb forkexec ;;
	ossl.sha256)
		ossl "$1" "-evp sha256" MB/s 1000000
		ossl_check "$1" dgst -sha256
		;;
	ossl.md5)
		ossl "$1" "-evp md5" MB/s 1000000
		ossl_check "$1" dgst -md5
		;;
	ossl.aes128cbc)
		ossl "$1" "-evp aes-128-cbc" MB/s 1000000
		ossl_check "$1" enc -aes-128-cbc -K $zeros -iv $zeros
		;;
	ossl.aes128gcm) ossl "$1" "-evp aes-128-gcm" MB/s 1000000 ;;
	ossl.chacha20)
		ossl "$1" "-evp chacha20" MB/s 1000000
		ossl_check "$1" enc -chacha20 -K $zeros$zeros -iv $zeros
		;;
	ossl.rsa2048sign) ossl "$1" rsa2048 sign/s 1 ;;
	zstd9.16m) zstd_row "$1" ;;
	unzstd.8x16m) unzstd_row "$1" ;;
	xz9.4m) xz_row "$1" ;;
	perl) printed_row "$1" perl /root/work.pl ;;
	python) printed_row "$1" python3.11 -S -E /root/work.py ;;
	gcc.O2) gcc_row "$1" ;;
	*) echo "FAIL $1 no such row" ;;
	esac
}

# The rows in C that follow each other share a process, and the memory it has mapped by then.
micro=
run_micro() {
	# shellcheck disable=SC2086
	[ -z "$micro" ] || $mb run $micro || echo "mb: status $?"
	micro=
}

rows=${1:-all}
[ "$rows" != all ] || rows=$all
info
for row in $(echo "$rows" | $bb tr ',' ' '); do
	if $mb list | $bb grep -qxF "$row"; then
		micro="$micro $row"
	else
		run_micro
		run_row "$row"
	fi
done
run_micro
cd /
