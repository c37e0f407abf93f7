/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GstZcbufPool: buffers of one memory each, from a GstZcbufAllocator.
 *
 * Planes lie in the one memory at the offsets that GstVideoMeta gives, and in GstVideoInfo's
 * own layout unless somebody asks for alignment: drivers with a single-planar V4L2 API import
 * nothing else. Without the VideoMeta option the layout is always GstVideoInfo's own, because
 * who does not ask for the meta would not look at it.
 */
#include "gstzcbufpool.h"

#include <errno.h>
#include <poll.h>

GST_DEBUG_CATEGORY_STATIC(zcbufpool_debug);
#define GST_CAT_DEFAULT zcbufpool_debug

struct _GstZcbufPool {
	GstBufferPool parent;

	GstAllocator *allocator;
	GstVideoAlignment wanted; /* by the element that made the pool */

	/* from the configuration */
	GstAllocationParams params;
	guint size;
	gboolean is_video;
	GstVideoInfo info;
	GstVideoAlignment align;
};

G_DEFINE_FINAL_TYPE_WITH_CODE(GstZcbufPool, gst_zcbuf_pool, GST_TYPE_BUFFER_POOL,
			      GST_DEBUG_CATEGORY_INIT(zcbufpool_debug, "zcbufpool", 0,
						      "zcbuf buffer pool"))

gboolean gst_zcbuf_caps_are_dmabuf(GstCaps *caps)
{
	return gst_caps_features_contains(gst_caps_get_features(caps, 0),
					  GST_CAPS_FEATURE_MEMORY_DMABUF);
}

/*
 * The layout that caps mean: plain or memory:DMABuf video/x-raw, and DMA_DRM as long as its
 * modifier is linear. FALSE for all else.
 */
gboolean gst_zcbuf_video_info_from_caps(GstVideoInfo *info, GstCaps *caps)
{
	GstVideoInfoDmaDrm drm;

	if (!gst_structure_has_name(gst_caps_get_structure(caps, 0), "video/x-raw"))
		return FALSE;
	if (!gst_video_is_dma_drm_caps(caps))
		return gst_video_info_from_caps(info, caps);
	return gst_video_info_dma_drm_from_caps(&drm, caps) &&
	       gst_video_info_dma_drm_to_video_info(&drm, info);
}

/* The alignment that satisfies both. */
void gst_zcbuf_video_alignment_merge(GstVideoAlignment *to, const GstVideoAlignment *from)
{
	to->padding_top = MAX(to->padding_top, from->padding_top);
	to->padding_bottom = MAX(to->padding_bottom, from->padding_bottom);
	to->padding_left = MAX(to->padding_left, from->padding_left);
	to->padding_right = MAX(to->padding_right, from->padding_right);
	for (guint i = 0; i < GST_VIDEO_MAX_PLANES; i++)
		to->stride_align[i] |= from->stride_align[i];
}

static const gchar **gst_zcbuf_pool_get_options(GstBufferPool *pool)
{
	static const gchar *options[] = { GST_BUFFER_POOL_OPTION_VIDEO_META,
					  GST_BUFFER_POOL_OPTION_VIDEO_ALIGNMENT, NULL };

	(void)pool;
	return options;
}

static gboolean gst_zcbuf_pool_set_config(GstBufferPool *pool, GstStructure *config)
{
	GstZcbufPool *self = GST_ZCBUF_POOL(pool);
	guint size, min_buffers, max_buffers;
	GstVideoAlignment asked;
	GstCaps *caps;

	if (!gst_buffer_pool_config_get_params(config, &caps, &size, &min_buffers,
					       &max_buffers) ||
	    !gst_buffer_pool_config_get_allocator(config, NULL, &self->params)) {
		GST_WARNING_OBJECT(pool, "invalid configuration %" GST_PTR_FORMAT, config);
		return FALSE;
	}

	gst_video_alignment_reset(&self->align);
	self->is_video = caps && gst_zcbuf_video_info_from_caps(&self->info, caps);
	if (!self->is_video && caps && gst_video_is_dma_drm_caps(caps)) {
		GST_WARNING_OBJECT(pool, "not linear: %" GST_PTR_FORMAT, caps);
		return FALSE;
	}
	if (self->is_video) {
		if (gst_buffer_pool_config_has_option(config,
						      GST_BUFFER_POOL_OPTION_VIDEO_META) ||
		    gst_zcbuf_caps_are_dmabuf(caps)) {
			self->align = self->wanted;
			if (gst_buffer_pool_config_has_option(
				    config, GST_BUFFER_POOL_OPTION_VIDEO_ALIGNMENT) &&
			    gst_buffer_pool_config_get_video_alignment(config, &asked))
				gst_zcbuf_video_alignment_merge(&self->align, &asked);
			if (!gst_video_info_align(&self->info, &self->align)) {
				GST_WARNING_OBJECT(pool, "cannot align %" GST_PTR_FORMAT,
						   config);
				return FALSE;
			}
			gst_buffer_pool_config_set_video_alignment(config, &self->align);
		}
		size = MAX(size, GST_VIDEO_INFO_SIZE(&self->info));
	}
	if (size == 0) {
		GST_WARNING_OBJECT(pool, "no size in %" GST_PTR_FORMAT, config);
		return FALSE;
	}
	self->size = size;

	/* Whatever allocator others would like: this pool is here for ours. */
	gst_buffer_pool_config_set_allocator(config, self->allocator, &self->params);
	gst_buffer_pool_config_set_params(config, caps, size, min_buffers, max_buffers);
	return GST_BUFFER_POOL_CLASS(gst_zcbuf_pool_parent_class)->set_config(pool, config);
}

static GstFlowReturn gst_zcbuf_pool_alloc_buffer(GstBufferPool *pool, GstBuffer **buffer,
						 GstBufferPoolAcquireParams *params)
{
	GstZcbufPool *self = GST_ZCBUF_POOL(pool);
	const GstVideoInfo *info = &self->info;
	GstVideoMeta *meta;

	(void)params;
	*buffer = gst_buffer_new_allocate(self->allocator, self->size, &self->params);
	if (!*buffer)
		return GST_FLOW_ERROR;
	if (self->is_video) {
		meta = gst_buffer_add_video_meta_full(
			*buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_INFO_FORMAT(info),
			GST_VIDEO_INFO_WIDTH(info), GST_VIDEO_INFO_HEIGHT(info),
			GST_VIDEO_INFO_N_PLANES(info), info->offset, info->stride);
		gst_video_meta_set_alignment(meta, self->align);
	}
	return GST_FLOW_OK;
}

/* A device may still read what was shown last: V4L2 and others write without asking. */
static gboolean wait_until_idle(GstBufferPool *pool, GstBuffer *buffer)
{
	GstMemory *mem = gst_buffer_peek_memory(buffer, 0);
	struct pollfd idle = { .fd = gst_fd_memory_get_fd(mem), .events = POLLOUT };
	int result;

	if (!gst_is_dmabuf_memory(mem))
		return TRUE;
	do {
		result = poll(&idle, 1, 100);
		if (result == 0 && GST_BUFFER_POOL_IS_FLUSHING(pool))
			return FALSE;
	} while (result == 0 || (result < 0 && errno == EINTR));
	return TRUE;
}

static GstFlowReturn gst_zcbuf_pool_acquire_buffer(GstBufferPool *pool, GstBuffer **buffer,
						   GstBufferPoolAcquireParams *params)
{
	GstBufferPoolClass *parent = GST_BUFFER_POOL_CLASS(gst_zcbuf_pool_parent_class);
	GstFlowReturn flow = parent->acquire_buffer(pool, buffer, params);

	if (flow == GST_FLOW_OK && !wait_until_idle(pool, *buffer)) {
		parent->release_buffer(pool, g_steal_pointer(buffer));
		flow = GST_FLOW_FLUSHING;
	}
	return flow;
}

/*
 * gst_zcbuf_pool_new:
 * @allocator: a GstZcbufAllocator with a heap
 * @align: (nullable): applied in addition to what the configuration asks for
 */
GstBufferPool *gst_zcbuf_pool_new(GstAllocator *allocator, const GstVideoAlignment *align)
{
	GstZcbufPool *self = g_object_new(GST_TYPE_ZCBUF_POOL, NULL);

	gst_object_ref_sink(self);
	self->allocator = gst_object_ref(allocator);
	if (align)
		self->wanted = *align;
	return GST_BUFFER_POOL_CAST(self);
}

static void gst_zcbuf_pool_finalize(GObject *object)
{
	GstZcbufPool *self = GST_ZCBUF_POOL(object);

	gst_object_unref(self->allocator);
	G_OBJECT_CLASS(gst_zcbuf_pool_parent_class)->finalize(object);
}

static void gst_zcbuf_pool_class_init(GstZcbufPoolClass *klass)
{
	GstBufferPoolClass *pool_class = GST_BUFFER_POOL_CLASS(klass);

	G_OBJECT_CLASS(klass)->finalize = gst_zcbuf_pool_finalize;
	pool_class->get_options = gst_zcbuf_pool_get_options;
	pool_class->set_config = gst_zcbuf_pool_set_config;
	pool_class->alloc_buffer = gst_zcbuf_pool_alloc_buffer;
	pool_class->acquire_buffer = gst_zcbuf_pool_acquire_buffer;
}

static void gst_zcbuf_pool_init(GstZcbufPool *self)
{
	gst_video_alignment_reset(&self->wanted);
	gst_video_alignment_reset(&self->align);
}
