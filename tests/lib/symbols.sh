#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The library exports what its headers declare, no more and no less, in a version of its own.
set -u
command -v cc > /dev/null || { echo '1..0 # SKIP no compiler in this guest'; exit; }
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

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

if [[ ! -s $work/declared || ! -s $work/exported ]]; then
	echo 'Bail out! nothing to compare'
	exit 1
fi
nothing "nothing is exported that no header declares" "$(comm -23 "$work/exported" "$work/declared")"
nothing "everything that is declared is exported" "$(comm -13 "$work/exported" "$work/declared")"
nothing "every symbol has a version" "$(grep -v '@@LIBZCBUF_[0-9]' "$work/versioned")"
nothing "the library is libzcbuf.so.1" "$(objdump -p "$library" | grep SONAME | grep -v 'libzcbuf\.so\.1$')"
nothing "each header compiles on its own as plain C11" "$(for header in "$include"/libzcbuf*.h "$include/zcbuf.h"; do
	echo "#include <$header>" | cc -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -x c - 2>&1
done)"
nothing "each header compiles as C++" "$(for header in "$include"/libzcbuf*.h; do
	echo "#include <$header>" | clang -std=c++17 -Wall -Wextra -Werror -fsyntax-only -x c++ - 2>&1
done)"
done_testing
