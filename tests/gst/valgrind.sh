#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two processes, each a gst-launch-1.0 under valgrind, with zcbufsink and zcbufsrc between them. GStreamer and GLib
# keep much until the end; what is judged is where our code takes part.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
address=@zcbuf-valgrind-$$
# shellcheck source=tests/tap.sh
source "${0%/*}/../tap.sh"

said() { head -n 60 "$dir/$1"; }

launch() { # launch NAME PIPELINE…
	local name=$1
	shift
	G_SLICE=always-malloc GST_REGISTRY_FORK=no timeout 280 valgrind --leak-check=full --show-leak-kinds=definite,indirect \
		--num-callers=30 --log-file="$dir/$name.valgrind" \
		gst-launch-1.0 -q "$@" > "$dir/$name.log" 2>&1
}

launch producer videotestsrc num-buffers=20 ! video/x-raw,width=64,height=48 ! \
	zcbufsink socket-path="$address" wait-for-connection=true max-wait=-1 sync=false &
launch consumer zcbufsrc socket-path="$address" reconnect=true ! fakesink sync=false
consumer=$?
wait $!
producer=$?
check $producer 'the producer comes to the end of the stream' "$(said producer.log)"
check $consumer 'so does the consumer' "$(said consumer.log)"
for name in producer consumer; do
	grep -q 'ERROR SUMMARY' "$dir/$name.valgrind"
	check $? "$name: valgrind watched all of it" "$(said "$name.valgrind")"
	# A finding is a paragraph.
	sed 's/^==[0-9]*== //; s/^==[0-9]*==$//; s/^ *$//' "$dir/$name.valgrind" | awk -v RS= -v ORS='\n\n' '/zcbuf/ && !/^Memcheck|^HEAP SUMMARY/' > "$dir/findings"
	! grep -q . "$dir/findings"
	check $? "$name: and found nothing in our code" "$(said findings)"
done
done_testing
