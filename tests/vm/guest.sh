#!/usr/bin/env bash
# Builds the guest: one Debian trixie root with every supported kernel, for chroot and for QEMU.
#
#   guest.sh build DIR        make DIR (as root)
#   guest.sh own_kernel NAME BASE DIR
#                             make DIR: BASE, and a kernel that looks for faults, by NAME.config
#   guest.sh arm64 BASE DIR   make DIR: BASE, a cross compiler, and in DIR/arm64 a guest for it to compile for
#
# mmdebstrap calls it back as 'guest.sh kernels DIR' and 'guest.sh finish DIR'.
set -euo pipefail

mirror=http://deb.debian.org/debian
security=http://deb.debian.org/debian-security

packages=(
	# compile and check
	gcc gcc-12 clang libclang-rt-dev make meson ninja-build pkg-config python3 perl
	cppcheck clang-tidy clang-format sparse shellcheck codespell
	libdrm-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev
	check liburing-dev libibverbs-dev libcap-dev libc6-dbg
	# what the kernels' own packages ask for
	kmod libelf1t64 libssl3t64 pahole
	# be a system
	bash busybox-static ca-certificates dropbear-bin e2fsprogs iproute2 procps psmisc socat udev util-linux
	acl libcap2-bin less mandoc xz-utils zstd
	# be the machine of all that
	qemu-system-x86
	# look inside
	gdb strace valgrind trace-cmd linux-perf
	# real users of buffers
	gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
	gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-gl gstreamer1.0-x libdrm-tests v4l-utils weston
	rdma-core ibverbs-utils netpbm pipewire gstreamer1.0-pipewire
	# EGL
	libgl1-mesa-dri libegl-dev libgles-dev libgbm-dev jq file
	# a reader of man pages, and shells to complete in
	man-db bash-completion fish zsh
	# packages, and what watches the library's ABI
	abigail-tools debhelper dkms lintian
	# other people's programs and languages
	libavutil-dev libpipewire-0.3-dev libwayland-dev wayland-protocols rustc
)

# The smaller guest of arm64: what the tests of the module and the library need. Those that compile are not for it.
arm64_packages=(
	bash busybox-static coreutils dash diffutils dropbear-bin findutils grep gzip hostname iproute2 kmod libc-bin login mawk mount
	procps python3-minimal sed socat strace tar util-linux
	acl gdb libcap2-bin libc6-dbg rdma-core valgrind
	libasan8 libtsan2 libubsan1 libdrm-dev libibverbs-dev liburing-dev libc6-dev
)

# Modules that no virtual machine of ours can use: most of the bytes, and most of depmod's time.
unused_modules=(
	sound drivers/{accel,ata,atm,bluetooth,comedi,crypto,edac,firewire,hwmon,iio,isdn,leds,mfd,mmc,mtd,nfc}
	drivers/{nvme,platform,power,scsi,staging,target,thunderbolt,watchdog}
	drivers/gpu/drm/{amd,gma500,i915,nouveau,radeon,vmwgfx,xe} drivers/infiniband/{hw,ulp}
	drivers/media/{dvb-frontends,firewire,i2c,pci,radio,tuners,usb} drivers/net/{can,ethernet,usb,wireless,wwan}
	drivers/input/{joystick,misc,tablet,touchscreen} drivers/usb/{misc,serial,storage}
	fs/{afs,bcachefs,btrfs,ceph,gfs2,nfs,nfsd,ocfs2,orangefs,smb,ubifs,xfs}
	net/{batman-adv,bluetooth,can,ceph,dccp,mac80211,netfilter,sctp,tipc,wireless}
)

proxy_options() {
	local key value
	for key in Acquire::http::Proxy Acquire::http::Proxy::deb.debian.org; do
		eval "$(apt-config shell value "$key")"
		[[ -z ${value:-} ]] || printf '%s\n' "--aptopt=$key \"$value\""
		value=
	done
}

build() {
	local root=$1 self options include
	self=$(realpath "$0")
	mapfile -t options < <(proxy_options)
	include=$(IFS=,; printf %s "${packages[*]}")
	mmdebstrap --verbose --mode=root --format=directory --variant=apt --include="$include" "${options[@]}" \
		--aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Sandbox::User "root"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--essential-hook="$self no_services \"\$1\"" \
		--customize-hook="$self kernels \"\$1\"" --customize-hook="$self finish \"\$1\"" \
		trixie "$root" \
		"deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main"
}

no_services() { install -m 755 <(printf '#!/bin/sh\nexit 101\n') "$1/usr/sbin/policy-rc.d"; }

in_root() { chroot "$root" env HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

# The kernels are unpacked, not installed: 6.1 comes from bookworm, which must add nothing else to the
# guest, and none needs the initramfs-tools and hooks that their packages depend on.
kernels() {
	root=$1 system=$root arch=amd64
	cat > "$root/etc/apt/sources.list.d/kernels.list" <<-LIST
		deb $mirror trixie-backports main
		deb $mirror bookworm main
		deb $security bookworm-security main
	LIST
	printf 'Package: *\nPin: release n=bookworm*\nPin-Priority: 100\n' > "$root/etc/apt/preferences.d/bookworm"
	in_root apt-get -q update
	in_root apt-cache pkgnames linux- | sort -V > "$root/tmp/names"
	add_kernel 6.1 '6\.1\.0-[0-9]+' linux-kbuild-6.1
	add_kernel 6.12 '6\.12\.[0-9]+\+deb13'
	add_kernel 7.3 '7\.3\.[0-9]+\+deb13'
	rm "$root/tmp/names"
	# which is in no package of headers
	unpack_source /usr/src/checkpatch 2 linux-source-7.3/scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch}
}

# unpack_source DIR LEVELS [FILES…]: all of the newest kernel's source, or some files, without the LEVELS above them
unpack_source() {
	mkdir -p "$root$1"
	in_root sh -c 'cd /tmp && apt-get -q download linux-source-7.3'
	dpkg-deb --fsys-tarfile "$root"/tmp/linux-source-*.deb | tar -xO ./usr/src/linux-source-7.3.tar.xz |
		tar -xJ -C "$root$1" --strip-components="$2" "${@:3}"
	rm "$root"/tmp/linux-source-*.deb
}

# add_kernel NAME ABI-PATTERN [PACKAGE]: the newest one of $arch that has headers. Those are for $root, where modules are
# compiled, the kernel is for $system.
add_kernel() {
	local name=$1 pattern=$2 abi version debs
	abi=$(sed -nE "s/^linux-headers-($pattern)-$arch\$/\1/p" "$root/tmp/names" | tail -n 1)
	[[ $abi ]] || { echo "$mirror has no kernel $name for Debian any more: tests/vm/guest.sh has to learn a newer one" >&2; exit 1; }
	version=$abi-$arch
	echo "Kernel $name is $version"
	mapfile -t debs < <(printf '%s\n' linux-{image,modules,binary,base,headers}-"$version" \
		"linux-headers-$abi-common" "linux-kbuild-$abi" "${@:3}" | grep -xFf "$root/tmp/names")
	mkdir -p "$root/tmp/debs"
	in_root sh -c 'cd /tmp/debs && apt-get -q download "$@"' sh "${debs[@]}"
	local deb to
	for deb in "$root"/tmp/debs/*.deb; do
		to=$system
		[[ ${deb##*/} == linux-@(image|modules|binary|base)-* ]] || to=$root
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x -C "$to" --keep-directory-symlink "${unused_modules[@]/#/--exclude=*/$version/kernel/}" \
				--exclude='./usr/share/doc' --exclude='./usr/share/lintian' --exclude='*.dtb'
	done
	rm -r "$root/tmp/debs"
	[[ -e $system/boot/vmlinuz-$version ]] || ln "$system/usr/lib/modules/$version/vmlinuz" "$system/boot/vmlinuz-$version"
	# unpacking them again and again would take the emulated machine seconds at each start
	in_root find "${system#"$root"}/usr/lib/modules/$version" -name '*.ko.xz' -exec xz -d {} +
	in_root depmod -b "${system#"$root"}/" "$version"
	add_initrd "$version"
	echo "$name $version" >> "$system/boot/kernels"
}

# Just enough to find the real root: static busybox, the modules for it, unpacked, and a script.
add_initrd() {
	local version=$1 dir=$root/tmp/initrd module
	mkdir -p "$dir"/{bin,modules,proc,sys,dev,lower,project,rw,root}
	cp "$system/bin/busybox" "$dir/bin/"
	cp "${0%/*}/initrd-init" "$dir/init"
	: > "$dir/modules/order"
	for module in $(in_root modprobe -d "${system#"$root"}/" -S "$version" -a --show-depends virtio_pci 9pnet_virtio 9p overlay |
			awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
		cp -t "$dir/modules" "$root$module"
		echo "${module##*/}" >> "$dir/modules/order"
	done
	(cd "$dir" && find . | "$root/bin/busybox" cpio -o -H newc) | gzip -1 > "$system/boot/initrd-$version"
	rm -r "$dir"
}

# share BASE [ARCH]: $root becomes BASE, whose files it shares, and apt can be used in it, for packages of ARCH, too
share() {
	local options
	cp -al "$1" "$root"
	mapfile -t options < <(proxy_options)
	printf '%s;\n' "${options[@]#--aptopt=}" > "$root/etc/apt/apt.conf.d/proxy"
	[[ ! ${2-} ]] || in_root dpkg --add-architecture "$2"
	in_root apt-get -q update
}

no_lists() { rm -r "$root"/var/lib/apt/lists/* "$root/etc/apt/apt.conf.d/proxy"; }

# A guest of another architecture. None of its programs can run here, so its packages are only unpacked, and what their
# scripts would have done is what BASE has, too.
arm64() {
	local base=$1 options include
	root=$2 system=$root/arm64 arch=arm64
	share "$base" $arch
	in_root apt-get -q -y --no-install-recommends install gcc-aarch64-linux-gnu device-tree-compiler qemu-system-arm
	mapfile -t options < <(proxy_options)
	include=$(IFS=,; printf %s "${arm64_packages[*]}")
	mmdebstrap --mode=root --format=directory --variant=extract --architectures=$arch --include="$include" "${options[@]}" \
		--aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Sandbox::User "root"' \
		trixie "$system" \
		"deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main"
	rm -r "$system"/usr/share/{doc,info,locale,man}
	cp -a -t "$system/etc" "$root"/etc/{dropbear,fstab,group,hostname,hosts,passwd,shadow,shells}
	ln -s mawk "$system/usr/bin/awk"
	in_root apt-cache pkgnames linux- | sort -V > "$root/tmp/names"
	add_kernel 6.12 '6\.12\.[0-9]+\+deb13'
	rm "$root/tmp/names"
	ln -t "$system/boot" "$root/boot/scratch.img"
	mkdir -p "$system"/{mnt/scratch,usr/local/bin}
	readable "$system"
	no_lists
}

# What add_kernel does with a kernel of Debian's, from its source and NAME.config. DIR shares BASE's files.
own_kernel() { # own_kernel NAME BASE DIR
	local name=$1 base=$2 tree=/usr/src/linux-$1 refused version options=(LOCALVERSION="-$1")
	root=$3 system=$root
	share "$base"
	mount -t proc proc "$root/proc"
	in_root apt-get -q -y --no-install-recommends install bc bison flex libelf-dev
	unpack_source "$tree" 1
	no_lists

	cat "${0%/*}"/{machine,"$name"}.config > "$root$tree/our.config"
	in_root make -C "$tree" tinyconfig
	in_root sh -c "cd $tree && scripts/kconfig/merge_config.sh -m .config our.config"
	in_root make -C "$tree" olddefconfig
	refused=$(grep 'CONFIG_' "$root$tree/our.config" | grep -vxFf "$root$tree/.config") || true
	[[ ! $refused ]] || { echo "$name.config asks for what Linux does not do: ${refused//$'\n'/, }" >&2; exit 1; }
	# races are looked for in the module only
	in_root make -C "$tree" -j "$(nproc)" "${options[@]}" KCSAN_SANITIZE=n bzImage modules
	in_root make -C "$tree" "${options[@]}" modules_install

	version=$(< "$root$tree/include/config/kernel.release")
	cp "$root$tree/arch/x86/boot/bzImage" "$root/boot/vmlinuz-$version"
	in_root make -C "$tree" "${options[@]}" run-command \
		KBUILD_RUN_COMMAND="\$(srctree)/scripts/package/install-extmod-build /usr/src/linux-headers-$version"
	ln -sfn "/usr/src/linux-headers-$version" "$root/usr/lib/modules/$version/build"
	rm -r "${root:?}$tree"
	cp --remove-destination "$base/boot/kernels" "$root/boot/"
	add_initrd "$version"
	echo "$name $version" >> "$root/boot/kernels"
	umount "$root/proc"
}

# A user's QEMU has to read all of it.
readable() { find "$1" -xdev \( -type d ! -perm -005 -o -type f ! -perm -004 \) -exec chmod o+rX {} +; }

finish() {
	root=$1
	# The wire to the guest is private to its QEMU: no password needed.
	in_root passwd -q -d root
	in_root sh -c 'mkdir -p /etc/dropbear && dropbearkey -t ed25519 -f /etc/dropbear/key > /dev/null'
	# The first gst-launch would spend ten seconds of the virtual machine on scanning the plugins.
	in_root gst-inspect-1.0 > /dev/null 2>&1
	echo guest > "$root/etc/hostname"
	printf '127.0.0.1 localhost guest\n' > "$root/etc/hosts"
	: > "$root/etc/fstab"
	mkdir -p "$root/mnt/scratch"
	in_root mke2fs -q -t ext4 /boot/scratch.img 2G
	readable "$root"
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
}

"$@"
