#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The C program of README.md compiles as it is described there, and does what is said.
# Runs in the checkout, whose README.md it reads.
set -u
count=0 failed=0
ok() { # STATUS NAME: TAP
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		failed=1
	fi
}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sed -n '/^```c$/,/^```$/{/^```/d; p}' README.md > "$work/share.c"
[ -s "$work/share.c" ]
ok $? "README.md has a C program"
command=$(sed -n 's/^ *\$ \(cc .*\)/\1/p' README.md)
(cd "$work" && eval "$command" -Wall -Wextra -Werror) 2>&1 | sed 's/^/# /'
[ -x "$work/share" ]
ok $? "it compiles as README.md says"
said=$(sed -n '/^ *\$ \.\/share$/{n; s/^ *//p}' README.md)
does=$("$work/share" 2>&1)
echo "# it says: $does"
[ -n "$said" ] && [ "$does" = "$said" ]
ok $? "it prints what README.md says"
echo "1..$count"
exit $failed
