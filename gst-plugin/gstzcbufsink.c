/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * SECTION:element-zcbufsink
 * @title: zcbufsink
 * @short_description: sends frames to other processes without a copy
 * @see_also: zcbufsrc
 *
 * zcbufsink publishes frames at a Unix socket, from where any number of zcbufsrc, or of
 * programs that use libzcbuf's channels, read them. The file descriptor of a buffer crosses
 * once for each consumer, as a read-only view if it can be; from then on a frame is one small
 * message. Consumers come and go at any time, and one that is slow, stopped or killed costs
 * the others nothing: it loses frames, and what it held comes back.
 *
 * Like zcbufupload it offers upstream a pool of dma-bufs, so that frames are written into them
 * in the first place. Dma-bufs of other exporters are sent as they are. What arrives in other
 * memory is copied once, counted in #GstZcbufSink:copied-frames and said in a warning message.
 *
 * Caps, timestamps, segments, gaps, serializable metas and the end of the stream reach the
 * consumers. Timestamps cross on CLOCK_MONOTONIC, so that a frame has the same time in every
 * process. Frames of a live pipeline are sent as soon as they arrive: it is the consumer that
 * waits for the time to show them. Frames of other pipelines are sent when it is time
 * (unless #GstBaseSink:sync is %FALSE).
 *
 * A consumer that holds #GstZcbufSink:max-frames frames loses further ones. If none may be
 * lost, set #GstZcbufSink:max-wait.
 *
 * An address that begins with `@` is an abstract one: it has no file, so that nothing is left
 * behind even if the process is killed. Only processes of the same user, and of root, are
 * admitted.
 *
 * Consumers that come and go are announced by element messages `zcbuf-consumer-connected` and
 * `zcbuf-consumer-disconnected` with the fields `id`, `pid` and `error`.
 *
 * ## Example launch lines
 * |[
 * gst-launch-1.0 videotestsrc is-live=true ! video/x-raw,width=1280,height=720 ! zcbufsink socket-path=@test
 * gst-launch-1.0 zcbufsrc socket-path=@test ! videoconvert ! autovideosink
 * ]| One process makes frames, others show them.
 * |[
 * gst-launch-1.0 v4l2src io-mode=dmabuf-import ! video/x-raw,format=BGRx,width=1920,height=1080 ! zcbufsink socket-path=@camera
 * gst-launch-1.0 zcbufsrc socket-path=@camera ! kmssink
 * ]| From the camera through two processes to the screen; no CPU touches a frame.
 *
 * Since: 0.1
 */
#include "gstzcbufsink.h"

#include "gstzcbufframe.h"
#include "gstzcbufuploader.h"

#include <linux/dma-buf.h>
#include <stdlib.h>

/* A buffer on its way to the consumer and one being filled. */
#define BUFFERS_ON_THE_WAY 2
#define DEFAULT_MAX_FRAMES 4
#define DEFAULT_MAX_WAIT   0
#define DEFAULT_READ_ONLY  TRUE
#define DEFAULT_WAIT	   FALSE
#define SOCKET_MODE	   0600
/* How long consumers get at the end of the stream to take what is waiting for them. */
#define END_TIMEOUT (5 * G_TIME_SPAN_SECOND)

GST_DEBUG_CATEGORY_STATIC(zcbufsink_debug);
#define GST_CAT_DEFAULT zcbufsink_debug

enum {
	PROP_SOCKET_PATH = GST_ZCBUF_UPLOADER_PROP_LAST,
	PROP_WAIT_FOR_CONNECTION,
	PROP_NUM_CONSUMERS,
	PROP_MAX_FRAMES,
	PROP_MAX_WAIT,
	PROP_READ_ONLY,
	PROP_STATS,
};

/*
 * The memories that consumers know. Each one holds a reference to this by a weak reference,
 * and may die after the element.
 */
typedef struct {
	GMutex lock;
	struct zcbuf_producer *producer; /* NULL when the element has stopped */
	GHashTable *buffers;		 /* GstMemory to struct zcbuf_buffer */
} Registry;

struct _GstZcbufSink {
	GstBaseSink parent;

	GstZcbufUploader uploader;

	/* properties, under the object lock */
	gchar *socket_path;
	gboolean wait_for_connection;
	guint max_frames;
	guint64 max_wait;
	gboolean read_only;

	struct zcbuf_producer *producer; /* set and unset under the object lock */
	Registry *registry;
	GThread *thread;
	gint quit;

	GMutex lock;
	GCond changed; /* one of these, or what wait-for-connection says */
	guint num_consumers;
	gboolean unlocked;

	/* the streaming thread's own */
	gboolean live;
	guint64 sequence;
	guint32 segment_number;
	GByteArray *metadata;
};

static GstStaticPadTemplate sink_template =
	GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);

G_DEFINE_FINAL_TYPE_WITH_CODE(GstZcbufSink, gst_zcbuf_sink, GST_TYPE_BASE_SINK,
			      GST_DEBUG_CATEGORY_INIT(zcbufsink_debug, "zcbufsink", 0,
						      "zcbufsink element"))
GST_ELEMENT_REGISTER_DEFINE(zcbufsink, "zcbufsink", GST_RANK_NONE, GST_TYPE_ZCBUF_SINK)

/* ---- registry ---------------------------------------------------------------------------- */

static void unref_buffer(gpointer buffer)
{
	zcbuf_buffer_unref(buffer);
}

static Registry *registry_new(struct zcbuf_producer *producer)
{
	Registry *registry = g_atomic_rc_box_new0(Registry);

	g_mutex_init(&registry->lock);
	registry->producer = zcbuf_producer_ref(producer);
	registry->buffers = g_hash_table_new_full(NULL, NULL, NULL, unref_buffer);
	return registry;
}

/* From now on memories may die without anybody caring. */
static void registry_close(Registry *registry)
{
	g_mutex_lock(&registry->lock);
	g_hash_table_remove_all(registry->buffers);
	registry->producer = zcbuf_producer_unref(registry->producer);
	g_mutex_unlock(&registry->lock);
}

static void registry_free(gpointer data)
{
	Registry *registry = data;

	g_hash_table_unref(registry->buffers);
	g_mutex_clear(&registry->lock);
}

static void registry_unref(Registry *registry)
{
	g_atomic_rc_box_release_full(registry, registry_free);
}

static void forget_memory(gpointer data, GstMiniObject *mem)
{
	Registry *registry = data;
	struct zcbuf_buffer *buffer;

	g_mutex_lock(&registry->lock);
	buffer = g_hash_table_lookup(registry->buffers, mem);
	if (buffer)
		zcbuf_producer_remove_buffer(registry->producer, buffer);
	g_hash_table_remove(registry->buffers, mem);
	g_mutex_unlock(&registry->lock);
	registry_unref(registry);
}

/*
 * The buffer that consumers know @mem by; made known to them if it is not yet. It belongs to
 * the registry and lives as long as @mem.
 */
static int registry_get_buffer(Registry *registry, struct zcbuf_ctx *ctx, GstMemory *mem,
			       struct zcbuf_buffer **result)
{
	struct zcbuf_buffer *buffer;
	int error = 0;

	g_mutex_lock(&registry->lock);
	*result = buffer = g_hash_table_lookup(registry->buffers, mem);
	if (!buffer) {
		buffer = gst_zcbuf_memory_get_buffer(mem);
		if (buffer)
			zcbuf_buffer_ref(buffer);
		else
			error = zcbuf_buffer_import(ctx, gst_fd_memory_get_fd(mem),
						    &buffer);
		if (error == 0) {
			error = zcbuf_producer_add_buffer(registry->producer, buffer);
			if (error < 0)
				zcbuf_buffer_unref(buffer);
		}
		if (error == 0) {
			g_hash_table_insert(registry->buffers, mem, buffer);
			gst_mini_object_weak_ref(GST_MINI_OBJECT_CAST(mem), forget_memory,
						 g_atomic_rc_box_acquire(registry));
			*result = buffer;
		}
	}
	g_mutex_unlock(&registry->lock);
	return error;
}

/* ---- events from consumers --------------------------------------------------------------- */

static void announce_consumer(GstZcbufSink *self, const struct zcbuf_producer_event *event)
{
	gboolean connected = event->type == ZCBUF_PRODUCER_CONNECTED;
	GstStructure *structure;

	g_mutex_lock(&self->lock);
	self->num_consumers += connected ? 1 : -1;
	g_cond_broadcast(&self->changed);
	g_mutex_unlock(&self->lock);
	GST_INFO_OBJECT(self, "consumer %" G_GUINT64_FORMAT " of process %d %s: %s",
			event->consumer, (int)event->peer.pid,
			connected ? "connected" : "disconnected",
			g_strerror(-event->error));

	structure = gst_structure_new(
		connected ? "zcbuf-consumer-connected" : "zcbuf-consumer-disconnected",
		"id", G_TYPE_UINT64, event->consumer, "pid", G_TYPE_INT,
		(int)event->peer.pid, "error", G_TYPE_INT, event->error, NULL);
	gst_element_post_message(GST_ELEMENT_CAST(self),
				 gst_message_new_element(GST_OBJECT_CAST(self), structure));
	g_object_notify(G_OBJECT(self), "num-consumers");
}

static void handle_event(GstZcbufSink *self, const struct zcbuf_producer_event *event)
{
	switch (event->type) {
	case ZCBUF_PRODUCER_RELEASED:
		gst_zcbuf_frame_wait_for_fence(&event->frame, DMA_BUF_SYNC_READ);
		if (event->frame.user_data)
			gst_buffer_unref(event->frame.user_data);
		break;
	case ZCBUF_PRODUCER_CONNECTED:
	case ZCBUF_PRODUCER_DISCONNECTED:
		announce_consumer(self, event);
		break;
	}
}

static gpointer event_thread(gpointer data)
{
	GstZcbufSink *self = data;
	struct zcbuf_producer_event event;

	while (!g_atomic_int_get(&self->quit))
		if (zcbuf_producer_next_event(self->producer, -1, &event) == 1)
			handle_event(self, &event);
	return NULL;
}

/* ---- frames ------------------------------------------------------------------------------ */

/* A position in the segment as a time of CLOCK_MONOTONIC, or NONE if it has none. */
static GstClockTime to_monotonic(GstZcbufSink *self, GstClockTime position,
				 GstClockTimeDiff offset)
{
	const GstSegment *segment = &GST_BASE_SINK_CAST(self)->segment;
	GstClockTime base_time = gst_element_get_base_time(GST_ELEMENT_CAST(self));
	GstClockTime running_time;
	GstClockTimeDiff time;
	int sign;

	if (!GST_CLOCK_TIME_IS_VALID(position) || segment->format != GST_FORMAT_TIME ||
	    !GST_CLOCK_TIME_IS_VALID(base_time))
		return GST_CLOCK_TIME_NONE;
	sign = gst_segment_to_running_time_full(segment, GST_FORMAT_TIME, position,
						&running_time);
	if (sign == 0)
		return GST_CLOCK_TIME_NONE;
	time = (GstClockTimeDiff)base_time + sign * (GstClockTimeDiff)running_time + offset;
	return time > 0 ? (GstClockTime)time : 0;
}

/* All but the buffers: these come from what @buffer has for memories. */
static void write_header(GstZcbufSink *self, GstBuffer *buffer, guint32 flags,
			 struct zcbuf_frame *frame)
{
	const GstSegment *segment = &GST_BASE_SINK_CAST(self)->segment;
	GstClockTimeDiff offset = gst_zcbuf_clock_offset(GST_ELEMENT_CAST(self));
	GstClockTime latency = gst_base_sink_get_latency(GST_BASE_SINK_CAST(self));
	struct gst_zcbuf_frame_header header = {
		.version = GST_ZCBUF_FRAME_VERSION,
		.flags = flags,
		.segment = self->segment_number,
		.n_memories = gst_buffer_n_memory(buffer),
		.dts = to_monotonic(self, GST_BUFFER_DTS(buffer), offset),
		.offset = GST_BUFFER_OFFSET(buffer),
		.offset_end = GST_BUFFER_OFFSET_END(buffer),
		.stream_time = GST_CLOCK_TIME_NONE,
		.stream_rate = segment->rate * segment->applied_rate,
		.latency = GST_CLOCK_TIME_IS_VALID(latency) ? latency : 0,
	};

	if (segment->format == GST_FORMAT_TIME && GST_BUFFER_PTS_IS_VALID(buffer))
		header.stream_time = gst_segment_to_stream_time(segment, GST_FORMAT_TIME,
								GST_BUFFER_PTS(buffer));
	g_byte_array_set_size(self->metadata, 0);
	g_byte_array_append(self->metadata, (const guint8 *)&header, sizeof(header));

	frame->sequence = ++self->sequence;
	frame->pts = to_monotonic(self, GST_BUFFER_PTS(buffer), offset);
	frame->duration = GST_BUFFER_DURATION(buffer);
	frame->flags = GST_BUFFER_FLAGS(buffer) & GST_ZCBUF_FRAME_BUFFER_FLAGS;
}

static GstFlowReturn write_memories(GstZcbufSink *self, GstBuffer *buffer,
				    struct zcbuf_frame *frame)
{
	struct zcbuf_ctx *ctx =
		gst_zcbuf_allocator_get_ctx(GST_ZCBUF_ALLOCATOR(self->uploader.allocator));

	for (guint i = 0; i < gst_buffer_n_memory(buffer); i++) {
		GstMemory *mem = gst_buffer_peek_memory(buffer, i);
		struct gst_zcbuf_frame_memory entry = { .offset = mem->offset,
							.size = mem->size };
		struct zcbuf_buffer *zcbuf;
		int error;

		while (mem->parent)
			mem = mem->parent;
		error = registry_get_buffer(self->registry, ctx, mem, &zcbuf);
		if (error < 0) {
			GError *reason = NULL;

			gst_zcbuf_set_error(&reason, GST_RESOURCE_ERROR_FAILED, error);
			GST_ELEMENT_ERROR(self, RESOURCE, FAILED,
					  ("A buffer cannot be shared: %s",
					   reason->message),
					  ("%s", g_strerror(-error)));
			g_error_free(reason);
			return GST_FLOW_ERROR;
		}
		/* Several memories may lie in one buffer; it is sent once. */
		while (frame->buffers[entry.buffer] &&
		       frame->buffers[entry.buffer] != zcbuf)
			entry.buffer++;
		frame->buffers[entry.buffer] = zcbuf;
		g_byte_array_append(self->metadata, (const guint8 *)&entry, sizeof(entry));
	}
	return GST_FLOW_OK;
}

static gboolean consumer_is_missing(GstZcbufSink *self)
{
	gboolean wait;

	GST_OBJECT_LOCK(self);
	wait = self->wait_for_connection;
	GST_OBJECT_UNLOCK(self);
	return wait && self->num_consumers == 0;
}

static GstFlowReturn wait_for_consumer(GstZcbufSink *self)
{
	GstFlowReturn flow = GST_FLOW_OK;

	g_mutex_lock(&self->lock);
	while (flow == GST_FLOW_OK && consumer_is_missing(self)) {
		if (self->unlocked) {
			g_mutex_unlock(&self->lock);
			flow = gst_base_sink_wait_preroll(GST_BASE_SINK_CAST(self));
			g_mutex_lock(&self->lock);
		} else {
			g_cond_wait(&self->changed, &self->lock);
		}
	}
	g_mutex_unlock(&self->lock);
	return flow;
}

/* -1 is no limit, 0 is not at all, and the rest is rounded up. */
static int max_wait_ms(GstZcbufSink *self)
{
	guint64 wait;

	GST_OBJECT_LOCK(self);
	wait = self->max_wait;
	GST_OBJECT_UNLOCK(self);
	if (!GST_CLOCK_TIME_IS_VALID(wait))
		return -1;
	return (int)MIN(wait / GST_MSECOND + (wait % GST_MSECOND != 0), G_MAXINT);
}

/* Send what write_header() began; @buffer is kept until nobody uses it any more. */
static GstFlowReturn send_frame(GstZcbufSink *self, GstBuffer *buffer,
				struct zcbuf_frame *frame)
{
	int result;

	gst_zcbuf_frame_write_metas(buffer, self->metadata);
	frame->metadata = self->metadata->data;
	frame->metadata_size = self->metadata->len;
	frame->user_data = gst_buffer_ref(buffer);

	result = zcbuf_producer_send(self->producer, frame, max_wait_ms(self));
	if (result < 0) {
		GST_ELEMENT_ERROR(self, RESOURCE, WRITE, ("A frame cannot be sent."),
				  ("%s", g_strerror(-result)));
		gst_buffer_unref(buffer);
		return GST_FLOW_ERROR;
	}
	GST_LOG_OBJECT(self,
		       "frame %" G_GUINT64_FORMAT " to %d consumers: %" GST_PTR_FORMAT,
		       frame->sequence, result, buffer);
	return GST_FLOW_OK;
}

/* A wait for a buffer ends when the pipeline pauses, and goes on with it. */
static GstFlowReturn upload(GstZcbufSink *self, GstBuffer *in, GstBuffer **out)
{
	GstFlowReturn flow;

	do {
		flow = gst_zcbuf_uploader_upload(&self->uploader, in, out);
		if (flow != GST_FLOW_FLUSHING)
			return flow;
		flow = gst_base_sink_wait_preroll(GST_BASE_SINK_CAST(self));
	} while (flow == GST_FLOW_OK);
	return flow;
}

static GstFlowReturn gst_zcbuf_sink_render(GstBaseSink *sink, GstBuffer *in)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);
	struct zcbuf_frame frame = { .fence = -1 };
	GstBuffer *buffer;
	GstFlowReturn flow;

	flow = wait_for_consumer(self);
	if (flow == GST_FLOW_OK)
		flow = upload(self, in, &buffer);
	if (flow != GST_FLOW_OK)
		return flow;
	write_header(self, buffer, 0, &frame);
	flow = write_memories(self, buffer, &frame);
	if (flow == GST_FLOW_OK)
		flow = send_frame(self, buffer, &frame);
	gst_buffer_unref(buffer);
	return flow;
}

/* ---- the stream -------------------------------------------------------------------------- */

static gboolean upstream_is_live(GstZcbufSink *self)
{
	GstQuery *query = gst_query_new_latency();
	gboolean live = FALSE;

	if (gst_pad_peer_query(GST_BASE_SINK_PAD(self), query))
		gst_query_parse_latency(query, &live, NULL, NULL);
	gst_query_unref(query);
	return live;
}

static gboolean gst_zcbuf_sink_set_caps(GstBaseSink *sink, GstCaps *caps)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);
	GstCapsFeatures *features = gst_caps_get_features(caps, 0);
	gboolean dmabuf = gst_zcbuf_caps_are_dmabuf(caps);
	gchar *format;
	int result;

	if (!dmabuf &&
	    !gst_caps_features_is_equal(features, GST_CAPS_FEATURES_MEMORY_SYSTEM_MEMORY)) {
		GST_ERROR_OBJECT(self, "no other process could use %" GST_PTR_FORMAT, caps);
		return FALSE;
	}
	if (!gst_zcbuf_uploader_set_caps(&self->uploader, caps, dmabuf))
		return FALSE;
	self->live = upstream_is_live(self);

	format = gst_caps_to_string(caps);
	result = zcbuf_producer_set_format(self->producer, format, strlen(format) + 1);
	g_free(format);
	if (result < 0)
		GST_ERROR_OBJECT(self, "cannot set the format: %s", g_strerror(-result));
	return result == 0;
}

static gboolean gst_zcbuf_sink_propose_allocation(GstBaseSink *sink, GstQuery *query)
{
	gst_zcbuf_uploader_propose(&GST_ZCBUF_SINK(sink)->uploader, query);
	return TRUE;
}

static void gst_zcbuf_sink_get_times(GstBaseSink *sink, GstBuffer *buffer,
				     GstClockTime *start, GstClockTime *end)
{
	if (GST_ZCBUF_SINK(sink)->live)
		*start = *end = GST_CLOCK_TIME_NONE;
	else
		GST_BASE_SINK_CLASS(gst_zcbuf_sink_parent_class)
			->get_times(sink, buffer, start, end);
}

static void send_gap(GstZcbufSink *self, GstEvent *event)
{
	struct zcbuf_frame frame = { .fence = -1 };
	GstBuffer *nothing = gst_buffer_new();

	gst_event_parse_gap(event, &GST_BUFFER_PTS(nothing), &GST_BUFFER_DURATION(nothing));
	write_header(self, nothing, GST_ZCBUF_FRAME_GAP, &frame);
	send_frame(self, nothing, &frame);
	gst_buffer_unref(nothing);
}

static gboolean frames_are_waiting(GstZcbufSink *self)
{
	struct zcbuf_consumer_info *infos = NULL;
	gboolean waiting = FALSE;
	int n = zcbuf_producer_get_consumers(self->producer, &infos);

	for (int i = 0; i < n; i++)
		waiting |= infos[i].waiting > 0;
	free(infos);
	return waiting;
}

/* When this element stops, what has not left yet is lost. */
static void send_end(GstZcbufSink *self)
{
	gint64 deadline = g_get_monotonic_time() + END_TIMEOUT;

	zcbuf_producer_end(self->producer);
	g_mutex_lock(&self->lock);
	while (!self->unlocked && g_get_monotonic_time() < deadline &&
	       frames_are_waiting(self))
		g_cond_wait_until(&self->changed, &self->lock,
				  g_get_monotonic_time() + 10 * G_TIME_SPAN_MILLISECOND);
	g_mutex_unlock(&self->lock);
}

static gboolean gst_zcbuf_sink_event(GstBaseSink *sink, GstEvent *event)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);

	switch (GST_EVENT_TYPE(event)) {
	case GST_EVENT_SEGMENT:
		self->segment_number++;
		break;
	case GST_EVENT_GAP:
		send_gap(self, event);
		break;
	case GST_EVENT_EOS:
		send_end(self);
		break;
	case GST_EVENT_FLUSH_STOP:
		zcbuf_producer_restart(self->producer);
		break;
	default:
		break;
	}
	return GST_BASE_SINK_CLASS(gst_zcbuf_sink_parent_class)->event(sink, event);
}

/* ---- statistics ----------------------------------------------------------------------- */

static GstStructure *consumer_stats(const struct zcbuf_consumer_info *info)
{
	return gst_structure_new("consumer", "id", G_TYPE_UINT64, info->id, "pid",
				 G_TYPE_INT, (int)info->peer.pid, "held", G_TYPE_UINT,
				 info->held, "waiting", G_TYPE_UINT, info->waiting, "sent",
				 G_TYPE_UINT64, info->sent, "returned", G_TYPE_UINT64,
				 info->returned, "dropped", G_TYPE_UINT64, info->dropped,
				 "fds", G_TYPE_UINT64, info->fds, NULL);
}

static GstStructure *get_stats(GstZcbufSink *self)
{
	struct zcbuf_consumer_info *infos = NULL;
	struct zcbuf_producer *producer = NULL;
	struct zcbuf_producer_stats stats = { 0 };
	GValue consumers = G_VALUE_INIT;
	GstStructure *structure;
	guint64 zero_copy, copied;
	int n = 0;

	GST_OBJECT_LOCK(self);
	zero_copy = self->uploader.zero_copy_frames;
	copied = self->uploader.copied_frames;
	if (self->producer)
		producer = zcbuf_producer_ref(self->producer);
	GST_OBJECT_UNLOCK(self);
	if (producer) {
		zcbuf_producer_get_stats(producer, &stats);
		n = zcbuf_producer_get_consumers(producer, &infos);
	}
	zcbuf_producer_unref(producer);

	structure = gst_structure_new_empty("zcbufsink");
	gst_structure_set(structure, "frames", G_TYPE_UINT64, stats.frames, "released",
			  G_TYPE_UINT64, stats.released, NULL);
	gst_structure_set(structure, "zero-copy-frames", G_TYPE_UINT64, zero_copy,
			  "copied-frames", G_TYPE_UINT64, copied, NULL);
	gst_structure_set(structure, "buffers", G_TYPE_UINT, stats.buffers, "busy-buffers",
			  G_TYPE_UINT, stats.busy_buffers, NULL);
	gst_structure_set(structure, "admitted", G_TYPE_UINT64, stats.admitted, "refused",
			  G_TYPE_UINT64, stats.refused, "expelled", G_TYPE_UINT64,
			  stats.expelled, NULL);
	g_value_init(&consumers, GST_TYPE_LIST);
	for (int i = 0; i < n; i++) {
		GValue item = G_VALUE_INIT;

		g_value_init(&item, GST_TYPE_STRUCTURE);
		g_value_take_boxed(&item, consumer_stats(&infos[i]));
		gst_value_list_append_and_take_value(&consumers, &item);
	}
	gst_structure_take_value(structure, "consumers", &consumers);
	free(infos);
	return structure;
}

/* ---- life -------------------------------------------------------------------------------- */

static gboolean open_producer(GstZcbufSink *self, const gchar *path)
{
	struct zcbuf_ctx *ctx =
		gst_zcbuf_allocator_get_ctx(GST_ZCBUF_ALLOCATOR(self->uploader.allocator));
	struct zcbuf_producer_config config = { 0 };
	GError *error = NULL;
	int result;

	GST_OBJECT_LOCK(self);
	config.max_frames = self->max_frames;
	config.share =
		self->read_only ? ZCBUF_SHARE_PREFER_READ_ONLY : ZCBUF_SHARE_WRITABLE;
	GST_OBJECT_UNLOCK(self);
	result = zcbuf_producer_new(ctx, &config, &self->producer);
	if (result == 0)
		result = zcbuf_producer_listen(self->producer, path, SOCKET_MODE);
	if (result == 0)
		return TRUE;

	self->producer = zcbuf_producer_unref(self->producer);
	gst_zcbuf_set_error(&error, GST_RESOURCE_ERROR_OPEN_WRITE, result);
	GST_ELEMENT_ERROR(self, RESOURCE, OPEN_WRITE, ("%s", error->message), (NULL));
	g_error_free(error);
	return FALSE;
}

static gboolean gst_zcbuf_sink_start(GstBaseSink *sink)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);
	gboolean opened;
	gchar *path;

	GST_OBJECT_LOCK(self);
	path = g_strdup(self->socket_path);
	GST_OBJECT_UNLOCK(self);
	if (!path) {
		GST_ELEMENT_ERROR(self, RESOURCE, SETTINGS,
				  ("The property socket-path is not set."), (NULL));
		return FALSE;
	}
	gst_zcbuf_uploader_set_flushing(&self->uploader, FALSE);
	self->uploader.next_min_buffers = BUFFERS_ON_THE_WAY;
	opened = gst_zcbuf_uploader_start(&self->uploader) && open_producer(self, path);
	g_free(path);
	if (!opened) {
		gst_zcbuf_uploader_stop(&self->uploader);
		return FALSE;
	}

	self->registry = registry_new(self->producer);
	self->live = FALSE;
	self->sequence = 0;
	self->segment_number = 0;
	self->num_consumers = 0;
	g_atomic_int_set(&self->quit, 0);
	self->thread = g_thread_new("zcbufsink", event_thread, self);
	return TRUE;
}

static gboolean gst_zcbuf_sink_stop(GstBaseSink *sink)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);
	struct zcbuf_producer *producer = self->producer;
	struct zcbuf_producer_event event;
	GstStructure *stats;

	stats = get_stats(self);
	GST_INFO_OBJECT(self, "%" GST_PTR_FORMAT, stats);
	gst_structure_free(stats);
	zcbuf_producer_close(producer);
	g_atomic_int_set(&self->quit, 1);
	zcbuf_producer_wake(producer);
	g_thread_join(self->thread);
	while (zcbuf_producer_next_event(producer, 0, &event) == 1)
		handle_event(self, &event);

	registry_close(self->registry);
	g_clear_pointer(&self->registry, registry_unref);
	GST_OBJECT_LOCK(self);
	self->producer = NULL;
	GST_OBJECT_UNLOCK(self);
	zcbuf_producer_unref(producer);
	gst_zcbuf_uploader_stop(&self->uploader);
	return TRUE;
}

static gboolean gst_zcbuf_sink_unlock(GstBaseSink *sink)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);

	gst_zcbuf_uploader_set_flushing(&self->uploader, TRUE);
	g_mutex_lock(&self->lock);
	self->unlocked = TRUE;
	g_cond_broadcast(&self->changed);
	g_mutex_unlock(&self->lock);
	if (self->producer)
		zcbuf_producer_wake(self->producer);
	return TRUE;
}

static gboolean gst_zcbuf_sink_unlock_stop(GstBaseSink *sink)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(sink);

	gst_zcbuf_uploader_set_flushing(&self->uploader, FALSE);
	g_mutex_lock(&self->lock);
	self->unlocked = FALSE;
	g_mutex_unlock(&self->lock);
	return TRUE;
}

/* Consumers that connect before the next stream must not be told that the last one ended. */
static GstStateChangeReturn gst_zcbuf_sink_change_state(GstElement *element,
							GstStateChange transition)
{
	GstStateChangeReturn result = GST_ELEMENT_CLASS(gst_zcbuf_sink_parent_class)
					      ->change_state(element, transition);

	if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
		zcbuf_producer_restart(GST_ZCBUF_SINK(element)->producer);
	return result;
}

/* ---- properties -------------------------------------------------------------------------- */

static void gst_zcbuf_sink_set_property(GObject *object, guint id, const GValue *value,
					GParamSpec *pspec)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(object);

	if (gst_zcbuf_uploader_set_property(&self->uploader, id, value))
		return;
	GST_OBJECT_LOCK(self);
	switch (id) {
	case PROP_SOCKET_PATH:
		g_free(self->socket_path);
		self->socket_path = g_value_dup_string(value);
		break;
	case PROP_WAIT_FOR_CONNECTION:
		self->wait_for_connection = g_value_get_boolean(value);
		break;
	case PROP_MAX_FRAMES:
		self->max_frames = g_value_get_uint(value);
		break;
	case PROP_MAX_WAIT:
		self->max_wait = g_value_get_uint64(value);
		break;
	case PROP_READ_ONLY:
		self->read_only = g_value_get_boolean(value);
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
	}
	GST_OBJECT_UNLOCK(self);
	g_mutex_lock(&self->lock);
	g_cond_broadcast(&self->changed);
	g_mutex_unlock(&self->lock);
}

static void gst_zcbuf_sink_get_property(GObject *object, guint id, GValue *value,
					GParamSpec *pspec)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(object);

	if (gst_zcbuf_uploader_get_property(&self->uploader, id, value))
		return;
	if (id == PROP_STATS) {
		g_value_take_boxed(value, get_stats(self));
		return;
	}
	if (id == PROP_NUM_CONSUMERS) {
		g_mutex_lock(&self->lock);
		g_value_set_uint(value, self->num_consumers);
		g_mutex_unlock(&self->lock);
		return;
	}
	GST_OBJECT_LOCK(self);
	switch (id) {
	case PROP_SOCKET_PATH:
		g_value_set_string(value, self->socket_path);
		break;
	case PROP_WAIT_FOR_CONNECTION:
		g_value_set_boolean(value, self->wait_for_connection);
		break;
	case PROP_MAX_FRAMES:
		g_value_set_uint(value, self->max_frames);
		break;
	case PROP_MAX_WAIT:
		g_value_set_uint64(value, self->max_wait);
		break;
	case PROP_READ_ONLY:
		g_value_set_boolean(value, self->read_only);
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
	}
	GST_OBJECT_UNLOCK(self);
}

static void gst_zcbuf_sink_finalize(GObject *object)
{
	GstZcbufSink *self = GST_ZCBUF_SINK(object);

	gst_zcbuf_uploader_finalize(&self->uploader);
	g_free(self->socket_path);
	g_byte_array_unref(self->metadata);
	g_cond_clear(&self->changed);
	g_mutex_clear(&self->lock);
	G_OBJECT_CLASS(gst_zcbuf_sink_parent_class)->finalize(object);
}

static void install_properties(GObjectClass *klass)
{
	const GParamFlags readwrite = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS;

	gst_zcbuf_uploader_install_properties(klass);
	/**
	 * GstZcbufSink:socket-path:
	 *
	 * Where consumers connect: the path of a socket, or an abstract name `@name`.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_SOCKET_PATH,
		g_param_spec_string(
			"socket-path", "Socket path",
			"Where consumers connect: a path, or an abstract name '@name'",
			NULL, readwrite | GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufSink:wait-for-connection:
	 *
	 * Block the stream until at least one consumer is connected.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_WAIT_FOR_CONNECTION,
		g_param_spec_boolean("wait-for-connection", "Wait for a connection",
				     "Block the stream while no consumer is connected",
				     DEFAULT_WAIT, readwrite | GST_PARAM_MUTABLE_PLAYING));
	/**
	 * GstZcbufSink:num-consumers:
	 *
	 * How many consumers are connected.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_NUM_CONSUMERS,
		g_param_spec_uint("num-consumers", "Number of consumers",
				  "How many consumers are connected now", 0, G_MAXUINT, 0,
				  G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
	/**
	 * GstZcbufSink:max-frames:
	 *
	 * How many frames one consumer may hold; one that holds them all loses new ones.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_MAX_FRAMES,
		g_param_spec_uint(
			"max-frames", "Maximum of frames",
			"Frames that one consumer may hold; it loses further ones", 1,
			ZCBUF_CHANNEL_FRAMES_MAX, DEFAULT_MAX_FRAMES,
			readwrite | GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufSink:max-wait:
	 *
	 * How many nanoseconds a frame waits for consumers that hold all they may, before
	 * these lose it; 0: not at all, -1: as long as it takes.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_MAX_WAIT,
		g_param_spec_uint64(
			"max-wait", "Maximal wait",
			"Nanoseconds that a frame waits for consumers that hold all "
			"they may, before these lose it (0 = not at all, "
			"-1 = no limit)",
			0, G_MAXUINT64, DEFAULT_MAX_WAIT,
			readwrite | GST_PARAM_MUTABLE_PLAYING));
	/**
	 * GstZcbufSink:read-only:
	 *
	 * Share buffers as read-only views, which no consumer can write to. Buffers of
	 * other exporters cannot be narrowed, and are shared as they are.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_READ_ONLY,
		g_param_spec_boolean(
			"read-only", "Read-only",
			"Share buffers as read-only views, which no consumer can "
			"write to; not those of other exporters",
			DEFAULT_READ_ONLY, readwrite | GST_PARAM_MUTABLE_READY));
	/**
	 * GstZcbufSink:stats:
	 *
	 * Counters: `frames` sent, of which `released`; `zero-copy-frames` and
	 * `copied-frames`; `buffers` that consumers know, of which `busy-buffers` are in
	 * use; consumers `admitted`, `refused` and `expelled`; and for each of the
	 * `consumers` that are connected `id`, `pid`, frames `held`, `waiting`, `sent`,
	 * `returned` and `dropped`, and the `fds` that it was given.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_STATS,
		g_param_spec_boxed(
			"stats", "Statistics",
			"Counters: frames, released, zero-copy-frames, copied-frames, "
			"buffers, busy-buffers, admitted, refused, expelled; and of "
			"each of the consumers",
			GST_TYPE_STRUCTURE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
}

static void gst_zcbuf_sink_class_init(GstZcbufSinkClass *klass)
{
	GObjectClass *object_class = G_OBJECT_CLASS(klass);
	GstElementClass *element_class = GST_ELEMENT_CLASS(klass);
	GstBaseSinkClass *sink_class = GST_BASE_SINK_CLASS(klass);

	object_class->set_property = gst_zcbuf_sink_set_property;
	object_class->get_property = gst_zcbuf_sink_get_property;
	object_class->finalize = gst_zcbuf_sink_finalize;
	install_properties(object_class);

	element_class->change_state = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_change_state);
	gst_element_class_add_static_pad_template(element_class, &sink_template);
	gst_element_class_set_static_metadata(
		element_class, "zcbuf sink", "Sink/Network",
		"Sends frames without a copy to zcbufsrc and other consumers of its "
		"socket; in other memory they are copied once",
		"zcbuf developers");
	gst_element_class_add_static_metadata(
		element_class, "example",
		"gst-launch-1.0 videotestsrc num-buffers=50 ! video/x-raw,format=NV12 ! "
		"zcbufsink socket-path=@camera wait-for-connection=true max-wait=-1");
	gst_element_class_add_static_metadata(
		element_class, "messages",
		"zcbuf-consumer-connected, zcbuf-consumer-disconnected: id (guint64), pid "
		"(gint), error (gint, a negative errno or 0)");

	sink_class->start = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_start);
	sink_class->stop = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_stop);
	sink_class->unlock = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_unlock);
	sink_class->unlock_stop = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_unlock_stop);
	sink_class->set_caps = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_set_caps);
	sink_class->propose_allocation =
		GST_DEBUG_FUNCPTR(gst_zcbuf_sink_propose_allocation);
	sink_class->get_times = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_get_times);
	sink_class->event = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_event);
	sink_class->render = GST_DEBUG_FUNCPTR(gst_zcbuf_sink_render);
}

static void gst_zcbuf_sink_init(GstZcbufSink *self)
{
	gst_zcbuf_uploader_init(&self->uploader, GST_ELEMENT_CAST(self));
	self->wait_for_connection = DEFAULT_WAIT;
	self->max_frames = DEFAULT_MAX_FRAMES;
	self->max_wait = DEFAULT_MAX_WAIT;
	self->read_only = DEFAULT_READ_ONLY;
	self->metadata = g_byte_array_new();
	g_mutex_init(&self->lock);
	g_cond_init(&self->changed);
	/* It would keep a buffer from the pool. */
	gst_base_sink_set_last_sample_enabled(GST_BASE_SINK_CAST(self), FALSE);
}
