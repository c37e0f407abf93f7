// SPDX-License-Identifier: LGPL-2.1-or-later
/* Heaps: which ones there are, opening them, and allocating from the first that can. */
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "private.h"

/* In the order in which they are tried. */
static const struct backend *const backends[] = {
	&backend_zcbuf,
	&backend_dma_heap,
	&backend_udmabuf,
	&backend_memfd,
};

#define BACKENDS (sizeof(backends) / sizeof(backends[0]))
#define ALL_BACKENDS                                                            \
	(ZCBUF_BACKEND_ZCBUF | ZCBUF_BACKEND_DMA_HEAP | ZCBUF_BACKEND_UDMABUF | \
	 ZCBUF_BACKEND_MEMFD)

/* One place that memory comes from; @node is its device node, -1 for none. */
struct source {
	const struct backend *backend;
	struct zcbuf_heap_info info;
	int node;
};

struct zcbuf_heap {
	atomic_uint refs;
	struct zcbuf_ctx *ctx;
	size_t count;
	struct source sources[];
};

static const struct backend *backend_of(enum zcbuf_backend id)
{
	for (size_t i = 0; i < BACKENDS; i++)
		if (backends[i]->id == id)
			return backends[i];
	return NULL;
}

const char *zcbuf_backend_name(enum zcbuf_backend id)
{
	const struct backend *backend = backend_of(id);

	if (id == ZCBUF_BACKEND_FOREIGN)
		return "foreign";
	return backend ? backend->name : NULL;
}

/* ---- listing ------------------------------------------------------------------------- */

int heap_list_add(struct heap_list *list, const struct zcbuf_heap_info *info)
{
	struct zcbuf_heap_info *infos =
		reallocarray(list->infos, list->count + 1, sizeof(*infos));

	if (!infos)
		return -ENOMEM;
	infos[list->count++] = *info;
	list->infos = infos;
	return 0;
}

static int list_backends(struct zcbuf_ctx *ctx, uint32_t wanted, struct heap_list *list)
{
	int r;

	for (size_t i = 0; i < BACKENDS; i++) {
		if (!(wanted & backends[i]->id))
			continue;
		r = backends[i]->list(ctx, list);
		if (r < 0)
			return ctx_fail(ctx, r, "cannot list the heaps of %s: %s",
					backends[i]->name, strerror(-r));
	}
	return 0;
}

/* Returns -1 for a heap that has no node, which is no error. */
static int open_node(const struct zcbuf_heap_info *info, int *node)
{
	*node = -1;
	if (!info->node[0])
		return 0;
	*node = open(info->node, O_RDONLY | O_CLOEXEC);
	return *node < 0 ? -errno : 0;
}

int zcbuf_heap_list(struct zcbuf_ctx *ctx, struct zcbuf_heap_info **infos)
{
	_cleanup_(heap_list_release) struct heap_list list = { 0 };
	int r = list_backends(ctx, ALL_BACKENDS, &list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count; i++) {
		_cleanup_(close_p) int node = -1;

		list.infos[i].status = open_node(&list.infos[i], &node);
	}
	*infos = take_pointer(list.infos);
	return (int)list.count;
}

/* ---- opening ------------------------------------------------------------------------- */

/* Errors that say nothing about the heap: the next one would fail just so. */
static bool is_final(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -EINTR;
}

/* Says who may open a node that this process may not. */
static int fail_denied(struct zcbuf_ctx *ctx, const char *node)
{
	struct group group, *found = NULL;
	char names[1024];
	struct stat st;

	if (!stat(node, &st) && (st.st_mode & S_IRGRP) && st.st_gid)
		getgrgid_r(st.st_gid, &group, names, sizeof(names), &found);
	if (found)
		return ctx_fail(ctx, -EACCES, "%s: permission denied (join group '%s')",
				node, group.gr_name);
	return ctx_fail(
		ctx, -EACCES,
		"%s: permission denied (only root may; a udev rule can change that)", node);
}

static int fail_open(struct zcbuf_ctx *ctx, const struct zcbuf_heap_info *info, int r)
{
	switch (r) {
	case -EACCES:
	case -EPERM:
		return fail_denied(ctx, info->node);
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return ctx_fail(ctx, -ENOENT, "%s: no such device", info->node);
	case -EMFILE:
		return ctx_fail(ctx, r, "%s: too many open files (raise 'ulimit -n')",
				info->node);
	default:
		return ctx_fail(ctx, r, "%s: %s", info->node, strerror(-r));
	}
}

static struct zcbuf_heap *heap_new(struct zcbuf_ctx *ctx, size_t capacity)
{
	struct zcbuf_heap *heap =
		calloc(1, sizeof(*heap) + capacity * sizeof(heap->sources[0]));

	if (!heap)
		return NULL;
	heap->refs = 1;
	heap->ctx = zcbuf_ctx_ref(ctx);
	return heap;
}

static int heap_add_source(struct zcbuf_heap *heap, const struct zcbuf_heap_info *info)
{
	struct source *source = &heap->sources[heap->count];
	int r = open_node(info, &source->node);

	if (r < 0)
		return r;
	source->backend = backend_of(info->backend);
	source->info = *info;
	heap->count++;
	return 0;
}

static int fail_unknown(struct zcbuf_ctx *ctx, const char *name)
{
	if (!strncmp(name, "zcbuf-", 6) && ctx_control(ctx) < 0)
		return ctx_fail(
			ctx, -ENOENT,
			"/dev/zcbuf: no such device (load the module: modprobe zcbuf)");
	return ctx_fail(ctx, -ENOENT,
			"%s: no such heap ('zcbuf list' shows which there are)", name);
}

int zcbuf_heap_open(struct zcbuf_ctx *ctx, const char *name, struct zcbuf_heap **result)
{
	_cleanup_(zcbuf_heap_unref_p) struct zcbuf_heap *heap = NULL;
	_cleanup_(heap_list_release) struct heap_list list = { 0 };
	const struct zcbuf_heap_info *info = NULL;
	int r;

	if (!name)
		return zcbuf_heap_open_for(ctx, NULL, result);
	r = list_backends(ctx, ALL_BACKENDS, &list);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.count && !info; i++)
		if (!strcmp(list.infos[i].name, name))
			info = &list.infos[i];
	if (!info)
		return fail_unknown(ctx, name);
	heap = heap_new(ctx, 1);
	if (!heap)
		return -ENOMEM;
	r = heap_add_source(heap, info);
	if (r < 0)
		return fail_open(ctx, info, r);
	*result = take_pointer(heap);
	return 0;
}

/*
 * A heap of reserved memory, or one of which nothing is known (a vendor's, or protected
 * memory that no CPU may read), is never anybody's second choice: it is opened by its name.
 * Nor is memory that the CPU reads slowly, unless that is what is needed.
 */
static bool heap_meets(const struct zcbuf_heap_info *info,
		       const struct zcbuf_heap_need *need)
{
	uint32_t cache_mode = need->cache_mode ? need->cache_mode : ZCBUF_CACHED;

	return info->kind && info->kind != ZCBUF_HEAP_CARVEOUT &&
	       info->cache_mode == cache_mode &&
	       (need->capabilities & info->capabilities) == need->capabilities;
}

int zcbuf_heap_open_for(struct zcbuf_ctx *ctx, const struct zcbuf_heap_need *need,
			struct zcbuf_heap **result)
{
	static const struct zcbuf_heap_need nothing_special = { 0 };
	_cleanup_(zcbuf_heap_unref_p) struct zcbuf_heap *heap = NULL;
	_cleanup_(heap_list_release) struct heap_list list = { 0 };
	const struct zcbuf_heap_info *denied = NULL;
	int r;

	need = need ? need : &nothing_special;
	if (need->backends & ~(uint32_t)ALL_BACKENDS)
		return ctx_fail(ctx, -EINVAL, "0x%x: no such backends to allocate from",
				need->backends);
	if (need->cache_mode > ZCBUF_UNCACHED)
		return ctx_fail(ctx, -EINVAL, "%u: no such cache mode", need->cache_mode);
	r = list_backends(ctx, need->backends ? need->backends : ALL_BACKENDS, &list);
	if (r < 0)
		return r;
	heap = heap_new(ctx, list.count);
	if (!heap)
		return -ENOMEM;
	for (size_t i = 0; i < list.count; i++) {
		const struct zcbuf_heap_info *info = &list.infos[i];

		if (!heap_meets(info, need))
			continue;
		r = heap_add_source(heap, info);
		if (is_final(r))
			return fail_open(ctx, info, r);
		if (r < 0)
			ctx_log(ctx, LOG_INFO, "%s: not used: %s", info->node,
				strerror(-r));
		if ((r == -EACCES || r == -EPERM) && !denied)
			denied = info;
	}
	if (!heap->count && denied)
		return fail_denied(ctx, denied->node);
	if (!heap->count)
		return ctx_fail(
			ctx, -ENOENT,
			"no heap here meets the need: backends 0x%x, cache mode %u, "
			"capabilities 0x%llx ('zcbuf list' shows what there is)",
			need->backends, need->cache_mode,
			(unsigned long long)need->capabilities);
	*result = take_pointer(heap);
	return 0;
}

struct zcbuf_heap *zcbuf_heap_ref(struct zcbuf_heap *heap)
{
	atomic_fetch_add(&heap->refs, 1);
	return heap;
}

struct zcbuf_heap *zcbuf_heap_unref(struct zcbuf_heap *heap)
{
	if (!heap || atomic_fetch_sub(&heap->refs, 1) != 1)
		return NULL;
	for (size_t i = 0; i < heap->count; i++)
		close_p(&heap->sources[i].node);
	zcbuf_ctx_unref(heap->ctx);
	free(heap);
	return NULL;
}

/* ---- allocating ---------------------------------------------------------------------- */

/* The kernel's rule for a name, so that all backends take the same ones. */
static bool name_is_valid(const char *name)
{
	size_t length = strnlen(name, ZCBUF_NAME_LEN);

	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	return length < ZCBUF_NAME_LEN;
}

static int check_request(struct zcbuf_ctx *ctx, size_t size,
			 const struct zcbuf_alloc_options *options)
{
	if (!size)
		return ctx_fail(ctx, -EINVAL, "size 0: a buffer has at least one byte");
	if (options->alignment & (options->alignment - 1))
		return ctx_fail(ctx, -EINVAL, "alignment %llu: not a power of two",
				(unsigned long long)options->alignment);
	if (options->name && !name_is_valid(options->name))
		return ctx_fail(
			ctx, -EINVAL,
			"buffer name: not up to %d bytes without control characters",
			ZCBUF_NAME_LEN - 1);
	return 0;
}

/* Why a heap is passed over, or 0 if it is to be tried. */
static int source_refuses(const struct zcbuf_heap_info *info, size_t size,
			  const struct zcbuf_alloc_options *options)
{
	if (options->alignment > info->max_alignment)
		return -EOPNOTSUPP;
	/* The module knows its flags; others have zeroed memory only, which is as good. */
	if (info->backend != ZCBUF_BACKEND_ZCBUF && (options->flags & ~ZCBUF_ALLOC_RECYCLE))
		return -EOPNOTSUPP;
	if ((options->flags & ZCBUF_ALLOC_DMA32) &&
	    !(info->capabilities & ZCBUF_HEAP_CAP_DMA32))
		return -EOPNOTSUPP;
	if (size > SIZE_MAX / 2 || (info->max_size && size > info->max_size))
		return -ENOMEM;
	/* The module looks after this itself. */
	if (info->backend != ZCBUF_BACKEND_ZCBUF && !memory_suffices(size))
		return -ENOMEM;
	return 0;
}

static int source_alloc(struct zcbuf_ctx *ctx, const struct source *source, size_t size,
			const struct zcbuf_alloc_options *options,
			struct zcbuf_buffer **buffer)
{
	_cleanup_(close_p) int fd = -1;
	int r = source_refuses(&source->info, size, options);

	if (r < 0)
		return r;
	fd = source->backend->alloc(source->node, size, options);
	if (fd < 0)
		return fd;
	r = buffer_new(ctx, fd, source->backend->id, source->info.name, buffer);
	if (r < 0)
		return r;
	take_fd(&fd);
	return 0;
}

static const char *alloc_remedy(int error)
{
	switch (error) {
	case -ENOMEM:
		return " (ask for less, free memory, or raise the cgroup's memory.max)";
	case -EDQUOT:
		return " (a limit in /sys/class/zcbuf/*/: free buffers, or have it raised)";
	case -EMFILE:
		return " (raise 'ulimit -n')";
	case -ENFILE:
		return " (raise the sysctl fs.file-max)";
	case -EOPNOTSUPP:
		return " (no flags and a smaller alignment, or another heap)";
	default:
		return "";
	}
}

int zcbuf_heap_alloc(struct zcbuf_heap *heap, size_t size,
		     const struct zcbuf_alloc_options *options,
		     struct zcbuf_buffer **buffer)
{
	static const struct zcbuf_alloc_options defaults = { 0 };
	const char *name = NULL;
	int r;

	options = options ? options : &defaults;
	r = check_request(heap->ctx, size, options);
	if (r < 0)
		return r;
	for (size_t i = 0; i < heap->count; i++) {
		if (name)
			ctx_log(heap->ctx, LOG_INFO, "%s: no buffer of %zu bytes: %s", name,
				size, strerror(-r));
		name = heap->sources[i].info.name;
		r = source_alloc(heap->ctx, &heap->sources[i], size, options, buffer);
		if (!r)
			return 0;
		if (is_final(r))
			break;
	}
	return ctx_fail(heap->ctx, r,
			"%s: no buffer of %zu bytes, alignment %llu, flags 0x%llx: %s%s",
			name, size, (unsigned long long)options->alignment,
			(unsigned long long)options->flags, strerror(-r), alloc_remedy(r));
}
