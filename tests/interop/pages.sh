#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What README.md and the pages of docs/interop tell to type does what they say. Runs in the checkout, where they are.
# A block of C is a program, which has the name that the next lines to type compile. Other programs are in docs/examples.
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"
shopt -s nullglob

work=$(mktemp -d -p /mnt/scratch) || exit 1
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/console.sh
source "$(dirname "$0")/../console.sh"

for page in README.md docs/interop/*.md; do
	dir=$work/${page//\//-}
	mkdir "$dir"
	cp docs/examples/*.* "$dir"
	awk -v dir="$dir" '
		/^```c$/ { program = dir "/program"; next }
		/^```/ { program = "" }
		program { print > program }
		/^    \$ / && !display { display = sprintf("%s/display-%02d", dir, ++count) }
		!/^    / { display = "" }
		display { sub(/^    /, ""); print > display }' "$page"
	if [[ -e $dir/program ]]; then
		name=$(source_of "$dir/display-01")
		[[ $name ]] && mv "$dir/program" "$dir/$name"
		check $? "$page: its program is compiled"
	fi
	for display in "$dir"/display-*; do
		types "$page" "$display" "$dir"
	done
done
done_testing
