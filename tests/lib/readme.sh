#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The C program of README.md compiles as it is described there, and does what is said.
# Runs in the checkout, whose README.md it reads.
set -u
command -v cc > /dev/null || { echo '1..0 # SKIP no compiler in this guest'; exit; }
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # these are no commands
sed -n '/^```c$/,/^```$/{/^```/d; p}' README.md > "$work/share.c"
grep -q . "$work/share.c"
check $? 'README.md has a C program'
command=$(sed -n 's/^ *\$ \(cc .*\)/\1/p' README.md)
said=$(cd "$work" && eval "$command" -Wall -Wextra -Werror 2>&1 && [[ -x share ]])
check $? 'it compiles as README.md says' "$said"
said=$(sed -n '/^ *\$ \.\/share$/{n; s/^ *//p}' README.md)
does=$("$work/share" 2>&1)
[[ $said ]]
check $? 'README.md says what it prints'
[[ $does == "$said" ]]
check $? 'it prints what README.md says' "$does"
done_testing
