#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The reference of docs/api is what docs/api/generate.py makes of the headers, and leaves nothing out.
# Runs in the checkout, where both are.
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

headers=(lib/libzcbuf.h lib/libzcbuf-channel.h uapi/zcbuf.h)

# missing WORDS: those that no code of the pages has
# shellcheck disable=SC2016 # these are no commands
missing() {
	comm -23 <(sort -u <<< "$1") <(sed -n '/^```c$/,/^```$/p' docs/api/*.md | grep -oE '\b\w+' | sort -u)
}

for header in "${headers[@]}"; do
	page=${header##*/}
	page=docs/api/${page%.h}.md
	nothing "$page is what docs/api/generate.py makes of $header" "$(diff "$page" <(docs/api/generate.py "$page") 2>&1)"
done
nothing 'every symbol that the library exports is there' "$(missing "$(grep -oE 'zcbuf_[a-z_]+' lib/libzcbuf.sym)")"
nothing 'every structure, enumeration and constant is there' "$(missing "$(cat "${headers[@]}" |
	sed -nE 's/^(struct|enum) (\w+) \{$/\2/p; s/^\t(ZCBUF_\w+)\s*=.*/\1/p; s/^#define (ZCBUF_\w+).*/\1/p')")"
done_testing
