#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two processes, each a gst-launch-1.0 under valgrind, with zcbufsink and zcbufsrc between them. GStreamer and GLib
# keep much until the end; what is judged is where our code takes part.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
address=@zcbuf-valgrind-$$
tests=0 failures=0

check() { # check STATUS NAME LOG
	tests=$((tests + 1))
	if (($1 == 0)); then
		echo "ok $tests - $2"
	else
		echo "not ok $tests - $2"
		failures=$((failures + 1))
		head -n 60 "$3" | sed 's/^/# /'
	fi
}

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
check $producer 'the producer comes to the end of the stream' "$dir/producer.log"
check $consumer 'so does the consumer' "$dir/consumer.log"
for name in producer consumer; do
	grep -q 'ERROR SUMMARY' "$dir/$name.valgrind"
	check $? "$name: valgrind watched all of it" "$dir/$name.valgrind"
	# A finding is a paragraph.
	sed 's/^==[0-9]*== //; s/^==[0-9]*==$//; s/^ *$//' "$dir/$name.valgrind" | awk -v RS= -v ORS='\n\n' '/zcbuf/ && !/^Memcheck|^HEAP SUMMARY/' > "$dir/findings"
	[[ ! -s $dir/findings ]]
	check $? "$name: and found nothing in our code" "$dir/findings"
done
echo "1..$tests"
exit $((failures != 0))
