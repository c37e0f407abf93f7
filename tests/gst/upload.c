/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zcbufupload: what passes, what is copied, and what it says of that. */
#include "gst-test.h"

#define CAPS "video/x-raw,format=NV12,width=322,height=242,framerate=30/1"

static gint warnings_of_copies;

static GstBusSyncReply count_warnings(GstBus *bus, GstMessage *message, gpointer data)
{
	GError *error;

	(void)bus;
	(void)data;
	if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING) {
		gst_message_parse_warning(message, &error, NULL);
		if (strstr(error->message, "copied"))
			g_atomic_int_inc(&warnings_of_copies);
		g_error_free(error);
	}
	return GST_BUS_PASS;
}

static void run_to_the_end(GstElement *pipeline, const gchar *name, guint64 *zero_copy,
			   guint64 *copied)
{
	GstElement *upload = gst_bin_get_by_name(GST_BIN(pipeline), name);
	GstBus *bus = gst_element_get_bus(pipeline);

	warnings_of_copies = 0;
	gst_bus_set_sync_handler(bus, count_warnings, NULL, NULL);
	gst_object_unref(bus);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	ok(gst_test_wait_eos(pipeline), "the stream comes to its end");
	*zero_copy = gst_test_counter(upload, "zero-copy-frames");
	*copied = gst_test_counter(upload, "copied-frames");
	gst_object_unref(upload);
}

static void upstream_writes_into_our_buffers(void)
{
	GstElement *pipeline =
		gst_test_pipeline("videotestsrc num-buffers=20 ! " CAPS
				  " ! queue ! zcbufupload name=u ! queue ! fakesink");
	guint64 zero_copy, copied;

	run_to_the_end(pipeline, "u", &zero_copy, &copied);
	ok(zero_copy == 20 && copied == 0,
	   "videotestsrc writes 20 frames into our buffers");
	ok(warnings_of_copies == 0, "nothing is said of copies");
	gst_test_stop(pipeline);
}

static void a_converter_writes_into_our_buffers(void)
{
	GstElement *pipeline = gst_test_pipeline(
		"videotestsrc num-buffers=20 ! video/x-raw,format=BGRx ! videoconvert "
		"! " CAPS " ! zcbufupload name=u ! fakesink");
	guint64 zero_copy, copied;

	run_to_the_end(pipeline, "u", &zero_copy, &copied);
	ok(zero_copy == 20 && copied == 0, "so does videoconvert");
	gst_test_stop(pipeline);
}

static void other_memory_is_copied_once_and_said(void)
{
	GstElement *pipeline =
		gst_test_pipeline("videotestsrc num-buffers=20 ! " CAPS
				  " ! identity drop-allocation=true ! zcbufupload name=u "
				  "! zcbufupload name=v ! fakesink");
	GstElement *v = gst_bin_get_by_name(GST_BIN(pipeline), "v");
	guint64 zero_copy, copied;

	run_to_the_end(pipeline, "u", &zero_copy, &copied);
	ok(zero_copy == 0 && copied == 20, "frames in other memory are copied");
	ok(gst_test_counter(v, "zero-copy-frames") == 20,
	   "and are not copied again further on");
	ok(warnings_of_copies == 1, "one warning says so");
	gst_object_unref(v);
	gst_test_stop(pipeline);
}

/* Pushes a frame of system memory with a pattern and reads it back on the other side. */
static void a_copy_is_the_same_frame(void)
{
	GstHarness *h = gst_harness_new("zcbufupload");
	GstBuffer *in, *out;
	GstVideoFrame from, to;
	GstVideoInfo info;
	GstCaps *caps, *reference;
	gboolean same = TRUE;

	gst_harness_set_src_caps_str(h, CAPS);
	caps = gst_pad_get_current_caps(h->srcpad);
	gst_video_info_from_caps(&info, caps);
	gst_caps_unref(caps);
	in = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
	for (gsize i = 0; i < GST_VIDEO_INFO_SIZE(&info); i++) {
		guint8 byte = (guint8)(i * 7 + i / 251);

		gst_buffer_fill(in, i, &byte, 1);
	}
	GST_BUFFER_PTS(in) = 5 * GST_SECOND;
	GST_BUFFER_DURATION(in) = GST_MSECOND;
	GST_BUFFER_OFFSET(in) = 17;
	GST_BUFFER_FLAG_SET(in, GST_VIDEO_BUFFER_FLAG_TFF | GST_BUFFER_FLAG_DISCONT);
	reference = gst_caps_new_empty_simple("timestamp/x-test");
	gst_buffer_add_reference_timestamp_meta(in, reference, 42, 1);
	gst_caps_unref(reference);
	out = gst_harness_push_and_pull(h, gst_buffer_ref(in));

	ok(out && out != in && gst_is_fd_memory(gst_buffer_peek_memory(out, 0)),
	   "a copy is in shareable memory");
	gst_video_frame_map(&from, &info, in, GST_MAP_READ);
	gst_video_frame_map(&to, &info, out, GST_MAP_READ);
	for (guint p = 0; p < 2; p++)
		for (gint row = 0; row < GST_VIDEO_FRAME_COMP_HEIGHT(&from, p); row++)
			same &= memcmp((guint8 *)from.data[p] + row * from.info.stride[p],
				       (guint8 *)to.data[p] + row * to.info.stride[p],
				       322) == 0;
	gst_video_frame_unmap(&to);
	gst_video_frame_unmap(&from);
	ok(same, "every pixel is the same");
	ok(GST_BUFFER_PTS(out) == 5 * GST_SECOND &&
		   GST_BUFFER_DURATION(out) == GST_MSECOND &&
		   GST_BUFFER_OFFSET(out) == 17 &&
		   GST_BUFFER_FLAG_IS_SET(out, GST_VIDEO_BUFFER_FLAG_TFF) &&
		   gst_buffer_get_reference_timestamp_meta(out, NULL),
	   "times, flags and metas are kept");
	gst_buffer_unref(in);
	gst_buffer_unref(out);
	gst_harness_teardown(h);
}

static void a_damaged_frame_is_an_error(void)
{
	GstHarness *h = gst_harness_new("zcbufupload");

	gst_harness_set_src_caps_str(h, CAPS);
	ok(gst_harness_push(h, gst_buffer_new_allocate(NULL, 100, NULL)) == GST_FLOW_ERROR,
	   "a frame that is too small for its caps is an error");
	gst_harness_teardown(h);
}

static void a_question_changes_nothing(void)
{
	GstHarness *h = gst_harness_new_parse("zcbufupload heap=memfd");
	GstCaps *caps = gst_caps_from_string("video/x-raw(memory:DMABuf),format=DMA_DRM,"
					     "drm-format=NV12,width=322,height=242,"
					     "framerate=30/1");
	GstQuery *query = gst_query_new_allocation(caps, TRUE);
	GstVideoInfo info;

	gst_harness_set_src_caps_str(h, CAPS);
	gst_pad_peer_query(h->srcpad, query);
	ok(gst_query_get_n_allocation_pools(query) == 0,
	   "for caps that cannot be kept, no pool is proposed");
	gst_video_info_set_format(&info, GST_VIDEO_FORMAT_NV12, 322, 242);
	ok(gst_harness_push(h, gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info),
						       NULL)) == GST_FLOW_OK,
	   "the stream goes on");
	gst_query_unref(query);
	gst_caps_unref(caps);
	gst_harness_teardown(h);
}

static void strides_are_undone_for_who_ignores_them(void)
{
	GstElement *pipeline = gst_test_pipeline(
		"videotestsrc num-buffers=3 ! " CAPS
		" ! zcbufupload name=a stride-align=256 ! identity name=i ! zcbufupload "
		"name=b "
		"! identity drop-allocation=true ! fakesink name=s signal-handoffs=true");
	GstElement *a = gst_bin_get_by_name(GST_BIN(pipeline), "a");
	guint64 zero_copy, copied;

	run_to_the_end(pipeline, "b", &zero_copy, &copied);
	/* a sees that b reads VideoMeta; b sees that nobody behind it does. */
	ok(gst_test_counter(a, "zero-copy-frames") == 3 && copied == 3,
	   "frames with padded strides are copied for elements that ignore GstVideoMeta");
	gst_object_unref(a);
	gst_test_stop(pipeline);
}

static void caps_tell_the_truth(void)
{
	GstElement *pipeline = gst_test_pipeline(
		"videotestsrc num-buffers=3 ! " CAPS
		" ! zcbufupload ! video/x-raw(memory:DMABuf) ! fakesink name=s");
	GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "s");
	GstMessage *message;
	GstPad *pad;
	GstCaps *caps;

	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	message = gst_test_wait(pipeline, GST_MESSAGE_EOS | GST_MESSAGE_ERROR, 60);
	if (gst_test_have_dmabuf()) {
		GstStructure *structure;

		pad = gst_element_get_static_pad(sink, "sink");
		caps = gst_pad_get_current_caps(pad);
		structure = gst_caps_get_structure(caps, 0);
		ok(GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS,
		   "frames leave under DMABuf caps where there are dma-bufs");
		ok(g_strcmp0(gst_structure_get_string(structure, "format"), "DMA_DRM") ==
				   0 &&
			   g_strcmp0(gst_structure_get_string(structure, "drm-format"),
				     "NV12") == 0,
		   "linear NV12 is NV12 without a modifier");
		gst_caps_unref(caps);
		gst_object_unref(pad);
	} else {
		ok(GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR,
		   "DMABuf caps are refused where there are no dma-bufs");
	}
	gst_message_unref(message);
	gst_object_unref(sink);
	gst_test_stop(pipeline);
}

/* Behind zcbufupload is a queue that keeps all that it gets. */
static void a_full_pool_waits_and_can_be_stopped(const gchar *before, const gchar *counter)
{
	GstElement *pipeline = gst_test_pipeline(
		"videotestsrc ! " CAPS " ! %s ! zcbufupload name=u max-buffers=4 ! queue "
		"max-size-buffers=100 ! fakesink sync=true ts-offset=3600000000000",
		before);
	GstElement *upload = gst_bin_get_by_name(GST_BIN(pipeline), "u");
	guint64 frames;
	gint64 start;

	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	gst_test_until(gst_test_counter(upload, counter) >= 4);
	g_usleep(300 * 1000);
	frames = gst_test_counter(upload, counter);
	ok(frames == 4, "when all 4 buffers are in use, frames wait (%s)", counter);
	gst_object_unref(upload);
	start = g_get_monotonic_time();
	gst_test_stop(pipeline);
	ok(g_get_monotonic_time() - start < 2 * G_TIME_SPAN_SECOND,
	   "a pipeline that waits so stops at once");
}

/* ---- events and queries ------------------------------------------------------------------ */

static GstBuffer *new_frame(guint height)
{
	GstBuffer *frame = gst_buffer_new_allocate(NULL, (gsize)64 * height, NULL);

	gst_buffer_memset(frame, 0, 0x5a, -1);
	return frame;
}

static GstHarness *gray_harness(void)
{
	GstHarness *h = gst_harness_new("zcbufupload");

	gst_harness_set_src_caps_str(
		h, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1");
	return h;
}

static gboolean passes(GstHarness *h, GstEvent *event)
{
	GstEventType type = GST_EVENT_TYPE(event);
	gboolean found = FALSE;
	GstEvent *out;

	/* what the harness itself sent when it began is not the event that is asked about */
	while ((out = gst_harness_try_pull_event(h)))
		gst_event_unref(out);
	if (!gst_harness_push_event(h, event))
		return FALSE;
	while (!found && (out = gst_harness_try_pull_event(h))) {
		found = GST_EVENT_TYPE(out) == type;
		gst_event_unref(out);
	}
	return found;
}

static void events_pass(void)
{
	GstHarness *h = gray_harness();
	GstSegment segment;
	GstBuffer *out;
	GstEvent *event;

	gst_segment_init(&segment, GST_FORMAT_TIME);
	segment.start = 3 * GST_SECOND;
	ok(passes(h, gst_event_new_segment(&segment)), "a segment passes");
	ok(passes(h, gst_event_new_gap(3 * GST_SECOND, GST_SECOND)), "a gap passes");
	gst_harness_push_upstream_event(h, gst_event_new_seek(1.0, GST_FORMAT_TIME, 0,
							      GST_SEEK_TYPE_SET, 0,
							      GST_SEEK_TYPE_NONE, 0));
	do {
		event = gst_harness_try_pull_upstream_event(h);
		if (!event || GST_EVENT_TYPE(event) == GST_EVENT_SEEK)
			break;
		gst_event_unref(event);
	} while (TRUE);
	ok(event, "a seek passes on to who can do it");
	if (event)
		gst_event_unref(event);
	ok(passes(h, gst_event_new_flush_start()) &&
		   gst_harness_push(h, new_frame(16)) == GST_FLOW_FLUSHING,
	   "a flush passes, and frames are refused meanwhile");
	gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
	gst_harness_push_event(h, gst_event_new_segment(&segment));
	out = gst_harness_push_and_pull(h, new_frame(16));
	ok(out, "after the flush there are frames again");
	gst_buffer_unref(out);
	ok(passes(h, gst_event_new_eos()), "the end of the stream passes");
	gst_harness_teardown(h);
}

static void caps_may_change(void)
{
	GstHarness *h = gray_harness();
	GstBuffer *out = gst_harness_push_and_pull(h, new_frame(16));
	GstVideoMeta *meta;

	gst_clear_buffer(&out);
	gst_harness_set_src_caps_str(
		h, "video/x-raw,format=GRAY8,width=64,height=64,framerate=5/1");
	out = gst_harness_push_and_pull(h, new_frame(64));
	meta = out ? gst_buffer_get_video_meta(out) : NULL;
	ok(meta && meta->height == 64 && gst_buffer_memcmp(out, 64 * 63, "\x5a", 1) == 0,
	   "frames after a change of caps have the new size");
	gst_clear_buffer(&out);
	gst_harness_teardown(h);
}

static void latency_is_upstreams(void)
{
	GstHarness *h = gray_harness();

	gst_harness_set_upstream_latency(h, 7 * GST_MSECOND);
	ok(gst_harness_query_latency(h) == 7 * GST_MSECOND,
	   "latency is upstream's, and none is added");
	gst_harness_teardown(h);
}

static void it_can_be_stopped_and_started(void)
{
	GstElement *pipeline =
		gst_test_pipeline("videotestsrc num-buffers=3 ! " CAPS
				  " ! zcbufupload name=u ! fakesink sync=false");
	GstElement *upload = gst_bin_get_by_name(GST_BIN(pipeline), "u");
	guint good = 0;

	for (guint turn = 0; turn < 3; turn++) {
		gst_element_set_state(pipeline, GST_STATE_PLAYING);
		good += gst_test_wait_eos(pipeline) &&
			gst_test_counter(upload, "zero-copy-frames") == 3;
		gst_element_set_state(pipeline,
				      turn == 0 ? GST_STATE_READY : GST_STATE_NULL);
	}
	ok(good == 3, "it can be stopped and started, and counts anew each time");
	gst_object_unref(upload);
	gst_test_stop(pipeline);
}

static void heap_is_an_error(const gchar *heap, const gchar *caps, const gchar *what)
{
	GstElement *pipeline = gst_test_pipeline("videotestsrc ! " CAPS
						 " ! zcbufupload heap=%s ! %s ! fakesink",
						 heap, caps);
	GstMessage *message;
	GError *error;

	gst_element_set_state(pipeline, GST_STATE_PAUSED);
	message = gst_test_wait(pipeline, GST_MESSAGE_ERROR, 10);
	if (ok(message, "%s is an error", what)) {
		gst_message_parse_error(message, &error, NULL);
		ok(strstr(error->message, heap), "its message names the heap: %s",
		   error->message);
		g_error_free(error);
		gst_message_unref(message);
	}
	gst_test_stop(pipeline);
}

int main(void)
{
	gst_test_begin();
	upstream_writes_into_our_buffers();
	a_converter_writes_into_our_buffers();
	other_memory_is_copied_once_and_said();
	a_copy_is_the_same_frame();
	a_damaged_frame_is_an_error();
	a_question_changes_nothing();
	strides_are_undone_for_who_ignores_them();
	caps_tell_the_truth();
	a_full_pool_waits_and_can_be_stopped("identity", "zero-copy-frames");
	a_full_pool_waits_and_can_be_stopped("identity drop-allocation=true",
					     "copied-frames");
	events_pass();
	caps_may_change();
	latency_is_upstreams();
	it_can_be_stopped_and_started();
	heap_is_an_error("no-such-heap", "video/x-raw", "a heap that does not exist");
	heap_is_an_error("memfd", "video/x-raw(memory:DMABuf)",
			 "a heap without dma-bufs under DMABuf caps");
	return gst_test_end();
}
