#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Two fuzzers at once ask the module for whatever comes to their minds: for ten minutes where the kernel says
# how far they got, or for SECONDS_EACH; and again until they made OPERATIONS. SEED= has them begin as they did once.
set -u
# shellcheck source=tests/tap.sh
source "${0%/*}/../tap.sh"
programs=${0%/*}/../../zcbuf-fuzz
debug=/sys/kernel/debug
seconds=20
[[ ! -e $debug/kcov ]] || seconds=600
seconds=${SECONDS_EACH:-$seconds}
seed=${SEED:-$RANDOM}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
# to begin with: it makes more of much that is random than of nothing
for i in {1..64}; do
	printf %b "$(awk -v seed="$seed$i" 'BEGIN { srand(seed); while (n++ < 256) printf "\\0%03o", rand() * 256 }')" \
		> "$work/corpus/$i"
done

# Also allocations that may sleep shall fail when they are told to, and without a word.
for file in failslab/ignore-gfp-wait fail_page_alloc/ignore-gfp-wait fail_page_alloc/ignore-gfp-highmem; do
	[[ ! -e $debug/$file ]] || echo N > "$debug/$file"
done
for file in failslab/verbose fail_page_alloc/verbose fail_page_alloc/min-order fail_usercopy/verbose; do
	[[ ! -e $debug/$file ]] || echo 0 > "$debug/$file"
done

made=0
while :; do
	for i in 0 1; do
		"$programs/fuzz-ioctls" -seed=$((seed + i)) -max_total_time="$seconds" -max_len=256 -len_control=0 -timeout=120 \
			-rss_limit_mb=0 -artifact_prefix="$work/" "$work/corpus" > "$work/$i.log" 2>&1 &
		fuzzers[i]=$!
	done
	for i in 0 1; do
		wait "${fuzzers[i]}"
		status=$?
		count=$(sed -n 's/^\([0-9]*\) operations$/\1/p' "$work/$i.log")
		made=$((made + ${count:-0}))
		check "$status" "seed $((seed + i)): ${count:-0} operations" "$(tail -n 30 "$work/$i.log")"
		echo "# $(grep -P '\tDONE ' "$work/$i.log" | tail -n 1)"
	done
	((made < ${OPERATIONS:-0} && failures == 0)) || break
	echo "# $made of $OPERATIONS operations after $SECONDS s"
	seed=$((seed + 2))
done
for input in "$work"/{crash,leak,timeout,oom}-*; do
	[[ ! -e $input ]] || echo "# ${input##*/}: $(base64 -w 0 "$input")"
done
[[ ! ${KEEP-} ]] || cp -r "$work/corpus" "$KEEP"
done_testing
