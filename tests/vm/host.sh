# shellcheck shell=bash
# The host's side of the virtual machine, sourced by ./run: sets up the host and the guest, builds, boots.

# What stands behind a + is how the machine differs from a plain one, see write_qemu.
kernels=(debug 7.3 6.1 6.12+arm64 6.12 7.3+cma 7.3+bounce)
debug_kernels=(debug debug+bounce kcsan) # for all there is, in hours
bench_kernels=(6.1+icount 6.12+icount 6.12 7.3+icount 7.3)
default_kernel=7.3
vm_died=70 # the status of a command whose machine went away
# shellcheck disable=SC2154 # set by ./run
vm=$checkout/tests/vm
out=$checkout/out
cache=${XDG_CACHE_HOME:-$HOME/.cache}/zcbuf

say() { printf 'zcbuf: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
	if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

# What still runs, or lies about half-made, when ./run ends for whatever reason.
logged_job='' # the process group of with_log
wire='' vm_dir='' # the ssh and the directory of run_in_vm
machines=() # the processes of command_test
new_guest=''

leave() {
	trap - EXIT
	trap '' INT TERM HUP
	[[ -z $logged_job ]] || kill -TERM -- "-$logged_job" 2> /dev/null || true
	((${#machines[@]} == 0)) || kill -TERM "${machines[@]}" 2> /dev/null || true
	end_vm
	wait
	[[ -z $new_guest ]] || as_root rm -rf --one-file-system "$new_guest"
}

leave_nothing_behind() {
	trap leave EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
}

# Everything that ./run needs before it can run something, on the KERNELS if that is more than the usual guest.
prepare() { # prepare [KERNELS…]
	leave_nothing_behind
	if ((EUID != 0)); then
		command -v sudo > /dev/null || die 'needs root, to chroot into the guest'"'"'s system: install sudo or run this as root'
		sudo -v || die 'needs sudo, to chroot into the guest'"'"'s system'
	fi
	prepare_host
	prepare_guest
	[[ " $* " != *+arm64\ * ]] || prepare_arm64_guest
	[[ " $* " != *' '@(debug|kcsan)* ]] || prepare_own_kernel debug debug.config
	[[ " $* " != *' kcsan'* ]] || prepare_own_kernel kcsan {debug,kcsan}.config
	build "$guest"
	[[ " $* " != *+arm64\ * ]] || prepare_arm64
}

prepare_arm64() {
	build "$arm64_guest" arm64
	# The device tree that QEMU makes, and what we add to it. What dtc warns of is QEMU's.
	"${arm64_machine[@]}" -M "dumpdtb=$out/arm64.dtb" 2> "$out/arm64.dtb.log" ||
		die "QEMU does not tell which device tree it makes; what it says is in $out/arm64.dtb.log"
	in_root "$arm64_guest" sh -c '{ dtc -I dtb out/arm64.dtb && cat tests/vm/arm64.dts; } | dtc > out/arm64.new' 2>> "$out/arm64.dtb.log"
	mv "$out/arm64.new" "$out/arm64.dtb"
}

prepare_host() {
	local missing=() packages=() entry
	for entry in mmdebstrap:mmdebstrap ssh:openssh-client flock:util-linux gpgv:gpgv \
			/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring; do
		if [[ $entry == /* ]]; then [[ -e ${entry%%:*} ]]; else command -v "${entry%%:*}" > /dev/null; fi && continue
		missing+=("${entry%%:*}") packages+=("${entry#*:}")
	done
	((${#missing[@]})) || return 0
	command -v apt-get > /dev/null || die "needs these first, and can install them only on Debian and Ubuntu: ${missing[*]}"
	say "installing ${packages[*]} (what makes the virtual machine's system, and speaks to it)"
	local log=$cache/host-packages.log
	with_log "$log" 'installing host packages' install_host_packages "${packages[@]}" ||
		{ tail -n 30 "$log" >&2; die "apt-get could not install them; all it said: $log"; }
}

install_host_packages() {
	local install=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install)
	"${install[@]}" "$@" || { as_root apt-get -q update && "${install[@]}" "$@"; }
}

# with_log LOG WHAT COMMAND…: the output goes to LOG; a terminal sees its last line, others a sign of life
with_log() {
	local log=$1 what=$2 start=$SECONDS pid i
	shift 2
	mkdir -p "${log%/*}"
	set -m # a process group of its own, to end all of it
	"$@" > "$log" 2>&1 < /dev/null &
	set +m
	logged_job=$! pid=$!
	for ((i = 0; ; i++)); do
		kill -0 "$pid" 2> /dev/null || break
		if [[ -t 2 ]] && ((i >= 5)); then
			printf '\r\e[Kzcbuf: %s, %d s: %.60s' "$what" $((SECONDS - start)) "$(last_line "$log")" >&2
		elif ((i % 100 == 99)); then
			say "$what, $((SECONDS - start)) s: $(last_line "$log")"
		fi
		sleep 0.2
	done
	if [[ -t 2 ]]; then printf '\r\e[K' >&2; fi
	logged_job=
	wait "$pid"
}

last_line() { tail -n 1 "$1" | tr -cd '[:print:]' | cut -c 1-60; }

# A guest's root is named after what it is made of; whoever uses it holds a shared lock on its name.
prepare_guest() {
	guest=$cache/guest-$(key_of guest.sh initrd-init)
	mkdir -p "$cache" || die "cannot write $cache; set XDG_CACHE_HOME to a directory with 5 GB to spare"
	have_guest 5000 'Debian trixie and its kernels, 3 GB, some 2 to 4 minutes' build
	remove_old_guests
	# The guest's root brings its QEMU, so that it is the same one everywhere.
	qemu=("$guest/lib64/ld-linux-x86-64.so.2" --library-path "$guest/usr/lib/x86_64-linux-gnu"
		"$guest/usr/bin/qemu-system-x86_64" -L "$guest/usr/share/qemu" -L "$guest/usr/share/seabios")
}

# The same root, and a kernel that looks for faults.
prepare_own_kernel() { # prepare_own_kernel NAME CONFIGS…
	local name=$1 base=$guest
	shift
	guest=$cache/guest-$(key_of guest.sh initrd-init machine.config "$@")-$name
	have_guest 4000 "the $name kernel, from its source, some 15 to 40 minutes" own_kernel "$name" "$base"
}

# What compiles for arm64, and in its directory arm64 the guest that it compiles for.
prepare_arm64_guest() {
	local base=$guest guest
	guest=$cache/guest-$(key_of guest.sh initrd-init)-arm64
	have_guest 2000 'a cross compiler, QEMU and Debian for arm64, 1 GB, a minute' arm64 "$base"
	arm64_guest=$guest
	# pauth-impdef: emulating how ARM signs pointers is slow
	local own_qemu=("${qemu[@]/#"$base"/"$guest"}")
	arm64_machine=("${own_qemu[@]/system-x86_64/system-aarch64}" -nodefaults -no-user-config -M virt
		-accel 'tcg,thread=multi' -cpu 'max,pauth-impdef=on' -smp 2 -m 3G)
}

key_of() { (cd "$vm" && cat "$@") | sha256sum | cut -c 1-16; }

# have_guest MEGABYTES WHAT COMMAND…: $guest is there, or guest.sh COMMAND makes it
have_guest() {
	local lock build_lock
	exec {lock}> "$guest.lock"
	flock -s "$lock"
	if [[ ! -d $guest ]]; then
		exec {build_lock}> "$cache/build.lock"
		flock -n "$build_lock" || { say "another ./run makes a guest's system; waiting for it"; flock "$build_lock"; }
		[[ -d $guest ]] || make_guest "$@"
		exec {build_lock}>&-
	fi
	touch "$guest.lock"
}

make_guest() {
	local megabytes=$1 what=$2 free start=$SECONDS
	shift 2
	free=$(df --output=avail -m "$cache" | tail -n 1)
	((free > megabytes)) || die "$cache has $free MB free, the guest's system needs $megabytes; free some or set XDG_CACHE_HOME"
	say "making the guest's system in $cache: $what, once"
	new_guest=$cache/new
	as_root rm -rf --one-file-system "$new_guest"
	with_log "$guest.log" "making the guest's system" as_root unshare --mount -- "$vm/guest.sh" "$@" "$new_guest" ||
		{ tail -n 30 "$guest.log" >&2; die "making the guest's system failed (is deb.debian.org within reach?); all it said: $guest.log"; }
	as_root mv -T "$new_guest" "$guest"
	new_guest=
	say "the guest's system is ready ($((SECONDS - start)) s)"
}

# Roots that nothing used for a day go.
remove_old_guests() {
	local lock
	while read -r lock; do
		[[ ! -d ${lock%.lock} ]] || as_root flock -n "$lock" rm -rf --one-file-system "${lock%.lock}" "${lock%.lock}.log" || true
	done < <(find "$cache" -maxdepth 1 -name 'guest-*.lock' -mmin +1440)
}

root_of() {
	case $1 in
	*+arm64) echo "$arm64_guest/arm64" ;;
	*) echo "$guest" ;;
	esac
}

version_of() { awk -v name="${1%+*}" '$1 == name { print $2 }' "$(root_of "$1")/boot/kernels"; }

in_root() { as_root "$vm/chroot.sh" "$1" "$checkout" "$(id -u):$(id -g)" "${@:2}"; }
in_guest_root() { in_root "$guest" "$@"; }

# Compiles in the root GUEST, natively. out/root, or out/root-ARCH, is what the guest sees on top of its own root.
build() { # build GUEST [ARCH]
	local start=$SECONDS
	[[ $checkout != *[[:space:]:]* ]] || die "cannot build in '$checkout': the kernel's make wants a path without spaces and colons"
	mkdir -p "$out/root${2+-$2}"
	[[ -e $checkout/meson.build ]] || return 0
	exec {lock}> "$out/build.lock"
	flock "$lock"
	with_log "$out/build.log" "building${2+ for $2}" in_root "$1" "$vm/build.sh" "$@" || {
		# what succeeded before the first failure is of no interest
		sed -n '/FAILED:\|ERROR\|[Ee]rror:/,$p' "$out/build.log" >&2
		die "the build failed; all its output: $out/build.log"
	}
	((SECONDS - start < 5)) || say "built${2+ for $2} in $((SECONDS - start)) s"
	exec {lock}>&-
}

accelerator() {
	local verdict
	verdict=$cache/kvm-$(cat /proc/sys/kernel/random/boot_id)
	if [[ ! -e $verdict ]]; then
		rm -f "$cache"/kvm-*
		if [[ ! -w /dev/kvm ]]; then
			echo 'no usable /dev/kvm' > "$verdict"
		else
			say 'trying KVM, 10 s at most'
			local version console
			version=$(version_of "$default_kernel")
			console=$(timeout -k 1 10 "${qemu[@]}" -nodefaults -no-user-config -M q35 -accel kvm -cpu max,la57=off \
				-smp 2 -m 512M -display none -serial stdio -no-reboot -kernel "$guest/boot/vmlinuz-$version" \
				-initrd "$guest/boot/initrd-$version" -append 'console=ttyS0 panic=-1 only-boot' 2>&1 < /dev/null) || true
			if [[ $console == *'the kernel runs'* ]]; then
				echo works > "$verdict"
			else
				echo '/dev/kvm exists but boots no kernel' > "$verdict"
			fi
		fi
	fi
	kvm=$(< "$verdict")
	if [[ $kvm == works ]]; then
		accel=kvm
		accel_text='KVM'
	else
		accel=tcg
		accel_text="emulation ($kvm)"
	fi
}

announce() {
	accelerator
	say "Linux $(version_of "$1") in QEMU with $accel_text"
}

# run_in_vm KERNEL COMMAND…: boots, runs it in the checkout with our standard streams, returns its exit status.
#
# The wire is a virtio-serial port that speaks SSH: QEMU is the ProxyCommand and its standard streams are the
# port. So streams stay apart and binary-clean, terminals work, and no network or host port is involved.
run_in_vm() {
	local kernel=$1 remote status=0 arch
	[[ $kernel != *+arm64 ]] || arch=arm64
	shift
	accelerator
	remove_dead_vms
	rm -f "$out/vm/$kernel.console.log"
	vm_dir=$out/vm/$kernel.$BASHPID
	mkdir -p "$vm_dir"
	cp -al "$out/root${arch+-$arch}" "$vm_dir/root" # the next build must not change it under a running guest
	write_qemu "$kernel" "$vm_dir" > "$vm_dir/qemu"
	# The status comes back by way of out/, too: of a 255 alone nobody could say whether it is the command's or the
	# wire's. The shell's own remarks ('Segmentation fault') are not the command's output. What the command leaves
	# running, in its cgroup, would keep the wire open.
	remote="cd ${checkout@Q} && export LC_ALL=C.UTF-8 XDG_RUNTIME_DIR=/run/user/0; trap : INT; exec 3>&2 2> /dev/null
		group=/sys/fs/cgroup/command; mkdir \$group
		(echo 0 > /proc/self/oom_score_adj; echo \$BASHPID > \$group/cgroup.procs; exec -- ${*@Q} 2>&3 3>&-); status=\$?
		echo 1 > \$group/cgroup.kill; echo \$status > ${vm_dir@Q}/status; exit \$status"
	connect "$remote" || status=$?
	if ((status == 255)) && [[ ! -s $vm_dir/status ]]; then
		status=$vm_died
		report_death "$kernel" "$vm_dir"
	fi
	end_vm
	return "$status"
}

connect() {
	local tty=-T stdout=1 drain='' first status=0
	if [[ -t 0 && -t 1 && -t 2 ]]; then tty=-t; elif [[ -t 0 ]]; then exec < /dev/null; fi
	# The guest cannot know that the reader of our output went away, and ssh would wait for it: cat notices.
	if [[ -p /dev/stdout ]]; then
		mkfifo "$vm_dir/stdout"
		cat "$vm_dir/stdout" &
		drain=$!
		exec {stdout}> "$vm_dir/stdout"
	fi
	# shellcheck disable=SC2016 # for the shell of ProxyCommand, so that no path needs quoting
	SHELL=/bin/sh ZCBUF_VM=$vm_dir ssh -F none "$tty" -e none -o ProxyCommand='bash "$ZCBUF_VM/qemu"' \
		-o ConnectTimeout=180 -o ServerAliveInterval=30 -o ServerAliveCountMax=10 -o LogLevel=QUIET \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o IdentityAgent=none -o PreferredAuthentications=none root@guest "$1" <&0 >&"$stdout" &
	wire=$!
	if [[ -z $drain ]]; then
		wait "$wire"
		return
	fi
	exec {stdout}>&-
	wait -n -p first "$wire" "$drain" || status=$?
	if [[ $first == "$wire" ]]; then
		wait "$drain" || true
	elif ((status == 0)); then
		wait "$wire" || status=$?
	fi
	return "$status"
}

# The directories of ./runs that were killed and could not clean up.
remove_dead_vms() {
	local dir
	for dir in "$out"/vm/*/; do
		dir=${dir%/}
		kill -0 "${dir##*.}" 2> /dev/null || rm -rf "$dir"
	done
}

write_qemu() {
	local kernel=$1 dir=$2 root version vga=std size=3G how=$accel machine
	# CPUs that are emulated by threads race each other as real ones do. Those that share one change places every
	# 100 ms, and leave a small host its other CPU for another machine.
	[[ $accel != tcg ]] || case $kernel in
	*+cma | debug* | kcsan*) how+=,thread=multi ;;
	*) how+=,thread=single ;;
	esac
	local cpus=(-accel "$how" -cpu 'max,la57=off' -smp 2)
	# RAM for carveouts, see init; fresh pages are as they were, so that what we fail to clear is seen
	local memory='iomem=relaxed init_on_alloc=0' reserved='memmap=16M$0x60000000' console='ttyS0 tsc=reliable no_timer_check'
	case $kernel in
	*+cma) # physically contiguous memory is set aside, and there is room for a buffer of 4 GiB
		memory+=' cma=64M' size=6G ;;
	*+bounce) memory+=' swiotlb=force' ;; # devices reach bounce buffers only
	# the clock counts instructions, a nanosecond each; string instructions would count once for each byte
	*+icount) cpus=(-accel tcg -icount 'shift=0,sleep=off' -cpu 'max,la57=off,erms=off,fsrm=off' -smp 1) ;;
	esac
	# what it knows of each byte takes memory, and what it warns of is a fault
	[[ $kernel != @(debug|kcsan)* ]] || { size=5G; memory+=' panic_on_warn=1'; }
	root=$(root_of "$kernel") version=$(version_of "$kernel")
	[[ ${kernel%+*} != 6.12 ]] || vga=cirrus # the one that imports dma-bufs there
	machine=("${qemu[@]}" -nodefaults -no-user-config -M q35 "${cpus[@]}" -m "$size" -vga "$vga")
	case $kernel in
	*+arm64)
		machine=("${arm64_machine[@]}" -dtb "$out/arm64.dtb" -device "$vga-vga")
		console=ttyAMA0 reserved=''
		;;
	esac
	local share=security_model=none,multidevs=remap
	# shellcheck disable=SC2054 # the commas are QEMU's
	local command=("${machine[@]}" -kernel "$root/boot/vmlinuz-$version" -initrd "$root/boot/initrd-$version"
		-append "console=$console log_buf_len=4M oops=panic panic=-1 drm_kms_helper.fbdev_emulation=0 $reserved $memory checkout=$(printf %s "$checkout" | base64 -w 0)" -no-reboot
		-display none -serial file:console.log -pidfile pid
		-device virtio-serial-pci -chardev stdio,id=wire,signal=off -device 'virtserialport,chardev=wire,name=wire'
		# the guest may ask QEMU for a picture of its screen: the monitor is a port of the guest
		-chardev 'socket,id=monitor,path=monitor,server=on,wait=off' -mon 'chardev=monitor,mode=control'
		-chardev socket,id=asker,path=monitor -device 'virtserialport,chardev=asker,name=monitor'
		# a device whose memory is a file here
		-object memory-backend-file,id=ivshmem,share=on,mem-path=ivshmem,size=16M
		-device ivshmem-plain,memdev=ivshmem,addr=0x10
		-drive "file=${root//,/,,}/boot/scratch.img,if=virtio,format=raw,cache=unsafe,snapshot=on"
		-virtfs "local,path=${root//,/,,},mount_tag=root,readonly=on,$share"
		-virtfs "local,path=root,mount_tag=project,readonly=on,$share"
		-virtfs "local,path=${checkout//,/,,},mount_tag=checkout,readonly=on,$share"
		-virtfs "local,path=${out//,/,,},mount_tag=out,$share")
	printf 'cd %q && TMPDIR=%q exec' "$dir" "$dir"
	printf ' %q' "${command[@]}"
	printf ' 2> qemu.log\n'
}

report_death() {
	local kernel=$1 dir=$2 kept=$out/vm/$1.console.log
	if [[ ! -e $dir/console.log ]]; then
		say "QEMU did not start: $(tail -n 3 "$dir/qemu.log")"
		return
	fi
	cp "$dir/console.log" "$kept"
	if grep -q 'Kernel panic' "$kept"; then
		say "Linux $kernel crashed; from its console ($kept):"
		sed -n '/BUG:\|Oops\|cut here\|Kernel panic/,$p' "$kept" | head -n 40 >&2
	else
		say "the virtual machine with Linux $kernel ended or does not answer; the end of its console ($kept):"
		{ tail -n 30 "$kept"; cat "$dir/qemu.log"; } >&2
	fi
}

end_vm() {
	local pid
	[[ $vm_dir ]] || return 0
	if pid=$(cat "$vm_dir/pid" 2> /dev/null); then kill -KILL "$pid" 2> /dev/null || true; fi
	if [[ $wire ]]; then
		kill "$wire" 2> /dev/null || true
		wait "$wire" || true
	fi
	rm -rf "$vm_dir"
	vm_dir='' wire=''
}

# What a machine runs that was not told, as names for run-tests. The newest kernel runs everything; the others what may turn
# out differently there. So the programs of user space run once with sanitizers, and those that take longest are not for all.
programs_of() {
	local once=('!san' '!valgrind' '!lib/abi' '!lib/api' '!lib/completion' '!lib/man' '!lib/symbols' '!charge-walk')
	local long=('!carveout-memory' '!fragmented-memory' '!out-of-memory' '!memory-types' '!module-parameters')
	case $1 in
	7.3) ;;
	6.1) printf '%s\n' kernel/ lib/ tour/ gst/{camera,display,killed,pool,sink-src,two-processes} "${once[@]}" ;;
	6.*+arm64) printf '%s\n' kernel/ lib/ '!lib/doctor' "${once[@]}" ;; # it has no v4l2-ctl and GStreamer
	6.12) printf '%s\n' kernel/ lib/ tour/ gst/{camera,display,pool,two-processes} "${once[@]}" "${long[@]}" '!lib/doctor' '!lib/top' ;;
	*+cma) printf '%s\n' kernel/ gst/{camera,pool} "${once[@]}" "${long[@]}" ;;
	debug) # where races, ways back from failures, and lives that end out of order are
		printf 'kernel/%s\n' alloc-races close-races failed-calls fences huge-mappings importer-lifetimes importer-mappings \
			importer-unload limits m2m-chain module-lifetime pool recycled vivid-streams
		echo fuzz/ioctls
		;;
	*+bounce) printf '%s\n' kernel/ gst/{camera,display,pool} "${once[@]}" "${long[@]}" '!kernel/load' ;;
	esac
}

# test_in_vm KERNEL [NAMES…]: runs the test programs; after a crash the rest of them, in a new machine.
test_in_vm() {
	local kernel=$1 results=out/test/$1 names=("${@:2}") running status
	leave_nothing_behind
	machines=()
	((${#names[@]})) || mapfile -t names < <(programs_of "$kernel")
	cd "$checkout" || return
	mkdir -p "$results"
	while :; do
		status=0
		run_in_vm "$kernel" tests/vm/test-all "$kernel" "$results" "${names[@]}" 2> "$results/machine.log" || status=$?
		((status)) || break
		running=$(cat "$results/running" 2> /dev/null) || running=machine
		rm -f "$results/running"
		{
			printf '%-10s %-32s %s\n' "$kernel" "$running" '1 FAILED: the machine died or could not start'
			sed "s/^/$kernel     /" "$results/machine.log"
		} | tee -a "$results/failures"
		cp "$out/vm/$kernel.console.log" "$results/${running//\//-}.console.log" 2> /dev/null || true
		echo "$running 0 1 0" >> "$results/results"
		[[ $running != machine ]] || break
	done
	touch "$results/finished"
}

# The tests of the source itself need no machine: the guest's root has the tools.
test_on_host() {
	mkdir -p "$out/test/source"
	[[ -d $checkout/tests/static ]] || return 0
	in_guest_root tests/vm/run-tests source out/test/source "$checkout/tests/static" "$@"
}
