# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Completes the zcbuf command. It is asked itself for its commands, options and heaps.
_zcbuf() {
	local zcbuf=$1 current=$2 previous=$3 command=${COMP_WORDS[1]} help words=''
	if ((COMP_CWORD == 1)); then
		words=$("$zcbuf" --help | sed -nE 's/^  ((--)?[a-z]+)  .*/\1/p')
	elif ! help=$("$zcbuf" "$command" --help 2> /dev/null); then
		return
	elif [[ $previous == --disk ]]; then
		compopt -o filenames
		words=$(compgen -d -- "$current")
	elif [[ $previous == --heap ]]; then
		words=$("$zcbuf" list | awk 'NR > 1 { print $1 }')
	elif [[ "$command $previous" == 'top --by' ]]; then
		words='buffer holding process exporter cgroup'
	elif [[ $help =~ $'\n  '$previous' '[A-Z] ]]; then
		return # some number or name
	elif [[ $current == -* ]]; then
		words="--help $(sed -nE 's/^  (--[a-z]+) .*/\1/p' <<< "$help")"
	elif [[ $command == bench ]]; then
		words="anonymous $("$zcbuf" list | awk 'NR > 1 { print $1 }')"
	elif [[ $command == info ]]; then
		words=$(cd /proc && printf '%s\n' [0-9]*)
	fi
	mapfile -t COMPREPLY < <(IFS=$' \n' && compgen -W "$words" -- "$current")
}
complete -F _zcbuf zcbuf
