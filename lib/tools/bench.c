// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf bench: what a buffer costs on this machine, by the kind of its memory. */
#include <fcntl.h>
#include <getopt.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"

static const char help[] =
	"Usage: zcbuf bench [OPTION…] [HEAP…]\n"
	"\n"
	"Measures what a buffer costs from each heap that this user may open, from "
	"udmabuf\n"
	"and memfd, and as anonymous memory, which cannot be shared. HEAP… are those of "
	"'zcbuf\n"
	"list' to measure, or 'anonymous'; without any, all whose memory is mapped "
	"cached.\n"
	"\n"
	"  --size SIZE       bytes of a buffer, or 64K, 8M, 1G; may be given several "
	"times\n"
	"                    (12439552: a frame of 3840x2160, NV12)\n"
	"  --disk DIRECTORY  where the file is that O_DIRECT writes to, for as long as "
	"this\n"
	"                    runs (the current directory)\n"
	"  --json            print a line of JSON for each figure, in nanoseconds\n"
	"\n"
	"A buffer's life, as that of a camera's frame: the median of 9, after 3 to warm "
	"up, with\n"
	"a pause of 33 ms between two:\n"
	"  alloc, mmap, touch (a write to each page), sync (START and END), munmap, close\n"
	"  life              their sum\n"
	"  with background   life, and what the module's thread does for it later\n"
	"  faults            page faults of a life\n"
	"  … cold            after the heap's pool has been emptied, which only root may "
	"do\n"
	"A buffer that lives on:\n"
	"  read              of every byte\n"
	"  O_DIRECT          write of 1 MiB: CPU time of the writer\n"
	"  pass              fd to another process, which closes it and answers\n"
	"  sync 4 KiB        of that range only\n"
	"\n"
	"'NAME, recycled' is a heap whose buffers need not be zeroed for who had them "
	"before.\n"
	"'-' stands for what there is not; a name such as EFAULT for what fails with it.\n"
	"\n"
	"Examples:  zcbuf bench    zcbuf bench --size 4K --size 64M zcbuf-system system\n";

#define FRAME "12439552" /* bytes: 3840x2160, NV12 */

static const char *const operations[SERIES] = {
	[ALLOC] = "alloc",   [MMAP] = "mmap",
	[TOUCH] = "touch",   [SYNC] = "sync",
	[MUNMAP] = "munmap", [CLOSE] = "close",
	[LIFE] = "life",     [BACKGROUND] = "background",
	[READ] = "read",     [DIRECT_IO] = "O_DIRECT",
	[PASS] = "pass",     [SYNC_RANGE] = "sync 4 KiB",
};

/* ---- what is printed ----------------------------------------------------------------- */

static void print_json(struct peer *peer, size_t size)
{
	for (int i = 0; i < SERIES; i++) {
		const char *operation = operations[i < COLD || i >= READ ? i : i - COLD];
		const char *state = i < COLD ? "steady" : i < READ ? "cold" : "held";

		series_print(&peer->series[i], peer->name, operation, state, size);
	}
	fflush(stdout);
}

/* "20,370", "8.5", "0.21" */
static void report_microseconds(struct report *report, const char *title, double value)
{
	int decimals = value >= 100 ? 0 : value >= 1 ? 1 : 2;
	unsigned long whole = (unsigned long)(value + 0.5);
	char text[32];

	if (whole >= 1000000)
		snprintf(text, sizeof(text), "%lu,%03lu,%03lu", whole / 1000000,
			 whole / 1000 % 1000, whole % 1000);
	else if (whole >= 1000)
		snprintf(text, sizeof(text), "%lu,%03lu", whole / 1000, whole % 1000);
	else
		snprintf(text, sizeof(text), "%.*f", decimals, value);
	report_figure(report, title, NULL, text);
}

/* An operation, of each peer. What the series @more has is added, if that is not 0. */
static void report_operation(struct report *report, struct bench *bench, const char *name,
			     int series, int more)
{
	report_row(report);
	report_text(report, "OPERATION", NULL, name);
	for (size_t i = 0; i < bench->count; i++) {
		struct peer *peer = &bench->peers[i];
		struct series *of = &peer->series[series], *and = &peer->series[more];
		uint64_t cost;

		if (!of->count || of->error) {
			report_figure(report, peer->name, NULL,
				      of->error ? strerrorname_np(of->error) : "-");
			continue;
		}
		cost = series_median(of);
		if (more && and->count)
			cost += series_median(and);
		report_microseconds(report, peer->name, (double)cost / 1000);
	}
}

static void report_faults(struct report *report, const struct bench *bench)
{
	report_row(report);
	report_text(report, "OPERATION", NULL, "faults");
	for (size_t i = 0; i < bench->count; i++) {
		const struct peer *peer = &bench->peers[i];

		if (peer->series[LIFE].count)
			report_number(report, peer->name, NULL,
				      (uint64_t)peer->series[LIFE].faults);
		else
			report_unknown(report, peer->name, NULL);
	}
}

static void print_table(struct bench *bench, size_t size)
{
	struct report *report = report_new(false);

	for (int i = 0; i <= LIFE; i++)
		report_operation(report, bench, operations[i], i, 0);
	report_operation(report, bench, "with background", LIFE, BACKGROUND);
	if (bench->cold) {
		report_operation(report, bench, "alloc, cold", COLD + ALLOC, 0);
		report_operation(report, bench, "life, cold", COLD + LIFE, 0);
	}
	report_faults(report, bench);
	for (int i = READ; i < SERIES; i++)
		report_operation(report, bench, operations[i], i, 0);
	printf("%zu bytes, microseconds:\n", size);
	report_print(report);
	report_free(report);
	fflush(stdout);
}

/* ---- the command --------------------------------------------------------------------- */

struct arguments {
	const char *disk;
	bool json;
	size_t *sizes;
	size_t count;
};

static bool add_size(struct arguments *arguments, const char *text)
{
	uint64_t size, page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!parse_bytes(text, &size) || !size || size > SIZE_MAX / 2)
		return false;
	/* Not everybody rounds up to whole pages by himself. */
	arguments->sizes[arguments->count++] = (size + page - 1) / page * page;
	return true;
}

/* Returns -1 to go on, or an exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "disk", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (o) {
		case 's':
			if (!add_size(arguments, optarg))
				return usage_error("bench", "--size %s: not a size",
						   optarg);
			break;
		case 'd':
			arguments->disk = optarg;
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
	if (!arguments->count)
		add_size(arguments, FRAME);
	return -1;
}

/* Can the machine spare so much? Some of the peers would rather have somebody killed. */
static bool can_have(struct zcbuf_ctx *ctx, const struct arguments *arguments)
{
	struct zcbuf_heap *memfd = NULL;
	struct zcbuf_buffer *buffer;
	int r = zcbuf_heap_open(ctx, "memfd", &memfd);

	for (size_t i = 0; i < arguments->count && r >= 0; i++) {
		r = zcbuf_heap_alloc(memfd, arguments->sizes[i], NULL, &buffer);
		if (r >= 0)
			zcbuf_buffer_unref(buffer);
	}
	zcbuf_heap_unref(memfd);
	return r >= 0;
}

/* Measured, too, is what it costs while the pool is empty, if this user may empty it. */
static bool can_empty_pools(const struct bench *bench)
{
	bool any = false;

	for (size_t i = 0; i < bench->count; i++) {
		const char *limit = bench->peers[i].pool_limit;

		if (*limit && access(limit, W_OK)) {
			failure("%s: %s: not measured: a life that finds the pool empty "
				"(only root may empty it)",
				limit, strerror(errno));
			return false;
		}
		any |= *limit != '\0';
	}
	return any;
}

/* An fd, or -1 if O_DIRECT cannot be measured there, which has been said. */
static int open_disk(const char *directory)
{
	char *path;
	int fd = -1;

	if (asprintf(&path, "%s/zcbuf-bench-XXXXXX", directory) >= 0) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
		free(path);
	}
	if (fd >= 0 && !fcntl(fd, F_SETFL, O_DIRECT))
		return fd;
	failure("%s: %s: not measured: O_DIRECT (--disk DIRECTORY, one on a disk)",
		directory, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static void measure_and_print(struct bench *bench, size_t size, bool json)
{
	for (size_t i = 0; i < bench->count; i++) {
		bench_measure(bench, &bench->peers[i], size);
		if (json)
			print_json(&bench->peers[i], size);
	}
	if (!json)
		print_table(bench, size);
}

static int bench_all(struct bench *bench, const struct arguments *arguments)
{
	bench->cold = can_empty_pools(bench);
	bench->disk = open_disk(arguments->disk ? arguments->disk : ".");
	if (bench->disk < 0 && arguments->disk)
		return EXIT_FAILURE;
	if (!bench_begin(bench))
		return failure("no second process: %s", strerror(errno));
	for (size_t i = 0; i < arguments->count; i++)
		measure_and_print(bench, arguments->sizes[i], arguments->json);
	bench_end(bench);
	return EXIT_SUCCESS;
}

int cmd_bench(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	struct arguments arguments = { .sizes = calloc((size_t)argc, sizeof(size_t)) };
	struct bench bench = { .page = (size_t)sysconf(_SC_PAGESIZE) };
	int status;

	if (!arguments.sizes)
		return failure("out of memory");
	status = parse_arguments(argc, argv, &arguments);
	if (status < 0) {
		if (can_have(ctx, &arguments) &&
		    bench_find_peers(&bench, ctx, argv + optind) == EXIT_SUCCESS)
			status = bench_all(&bench, &arguments);
		else
			status = EXIT_FAILURE;
	}
	free(arguments.sizes);
	return status;
}
