# shellcheck shell=bash
# Pages that show what is typed, after '$ ', and what is then seen, where '...' stands for anything. For scripts that have
# sourced tap.sh and have a directory $work.

# cc as it is shown, and then some
mkdir "${work:?}/bin"
printf '#!/bin/sh\nexec /usr/bin/cc -Wall -Wextra -Werror "$@"\n' > "$work/bin/cc"
chmod +x "$work/bin/cc"

# shellcheck disable=SC2053 # a pattern
matches() { [[ $1 == $2 ]]; }
squeezed() { sed -E 's/ +/ /g; s/^ //; s/ $//'; }

# source_of DISPLAY: the file that what is typed compiles or runs first
source_of() { sed -nE '/^\$ (cc|rustc|python3) /{s/^\$ (.* )?([a-z0-9-]+\.(c|py|rs))( .*)?$/\2/p; q}' "$1"; }

# types WHAT DISPLAY DIR: what is typed there does in DIR what is seen there
types() {
	local said
	sed -n 's/^\$ //p' "$2" > "$3/script"
	said=$(cd "$3" && PATH=$work/bin:$PATH timeout 120 bash script 2>&1 < /dev/null)
	said="status $?: $(squeezed <<< "$said")"
	matches "$said" "status 0: $(sed '/^\$ /d' "$2" | squeezed | sed 's/[][*?\\]/\\&/g; s/\.\.\./*/g')"
	check $? "$1: $(tail -n 1 "$3/script")" "$said"
}
