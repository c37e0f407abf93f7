// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory from the zcbuf kernel module. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

/* The heap that serves everybody goes before those that are for something special. */
static void default_heap_first(struct heap_list *list, size_t first)
{
	struct zcbuf_heap_info chosen;

	for (size_t i = first; i < list->count; i++) {
		if (strcmp(list->infos[i].name, "zcbuf-system"))
			continue;
		chosen = list->infos[i];
		memmove(&list->infos[first + 1], &list->infos[first],
			(i - first) * sizeof(chosen));
		list->infos[first] = chosen;
		return;
	}
}

static int zcbuf_list(struct zcbuf_ctx *ctx, struct heap_list *list)
{
	struct zcbuf_ioc_heap heap = { 0 };
	int control = ctx_control(ctx), r;
	size_t first = list->count;

	if (control == -EMFILE || control == -ENFILE)
		return control;
	if (control == -EACCES) {
		ctx_log(ctx, LOG_INFO,
			"/dev/zcbuf: permission denied (it should be mode 0666)");
		return 0;
	}
	if (control < 0) {
		ctx_log(ctx, LOG_INFO,
			"/dev/zcbuf: no such device (load the module: modprobe zcbuf)");
		return 0;
	}
	for (uint32_t i = 0;; i++) {
		struct zcbuf_heap_info info = { .backend = ZCBUF_BACKEND_ZCBUF };

		heap.index = i;
		r = ioctl_errno(control, ZCBUF_IOC_HEAPS, &heap);
		if (r == -ENOENT)
			break;
		if (r < 0)
			return ctx_fail(ctx, r, "/dev/zcbuf: cannot list heaps: %s",
					strerror(-r));
		info.kind = heap.kind;
		info.cache_mode = heap.cache_mode;
		info.capabilities = heap.capabilities;
		info.max_size = heap.max_size;
		info.max_alignment = heap.max_alignment;
		info.used_bytes = heap.used_bytes;
		info.used_buffers = heap.used_buffers;
		memcpy(info.name, heap.name, sizeof(info.name));
		snprintf(info.node, sizeof(info.node), "/dev/dma_heap/%s", info.name);
		r = heap_list_add(list, &info);
		if (r < 0)
			return r;
	}
	default_heap_first(list, first);
	return 0;
}

static int zcbuf_alloc(int node, size_t size, const struct zcbuf_alloc_options *options)
{
	struct zcbuf_ioc_alloc alloc = {
		.size = size,
		.flags = options->flags,
		.alignment = options->alignment,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int r;

	if (options->name)
		strncpy(alloc.name, options->name, sizeof(alloc.name) - 1);
	r = ioctl_errno(node, ZCBUF_IOC_ALLOC, &alloc);
	return r < 0 ? r : alloc.fd;
}

const struct backend backend_zcbuf = {
	.id = ZCBUF_BACKEND_ZCBUF,
	.name = "zcbuf",
	.list = zcbuf_list,
	.alloc = zcbuf_alloc,
};
