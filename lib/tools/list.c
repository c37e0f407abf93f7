// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf list: the heaps of this machine. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "tools.h"

static const char help[] =
	"Usage: zcbuf list [--json]\n"
	"\n"
	"Shows the heaps of this machine, in the order in which they are tried.\n"
	"\n"
	"  --json    print JSON\n"
	"\n"
	"  NAME      what 'zcbuf alloc --heap' and zcbuf_heap_open() take\n"
	"  BACKEND   who makes the memory: the module zcbuf, another dma-heap, "
	"udmabuf, memfd\n"
	"  KIND      system: any pages; contig: one contiguous run; coherent: of "
	"the DMA API;\n"
	"            vmalloc: one virtual range; carveout: reserved memory\n"
	"  CACHE     how the CPU sees it: cached, write-combined, uncached\n"
	"  CAN       contiguous: each buffer is one run; pin: O_DIRECT, io_uring "
	"and RDMA work;\n"
	"            vmap: importers that use the CPU work; charged: to the memory "
	"cgroup;\n"
	"            dma32: memory below 4 GiB on demand\n"
	"  LARGEST   buffer that can be asked for\n"
	"  ALIGN     largest alignment that can be asked for\n"
	"  IN USE    bytes in all buffers now; BUFFERS counts them\n"
	"  STATUS    whether this user may allocate from it\n"
	"\n"
	"'-' stands for what is not known.\n";

static const char *const kinds[] = { NULL,	 "system",  "contig",
				     "coherent", "vmalloc", "carveout" };
static const char *const cache_modes[] = { NULL, "cached", "write-combined", "uncached" };
static const char *const capabilities[] = { "contiguous", "pin", "vmap", "charged",
					    "dma32" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void report_heap(struct report *report, const struct zcbuf_heap_info *heap)
{
	bool is_zcbuf = heap->backend == ZCBUF_BACKEND_ZCBUF;

	report_row(report);
	report_text(report, "NAME", "name", heap->name);
	report_text(report, "BACKEND", "backend", zcbuf_backend_name(heap->backend));
	report_text(report, "KIND", "kind", name_of(kinds, COUNT(kinds), heap->kind));
	report_text(report, "CACHE", "cache",
		    name_of(cache_modes, COUNT(cache_modes), heap->cache_mode));
	report_bits(report, "CAN", "capabilities", heap->capabilities, capabilities,
		    COUNT(capabilities));
	if (heap->max_size)
		report_bytes(report, "LARGEST", "max_size", heap->max_size);
	else
		report_unknown(report, "LARGEST", "max_size");
	report_bytes(report, "ALIGN", "max_alignment", heap->max_alignment);
	if (is_zcbuf) {
		report_bytes(report, "IN USE", "used_bytes", heap->used_bytes);
		report_number(report, "BUFFERS", "used_buffers", heap->used_buffers);
	} else {
		report_unknown(report, "IN USE", "used_bytes");
		report_unknown(report, "BUFFERS", "used_buffers");
	}
	report_text(report, NULL, "node", heap->node[0] ? heap->node : NULL);
	report_bool(report, NULL, "usable", !heap->status);
	report_text(report, "STATUS", "status",
		    heap->status ? strerror(-heap->status) : "ok");
}

int cmd_list(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct zcbuf_heap_info *heaps;
	struct report *report;
	bool json = false;
	int count;

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		if (o == 'h') {
			fputs(help, stdout);
			return EXIT_SUCCESS;
		}
		if (o != 'j')
			return EXIT_USAGE;
		json = true;
	}
	if (optind < argc)
		return usage_error("list", "%s: not expected", argv[optind]);
	count = zcbuf_heap_list(ctx, &heaps);
	if (count < 0)
		return EXIT_FAILURE;
	report = report_new(json);
	for (int i = 0; i < count; i++)
		report_heap(report, &heaps[i]);
	report_print(report);
	report_free(report);
	free(heaps);
	return EXIT_SUCCESS;
}
