#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# install-module.sh BUILD DIR: what the kernel's make built goes to DIR, below DESTDIR when meson is given one.
set -eu
dir=${DESTDIR-}$2
mkdir -p "$dir"
install -m 644 "$1"/*.ko "$dir"
