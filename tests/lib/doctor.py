#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""zcbuf doctor: everything that it can find is made so, found, and gone when what it advises is done."""

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

count = failures = 0


def ok(passed, name, *remarks):
    global count, failures
    count += 1
    print(f"{'ok' if passed else 'not ok'} {count} - {name}", flush=True)
    if not passed:
        failures += 1
        for remark in remarks:
            print("#", str(remark).replace("\n", "\n# "), flush=True)
    return passed


RELEASE = os.uname().release
INSTALLED = f"/lib/modules/{RELEASE}/updates/zcbuf/zcbuf.ko"
SYSFS = "/sys/class/zcbuf"
SYSTEM = "/dev/dma_heap/zcbuf-system"
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
# GStreamer takes its time, and is tested once.
ENVIRONMENT = {**os.environ, "GST_PLUGIN_SYSTEM_PATH": "/nonexistent"}


def sh(command, **options):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, **options)


def must(command):
    run = sh(command)
    if run.returncode:
        print(f"Bail out! {command}: {run}", flush=True)
        sys.exit(1)


class Doctor:
    """What zcbuf doctor finds, after BEFORE, the beginning of a command."""

    def __init__(self, *arguments, before=(), **options):
        options.setdefault("env", ENVIRONMENT)
        self.run = subprocess.run([*before, "zcbuf", "doctor", "--json", *arguments],
                                  capture_output=True, text=True, timeout=300, **options)
        self.status = self.run.returncode
        self.findings = json.loads(self.run.stdout or "[]")

    def of(self, about, verdict=None):
        return [f for f in self.findings if f["about"] == about and verdict in (None, f["verdict"])]

    def find(self, about, verdict, *words):
        """The finding that has all these words, or an empty one."""
        found = [f for f in self.of(about, verdict) if all(word in f["finding"] for word in words)]
        return found[0] if found else {"finding": "", "remedy": ""}

    def __str__(self):
        return "\n".join(f"{f['verdict']} {f['about']}: {f['finding']} -> {f['remedy']}" for f in self.findings) + self.run.stderr


def finds(name, doctor, about, verdict, *words, remedy=None):
    """The finding is there, and the exit status is what it should be. Returns what is to be done."""
    found = doctor.find(about, verdict, *words)
    fails = any(f["verdict"] == "fail" for f in doctor.findings)
    ok(found["finding"] and doctor.status == int(fails) and (remedy is None or remedy in (found["remedy"] or "")),
       name, f"status {doctor.status}", doctor)
    return found["remedy"] or ""


def is_well(name, doctor):
    ok(doctor.status == 0 and not [f for f in doctor.findings if f["verdict"] == "fail"], name, doctor)


def follow(remedy):
    """What it says, by root, who needs no sudo; without the alternatives and conditions that are said around it."""
    command = re.split(r", and |, after |; ", re.sub(r"^.*, or: ", "", remedy))[0].replace("sudo ", "")
    run = sh(command)
    ok(remedy and run.returncode == 0, f"the remedy can be followed: {command}", run)


def write(path, text):
    with open(path, "w") as file:
        file.write(str(text))


def read(path):
    with open(path) as file:
        return file.read().strip()


@contextlib.contextmanager
def kept(*paths):
    """Copies of these nodes. The kernel would not remove them with the module, as it does its own."""
    for path in paths:
        must(f"mv {path} {path}.kept && cp -a {path}.kept {path}")
    try:
        yield
    finally:
        for path in paths:
            must(f"rm -f {path} && mv {path}.kept {path}")


@contextlib.contextmanager
def held(size, heap="zcbuf-system"):
    process = subprocess.Popen(["zcbuf", "alloc", "--hold", "--heap", heap, str(size)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stderr.readline()
    try:
        yield
    finally:
        process.communicate("\n")


def heaps():
    return json.loads(subprocess.run(["zcbuf", "list", "--json"], capture_output=True, text=True).stdout)


def modules():
    return sorted(line.split()[0] for line in read("/proc/modules").splitlines())


def ours():
    return [heap["name"] for heap in heaps() if heap["backend"] == "zcbuf"]


def mounted(mounts):
    """The beginning of a command that sees these mounts, and nobody else does."""
    return ["unshare", "--mount", "sh", "-c", mounts + ' && exec "$@"', "sh"]


# ---- a healthy machine ---------------------------------------------------------------------------

def test_healthy():
    used = [(heap["used_buffers"], heap["used_bytes"]) for heap in heaps()]
    users, before = read("/sys/module/zcbuf/refcnt"), modules()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "TMPDIR": home}
        doctor = Doctor(env=environment, cwd=home)
        text = subprocess.run(["zcbuf", "doctor"], capture_output=True, text=True, timeout=300, env=environment)
        ok(os.listdir(home) == [], "it leaves no file behind", os.listdir(home))
    is_well("on a healthy machine all is well", doctor)
    ok({f["about"] for f in doctor.findings}
       == {"kernel", "files", "module", "node", "permission", "limit", "memory", "heap", "importer", "gstreamer"},
       "everything is looked at", doctor)
    ok(all(set(f) == {"verdict", "about", "finding", "remedy"} and f["verdict"] in ("ok", "note", "warn", "fail")
           and f["finding"] and f["remedy"] != "" for f in doctor.findings), "each finding is an object of four", doctor)
    lines = text.stdout.splitlines()
    ok(text.returncode == 0 and not text.stderr and lines[-2:] == ["", "Allocating 1 MiB from zcbuf works."], "a person is told in the end", text)
    words = [line.split(None, 2)[:2] for line in lines[:-2] if not line.startswith(" ")]
    signs = {"ok": "ok", "note": "-", "warn": "warn", "fail": "FAIL"}
    ok(words == [[signs[f["verdict"]], f["about"]] for f in doctor.findings], "and the same, a line each", words, doctor)
    ok(len([line for line in lines if re.match(" +-> ", line)]) == len([f for f in doctor.findings if f["remedy"]]),
       "and below what to do", text)
    finds("the kernel", doctor, "kernel", "ok", RELEASE, os.uname().machine)
    finds("the module", doctor, "module", "ok", read("/sys/module/zcbuf/version"))
    finds("the nodes", doctor, "node", "ok", "/dev/zcbuf")
    finds("root may", doctor, "permission", "ok", "all of zcbuf's heaps", "as root")
    for heap in heaps():
        name = heap["name"] if heap["backend"] == "zcbuf" else heap["node"] or heap["name"]
        finds(f"{heap['name']} is tried", doctor, "heap", "ok", name, "allocates")
    if os.path.exists("/dev/udmabuf"):
        finds("udmabuf's limits", doctor, "heap", "note", f"list_limit {read('/sys/module/udmabuf/parameters/list_limit')}",
              f"size_limit_mb {read('/sys/module/udmabuf/parameters/size_limit_mb')}")
    finds("the plugin of GStreamer", doctor, "gstreamer", "ok", "/gstreamer-1.0/libgstzcbuf.so")
    ok([(heap["used_buffers"], heap["used_bytes"]) for heap in heaps()] == used and read("/sys/module/zcbuf/refcnt") == users,
       "no buffer and no open node is left behind")
    ok(modules() == before, "no module is loaded", before, modules())


def test_usage():
    for arguments, message in ((["--size", "x"], "not a size"), (["--size", "0"], "not a size"), (["x"], "not expected"),
                               (["--no-such"], "unrecognized option")):
        run = subprocess.run(["zcbuf", "doctor", *arguments], capture_output=True, text=True)
        ok(run.returncode == 2 and message in run.stderr and not run.stdout, f"doctor {' '.join(arguments)}: status 2", run)


# ---- kernel and module ---------------------------------------------------------------------------

def test_kernel():
    doctor = Doctor(before=["setarch", "--uname-2.6"])
    finds("a kernel that is too old", doctor, "kernel", "warn", "Linux 2.6", "6.1 and later", remedy="newer kernel")
    if os.uname().machine == "x86_64":
        finds("another architecture", Doctor(before=["setarch", "i686"]), "kernel", "warn", "i686")


def patched(path, old, new):
    """The module with other words in it, of the same length."""
    with open(INSTALLED, "rb") as file:
        module = file.read()
    assert module.count(old) == 1 and len(old) == len(new)
    with open(path, "wb") as file:
        file.write(module.replace(old, new))


def test_module():
    must("modprobe -r zcbuf")
    before = modules()
    doctor = Doctor()
    remedy = finds("the module is not loaded", doctor, "module", "fail", "installed, but not loaded", remedy="sudo modprobe zcbuf")
    finds("without it, what cannot be looked at", doctor, "node", "note", "not looked at")
    finds("and what cannot be tried", doctor, "importer", "note", "not tried")
    ok(doctor.find("heap", "ok", "memfd")["finding"], "what there is without it is tried", doctor)
    ok(modules() == before, "it loads no module", before, modules())
    text = subprocess.run(["zcbuf", "doctor"], capture_output=True, text=True, env=ENVIRONMENT)
    ok(text.returncode == 1 and re.search("^FAIL  module .*\n +-> sudo modprobe zcbuf$", text.stdout, re.M)
       and text.stdout.endswith("Something prevents allocating 1 MiB from zcbuf: see FAIL.\n"), "a person sees it at a glance", text)
    nobody = Doctor(**NOBODY)
    ok(nobody.status == 1 and nobody.find("module", "fail", "not loaded")["remedy"] == "sudo modprobe zcbuf", "every user sees it", nobody)
    finds("who may not read the kernel's log is told so", nobody, "module", "note", "the kernel's log: Operation not permitted")
    finds("a kernel that is too old", Doctor(before=["setarch", "--uname-2.6"]), "kernel", "fail", "Linux 2.6")

    for name, mounts, words, remedy_words in (
        ("modprobe does not know it", f"mount --bind /dev/null /lib/modules/{RELEASE}/modules.dep.bin", ["does not know", INSTALLED], "depmod"),
        ("it was built for other kernels only", f"mount -t tmpfs none {os.path.dirname(INSTALLED)}", ["not built for this kernel"], f"/lib/modules/{RELEASE}/build"),
        ("it is not installed", f"mount -t tmpfs none /lib/modules && mkdir /lib/modules/{RELEASE}", ["not installed"], f"linux-headers-{RELEASE}"),
        ("there are no modules of this kernel", "mount -t tmpfs none /lib/modules", [f"/lib/modules/{RELEASE} is not there"], "reboot"),
    ):
        finds(name, Doctor(before=mounted(mounts)), "module", "fail", *words, remedy=remedy_words)
    with tempfile.TemporaryDirectory() as sources:
        os.mkdir(f"{sources}/zcbuf-1")
        finds("DKMS can build it", Doctor(before=mounted(f"mount --bind {sources} /usr/src && mount -t tmpfs none {os.path.dirname(INSTALLED)}")),
              "module", "fail", remedy="sudo dkms autoinstall && sudo modprobe zcbuf")
    others = [path for path in glob.glob("/lib/modules/*/updates/zcbuf/zcbuf.ko") if path != INSTALLED]
    if others:
        other = others[0].split("/")[3]
        finds("what is installed was built for another kernel", Doctor(before=mounted(f"mount --bind {others[0]} {INSTALLED}")),
              "module", "fail", f"built for {other} instead", remedy="meson")
        sh(f"insmod {others[0]}")
        finds("and the kernel's log says that it was tried", Doctor(), "module", "warn", "the kernel's log has: zcbuf:", "version", remedy="meson")
    sh("modprobe zcbuf heaps=no-such")
    finds("an option that is wrong", Doctor(), "module", "warn", "heaps=no-such", remedy="/etc/modprobe.d")
    finds("no modinfo", Doctor(before=mounted("mount --bind /etc/passwd /usr/bin/kmod")), "module", "fail", "there is no modinfo")

    with tempfile.TemporaryDirectory() as directory:
        version, source = (sh(f"modinfo -F {field} zcbuf").stdout.strip() for field in ("version", "srcversion"))
        for old, new, words in (
            (f"\0version={version}\0", f"\0version=9{version[1:]}\0", f"9{version[1:]} is loaded, and this command is of {version}"),
            (source, "0" * len(source), f"another build of {version} is loaded"),
        ):
            patched(f"{directory}/zcbuf.ko", old.encode(), new.encode())
            must(f"insmod {directory}/zcbuf.ko")
            follow(finds(words, Doctor(), "module", "warn", words))
            ok(Doctor().find("module", "ok")["finding"], "which is gone then")
            must("modprobe -r zcbuf")

    must("modprobe zcbuf heaps=contig")
    finds("no heap has a buffer of that size", Doctor("--size", "1G"), "heap", "fail", "none of zcbuf's allocates 1 GiB", remedy="less")
    must("modprobe -r zcbuf")
    follow(remedy)
    is_well("and all is well", Doctor())


# ---- nodes and rights ----------------------------------------------------------------------------

def test_nodes():
    for path in "/dev/zcbuf", SYSTEM:
        with kept(path):
            os.unlink(path)
            remedy = finds(f"{path} is missing", Doctor(), "node", "fail", path, "No such file")
            follow(remedy)
            is_well("and it is there", Doctor())
            must(f"rm {path} && mknod {path} c 1 3")
            remedy = finds(f"{path} is another device", Doctor(), "node", "fail", path, "not device")
            follow(remedy)
            is_well("and it is the right one", Doctor())
    finds("a /dev of a container", Doctor(before=mounted("mount -t tmpfs none /dev")), "node", "fail", "/dev/zcbuf", remedy="--device=/dev/zcbuf")
    with kept("/dev/zcbuf"):
        os.chmod("/dev/zcbuf", 0o600)
        follow(finds("/dev/zcbuf is not for everybody", Doctor(**NOBODY), "node", "fail", "permission denied", "0600"))
        ok(not Doctor(**NOBODY).of("node", "fail"), "and it is")
    strace = ["strace", "-qq", "-o", "/dev/null", "-P", "/dev/zcbuf", "-e", "inject=ioctl:error=ENOTTY"]
    finds("a module of another ABI", Doctor(before=strace), "node", "fail", "does not answer", remedy="one version")


USER = "zcbuf-doctor"


def as_user(groups):
    return ["setpriv", f"--reuid={USER}", "--regid=65534", f"--{groups}-groups"]


def test_rights():
    nodes = [f"/dev/dma_heap/{name}" for name in ours()]
    rules = "/usr/lib/udev/rules.d"
    must(f"useradd --no-create-home --gid 65534 {USER}")
    with kept(*nodes):
        remedy = finds("the udev rule is not in effect", Doctor(before=as_user("clear")), "permission", "fail", "all of zcbuf's heaps", "udev rule", "not in effect")
        finds("it is not installed", Doctor(before=[*mounted(f"mount -t tmpfs none {rules}"), *as_user("clear")]), "permission", "fail",
              "not installed", remedy="/etc/udev/rules.d")
        udevd = subprocess.Popen(["/usr/lib/systemd/systemd-udevd"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if os.path.exists("/run/udev/control"):
                break
            time.sleep(0.1)
        follow(remedy)
        must("udevadm settle")
        udevd.terminate()
        udevd.wait()
        remedy = finds("the user is not in the group", Doctor(before=as_user("clear")), "permission", "fail", "all of zcbuf's heaps", f"user {USER} is not in the group video")
        follow(remedy)
        finds("the session began before", Doctor(before=as_user("clear")), "permission", "fail", "all of zcbuf's heaps", "this session began before", remedy="log in again")
        doctor = Doctor(before=as_user("init"))
        finds("a new session is in the group", doctor, "permission", "ok", "all of zcbuf's heaps", "by the group video")
        is_well("and all is well", doctor)
        must(f"gpasswd -d {USER} video")
        os.chmod(SYSTEM, 0o600)
        finds("one node is nobody's", Doctor(before=as_user("clear")), "permission", "fail", "zcbuf-system:", "mode 0600", "not in effect")
        must(f"setfacl -m u:{USER}:rw {SYSTEM}")
        finds("an ACL gives the right", Doctor(before=as_user("clear")), "permission", "ok", "zcbuf-system", "by an ACL")
        must(f"setfacl -b {SYSTEM}")
        os.chmod(SYSTEM, 0o666)
        finds("a node for everybody", Doctor(before=as_user("clear")), "permission", "ok", "zcbuf-system", "as everybody")
        os.chown(SYSTEM, 65534, 0)
        finds("a node for its owner", Doctor(**NOBODY), "permission", "ok", "zcbuf-system", "as its owner")
    must(f"userdel {USER}")
    if os.path.exists("/dev/dma_heap/system"):
        finds("another heap that is only root's", Doctor(**NOBODY), "heap", "note", "/dev/dma_heap/system", "permission denied, only root may")


# ---- limits --------------------------------------------------------------------------------------

def test_limits():
    for file in "zcbuf/limit", "zcbuf/user_limit", "zcbuf-system/limit":
        write(f"{SYSFS}/{file}", 0)
        doctor = Doctor()
        remedy = finds(f"{file} is 0", doctor, "limit", "fail", "may have 0 B", "no room for 1 MiB")
        ok(doctor.find("heap", "fail", "zcbuf-system: no buffer of 1 MiB: Disk quota exceeded")["finding"], "and the heap says so, too", doctor)
        follow(remedy)
        is_well("and there is room", Doctor())
    with held(2 << 20):
        for file in "zcbuf/limit", "zcbuf-system/limit":
            write(f"{SYSFS}/{file}", 5 << 19)
            remedy = finds(f"{file} is used up", Doctor(), "limit", "fail", "may have 2560 KiB, and have 2 MiB")
            finds("but not for a smaller buffer", Doctor("--size", "256K"), "limit", "ok", "may have 2560 KiB, and have 2 MiB")
            follow(remedy)
            is_well("and there is room", Doctor())
        write(f"{SYSFS}/zcbuf/user_limit", 5 << 19)
        doctor = Doctor()
        finds("what each user may have", doctor, "limit", "ok", "one user may have 2560 KiB")
        follow(finds("user_limit is used up", doctor, "heap", "fail", "zcbuf-system", "Disk quota exceeded"))
        is_well("and there is room", Doctor())


def test_files():
    doctor = Doctor(before=["prlimit", "--nofile=5:4096"])
    remedy = finds("RLIMIT_NOFILE is small", doctor, "files", "fail", "may have 5 files open")
    ok(doctor.find("heap", "ok", "zcbuf-system allocates")["finding"], "the rest is looked at all the same", doctor)
    run = sh(f"ulimit -Sn 5; {remedy} && zcbuf doctor --json")
    ok(run.returncode == 0, f"the remedy can be followed: {remedy}", run)
    doctor = Doctor(before=["prlimit", "--nofile=5:5"])
    finds("it is small for good", doctor, "files", "fail", "may have 5 files open", remedy="LimitNOFILE=")
    finds("and nothing else can be looked at", doctor, "files", "note", "nothing else")


def test_memory():
    top = "/sys/fs/cgroup/zcbuf-doctor.slice"
    group = f"{top}/x"
    os.makedirs(group)
    write(f"{top}/cgroup.subtree_control", "+memory")
    join = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finds("no limit of a cgroup", Doctor(before=join), "memory", "ok", "no limit of a cgroup")
    for limited in group, top:
        write(f"{limited}/memory.max", 24 << 20)
        finds("a limit that suffices", Doctor(before=join), "memory", "ok", os.path.basename(limited), "may have 24 MiB")
        doctor = Doctor("--size", "32M", before=join)
        remedy = finds("memory.max is too small", doctor, "memory", "fail", f"{limited.removeprefix('/sys/fs/cgroup')} may have 24 MiB", "no room for 32 MiB")
        ok(doctor.find("heap", "note", "zcbuf-system", "not tried")["finding"], "which is not tried out", doctor)
        follow(remedy)
        is_well("and there is room", Doctor("--size", "32M", before=join))
    ok("oom_kill 0" in read(f"{top}/memory.events").splitlines(), "nobody is killed for it", read(f"{top}/memory.events"))
    os.rmdir(group)
    os.rmdir(top)
    finds("more than the machine has", Doctor("--size", "1T"), "memory", "fail", "no room for 1 TiB", remedy="ask for less")
    finds("memory may not be locked", Doctor(before=["prlimit", "--memlock=65536:65536"], **NOBODY), "memory", "note", "may lock 64 KiB", remedy="memlock")


# ---- importers -----------------------------------------------------------------------------------

DMA_HEAP_ALLOC, PRIME_FD_TO_HANDLE, GEM_CLOSE, DROP_MASTER = 0xC0184800, 0xC00C642E, 0x40086409, 0x641F


def takes(card, name):
    """What the device says when it is asked by somebody else."""
    heap = os.open(f"/dev/dma_heap/{name}", os.O_RDWR)
    fd = struct.unpack("QIIQ", fcntl.ioctl(heap, DMA_HEAP_ALLOC, struct.pack("QIIQ", 65536, 0, os.O_RDWR | os.O_CLOEXEC, 0)))[1]
    try:
        handle = struct.unpack("IIi", fcntl.ioctl(card, PRIME_FD_TO_HANDLE, struct.pack("IIi", 0, 0, fd)))[0]
        fcntl.ioctl(card, GEM_CLOSE, struct.pack("II", handle, 0))
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
        os.close(heap)


def is_master(card):
    try:
        fcntl.ioctl(card, DROP_MASTER)
        return True
    except OSError:
        return False


def test_drm():
    doctor = Doctor()
    cards = [f"/dev/dri/{name}" for name in os.listdir("/dev/dri")]
    told = {f["finding"].split()[0]: f for f in doctor.of("importer")}
    renders = {path for path in cards if "renderD" in path}
    for path in sorted(cards):
        if path not in told:
            beside = glob.glob(f"/sys/class/drm/{os.path.basename(path)}/device/drm/renderD*")
            ok(beside and f"/dev/dri/{os.path.basename(beside[0])}" in told, f"{path} is tried by its render node", doctor)
            continue
        card = os.open(path, os.O_RDWR)
        really = [name for name in ours() if takes(card, name)]
        os.close(card)
        text = told[path]["finding"]
        said = re.search(r"\) takes ([^;]*)", text)
        said = said.group(1).split(", ") if said and told[path]["verdict"] == "ok" else []
        said = ours() if said == ["buffers of each heap"] else said
        ok(said == really, f"{path} takes what it is said to take: {', '.join(really) or 'none'}", text, really)
    ok(any("zcbuf-system" in told[path]["finding"] or "each heap" in told[path]["finding"] for path in renders & set(told)),
       "a GPU takes zcbuf-system", doctor)

    display = next(path for path in sorted(cards) if path in told and "card" in path)
    card = os.open(display, os.O_RDWR)
    Doctor()
    ok(is_master(card), "who has the display keeps it")
    os.close(card)


def camera():
    for node in sorted(glob.glob("/sys/class/video4linux/video*")):
        if "vid-cap" in read(f"{node}/name"):
            return f"/dev/{os.path.basename(node)}"


def settings(node):
    """All of them but the gain, which the camera adjusts each second."""
    return [line for line in sh(f"v4l2-ctl -d {node} --all").stdout.splitlines() if "volatile" not in line]


def test_camera():
    node = camera()
    before = settings(node)
    doctor = Doctor()
    for path in glob.glob("/dev/video*"):
        finds(f"{path} takes zcbuf-system", doctor, "importer", "ok", path, "(vivid, ", "zcbuf-system")
    ok(settings(node) == before and before, "the camera is set as it was", *set(settings(node)) ^ set(before))
    stream = subprocess.Popen(["v4l2-ctl", "-d", node, "--stream-mmap", "--stream-count=40", "--verbose"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in stream.stderr:
        if "dqbuf" in line:
            break
    doctor = Doctor()
    running = stream.poll() is None
    lines = line + stream.communicate()[1]
    finds("a camera that is busy", doctor, "importer", "note", node, "somebody uses it")
    sequence = [int(number) for number in re.findall(r"seq: *(\d+)", lines)]
    ok(running and stream.returncode == 0 and len(sequence) == 40 and "error" not in lines.lower(), "it is not disturbed", stream.returncode, lines)
    finds("then it is tried again", Doctor(), "importer", "ok", node, "zcbuf-system")
    os.chmod(SYSTEM, 0o666)
    mode = os.stat(node).st_mode
    os.chmod(node, 0o660)
    os.chown(node, 0, 44)
    finds("a camera of others", Doctor(**NOBODY), "importer", "note", node, "permission denied", remedy="usermod -aG video")
    os.chown(node, 0, 0)
    os.chmod(node, mode & 0o777)
    finds("a camera of root's", Doctor(**NOBODY), "importer", "note", node, "only root may", remedy="chgrp video")
    os.chmod(SYSTEM, 0o660)


def test_planes():
    """Frames of several planes, each of which is a buffer."""
    plain = "modprobe -r vivid && modprobe vivid n_devs=1 node_types=0x101"
    must(f"{plain} multiplanar=2")
    doctor = Doctor()
    for path in glob.glob("/dev/video*"):
        finds(f"{path} of several planes takes zcbuf-system", doctor, "importer", "ok", path, "zcbuf-system")
    must(plain)


# ---- GStreamer -----------------------------------------------------------------------------------

def test_gstreamer():
    plugin = glob.glob("/usr/lib/*/gstreamer-1.0/libgstzcbuf.so")[0]
    finds("no plugin", Doctor(), "gstreamer", "warn", "not where GStreamer looks", remedy="export GST_PLUGIN_PATH=")
    with tempfile.TemporaryDirectory() as directory:
        write(f"{directory}/libgstzcbuf.so", "")
        finds("a plugin that cannot be loaded", Doctor(env={**ENVIRONMENT, "GST_PLUGIN_PATH": directory}), "gstreamer", "warn",
              f"{directory}/libgstzcbuf.so", "file too short", remedy="libzcbuf")
    local = "/usr/local/lib/gstreamer-1.0"
    os.makedirs(local)
    shutil.copy(plugin, local)
    remedy = finds("a plugin where nobody looks", Doctor(), "gstreamer", "warn", f"is in {local}")
    run = sh(f"{remedy} && zcbuf doctor", env=ENVIRONMENT)
    ok(re.search(f"^ok    gstreamer   {local}/libgstzcbuf.so$", run.stdout, re.M), f"the remedy can be followed: {remedy}", run)
    shutil.rmtree(local)
    with tempfile.TemporaryDirectory() as programs:
        os.symlink("/usr/bin/env", f"{programs}/env")
        run = subprocess.run([shutil.which("zcbuf"), "doctor"], capture_output=True, text=True,
                             env={"PATH": programs, "GST_PLUGIN_PATH": os.path.dirname(plugin)})
        ok("not tried without gst-inspect-1.0" in run.stdout, "without gst-inspect-1.0 it is looked for only", run)


test_healthy()
test_usage()
test_kernel()
test_nodes()
test_rights()
test_limits()
test_files()
test_memory()
test_drm()
test_camera()
test_planes()
test_gstreamer()
test_module()
print(f"1..{count}")
sys.exit(1 if failures else 0)
