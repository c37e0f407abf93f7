#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# docs/ABI has the module's files in sysfs, no more and no fewer, and says who may write them. Runs in the checkout.
set -u
# shellcheck source=tests/tap.sh
source tests/tap.sh
page=docs/ABI/sysfs-class-zcbuf

while read -r what; do
	mapfile -t files < <(compgen -G "$what")
	check $((${#files[@]} == 0)) "$what is there"
	mode=$(awk -v what="$what" '$1 == "What:" { here = $2 == what } here && /\(R[OW]\)/ { print $1 }' "$page")
	wrong=''
	for file in "${files[@]}"; do
		case $mode:$(stat -c '%A %U' "$file") in
		'(RW):-rw-r--r-- root' | '(RO):-r--r--r-- root') ;;
		*) wrong+="$file " ;;
		esac
	done
	nothing "$what may be read and written as $page says" "$wrong"
done < <(sed -n 's/^What:[[:space:]]*//p' "$page")

lost=''
for file in /sys/class/zcbuf/*/*; do
	[[ -f $file && $file != */@(dev|uevent) ]] || continue
	known=
	while read -r what; do
		# shellcheck disable=SC2053 # a pattern
		[[ $file != $what ]] || known=yes
	done < <(sed -n 's/^What:[[:space:]]*//p' "$page")
	[[ $known ]] || lost+="$file "
done
nothing 'no file is left out' "$lost"
done_testing
