// SPDX-License-Identifier: GPL-2.0-only
/*
 * footprint SIZE…: the memory that a buffer takes beyond its own pages, in bytes, as lines of
 * JSON like those of 'zcbuf bench'. That is what is missing of the machine's free memory while
 * many are alive, so nothing else may happen there, and no heap may keep what is freed.
 */
#include <sys/resource.h>

#include "../../lib/tools/series.h"
#include "../kernel/zc.h"
#include "peers.h"

#define BUFFERS	  1000
#define ALL_BYTES (1024 * MiB)

/* Its size, or 0. Only the fd stays: what the library has for a buffer is not the buffer's. */
static size_t add_buffer(struct zcbuf_heap *heap, size_t size)
{
	struct zcbuf_buffer *buffer;

	if (zcbuf_heap_alloc(heap, size, NULL, &buffer) < 0 ||
	    dup(zcbuf_buffer_fd(buffer)) < 0)
		return 0;
	size = zcbuf_buffer_size(buffer);
	zcbuf_buffer_unref(buffer);
	return size;
}

/* What is freed may take a while. */
static long long free_bytes(void)
{
	long long before, now = free_kib();

	do {
		before = now;
		pause_ms(500);
		now = free_kib();
	} while (now > before);
	return now * 1024;
}

/* Bytes for each of @count buffers, or -1. They go with the process. */
static long long beyond_pages(struct zcbuf_heap *heap, size_t size, int count)
{
	long long before, pages = 0;
	size_t added = 1;

	/* Pages of slabs that have room are no longer free, but the room is. */
	for (int i = 0; i < BUFFERS && added; i++)
		added = add_buffer(heap, PAGE);
	before = free_bytes();
	for (int i = 0; i < count && added; i++) {
		added = add_buffer(heap, size);
		pages += added;
	}
	return added ? (before - free_bytes() - pages) / count : -1;
}

static void measure(struct zcbuf_heap *heap, const struct zcbuf_heap_info *info,
		    size_t size)
{
	int count = ALL_BYTES / size < BUFFERS ? ALL_BYTES / size : BUFFERS;
	struct series series = { 0 };
	long long bytes;
	pid_t child = fork();

	if (child == 0) {
		bytes = beyond_pages(heap, size, count);
		if (bytes < 0)
			_exit(1);
		series_add(&series, bytes, 0);
		series_print(&series, info->name, "footprint", "held", size);
		fflush(stdout);
		_exit(0);
	}
	end_of(child);
}

int main(int argc, char **argv)
{
	struct rlimit files = { .rlim_cur = 3 * BUFFERS, .rlim_max = 3 * BUFFERS };

	setrlimit(RLIMIT_NOFILE, &files);
	return measure_peers(argc, argv, measure);
}
