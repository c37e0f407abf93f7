#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What a boot does with the module: systemd loads it, and udev gives the heaps to the group video, and to whoever sits at
# the machine. systemd's own programs do it here, with the files that are installed.
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

rules=/usr/lib/udev/rules.d/60-zcbuf.rules
seats=/run/systemd/seats

# The machine as it is before: no module, and logind knows of user 1 at the seat.
modprobe -r zcbuf || { echo 'Bail out! the module is in use'; exit 1; }
mkdir -p $seats
printf 'IS_SEAT0=1\nACTIVE=1\nACTIVE_UID=1\n' > $seats/seat0
/usr/lib/systemd/systemd-udevd > /dev/null 2>&1 &
udevd=$!
trap 'modprobe -r zcbuf; udevadm settle; kill $udevd; wait $udevd; rm -r $seats' EXIT
until [[ -S /run/udev/control ]]; do sleep 0.1; done

# is WHAT SAID PATTERN
is() {
	# shellcheck disable=SC2053 # a pattern
	[[ $2 == $3 ]]
	check $? "$1" "$2"
}

# may USER NODE [GROUP]: says if USER, who is in that group only, may open it to allocate
may() {
	# shellcheck disable=SC2016 # for the shell that the user has
	setpriv --reuid="$1" --regid="${3-nogroup}" --clear-groups sh -c ': <> "$1"' sh "$2" 2> /dev/null && echo yes || echo no
}

nothing 'udev has nothing against the rule' "$(udevadm verify --no-summary $rules 2>&1)"
is 'systemd loads the module' "$(/usr/lib/systemd/systemd-modules-load 2>&1)" "*Inserted module 'zcbuf'*"
udevadm settle
is '/dev/zcbuf is for everybody' "$(stat -c '%U:%G %a' /dev/zcbuf)" 'root:root 666'
for node in /dev/dma_heap/zcbuf-*; do
	# its mask, for there is an ACL
	is "$node is of the group video" "$(stat -c '%U:%G %a' "$node")" 'root:video 660'
	is "$node has the tag uaccess" ":$(udevadm info --query=property --property=CURRENT_TAGS --value "$node"):" '*:uaccess:*'
	is "$node: who sits at the machine may allocate" "$(may 1 "$node")" yes
	is "$node: who is in the group may" "$(may 65534 "$node" video)" yes
	is "$node: another one may not" "$(may 65534 "$node")" no
done
done_testing
