#!/bin/bash
# build.sh GUEST [arm64]: runs in the guest's root, natively. Compiles everything, for every kernel, and installs it to
# out/root, which the guest sees on top of its own root. For arm64 all is cross-compiled, and goes to out/root-arm64.
set -euo pipefail
guest=$1 arch=${2-} build=out/build${2+-$2} root=out/root${2+-$2} system=${2+/$2}

options=("--libdir=lib/$(gcc -print-multiarch)" -Dgst=enabled)
[[ ! $arch ]] || options=(--cross-file "tests/vm/$arch.ini" --libdir=lib/aarch64-linux-gnu -Dgst=disabled)
mapfile -t releases < <(awk '{ print $2 }' "$system/boot/kernels")

# What was configured in another root must not be built on in this one.
[[ $(cat "$build.guest" 2> /dev/null) == "$guest" ]] || rm -rf "$build"
if [[ ! -e $build/build.ninja ]]; then
	rm -rf "$build"
	dirs=$(printf ",'/lib/modules/%s/build'" "${releases[@]}")
	meson setup "$build" --prefix=/usr "${options[@]}" -Dwerror=true -Dtests=true "-Dkernel_dir=[${dirs#,}]"
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
		cp -rs "$system/usr/lib/modules/$release" "/tmp/$release/lib/modules"
		cp -r "$root.new/$modules" "/tmp/$release/lib/modules/$release"
		depmod -b "/tmp/$release" "$release"
		find "/tmp/$release/lib/modules/$release" -maxdepth 1 -type f -exec cp -t "$index" {} +
		cp -r "$root.new/$modules" "$index/updates"
	fi
	cp "$index"/modules.* "$root.new/usr/lib/modules/$release"
done
rm -rf "$root"
mv -T "$root.new" "$root"
