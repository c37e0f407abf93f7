#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The man pages are well formed, name all that there is and nothing else, and their examples do what they say.
# Runs in the checkout, where the pages are, and the headers and symbols that they describe.
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

pages=(docs/man/*.[1-9])
headers=(lib/libzcbuf.h lib/libzcbuf-channel.h uapi/zcbuf.h)
work=$(mktemp -d -p /mnt/scratch) || exit 1
trap 'rm -rf "$work"' EXIT

# same NAME LINES LINES
same() {
	nothing "$1" "$(diff <(sort -u <<< "$2") <(sort -u <<< "$3"))"
	[[ $2 ]] || echo 'Bail out! nothing to compare'
}

# What stands before .Nd
names_of() { sed -nE '/^\.Nd/q; s/^\.Nm ([^ ]+).*/\1/p' "$1"; }

# section PAGE REGEX: those sections and subsections of it that have a line like this
section() {
	awk -v wanted="$2" '
		function flush() { if (text ~ wanted) printf "%s", text; text = "" }
		/^\.S[hs]/ { flush() }
		{ text = text $0 "\n" }
		END { flush() }' "$1"
}

without_comments() { sed -z 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/||g' "$1"; }

# ---- form ----------------------------------------------------------------------------------------

for page in "${pages[@]}"; do
	# The guest has nobody else's pages, and no index.
	nothing "$page: mandoc -Tlint" "$(mandoc -Tlint "$page" 2>&1 |
		awk '!/outdated mandoc.db/ && (!/referenced manual not found/ || /: Xr (lib)?zcbuf/)')"
	# In lines that are adjusted, groff warns of each function with long arguments.
	nothing "$page: man --warnings" "$(MANWIDTH=80 man --warnings --nj -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 > /dev/null)"
	mapfile -t names < <(names_of "$page")
	same "$page: man finds it by its names" "${page##*/}"$'\n'"${#names[@]}" \
		"$(man -w "${page##*.}" "${names[@]}" 2>&1 | xargs readlink -f | awk -F/ '{ print $NF } END { print NR }')"
done

# ---- completeness --------------------------------------------------------------------------------

same 'the pages of section 3 have the functions that the library exports' \
	"$(grep -oE 'zcbuf_[a-z_]+' lib/libzcbuf.sym)" \
	"$(for page in docs/man/*.3; do names_of "$page"; done | grep -v '^libzcbuf')"

# A declaration that differs from the header's is an error.
nothing 'the functions are declared as in the headers' "$(for page in docs/man/*.3; do
	echo "#line 1 \"$page\""
	mandoc -Tascii -O width=200 "$page" | col -b | sed -n '/^SYNOPSIS/,/^DESCRIPTION/{/^[A-Z]/d; p}'
done | cc -Wall -Wextra -Werror -fsyntax-only -x c - 2>&1)"
for page in docs/man/*.3; do
	same "$page: its synopsis has its names" "$(names_of "$page" | grep -v '^libzcbuf'; echo .)" \
		"$(section "$page" '\.Sh SYNOPSIS' | sed -nE 's/^\.F[no] (zcbuf[a-z_]*).*/\1/p'; echo .)"
done

for command in $(zcbuf --help | sed -nE 's/^  ([a-z]+)  .*/\1/p'); do
	same "zcbuf.1 has the options of $command" "$(zcbuf "$command" --help | sed -nE 's/^  --([a-z]+) .*/\1/p')" \
		"$(section docs/man/zcbuf.1 "\\.Ss $command\n" | sed -nE 's/^\.It Fl -([a-z]+).*/\1/p')"
	same "zcbuf.1 has the options of $command in its synopsis" "$(zcbuf "$command" --help | sed -nE 's/^  --([a-z]+) .*/\1/p')" \
		"$(section docs/man/zcbuf.1 '\.Sh SYNOPSIS' | sed -n "/^\\.Cm $command\$/,/^\\.Nm/p" | sed -nE 's/^\.Op Fl -([a-z]+).*/\1/p')"
done
same 'zcbuf.1 has the commands' "$(zcbuf --help | sed -nE 's/^  ([a-z]+)  .*/\1/p')" \
	"$(sed -nE 's/^\.Ss ([a-z]+)$/\1/p' docs/man/zcbuf.1)"

# fields STRUCT HEADER; those that are reserved are described once for all
fields() {
	without_comments "$2" | sed -n "/^struct $1 {/,/^}/p" |
		sed -nE 's/^\t.*[ *]([a-z_0-9]+)(\)\(.*|\[.*)?;/\1/p' | grep -vx reserved
}
for header in "${headers[@]}"; do
	[[ $header == uapi/* ]] && described=(docs/man/zcbuf.4) || described=(docs/man/*.3)
	for struct in $(without_comments "$header" | sed -nE 's/^struct ([a-z_]+) \{/\1/p'); do
		missing=
		text=$(for page in "${described[@]}"; do section "$page" "\\.Vt struct $struct( [,.:])?\n"; done | grep -E '^\.(It )?Fa ')
		for field in $(fields "$struct" "$header"); do
			grep -qw "$field" <<< "$text" || missing+=$field$'\n'
		done
		[[ $(fields "$struct" "$header") ]] || missing='no field was found in the header'
		nothing "all fields of struct $struct are described" "$missing"
	done
	missing=
	for constant in $(without_comments "$header" | grep -oE '\bZCBUF_[A-Z0-9_]+' | sort -u | grep -vx ZCBUF_IOC_MAGIC); do
		grep -qw "$constant" "${described[@]}" || missing+=$constant$'\n'
	done
	nothing "all constants of $header are described" "$missing"
done
nothing 'no field is described that there is not' "$(comm -23 \
	<(sed -nE 's/^\.It Fa //p' docs/man/*.[34] | tr -s ' ,' '\n' | sort -u) \
	<(for header in "${headers[@]}"; do
		for struct in $(without_comments "$header" | sed -nE 's/^struct ([a-z_]+) \{/\1/p'); do fields "$struct" "$header"; done
	done | sort -u))"

for ioctl in $(without_comments uapi/zcbuf.h | sed -nE 's/^#define (ZCBUF_IOC_[A-Z]+)\t*_IO.*/\1/p'); do
	text=$(section docs/man/zcbuf.4 "\\.(Ss $ioctl|Sh IOCTLS)\n")
	missing=
	while read -r error; do
		grep -qw "$error" <<< "$text" || missing+=$error$'\n'
	done < <(sed -n "/DOC: $ioctl /,/\*\//p" uapi/zcbuf.h | grep -oE '\bE[A-Z0-9]{3,}')
	nothing "zcbuf.4 has the errors of $ioctl" "$missing"
done
for page in docs/man/*_*.3; do
	said=$(for function in $(names_of "$page"); do
		awk -v RS='/[*][*]' -v function_="$function" '{
			sub(/[*][/].*/, "")
			sub(/^[ \n*]+/, "")
			if (index($0, function_ " - ") == 1) print
		}' "${headers[@]}"
	done | grep -oE -- '-E[A-Z0-9]{2,}')
	same "$page: its errors are those that the headers give its functions" "$said" \
		"$(section "$page" '\.Sh ERRORS' | sed -nE 's/^\.It Er //p' | grep -oE -- '-E[A-Z0-9]{2,}')"
done
same 'zcbuf.4 has the files in sysfs' "$(sed -nE 's/^static DEVICE_ATTR_R[OW]\(([a-z_]+)\).*/\1/p' kernel/node.c)" \
	"$(section docs/man/zcbuf.4 '\.Sh SYSFS' | sed -nE 's|^\.It Pa .*/([a-z_]+)$|\1|p')"
same 'zcbuf.4 has the parameters of the module' "$(modinfo -F parm zcbuf | cut -d: -f1)" \
	"$(section docs/man/zcbuf.4 '\.Sh MODULE PARAMETERS' | sed -nE 's/^\.It Cm ([a-z]+).*/\1/p')"

# ---- examples ------------------------------------------------------------------------------------

# A display that includes something is a program, and any other is what is typed. The program has the name that cc is given
# in the next display.
# shellcheck source=tests/console.sh
source "$(dirname "$0")/../console.sh"

for page in "${pages[@]}"; do
	dir=$work/${page##*/}
	mkdir "$dir"
	section "$page" '\.Sh EXAMPLES' | awk -v dir="$dir" '
		/^\.Bd -literal/ { file = sprintf("%s/display-%02d", dir, ++count); next }
		/^\.Ed/ { file = "" }
		file { sub(/^\\&/, ""); gsub(/\\e/, "\\"); print > file }'
	[[ -e $dir/display-01 ]] || { check 1 "$page: has examples"; continue; }
	program=''
	for display in "$dir"/display-*; do
		if [[ $(head -n 1 "$display") == '#include '* ]]; then
			program=$display
			continue
		fi
		name=$(source_of "$display")
		[[ ! $program || ! $name ]] || mv "$program" "$dir/$name"
		types "$page" "$display" "$dir"
	done
	nothing "$page: all its programs were compiled" "$(grep -l '^#include' "$dir"/display-*)"
done
done_testing
