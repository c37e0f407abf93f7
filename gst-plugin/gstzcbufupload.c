/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * SECTION:element-zcbufupload
 * @title: zcbufupload
 * @short_description: brings frames into dma-bufs, if possible without a copy
 *
 * zcbufupload offers upstream a pool of dma-bufs, so that a camera, a converter or a decoder
 * writes its frames straight into them. What arrives in other memory all the same is copied
 * once, counted in #GstZcbufUpload:copied-frames and said in one warning message. Dma-bufs of
 * other exporters pass unchanged.
 *
 * Frames leave under plain `video/x-raw` caps, which every element takes, or under
 * `video/x-raw(memory:DMABuf),format=DMA_DRM` if a caps filter or downstream asks for it. Under
 * plain caps, and on a machine where no dma-buf heap can be used, frames are in memfds; a
 * warning says so.
 *
 * Its pool neither crosses a `tee` nor an element that insists on memory of its own: put
 * zcbufupload upstream of a `tee`.
 *
 * ## Example launch lines
 * |[
 * gst-launch-1.0 v4l2src io-mode=dmabuf-import ! video/x-raw,format=BGRx,width=1920,height=1080 ! zcbufupload ! kmssink
 * ]| A camera writes into zcbuf buffers, and the display shows them. No CPU touches a frame.
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=100 ! zcbufupload ! "video/x-raw(memory:DMABuf)" ! fakesink
 * ]| The test source writes into the offered pool; the frames leave as DMA_DRM.
 *
 * Since: 0.1
 */
#include "gstzcbufupload.h"

#include "gstzcbufuploader.h"

GST_DEBUG_CATEGORY_STATIC(zcbufupload_debug);
#define GST_CAT_DEFAULT zcbufupload_debug

struct _GstZcbufUpload {
	GstBaseTransform parent;

	GstZcbufUploader uploader;
};

#define CAPS                                                                   \
	GST_VIDEO_DMA_DRM_CAPS_MAKE                                            \
	"; " GST_VIDEO_CAPS_MAKE(                                              \
		GST_VIDEO_FORMATS_ALL) ";"                                     \
				       " " GST_VIDEO_CAPS_MAKE_WITH_FEATURES(  \
					       GST_CAPS_FEATURE_MEMORY_DMABUF, \
					       GST_VIDEO_FORMATS_ALL)

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE(
	"sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));
static GstStaticPadTemplate src_template =
	GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));

G_DEFINE_FINAL_TYPE_WITH_CODE(GstZcbufUpload, gst_zcbuf_upload, GST_TYPE_BASE_TRANSFORM,
			      GST_DEBUG_CATEGORY_INIT(zcbufupload_debug, "zcbufupload", 0,
						      "zcbufupload element"))
GST_ELEMENT_REGISTER_DEFINE(zcbufupload, "zcbufupload", GST_RANK_NONE,
			    GST_TYPE_ZCBUF_UPLOAD)

/* ---- caps ------------------------------------------------------------------------------ */

/*
 * "NV12" of plain caps as DMA_DRM spells it, or the other way round; NULL if it has none. Of some
 * formats GStreamer knows the fourcc but not the way back (NV15 in 1.26): nobody could read caps
 * with it.
 */
static const gchar *translate_format(const gchar *format, gboolean to_drm,
				     gchar **drm_string)
{
	GstVideoFormat linear;
	guint64 modifier;
	guint32 fourcc;

	if (to_drm) {
		linear = gst_video_format_from_string(format);
		fourcc = gst_video_dma_drm_fourcc_from_format(linear);
		if (fourcc == 0 || gst_video_dma_drm_fourcc_to_format(fourcc) != linear)
			return NULL;
		return *drm_string = gst_video_dma_drm_fourcc_to_string(fourcc, 0);
	}
	fourcc = gst_video_dma_drm_fourcc_from_string(format, &modifier);
	if (fourcc == 0 || modifier != 0)
		return NULL;
	linear = gst_video_dma_drm_fourcc_to_format(fourcc);
	return linear == GST_VIDEO_FORMAT_UNKNOWN ? NULL
						  : gst_video_format_to_string(linear);
}

static void append_format(GValue *list, const gchar *format, gboolean to_drm)
{
	GValue item = G_VALUE_INIT;
	gchar *drm_string = NULL;
	const gchar *translated = translate_format(format, to_drm, &drm_string);

	if (translated) {
		g_value_init(&item, G_TYPE_STRING);
		g_value_set_string(&item, translated);
		gst_value_list_append_and_take_value(list, &item);
	}
	g_free(drm_string);
}

/*
 * The caps of the same linear frames in the other notation, plain or DMA_DRM; NULL if they
 * have none.
 */
static GstStructure *translate_structure(const GstStructure *from, gboolean to_drm)
{
	const GValue *formats =
		gst_structure_get_value(from, to_drm ? "format" : "drm-format");
	GValue list = G_VALUE_INIT;
	GstStructure *to;

	g_value_init(&list, GST_TYPE_LIST);
	if (formats && GST_VALUE_HOLDS_LIST(formats))
		for (guint i = 0; i < gst_value_list_get_size(formats); i++)
			append_format(
				&list,
				g_value_get_string(gst_value_list_get_value(formats, i)),
				to_drm);
	else if (formats && G_VALUE_HOLDS_STRING(formats))
		append_format(&list, g_value_get_string(formats), to_drm);
	if (formats && gst_value_list_get_size(&list) == 0) {
		g_value_unset(&list);
		return NULL;
	}

	to = gst_structure_copy(from);
	gst_structure_remove_fields(to, "format", "drm-format", NULL);
	if (to_drm) /* DMA_DRM says nothing of these */
		gst_structure_remove_fields(to, "chroma-site", "colorimetry", NULL);
	if (to_drm)
		gst_structure_set(to, "format", G_TYPE_STRING, "DMA_DRM", NULL);
	if (formats && gst_value_list_get_size(&list) == 1)
		gst_structure_set_value(to, to_drm ? "drm-format" : "format",
					gst_value_list_get_value(&list, 0));
	else if (formats)
		gst_structure_set_value(to, to_drm ? "drm-format" : "format", &list);
	g_value_unset(&list);
	return to;
}

static GstCaps *gst_zcbuf_upload_transform_caps(GstBaseTransform *trans,
						GstPadDirection direction, GstCaps *caps,
						GstCaps *filter)
{
	/* What arrives can leave as it is; this comes first, for it says the same. */
	GstCaps *result = gst_caps_copy(caps);

	(void)direction;
	for (guint i = 0; i < gst_caps_get_size(caps); i++) {
		GstStructure *structure = gst_caps_get_structure(caps, i);
		GstCapsFeatures *features = gst_caps_get_features(caps, i);
		const gchar *format = gst_structure_get_string(structure, "format");
		GstStructure *other;

		if (gst_caps_features_is_any(features))
			continue;
		if (gst_caps_features_is_equal(features,
					       GST_CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)) {
			other = translate_structure(structure, TRUE);
			features = gst_caps_features_new_single_static_str(
				GST_CAPS_FEATURE_MEMORY_DMABUF);
		} else if (gst_caps_features_contains(features,
						      GST_CAPS_FEATURE_MEMORY_DMABUF) &&
			   g_strcmp0(format, "DMA_DRM") == 0) {
			other = translate_structure(structure, FALSE);
			features = NULL;
		} else {
			continue;
		}
		if (other)
			gst_caps_append_structure_full(result, other, features);
		else if (features)
			gst_caps_features_free(features);
	}
	if (filter) {
		GstCaps *all = result;

		result = gst_caps_intersect_full(filter, all, GST_CAPS_INTERSECT_FIRST);
		gst_caps_unref(all);
	}
	GST_DEBUG_OBJECT(trans, "%" GST_PTR_FORMAT " from %" GST_PTR_FORMAT, result, caps);
	return result;
}

static gboolean gst_zcbuf_upload_set_caps(GstBaseTransform *trans, GstCaps *in,
					  GstCaps *out)
{
	GstZcbufUpload *self = GST_ZCBUF_UPLOAD(trans);

	return gst_zcbuf_uploader_set_caps(&self->uploader, in,
					   gst_zcbuf_caps_are_dmabuf(in) ||
						   gst_zcbuf_caps_are_dmabuf(out));
}

/* ---- allocation ------------------------------------------------------------------------ */

/*
 * This element makes no buffers for downstream, so that it has no use for its pools; but what
 * they say of downstream's needs is passed on upstream.
 */
static gboolean gst_zcbuf_upload_decide_allocation(GstBaseTransform *trans, GstQuery *query)
{
	GstZcbufUploader *uploader = &GST_ZCBUF_UPLOAD(trans)->uploader;
	const GstStructure *layout = NULL;
	GstVideoAlignment align;
	guint min_buffers, index;

	uploader->next_min_buffers = 0;
	while (gst_query_get_n_allocation_pools(query) > 0) {
		gst_query_parse_nth_allocation_pool(query, 0, NULL, NULL, &min_buffers,
						    NULL);
		uploader->next_min_buffers = MAX(uploader->next_min_buffers, min_buffers);
		gst_query_remove_nth_allocation_pool(query, 0);
	}

	uploader->reads_meta =
		gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, &index);
	gst_video_alignment_reset(&uploader->align);
	if (uploader->reads_meta)
		gst_query_parse_nth_allocation_meta(query, index, &layout);
	if (layout && gst_buffer_pool_config_get_video_alignment(layout, &align))
		uploader->align = align;
	/* Who takes DMABuf caps must read the meta; not all say so. */
	uploader->reads_meta |= uploader->dmabuf_only;
	return TRUE;
}

static gboolean gst_zcbuf_upload_propose_allocation(GstBaseTransform *trans,
						    GstQuery *decide_query, GstQuery *query)
{
	const GstStructure *params;
	GType api;

	gst_zcbuf_uploader_propose(&GST_ZCBUF_UPLOAD(trans)->uploader, query);
	for (guint i = 0;
	     decide_query && i < gst_query_get_n_allocation_metas(decide_query); i++) {
		api = gst_query_parse_nth_allocation_meta(decide_query, i, &params);
		if (!gst_query_find_allocation_meta(query, api, NULL))
			gst_query_add_allocation_meta(query, api, params);
	}
	return TRUE;
}

/* ---- frames ---------------------------------------------------------------------------- */

static GstFlowReturn gst_zcbuf_upload_prepare_output_buffer(GstBaseTransform *trans,
							    GstBuffer *in, GstBuffer **out)
{
	GstFlowReturn flow =
		gst_zcbuf_uploader_upload(&GST_ZCBUF_UPLOAD(trans)->uploader, in, out);

	/* The base class holds a reference to @in for both. */
	if (flow == GST_FLOW_OK && *out == in)
		gst_buffer_unref(in);
	return flow;
}

static GstFlowReturn gst_zcbuf_upload_transform(GstBaseTransform *trans, GstBuffer *in,
						GstBuffer *out)
{
	(void)trans;
	(void)in;
	(void)out;
	return GST_FLOW_OK; /* all is done already */
}

static gboolean gst_zcbuf_upload_sink_event(GstBaseTransform *trans, GstEvent *event)
{
	GstZcbufUpload *self = GST_ZCBUF_UPLOAD(trans);

	if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_START)
		gst_zcbuf_uploader_set_flushing(&self->uploader, TRUE);
	else if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP)
		gst_zcbuf_uploader_set_flushing(&self->uploader, FALSE);
	return GST_BASE_TRANSFORM_CLASS(gst_zcbuf_upload_parent_class)
		->sink_event(trans, event);
}

/* ---- life ------------------------------------------------------------------------------ */

static gboolean gst_zcbuf_upload_start(GstBaseTransform *trans)
{
	GstZcbufUpload *self = GST_ZCBUF_UPLOAD(trans);

	gst_zcbuf_uploader_set_flushing(&self->uploader, FALSE);
	return gst_zcbuf_uploader_start(&self->uploader);
}

static gboolean gst_zcbuf_upload_stop(GstBaseTransform *trans)
{
	gst_zcbuf_uploader_stop(&GST_ZCBUF_UPLOAD(trans)->uploader);
	return TRUE;
}

static GstStateChangeReturn gst_zcbuf_upload_change_state(GstElement *element,
							  GstStateChange transition)
{
	/* A thread that waits for a buffer would hold up the pads' deactivation. */
	if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
		gst_zcbuf_uploader_set_flushing(&GST_ZCBUF_UPLOAD(element)->uploader, TRUE);
	return GST_ELEMENT_CLASS(gst_zcbuf_upload_parent_class)
		->change_state(element, transition);
}

static void gst_zcbuf_upload_set_property(GObject *object, guint id, const GValue *value,
					  GParamSpec *pspec)
{
	if (!gst_zcbuf_uploader_set_property(&GST_ZCBUF_UPLOAD(object)->uploader, id,
					     value))
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
}

static void gst_zcbuf_upload_get_property(GObject *object, guint id, GValue *value,
					  GParamSpec *pspec)
{
	if (!gst_zcbuf_uploader_get_property(&GST_ZCBUF_UPLOAD(object)->uploader, id,
					     value))
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
}

static void gst_zcbuf_upload_finalize(GObject *object)
{
	gst_zcbuf_uploader_finalize(&GST_ZCBUF_UPLOAD(object)->uploader);
	G_OBJECT_CLASS(gst_zcbuf_upload_parent_class)->finalize(object);
}

static void gst_zcbuf_upload_class_init(GstZcbufUploadClass *klass)
{
	GObjectClass *object_class = G_OBJECT_CLASS(klass);
	GstElementClass *element_class = GST_ELEMENT_CLASS(klass);
	GstBaseTransformClass *trans_class = GST_BASE_TRANSFORM_CLASS(klass);

	object_class->set_property = gst_zcbuf_upload_set_property;
	object_class->get_property = gst_zcbuf_upload_get_property;
	object_class->finalize = gst_zcbuf_upload_finalize;
	gst_zcbuf_uploader_install_properties(object_class);

	element_class->change_state = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_change_state);
	gst_element_class_add_static_pad_template(element_class, &sink_template);
	gst_element_class_add_static_pad_template(element_class, &src_template);
	gst_element_class_set_static_metadata(
		element_class, "zcbuf uploader", "Filter/Video",
		"Offers upstream a pool of dma-bufs to write frames into; what arrives in "
		"other memory is copied once",
		"zcbuf developers");
	gst_element_class_add_static_metadata(
		element_class, "example",
		"gst-launch-1.0 videotestsrc num-buffers=50 ! video/x-raw,format=NV12 ! "
		"zcbufupload ! \"video/x-raw(memory:DMABuf)\" ! fakesink");

	trans_class->transform_caps = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_transform_caps);
	trans_class->set_caps = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_set_caps);
	trans_class->decide_allocation =
		GST_DEBUG_FUNCPTR(gst_zcbuf_upload_decide_allocation);
	trans_class->propose_allocation =
		GST_DEBUG_FUNCPTR(gst_zcbuf_upload_propose_allocation);
	trans_class->prepare_output_buffer =
		GST_DEBUG_FUNCPTR(gst_zcbuf_upload_prepare_output_buffer);
	trans_class->transform = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_transform);
	trans_class->sink_event = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_sink_event);
	trans_class->start = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_start);
	trans_class->stop = GST_DEBUG_FUNCPTR(gst_zcbuf_upload_stop);
}

static void gst_zcbuf_upload_init(GstZcbufUpload *self)
{
	gst_zcbuf_uploader_init(&self->uploader, GST_ELEMENT_CAST(self));
}
