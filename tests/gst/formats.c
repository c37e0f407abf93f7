/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames of every linear format are the same in our buffers, at odd sizes and with any stride. */
#include "gst-test.h"

/* One frame, and the caps it came with. */
struct frame {
	GstBuffer *buffer;
	GstCaps *caps;
};

static GstPadProbeReturn keep(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	struct frame *frame = data;

	frame->buffer = gst_buffer_ref(GST_PAD_PROBE_INFO_BUFFER(info));
	frame->caps = gst_pad_get_current_caps(pad);
	return GST_PAD_PROBE_REMOVE;
}

static void clear(struct frame *frame)
{
	gst_clear_buffer(&frame->buffer);
	gst_clear_caps(&frame->caps);
}

/*
 * A frame of the test source as it leaves the element x in the middle of a pipeline; @copied
 * gets that element's count, if it is a zcbufupload.
 */
static gboolean make(struct frame *frame, const gchar *format, gint width, gint height,
		     const gchar *middle, guint64 *copied)
{
	GstElement *pipeline = gst_test_pipeline(
		"videotestsrc num-buffers=1 ! videoconvert ! "
		"video/x-raw,format=%s,width=%d,height=%d ! %s ! fakesink",
		format, width, height, middle);
	GstElement *x = gst_bin_get_by_name(GST_BIN(pipeline), "x");
	GstPad *pad = gst_element_get_static_pad(x, "src");

	memset(frame, 0, sizeof(*frame));
	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, keep, frame, NULL);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	gst_test_wait_eos(pipeline);
	if (copied)
		*copied = gst_test_counter(x, "copied-frames");
	gst_object_unref(pad);
	gst_object_unref(x);
	gst_test_stop(pipeline);
	return frame->buffer != NULL;
}

static gboolean same_pixels(const struct frame *a, const struct frame *b)
{
	gchar *x = gst_test_checksum(a->buffer, a->caps);
	gchar *y = gst_test_checksum(b->buffer, b->caps);
	gboolean same = x && g_strcmp0(x, y) == 0;

	g_free(x);
	g_free(y);
	return same;
}

/* Strides are multiples of @align, planes do not overlap, and all is inside the buffer. */
static gboolean good_layout(const struct frame *frame, guint align)
{
	GstVideoMeta *meta = gst_buffer_get_video_meta(frame->buffer);
	GstVideoAlignment wanted;
	GstVideoInfo info;

	if (!meta || !gst_test_video_info(&info, frame->caps))
		return FALSE;
	gst_video_alignment_reset(&wanted);
	for (guint p = 0; p < GST_VIDEO_MAX_PLANES; p++)
		wanted.stride_align[p] = align - 1;
	if (align > 1 && !gst_video_info_align(&info, &wanted))
		return FALSE;
	for (guint p = 0; p < meta->n_planes; p++)
		if (meta->offset[p] != info.offset[p] ||
		    meta->stride[p] != info.stride[p] || meta->stride[p] % (gint)align != 0)
			return FALSE;
	return meta->n_planes == GST_VIDEO_INFO_N_PLANES(&info) &&
	       gst_buffer_get_size(frame->buffer) >= info.size;
}

/* Says what is wrong; 0 if nothing is. */
static gint try(const gchar *format, const struct frame *reference, gint width, gint height,
		const gchar *middle, guint align, guint64 copies)
{
	struct frame frame;
	guint64 copied = 0;
	const gchar *wrong = NULL;

	if (!make(&frame, format, width, height, middle, &copied))
		wrong = "no frame";
	else if (copied != copies)
		wrong = "the number of copies";
	else if (!gst_is_fd_memory(gst_buffer_peek_memory(frame.buffer, 0)))
		wrong = "the memory";
	else if (!good_layout(&frame, align))
		wrong = "the layout";
	else if (!same_pixels(&frame, reference))
		wrong = "the pixels";
	if (wrong)
		diag("%s %dx%d, %s: %s", format, width, height, middle, wrong);
	clear(&frame);
	return wrong != NULL;
}

/* GStreamer 1.26 knows NV15 in one direction only: caps of it mean nothing. */
static gboolean has_drm_format(GstVideoFormat format)
{
	guint32 fourcc = gst_video_dma_drm_fourcc_from_format(format);

	return fourcc != 0 && gst_video_dma_drm_fourcc_to_format(fourcc) == format;
}

static void every_linear_format(void)
{
	static const gint odd[][2] = { { 17, 11 }, { 321, 241 } };
	/* Of odd sizes GStreamer 1.26 leaves the last chroma sample of these unset. */
	static const gint even[][2] = { { 18, 12 }, { 324, 242 } };
	/* GStreamer knows more formats than its headers did, and complains of those beyond. */
	GEnumClass *all = g_type_class_ref(GST_TYPE_VIDEO_FORMAT);
	gint last = all->maximum;
	gint formats = 0, bad_written = 0, bad_copied = 0, bad_drm = 0, drm = 0;

	for (gint f = GST_VIDEO_FORMAT_I420; f <= last; f++) {
		const GstVideoFormatInfo *info = gst_video_format_get_info(f);
		const gchar *name = GST_VIDEO_FORMAT_INFO_NAME(info);
		const gint(*sizes)[2];
		struct frame reference;

		if (f == GST_VIDEO_FORMAT_DMA_DRM || GST_VIDEO_FORMAT_INFO_IS_TILED(info)) {
			diag("%s is left out: %s", name,
			     f == GST_VIDEO_FORMAT_DMA_DRM ? "it is no layout"
							   : "it is tiled");
			continue;
		}
		sizes = f == GST_VIDEO_FORMAT_NV12_10LE32 ||
					f == GST_VIDEO_FORMAT_NV16_10LE32
				? even
				: odd;
		formats++;
		for (guint s = 0; s < G_N_ELEMENTS(odd); s++) {
			gint w = sizes[s][0], h = sizes[s][1];

			if (!make(&reference, name, w, h, "identity name=x", NULL)) {
				ok(FALSE, "%s: the test source has frames of it", name);
				continue;
			}
			bad_written +=
				try(name, &reference, w, h, "zcbufupload name=x", 1, 0);
			bad_copied +=
				try(name, &reference, w, h,
				    "identity drop-allocation=true ! zcbufupload name=x", 1,
				    1);
			if (gst_test_have_dmabuf() && has_drm_format(f)) {
				drm++;
				bad_drm += try(
					name, &reference, w, h,
					"zcbufupload name=x ! video/x-raw(memory:DMABuf)",
					1, 0);
			}
			clear(&reference);
		}
	}
	g_type_class_unref(all);
	ok(formats > 100, "there are %d linear formats", formats);
	ok(bad_written == 0, "frames written into our buffers are right, at odd sizes");
	ok(bad_copied == 0, "so are frames copied into them");
	if (drm == 0)
		skip("no dma-bufs");
	else
		ok(bad_drm == 0, "so are %d of them that leave as DMA_DRM", drm);
}

static void strides_that_are_asked_for(void)
{
	static const gchar *const formats[] = { "NV12", "I420", "P010_10LE", "RGBA",
						"YUY2" };
	static const guint aligns[] = { 16, 64, 256 };
	gint bad_written = 0, bad_copied = 0, bad_drm = 0;
	struct frame reference;
	gchar *middle;

	for (guint f = 0; f < G_N_ELEMENTS(formats); f++) {
		if (!make(&reference, formats[f], 321, 241, "identity name=x", NULL)) {
			ok(FALSE, "%s: the test source has frames of it", formats[f]);
			continue;
		}
		for (guint a = 0; a < G_N_ELEMENTS(aligns); a++) {
			/* The second one reads GstVideoMeta, without which no stride is padded. */
			middle = g_strdup_printf(
				"zcbufupload name=x stride-align=%u ! zcbufupload",
				aligns[a]);
			bad_written +=
				try(formats[f], &reference, 321, 241, middle, aligns[a], 0);
			g_free(middle);
			middle = g_strdup_printf(
				"identity drop-allocation=true ! zcbufupload name=x "
				"stride-align=%u ! zcbufupload",
				aligns[a]);
			bad_copied +=
				try(formats[f], &reference, 321, 241, middle, aligns[a], 1);
			g_free(middle);
			if (!gst_test_have_dmabuf())
				continue;
			middle = g_strdup_printf("zcbufupload name=x stride-align=%u ! "
						 "video/x-raw(memory:DMABuf)",
						 aligns[a]);
			bad_drm +=
				try(formats[f], &reference, 321, 241, middle, aligns[a], 0);
			g_free(middle);
		}
		clear(&reference);
	}
	ok(bad_written == 0, "frames are written at strides that are asked for");
	ok(bad_copied == 0, "and copied to them");
	if (gst_test_have_dmabuf())
		ok(bad_drm == 0, "so they are where they leave as DMA_DRM");
	else
		skip("no dma-bufs");
}

static gboolean is_offered_as_drm(const gchar *format)
{
	GstHarness *h = gst_harness_new("zcbufupload");
	GstPad *src = gst_element_get_static_pad(h->element, "src");
	gboolean offered = FALSE;
	GstCaps *caps;

	caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, format, "width",
				   G_TYPE_INT, 64, "height", G_TYPE_INT, 32, "framerate",
				   GST_TYPE_FRACTION, 30, 1, NULL);
	gst_harness_set_src_caps(h, caps);
	caps = gst_pad_query_caps(src, NULL);
	for (guint i = 0; i < gst_caps_get_size(caps); i++)
		offered |= g_strcmp0(gst_structure_get_string(
					     gst_caps_get_structure(caps, i), "format"),
				     "DMA_DRM") == 0;
	gst_caps_unref(caps);
	gst_object_unref(src);
	gst_harness_teardown(h);
	return offered;
}

static void what_is_offered_can_be_had(void)
{
	const GstVideoFormat *formats;
	guint n, bad = 0;

	formats = gst_video_formats_raw(&n);
	for (guint i = 0; i < n; i++) {
		const gchar *name = gst_video_format_to_string(formats[i]);

		if (is_offered_as_drm(name) == has_drm_format(formats[i]))
			continue;
		diag("%s", name);
		bad++;
	}
	ok(bad == 0, "DMA_DRM is offered exactly for formats that have a name there");
}

int main(void)
{
	gst_test_begin();
	every_linear_format();
	strides_that_are_asked_for();
	what_is_offered_can_be_had();
	return gst_test_end();
}
