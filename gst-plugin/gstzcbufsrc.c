/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * SECTION:element-zcbufsrc
 * @title: zcbufsrc
 * @short_description: receives frames from another process without a copy
 * @see_also: zcbufsink
 *
 * zcbufsrc connects to a zcbufsink, or to any program that publishes a libzcbuf channel and
 * gives its frames the metadata that zcbufsink gives them.
 *
 * Each buffer of the producer is one #GstMemory for the whole stream. Elements that import it
 * into a device, such as kmssink or glupload, therefore do so once for each buffer and not
 * once for each frame. A frame goes back to the producer when nobody refers to its memories
 * any more; the memories are read-only.
 *
 * zcbufsrc is live. Frames have the caps that the producer's have, and times of this pipeline's
 * clock, whatever that is. If downstream ignores #GstVideoMeta and a frame cannot be understood
 * without it, the frame is copied; so is none else. The fence of a frame becomes one of its
 * buffers: it can be passed on at once, and who reads it waits.
 *
 * When the producer goes away without having ended its stream, that is an error, unless
 * #GstZcbufSrc:reconnect is set: then zcbufsrc waits for it to come back, and also for one that
 * is not there yet.
 *
 * ## Example launch lines
 * |[
 * gst-launch-1.0 videotestsrc is-live=true ! video/x-raw,width=1280,height=720 ! zcbufsink socket-path=@test
 * gst-launch-1.0 zcbufsrc socket-path=@test ! videoconvert ! autovideosink
 * ]| One process makes frames, others show them.
 * |[
 * gst-launch-1.0 zcbufsrc socket-path=@camera reconnect=true ! kmssink
 * ]| Shows frames as soon as there is a camera, and again after it was restarted.
 *
 * Since: 0.1
 */
#include "gstzcbufsrc.h"

#include "gstzcbufframe.h"
#include "gstzcbufpool.h"

#include <errno.h>
#include <linux/dma-buf.h>
#include <string.h>

#define DEFAULT_RECONNECT  FALSE
#define DEFAULT_MAX_FRAMES 0

GST_DEBUG_CATEGORY_STATIC(zcbufsrc_debug);
#define GST_CAT_DEFAULT zcbufsrc_debug
GST_DEBUG_CATEGORY_STATIC(performance_debug);

enum {
	PROP_SOCKET_PATH = 1,
	PROP_RECONNECT,
	PROP_MAX_FRAMES,
	PROP_STATS,
};

/*
 * The memories of a stream. It lives as long as the element or any memory, for they come back at
 * their own time and from any thread.
 */
typedef struct {
	GMutex lock;
	GHashTable *lists; /* struct zcbuf_buffer to GSList of GstMemory */
} Memories;

/* A frame that was not yet given back. */
typedef struct {
	struct zcbuf_consumer *consumer;
	const struct zcbuf_frame *frame;
	gint uses; /* by memories */
} Lease;

/* What a memory knows; under the lock of its Memories. */
typedef struct {
	Memories *memories;
	Lease *lease;	  /* NULL: idle, and the one reference is that of the list */
	gboolean removed; /* from its list: to be freed by its last user */
} MemoryState;

struct _GstZcbufSrc {
	GstPushSrc parent;

	/* properties and counters, under the object lock */
	gchar *socket_path;
	gboolean reconnect;
	guint max_frames;
	guint64 frames;
	guint64 lost;
	guint64 buffers;
	guint64 connections;
	guint64 copied;
	GstClockTime latency;

	struct zcbuf_consumer *consumer;
	GstAllocator *allocator;
	Memories *memories;
	gint flushing;

	/* the streaming thread's own */
	gboolean is_video;
	GstVideoInfo info;
	gboolean reads_meta;
	guint32 segment_number;
	GstClockTimeDiff shift; /* from running times to timestamps */
};

static GstStaticPadTemplate src_template =
	GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);

G_DEFINE_FINAL_TYPE_WITH_CODE(GstZcbufSrc, gst_zcbuf_src, GST_TYPE_PUSH_SRC,
			      GST_DEBUG_CATEGORY_INIT(zcbufsrc_debug, "zcbufsrc", 0,
						      "zcbufsrc element"))
GST_ELEMENT_REGISTER_DEFINE(zcbufsrc, "zcbufsrc", GST_RANK_NONE, GST_TYPE_ZCBUF_SRC)

static GQuark state_quark;

/* ---- memories ---------------------------------------------------------------------------- */

static void memories_clear(gpointer data)
{
	Memories *memories = data;

	g_hash_table_unref(memories->lists);
	g_mutex_clear(&memories->lock);
}

static Memories *memories_new(void)
{
	Memories *memories = g_atomic_rc_box_new0(Memories);

	g_mutex_init(&memories->lock);
	memories->lists = g_hash_table_new(NULL, NULL);
	return memories;
}

static void memories_unref(Memories *memories)
{
	g_atomic_rc_box_release_full(memories, memories_clear);
}

static void state_free(gpointer data)
{
	MemoryState *state = data;

	memories_unref(state->memories);
	g_free(state);
}

static MemoryState *get_state(GstMemory *mem)
{
	return gst_mini_object_get_qdata(GST_MINI_OBJECT_CAST(mem), state_quark);
}

static void lease_unuse(Lease *lease)
{
	if (!g_atomic_int_dec_and_test(&lease->uses))
		return;
	zcbuf_consumer_give_back(lease->consumer, lease->frame, -1);
	zcbuf_consumer_unref(lease->consumer);
	g_free(lease);
}

/* The last user has gone: the frame goes back, and the memory waits for the next one. */
static gboolean memory_dispose(GstMiniObject *object)
{
	GstMemory *mem = GST_MEMORY_CAST(object);
	MemoryState *state = get_state(mem);
	gboolean removed;
	Lease *lease;

	g_mutex_lock(&state->memories->lock);
	lease = g_steal_pointer(&state->lease);
	removed = state->removed;
	if (!removed)
		gst_memory_ref(mem);
	g_mutex_unlock(&state->memories->lock);

	if (lease)
		lease_unuse(lease);
	return removed;
}

static GstMemory *memory_new(GstZcbufSrc *self, struct zcbuf_buffer *buffer)
{
	MemoryState *state = g_new0(MemoryState, 1);
	GstMemory *mem;

	mem = gst_zcbuf_allocator_wrap(GST_ZCBUF_ALLOCATOR(self->allocator),
				       zcbuf_buffer_ref(buffer));
	/* Others may be reading the same frame. */
	GST_MINI_OBJECT_FLAG_SET(mem, GST_MEMORY_FLAG_READONLY);
	state->memories = g_atomic_rc_box_acquire(self->memories);
	gst_mini_object_set_qdata(GST_MINI_OBJECT_CAST(mem), state_quark, state,
				  state_free);
	GST_MINI_OBJECT_CAST(mem)->dispose = memory_dispose;
	return mem;
}

static void remove_memories(GstZcbufSrc *self, struct zcbuf_buffer *buffer)
{
	GSList *list, *idle = NULL;

	g_mutex_lock(&self->memories->lock);
	list = g_hash_table_lookup(self->memories->lists, buffer);
	g_hash_table_remove(self->memories->lists, buffer);
	for (GSList *item = list; item; item = item->next) {
		MemoryState *state = get_state(item->data);

		state->removed = TRUE;
		if (!state->lease)
			idle = g_slist_prepend(idle, item->data);
	}
	g_mutex_unlock(&self->memories->lock);
	g_slist_free(list);
	g_slist_free_full(idle, (GDestroyNotify)gst_memory_unref);
}

static void remove_all_memories(GstZcbufSrc *self)
{
	GList *buffers;

	g_mutex_lock(&self->memories->lock);
	buffers = g_hash_table_get_keys(self->memories->lists);
	g_mutex_unlock(&self->memories->lock);
	for (GList *item = buffers; item; item = item->next)
		remove_memories(self, item->data);
	g_list_free(buffers);
}

/*
 * A memory of a buffer, showing the wanted range, which uses @lease until nobody refers to it.
 *
 * It is the same one each time: only if a producer sends a buffer again before the last frame
 * with it came back, or has several memories in it, there are more.
 */
static GstMemory *use_memory(GstZcbufSrc *self, struct zcbuf_buffer *buffer,
			     const struct gst_zcbuf_frame_memory *range, Lease *lease)
{
	GstMemory *mem = NULL;
	GSList *list;

	g_mutex_lock(&self->memories->lock);
	list = g_hash_table_lookup(self->memories->lists, buffer);
	for (GSList *item = list; item && !mem; item = item->next)
		if (!get_state(item->data)->lease)
			mem = item->data;
	if (!mem) {
		mem = memory_new(self, buffer);
		list = g_slist_prepend(list, mem);
		g_hash_table_insert(self->memories->lists, buffer, list);
	}
	get_state(mem)->lease = lease;
	g_atomic_int_inc(&lease->uses);
	gst_memory_resize(mem, (gssize)range->offset - (gssize)mem->offset, range->size);
	g_mutex_unlock(&self->memories->lock);
	return mem;
}

/* ---- frames ------------------------------------------------------------------------------ */

/* A time of CLOCK_MONOTONIC as a running time of this pipeline; negative before it began. */
static GstClockTimeDiff to_running_time(GstZcbufSrc *self, GstClockTime time)
{
	GstElement *element = GST_ELEMENT_CAST(self);

	return (GstClockTimeDiff)time - gst_zcbuf_clock_offset(element) -
	       (GstClockTimeDiff)gst_element_get_base_time(element);
}

/* The same as a timestamp in the segment that follow_segment() made. */
static GstClockTime to_timestamp(GstZcbufSrc *self, GstClockTime time)
{
	GstClockTimeDiff timestamp;

	if (!GST_CLOCK_TIME_IS_VALID(time))
		return time;
	timestamp = to_running_time(self, time) + self->shift;
	return timestamp > 0 ? (GstClockTime)timestamp : 0;
}

/*
 * Timestamps are running times, moved only as far as the first one needs to be not negative: a
 * frame can be older than this pipeline. The segment takes that back, and tells stream time:
 * stream_time = pts * stream_rate + a constant.
 */
static void follow_segment(GstZcbufSrc *self, const struct gst_zcbuf_frame_header *header,
			   GstClockTime time)
{
	GstClockTimeDiff at_zero;
	GstSegment segment;

	if (self->segment_number == header->segment)
		return;
	self->segment_number = header->segment;
	gst_segment_init(&segment, GST_FORMAT_TIME);
	self->shift = 0;
	if (GST_CLOCK_TIME_IS_VALID(time)) {
		self->shift = MAX(0, -to_running_time(self, time));
		segment.offset = (guint64)self->shift;
	}
	if (GST_CLOCK_TIME_IS_VALID(header->stream_time) && GST_CLOCK_TIME_IS_VALID(time) &&
	    header->stream_rate != 0.0) {
		segment.applied_rate = header->stream_rate;
		at_zero = (GstClockTimeDiff)header->stream_time -
			  (GstClockTimeDiff)((gdouble)to_timestamp(self, time) *
					     header->stream_rate);
		if (at_zero >= 0)
			segment.time = (guint64)at_zero;
		else
			segment.start = segment.base = segment.position =
				(guint64)((gdouble)-at_zero / header->stream_rate);
	}
	gst_base_src_new_segment(GST_BASE_SRC_CAST(self), &segment);
}

static void follow_latency(GstZcbufSrc *self, GstClockTime latency)
{
	gboolean changed;

	GST_OBJECT_LOCK(self);
	changed = self->latency != latency;
	self->latency = latency;
	GST_OBJECT_UNLOCK(self);
	if (changed)
		gst_element_post_message(GST_ELEMENT_CAST(self),
					 gst_message_new_latency(GST_OBJECT_CAST(self)));
}

static gboolean has_default_layout(GstZcbufSrc *self, GstBuffer *buffer)
{
	GstVideoMeta *meta = gst_buffer_get_video_meta(buffer);

	for (guint i = 0; meta && i < meta->n_planes; i++)
		if (meta->offset[i] != GST_VIDEO_INFO_PLANE_OFFSET(&self->info, i) ||
		    meta->stride[i] != GST_VIDEO_INFO_PLANE_STRIDE(&self->info, i))
			return FALSE;
	return TRUE;
}

/* For elements that do not look at GstVideoMeta: the same frame in GstVideoInfo's layout. */
static GstBuffer *copy_to_default_layout(GstZcbufSrc *self, GstBuffer *in)
{
	GstBuffer *out =
		gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&self->info), NULL);
	GstVideoFrame from, to;

	GST_CAT_LOG_OBJECT(performance_debug, self, "copying %" GST_PTR_FORMAT, in);
	if (gst_video_frame_map(&from, &self->info, in, GST_MAP_READ)) {
		if (gst_video_frame_map(&to, &self->info, out, GST_MAP_WRITE)) {
			gst_video_frame_copy(&to, &from);
			gst_video_frame_unmap(&to);
		}
		gst_video_frame_unmap(&from);
	}
	gst_buffer_copy_into(out, in, GST_BUFFER_COPY_METADATA, 0, -1);
	gst_buffer_unref(in);
	GST_OBJECT_LOCK(self);
	self->copied++;
	GST_OBJECT_UNLOCK(self);
	return out;
}

static void fill_times(GstZcbufSrc *self, const struct zcbuf_frame *frame,
		       const struct gst_zcbuf_frame_header *header, GstBuffer *buffer)
{
	GST_BUFFER_PTS(buffer) = to_timestamp(self, frame->pts);
	GST_BUFFER_DTS(buffer) = to_timestamp(self, header->dts);
	GST_BUFFER_DURATION(buffer) = frame->duration;
	GST_BUFFER_OFFSET(buffer) = header->offset;
	GST_BUFFER_OFFSET_END(buffer) = header->offset_end;
}

/* A GstBuffer around the memories of a frame; NULL if the frame is not sound. */
static GstBuffer *make_buffer(GstZcbufSrc *self, const struct zcbuf_frame *frame,
			      const struct gst_zcbuf_frame_metadata *metadata)
{
	GstBuffer *buffer = gst_buffer_new();
	Lease *lease = g_new0(Lease, 1);

	lease->consumer = zcbuf_consumer_ref(self->consumer);
	lease->frame = frame;
	lease->uses = 1; /* ours, as long as we work on it */
	for (guint i = 0; i < metadata->header.n_memories; i++) {
		const struct gst_zcbuf_frame_memory *range = &metadata->memories[i];

		gst_buffer_append_memory(buffer,
					 use_memory(self, frame->buffers[range->buffer],
						    range, lease));
	}
	GST_BUFFER_FLAG_SET(buffer, frame->flags & GST_ZCBUF_FRAME_BUFFER_FLAGS);
	fill_times(self, frame, &metadata->header, buffer);
	if (frame->lost)
		GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
	if (!gst_zcbuf_frame_read_metas(metadata, buffer))
		gst_clear_buffer(&buffer);
	lease_unuse(lease);
	return buffer;
}

static void push_gap(GstZcbufSrc *self, const struct zcbuf_frame *frame)
{
	GstClockTime pts = to_timestamp(self, frame->pts);

	/* The base class sends the first segment with the first frame. */
	if (GST_CLOCK_TIME_IS_VALID(pts) && self->segment_number > 0)
		gst_pad_push_event(GST_BASE_SRC_PAD(self),
				   gst_event_new_gap(pts, frame->duration));
}

static GstFlowReturn take_frame(GstZcbufSrc *self, const struct zcbuf_frame *frame,
				GstBuffer **result)
{
	struct gst_zcbuf_frame_metadata metadata;
	GstBuffer *buffer;

	if (!gst_zcbuf_frame_parse(frame, &metadata)) {
		zcbuf_consumer_give_back(self->consumer, frame, -1);
		GST_ELEMENT_ERROR(self, STREAM, FORMAT,
				  ("The producer's frames are not those of a zcbufsink."),
				  ("metadata of %" G_GSIZE_FORMAT " bytes",
				   frame->metadata_size));
		return GST_FLOW_ERROR;
	}
	follow_latency(self, metadata.header.latency);
	if (metadata.header.flags & GST_ZCBUF_FRAME_GAP) {
		push_gap(self, frame);
		zcbuf_consumer_give_back(self->consumer, frame, -1);
		return GST_FLOW_OK;
	}
	GST_OBJECT_LOCK(self);
	self->frames++;
	self->lost += frame->lost;
	GST_OBJECT_UNLOCK(self);

	gst_zcbuf_frame_wait_for_fence(frame, DMA_BUF_SYNC_WRITE);
	follow_segment(self, &metadata.header, frame->pts);
	buffer = make_buffer(self, frame, &metadata); /* gives the frame back by itself */
	if (!buffer) {
		GST_ELEMENT_ERROR(self, STREAM, FORMAT, ("A frame arrived damaged."),
				  (NULL));
		return GST_FLOW_ERROR;
	}
	if (self->is_video && !self->reads_meta && !has_default_layout(self, buffer))
		buffer = copy_to_default_layout(self, buffer);
	*result = buffer;
	return GST_FLOW_OK;
}

/* ---- the stream -------------------------------------------------------------------------- */

static GstFlowReturn take_format(GstZcbufSrc *self, const gchar *data, gsize size)
{
	GstFlowReturn flow = GST_FLOW_OK;
	GstCaps *caps = NULL;
	GstQuery *query;

	if (size > 0 && data[size - 1] == '\0')
		caps = gst_caps_from_string(data);
	if (!caps || !gst_caps_is_fixed(caps)) {
		GST_ELEMENT_ERROR(self, STREAM, FORMAT,
				  ("The producer's format is not that of a zcbufsink."),
				  ("%.*s", (int)MIN(size, 200), data));
		gst_clear_caps(&caps);
		return GST_FLOW_ERROR;
	}
	GST_INFO_OBJECT(self, "%" GST_PTR_FORMAT, caps);
	self->is_video = gst_zcbuf_video_info_from_caps(&self->info, caps);
	if (gst_base_src_set_caps(GST_BASE_SRC_CAST(self), caps)) {
		query = gst_query_new_allocation(caps, FALSE);
		self->reads_meta = gst_zcbuf_caps_are_dmabuf(caps) ||
				   (gst_pad_peer_query(GST_BASE_SRC_PAD(self), query) &&
				    gst_query_find_allocation_meta(
					    query, GST_VIDEO_META_API_TYPE, NULL));
		gst_query_unref(query);
	} else {
		flow = GST_FLOW_NOT_NEGOTIATED;
	}
	gst_caps_unref(caps);
	return flow;
}

static void announce_connection(GstZcbufSrc *self, const struct zcbuf_consumer_event *event)
{
	gboolean connected = event->type == ZCBUF_CONSUMER_CONNECTED;
	GstStructure *structure;

	if (connected) {
		GST_OBJECT_LOCK(self);
		self->connections++;
		GST_OBJECT_UNLOCK(self);
		self->segment_number = 0;
	}
	structure =
		gst_structure_new(connected ? "zcbuf-connected" : "zcbuf-disconnected",
				  "pid", G_TYPE_INT, connected ? (int)event->peer.pid : 0,
				  "error", G_TYPE_INT, connected ? 0 : event->error, NULL);
	gst_element_post_message(GST_ELEMENT_CAST(self),
				 gst_message_new_element(GST_OBJECT_CAST(self), structure));
}

static const gchar *explain_disconnect(int error)
{
	switch (error) {
	case -ECONNRESET:
		return "The producer has gone.";
	case -EACCES:
		return "The producer does not admit this user.";
	case -EUSERS:
		return "The producer has no place for another consumer.";
	case -ETIMEDOUT:
		return "This pipeline kept a frame that the producer wanted back.";
	case -EPROTONOSUPPORT:
		return "The producer speaks another version of the protocol.";
	default:
		return "The connection to the producer broke.";
	}
}

static GstFlowReturn lose_producer(GstZcbufSrc *self,
				   const struct zcbuf_consumer_event *event)
{
	gboolean reconnect;

	announce_connection(self, event);
	GST_OBJECT_LOCK(self);
	reconnect = self->reconnect;
	GST_OBJECT_UNLOCK(self);
	GST_INFO_OBJECT(self, "%s", explain_disconnect(event->error));
	if (reconnect)
		return GST_FLOW_OK;
	GST_ELEMENT_ERROR(self, RESOURCE, READ, ("%s", explain_disconnect(event->error)),
			  ("%s; with reconnect=true it would be waited for",
			   g_strerror(-event->error)));
	return GST_FLOW_ERROR;
}

static GstFlowReturn handle_event(GstZcbufSrc *self,
				  const struct zcbuf_consumer_event *event,
				  GstBuffer **buffer)
{
	switch (event->type) {
	case ZCBUF_CONSUMER_CONNECTED:
		announce_connection(self, event);
		return GST_FLOW_OK;
	case ZCBUF_CONSUMER_FORMAT:
		return take_format(self, event->data, event->size);
	case ZCBUF_CONSUMER_BUFFER_ADDED:
		GST_OBJECT_LOCK(self);
		self->buffers++;
		GST_OBJECT_UNLOCK(self);
		return GST_FLOW_OK;
	case ZCBUF_CONSUMER_BUFFER_REMOVED:
		remove_memories(self, event->buffer);
		return GST_FLOW_OK;
	case ZCBUF_CONSUMER_FRAME:
		return take_frame(self, event->frame, buffer);
	case ZCBUF_CONSUMER_END:
		return GST_FLOW_EOS;
	case ZCBUF_CONSUMER_DISCONNECTED:
		return lose_producer(self, event);
	}
	return GST_FLOW_OK;
}

static GstFlowReturn gst_zcbuf_src_create(GstPushSrc *src, GstBuffer **buffer)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(src);
	struct zcbuf_consumer_event event;
	GstFlowReturn flow = GST_FLOW_OK;
	int result;

	*buffer = NULL;
	while (flow == GST_FLOW_OK && !*buffer) {
		if (g_atomic_int_get(&self->flushing))
			return GST_FLOW_FLUSHING;
		result = zcbuf_consumer_next_event(self->consumer, -1, &event);
		if (result == 1) {
			flow = handle_event(self, &event, buffer);
		} else if (result < 0) {
			GST_ELEMENT_ERROR(self, RESOURCE, READ,
					  ("There is no connection to the producer."),
					  ("%s", g_strerror(-result)));
			flow = GST_FLOW_ERROR;
		}
	}
	return flow;
}

static gboolean gst_zcbuf_src_decide_allocation(GstBaseSrc *src, GstQuery *query)
{
	/* Frames come in the producer's memory; a pool of downstream's would be idle. */
	(void)src;
	while (gst_query_get_n_allocation_pools(query) > 0)
		gst_query_remove_nth_allocation_pool(query, 0);
	return TRUE;
}

static gboolean gst_zcbuf_src_query(GstBaseSrc *src, GstQuery *query)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(src);

	if (GST_QUERY_TYPE(query) != GST_QUERY_LATENCY)
		return GST_BASE_SRC_CLASS(gst_zcbuf_src_parent_class)->query(src, query);
	GST_OBJECT_LOCK(self);
	gst_query_set_latency(query, TRUE, self->latency, GST_CLOCK_TIME_NONE);
	GST_OBJECT_UNLOCK(self);
	return TRUE;
}

/* Under the object lock. */
static GstStructure *get_stats_locked(GstZcbufSrc *self)
{
	return gst_structure_new("zcbufsrc", "frames", G_TYPE_UINT64, self->frames, "lost",
				 G_TYPE_UINT64, self->lost, "buffers", G_TYPE_UINT64,
				 self->buffers, "connections", G_TYPE_UINT64,
				 self->connections, "copied-frames", G_TYPE_UINT64,
				 self->copied, NULL);
}

/* ---- life -------------------------------------------------------------------------------- */

static gboolean connect_to_producer(GstZcbufSrc *self)
{
	struct zcbuf_ctx *ctx =
		gst_zcbuf_allocator_get_ctx(GST_ZCBUF_ALLOCATOR(self->allocator));
	struct zcbuf_consumer_config config = { 0 };
	GError *error = NULL;
	gchar *path;
	int result;

	GST_OBJECT_LOCK(self);
	path = g_strdup(self->socket_path);
	config.flags = self->reconnect ? ZCBUF_CONSUMER_RECONNECT : 0;
	config.max_frames = self->max_frames;
	GST_OBJECT_UNLOCK(self);
	if (!path) {
		GST_ELEMENT_ERROR(self, RESOURCE, SETTINGS,
				  ("The property socket-path is not set."), (NULL));
		return FALSE;
	}
	result = zcbuf_consumer_new(ctx, path, &config, &self->consumer);
	if (result < 0) {
		gst_zcbuf_set_error(&error, GST_RESOURCE_ERROR_OPEN_READ, result);
		GST_ELEMENT_ERROR(self, RESOURCE, OPEN_READ, ("%s", error->message),
				  ("is zcbufsink running? With reconnect=true it would be "
				   "waited for"));
		g_error_free(error);
	}
	g_free(path);
	return result == 0;
}

static gboolean gst_zcbuf_src_start(GstBaseSrc *src)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(src);

	self->allocator = gst_zcbuf_allocator_new_for_import();
	if (!self->allocator)
		return FALSE;
	if (!connect_to_producer(self)) {
		gst_clear_object(&self->allocator);
		return FALSE;
	}
	self->memories = memories_new();
	self->segment_number = 0;
	self->shift = 0;
	self->is_video = FALSE;
	GST_OBJECT_LOCK(self);
	self->frames = self->lost = self->buffers = self->connections = self->copied = 0;
	self->latency = 0;
	GST_OBJECT_UNLOCK(self);
	return TRUE;
}

static gboolean gst_zcbuf_src_stop(GstBaseSrc *src)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(src);
	GstStructure *stats;

	GST_OBJECT_LOCK(self);
	stats = get_stats_locked(self);
	GST_OBJECT_UNLOCK(self);
	GST_INFO_OBJECT(self, "%" GST_PTR_FORMAT, stats);
	gst_structure_free(stats);
	zcbuf_consumer_close(self->consumer);
	remove_all_memories(self);
	g_clear_pointer(&self->memories, memories_unref);
	self->consumer = zcbuf_consumer_unref(self->consumer);
	gst_clear_object(&self->allocator);
	return TRUE;
}

static gboolean gst_zcbuf_src_unlock(GstBaseSrc *src)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(src);

	g_atomic_int_set(&self->flushing, TRUE);
	if (self->consumer)
		zcbuf_consumer_wake(self->consumer);
	return TRUE;
}

static gboolean gst_zcbuf_src_unlock_stop(GstBaseSrc *src)
{
	g_atomic_int_set(&GST_ZCBUF_SRC(src)->flushing, FALSE);
	return TRUE;
}

/* ---- properties -------------------------------------------------------------------------- */

static void gst_zcbuf_src_set_property(GObject *object, guint id, const GValue *value,
				       GParamSpec *pspec)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(object);

	GST_OBJECT_LOCK(self);
	switch (id) {
	case PROP_SOCKET_PATH:
		g_free(self->socket_path);
		self->socket_path = g_value_dup_string(value);
		break;
	case PROP_RECONNECT:
		self->reconnect = g_value_get_boolean(value);
		break;
	case PROP_MAX_FRAMES:
		self->max_frames = g_value_get_uint(value);
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
	}
	GST_OBJECT_UNLOCK(self);
}

static void gst_zcbuf_src_get_property(GObject *object, guint id, GValue *value,
				       GParamSpec *pspec)
{
	GstZcbufSrc *self = GST_ZCBUF_SRC(object);

	GST_OBJECT_LOCK(self);
	switch (id) {
	case PROP_SOCKET_PATH:
		g_value_set_string(value, self->socket_path);
		break;
	case PROP_RECONNECT:
		g_value_set_boolean(value, self->reconnect);
		break;
	case PROP_MAX_FRAMES:
		g_value_set_uint(value, self->max_frames);
		break;
	case PROP_STATS:
		g_value_take_boxed(value, get_stats_locked(self));
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
	}
	GST_OBJECT_UNLOCK(self);
}

static void gst_zcbuf_src_finalize(GObject *object)
{
	g_free(GST_ZCBUF_SRC(object)->socket_path);
	G_OBJECT_CLASS(gst_zcbuf_src_parent_class)->finalize(object);
}

static void install_properties(GObjectClass *klass)
{
	const GParamFlags flags =
		G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY;

	/**
	 * GstZcbufSrc:socket-path:
	 *
	 * Where the producer is: the path of a socket, or an abstract name `@name`.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_SOCKET_PATH,
		g_param_spec_string(
			"socket-path", "Socket path",
			"Where the producer is: a path, or an abstract name '@name'", NULL,
			flags));
	/**
	 * GstZcbufSrc:reconnect:
	 *
	 * Wait for a producer that is not there yet, and again when it has gone.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_RECONNECT,
		g_param_spec_boolean(
			"reconnect", "Reconnect",
			"Wait for a producer that is not there yet, and again when "
			"it has gone",
			DEFAULT_RECONNECT, flags));
	/**
	 * GstZcbufSrc:max-frames:
	 *
	 * How many frames this pipeline wants to hold at one time. The producer may allow
	 * fewer; 0 is what it allows.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_MAX_FRAMES,
		g_param_spec_uint("max-frames", "Maximum of frames",
				  "Frames to hold at one time (0 = as many as the producer "
				  "allows)",
				  0, ZCBUF_CHANNEL_FRAMES_MAX, DEFAULT_MAX_FRAMES, flags));
	/**
	 * GstZcbufSrc:stats:
	 *
	 * Counters: `frames` received; frames `lost` because this pipeline held too many;
	 * `buffers` whose file descriptors arrived; `connections` that were made; frames
	 * that were copied (`copied-frames`) for elements that ignore GstVideoMeta.
	 *
	 * Since: 0.1
	 */
	g_object_class_install_property(
		klass, PROP_STATS,
		g_param_spec_boxed(
			"stats", "Statistics",
			"Counters: frames, lost, buffers, connections, copied-frames",
			GST_TYPE_STRUCTURE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));
}

static void gst_zcbuf_src_class_init(GstZcbufSrcClass *klass)
{
	GObjectClass *object_class = G_OBJECT_CLASS(klass);
	GstElementClass *element_class = GST_ELEMENT_CLASS(klass);
	GstBaseSrcClass *src_class = GST_BASE_SRC_CLASS(klass);

	GST_DEBUG_CATEGORY_GET(performance_debug, "GST_PERFORMANCE");
	state_quark = g_quark_from_static_string("GstZcbufSrcMemoryState");

	object_class->set_property = gst_zcbuf_src_set_property;
	object_class->get_property = gst_zcbuf_src_get_property;
	object_class->finalize = gst_zcbuf_src_finalize;
	install_properties(object_class);

	gst_element_class_add_static_pad_template(element_class, &src_template);
	gst_element_class_set_static_metadata(
		element_class, "zcbuf source", "Source/Network",
		"Receives frames without a copy from zcbufsink and other producers of "
		"its socket; live, and not seekable",
		"zcbuf developers");
	gst_element_class_add_static_metadata(
		element_class, "example",
		"gst-launch-1.0 zcbufsrc socket-path=@camera reconnect=true ! fakesink");
	gst_element_class_add_static_metadata(
		element_class, "messages",
		"zcbuf-connected, zcbuf-disconnected: pid (gint), error (gint, a negative "
		"errno or 0)");

	src_class->start = GST_DEBUG_FUNCPTR(gst_zcbuf_src_start);
	src_class->stop = GST_DEBUG_FUNCPTR(gst_zcbuf_src_stop);
	src_class->unlock = GST_DEBUG_FUNCPTR(gst_zcbuf_src_unlock);
	src_class->unlock_stop = GST_DEBUG_FUNCPTR(gst_zcbuf_src_unlock_stop);
	src_class->decide_allocation = GST_DEBUG_FUNCPTR(gst_zcbuf_src_decide_allocation);
	src_class->query = GST_DEBUG_FUNCPTR(gst_zcbuf_src_query);
	GST_PUSH_SRC_CLASS(klass)->create = GST_DEBUG_FUNCPTR(gst_zcbuf_src_create);
}

static void gst_zcbuf_src_init(GstZcbufSrc *self)
{
	self->reads_meta = TRUE;
	gst_base_src_set_live(GST_BASE_SRC_CAST(self), TRUE);
	gst_base_src_set_format(GST_BASE_SRC_CAST(self), GST_FORMAT_TIME);
}
