#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A program that was linked goes on working: the library has the functions and structures that lib/libzcbuf.abi has, and
# each function is in the section of the release that brought it. Runs in the checkout; --write writes out/libzcbuf.abi.
set -u
# shellcheck source=tests/tap.sh
source "$(dirname "$0")/../tap.sh"

include=$(pkg-config --variable=includedir libzcbuf)
library=$(pkg-config --variable=libdir libzcbuf)/libzcbuf.so.1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# abi FILE: writes there what a program sees of the library; what is in no public header it does not
abi() {
	mkdir "$work/headers"
	cp "$include"/libzcbuf*.h "$include/zcbuf.h" "$work/headers"
	abidw --headers-dir "$work/headers" --drop-private-types --drop-undefined-syms --exported-interfaces-only \
		--no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture -o "$1" "$library"
}

if [[ ${1-} == --write ]]; then
	abi out/libzcbuf.abi
	exit
fi

said=$(abi "$work/abi" 2>&1 && abidiff lib/libzcbuf.abi "$work/abi" 2>&1)
check $? 'functions and structures are what they were' "$said"

# FUNCTION SECTION, as the linker has it and as dpkg does, which knows the release, too
sections=$(awk '/^LIBZCBUF_/ { section = $1 } /^\tzcbuf_/ { sub(";", ""); print $1, section }' lib/libzcbuf.sym | sort)
known=$(sed -nE 's/^ (zcbuf_[a-z_]+)@(LIBZCBUF_[0-9.]+) .*/\1 \2/p' packaging/debian/libzcbuf1.symbols | sort)
[[ $sections ]] || { echo 'Bail out! nothing to compare'; exit 1; }
nothing 'no function came, went or changed its section unnoticed' "$(diff <(echo "$known") <(echo "$sections"))"
nothing 'each is in the section of the release that brought it' \
	"$(sed -nE 's/^ (zcbuf_[a-z_]+)@LIBZCBUF_([0-9.]+) (.*)/\1 \2 \3/p' packaging/debian/libzcbuf1.symbols | awk 'index($3, $2 ".") != 1')"
done_testing
