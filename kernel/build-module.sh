#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# build-module.sh SOURCE BUILD KERNEL_DIR STAMP DEPFILE [MAKE-FLAGS…]: builds the module out of tree. The kernel's
# make writes beside the sources, so BUILD gets a tree of links to them.
set -eu
source=$1 build=$2 kernel=$3 stamp=$4 depfile=$5
shift 5

mkdir -p "$build"
for part in kernel uapi; do
	cp -rsf "$source/$part" "$build"
	find "$build/$part" -xtype l -delete # what is no longer in the source
	# A directory is newer when a file came or went, so ninja runs this again for that, too.
	find "$source/$part" \( -type f -o -type d \) ! -name '.*' -printf '%p '
done | sed "s|^|$stamp: |" > "$depfile"
# Without the kernel image, which headers do not bring, BTF is only a remark on each build.
make -s -C "$kernel" M="$build/kernel" CONFIG_DEBUG_INFO_BTF_MODULES= -j"$(nproc)" "$@" modules
touch "$stamp"
