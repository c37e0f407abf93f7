// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf alloc: allocates buffers and shows what they are. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "report.h"
#include "tools.h"

static const char help[] =
	"Usage: zcbuf alloc [OPTION…] SIZE\n"
	"\n"
	"Allocates buffers of SIZE bytes (or 64K, 8M, 1G) and shows what they are "
	"made of.\n"
	"They are freed again at once, or with --hold when the command ends.\n"
	"\n"
	"  --heap NAME    only from this heap ('zcbuf list'); else the first that "
	"can\n"
	"  --name NAME    name of the buffer, shown by 'zcbuf info' and "
	"/proc/PID/fdinfo\n"
	"  --align BYTES  alignment of each piece, a power of two\n"
	"  --count N      how many buffers (1)\n"
	"  --hold         keep them until Enter, or until the command is killed\n"
	"  --json         print JSON\n"
	"\n"
	"Example:  zcbuf alloc --name frame --count 4 8100K\n";

struct arguments {
	const char *heap;
	struct zcbuf_alloc_options options;
	uint64_t size, count;
	bool hold, json;
};

/* Returns -1 to go on, or an exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{ "heap", required_argument, NULL, 'H' },
		{ "name", required_argument, NULL, 'n' },
		{ "align", required_argument, NULL, 'a' },
		{ "count", required_argument, NULL, 'c' },
		{ "hold", no_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (o) {
		case 'H':
			arguments->heap = optarg;
			break;
		case 'n':
			arguments->options.name = optarg;
			break;
		case 'a':
			if (!parse_bytes(optarg, &arguments->options.alignment))
				return usage_error("alloc", "--align %s: not a size",
						   optarg);
			break;
		case 'c':
			if (!parse_bytes(optarg, &arguments->count) || !arguments->count)
				return usage_error("alloc", "--count %s: not a number",
						   optarg);
			break;
		case 'w':
			arguments->hold = true;
			break;
		case 'j':
			arguments->json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return usage_error("alloc", "how many bytes?");
	if (optind + 1 < argc)
		return usage_error("alloc", "%s: not expected", argv[optind + 1]);
	if (!parse_bytes(argv[optind], &arguments->size) || arguments->size > SIZE_MAX)
		return usage_error("alloc", "%s: not a size", argv[optind]);
	return -1;
}

static int report_buffer(struct report *report, struct zcbuf_buffer *buffer)
{
	struct zcbuf_buffer_info info;
	int r = zcbuf_buffer_get_info(buffer, &info);

	if (r < 0)
		return r;
	report_row(report);
	report_number(report, "FD", "fd", (uint64_t)zcbuf_buffer_fd(buffer));
	report_text(report, "BACKEND", "backend", zcbuf_backend_name(info.backend));
	report_text(report, "HEAP", "heap", info.heap);
	report_bytes(report, "SIZE", "size", info.size);
	report_number(report, "INODE", "inode", info.inode);
	if (info.chunks) {
		report_number(report, "CHUNKS", "chunks", info.chunks);
		report_bytes(report, "LARGEST", "max_chunk", info.max_chunk);
		report_bytes(report, "SMALLEST", "min_chunk", info.min_chunk);
		report_bytes(report, "ALIGN", "alignment", info.alignment);
	} else {
		report_unknown(report, "CHUNKS", "chunks");
		report_unknown(report, "LARGEST", "max_chunk");
		report_unknown(report, "SMALLEST", "min_chunk");
		report_unknown(report, "ALIGN", "alignment");
	}
	report_text(report, "NAME", "name", info.name[0] ? info.name : NULL);
	return 0;
}

/* Enter ends it; where there is nobody to press it, a signal does. */
static void hold(void)
{
	char c;

	fprintf(stderr,
		"zcbuf: held by process %d ('zcbuf info %d' shows them); Enter frees "
		"them\n",
		getpid(), getpid());
	if (read(STDIN_FILENO, &c, 1) <= 0)
		pause();
}

int cmd_alloc(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	struct arguments arguments = { .count = 1 };
	int status = parse_arguments(argc, argv, &arguments);
	struct zcbuf_buffer **buffers;
	struct zcbuf_heap *heap;
	struct report *report;
	uint64_t made = 0;

	if (status >= 0)
		return status;
	if (zcbuf_heap_open(ctx, arguments.heap, &heap) < 0)
		return EXIT_FAILURE;
	buffers = calloc(arguments.count, sizeof(struct zcbuf_buffer *));
	if (!buffers) {
		zcbuf_heap_unref(heap);
		return failure("--count %llu: out of memory",
			       (unsigned long long)arguments.count);
	}
	report = report_new(arguments.json);
	status = EXIT_SUCCESS;
	for (; made < arguments.count; made++) {
		if (zcbuf_heap_alloc(heap, arguments.size, &arguments.options,
				     &buffers[made]) < 0) {
			status = EXIT_FAILURE;
			break;
		}
		if (report_buffer(report, buffers[made]) < 0)
			status = EXIT_FAILURE;
	}
	report_print(report);
	report_free(report);
	fflush(stdout);
	if (arguments.hold && made)
		hold();
	while (made)
		zcbuf_buffer_unref(buffers[--made]);
	free(buffers);
	zcbuf_heap_unref(heap);
	return status;
}
