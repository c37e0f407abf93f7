#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The zcbuf command: what it prints, and its exit statuses."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys

count = failures = 0


def ok(passed, name, *remarks):
    global count, failures
    count += 1
    print(f"{'ok' if passed else 'not ok'} {count} - {name}", flush=True)
    if not passed:
        failures += 1
        for remark in remarks:
            print("#", str(remark).replace("\n", "\n# "), flush=True)


def zcbuf(*arguments, **options):
    return subprocess.run(["zcbuf", *arguments], capture_output=True, text=True, timeout=60, **options)


def succeeds(name, *arguments, **options):
    run = zcbuf(*arguments, **options)
    ok(run.returncode == 0, name, run)
    return run.stdout


def fails(status, message, name, *arguments, **options):
    """One line on stderr that holds MESSAGE, and nothing on stdout."""
    run = zcbuf(*arguments, **options)
    line = run.stderr.strip()
    ok(
        run.returncode == status and message in line and "\n" not in line and not run.stdout,
        name,
        run,
    )


def is_aligned(table):
    """Every column starts or ends at the same place in each line."""
    lines = table.splitlines()
    words = [[m.span() for m in re.finditer(r"\S+( \S+)*", line)] for line in lines]
    return len(lines) > 1 and all(
        len(row) == len(words[0])
        and all(a[0] == b[0] or a[1] == b[1] for a, b in zip(row, words[0]))
        for row in words
    )


class Held:
    """zcbuf alloc --hold, as long as the with block."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen(
            ["zcbuf", "alloc", "--hold", "--json", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )

    def __enter__(self):
        text = ""
        while not text.endswith("]\n") and (line := self.process.stdout.readline()):
            text += line
        self.pid = self.process.pid
        try:
            self.buffers = json.loads(text)
        except json.JSONDecodeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_help():
    ok("Usage: zcbuf COMMAND" in succeeds("--help succeeds", "--help"), "--help tells the usage")
    ok(succeeds("--version succeeds", "--version").startswith("zcbuf "), "--version tells the version")
    for command in "list", "alloc", "info", "top", "bench", "doctor":
        text = succeeds(f"{command} --help succeeds", command, "--help")
        ok(f"Usage: zcbuf {command}" in text, f"{command} --help tells the usage")
    run = zcbuf()
    ok(run.returncode == 2 and "Usage:" in run.stderr and not run.stdout, "without a command: usage, status 2", run)


def test_list():
    table = succeeds("list succeeds", "list")
    ok(is_aligned(table), "list is an aligned table", table)
    ok(re.search(r"^zcbuf-system +zcbuf +system +cached +\S*pin\S* .* ok$", table, re.M), "list shows what zcbuf-system can", table)
    heaps = json.loads(succeeds("list --json succeeds", "list", "--json"))
    system = heaps[0]
    ok(
        system["name"] == "zcbuf-system" and system["node"] == "/dev/dma_heap/zcbuf-system" and system["usable"]
        and "pin" in system["capabilities"] and system["max_size"] > 1 << 20 and system["used_bytes"] >= 0,
        "list --json says the same to programs", system,
    )
    ok([h["name"] for h in heaps] == [line.split()[0] for line in table.splitlines()[1:]], "both list the same heaps", heaps)
    nobody = json.loads(succeeds("list succeeds for every user", "list", "--json", user=65534, group=65534, extra_groups=[]))
    ok(nobody[0]["usable"] is False and nobody[0]["status"] == "Permission denied", "it says which heaps this user may not use", nobody[0])


def test_alloc():
    table = succeeds("alloc succeeds", "alloc", "--name", "a name", "--count", "3", "8100K")
    ok(is_aligned(table) and len(table.splitlines()) == 4, "alloc is an aligned table of buffers", table)
    ok(re.search(r"zcbuf +zcbuf-system +8 MiB .* a name$", table, re.M), "with heap, size and name", table)
    for text, size in ("1", 4096), ("4097", 8192), ("0x3000", 12288), ("64K", 65536), ("3M", 3 << 20), ("1MiB", 1 << 20):
        buffer = json.loads(succeeds(f"alloc {text} succeeds", "alloc", "--json", text))[0]
        ok(buffer["size"] == size and buffer["heap"] == "zcbuf-system" and buffer["chunks"] >= 1, f"alloc {text} gives {size} bytes", buffer)
    buffer = json.loads(succeeds("alloc --heap --align succeeds", "alloc", "--json", "--heap", "zcbuf-system", "--align", "64K", "1"))[0]
    ok(buffer["alignment"] == 65536 and buffer["size"] == 65536 and buffer["name"] is None, "alloc aligns", buffer)
    buffer = json.loads(succeeds("alloc --heap memfd succeeds", "alloc", "--json", "--heap", "memfd", "1"))[0]
    ok(buffer["backend"] == "memfd" and buffer["chunks"] is None, "what is not known is null", buffer)

    fails(1, "no-such: no such heap", "alloc from an unknown heap: status 1", "alloc", "--heap", "no-such", "1")
    fails(1, "size 0", "alloc of nothing: status 1", "alloc", "--heap", "memfd", "0")
    fails(1, "no buffer of 1099511627776 bytes", "alloc of too much: status 1", "alloc", "--heap", "zcbuf-system", "1T")
    fails(1, "/dev/dma_heap/zcbuf-system: permission denied (", "alloc without permission: status 1, and what to do", "alloc", "--heap", "zcbuf-system", "1",
          user=65534, group=65534, extra_groups=[])
    fails(2, "how many bytes?", "alloc without a size: status 2", "alloc")
    for text in "x", "-1", "1Q", "1 K", "18446744073709551616", "17179869184G":
        fails(2, "not a size", f"alloc {text}: status 2", "alloc", "--", text)
    fails(2, "not a size", "alloc --align x: status 2", "alloc", "--align", "x", "1")
    fails(2, "not a number", "alloc --count 0: status 2", "alloc", "--count", "0", "1")
    fails(2, "not expected", "alloc 1 2: status 2", "alloc", "1", "2")


def use():
    system = json.loads(zcbuf("list", "--json").stdout)[0]
    return system["used_buffers"], system["used_bytes"]


def test_hold():
    buffers, size = use()
    with Held("--count", "2", "--name", "held", "1M") as held:
        ok(use() == (buffers + 2, size + (2 << 20)), "--hold keeps the buffers", use())
        rows = json.loads(succeeds("info PID succeeds", "info", "--json", str(held.pid)))
        ok(
            [(r["fd"], r["inode"], r["size"], r["heap"], r["name"]) for r in rows]
            == [(b["fd"], b["inode"], b["size"], b["heap"], "held") for b in held.buffers],
            "info PID shows the process's buffers", rows,
        )
        ok(all(r["access"] == "rw" and r["views"] == 1 and r["buffer_id"] for r in rows), "and what only the module knows", rows)
        table = succeeds("info PID as a table", "info", str(held.pid))
        ok(is_aligned(table) and len(table.splitlines()) == 3, "which is aligned", table)
        one = json.loads(succeeds("info PID:FD succeeds", "info", "--json", f"{held.pid}:{held.buffers[1]['fd']}"))
        ok([r["inode"] for r in one] == [held.buffers[1]["inode"]], "info PID:FD shows that one", one)
        fails(1, "no buffer", "info PID:FD of something else: status 1", "info", f"{held.pid}:0")
        fails(1, "permission denied", "info PID of another user: status 1", "info", str(held.pid), user=65534, group=65534, extra_groups=[])
        held.process.stdin.write("\n")
        held.process.stdin.flush()
        ok(held.process.wait(10) == 0, "Enter ends --hold")
    ok(use() == (buffers, size), "and frees the buffers", use())
    with Held("1M") as held:
        held.process.stdin.close()
        held.process.stdin = None
        try:
            held.process.wait(2)
        except subprocess.TimeoutExpired:
            held.process.terminate()
        ok(held.process.wait(10) == -signal.SIGTERM, "without a terminal --hold lasts until the command is killed")


def test_from_outside():
    """Who may see a process's files but not take them learns what the kernel tells everybody."""
    node, scope = "/dev/dma_heap/zcbuf-system", "/proc/sys/kernel/yama/ptrace_scope"
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    mode, before = os.stat(node).st_mode, open(scope).read()
    os.chmod(node, 0o666)
    with Held("--name", "guarded", "8K", **nobody) as held:
        with open(scope, "w") as file:
            file.write("1")
        run = zcbuf("info", "--json", str(held.pid), **nobody)
        with open(scope, "w") as file:
            file.write(before)
        buffer, row = held.buffers[0], json.loads(run.stdout or "[{}]")[0]
        ok(
            row.get("inode") == buffer["inode"] and row["size"] == 8192 and row["exporter"] == "zcbuf-system"
            and row["name"] == "guarded" and row["access"] is None and row["chunks"] is None,
            "info without the right to ptrace tells what fdinfo tells", run,
        )
    os.chmod(node, mode & 0o777)


def test_info():
    memfd = os.memfd_create("from outside", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, 8192)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    row = json.loads(succeeds("info FD succeeds", "info", "--json", str(memfd), pass_fds=[memfd]))[0]
    ok(row["inode"] == os.fstat(memfd).st_ino and row["exporter"] == "memfd" and row["name"] == "from outside", "info FD shows an inherited memfd", row)
    with Held("--name", "gr\u00f6\u00dfe \"\\", "4K") as held:
        rows = json.loads(zcbuf("info", "--json", str(held.pid)).stdout)
        ok([r["name"] for r in rows] == ["gr\u00f6\u00dfe \"\\"], "a name may be in any language", rows)
    os.close(memfd)
    memfd = os.memfd_create(b"\x1b[1m\xff\n\xc3\xa4", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, 1)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    row = json.loads(succeeds("info --json of any bytes succeeds", "info", "--json", str(memfd), pass_fds=[memfd]))[0]
    ok(row["name"] == "\x1b[1m\ufffd\n\u00e4", "any bytes are still JSON", row)
    table = succeeds("info of any bytes succeeds", "info", str(memfd), pass_fds=[memfd])
    ok(table.endswith("?[1m??\u00e4\n") and is_aligned(table), "and steer no terminal", [table])
    run = zcbuf("info", "--json", str(os.getpid()))
    ok(run.returncode == 0 and json.loads(run.stdout) == [], "info of a process without buffers is empty", run)
    run = zcbuf("info", str(os.getpid()))
    ok(run.returncode == 0 and "no dma-bufs" in run.stderr, "which a person is told in words", run)
    fails(1, "no such process", "info of nothing: status 1", "info", "4194303")
    fails(2, "which file descriptor or process?", "info without a number: status 2", "info")
    for text in "x", "1:", ":1", "1:2:3", "99999999999", "1 ", " 1", "+1", "1:+1":
        fails(2, "not FD, PID or PID:FD", f"info '{text}': status 2", "info", text)


NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
POOL_LIMIT = "/sys/class/zcbuf/zcbuf-system/pool_limit"


def pool_limit():
    with open(POOL_LIMIT) as file:
        return file.read()


def bench(name, *arguments, **options):
    """What it counted, as {(peer, state, operation): …}, and what it said."""
    run = zcbuf("bench", "--json", *arguments, **options)
    ok(run.returncode == 0, name, run)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {(line["peer"], line["state"], line["operation"]): line for line in lines}, run.stderr


def test_bench():
    limit, before = pool_limit(), os.listdir("/mnt/scratch")
    title, table = succeeds("bench succeeds", "bench", "--size", "1M", cwd="/mnt/scratch").split("\n", 1)
    ok(title == "1048576 bytes, microseconds:" and is_aligned(table), "bench is an aligned table", title, table)
    cells = {words[0]: words[1:] for words in (re.split(" {2,}", line) for line in table.splitlines())}
    peers = cells.pop("OPERATION")
    ok({"zcbuf-system", "zcbuf-system, recycled", "memfd", "anonymous"} <= set(peers), "of all that this machine has", peers)
    ours = {operation: row[peers.index("zcbuf-system")] for operation, row in cells.items()}
    ok(
        {"alloc", "mmap", "touch", "sync", "munmap", "close", "life", "with background", "alloc, cold", "life, cold", "faults"}
        < set(ours) and all(re.fullmatch(r"[\d,]+(\.\d+)?", number) for number in ours.values()),
        "zcbuf-system can all of it", ours,
    )
    memfd = {operation: row[peers.index("memfd")].replace(",", "") for operation, row in cells.items()}
    ok(
        all(float(memfd["life"]) >= float(memfd[part]) for part in ("alloc", "mmap", "touch", "munmap", "close"))
        and float(memfd["touch"]) > float(memfd["mmap"]) and memfd["sync"] == "-" and memfd["faults"] == "256",
        "each row is what it says", memfd,
    )
    ok(pool_limit() == limit, "the pool's limit is what it was", pool_limit(), limit)
    ok(os.listdir("/mnt/scratch") == before, "no file is left behind", os.listdir("/mnt/scratch"))

    counted, said = bench("bench --json succeeds", "--size", "1M", "--disk", "/mnt/scratch", "zcbuf-system", "memfd")
    ok({peer for peer, _, _ in counted} == {"zcbuf-system", "zcbuf-system, recycled", "memfd"} and not said, "it measures what it is asked for", said)
    life = counted["zcbuf-system", "steady", "life"]
    ok(life["size"] == 1 << 20 and 0 < life["min"] <= life["median"] <= life["max"] and life["rounds"] == 9, "each line is a figure", life)
    parts = [counted["zcbuf-system", "steady", part]["min"] for part in ("alloc", "mmap", "touch", "sync", "munmap", "close")]
    ok(sum(parts) <= life["max"], "a life is what it consists of", parts, life)
    ok(counted["memfd", "steady", "life"]["faults"] == 256 and ("memfd", "steady", "sync") not in counted, "every page is touched; what there is not has no line")
    ok(("zcbuf-system", "cold", "alloc") in counted and ("zcbuf-system", "held", "O_DIRECT") in counted, "root has the pool emptied, and a disk")
    counted, said = bench("bench succeeds where there may be no O_DIRECT", "--size", "1M", "memfd", cwd="/dev/shm")
    ok((("memfd", "held", "O_DIRECT") in counted) != ("O_DIRECT" in said), "of which it says so", said)
    counted, _ = bench("bench of an odd size succeeds", "--size", "4097", "anonymous")
    ok({line["size"] for line in counted.values()} == {8192}, "sizes are whole pages", counted)
    run = zcbuf("bench", "--size", "4K", "--size", "8K", "anonymous")
    ok([line for line in run.stdout.splitlines() if "bytes" in line] == [f"{size} bytes, microseconds:" for size in (4096, 8192)],
       "there is a table for each size", run)

    counted, said = bench("bench succeeds for every user", "--size", "1M", **NOBODY)
    ok({peer for peer, _, _ in counted} == {"memfd", "anonymous"}, "who measures what he may", counted.keys())
    ok("/dev/dma_heap/zcbuf-system: permission denied (" in said, "and is told what he may not", said)
    node = "/dev/dma_heap/zcbuf-system"
    mode = os.stat(node).st_mode
    os.chmod(node, 0o666)
    counted, said = bench("bench succeeds for a user of the heap", "--size", "64K", "zcbuf-system", **NOBODY)
    os.chmod(node, mode & 0o777)
    ok({state for _, state, _ in counted} == {"steady", "held"} and f"{POOL_LIMIT}: Permission denied" in said, "who may not empty the pool", said)

    fails(1, "no-such: no such heap", "bench of an unknown heap: status 1", "bench", "no-such")
    fails(1, "/dev/dma_heap/zcbuf-system: permission denied (", "bench of a heap without permission: status 1", "bench", "zcbuf-system", **NOBODY)
    fails(1, "no buffer of 1099511627776 bytes", "bench of too much: status 1", "bench", "--size", "1T", "anonymous")
    fails(1, "/no-such: No such file or directory", "bench on no disk: status 1", "bench", "--disk", "/no-such", "anonymous")
    for text in "x", "0", "-1":
        fails(2, f"--size {text}: not a size", f"bench --size {text}: status 2", "bench", "--size", text)


def test_bench_interrupted():
    """Just when it empties the pool."""
    limit = pool_limit()
    run = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-P", POOL_LIMIT, "-e", "inject=write:signal=SIGINT:when=1",
         "zcbuf", "bench", "--json", "--size", "4K", "zcbuf-system"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/mnt/scratch", timeout=60,
    )
    ok(run.returncode == -signal.SIGINT, "a bench can be interrupted", run)
    ok(pool_limit() == limit, "and leaves the pool's limit as it was", pool_limit(), limit)
    with open(POOL_LIMIT, "w") as file:
        file.write(limit)


def test_bench_without_module():
    """In a /dev that has nothing. Whoever else uses the module keeps it."""
    empty = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec zcbuf bench --json "$@"', "sh"]
    run = subprocess.run([*empty, "--size", "64K"], capture_output=True, text=True, timeout=60, cwd="/mnt/scratch")
    ok(run.returncode == 0, "bench succeeds without the module", run)
    counted = {(line["peer"], line["state"]) for line in map(json.loads, run.stdout.splitlines())}
    ok({"memfd", "anonymous"} == {peer for peer, _ in counted}, "and measures what there is", counted)
    ok(not any(state == "cold" for _, state in counted), "which has no pool", counted)
    run = subprocess.run([*empty, "zcbuf-system"], capture_output=True, text=True, timeout=60, cwd="/mnt/scratch")
    ok(run.returncode == 1 and "modprobe zcbuf" in run.stderr and not run.stdout,
       "bench of zcbuf-system without the module: status 1, and what to do", run)


def test_errors():
    fails(2, "no-such: no such command", "an unknown command: status 2", "no-such")
    fails(2, "not expected", "list with an argument: status 2", "list", "x")
    for command in "list", "alloc", "info", "top", "bench", "doctor":
        fails(2, "unrecognized option", f"{command} with an unknown option: status 2", command, "--no-such")
    with open("/dev/full", "w") as target:
        run = subprocess.run(["zcbuf", "list"], stdout=target, stderr=subprocess.PIPE, text=True)
    ok(run.returncode == 1 and "No space left" in run.stderr, "output that cannot be written: status 1", run)


test_help()
test_list()
test_alloc()
test_hold()
test_from_outside()
test_info()
test_bench()
test_bench_interrupted()
test_bench_without_module()
test_errors()
print(f"1..{count}")
sys.exit(1 if failures else 0)
