#compdef zcbuf
# SPDX-License-Identifier: LGPL-2.1-or-later
# Completes the zcbuf command. It is asked itself for its commands, options and heaps.
local zcbuf=$words[1] command=$words[2] previous=$words[CURRENT-1] help
local -a found
if ((CURRENT == 2)); then
	found=(${(f)"$($zcbuf --help | sed -nE 's/^  ((--)?[a-z]+)  +(.*)/\1:\3/p')"})
	_describe command found
elif ! help=$($zcbuf $command --help 2> /dev/null); then
	return 1
elif [[ $previous == --disk ]]; then
	_directories
elif [[ $previous == --heap ]]; then
	compadd ${${(f)"$($zcbuf list)"}[2,-1]%% *}
elif [[ "$command $previous" == 'top --by' ]]; then
	compadd buffer holding process exporter cgroup
elif [[ $help == *$'\n'"  $previous "[A-Z]* ]]; then
	_message 'some number or name'
elif [[ $PREFIX == -* ]]; then
	found=(${(f)"$(sed -nE 's/^  (--[a-z]+)( [A-Z]+)? +(.*)/\1:\3/p' <<< $help)"} '--help:explains this command')
	_describe -o option found
elif [[ $command == bench ]]; then
	compadd anonymous ${${(f)"$($zcbuf list)"}[2,-1]%% *}
elif [[ $command == info ]]; then
	compadd -- /proc/<->(/:t)
fi
