#!/bin/sh
# Compiles every header alone, twice included, with each compiler that is there: a header names what it uses
# and has a guard.
#	check-headers.sh SOURCE_DIR
set -u
cd "${1:-.}" || exit 1
flags='-std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes
	-Wpointer-arith -Wvla -Wno-unused-parameter -Werror -fsyntax-only -Isrc -Iabi'
compilers= failed=0 count=0
for cc in gcc clang; do
	command -v "$cc" >/dev/null 2>&1 && compilers="$compilers $cc"
done
[ -n "$compilers" ] || { echo "neither gcc nor clang is here"; exit 1; }
for header in $(find src abi -name '*.h' 2>/dev/null | sort); do
	count=$((count + 1))
	name=${header#src/}
	name=${name#abi/}
	for cc in $compilers; do
		# shellcheck disable=SC2086
		if ! printf '#include "%s"\n#include "%s"\n' "$name" "$name" | $cc $flags -x c -; then
			echo "$header: does not compile alone with $cc"
			failed=$((failed + 1))
		fi
	done
done
echo "$count headers,$compilers: $failed failures"
[ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
