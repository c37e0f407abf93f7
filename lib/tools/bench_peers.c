// SPDX-License-Identifier: LGPL-2.1-or-later
/* The kinds of memory that 'zcbuf bench' measures, and a buffer of each. */
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

/* @size becomes that of the buffer. */
static int alloc_zcbuf(const struct peer *peer, size_t *size)
{
	struct zcbuf_ioc_alloc arg = {
		.size = *size,
		.flags = peer->flags,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(peer->node, ZCBUF_IOC_ALLOC, &arg))
		return -1;
	*size = arg.size;
	return arg.fd;
}

static int alloc_dma_heap(const struct peer *peer, size_t *size)
{
	struct dma_heap_allocation_data arg = {
		.len = *size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	return ioctl(peer->node, DMA_HEAP_IOCTL_ALLOC, &arg) ? -1 : (int)arg.fd;
}

/* Closes it for a caller who wants to know errno. */
static int close_failed(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

static int alloc_memfd(const struct peer *peer, size_t *size)
{
	int fd = memfd_create(peer->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, (off_t)*size))
		return close_failed(fd);
	return fd;
}

static int alloc_udmabuf(const struct peer *peer, size_t *size)
{
	struct udmabuf_create arg = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = *size };
	int fd, memfd = alloc_memfd(peer, size);

	if (memfd < 0)
		return -1;
	arg.memfd = (uint32_t)memfd;
	if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		return close_failed(memfd);
	fd = ioctl(peer->node, UDMABUF_CREATE, &arg);
	if (fd < 0)
		return close_failed(memfd);
	close(memfd);
	return fd;
}

static struct peer *add(struct bench *bench, const struct peer *peer)
{
	if (bench->count == MAX_PEERS) {
		failure("%s: not measured: %d are enough for one table (name those you "
			"want)",
			peer->name, MAX_PEERS);
		close(peer->node);
		return NULL;
	}
	bench->peers[bench->count] = *peer;
	return &bench->peers[bench->count++];
}

/* Its buffers come back to whoever had the node open when they were freed. */
static void add_recycled(struct bench *bench, const struct peer *heap, const char *node)
{
	struct peer peer = *heap;
	size_t size = bench->page;
	int fd;

	strcat(peer.name, ", recycled");
	peer.flags = ZCBUF_ALLOC_RECYCLE;
	peer.node = open(node, O_RDONLY | O_CLOEXEC);
	fd = peer.node < 0 ? -1 : alloc_zcbuf(&peer, &size);
	if (fd < 0) {
		close(peer.node);
		return;
	}
	close(fd);
	add(bench, &peer);
}

/* The library knows best how to say why. */
static int cannot_open(struct zcbuf_ctx *ctx, const char *name)
{
	struct zcbuf_heap *heap;

	if (zcbuf_heap_open(ctx, name, &heap) == 0)
		zcbuf_heap_unref(heap);
	return EXIT_FAILURE;
}

/* Returns an exit status. */
static int add_heap(struct bench *bench, struct zcbuf_ctx *ctx,
		    const struct zcbuf_heap_info *info)
{
	struct peer peer = { .node = -1, .is_dma_buf = true };
	const struct peer *added;

	if (info->status)
		return cannot_open(ctx, info->name);
	snprintf(peer.name, sizeof(peer.name), "%s", info->name);
	switch (info->backend) {
	case ZCBUF_BACKEND_ZCBUF:
		peer.alloc = alloc_zcbuf;
		peer.is_zcbuf = true;
		snprintf(peer.pool_limit, sizeof(peer.pool_limit),
			 "/sys/class/zcbuf/%s/pool_limit", info->name);
		if (access(peer.pool_limit, F_OK))
			peer.pool_limit[0] = '\0';
		break;
	case ZCBUF_BACKEND_UDMABUF:
		peer.alloc = alloc_udmabuf;
		break;
	case ZCBUF_BACKEND_MEMFD:
		peer.alloc = alloc_memfd;
		peer.is_dma_buf = false;
		break;
	default:
		peer.alloc = alloc_dma_heap;
	}
	if (info->node[0])
		peer.node = open(info->node, O_RDONLY | O_CLOEXEC);
	added = add(bench, &peer);
	if (added && added->pool_limit[0])
		add_recycled(bench, added, info->node);
	return EXIT_SUCCESS;
}

static bool add_anonymous(struct bench *bench)
{
	return add(bench, &(struct peer){ .name = "anonymous", .node = -1 });
}

/* All memory that the CPU uses as it uses its own. */
static void add_all(struct bench *bench, struct zcbuf_ctx *ctx,
		    const struct zcbuf_heap_info *heaps, int count)
{
	for (int i = 0; i < count; i++)
		if (heaps[i].backend != ZCBUF_BACKEND_ZCBUF ||
		    (heaps[i].cache_mode == ZCBUF_CACHED &&
		     (heaps[i].capabilities & ZCBUF_HEAP_CAP_PIN)))
			add_heap(bench, ctx, &heaps[i]);
	add_anonymous(bench);
}

static int add_named(struct bench *bench, struct zcbuf_ctx *ctx, const char *name,
		     const struct zcbuf_heap_info *heaps, int count)
{
	if (!strcmp(name, "anonymous"))
		return add_anonymous(bench) ? EXIT_SUCCESS : EXIT_FAILURE;
	for (int i = 0; i < count; i++)
		if (!strcmp(heaps[i].name, name))
			return add_heap(bench, ctx, &heaps[i]);
	return cannot_open(ctx, name);
}

int bench_find_peers(struct bench *bench, struct zcbuf_ctx *ctx, char **names)
{
	struct zcbuf_heap_info *heaps;
	int count = zcbuf_heap_list(ctx, &heaps), status = EXIT_SUCCESS;

	if (count < 0)
		return EXIT_FAILURE;
	if (!*names)
		add_all(bench, ctx, heaps, count);
	for (; *names && status == EXIT_SUCCESS; names++)
		status = add_named(bench, ctx, *names, heaps, count);
	free(heaps);
	return status;
}
