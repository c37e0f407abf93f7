// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory from the heaps in /dev/dma_heap that are not zcbuf's. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

/*
 * The kernel tells nothing about a heap but its name. These are the documented ones
 * (Documentation/userspace-api/dma-buf-heaps.rst) and what they were called before.
 */
static const struct known_heap {
	const char *name;
	uint32_t kind;
	uint64_t capabilities;
} known_heaps[] = {
	{ "system", ZCBUF_HEAP_SYSTEM, ZCBUF_HEAP_CAP_VMAP },
	{ "default_cma_region", ZCBUF_HEAP_CONTIG,
	  ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CONTIGUOUS },
	{ "linux,cma", ZCBUF_HEAP_CONTIG, ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CONTIGUOUS },
	{ "reserved", ZCBUF_HEAP_CONTIG, ZCBUF_HEAP_CAP_VMAP | ZCBUF_HEAP_CAP_CONTIGUOUS },
};

#define KNOWN_HEAPS (sizeof(known_heaps) / sizeof(known_heaps[0]))

static int add_heap(struct heap_list *list, const char *name,
		    const struct known_heap *known)
{
	struct zcbuf_heap_info info = {
		.backend = ZCBUF_BACKEND_DMA_HEAP,
		.max_alignment = page_size(),
	};

	if (known) {
		info.kind = known->kind;
		info.cache_mode = ZCBUF_CACHED;
		info.capabilities = known->capabilities;
	}
	strncpy(info.name, name, sizeof(info.name) - 1);
	snprintf(info.node, sizeof(info.node), "/dev/dma_heap/%s", info.name);
	return heap_list_add(list, &info);
}

static bool is_unknown(const char *name)
{
	for (size_t i = 0; i < KNOWN_HEAPS; i++)
		if (!strcmp(name, known_heaps[i].name))
			return false;
	return true;
}

static void closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int dma_heap_list(struct zcbuf_ctx *ctx, struct heap_list *list)
{
	_cleanup_(closedir_p) DIR *dir = opendir("/dev/dma_heap");
	const struct dirent *entry;
	int r;

	(void)ctx;
	if (!dir)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
	for (size_t i = 0; i < KNOWN_HEAPS; i++) {
		if (faccessat(dirfd(dir), known_heaps[i].name, F_OK, 0))
			continue;
		r = add_heap(list, known_heaps[i].name, &known_heaps[i]);
		if (r < 0)
			return r;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strncmp(entry->d_name, "zcbuf-", 6) ||
		    strlen(entry->d_name) >= ZCBUF_NAME_LEN || !is_unknown(entry->d_name))
			continue;
		r = add_heap(list, entry->d_name, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

static int dma_heap_alloc(int node, size_t size, const struct zcbuf_alloc_options *options)
{
	struct dma_heap_allocation_data alloc = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int r = ioctl_errno(node, DMA_HEAP_IOCTL_ALLOC, &alloc);

	if (r < 0)
		return r;
	/* A buffer without its name is still a buffer. */
	if (options->name)
		ioctl((int)alloc.fd, DMA_BUF_SET_NAME, options->name);
	return (int)alloc.fd;
}

const struct backend backend_dma_heap = {
	.id = ZCBUF_BACKEND_DMA_HEAP,
	.name = "dma-heap",
	.list = dma_heap_list,
	.alloc = dma_heap_alloc,
};
