#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The C program of README.md compiles as it is described there, and does what is said.
# Runs in the checkout, whose README.md it reads.
set -u
command -v cc > /dev/null || { echo '1..0 # SKIP no compiler in this guest'; exit; }
count=0 failed=0
ok() { # NAME CONDITION…: TAP
	name=$1
	shift
	count=$((count + 1))
	if "$@"; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		failed=1
	fi
}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # these are no commands
sed -n '/^```c$/,/^```$/{/^```/d; p}' README.md > "$work/share.c"
ok "README.md has a C program" [ -s "$work/share.c" ]
command=$(sed -n 's/^ *\$ \(cc .*\)/\1/p' README.md)
(cd "$work" && eval "$command" -Wall -Wextra -Werror) 2>&1 | sed 's/^/# /'
ok "it compiles as README.md says" [ -x "$work/share" ]
said=$(sed -n '/^ *\$ \.\/share$/{n; s/^ *//p}' README.md)
does=$("$work/share" 2>&1)
echo "# it says: $does"
ok "README.md says what it prints" [ -n "$said" ]
ok "it prints what README.md says" [ "$does" = "$said" ]
echo "1..$count"
exit $failed
