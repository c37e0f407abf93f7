/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What zcbufupload and zcbufsink share: offering a pool to upstream, and copying what arrives
 * in other memory all the same.
 */
#include "gstzcbufuploader.h"

#define DEFAULT_MIN_BUFFERS 2
/* As many as a V4L2 queue holds; enough for a pipeline, too few to eat the machine. */
#define DEFAULT_MAX_BUFFERS 32

GST_DEBUG_CATEGORY_STATIC(zcbufuploader_debug);
#define GST_CAT_DEFAULT zcbufuploader_debug
GST_DEBUG_CATEGORY_STATIC(performance_debug);

/* The library's ZCBUF_HEAP_CAP_* bits. */
#define GST_TYPE_ZCBUF_NEED gst_zcbuf_need_get_type()
static GType gst_zcbuf_need_get_type(void)
{
	static const GFlagsValue values[] = {
		{ ZCBUF_HEAP_CAP_CONTIGUOUS, "Each buffer is one physically contiguous run",
		  "contiguous" },
		{ ZCBUF_HEAP_CAP_PIN, "O_DIRECT, io_uring and RDMA work on mappings",
		  "pin" },
		{ ZCBUF_HEAP_CAP_VMAP, "Devices that are drivers working with the CPU work",
		  "vmap" },
		{ ZCBUF_HEAP_CAP_CHARGED, "Memory is charged to the memory cgroup",
		  "charged" },
		{ 0, NULL, NULL }
	};
	static gsize type;

	if (g_once_init_enter(&type))
		g_once_init_leave(&type, g_flags_register_static("GstZcbufNeed", values));
	return type;
}

void gst_zcbuf_uploader_install_properties(GObjectClass *klass)
{
	GST_DEBUG_CATEGORY_INIT(zcbufuploader_debug, "zcbufuploader", 0, "zcbuf uploader");
	GST_DEBUG_CATEGORY_GET(performance_debug, "GST_PERFORMANCE");

	/**
	 * GstZcbufUpload:heap:
	 *
	 * Name of the heap to allocate from, as `zcbuf list` shows them; unset: the best
	 * that meets #GstZcbufUpload:need, falling back to the next one when an
	 * allocation fails.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_HEAP,
		g_param_spec_string(
			"heap", "Heap",
			"Name of the heap to allocate from, as 'zcbuf list' shows it "
			"(NULL = the best that meets the need)",
			NULL,
			G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
				GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufUpload:need:
	 *
	 * What the heap must be able to do, for those who do not name one.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_NEED,
		g_param_spec_flags("need", "Need",
				   "What the heap must be able to do, unless one is named",
				   GST_TYPE_ZCBUF_NEED, 0,
				   G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
					   GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufUpload:min-buffers:
	 *
	 * Buffers in an offered pool, in addition to those that downstream says it holds.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_MIN_BUFFERS,
		g_param_spec_uint(
			"min-buffers", "Minimum of buffers",
			"Buffers that an offered pool has from the start, in addition "
			"to those that downstream says it holds",
			1, G_MAXINT, DEFAULT_MIN_BUFFERS,
			G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
				GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufUpload:max-buffers:
	 *
	 * A pool that has so many buffers waits for one to come back. Never less than the
	 * pipeline says that it needs; 0 means no limit.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_MAX_BUFFERS,
		g_param_spec_uint(
			"max-buffers", "Maximum of buffers",
			"Buffers at which a pool waits for one to come back; never fewer "
			"than the pipeline says it needs (0 = no limit)",
			0, G_MAXINT, DEFAULT_MAX_BUFFERS,
			G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
				GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufUpload:stride-align:
	 *
	 * Bytes, a power of two, that the strides of offered buffers are a multiple of.
	 * 1 is GStreamer's own layout, which V4L2 devices import; some GPUs want 64 or 256.
	 * It takes effect with elements that use GstVideoMeta.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_STRIDE_ALIGN,
		g_param_spec_uint("stride-align", "Stride alignment",
				  "Bytes, a power of two, that strides are a multiple of; "
				  "heeded if GstVideoMeta is read",
				  1, 1 << 16, 1,
				  G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
					  GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufUpload:zero-copy-frames:
	 *
	 * Frames that arrived in memory that could be passed on as it was.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_ZERO_COPY_FRAMES,
		g_param_spec_uint64("zero-copy-frames", "Frames not copied",
				    "Frames that were passed on as they arrived", 0,
				    G_MAXUINT64, 0,
				    G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
	/**
	 * GstZcbufUpload:copied-frames:
	 *
	 * Frames that arrived in other memory and had to be copied.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, GST_ZCBUF_UPLOADER_PROP_COPIED_FRAMES,
		g_param_spec_uint64(
			"copied-frames", "Frames copied",
			"Frames that arrived in other memory and had to be copied", 0,
			G_MAXUINT64, 0, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
}

/* FALSE if the property is not one of those above. */
gboolean gst_zcbuf_uploader_set_property(GstZcbufUploader *self, guint id,
					 const GValue *value)
{
	gboolean known = TRUE;

	GST_OBJECT_LOCK(self->element);
	switch (id) {
	case GST_ZCBUF_UPLOADER_PROP_HEAP:
		g_free(self->heap);
		self->heap = g_value_dup_string(value);
		break;
	case GST_ZCBUF_UPLOADER_PROP_NEED:
		self->need = g_value_get_flags(value);
		break;
	case GST_ZCBUF_UPLOADER_PROP_MIN_BUFFERS:
		self->min_buffers = g_value_get_uint(value);
		break;
	case GST_ZCBUF_UPLOADER_PROP_MAX_BUFFERS:
		self->max_buffers = g_value_get_uint(value);
		break;
	case GST_ZCBUF_UPLOADER_PROP_STRIDE_ALIGN:
		if ((g_value_get_uint(value) & (g_value_get_uint(value) - 1)) == 0)
			self->stride_align = g_value_get_uint(value);
		else
			GST_WARNING_OBJECT(self->element,
					   "stride-align %u is not a power of two",
					   g_value_get_uint(value));
		break;
	default:
		known = FALSE;
	}
	GST_OBJECT_UNLOCK(self->element);
	return known;
}

gboolean gst_zcbuf_uploader_get_property(GstZcbufUploader *self, guint id, GValue *value)
{
	gboolean known = TRUE;

	GST_OBJECT_LOCK(self->element);
	switch (id) {
	case GST_ZCBUF_UPLOADER_PROP_HEAP:
		g_value_set_string(value, self->heap);
		break;
	case GST_ZCBUF_UPLOADER_PROP_NEED:
		g_value_set_flags(value, self->need);
		break;
	case GST_ZCBUF_UPLOADER_PROP_MIN_BUFFERS:
		g_value_set_uint(value, self->min_buffers);
		break;
	case GST_ZCBUF_UPLOADER_PROP_MAX_BUFFERS:
		g_value_set_uint(value, self->max_buffers);
		break;
	case GST_ZCBUF_UPLOADER_PROP_STRIDE_ALIGN:
		g_value_set_uint(value, self->stride_align);
		break;
	case GST_ZCBUF_UPLOADER_PROP_ZERO_COPY_FRAMES:
		g_value_set_uint64(value, self->zero_copy_frames);
		break;
	case GST_ZCBUF_UPLOADER_PROP_COPIED_FRAMES:
		g_value_set_uint64(value, self->copied_frames);
		break;
	default:
		known = FALSE;
	}
	GST_OBJECT_UNLOCK(self->element);
	return known;
}

void gst_zcbuf_uploader_init(GstZcbufUploader *self, GstElement *element)
{
	self->element = element;
	self->min_buffers = DEFAULT_MIN_BUFFERS;
	self->max_buffers = DEFAULT_MAX_BUFFERS;
	self->stride_align = 1;
	self->reads_meta = TRUE;
	gst_video_alignment_reset(&self->align);
	g_mutex_init(&self->pool_lock);
}

void gst_zcbuf_uploader_finalize(GstZcbufUploader *self)
{
	g_free(self->heap);
	g_mutex_clear(&self->pool_lock);
}

/* Open the heap if it is not yet open in the wanted way; if that fails, nothing changes. */
static gboolean open_allocator(GstZcbufUploader *self, gboolean dmabuf_only, GError **error)
{
	GstAllocator *allocator;
	gchar *heap;
	guint need;

	if (self->allocator && self->dmabuf_only == dmabuf_only)
		return TRUE;
	GST_OBJECT_LOCK(self->element);
	heap = g_strdup(self->heap);
	need = self->need;
	GST_OBJECT_UNLOCK(self->element);
	allocator = gst_zcbuf_allocator_new(heap, need, dmabuf_only, error);
	g_free(heap);
	if (!allocator)
		return FALSE;
	gst_clear_object(&self->allocator);
	self->allocator = allocator;
	self->dmabuf_only = dmabuf_only;
	return TRUE;
}

static gboolean open_allocator_or_post(GstZcbufUploader *self, gboolean dmabuf_only)
{
	GError *error = NULL;

	if (open_allocator(self, dmabuf_only, &error))
		return TRUE;
	GST_ELEMENT_ERROR(self->element, RESOURCE, OPEN_READ_WRITE, ("%s", error->message),
			  (NULL));
	g_error_free(error);
	return FALSE;
}

static void drop_pool(GstZcbufUploader *self)
{
	g_mutex_lock(&self->pool_lock);
	if (self->pool)
		gst_buffer_pool_set_active(self->pool, FALSE);
	gst_clear_object(&self->pool);
	g_mutex_unlock(&self->pool_lock);
}

gboolean gst_zcbuf_uploader_start(GstZcbufUploader *self)
{
	GST_OBJECT_LOCK(self->element);
	self->zero_copy_frames = self->copied_frames = 0;
	GST_OBJECT_UNLOCK(self->element);
	self->warned_of_copy = self->warned_of_memfd = FALSE;
	return open_allocator_or_post(self, FALSE);
}

void gst_zcbuf_uploader_stop(GstZcbufUploader *self)
{
	drop_pool(self);
	gst_clear_caps(&self->caps);
	gst_clear_object(&self->allocator);
}

/* While flushing, an upload that waits for a buffer gives up, and so does every other. */
void gst_zcbuf_uploader_set_flushing(GstZcbufUploader *self, gboolean flushing)
{
	g_mutex_lock(&self->pool_lock);
	self->flushing = flushing;
	if (self->pool)
		gst_buffer_pool_set_flushing(self->pool, flushing);
	g_mutex_unlock(&self->pool_lock);
}

/*
 * gst_zcbuf_uploader_set_caps:
 * @caps: of the frames that will arrive
 * @dmabuf_only: they must leave as dma-bufs
 */
gboolean gst_zcbuf_uploader_set_caps(GstZcbufUploader *self, GstCaps *caps,
				     gboolean dmabuf_only)
{
	drop_pool(self);
	gst_caps_replace(&self->caps, caps);
	self->is_video = gst_zcbuf_video_info_from_caps(&self->info, caps);
	return open_allocator_or_post(self, dmabuf_only);
}

static GstVideoAlignment wanted_alignment(GstZcbufUploader *self)
{
	GstVideoAlignment align;

	gst_video_alignment_reset(&align);
	if (self->reads_meta) {
		align = self->align;
		GST_OBJECT_LOCK(self->element);
		for (guint i = 0; i < GST_VIDEO_MAX_PLANES; i++)
			align.stride_align[i] |= self->stride_align - 1;
		GST_OBJECT_UNLOCK(self->element);
	}
	return align;
}

static gboolean alignment_is_set(const GstVideoAlignment *align)
{
	GstVideoAlignment none;

	gst_video_alignment_reset(&none);
	return memcmp(align, &none, sizeof(none)) != 0;
}

static void get_limits(GstZcbufUploader *self, guint *min_buffers, guint *max_buffers)
{
	GST_OBJECT_LOCK(self->element);
	*min_buffers = self->min_buffers + self->next_min_buffers;
	*max_buffers = self->max_buffers ? MAX(self->max_buffers, *min_buffers) : 0;
	GST_OBJECT_UNLOCK(self->element);
}

/* Answer an ALLOCATION query with a pool, its allocator and GstVideoMeta. */
void gst_zcbuf_uploader_propose(GstZcbufUploader *self, GstQuery *query)
{
	GstVideoAlignment align = wanted_alignment(self);
	GstAllocationParams params;
	GstBufferPool *pool = NULL;
	GstStructure *layout = NULL;
	GstStructure *config;
	guint min_buffers, max_buffers;
	gboolean need_pool;
	GstVideoInfo info;
	GstCaps *caps;

	gst_query_parse_allocation(query, &caps, &need_pool);
	/* Of what is not video, nobody knows the size; of what is tiled, the layout. */
	if (!caps || !gst_zcbuf_video_info_from_caps(&info, caps))
		return;
	if (!open_allocator(self, self->dmabuf_only || gst_zcbuf_caps_are_dmabuf(caps),
			    NULL))
		return;
	if (!gst_video_info_align(&info, &align))
		return;

	get_limits(self, &min_buffers, &max_buffers);
	if (need_pool) {
		pool = gst_zcbuf_pool_new(self->allocator, &align);
		config = gst_buffer_pool_get_config(pool);
		gst_buffer_pool_config_set_params(config, caps, GST_VIDEO_INFO_SIZE(&info),
						  min_buffers, max_buffers);
		if (!gst_buffer_pool_set_config(pool, config))
			gst_clear_object(&pool);
	}
	gst_query_add_allocation_pool(query, pool, GST_VIDEO_INFO_SIZE(&info), min_buffers,
				      max_buffers);
	gst_clear_object(&pool);

	gst_allocation_params_init(&params);
	gst_query_add_allocation_param(query, self->allocator, &params);

	if (alignment_is_set(&align)) {
		layout = gst_structure_new_empty("video-meta");
		gst_buffer_pool_config_set_video_alignment(layout, &align);
	}
	gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, layout);
	g_clear_pointer(&layout, gst_structure_free);
}

/* The pool that copies go to, large enough for @size; a reference. */
static GstBufferPool *get_pool(GstZcbufUploader *self, gsize size)
{
	GstVideoAlignment align = wanted_alignment(self);
	guint old_size = 0, min_buffers, max_buffers;
	GstBufferPool *pool = NULL;
	GstStructure *config;

	g_mutex_lock(&self->pool_lock);
	if (self->pool) {
		config = gst_buffer_pool_get_config(self->pool);
		gst_buffer_pool_config_get_params(config, NULL, &old_size, NULL, NULL);
		gst_structure_free(config);
		if (size > old_size) {
			gst_buffer_pool_set_active(self->pool, FALSE);
			gst_clear_object(&self->pool);
		}
	}
	if (!self->pool) {
		get_limits(self, &min_buffers, &max_buffers);
		pool = gst_zcbuf_pool_new(self->allocator, &align);
		config = gst_buffer_pool_get_config(pool);
		/* Whatever is not video varies in size: leave room. */
		if (!self->is_video)
			size += size / 2;
		gst_buffer_pool_config_set_params(config, self->caps, size, min_buffers,
						  max_buffers);
		if (self->reads_meta)
			gst_buffer_pool_config_add_option(
				config, GST_BUFFER_POOL_OPTION_VIDEO_META);
		if (gst_buffer_pool_set_config(pool, config) &&
		    gst_buffer_pool_set_active(pool, TRUE)) {
			gst_buffer_pool_set_flushing(pool, self->flushing);
			self->pool = pool;
		} else {
			gst_object_unref(pool);
		}
	}
	pool = self->pool ? gst_object_ref(self->pool) : NULL;
	g_mutex_unlock(&self->pool_lock);
	return pool;
}

/*
 * The last chroma sample of a line of odd width lies behind its last pixel in packed 4:2:2, where
 * gst_video_frame_copy() leaves it behind: have it see one pixel more.
 */
static void complete_last_pair(GstVideoFrame *from, GstVideoFrame *to)
{
	const GstVideoFormatInfo *format = from->info.finfo;
	gint width = GST_ROUND_UP_2(from->info.width);
	gint bytes = width * GST_VIDEO_FORMAT_INFO_PSTRIDE(format, 0);

	if (GST_VIDEO_FORMAT_INFO_N_PLANES(format) == 1 &&
	    GST_VIDEO_FORMAT_INFO_N_COMPONENTS(format) >= 3 &&
	    GST_VIDEO_FORMAT_INFO_W_SUB(format, 1) == 1 && bytes <= from->info.stride[0] &&
	    bytes <= to->info.stride[0])
		from->info.width = to->info.width = width;
}

static gboolean copy_video(GstZcbufUploader *self, GstBuffer *in, GstBuffer *out)
{
	GstVideoFrame from, to;
	gboolean copied;

	if (!gst_video_frame_map(&from, &self->info, in, GST_MAP_READ))
		return FALSE;
	if (!gst_video_frame_map(&to, &self->info, out, GST_MAP_WRITE)) {
		gst_video_frame_unmap(&from);
		return FALSE;
	}
	complete_last_pair(&from, &to);
	copied = gst_video_frame_copy(&to, &from);
	gst_video_frame_unmap(&to);
	gst_video_frame_unmap(&from);
	return copied;
}

static gboolean copy_bytes(GstBuffer *in, GstBuffer *out)
{
	GstMapInfo map;

	gst_buffer_set_size(out, (gssize)gst_buffer_get_size(in));
	if (!gst_buffer_map(out, &map, GST_MAP_WRITE))
		return FALSE;
	gst_buffer_extract(in, 0, map.data, map.size);
	gst_buffer_unmap(out, &map);
	return TRUE;
}

static void warn_of_copy(GstZcbufUploader *self)
{
	if (self->warned_of_copy)
		return;
	self->warned_of_copy = TRUE;
	GST_ELEMENT_WARNING(
		self->element, RESOURCE, SETTINGS,
		("Every frame is copied into a zcbuf buffer."),
		("Upstream writes to memory of its own. An element that uses the "
		 "pool it is offered, such as v4l2src io-mode=dmabuf-import, "
		 "videoconvert or a decoder, just before this one avoids that; "
		 "a tee in between does not pass the offer on."));
}

static void warn_of_memfd(GstZcbufUploader *self, GstBuffer *buffer)
{
	if (self->warned_of_memfd ||
	    gst_is_dmabuf_memory(gst_buffer_peek_memory(buffer, 0)))
		return;
	self->warned_of_memfd = TRUE;
	GST_ELEMENT_WARNING(
		self->element, RESOURCE, SETTINGS,
		("Frames are in memfds, which processes can share but no device can."),
		("No dma-buf heap can be used; 'zcbuf list' says which there are and "
		 "why."));
}

static GstFlowReturn copy(GstZcbufUploader *self, GstBuffer *in, GstBuffer **out)
{
	GstBufferPool *pool;
	GstFlowReturn flow;

	pool = get_pool(self, self->is_video ? GST_VIDEO_INFO_SIZE(&self->info)
					     : gst_buffer_get_size(in));
	if (!pool) {
		GST_ELEMENT_ERROR(self->element, RESOURCE, NO_SPACE_LEFT,
				  ("No memory for a pool of buffers."),
				  ("%" GST_PTR_FORMAT, self->caps));
		return GST_FLOW_ERROR;
	}
	flow = gst_buffer_pool_acquire_buffer(pool, out, NULL);
	gst_object_unref(pool);
	if (flow == GST_FLOW_ERROR)
		GST_ELEMENT_ERROR(self->element, RESOURCE, NO_SPACE_LEFT,
				  ("No memory for a buffer."), (NULL));
	if (flow != GST_FLOW_OK)
		return flow;

	if (!(self->is_video ? copy_video(self, in, *out) : copy_bytes(in, *out))) {
		GST_ELEMENT_ERROR(
			self->element, STREAM, FORMAT,
			("A frame does not have the layout that its caps promise."),
			("%" GST_PTR_FORMAT ", %" GST_PTR_FORMAT, in, self->caps));
		gst_clear_buffer(out);
		return GST_FLOW_ERROR;
	}
	gst_buffer_copy_into(*out, in, GST_BUFFER_COPY_METADATA, 0, -1);
	return GST_FLOW_OK;
}

static gboolean has_default_layout(GstZcbufUploader *self, GstBuffer *buffer)
{
	GstVideoMeta *meta = gst_buffer_get_video_meta(buffer);

	for (guint i = 0; meta && i < meta->n_planes; i++)
		if (meta->offset[i] != GST_VIDEO_INFO_PLANE_OFFSET(&self->info, i) ||
		    meta->stride[i] != GST_VIDEO_INFO_PLANE_STRIDE(&self->info, i))
			return FALSE;
	return TRUE;
}

/* Dma-bufs of anybody, and our own buffers where there are no dma-bufs to be had. */
static gboolean can_pass(GstZcbufUploader *self, GstBuffer *buffer)
{
	guint n = gst_buffer_n_memory(buffer);

	if (n > GST_VIDEO_MAX_PLANES)
		return FALSE;
	for (guint i = 0; i < n; i++) {
		GstMemory *mem = gst_buffer_peek_memory(buffer, i);

		if (!gst_is_dmabuf_memory(mem) &&
		    (self->dmabuf_only || !gst_zcbuf_memory_get_buffer(mem)))
			return FALSE;
	}
	return self->reads_meta || !self->is_video || has_default_layout(self, buffer);
}

/*
 * gst_zcbuf_uploader_upload:
 * @in: (transfer none): a frame in any memory
 * @out: (out) (transfer full): the same frame in memory that can be shared: @in if it is
 */
GstFlowReturn gst_zcbuf_uploader_upload(GstZcbufUploader *self, GstBuffer *in,
					GstBuffer **out)
{
	gboolean pass = can_pass(self, in);
	GstFlowReturn flow;

	if (pass) {
		*out = gst_buffer_ref(in);
	} else {
		GST_CAT_LOG_OBJECT(performance_debug, self->element,
				   "copying %" GST_PTR_FORMAT, in);
		flow = copy(self, in, out);
		if (flow != GST_FLOW_OK)
			return flow;
		warn_of_copy(self);
	}
	if (gst_buffer_n_memory(*out) > 0)
		warn_of_memfd(self, *out);
	GST_OBJECT_LOCK(self->element);
	if (pass)
		self->zero_copy_frames++;
	else
		self->copied_frames++;
	GST_OBJECT_UNLOCK(self->element);
	return GST_FLOW_OK;
}
