#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The tables of docs/mmap.md are what this kernel does.

One buffer of each heap goes the way that the page describes, under the kernel's function_graph
tracer. With --write the page, with the tables as they are now, goes to out/tour/mmap.md.
"""

import os
import re
import subprocess
import sys

PAGE = "docs/mmap.md"
WRITTEN = "out/tour/mmap.md"
TRACING = "/sys/kernel/tracing/"
WALK = "/usr/libexec/zcbuf-tour/walk"
REFERENCE = "7.3."  # other kernels have other inner functions, but the same facts

HEAPS = {
    "zcbuf-system": "system",
    "zcbuf-system-wc": "wc",
    "zcbuf-contig": "contig",
    "zcbuf-coherent": "coherent",
    "zcbuf-vmalloc": "vmalloc",
    "zcbuf-carveout": "carveout",
}

# What each step shows. All of it can be traced in a stock kernel; functions that only sometimes
# have something to do, such as the page allocator's inner ones, are left out.
PAGES = "zcbuf_chunks_page zcbuf_contig_page zcbuf_coherent_page zcbuf_vmalloc_page"
STEPS = {
    "alloc": """zcbuf_heap_ioctl zcbuf_buffer_alloc zcbuf_chunks_alloc zcbuf_pool_get
        zcbuf_pool_take zcbuf_wc_alloc set_pages_array_wc zcbuf_contig_alloc zcbuf_coherent_alloc dma_alloc_attrs
        zcbuf_vmalloc_alloc __vmalloc_noprof zcbuf_carveout_alloc memset_io
        zcbuf_view_export fd_install""",
    "mmap": f"""vm_mmap_pgoff do_mmap mmap_region dma_buf_mmap_internal zcbuf_view_mmap
        zcbuf_buffer_mmap {PAGES} vm_insert_pages folio_add_file_rmap_ptes zcbuf_coherent_mmap
        dma_mmap_attrs zcbuf_carveout_mmap remap_pfn_range pfnmap_track memtype_reserve""",
    "map": f"""dma_buf_dynamic_attach zcbuf_attachment_attach zcbuf_buffer_sgt {PAGES}
        dma_buf_map_attachment zcbuf_attachment_map dma_map_sgtable dma_direct_map_sg
        dma_map_resource""",
    "bounce": """dma_buf_begin_cpu_access zcbuf_view_begin_cpu_access dma_resv_wait_timeout
        zcbuf_attachments_sync_for_cpu zcbuf_view_end_cpu_access
        zcbuf_attachments_sync_for_device __dma_sync_single_for_cpu
        __dma_sync_single_for_device swiotlb_bounce""",
    "pin": "pin_user_pages_fast gup_fast_fallback __get_user_pages handle_mm_fault",
    "fault": f"""handle_mm_fault do_fault zcbuf_vma_fault {PAGES} vm_insert_page
        folio_add_file_rmap_ptes""",
    "munmap": """__x64_sys_munmap unmap_region unmap_vmas folio_remove_rmap_ptes free_pgtables
        remove_vma zcbuf_vma_close pfnmap_untrack memtype_free""",
    "close": """dma_buf_release zcbuf_view_release zcbuf_buffer_release zcbuf_wc_free
        set_pages_array_wb zcbuf_chunks_free zcbuf_pool_give zcbuf_contig_free __folio_put zcbuf_coherent_free
        dma_free_attrs zcbuf_vmalloc_free vfree zcbuf_carveout_free""",
}

# Steps of which only a number is shown, among what works: how often this function was called.
COUNTS = {
    "touch": ("facts", "page faults, first touch of all pages", "handle_mm_fault"),
    "child": ("facts", "page faults, a child's first touch", "handle_mm_fault"),
    "fork": ("facts", "zcbuf_vma_open in fork()", "zcbuf_vma_open"),
    "sync": ("devices", "dma_sync calls in START and END", "__dma_sync_single_for_"),
}


class Call:
    """A function, how often each heap calls it, and what it calls, in order."""

    def __init__(self):
        self.count = {}
        self.calls = {}

    def merge(self, heap, tree):
        """Add a tree of [name, calls] pairs. What is new stands before what comes next."""
        for i, (name, calls) in enumerate(tree):
            if name not in self.calls:
                items = list(self.calls.items())
                later = [list(self.calls).index(n) for n, _ in tree[i:] if n in self.calls]
                items.insert(min(later, default=len(items)), (name, Call()))
                self.calls = dict(items)
            call = self.calls[name]
            call.count[heap] = call.count.get(heap, 0) + 1
            call.merge(heap, calls)

    def rows(self, depth=0):
        for name, call in self.calls.items():
            yield "  " * depth + name, call.count
            yield from call.rows(depth + 1)


def parse_trace(lines, names):
    """The tree of the calls of NAMES; what they called by way of other functions is theirs."""
    tree = []
    stack = [tree]
    for line in lines:
        line = re.sub(r"\.(isra|part|constprop)\.\d+", "", line.split("/*")[0]).strip()
        line = line.replace(" [zcbuf]", "")
        call = re.fullmatch(r"(\w+)\(\)( \{|;)", line)
        if call:
            calls = stack[-1]
            if call[1] in names:
                stack[-1].append([call[1], []])
                calls = stack[-1][-1][1]
            if call[2] == " {":
                stack.append(calls)
        elif line.startswith("}") and len(stack) > 1:
            stack.pop()
    return tree


def write(file, text):
    with open(TRACING + file, "w", encoding="ascii") as f:
        f.write(text)


def is_of_interest(function):
    return any(function in names.split() for names in STEPS.values()) or any(
        function.startswith(start) for _, _, start in COUNTS.values()
    )


def set_up_tracer():
    """The filter takes numbers of lines as well, and takes them a thousand times faster."""
    with open(TRACING + "available_filter_functions", encoding="ascii") as f:
        functions = [line.split()[0] for line in f]
    whole = set(functions)
    numbers = [
        str(number)
        for number, function in enumerate(functions, 1)
        if is_of_interest(function.split(".")[0])
        and ("." not in function or function.split(".")[0] not in whole)
    ]
    write("current_tracer", "nop")
    write("tracing_on", "0")
    write("set_ftrace_filter", " ".join(numbers))
    write("current_tracer", "function_graph")
    for option in "duration", "cpu", "overhead", "irqs":
        write(f"options/funcgraph-{option}", "0")


def stop_tracer():
    write("current_tracer", "nop")
    write("set_ftrace_filter", "")
    write("set_ftrace_pid", "")
    write("trace", "")
    write("tracing_on", "1")


def has_cma():
    """Then the contiguous heap maps in another way, of which the page only speaks."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return any(line.startswith("CmaTotal:") and int(line.split()[1]) for line in f)


def heap_nodes():
    """The nodes of the heaps, in the order of the table."""
    nodes = sorted(os.listdir("/dev/dma_heap"))
    if has_cma():
        nodes.remove("zcbuf-contig")
    carveouts = [node for node in nodes if node.startswith("zcbuf-carveout-")]
    return [node for node in HEAPS if node in nodes] + carveouts[:1]


def walk(node):
    """What each step's trace is, as lines, and what works, of one heap."""
    run = subprocess.run([WALK, node], capture_output=True, text=True, check=False)
    if run.returncode:
        print(f"Bail out! walk {node}: {run.stdout.splitlines()[-1:]} {run.stderr}")
        sys.exit(1)
    steps, answers, flags, lines = {}, {"devices": {}, "facts": {}}, [], []
    for line in run.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "step":
            lines = steps[rest] = []
        elif kind in ("device", "fact"):
            what, _, answer = rest.rpartition(": ")
            answers[kind + "s"][what] = answer
        elif kind == "flag":
            flags.append(rest)
        else:
            lines.append(line)
    for step, (table, what, name) in COUNTS.items():
        count = sum(line.lstrip().startswith(name) for line in steps.pop(step))
        answers[table][what] = str(count)
    shown = " ".join(flag for flag in flags if flag in ("pf", "io", "mm", "de", "dd"))
    answers["facts"]["VmFlags in smaps"] = shown
    return steps, answers


def measure():
    """Each table of the page: {name: ([(row, {heap: cell})], heaps that could be measured)}."""
    calls = {step: Call() for step in STEPS}
    heaps = {step: [] for step in STEPS}
    tables = {"devices": ({}, []), "facts": ({}, [])}
    for node in heap_nodes():
        heap = HEAPS.get(node, "carveout")
        steps, answers = walk(node)
        for step, lines in steps.items():
            calls[step].merge(heap, parse_trace(lines, STEPS[step].split()))
            heaps[step].append(heap)
        for name, table in answers.items():
            tables[name][1].append(heap)
            for what, answer in table.items():
                tables[name][0].setdefault(what, {})[heap] = answer
    tables = {name: (list(rows.items()), heaps) for name, (rows, heaps) in tables.items()}
    for step, call in calls.items():
        tables[step] = list(call.rows()), heaps[step]
    return tables


def render(rows):
    width = max([len(row) for row, _ in rows], default=0) + 2
    columns = list(HEAPS.values())
    wide = {c: max([len(c)] + [len(str(cells.get(c, "."))) for _, cells in rows]) + 2 for c in columns}
    lines = [" " * width + "".join(c.rjust(wide[c]) for c in columns)]
    for row, cells in rows:
        lines.append(row.ljust(width) + "".join(str(cells.get(c, ".")).rjust(wide[c]) for c in columns))
    if not rows:
        lines = ["nothing, on any heap"]
    return "\n".join(lines)


def parse_table(text, heaps):
    """The rows of a table in the page, with the columns of HEAPS only."""
    header, *lines = text.splitlines()
    ends = {c: header.index(c) + len(c) for c in HEAPS.values() if c in header.split()}
    rows = []
    for line in lines:
        cells = {}
        for column, end in ends.items():
            cell = re.split(r"  +", line[:end])[-1]
            if cell != "." and column in heaps:
                cells[column] = cell
        if cells:
            rows.append((re.match(r" *\S+( \S+)*", line)[0], cells))
    return rows


# A table is a block of code, and its name follows the language.
TABLE = re.compile(r"^(```text (\w+)\n)(.*?)\n(```)$", re.DOTALL | re.MULTILINE)


def main():
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    subprocess.run(["modprobe", "zcbuf_importer"], check=True)
    set_up_tracer()
    try:
        tables = measure()
    finally:
        stop_tracer()
    unmeasured = [heap for heap in HEAPS.values() if heap not in tables["facts"][1]]
    for name, (_, heaps) in tables.items():
        unmeasured += [f"{heap} ({name})" for heap in tables["facts"][1] if heap not in heaps]
    if sys.argv[1:] == ["--write"]:
        return write_page(page, tables, unmeasured)
    return compare(page, tables, unmeasured)


def write_page(page, tables, unmeasured):
    if unmeasured:
        sys.exit("this machine could not measure " + ", ".join(unmeasured))
    os.makedirs(os.path.dirname(WRITTEN), exist_ok=True)
    with open(WRITTEN, "w", encoding="utf-8") as f:
        f.write(TABLE.sub(lambda m: m[1] + render(tables[m[2]][0]) + "\n" + m[4], page))
    print(f"now: cp {WRITTEN} {PAGE}")
    return 0


def compare(page, tables, unmeasured):
    in_page = {m[2]: m[3] for m in TABLE.finditer(page)}
    skipped = [f"this machine could not measure {what}" for what in unmeasured]
    if not os.uname().release.startswith(REFERENCE):
        tables = {"facts": tables["facts"]}
        skipped = [f"the page has the functions of Linux {REFERENCE}x"]
    failed = False
    for number, (name, (rows, heaps)) in enumerate(tables.items(), 1):
        same = name in in_page and parse_table(render(rows), heaps) == parse_table(
            in_page[name], heaps
        )
        print(f"{'ok' if same else 'not ok'} {number} - {name}: as {PAGE} has it")
        if not same:
            failed = True
            print("# " + render(rows).replace("\n", "\n# "))
    wrong = wrong_names(page)
    print(f"{'not ok' if wrong else 'ok'} {len(tables) + 1} - each function and file is there")
    if wrong:
        print("# not there: " + " ".join(wrong))
    for number, why in enumerate(skipped, len(tables) + 2):
        print(f"ok {number} # SKIP {why}")
    print(f"1..{len(tables) + 1 + len(skipped)}")
    return failed or bool(wrong)


def wrong_names(page):
    """What the page names of this repository, and is not there."""
    wrong = []
    for file, function in set(re.findall(r"\b(\w+\.c):(\w+)\(\)", page)):
        source = ""
        if os.path.exists(f"kernel/{file}"):
            with open(f"kernel/{file}", encoding="utf-8") as f:
                source = f.read()
        if not re.search(rf"^\w.*\b{function}\(", source, re.MULTILINE):
            wrong.append(f"{file}:{function}")
    for path in set(re.findall(r"`((?:docs|tests)/[\w/.-]+)`", page)):
        if not os.path.exists(path):
            wrong.append(path)
    return wrong


sys.exit(main())
