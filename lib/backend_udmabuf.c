// SPDX-License-Identifier: LGPL-2.1-or-later
/* A memfd's pages, made a dma-buf by /dev/udmabuf. */
#include <limits.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdio.h>

#include "private.h"

#define UDMABUF_NODE "/dev/udmabuf"

static uint64_t size_limit(void)
{
	FILE *file = fopen("/sys/module/udmabuf/parameters/size_limit_mb", "re");
	unsigned int megabytes = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%u", &megabytes) != 1)
		megabytes = 0;
	fclose(file);
	return megabytes == INT_MAX ? 0 : (uint64_t)megabytes << 20; /* no limit */
}

static int udmabuf_list(struct zcbuf_ctx *ctx, struct heap_list *list)
{
	struct zcbuf_heap_info info = {
		.backend = ZCBUF_BACKEND_UDMABUF,
		.kind = ZCBUF_HEAP_SYSTEM,
		.cache_mode = ZCBUF_CACHED,
		.capabilities = ZCBUF_HEAP_CAP_CHARGED,
		.max_alignment = page_size(),
		.name = "udmabuf",
		.node = UDMABUF_NODE,
	};

	(void)ctx;
	if (access(UDMABUF_NODE, F_OK))
		return 0;
	info.max_size = size_limit();
	return heap_list_add(list, &info);
}

static int udmabuf_alloc(int node, size_t size, const struct zcbuf_alloc_options *options)
{
	_cleanup_(close_p) int memfd = memfd_new(options->name, size);
	size_t page = page_size();
	struct udmabuf_create create = {
		.memfd = (__u32)memfd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = (size + page - 1) & ~(uint64_t)(page - 1),
	};
	int fd;

	if (memfd < 0)
		return memfd;
	fd = ioctl_errno(node, UDMABUF_CREATE, &create);
	/* A buffer without its name is still a buffer. */
	if (fd >= 0 && options->name)
		ioctl(fd, DMA_BUF_SET_NAME, options->name);
	return fd;
}

const struct backend backend_udmabuf = {
	.id = ZCBUF_BACKEND_UDMABUF,
	.name = "udmabuf",
	.list = udmabuf_list,
	.alloc = udmabuf_alloc,
};
