#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The library exports what its headers declare, no more and no less, in a version of its own.
set -u
command -v cc > /dev/null || { echo '1..0 # SKIP no compiler in this guest'; exit; }
count=0 failed=0
is_empty() { # LINES NAME: TAP; each line is one that should not be there
	count=$((count + 1))
	if [ -z "$1" ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		echo "$1" | sed 's/^/# /'
		failed=1
	fi
}

include=$(pkg-config --variable=includedir libzcbuf)
library=$(pkg-config --variable=libdir libzcbuf)/libzcbuf.so
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort > "$work/versioned"
sed 's/@.*//' "$work/versioned" > "$work/exported"
# Functions as the compiler sees them: NAME( in the preprocessed headers.
for header in "$include"/libzcbuf*.h; do
	echo "#include <$header>"
done | cc -E -P - | tr '\n' ' ' | tr ';' '\n' | grep -v typedef |
	grep -o '\bzcbuf_[a-z_]* *(' | tr -d ' (' | sort -u > "$work/declared"

if ! [ -s "$work/declared" ] || ! [ -s "$work/exported" ]; then
	echo 'Bail out! nothing to compare'
	exit 1
fi
is_empty "$(comm -23 "$work/exported" "$work/declared")" "nothing is exported that no header declares"
is_empty "$(comm -13 "$work/exported" "$work/declared")" "everything that is declared is exported"
is_empty "$(grep -v '@@LIBZCBUF_[0-9]' "$work/versioned")" "every symbol has a version"
is_empty "$(objdump -p "$library" | grep SONAME | grep -v 'libzcbuf\.so\.1$')" "the library is libzcbuf.so.1"
is_empty "$(for header in "$include"/libzcbuf*.h "$include/zcbuf.h"; do
	echo "#include <$header>" | cc -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -x c - 2>&1
done)" "each header compiles on its own as plain C11"
is_empty "$(for header in "$include"/libzcbuf*.h; do
	echo "#include <$header>" | clang -std=c++17 -Wall -Wextra -Werror -fsyntax-only -x c++ - 2>&1
done)" "each header compiles as C++"
echo "1..$count"
exit $failed
