#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The commands of docs/tracing.md work, and print what is shown there, but for the numbers. Runs in the checkout.
set -u
# shellcheck source=tests/tap.sh
source tests/tap.sh

# Each event's name and fields, without what differs from run to run.
events() { sed -nE 's/^.*(zcbuf_[a-z]+)/\1/; s/-?(0x)?[0-9]+/N/g; s/ +/ /g; s/ $//; /^zcbuf_/p'; }

command='' shown=''
try() {
	local said status missing
	[[ $command ]] || return 0
	said=$(bash -o pipefail -c "$command" 2>&1)
	check $? "$command" "$said"
	[[ $shown ]] || return 0
	missing=$(events <<< "$shown" | grep -vxFf <(events <<< "$said"))
	status=$?
	check $((status == 0)) 'it prints what is shown' "not: $missing, but: $said"
}

while IFS= read -r line; do
	case $line in
	'    # '*)
		try
		command=${line#'    # '} shown=''
		;;
	'    '*) shown+=$line$'\n' ;;
	*)
		try
		command=''
		;;
	esac
done < docs/tracing.md
try
check $((tests < 8)) 'there are commands'
done_testing
