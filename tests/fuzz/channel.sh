#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs each fuzzer over its corpus, and then for a while over what it makes of it.
# SECONDS_EACH=600 searches for longer.
seconds=${SECONDS_EACH:-20}
programs=$(dirname "$0")/../../zcbuf-fuzz
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

for name in channel_parse channel_peers; do
	mkdir "$work/$name"
	"$programs/fuzz-$name" -runs=0 "$programs/corpus/$name" > "$work/log" 2>&1
	check $? "$name: the corpus" "$(< "$work/log")"
	"$programs/fuzz-$name" -max_total_time="$seconds" -max_len=20000 -artifact_prefix="$work/" \
		"$work/$name" "$programs/corpus/$name" > "$work/log" 2>&1
	status=$?
	for input in "$work"/crash-* "$work"/leak-* "$work"/timeout-* "$work"/oom-*; do
		[[ ! -e $input ]] || echo "# ${input##*/}: $(base64 -w 0 "$input")"
	done
	check $status "$name: $(sed -n 's/^Done \([0-9]* runs\).*/\1/p' "$work/log")" "$(< "$work/log")"
done
done_testing
