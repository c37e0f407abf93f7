/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What zcbufsink and zcbufsrc write into a channel.
 *
 * The format of a channel is the caps as gst_caps_to_string() gives them, with a terminating
 * zero. A program without GStreamer needs no more than to find "format=(string)NV12" in it.
 *
 * A frame carries in struct zcbuf_frame
 *
 *   pts        in CLOCK_MONOTONIC: when the producer's pipeline would show it, without latency
 *   duration   as in the GstBuffer
 *   sequence   1 for the first frame of the sink, one more for each
 *   flags      GstBufferFlags
 *
 * and as metadata a struct gst_zcbuf_frame_header, its memories, and then metas as
 * gst_meta_serialize() writes them, up to the end. All numbers are in host byte order: both
 * sides run on one machine.
 */
#ifndef GST_ZCBUF_FRAME_H
#define GST_ZCBUF_FRAME_H

#include <gst/gst.h>
#include <libzcbuf-channel.h>

G_BEGIN_DECLS

#define GST_ZCBUF_FRAME_VERSION 1

/* The GstBufferFlags that travel: not those of a GstMiniObject, nor what pools need. */
#define GST_ZCBUF_FRAME_BUFFER_FLAGS \
	(~(guint)(GST_MINI_OBJECT_FLAG_LAST - 1) & ~(guint)GST_BUFFER_FLAG_TAG_MEMORY)

/* No picture, but the news that there is none from pts on for duration. */
#define GST_ZCBUF_FRAME_GAP (1U << 0)

/**
 * struct gst_zcbuf_frame_header - how a frame's metadata begins
 * @version: GST_ZCBUF_FRAME_VERSION; a consumer refuses others
 * @flags: GST_ZCBUF_FRAME_* bits
 * @segment: number of the producer's segment; a new one means that @stream_time jumps
 * @n_memories: how many struct gst_zcbuf_frame_memory follow
 * @dts: as pts of struct zcbuf_frame, or ZCBUF_TIME_NONE
 * @offset: of the GstBuffer
 * @offset_end: of the GstBuffer
 * @stream_time: position of the frame in its stream in nanoseconds, or ZCBUF_TIME_NONE
 * @stream_rate: how much stream time passes while one second passes
 * @latency: nanoseconds after pts at which the producer may still send a frame
 */
struct gst_zcbuf_frame_header {
	guint32 version;
	guint32 flags;
	guint32 segment;
	guint32 n_memories;
	guint64 dts;
	guint64 offset;
	guint64 offset_end;
	guint64 stream_time;
	gdouble stream_rate;
	guint64 latency;
};

/**
 * struct gst_zcbuf_frame_memory - a GstMemory: a range of one of the frame's buffers
 * @buffer: index in buffers of struct zcbuf_frame
 * @reserved: zero
 * @offset: bytes
 * @size: bytes
 */
struct gst_zcbuf_frame_memory {
	guint32 buffer;
	guint32 reserved;
	guint64 offset;
	guint64 size;
};

/**
 * struct gst_zcbuf_frame_metadata - the same, taken apart
 * @header: a copy
 * @memories: of the frame
 * @metas: serialized
 * @metas_size: bytes
 */
struct gst_zcbuf_frame_metadata {
	struct gst_zcbuf_frame_header header;
	struct gst_zcbuf_frame_memory memories[ZCBUF_FRAME_BUFFERS];
	const guint8 *metas;
	gsize metas_size;
};

gboolean gst_zcbuf_frame_parse(const struct zcbuf_frame *frame,
			       struct gst_zcbuf_frame_metadata *metadata);
void gst_zcbuf_frame_write_metas(GstBuffer *buffer, GByteArray *metadata);
gboolean gst_zcbuf_frame_read_metas(const struct gst_zcbuf_frame_metadata *metadata,
				    GstBuffer *buffer);
void gst_zcbuf_frame_wait_for_fence(const struct zcbuf_frame *frame, guint32 work);
GstClockTimeDiff gst_zcbuf_clock_offset(GstElement *element);

G_END_DECLS

#endif /* GST_ZCBUF_FRAME_H */
