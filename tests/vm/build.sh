#!/bin/bash
# build.sh GUEST: runs in the guest's root, natively. Compiles everything, for every kernel, and installs it to
# out/root, which the guest sees on top of its own root.
set -euo pipefail
guest=$1 build=out/build root=out/root

mapfile -t releases < <(awk '{ print $2 }' /boot/kernels)

# What was configured in another root must not be built on in this one.
[[ $(cat "$build.guest" 2> /dev/null) == "$guest" ]] || rm -rf "$build"
if [[ ! -e $build/build.ninja ]]; then
	rm -rf "$build"
	dirs=$(printf ",'/lib/modules/%s/build'" "${releases[@]}")
	meson setup "$build" --prefix=/usr "--libdir=lib/$(gcc -print-multiarch)" -Dwerror=true -Dtests=true -Dgst=enabled "-Dkernel_dir=[${dirs#,}]"
	echo "$guest" > "$build.guest"
fi
ninja -C "$build"

rm -rf "$root.new"
meson install -C "$build" --no-rebuild --quiet --destdir "$PWD/$root.new"

# modprobe needs the index of the guest's own modules and ours together.
for release in "${releases[@]}"; do
	modules=usr/lib/modules/$release/updates
	[[ -d $root.new/$modules ]] || continue
	index=$build/index-$release
	if ! diff -qr "$index/updates" "$root.new/$modules" > /dev/null 2>&1; then
		rm -rf "$index" "/tmp/$release"
		mkdir -p "/tmp/$release/lib/modules" "$index"
		cp -rs "/usr/lib/modules/$release" "/tmp/$release/lib/modules"
		cp -r "$root.new/$modules" "/tmp/$release/lib/modules/$release"
		depmod -b "/tmp/$release" "$release"
		find "/tmp/$release/lib/modules/$release" -maxdepth 1 -type f -exec cp -t "$index" {} +
		cp -r "$root.new/$modules" "$index/updates"
	fi
	cp "$index"/modules.* "$root.new/usr/lib/modules/$release"
done
rm -rf "$root"
mv -T "$root.new" "$root"
