#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""report.py RESULTS DOCS: makes benchmarks.md and its plots in DOCS of the lines of JSON in RESULTS."""

import json
import math
import pathlib
import sys

results, docs = (pathlib.Path(argument) for argument in sys.argv[1:])

FRAME = 12439552
BASE = "system"  # what others are compared with
OURS = "zcbuf-system"
RECYCLED = "zcbuf-system, recycled"
SENT = 320 * 240 * 4, 1920 * 1080 * 4  # frames that go to another process

OPERATIONS = {
    "alloc": "alloc",
    "mmap": "mmap",
    "touch": "touch of every page",
    "sync": "sync, START and END",
    "munmap": "munmap",
    "close": "close",
    "life": "**the whole life**",
}
USES = {
    "read": "read of every byte",
    "O_DIRECT": "O_DIRECT write of 1 MiB, own CPU time",
    "pass": "fd to another process, closed there, answer",
    "attach": "attach to a device, map, unmap, detach",
    "vmap": "vmap, vunmap",
    "sync 4 KiB": "sync of 4 KiB",
    "sync, bounced": "sync of all, bounced",
    "sync 4 KiB, bounced": "sync of 4 KiB, bounced",
}
UNITS = {"instructions": "thousands of instructions", "nanoseconds": "microseconds"}


class Run:
    """One kernel, one way of counting."""

    def __init__(self, path):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.machine, self.kernel = lines[0]["machine"], lines[0]["kernel"]
        self.name, *ways = self.machine.split("+")
        # there a nanosecond of the clock is an instruction
        self.unit = "instructions" if "icount" in ways else "nanoseconds"
        self.fragmented = "fragmented" in ways
        to_others = ("channel", "neighbour")
        self.peers = list(dict.fromkeys(line["peer"] for line in lines if line["state"] not in to_others))
        self.transports = list(dict.fromkeys(line["peer"] for line in lines if line["state"] == "channel"))
        self.neighbours = list(dict.fromkeys(line["operation"] for line in lines if line["state"] == "neighbour"))
        self.sizes = sorted({line["size"] for line in lines if line["operation"] == "life"})
        self.all = {(line["peer"], line["operation"], line["state"], line["size"]): line for line in lines}

    def __call__(self, peer, operation, size=FRAME, state="steady", key="median"):
        """A number, or None; what failed has none."""
        return self.all.get((peer, operation, state, size), {}).get(key)

    def sum(self, peer, *operations):
        """Of a frame, or None."""
        costs = [self(peer, operation) for operation in operations]
        return None if None in costs else sum(costs)

    def total(self, peer, size=FRAME):
        life = self(peer, "life", size)
        return life and life + (self(peer, "background", size) or 0)


def thousands(value):
    if value is None:
        return "–"
    value /= 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def size_name(size):
    return f"{size >> 20} MiB" if size % 2**20 == 0 else f"{size >> 10} KiB" if size < 2**20 else f"{size:,}"


def table(head, rows, align="---:"):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + f"|{align}" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def ratio(ours, base):
    if not ours or not base:
        return ""
    return f"1/{base / ours:,.1f}" if base >= 2 * ours else f"{ours / base:,.2f}"


def row(name, run, value):
    """VALUE of each peer, and how ours compares."""
    values = {peer: value(peer) for peer in run.peers}
    return [name, *map(thousands, values.values()), ratio(values[OURS], values.get(BASE))]


def error_or_number(run, peer, operation):
    line = run.all.get((peer, operation, "held", FRAME), {})
    return line.get("error") or thousands(line.get("median"))


def frame_table(run):
    head = [UNITS[run.unit], *run.peers, f"{OURS} / {BASE}"]
    rows = [row(name, run, lambda peer: run(peer, key)) for key, name in OPERATIONS.items()]
    rows.append(row("the same and the work in the background", run, run.total))
    rows.append(row("alloc, cold", run, lambda peer: run(peer, "alloc", FRAME, "cold")))
    rows.append(row("the whole life, cold", run, lambda peer: run(peer, "life", FRAME, "cold")))
    faults = (run(peer, "life", key="faults") for peer in run.peers)
    rows.append(["page faults of a life", *("–" if count is None else str(count) for count in faults), ""])
    yield from table(head, rows)


def use_table(run):
    """It is all the same how the memory was had."""
    peers = [peer for peer in run.peers if peer != RECYCLED]
    rows = []
    for key, name in USES.items():
        cells = [error_or_number(run, peer, key) for peer in peers]
        rows.append([name, *cells, ratio(run(OURS, key, FRAME, "held"), run(BASE, key, FRAME, "held"))])
    yield from table([UNITS[run.unit], *peers, f"{OURS} / {BASE}"], rows)


def footprint_table(run):
    lines = [line for line in run.all.values() if line["operation"] == "footprint"]
    of = {(line["peer"], line["size"]): line["median"] for line in lines}
    peers = [peer for peer in run.peers if (peer, 4096) in of]
    rows = []
    for size in sorted({size for _, size in of}):
        rows.append([size_name(size), *(f"{of[peer, size]:,}" if (peer, size) in of else "–" for peer in peers)])
    yield from table(["bytes", *peers], rows)


def transport_table(run):
    of = {(peer, operation, size) for peer, operation, state, size in run.all if state == "channel"}
    rows = [
        [f"{operation}, {size_name(size)}",
         *(thousands(run(peer, operation, size, "channel")) for peer in run.transports),
         ratio(run("zcbufsrc", operation, size, "channel"), run("unixfdsrc", operation, size, "channel"))]
        for operation in ("received", "sent") for size in sorted({size for _, _, size in of})
    ]  # fmt: skip
    yield from table([UNITS[run.unit], *run.transports, "zcbufsrc / unixfdsrc"], rows)


def beside(run, peer, neighbour, key="mean"):
    """Frames a second, or None."""
    return run(peer, neighbour, 0, "neighbour", key)


def neighbour_table(run):
    def cell(peer, neighbour):
        rate = beside(run, peer, neighbour)
        return "–" if rate is None else f"{rate:.1f}, {beside(run, peer, neighbour, 'worst')} in the worst"

    peers = ("zcbufsrc", "unixfdsrc")
    rows = [
        ["is not there" if neighbour == "nobody" else neighbour, *(cell(peer, neighbour) for peer in peers)]
        for neighbour in run.neighbours
    ]
    yield from table(["frames a second while the other one", *peers], rows)


def size_table(run, operation, state="steady"):
    head = [UNITS[run.unit], *run.peers, f"{OURS} / {BASE}"]
    yield from table(
        head, [row(size_name(size), run, lambda peer: run(peer, operation, size, state)) for size in run.sizes]
    )


# ---- plots ------------------------------------------------------------------------------------

# Okabe and Ito: told apart by the colour-blind, too
COLOURS = ["#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#555555", "#000000"]
MARKERS = ["circle", "square", "diamond", "triangle"]
WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 84, 660, 64, 490


def marker(shape, x, y, colour):
    r = 4
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{colour}"/>'
    corners = {
        "square": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "diamond": [(0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)],
        "triangle": [(0, -r - 1), (r + 1, r), (-r - 1, r)],
    }[shape]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}" fill="{colour}"/>'


def short(value):
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g} {suffix}"
    return f"{value:g}"


def plot(title, sizes, unit, lines):
    """Cost against size, both logarithmic. LINES: (name, colour, marker, dash, {size: cost})."""
    lines = [line for line in lines if line[4]]
    costs = [cost for line in lines for cost in line[4].values()]
    low, high = math.floor(math.log10(min(costs))), math.log10(max(costs)) + 0.1
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])

    def x_of(size):
        return LEFT + (math.log2(size) - first) / (last - first) * (RIGHT - LEFT)

    def y_of(cost):
        return BOTTOM - (math.log10(cost) - low) / (high - low) * (BOTTOM - TOP)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" fill="#222">'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="34" font-size="17" font-weight="bold">{title}</text>'
    for power in range(low, math.floor(high) + 1):
        y = y_of(10**power)
        yield f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{short(10**power)}</text>'
    for power in range(int(first), int(last) + 1, 2):
        x = x_of(2**power)
        yield f'<path d="M{x:.1f} {TOP}V{BOTTOM}" stroke="#eee"/>'
        yield f'<text x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{size_name(2**power)}</text>'
    yield f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" stroke="#444" fill="none"/>'
    yield f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 46}" text-anchor="middle">bytes of the buffer</text>'
    middle = (TOP + BOTTOM) / 2
    yield f'<text x="22" y="{middle}" text-anchor="middle" transform="rotate(-90 22 {middle})">{unit}</text>'

    for name, colour, shape, dash, points in lines:
        path = "L".join(f"{x_of(size):.1f} {y_of(cost):.1f}" for size, cost in sorted(points.items()))
        width = 3 if name == OURS else 1.8
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'
        if not dash:
            yield from (marker(shape, x_of(size), y_of(cost), colour) for size, cost in points.items())

    # Names are where the lines end, as far as there is room.
    y = TOP - 22
    for name, colour, shape, dash, points in sorted(lines, key=lambda line: -line[4][max(line[4])]):
        end_x, end_y = x_of(max(points)), y_of(points[max(points)])
        y = max(y + 22, end_y)
        if max(points) == sizes[-1]:
            yield f'<path d="M{end_x + 6:.1f} {end_y:.1f}L{RIGHT + 24} {y:.1f}" stroke="{colour}" stroke-opacity=".4"/>'
        yield f'<path d="M{RIGHT + 26} {y:.1f}h22" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>'
        if not dash:
            yield marker(shape, RIGHT + 37, y, colour)
        yield f'<text x="{RIGHT + 54}" y="{y + 4:.1f}">{name}</text>'
    yield "</svg>"


def life_plot(run, file):
    lines = []
    for i, peer in enumerate(run.peers):
        points = {size: run(peer, "life", size) for size in run.sizes if run(peer, "life", size)}
        lines.append((peer, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], "", points))
        totals = {size: run.total(peer, size) for size in points}
        if any(totals[size] > 1.01 * points[size] for size in points):
            lines.append((f"{peer} + background", COLOURS[i % len(COLOURS)], "", "5 4", totals))
    title = f"A buffer's whole life on Linux {run.name}: {run.unit}"
    (docs / file).write_text("\n".join(plot(title, run.sizes, run.unit, lines)) + "\n")


# ---- targets ------------------------------------------------------------------------------------


def part(value):
    if value <= 0.5:
        return f"1/{1 / value:,.1f}".removesuffix(".0")
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


class Target:
    """Ours is no more than @limit of what @than says. The worst of @cases counts: (ours, that, where)."""

    def __init__(self, operation, limit, than, cases, also="", and_met=True):
        worst, where = max((ours / that, where) for ours, that, where in cases)
        met = worst <= limit and and_met
        measured = part(worst) + where + also
        limit = part(limit) if limit < 1 else f"{limit:,g}"
        self.cells = [operation, f"≤ {limit} {than}", measured, "met" if met else "**missed**"]


def targets(runs):
    old, middle, new = (
        next(run for run in runs if run.name == name and run.unit == "instructions" and not run.fragmented)
        for name in ("6.1", "6.12", "7.3")
    )

    def against(base, run, *operations):
        return [(run.sum(OURS, *operations), base.sum(BASE, *operations), "")]

    def on_both(ours, that):
        return [(ours(run), that(run), f" on {run.name}") for run in (middle, new)]

    def held(peer, operation):
        return lambda run: run(peer, operation, state="held")

    def pinned(run):
        return "O_DIRECT works" if run(OURS, "O_DIRECT", state="held") else "O_DIRECT fails"

    def received(run, peer, size):
        return run(peer, "received", size, "channel")

    def page_more(peer):
        return lambda run: (received(run, peer, SENT[1]) - received(run, peer, SENT[0])) / ((SENT[1] - SENT[0]) / 4096)

    faults = new(OURS, "life", key="faults")
    footprint, where = max((run(OURS, "footprint", state="held"), run.name) for run in (middle, new))
    system = "of the system heap"
    return [
        Target("whole life, 7.3", 1 / 50, system, against(new, new, "life")),
        Target("the same and the work in the background", 1 / 2, system, [(new.total(OURS), new.total(BASE), "")],
               f"; with ZCBUF_ALLOC_RECYCLE {part(new.total(RECYCLED) / new.total(BASE))}"),
        Target("alloc of any size", 1.5, "times that of 4 KiB",
               [(run(OURS, "alloc", size), run(OURS, "alloc", 4096), f", {size_name(size)} on {run.name}")
                for run in (middle, new) for size in run.sizes]),
        Target("alloc, cold", 1.05, "times the system heap's",
               on_both(lambda run: run(OURS, "alloc", state="cold"), lambda run: run(BASE, "alloc", state="cold"))),
        Target("mmap and touch, 7.3; at most 7 faults, and O_DIRECT works", 1 / 20, system,
               against(new, new, "mmap", "touch"), f", {faults} faults, {pinned(new)}",
               faults <= 7 and "works" in pinned(new)),
        Target("mmap and touch, 6.12", 1 / 2, system, against(middle, middle, "mmap", "touch")),
        Target("the same, where O_DIRECT need not work", 1 / 20, system, against(middle, middle, "mmap", "touch"),
               f", {pinned(middle)}"),
        Target("mmap and touch, 6.1", 1 / 2, f"{system} of 6.12", against(middle, old, "mmap", "touch")),
        Target("munmap and close, 7.3", 1 / 20, system, against(new, new, "munmap", "close")),
        Target("sync of 4 KiB, bounced", 1 / 100, "of a whole sync",
               on_both(held(OURS, "sync 4 KiB, bounced"), held(OURS, "sync, bounced"))),
        Target("O_DIRECT write of 1 MiB", 1.1, "times anonymous memory's",
               on_both(held(OURS, "O_DIRECT"), held("anonymous", "O_DIRECT"))),
        Target("a frame received by GStreamer", 1 / 3, "of unixfdsrc",
               [(received(run, "zcbufsrc", size), received(run, "unixfdsrc", size),
                 f", {size_name(size)} on {run.name}") for run in (middle, new) for size in SENT]),
        Target("the same, for each page that it is larger by", 10, "instructions, for a byte of it is read",
               on_both(page_more("zcbufsrc"), lambda run: 1), f"; unixfdsrc {part(page_more('unixfdsrc')(new))}"),
        Target("frames a second of one consumer alone", 1.05, "times those beside a bad one",
               [(beside(run, "zcbufsrc", "nobody"), max(beside(run, "zcbufsrc", neighbour), 0.1),
                 f", one that {neighbour}, on {run.name}")
                for run in (middle, new) for neighbour in run.neighbours]),
        Target("memory beyond its pages", FRAME >> 11, "bytes, 1 KiB for each 2 MiB", [(footprint, 1, f" on {where}")]),
    ]


# ---- the page -----------------------------------------------------------------------------------

INTRODUCTION = """# What a buffer costs

Made by `./run bench`, which measures all of it again, here, and writes this page and its plots.
`zcbuf bench` does the same on your own machine, with the heaps that it has.
"""

EXPLANATION = """## How it was measured

- A **life** is alloc, mmap, a write to every page, `DMA_BUF_IOCTL_SYNC` START and END, munmap and
  close. Each number is the median of nine, after three to warm up, with 33 ms between two lives,
  as between the frames of a camera. What the module's thread does in the meantime is added in the
  row *and the work in the background*, for each life its part. *Cold* is a life after the
  heap's pool has been emptied.
- **Instructions** are counted by QEMU (`-icount shift=0`), where the clock of the machine is their number:
  user space and kernel, interrupts too. The CPU has no fast string instructions there, of which
  each byte would count as one. **Wall time** is that of an ordinary machine with two CPUs.
- Peers: zcbuf's heaps of cached pages, the kernel's own `/dev/dma_heap/system`, `/dev/udmabuf` over a
  sealed memfd, a memfd alone, and anonymous memory as the floor: it cannot be shared. All are
  mapped at the same address, a multiple of 2 MiB. A buffer of zcbuf is what `ZCBUF_IOC_ALLOC` makes of the
  size, up to a 32nd more; all of it is mapped, and what was asked for is touched. *Recycled*: with
  `ZCBUF_ALLOC_RECYCLE`.
- *Bounced*: attached to a device with 32 bits of address, while the whole buffer lies above 4 GiB. A
  device maps it in pieces of 64 KiB at most; no number means that it could not, or that some of
  the buffer lay lower. udmabuf never syncs for an attached device, so its number shows no copy.
- *Memory beyond its pages* is what is missing of the machine's free memory while up to 1000
  buffers, or 1 GiB of them, are alive: for each, without the size that it has.
- *A frame goes to another process*: CPU time of the process that receives it from a channel or from
  GStreamer's own senders, and reads a byte of each page; and of the one that draws it, black, and
  sends it. *libzcbuf* is a plain C program, which zcbufsink sends to as well.
  *pipewiresrc* gets ids from *pipewiresink*, too; PipeWire's daemon makes the two known to each other,
  and was measured to do nothing for a frame. `pw-link` links them in place of a session manager.
- *One consumer beside another*: 100 frames of 320x240 in each of ten seconds, from zcbufsink or
  unixfdsink to a consumer that does nothing wrong, and what it gets of them while the other one
  does the same thing again and again. The machine has one CPU, and its time is the instructions'.
  `unixfdsink` takes the first bytes of garbage for a length, and its process ends when it cannot
  allocate so much.
- –: there is no such operation, or no such buffer. A name such as EFAULT: it fails with that.
"""


def page(runs):
    plain = [run for run in runs if not run.fragmented]
    machine = results / "machine"
    yield INTRODUCTION
    yield f"A frame of {FRAME:,} bytes, in instructions:\n"
    yield from table(["operation", "target", "measured", ""], [target.cells for target in targets(runs)], "---")
    yield EXPLANATION
    yield f"Machine: {machine.read_text().strip()}; 3 GiB, `init_on_alloc=0`.\n"
    for run in plain:
        yield f"## Linux {run.kernel}, {run.unit}\n"
        if run.unit == "instructions" and len(run.sizes) > 1:
            file = f"benchmarks-{run.name}.svg"
            life_plot(run, file)
            yield f"![The whole life's cost against the buffer's size, a line for each peer]({file})\n"
        yield f"A frame of {FRAME:,} bytes:\n"
        yield from frame_table(run)
        yield "A buffer that lives on:\n"
        yield from use_table(run)
        if len(run.sizes) == 1:
            continue
        yield "The whole life, by size:\n"
        yield from size_table(run, "life")
        if run.unit == "instructions":
            yield "alloc, by size:\n"
            yield from size_table(run, "alloc")
            yield "Memory beyond its pages, by size:\n"
            yield from footprint_table(run)
            yield "A frame goes to another process:\n"
            yield from transport_table(run)
            yield "One consumer beside another:\n"
            yield from neighbour_table(run)
    for run in runs:
        if run.fragmented:
            yield f"## In fragmented memory: Linux {run.kernel}, {run.unit}\n"
            yield "Half of the memory is free, but no two of its pages lie side by side.\n"
            yield f"A frame of {FRAME:,} bytes:\n"
            yield from frame_table(run)


runs = sorted((Run(path) for path in results.glob("*.json")), key=lambda run: run.unit)
runs.sort(key=lambda run: [int(part) for part in run.name.split(".")])
(docs / "benchmarks.md").write_text("\n".join(page(runs)).rstrip() + "\n")
