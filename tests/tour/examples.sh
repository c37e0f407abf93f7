#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The programs of docs/examples do what they say.
set -u
programs=/usr/libexec/zcbuf-tour
# shellcheck source=tests/tap.sh
source "${0%/*}/../tap.sh"
work=$(mktemp -d /mnt/scratch/examples.XXXXXX)
trap 'rm -rf "$work"' EXIT

# ok STATUS NAME: check, and what the program said
ok() { check "$1" "$2" "$(< "$work/said")"; }

skip() { echo "ok $((tests += 1)) # SKIP $1"; }

# run PROGRAM ARGUMENTS…: what it says is in $work/said
run() {
	local program=$1
	shift
	timeout 60 "$programs/example-$program" "$@" > "$work/said" 2>&1 < /dev/null
}

# start PROGRAM ARGUMENTS…: returns when it waits for Enter, which finish gives it
start() {
	local program=$1
	shift
	: > "$work/said"
	mkfifo "$work/enter"
	timeout 60 "$programs/example-$program" "$@" > "$work/said" 2>&1 < "$work/enter" &
	started=$!
	exec {enter}> "$work/enter"
	while kill -0 "$started" 2> /dev/null; do
		! grep -q 'until Enter$' "$work/said" || return 0
		sleep 0.1
	done
	return 1
}

finish() {
	exec {enter}>&-
	rm "$work/enter"
	wait "$started"
}

# video NAME: the node of vivid that is called so
video() {
	local name
	for name in /sys/class/video4linux/*/name; do
		if [[ $(< "$name") == *"$1" ]]; then
			name=${name%/name}
			echo "/dev/${name##*/}"
			return
		fi
	done
}

system() {
	run system "$work/frame"
	ok $? 'system: writes a buffer of another process to a disk'
	[[ $(tr -d z < "$work/frame" | wc -c) == 0 && $(wc -c < "$work/frame") == 1048576 ]]
	ok $? 'system: and the disk has what was in it'
}

# A pixel of the picture that the screen shows, as "R G B"
pixel() {
	pngtopnm "$1" | pamcut -left "$2" -top "$3" -width 1 -height 1 | pnmtoplainpnm | tail -n 1
}

system-wc() {
	local card picture=$PWD/out/tour/screen.$$.png started_well
	for card in /dev/dri/card*; do
		[[ $(basename "$(readlink "/sys/class/drm/${card##*/}/device/driver")") =~ bochs|cirrus ]] && break
	done
	start system-wc "$card"
	started_well=$?
	if grep -q 'drmPrimeFDToHandle.*: Function not implemented$' "$work/said"; then
		finish
		skip "system-wc: the display's driver imports no dma-bufs on this kernel"
		return
	fi
	ok $started_well 'system-wc: puts a picture on the screen'
	mkdir -p "${picture%/*}"
	if tests/vm/vm-screenshot "$picture" >> "$work/said" 2>&1; then
		read -r _ _ blue <<< "$(pixel "$picture" 0 0)"
		read -r red green _ <<< "$(pixel "$picture" -1 -1)"
		echo "corners: blue $blue; red $red, green $green" >> "$work/said"
		((blue > 100 && blue < 150 && red > 240 && green > 240))
		ok $? 'system-wc: and the screen shows it'
		rm -f "$picture"
	else
		ok 1 'system-wc: and the screen can be photographed'
	fi
	finish
	ok $? 'system-wc: until it ends'
}

coherent() {
	run coherent
	ok $? 'coherent: descriptors go round'
}

vmalloc() {
	run vmalloc "$(video vid-out)"
	ok $? 'vmalloc: a driver that uses the CPU shows a frame'
}

contig() {
	modprobe -r vivid && modprobe vivid n_devs=1 node_types=0x101 allocators=1
	sleep 1
	run contig "$(video vid-cap)"
	ok $? 'contig: a camera without scatter-gather writes a frame'
	grep -q ' in 1 piece$' "$work/said"
	ok $? 'contig: into one piece'
	grep -qE 'the camera wrote [0-9]{5,} bytes, [1-9][0-9]* on average' "$work/said"
	ok $? 'contig: which has a picture in it'
	modprobe -r vivid && modprobe vivid n_devs=1 node_types=0x101
}

carveout() {
	local text="written by process $$ at $EPOCHREALTIME"
	start carveout /dev/dma_heap/zcbuf-carveout-bar "$text"
	ok $? "carveout: writes a text into a device's memory"
	# which is a file of the host, and lies below out/
	grep -aqsrF --include=ivshmem "$text" out/vm
	ok $? 'carveout: and the other side of the device has it'
	finish
	ok $? 'carveout: until it ends'
}

# same FILE STEP SIZE COUNT REFERENCE: the file has COUNT parts of STEP bytes, each beginning with REFERENCE
same() {
	local file=$1 step=$2 size=$3 count=$4 i
	[[ $(stat -c %s "$file") == $((count * step)) ]] || return 1
	for ((i = 0; i < count; i++)); do
		cmp -n "$size" -i "$((i * step)):0" "$file" "$5" >> "$work/said" 2>&1 || return 1
	done
}

# Bytes in the page cache that this test has to pay for
cached() { awk '$1 == "file" { print $2 }' "/sys/fs/cgroup$(cut -d : -f 3 /proc/self/cgroup)/memory.stat"; }

# A frame of 450 KiB ends in the middle of a page.
save-frames() {
	local camera frames=12 step=462848 size=460800 before i
	camera=$(video vid-cap)
	v4l2-ctl -d "$camera" -v width=640,height=360,pixelformat=YUYV -c osd_text_mode=2 \
		--stream-mmap --stream-count=1 --stream-to="$work/reference" > "$work/said" 2>&1 &&
		[[ $(stat -c %s "$work/reference") == "$size" ]]
	ok $? "save-frames: (a frame in the camera's own memory)"
	before=$(cached)
	run save-frames "$camera" "$frames" "$work/frames" &&
		grep -qE "^$frames frames of $size bytes, one each $step bytes of $work/frames; [0-9]{1,3} were lost$" "$work/said"
	ok $? 'save-frames: saves the frames of a camera, and says where each begins'
	i=$(($(cached) - before))
	echo "$i bytes more are cached" >> "$work/said"
	((i < 1 << 20))
	ok $? 'save-frames: past the page cache'
	same "$work/frames" "$step" "$size" "$frames" "$work/reference"
	ok $? 'save-frames: each of them is what the camera shows'

	v4l2-ctl -d "$camera" -c osd_text_mode=0
	run save-frames "$camera" "$frames" "$work/frames"
	for ((i = 0; i < frames; i++)); do
		tail -c +$((i * step + 1)) "$work/frames" | head -c "$size" | sha256sum
	done | sort -u > "$work/sums"
	[[ $(wc -l < "$work/sums") == "$frames" ]]
	ok $? 'save-frames: and another one when it shows the time'
}

# receive: returns when a receiver waits; what arrives is in $work/arrived
receive() {
	: > "$work/said"
	timeout 60 "$programs/example-rdma-write" rxe0 7471 > "$work/arrived" 2> "$work/said" < /dev/null &
	receiver=$!
	until grep -q '^waiting' "$work/said"; do
		kill -0 "$receiver" 2> /dev/null || return
		sleep 0.1
	done
}

# transfer HOST: sends $work/sent to a receiver
transfer() {
	local receives sends
	receive || return
	timeout 60 "$programs/example-rdma-write" rxe0 7471 "$1" < "$work/sent" >> "$work/said" 2>&1
	sends=$?
	wait "$receiver"
	receives=$?
	echo "the sender ends with $sends, the receiver with $receives" >> "$work/said"
	return $((sends || receives))
}

rdma-write() {
	local size
	modprobe rdma_rxe && rdma link add rxe0 type rxe netdev lo
	ok $? 'rdma-write: (there is soft-RoCE on the loopback interface)'
	for size in 12439552 1001; do
		head -c "$size" /dev/urandom > "$work/sent"
		transfer 127.0.0.1
		ok $? "rdma-write: a frame of $size bytes is sent and received"
		cmp "$work/sent" "$work/arrived" >> "$work/said" 2>&1
		ok $? 'rdma-write: byte by byte'
	done
	transfer ::1
	ok $? 'rdma-write: also between addresses of IPv6'
	receive && : <> /dev/tcp/127.0.0.1/7471 && ! wait "$receiver" && grep -q 'the other end has gone' "$work/said"
	ok $? 'rdma-write: a receiver whose sender goes away ends, too'
	# Somebody who answers, but has no such queue pair
	socat TCP6-LISTEN:7472,ipv6only=0 SYSTEM:'head -c 24 > /dev/null; head -c 24 /dev/zero; cat' 2> /dev/null &
	until ss -ltn | grep -q :7472; do sleep 0.1; done
	timeout 60 "$programs/example-rdma-write" rxe0 7472 ::1 < "$work/sent" > "$work/said" 2>&1
	grep -q 'not written: transport retry counter exceeded' "$work/said"
	ok $? 'rdma-write: and so does a sender whose receiver does'
	rdma link delete rxe0
}

histogram() {
	gst-launch-1.0 -q videotestsrc num-buffers=30 pattern=white ! video/x-raw,format=GRAY8,width=640,height=480 ! \
		zcbufsink socket-path=@zcbuf-histogram wait-for-connection=true max-wait=-1 > "$work/producer" 2>&1 &
	run histogram @zcbuf-histogram
	ok $? 'histogram: looks at a stream until it ends'
	wait $!
	# 235 of 255 is the fifteenth of sixteen bars.
	[[ $(grep -c 'dark |              █ | bright$' "$work/said") == 30 ]]
	ok $? 'histogram: and each frame is as bright as it was made'
}

system
system-wc
coherent
vmalloc
contig
carveout
save-frames
rdma-write
histogram
done_testing
