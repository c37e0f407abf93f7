// SPDX-License-Identifier: GPL-2.0-only
/*
 * devices SIZE…: what a buffer costs when devices use it, as lines of JSON like those of
 * 'zcbuf bench'. The devices are those of the module zcbuf_importer, which only tests have.
 */
#include <libzcbuf.h>

#include "../../lib/tools/series.h"
#include "../kernel/importer.h"
#include "peers.h"

#define BEGIN		(ZCBUF_SYNC_START | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)
#define END		(ZCBUF_SYNC_END | ZCBUF_SYNC_READ | ZCBUF_SYNC_WRITE)

#define BOUNCED_SEGMENT (64 * 1024) /* the swiotlb has no larger room than 256 KiB */

enum { ATTACH, VMAP, SYNC_BOUNCED, SYNC_RANGE_BOUNCED, OPERATIONS };

static const char *const operation_name[OPERATIONS] = {
	[ATTACH] = "attach",
	[VMAP] = "vmap",
	[SYNC_BOUNCED] = "sync, bounced",
	[SYNC_RANGE_BOUNCED] = "sync 4 KiB, bounced",
};

static const struct heap any_heap;

static int sync_both(int fd)
{
	return sync_all(fd, BEGIN) ?: sync_all(fd, END);
}

static int sync_both_range(int fd)
{
	return sync_range(fd, 0, PAGE, BEGIN) ?: sync_range(fd, 0, PAGE, END);
}

static int attach_and_map(int dev, int fd)
{
	if (attach(dev, &any_heap, fd, 64, 0) || map_device(dev, BIDIRECTIONAL))
		return -1;
	return unmap_device(dev) ?: detach(dev);
}

static void use_by_any_device(int fd, struct series *series)
{
	int dev = device();
	char byte;

	for (int i = 0; i < SERIES_LENGTH; i++)
		COUNTED(&series[ATTACH], attach_and_map(dev, fd));
	if (attach(dev, &any_heap, fd, 64, 0) == 0)
		for (int i = 0; i < SERIES_LENGTH; i++)
			COUNTED(&series[VMAP], vmap_read(dev, &byte, 0, 1));
	close(dev);
}

/* Memory above 4 GiB is copied for a device with 32 bits of address, if there is room. */
static void use_by_small_device(int fd, bool is_zcbuf, struct series *series)
{
	struct zcbuf_importer_map map = { .direction = BIDIRECTIONAL };
	int dev = device();

	if (attach(dev, &any_heap, fd, 32, BOUNCED_SEGMENT) == 0 &&
	    ioctl(dev, ZCBUF_IMPORTER_MAP, &map) == 0 && map.bounced == map.nents)
		for (int i = 0; i < SERIES_LENGTH; i++) {
			COUNTED(&series[SYNC_BOUNCED], sync_both(fd));
			if (is_zcbuf)
				COUNTED(&series[SYNC_RANGE_BOUNCED], sync_both_range(fd));
		}
	close(dev);
}

static void measure(struct zcbuf_heap *heap, const struct zcbuf_heap_info *info,
		    size_t size)
{
	struct series series[OPERATIONS] = { 0 };
	struct zcbuf_buffer *buffer;

	if (zcbuf_heap_alloc(heap, size, NULL, &buffer) < 0)
		return;
	use_by_any_device(zcbuf_buffer_fd(buffer), series);
	use_by_small_device(zcbuf_buffer_fd(buffer), info->backend == ZCBUF_BACKEND_ZCBUF,
			    series);
	zcbuf_buffer_unref(buffer);
	for (int i = 0; i < OPERATIONS; i++)
		series_print(&series[i], info->name, operation_name[i], "held", size);
}

int main(int argc, char **argv)
{
	return measure_peers(argc, argv, measure);
}
