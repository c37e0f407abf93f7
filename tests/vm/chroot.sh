#!/usr/bin/env bash
# chroot.sh ROOT CHECKOUT UID:GID COMMAND…: runs COMMAND as that user in the guest's root, where the checkout
# has its usual path. Needs root; its mounts are private and vanish with it.
set -euo pipefail

if [[ ${1-} != --inside ]]; then
	exec unshare --mount --propagation private -- "$0" --inside "$@"
fi
root=$2 checkout=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmp "$root/tmp"
mkdir -p "$root$checkout"
mount --bind "$checkout" "$root$checkout"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" env -i -C "$checkout" HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	LC_ALL=C.UTF-8 TERM="${TERM-dumb}" "$@"
