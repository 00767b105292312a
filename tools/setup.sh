# setup.sh - what ./demo and ./test share: progress, packages, guest files. Sourced, from the project's top folder.
# shellcheck shell=sh

# What building takes, and what the demonstration and the tests take on top.
build_packages='gcc libc6-dev meson ninja-build pkg-config python3 libzydis-dev libcjson-dev libcmocka-dev
	liblzma-dev libzstd-dev liblz4-dev zlib1g-dev'
guest_packages='cpio xz-utils lz4 zstd gzip'
test_packages='clang libclang-rt-dev python3-yaml python3-jsonschema'

setup_logs=build/logs
step_pid=

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "$0: $*"
	exit 1
}

setup_interrupted() {
	[ -z "$step_pid" ] || kill "$step_pid" 2>/dev/null
	[ ! -t 2 ] || printf '\n' >&2
	exit 130
}

# step WHAT COMMAND...: runs it with its output in a log, shows how long it takes (on a terminal also the log's
# last line), and on failure the end of the log.
step() {
	step_what=$1
	shift
	mkdir -p "$setup_logs"
	step_log=$setup_logs/$(printf '%s' "$step_what" | tr -cs 'A-Za-z0-9' '-').log
	"$@" >"$step_log" 2>&1 </dev/null &
	step_pid=$!
	trap setup_interrupted INT TERM HUP
	step_began=$(date +%s) step_said=0
	while kill -0 "$step_pid" 2>/dev/null; do
		sleep 0.2
		step_seconds=$(($(date +%s) - step_began))
		[ "$step_seconds" -ge 1 ] || continue
		if [ -t 2 ]; then
			printf '\r\033[K%s, %d s  %.50s' "$step_what" "$step_seconds" \
				"$(tail -n 1 "$step_log" | tr -d '\000-\037')" >&2
		elif [ "$step_seconds" -ge "$step_said" ]; then
			say "$step_what, $step_seconds s ..."
			step_said=$((step_seconds + 10))
		fi
	done
	step_rc=0
	wait "$step_pid" || step_rc=$?
	step_pid=
	trap - INT TERM HUP
	[ ! -t 2 ] || printf '\r\033[K' >&2
	if [ "$step_rc" -ne 0 ]; then
		say "$step_what: failed. The end of $step_log:"
		tail -n 30 "$step_log" >&2
		return 1
	fi
	say "$step_what: done, $(($(date +%s) - step_began)) s"
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		env DEBIAN_FRONTEND=noninteractive "$@"
	else
		sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages NAME...: installs those that are missing, asking nothing.
need_packages() {
	command -v apt-get >/dev/null || die 'needs Debian (no apt-get here)'
	missing=
	for package in "$@"; do
		installed "$package" || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
		die "missing packages, and sudo would ask for a password. Install them first: apt-get install$missing"
	fi
	# shellcheck disable=SC2086
	if ! apt-cache show $missing >/dev/null 2>&1; then
		step 'Reading package lists' as_root apt-get update || exit 1
	fi
	# Lists that have grown old name versions that are gone: read them anew, once.
	# shellcheck disable=SC2086
	step "Installing$missing" as_root apt-get install -y --no-install-recommends $missing && return 0
	step 'Reading package lists again' as_root apt-get update || exit 1
	# shellcheck disable=SC2086
	step "Installing$missing" as_root apt-get install -y --no-install-recommends $missing || exit 1
}

# guest_files DIR: the stock kernel, busybox, the initramfs and the unpacked kernel, made once.
guest_files() {
	if [ ! -s "$1/vmlinuz" ] || [ ! -s "$1/busybox" ] || [ ! -s "$1/modules/button.ko" ]; then
		apt-cache show linux-image-cloud-amd64 busybox-static >/dev/null 2>&1 ||
			step 'Reading package lists' as_root apt-get update || exit 1
		if ! step "Fetching Debian's stock kernel and busybox" tools/fetch-guest.sh "$1"; then
			step 'Reading package lists again' as_root apt-get update || exit 1
			step "Fetching Debian's stock kernel and busybox" tools/fetch-guest.sh "$1" || exit 1
		fi
	fi
	if [ ! -s "$1/initrd" ] || [ tools/mkinitramfs.sh -nt "$1/initrd" ] || [ tools/guest-init -nt "$1/initrd" ]; then
		step 'Making the initramfs' tools/mkinitramfs.sh "$1/busybox" "$1/initrd" "$1/modules" || exit 1
	fi
	if [ ! -s "$1/vmlinux" ] || [ "$1/vmlinuz" -nt "$1/vmlinux" ]; then
		step 'Unpacking the kernel' tools/extract-vmlinux.py "$1/vmlinuz" "$1/vmlinux" || exit 1
	fi
}

# build DIR TARGETS SETUP-OPTION...: configures once, then compiles; TARGETS may be ''. CC is the compiler.
build() {
	build_dir=$1 build_targets=$2
	shift 2
	if [ ! -f "$build_dir/build.ninja" ]; then
		step "Configuring $build_dir" meson setup "$build_dir" . "$@" || return 1
	fi
	# shellcheck disable=SC2086
	step "Building $build_dir" ninja -C "$build_dir" $build_targets
}
