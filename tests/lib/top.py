#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""zcbuf top, and what it shares with zcbuf info: every dma-buf of the machine, and who holds it."""

import collections
import contextlib
import ctypes
import fcntl
import glob
import json
import mmap
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
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


NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
KiB, MiB = 1 << 10, 1 << 20
PR_SET_DUMPABLE = 4


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def top(*arguments, **options):
    return run("zcbuf", "top", *arguments, **options)


def look(name, *arguments, command=("zcbuf", "top", "--json"), **options):
    """The JSON of zcbuf top."""
    answer = run(*command, *arguments, **options)
    ok(answer.returncode == 0 and not answer.stderr, name, answer)
    return json.loads(answer.stdout)


def fails(message, name, *arguments):
    answer = top(*arguments)
    line = answer.stderr.strip()
    ok(answer.returncode == 2 and message in line and "\n" not in line and not answer.stdout, name, answer)


# ---- dma-bufs ----------------------------------------------------------------------------------


def call(fd, number, layout, *values):
    """An ioctl that reads and writes a structure."""
    data = bytearray(struct.pack(layout, *values))
    fcntl.ioctl(fd, number, data)
    return struct.unpack(layout, data)


def alloc(heap, size, name=""):
    node = os.open(f"/dev/dma_heap/{heap}", os.O_RDWR)
    fd = call(node, 0xC0184800, "QIIQ", size, 0, os.O_RDWR | os.O_CLOEXEC, 0)[1]
    os.close(node)
    if name:
        fcntl.ioctl(fd, 0x40086201, name.encode().ljust(32, b"\0"))  # DMA_BUF_SET_NAME
    return fd


def view(fd, offset, length):
    control = os.open("/dev/zcbuf", os.O_RDWR)
    new = call(control, 0xC0285A42, "QQQiIiI", offset, length, 0, fd, os.O_CLOEXEC, -1, 0)[5]
    os.close(control)
    return new


def udmabuf(size):
    memfd = os.memfd_create("udmabuf", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, size)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    node = os.open("/dev/udmabuf", os.O_RDWR)
    fd = fcntl.ioctl(node, 0x40187542, bytearray(struct.pack("IIQQ", memfd, 1, 0, size)))
    os.close(node)
    os.close(memfd)
    return fd


def vgem():
    """A buffer of a DRM driver, 16 KiB."""
    for path in glob.glob("/dev/dri/card*"):
        card = os.open(path, os.O_RDWR)
        with contextlib.suppress(OSError):
            name = ctypes.create_string_buffer(16)
            call(card, 0xC0406400, "iiiQQQQQQ", 0, 0, 0, 15, ctypes.addressof(name), 0, 0, 0, 0)
            if name.value == b"vgem":
                handle = call(card, 0xC02064B2, "IIIIIIQ", 64, 64, 32, 0, 0, 0, 0)[4]
                return call(card, 0xC00C642D, "IIi", handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]
        os.close(card)
    raise FileNotFoundError("no vgem")


def importer(fd):
    """A device that is attached to it for as long as it is open."""
    if not os.path.exists("/dev/zcbuf-importer"):
        subprocess.run(["modprobe", "zcbuf_importer"], check=True)
    device = os.open("/dev/zcbuf-importer", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(device, 0x40105A80, struct.pack("iIII", fd, 0, 64, 0))
    return device


def inode(fd):
    return os.fstat(fd).st_ino


def mapped(fd):
    """A mapping that lives when the fd is closed, as mmap.mmap() would not let it be."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    address = libc.mmap(None, os.fstat(fd).st_size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")


class Process:
    """Has those fds only, does something, and lives as long as the with block."""

    def __init__(self, name, fds, *, map=(), close=(), cgroup=None, user=None, dumpable=True):
        self.ready, ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(ready, 1)
                for number in map:
                    mapped(number)
                keep = {0, 1, 2, *fds} - set(close)
                for number in os.listdir("/proc/self/fd"):
                    if int(number) not in keep:
                        with contextlib.suppress(OSError):
                            os.close(int(number))
                with open("/proc/self/comm", "w") as comm:
                    comm.write(name)
                if cgroup:
                    with open(f"{cgroup}/cgroup.procs", "w") as procs:
                        procs.write("0")
                if user:
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)
                os.write(1, b"!")
                signal.pause()
            finally:
                os._exit(1)
        os.close(ready)

    def __enter__(self):
        if os.read(self.ready, 1) != b"!":
            raise ChildProcessError("a process of the test failed")
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.ready)


class World:
    """Buffers of all exporters there are, and processes that have them."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.fds = {}
        self.born = {}

    def make(self, name, fd):
        self.fds[name] = fd
        self.born[name] = time.time()
        return fd

    def __enter__(self):
        self.whole = self.make("whole", alloc("zcbuf-system", MiB, "whole"))
        self.view = self.make("view", view(self.whole, 64 * KiB, 64 * KiB))
        self.shared = self.make("shared", alloc("zcbuf-contig", 256 * KiB, "shared"))
        self.closed = self.make("closed", alloc("zcbuf-system", 512 * KiB, "mapped only"))
        self.drm = self.make("drm", vgem())
        self.device = self.make("device", alloc("zcbuf-vmalloc", 64 * KiB, "device only"))
        self.others = {"drm": self.drm}
        if os.path.exists("/dev/udmabuf"):
            self.others["udmabuf"] = self.make("udmabuf", udmabuf(128 * KiB))
        if os.path.exists("/dev/dma_heap/system"):
            self.others["system"] = self.make("system", alloc("system", 32 * KiB, "the kernel's"))
        self.inodes = {name: inode(fd) for name, fd in self.fds.items()}
        self.cgroup = "/sys/fs/cgroup/zcbuf-top"
        os.makedirs(self.cgroup, exist_ok=True)
        attached = [importer(self.whole), importer(self.drm), importer(self.device)]
        again = os.dup(self.whole)
        self.one = self.stack.enter_context(
            Process("top-one", [self.whole, again, self.shared, *self.others.values(), *attached], map=[self.shared, self.shared]))
        self.two = self.stack.enter_context(
            Process("top-two", [self.view, self.shared], map=[self.closed], cgroup=self.cgroup))
        self.user = self.stack.enter_context(Process("top-user", [self.drm, self.whole], map=[self.closed], user=65534))
        for fd in [again, *attached, *self.fds.values()]:
            os.close(fd)
        return self

    def __exit__(self, *_):
        self.stack.close()
        os.rmdir(self.cgroup)


def rows_by(key, rows):
    return {row[key]: row for row in rows}


def is_aligned(table):
    """Every column starts or ends at the same place in each line."""
    lines = table.splitlines()
    words = [[m.span() for m in re.finditer(r"\S+( \S+)*", line)] for line in lines]
    return len(lines) > 1 and all(
        len(row) == len(words[0])
        and all(a[0] == b[0] or a[1] == b[1] for a, b in zip(row, words[0]))
        for row in words
    )


# ---- the tests -----------------------------------------------------------------------------------


def test_buffers(world, seen):
    buffers = rows_by("inode", seen["buffers"])
    ok(set(world.inodes.values()) <= set(buffers), "every dma-buf is there, whoever exported it", seen)
    of = {name: buffers.get(number, collections.defaultdict(str)) for name, number in world.inodes.items()}
    sizes = {"whole": MiB, "view": 64 * KiB, "shared": 256 * KiB, "closed": 512 * KiB, "drm": 16 * KiB, "device": 64 * KiB,
             "udmabuf": 128 * KiB, "system": 32 * KiB}
    ok(all(row["size"] == sizes[name] and row["size_known"] is True for name, row in of.items()), "with its size", of)
    exporters = {"whole": "zcbuf-system", "view": "zcbuf-system", "shared": "zcbuf-contig", "closed": "zcbuf-system",
                 "device": "zcbuf-vmalloc", "drm": "drm", "udmabuf": "udmabuf", "system": "system"}
    ok(all(row["exporter"] == exporters[name] for name, row in of.items()), "its exporter", of)
    ok([of[name]["name"] for name in ("whole", "shared", "closed", "device", "drm")] == ["whole", "shared", "mapped only", "device only", None],
       "and its name", of)
    one, two, user = world.one.pid, world.two.pid, world.user.pid
    ok(
        [sorted(of[name]["pids"]) for name in ("whole", "view", "shared", "closed", "drm", "device")]
        == [sorted([one, user]), [two], sorted([one, two]), sorted([two, user]), sorted([one, user]), []],
        "and who holds it, also if only a mapping is left, or only a device", of,
    )
    ok(
        [(of[name]["fds"], of[name]["mappings"]) for name in ("whole", "view", "shared", "closed", "drm", "device")]
        == [(3, 0), (1, 0), (2, 2), (0, 2), (2, 0), (0, 0)],
        "by how many descriptors and mappings", of,
    )
    ok(
        [len(of[name]["devices"]) for name in ("whole", "view", "shared", "drm", "device")] == [1, 0, 0, 1, 1]
        and all(name.startswith("zcbuf") for name in of["drm"]["devices"]),
        "which devices are attached, whoever exported it", of,
    )
    ok(of["whole"]["buffer_id"] == of["view"]["buffer_id"] and of["view"]["offset"] == 64 * KiB and of["view"]["buffer_size"] == MiB
       and of["whole"]["views"] == 2 and of["shared"]["user_mappings"] == 2 and of["drm"]["buffer_id"] is None,
       "and what only the module knows", of)
    ok(all(of[name]["references"] == number for name, number in (("whole", 4), ("view", 1), ("shared", 4), ("closed", 2), ("device", 1))),
       "and how many refer to it", of)
    ages = {name: (row["age"], seen["time"] - world.born[name]) for name, row in of.items() if name != "device"}
    ok(all(age is not None and abs(age - real) < 1.5 for age, real in ages.values()) and of["device"]["age"] is None,
       "and how old it is, unless only a device has it", ages)


def test_groups(world, seen):
    processes = rows_by("pid", seen["processes"])
    one, two, user = (processes.get(process.pid, {}) for process in (world.one, world.two, world.user))
    others = 16 * KiB // 2 + sum({"udmabuf": 128 * KiB, "system": 32 * KiB}.get(name, 0) for name in world.others)
    alone = others - 8 * KiB
    ok((one["process"], one["user"], one["uid"], two["process"], user["uid"]) == ("top-one", "root", 0, "top-two", 65534), "processes have names and users", processes)
    ok(one["held"] == MiB + 256 * KiB + 16 * KiB + alone and two["held"] == MiB + 256 * KiB + 512 * KiB,
       "a process holds all the memory of its buffers, a view's too", one, two)
    ok(
        abs(one["share"] - (MiB // 3 + 128 * KiB + others)) <= 1 and abs(two["share"] - (MiB // 3 + 128 * KiB + 256 * KiB)) <= 1
        and abs(user["share"] - (MiB // 3 + 8 * KiB + 256 * KiB)) <= 1,
        "and an equal share of it", one, two, user,
    )
    ok((one["unique"], two["unique"], user["unique"]) == (alone, 0, 0), "what nobody else holds is unique", one, two, user)
    ok((one["fds"], one["mappings"], two["fds"], two["mappings"], two["buffers"]) == (3 + len(world.others), 2, 2, 1, 3), "it counts descriptors and mappings", one, two)
    holdings = {(row["pid"], row["inode"]): row for row in seen["holdings"]}
    row = holdings.get((world.one.pid, world.inodes["shared"]), {})
    ok(row and (row["fds"], row["mappings"], row["mapped"], row["share"]) == (1, 2, 512 * KiB, 128 * KiB), "each process and buffer has a row", row)
    exporters = rows_by("exporter", seen["exporters"])
    system = exporters["zcbuf-system"]
    ok((system["memory"], system["buffers"], system["processes"], system["shared"], system["unheld"]) == (MiB + 512 * KiB, 3, 3, MiB + 512 * KiB, 0),
       "memory of two views counts once", system)
    ok(exporters["zcbuf-vmalloc"]["unheld"] == 64 * KiB, "memory that only a device has is an exporter's", exporters)
    cgroups = rows_by("cgroup", seen["cgroups"])
    row = cgroups.get("/zcbuf-top", {})
    ok(row and (row["processes"], row["buffers"], row["held"], row["unique"]) == (1, 3, MiB + 768 * KiB, 0), "there are totals of each cgroup", cgroups)
    rest = next(row for name, row in cgroups.items() if name != "/zcbuf-top")
    ok(rest["processes"] == 2 and rest["unique"] == 16 * KiB + alone, "where memory is unique that several processes of it have", cgroups)
    ok(sum(row["share"] for row in seen["processes"]) + sum(row["unheld"] for row in seen["exporters"])
       - sum(row["memory"] for row in seen["exporters"]) in range(-len(processes), len(processes) + 1), "all shares together are all memory", seen)


def test_info(world):
    rows = json.loads(run("zcbuf", "info", "--json", str(world.two.pid)).stdout)
    row = rows_by("inode", rows).get(world.inodes["closed"], {})
    ok(row and row["fd"] is None and row["size"] == 512 * KiB and row["exporter"] == "zcbuf-system" and row["name"] == "mapped only",
       "info PID shows what is mapped only", rows)
    ok(len(rows) == 3, "and each buffer once", rows)
    answer = run("zcbuf", "info", str(world.two.pid))
    ok(is_aligned(answer.stdout) and re.search(rf"^ *{world.two.pid} +- .* mapped only$", answer.stdout, re.M), "as a table, too", answer)
    rows = json.loads(run("zcbuf", "info", "--json", str(world.user.pid), **NOBODY).stdout)
    row = rows_by("inode", rows).get(world.inodes["closed"], {})
    ok(row and row["size"] == 512 * KiB and row["exporter"] is None and row["name"] == "mapped only", "a user sees of it what is mapped", rows)


def test_tables():
    for table in "buffer", "holding", "process", "exporter", "cgroup":
        answer = top("--once", "--by", table)
        title, _, body = answer.stdout.partition("\n")
        ok(answer.returncode == 0 and is_aligned(body), f"--by {table} is an aligned table", answer)
        ok(re.fullmatch(r"\d+ buffers of \d+ exporters, [\d.]+ [KM]iB, held by \d+ processes; 64 KiB held by none", title), "below its total", title)
    answer = top()
    ok(answer.returncode == 0 and answer.stdout.startswith(title), "without a terminal it looks once", answer)


def column(table, title):
    lines = table.splitlines()
    number = re.split(" {2,}", lines[1].strip()).index(title)
    return [re.split(" {2,}", line.strip())[number] for line in lines[2:]]


def test_order(world, seen):
    sizes = [row["size"] for row in seen["buffers"]]
    ok(sizes == sorted(sizes, reverse=True), "the largest is at the top", sizes)
    for key in "size", "inode", "age":
        for extra in [], ["--reverse"]:
            values = [row[key] for row in look(f"--sort {key} {' '.join(extra)}".strip(), "--sort", key, *extra)["buffers"]]
            known = [value for value in values if value is not None]
            ok(known == sorted(known, reverse=not extra), f"sorted by {key}", values)
    names = column(top("--once", "--by", "process", "--sort", "process").stdout, "PROCESS")
    ok(names == sorted(names) and "top-one" in names, "text is sorted from the first on", names)
    one, drm = world.one.pid, world.inodes["drm"]
    for text, chosen in (
        ("exporter=DRM", lambda row: row["exporter"] == "drm"),
        ("EXPORTER-NOT", lambda row: False),
        ("WHOLE", lambda row: row["name"] == "whole"),
        (f"pid={one}", lambda row: one in row["pids"]),
        (f"pid={one} exporter=zcbuf-", lambda row: one in row["pids"] and row["exporter"].startswith("zcbuf-")),
        (f"inode={drm}", lambda row: row["inode"] == drm),
        ("device=zcbuf", lambda row: len(row["devices"]) == 1),
        ("process=top-two", lambda row: world.two.pid in row["pids"]),
        ("user=nobody", lambda row: world.user.pid in row["pids"]),
        ("cgroup=/zcbuf-top", lambda row: world.two.pid in row["pids"]),
    ):
        found = {row["inode"] for row in look(f"--filter '{text}'", "--filter", text)["buffers"]}
        wanted = {row["inode"] for row in seen["buffers"] if chosen(row)}
        ok(found == wanted and (found or "NOT" in text), "shows what is asked for", found, wanted)
    some = look("--filter of a process", "--filter", "process=top-two")
    ok([row["pid"] for row in some["processes"]] == [world.two.pid] and some["processes"][0]["share"] == rows_by("pid", seen["processes"])[world.two.pid]["share"],
       "shows no other process, and the same share", some["processes"])


def others():
    """Processes that a user's eyes do not reach: all but his and the kernel's threads."""
    found = 0
    for path in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            fields = open(f"{path}/stat").read().rsplit(")", 1)[1].split()
            owner = re.search(r"^Uid:\s+\d+\s+(\d+)", open(f"{path}/status").read(), re.M).group(1)
            found += owner != "65534" and fields[0] not in "ZX" and not int(fields[6]) & 0x200000
    return found


def test_user(world):
    expected = others()
    seen = look("a user may look", **NOBODY)
    buffers = rows_by("inode", seen["buffers"])
    ok(set(buffers) == {world.inodes[name] for name in ("drm", "whole", "closed")}, "and sees what his processes hold", seen)
    row = buffers.get(world.inodes["closed"], {})
    ok(row and row["size"] == 512 * KiB and row["size_known"] is False and row["exporter"] is None and row["age"] is None and row["name"] == "mapped only",
       "of what is only mapped that it is so large at least", row)
    row = buffers.get(world.inodes["whole"], {})
    ok(row and row["buffer_id"] and row["devices"] is None and row["attachments"] == 1 and row["references"] == 4, "of zcbuf's what the module says", row)
    ok(seen["hidden_processes"] == expected, "he is told how many processes he does not see", seen, expected)
    missing = [row["what"] for row in seen["missing"]]
    ok(f"{expected} processes of other users not visible; run as root" in missing and any(what.startswith("devices, and buffers that no process holds,") for what in missing),
       "and what is missing, and the remedy", missing)
    answer = top("--once", **NOBODY)
    ok(answer.stderr.splitlines() == [f"zcbuf: {what}" for what in missing], "in a table's case on stderr", answer)
    table = answer.stdout.partition("\n")[2]
    ok(is_aligned(table) and ">= 512 KiB" in table, "'>=' marks what is at least so much", table)
    with Process("top-hidden", [0], user=65534, dumpable=False):
        missing = [row["what"] for row in look("also with a process of his that may not be inspected", **NOBODY)["missing"]]
        ok("1 process of this user not visible, for it may not be inspected; run as root" in missing, "which he is told", missing)
    scope = "/proc/sys/kernel/yama/ptrace_scope"
    before = open(scope).read()
    with open(scope, "w") as file:
        file.write("1")
    seen = look("also without the right to ptrace", **NOBODY)
    with open(scope, "w") as file:
        file.write(before)
    row = rows_by("inode", seen["buffers"]).get(world.inodes["whole"], {})
    ok(row and row["size"] == MiB and row["buffer_id"] is None and row["attachments"] is None
       and any("only the module zcbuf knows of 1 of its buffers" in note["what"] for note in seen["missing"]), "when only the module's word is missing", seen)
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "zcbuf", "top", "--json"]
    seen = look("also where /proc hides others", command=["unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh", *as_user])
    ok(any("/proc does not show them" in note["what"] for note in seen["missing"]), "which he is told", seen["missing"])


def test_statistics(world):
    """CONFIG_DMABUF_SYSFS_STATS, which no kernel here has: files like those that it makes."""
    number = world.inodes["device"]
    script = f"""mount -t tmpfs tmpfs /sys/kernel && mkdir -p /sys/kernel/dmabuf/buffers/{number} && cd /sys/kernel/dmabuf/buffers/{number} &&
        echo {64 * KiB} > size && echo zcbuf-vmalloc > exporter_name && exec setpriv --reuid=65534 --regid=65534 --clear-groups zcbuf top --json"""
    seen = look("a user may look where the kernel has statistics", command=["unshare", "--mount", "sh", "-c", script])
    row = rows_by("inode", seen["buffers"]).get(number, {})
    ok(row and row["size"] == 64 * KiB and row["exporter"] == "zcbuf-vmalloc" and row["pids"] == [], "and sees what no process holds", seen)
    ok(any(note["what"].startswith("devices not visible") for note in seen["missing"]), "but no devices", seen["missing"])


def test_names():
    """Names are other people's, and may have any bytes."""
    forged = "x\nTotal 0 devices attached\n\n1"
    fds = [alloc("zcbuf-vmalloc", 4 * KiB, "a\n\tAttached Devices:\n\tforged"), alloc("zcbuf-vmalloc", 8 * KiB, forged),
           alloc("zcbuf-vmalloc", 12 * KiB, "x\nsize:\t9\nexp_name:\tforged")]
    numbers = [inode(fd) for fd in fds]
    seen = look("names may have lines")
    rows = [rows_by("inode", seen["buffers"]).get(number, {}) for number in numbers]
    ok(all(rows) and [row["size"] for row in rows] == [4 * KiB, 8 * KiB, 12 * KiB] and {row["exporter"] for row in rows} == {"zcbuf-vmalloc"}
       and not any("forged" in str(row["devices"]) for row in rows) and len(seen["buffers"]) == len({row["inode"] for row in seen["buffers"]}),
       "and change nothing else", rows)
    with Process("top-names", fds, user=65534):
        rows = [rows_by("inode", look("not even to a user", **NOBODY)["buffers"]).get(number, {}) for number in numbers]
        ok(all(rows) and [(row["size"], row["exporter"]) for row in rows] == [(size * KiB, "zcbuf-vmalloc") for size in (4, 8, 12)], "whom the kernel's list does not help", rows)
    for fd in fds:
        os.close(fd)
    with Process("top\x1b[2J", [alloc("zcbuf-vmalloc", 4 * KiB, "\x1b[31mred")]):
        answer = top("--once")
        ok("\x1b" not in answer.stdout and "?[31mred" in answer.stdout and "top?[2J(" in answer.stdout, "they steer no terminal", answer)
    # A file of that name is no dma-buf, at whatever root it is.
    script = """mount -t tmpfs tmpfs /mnt && mkdir /mnt/old && printf %4096s > /mnt/dmabuf:forged && exec python3 -c '
import mmap, subprocess, time
subprocess.run(["pivot_root", "/mnt", "/mnt/old"], check=True)
with open("/dmabuf:forged", "r+b") as file:
    kept = mmap.mmap(file.fileno(), 4096)
print("!", flush=True)
time.sleep(1000)'"""
    keep = alloc("zcbuf-vmalloc", 4 * KiB)
    forger = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    forger.stdout.read(1)
    ok(" /dmabuf:forged\n" in open(f"/proc/{forger.pid}/maps").read(), "a file may be called like a dma-buf")
    seen = look("which is seen through")
    ok(forger.pid not in rows_by("pid", seen["processes"]), "it is none", seen["processes"])
    forger.kill()
    forger.wait()
    forger.stdout.close()
    os.close(keep)


def test_vanishing(world):
    """Processes come and go with their buffers while it looks."""
    storm = subprocess.Popen(
        ["sh", "-c", "while :; do zcbuf alloc --count 3 8K & zcbuf alloc --count 3 8K; wait; done"],
        stdout=subprocess.DEVNULL, start_new_session=True,
    )
    with Process("storm-watch", [0]):
        answers = [top("--json") for _ in range(8)]
    os.killpg(storm.pid, signal.SIGKILL)
    storm.wait()
    good = [answer for answer in answers if answer.returncode == 0 and not answer.stderr]
    ok(len(good) == len(answers), "a look never fails though processes vanish", *answers)
    missed = [number for answer in good for number in set(world.inodes.values()) - set(rows_by("inode", json.loads(answer.stdout)["buffers"]))]
    ok(not missed, "and misses nothing that stays", missed)
    odd = [row for answer in good for row in json.loads(answer.stdout)["holdings"] if not row["fds"] + row["mappings"]]
    ok(not odd, "nor has half a process", odd)


class Halted:
    """zcbuf top, halted after its call number WHEN of that name, of that path."""

    def __init__(self, path, name, when):
        self.log = tempfile.NamedTemporaryFile("r")
        self.strace = subprocess.Popen(
            ["strace", "-f", "-o", self.log.name, "-P", path, "-e", f"inject={name}:signal=SIGSTOP:when={when}", "zcbuf", "top", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        text = ""
        while not (halted := re.search(r"^(\d+) +--- stopped by SIGSTOP", text, re.M)) and self.strace.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            text += self.log.read()
        self.halted = halted and int(halted.group(1))

    def go_on(self):
        """What it says in the end, or None."""
        if self.halted:
            os.kill(self.halted, signal.SIGCONT)
        text, errors = self.strace.communicate(timeout=60)
        self.log.close()
        return json.loads(text) if self.halted and self.strace.returncode == 0 and not errors else None


def test_halted(world):
    """What happens just while it looks."""
    gone = alloc("zcbuf-vmalloc", 4 * KiB)
    number = inode(gone)
    look = Halted("/proc", "openat", 1)
    os.close(gone)
    seen = look.go_on()
    ok(seen and number not in rows_by("inode", seen["buffers"]), "what is freed after it was listed is not taken for a device's", seen)
    for name, when, what in ("openat", 1, "is opened"), ("openat", 2, "shows its descriptors"), ("newfstatat", 1, "has shown one"), ("openat", 4, "has described one"):
        fds = [alloc("zcbuf-vmalloc", 4 * KiB), alloc("zcbuf-vmalloc", 4 * KiB)]
        with Process("top-brief", fds) as brief:
            for fd in fds:
                os.close(fd)
            look = Halted(f"/proc/{brief.pid}", name, when)
        seen = look.go_on()
        ok(seen and set(world.inodes.values()) <= set(rows_by("inode", seen["buffers"])), f"a process may end just when it {what}", look.halted, seen)


def test_arguments():
    fails("--by x: not buffer, holding, process, exporter or cgroup", "an unknown table", "--by", "x")
    fails("--sort x: --by exporter has exporter, buffers, processes, memory, shared, unheld", "an unknown column", "--by", "exporter", "--sort", "x")
    fails("--filter x=1: no field 'x'; there are exporter", "an unknown field", "--filter", "x=1")
    fails("no more than 8 words", "too many words", "--filter", "1 2 3 4 5 6 7 8 9")
    for text in "x", "0", "-1", "1s", "0.05", "nan", "1e9", "":
        fails("not seconds from 0.1 to 86400", f"--interval '{text}'", "--interval", text)
    fails("x: not expected", "an argument", "x")
    fails("unrecognized option", "an unknown option", "--no-such")
    answer = run("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /proc && exec zcbuf top --once")
    ok(answer.returncode == 0 and "/proc does not show them" in answer.stderr, "without a /proc it says so", answer)


# ---- on a terminal -------------------------------------------------------------------------------


class Terminal:
    """zcbuf top on a terminal of its own."""

    def __init__(self, *arguments, lines=24, columns=132, term="xterm", hangup=signal.SIG_DFL):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = term
            signal.signal(signal.SIGHUP, hangup)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp("zcbuf", ["zcbuf", "top", *arguments])
        os.waitpid(self.pid, os.WUNTRACED)
        self.before = termios.tcgetattr(self.fd)
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def read(self):
        if select.select([self.fd], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                self.text += os.read(self.fd, 65536).decode(errors="replace")

    def picture(self):
        """The lines of the last whole one."""
        pictures = re.findall(r"\x1b\[H(.*?)\x1b\[K\x1b\[J", self.text, re.S)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", pictures[-1]).replace("\r", "").split("\n") if pictures else []

    def shows(self, name, condition, keys=""):
        """After those keys, sooner or later. What was shown before does not count."""
        if keys:
            self.text = ""
            os.write(self.fd, keys.encode())
        deadline = time.monotonic() + 60
        while not ((lines := self.picture()) and condition(lines)):
            if time.monotonic() > deadline:
                ok(False, name, *lines)
                return lines
            self.read()
        ok(True, name)
        return lines

    def ends(self, name, status):
        """With that status, and the terminal as it was before."""
        deadline = time.monotonic() + 60
        pid = 0
        while not pid and time.monotonic() < deadline:
            self.read()
            pid, code = os.waitpid(self.pid, os.WNOHANG)
        self.read()
        ok(pid and os.waitstatus_to_exitcode(code) == status, name, pid and code)
        ok(self.text.rstrip().endswith("\x1b[?25h\x1b[?1049l"), "it leaves the screen as it was", [self.text[-200:]])
        ok(termios.tcgetattr(self.fd) == self.before, "and the terminal's modes")


def header(lines):
    """The titles, which are in reverse."""
    return next((line for line in lines if re.match(r" *(INODE|PID|EXPORTER|CGROUP) ", line)), "")


def test_terminal(world):
    with Terminal("--interval", "0.3") as screen:
        lines = screen.shows("on a terminal it shows the buffers", lambda lines: header(lines).lstrip().startswith("INODE"))
        ok("\x1b[?1049h" in screen.text and "\x1b[?25l" in screen.text, "on a screen of its own, without a cursor")
        ok(len(lines) == 24 and all(len(line) <= 132 for line in lines), "as large as the terminal", *lines)
        ok(termios.tcgetattr(screen.fd)[3] & (termios.ECHO | termios.ICANON) == 0, "keys are not echoed")
        screen.shows("p shows processes", lambda lines: "UNIQUE" in header(lines) and "USER" in header(lines), "p")
        screen.shows("e shows exporters", lambda lines: "NO PROCESS" in header(lines), "e")
        screen.shows("c shows cgroups", lambda lines: header(lines).startswith("CGROUP"), "c")
        screen.shows("h shows holdings", lambda lines: "MAPPED" in header(lines), "h")
        lines = screen.shows("b shows buffers again", lambda lines: "HELD BY" in header(lines), "b")
        ok("sorted by size" in lines[1], "sorted by size", lines[1])
        screen.shows("> sorts by the next column", lambda lines: "sorted by exporter" in lines[1], ">")
        lines = screen.shows("< by the one before, again", lambda lines: "sorted by inode" in lines[1], "<<")
        rows = lines[lines.index(header(lines)) + 1:-1]
        numbers = [int(line.split()[0]) for line in rows if line.strip()]
        ok(len(numbers) >= 6 and numbers == sorted(numbers, reverse=True), "the largest is at the top", *lines)
        lines = screen.shows("r reverses", lambda lines: "reversed" in lines[1], "r")
        numbers = [int(line.split()[0]) for line in lines[lines.index(header(lines)) + 1:-1] if line.strip()]
        ok(numbers == sorted(numbers), "the smallest is at the top", *lines)
        screen.shows("/ asks for a filter", lambda lines: lines[-1].startswith("filter: exporter=drmX"), "/exporter=drmX")
        lines = screen.shows("which Enter applies", lambda lines: "only exporter=drm" in lines[1] and sum(" drm " in line for line in lines[2:]) == 1, "\x7f\r")
        ok("16 KiB" in lines[0] and lines[0].startswith("1 buffer of 1 exporter"), "the total is of what is shown", lines[0])
        screen.shows("a wrong one is explained", lambda lines: "no field 'x'" in lines[-1], "/x=1\r")
        screen.shows("none shows all", lambda lines: "only" not in lines[1], "/\r")
        with Process("top-new", [new := alloc("zcbuf-vmalloc", 20 * KiB, "a new one")]):
            os.close(new)
            screen.shows("what is new appears", lambda lines: any("a new one" in line for line in lines))
        screen.shows("what is gone disappears", lambda lines: not any("a new one" in line for line in lines))
        screen.shows("what the kernel has no age of gets older", lambda lines: any("device only" in line and re.search(r">= \d+ s", line) for line in lines))
        fcntl.ioctl(screen.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
        lines = screen.shows("it takes the terminal's new size", lambda lines: len(lines) == 10)
        ok(all(len(line) <= 40 for line in lines), "and no line is wider", *lines)
        first = lines[lines.index(header(lines)) + 1]
        screen.shows("down scrolls", lambda lines: first not in lines, "\x1b[B")
        screen.shows("up scrolls back", lambda lines: first in lines, "\x1b[A")
        screen.shows("End goes to the last", lambda lines: first not in lines, "\x1b[F")
        screen.shows("Home to the first", lambda lines: first in lines, "\x1b[H")
        for size in (1, 1), (2, 300), (300, 2):
            fcntl.ioctl(screen.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            screen.text = ""
            screen.shows(f"{size[0]} lines of {size[1]} are no trouble",
                         lambda lines: len(lines) == size[0] and all(len(line) <= size[1] for line in lines))
        os.write(screen.fd, b"q")
        screen.ends("q quits", 0)
    for name, number, keys in ("Ctrl-C", signal.SIGINT, "\x03"), ("SIGTERM", signal.SIGTERM, ""), ("SIGHUP", signal.SIGHUP, ""), ("SIGQUIT", signal.SIGQUIT, ""):
        with Terminal("--by", "process") as screen:
            screen.shows("--by process is shown", lambda lines: "UNIQUE" in header(lines))
            if keys:
                os.write(screen.fd, keys.encode())
            else:
                os.kill(screen.pid, number)
            screen.ends(f"{name} ends it", -number)
    with Terminal("--interval", "100", "--filter", "drm") as screen:
        screen.shows("--filter is shown", lambda lines: "only drm" in lines[1])
        os.kill(screen.pid, signal.SIGTSTP)
        os.waitpid(screen.pid, os.WUNTRACED)
        screen.read()
        ok(screen.text.endswith("\x1b[?25h\x1b[?1049l") and termios.tcgetattr(screen.fd) == screen.before, "stopped, it leaves the screen as it was", [screen.text[-100:]])
        screen.text = ""
        os.kill(screen.pid, signal.SIGCONT)
        screen.shows("and comes back", lambda lines: "only drm" in lines[1] and "\x1b[?1049h\x1b[?25l" in screen.text)
        ok(termios.tcgetattr(screen.fd)[3] & (termios.ECHO | termios.ICANON) == 0, "keys are not echoed again")
    for hangup, status in (signal.SIG_DFL, -signal.SIGHUP), (signal.SIG_IGN, 0):
        with Terminal(hangup=hangup) as screen:
            screen.shows("a terminal is there", lambda lines: header(lines))
            os.close(screen.fd)
            deadline = time.monotonic() + 60
            pid = 0
            while not pid and time.monotonic() < deadline:
                pid, code = os.waitpid(screen.pid, os.WNOHANG)
                time.sleep(0.02)
            ok(pid and os.waitstatus_to_exitcode(code) in (status, 0), f"it ends when the terminal is gone, and SIGHUP is {hangup.name}", pid and code)
    with Terminal(term="dumb") as screen:
        deadline = time.monotonic() + 60
        while "HELD BY" not in screen.text and time.monotonic() < deadline:
            screen.read()
        _, code = os.waitpid(screen.pid, 0)
        ok("HELD BY" in screen.text and "\x1b" not in screen.text and code == 0, "on a terminal that can only print it looks once", [screen.text])


ok("Usage: zcbuf top" in top("--help").stdout, "--help tells the usage")
with World() as world:
    seen = look("root looks at everything")
    ok(seen["hidden_processes"] == 0 and [row["what"] for row in seen["missing"]]
       == ["what only the module zcbuf knows of 2 of its buffers not visible: no process has a file descriptor"],
       "and only of what has no descriptor something is missing", seen["missing"])
    test_buffers(world, seen)
    test_groups(world, seen)
    test_info(world)
    test_tables()
    test_order(world, seen)
    test_user(world)
    test_statistics(world)
    test_names()
    test_vanishing(world)
    test_halted(world)
    test_terminal(world)
test_arguments()
print(f"1..{count}")
sys.exit(1 if failures else 0)
