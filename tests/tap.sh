# shellcheck shell=bash
# TAP for shell scripts, which source this and end with done_testing.
tests=0 failures=0

# check STATUS NAME [SAID]: passed if STATUS is 0; else SAID tells why
check() {
	tests=$((tests + 1))
	if (($1 == 0)); then
		echo "ok $tests - $2"
	else
		echo "not ok $tests - $2"
		failures=$((failures + 1))
		[[ ! ${3-} ]] || printf '# %s\n' "${3//$'\n'/$'\n# '}"
	fi
}

# nothing NAME LINES: each line is one that should not be there
nothing() {
	[[ ! $2 ]]
	check $? "$1" "$2"
}

done_testing() {
	echo "1..$tests"
	((failures == 0))
}
