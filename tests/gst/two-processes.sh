#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two processes, each a gst-launch-1.0, with zcbufsink and zcbufsrc between them: what the second one writes to a file
# is what one process alone would have written.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck source=tests/tap.sh
source "${0%/*}/../tap.sh"

said() { grep -hv "^0:.* \(DEBUG\|TRACE\) " "$dir"/*.log | head -n 20; }

# launch LOG PIPELINE…: with the leaks tracer's findings in the log
launch() {
	local log=$dir/$1.log
	shift
	GST_TRACERS=leaks GST_DEBUG=GST_TRACER:7 GST_DEBUG_NO_COLOR=1 timeout 120 gst-launch-1.0 -q "$@" > "$log" 2>&1
}

n=0
for caps in format=I420,width=320,height=240 format=NV12,width=324,height=242 format=BGRx,width=99,height=77; do
	n=$((n + 1))
	address=@zcbuf-two-processes-$$-$n
	source=(videotestsrc num-buffers=30 pattern=ball animation-mode=frames '!' "video/x-raw,$caps")
	rm -f "$dir"/*
	gst-launch-1.0 -q "${source[@]}" ! filesink location="$dir/expected" > "$dir/alone.log" 2>&1
	launch producer "${source[@]}" ! zcbufsink socket-path="$address" wait-for-connection=true max-wait=-1 sync=false &
	launch consumer zcbufsrc socket-path="$address" reconnect=true ! filesink location="$dir/received"
	consumer=$?
	wait $!
	check $((consumer + $?)) "$caps: both processes come to the end of the stream" "$(said)"
	cmp "$dir/expected" "$dir/received" > "$dir/cmp.log" 2>&1
	check $? "$caps: every byte arrives" "$(said)"
	! grep -h 'object-alive, type-name=(string)Gst' "$dir/producer.log" "$dir/consumer.log" > "$dir/leaks.log"
	check $? "$caps: the leaks tracer finds nothing in either" "$(said)"
done

done_testing
