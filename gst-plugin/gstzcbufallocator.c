/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GstZcbufAllocator: GstMemory from a zcbuf heap.
 *
 * A memory is a dma-buf whenever the heap makes dma-bufs. Where the library had to fall back
 * to a memfd, the memory is fd memory and gst_is_dmabuf_memory() says no, so that nobody
 * offers it to a device or puts it under memory:DMABuf caps.
 *
 * The struct zcbuf_buffer lives and dies with its memory, and owns file descriptor and
 * mapping: the library maps it once, at an address that suits large pages, and keeps it.
 */
#include "gstzcbufallocator.h"

#include <errno.h>
#include <fcntl.h>
#include <gst/gst.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

GST_DEBUG_CATEGORY_STATIC(zcbufallocator_debug);
#define GST_CAT_DEFAULT zcbufallocator_debug

struct _GstZcbufAllocator {
	GstDmaBufAllocator parent;

	struct zcbuf_ctx *ctx;
	struct zcbuf_heap *heap; /* NULL if it only wraps buffers made elsewhere */
	gboolean dmabuf_only;
	GstAllocator *memfd; /* owns the memories that are no dma-bufs */
};

G_DEFINE_FINAL_TYPE_WITH_CODE(GstZcbufAllocator, gst_zcbuf_allocator,
			      GST_TYPE_DMABUF_ALLOCATOR,
			      GST_DEBUG_CATEGORY_INIT(zcbufallocator_debug,
						      "zcbufallocator", 0,
						      "zcbuf allocator"))

static GQuark buffer_quark;

/* What the library said last in this thread: the text for the next GError. */
static GPrivate last_message = G_PRIVATE_INIT(g_free);

static void log_message(void *data, int priority, const char *message)
{
	GstDebugLevel level = GST_LEVEL_DEBUG;

	(void)data;
	if (priority <= LOG_ERR)
		level = GST_LEVEL_ERROR;
	else if (priority <= LOG_WARNING)
		level = GST_LEVEL_WARNING;
	else if (priority <= LOG_INFO)
		level = GST_LEVEL_INFO;
	GST_CAT_LEVEL_LOG(GST_CAT_DEFAULT, level, NULL, "%s", message);
	if (priority <= LOG_WARNING)
		g_private_replace(&last_message, g_strdup(message));
}

/* Turn what a library call returned into a GError with the library's own words. */
void gst_zcbuf_set_error(GError **error, int code, int result)
{
	const gchar *message = g_private_get(&last_message);

	g_set_error_literal(error, GST_RESOURCE_ERROR, code,
			    message ? message : g_strerror(-result));
	g_private_replace(&last_message, NULL);
}

static gpointer map_memory(GstMemory *mem, gsize maxsize, GstMapFlags flags)
{
	guint64 access = 0;
	void *data;

	(void)maxsize;
	if (flags & GST_MAP_READ)
		access |= ZCBUF_SYNC_READ;
	if (flags & GST_MAP_WRITE)
		access |= ZCBUF_SYNC_WRITE;
	if (zcbuf_buffer_map(gst_zcbuf_memory_get_buffer(mem), access, &data) < 0)
		return NULL;
	return data;
}

static void unmap_memory(GstMemory *mem)
{
	(void)mem; /* stays mapped as long as the buffer */
}

/* A copy of a dma-buf is one, too, so that what caps promise stays true: if there is a heap. */
static GstMemory *copy_memory(GstMemory *mem, gssize offset, gssize size)
{
	GstZcbufAllocator *self = GST_ZCBUF_ALLOCATOR(mem->allocator);
	GstMapInfo from, to;
	GstMemory *copy = NULL;

	if (!gst_memory_map(mem, &from, GST_MAP_READ))
		return NULL;
	if (size == -1)
		size = (gssize)from.size > offset ? (gssize)from.size - offset : 0;
	if (self->heap)
		copy = gst_allocator_alloc(mem->allocator, size, NULL);
	if (!copy)
		copy = gst_allocator_alloc(NULL, size, NULL);
	if (gst_memory_map(copy, &to, GST_MAP_WRITE)) {
		memcpy(to.data, from.data + offset, size);
		gst_memory_unmap(copy, &to);
	}
	gst_memory_unmap(mem, &from);
	return copy;
}

static void unref_buffer(gpointer buffer)
{
	zcbuf_buffer_unref(buffer);
}

/* The buffer that a memory is (a part of), or NULL if it is none of ours. The memory owns it. */
struct zcbuf_buffer *gst_zcbuf_memory_get_buffer(GstMemory *mem)
{
	while (mem->parent)
		mem = mem->parent;
	return gst_mini_object_get_qdata(GST_MINI_OBJECT_CAST(mem), buffer_quark);
}

struct zcbuf_ctx *gst_zcbuf_allocator_get_ctx(GstZcbufAllocator *self)
{
	return self->ctx;
}

/*
 * gst_zcbuf_allocator_wrap:
 * @buffer: (transfer full): consumed
 *
 * The memory covers the whole buffer; it is a dma-buf if the buffer is one, and read-only
 * if the buffer is.
 */
GstMemory *gst_zcbuf_allocator_wrap(GstZcbufAllocator *self, struct zcbuf_buffer *buffer)
{
	int fd = zcbuf_buffer_fd(buffer);
	/* Only memfds have seals. */
	gboolean memfd = fcntl(fd, F_GET_SEALS) >= 0;
	struct zcbuf_buffer_info info;
	GstMemory *mem;

	mem = gst_fd_allocator_alloc(memfd ? self->memfd : GST_ALLOCATOR_CAST(self), fd,
				     zcbuf_buffer_size(buffer),
				     GST_FD_MEMORY_FLAG_KEEP_MAPPED |
					     GST_FD_MEMORY_FLAG_DONT_CLOSE);
	gst_mini_object_set_qdata(GST_MINI_OBJECT_CAST(mem), buffer_quark, buffer,
				  unref_buffer);
	if (zcbuf_buffer_get_info(buffer, &info) == 0 && info.read_only)
		GST_MINI_OBJECT_FLAG_SET(mem, GST_MEMORY_FLAG_READONLY);
	return mem;
}

static GstMemory *gst_zcbuf_allocator_alloc(GstAllocator *allocator, gsize size,
					    GstAllocationParams *params)
{
	GstZcbufAllocator *self = GST_ZCBUF_ALLOCATOR(allocator);
	struct zcbuf_alloc_options options = { .name = "gstreamer" };
	struct zcbuf_buffer *buffer;
	GstMemory *mem;
	gsize total;
	int result;

	if (!self->heap || !g_size_checked_add(&total, size, params->prefix) ||
	    !g_size_checked_add(&total, total, params->padding))
		return NULL;
	/* Anything up to a page is met already. */
	if (params->align >= (gsize)sysconf(_SC_PAGESIZE))
		options.alignment = params->align + 1;

	result = zcbuf_heap_alloc(self->heap, total, &options, &buffer);
	if (result < 0) {
		GST_ERROR_OBJECT(self, "cannot allocate %" G_GSIZE_FORMAT " bytes: %s",
				 total, g_strerror(-result));
		return NULL;
	}
	mem = gst_zcbuf_allocator_wrap(self, buffer);
	if (self->dmabuf_only && !gst_is_dmabuf_memory(mem)) {
		GST_ERROR_OBJECT(self, "the heap makes no dma-bufs");
		gst_memory_unref(mem);
		return NULL;
	}
	GST_MINI_OBJECT_FLAG_SET(mem, params->flags);
	gst_memory_resize(mem, (gssize)params->prefix, size);
	return mem;
}

static GstZcbufAllocator *allocator_new(GError **error)
{
	GstZcbufAllocator *self = g_object_new(GST_TYPE_ZCBUF_ALLOCATOR, NULL);

	gst_object_ref_sink(self);
	if (!self->ctx) {
		gst_zcbuf_set_error(error, GST_RESOURCE_ERROR_FAILED, -ENOMEM);
		g_clear_pointer(&self, gst_object_unref);
	}
	return self;
}

static gboolean makes_dmabufs(GstZcbufAllocator *self, const gchar *heap)
{
	struct zcbuf_heap_info *infos = NULL;
	gboolean makes = TRUE;
	int n = zcbuf_heap_list(self->ctx, &infos);

	for (int i = 0; i < n; i++)
		if (g_str_equal(infos[i].name, heap))
			makes = infos[i].backend != ZCBUF_BACKEND_MEMFD;
	free(infos);
	return makes;
}

/*
 * gst_zcbuf_allocator_new:
 * @heap: (nullable): name of a heap, or NULL for the best there is that has @capabilities
 * @capabilities: ZCBUF_HEAP_CAP_* bits
 * @dmabuf_only: fail rather than fall back to memory that no device can use
 */
GstAllocator *gst_zcbuf_allocator_new(const gchar *heap, guint capabilities,
				      gboolean dmabuf_only, GError **error)
{
	struct zcbuf_heap_need need = { .capabilities = capabilities };
	GstZcbufAllocator *self = allocator_new(error);
	int result;

	if (!self)
		return NULL;
	self->dmabuf_only = dmabuf_only;
	if (dmabuf_only)
		need.backends = ZCBUF_BACKEND_ZCBUF | ZCBUF_BACKEND_DMA_HEAP |
				ZCBUF_BACKEND_UDMABUF;
	if (heap)
		result = zcbuf_heap_open(self->ctx, heap, &self->heap);
	else
		result = zcbuf_heap_open_for(self->ctx, &need, &self->heap);
	if (result < 0) {
		gst_zcbuf_set_error(error, GST_RESOURCE_ERROR_OPEN_READ_WRITE, result);
		g_clear_pointer(&self, gst_object_unref);
	} else if (heap && dmabuf_only && !makes_dmabufs(self, heap)) {
		g_set_error(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
			    "heap %s: makes no dma-bufs, which the negotiated caps promise",
			    heap);
		g_clear_pointer(&self, gst_object_unref);
	}
	return GST_ALLOCATOR_CAST(self);
}

/* An allocator that has no heap and only wraps buffers that another process made. */
GstAllocator *gst_zcbuf_allocator_new_for_import(void)
{
	return GST_ALLOCATOR_CAST(allocator_new(NULL));
}

static void gst_zcbuf_allocator_finalize(GObject *object)
{
	GstZcbufAllocator *self = GST_ZCBUF_ALLOCATOR(object);

	zcbuf_heap_unref(self->heap);
	zcbuf_ctx_unref(self->ctx);
	gst_object_unref(self->memfd);
	G_OBJECT_CLASS(gst_zcbuf_allocator_parent_class)->finalize(object);
}

static void gst_zcbuf_allocator_class_init(GstZcbufAllocatorClass *klass)
{
	G_OBJECT_CLASS(klass)->finalize = gst_zcbuf_allocator_finalize;
	GST_ALLOCATOR_CLASS(klass)->alloc = gst_zcbuf_allocator_alloc;
	buffer_quark = g_quark_from_static_string("GstZcbufMemoryBuffer");
}

static void gst_zcbuf_allocator_init(GstZcbufAllocator *self)
{
	GstAllocator *alloc = GST_ALLOCATOR_CAST(self);

	/* The parent class brackets both with DMA_BUF_IOCTL_SYNC. */
	alloc->mem_map = map_memory;
	alloc->mem_unmap = unmap_memory;
	alloc->mem_copy = copy_memory;
	GST_OBJECT_FLAG_UNSET(self, GST_ALLOCATOR_FLAG_CUSTOM_ALLOC);

	self->memfd = gst_fd_allocator_new();
	self->memfd->mem_map = map_memory;
	self->memfd->mem_unmap = unmap_memory;

	if (zcbuf_ctx_new(&self->ctx) == 0)
		zcbuf_ctx_set_log(self->ctx, log_message, NULL);
}
