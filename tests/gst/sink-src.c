/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zcbufsink and zcbufsrc in one process: what crosses a channel, and what becomes of it. */
#include "gst-test.h"

#include <gstzcbufframe.h>
#include <libzcbuf.h>
#include <poll.h>

#include "vgem.h"

#define CAPS "video/x-raw,format=I420,width=318,height=238,framerate=30/1"

/* ---- two pipelines ------------------------------------------------------------------------ */

/* What a pad saw of a stream, by offset of the frames (modulo, for it need not begin at 0). */
#define MAX_FRAMES 256

struct seen {
	GMutex lock;
	guint n_frames;
	gchar *checksum[MAX_FRAMES];
	GstClockTimeDiff running_time[MAX_FRAMES];
	GstClockTime stream_time[MAX_FRAMES];
	GHashTable *memories;
	gboolean writable;
	GstSegment segment;
};

static void see_frame(struct seen *seen, GstBuffer *buffer)
{
	guint64 n = GST_BUFFER_OFFSET(buffer) % MAX_FRAMES;
	GstClockTime running_time;
	GstMapInfo map;
	int sign;

	seen->n_frames++;
	gst_buffer_map(buffer, &map, GST_MAP_READ);
	g_free(seen->checksum[n]);
	seen->checksum[n] =
		g_compute_checksum_for_data(G_CHECKSUM_SHA1, map.data, map.size);
	gst_buffer_unmap(buffer, &map);
	sign = gst_segment_to_running_time_full(&seen->segment, GST_FORMAT_TIME,
						GST_BUFFER_PTS(buffer), &running_time);
	seen->running_time[n] = sign * (GstClockTimeDiff)running_time;
	seen->stream_time[n] = gst_segment_to_stream_time(&seen->segment, GST_FORMAT_TIME,
							  GST_BUFFER_PTS(buffer));
	for (guint i = 0; i < gst_buffer_n_memory(buffer); i++) {
		GstMemory *mem = gst_buffer_peek_memory(buffer, i);

		g_hash_table_add(seen->memories, mem);
		seen->writable |= !GST_MEMORY_IS_READONLY(mem);
	}
}

static GstPadProbeReturn see(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
	struct seen *seen = data;

	(void)pad;
	g_mutex_lock(&seen->lock);
	if (info->type & GST_PAD_PROBE_TYPE_BUFFER)
		see_frame(seen, GST_PAD_PROBE_INFO_BUFFER(info));
	else if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_SEGMENT)
		gst_event_copy_segment(GST_PAD_PROBE_INFO_EVENT(info), &seen->segment);
	g_mutex_unlock(&seen->lock);
	return GST_PAD_PROBE_OK;
}

static struct seen *watch(GstElement *pipeline, const gchar *name, const gchar *pad_name)
{
	GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), name);
	GstPad *pad = gst_element_get_static_pad(element, pad_name);
	struct seen *seen = g_new0(struct seen, 1);

	g_mutex_init(&seen->lock);
	seen->memories = g_hash_table_new(NULL, NULL);
	gst_pad_add_probe(pad,
			  GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
			  see, seen, NULL);
	gst_object_unref(pad);
	gst_object_unref(element);
	return seen;
}

static void unwatch(struct seen *seen)
{
	for (int i = 0; i < MAX_FRAMES; i++)
		g_free(seen->checksum[i]);
	g_hash_table_unref(seen->memories);
	g_mutex_clear(&seen->lock);
	g_free(seen);
}

static void a_stream_arrives_as_it_was_sent(void)
{
	gchar *address = gst_test_address();
	GstElement *producer =
		gst_test_pipeline("videotestsrc num-buffers=100 pattern=ball ! " CAPS
				  " ! zcbufsink name=sink socket-path=%s "
				  "wait-for-connection=true max-wait=-1",
				  address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	struct seen *sent = watch(producer, "sink", "sink");
	GstElement *consumer, *src;
	struct seen *received;
	guint same = 0, on_time = 0, in_place = 0;
	GstClockTimeDiff later;

	/* It begins in the middle of its stream, and in double speed. */
	gst_element_set_state(producer, GST_STATE_PAUSED);
	gst_element_get_state(producer, NULL, NULL, 10 * GST_SECOND);
	gst_element_seek(producer, 2.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
			 GST_SEEK_TYPE_SET, 10 * GST_SECOND, GST_SEEK_TYPE_NONE, 0);
	gst_element_get_state(producer, NULL, NULL, 10 * GST_SECOND);
	g_clear_pointer(&sent->checksum[0], g_free); /* from before the seek */
	gst_element_set_state(producer, GST_STATE_PLAYING);
	g_usleep(100 * 1000); /* the clocks' base times differ by this */

	consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s ! fakesink sync=true", address);
	src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	received = watch(consumer, "src", "src");
	gst_element_set_state(consumer, GST_STATE_PLAYING);

	ok(gst_test_wait_eos(producer), "the producer comes to its end");
	ok(gst_test_wait_eos(consumer), "the end of the stream reaches the consumer");
	later = (GstClockTimeDiff)(gst_element_get_base_time(consumer) -
				   gst_element_get_base_time(producer));
	for (int i = 0; i < MAX_FRAMES; i++) {
		if (!received->checksum[i])
			continue;
		same += g_strcmp0(sent->checksum[i], received->checksum[i]) == 0;
		on_time += sent->running_time[i] - received->running_time[i] == later;
		in_place += sent->stream_time[i] - received->stream_time[i] + 1 <= 2;
	}
	ok(received->n_frames > 30 && received->n_frames == gst_test_stat(src, "frames"),
	   "frames arrive");
	ok(same == received->n_frames, "every byte is the same");
	ok(later > (GstClockTimeDiff)(50 * GST_MSECOND) && on_time == received->n_frames,
	   "every frame has the same time on the clock, though one pipeline began later");
	ok(in_place == received->n_frames, "and the same place in the stream");
	diag("%u frames, %u memories, %u file descriptors", received->n_frames,
	     g_hash_table_size(received->memories), (guint)gst_test_stat(src, "buffers"));
	ok(g_hash_table_size(received->memories) == gst_test_stat(src, "buffers"),
	   "a buffer has one GstMemory for the whole stream");
	ok(gst_test_stat(src, "buffers") == gst_test_stat(sink, "buffers"),
	   "and its file descriptor crosses once");
	ok(!received->writable, "which nobody may write to");
	ok(gst_test_counter(sink, "copied-frames") == 0, "no frame is copied");

	gst_test_stop(consumer);
	ok(gst_test_until(gst_test_stat(sink, "busy-buffers") == 0 &&
			  gst_test_stat(sink, "released") == gst_test_stat(sink, "frames")),
	   "all buffers are back in the pool when the consumer has gone");
	gst_test_stop(producer);
	gst_object_unref(src);
	gst_object_unref(sink);
	unwatch(sent);
	unwatch(received);
	g_free(address);
}

static void a_slow_consumer_loses_frames_and_delays_nobody(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc is-live=true num-buffers=60 ! " CAPS
		" ! zcbufsink name=sink socket-path=%s wait-for-connection=true",
		address);
	GstElement *slow = gst_test_pipeline("zcbufsrc name=src socket-path=%s "
					     "max-frames=2 ! identity sleep-time=200000 ! "
					     "fakesink sync=false",
					     address);
	GstElement *fast = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s ! fakesink sync=false", address);
	GstElement *slow_src = gst_bin_get_by_name(GST_BIN(slow), "src");
	GstElement *fast_src = gst_bin_get_by_name(GST_BIN(fast), "src");
	guint consumers;
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");

	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_set_state(slow, GST_STATE_PLAYING);
	gst_element_set_state(fast, GST_STATE_PLAYING);
	ok(gst_test_until(
		   (g_object_get(sink, "num-consumers", &consumers, NULL), consumers == 2)),
	   "num-consumers counts them");
	ok(gst_test_wait_eos(producer) && gst_test_wait_eos(fast) &&
		   gst_test_wait_eos(slow),
	   "all come to their end");
	ok(gst_test_stat(fast_src, "frames") + 10 >= 60, "a fast consumer gets all frames");
	ok(gst_test_stat(slow_src, "lost") > 10, "a slow one loses frames");
	diag("fast %u, slow %u + %u lost", (guint)gst_test_stat(fast_src, "frames"),
	     (guint)gst_test_stat(slow_src, "frames"),
	     (guint)gst_test_stat(slow_src, "lost"));
	gst_test_stop(slow);
	gst_test_stop(fast);
	gst_test_stop(producer);
	gst_object_unref(sink);
	gst_object_unref(slow_src);
	gst_object_unref(fast_src);
	g_free(address);
}

static void a_pause_interrupts_nothing(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc ! " CAPS " ! identity drop-allocation=true ! "
		"zcbufsink name=sink max-buffers=2 socket-path=%s sync=false",
		address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc socket-path=%s reconnect=true ! queue ! fakesink sync=true "
		"ts-offset=3600000000000",
		address);
	GstElement *sink = gst_bin_get_by_name(GST_BIN(producer), "sink");
	guint64 frames;

	gst_element_set_state(consumer, GST_STATE_PLAYING);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	/* The consumer has all buffers, and the sink waits for one. */
	ok(gst_test_until(gst_test_stat(sink, "busy-buffers") == 4),
	   "a sink waits for a buffer");
	gst_element_set_state(producer, GST_STATE_PAUSED);
	ok(gst_element_get_state(producer, NULL, NULL, 3 * GST_SECOND) ==
		   GST_STATE_CHANGE_SUCCESS,
	   "it can be paused meanwhile");
	gst_element_set_state(producer, GST_STATE_PLAYING);
	frames = gst_test_stat(sink, "frames");
	gst_test_stop(consumer);
	ok(gst_test_until(gst_test_stat(sink, "frames") > frames + 20),
	   "and goes on when it has one");
	gst_object_unref(sink);
	gst_test_stop(producer);
	g_free(address);
}

static void the_last_frame_is_not_lost(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc num-buffers=10 ! " CAPS
		" ! zcbufsink socket-path=%s wait-for-connection=true sync=false",
		address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true max-frames=2 ! "
		"identity sleep-time=300000 ! fakesink sync=false",
		address);
	struct seen *received = watch(consumer, "src", "src");

	gst_element_set_state(consumer, GST_STATE_PLAYING);
	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_test_wait_eos(producer);
	gst_test_stop(producer);
	ok(gst_test_wait_eos(consumer) && received->checksum[9],
	   "a producer that ends waits until a slow consumer has its last frame");
	gst_test_stop(consumer);
	unwatch(received);
	g_free(address);
}

static void a_producer_may_come_back(void)
{
	gchar *address = gst_test_address();
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! fakesink sync=false",
		address);
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	GstElement *producer;
	GstMessage *message;
	guint64 before;

	gst_element_set_state(consumer, GST_STATE_PLAYING);
	g_usleep(100 * 1000);
	for (guint turn = 1; turn <= 2; turn++) {
		before = gst_test_stat(src, "frames");
		producer = gst_test_pipeline("videotestsrc is-live=true ! " CAPS
					     " ! zcbufsink socket-path=%s",
					     address);
		gst_element_set_state(producer, GST_STATE_PLAYING);
		ok(gst_test_until(gst_test_stat(src, "frames") >= before + 5),
		   turn == 1 ? "with reconnect, a consumer waits for its producer"
			     : "and for the next one");
		/* it stops without an end of stream */
		gst_test_stop(producer);
	}
	message = gst_test_wait(consumer, GST_MESSAGE_ERROR, 0);
	ok(!message && gst_test_stat(src, "connections") == 2, "no error is reported");
	gst_test_stop(consumer);
	gst_object_unref(src);
	g_free(address);
}

static void a_lost_producer_is_an_error(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc is-live=true ! " CAPS " ! zcbufsink socket-path=%s", address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s ! fakesink sync=false", address);
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	GstMessage *message;

	gst_element_set_state(producer, GST_STATE_PLAYING);
	gst_element_get_state(producer, NULL, NULL, 10 * GST_SECOND);
	gst_element_set_state(consumer, GST_STATE_PLAYING);
	gst_test_until(gst_test_stat(src, "frames") > 0);
	gst_test_stop(producer);
	message = gst_test_wait(consumer, GST_MESSAGE_ERROR, 10);
	ok(message, "without reconnect, a producer that goes is an error");
	if (message)
		gst_message_unref(message);
	gst_test_stop(consumer);
	gst_object_unref(src);

	consumer = gst_test_pipeline("zcbufsrc socket-path=%s ! fakesink", address);
	ok(gst_element_set_state(consumer, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE,
	   "so is one that is not there");
	gst_test_stop(consumer);
	g_free(address);
}

static gboolean stops_at_once(GstElement *pipeline)
{
	gint64 start;

	gst_element_set_state(pipeline, GST_STATE_PLAYING);
	g_usleep(300 * 1000);
	start = g_get_monotonic_time();
	gst_test_stop(pipeline);
	return g_get_monotonic_time() - start < G_TIME_SPAN_SECOND;
}

static void waiting_elements_stop_at_once(void)
{
	gchar *address = gst_test_address();
	GstElement *producer;

	ok(stops_at_once(gst_test_pipeline(
		   "zcbufsrc socket-path=%s reconnect=true ! fakesink", address)),
	   "a source that waits for a producer stops at once");
	ok(stops_at_once(gst_test_pipeline("videotestsrc ! " CAPS
					   " ! zcbufsink socket-path=%s "
					   "wait-for-connection=true",
					   address)),
	   "a sink that waits for a consumer stops at once");
	producer = gst_test_pipeline("videotestsrc num-buffers=1 ! " CAPS
				     " ! identity ! zcbufsink socket-path=%s",
				     address);
	gst_element_set_state(producer, GST_STATE_PAUSED);
	gst_element_get_state(producer, NULL, NULL, 10 * GST_SECOND);
	ok(stops_at_once(gst_test_pipeline("zcbufsrc socket-path=%s ! fakesink", address)),
	   "a source that waits for a frame stops at once");
	gst_test_stop(producer);
	g_free(address);
}

/* ---- single frames ------------------------------------------------------------------------ */

struct link {
	gchar *address;
	GstHarness *sink, *src;
	GstElement *sink_element, *src_element;
};

static void open_source(struct link *link)
{
	gchar *line = g_strdup_printf("zcbufsrc socket-path=%s", link->address);

	link->src = gst_harness_new_parse(line);
	link->src_element = gst_harness_find_element(link->src, "zcbufsrc");
	gst_harness_play(link->src);
	gst_test_until(gst_test_stat(link->src_element, "connections") == 1);
	g_free(line);
}

static void close_source(struct link *link)
{
	gst_object_unref(link->src_element);
	gst_harness_teardown(link->src);
}

static void link_up(struct link *link, const gchar *caps, const gchar *properties)
{
	gchar *line;

	link->address = gst_test_address();
	line = g_strdup_printf("zcbufsink sync=false socket-path=%s %s", link->address,
			       properties);
	link->sink = gst_harness_new_parse(line);
	link->sink_element = gst_harness_find_element(link->sink, "zcbufsink");
	gst_harness_set_src_caps_str(link->sink, caps);
	g_free(line);
	open_source(link);
}

static void link_down(struct link *link)
{
	close_source(link);
	gst_object_unref(link->sink_element);
	gst_harness_teardown(link->sink);
	g_free(link->address);
}

static GstBuffer *new_frame(gsize size, guint8 value)
{
	GstBuffer *buffer = gst_buffer_new_allocate(NULL, size, NULL);

	gst_buffer_memset(buffer, 0, value, size);
	GST_BUFFER_PTS(buffer) = value * GST_SECOND;
	return buffer;
}

static gboolean is_frame(GstBuffer *buffer, gsize size, guint8 value)
{
	GstMapInfo map;
	gboolean is = buffer && gst_buffer_map(buffer, &map, GST_MAP_READ);

	if (!is)
		return FALSE;
	is = map.size == size;
	for (gsize i = 0; is && i < map.size; i++)
		is = map.data[i] == value;
	gst_buffer_unmap(buffer, &map);
	return is;
}

/* Push one and pull one. */
static GstBuffer *cross(struct link *link, GstBuffer *in)
{
	if (gst_harness_push(link->sink, in) != GST_FLOW_OK)
		return NULL;
	return gst_harness_pull(link->src);
}

static void caps_may_change(void)
{
	struct link link;
	GstBuffer *out;
	GstCaps *caps, *expected = gst_caps_from_string(
			       "video/x-raw,format=GRAY8,width=32,height=32,framerate=5/1");

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	out = cross(&link, new_frame(1024, 1));
	ok(is_frame(out, 1024, 1), "a frame crosses");
	gst_clear_buffer(&out);
	gst_harness_set_src_caps(link.sink, gst_caps_ref(expected));
	out = cross(&link, new_frame(1024, 2));
	ok(is_frame(out, 1024, 2), "so does one after a change of caps");
	caps = gst_pad_get_current_caps(link.src->sinkpad);
	ok(gst_caps_is_subset(caps, expected), "and the consumer has the new caps");
	gst_caps_unref(caps);
	gst_clear_buffer(&out);
	gst_caps_unref(expected);
	link_down(&link);
}

static void anything_can_be_sent(void)
{
	static const gsize sizes[] = { 1, 5000, 100, 100000, 0, 4096 };
	struct link link;
	guint good = 0;

	link_up(&link, "application/x-test", "");
	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		GstBuffer *out = cross(&link, new_frame(sizes[i], (guint8)(i + 1)));

		good += sizes[i] ? is_frame(out, sizes[i], (guint8)(i + 1))
				 : out && gst_buffer_get_size(out) == 0;
		gst_clear_buffer(&out);
	}
	ok(good == G_N_ELEMENTS(sizes), "bytes of any size can be sent");
	link_down(&link);
}

static void what_others_cannot_use_is_refused(void)
{
	gchar *address = gst_test_address();
	gchar *line = g_strdup_printf("zcbufsink sync=false socket-path=%s", address);
	GstHarness *h = gst_harness_new_parse(line);

	gst_harness_set_src_caps_str(
		h,
		"video/x-raw(memory:GLMemory),format=RGBA,width=4,height=4,framerate=5/1");
	ok(gst_harness_push(h, new_frame(64, 1)) == GST_FLOW_NOT_NEGOTIATED,
	   "memory that means nothing to another process is refused");
	gst_harness_teardown(h);
	g_free(line);
	g_free(address);
}

static void metas_and_flags_cross(void)
{
	gsize offset[GST_VIDEO_MAX_PLANES] = { 64 };
	gint stride[GST_VIDEO_MAX_PLANES] = { 128 };
	GstReferenceTimestampMeta *timestamp;
	struct link link;
	GstVideoMeta *meta;
	GstBuffer *in, *out, *copy;
	GstCaps *caps;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	/* once through, to have a buffer of the sink's own kind of memory */
	copy = cross(&link, new_frame(1024, 9));
	gst_clear_buffer(&copy);

	in = new_frame(64 + 128 * 16, 3);
	gst_buffer_add_video_meta_full(in, GST_VIDEO_FRAME_FLAG_NONE,
				       GST_VIDEO_FORMAT_GRAY8, 64, 16, 1, offset, stride);
	caps = gst_caps_new_empty_simple("timestamp/x-test");
	gst_buffer_add_reference_timestamp_meta(in, caps, 12345, 678);
	GST_BUFFER_DURATION(in) = 7;
	GST_BUFFER_OFFSET(in) = 8;
	GST_BUFFER_OFFSET_END(in) = 9;
	GST_BUFFER_FLAG_SET(in,
			    GST_BUFFER_FLAG_CORRUPTED | GST_VIDEO_BUFFER_FLAG_INTERLACED);
	out = cross(&link, in);
	timestamp = gst_buffer_get_reference_timestamp_meta(out, caps);
	meta = gst_buffer_get_video_meta(out);
	ok(timestamp && timestamp->timestamp == 12345 && timestamp->duration == 678,
	   "metas that can be serialized cross");
	ok(meta && meta->width == 64 && meta->format == GST_VIDEO_FORMAT_GRAY8,
	   "GstVideoMeta crosses");
	ok(GST_BUFFER_DURATION(out) == 7 && GST_BUFFER_OFFSET(out) == 8 &&
		   GST_BUFFER_OFFSET_END(out) == 9 &&
		   GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_CORRUPTED) &&
		   GST_BUFFER_FLAG_IS_SET(out, GST_VIDEO_BUFFER_FLAG_INTERLACED),
	   "duration, offsets and flags cross");
	gst_caps_unref(caps);
	gst_clear_buffer(&out);
	link_down(&link);
}

static void gaps_and_ends_cross(void)
{
	struct link link;
	GstBuffer *out;
	GstEvent *event;
	GstClockTime duration;
	gboolean gap = FALSE, eos = FALSE;

	link_up(&link, "application/x-test", "");
	out = cross(&link, new_frame(10, 1));
	gst_clear_buffer(&out);
	gst_harness_push_event(link.sink,
			       gst_event_new_gap(2 * GST_SECOND, GST_SECOND / 2));
	gst_harness_push_event(link.sink, gst_event_new_eos());
	while (!eos && (event = gst_harness_pull_event(link.src))) {
		if (GST_EVENT_TYPE(event) == GST_EVENT_GAP) {
			gst_event_parse_gap(event, NULL, &duration);
			gap = duration == GST_SECOND / 2;
		}
		eos = GST_EVENT_TYPE(event) == GST_EVENT_EOS;
		gst_event_unref(event);
	}
	ok(gap, "a gap crosses");
	ok(eos, "the end of the stream crosses");
	link_down(&link);
}

/* A frame in the sink's own memory, so that it is passed and not copied. */
static GstBuffer *own_frame(struct link *link, gsize size)
{
	GstCaps *caps = gst_pad_get_current_caps(link->sink->srcpad);
	GstQuery *query = gst_query_new_allocation(caps, FALSE);
	GstAllocator *allocator = NULL;
	GstAllocationParams params;
	GstBuffer *buffer;

	gst_pad_peer_query(link->sink->srcpad, query);
	gst_query_parse_nth_allocation_param(query, 0, &allocator, &params);
	buffer = gst_buffer_new_allocate(allocator, size, &params);
	gst_object_unref(allocator);
	gst_query_unref(query);
	gst_caps_unref(caps);
	return buffer;
}

static void one_buffer_may_be_sent_again_and_again(void)
{
	struct link link;
	GstBuffer *out[3], *in;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	in = own_frame(&link, 1024);
	gst_buffer_memset(in, 0, 5, -1);
	for (int i = 0; i < 3; i++)
		out[i] = cross(&link, gst_buffer_ref(in));
	ok(is_frame(out[0], 1024, 5) && is_frame(out[2], 1024, 5),
	   "the same buffer can be in several frames at a time");
	ok(gst_test_stat(link.src_element, "buffers") == 1, "and is known as one");
	for (int i = 0; i < 3; i++)
		gst_buffer_unref(out[i]);
	ok(gst_test_until(gst_test_stat(link.sink_element, "released") == 3),
	   "it comes back from each");
	gst_buffer_unref(in);
	ok(gst_test_until(gst_test_stat(link.sink_element, "buffers") == 0),
	   "when it is freed, consumers forget it");
	link_down(&link);
}

static void memories_may_be_parts_of_one_buffer(void)
{
	GstBuffer *whole, *in, *out;
	struct link link;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	whole = own_frame(&link, 2048);
	gst_buffer_memset(whole, 0, 1, -1);
	gst_buffer_memset(whole, 100, 4, 512);
	gst_buffer_memset(whole, 1000, 4, 512);
	in = gst_buffer_new();
	gst_buffer_append_memory(in, gst_memory_share(gst_buffer_peek_memory(whole, 0),
						      1000, 512));
	gst_buffer_append_memory(in, gst_memory_share(gst_buffer_peek_memory(whole, 0), 100,
						      512));
	out = cross(&link, in);
	ok(gst_buffer_n_memory(out) == 2 && is_frame(out, 1024, 4),
	   "a frame may consist of two parts of one buffer");
	ok(gst_test_stat(link.src_element, "buffers") == 1, "which crosses once");
	gst_buffer_unref(out);
	gst_buffer_unref(whole);
	link_down(&link);
}

static void writable_buffers_are_read_only_for_elements(void)
{
	struct link link;
	GstBuffer *out;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1",
		"read-only=false");
	out = cross(&link, new_frame(1024, 7));
	ok(is_frame(out, 1024, 7) && GST_MEMORY_IS_READONLY(gst_buffer_peek_memory(out, 0)),
	   "no element writes into a frame that others read, even if it could");
	gst_buffer_unref(out);
	link_down(&link);
}

/* ---- fences, from and for programs that use the library ------------------------------------ */

/* All that has been begun with a dma-buf is done, for who wants to read or write it. */
static gboolean is_ready(GstBuffer *buffer, short events)
{
	struct pollfd dmabuf = { .events = events };

	dmabuf.fd = gst_fd_memory_get_fd(gst_buffer_peek_memory(buffer, 0));
	return poll(&dmabuf, 1, 0) == 1;
}

static void a_fence_is_given_back(int vgem)
{
	struct zcbuf_consumer_event event;
	struct zcbuf_consumer *consumer;
	struct zcbuf_ctx *ctx;
	struct link link;
	GstBuffer *in;
	guint32 work;
	int fence = vgem_work(vgem, &work);

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	close_source(&link);
	if (zcbuf_ctx_new(&ctx) || zcbuf_consumer_new(ctx, link.address, NULL, &consumer))
		bail("no consumer");
	gst_test_until(gst_test_stat(link.sink_element, "admitted") == 2);
	in = own_frame(&link, 1024);
	gst_harness_push(link.sink, gst_buffer_ref(in));
	while (zcbuf_consumer_next_event(consumer, 5000, &event) == 1 &&
	       event.type != ZCBUF_CONSUMER_FRAME)
		;
	ok(event.type == ZCBUF_CONSUMER_FRAME && is_ready(in, POLLOUT),
	   "a program gets a frame");
	zcbuf_consumer_give_back(consumer, event.frame, fence);
	gst_test_until(gst_test_stat(link.sink_element, "released") == 1);
	gst_test_until(!is_ready(in, POLLOUT));
	ok(is_ready(in, POLLIN) && !is_ready(in, POLLOUT),
	   "and gives it back with a fence: nobody writes to it yet");
	vgem_end(vgem, work);
	ok(is_ready(in, POLLOUT), "until the fence signals");
	gst_buffer_unref(in);
	zcbuf_consumer_unref(consumer);
	zcbuf_ctx_unref(ctx);
	close(fence);
	open_source(&link);
	link_down(&link);
}

static gpointer serve(gpointer producer)
{
	struct zcbuf_producer_event event;

	while (zcbuf_producer_next_event(producer, -1, &event) == 1)
		;
	return NULL;
}

static void a_fence_arrives(int vgem)
{
	static const char caps[] =
		"video/x-raw,format=(string)GRAY8,width=(int)64,height=(int)16,"
		"framerate=(fraction)5/1";
	struct {
		struct gst_zcbuf_frame_header header;
		struct gst_zcbuf_frame_memory memory;
	} metadata = {
		.header = { .version = GST_ZCBUF_FRAME_VERSION,
			    .n_memories = 1,
			    .dts = ZCBUF_TIME_NONE,
			    .stream_time = ZCBUF_TIME_NONE,
			    .stream_rate = 1.0 },
		.memory = { .size = 1024 },
	};
	struct zcbuf_frame frame = { .pts = ZCBUF_TIME_NONE,
				     .duration = ZCBUF_TIME_NONE,
				     .metadata = &metadata,
				     .metadata_size = sizeof(metadata) };
	struct link link = { .address = gst_test_address() };
	struct zcbuf_producer *producer;
	struct zcbuf_buffer *buffer;
	struct zcbuf_heap *heap;
	struct zcbuf_ctx *ctx;
	GThread *thread;
	GstBuffer *out;
	guint32 work;

	frame.fence = vgem_work(vgem, &work);
	if (zcbuf_ctx_new(&ctx) || zcbuf_heap_open(ctx, NULL, &heap) ||
	    zcbuf_heap_alloc(heap, 4096, NULL, &buffer) ||
	    zcbuf_producer_new(ctx, NULL, &producer) ||
	    zcbuf_producer_listen(producer, link.address, 0600) ||
	    zcbuf_producer_set_format(producer, caps, sizeof(caps)) ||
	    zcbuf_producer_add_buffer(producer, buffer))
		bail("no producer");
	frame.buffers[0] = buffer;
	thread = g_thread_new("producer", serve, producer);
	open_source(&link);
	zcbuf_producer_send(producer, &frame, 0);
	out = gst_harness_pull(link.src);
	ok(out && !is_ready(out, POLLIN),
	   "a frame whose fence is pending arrives, but nobody reads it yet");
	vgem_end(vgem, work);
	ok(out && is_ready(out, POLLIN), "until the fence signals");
	gst_clear_buffer(&out);
	close_source(&link);
	zcbuf_producer_close(producer);
	g_thread_join(thread);
	zcbuf_producer_unref(producer);
	zcbuf_buffer_unref(buffer);
	zcbuf_heap_unref(heap);
	zcbuf_ctx_unref(ctx);
	close(frame.fence);
	g_free(link.address);
}

static void fences_are_waited_for(void)
{
	int vgem = vgem_open();

	if (vgem < 0) {
		skip("no vgem here, to have fences from");
		return;
	}
	a_fence_is_given_back(vgem);
	a_fence_arrives(vgem);
	close(vgem);
}

static void a_frame_outlives_its_source(void)
{
	GstBuffer *held, *copy;
	struct link link;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	held = cross(&link, new_frame(1024, 6));
	/* what elements do that want to write to a buffer's fields */
	copy = gst_buffer_make_writable(gst_buffer_ref(held));
	gst_buffer_unref(held);
	ok(gst_test_stat(link.sink_element, "released") == 0,
	   "a frame is not given back while a shallow copy has its memory");
	ok(is_frame(copy, 1024, 6), "and can be read");
	link_down(&link);
	ok(is_frame(copy, 1024, 6), "even when the source and the sink have gone");
	gst_buffer_unref(copy);
}

static void flush(struct link *link)
{
	GstSegment segment;

	gst_harness_push_event(link->sink, gst_event_new_flush_start());
	gst_harness_push_event(link->sink, gst_event_new_flush_stop(TRUE));
	gst_segment_init(&segment, GST_FORMAT_TIME);
	gst_harness_push_event(link->sink, gst_event_new_segment(&segment));
}

static void a_flush_ends_the_end(void)
{
	struct link link;
	GstBuffer *out;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	out = cross(&link, new_frame(1024, 1));
	gst_clear_buffer(&out);
	gst_harness_push_event(link.sink, gst_event_new_eos());
	flush(&link);
	close_source(&link);
	open_source(&link);
	out = cross(&link, new_frame(1024, 2));
	ok(is_frame(out, 1024, 2),
	   "who connects after a flush is not told that the stream had ended before");
	gst_clear_buffer(&out);
	link_down(&link);
}

static void a_flush_is_over_when_it_ends(void)
{
	struct link link;
	GstBuffer *out;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	out = cross(&link, new_frame(1024, 1));
	gst_clear_buffer(&out);
	gst_harness_push_event(link.sink, gst_event_new_flush_start());
	ok(gst_harness_push(link.sink, new_frame(1024, 2)) == GST_FLOW_FLUSHING,
	   "a sink that is flushed refuses frames");
	flush(&link);
	out = cross(&link, new_frame(1024, 3));
	ok(is_frame(out, 1024, 3), "and sends them again afterwards");
	gst_clear_buffer(&out);
	link_down(&link);
}

static void nobody_seeks_in_a_live_stream(void)
{
	gboolean seekable = TRUE;
	struct link link;
	GstQuery *query;
	GstBuffer *out;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	out = cross(&link, new_frame(1024, 1));
	gst_clear_buffer(&out);
	query = gst_query_new_seeking(GST_FORMAT_TIME);
	if (gst_element_query(link.src_element, query))
		gst_query_parse_seeking(query, NULL, &seekable, NULL, NULL);
	gst_query_unref(query);
	ok(!seekable, "a source says that nobody can seek in it");
	ok(!gst_harness_push_upstream_event(
		   link.src, gst_event_new_seek(1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
						GST_SEEK_TYPE_SET, GST_SECOND,
						GST_SEEK_TYPE_NONE, 0)),
	   "and refuses a seek");
	out = cross(&link, new_frame(1024, 2));
	ok(is_frame(out, 1024, 2), "after which frames come as before");
	gst_clear_buffer(&out);
	link_down(&link);
}

static void queries_are_answered(void)
{
	GstBufferPool *pool = NULL;
	gboolean live = FALSE;
	struct link link;
	GstQuery *query;
	GstCaps *caps;

	link_up(&link, "video/x-raw,format=GRAY8,width=64,height=16,framerate=5/1", "");
	query = gst_query_new_latency();
	if (gst_element_query(link.src_element, query))
		gst_query_parse_latency(query, &live, NULL, NULL);
	gst_query_unref(query);
	ok(live, "a source is live");
	caps = gst_pad_get_current_caps(link.sink->srcpad);
	query = gst_query_new_allocation(caps, TRUE);
	if (gst_pad_peer_query(link.sink->srcpad, query) &&
	    gst_query_get_n_allocation_pools(query) > 0)
		gst_query_parse_nth_allocation_pool(query, 0, &pool, NULL, NULL, NULL);
	ok(pool && gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL),
	   "a sink offers a pool, and reads GstVideoMeta");
	gst_clear_object(&pool);
	gst_query_unref(query);
	gst_caps_unref(caps);
	link_down(&link);
}

static void they_can_be_stopped_and_started(void)
{
	gchar *address = gst_test_address();
	GstElement *producer = gst_test_pipeline(
		"videotestsrc num-buffers=5 ! " CAPS
		" ! zcbufsink socket-path=%s sync=false wait-for-connection=true "
		"max-wait=-1",
		address);
	GstElement *consumer = gst_test_pipeline(
		"zcbufsrc name=src socket-path=%s reconnect=true ! fakesink sync=false",
		address);
	GstElement *src = gst_bin_get_by_name(GST_BIN(consumer), "src");
	guint good = 0;

	for (guint turn = 0; turn < 3; turn++) {
		gst_element_set_state(consumer, GST_STATE_PLAYING);
		gst_element_set_state(producer, GST_STATE_PLAYING);
		good += gst_test_wait_eos(producer) && gst_test_wait_eos(consumer) &&
			gst_test_stat(src, "frames") == 5;
		gst_element_set_state(consumer,
				      turn == 0 ? GST_STATE_READY : GST_STATE_NULL);
		gst_element_set_state(producer,
				      turn == 0 ? GST_STATE_READY : GST_STATE_NULL);
	}
	ok(good == 3, "both can be stopped and started, and all frames cross each time");
	gst_object_unref(src);
	gst_test_stop(consumer);
	gst_test_stop(producer);
	g_free(address);
}

int main(void)
{
	gst_test_begin();
	a_stream_arrives_as_it_was_sent();
	a_slow_consumer_loses_frames_and_delays_nobody();
	a_pause_interrupts_nothing();
	the_last_frame_is_not_lost();
	a_producer_may_come_back();
	a_lost_producer_is_an_error();
	waiting_elements_stop_at_once();
	caps_may_change();
	anything_can_be_sent();
	what_others_cannot_use_is_refused();
	metas_and_flags_cross();
	gaps_and_ends_cross();
	one_buffer_may_be_sent_again_and_again();
	memories_may_be_parts_of_one_buffer();
	writable_buffers_are_read_only_for_elements();
	fences_are_waited_for();
	a_frame_outlives_its_source();
	a_flush_ends_the_end();
	a_flush_is_over_when_it_ends();
	nobody_seeks_in_a_live_stream();
	queries_are_answered();
	they_can_be_stopped_and_started();
	return gst_test_end();
}
